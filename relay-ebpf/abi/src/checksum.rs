//! Checksums corrected by increment (RFC 1624): what a rewrite changes is added up once and then
//! applied to each checksum that covers it, so the payload is never read.

use crate::{U16, flow::Address};

/// The one's complement sum of what a rewrite changed: `~m + m'` of RFC 1624, equation 3, for every
/// word. Words are added in the machine's own order, which the sum does not notice (RFC 1071,
/// section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u64);

impl Change {
    /// A 16-bit field at an even offset.
    #[inline(always)]
    pub fn half(&mut self, old: [u8; 2], new: [u8; 2]) {
        self.0 += u64::from(!u16::from_ne_bytes(old)) + u64::from(u16::from_ne_bytes(new));
    }

    /// A 32-bit field at an even offset.
    #[inline(always)]
    pub fn word(&mut self, old: [u8; 4], new: [u8; 4]) {
        self.0 += u64::from(!u32::from_ne_bytes(old)) + u64::from(u32::from_ne_bytes(new));
    }

    /// A 32-bit field at an even offset, in the machine's order.
    #[inline(always)]
    pub fn native(&mut self, old: u32, new: u32) {
        self.0 += u64::from(!old) + u64::from(new);
    }

    /// A 64-bit field at an even offset, in the machine's order.
    #[inline(always)]
    pub fn long(&mut self, old: u64, new: u64) {
        let old = !old;
        self.0 += (old & 0xffff_ffff) + (old >> 32) + (new & 0xffff_ffff) + (new >> 32);
    }

    /// An IPv6 address.
    #[inline(always)]
    pub fn address(&mut self, old: &Address, new: &Address) {
        for word in old.words() {
            let word = !word.get();
            self.0 += (word & 0xffff_ffff) + (word >> 32);
        }
        for word in new.words() {
            let word = word.get();
            self.0 += (word & 0xffff_ffff) + (word >> 32);
        }
    }

    /// The change in 16 bits, in the machine's order; zero for no change at all.
    #[inline(always)]
    #[must_use]
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The header checksum of IPv4 after the change.
    #[inline(always)]
    #[must_use]
    pub fn apply(mut self, checksum: U16) -> U16 {
        self.0 += u64::from(!u16::from_ne_bytes(checksum.to_bytes()));
        U16::from_bytes((!self.folded()).to_ne_bytes())
    }

    /// The checksum of UDP after the change. Zero says that the sender made none and stays
    /// (RFC 768); a sum that comes out as zero is sent as all ones.
    #[inline(always)]
    #[must_use]
    pub fn apply_udp(self, checksum: U16) -> U16 {
        if checksum == U16::ZERO {
            return checksum;
        }
        let new = self.apply(checksum);
        if new == U16::ZERO {
            U16::MAX_VALUE
        } else {
            new
        }
    }
}

/// What one more in the last bit of a 16-bit field is in a sum.
const ONE: u32 = u16::from_ne_bytes(1u16.to_be_bytes()) as u32;

/// Nothing in a sum, and more than is taken from one in [`SmallChange::header`].
const NOTHING: u32 = 0xffff * 0x100;

/// [`Change::folded`] of a sum in 32 bits: in the product the third 16 bits are both halves and
/// what they carry.
#[inline(always)]
const fn fold(sum: u32) -> u16 {
    ((sum as u64).wrapping_mul(0x1_0001_0001) >> 32) as u16
}

/// A [`Change`] computed beforehand, and the little that a packet adds to it.
#[derive(Clone, Copy, Debug)]
pub struct SmallChange(u32);

impl SmallChange {
    /// What [`SmallChange::header`] begins with.
    #[must_use]
    pub fn header_base(change: Change) -> u32 {
        u32::from(change.folded()) + NOTHING
    }

    /// A change of the header of IPv4, from whose sum up to 2^22 may be taken.
    #[inline(always)]
    #[must_use]
    pub const fn header(base: u32) -> Self {
        Self(base)
    }

