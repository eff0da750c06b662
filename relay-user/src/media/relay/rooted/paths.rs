//! Which path carries a stream, and from one to another.

use super::*;

#[test]
fn without_xdp_the_workers_carry_everything() {
    let mut bench = Bench::new(XdpMode::Off);
    let (first, second, media) = bench.call(Family::V4);
    let path = Path::Userspace(PathReason::NoXdp);
    assert_eq!(bench.connect(&media), [path; 2]);
    carried_by_workers(&bench.relay, first, second, &media);
}

/// Neither XDP nor steering: as where BPF is forbidden.
#[test]
fn without_the_right_to_load_bpf_ports_get_sockets_of_their_own() {
    let (ours, carrier, centre) = Bench::network();
    let relay = ours.enter(|| {
        drop_bpf_rights();
        start(&Bench::config(XdpMode::Native))
    });
    for state in relay.snapshot().interfaces {
        assert_eq!(state.mode, XdpMode::Off);
        assert!(!state.why.is_empty());
    }
    let mut bench = Bench {
        ours,
        carrier,
        centre,
        relay,
    };
    let (first, second, media) = bench.call(Family::V4);
    let path = Path::Userspace(PathReason::NoXdp);
    assert_eq!(bench.connect(&media), [path; 2]);
    carried_by_workers(&bench.relay, first, second, &media);
}

fn carried_by_workers(
    relay: &Relay,
    mut first: Telephone,
    mut second: Telephone,
    media: &CallMedia,
) {
    let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);
    for _ in 0..20 {
        let number = first.say(near);
        let heard = second.hear().map(|heard| heard.number);
        assert_eq!(heard, Some(number), "{:?}", relay.snapshot());
        let number = second.say(far);
        let heard = first.hear().map(|heard| heard.number);
        assert_eq!(heard, Some(number), "{:?}", relay.snapshot());
    }
    for stream in relay.statistics(CALL).unwrap() {
        assert_eq!((stream.packets_xdp, stream.packets_userspace), (0, 20));
        assert_eq!((stream.lost, stream.dropped), (0, 0));
    }
}

/// Takes from the calling thread, and the threads that it starts, what loading BPF needs.
fn drop_bpf_rights() {
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    // `capset` of linux/capability.h, version 3: a header, and two words of each set.
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: both pointers are to arrays of the sizes that version 3 has, alive over the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    assert_eq!(result, 0);
    for right in [SYS_ADMIN, PERFMON, BPF] {
        let word = &mut sets[(right / 32) as usize];
        // Effective and permitted.
        for set in &mut word[..2] {
            *set &= !(1 << (right % 32));
        }
    }
    // SAFETY: as above; the call only reads them, and changes the calling thread alone.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_neighbour_with_a_new_ethernet_address_is_followed() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, media) = bench.call(Family::V4);
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    bench.talk_until_xdp(0, &mut first, &mut second, near);
    bench.centre.ip("link set far0 address 02:00:00:00:82:02");
    bench
        .ours
        .ip("neighbour replace 10.82.0.2 lladdr 02:00:00:00:82:02 dev centre0 nud reachable");
    let packets = bench.statistics()[0].packets_xdp;
    let mut heard = 0;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        first.say(near);
        if second.hear_for(Duration::from_millis(100)).is_some() {
            heard += 1;
            if bench.statistics()[0].packets_xdp > packets && heard > 10 {
                return;
            }
        }
    }
    panic!("{heard} heard: {:?}", bench.relay.snapshot());
}

#[test]
fn a_stream_moves_between_the_paths_and_loses_nothing() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);
    // More payload types than the kernel tells apart.
    let few = media.streams[0].payload_types.clone();
    let many: Vec<(u8, u8)> = (96..105).map(|number| (number, number)).collect();
    for turn in 0..6 {
        media.streams[0].payload_types = few.clone();
        if turn % 2 == 0 {
            media.streams[0].payload_types.extend(&many);
        }
        let [path, _] = bench.connect(&media);
        assert_eq!(path == Path::Xdp, turn % 2 == 1);
        for _ in 0..10 {
            first.say(near);
            heard.push(second.hear().unwrap());
        }
    }
    assert_continuous(&heard);
    let [forth, _] = bench.statistics();
    assert_eq!(forth.lost, 0);
    assert!(forth.packets_xdp >= 30 && forth.packets_userspace >= 30);
}

