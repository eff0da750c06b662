//! What a packet of SRTP costs the kernel, by test runs, next to libsrtp in this process.

mod streams;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aya::programs::Xdp;
use etherparse::PacketBuilder;
use rand::Rng as _;
use relay_abi::{
    U16, U32,
    flow::{Address, Endpoint, FlowEntry, FlowKey},
    next_hop::NextHop,
    srtp::stream::RowReference,
};

use super::{Failure, Measure, place::on_one_cpu};
use crate::{
    media::{SrtpKey, SrtpSuite},
    offload::{Datapath as _, Offload, OffloadConfig, XdpDatapath, XdpMode, run_again},
    srtp::{Inbound, Outbound, StreamKey, TRAILER},
};

/// Nanoseconds for one packet of 160 octets of payload with AES_CM_128_HMAC_SHA1_80 over IPv4,
/// packet after packet, the median of runs. The kernel's are of everything that its programs do with
/// it, from finding the flow to the statistics; libsrtp's are of the packet alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrtpCost {
    /// Of one stream.
    pub one: StreamCost,
    /// Of one stream, SRTP to SRTP.
    pub both: u64,
    /// Of [`SrtpCost::STREAMS`] streams by turns, each with a row and a context of its own: what
    /// they need is not at hand any more when their next packet comes.
    pub many: StreamCost,
}

/// The part of [`SrtpCost`] that is measured beside libsrtp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCost {
    /// RTP to SRTP.
    pub protect: u64,
    /// SRTP to RTP.
    pub unprotect: u64,
    pub libsrtp_protect: u64,
    pub libsrtp_unprotect: u64,
}

impl StreamCost {
    fn of([protect, unprotect]: [Vec<Duration>; 2], libsrtp: [Vec<Duration>; 2]) -> Self {
        let [libsrtp_protect, libsrtp_unprotect] = libsrtp.map(median);
        Self {
            protect: median(protect),
            unprotect: median(unprotect),
            libsrtp_protect,
            libsrtp_unprotect,
        }
    }
}

impl SrtpCost {
    /// How many the many are, in each direction.
    pub const STREAMS: u16 = 1_000;
}

const ROUNDS: u16 = 32;
/// Packets one after the other.
const PACKETS: u16 = 500;
const PAYLOAD: usize = 160;
const PLAIN: usize = 12 + PAYLOAD;
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const LOCAL: ([u8; 4], u16) = ([192, 0, 2, 1], 20_000);
const PEER: ([u8; 4], u16) = ([192, 0, 2, 2], 30_000);
const XDP_DROP: u32 = 1;
const XDP_TX: u32 = 3;
const COUNTERS: u32 = 0;
/// The loopback device, by which test runs come in.
const INGRESS: u32 = 1;

const WAYS: [u16; 3] = [
    FlowEntry::PROTECT,
    FlowEntry::UNPROTECT,
    FlowEntry::PROTECT | FlowEntry::UNPROTECT,
];

/// Measures: the kernel and libsrtp by turns, so that a machine that is disturbed disturbs both.
///
/// # Errors
/// What the kernel refused, or what of a packet was not as expected.
pub fn srtp_cost() -> Result<SrtpCost, Failure> {
    on_one_cpu(|| {
        let many = streams::cost()?;
        let (one, both) = one_stream()?;
        Ok(SrtpCost { one, both, many })
    })?
}

/// The programs, and the only next hop.
fn programs(flows: u32, srtp_streams: u32) -> Result<(Offload, XdpDatapath), Failure> {
    let mut offload = Offload::load(&OffloadConfig {
        mode: XdpMode::Native,
        forced: true,
        interfaces: Vec::new(),
        flows,
        next_hops: 1,
        srtp_streams,
        media_ports: LOCAL.1..=u16::MAX,
        workers: 0,
    });
    let mut datapath = offload
        .take_datapath()
        .ok_or_else(|| offload.steps().join("; "))?;
    datapath.srtp()?;
    let next_hop = NextHop {
        interface: U32::new(INGRESS),
        mtu: U16::new(1500),
        resolved: 1,
        ..NextHop::default()
    };
    datapath.set_next_hop(0, &next_hop)?;
    Ok((offload, datapath))
}

fn relay_program(offload: &Offload) -> Result<&Xdp, Failure> {
    let program = offload.relay_program();
    program.ok_or_else(|| "the program relay is not loaded".into())
}

fn random_key() -> SrtpKey {
    let master: [u8; 30] = rand::rng().random();
    SrtpKey {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        master: master.to_vec().into(),
        mki: None,
    }
}

