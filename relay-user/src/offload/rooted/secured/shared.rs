//! One state for many CPUs and for the workers.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use aya::programs::{TestRun as _, TestRunOptions};
use relay_abi::{
    srtp::packet::{CryptError, Work},
    verdict::Reason,
};

use super::{
    super::lab::{Lab, XDP_DROP, XDP_PASS, XDP_REDIRECT, key},
    SUITES, Secured, Way, counted, packet, row,
};
use crate::{done::Done, offload::Datapath as _, srtp::StreamKey};

/// Four threads give the kernel the same packets, each all of them: each packet leaves once.
#[test]
fn of_equal_packets_on_many_cpus_one_leaves() {
    const PACKETS: u64 = 2000;
    let mut lab = Lab::new();
    for way in Way::ALL {
        let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 0);
        let frames: Vec<_> = (0..PACKETS)
            .map(|number| {
                let plain = packet(65_000_u16.wrapping_add(number as u16), &[3; 20]);
                (flow.sent(&plain).octets(), flow.relayed(&plain).octets())
            })
            .collect();
        let before = counted(&lab, Reason::Relayed);
        let program = lab.program();
        let left: Vec<AtomicU32> = frames.iter().map(|_| AtomicU32::new(0)).collect();
        let wrong = AtomicU32::new(0);
        let together = Barrier::new(4);
        let give = |frame: &[u8], expected: &[u8]| {
            let mut output = vec![0; 512];
            let result = program.test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                ..TestRunOptions::default()
            });
            let result = result.ok()?;
            output.truncate(result.data_size_out as usize);
            match result.return_value {
                XDP_REDIRECT if output == expected => Some(true),
                // A thread behind the others has what only a worker can judge.
                XDP_DROP | XDP_PASS => Some(false),
                _ => None,
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (number, ((frame, expected), left)) in frames.iter().zip(&left).enumerate()
                    {
                        // Whoever took a packet's index as it came and then stands still may find it
                        // behind the window as it leaves: the others wait before that.
                        if number % 100 == 0 {
                            together.wait();
                        }
                        match give(frame, expected) {
                            Some(relayed) => left.fetch_add(relayed.into(), Ordering::Relaxed),
                            None => wrong.fetch_add(1, Ordering::Relaxed),
                        };
                    }
                });
            }
        });
        assert_eq!(
            wrong.load(Ordering::Relaxed),
            0,
            "of {way:?} leave otherwise"
        );
        for (number, left) in left.iter().enumerate() {
            assert_eq!(left.load(Ordering::Relaxed), 1, "packet {number}, {way:?}");
        }
        assert_eq!(counted(&lab, Reason::Relayed) - before, PACKETS);
    }
}

#[test]
fn a_row_in_change_never_sends_with_another_key() {
    in_change(Way::Protect);
}

#[test]
fn a_row_in_change_never_receives_with_another_key() {
    in_change(Way::Unprotect);
}

/// While its row is wiped, given to another key and given back all the time, a flow's packet leaves
/// as its own key makes it or not at all.
fn in_change(way: Way) {
    let mut lab = Lab::new();
    let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 0);
    let plain = packet(1, &[3; 160]);
    let input = flow.sent(&plain).octets();
    let expected = flow.relayed(&plain).octets();
    let (entry, flow_key) = (flow.entry, key(super::LOCALS[0]));
    let (own, keys) = match way.unprotects() {
        true => (entry.unprotect, [&flow.key_in, &flow.key_out]),
        false => (entry.protect, [&flow.key_out, &flow.key_in]),
    };
    let keys = keys.map(|key| StreamKey::new(key).expect("a key"));
    let done = AtomicBool::new(false);
    let (offload, mut datapath) = lab.into_kernel();
    let program = offload.relay_program().expect("loaded");
    let (mut left, mut not) = (0_u32, 0_u32);
    thread::scope(|scope| {
        let end = Done(&done);
        let datapath = &mut datapath;
        let changing = scope.spawn(|| {
            let mut round = 0_u32;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                // A generation comes again only after thousands, as in a row's real life.
                let next = |step| row(own.row(), 1 + (2 * round + step) % 4094);
                let mut entry = entry;
                *match way.unprotects() {
                    true => &mut entry.unprotect,
                    false => &mut entry.protect,
                } = next(1);
                for (row, key) in [(next(0), &keys[1]), (next(1), &keys[0])] {
                    datapath.install(&flow_key, &entry).expect("installed");
                    datapath.write_key(row, key).expect("written");
                    // Where both threads are on one CPU, the other one has to have its turn while
                    // the row is open.
                    if round.is_multiple_of(8) {
                        thread::yield_now();
                    }
                    for _ in 0..round % 64 * 16 {
                        std::hint::black_box(round);
                    }
                    datapath.wipe_key(row).expect("wiped");
                }
            }
        });
        let mut runs = 0_u32;
        while runs < 40_000 || (left < 50 && runs < 5_000_000) {
            runs += 1;
            let mut output = vec![0; 512];
            let result = program
                .test_run(TestRunOptions {
                    data_in: Some(&input),
                    data_out: Some(&mut output),
                    ..TestRunOptions::default()
                })
                .expect("a test run");
            output.truncate(result.data_size_out as usize);
            if result.return_value == XDP_REDIRECT {
                assert_eq!(output, expected);
                left += 1;
            } else {
                assert!([XDP_DROP, XDP_PASS].contains(&result.return_value));
                not += 1;
                thread::yield_now();
            }
        }
        drop(end);
        changing.join().expect("no panic");
    });
    let seen: Vec<_> = datapath
        .reasons()
        .expect("counters")
        .into_iter()
        .filter(|(_, counters)| counters.packets > 0)
        .map(|(reason, counters)| (reason, counters.packets))
        .collect();
    println!("{left} left, {not} did not: {seen:?}");
    // It is no wrong key.
    let refused = seen
        .iter()
        .any(|(reason, _)| *reason == Reason::Authentication);
    assert!(!refused, "{seen:?}");
    assert!(left >= 50 && not > 0, "{left} {not}");
}

