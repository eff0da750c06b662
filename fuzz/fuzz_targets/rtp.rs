//! Frames through the relay's decisions, as the XDP program makes them. The first octet says
//! whether the rest is a whole frame or the payload of a datagram to a flow's port. A frame that is
//! not forwarded stays as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_abi::{
    flow::{Address, Endpoint, FlowEntry, FlowKey, PayloadTypePair},
    frame::BufferFrame,
    next_hop::NextHop,
    verdict::{Reason, Verdict},
};
use relay_user::offload::{Datapath as _, MemoryDatapath, OffloadConfig, XdpMode};

const INTERFACE: u32 = 3;
const LOCAL: [u8; 4] = [198, 51, 100, 1];
const PEER: [u8; 4] = [198, 51, 100, 2];
/// Room for two tags in front.
const ROOM: usize = 8;

fuzz_target!(|octets: &[u8]| {
    let Some((choice, rest)) = octets.split_first() else {
        return;
    };
    let frame = match choice & 1 {
        0 => rest.to_vec(),
        _ => datagram(rest),
    };
    let mut tables = tables(choice >> 1);
    let mut buffer = vec![0; ROOM];
    buffer.extend_from_slice(&frame);
    let mut relayed = BufferFrame::new(&mut buffer, ROOM);
    let outcome = tables.relay(&mut relayed, INTERFACE, 1_000_000_000);
    if matches!(outcome.reason.verdict(), Verdict::Forward) {
        assert_eq!(outcome.reason, Reason::Relayed);
    } else {
        assert_eq!(relayed.octets(), frame, "{:?}", outcome.reason);
    }
});

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
        srtp_streams: 0,
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
    let entry = FlowEntry {
        peer: endpoint(PEER, 4000),
        from: endpoint([192, 0, 2, 1], 20002),
        to: endpoint([192, 0, 2, 2], 5000),
        flags: flags.into(),
        ssrc_in: 0x0102_0304.into(),
        payload_type_count: 1,
        payload_types: [PayloadTypePair::default(); 8],
        ..FlowEntry::default()
    };
    let key = FlowKey {
        local: endpoint(LOCAL, 20000),
        ..FlowKey::default()
    };
    tables.install(&key, &entry).expect("room for a flow");
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
