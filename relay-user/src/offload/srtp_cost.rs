//! What a packet of SRTP costs the kernel, by test runs, next to libsrtp in this process.

use std::{hint::black_box, time::Instant};

use aya::programs::{TestRun as _, TestRunOptions};
use etherparse::PacketBuilder;
use rand::Rng as _;
use relay_abi::{
    U16, U32,
    flow::{Address, Endpoint, FlowEntry, FlowKey},
    next_hop::NextHop,
    srtp::stream::RowReference,
};

use super::{Datapath as _, Offload, OffloadConfig, XdpMode};
use crate::{
    media::{SrtpKey, SrtpSuite},
    srtp::{Inbound, Outbound, StreamKey, TRAILER},
};

/// Nanoseconds for one packet of 160 octets of payload with AES_CM_128_HMAC_SHA1_80 over IPv4, from
/// packet to packet the median. The kernel's are of everything that its programs do with it, from
/// finding the flow to the statistics; libsrtp's are of the packet alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrtpCost {
    /// RTP to SRTP.
    pub protect: u64,
    /// SRTP to RTP.
    pub unprotect: u64,
    /// SRTP to SRTP.
    pub both: u64,
    pub libsrtp_protect: u64,
    pub libsrtp_unprotect: u64,
}

const ROUNDS: u16 = 8;
const PACKETS: u16 = 1000;
const PAYLOAD: usize = 160;
const PLAIN: usize = 12 + PAYLOAD;
const LOCAL: ([u8; 4], u16) = ([192, 0, 2, 1], 20_000);
const PEER: ([u8; 4], u16) = ([192, 0, 2, 2], 30_000);
const XDP_TX: u32 = 3;
/// The loopback device, by which test runs come in.
const INGRESS: u32 = 1;

/// Measures: the kernel and libsrtp by turns, so that a machine that is disturbed disturbs both.
///
/// # Errors
/// What the kernel refused, or what of a packet was not as expected.
pub fn srtp_cost() -> Result<SrtpCost, String> {
    let mut offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Native,
        forced: true,
        interfaces: Vec::new(),
        flows: 1,
        next_hops: 1,
        srtp_streams: 2,
        media_ports: LOCAL.1..=LOCAL.1 + 1,
        workers: 0,
    });
    let mut datapath = offload
        .take_datapath()
        .ok_or_else(|| offload.steps().join("; "))?;
    datapath.srtp()?;
    let program = offload
        .relay_program()
        .ok_or("the program relay is not loaded")?;
    let master: [u8; 30] = rand::rng().random();
    let key = SrtpKey {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        master: master.to_vec().into(),
        mki: None,
    };
    let prepared = StreamKey::new(&key).ok_or("no such key")?;
    let rows = [0, 1].map(|row| RowReference::new(row, 1).unwrap_or_default());
    let told = |error: super::DatapathError| error.to_string();
    let next_hop = NextHop {
        interface: U32::new(INGRESS),
        mtu: U16::new(1500),
        resolved: 1,
        ..NextHop::default()
    };
    datapath.set_next_hop(0, &next_hop).map_err(told)?;

    let ways = [
        FlowEntry::PROTECT,
        FlowEntry::UNPROTECT,
        FlowEntry::PROTECT | FlowEntry::UNPROTECT,
    ];
    let mut kernel = ways.map(|_| Vec::new());
    let mut libsrtp = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (times, way) in kernel.iter_mut().zip(ways) {
            for row in rows {
                datapath.write_key(row, &prepared).map_err(told)?;
            }
            let [unprotect, protect] = rows;
            let entry = FlowEntry {
                flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN | way),
                unprotect,
                protect,
                ..entry()
            };
            datapath.install(&flow_key(), &entry).map_err(told)?;
            let mut peer = Outbound::new(&key).map_err(|error| error.to_string())?;
            for sequence in 1..=PACKETS {
                let mut packet = rtp(sequence);
                let mut length = PLAIN;
                if way & FlowEntry::UNPROTECT != 0 {
                    length = peer
                        .protect(&mut packet, PLAIN)
                        .map_err(|error| error.to_string())?;
                }
                let input = frame(packet.get(..length).unwrap_or_default())?;
                let mut output = [0; 512];
                let result = program
                    .test_run(TestRunOptions {
                        data_in: Some(&input),
                        data_out: Some(&mut output),
                        ..TestRunOptions::default()
                    })
                    .map_err(|error| error.to_string())?;
                if result.return_value != XDP_TX {
                    return Err(format!("a packet was not relayed: {}", result.return_value));
                }
                times.push(u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        let [protect, unprotect] = theirs(&key)?;
        libsrtp[0].push(protect);
        libsrtp[1].push(unprotect);
    }
    let [protect, unprotect, both] = kernel.map(median);
    let [libsrtp_protect, libsrtp_unprotect] = libsrtp.map(median);
    Ok(SrtpCost {
        protect,
        unprotect,
        both,
        libsrtp_protect,
        libsrtp_unprotect,
    })
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What libsrtp takes for a packet: protecting, then unprotecting.
fn theirs(key: &SrtpKey) -> Result<[u64; 2], String> {
    let mut out = Outbound::new(key).map_err(|error| error.to_string())?;
    let mut back = Inbound::new(key).map_err(|error| error.to_string())?;
    let mut packets: Vec<_> = (1..=PACKETS).map(rtp).collect();
    let mut length = 0;
    let begin = Instant::now();
    for packet in &mut packets {
        length = black_box(out.protect(packet, PLAIN)).map_err(|error| error.to_string())?;
    }
    let protect = begin.elapsed();
    let begin = Instant::now();
    for packet in &mut packets {
        let packet = packet.get_mut(..length).unwrap_or_default();
        black_box(back.unprotect(packet)).map_err(|error| error.to_string())?;
    }
    let unprotect = begin.elapsed();
    Ok([protect, unprotect]
        .map(|time| u64::try_from(time.as_nanos() / u128::from(PACKETS)).unwrap_or(u64::MAX)))
}

fn rtp(sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut packet = vec![0x80, 0, high, low, 0, 0, 0, 1, 0, 0, 0, 7];
    packet.resize(PLAIN, 0x55);
    packet.resize(PLAIN + TRAILER, 0);
    packet
}

fn frame(payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut frame = Vec::with_capacity(64 + payload.len());
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(PEER.0, LOCAL.0, 64)
        .udp(PEER.1, LOCAL.1)
        .write(&mut frame, payload)
        .map_err(|error| error.to_string())?;
    Ok(frame)
}

fn endpoint((address, port): ([u8; 4], u16)) -> Endpoint {
    Endpoint {
        address: Address::v4(address),
        port: U16::new(port),
    }
}

fn flow_key() -> FlowKey {
    FlowKey {
        local: endpoint(LOCAL),
        zero: U16::ZERO,
    }
}

fn entry() -> FlowEntry {
    FlowEntry {
        peer: endpoint(PEER),
        from: endpoint(LOCAL),
        to: endpoint(PEER),
        ssrc_in: U32::new(7),
        ssrc_out: U32::new(8),
        generation: U32::new(1),
        clock_rate: U32::new(8000),
        // Payload type 0, as it is.
        payload_type_count: 1,
        ..FlowEntry::default()
    }
}
