//! A datapath in memory: the same decisions and bytes as the kernel's, without a kernel.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    flow::{FlowEntry, FlowKey},
    frame::{BufferFrame, Frame},
    next_hop::NextHop,
    relay::{self, Outcome},
    seal::{SealedFlow, SealedNextHop},
    srtp::{
        key::PreparedKey,
        stream::{RowReference, StreamState},
    },
    tables::{Scratch, Tables},
    verdict::Reason,
};

use super::{Capacity, Datapath, DatapathError, OffloadConfig, StreamStates, memory_on};
use crate::srtp::StreamKey;

/// As many events as wait for their reader.
const EVENTS: usize = 4096;

/// Why no SRTP is relayed where the configuration has no rows for it.
pub(super) const NO_STREAMS: &str = "off in the configuration";

/// A [`Datapath`] without a kernel, whose [`MemoryDatapath::relay`] does to a frame what the XDP
/// program does.
#[derive(Debug)]
pub struct MemoryDatapath {
    capacity: Capacity,
    map_memory: u64,
    flows: HashMap<FlowKey, SealedFlow>,
    counters: Vec<FlowCounters>,
    next_hops: Vec<SealedNextHop>,
    devices: Vec<Option<u32>>,
    keys: Vec<Option<StreamKey>>,
    streams: Arc<StreamStates>,
    srtp: Result<(), String>,
    reasons: Vec<ReasonCounters>,
    events: VecDeque<FirstDrop>,
    event_losses: u64,
    ingress: u32,
    now: u64,
}

impl MemoryDatapath {
    /// Empty tables of the sizes that `config` names.
    #[must_use]
    pub fn new(config: &OffloadConfig) -> Self {
        let capacity = Capacity::of(config);
        Self {
            capacity,
            map_memory: memory_on(config, 1),
            flows: HashMap::new(),
            counters: vec![FlowCounters::default(); capacity.flows as usize],
            next_hops: vec![SealedNextHop::default(); capacity.next_hops as usize],
            devices: vec![None; capacity.devices as usize],
            keys: (0..capacity.srtp_streams).map(|_| None).collect(),
            streams: Arc::new(StreamStates::on_the_heap(capacity.srtp_streams)),
            srtp: match capacity.srtp_streams {
                0 => Err(NO_STREAMS.to_owned()),
                _ => Ok(()),
            },
            reasons: vec![ReasonCounters::default(); Reason::ALL.len()],
            events: VecDeque::new(),
            event_losses: 0,
            ingress: 0,
            now: 0,
        }
    }

    /// Behaves as a kernel that has refused the program for SRTP, for the reason `why`.
    pub fn refuse_srtp(&mut self, why: &str) {
        self.srtp = Err(why.to_owned());
    }

    fn stream(&self, row: RowReference) -> Result<&StreamState, DatapathError> {
        self.capacity.check_row(row)?;
        self.streams.get(row.row()).ok_or(DatapathError::Index {
            table: "SRTP streams",
            index: row.row(),
            limit: self.capacity.srtp_streams,
        })
    }

    /// The entry of a flow.
    #[must_use]
    pub fn flow(&self, key: &FlowKey) -> Option<FlowEntry> {
        self.flows.get(key)?.open(key).copied()
    }

    /// A row of the next-hop table.
    #[must_use]
    pub fn next_hop(&self, index: u32) -> Option<NextHop> {
        self.next_hops.get(index as usize)?.open().copied()
    }

    /// Does to a frame what the XDP program does to one that comes in by the interface `ingress`
    /// (the kernel's index), at `now` nanoseconds of any clock that only goes forward.
    pub fn relay(&mut self, frame: &mut BufferFrame<'_>, ingress: u32, now: u64) -> Outcome {
        self.now = now;
        self.ingress = ingress;
        let octets = frame.length() as u64;
        let outcome = relay::relay(frame, self, &mut Scratch::default());
        if let Some(counters) = self.reasons.get_mut(outcome.reason as usize) {
            counters.packets += 1;
            counters.octets += octets;
        }
        outcome
    }
}

impl Tables for MemoryDatapath {
    fn is_media_port(&self, port: u16) -> bool {
        (self.capacity.first_port..=self.capacity.last_port).contains(&port)
    }