    /// What [`SmallChange::datagram`] begins with.
    #[must_use]
    pub fn datagram_base(change: Change) -> u16 {
        !change.folded()
    }

    /// A change of a datagram.
    #[inline(always)]
    #[must_use]
    pub const fn datagram(base: u16) -> Self {
        Self(base as u32)
    }

    /// Two 16-bit fields at an even offset, of which only the first may have its upper bits, as
    /// they stand in the header, become something else that is in the sum already.
    #[inline(always)]
    pub const fn without(&mut self, old: u32) {
        let old = if cfg!(target_endian = "big") {
            old.rotate_left(16)
        } else {
            old
        };
        self.0 = self.0.wrapping_sub(old);
    }

    /// A 16-bit field at an even offset.
    #[inline(always)]
    pub fn half(&mut self, old: [u8; 2], new: [u8; 2]) {
        let (old, new) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
        self.0 = self.0.wrapping_sub(old as u32).wrapping_add(new as u32);
    }

    /// Fields that had an offset added wrapped, so often.
    #[inline(always)]
    pub const fn wraps(&mut self, times: u32) {
        self.0 = self.0.wrapping_add(times.wrapping_mul(ONE));
    }

    /// As [`Change::apply`].
    #[inline(always)]
    #[must_use]
    pub fn apply_header(self, checksum: U16) -> U16 {
        let old = u16::from_ne_bytes(checksum.to_bytes());
        U16::from_bytes((!fold(self.0.wrapping_sub(old as u32))).to_ne_bytes())
    }

    /// As [`Change::apply_udp`], of a checksum that is not zero.
    #[inline(always)]
    #[must_use]
    pub fn apply_datagram(self, checksum: U16) -> U16 {
        let old = u16::from_ne_bytes(checksum.to_bytes());
        // What is nothing in a sum comes out as all ones.
        U16::from_bytes(fold(self.0.wrapping_add(old as u32)).to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_scratch(words: &[[u8; 2]]) -> U16 {
        let mut sum: u32 = words
            .iter()
            .map(|word| u32::from(u16::from_be_bytes(*word)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        U16::new(!(sum as u16))
    }

    proptest! {
        #[test]
        fn an_increment_equals_the_sum_from_scratch(
            words in proptest::collection::vec(any::<[u8; 2]>(), 12..60),
            half in any::<[u8; 2]>(), word in any::<[u8; 4]>(), address in any::<[u8; 16]>(),
            kept in 1u8..,
        ) {
            let mut words = words;
            // A header is never all zeros, for which alone 0 and 0xffff would be told apart.
            words[11] = [kept, 0];
            let before = from_scratch(&words);
            let mut change = Change::default();
            change.half(words[0], half);
            words[0] = half;
            change.word(
                [words[1][0], words[1][1], words[2][0], words[2][1]],
                word,
            );
            words[1] = [word[0], word[1]];
            words[2] = [word[2], word[3]];
            let old: std::vec::Vec<u8> = words[3..11].concat();
            change.address(
                &Address(old.try_into().expect("eight words")),
                &Address(address),
            );
            for (word, new) in words[3..11].iter_mut().zip(address.chunks(2)) {
                *word = [new[0], new[1]];
            }
            prop_assert_eq!(change.apply(before), from_scratch(&words));
        }
    }

    #[test]
    fn a_missing_udp_checksum_stays_missing() {
        let mut change = Change::default();
        change.half([1, 2], [3, 4]);
        assert_eq!(change.apply_udp(U16::ZERO), U16::ZERO);
    }

    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        // The rest of the packet sums to 0x1111; the changed word brings it to 0xffff.
        let before = U16::new(!0x1111);
        let mut change = Change::default();
        change.half([0, 0], [0xee, 0xee]);
        assert_eq!(change.apply(before), U16::ZERO);
        assert_eq!(change.apply_udp(before), U16::MAX_VALUE);
    }
}
