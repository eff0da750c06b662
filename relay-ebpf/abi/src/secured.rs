//! The relay of flows with SRTP: what [`crate::relay::relay`] leaves with
//! [`Reason::NoSrtp`] goes on here. The XDP program `relay_srtp` runs [`relay`] as it stands.
//!
//! Whatever can make a packet a worker's is decided before an index of a stream is taken: what was
//! taken cannot be given back, and the packet would then be a replay to the worker. After that a
//! packet leaves, or is dropped and counted.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute, transmute_ref};

use crate::{
    U16,
    checksum::Change,
    datagram::{Datagram, Ipv4Udp, Ipv6Udp},
    demultiplex::{Protocol, by_octets},
    flow::{Address, Endpoint, FlowEntry},
    frame::Frame,
    headers::{self, Ipv4, Ipv6, Udp},
    link::{network, resize_link, write_link},
    next_hop::NextHop,
    reception::{self, Arrival},
    relay::{Outcome, check_stream, tell_drop, write_hop_v4, write_hop_v6},
    rtp::{self, RtpHeader},
    srtp::{
        index::{IndexError, SharedWord},
        key::PreparedKey,
        machine::Machine,
        packet::{CryptError, LONGEST, Work, fold},
        stream::{RowReference, StreamState},
    },
    tables::{Scratch, Tables},
    verdict::Reason,
};

/// A frame whose payload is copied out, worked on and copied back.
pub trait SecuredFrame: Frame {
    /// Copies `length` octets from `offset` on to the beginning of `work`'s packet. False if there
    /// are not so many, or none.
    fn load(&self, offset: usize, length: usize, work: &mut Work) -> bool;

    /// Copies the first `length` octets of `work`'s packet to `offset`. False if there is no place
    /// for them, or none of them.
    fn store(&mut self, offset: usize, length: usize, work: &mut Work) -> bool;

    /// Moves the frame's end: `by` octets are added, or taken away if negative. False leaves the
    /// frame as it was.
    fn grow_tail(&mut self, by: i32) -> bool;
}

/// The tables that SRTP needs besides.
pub trait SecuredTables: Tables {
    type Word: SharedWord;
    type Machine: Machine;

    /// The key in a row, whatever its generation.
    fn key(&self, row: u32) -> Option<&PreparedKey>;

    /// A row's state.
    fn stream(&self, row: u32) -> Option<&StreamState<Self::Word>>;
}

/// One direction's key and state.
struct Side<'a, W> {
    row: RowReference,
    key: &'a PreparedKey,
    stream: &'a StreamState<W>,
}

/// Where a CPU works on a packet of SRTP; what was in it before does not matter.
///
/// The steps hand each other what they found here and not in arguments, so that the verifier
/// follows each step once and not once for every way to it.
#[derive(Clone, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SecuredScratch {
    work: Work,
    /// The sum of what of a datagram in the clear is not its payload, if there is a checksum.
    around: u64,
    checked: u32,
    ipv6: u32,
    /// The octets of the payload as it came in, and as it is now.
    received: u32,
    length: u32,
    /// The payload type to leave with.
    payload_type: u32,
    /// The frame's octets as it came in.
    octets: u32,
    /// The header as it came in.
    came: RtpHeader,
    /// The sequence number and the timestamp that leave.
    sequence: u32,
    timestamp: u32,
    zero: u32,
}

const _: () = assert!(size_of::<SecuredScratch>() == size_of::<Work>() + 56);

impl SecuredScratch {
    /// The octets of the frame, as it came in.
    #[inline(always)]
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets as u64
    }
}

/// Goes on with a frame for which [`crate::relay::relay`] said [`Reason::NoSrtp`], with the same
/// `scratch`.
pub fn relay<F: SecuredFrame, T: SecuredTables>(
    frame: &mut F,
    tables: &mut T,
    scratch: &mut Scratch,
    secured: &mut SecuredScratch,
) -> Outcome {
    let result = prepare(frame, tables, scratch, secured)
        .and_then(|()| unprotect(tables, scratch, secured))
        .and_then(|()| protect(tables, scratch, secured))
        .and_then(|()| complete(frame, tables, scratch, secured));
    outcome(result, tables, scratch)
}

