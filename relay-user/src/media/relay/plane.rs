//! The calls, and how a new description becomes what stands.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use relay_abi::{
    U32,
    flow::{FlowEntry, FlowKey},
};

use super::{
    KernelTables,
    counters::CounterIndices,
    flow::{Flow, Way},
    kernel::{hold_way, install_kernel, lead, release_way, report},
    rows::{FlowRows, SrtpRows, begins_a_key, has_another_source, keeps_source, retire},
    slow_path::SlowPath,
    statistics::{read, statistics, update_loss},
};
use crate::{
    media::{
        CallId, CallMedia, Capabilities, LegMedia, MediaError, Path, PathReason, StreamStatistics,
        is_srtp_offloadable, plan, ports::Ports,
    },
    next_hop::Watcher,
    slow::{SlowError, SlowFlow, endpoint, flow_key},
};

/// What the calls are made of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) tables: &'a KernelTables,
    pub(super) next_hops: Option<&'a Watcher>,
    pub(super) slow: &'a dyn SlowPath,
}

/// Every call, flow and port.
pub(super) struct Plane {
    pub(super) ports: Ports,
    pub(super) calls: HashMap<CallId, Box<Call>>,
    flows: HashMap<FlowKey, (CallId, usize)>,
    indices: CounterIndices,
    pub(super) srtp: SrtpRows,
    /// Addresses of interfaces that the XDP program is on.
    offloaded: HashSet<IpAddr>,
    /// Flows that a worker was too busy to remove.
    leftovers: Vec<FlowKey>,
    tokens: u32,
    /// What was lost of calls that have ended, and at ports that others have left.
    lost: u64,
    /// What was told to be lost of all calls.
    told_lost: u64,
}

/// One call.
pub(super) struct Call {
    pub(super) media: CallMedia,
    pub(super) flows: [Flow; 2],
    pub(super) rows: [FlowRows; 2],
}

/// A flow that a worker has news of, the leg that it comes from, and the flow the other way.
struct Concerned<'a> {
    flow: &'a mut Flow,
    rows: &'a FlowRows,
    leg: &'a LegMedia,
    opposite: &'a mut Flow,
    opposite_rows: &'a FlowRows,
}

impl Plane {
    pub(super) fn new(
        ports: Ports,
        flows: u32,
        srtp: SrtpRows,
        offloaded: HashSet<IpAddr>,
    ) -> Self {
        Self {
            ports,
            calls: HashMap::new(),
            flows: HashMap::new(),
            indices: CounterIndices::new(flows),
            srtp,
            offloaded,
            leftovers: Vec::new(),
            tokens: 0,
            lost: 0,
            told_lost: 0,
        }
    }

    pub(super) fn connect(
        &mut self,
        parts: &Parts<'_>,
        id: CallId,
        media: CallMedia,
    ) -> Result<[Path; 2], MediaError> {
        media.check_keys()?;
        self.check_ports(id, &media)?;
        let mut earlier = self.calls.remove(&id);
        if let Some(call) = earlier.as_ref().filter(|call| call.media == media) {
            let paths = call.paths();
            self.calls.extend(earlier.map(|call| (id, call)));
            return Ok(paths);
        }
        let (mut flows, rows) = self.describe(parts, earlier.as_deref(), &media);
        let installed = self.install_slow(parts, (&flows, &rows), &media, earlier.as_deref_mut());
        if let Err(error) = installed {
            self.undo(parts, &flows, earlier.as_deref());
            retire(parts.tables, &rows, earlier.as_ref().map(|call| &call.rows));
            self.calls.extend(earlier.map(|call| (id, call)));
            return Err(error);
        }
        for (direction, (flow, rows)) in flows.iter_mut().zip(&rows).enumerate() {
            install_kernel(parts.tables, flow, rows);
            self.flows.insert(flow.key, (id, direction));
            self.leftovers.retain(|key| *key != flow.key);
        }
        if let Some(mut earlier) = earlier {
            for old in &mut earlier.flows {
                release_way(parts, old);
                if flows.iter().all(|flow| flow.key != old.key) {
                    old.refresh_loss(parts.tables, parts.slow);
                    self.lost += old.loss.sum();
                    self.remove_flow(parts, old);
                }
            }
            retire(parts.tables, &earlier.rows, Some(&rows));
        }
        let call = Call { media, flows, rows };
        let paths = call.paths();
        self.calls.insert(id, Box::new(call));
        Ok(paths)
    }

