//! The datapath as the media plane sees it.

use std::sync::Arc;

use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    flow::{FlowEntry, FlowKey, PAYLOAD_TYPES},
    next_hop::NextHop,
    srtp::{
        key::PreparedKey,
        stream::{ROWS, RowReference, StreamState},
    },
    verdict::Reason,
};

use super::{
    DatapathError, OffloadConfig, StreamStates, configuration::DEVICES, flow_table::Refusal,
};

/// What relays in the fast path: the XDP program's maps, or collections in memory.
///
/// Calls are one or two system calls at most and never wait, but for [`Datapath::install`] where
/// flows change by the hundred in the milliseconds after which the kernel gives rows back.
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

    /// Puts a key into its row and opens the row for `row`, both index states at ROC 0. The row is
    /// closed while that goes on. It must not be given to another stream for some seconds after
    /// [`Datapath::wipe_key`], so that no packet is still being worked on with the earlier one.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`]; the row is then closed.
    fn write_key(&mut self, row: RowReference, key: &PreparedKey) -> Result<(), DatapathError>;

    /// Closes a row and wipes its key, if it still is of `row`'s generation. A packet that a flow
    /// is using it for ends there; what comes then is punted.
    ///
    /// # Errors
    /// [`DatapathError::Index`], [`DatapathError::Kernel`]; the row is closed all the same.
    fn wipe_key(&mut self, row: RowReference) -> Result<(), DatapathError>;

    /// The rows' states, which the kernel shares.
    fn streams(&self) -> Arc<StreamStates>;

    /// Whether packets of SRTP are relayed.
    ///
    /// # Errors
    /// Why not: the configuration, or what the kernel refused and which one it takes.
    fn srtp(&self) -> Result<(), String>;

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
    /// Rows of keys.
    pub srtp_streams: u32,
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
            srtp_streams: config.srtp_streams.min(ROWS),
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
        for (flag, row) in [
            (FlowEntry::UNPROTECT, entry.unprotect),
            (FlowEntry::PROTECT, entry.protect),
        ] {
            if entry.has(flag) {
                self.check_row(row)?;
            }
        }
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

    /// The error for a flow that found no place.
    pub(super) fn refused(&self, refusal: Refusal) -> DatapathError {
        match refusal {
            Refusal::Full => DatapathError::Capacity {
                table: "flows",
                limit: self.flows,
            },
            Refusal::Crowded => {
                DatapathError::Flow("too many flows share its place in the kernel's table")
            }
        }
    }

    pub(crate) fn check_counters(&self, index: u32) -> Result<(), DatapathError> {
        within("flow counters", index, self.flows)
    }

    pub(crate) fn check_next_hop(&self, index: u32) -> Result<(), DatapathError> {
        within("next hops", index, self.next_hops)
    }

    fn check_row(&self, row: RowReference) -> Result<(), DatapathError> {
        if row.generation() == 0 {
            return Err(DatapathError::Flow("its SRTP key is of no row"));
        }
        within("SRTP streams", row.row(), self.srtp_streams)
    }

    /// The state of a row among those of all.
    pub(crate) fn stream<'a>(
        &self,
        states: &'a StreamStates,
        row: RowReference,
    ) -> Result<&'a StreamState, DatapathError> {
        self.check_row(row)?;
        states.get(row.row()).ok_or(DatapathError::Index {
            table: "SRTP streams",
            index: row.row(),
            limit: self.srtp_streams,
        })
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
