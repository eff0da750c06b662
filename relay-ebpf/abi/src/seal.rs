//! Seals: how the kernel program tells a whole map element from one that is being rewritten.
//!
//! The kernel copies a new value into a hash-map element word by word while other CPUs may be
//! reading it, and gives a removed element to the next key without waiting for them. What is read
//! can then be half of one flow and half of another, which would send one caller's voice to
//! somebody else. So the element carries a sum over its key and its content; the program copies
//! the element, computes the sum over its copy and trusts nothing that does not agree. That asks
//! for no lock, no order of the stores and no grace period.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute, transmute_ref};

use crate::{
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
};

/// A flow entry as the flow table holds it, in the machine's words.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct SealedFlow {
    pub words: [u64; 14],
    pub seal: u64,
}

/// A next hop as its table holds it, in the machine's words.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct SealedNextHop {
    pub words: [u64; 4],
    pub seal: u64,
}

const _: () = assert!(size_of::<SealedFlow>() == 120);
const _: () = assert!(size_of::<SealedNextHop>() == 40);

/// Odd multipliers without structure (SplitMix64's first outputs): each word moves the sum
/// differently, so exchanged and mixed words show.
const MULTIPLIERS: [u64; 15] = multipliers();

const fn multipliers() -> [u64; 15] {
    let mut multipliers = [0; 15];
    let mut state = 0u64;
    let mut index = 0;
    while index < multipliers.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        multipliers[index] = (word ^ (word >> 31)) | 1;
        index += 1;
    }
    multipliers
}

#[inline(always)]
fn sum<const WORDS: usize>(words: &[u64; WORDS], start: u64) -> u64 {
    let mut sum = start;
    let mut index = 0;
    while index < WORDS {
        // Folding the high half down lets every bit of a word reach the low bits of the sum.
        let word = words[index] ^ (words[index] >> 32);
        sum = sum.wrapping_add(word.wrapping_mul(MULTIPLIERS[index]));
        index += 1;
    }
    sum
}

#[inline(always)]
fn key_sum(key: &FlowKey) -> u64 {
    let words: [u32; 5] = transmute!(*key);
    let mut sum = MULTIPLIERS[14];
    let mut index = 0;
    while index < 5 {
        sum = (sum ^ words[index] as u64).wrapping_mul(MULTIPLIERS[index]);
        index += 1;
    }
    sum
}

impl SealedFlow {
    /// Seals `entry` for `key`.
    #[inline(always)]
    #[must_use]
    pub fn new(key: &FlowKey, entry: &FlowEntry) -> Self {
        let words = transmute!(*entry);
        Self {
            words,
            seal: sum(&words, key_sum(key)),
        }
    }

    /// The flow entry, if it is whole and belongs to `key`.
    #[inline(always)]
    #[must_use]
    pub fn open(&self, key: &FlowKey) -> Option<&FlowEntry> {
        if sum(&self.words, key_sum(key)) == self.seal {
            Some(transmute_ref!(&self.words))
        } else {
            None
        }
    }
}

impl SealedNextHop {
    #[inline(always)]
    #[must_use]
    pub fn new(next_hop: &NextHop) -> Self {
        let words = transmute!(*next_hop);
        Self {
            words,
            seal: sum(&words, 0),
        }
    }

    /// The next hop, if it is whole. An element that was never set is whole, and unresolved.
    #[inline(always)]
    #[must_use]
    pub fn open(&self) -> Option<&NextHop> {
        if sum(&self.words, 0) == self.seal {
            Some(transmute_ref!(&self.words))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn sealed() -> impl Strategy<Value = (FlowKey, SealedFlow)> {
        (any::<[u8; 20]>(), any::<[u64; 14]>()).prop_map(|(key, words)| {
            let key: FlowKey = transmute!(key);
            (key, SealedFlow::new(&key, &transmute!(words)))
        })
    }

    proptest! {
        #[test]
        fn a_whole_entry_opens_for_its_own_key_alone((key, flow) in sealed(), bit in 0usize..160) {
            let entry = flow.open(&key).expect("whole");
            let words: [u64; 14] = transmute!(*entry);
            prop_assert_eq!(words, flow.words);

            let mut other = key;
            other.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(flow.open(&other).is_none());
        }

        /// What a reader sees while one entry is written over another: any of the words old, the
        /// rest new.
        #[test]
        fn a_mixture_of_two_entries_opens_for_neither(
            (old_key, old) in sealed(), (new_key, new) in sealed(), which in 1u16..(1 << 15) - 1,
        ) {
            let old_words: [u64; 15] = transmute!(old);
            let new_words: [u64; 15] = transmute!(new);
            let mut mixed = old_words;
            for (index, word) in mixed.iter_mut().enumerate() {
                if which & (1 << index) != 0 {
                    *word = new_words[index];
                }
            }
            let mixed: SealedFlow = transmute!(mixed);
            prop_assert!(mixed.open(&old_key).is_none());
            prop_assert!(mixed.open(&new_key).is_none());
        }

        /// The two are lives of one flow: most words are the same, and few bits differ.
        #[test]
        fn a_mixture_of_two_lives_opens_only_as_one_of_them(
            (key, old) in sealed(), changes in proptest::collection::vec((0usize..14, 0u32..64), 1..4),
            which in any::<u16>(),
        ) {
            let mut words = old.words;
            for (word, bit) in changes {
                words[word] ^= 1 << bit;
            }
            let new = SealedFlow::new(&key, &transmute!(words));
            let mut mixed = old;
            for (index, word) in mixed.words.iter_mut().enumerate() {
                if which & (1 << index) != 0 {
                    *word = new.words[index];
                }
            }
            if which & (1 << 14) != 0 {
                mixed.seal = new.seal;
            }
            prop_assert_eq!(mixed.open(&key).is_some(), mixed == old || mixed == new);
        }
    }

    #[test]
    fn a_next_hop_opens_whole_and_a_row_never_written_is_unresolved() {
        let next_hop = NextHop {
            resolved: 1,
            source: [1; 6],
            ..NextHop::default()
        };
        let sealed = SealedNextHop::new(&next_hop);
        assert_eq!(sealed.open(), Some(&next_hop));
        let mut torn = sealed;
        torn.words[1] ^= 1 << 40;
        assert_eq!(torn.open(), None);
        assert_eq!(
            SealedNextHop::default().open().map(|row| row.resolved),
            Some(0)
        );
    }
}
