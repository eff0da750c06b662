//! The datapath in the kernel: the XDP program's maps.
//!
//! Keys and values cross as plain words, which the types of `relay-abi` become and come from
//! without unsafe code.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aya::maps::{Array, DevMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
    processor::{Processor, REASONS},
    srtp::{
        key::PreparedKey,
        stream::{RowReference, StreamState},
    },
    verdict::Reason,
};
use zerocopy::{FromBytes, FromZeros as _, transmute, transmute_ref};

use super::{
    Capacity, Datapath, DatapathError, OffloadConfig, StreamStates, elements::Elements,
    flow_table::FlowTable, grace::Grace, map_memory::sizes, mapped::Mapped, memory,
    next_hop_table::NextHopTable, shared_rows::SharedWords,
};

type CounterWords = [AtomicU64; size_of::<FlowCounters>() / 8];
type ProcessorWords = [AtomicU64; size_of::<Processor>() / 8];
type KeyWords = [u64; size_of::<PreparedKey>() / 8];

/// The [`Datapath`] that the XDP program works by.
pub struct XdpDatapath {
    capacity: Capacity,
    map_memory: u64,
    flows: FlowTable,
    /// How many flow counters each CPU has.
    counters_each: usize,
    /// Of all flows for the first CPU, then for the next one.
    flow_counters: Mapped<CounterWords>,
    next_hops: NextHopTable,
    devices: DevMap<MapData>,
    keys: Array<MapData, KeyWords>,
    streams: Arc<StreamStates>,
    srtp: Result<(), String>,
    processors: Mapped<ProcessorWords>,
    events: RingBuf<MapData>,
    event_losses: PerCpuArray<MapData, u64>,
}

/// What went wrong, down to the system call.
pub(super) fn cause(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

pub(super) fn refused(operation: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |error| DatapathError::Kernel {
        operation,
        cause: cause(&error),
    }
}

/// Tells each CPU where its flow counters begin.
fn begin_counters(processors: &Mapped<ProcessorWords>, each: u32) {
    for (cpu, words) in (0u32..).zip(processors.elements()) {
        let begin: [u64; size_of::<Processor>() / 8] = transmute!(Processor {
            first_counters: cpu * each,
            ..Processor::new_zeroed()
        });
        for (word, begin) in words.iter().zip(begin) {
            word.store(begin, Ordering::Relaxed);
        }
    }
}

impl XdpDatapath {
    /// Takes the maps out of a loaded object, whose programs have `elements` in their instructions.
    /// `srtp` is what came of loading the program for SRTP.
    pub(super) fn new(
        bpf: &mut aya::Ebpf,
        elements: &Elements,
        config: &OffloadConfig,
        srtp: Result<(), String>,
    ) -> Result<Self, DatapathError> {
        let mut take = |name: &'static str| -> Result<Map, DatapathError> {
            bpf.take_map(name).ok_or(DatapathError::Kernel {
                operation: "open a map",
                cause: format!("the object has no map {name}"),
            })
        };
        let open = refused("open a map");
        let streams = match take("STATES")? {
            Map::Array(states) => StreamStates::mapped(states.fd(), sizes(config).streams),
            _ => Err(std::io::ErrorKind::InvalidData.into()),
        };
        let streams = streams.map_err(|error| DatapathError::Kernel {
            operation: "share the states of SRTP streams",
            cause: error.to_string(),
        })?;
        let sizes = sizes(config);
        let layout = sizes.layout();
        let tables = SharedWords::mapped(&elements.tables, layout.octets() as usize / 4);
        let tables = tables.map_err(|error| DatapathError::Kernel {
            operation: "share the rows of the flows and the next hops",
            cause: error.to_string(),
        })?;
        let grace = Grace::new().map_err(|error| DatapathError::Kernel {
            operation: "prepare for rows that are used again",
            cause: error.to_string(),
        })?;
        let (rows, buckets) = FlowTable::words(sizes.flows);
        let flows = FlowTable::new(
            sizes.flows,
            tables.part(layout.first_row() as usize / 4, rows),
            tables.part(layout.first_bucket() as usize / 4, buckets),
            Some(grace),
        );
        let next_hops = NextHopTable::new(tables.part(0, NextHopTable::words(sizes.next_hops)));
        let counters = elements.counters_made as usize;
        let flow_counters = match (&elements.counters, take("FLOW_COUNTERS")?) {
            (Some(element), _) => Mapped::new(element, counters),
            (None, Map::Array(map)) => Mapped::new(map.fd(), counters),
            (None, _) => Err(std::io::ErrorKind::InvalidData.into()),
        };
        let flow_counters = flow_counters.map_err(|error| DatapathError::Kernel {
            operation: "share the counters of the flows",
            cause: error.to_string(),
        })?;
        let processors = Mapped::new(&elements.processors, elements.cpus as usize);
        let processors = processors.map_err(|error| DatapathError::Kernel {
            operation: "share what each processor keeps to itself",
            cause: error.to_string(),
        })?;
        begin_counters(&processors, sizes.flows);
        Ok(Self {
            capacity: Capacity::of(config),
            map_memory: memory(config),
            flows,
            counters_each: sizes.flows as usize,
            flow_counters,
            next_hops,
            devices: take("DEVICES")?.try_into().map_err(&open)?,
            keys: take("KEYS")?.try_into().map_err(&open)?,
            streams: Arc::new(streams),
            srtp,
            processors,
            events: take("EVENTS")?.try_into().map_err(&open)?,
            event_losses: take("EVENT_LOSSES")?.try_into().map_err(&open)?,
        })
    }
}

