//! The tables that every packet needs, each one element of a map of its own, whose address the
//! programs have in their instructions.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use relay_abi::{counters::FlowCounters, placed, processor::Processor};

use super::{
    flow_table::buckets,
    layout::LONGEST,
    map_memory::{Sizes, cpu_numbers},
    system_call::{ARRAY, Create, MAPPABLE},
};

/// Maps of one element each, all zero.
#[derive(Debug)]
pub(super) struct Elements {
    /// Next hops, buckets, rows of flows: [`super::layout`].
    pub tables: OwnedFd,
    /// What each CPU saw of each flow: all flows of the first CPU, then those of the next one.
    /// `None` where there are too many for one element.
    pub counters: Option<OwnedFd>,
    /// What each CPU keeps to itself.
    pub processors: OwnedFd,
    /// For how many CPUs, from number 0 on, all of this is made.
    pub cpus: u32,
    /// How many counters that makes.
    pub counters_made: u32,
}

/// For how many CPUs there is room on a machine of `cpus`, as their numbers are masked.
pub(super) const fn processors_made(cpus: u32) -> u32 {
    cpus.next_power_of_two()
}

fn octets<T>(count: u32) -> u64 {
    u64::from(count) * size_of::<T>() as u64
}

/// What an instruction loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    /// The address of an octet in the element of a map.
    Place(i32, u32),
    Number(u32),
    Mask(u32),
}

impl Elements {
    /// The counters are in one element if that is not longer than `longest`.
    ///
    /// # Errors
    /// When the kernel has no memory for them or does not tell of its CPUs, or the tables are too
    /// long.
    pub(super) fn new(sizes: Sizes, longest: u64) -> Result<Self, String> {
        let layout = sizes.layout();
        if layout.octets() > LONGEST {
            return Err(format!(
                "the tables for {} flows are longer than the kernel's verifier follows: configure \
                 fewer",
                sizes.flows
            ));
        }
        let cpus = cpu_numbers()?;
        let counters_made = sizes.flows.saturating_mul(cpus);
        let new = |name: &str, octets: u64| {
            element(name, octets).map_err(|error| format!("make the map {name}: {error}"))
        };
        Ok(Self {
            tables: new("TABLES", layout.octets())?,
            counters: match octets::<FlowCounters>(counters_made) {
                octets if octets <= longest && counters_made > 1 => Some(new("COUNTERS", octets)?),
                _ => None,
            },
            processors: new("PROCESSORS", octets::<Processor>(processors_made(cpus)))?,
            cpus,
            counters_made,
        })
    }

    /// How many counters are in the map that the object names.
    pub(super) fn looked_up(&self) -> u32 {
        match self.counters {
            Some(_) => 1,
            None => self.counters_made,
        }
    }

    /// The object, with where all of them are and how long they are in its instructions.
    ///
    /// # Errors
    /// When the object is another.
    pub(super) fn write(&self, sizes: Sizes, object: &[u8]) -> Result<Vec<u8>, String> {
        use Loaded::{Mask, Number, Place};
        let layout = sizes.layout();
        let [tables, processors] = [&self.tables, &self.processors].map(|map| map.as_raw_fd());
        let count = self.counters.as_ref().map_or(0, |_| self.counters_made);
        // Where they are looked up, this is what nobody asks for.
        let counters = self.counters.as_ref().unwrap_or(&self.processors);
        write(
            object,
            &[
                (placed::NEXT_HOPS, Place(tables, 0)),
                (placed::BUCKETS, Place(tables, layout.first_bucket() as u32)),
                (placed::ROWS, Place(tables, layout.first_row() as u32)),
                (placed::COUNTERS, Place(counters.as_raw_fd(), 0)),
                (placed::PROCESSORS, Place(processors, 0)),
                (placed::LAST_NEXT_HOP, Mask(layout.last_next_hop())),
                (placed::LAST_BUCKET, Mask((buckets(sizes.flows) - 1) * 4)),
                (placed::LAST_LINK, Number(layout.last_link() as u32)),
                (placed::COUNTERS_COUNT, Number(count)),
                (placed::LAST_PROCESSOR, Mask(processors_made(self.cpus) - 1)),
            ],
        )
    }
}

fn element(name: &str, octets: u64) -> io::Result<OwnedFd> {
    let mut map = Create {
        map_type: ARRAY,
        key_size: 4,
        value_size: u32::try_from(octets).map_err(|_| io::ErrorKind::OutOfMemory)?,
        max_entries: 1,
        map_flags: MAPPABLE,
        ..Create::default()
    };
    for (place, octet) in map.name[..15].iter_mut().zip(name.bytes()) {
        *place = octet;
    }
    map.create()
}

