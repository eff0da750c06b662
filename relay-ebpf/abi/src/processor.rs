//! What each CPU keeps to itself.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{clock::Clock, counters::ReasonCounters, tables::Scratch, verdict::Reason};

/// In one element, as every lookup costs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Processor {
    pub reasons: [ReasonCounters; REASONS],
    pub clock: Clock,
    /// Where this CPU's flow counters begin in the table of all CPUs'.
    pub first_counters: u32,
    /// Why the packet is punted that is being handed over: its reason's discriminant.
    pub punted: u32,
    pub scratch: Scratch,
    /// No CPU writes where another one does.
    pub beyond: [u8; BEYOND],
}

const BEYOND: usize =
    1024 - size_of::<[ReasonCounters; REASONS]>() - size_of::<Clock>() - 8 - size_of::<Scratch>();

/// How many reasons there are.
pub const REASONS: usize = Reason::ALL.len();

const _: () = assert!(size_of::<Processor>() == 1024);
