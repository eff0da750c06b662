//! Where the tables lie in the one element that holds them: next hops, buckets, rows of flows.

use relay_abi::row::{FlowRow, LINK, NextHopRow, TABLES};

use super::flow_table::{buckets, rows};

/// The tables for so many flows and next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub flows: u32,
    pub next_hops: u32,
}

/// The verifier follows no offset beyond this.
const LONGEST: u64 = 1 << 29;

/// A map as the object describes it, in its own words: type, key, value, entries, flags.
type Description = [u32; 5];

const ARRAY: u32 = 2;
const MAPPABLE: u32 = 1 << 10;

impl Layout {
    /// Octets from the beginning to the first bucket.
    pub(super) fn first_bucket(self) -> u64 {
        u64::from(self.next_hops) * size_of::<NextHopRow>() as u64
    }

    /// The link to the first row: never 0, as there is at least one bucket before.
    pub(super) fn first_link(self) -> u64 {
        (self.first_bucket() + u64::from(buckets(self.flows)) * 4).div_ceil(LINK as u64)
    }

    /// The link to the last row.
    pub(super) fn last_link(self) -> u64 {
        self.first_link() + u64::from(rows(self.flows) - 1) * LINKS as u64
    }

    /// All octets.
    pub(super) fn octets(self) -> u64 {
        (self.last_link() + LINKS as u64) * LINK as u64
    }

    /// The object, with a map of this length.
    ///
    /// # Errors
    /// When there are too many flows, or the object is another.
    pub(super) fn write(self, object: &[u8]) -> Result<Vec<u8>, String> {
        if self.octets() > LONGEST {
            return Err(format!(
                "the tables for {} flows are longer than the kernel's verifier follows: configure \
                 fewer",
                self.flows
            ));
        }
        let octets = |value: u32| -> Vec<u8> {
            let description: Description = [ARRAY, 4, value, 1, MAPPABLE];
            description.into_iter().flat_map(u32::to_ne_bytes).collect()
        };
        let (placeholder, wanted) = (octets(TABLES as u32), octets(self.octets() as u32));
        let mut places = object
            .windows(placeholder.len())
            .enumerate()
            .filter(|(_, window)| *window == placeholder)
            .map(|(place, _)| place);
        let (Some(place), None) = (places.next(), places.next()) else {
            return Err("the object has not one map for the tables".to_owned());
        };
        let mut object = object.to_vec();
        if let Some(description) = object.get_mut(place..place + wanted.len()) {
            description.copy_from_slice(&wanted);
        }
        Ok(object)
    }
}

/// How many links a row is long.
pub(super) const LINKS: usize = size_of::<FlowRow>() / LINK;
const _: () = assert!(size_of::<FlowRow>().is_multiple_of(LINK));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_each_other_without_overlap() {
        for (flows, next_hops) in [(1, 1), (3, 5), (20_000, 1024), (1_000_000, 7)] {
            let layout = Layout { flows, next_hops };
            let after_buckets = layout.first_bucket() + u64::from(buckets(flows)) * 4;
            assert!(layout.first_link() > 0);
            assert!(layout.first_link() * LINK as u64 >= after_buckets);
            let row = size_of::<FlowRow>() as u64;
            assert_eq!(layout.octets(), layout.last_link() * LINK as u64 + row);
        }
    }

    #[test]
    fn only_the_one_map_is_made_longer() {
        let layout = Layout {
            flows: 100,
            next_hops: 4,
        };
        let description = |value: u32| {
            [ARRAY, 4, value, 1, MAPPABLE]
                .into_iter()
                .flat_map(u32::to_ne_bytes)
        };
        let object: Vec<u8> = [7; 5]
            .into_iter()
            .chain(description(TABLES as u32))
            .chain(description(8))
            .collect();
        let written = layout.write(&object).expect("written");
        let expected: Vec<u8> = [7; 5]
            .into_iter()
            .chain(description(layout.octets() as u32))
            .chain(description(8))
            .collect();
        assert_eq!(written, expected);
        assert!(layout.write(&[0; 100]).is_err());
        assert!(layout.write(&[&object[..], &object[..]].concat()).is_err());
        let many = Layout {
            flows: 5_000_000,
            next_hops: 1,
        };
        assert!(many.write(&object).is_err());
    }
}