/// The kernel and a worker's engine take turns at one stream, in runs of any length, over several
/// turns of the sequence number: what one has taken is a replay to the other, and the bytes are
/// libsrtp's throughout.
#[test]
fn the_kernel_and_a_worker_take_turns() {
    let mut lab = Lab::new();
    let states = lab.kernel.streams();
    let mut flow = Secured::install(&mut lab, Way::Both, 0, SUITES[0], 0);
    let [incoming, outgoing] =
        [flow.entry.unprotect, flow.entry.protect].map(|row| states.get(row.row()).expect("a row"));
    let keys = [&flow.key_in, &flow.key_out].map(|key| StreamKey::new(key).expect("a key"));
    assert!(incoming.is(flow.entry.unprotect) && outgoing.is(flow.entry.protect));
    let mut work = Box::<Work>::default();
    let mut by_worker = 0;
    for step in 0..1200_u32 {
        // Some 4 turns of the sequence number.
        let sequence = (step * 230) as u16;
        let plain = packet(sequence, &[step as u8; 40]);
        let sent = flow.sent(&plain);
        let relayed = flow.relayed(&plain);
        if (step / 7) % 3 == 0 {
            by_worker += 1;
            let length = sent.payload.len();
            work.packet()[..length].copy_from_slice(&sent.payload);
            let length = work
                .unprotect(&keys[0], incoming.index(false), length)
                .expect("authentic and new");
            assert_eq!(work.packet()[..length], plain);
            let translated = flow.translated(&plain);
            work.packet()[..length].copy_from_slice(&translated);
            let length = work
                .protect(&keys[1], outgoing.index(false), length)
                .expect("protected");
            assert_eq!(work.packet()[..length], relayed.payload);
            let ran = lab.in_kernel(&sent.octets());
            assert_eq!(ran.reason, Reason::Replay);
        } else {
            let ran = lab.in_kernel(&sent.octets());
            assert_eq!(
                (ran.reason, ran.output),
                (Reason::Relayed, relayed.octets())
            );
            let length = sent.payload.len();
            work.packet()[..length].copy_from_slice(&sent.payload);
            let again = work.unprotect(&keys[0], incoming.index(false), length);
            assert!(matches!(again, Err(CryptError::Index(_))), "{again:?}");
        }
    }
    assert!(by_worker > 300);
    assert_eq!(incoming.index(false).roc(), 4);
    assert_eq!(outgoing.index(false).roc(), 5);
}

/// The second index state is another stream under the same key: its own ROC and window.
#[test]
fn the_second_state_is_another_stream() {
    use relay_abi::{U16, U32, flow::FlowEntry};

    let mut lab = Lab::new();
    let mut flow = Secured::install(&mut lab, Way::Unprotect, 0, SUITES[0], 0);
    flow.relays(&mut lab, &packet(60_000, &[1; 30]));
    flow.relays(&mut lab, &packet(20, &[1; 30]));
    let states = lab.kernel.streams();
    let state = states.get(3).expect("a row");
    // The sequence number began in the upper half, so what came next is of the same turn or the
    // next, as libsrtp had it too.
    let first = state.index(false).highest();
    let mut entry = flow.entry;
    entry.ssrc_in = U32::new(0x7777_8888);
    entry.flags = U16::new(entry.flags.get() | FlowEntry::UNPROTECT_SECOND);
    lab.install(&key(super::LOCALS[0]), &entry).expect("a flow");
    let plain = super::rtp(0x80, 0, 9, 1, 0x7777_8888, &[4; 30]);
    let input = flow.sent(&plain).octets();
    let expected = flow.relayed(&plain).octets();
    assert_eq!(lab.run(&input, 5).output, expected);
    assert_eq!(state.index(true).highest(), 9);
    assert_eq!(state.index(false).highest(), first);
}