/// What became of the frame after the last step that was done, counted for the flow if it was
/// dropped.
#[inline(always)]
pub fn outcome<T: Tables>(
    result: Result<(), Reason>,
    tables: &mut T,
    scratch: &mut Scratch,
) -> Outcome {
    let Scratch {
        entry,
        next_hop,
        key,
        source,
        event,
        ..
    } = scratch;
    match result {
        Ok(()) => {
            let next_hop: &NextHop = transmute_ref!(next_hop);
            Outcome {
                reason: Reason::Relayed,
                interface: next_hop.interface.get(),
                device: next_hop.device.get(),
            }
        }
        Err(reason) => {
            tell_drop(tables, transmute_ref!(entry), reason, key, source, event);
            Outcome {
                reason,
                interface: 0,
                device: 0,
            }
        }
    }
}

/// The row that a flow refers to, if it still is of that generation.
#[inline(always)]
fn side<T: SecuredTables>(tables: &T, row: RowReference) -> Result<Side<'_, T::Word>, Reason> {
    let stream = tables.stream(row.row()).ok_or(Reason::KeyChanging)?;
    let key = tables.key(row.row()).ok_or(Reason::KeyChanging)?;
    if !stream.is(row) {
        return Err(Reason::KeyChanging);
    }
    Ok(Side { row, key, stream })
}

/// The first step: decides about the frame, copies its payload and gives it its new length.
///
/// # Errors
/// What becomes of the frame instead.
#[inline(always)]
pub fn prepare<F: SecuredFrame, T: SecuredTables>(
    frame: &mut F,
    tables: &mut T,
    scratch: &mut Scratch,
    secured: &mut SecuredScratch,
) -> Result<(), Reason> {
    secured.octets = frame.length() as u32;
    let datagram = Datagram::from(&scratch.datagram);
    if datagram.payload_length < rtp::HEADER {
        return Err(Reason::BadRtp);
    }
    let Scratch {
        entry, next_hop, ..
    } = scratch;
    let entry: &FlowEntry = transmute_ref!(entry);
    let header = *frame
        .view::<RtpHeader>(datagram.payload)
        .ok_or(Reason::BadRtp)?;
    if by_octets(header.first, header.second) != Protocol::Rtp {
        return Err(Reason::BadRtp);
    }
    let (mut taken, mut added) = (0, 0);
    if entry.has(FlowEntry::UNPROTECT) {
        taken = side(tables, entry.unprotect)?.key.trailer();
    }
    if entry.has(FlowEntry::PROTECT) {
        added = side(tables, entry.protect)?.key.trailer();
    }
    let plain = datagram
        .payload_length
        .checked_sub(taken)
        .ok_or(Reason::BadRtp)?;
    let octet = |offset| frame.octet(datagram.payload + offset);
    // The padding's count is encrypted.
    if !rtp::lengths_fit(header.first, plain, !entry.has(FlowEntry::UNPROTECT), octet) {
        return Err(Reason::BadRtp);
    }
    let payload_type = check_stream(entry, &header)?;
    if begins_anew(tables, entry, &header)? {
        return Err(Reason::SequenceBehind);
    }
    if plain > LONGEST {
        return Err(Reason::SrtpTooLong);
    }
    if datagram.hop_limit <= 1 {
        return Err(Reason::TtlExpired);
    }
    let next_hop = tables.next_hop(entry.next_hop.get(), next_hop)?;
    if next_hop.resolved == 0 {
        return Err(Reason::UnresolvedNextHop);
    }
    if datagram.length - taken + added > next_hop.mtu.get() as usize {
        return Err(Reason::TooLarge);
    }
    if !tables.can_send(next_hop.interface.get(), next_hop.device.get()) {
        return Err(Reason::UnresolvedNextHop);
    }
    secured.checked = 0;
    if !entry.has(FlowEntry::UNPROTECT) {
        let around = if datagram.ipv6 {
            checked_v6(frame, datagram.network)
        } else {
            checked_v4(frame, datagram.network)
        };
        if let Some(around) = around {
            secured.around = around;
            secured.checked = 1;
        }
    }
    secured.received = datagram.payload_length as u32;
    secured.length = datagram.payload_length as u32;
    secured.ipv6 = datagram.ipv6 as u32;
    secured.payload_type = payload_type as u32;
    secured.came = header;
    if !frame.load(datagram.payload, datagram.payload_length, &mut secured.work) {
        return Err(Reason::SrtpTooLong);
    }
    resize(frame, &datagram, next_hop, plain + added)
}

