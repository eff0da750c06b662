//! The tables that the relay asks: maps in the kernel, collections on the host.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    U16,
    counters::FlowCounters,
    event::FirstDrop,
    flow::{Endpoint, FlowEntry, FlowKey},
    next_hop::NextHop,
    seal::{SealedFlow, SealedNextHop},
    verdict::Reason,
};

/// Where the relay keeps what it found while it works on a frame; what was in it does not matter.
/// The kernel's stack has no room for it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Scratch {
    pub flow: SealedFlow,
    pub next_hop: SealedNextHop,
    pub key: FlowKey,
    pub source: Endpoint,
    pub event: FirstDrop,
    pub zero: U16,
}

const _: () = assert!(size_of::<Scratch>() == 240);

/// What the relay needs to know besides the frame.
pub trait Tables {
    /// Whether `port` is in the media port range.
    fn is_media_port(&self, port: u16) -> bool;

    /// The flow entry of `key`, copied to `copy`, where nobody changes it.
    ///
    /// # Errors
    /// [`Reason::UnknownFlow`], [`Reason::Changing`].
    fn flow<'a>(&self, key: &FlowKey, copy: &'a mut SealedFlow) -> Result<&'a FlowEntry, Reason>;

    /// The next hop at `index`, copied to `copy`, where nobody changes it.
    ///
    /// # Errors
    /// [`Reason::UnresolvedNextHop`], [`Reason::Changing`].
    fn next_hop<'a>(&self, index: u32, copy: &'a mut SealedNextHop) -> Result<&'a NextHop, Reason>;

    /// Gets ready to send by `next_hop`: back out of the ingress interface, or through the device
    /// map; false when the device is not in it.
    fn can_send(&self, next_hop: &NextHop) -> bool;

    /// The counters at `index` of this CPU.
    fn counters(&mut self, index: u32) -> Option<&mut FlowCounters>;

    /// Tells that a flow dropped its first packet here.
    fn tell(&mut self, event: &FirstDrop);

    /// Nanoseconds of a clock that only goes forward.
    fn now(&self) -> u64;
}
