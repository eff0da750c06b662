use super::lab::Lab;
use crate::{
    media::SrtpSuite,
    slow::tests::{OURS_CALLEE, OURS_CALLER, caller_to_callee, key, rtp},
};

/// More than a worker can serve, until the kernel had to drop; then every single packet goes
/// through again, nothing of the flood comes late, and what the workers count is what the kernel
/// counts.
#[test]
fn a_worker_recovers_from_any_flood_and_accounts_for_all_of_it() {
    for protect in [None, Some(key(SrtpSuite::AesCm128HmacSha1_80, 1))] {
        let lab = Lab::new(true);
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

        // The kernel tells of what it dropped with the next packet that it takes.
        let accounted = (0..10_000).any(|_| {
            send(1);
            callee_is_quiet(&callee);
            let snapshot = lab.snapshot();
            let discarded: u64 = snapshot.discarded.iter().map(|(_, sum)| sum.packets).sum();
            let (taken, dropped) = datagrams(&lab);
            snapshot.rtp.packets + discarded == taken && snapshot.socket_overflows == dropped
        });
        assert!(accounted, "{:?} of {:?}", lab.snapshot(), datagrams(&lab));

        while !callee_is_quiet(&callee) {}
        let before = lab.snapshot();
        for _ in 0..2_000 {
            let number = send(1) - 1;
            let heard = callee.receive(OURS_CALLEE);
            let sequence = u16::from_be_bytes([heard[2], heard[3]]);
            assert_eq!(sequence, (number as u16).wrapping_add(65_000));
        }
        lab.until(|after| after.rtp.packets == before.rtp.packets + 2_000);
        let after = lab.snapshot();
        assert_eq!(after.discarded, before.discarded);
        assert_eq!(after.socket_overflows, before.socket_overflows);
    }
}

/// What the kernel of our host says: UDP datagrams that sockets took, and that they had no room for.
fn datagrams(lab: &Lab) -> (u64, u64) {
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

/// Takes what is there; whether that was nothing.
fn callee_is_quiet(callee: &super::lab::Peer) -> bool {
    callee.0.set_nonblocking(true).expect("set");
    let mut quiet = true;
    let mut buffer = [0; 2048];
    while callee.0.recv_from(&mut buffer).is_ok() {
        quiet = false;
    }
    callee.0.set_nonblocking(false).expect("set");
    quiet
}
