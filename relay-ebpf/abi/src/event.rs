//! What the kernel tells userspace at once, instead of leaving it to be found in a counter.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    U16,
    flow::{Endpoint, FlowKey},
};

/// A flow dropped its first packet on some CPU: the one thing that an operator who hears nothing
/// wants to know. One for each flow and CPU at most, so that nobody can make it a flood.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct FirstDrop {
    pub key: FlowKey,
    /// Who sent the packet.
    pub source: Endpoint,
    /// The drop reason's discriminant ([`crate::verdict::Reason`]).
    pub reason: U16,
}

const _: () = assert!(size_of::<FirstDrop>() == 40);