/// An instruction that loads 64 bits, and the register that it loads them into.
const LOAD: u8 = 0x18;
/// What says there that they are the address of an octet in a map's element.
const PLACE: u8 = if cfg!(target_endian = "big") {
    2
} else {
    2 << 4
};
/// An instruction that masks 64 bits by a number.
const AND: u8 = 0x57;

fn write(object: &[u8], all: &[(u32, Loaded)]) -> Result<Vec<u8>, String> {
    let length = object.len();
    // The last of the shorter instructions is looked at as the longer ones are.
    let mut object = [object, &[0; 8]].concat();
    let mut written = vec![0; all.len()];
    let mut at = 0;
    while let Some(instruction) = object.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<16>) {
        at += 8;
        let [operation, register, 0, 0, a, b, c, d, rest @ ..] = *instruction else {
            continue;
        };
        let low = u32::from_ne_bytes([a, b, c, d]);
        let what = match (operation, rest) {
            (LOAD, [0, 0, 0, 0, e, f, g, h])
                if u32::from_ne_bytes([e, f, g, h]) == placed::PLACED =>
            {
                low
            }
            (AND, _) if low & !0xff == placed::PLACED => low & 0xff,
            _ => continue,
        };
        let Some(index) = all.iter().position(|(known, _)| *known == what) else {
            return Err(format!("the object asks for {what}, which nobody knows"));
        };
        written[index] += 1;
        let (low, high) = match (operation, all[index].1) {
            (LOAD, Loaded::Place(map, octet)) => {
                instruction[1] = register | PLACE;
                (map as u32, Some(octet))
            }
            (LOAD, Loaded::Number(number)) => (number, Some(0)),
            (AND, Loaded::Mask(mask)) => (mask, None),
            _ => return Err(format!("the object asks for {what} as what it is not")),
        };
        instruction[4..8].copy_from_slice(&low.to_ne_bytes());
        if let Some(high) = high {
            instruction[12..16].copy_from_slice(&high.to_ne_bytes());
        }
    }
    match written.iter().position(|count| *count == 0) {
        Some(index) => Err(format!("the object does not ask for {}", all[index].0)),
        None => {
            object.truncate(length);
            Ok(object)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(register: u8, low: u32, high: u32) -> Vec<u8> {
        let mut octets = vec![LOAD, register, 0, 0];
        octets.extend(low.to_ne_bytes());
        octets.extend([0; 4]);
        octets.extend(high.to_ne_bytes());
        octets
    }

    fn mask(register: u8, mask: u32) -> Vec<u8> {
        let mut octets = vec![AND, register, 0, 0];
        octets.extend(mask.to_ne_bytes());
        octets
    }

    #[test]
    fn what_asks_for_something_gets_it_and_the_rest_stays() {
        let all = [
            (1, Loaded::Place(7, 64)),
            (9, Loaded::Number(1000)),
            (3, Loaded::Mask(15)),
        ];
        let object = [
            vec![7; 8],
            load(3, 1, placed::PLACED),
            load(4, 1, placed::PLACED + 1),
            load(5, 9, placed::PLACED),
            mask(1, placed::PLACED | 3),
            mask(2, 3),
            load(6, 1, placed::PLACED),
            vec![7; 5],
        ]
        .concat();
        let expected = [
            vec![7; 8],
            load(3 | PLACE, 7, 64),
            load(4, 1, placed::PLACED + 1),
            load(5, 1000, 0),
            mask(1, 15),
            mask(2, 3),
            load(6 | PLACE, 7, 64),
            vec![7; 5],
        ]
        .concat();
        assert_eq!(write(&object, &all), Ok(expected));
    }

    #[test]
    fn an_object_that_asks_for_less_or_more_is_refused() {
        let all = [(1, Loaded::Place(7, 64)), (9, Loaded::Number(1000))];
        assert!(write(&load(3, 1, placed::PLACED), &all).is_err());
        let more = [
            load(3, 1, placed::PLACED),
            load(3, 9, placed::PLACED),
            load(3, 2, placed::PLACED),
        ];
        assert!(write(&more.concat(), &all).is_err());
        let another = [
            load(3, 1, placed::PLACED),
            load(3, 9, placed::PLACED),
            mask(3, placed::PLACED | 9),
        ];
        assert!(write(&another.concat(), &all).is_err());
    }
}
