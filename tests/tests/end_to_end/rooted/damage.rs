//! Damaged input on every socket, while two calls are up: one that the kernel carries and one that
//! the workers do, with SRTP on its far side.

use std::{net::SocketAddr, time::Duration};

use tests::{
    daemon::{CallView, DaemonSettings, SIP_PORT},
    damage::{Attack, Bench, Counts, HalfOpen, MEDIA, OPERATORS, SIGNALLING, stale_place},
    lab::{Party, Side, wait_until},
    peers::{Baresip, Scenario, SipTransport, Sipp, SippConfig},
    scene::{LIMIT, Scene},
    sound::{Melody, assert_heard},
    wire::stream_to,
};

/// How long each kind goes on: about a minute in all.
const SHARE: Duration = Duration::from_millis(2_500);
/// How long each kind warms the daemon's memory up.
const WARM_UP: Duration = Duration::from_millis(500);
/// Batches of one kind at most.
const MOST: usize = 400;
/// What the daemon's memory may grow by after a round that warms it up, in octets.
const GROWTH: u64 = 4 << 20;
/// Packets that a stream has carried before the damage begins: four seconds.
const ENOUGH: u64 = 200;

fn caller(scene: &Scene, number: &str, port: u16, melody: &Melody) -> Sipp {
    Sipp::start(
        &scene.lab,
        &SippConfig {
            name: &format!("carrier-calls-{number}"),
            party: Party::Carrier,
            local: SocketAddr::new(Party::Carrier.ipv4(Side::Peer), port),
            remote: Some(SocketAddr::new(Party::Carrier.ipv4(Side::Sbc), SIP_PORT)),
            tcp: false,
            media_port: 30_000 + (port - 5_000) * 100,
            number,
            scenario: Scenario::CallAndListen,
            talk: Duration::ZERO,
            melody: Some(melody),
            calls: 1,
        },
    )
    .expect("SIPp")
}

fn wait_calls(scene: &Scene, is: impl Fn(&CallView) -> bool) -> Vec<CallView> {
    let mut calls = Vec::new();
    let seen = wait_until(LIMIT, || {
        calls = scene.daemon.calls().unwrap_or_default();
        calls.len() == 2 && calls.iter().all(&is)
    });
    assert!(seen, "{calls:?}; log:\n{}", scene.daemon.log());
    calls
}

fn carried(call: &CallView) -> u64 {
    let packets =
        |stream: &tests::daemon::StreamView| stream.packets_xdp + stream.packets_userspace;
    match call.streams.as_slice() {
        [forth, back] => packets(forth).min(packets(back)),
        _ => 0,
    }
}

fn assert_unharmed(scene: &Scene, calls: &[CallView]) {
    for call in calls {
        scene.assert_nothing_lost(call);
        let path = if call.trunks[1] == "teams" {
            "userspace"
        } else {
            "xdp"
        };
        for stream in &call.streams {
            assert_eq!(stream.path.as_str(), path, "{call:?}");
        }
    }
}

fn assert_both_heard(
    scene: &Scene,
    address: SocketAddr,
    sent: &Melody,
    at_callee: &Baresip,
    own: &Melody,
    stale: u64,
) {
    assert_heard("the callee", own, &at_callee.heard()[0], 40.0);
    let datagrams = scene.datagrams(Party::Carrier);
    let stream = stream_to(&datagrams, address).expect("a stream for the caller");
    assert_eq!(stream.ssrcs().len(), 1);
    let lost = stream.lost() as u64;
    assert!(lost <= stale, "{lost} are lost, {stale} were too old");
    assert_heard("the caller", sent, &stream.sound(), 40.0);
}

#[test]
fn a_minute_of_damaged_input_harms_nothing_and_is_counted() {
    let mut scene = Scene::new(&DaemonSettings {
        centre_transport: "tcp",
        // So that the workers have a call whose SRTP is attacked. The kernel's is elsewhere.
        srtp_offload: false,
        ..DaemonSettings::default()
    });
    let melodies = [11, 12, 13, 14].map(|seed| Melody::new(seed, 180));
    let [to_centre, from_centre, to_teams, from_teams] = &melodies;
    let mut centre = scene.centre(SipTransport::Tcp, from_centre);
    let mut teams = scene.teams(true, from_teams);
    let mut callers = [
        caller(&scene, "+15551000", 5_070, to_centre),
        caller(&scene, "+16660000", 5_080, to_teams),
    ];
    let before = wait_calls(&scene, |call| carried(call) >= ENOUGH);
    assert_unharmed(&scene, &before);

    let count = || Counts::read(&scene.daemon, &scene.lab).expect("metrics");
    let bench = Bench::new(&scene);
    let all: Vec<&Attack> = [OPERATORS, SIGNALLING, MEDIA]
        .into_iter()
        .flatten()
        .collect();
    for attack in &all {
        bench.attack(attack, WARM_UP, MOST, &[]);
    }
    let warm = scene.daemon.resident().expect("its memory");
    let began = count();
    let mut sent = 0;
    for attack in OPERATORS.iter().chain(SIGNALLING) {
        sent += bench.attack(attack, SHARE, MOST, &[]);
    }
    // Time runs out on these while the media ports have their turn.
    let half_open = HalfOpen::open(&bench);
    sent += half_open.count();
    for attack in MEDIA {
        sent += bench.attack(attack, SHARE, MOST, HalfOpen::COUNTED);
    }
    let grown = || {
        let grown = count().since(&began);
        let sum = grown.values().sum::<u64>();
        let stale = grown.get(&stale_place()).copied().unwrap_or_default();
        (sum, stale, grown)
    };
    wait_until(LIMIT, || grown().0 >= sent);
    // What was too old may have been of the calls.
    let (sum, stale, grown) = grown();
    assert!(
        (sent..=sent + stale).contains(&sum),
        "{sum} of {sent}: {grown:?}"
    );
    let resident = scene.daemon.resident().expect("its memory");
    eprintln!("{sent} sent and counted: {grown:?}; resident {warm}, then {resident}");
    assert!(
        resident <= warm + GROWTH,
        "{warm} octets of memory, then {resident}"
    );

    let mark = scene.daemon.calls().expect("calls");
    let marks: Vec<u64> = mark.iter().map(carried).collect();
    let least = marks.iter().max().copied().unwrap_or_default() + ENOUGH;
    let after = wait_calls(&scene, |call| carried(call) >= least);
    assert_unharmed(&scene, &after);
    let ready = scene.daemon.get(&scene.lab, "/readyz").expect("an answer");
    assert_eq!(ready, (200, "ready\n".to_owned()));
    let [by_kernel, with_srtp] = [true, false].map(|kernel| bench.media_of(Party::Carrier, kernel));
    drop(half_open);
    drop(bench);
    let stale = scene.stale();

    centre.hang_up().expect("hung up");
    teams.hang_up().expect("hung up");
    for caller in &mut callers {
        caller.finish(LIMIT).expect("the caller's scenario");
    }
    scene.wait_no_call();
    assert_both_heard(&scene, by_kernel, from_centre, &centre, to_centre, stale);
    assert_both_heard(&scene, with_srtp, from_teams, &teams, to_teams, stale);
    assert!(scene.daemon.is_running());
    scene.daemon.stop(LIMIT).expect("it ends as told");
}
