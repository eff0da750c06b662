//! What the kernel program hands to a worker by the ring buffer that the two share: the frame as it
//! came, with a head.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What stands before the frame.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct PuntedHead {
    /// When it came in, in nanoseconds of the monotonic clock.
    pub arrived: u64,
    /// Octets of the frame; what follows them in the record is undefined.
    pub length: u32,
    pub zero: u32,
}

/// A record with room for a frame of `N` octets.
#[repr(C)]
pub struct Punted<const N: usize> {
    pub head: PuntedHead,
    pub frame: [u8; N],
}

/// Rooms that records come in: the ring takes no other lengths, and what a record leaves free is
/// lost. 20 ms of G.711 or of G.722 fit the first, over both families and with SRTP.
pub const SHORT: usize = 256;
pub const MIDDLE: usize = 512;
/// A whole frame of Ethernet with two tags.
pub const LONG: usize = 1536;

const _: () = assert!(size_of::<PuntedHead>() == 16);
