//! What the XDP program punts of known flows, by the workers' rings.

use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use etherparse::PacketBuilder;
use relay_abi::verdict::Reason;

use super::{
    lab::{AGE, Lab, Peer, WORKERS, asking, config, in_time},
    overload::{Gate, datagrams, heard},
    relaying::{audio_goes_both_ways, rtcp_goes_both_ways},
};
use crate::{
    measure::Sender,
    media::SrtpSuite,
    slow::{
        Discard,
        tests::{
            OURS_CALLEE, OURS_CALLER, callee_to_caller, caller_to_callee, flow, key, rtp, word,
        },
    },
};

/// RTP comes by the rings and not by the sockets, RTCP by the sockets; what leaves is the same.
#[test]
fn audio_comes_by_the_rings_and_reports_by_the_sockets() {
    let lab = Lab::with_xdp(false, config(WORKERS));
    lab.install(OURS_CALLER, caller_to_callee());
    lab.install(OURS_CALLEE, callee_to_caller());
    audio_goes_both_ways(&lab);
    rtcp_goes_both_ways(&lab);
    assert_eq!(lab.snapshot().handed_over, 400);
    assert_eq!(datagrams(&lab), (2, 0));
    // The program counts a packet when it has handed it over: the worker may be quicker.
    lab.until(|_| lab.counted(Reason::Userspace) == 400);
    assert_eq!(lab.counted(Reason::WorkerBusy), 0);
}

#[test]
fn where_the_kernel_refuses_the_rings_all_comes_by_the_sockets() {
    let lab = Lab::with_xdp(true, config(WORKERS));
    lab.install(OURS_CALLER, caller_to_callee());
    lab.install(OURS_CALLEE, callee_to_caller());
    audio_goes_both_ways(&lab);
    rtcp_goes_both_ways(&lab);
    assert_eq!(lab.snapshot().handed_over, 0);
    assert_eq!(datagrams(&lab), (402, 0));
}

/// Over IPv6, at every length that records come in, and beyond.
#[test]
fn frames_of_every_length_come_by_one_way_or_the_other() {
    let lab = Lab::with_xdp(false, config(WORKERS));
    let west = ["[2001:db8:1::1]:20000", "[2001:db8:1::1]:20001"];
    let caller_at = ["[2001:db8:1::2]:30000", "[2001:db8:1::2]:30001"];
    let east = ["[2001:db8:2::1]:20002", "[2001:db8:2::1]:20003"];
    let callee_at = ["[2001:db8:2::2]:40000", "[2001:db8:2::2]:40001"];
    for device in ["west", "east"] {
        lab.ours.ip(&format!("link set {device} mtu 3000"));
    }
    for namespace in [&lab.caller, &lab.callee] {
        namespace.ip("link set wan mtu 3000");
    }
    lab.install(west[0], flow(west, caller_at, east, callee_at));
    let caller = Peer::new(&lab.caller, caller_at[0]);
    let callee = Peer::new(&lab.callee, callee_at[0]);
    let headers = 14 + 40 + 8;
    let mut by_rings = 0;
    for (number, frame) in [100, 255, 256, 257, 512, 513, 1514, 1536, 1537, 1600]
        .into_iter()
        .enumerate()
    {
        let mut packet = rtp(0, number as u16, 0, 7);
        packet.resize(frame - headers, number as u8);
        caller.send(west[0], &packet);
        let heard = callee.receive(east[0]);
        assert_eq!(heard[12..], packet[12..], "a frame of {frame} octets");
        by_rings += u64::from(frame <= 1536);
        assert_eq!(lab.snapshot().handed_over, by_rings);
    }
}

