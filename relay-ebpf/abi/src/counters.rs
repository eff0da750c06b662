//! Counters: written by one CPU each, added up by whoever reads them.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::reception::{Arrival, Reception};

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

/// What one CPU counted for one [`crate::verdict::Reason`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ReasonCounters {
    pub packets: u64,
    pub octets: u64,
}

impl ReasonCounters {
    /// Counts a frame.
    #[inline(always)]
    pub fn count(&mut self, octets: u64) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets);
    }
}

impl FlowCounters {
    /// Counts a packet that was relayed at `now`, with `octets` of UDP payload.
    #[inline(always)]
    pub fn relayed(&mut self, now: u64, octets: u64, arrival: &Arrival) {
        self.count(now, octets);
        self.reception.record(arrival);
    }

    /// [`FlowCounters::relayed`] without how it came.
    #[inline(always)]
    pub fn count(&mut self, now: u64, octets: u64) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets);
        self.last_seen = now;
    }

    /// Adds up what several CPUs, or a CPU and a worker, saw of one flow.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let (earlier, later) = if self.last_seen <= other.last_seen {
            (self, other)
        } else {
            (other, self)
        };
        Self {
            packets: self.packets.wrapping_add(other.packets),
            octets: self.octets.wrapping_add(other.octets),
            dropped: self.dropped.wrapping_add(other.dropped),
            last_seen: later.last_seen,
            reception: earlier.reception.merge(later.reception),
        }
    }
}

const _: () = assert!(size_of::<FlowCounters>() == 64);
const _: () = assert!(size_of::<ReasonCounters>() == 16);
