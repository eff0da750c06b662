//! Counters: written by one CPU each, added up by whoever reads them.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What one CPU saw of one flow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct FlowCounters {
    /// Packets relayed.
    pub packets: u64,
    /// Octets of UDP payload relayed.
    pub octets: u64,
    /// Packets dropped, whatever the reason.
    pub dropped: u64,
    /// When the last packet was relayed, in nanoseconds of the kernel's monotonic clock.
    pub last_seen: u64,
    pub reception: Reception,
}

/// How a source is received (RFC 3550, sections 6.4.1 and A.1), as one CPU or one worker sees it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Reception {
    /// The flow entry's generation that the rest belongs to.
    pub generation: u32,
    /// The first extended sequence number, as it came in.
    pub base_sequence: u32,
    /// The highest extended sequence number, as it came in: cycles × 2^16 + sequence.
    pub highest_sequence: u32,
    /// Packets received.
    pub received: u32,
    /// Interarrival jitter in timestamp units, times 16.
    pub jitter: u32,
    /// The last packet's arrival less its timestamp, in timestamp units.
    pub transit: u32,
    /// The last packet's timestamp as it left.
    pub last_timestamp: u32,
    /// The last packet's sequence number as it left.
    pub last_sequence: u32,
}

/// What one CPU counted for one [`crate::verdict::Reason`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ReasonCounters {
    pub packets: u64,
    pub octets: u64,
}

const _: () = assert!(size_of::<FlowCounters>() == 64);
const _: () = assert!(size_of::<ReasonCounters>() == 16);
