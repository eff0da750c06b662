//! Flows: what the kernel knows of one direction of a call's media.

use core::mem::size_of;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, native_endian::U64 as NativeU64,
    transmute_mut, transmute_ref,
};

use crate::{U16, U32, srtp::stream::RowReference};

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form (RFC 4291, section 2.5.5.2).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The address of nobody, as which an unknown peer is stored.
    pub const UNSPECIFIED: Self = Self([0; 16]);

    /// The IPv4-mapped form of `octets`.
    #[inline(always)]
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The four octets of an IPv4-mapped address, `None` for any other.
    #[inline(always)]
    #[must_use]
    pub const fn as_v4(&self) -> Option<[u8; 4]> {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
            _ => None,
        }
    }

    /// The last four octets: those of an IPv4-mapped address.
    #[inline(always)]
    #[must_use]
    pub fn tail(&self) -> [u8; 4] {
        let [_, _, _, tail]: &[[u8; 4]; 4] = transmute_ref!(&self.0);
        *tail
    }

    /// Becomes `other`. The kernel's compiler would copy an array octet by octet.
    #[inline(always)]
    pub(crate) fn set(&mut self, other: &Self) {
        let [high, low] = other.words();
        self.set_words(high.get(), low.get());
    }

    /// Becomes the IPv4-mapped form of `octets`, in words.
    #[inline(always)]
    pub(crate) fn set_v4(&mut self, octets: [u8; 4]) {
        let [a, b, c, d] = octets;
        self.set_words(0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d]));
    }

    /// Whether this is an IPv4-mapped address, by words.
    #[inline(always)]
    pub(crate) fn is_v4(&self) -> bool {
        let [high, low] = self.words();
        let prefix = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        let mask = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        high.get() == 0 && low.get() & mask == prefix
    }

    #[inline(always)]
    pub(crate) fn words(&self) -> &[NativeU64; 2] {
        transmute_ref!(&self.0)
    }

    #[inline(always)]
    fn set_words(&mut self, high: u64, low: u64) {
        let words: &mut [NativeU64; 2] = transmute_mut!(&mut self.0);
        let [first, second] = words;
        first.set(high);
        second.set(low);
    }
}

/// An address and a UDP port.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct Endpoint {
    pub address: Address,
    pub port: U16,
}

/// Where a packet was sent to: the local address and port of one leg's media.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct FlowKey {
    pub local: Endpoint,
    /// Always zero: it rounds the key up to a multiple of four octets, for the kernel's hash.
    pub zero: U16,
}

/// One payload type as it comes in and as it leaves.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct PayloadTypePair {
    pub incoming: u8,
    pub outgoing: u8,
}

/// How many payload types a flow entry can tell apart; a stream with more stays in userspace.
pub const PAYLOAD_TYPES: usize = 8;

/// What to do with the packets of one flow. An absent entry is a punt.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct FlowEntry {
    /// The pinned peer: the only source that is relayed. Read only with [`FlowEntry::PINNED`].
    pub peer: Endpoint,
    /// The local endpoint that relayed packets leave from: the other leg's media port.
    pub from: Endpoint,
    /// Where relayed packets go: the other leg's peer.
    pub to: Endpoint,
    /// A set of this type's associated constants.
    pub flags: U16,
    /// The source's SSRC. Read only with [`FlowEntry::SSRC_KNOWN`].
    pub ssrc_in: U32,
    /// The SSRC that the other leg hears.
    pub ssrc_out: U32,
    /// Added to each timestamp, modulo 2^32.
    pub timestamp_offset: U32,
    /// Added to each sequence number, modulo 2^16.
    pub sequence_offset: U16,
    /// The index of the next hop.
    pub next_hop: U32,
    /// The index of this flow's counters.
    pub counters: U32,
    /// Changes whenever the source does, so that reception statistics start anew.
    pub generation: U32,
    /// The source's RTP clock in hertz, for the jitter (RFC 3550, section 6.4.1).
    pub clock_rate: U32,
    /// The six bits to set (RFC 2474). Read only with [`FlowEntry::SET_DSCP`].
    pub dscp: u8,
    /// How many of `payload_types` are in use; the rest are zero.
    pub payload_type_count: u8,
    pub payload_types: [PayloadTypePair; PAYLOAD_TYPES],
    /// The key that the source protects with. Read only with [`FlowEntry::UNPROTECT`].
    pub unprotect: RowReference,
    /// The key to protect with. Read only with [`FlowEntry::PROTECT`].
    pub protect: RowReference,
}

impl FlowEntry {
    /// The peer is known; without it every packet is punted, so that userspace may learn it.
    pub const PINNED: u16 = 1 << 0;
    /// The source's SSRC is known; another one is punted, so that userspace may translate it.
    pub const SSRC_KNOWN: u16 = 1 << 1;
    /// The media description lets nothing through in this direction: drop and count.
    pub const HELD: u16 = 1 << 2;
    /// The planner gave this stream to userspace: punt whatever else the entry says.
    pub const USERSPACE: u16 = 1 << 3;
    /// Write `dscp`; without it the packet's own is kept.
    pub const SET_DSCP: u16 = 1 << 4;
    /// The source sends SRTP.
    pub const UNPROTECT: u16 = 1 << 5;
    /// The other leg gets SRTP.
    pub const PROTECT: u16 = 1 << 6;
    /// The source's SSRC is the one of its row's second index state.
    pub const UNPROTECT_SECOND: u16 = 1 << 7;
    /// The SSRC that the other leg hears is the one of its row's second index state.
    pub const PROTECT_SECOND: u16 = 1 << 8;

    /// Whether every bit of `flags`, a set of this type's constants, is set.
    #[inline(always)]
    #[must_use]
    pub fn has(&self, flags: u16) -> bool {
        self.flags.get() & flags == flags
    }

    /// Whether SRTP comes in or goes out.
    #[inline(always)]
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.flags.get() & (Self::UNPROTECT | Self::PROTECT) != 0
    }

    /// What the payload type `incoming` becomes, `None` for one that was not negotiated.
    #[inline(always)]
    #[must_use]
    pub fn outgoing_payload_type(&self, incoming: u8) -> Option<u8> {
        let mut index = 0;
        while index < PAYLOAD_TYPES {
            if index >= self.payload_type_count as usize {
                return None;
            }
            if self.payload_types[index].incoming == incoming {
                return Some(self.payload_types[index].outgoing);
            }
            index += 1;
        }
        None
    }
}

const _: () = assert!(size_of::<FlowKey>() == 20);
const _: () = assert!(size_of::<FlowEntry>() == 112);
