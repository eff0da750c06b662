//! The memory that the maps take, computed from the kernel's own layouts.

use std::mem::size_of;

use relay_abi::{
    counters::FlowCounters,
    processor::Processor,
    secured::SecuredScratch,
    settings::Settings,
    srtp::{
        key::PreparedKey,
        stream::{ROWS, StreamState},
    },
};

use super::{
    OffloadConfig, XdpMode,
    configuration::{DEVICES, EVENT_OCTETS, ring_octets},
    elements::processors_made,
    layout::Layout,
};

const POINTER: u64 = 8;
const PAGE: u64 = 4096;

/// The memory in octets that the maps of `config` take on this machine. Nothing is loaded.
#[must_use]
pub fn memory(config: &OffloadConfig) -> u64 {
    memory_on(config, cpu_numbers().unwrap_or(1))
}

/// [`memory`] on a machine whose CPUs have the numbers below `cpus`.
#[must_use]
pub fn memory_on(config: &OffloadConfig, cpus: u32) -> u64 {
    let cpus = u64::from(cpus);
    let sizes = sizes(config);
    let flows = u64::from(sizes.flows);
    let streams = u64::from(sizes.streams);

    let tables = sizes.layout().octets().next_multiple_of(PAGE);
    let flow_counters = mapped(flows * cpus, size_of::<FlowCounters>());
    let losses = per_cpu_array(1, size_of::<u64>(), cpus);
    let processors = u64::from(processors_made(cpus as u32));
    let processors = mapped(processors, size_of::<Processor>());
    let keys = streams * padded(size_of::<PreparedKey>());
    let states = mapped(streams, size_of::<StreamState>());
    let work = per_cpu_array(1, size_of::<SecuredScratch>(), cpus);
    let programs = 3 * POINTER;
    let settings = padded(size_of::<Settings>());
    let devices = u64::from(DEVICES) * POINTER;
    let events = ring(EVENT_OCTETS);
    let rings = u64::from(sizes.rings) * (ring(ring_octets(sizes.rings)) + POINTER);
    let sockets = u64::from(socket_slots(config)) * POINTER;
    tables
        + flow_counters
        + losses
        + processors
        + keys
        + states
        + work
        + programs
        + settings
        + devices
        + events
        + rings
        + sockets
}

/// What the maps are made for.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub flows: u32,
    pub next_hops: u32,
    pub streams: u32,
    /// One for each worker.
    pub rings: u32,
}

impl Sizes {
    pub(super) fn layout(self) -> Layout {
        Layout {
            flows: self.flows,
            next_hops: self.next_hops,
        }
    }
}

/// The sizes of the maps: without XDP one of each, as the kernel makes no empty map.
pub(crate) fn sizes(config: &OffloadConfig) -> Sizes {
    match config.mode {
        XdpMode::Off => Sizes {
            flows: 1,
            next_hops: 1,
            streams: 1,
            rings: 0,
        },
        XdpMode::Generic | XdpMode::Native => Sizes {
            flows: config.flows.max(1),
            next_hops: config.next_hops.max(1),
            streams: config.srtp_streams.clamp(1, ROWS),
            rings: u32::from(config.workers),
        },
    }
}

/// Slots of the socket map: one for each worker and family.
pub(crate) fn socket_slots(config: &OffloadConfig) -> u32 {
    u32::from(config.workers).max(1) * 2
}

/// A ring's pages, two for its positions and one for the rest; the data pages are mapped twice, not
/// held twice.
fn ring(octets: u32) -> u64 {
    u64::from(octets) + 3 * PAGE
}

/// An array that userspace maps takes whole pages.
fn mapped(entries: u64, value: usize) -> u64 {
    (entries * padded(value)).next_multiple_of(PAGE)
}

fn per_cpu_array(entries: u64, value: usize, cpus: u64) -> u64 {
    entries * (POINTER + cpus * padded(value))
}

fn padded(octets: usize) -> u64 {
    (octets as u64).next_multiple_of(8)
}

/// How many CPUs there would be without gaps in the numbers of those that this machine may have.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn cpu_numbers() -> Result<u32, String> {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
    let list = std::fs::read_to_string(POSSIBLE).map_err(|error| format!("{POSSIBLE}: {error}"))?;
    behind_last(&list).ok_or_else(|| format!("{POSSIBLE} is not a list of CPUs: {list}"))
}

/// One more than the greatest number in a list such as `0-3,8,10-11`.
fn behind_last(list: &str) -> Option<u32> {
    list.trim_end()
        .split([',', '-'])
        .try_fold(0, |most, number| {
            let number: u16 = number.parse().ok()?;
            Some(most.max(u32::from(number) + 1))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flows: u32) -> OffloadConfig {
        OffloadConfig {
            mode: XdpMode::Native,
            forced: false,
            interfaces: Vec::new(),
            flows,
            next_hops: 1024,
            srtp_streams: 0,
            media_ports: 20_000..=29_999,
            workers: 4,
        }
    }

    #[test]
    fn gaps_in_the_numbers_of_cpus_count_as_cpus() {
        for (list, expected) in [
            ("0\n", Some(1)),
            ("0-3\n", Some(4)),
            ("0-3,8,10-11\n", Some(12)),
            ("8-9,0-1", Some(10)),
            ("65535", Some(65_536)),
            ("65536", None),
            ("0-", None),
            ("0-3,x", None),
            ("\n", None),
        ] {
            assert_eq!(behind_last(list), expected, "{list:?}");
        }
    }

    /// The bound that an operator plans with, at the capacities that fit the hash's buckets worst
    /// and best, the fixed part included.
    #[test]
    fn a_call_takes_at_most_a_kibibyte_on_four_cpus() {
        for calls in [4_096, 4_097, 10_000, 50_000, 65_537, 100_000] {
            let octets = memory_on(&config(calls * 2), 4);
            let fixed = memory_on(&config(1), 4);
            assert!(
                (octets - fixed) / u64::from(calls) <= 1024,
                "{calls} calls take {octets} octets"
            );
        }
    }

    #[test]
    fn without_xdp_the_flow_tables_take_nothing_to_speak_of() {
        let off = OffloadConfig {
            mode: XdpMode::Off,
            ..config(200_000)
        };
        assert!(memory_on(&off, 4) < 512 * 1024);
        assert!(memory_on(&config(200_000), 4) > 50 * 1024 * 1024);
    }
}
