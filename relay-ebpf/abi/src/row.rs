//! The rows of the flow table and of the next-hop table, as the programs and userspace share them.
//!
//! A flow's row begins with one cache line that holds all that the common packet needs, so that
//! several fields are compared and written at once. The whole flow entry is behind it, for every
//! other packet.
//!
//! A flow's row is written before it is linked to its bucket and never changed while a program may
//! stand on it, but for its own link: a change of a flow is another row in its place. So a packet
//! is relayed by one whole entry, and the program asks for nothing twice. A next hop, to which many
//! flows refer by number, is changed where it is ([`crate::shared`]).

use core::mem::{offset_of, size_of};

use zerocopy::{
    FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout,
    native_endian::{U16 as NativeU16, U32 as NativeU32, U64 as NativeU64},
    transmute, transmute_ref,
};

use crate::{
    checksum::{Change, SmallChange},
    flow::{Address, FlowEntry, FlowKey},
    headers::{self, Ethernet},
    next_hop::NextHop,
    reception,
    shared::Shared,
};

/// What the common packet of a flow needs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct CommonFlow {
    /// The last four octets of the peer's address, then of the local one.
    pub ends: NativeU64,
    /// As `ends`, of packets that leave.
    pub ends_out: NativeU64,
    /// The peer's port, then the local one.
    pub ports: NativeU32,
    /// As `ports`, of packets that leave.
    pub ports_out: NativeU32,
    pub ssrc_in: NativeU32,
    pub ssrc_out: NativeU32,
    /// None that there are, if packets of this flow have to be looked at more closely.
    pub counters: u32,
    pub generation: u32,
    /// [`reception::units`] of the clock rate.
    pub units: u32,
    /// What is added to the timestamp.
    pub timestamp_offset: u32,
    /// What is added to the sequence number, in the upper half.
    pub sequence_offset: u32,
    /// What the addresses, one hop less and the forbidden fragmentation change in the IPv4
    /// header's sum; the identification and the fragment field that go are still to be taken from
    /// it.
    pub header_change: u32,
    /// What the addresses, the ports and the RTP header change in the datagram's sum, as long as
    /// neither the sequence number nor the timestamp wraps.
    pub datagram_change: u16,
    /// The first two octets of the RTP header without the marker; what no header has if packets of
    /// this flow have to be looked at more closely.
    pub rtp: NativeU16,
    pub next_hop: u16,
    /// The bits by which the payload type that leaves is another.
    pub payload_type_change: u8,
    /// The code point to write, as it stands in the header, or [`CommonFlow::SERVICE_STAYS`].
    pub service: u8,
}

impl CommonFlow {
    /// What no code point is.
    pub const SERVICE_STAYS: u8 = 1;
    /// What `rtp` has besides for a flow of IPv6: where the marker would be.
    pub const V6: u16 = u16::from_ne_bytes([0, 0x80]);
    /// The first two octets of an RTP header, but for the marker.
    pub const RTP: u16 = u16::from_ne_bytes([0xff, 0x7f]);
}

const ENTRY_WORDS: usize = size_of::<FlowEntry>() / 8;

/// A row of the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FlowRow {
    pub common: CommonFlow,
    entry: [u64; ENTRY_WORDS],
    /// The first twelve octets of the local address.
    local: [u32; 3],
    /// The link to the next row with the same bucket, 0 behind the last one: how many octets it is
    /// from the first row.
    pub next: u32,
}

/// A flow entry, copied out of its row.
pub type EntryWords = [u64; ENTRY_WORDS];

const _: () = assert!(size_of::<CommonFlow>() == 64);
const _: () = assert!(size_of::<FlowEntry>().is_multiple_of(8));
const _: () = assert!(size_of::<FlowRow>() == 192);

/// Where to begin to look for the flow of a local address and port: how many octets from the first
/// bucket, before it is brought into the number of buckets, a power of two. Pairs of ports in a row
/// have buckets in a row: the media ports of one address do not meet each other.
#[inline(always)]
#[must_use]
pub fn bucket(address: u32, port: u16) -> u32 {
    let place = address.wrapping_mul(0x9e37_79b1) >> 10;
    place.wrapping_add((port as u32 & 0xfffe) << 1)
}

/// [`bucket`] of an IPv6 address, as it stands in the header.
#[inline(always)]
#[must_use]
pub fn bucket_v6(address: [u64; 2], port: u16) -> u32 {
    let [high, low] = address;
    let [a, b] = halves(high ^ low);
    bucket(u32::from_be(a ^ b ^ MAPPED), port)
}