/// Whether a packet in the clear is behind all that may still be protected: so looks a source that
/// has begun its sequence numbers anew, which a worker finds out.
#[inline(always)]
fn begins_anew<T: SecuredTables>(
    tables: &T,
    entry: &FlowEntry,
    header: &RtpHeader,
) -> Result<bool, Reason> {
    if entry.has(FlowEntry::UNPROTECT) || !entry.has(FlowEntry::PROTECT) {
        return Ok(false);
    }
    let state = side(tables, entry.protect)?.stream;
    let index = state.index(entry.has(FlowEntry::PROTECT_SECOND));
    let sequence = header.sequence.get();
    let out = sequence.wrapping_add(entry.sequence_offset.get());
    Ok(index.is_behind(out))
}

/// The second step: makes an RTP packet of what came in, or finds its checksum right if it is one.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn unprotect<T: SecuredTables>(
    tables: &T,
    scratch: &Scratch,
    secured: &mut SecuredScratch,
) -> Result<(), Reason> {
    let entry: &FlowEntry = transmute_ref!(&scratch.entry);
    let length = secured.length as usize;
    if !entry.has(FlowEntry::UNPROTECT) {
        // What follows would make a changed packet look right.
        if secured.checked != 0 {
            let sum = secured.work.sum(length).ok_or(Reason::BadRtp)?;
            if fold(secured.around + sum as u64) != 0xffff {
                return Err(Reason::BadChecksum);
            }
        }
        return Ok(());
    }
    let Side { row, key, stream } = side(tables, entry.unprotect).or(Err(Reason::KeyChanged))?;
    let index = stream.index(entry.has(FlowEntry::UNPROTECT_SECOND));
    let length = match secured
        .work
        .unprotect_by::<T::Machine, _>(key, index, length)
    {
        Ok(length) => length,
        // With half of a key, or another stream's indices, there is nothing that a packet could be
        // accused of.
        Err(_) if !stream.is_still(row) => return Err(Reason::KeyChanged),
        Err(error) => {
            stream.refuse();
            return Err(incoming(error));
        }
    };
    if !stream.is_still(row) {
        return Err(Reason::KeyChanged);
    }
    secured.length = length as u32;
    let first = secured.came.first;
    if first & 0x20 != 0 && !rtp::lengths_fit(first, length, true, |at| secured.work.octet(at)) {
        return Err(Reason::BadRtp);
    }
    Ok(())
}

/// The third step: translates the header and makes an SRTP packet where that goes out.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn protect<T: SecuredTables>(
    tables: &T,
    scratch: &Scratch,
    secured: &mut SecuredScratch,
) -> Result<(), Reason> {
    let entry: &FlowEntry = transmute_ref!(&scratch.entry);
    let place = secured.work.header().ok_or(Reason::BadRtp)?;
    // Not in its place, where to read in words what was just written in octets takes its time.
    let mut header = *place;
    header.translate(entry, secured.payload_type as u8, &mut Change::default());
    *place = header;
    secured.sequence = header.sequence.get().into();
    secured.timestamp = header.timestamp.get();
    if !entry.has(FlowEntry::PROTECT) {
        return Ok(());
    }
    let Side { row, key, stream } = side(tables, entry.protect).or(Err(Reason::KeyChanged))?;
    let index = stream.index(entry.has(FlowEntry::PROTECT_SECOND));
    let length = secured
        .work
        .protect_by::<T::Machine, _>(key, index, secured.length as usize)
        .map_err(outgoing)?;
    if !stream.is_still(row) {
        return Err(Reason::KeyChanged);
    }
    secured.length = length as u32;
    Ok(())
}

