//! How calls go and end: hold, CANCEL, refusals, no answer, BYE from either side, no codec, no
//! port. SIPp's scenarios fail on any message that they do not expect.

use std::time::Duration;

use tests::{
    daemon::DaemonSettings,
    lab::Party,
    peers::{Scenario, Sipp},
    scene::{LIMIT, Part, Scene},
    sound::{Melody, assert_heard},
};

const NUMBER: &str = "+15551000";

fn called(scene: &Scene, part: Part<'_>) -> Sipp {
    scene.sipp_called(Party::ContactCentre, Party::ipv4, false, part)
}

fn calls(scene: &Scene, part: Part<'_>) -> Sipp {
    scene.sipp_calls(Party::Carrier, Party::ipv4, 5_070, NUMBER, part)
}

/// Both scenarios go to their end, and nothing is left of the call.
fn both_finish(scene: &Scene, mut caller: Sipp, mut callee: Sipp) {
    caller.finish(LIMIT).expect("the caller's scenario");
    callee.finish(LIMIT).expect("the callee's scenario");
    nothing_is_left(scene);
}

fn nothing_is_left(scene: &Scene) {
    scene.wait_no_call();
    assert_eq!(ports_used(scene), 0, "every port is given back");
}

fn ports_used(scene: &Scene) -> u64 {
    let statistics = scene.daemon.ask(&["stats"]).expect("statistics");
    statistics["ports"]
        .as_array()
        .expect("ports by interface")
        .iter()
        .map(|interface| interface["used"].as_u64().expect("a count"))
        .sum()
}

fn refusal_reaches_the_caller(settings: &DaemonSettings, callee: Scenario, status: u16) -> Scene {
    let scene = Scene::new(settings);
    let callee = called(&scene, Part::silent(callee, Duration::ZERO));
    let caller = calls(
        &scene,
        Part::silent(Scenario::CallRefused(status), Duration::ZERO),
    );
    both_finish(&scene, caller, callee);
    scene
}

#[test]
fn hold_and_resume() {
    let scene = Scene::new(&DaemonSettings::default());
    let (theirs, ours) = (Melody::new(1, 40), Melody::new(2, 40));
    let with = |scenario, melody| Part::playing(scenario, Duration::from_secs(5), melody);
    let callee = called(&scene, with(Scenario::AnswerAndBeHeld, &ours));
    let caller = calls(&scene, with(Scenario::CallAndHold, &theirs));

    let held = scene.wait_call("held", |call| call.held);
    assert_eq!(
        held.streams[1].state, "held",
        "nothing goes to who holds: {held:?}"
    );
    scene.wait_message(Party::ContactCentre, "the hold", |message| {
        message.method() == "INVITE" && message.text.contains("a=sendonly")
    });
    let carried = |call: &tests::daemon::CallView| {
        call.streams[1].packets_xdp + call.streams[1].packets_userspace
    };
    let before = carried(&held);
    let resumed = scene.wait_call("resumed", |call| {
        !call.held && call.streams[1].state == "flowing" && carried(call) > before + 50
    });
    assert_eq!(resumed.streams[0].path, "xdp");
    assert_eq!(resumed.streams[1].path, "xdp");
    both_finish(&scene, caller, callee);

    let at_held = scene.heard_at(Party::ContactCentre);
    let held = assert_heard("the held side", &theirs, &at_held, 8.0);
    let at_holding = scene.heard_at(Party::Carrier);
    let holding = assert_heard("the holding side", &ours, &at_holding, 5.0);
    assert!(
        holding.seconds() + 3.0 < held.seconds(),
        "while it held it heard nothing: {holding}, while the other heard {held}"
    );
}

#[test]
fn the_caller_hangs_up() {
    let scene = Scene::new(&DaemonSettings::default());
    let callee = called(&scene, Part::silent(Scenario::Answer, Duration::ZERO));
    let caller = calls(&scene, Part::silent(Scenario::Call, Duration::from_secs(1)));
    both_finish(&scene, caller, callee);
}

#[test]
fn the_callee_hangs_up() {
    let scene = Scene::new(&DaemonSettings::default());
    let callee = called(
        &scene,
        Part::silent(Scenario::AnswerAndHangUp, Duration::from_secs(1)),
    );
    let caller = calls(
        &scene,
        Part::silent(Scenario::CallAndListen, Duration::ZERO),
    );
    both_finish(&scene, caller, callee);
}

#[test]
fn the_caller_gives_up_while_it_rings() {
    let scene = Scene::new(&DaemonSettings::default());
    let callee = called(&scene, Part::silent(Scenario::Ring, Duration::ZERO));
    let caller = calls(
        &scene,
        Part::silent(Scenario::CallAndCancel, Duration::ZERO),
    );
    both_finish(&scene, caller, callee);
}

#[test]
fn a_busy_callee() {
    refusal_reaches_the_caller(&DaemonSettings::default(), Scenario::Refuse(486), 486);
}

#[test]
fn a_callee_that_only_rings() {
    let settings = DaemonSettings {
        ring_seconds: 2,
        ..DaemonSettings::default()
    };
    refusal_reaches_the_caller(&settings, Scenario::Ring, 480);
}

#[test]
fn a_callee_that_has_none_of_the_codecs() {
    refusal_reaches_the_caller(&DaemonSettings::default(), Scenario::Refuse(488), 488);
}

#[test]
fn a_trunk_that_allows_none_of_the_codecs() {
    let scene = Scene::new(&DaemonSettings {
        centre_codecs: "[\"PCMU\"]",
        ..DaemonSettings::default()
    });
    let mut caller = calls(
        &scene,
        Part::silent(Scenario::CallWithStrangeCodec, Duration::ZERO),
    );
    caller.finish(LIMIT).expect("the caller's scenario");
    nothing_is_left(&scene);
    let messages = scene.messages(Party::ContactCentre);
    assert!(
        messages.is_empty(),
        "the callee hears of nothing: {messages:?}"
    );
}

#[test]
fn a_full_port_range() {
    let scene = Scene::new(&DaemonSettings {
        ports: "20000-20001",
        ..DaemonSettings::default()
    });
    let (theirs, ours) = (Melody::new(5, 40), Melody::new(6, 40));
    let with = |scenario, melody| Part::playing(scenario, Duration::from_secs(6), melody);
    let callee = called(&scene, with(Scenario::Answer, &ours));
    let caller = calls(&scene, with(Scenario::Call, &theirs));
    let _ = scene.wait_call("the first call", |call| call.answered);
    let mut second = scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_080,
        "+15551001",
        Part::silent(Scenario::CallRefused(503), Duration::ZERO),
    );
    second.finish(LIMIT).expect("the second caller is refused");
    let refusal = scene
        .messages(Party::Carrier)
        .into_iter()
        .find(|message| message.status() == Some(503))
        .expect("a 503 on the wire");
    let wait: u32 = refusal
        .header("Retry-After")
        .and_then(|value| value.parse().ok())
        .expect("Retry-After in seconds");
    assert!(wait > 0);
    both_finish(&scene, caller, callee);
    // The first call went on.
    assert_heard(
        "the callee",
        &theirs,
        &scene.heard_at(Party::ContactCentre),
        4.0,
    );
}
