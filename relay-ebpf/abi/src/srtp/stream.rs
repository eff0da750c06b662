//! Streams' rows: which key a flow uses, and where its stream is. The kernel and the workers share
//! a row's state, so that a stream has one replay window and one rollover counter whichever of them
//! has the next packet.

use core::{mem::size_of, sync::atomic::AtomicU64};

#[cfg(target_has_atomic = "64")]
use core::sync::atomic::Ordering::SeqCst;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::index::{IndexState, SharedWord};
use crate::U32;

/// Rows that a [`RowReference`] can tell apart.
pub const ROWS: u32 = 1 << 20;
/// Generations of a row, of which 0 is a row without a key.
pub const GENERATIONS: u32 = 1 << 12;

/// A row of the tables of keys and states, for as long as it is of one generation. All zeros
/// refers to nothing.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct RowReference(U32);

impl RowReference {
    /// `None` for a row from [`ROWS`] on, and for a generation of 0 or from [`GENERATIONS`] on.
    #[must_use]
    pub const fn new(row: u32, generation: u32) -> Option<Self> {
        if row < ROWS && generation != 0 && generation < GENERATIONS {
            Some(Self(U32::new((generation << 20) | row)))
        } else {
            None
        }
    }

    #[inline(always)]
    #[must_use]
    pub const fn row(self) -> u32 {
        self.0.get() & (ROWS - 1)
    }

    /// 0 if this refers to nothing.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0.get() >> 20
    }
}

/// A row's state. The second index state is for the SSRC that came after the first one's, or
/// before it: which of them a flow is on, its entry says.
///
/// Whoever takes the row away makes the generation 0 before anything else of the row changes, and
/// gives it its next one when everything is in place. So a packet for which [`StreamState::is`]
/// held before the key was used and [`StreamState::is_still`] afterwards was worked on with the
/// whole key of that generation.
#[derive(Debug)]
#[repr(C)]
pub struct StreamState<W = AtomicU64> {
    generation: W,
    indices: [IndexState<W>; 2],
    /// Packets that the kernel refused to unprotect.
    refused: W,
}

const _: () = assert!(size_of::<StreamState>() == 288);

impl<W: SharedWord> StreamState<W> {
    /// Whether the row has the key that `row` was made for.
    #[inline(always)]
    #[must_use]
    pub fn is(&self, row: RowReference) -> bool {
        let generation = row.generation();
        generation != 0 && self.generation.read() == generation as u64
    }

    /// [`StreamState::is`], and everything read before was read before this.
    #[inline(always)]
    #[must_use]
    pub fn is_still(&self, row: RowReference) -> bool {
        self.generation.is_still(row.generation() as u64)
    }

    /// The first index state or the second.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "an index of a packet, not of a place"
    )]
    pub fn index(&self, second: bool) -> &IndexState<W> {
        let [first, other] = &self.indices;
        if second { other } else { first }
    }

    /// Packets that the kernel refused to unprotect with this key.
    #[inline(always)]
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.read()
    }

    /// Counts a packet that was refused. One that other CPUs are quicker at every time is not
    /// counted here: what a flood of them amounts to shows all the same.
    #[inline(always)]
    pub fn refuse(&self) {
        let mut tries = 0;
        while tries < 4 {
            let seen = self.refused.read();
            if self.refused.exchange(seen, seen.wrapping_add(1)) {
                break;
            }
            tries += 1;
        }
    }
}

#[cfg(target_has_atomic = "64")]
impl Default for StreamState {
    /// A row without a key.
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(0),
            indices: Default::default(),
            refused: AtomicU64::new(0),
        }
    }
}

#[cfg(target_has_atomic = "64")]
impl StreamState {
    /// Takes the row away from everybody.
    pub fn close(&self) {
        self.generation.store(0, SeqCst);
    }

    /// Gives the row, whose key is in place, to those who refer to it by `row`. Both index states
    /// begin at ROC 0.
    pub fn open(&self, row: RowReference) {
        for index in &self.indices {
            index.restart();
        }
        self.refused.store(0, SeqCst);
        self.generation.store(u64::from(row.generation()), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_of_one_row_and_one_generation() {
        let row = RowReference::new(ROWS - 1, GENERATIONS - 1).expect("the last one");
        assert_eq!((row.row(), row.generation()), (ROWS - 1, GENERATIONS - 1));
        assert_eq!(RowReference::new(ROWS, 1), None);
        assert_eq!(RowReference::new(0, 0), None);
        assert_eq!(RowReference::new(0, GENERATIONS), None);
    }

    #[test]
    fn a_row_is_the_ones_it_was_opened_for_until_it_is_closed() {
        let state = StreamState::default();
        let row = |generation| RowReference::new(3, generation).expect("a reference");
        assert!(!state.is(RowReference::default()));
        state.open(row(1));
        assert!(state.is(row(1)) && state.is_still(row(1)));
        assert!(!state.is(row(2)) && !state.is_still(row(2)));
        assert_eq!(state.index(true).take(70_000), Ok(()));
        state.refuse();
        assert_eq!(state.refused(), 1);
        state.close();
        assert!(!state.is(row(1)) && !state.is_still(row(1)));
        state.open(row(2));
        assert!(state.is(row(2)) && !state.is(row(1)));
        assert_eq!((state.index(true).highest(), state.refused()), (0, 0));
        assert_eq!(state.index(true).take(70_000), Ok(()));
        assert_eq!(state.index(false).highest(), 0);
    }
}