/// A worker that stands still costs what its ring does not hold, counted, and nothing else: what
/// waited too long is dropped, and what comes then is relayed.
#[test]
fn what_a_ring_has_no_room_for_is_counted() {
    let (release, gate) = mpsc::channel();
    let lab = Lab::with_xdp(false, asking(Gate(Mutex::new(gate))));
    lab.install(OURS_CALLER, caller_to_callee());
    let (caller, callee) = (lab.caller(), lab.callee());
    release.send(()).expect("the worker will ask");
    caller.send(OURS_CALLER, &rtp(0, 0, 0, 7));
    assert_eq!(heard(&callee), 0);

    let mut sent = 1;
    while lab.counted(Reason::WorkerBusy) < 100 {
        caller.send(OURS_CALLER, &rtp(0, sent as u16, 0, 8));
        sent += 1;
        assert!(sent < 100_000, "nothing fills the ring");
    }
    let settled =
        in_time(|| lab.counted(Reason::Userspace) + lab.counted(Reason::WorkerBusy) == sent);
    assert!(settled);
    let held = lab.counted(Reason::Userspace) - 1;
    // Time itself is what makes a packet too old.
    std::thread::sleep(AGE + Duration::from_millis(100));
    release.send(()).expect("the worker waits");
    lab.until(|snapshot| snapshot.handed_over == held + 1);
    lab.until(|_| lab.discarded(Discard::Stale) == held);
    for more in 0..2_000u64 {
        let number = (sent + more) as u16;
        caller.send(OURS_CALLER, &rtp(0, number, 0, 8));
        assert_eq!(heard(&callee), number);
    }
    assert_eq!(datagrams(&lab), (0, 0));
}

/// What is computed anew on the way out is right for whatever came in: so what came in wrong must
/// not leave. Without a checksum, as IPv4 allows, there is nothing to be wrong.
#[test]
fn a_wrong_checksum_never_becomes_a_right_one() {
    for protect in [None, Some(key(SrtpSuite::AesCm128HmacSha1_80, 1))] {
        let lab = Lab::with_xdp(false, config(WORKERS));
        let mut flow = caller_to_callee();
        let protected = protect.is_some();
        flow.protect = protect;
        lab.install(OURS_CALLER, flow);
        let callee = lab.callee();
        let sender = lab.caller.enter(|| Sender::open("wan").expect("a socket"));
        let (theirs, ours) = (lab.caller.hardware("wan"), lab.ours.hardware("west"));
        let send = |sequence: u16, damage: &dyn Fn(&mut [u8])| {
            let packet = rtp(0, sequence, 0, 7);
            let builder = PacketBuilder::ethernet2(theirs, ours)
                .ipv4([198, 51, 100, 2], [198, 51, 100, 1], 64)
                .udp(30_000, 20_000);
            let mut frame = Vec::new();
            builder.write(&mut frame, &packet).expect("a frame");
            damage(&mut frame);
            assert_eq!(sender.send(&[&frame]).expect("sent"), 1);
        };
        const UDP: usize = 14 + 20;
        let mut wrong = 0;
        for sequence in (0..300u16).step_by(3) {
            send(sequence, &|_| {});
            let place = UDP + 8 + 12 + usize::from(sequence) % 160;
            send(sequence + 1, &|frame| frame[place] ^= 0x10);
            match sequence % 2 {
                0 => send(sequence + 2, &|frame| frame[UDP + 6..UDP + 8].fill(0)),
                _ => {
                    send(sequence + 2, &|frame| frame[14 + 10] ^= 1);
                    wrong += 1;
                }
            }
            wrong += 1;
            let expected = match sequence % 2 {
                0 => vec![sequence, sequence + 2],
                _ => vec![sequence],
            };
            for number in expected {
                let heard = callee.receive(OURS_CALLEE);
                assert_eq!(
                    u16::from_be_bytes([heard[2], heard[3]]).wrapping_sub(65_000),
                    number
                );
                assert_eq!(heard[12..172] == rtp(0, number, 0, 7)[12..172], !protected);
                assert_eq!(word(&heard, 8), 20_000);
            }
        }
        lab.until(|snapshot| {
            snapshot.rtp.packets == 150 && lab.discarded(Discard::BadChecksum) == wrong
        });
    }
}
