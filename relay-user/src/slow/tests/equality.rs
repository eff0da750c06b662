use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

/// The kernel program's function over one flow and one next hop, installed as the kernel's are.
fn datapath(key: &FlowKey, entry: &FlowEntry) -> MemoryDatapath {
    let mut datapath = MemoryDatapath::new(&OffloadConfig {
        mode: XdpMode::Off,
        forced: true,
        interfaces: Vec::new(),
        flows: 1,
        next_hops: 1,
        srtp_streams: 0,
        media_ports: 20_000..=29_999,
        workers: 1,
    });
    let next_hop = NextHop {
        mtu: 1500.into(),
        interface: 1.into(),
        resolved: 1,
        ..NextHop::default()
    };
    datapath.set_next_hop(0, &next_hop).expect("a row");
    datapath.install(key, entry).expect("room");
    datapath
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    other: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(usual), 1 => other]
}

proptest! {
    /// For any packet and any entry of a stream in the kernel: a worker gives the verdict of the
    /// kernel program, the same octets, and the same counters.
    #[test]
    fn a_worker_does_what_the_kernel_program_does(
        ipv6: bool, first in mostly(0x80u8, any::<u8>()),
        second in mostly(0u8, prop_oneof![Just(0x80), Just(101), any::<u8>()]),
        sequence: u16, timestamp: u32, ssrc in mostly(7u32, any::<u32>()),
        rest in proptest::collection::vec(any::<u8>(), 0..400),
        foreign in mostly(false, Just(true)), ttl in mostly(64u8, any::<u8>()), service: u8,
        flags in 0u16..32, dscp in 0u8..64, offsets: (u32, u16, u32), ports: (u16, u16),
        cut in mostly(0usize, 0usize..12),
    ) {
        let mut payload = vec![first, second];
        payload.extend(sequence.to_be_bytes());
        payload.extend(timestamp.to_be_bytes());
        payload.extend(ssrc.to_be_bytes());
        payload.extend(&rest);
        payload.truncate(payload.len() - cut.min(rest.len() + 12));
        let hosts: [[u8; 16]; 4] = [2, 1, 3, 4].map(|last| {
            let mut host = [0x20; 16];
            host[15] = last;
            host
        });
        let host = |index: usize, port: u16| {
            let host = hosts[index];
            if ipv6 {
                SocketAddr::from((host, port))
            } else {
                SocketAddr::from(([10, 0, 0, host[15]], port))
            }
        };
        let (peer, local, from, to) =
            (host(0, ports.0), host(1, 20_000), host(2, 20_002), host(3, ports.1.max(1)));
        // A stream that the planner gave to the worker is out of the comparison.
        let flags = flags & !FlowEntry::USERSPACE | FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        let entry = FlowEntry {
            peer: endpoint(peer),
            from: endpoint(from),
            to: endpoint(to),
            flags: flags.into(),
            ssrc_in: 7.into(),
            ssrc_out: offsets.0.into(),
            timestamp_offset: offsets.2.into(),
            sequence_offset: offsets.1.into(),
            clock_rate: 8000.into(),
            dscp,
            ..caller_to_callee().entry
        };
        let source = if foreign { host(3, 9) } else { peer };
        let mut frame = vec![0; 14];
        let builder = if ipv6 {
            PacketBuilder::ipv6(
                match source.ip() { std::net::IpAddr::V6(ip) => ip.octets(), _ => unreachable!() },
                hosts[1], ttl,
            )
        } else {
            PacketBuilder::ipv4(
                match source.ip() { std::net::IpAddr::V4(ip) => ip.octets(), _ => unreachable!() },
                [10, 0, 0, 1], ttl,
            )
        }
        .udp(source.port(), local.port());
        builder.write(&mut frame, &payload).expect("written");
        frame[12..14].copy_from_slice(if ipv6 { &[0x86, 0xdd] } else { &[8, 0] });
        if ipv6 {
            frame[14] = 0x60 | service >> 4;
            frame[15] |= service << 4;
        } else {
            frame[15] = service;
            frame[24..26].fill(0);
            let sum: u32 = frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            // A sum of exactly 0x10000 folds once more; the header's first word makes it unlikely.
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let now = 77_000_000_000;
        let mut kernel = datapath(&flow_key(local), &entry);
        let mut kernel_frame = BufferFrame::new(&mut frame, 0);
        let outcome = kernel.relay(&mut kernel_frame, 1, now);
        let counted = kernel.read(0).expect("counters");

        let shared = Arc::new(FlowShared::default());
        let mut table = Table::default();
        let flow = SlowFlow { entry, ..caller_to_callee() };
        let prepared = Prepared::new(flow_key(local), flow, Arc::clone(&shared), None).expect("no keys");
        table.install(prepared);
        let mut buffer = vec![0; LONGEST];
        buffer.extend_from_slice(&payload);
        buffer.resize(LONGEST + payload.len() + TRAILER, 0);
        let received = Received {
            source: endpoint(source),
            local: endpoint(local),
            hop: Hop { limit: ttl, service },
            now,
        };
        let events = SlowEvents::new(4);
        let around = Surroundings { events: &events, kernel: None };
        let result = table.relay(&received, &mut buffer, LONGEST..LONGEST + payload.len(), around);
        match outcome.reason.verdict() {
            Verdict::Forward => {
                let departure = result.expect("the kernel relays it");
                let frame = kernel_frame.octets();
                prop_assert_eq!(&buffer[departure.packet], &frame[14..]);
                prop_assert_eq!(shared.read().flow, counted);
            }
            Verdict::Drop => {
                prop_assert_eq!(result, Err(outcome.reason.into()));
                prop_assert_eq!(shared.read().flow.dropped, counted.dropped);
            }
            // The worker is whom it is punted to; here are the reasons that it agrees with.
            _ => match outcome.reason {
                Reason::TtlExpired => prop_assert_eq!(result, Err(Discard::TtlExpired)),
                Reason::Stun => prop_assert_eq!(result, Err(Discard::Stun)),
                Reason::Dtls => prop_assert_eq!(result, Err(Discard::Dtls)),
                Reason::NewSsrc => prop_assert!(result.is_ok() || ttl <= 1),
                Reason::Rtcp => {}
                other => prop_assert!(false, "{other:?}"),
            },
        }
    }
}
