//! The peers and the harness by themselves: calls without a session border controller between.

use std::{net::IpAddr, net::SocketAddr, time::Duration};

use tests::{
    lab::{Lab, Party, Side},
    peers::{
        Baresip, BaresipConfig, Certificates, MediaEncryption, Scenario, SipTransport, Sipp,
        SippConfig,
    },
    sound::{Melody, assert_heard, compare},
    wire::{Capture, sightings, stream_to, streams},
};

const LIMIT: Duration = Duration::from_secs(40);
const TALK: Duration = Duration::from_secs(6);

/// A laboratory whose middle forwards packets between the parties, as a plain router does.
fn routed() -> Lab {
    let lab = Lab::new().expect("a laboratory");
    for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        lab.sbc()
            .run("sysctl", &["-q", "-w", setting])
            .expect("forwarding");
    }
    for party in Party::ALL {
        for gateway in [party.ipv4(Side::Sbc), party.ipv6(Side::Sbc)] {
            let gateway = gateway.to_string();
            let route = ["route", "add", "default", "via", &gateway];
            lab.peer(party).run("ip", &route).expect("a route");
        }
    }
    lab
}

/// A SIPp caller at the carrier and a baresip at the contact centre.
fn sipp_calls_baresip(transport: SipTransport, address: fn(Party, Side) -> IpAddr) {
    let lab = routed();
    let capture = Capture::start(lab.peer(Party::Carrier)).expect("a capture");
    let (caller, callee) = (Melody::new(1, 30), Melody::new(2, 30));
    let caller_address = SocketAddr::new(address(Party::Carrier, Side::Peer), 5060);
    let callee_address = SocketAddr::new(address(Party::ContactCentre, Side::Peer), 5060);
    let baresip = Baresip::start(
        &lab,
        &BaresipConfig {
            name: "callee",
            party: Party::ContactCentre,
            local: callee_address,
            transport,
            media: MediaEncryption::None,
            media_port: 40_000,
            control_port: 4444,
            users: &["centre"],
            answers: true,
            melody: &callee,
            certificates: None,
        },
    )
    .expect("baresip");
    let mut sipp = Sipp::start(
        &lab,
        &SippConfig {
            name: "caller",
            party: Party::Carrier,
            local: caller_address,
            remote: Some(callee_address),
            tcp: transport == SipTransport::Tcp,
            media_port: 30_000,
            number: "centre",
            scenario: Scenario::Call,
            talk: TALK,
            melody: Some(&caller),
            calls: 1,
        },
    )
    .expect("SIPp");
    sipp.finish(LIMIT).expect("a call by the scenario");
    baresip.wait_closed(1, LIMIT).expect("baresip has hung up");

    let heard = baresip.heard();
    assert_eq!(heard.len(), 1, "one recording");
    assert_heard("the callee", &caller, &heard[0], 4.0);

    let datagrams = capture.datagrams().expect("every frame");
    let sightings = sightings(&datagrams);
    let invite = sightings
        .iter()
        .find(|message| message.start_line().starts_with("INVITE"))
        .expect("an INVITE on the wire");
    let wanted = invite.audio().expect("its SDP's address");
    let arrived = stream_to(&datagrams, wanted).expect("sound for the caller");
    assert_eq!(arrived.lost(), 0);
    assert_heard("the caller", &callee, &arrived.sound(), 4.0);
    assert!(!compare(caller.samples(), &arrived.sound()).is_same(0.0));
}

#[test]
fn sipp_calls_baresip_over_udp() {
    sipp_calls_baresip(SipTransport::Udp, Party::ipv4);
}

#[test]
fn sipp_calls_baresip_over_tcp() {
    sipp_calls_baresip(SipTransport::Tcp, Party::ipv4);
}

#[test]
fn sipp_calls_baresip_over_ipv6() {
    sipp_calls_baresip(SipTransport::Udp, Party::ipv6);
}

#[test]
fn two_baresips_hear_each_other_over_tls_and_srtp_and_the_wire_hides_it() {
    let lab = routed();
    let capture = Capture::start(lab.peer(Party::Teams)).expect("a capture");
    let certificates = Certificates::make(lab.directory()).expect("certificates");
    let (caller, callee) = (Melody::new(3, 30), Melody::new(4, 30));
    let address = |party: Party| SocketAddr::new(party.ipv4(Side::Peer), 5061);
    let start = |party: Party, melody, answers| {
        Baresip::start(
            &lab,
            &BaresipConfig {
                name: party.trunk(),
                party,
                local: address(party),
                transport: SipTransport::Tls,
                media: MediaEncryption::Sdes,
                media_port: 40_000,
                control_port: 4444,
                users: &[party.trunk()],
                answers,
                melody,
                certificates: Some(&certificates),
            },
        )
        .expect("baresip")
    };
    let called = start(Party::Teams, &callee, true);
    let mut calling = start(Party::ContactCentre, &caller, false);
    calling
        .dial(&format!(
            "sip:teams@{};transport=tls",
            address(Party::Teams)
        ))
        .expect("dialled");
    calling.wait_established(1, LIMIT).expect("established");
    let heard_enough = tests::lab::wait_until(LIMIT, || {
        let enough = |heard: Vec<Vec<i16>>| heard.first().is_some_and(|heard| heard.len() > 48_000);
        enough(called.heard()) && enough(calling.heard())
    });
    assert!(heard_enough, "six seconds of sound each");
    calling.hang_up().expect("hung up");
    called.wait_closed(1, LIMIT).expect("the call has ended");

    for (name, sent, heard) in [
        ("callee", &caller, called.heard()),
        ("caller", &callee, calling.heard()),
    ] {
        assert_heard(name, sent, &heard[0], 4.0);
    }
    let streams = streams(&capture.datagrams().expect("every frame"));
    let loud: Vec<_> = streams
        .iter()
        .filter(|stream| stream.packets() > 200)
        .collect();
    assert_eq!(loud.len(), 2, "a stream each way");
    for stream in loud {
        for melody in [&caller, &callee] {
            assert!(!compare(melody.samples(), &stream.sound()).is_same(0.0));
        }
    }
}
