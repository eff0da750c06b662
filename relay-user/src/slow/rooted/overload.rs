use std::{
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use relay_abi::counters::FlowCounters;

use super::lab::{AGE, Lab, Peer, asking, in_time};
use crate::{
    media::SrtpSuite,
    slow::{
        Discard, LastOutput, WorkersSnapshot,
        tests::{OURS_CALLEE, OURS_CALLER, caller_to_callee, key, rtp},
    },
};

/// More than a worker can serve, until the kernel had to drop; then every single packet goes
/// through again, nothing of the flood comes late, and what the workers count is what the kernel
/// counts.
#[test]
fn a_worker_recovers_from_any_flood_and_accounts_for_all_of_it() {
    let key = key(SrtpSuite::AesCm128HmacSha1_80, 1);
    for (lab, protect) in [
        (Lab::new(true), None),
        (Lab::new(true), Some(key)),
        (Lab::without_buffer_rings(true), None),
    ] {
        let mut flow = caller_to_callee();
        flow.protect = protect;
        lab.install(OURS_CALLER, flow);
        let (caller, callee) = (lab.caller(), lab.callee());
        let mut sent = 0u64;
        let mut sequence = 0u16;
        let mut send = |count: u32| {
            for _ in 0..count {
                caller.send(OURS_CALLER, &rtp(0, sequence, 0, 7));
                sequence = sequence.wrapping_add(1);
                sent += 1;
            }
            sent
        };
        send(1);
        callee.receive(OURS_CALLEE);

        let mut rounds = 0;
        while lab.snapshot().socket_overflows == 0 {
            send(20_000);
            rounds += 1;
            assert!(
                rounds < 500,
                "no flood of one sender is more than a worker serves"
            );
        }

        // The kernel tells of what it dropped with the next packet that it takes; a worker that has
        // not run since the probe has not taken it.
        let settled = || {
            (0..500).any(|_| {
                let (taken, dropped) = datagrams(&lab);
                let snapshot = lab.snapshot();
                snapshot.rtp.packets + discarded(&snapshot) == taken
                    && snapshot.socket_overflows == dropped
            })
        };
        let accounted = (0..20).any(|_| {
            send(1);
            drain(&callee);
            settled()
        });
        assert!(accounted, "{:?} of {:?}", lab.snapshot(), datagrams(&lab));

        // What the flood left at the callee leaves no room there.
        drain(&callee);
        // The last probes may still be under way; what is sent after them comes after them.
        let last = (send(1) - 1) as u16;
        while heard(&callee) != last {}
        assert!(
            in_time(settled),
            "{:?} of {:?}",
            lab.snapshot(),
            datagrams(&lab)
        );
        let before = lab.snapshot();
        for _ in 0..2_000 {
            let number = send(1) - 1;
            assert_eq!(heard(&callee), number as u16);
        }
        lab.until(|after| after.rtp.packets == before.rtp.packets + 2_000);
        let after = lab.snapshot();
        assert_eq!(after.discarded, before.discarded);
        assert_eq!(after.socket_overflows, before.socket_overflows);
    }
}

/// Holds a worker up, where it asks for what the kernel sent last, until it is let go.
pub(super) struct Gate(pub Mutex<Receiver<()>>);

impl LastOutput for Gate {
    fn last_output(&self, _: u32) -> Option<FlowCounters> {
        let _ = self.0.lock().expect("not poisoned").recv();
        None
    }
}

/// What waited while the worker was stopped is too old to be heard, and counted so.
#[test]
fn what_waited_too_long_is_not_sent_on() {
    let (release, gate) = mpsc::channel();
    let lab = Lab::with(true, asking(Gate(Mutex::new(gate))));
    lab.install(OURS_CALLER, caller_to_callee());
    let (caller, callee) = (lab.caller(), lab.callee());
    // The kernel begins to stamp packets a moment after the first socket asked for it.
    release.send(()).expect("the worker will ask");
    for sequence in 0..1_000 {
        caller.send(OURS_CALLER, &rtp(0, sequence, 0, 7));
        assert_eq!(heard(&callee), sequence);
    }
    caller.send(OURS_CALLER, &rtp(0, 1_000, 0, 8));
    for sequence in 1_001..1_101 {
        caller.send(OURS_CALLER, &rtp(0, sequence, 0, 8));
    }
    // Time itself is what makes a packet too old.
    std::thread::sleep(AGE + Duration::from_millis(100));
    release.send(()).expect("the worker waits");
    lab.until(|snapshot| discarded(snapshot) == 101);
    assert_eq!(lab.discarded(Discard::Stale), 101);
    caller.send(OURS_CALLER, &rtp(0, 1_101, 0, 8));
    assert_eq!(heard(&callee), 1_101);
}

pub(super) fn discarded(snapshot: &WorkersSnapshot) -> u64 {
    snapshot.discarded.iter().map(|(_, sum)| sum.packets).sum()
}

/// The number of the next packet that the callee gets, as the caller sent it.
pub(super) fn heard(callee: &Peer) -> u16 {
    let heard = callee.receive(OURS_CALLEE);
    u16::from_be_bytes([heard[2], heard[3]]).wrapping_sub(65_000)
}

/// What the kernel of our host says: UDP datagrams that sockets took, and that they had no room for.
pub(super) fn datagrams(lab: &Lab) -> (u64, u64) {
    let shown = lab.ours.run("cat", "/proc/net/snmp");
    let mut lines = shown.lines().filter(|line| line.starts_with("Udp:"));
    let names = lines.next().expect("names").split_whitespace();
    let values = lines.next().expect("values").split_whitespace();
    let find = |name: &str| {
        let (_, value) = names
            .clone()
            .zip(values.clone())
            .find(|(each, _)| *each == name)
            .expect("a counter");
        value.parse::<u64>().expect("a number")
    };
    (find("InDatagrams"), find("RcvbufErrors"))
}

/// Takes what has come, so that there is room for what comes.
fn drain(peer: &Peer) {
    peer.0.set_nonblocking(true).expect("set");
    let mut buffer = [0; 2048];
    while peer.0.recv_from(&mut buffer).is_ok() {}
    peer.0.set_nonblocking(false).expect("set");
}