/// The last step: writes the frame and counts.
///
/// # Errors
/// None in truth: whatever could be missing was there in the first step, which the verifier and the
/// compiler cannot know.
#[inline(always)]
pub fn complete<F: SecuredFrame, T: SecuredTables>(
    frame: &mut F,
    tables: &mut T,
    scratch: &mut Scratch,
    secured: &mut SecuredScratch,
) -> Result<(), Reason> {
    let entry: &FlowEntry = transmute_ref!(&scratch.entry);
    let next_hop: &NextHop = transmute_ref!(&scratch.next_hop);
    let length = secured.length as usize;
    let sum = secured.work.sum(length).ok_or(Reason::KeyChanged)?;
    let network = network(next_hop);
    let ipv6 = secured.ipv6 != 0;
    let payload = if ipv6 {
        write_v6(frame, network, entry, length, sum)
    } else {
        write_v4(frame, network, entry, length, sum)
    };
    let payload = payload.ok_or(Reason::KeyChanged)?;
    if !frame.store(payload, length, &mut secured.work) {
        return Err(Reason::KeyChanged);
    }
    write_link(frame, ipv6, next_hop).ok_or(Reason::KeyChanged)?;

    let now = tables.now();
    if let Some(mut counters) = tables.counters(entry.counters.get()) {
        counters.packets = counters.packets.wrapping_add(1);
        counters.octets = counters.octets.wrapping_add(secured.received as u64);
        counters.last_seen = now;
        counters.reception.record(&Arrival {
            generation: entry.generation.get(),
            ticks: reception::ticks(now, entry.clock_rate.get()),
            sequence: secured.came.sequence.get(),
            timestamp: secured.came.timestamp.get(),
            sequence_out: secured.sequence as u16,
            timestamp_out: secured.timestamp,
        });
    }
    Ok(())
}

/// Gives the frame the length of one with `length` octets of UDP payload behind the next hop's
/// tags, or leaves it as it was.
#[inline(always)]
fn resize<F: SecuredFrame>(
    frame: &mut F,
    datagram: &Datagram,
    next_hop: &NextHop,
    length: usize,
) -> Result<(), Reason> {
    let growth = (datagram.payload + length) as i32 - frame.length() as i32;
    // Growing can be undone without a loss, shrinking never fails: so the one before the head, the
    // other behind it.
    if growth > 0 && !frame.grow_tail(growth) {
        return Err(Reason::NoRoom);
    }
    match resize_link(frame, datagram.network, next_hop) {
        Ok(_) if growth >= 0 || frame.grow_tail(growth) => Ok(()),
        Ok(_) => Err(Reason::NoRoom),
        Err(reason) => {
            if growth > 0 {
                frame.grow_tail(-growth);
            }
            Err(reason)
        }
    }
}

#[inline(always)]
fn index_reason(error: IndexError) -> Reason {
    match error {
        IndexError::Replay => Reason::Replay,
        IndexError::Old => Reason::OldIndex,
        IndexError::Exhausted => Reason::Exhausted,
        IndexError::Contended => Reason::Contended,
    }
}

#[inline(always)]
fn incoming(error: CryptError) -> Reason {
    match error {
        CryptError::Malformed | CryptError::TooLong => Reason::BadRtp,
        CryptError::Mki => Reason::WrongMki,
        CryptError::Authentication => Reason::Authentication,
        CryptError::Index(error) => index_reason(error),
    }
}

#[inline(always)]
fn outgoing(error: CryptError) -> Reason {
    match error {
        CryptError::Index(IndexError::Replay | IndexError::Old) => Reason::Repeated,
        error => incoming(error),
    }
}

