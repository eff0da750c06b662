//! Frames through the relay's decisions, as the XDP programs make them. The first octet says
//! whether the rest is a whole frame or the payload of a datagram to a flow's port, and which side
//! of the flow is SRTP. A frame that somebody else is to have stays as it was, of SRTP none is
//! forwarded that was not protected with the flow's key, and both ways of RTP decide alike.

#![no_main]

use std::{net::Ipv6Addr, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use relay_abi::{
    flow::{Address, Endpoint, FlowEntry, FlowKey, PayloadTypePair},
    frame::BufferFrame,
    next_hop::NextHop,
    relay::{Outcome, relay_any},
    srtp::{
        index::IndexState,
        key::{PreparedKey, Tag},
        packet::{LONGEST, Work},
        stream::RowReference,
    },
    tables::Scratch,
    verdict::{Reason, Verdict},
};
use relay_user::offload::{Datapath as _, MemoryDatapath, OffloadConfig, XdpMode};

const INTERFACE: u32 = 3;
const LOCAL: [u8; 4] = [198, 51, 100, 1];
const PEER: [u8; 4] = [198, 51, 100, 2];
/// Room for two tags in front.
const ROOM: usize = 8;
/// Room for an SRTP trailer behind.
const TRAILER: usize = 16;

const NOW: u64 = 1_000_000_000;

static KEY: LazyLock<PreparedKey> = LazyLock::new(|| {
    PreparedKey::new(&[1; 16], &[2; 14], Tag::Long, &[]).expect("no identifier is short")
});

fuzz_target!(|octets: &[u8]| {
    let Some((choice, rest)) = octets.split_first() else {
        return;
    };
    let is_protected = choice & 0x41 == 0x41 && rest.len() <= LONGEST;
    let frame = match choice & 1 {
        0 => rest.to_vec(),
        _ if is_protected => datagram(&protected(rest)),
        _ => datagram(rest),
    };
    let mut tables = tables(choice >> 1);
    let mut buffer = vec![0; ROOM];
    buffer.extend_from_slice(&frame);
    let end = buffer.len();
    buffer.resize(end + TRAILER, 0);
    let mut relayed = BufferFrame::between(&mut buffer, ROOM, end);
    let outcome = tables.relay(&mut relayed, INTERFACE, NOW);
    if choice & 0x30 == 0 {
        same_by_the_long_way(choice >> 1, &frame, outcome, relayed.octets());
    }
    match outcome.reason.verdict() {
        Verdict::Forward => {
            assert_eq!(outcome.reason, Reason::Relayed);
            assert!(is_protected || choice & 0x10 == 0, "nobody protected it");
        }
        // Nobody sees it any more, and SRTP has its room made before it is looked at.
        Verdict::Drop if choice & 0x30 != 0 => {}
        _ => assert_eq!(relayed.octets(), frame, "{:?}", outcome.reason),
    }
});

/// What becomes of a frame by the common packet's way becomes of it by the long one.
fn same_by_the_long_way(choice: u8, frame: &[u8], outcome: Outcome, relayed: &[u8]) {
    let mut tables = tables(choice);
    // It learns where what follows comes from, and when.
    tables.relay(&mut BufferFrame::new(&mut [], 0), INTERFACE, NOW);
    let mut buffer = vec![0; ROOM];
    buffer.extend_from_slice(frame);
    let mut long = BufferFrame::new(&mut buffer, ROOM);
    let by_long = relay_any(&mut long, &mut tables, &mut Scratch::default());
    assert_eq!(by_long, outcome);
    assert_eq!(long.octets(), relayed);
}

/// A packet as the flow's peer protects it; as it is, if it is none.
fn protected(packet: &[u8]) -> Vec<u8> {
    let mut work = Work::default();
    work.packet()[..packet.len()].copy_from_slice(packet);
    let state = IndexState::default();
    let length = work.protect(&KEY, &state, packet.len());
    work.packet()[..length.unwrap_or(packet.len())].to_vec()
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(1400)];
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    let length = payload.len() as u16 + 28;
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&PEER);
    frame.extend_from_slice(&LOCAL);
    for half in [4000, 20000, length - 20, 0] {
        frame.extend_from_slice(&half.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

fn tables(choice: u8) -> MemoryDatapath {
    let mut tables = MemoryDatapath::new(&OffloadConfig {
        mode: XdpMode::Native,
        forced: false,
        interfaces: Vec::new(),
        flows: 2,
        next_hops: 1,
        srtp_streams: 2,
        media_ports: 20000..=20003,
        workers: 0,
    });
    let endpoint = |address, port: u16| Endpoint {
        address: Address::v4(address),
        port: port.into(),
    };
    let mut flags = FlowEntry::PINNED;
    if choice & 1 == 0 {
        flags |= FlowEntry::SSRC_KNOWN;
    }
    let [unprotect, protect] = [0, 1].map(|row| RowReference::new(row, 1).expect("a row"));
    for (bit, flag, row) in [
        (8, FlowEntry::UNPROTECT, unprotect),
        (16, FlowEntry::PROTECT, protect),
    ] {
        if choice & bit != 0 {
            flags |= flag;
            tables.write_key(row, &KEY).expect("room for a key");
        }
    }
    let entry = FlowEntry {
        unprotect,
        protect,
        peer: endpoint(PEER, 4000),
        from: endpoint([192, 0, 2, 1], 20002),
        to: endpoint([192, 0, 2, 2], 5000),
        flags: flags.into(),
        ssrc_in: 0x0102_0304.into(),
        generation: 1.into(),
        clock_rate: 8000.into(),
        payload_type_count: 1,
        payload_types: [PayloadTypePair::default(); 8],
        ..FlowEntry::default()
    };
    let key = FlowKey {
        local: endpoint(LOCAL, 20000),
        ..FlowKey::default()
    };
    tables.install(&key, &entry).expect("room for a flow");
    let [peer, local, from, to] =
        [(0x2001, 0), (0x2001, 1), (0x2002, 1), (0x2002, 2)].map(|(network, host)| {
            let address = Ipv6Addr::new(network, 0, 0, 0, 0, 0, 0, host);
            Address(address.octets())
        });
    let end = |address, port: u16| Endpoint {
        address,
        port: port.into(),
    };
    let entry = FlowEntry {
        peer: end(peer, 4000),
        from: end(from, 20002),
        to: end(to, 5000),
        counters: 1.into(),
        ..entry
    };
    let key = FlowKey {
        local: end(local, 20000),
        ..key
    };
    tables
        .install(&key, &entry)
        .expect("room for a flow of IPv6");
    let next_hop = NextHop {
        resolved: 1,
        tag_count: choice >> 1 & 3,
        mtu: 1500.into(),
        interface: INTERFACE.into(),
        ..NextHop::default()
    };
    tables.set_next_hop(0, &next_hop).expect("a row");
    tables
}
