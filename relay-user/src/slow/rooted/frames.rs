//! Packets that leave as frames, while next hops change under them.

use super::{
    lab::{Lab, Peer, in_time},
    overload::{discarded, heard},
};
use crate::slow::{
    Discard,
    tests::{OURS_CALLER, caller_to_callee, rtp},
};

/// A call whose packets go from caller to callee.
struct Call {
    lab: Lab,
    caller: Peer,
    callee: Peer,
    /// Packets sent, however large.
    sent: u64,
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
            sent: 0,
        }
    }

    /// Says a packet, and waits until the worker has sent it or thrown it away; its number.
    fn say(&mut self) -> u16 {
        let number = self.sent as u16;
        self.send(&rtp(0, number, 0, 7));
        number
    }

    fn send(&mut self, packet: &[u8]) {
        self.caller.send(OURS_CALLER, packet);
        self.sent += 1;
        self.lab
            .until(|snapshot| snapshot.rtp.packets + discarded(snapshot) == self.sent);
    }

    /// Talks until the callee hears it, by frames.
    fn until_heard_by_frames(&mut self) {
        self.callee.0.set_nonblocking(true).expect("set");
        let mut buffer = [0; 2048];
        let reached = in_time(|| {
            let before = self.lab.snapshot().frames;
            self.say();
            let heard = self.callee.0.recv_from(&mut buffer).is_ok();
            heard && self.lab.snapshot().frames > before
        });
        assert!(reached, "{:?}", self.lab.snapshot());
        self.callee.0.set_nonblocking(false).expect("set");
        // What was sent may be on its way still; what is sent now comes behind it.
        let last = self.say();
        while heard(&self.callee) != last {}
    }

    /// Everything that is said is heard, in its order, and leaves as a frame.
    fn nothing_is_lost(&mut self) {
        let before = self.lab.snapshot();
        for _ in 0..500 {
            let said = self.say();
            assert_eq!(heard(&self.callee), said);
        }
        let after = self.lab.snapshot();
        assert_eq!(after.frames, before.frames + 500);
        assert_eq!(after.discarded, before.discarded);
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
    let mut large = rtp(0, call.sent as u16, 0, 7);
    large.resize(12 + 900, 0x55);
    let counted = in_time(|| {
        call.send(&large);
        call.lab.discarded(Discard::TooLarge) > before
    });
    assert!(counted, "{:?}", call.lab.snapshot());
    call.until_heard_by_frames();
}
