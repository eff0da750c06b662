//! Packets that leave as frames, while next hops change under them.

use super::lab::{Lab, Peer};
use crate::slow::{
    Discard,
    tests::{OURS_CALLEE, OURS_CALLER, caller_to_callee, rtp},
};

/// A call whose packets go from caller to callee.
struct Call {
    lab: Lab,
    caller: Peer,
    callee: Peer,
    next: u16,
}

impl Call {
    fn new() -> Self {
        let lab = Lab::new(true);
        lab.install(OURS_CALLER, caller_to_callee());
        let (caller, callee) = (lab.caller(), lab.callee());
        Self {
            lab,
            caller,
            callee,
            next: 0,
        }
    }

    fn say(&mut self) -> u16 {
        self.caller.send(OURS_CALLER, &rtp(0, self.next, 0, 7));
        self.next = self.next.wrapping_add(1);
        self.next.wrapping_sub(1)
    }

    /// Talks until the callee hears it, by frames.
    fn until_heard_by_frames(&mut self) {
        self.callee.0.set_nonblocking(true).expect("set");
        let mut buffer = [0; 2048];
        let reached = (0..200_000).any(|_| {
            let before = self.lab.snapshot().frames;
            self.say();
            std::thread::yield_now();
            let heard = self.callee.0.recv_from(&mut buffer).is_ok();
            heard && self.lab.snapshot().frames > before
        });
        assert!(reached, "{:?}", self.lab.snapshot());
        self.lab.until(|snapshot| {
            let discarded = snapshot.discarded.iter().map(|(_, sum)| sum.packets);
            snapshot.rtp.packets + discarded.sum::<u64>() >= u64::from(self.next)
        });
        while self.callee.0.recv_from(&mut buffer).is_ok() {}
        self.callee.0.set_nonblocking(false).expect("set");
    }

    /// Everything that is said is heard, in its order, and leaves as a frame.
    fn nothing_is_lost(&mut self) {
        let before = self.lab.snapshot();
        for _ in 0..500 {
            let said = self.say();
            let heard = self.callee.receive(OURS_CALLEE);
            let heard = u16::from_be_bytes([heard[2], heard[3]]);
            assert_eq!(heard.wrapping_sub(65_000), said);
        }
        self.lab.until(|after| after.frames == before.frames + 500);
        assert_eq!(self.lab.snapshot().discarded, before.discarded);
    }
}

/// Another machine takes the callee's address over, then a route leads to it by another device,
/// then that device goes: each time media goes on, by frames.
#[test]
fn frames_follow_neighbours_routes_and_devices() {
    let mut call = Call::new();
    call.until_heard_by_frames();
    call.nothing_is_lost();

    let Lab { ours, callee, .. } = &call.lab;
    callee.ip("link set wan address 02:00:00:00:77:02");
    ours.ip("neighbour replace 203.0.113.2 lladdr 02:00:00:00:77:02 dev east nud reachable");
    call.until_heard_by_frames();
    call.nothing_is_lost();

    let Lab { ours, callee, .. } = &call.lab;
    ours.veth("north", callee, "back");
    ours.ip("route add 203.0.113.2/32 dev north src 203.0.113.1");
    callee.ip("neighbour flush all");
    callee.ip("link set wan down");
    callee.ip("address add 203.0.113.2/24 dev back");
    call.until_heard_by_frames();
    call.nothing_is_lost();

    let Lab { ours, callee, .. } = &call.lab;
    callee.ip("link set wan up");
    ours.ip("link del north");
    call.until_heard_by_frames();
    call.nothing_is_lost();
}

/// A packet that the device does not take is counted, and the next one goes through.
#[test]
fn a_packet_larger_than_the_next_hop_takes_is_counted() {
    let mut call = Call::new();
    call.until_heard_by_frames();
    call.lab.ours.ip("link set east mtu 700");
    let before = call.lab.discarded(Discard::TooLarge);
    let mut large = rtp(0, call.next, 0, 7);
    large.resize(12 + 900, 0x55);
    let counted = (0..200_000).any(|_| {
        call.caller.send(OURS_CALLER, &large);
        std::thread::yield_now();
        call.lab.discarded(Discard::TooLarge) > before
    });
    assert!(counted, "{:?}", call.lab.snapshot());
    call.until_heard_by_frames();
}