/// The address as [`bucket`] takes it.
#[inline(always)]
fn folded(address: &Address) -> u32 {
    let [high, low] = address.words();
    let [a, b] = halves(high.get());
    let [c, d] = halves(low.get());
    u32::from_be(a ^ b ^ c ^ d ^ MAPPED)
}

/// What of an IPv4-mapped address is not the IPv4 address: a key of IPv4 folds to that alone.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

#[inline(always)]
fn halves(long: u64) -> [u32; 2] {
    transmute!(long)
}

impl FlowKey {
    /// The bucket of this key: [`bucket`].
    #[inline(always)]
    #[must_use]
    pub fn bucket(&self) -> u32 {
        bucket(folded(&self.local.address), self.local.port.get())
    }
}

impl FlowRow {
    /// The row of a flow. The link is for whoever writes it.
    #[must_use]
    pub fn new(key: &FlowKey, entry: &FlowEntry) -> Self {
        let [peer_a, peer_b] = entry.peer.port.to_bytes();
        let [local_a, local_b] = key.local.port.to_bytes();
        let [from_a, from_b] = entry.from.port.to_bytes();
        let [to_a, to_b] = entry.to.port.to_bytes();
        let [local @ .., _]: [u32; 4] = transmute!(key.local.address.0);
        let ends = pair(&entry.peer.address, &key.local.address);
        let ends_out = pair(&entry.from.address, &entry.to.address);
        let ports = NativeU32::from_bytes([peer_a, peer_b, local_a, local_b]);
        let ports_out = NativeU32::from_bytes([from_a, from_b, to_a, to_b]);
        let payload_types = &entry.payload_types[0];
        let (rtp, counters) = match common_family(key, entry) {
            Some(Family::V4) => ([0x80, payload_types.incoming], entry.counters.get()),
            Some(Family::V6) => ([0x80, payload_types.incoming | 0x80], entry.counters.get()),
            None => (NO_RTP, NO_COUNTERS),
        };

        let mut datagram = Change::default();
        datagram.address(&entry.peer.address, &entry.from.address);
        datagram.address(&key.local.address, &entry.to.address);
        datagram.native(ports.get(), ports_out.get());
        datagram.word(entry.ssrc_in.to_bytes(), entry.ssrc_out.to_bytes());
        datagram.half(
            [0x80, payload_types.incoming],
            [0x80, payload_types.outgoing],
        );
        datagram.half([0; 2], entry.sequence_offset.to_bytes());
        datagram.word([0; 4], entry.timestamp_offset.to_bytes());
        let mut header = Change::default();
        header.long(ends.get(), ends_out.get());
        // The TTL is a half's first octet: one less of it, whatever the protocol beside it.
        header.half([1, 0], [0, 0]);
        header.half([0xff; 2], headers::DO_NOT_FRAGMENT.to_be_bytes());
        Self {
            common: CommonFlow {
                ends,
                ends_out,
                ports,
                ports_out,
                ssrc_in: NativeU32::from_bytes(entry.ssrc_in.to_bytes()),
                ssrc_out: NativeU32::from_bytes(entry.ssrc_out.to_bytes()),
                counters,
                generation: entry.generation.get(),
                units: reception::units(entry.clock_rate.get()) as u32,
                timestamp_offset: entry.timestamp_offset.get(),
                sequence_offset: (entry.sequence_offset.get() as u32) << 16,
                rtp: NativeU16::from_bytes(rtp),
                next_hop: entry.next_hop.get() as u16,
                header_change: SmallChange::header_base(header),
                datagram_change: SmallChange::datagram_base(datagram),
                payload_type_change: payload_types.incoming ^ payload_types.outgoing,
                service: if entry.has(FlowEntry::SET_DSCP) {
                    entry.dscp << 2
                } else {
                    CommonFlow::SERVICE_STAYS
                },
            },
            entry: transmute!(*entry),
            local,
            next: 0,
        }
    }

    /// The row of no flow, to which links of 0 lead: what no packet is of.
    #[must_use]
    pub fn empty() -> Self {
        let mut row = Self::new_zeroed();
        row.common.rtp = NativeU16::from_bytes(NO_RTP);
        row.common.counters = NO_COUNTERS;
        row
    }
}

/// What no RTP header begins with, but for the marker.
const NO_RTP: [u8; 2] = [0xff; 2];
/// The counters of a row that the common way ends at: there are none, on any CPU. What is no RTP may
/// begin as [`NO_RTP`] does where IPv6 has its mark.
const NO_COUNTERS: u32 = 1 << 31;

fn pair(first: &Address, second: &Address) -> NativeU64 {
    let [a, b, c, d] = first.tail();
    let [e, f, g, h] = second.tail();
    NativeU64::from_bytes([a, b, c, d, e, f, g, h])
}

enum Family {
    V4,
    V6,
}

