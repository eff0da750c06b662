//! A datapath in memory: the same decisions and bytes as the kernel's, without a kernel.

use std::{
    cell::{RefCell, RefMut},
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
};

use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    flow::{FlowEntry, FlowKey},
    frame::{BufferFrame, Frame},
    next_hop::NextHop,
    relay::{self, Outcome},
    secured::{self, SecuredScratch, SecuredTables},
    srtp::{
        key::PreparedKey,
        machine::Plain,
        stream::{RowReference, StreamState},
    },
    tables::{Scratch, Tables},
    verdict::Reason,
};

use super::{
    Capacity, Datapath, DatapathError, OffloadConfig, StreamStates, flow_table::FlowTable,
    memory_on, next_hop_table::NextHopTable, shared_rows::Row,
};
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
    flows: FlowTable,
    counters: RefCell<Vec<FlowCounters>>,
    next_hops: NextHopTable,
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
            flows: FlowTable::on_the_heap(capacity.flows),
            counters: vec![FlowCounters::default(); capacity.flows as usize].into(),
            next_hops: NextHopTable::on_the_heap(capacity.next_hops),
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
        self.capacity.stream(&self.streams, row)
    }

    /// The entry of a flow.
    #[must_use]
    pub fn flow(&self, key: &FlowKey) -> Option<FlowEntry> {
        Tables::flow(self, key, &mut Default::default())
            .ok()
            .copied()
    }

    /// A row of the next-hop table.
    #[must_use]
    pub fn next_hop(&self, index: u32) -> Option<NextHop> {
        Tables::next_hop(self, index, &mut Default::default())
            .ok()
            .copied()
    }

    /// Does to a frame what the XDP program does to one that comes in by the interface `ingress`
    /// (the kernel's index), at `now` nanoseconds of any clock that only goes forward.
    pub fn relay(&mut self, frame: &mut BufferFrame<'_>, ingress: u32, now: u64) -> Outcome {
        self.run(frame, ingress, now, relay::relay)
    }

    /// [`MemoryDatapath::relay`] by the long way, also for the common packet.
    #[cfg(test)]
    pub(super) fn relay_any(
        &mut self,
        frame: &mut BufferFrame<'_>,
        ingress: u32,
        now: u64,
    ) -> Outcome {
        self.run(frame, ingress, now, relay::relay_any)
    }

    fn run<'a>(
        &mut self,
        frame: &mut BufferFrame<'a>,
        ingress: u32,
        now: u64,
        relay: impl FnOnce(&mut BufferFrame<'a>, &mut Self, &mut Scratch) -> Outcome,
    ) -> Outcome {
        self.now = now;
        self.ingress = ingress;
        let octets = frame.length() as u64;
        let mut scratch = Scratch::default();
        let mut outcome = relay(frame, self, &mut scratch);
        if outcome.reason == Reason::NoSrtp && self.srtp.is_ok() {
            outcome = secured::relay(frame, self, &mut scratch, &mut SecuredScratch::default());
        }
        if let Some(counters) = self.reasons.get_mut(outcome.reason as usize) {
            counters.packets += 1;
            counters.octets += octets;
        }
        outcome
    }
}

impl Tables for MemoryDatapath {
    type Row<'a> = Row<'a>;
    type Counters<'a> = RefMut<'a, FlowCounters>;

    fn is_media_port(&self, port: u16) -> bool {
        (self.capacity.first_port..=self.capacity.last_port).contains(&port)
    }

    fn first_row(&self, bucket: u32) -> u32 {
        self.flows.first(bucket)
    }

    fn any_row(&self, link: u32) -> Option<Row<'_>> {
        self.flows.linked(link)
    }

    fn next_hop_row(&self, index: u32) -> Option<Row<'_>> {
        self.next_hops.row(index)
    }

    fn can_send(&self, interface: u32, device: u32) -> bool {
        interface == self.ingress || matches!(self.devices.get(device as usize), Some(Some(_)))
    }

    fn counters(&self, index: u32) -> Option<RefMut<'_, FlowCounters>> {
        let counters = self.counters.try_borrow_mut().ok()?;
        RefMut::filter_map(counters, |counters| counters.get_mut(index as usize)).ok()
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

impl SecuredTables for MemoryDatapath {
    type Word = AtomicU64;
    type Machine = Plain;

    fn key(&self, row: u32) -> Option<&PreparedKey> {
        self.keys.get(row as usize)?.as_deref()
    }

    fn stream(&self, row: u32) -> Option<&StreamState> {
        self.streams.get(row)
    }
}

impl Datapath for MemoryDatapath {
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
            .borrow()
            .get(counters as usize)
            .copied()
            .unwrap_or_default())
    }

    fn clear_counters(&mut self, counters: u32) -> Result<(), DatapathError> {
        self.capacity.check_counters(counters)?;
        if let Some(counters) = self.counters.get_mut().get_mut(counters as usize) {
            *counters = FlowCounters::default();
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
        self.flows.count()
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn map_memory(&self) -> u64 {
        self.map_memory
    }
}