#[test]
fn ipv4_and_ipv6_hear_each_other_by_the_workers() {
    let mut bench = Bench::new(XdpMode::Native);
    let (first, _, mut media) = bench.call(Family::V4);
    let second = Telephone::new(&bench.centre, "[fd82::2]:7000", 0x2222_2222);
    media.legs[1].port = bench.relay.reserve("centre0", Family::V6).unwrap();
    media.legs[1].remote = Some(RemoteMedia {
        rtp: second.address(),
        rtcp: second.address(),
    });
    let path = Path::Userspace(PathReason::AddressFamily);
    assert_eq!(bench.connect(&media), [path; 2]);
    carried_by_workers(&bench.relay, first, second, &media);
}

#[test]
fn rtcp_goes_from_port_to_port_with_the_ssrcs_that_each_leg_knows() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    let control = Telephone::new(&bench.carrier, "10.81.0.2:6001", 0);
    let other = Telephone::new(&bench.centre, "10.82.0.2:7001", 0);
    for (leg, telephone) in media.legs.iter_mut().zip([&control, &other]) {
        leg.rtcp_mux = false;
        leg.remote.as_mut().unwrap().rtcp = telephone.address();
    }
    bench.connect(&media);
    let [near, far] = media.legs.each_ref().map(|leg| leg.port);
    let heard = bench.talk_until_xdp(0, &mut first, &mut second, near.rtp);

    // A sender report without report blocks (RFC 3550, section 6.4.1).
    let mut report = vec![0x80, 200, 0, 6];
    report.extend(first.ssrc.to_be_bytes());
    report.extend([0; 20]);
    control.socket.send_to(&report, near.rtcp()).unwrap();
    let mut packet = [0; 2048];
    let (length, source) = other.receive(&mut packet, PATIENCE).unwrap();
    assert!(length >= 28);
    assert_eq!(source, far.rtcp());
    assert_eq!(packet[1], 200);
    assert_eq!(packet[4..8], heard[0].ssrc.to_be_bytes());
}

#[test]
fn srtp_that_the_kernel_does_not_serve_is_the_workers() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, second, mut media) = bench.call(Family::V4);
    let key = |octet| SrtpKey {
        suite: SrtpSuite::AesCm256HmacSha1_80,
        master: vec![octet; 46].into(),
        mki: None,
    };
    media.legs[1].srtp = Some(SrtpKeys {
        protect: key(1),
        unprotect: key(2),
    });
    let path = Path::Userspace(PathReason::SrtpAes256);
    assert_eq!(bench.connect(&media), [path; 2]);
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let number = first.say(media.legs[0].port.rtp);
        let mut packet = [0; 2048];
        let (length, _) = second.receive(&mut packet, PATIENCE).unwrap();
        assert_eq!(length, 172 + 10, "an authentication tag of ten octets");
        assert!(!packet[14..172].iter().all(|octet| *octet == 0xd5));
        assert_eq!(u16::from_be_bytes([packet[2], packet[3]]), number);
        assert!(seen.insert(packet[12..172].to_vec()));
    }
    // Plain RTP from the leg that must send SRTP goes nowhere.
    let mut second = second;
    second.say(media.legs[1].port.rtp);
    bench.wait(&first, |[_, back]| back.srtp_failures == 1);
    let refused = || bench.relay.snapshot().srtp_failures;
    let sum = || refused().iter().map(|(.., packets)| packets).sum::<u64>();
    // The worker counts it for the flow first.
    bench.wait(&first, |_| sum() == 1);
    let refused = refused();
    assert!(refused.contains(&("userspace", "srtp-authentication", 1)));
}