impl XdpDatapath {
    /// What the table of keys holds in a row.
    #[cfg(test)]
    pub(super) fn key_words(&self, row: u32) -> KeyWords {
        self.keys.get(&row, 0).expect("a row")
    }

    /// Each CPU's counters at an index.
    fn counters(&self, index: u32) -> impl Iterator<Item = &CounterWords> {
        self.flow_counters
            .elements()
            .iter()
            .skip(index as usize)
            .step_by(self.counters_each)
    }

    fn stream(&self, row: RowReference) -> Result<&StreamState, DatapathError> {
        self.capacity.stream(&self.streams, row)
    }
}

impl Datapath for XdpDatapath {
    fn install(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<(), DatapathError> {
        self.capacity.check(key, entry)?;
        self.flows
            .install(key, entry)
            .map_err(|refusal| self.capacity.refused(refusal))
    }

    fn remove(&mut self, key: &FlowKey) -> Result<(), DatapathError> {
        self.flows.remove(key);
        Ok(())
    }

    fn write_key(&mut self, row: RowReference, key: &PreparedKey) -> Result<(), DatapathError> {
        self.stream(row)?.close();
        let words: &KeyWords = transmute_ref!(key);
        self.keys
            .set(row.row(), words, 0)
            .map_err(refused("write an SRTP key"))?;
        self.stream(row)?.open(row);
        Ok(())
    }

    fn wipe_key(&mut self, row: RowReference) -> Result<(), DatapathError> {
        let state = self.stream(row)?;
        if !state.is(row) {
            return Ok(());
        }
        state.close();
        self.keys
            .set(row.row(), KeyWords::from([0; _]), 0)
            .map_err(refused("wipe an SRTP key"))
    }

    fn streams(&self) -> Arc<StreamStates> {
        Arc::clone(&self.streams)
    }

    fn srtp(&self) -> Result<(), String> {
        self.srtp.clone()
    }

    fn read(&self, counters: u32) -> Result<FlowCounters, DatapathError> {
        self.capacity.check_counters(counters)?;
        Ok(self
            .counters(counters)
            .map(|words| {
                let words = words.each_ref().map(|word| word.load(Ordering::Relaxed));
                transmute!(words)
            })
            .fold(FlowCounters::default(), FlowCounters::merge))
    }

    fn clear_counters(&mut self, counters: u32) -> Result<(), DatapathError> {
        self.capacity.check_counters(counters)?;
        for word in self.counters(counters).flatten() {
            word.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn set_next_hop(&mut self, index: u32, next_hop: &NextHop) -> Result<(), DatapathError> {
        self.capacity.check_next_hop(index)?;
        self.next_hops.set(index, next_hop);
        Ok(())
    }

    fn set_device(&mut self, slot: u32, interface: u32) -> Result<(), DatapathError> {
        self.capacity.check_device(slot)?;
        self.devices
            .set(slot, interface, None, 0)
            .map_err(|error| DatapathError::Kernel {
                operation: "put a device into the device map",
                cause: cause(&error),
            })
    }

    fn reasons(&self) -> Result<Vec<(Reason, ReasonCounters)>, DatapathError> {
        let mut sums = [ReasonCounters::default(); REASONS];
        for words in self.processors.elements() {
            let words = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            let processor: Processor = transmute!(words);
            for (sum, one) in sums.iter_mut().zip(&processor.reasons) {
                sum.packets = sum.packets.wrapping_add(one.packets);
                sum.octets = sum.octets.wrapping_add(one.octets);
            }
        }
        Ok(Reason::ALL.iter().copied().zip(sums).collect())
    }

    fn events(&mut self) -> Vec<FirstDrop> {
        let mut events = Vec::new();
        while let Some(item) = self.events.next() {
            if let Ok(event) = FirstDrop::read_from_bytes(&item) {
                events.push(event);
            }
        }
        events
    }

    fn event_losses(&self) -> Result<u64, DatapathError> {
        let each = self
            .event_losses
            .get(&0, 0)
            .map_err(refused("read the lost events"))?;
        Ok(each.iter().sum())
    }

    fn flow_count(&self) -> u32 {
        self.flows.count()
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn map_memory(&self) -> u64 {
        self.map_memory
    }
}