/// One stream's packets; with them those from SRTP to SRTP.
fn one_stream() -> Result<(StreamCost, u64), Failure> {
    let (offload, mut datapath) = programs(1, 2)?;
    let program = relay_program(&offload)?;
    let key = random_key();
    let prepared = StreamKey::new(&key).ok_or("no such key")?;

    let mut measure = Measure::load()?;
    let mut ways = Vec::new();
    for way in WAYS {
        ways.push((way, frames(&key, way)?));
    }
    let mut times = WAYS.map(|_| Vec::new());
    let mut libsrtp = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (times, (way, frames)) in times.iter_mut().zip(&ways) {
            measure.set_prepared(frames)?;
            datapath.install(&flow_key(LOCAL), &entry(LOCAL, *way, COUNTERS, rows(0)))?;
            let without = run_again(|| measure.feed(None, PACKETS, XDP_DROP))?;
            let with = run_again(|| {
                for row in rows(0) {
                    datapath.write_key(row, &prepared)?;
                }
                datapath.clear_counters(COUNTERS)?;
                Ok::<_, Failure>(measure.feed(Some(program), PACKETS, XDP_TX)?)
            })?;
            let (with, without) = with.zip(without).ok_or("signals broke off every run")?;
            let relayed = datapath.read(COUNTERS)?.packets;
            if relayed != u64::from(PACKETS) {
                return Err(format!("of {PACKETS} packets {relayed} were relayed").into());
            }
            times.push(with.saturating_sub(without));
        }
        let mut contexts = [(Outbound::new(&key)?, Inbound::new(&key)?)];
        let [protect, unprotect] = theirs(&mut contexts, (1..=PACKETS).map(rtp).collect())?;
        libsrtp[0].push(protect);
        libsrtp[1].push(unprotect);
    }
    let [protect, unprotect, both] = times;
    Ok((StreamCost::of([protect, unprotect], libsrtp), median(both)))
}

fn median(mut times: Vec<Duration>) -> u64 {
    times.sort_unstable();
    let time = times.get(times.len() / 2).copied().unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What libsrtp takes for a packet: protecting, then unprotecting. The contexts take turns.
fn theirs(
    contexts: &mut [(Outbound, Inbound)],
    mut packets: Vec<Vec<u8>>,
) -> Result<[Duration; 2], Failure> {
    let count = u32::try_from(packets.len())?;
    let turn = contexts.len().max(1);
    let mut length = 0;
    let begin = Instant::now();
    for packets in packets.chunks_mut(turn) {
        for ((out, _), packet) in contexts.iter_mut().zip(packets) {
            length = black_box(out.protect(packet, PLAIN))?;
        }
    }
    let protect = begin.elapsed();
    let begin = Instant::now();
    for packets in packets.chunks_mut(turn) {
        for ((_, back), packet) in contexts.iter_mut().zip(packets) {
            let packet = packet.get_mut(..length).unwrap_or_default();
            black_box(back.unprotect(packet))?;
        }
    }
    let unprotect = begin.elapsed();
    Ok([protect, unprotect].map(|time| time / count))
}

fn rtp(sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut packet = vec![0x80, 0, high, low, 0, 0, 0, 1, 0, 0, 0, 7];
    packet.resize(PLAIN, 0x55);
    packet.resize(PLAIN + TRAILER, 0);
    packet
}

/// What comes in for one way, as whole frames.
fn frames(key: &SrtpKey, way: u16) -> Result<Vec<Vec<u8>>, Failure> {
    let mut peer = Outbound::new(key)?;
    (1..=PACKETS)
        .map(|sequence| frame(&mut peer, way, LOCAL, sequence))
        .collect()
}

/// A packet as it comes to `local` for one way; what the peer protects has this sequence number.
fn frame(
    peer: &mut Outbound,
    way: u16,
    local: ([u8; 4], u16),
    sequence: u16,
) -> Result<Vec<u8>, Failure> {
    let mut packet = rtp(sequence);
    let length = match way & FlowEntry::UNPROTECT {
        0 => PLAIN,
        _ => peer.protect(&mut packet, PLAIN)?,
    };
    let mut frame = Vec::with_capacity(64 + length);
    PacketBuilder::ethernet2(MACS[0], MACS[1])
        .ipv4(PEER.0, local.0, 64)
        .udp(PEER.1, local.1)
        .write(&mut frame, packet.get(..length).unwrap_or_default())?;
    Ok(frame)
}

fn endpoint((address, port): ([u8; 4], u16)) -> Endpoint {
    Endpoint {
        address: Address::v4(address),
        port: U16::new(port),
    }
}

fn flow_key(local: ([u8; 4], u16)) -> FlowKey {
    FlowKey {
        local: endpoint(local),
        zero: U16::ZERO,
    }
}

/// A flow's two, by which its packets are unprotected and protected.
fn rows(flow: u32) -> [RowReference; 2] {
    [2 * flow, 2 * flow + 1].map(|row| RowReference::new(row, 1).unwrap_or_default())
}

fn entry(
    local: ([u8; 4], u16),
    way: u16,
    counters: u32,
    [unprotect, protect]: [RowReference; 2],
) -> FlowEntry {
    FlowEntry {
        peer: endpoint(PEER),
        from: endpoint(local),
        to: endpoint(PEER),
        flags: U16::new(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN | way),
        ssrc_in: U32::new(7),
        ssrc_out: U32::new(8),
        generation: U32::new(1),
        clock_rate: U32::new(8000),
        counters: U32::new(counters),
        unprotect,
        protect,
        // Payload type 0, as it is.
        payload_type_count: 1,
        ..FlowEntry::default()
    }
}

#[cfg(test)]
mod rooted {
    use super::*;

    /// What a packet costs is measured by packets that the kernel relays, every one of them: that
    /// is held here. How long it takes differs from machine to machine, so it is told and not
    /// asserted.
    #[test]
    fn what_a_packet_costs_can_be_measured() {
        let cost = srtp_cost().expect("every packet is relayed");
        println!("{cost:?}");
    }
}
