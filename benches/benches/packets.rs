//! What is done to each packet: reading it, rewriting it, its checksum, and the whole of the
//! program on a frame in memory.

use std::{hint::black_box, net::SocketAddr};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use relay_abi::{
    U16, U32,
    checksum::Change,
    flow::{FlowEntry, PayloadTypePair},
    frame::BufferFrame,
    next_hop::NextHop,
    relay, rtp,
    verdict::Reason,
};
use relay_user::{
    offload::{Datapath as _, MemoryDatapath, OffloadConfig, XdpMode},
    slow::{endpoint, flow_key},
};

const SSRC: u32 = 7;
/// Octets in front of the frame, as an XDP program has them.
const ROOM: usize = 256;

fn packet() -> Vec<u8> {
    let mut packet = vec![0x80, 8, 0, 1, 0, 0, 0, 160];
    packet.extend(SSRC.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

fn addresses() -> [SocketAddr; 4] {
    [
        SocketAddr::from(([198, 51, 100, 2], 30_000)),
        SocketAddr::from(([198, 51, 100, 1], 20_000)),
        SocketAddr::from(([203, 0, 113, 1], 20_000)),
        SocketAddr::from(([203, 0, 113, 2], 40_000)),
    ]
}

fn entry() -> FlowEntry {
    let [peer, _, from, to] = addresses().map(endpoint);
    let mut payload_types = [PayloadTypePair::default(); 8];
    payload_types[0] = PayloadTypePair {
        incoming: 8,
        outgoing: 0,
    };
    FlowEntry {
        peer,
        from,
        to,
        flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN),
        ssrc_in: U32::new(SSRC),
        ssrc_out: U32::new(9),
        timestamp_offset: U32::new(1_000),
        sequence_offset: U16::new(100),
        generation: U32::new(1),
        clock_rate: U32::new(8_000),
        payload_type_count: 1,
        payload_types,
        ..FlowEntry::default()
    }
}

fn datapath() -> MemoryDatapath {
    let mut datapath = MemoryDatapath::new(&OffloadConfig {
        mode: XdpMode::Native,
        forced: false,
        interfaces: Vec::new(),
        flows: 16,
        next_hops: 4,
        srtp_streams: 0,
        media_ports: 20_000..=29_999,
        workers: 1,
    });
    let next_hop = NextHop {
        interface: U32::new(2),
        mtu: U16::new(1500),
        resolved: 1,
        ..NextHop::default()
    };
    datapath.set_device(0, 2).expect("a device");
    datapath.set_next_hop(0, &next_hop).expect("a next hop");
    let [_, local, ..] = addresses();
    datapath
        .install(&flow_key(local), &entry())
        .expect("a flow");
    datapath
}

fn frame() -> Vec<u8> {
    let mut frame = vec![0; ROOM];
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([198, 51, 100, 2], [198, 51, 100, 1], 64)
        .udp(30_000, 20_000)
        .write(&mut frame, &packet())
        .expect("a frame");
    frame
}

fn packets(criterion: &mut Criterion) {
    let packet = packet();
    criterion.bench_function("RTP parse", |bencher| {
        bencher.iter(|| rtp::parse(black_box(&packet)).expect("RTP").payload_type());
    });

    let [peer, ..] = addresses().map(endpoint);
    let (entry, header) = (entry(), *rtp::parse(&packet).expect("RTP"));
    criterion.bench_function("RTP check and rewrite", |bencher| {
        bencher.iter(|| {
            let mut header = black_box(header);
            let payload_type = relay::check(&entry, &peer, &header).expect("its stream");
            relay::rewrite(&entry, payload_type, &mut header);
            header
        });
    });

    criterion.bench_function(
        "checksum by increment, IPv4 addresses and ports",
        |bencher| {
            bencher.iter(|| {
                let mut change = Change::default();
                change.word(black_box([198, 51, 100, 2]), [203, 0, 113, 1]);
                change.word(black_box([198, 51, 100, 1]), [203, 0, 113, 2]);
                change.half(black_box([0x75, 0x30]), [0x4e, 0x20]);
                change.half(black_box([0x4e, 0x20]), [0x9c, 0x40]);
                change.apply_udp(U16::new(0x1234))
            });
        },
    );

    let (mut datapath, frame) = (datapath(), frame());
    let mut relayed = frame.clone();
    let outcome = datapath.relay(&mut BufferFrame::new(&mut relayed, ROOM), 1, 1_000_000_000);
    // A frame that ends early costs less.
    assert_eq!(outcome.reason, Reason::Relayed);
    criterion.bench_function("relay a whole frame in memory", |bencher| {
        bencher.iter_batched_ref(
            || frame.clone(),
            |frame| datapath.relay(&mut BufferFrame::new(frame, ROOM), 1, 1_000_000_000),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, packets);
criterion_main!(benches);
