//! The datapath as the media plane sees it.

use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    flow::{FlowEntry, FlowKey, PAYLOAD_TYPES},
    next_hop::NextHop,
    verdict::Reason,
};

use super::{DatapathError, OffloadConfig, configuration::DEVICES};

/// What relays in the fast path: the XDP program's maps, or collections in memory.
///
/// Calls are one or two system calls at most and never wait.
pub trait Datapath: Send {
    /// Makes the entry of `key` what `entry` says, new or changed.
    ///
    /// # Errors
    /// [`DatapathError::Capacity`]; [`DatapathError::Flow`] and [`DatapathError::Index`] for an
    /// entry that could never relay right; [`DatapathError::Kernel`]. The entry is then as before.
    fn install(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<(), DatapathError>;

    /// Removes a flow; its packets are punted from then on. Its counters stay until cleared. An
    /// unknown flow is ignored.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`].
    fn remove(&mut self, key: &FlowKey) -> Result<(), DatapathError>;

    /// What all CPUs together counted at an index of the flow counters.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`].
    fn read(&self, counters: u32) -> Result<FlowCounters, DatapathError>;

    /// Zeroes an index of the flow counters, before a new flow takes it.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`].
    fn clear_counters(&mut self, counters: u32) -> Result<(), DatapathError>;

    /// Writes a row of the next-hop table.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`].
    fn set_next_hop(&mut self, index: u32, next_hop: &NextHop) -> Result<(), DatapathError>;

    /// Puts a device, by the kernel's index, into a slot of the device map.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`].
    fn set_device(&mut self, slot: u32, interface: u32) -> Result<(), DatapathError>;

    /// What was counted for each reason, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// [`DatapathError::Kernel`].
    fn reasons(&self) -> Result<Vec<(Reason, ReasonCounters)>, DatapathError>;

    /// What flows dropped first since the last call. Whoever reads too rarely loses some, which
    /// [`Datapath::event_losses`] counts.
    fn events(&mut self) -> Vec<FirstDrop>;

    /// Events that found no room.
    ///
    /// # Errors
    /// [`DatapathError::Kernel`].
    fn event_losses(&self) -> Result<u64, DatapathError>;

    /// Flows installed.
    fn flow_count(&self) -> u32;

    /// How large the tables are.
    fn capacity(&self) -> Capacity;

    /// The memory that the tables take, in octets.
    fn map_memory(&self) -> u64;
}

/// How large a datapath's tables are, and which ports it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Flows, and indices of the flow counters.
    pub flows: u32,
    pub next_hops: u32,
    /// Slots of the device map.
    pub devices: u32,
    pub first_port: u16,
    pub last_port: u16,
}

impl Capacity {
    pub(crate) fn of(config: &OffloadConfig) -> Self {
        Self {
            flows: config.flows,
            next_hops: config.next_hops,
            devices: DEVICES,
            first_port: *config.media_ports.start(),
            last_port: *config.media_ports.end(),
        }
    }

    /// Refuses an entry that could never relay right: the program does not look again.
    pub(crate) fn check(&self, key: &FlowKey, entry: &FlowEntry) -> Result<(), DatapathError> {
        let port = key.local.port.get();
        if port < self.first_port || port > self.last_port {
            return Err(DatapathError::Flow(
                "its local port is outside the media port range",
            ));
        }
        if key.zero.get() != 0 {
            return Err(DatapathError::Flow("its key's padding is not zero"));
        }
        self.check_counters(entry.counters.get())?;
        if usize::from(entry.payload_type_count) > PAYLOAD_TYPES {
            return Err(DatapathError::Flow(
                "it has more payload types than an entry holds",
            ));
        }
        if entry
            .payload_types
            .iter()
            .any(|pair| pair.incoming > 127 || pair.outgoing > 127)
        {
            return Err(DatapathError::Flow("a payload type is above 127"));
        }
        if entry.dscp > 63 {
            return Err(DatapathError::Flow("its code point is above 63"));
        }
        // Where a packet leaves to matters only when one can.
        let stays = FlowEntry::USERSPACE | FlowEntry::HELD;
        if entry.flags.get() & stays != 0 || !entry.has(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN) {
            return Ok(());
        }
        self.check_next_hop(entry.next_hop.get())?;
        let v4 = key.local.address.as_v4().is_some();
        if [entry.from, entry.to]
            .iter()
            .any(|end| end.address.as_v4().is_some() != v4)
        {
            return Err(DatapathError::Flow(
                "its ends are of different address families",
            ));
        }
        Ok(())
    }

    pub(crate) fn check_counters(&self, index: u32) -> Result<(), DatapathError> {
        within("flow counters", index, self.flows)
    }

    pub(crate) fn check_next_hop(&self, index: u32) -> Result<(), DatapathError> {
        within("next hops", index, self.next_hops)
    }

    pub(crate) fn check_device(&self, slot: u32) -> Result<(), DatapathError> {
        within("devices", slot, self.devices)
    }
}

fn within(table: &'static str, index: u32, limit: u32) -> Result<(), DatapathError> {
    if index < limit {
        Ok(())
    } else {
        Err(DatapathError::Index {
            table,
            index,
            limit,
        })
    }
}
