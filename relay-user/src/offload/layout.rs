//! Where the tables lie in the one element that holds them: next hops, buckets, rows of flows.

use relay_abi::row::{FlowRow, NextHopRow};

use super::flow_table::{buckets, rows};

/// The tables for so many flows and next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub flows: u32,
    pub next_hops: u32,
}

/// The verifier follows no offset beyond this.
pub(super) const LONGEST: u64 = 1 << 29;

/// More flows than this the tables may be too long for.
pub const MOST_FLOWS: u32 = 2_400_000;

const CACHE_LINE: u64 = 64;

impl Layout {
    /// Octets from the beginning to the first bucket.
    pub(super) fn first_bucket(self) -> u64 {
        (u64::from(self.last_next_hop()) + 1) * size_of::<NextHopRow>() as u64
    }

    /// The highest index of a next hop that there is room for: a mask.
    pub(super) fn last_next_hop(self) -> u32 {
        self.next_hops.next_power_of_two() - 1
    }

    /// Octets from the beginning to the first row.
    pub(super) fn first_row(self) -> u64 {
        (self.first_bucket() + u64::from(buckets(self.flows)) * 4).next_multiple_of(CACHE_LINE)
    }

    /// The link to the last row.
    pub(super) fn last_link(self) -> u64 {
        u64::from(rows(self.flows) - 1) * size_of::<FlowRow>() as u64
    }

    /// All octets.
    pub(super) fn octets(self) -> u64 {
        self.first_row() + self.last_link() + size_of::<FlowRow>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_flows_and_many_next_hops_are_followed() {
        let layout = Layout {
            flows: MOST_FLOWS,
            next_hops: 1 << 16,
        };
        assert!(layout.octets() <= LONGEST, "{}", layout.octets());
    }

    #[test]
    fn tables_follow_each_other_without_overlap() {
        for (flows, next_hops) in [(1, 1), (3, 5), (20_000, 1024), (1_000_000, 7)] {
            let layout = Layout { flows, next_hops };
            let after_buckets = layout.first_bucket() + u64::from(buckets(flows)) * 4;
            assert!(layout.first_row() >= after_buckets);
            assert!(layout.first_row().is_multiple_of(CACHE_LINE));
            let rows = u64::from(rows(flows)) * size_of::<FlowRow>() as u64;
            assert_eq!(layout.octets(), layout.first_row() + rows);
        }
    }
}
