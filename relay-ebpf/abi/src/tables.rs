//! The tables that the relay asks: maps in the kernel, collections on the host.

use crate::{
    counters::FlowCounters,
    event::FirstDrop,
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
    verdict::Reason,
};

/// What the relay needs to know besides the frame.
pub trait Tables {
    /// Whether `port` is in the media port range.
    fn is_media_port(&self, port: u16) -> bool;

    /// The flow entry of `key`, a copy that nobody changes.
    ///
    /// # Errors
    /// [`Reason::UnknownFlow`], [`Reason::Changing`].
    fn flow(&self, key: &FlowKey) -> Result<FlowEntry, Reason>;

    /// The next hop at `index`, a copy that nobody changes.
    ///
    /// # Errors
    /// [`Reason::UnresolvedNextHop`], [`Reason::Changing`].
    fn next_hop(&self, index: u32) -> Result<NextHop, Reason>;

    /// Gets ready to send by `next_hop`; false when its device is not in the device map.
    fn can_send(&self, next_hop: &NextHop) -> bool;

    /// The counters at `index` of this CPU.
    fn counters(&mut self, index: u32) -> Option<&mut FlowCounters>;

    /// Tells that a flow dropped its first packet here.
    fn tell(&mut self, event: &FirstDrop);

    /// Nanoseconds of a clock that only goes forward.
    fn now(&self) -> u64;
}
