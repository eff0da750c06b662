//! Flows that change, come and go while the program reads them: every packet is relayed by one
//! whole entry of its own flow, or punted.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use aya::programs::{TestRun as _, TestRunOptions};
use relay_abi::{U16, U32, verdict::Reason};

use super::{
    lab::{INGRESS, config, entry, key, next_hop},
    packets::{Packet, rtp},
};
use crate::{
    done::Done,
    offload::{Datapath as _, Offload, XdpMode},
};

const PEER: &str = "198.51.100.2:30000";
const LOCAL: &str = "198.51.100.1:20000";

#[test]
fn a_flow_in_change_is_never_half_of_two() {
    let mut offload = Offload::load(&config(&[], XdpMode::Native));
    let mut datapath = offload.take_datapath().expect("loaded");
    datapath.set_device(0, INGRESS).expect("a device");
    datapath.set_next_hop(3, &next_hop(&[])).expect("written");
    let payload =
        |ssrc, sequence: u16, timestamp| rtp(0x80, 0, sequence, timestamp, ssrc, &[0; 160]);
    let input = Packet::new(PEER, LOCAL, payload(0x1111_2222, 1, 1)).octets();

    // Two lives of the flow, which differ in every field that shows, and a stranger that takes
    // the elements they leave.
    let mut lives = Vec::new();
    let mut outputs = Vec::new();
    for life in 0..2u32 {
        let from = format!("203.0.113.{}:{}", 1 + life, 20_002 + life);
        let to = format!("203.0.113.{}:{}", 11 + life, 40_000 + life);
        let mut entry = entry(PEER, &from, &to);
        entry.ssrc_out = U32::new(0x0101_0101 * (1 + life));
        entry.sequence_offset = U16::new(0x0101 * (1 + life as u16));
        entry.timestamp_offset = U32::new(0x0101_0101 * (1 + life));
        lives.push(entry);
        outputs.push(
            Packet {
                source: [2, 0, 0, 0, 1, 1],
                destination: [2, 0, 0, 0, 1, 2],
                hop_limit: 63,
                identification: 0,
                do_not_fragment: true,
                ..Packet::new(
                    &from,
                    &to,
                    payload(
                        0x0101_0101 * (1 + life),
                        1 + 0x0101 * (1 + life as u16),
                        1 + 0x0101_0101 * (1 + life),
                    ),
                )
            }
            .octets(),
        );
    }
    let stranger_key = key("198.51.100.1:20002");
    let stranger = entry("198.51.100.66:6", "203.0.113.66:6666", "203.0.113.67:6667");
    let flow_key = key(LOCAL);

    let done = AtomicBool::new(false);
    let changes = AtomicUsize::new(0);
    let program = offload.relay_program().expect("loaded");
    let mut seen = [0u32; 2];
    let mut passed = 0u32;
    thread::scope(|scope| {
        let end = Done(&done);
        let changing = scope.spawn(|| {
            let mut round = 0usize;
            while !done.load(Ordering::Relaxed) {
                datapath
                    .install(&flow_key, &lives[round % 2])
                    .expect("installed");
                if round.is_multiple_of(3) {
                    datapath.remove(&flow_key).expect("removed");
                    datapath
                        .install(&stranger_key, &stranger)
                        .expect("installed");
                    datapath.remove(&stranger_key).expect("removed");
                }
                round += 1;
                changes.store(round, Ordering::Relaxed);
            }
            datapath
        });
        // At least so many runs and changes, which wait for rows again and again, and on until both
        // lives were seen, however the threads take turns.
        let mut runs = 0u32;
        while runs < 40_000
            || (seen.contains(&0) || changes.load(Ordering::Relaxed) < 2_000) && runs < 20_000_000
        {
            runs += 1;
            let mut output = vec![0; input.len()];
            let result = program
                .test_run(TestRunOptions {
                    data_in: Some(&input),
                    data_out: Some(&mut output),
                    ..TestRunOptions::default()
                })
                .expect("a test run");
            match outputs.iter().position(|expected| *expected == output) {
                Some(life) => {
                    assert_eq!(result.return_value, super::lab::XDP_REDIRECT);
                    seen[life] += 1;
                }
                None => {
                    assert_eq!(result.return_value, super::lab::XDP_PASS, "{output:x?}");
                    assert_eq!(output, input);
                    passed += 1;
                }
            }
        }
        drop(end);
        let datapath = changing.join().expect("no panic");
        let reasons = datapath.reasons().expect("counters");
        let count = |reason: Reason| reasons[reason as usize].1.packets;
        println!("{seen:?}, changing {}", count(Reason::Changing));
        assert_eq!(count(Reason::Relayed), u64::from(seen[0] + seen[1]));
        assert_eq!(
            count(Reason::UnknownFlow) + count(Reason::Changing),
            u64::from(passed)
        );
    });
    assert!(seen.iter().all(|life| *life > 0), "{seen:?}");
}