    fn flow<'a>(&self, key: &FlowKey, copy: &'a mut SealedFlow) -> Result<&'a FlowEntry, Reason> {
        *copy = *self.flows.get(key).ok_or(Reason::UnknownFlow)?;
        copy.open(key).ok_or(Reason::Changing)
    }

    fn next_hop<'a>(&self, index: u32, copy: &'a mut SealedNextHop) -> Result<&'a NextHop, Reason> {
        *copy = *self
            .next_hops
            .get(index as usize)
            .ok_or(Reason::UnresolvedNextHop)?;
        copy.open().ok_or(Reason::Changing)
    }

    fn can_send(&self, next_hop: &NextHop) -> bool {
        let back = next_hop.interface.get() == self.ingress;
        back || matches!(
            self.devices.get(next_hop.device.get() as usize),
            Some(Some(_))
        )
    }

    fn counters(&mut self, index: u32) -> Option<&mut FlowCounters> {
        self.counters.get_mut(index as usize)
    }

    fn tell(&mut self, event: &FirstDrop) {
        if self.events.len() < EVENTS {
            self.events.push_back(*event);
        } else {
            self.event_losses += 1;
        }
    }

    fn now(&self) -> u64 {
        self.now
    }
}

impl Datapath for MemoryDatapath {
    fn install(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<(), DatapathError> {
        self.capacity.check(key, entry)?;
        if self.flow_count() >= self.capacity.flows && !self.flows.contains_key(key) {
            return Err(DatapathError::Capacity {
                table: "flows",
                limit: self.capacity.flows,
            });
        }
        self.flows.insert(*key, SealedFlow::new(key, entry));
        Ok(())
    }

    fn remove(&mut self, key: &FlowKey) -> Result<(), DatapathError> {
        self.flows.remove(key);
        Ok(())
    }

    fn write_key(&mut self, row: RowReference, key: &PreparedKey) -> Result<(), DatapathError> {
        self.stream(row)?.close();
        if let Some(place) = self.keys.get_mut(row.row() as usize) {
            *place = Some(StreamKey::from(key));
        }
        self.stream(row)?.open(row);
        Ok(())
    }

    fn wipe_key(&mut self, row: RowReference) -> Result<(), DatapathError> {
        let state = self.stream(row)?;
        if !state.is(row) {
            return Ok(());
        }
        state.close();
        if let Some(place) = self.keys.get_mut(row.row() as usize) {
            *place = None;
        }
        Ok(())
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
            .counters
            .get(counters as usize)
            .copied()
            .unwrap_or_default())
    }

    fn clear_counters(&mut self, counters: u32) -> Result<(), DatapathError> {
        self.capacity.check_counters(counters)?;
        if let Some(counters) = self.counters.get_mut(counters as usize) {
            *counters = FlowCounters::default();
        }
        Ok(())
    }

    fn set_next_hop(&mut self, index: u32, next_hop: &NextHop) -> Result<(), DatapathError> {
        self.capacity.check_next_hop(index)?;
        if let Some(row) = self.next_hops.get_mut(index as usize) {
            *row = SealedNextHop::new(next_hop);
        }
        Ok(())
    }

    fn set_device(&mut self, slot: u32, interface: u32) -> Result<(), DatapathError> {
        self.capacity.check_device(slot)?;
        if let Some(device) = self.devices.get_mut(slot as usize) {
            *device = Some(interface);
        }
        Ok(())
    }

    fn reasons(&self) -> Result<Vec<(Reason, ReasonCounters)>, DatapathError> {
        Ok(Reason::ALL
            .iter()
            .copied()
            .zip(self.reasons.iter().copied())
            .collect())
    }

    fn events(&mut self) -> Vec<FirstDrop> {
        self.events.drain(..).collect()
    }

    fn event_losses(&self) -> Result<u64, DatapathError> {
        Ok(self.event_losses)
    }

    fn flow_count(&self) -> u32 {
        u32::try_from(self.flows.len()).unwrap_or(u32::MAX)
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn map_memory(&self) -> u64 {
        self.map_memory
    }
}