    pub(super) fn disconnect(&mut self, parts: &Parts<'_>, id: CallId) {
        let Some(mut call) = self.calls.remove(&id) else {
            return;
        };
        call.refresh_loss(parts.tables, parts.slow);
        self.lost += call.lost();
        for flow in &call.flows {
            release_way(parts, flow);
            self.remove_flow(parts, flow);
        }
        retire(parts.tables, &call.rows, None);
    }

    /// A worker knows a flow's source: the kernel may relay it, and the other direction goes
    /// there.
    pub(super) fn learned(&mut self, parts: &Parts<'_>, key: &FlowKey, learned: &FlowEntry) {
        let Some(Concerned {
            flow,
            rows,
            leg,
            opposite,
            opposite_rows,
        }) = self.concerned(key, learned)
        else {
            return;
        };
        let announced = rows.unprotect.as_ref().map(|row| row.announced());
        if announced.is_some_and(|generation| generation != learned.generation.get()) {
            // News of a later source follows, which may have taken this one's index state.
            return;
        }
        if flow.is_learned() && flow.entry.generation != learned.generation {
            // The kernel's view of the source before is gone with its next packet.
            let (kernel, _) = read(parts.tables, parts.slow, flow);
            if kernel.reception.generation == flow.entry.generation.get() {
                let reception = &kernel.reception;
                let next = learned.generation.get();
                flow.loss
                    .close(reception.generation, reception.lost(), next);
            }
        }
        let entry = &mut flow.entry;
        entry.peer = learned.peer;
        // What the other leg hears is not the worker's to say: this may be older than a key.
        entry.ssrc_in = learned.ssrc_in;
        entry.timestamp_offset = learned.timestamp_offset;
        entry.sequence_offset = learned.sequence_offset;
        entry.generation = learned.generation;
        let known = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        let second = learned.flags.get() & FlowEntry::UNPROTECT_SECOND;
        let others = entry.flags.get() & !FlowEntry::UNPROTECT_SECOND;
        entry.flags = (others | known | second).into();
        flow.pin_strictly(leg);
        let peer = flow.entry.peer;
        install_kernel(parts.tables, flow, rows);
        lead(parts, opposite, opposite_rows, peer);
    }

    /// A leg's ICE has named its peer, whose SSRC is not known yet: the kernel takes nobody else,
    /// and the other direction goes there.
    pub(super) fn nominated(&mut self, parts: &Parts<'_>, key: &FlowKey, nominated: &FlowEntry) {
        let Some(concerned) = self.concerned(key, nominated) else {
            return;
        };
        let flow = concerned.flow;
        let peer = nominated.peer;
        flow.entry.peer = peer;
        flow.entry.flags = (flow.entry.flags.get() | FlowEntry::PINNED).into();
        install_kernel(parts.tables, flow, concerned.rows);
        lead(parts, concerned.opposite, concerned.opposite_rows, peer);
    }

