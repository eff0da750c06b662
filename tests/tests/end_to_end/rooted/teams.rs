//! Calls between a carrier and Teams: audible both ways, and SRTP alone on Teams' wire.

use std::time::Duration;

use tests::{
    daemon::{CallView, DaemonSettings},
    lab::{Party, wait_until},
    peers::{Scenario, Sipp},
    scene::{LIMIT, Part, Scene},
    sound::{Melody, assert_heard, compare},
    wire::{PlainSound, streams},
};

fn carried_enough(call: &CallView) -> bool {
    call.streams.len() == 2
        && call
            .streams
            .iter()
            .all(|stream| stream.packets_xdp + stream.packets_userspace >= 400)
}

fn assert_secret(scene: &Scene, melodies: [&Melody; 2]) {
    let sound = PlainSound::new(melodies);
    let carrier = sound.count(&scene.datagrams(Party::Carrier));
    assert!(
        carrier.plain * 2 > carrier.packets && carrier.plain > 500,
        "the check sees sound where it lies bare: {carrier:?}"
    );
    let datagrams = scene.datagrams(Party::Teams);
    let teams = sound.count(&datagrams);
    assert!(teams.packets > 800, "{teams:?}");
    assert_eq!(teams.plain, 0, "{teams:?}");
    for stream in streams(&datagrams) {
        for melody in melodies {
            assert!(!compare(melody.samples(), &stream.sound()).is_same(0.0));
        }
    }
}

/// A carrier's call to Teams, which the other side hangs up.
fn calls_teams(scene: &Scene, melody: &Melody) -> Sipp {
    scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_070,
        "+16660000",
        Part::playing(Scenario::CallAndListen, Duration::ZERO, melody),
    )
}

#[test]
fn a_carrier_calls_a_teams_user() {
    let scene = Scene::new(&DaemonSettings::default());
    let (caller, callee) = (Melody::new(1, 60), Melody::new(2, 60));
    let mut teams = scene.teams(true, &callee);
    let mut calling = calls_teams(&scene, &caller);
    let call = scene.wait_call_by_kernel("eight seconds each way", &[0, 1], carried_enough);
    assert_eq!(call.trunks, ["carrier", "teams"]);
    teams.hang_up().expect("hung up by the callee");
    calling.finish(LIMIT).expect("the caller's scenario");
    teams
        .wait_closed(1, LIMIT)
        .expect("the call has ended at Teams");
    scene.wait_no_call();

    assert_heard("Teams", &caller, &teams.heard()[0], 6.0);
    assert_heard("the carrier", &callee, &scene.heard_at(Party::Carrier), 6.0);
    assert_secret(&scene, [&caller, &callee]);
}

#[test]
fn without_the_offload_the_same_call_goes_by_libsrtp() {
    let scene = Scene::new(&DaemonSettings {
        srtp_offload: false,
        ..DaemonSettings::default()
    });
    let (caller, callee) = (Melody::new(5, 60), Melody::new(6, 60));
    let mut teams = scene.teams(true, &callee);
    let mut calling = calls_teams(&scene, &caller);
    let call = scene.wait_call("eight seconds each way", carried_enough);
    for stream in &call.streams {
        assert_eq!(stream.reason.as_deref(), Some("srtp-off"), "{call:?}");
        assert_eq!(stream.packets_xdp, 0, "{call:?}");
    }
    scene.assert_nothing_lost(&call);
    teams.hang_up().expect("hung up by the callee");
    calling.finish(LIMIT).expect("the caller's scenario");
    scene.wait_no_call();
    assert_heard("Teams", &caller, &teams.heard()[0], 6.0);
    assert_heard("the carrier", &callee, &scene.heard_at(Party::Carrier), 6.0);
    assert_secret(&scene, [&caller, &callee]);
}

#[test]
fn a_teams_user_calls_a_carrier() {
    let scene = Scene::new(&DaemonSettings::default());
    let (caller, callee) = (Melody::new(3, 60), Melody::new(4, 60));
    let mut called = scene.sipp_called(
        Party::Carrier,
        Party::ipv4,
        false,
        Part::playing(Scenario::Answer, Duration::ZERO, &callee),
    );
    let mut teams = scene.teams(false, &caller);
    teams
        .dial("sip:+17770000@192.0.2.1:5061;transport=tls")
        .expect("dialled");
    teams.wait_established(1, LIMIT).expect("answered");
    let call = scene.wait_call("eight seconds each way", carried_enough);
    assert_eq!(call.trunks, ["teams", "carrier"]);
    assert!(
        call.streams.iter().all(|stream| stream.path == "xdp"),
        "{call:?}"
    );
    assert!(wait_until(LIMIT, || {
        teams
            .heard()
            .first()
            .is_some_and(|heard| heard.len() > 56_000)
    }));
    teams.hang_up().expect("hung up by the caller");
    called.finish(LIMIT).expect("the callee's scenario");
    scene.wait_no_call();

    assert_heard("Teams", &callee, &teams.heard()[0], 6.0);
    assert_heard("the carrier", &caller, &scene.heard_at(Party::Carrier), 6.0);
    assert_secret(&scene, [&caller, &callee]);
}