/// The family of a flow, if nothing stands in the way of relaying what comes from the peer with the
/// SSRC and the payload type by what the row says.
fn common_family(key: &FlowKey, entry: &FlowEntry) -> Option<Family> {
    let wanted = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
    let ends = [&key.local, &entry.peer, &entry.from, &entry.to];
    // With the marker these payload types are RTCP's packet types (RFC 5761, section 4).
    let rtcp = 64..96;
    let common = entry.flags.get() & !FlowEntry::SET_DSCP == wanted
        && entry.payload_type_count > 0
        // What counters have before a packet was counted.
        && entry.generation.get() != 0
        && !rtcp.contains(&entry.payload_types[0].incoming)
        && entry.next_hop.get() <= u16::MAX as u32
        && reception::units(entry.clock_rate.get()) <= u32::MAX as u64;
    if !common {
        None
    } else if ends.iter().all(|end| end.address.is_v4()) {
        Some(Family::V4)
    } else if ends.iter().all(|end| !end.address.is_v4()) {
        Some(Family::V6)
    } else {
        None
    }
}

/// Where in a row the addresses of the peer, of our other leg and of its peer are.
pub const ADDRESSES: [usize; 3] = [
    offset_of!(FlowRow, entry) + offset_of!(FlowEntry, peer),
    offset_of!(FlowRow, entry) + offset_of!(FlowEntry, from),
    offset_of!(FlowRow, entry) + offset_of!(FlowEntry, to),
];

/// Whether a row's local address is this one.
#[inline(always)]
pub fn is_to(row: impl Shared, address: [u64; 2]) -> bool {
    let [high, low] = address;
    let [c, d] = halves(low);
    let head = offset_of!(FlowRow, local);
    row.any_long(head) == high
        && row.word(head + 8) == c
        && row.word(offset_of!(CommonFlow, ends) + 4) == d
}

/// The local address and port of a row, against those of a key.
#[inline(always)]
pub fn is_of(row: impl Shared, key: &FlowKey) -> bool {
    let [a, b, c, d]: [u32; 4] = transmute!(key.local.address.0);
    let port = u16::from_ne_bytes(key.local.port.to_bytes());
    let head = offset_of!(FlowRow, local);
    row.word(offset_of!(CommonFlow, ends) + 4) == d
        && row.half(offset_of!(CommonFlow, ports) + 2) == port
        && row.word(head) == a
        && row.word(head + 4) == b
        && row.word(head + 8) == c
}

/// The link to the next row with the same bucket.
#[inline(always)]
pub fn next(row: impl Shared) -> u32 {
    row.word(offset_of!(FlowRow, next))
}

/// Copies the flow entry out of a row.
#[inline(always)]
pub fn copy_entry(row: impl Shared, words: &mut EntryWords) -> &FlowEntry {
    crate::shared::copy(row, offset_of!(FlowRow, entry), words);
    transmute_ref!(words)
}

/// What the common packet needs of a next hop.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NextHopRow {
    /// [`Shared::version`]: the longest frame that takes the common way, in octets, times 2^16,
    /// plus a number that changes with every change. Nothing takes it by a next hop that is
    /// unresolved or wants tags.
    pub version: u32,
    pub interface: u32,
    pub device: u32,
    pub link_end: u32,
    /// The Ethernet addresses, as they stand in the header.
    pub link_begin: u64,
    pub zero: u64,
    next_hop: [u64; 4],
}

const _: () = assert!(size_of::<NextHopRow>() == 64);

impl NextHopRow {
    /// The row of a next hop. The lower half of the version is for whoever writes it.
    #[must_use]
    pub fn new(next_hop: &NextHop) -> Self {
        let [a, b, c, d, e, f] = next_hop.destination;
        let [g, h, i, j, k, l] = next_hop.source;
        Self {
            version: if next_hop.resolved == 1 && next_hop.tag_count == 0 {
                let longest = next_hop
                    .mtu
                    .get()
                    .saturating_add(size_of::<Ethernet>() as u16);
                (longest as u32) << 16
            } else {
                0
            },
            interface: next_hop.interface.get(),
            device: next_hop.device.get(),
            link_end: u32::from_ne_bytes([i, j, k, l]),
            link_begin: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            zero: 0,
            next_hop: transmute!(*next_hop),
        }
    }
}

/// A next hop, copied out of its row.
pub type NextHopWords = [u64; 4];

/// Copies the next hop out of a row.
#[inline(always)]
pub fn copy_next_hop(row: impl Shared, words: &mut NextHopWords) -> &NextHop {
    crate::shared::copy(row, offset_of!(NextHopRow, next_hop), words);
    transmute_ref!(words)
}