    /// What a worker's news is about; none where the flow is gone, or its source was forgotten
    /// since.
    fn concerned(&mut self, key: &FlowKey, news: &FlowEntry) -> Option<Concerned<'_>> {
        let (id, direction) = self.flows.get(key).copied()?;
        let call = self.calls.get_mut(&id)?;
        let [first, second] = &mut call.flows;
        let [first_rows, second_rows] = &call.rows;
        let (flow, rows, opposite, opposite_rows) = match direction {
            0 => (first, first_rows, second, second_rows),
            _ => (second, second_rows, first, first_rows),
        };
        (news.next_hop.get() == flow.token).then_some(Concerned {
            flow,
            rows,
            leg: call.media.legs.get(direction)?,
            opposite,
            opposite_rows,
        })
    }

    /// Destinations that leave by another row of the next-hop table from now on.
    pub(super) fn move_hops(&mut self, tables: &KernelTables, moved: &[(IpAddr, IpAddr, u32)]) {
        let moved: HashMap<Way, u32> = moved
            .iter()
            .map(|(source, destination, index)| ((*source, *destination), *index))
            .collect();
        for call in self.calls.values_mut() {
            for (flow, rows) in call.flows.iter_mut().zip(&call.rows) {
                if let Some(index) = flow.way.and_then(|way| moved.get(&way)) {
                    flow.entry.next_hop = U32::new(*index);
                    install_kernel(tables, flow, rows);
                }
            }
        }
    }

    /// Tries again to remove what a worker was too busy for.
    pub(super) fn sweep(&mut self, slow: &dyn SlowPath) {
        self.leftovers.retain(|key| slow.remove(key).is_err());
    }

    pub(super) fn statistics(
        &mut self,
        tables: &KernelTables,
        slow: &dyn SlowPath,
        id: CallId,
    ) -> Option<[StreamStatistics; 2]> {
        let call = self.calls.get_mut(&id)?;
        let active = [0, 1].map(|direction: usize| {
            let stream = call.media.streams.get(direction);
            stream.is_some_and(|stream| stream.active)
        });
        let [first, second] = &mut call.flows;
        let [first_rows, second_rows] = &call.rows;
        Some([
            statistics(tables, slow, (first, first_rows), active[0]),
            statistics(tables, slow, (second, second_rows), active[1]),
        ])
    }

    /// What sources sent and did not come, as last looked at, of all calls there were. A packet that
    /// comes late after all lowers its stream's count, but not this one: whoever reads a counter
    /// takes a lower value for one that began anew.
    pub(super) fn lost(&mut self) -> u64 {
        let calls = self.calls.values().map(|call| call.lost()).sum::<u64>();
        self.told_lost = self.told_lost.max(self.lost + calls);
        self.told_lost
    }

    /// Both ports must be reserved, be two, and belong to no other call.
    fn check_ports(&self, id: CallId, media: &CallMedia) -> Result<(), MediaError> {
        let [first, second] = &media.legs;
        for leg in [first, second] {
            let owner = self.flows.get(&flow_key(leg.port.rtp));
            let foreign = owner.is_some_and(|(owner, _)| *owner != id);
            if !self.ports.is_taken(leg.port) || foreign || first.port == second.port {
                let port = leg.port.rtp;
                return Err(MediaError::NotReserved { port });
            }
        }
        Ok(())
    }

    /// The flows as the description has them, with counters and next hops of their own; nothing is
    /// installed yet.
    fn describe(
        &mut self,
        parts: &Parts<'_>,
        earlier: Option<&Call>,
        media: &CallMedia,
    ) -> ([Flow; 2], [FlowRows; 2]) {
        let mut flows = [0, 1].map(|direction: usize| {
            let leg = &media.legs[direction];
            let key = flow_key(leg.port.rtp);
            let before = earlier.and_then(|call| {
                let flow = call.flows.get(direction)?;
                Some((flow, call.media.legs.get(direction)?)).filter(|_| flow.key == key)
            });
            let mut flow = match before {
                Some((flow, _)) => *flow,
                None => Flow::new(key, Path::Userspace(PathReason::NoXdp), self.token()),
            };
            if before.is_some_and(|(flow, before)| flow.is_forgotten_by(before, leg)) {
                flow.forget(self.token());
            }
            let known = earlier.filter(|_| before.is_some());
            if known.is_some_and(|call| begins_a_key(&call.media, media, direction)) {
                flow.renew_ssrc();
            }
            flow.way = None;
            let held = flow.entry.has(FlowEntry::HELD);
            let clock_rate = flow.entry.clock_rate;
            flow.describe(media, direction);
            let secured = media.legs.iter().any(|leg| leg.srtp.is_some());
            let resumed = held && !flow.entry.has(FlowEntry::HELD);
            let reclocked = before.is_some() && flow.entry.clock_rate != clock_rate;
            if resumed && secured || reclocked {
                // The worker takes the source up anew, so that the hold is no gap, and another
                // clock no jitter.
                flow.forget_ssrc(self.token());
            }
            flow
        });
        let peers = flows.map(|flow| {
            let pinned = flow.entry.has(FlowEntry::PINNED);
            pinned.then_some(flow.entry.peer)
        });
        for (direction, flow) in flows.iter_mut().enumerate() {
            let remote = media.legs.get(1 - direction).and_then(LegMedia::signalled);
            let learned = peers.get(1 - direction).copied().flatten();
            flow.entry.to = learned
                .or(remote.map(|remote| endpoint(remote.rtp)))
                .unwrap_or_default();
        }
        let mut room = self.allot_counters(parts.tables, &mut flows);
        let xdp = [0, 1].map(|leg: usize| {
            let address = media.legs[leg].port.rtp.ip();
            parts.tables.datapath.is_some() && self.offloaded.contains(&address)
        });
        if xdp == [true, true] {
            for flow in &mut flows {
                room &= hold_way(parts, flow);
            }
        }
        let mut capabilities = Capabilities {
            xdp,
            srtp: self.srtp.offload,
            rows: [true; 2],
            room,
        };
        let keys = flows.map(|flow| flow.key);
        let offloadable = is_srtp_offloadable(media, &capabilities);
        let (rows, complete) = self
            .srtp
            .allot(parts.tables, keys, earlier, media, offloadable);
        capabilities.rows = complete;
        let paths = plan(media, &capabilities);
        for (direction, (flow, path)) in flows.iter_mut().zip(paths).enumerate() {
            flow.path = path;
            let before = earlier.and_then(|call| call.rows_of(&flow.key));
            if let Some(rows) = rows.get(direction) {
                let kept = keeps_source(before, rows);
                flow.secure(rows, kept);
                if !kept {
                    flow.refused_before += before.map_or(0, FlowRows::refused);
                    // The new key's index states are nobody's until the worker says whose.
                    flow.forget_ssrc(self.token());
                }
            }
        }
        (flows, rows)
    }

    /// Gives each flow that has none an index of counters, cleared. False when there are not
    /// enough, or the kernel's table of flows is full: then no new one gets any.
    fn allot_counters(&mut self, tables: &KernelTables, flows: &mut [Flow; 2]) -> bool {
        let lacking = flows.iter().filter(|flow| flow.counters.is_none()).count();
        if lacking == 0 {
            return true;
        }
        let free = tables.with(|datapath| {
            datapath
                .capacity()
                .flows
                .saturating_sub(datapath.flow_count()) as usize
        });
        if free.is_none_or(|free| free < lacking) || self.indices.left() < lacking {
            return false;
        }
        for flow in flows.iter_mut().filter(|flow| flow.counters.is_none()) {
            flow.counters = self.indices.take();
            if let Some(index) = flow.counters {
                let cleared = tables.with(|datapath| datapath.clear_counters(index));
                report("clear counters", cleared);
            }
        }
        true
    }

    /// Gives back what [`Plane::describe`] took for flows that were not installed after all.
    fn undo(&mut self, parts: &Parts<'_>, flows: &[Flow; 2], earlier: Option<&Call>) {
        for flow in flows {
            release_way(parts, flow);
            let had = earlier.into_iter().flat_map(|call| &call.flows);
            let known = had
                .map(|flow| flow.counters)
                .any(|index| index == flow.counters);
            if let Some(index) = flow.counters.filter(|_| !known) {
                self.indices.give(index);
            }
        }
    }

    /// Tells the workers of both directions, or of none.
    fn install_slow(
        &mut self,
        parts: &Parts<'_>,
        (flows, rows): (&[Flow; 2], &[FlowRows; 2]),
        media: &CallMedia,
        mut earlier: Option<&mut Call>,
    ) -> Result<(), MediaError> {
        let slow = parts.slow;
        for (direction, (flow, rows)) in flows.iter().zip(rows).enumerate() {
            let Err(error) = slow.install(flow.key, flow.slow(media, direction, rows)) else {
                continue;
            };
            for done in flows.iter().take(direction) {
                let before = earlier.as_deref_mut().and_then(|call| {
                    call.forget_keys(parts.tables, &done.key, media, self.token());
                    call.slow(&done.key)
                });
                match before {
                    Some(before) => {
                        if let Err(error) = slow.install(done.key, before) {
                            tracing::error!(%error, "a flow could not be made what it was");
                        }
                    }
                    None => self.remove_slow(slow, done.key),
                }
            }
            return Err(refusal(error));
        }
        Ok(())
    }

    fn remove_slow(&mut self, slow: &dyn SlowPath, key: FlowKey) {
        if let Err(error) = slow.remove(&key) {
            tracing::warn!(%error, "a flow was not removed from its worker yet; trying again");
            self.leftovers.push(key);
        }
    }

    fn remove_flow(&mut self, parts: &Parts<'_>, flow: &Flow) {
        self.flows.remove(&flow.key);
        if let Some(index) = flow.counters {
            report(
                "remove a flow",
                parts.tables.with(|datapath| datapath.remove(&flow.key)),
            );
            self.indices.give(index);
        }
        self.remove_slow(parts.slow, flow.key);
    }

    fn token(&mut self) -> u32 {
        self.tokens = self.tokens.wrapping_add(1);
        self.tokens
    }
}