/// The sum of what of a UDP datagram is not its payload (RFC 768, RFC 8200 section 8.1), its
/// checksum excluded.
#[inline(always)]
fn around(addresses: u64, udp: &Udp) -> u64 {
    let half = |octets: [u8; 2]| u16::from_ne_bytes(octets) as u64;
    addresses
        + half([0, headers::UDP])
        // Once in the pseudo-header, once in the header.
        + 2 * half(udp.length.to_bytes())
        + half(udp.source.to_bytes())
        + half(udp.destination.to_bytes())
}

#[inline(always)]
fn addresses_v4(ip: &Ipv4) -> u64 {
    u32::from_ne_bytes(ip.source) as u64 + u32::from_ne_bytes(ip.destination) as u64
}

#[inline(always)]
fn addresses_v6(ip: &Ipv6) -> u64 {
    let source: &Address = transmute_ref!(&ip.source);
    let destination: &Address = transmute_ref!(&ip.destination);
    let [a, b] = source.words();
    let [c, d] = destination.words();
    let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
    halves(a.get()) + halves(b.get()) + halves(c.get()) + halves(d.get())
}

/// What a datagram's checksum covers besides the payload, and the checksum. `None` where it is
/// missing, which is allowed over IPv4.
#[inline(always)]
fn checked_v4<F: Frame>(frame: &F, network: usize) -> Option<u64> {
    let Ipv4Udp { ip, udp } = frame.view(network)?;
    if udp.checksum == U16::ZERO {
        return None;
    }
    Some(around(addresses_v4(ip), udp) + u16::from_ne_bytes(udp.checksum.to_bytes()) as u64)
}

#[inline(always)]
fn checked_v6<F: Frame>(frame: &F, network: usize) -> Option<u64> {
    let Ipv6Udp { ip, udp } = frame.view(network)?;
    Some(around(addresses_v6(ip), udp) + u16::from_ne_bytes(udp.checksum.to_bytes()) as u64)
}

/// Writes the headers of a datagram whose payload has `length` octets and the sum `sum`. Where the
/// payload goes.
#[inline(always)]
fn write_v4<F: Frame>(
    frame: &mut F,
    network: usize,
    entry: &FlowEntry,
    length: usize,
    sum: u16,
) -> Option<usize> {
    let Ipv4Udp { ip, udp } = frame.view_mut(network)?;
    let mut change = Change::default();
    let source = entry.from.address.tail();
    let destination = entry.to.address.tail();
    change.word(ip.source, source);
    change.word(ip.destination, destination);
    ip.source = source;
    ip.destination = destination;
    let total = U16::new(length as u16 + 28);
    change.half(ip.total_length.to_bytes(), total.to_bytes());
    ip.total_length = total;
    write_hop_v4(ip, entry, change);
    write_udp(udp, entry, length, addresses_v4(ip), sum);
    Some(network + 28)
}

#[inline(always)]
fn write_v6<F: Frame>(
    frame: &mut F,
    network: usize,
    entry: &FlowEntry,
    length: usize,
    sum: u16,
) -> Option<usize> {
    let Ipv6Udp { ip, udp } = frame.view_mut(network)?;
    let [source, destination]: [Endpoint; 2] = [entry.from, entry.to];
    ip.source = transmute!(source.address);
    ip.destination = transmute!(destination.address);
    ip.payload_length = U16::new(length as u16 + 8);
    write_hop_v6(ip, entry);
    write_udp(udp, entry, length, addresses_v6(ip), sum);
    Some(network + 48)
}

#[inline(always)]
fn write_udp(udp: &mut Udp, entry: &FlowEntry, length: usize, addresses: u64, sum: u16) {
    udp.source = entry.from.port;
    udp.destination = entry.to.port;
    udp.length = U16::new(length as u16 + 8);
    let sum = !fold(around(addresses, udp) + sum as u64);
    // Zero would say that there is none (RFC 768).
    udp.checksum = U16::from_bytes(if sum == 0 {
        [0xff; 2]
    } else {
        sum.to_ne_bytes()
    });
}
