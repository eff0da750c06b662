//! SRTP that the kernel protects and unprotects, heard and played by ffmpeg.

use std::{net::SocketAddr, time::Duration};

use tests::{
    daemon::{CallView, DaemonSettings},
    lab::{Party, Side, wait_until},
    peers::{Ffmpeg, SECURED_KEY, SECURED_PORT, Scenario, Sipp},
    scene::{LIMIT, Part, Scene},
    sound::{Melody, assert_heard},
    wire::Sighting,
};

/// Packets that a stream has carried before it is judged: ten seconds.
const ENOUGH: u64 = 500;

fn secured() -> Scene {
    Scene::new(&DaemonSettings {
        centre_srtp: "require",
        ..DaemonSettings::default()
    })
}

/// The carrier calls the contact centre, which answers with ffmpeg's address and key.
fn call(scene: &Scene, talk: Duration, melody: Option<&Melody>) -> (Sipp, Sipp) {
    let called = scene.sipp_called(
        Party::ContactCentre,
        Party::ipv4,
        false,
        Part::silent(Scenario::AnswerSecured, Duration::ZERO),
    );
    let calling = scene.sipp_calls(
        Party::Carrier,
        Party::ipv4,
        5_070,
        "+15551000",
        Part {
            scenario: Scenario::Call,
            talk,
            melody,
        },
    );
    (calling, called)
}

/// Trunkline's offer to the contact centre, when it has come.
fn offer(scene: &Scene) -> Sighting {
    let is = |message: &Sighting| message.start_line().starts_with("INVITE");
    scene.wait_message(Party::ContactCentre, "an INVITE", is);
    let messages = scene.messages(Party::ContactCentre);
    messages.into_iter().find(is).expect("it has come")
}

fn local() -> SocketAddr {
    SocketAddr::new(Party::ContactCentre.ipv4(Side::Peer), SECURED_PORT)
}

fn carried_enough(call: &CallView, direction: usize) -> bool {
    call.streams
        .get(direction)
        .is_some_and(|stream| stream.packets_xdp + stream.packets_userspace >= ENOUGH)
}

#[test]
fn ffmpeg_hears_what_the_kernel_protects() {
    let scene = secured();
    let caller = Melody::new(1, 60);
    let (mut calling, mut called) = call(&scene, Duration::from_secs(16), Some(&caller));
    let offer = offer(&scene);
    let key = offer.key().expect("a key of Trunkline's");
    let length = Duration::from_secs(8);
    let mut ffmpeg =
        Ffmpeg::hears(&scene.lab, Party::ContactCentre, local(), key, length).expect("ffmpeg");
    let _ = scene.wait_call_by_kernel("ten seconds to ffmpeg", &[0], |call| {
        carried_enough(call, 0)
    });
    let heard = ffmpeg.finish(LIMIT).expect("ffmpeg has heard enough");
    calling.finish(LIMIT).expect("the caller's scenario");
    called.finish(LIMIT).expect("the callee's scenario");
    scene.wait_no_call();
    assert_heard("ffmpeg", &caller, &heard, 6.0);
    assert_eq!(refused(&scene), 0.0);
}

#[test]
fn what_ffmpeg_plays_is_heard_through_the_kernel() {
    let scene = secured();
    let callee = Melody::new(2, 14);
    let (mut calling, mut called) = call(&scene, Duration::from_secs(18), None);
    let remote = offer(&scene).audio().expect("a port of Trunkline's");
    let _ = scene.wait_call("an answer", |call| call.streams.len() == 2);
    let centre = Party::ContactCentre;
    let mut ffmpeg =
        Ffmpeg::plays(&scene.lab, centre, local(), remote, SECURED_KEY, &callee).expect("ffmpeg");
    // It begins with a burst, which is there before its source is learned.
    let _ = scene.wait_call_by_kernel("ten seconds of ffmpeg", &[1], |call| {
        carried_enough(call, 1)
    });
    assert!(wait_until(LIMIT, || !ffmpeg.is_running()));
    ffmpeg.finish(LIMIT).expect("ffmpeg has played all");
    calling.finish(LIMIT).expect("the caller's scenario");
    called.finish(LIMIT).expect("the callee's scenario");
    scene.wait_no_call();
    assert_heard("the carrier", &callee, &scene.heard_at(Party::Carrier), 8.0);
    assert_eq!(refused(&scene), 0.0);
}

/// How many packets of SRTP were refused.
fn refused(scene: &Scene) -> f64 {
    scene
        .daemon
        .metric(&scene.lab, "trunkline_srtp_failures_total", &[])
        .expect("metrics")
}