const _: () = assert!(size_of::<Call>() <= 1200);

impl Call {
    pub(super) fn paths(&self) -> [Path; 2] {
        let [first, second] = &self.flows;
        [first.path, second.path]
    }

    /// Makes a flow ready for a worker that was told of `others`' keys, and so has forgotten how far
    /// it was with those that are not among them. `token` is for the flow.
    fn forget_keys(
        &mut self,
        tables: &KernelTables,
        key: &FlowKey,
        others: &CallMedia,
        token: u32,
    ) {
        let mut flows = self.flows.iter_mut().zip(&self.rows).enumerate();
        let Some((direction, (flow, rows))) = flows.find(|(_, (flow, _))| flow.key == *key) else {
            return;
        };
        if begins_a_key(others, &self.media, direction) {
            flow.renew_ssrc();
        }
        if has_another_source(others, &self.media, direction) {
            flow.forget_ssrc(token);
        }
        install_kernel(tables, flow, rows);
    }

    /// What the worker of one of its flows was told.
    fn slow(&self, key: &FlowKey) -> Option<SlowFlow> {
        let mut flows = self.flows.iter().zip(&self.rows).enumerate();
        let (direction, (flow, rows)) = flows.find(|(_, (flow, _))| flow.key == *key)?;
        Some(flow.slow(&self.media, direction, rows))
    }

    fn rows_of(&self, key: &FlowKey) -> Option<&FlowRows> {
        let mut flows = self.flows.iter().zip(&self.rows);
        flows
            .find(|(flow, _)| flow.key == *key)
            .map(|(_, rows)| rows)
    }

    fn lost(&self) -> u64 {
        self.flows.iter().map(|flow| flow.loss.sum()).sum()
    }

    pub(super) fn refresh_loss(&mut self, tables: &KernelTables, slow: &dyn SlowPath) {
        for flow in &mut self.flows {
            flow.refresh_loss(tables, slow);
        }
    }
}

impl Flow {
    fn refresh_loss(&mut self, tables: &KernelTables, slow: &dyn SlowPath) {
        let (kernel, worker) = read(tables, slow, self);
        update_loss(self, &kernel.merge(worker.flow));
    }
}

fn refusal(error: SlowError) -> MediaError {
    match error {
        SlowError::Keys { suite } => MediaError::Keys { suite },
        SlowError::Full { limit } => MediaError::Capacity {
            table: "flows of the workers",
            limit,
        },
        other => MediaError::Kernel(other.to_string()),
    }
}
