//! The relay itself: what becomes of a frame, and the rewriting. The XDP program runs
//! [`relay`] as it stands; the slow path's workers use its parts on what was punted to them.
//!
//! Nothing of a frame is written before everything is decided, so a frame that is punted or
//! passed goes up the stack as it came.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut};

use crate::{
    U16, U32,
    checksum::Change,
    common,
    datagram::{Datagram, datagram},
    demultiplex::{Protocol, by_octets},
    event::FirstDrop,
    flow::{Address, Endpoint, FlowEntry, FlowKey},
    frame::Frame,
    headers::{self, Ipv4, Ipv6, Udp},
    link::{resize_link, write_link},
    reception::{self, Arrival},
    row::NextHopWords,
    rtp::{self, RtpHeader},
    tables::{Scratch, Tables},
    verdict::{Reason, Verdict},
};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub reason: Reason,
    /// The kernel's index of the device to leave by, and its slot in the device map. Zeros unless
    /// the verdict is [`Verdict::Forward`].
    pub interface: u32,
    pub device: u32,
}

/// By what a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The kernel's index of the device.
    pub interface: u32,
    /// Its slot in the device map.
    pub device: u32,
}

impl From<Relayed> for Outcome {
    #[inline(always)]
    fn from(relayed: Relayed) -> Self {
        Self {
            reason: Reason::Relayed,
            interface: relayed.interface,
            device: relayed.device,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ipv4Rtp {
    ip: Ipv4,
    udp: Udp,
    rtp: RtpHeader,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ipv6Rtp {
    ip: Ipv6,
    udp: Udp,
    rtp: RtpHeader,
}

/// Decides about one Ethernet frame, and rewrites it if the verdict is [`Verdict::Forward`].
#[inline(always)]
pub fn relay<F: Frame, T: Tables>(frame: &mut F, tables: &mut T, scratch: &mut Scratch) -> Outcome {
    match common::relay(frame, tables).or_else(|| common::relay_v6(frame, tables)) {
        Some(relayed) => relayed.into(),
        None => relay_any(frame, tables, scratch),
    }
}

/// [`relay`], by the long way.
#[inline(always)]
pub fn relay_any<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &mut T,
    scratch: &mut Scratch,
) -> Outcome {
    match decide(frame, tables, scratch) {
        Ok(relayed) => relayed.into(),
        Err(reason) => Outcome {
            reason,
            interface: 0,
            device: 0,
        },
    }
}

#[inline(always)]
fn decide<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &mut T,
    scratch: &mut Scratch,
) -> Result<Relayed, Reason> {
    let datagram = datagram(frame, tables, scratch)?;
    let protocol = match datagram.payload_length {
        0 => Protocol::Other,
        1 => {
            let [first] = *frame.view(datagram.payload).ok_or(Reason::NotUdp)?;
            by_octets(first, 0)
        }
        _ => {
            let [first, second] = *frame.view(datagram.payload).ok_or(Reason::NotUdp)?;
            by_octets(first, second)
        }
    };
    match protocol {
        Protocol::Rtcp => return Err(Reason::Rtcp),
        Protocol::Stun => return Err(Reason::Stun),
        Protocol::Dtls => return Err(Reason::Dtls),
        Protocol::Rtp | Protocol::Other => {}
    }
    let Scratch {
        entry,
        next_hop,
        key,
        source,
        event,
        datagram: found,
        ..
    } = scratch;
    let entry = tables.flow(key, entry)?;
    let result = relay_flow(frame, tables, &datagram, entry, source, next_hop, protocol);
    if let Err(reason) = result {
        if reason == Reason::NoSrtp {
            *found = (&datagram).into();
        }
        tell_drop(tables, entry, reason, key, source, event);
    }
    result
}

/// Counts a flow's packet if it was dropped, and tells of the first one.
#[inline(always)]
pub(crate) fn tell_drop<T: Tables>(
    tables: &mut T,
    entry: &FlowEntry,
    reason: Reason,
    key: &FlowKey,
    source: &Endpoint,
    event: &mut FirstDrop,
) {
    if matches!(reason.verdict(), Verdict::Drop) && count_drop(tables, entry) {
        event.key = *key;
        event.source = *source;
        event.reason = U16::new(reason as u16);
        tables.tell(event);
    }
}

/// The part for a known flow: every check, then the rewriting.
#[inline(always)]
fn relay_flow<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &mut T,
    datagram: &Datagram,
    entry: &FlowEntry,
    source: &Endpoint,
    next_hop: &mut NextHopWords,
    protocol: Protocol,
) -> Result<Relayed, Reason> {
    if entry.has(FlowEntry::USERSPACE) {
        return Err(Reason::Userspace);
    }
    check_source(entry, source)?;
    if entry.is_secured() {
        return Err(Reason::NoSrtp);
    }
    if protocol != Protocol::Rtp || datagram.payload_length < rtp::HEADER {
        return Err(Reason::BadRtp);
    }
    let header = *frame
        .view::<RtpHeader>(datagram.payload)
        .ok_or(Reason::BadRtp)?;
    let octet = |offset| frame.octet(datagram.payload + offset);
    if !rtp::lengths_fit(header.first, datagram.payload_length, true, octet) {
        return Err(Reason::BadRtp);
    }
    let payload_type = check_stream(entry, &header)?;
    if datagram.hop_limit <= 1 {
        return Err(Reason::TtlExpired);
    }
    let next_hop = tables.next_hop(entry.next_hop.get(), next_hop)?;
    if next_hop.resolved == 0 {
        return Err(Reason::UnresolvedNextHop);
    }
    if datagram.length > next_hop.mtu.get() as usize {
        return Err(Reason::TooLarge);
    }
    let relayed = Relayed {
        interface: next_hop.interface.get(),
        device: next_hop.device.get(),
    };
    if !tables.can_send(relayed.interface, relayed.device) {
        return Err(Reason::UnresolvedNextHop);
    }

    let network = resize_link(frame, datagram.network, next_hop)?;
    let left = if datagram.ipv6 {
        write_v6(frame, network, entry, payload_type)
    } else {
        write_v4(frame, network, entry, payload_type)
    };
    // The views cannot be out of bounds, which the reads before them have shown; the verifier and
    // the compiler cannot know it.
    let left = left.ok_or(Reason::NoRoom)?;
    write_link(frame, datagram.ipv6, next_hop).ok_or(Reason::NoRoom)?;

    let now = tables.now();
    if let Some(mut counters) = tables.counters(entry.counters.get()) {
        counters.relayed(
            now,
            datagram.payload_length as u64,
            &Arrival {
                generation: entry.generation.get(),
                ticks: reception::ticks(now, entry.clock_rate.get()),
                sequence: header.sequence.get(),
                timestamp: header.timestamp.get(),
                sequence_out: left.sequence.get(),
                timestamp_out: left.timestamp.get(),
            },
        );
    }
    Ok(relayed)
}

/// Counts a flow's dropped packet. Whether it was the first one here.
#[inline(always)]
fn count_drop<T: Tables>(tables: &mut T, entry: &FlowEntry) -> bool {
    let Some(mut counters) = tables.counters(entry.counters.get()) else {
        return false;
    };
    counters.dropped = counters.dropped.wrapping_add(1);
    counters.dropped == 1
}

/// Whether a packet's source is the pinned peer. Without a pinned peer any source passes here, and
/// [`check_stream`] says so.
///
/// # Errors
/// [`Reason::ForeignSource`].
#[inline(always)]
pub fn check_source(entry: &FlowEntry, source: &Endpoint) -> Result<(), Reason> {
    if entry.has(FlowEntry::PINNED) && entry.peer != *source {
        return Err(Reason::ForeignSource);
    }
    Ok(())
}

/// Whether a packet belongs to the negotiated stream, and the payload type that it leaves with.
/// The header must have been found valid before ([`rtp::parse`]).
///
/// # Errors
/// [`Reason::PayloadType`], [`Reason::NotPinned`], [`Reason::Held`], [`Reason::NewSsrc`], in this
/// order: a packet that was not negotiated pins nobody, and one that pins its source may be held.
#[inline(always)]
pub fn check_stream(entry: &FlowEntry, header: &RtpHeader) -> Result<u8, Reason> {
    let payload_type = entry
        .outgoing_payload_type(header.payload_type())
        .ok_or(Reason::PayloadType)?;
    if !entry.has(FlowEntry::PINNED) {
        return Err(Reason::NotPinned);
    }
    if entry.has(FlowEntry::HELD) {
        return Err(Reason::Held);
    }
    if !entry.has(FlowEntry::SSRC_KNOWN) || header.ssrc != entry.ssrc_in {
        return Err(Reason::NewSsrc);
    }
    Ok(payload_type)
}

/// [`check_source`] and [`check_stream`] of a packet whose header [`rtp::parse`] found valid.
///
/// # Errors
/// Those of both.
#[inline(always)]
pub fn check(entry: &FlowEntry, source: &Endpoint, header: &RtpHeader) -> Result<u8, Reason> {
    check_source(entry, source)?;
    check_stream(entry, header)
}

/// Translates an RTP header for the other leg, with the payload type that [`check`] found. For
/// packets whose UDP checksum is made from scratch afterwards.
pub fn rewrite(entry: &FlowEntry, payload_type: u8, header: &mut RtpHeader) {
    header.translate(entry, payload_type, &mut Change::default());
}

/// What of the RTP header left, for the statistics.
struct Left {
    sequence: U16,
    timestamp: U32,
}

#[inline(always)]
fn write_v4<F: Frame>(
    frame: &mut F,
    network: usize,
    entry: &FlowEntry,
    payload_type: u8,
) -> Option<Left> {
    let Ipv4Rtp { ip, udp, rtp } = frame.view_mut(network)?;
    let source = entry.from.address.tail();
    let destination = entry.to.address.tail();

    let mut change = Change::default();
    change.word(ip.source, source);
    change.word(ip.destination, destination);
    ip.source = source;
    ip.destination = destination;

    write_hop_v4(ip, entry, change);
    Some(write_udp(udp, rtp, entry, payload_type, change))
}

#[inline(always)]
fn write_v6<F: Frame>(
    frame: &mut F,
    network: usize,
    entry: &FlowEntry,
    payload_type: u8,
) -> Option<Left> {
    let Ipv6Rtp { ip, udp, rtp } = frame.view_mut(network)?;
    let mut change = Change::default();
    let source: &mut Address = transmute_mut!(&mut ip.source);
    let destination: &mut Address = transmute_mut!(&mut ip.destination);
    change.address(source, &entry.from.address);
    change.address(destination, &entry.to.address);
    source.set(&entry.from.address);
    destination.set(&entry.to.address);
    write_hop_v6(ip, entry);
    Some(write_udp(udp, rtp, entry, payload_type, change))
}

/// Writes what every hop writes of a header, and its checksum: `change` is of what else was written.
#[inline(always)]
pub(crate) fn write_hop_v4(ip: &mut Ipv4, entry: &FlowEntry, mut change: Change) {
    let service = service(entry, ip.service);
    change.half([0x45, ip.service], [0x45, service]);
    ip.service = service;
    // Never fragmented, so the identification says nothing (RFC 6864, section 4.1).
    let fragment = U16::new(headers::DO_NOT_FRAGMENT);
    change.half(ip.identification.to_bytes(), [0, 0]);
    change.half(ip.fragment.to_bytes(), fragment.to_bytes());
    ip.identification = U16::ZERO;
    ip.fragment = fragment;
    let ttl = ip.ttl.wrapping_sub(1);
    change.half([ip.ttl, ip.protocol], [ttl, ip.protocol]);
    ip.ttl = ttl;
    ip.checksum = change.apply(ip.checksum);
}

/// Writes what every hop writes of a header.
#[inline(always)]
pub(crate) fn write_hop_v6(ip: &mut Ipv6, entry: &FlowEntry) {
    ip.hop_limit = ip.hop_limit.wrapping_sub(1);
    let service = service(entry, (ip.version_class_label.get() >> 20) as u8);
    // The flow label was the source's: a relayed packet belongs to another flow (RFC 6437, section
    // 3), which leaves unlabelled.
    ip.version_class_label = U32::new((6 << 28) | ((service as u32) << 20));
}

/// The octet of code point and congestion notification, as it leaves.
#[inline(always)]
fn service(entry: &FlowEntry, service: u8) -> u8 {
    if entry.has(FlowEntry::SET_DSCP) {
        (entry.dscp << 2) | (service & 0b11)
    } else {
        service
    }
}

#[inline(always)]
fn write_udp(
    udp: &mut Udp,
    rtp: &mut RtpHeader,
    entry: &FlowEntry,
    payload_type: u8,
    mut change: Change,
) -> Left {
    change.half(udp.source.to_bytes(), entry.from.port.to_bytes());
    change.half(udp.destination.to_bytes(), entry.to.port.to_bytes());
    udp.source = entry.from.port;
    udp.destination = entry.to.port;
    rtp.translate(entry, payload_type, &mut change);
    udp.checksum = change.apply_udp(udp.checksum);
    Left {
        sequence: rtp.sequence,
        timestamp: rtp.timestamp,
    }
}
