//! A carrier calls a contact centre, and the kernel carries the audio.

use std::{net::IpAddr, time::Duration};

use tests::{
    daemon::{CallView, DaemonSettings},
    lab::{Party, Side},
    peers::{Scenario, SipTransport},
    scene::{LIMIT, Part, Scene},
    sound::{Melody, assert_heard},
};

/// Packets that a stream has carried before it is judged: nine seconds.
const ENOUGH: u64 = 450;

fn carried_enough(call: &CallView) -> bool {
    call.streams.len() == 2
        && call
            .streams
            .iter()
            .all(|stream| stream.packets_xdp + stream.packets_userspace >= ENOUGH)
}

fn carrier_calls_centre(address: fn(Party, Side) -> IpAddr, trunks: [&str; 2]) {
    let scene = Scene::new(&DaemonSettings::default());
    let (caller, callee) = (Melody::new(1, 40), Melody::new(2, 40));
    let mut called = scene.sipp_called(
        Party::ContactCentre,
        address,
        false,
        Part::playing(Scenario::Answer, Duration::ZERO, &callee),
    );
    let mut calling = scene.sipp_calls(
        Party::Carrier,
        address,
        5_070,
        "+15551000",
        Part::playing(Scenario::Call, Duration::from_secs(14), &caller),
    );
    let call = scene.wait_call_by_kernel("nine seconds each way", &[0, 1], carried_enough);
    assert_eq!(call.trunks, trunks);
    assert_eq!(call.number, "+15551000");
    calling.finish(LIMIT).expect("the caller's scenario");
    called.finish(LIMIT).expect("the callee's scenario");
    scene.wait_no_call();

    for (party, sent) in [(Party::ContactCentre, &caller), (Party::Carrier, &callee)] {
        assert_heard(party.trunk(), sent, &scene.heard_at(party), 8.0);
    }
    let packets = scene
        .daemon
        .metric(&scene.lab, "trunkline_packets_total", &[("path", "xdp")])
        .expect("metrics");
    assert!(
        packets > 1_000.0,
        "the metrics show {packets} packets by XDP"
    );
}

#[test]
fn over_ipv4() {
    carrier_calls_centre(Party::ipv4, ["carrier", "contact-centre"]);
}

#[test]
fn over_ipv6() {
    carrier_calls_centre(Party::ipv6, ["carrier-v6", "contact-centre-v6"]);
}

#[test]
fn towards_a_contact_centre_that_signals_over_tcp() {
    let scene = Scene::new(&DaemonSettings {
        centre_transport: "tcp",
        ..DaemonSettings::default()
    });
    let (caller, callee) = (Melody::new(3, 60), Melody::new(4, 60));
    let mut centre = scene.centre(SipTransport::Tcp, &callee);
    let mut calling = scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_070,
        "+15551000",
        Part::playing(Scenario::CallAndListen, Duration::ZERO, &caller),
    );
    let _ = scene.wait_call_by_kernel("nine seconds each way", &[0, 1], carried_enough);
    centre.hang_up().expect("hung up by the callee");
    calling.finish(LIMIT).expect("the caller's scenario");
    scene.wait_no_call();

    assert_heard("the callee", &caller, &centre.heard()[0], 7.0);
    assert_heard("the caller", &callee, &scene.heard_at(Party::Carrier), 7.0);
}

#[test]
fn without_xdp_the_same_call_goes_through_userspace() {
    let scene = Scene::new(&DaemonSettings {
        xdp: "off",
        ..DaemonSettings::default()
    });
    let (caller, callee) = (Melody::new(5, 40), Melody::new(6, 40));
    let part = |scenario, melody| Part::playing(scenario, Duration::from_secs(14), melody);
    let mut called = scene.sipp_called(
        Party::ContactCentre,
        Party::ipv4,
        false,
        part(Scenario::AnswerAndHangUp, &callee),
    );
    let mut calling = scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_070,
        "+15551000",
        part(Scenario::CallAndListen, &caller),
    );
    let call = scene.wait_call("nine seconds each way", carried_enough);
    for stream in &call.streams {
        assert_eq!(stream.path, "userspace", "{call:?}");
        assert_eq!(stream.reason.as_deref(), Some("no-xdp"), "{call:?}");
        assert_eq!(stream.packets_xdp, 0, "{call:?}");
    }
    scene.assert_nothing_lost(&call);
    calling.finish(LIMIT).expect("the caller's scenario");
    called.finish(LIMIT).expect("the callee's scenario");
    for (party, sent) in [(Party::ContactCentre, &caller), (Party::Carrier, &callee)] {
        assert_heard(party.trunk(), sent, &scene.heard_at(party), 8.0);
    }
}
