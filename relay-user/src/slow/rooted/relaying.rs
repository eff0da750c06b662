use super::{
    lab::{Lab, Peer, in_time},
    overload::discarded,
};
use crate::{
    media::SrtpSuite,
    slow::{
        Discard, SlowError, SlowEvent,
        tests::{
            CALLEE, CALLER, OURS_CALLEE, OURS_CALLEE_RTCP, OURS_CALLER, OURS_CALLER_RTCP, address,
            at, callee_to_caller, caller_to_callee, flow, key, receiver_report, rtp, word,
        },
    },
    srtp::{Inbound, Outbound, TRAILER},
};

fn sequence(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

pub(super) fn audio_goes_both_ways(lab: &Lab) {
    let (caller, callee) = (lab.caller(), lab.callee());
    for number in 0..200u16 {
        let sent = rtp(0, number, 160 * u32::from(number), 7);
        caller.send(OURS_CALLER, &sent);
        let heard = callee.receive(OURS_CALLEE);
        assert_eq!(heard[12..], sent[12..]);
        assert_eq!(sequence(&heard), number.wrapping_add(65_000));
        assert_eq!(word(&heard, 8), 20_000);

        let sent = rtp(0, number, 160 * u32::from(number), 8);
        callee.send(OURS_CALLEE, &sent);
        let heard = caller.receive(OURS_CALLER);
        assert_eq!(heard[12..], sent[12..]);
        assert_eq!(word(&heard, 8), 20_002);
    }
    for (local, peer) in [(OURS_CALLER, CALLER), (OURS_CALLEE, CALLEE)] {
        let counters = lab.read(local);
        assert_eq!((counters.flow.packets, counters.flow.dropped), (200, 0));
        assert_eq!(counters.flow.octets, 200 * 172);
        assert_eq!(counters.flow.reception.lost(), 0);
        assert_eq!(counters.peer, Some(address(peer)));
    }
}

pub(super) fn rtcp_goes_both_ways(lab: &Lab) {
    let (caller, callee) = (lab.caller_rtcp(), lab.callee_rtcp());
    callee.send(OURS_CALLEE_RTCP, &receiver_report(8, 20_000, 65_100));
    let heard = caller.receive(OURS_CALLER_RTCP);
    assert_eq!(
        (word(&heard, 4), word(&heard, 8), word(&heard, 16)),
        (20_002, 7, 100)
    );
    caller.send(OURS_CALLER_RTCP, &receiver_report(7, 20_002, 65_150));
    let heard = callee.receive(OURS_CALLEE_RTCP);
    assert_eq!(
        (word(&heard, 4), word(&heard, 8), word(&heard, 16)),
        (20_000, 8, 150)
    );
}

#[test]
fn plain_audio_and_reports_go_both_ways() {
    let lab = Lab::new(true);
    lab.install(OURS_CALLER, caller_to_callee());
    lab.install(OURS_CALLEE, callee_to_caller());
    audio_goes_both_ways(&lab);
    rtcp_goes_both_ways(&lab);
    let learned: Vec<_> =
        std::iter::from_fn(|| lab.events.next(std::time::Duration::ZERO)).collect();
    assert_eq!(
        learned.len(),
        4,
        "two sources and two RTCP addresses: {learned:?}"
    );
    assert!(matches!(learned[0], SlowEvent::Source { key, .. } if key == at(OURS_CALLER)));
    let snapshot = lab.snapshot();
    assert!(snapshot.steered);
    assert_eq!((snapshot.flows, snapshot.socket_overflows), (2, 0));
}

#[test]
fn without_steering_every_port_has_a_socket_until_its_flow_is_removed() {
    let lab = Lab::new(false);
    for _ in 0..3 {
        lab.install(OURS_CALLER, caller_to_callee());
        lab.install(OURS_CALLEE, callee_to_caller());
        // Installing again keeps the sockets.
        lab.install(OURS_CALLEE, callee_to_caller());
        audio_goes_both_ways(&lab);
        rtcp_goes_both_ways(&lab);
        let taken = lab
            .ours
            .enter(|| std::net::UdpSocket::bind(address(OURS_CALLER)).is_err());
        assert!(taken);
        for local in [OURS_CALLER, OURS_CALLEE] {
            lab.workers().remove(&at(local)).expect("removed");
            assert_eq!(lab.workers().read(&at(local)), None);
        }
        // The kernel lets go of a port when the last receive on it has been cleared away.
        let free = lab
            .ours
            .enter(|| in_time(|| std::net::UdpSocket::bind(address(OURS_CALLER)).is_ok()));
        assert!(free);
    }
    assert!(!lab.snapshot().steered);
    let _theirs = Peer::new(&lab.ours, OURS_CALLER_RTCP);
    let refused = lab
        .ours
        .enter(|| lab.workers().install(at(OURS_CALLER), caller_to_callee()));
    assert!(
        matches!(refused, Err(SlowError::Bind { .. })),
        "{refused:?}"
    );
    assert_eq!(lab.workers().read(&at(OURS_CALLER)), None);
}

/// Far more packets than a worker has buffers, by steered sockets and by those of the ports.
#[test]
fn a_kernel_that_refuses_buffer_rings_is_offered_each_buffer() {
    for steered in [true, false] {
        let lab = Lab::without_buffer_rings(steered);
        for _ in 0..10 {
            lab.install(OURS_CALLER, caller_to_callee());
            lab.install(OURS_CALLEE, callee_to_caller());
            audio_goes_both_ways(&lab);
            rtcp_goes_both_ways(&lab);
            for local in [OURS_CALLER, OURS_CALLEE] {
                lab.workers().remove(&at(local)).expect("removed");
            }
        }
    }
}

#[test]
fn ipv6_and_from_one_family_to_the_other() {
    let lab = Lab::new(true);
    let west = ["[2001:db8:1::1]:20000", "[2001:db8:1::1]:20001"];
    let caller_at = ["[2001:db8:1::2]:30000", "[2001:db8:1::2]:30001"];
    let caller = Peer::new(&lab.caller, caller_at[0]);
    let caller_rtcp = Peer::new(&lab.caller, caller_at[1]);
    for (east, callee_at) in [
        (
            ["[2001:db8:2::1]:20002", "[2001:db8:2::1]:20003"],
            ["[2001:db8:2::2]:40000", "[2001:db8:2::2]:40001"],
        ),
        (
            ["203.0.113.1:20002", "203.0.113.1:20003"],
            ["203.0.113.2:40000", "203.0.113.2:40001"],
        ),
    ] {
        lab.install(west[0], flow(west, caller_at, east, callee_at));
        lab.install(east[0], flow(east, callee_at, west, caller_at));
        let callee = Peer::new(&lab.callee, callee_at[0]);
        let callee_rtcp = Peer::new(&lab.callee, callee_at[1]);
        for number in 0..50 {
            caller.send(west[0], &rtp(0, number, 0, 7));
            assert_eq!(callee.receive(east[0])[12..], rtp(0, 0, 0, 7)[12..]);
            callee.send(east[0], &rtp(0, number, 0, 8));
            assert_eq!(caller.receive(west[0])[12..], rtp(0, 0, 0, 8)[12..]);
        }
        caller_rtcp.send(west[1], &receiver_report(7, 20_002, 1));
        assert_eq!(word(&callee_rtcp.receive(east[1]), 4), 20_000);
        callee_rtcp.send(east[1], &receiver_report(8, 20_000, 1));
        assert_eq!(word(&caller_rtcp.receive(west[1]), 4), 20_002);
        lab.workers().remove(&at(west[0])).expect("removed");
        lab.workers().remove(&at(east[0])).expect("removed");
    }
}

#[test]
fn srtp_and_srtcp_of_every_suite_go_to_and_from_a_far_end_of_libsrtp() {
    let lab = Lab::new(true);
    let (caller, callee) = (lab.caller(), lab.callee());
    let (caller_rtcp, callee_rtcp) = (lab.caller_rtcp(), lab.callee_rtcp());
    for suite in SrtpSuite::ALL {
        let mut flows = [caller_to_callee(), callee_to_caller()];
        flows[0].protect = Some(key(suite, 1));
        flows[1].unprotect = Some(key(suite, 2));
        let [out, back] = flows;
        lab.install(OURS_CALLER, out);
        lab.install(OURS_CALLEE, back);
        let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
        let mut sealing = Outbound::new(&key(suite, 2)).expect("key fits");
        let mut seal = |plain: &[u8], rtcp: bool| {
            let mut buffer = plain.to_vec();
            buffer.resize(plain.len() + TRAILER, 0);
            let length = if rtcp {
                sealing.protect_rtcp(&mut buffer, plain.len())
            } else {
                sealing.protect(&mut buffer, plain.len())
            };
            buffer.truncate(length.expect("protected"));
            buffer
        };
        for number in 0..100u16 {
            // Steps that make the sequence numbers roll over.
            let plain = rtp(0, number.wrapping_mul(2000), 0, 7);
            caller.send(OURS_CALLER, &plain);
            let mut heard = callee.receive(OURS_CALLEE);
            assert_ne!(heard[12..172], plain[12..], "{suite:?}");
            let length = theirs.unprotect(&mut heard).expect("authentic");
            assert_eq!(heard[12..length], plain[12..], "{suite:?}");

            callee.send(
                OURS_CALLEE,
                &seal(&rtp(0, number.wrapping_mul(2000), 0, 8), false),
            );
            assert_eq!(caller.receive(OURS_CALLER)[12..], plain[12..], "{suite:?}");
        }
        caller_rtcp.send(OURS_CALLER_RTCP, &receiver_report(7, 20_002, 1));
        let mut heard = callee_rtcp.receive(OURS_CALLEE_RTCP);
        let length = theirs.unprotect_rtcp(&mut heard).expect("authentic");
        assert_eq!((length, word(&heard, 4)), (32, 20_000));
        callee_rtcp.send(
            OURS_CALLEE_RTCP,
            &seal(&receiver_report(8, 20_000, 1), true),
        );
        assert_eq!(word(&caller_rtcp.receive(OURS_CALLER_RTCP), 4), 20_002);

        // A forged packet ends here, and the true one still goes through.
        let plain = rtp(0, 99u16.wrapping_mul(2000) + 1, 0, 8);
        callee.send(OURS_CALLEE, &plain);
        callee.send(OURS_CALLEE, &seal(&plain, false));
        caller.receive(OURS_CALLER);
        assert_eq!(lab.read(OURS_CALLEE).srtp_failures, 1);
        for local in [OURS_CALLER, OURS_CALLEE] {
            lab.workers().remove(&at(local)).expect("removed");
        }
    }
    let refused = lab.discarded(Discard::SrtpAuthentication);
    assert_eq!(refused, SrtpSuite::ALL.len() as u64);
}

#[test]
fn what_ends_here_is_counted_by_its_reason() {
    let lab = Lab::new(true);
    lab.install(OURS_CALLER, caller_to_callee());
    let (caller, callee) = (lab.caller(), lab.callee());
    let foreigner = Peer::new(&lab.caller, "198.51.100.2:30008");
    caller.send(OURS_CALLER, &rtp(0, 1, 0, 7));
    callee.receive(OURS_CALLEE);

    caller.send("198.51.100.1:20010", &rtp(0, 2, 0, 7));
    caller.send("198.51.100.1:29999", b"");
    foreigner.send(OURS_CALLER, &rtp(0, 2, 0, 7));
    caller.send(OURS_CALLER, b"");
    caller.send(OURS_CALLER, &[0x80; 4]);
    caller.send(OURS_CALLER, &rtp(77, 2, 0, 7));
    caller.send(OURS_CALLER, &[0; 20]);
    caller.send(OURS_CALLER, &[22; 20]);
    caller.send(OURS_CALLER_RTCP, &rtp(0, 2, 0, 7));
    let mut large = rtp(0, 2, 0, 7);
    large.resize(1472, 0);
    lab.ours.ip("link set east mtu 1300");
    caller.send(OURS_CALLER, &large);
    large.resize(8000, 0);
    caller.send(OURS_CALLER, &large);
    caller.0.set_ttl(1).expect("set");
    caller.send(OURS_CALLER, &rtp(0, 2, 0, 7));
    caller.0.set_ttl(64).expect("set");

    caller.send(OURS_CALLER, &rtp(0, 3, 0, 7));
    assert_eq!(sequence(&callee.receive(OURS_CALLEE)), 65_003);
    // Some went to other workers, and packets of more than one CPU may overtake each other.
    lab.until(|snapshot| snapshot.rtp.packets == 2 && discarded(snapshot) == 12);
    for (discard, packets) in [
        (Discard::UnknownFlow, 2),
        (Discard::ForeignSource, 1),
        (Discard::BadRtp, 2),
        (Discard::PayloadType, 1),
        (Discard::Stun, 1),
        (Discard::Dtls, 1),
        (Discard::BadRtcp, 1),
        (Discard::TooLarge, 2),
        (Discard::TtlExpired, 1),
    ] {
        assert_eq!(lab.discarded(discard), packets, "{discard:?}");
    }
}

#[test]
fn a_packet_leaves_with_one_hop_less_and_the_code_point_of_its_flow() {
    use std::os::fd::AsRawFd;

    let lab = Lab::new(true);
    let mut marked = caller_to_callee();
    marked.entry.flags = relay_abi::flow::FlowEntry::SET_DSCP.into();
    marked.entry.dscp = 46;
    lab.install(OURS_CALLER, marked);
    let (caller, callee) = (lab.caller(), lab.callee());
    for option in [libc::IP_RECVTTL, libc::IP_RECVTOS] {
        let one: libc::c_int = 1;
        // SAFETY: an integer of its own size that outlives the call.
        let result = unsafe {
            libc::setsockopt(
                callee.0.as_raw_fd(),
                libc::SOL_IP,
                option,
                std::ptr::from_ref(&one).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
    }
    caller.0.set_ttl(33).expect("set");
    caller.send(OURS_CALLER, &rtp(0, 1, 0, 7));

    let mut payload = [0u8; 2048];
    let mut control = [0u64; 16];
    let mut vector = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: all zeros are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header points to live buffers of the lengths that it says.
    let length = unsafe { libc::recvmsg(callee.0.as_raw_fd(), &mut header, 0) };
    assert_eq!(length, 172);
    let mut seen = Vec::new();
    // SAFETY: the kernel filled the control messages in that the header describes.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while let Some(each) = message.as_ref() {
            seen.push((each.cmsg_type, *libc::CMSG_DATA(message)));
            message = libc::CMSG_NXTHDR(&header, message);
        }
    }
    assert!(seen.contains(&(libc::IP_TTL, 32)), "{seen:?}");
    assert!(seen.contains(&(libc::IP_TOS, 46 << 2)), "{seen:?}");
}
