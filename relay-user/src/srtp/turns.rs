//! The turns of the sequence number that a key's first packet is tried with: its sender may have
//! gone through some that were not ours to count.

/// ROCs that the first packet of a key is tried with: some three hours of 50 packets a second.
pub(super) const TURNS: u32 = 8;

/// Packets of a key that are tried with every ROC until one is authentic.
const FREELY: u32 = 32;

/// Of those that follow, one in so many is: a flood of forged packets costs little more than it
/// would without, and a good packet is found a third of a second later.
const THEN_ONE_IN: u32 = 16;

/// How many packets were refused at ROC 0 before the first good one.
#[derive(Debug, Default)]
pub(super) struct Tries {
    refused: u32,
}

impl Tries {
    /// Whether a packet that ROC 0 refuses is tried with the others.
    pub(super) fn are_due(&mut self) -> bool {
        let due = self.refused < FREELY || self.refused.is_multiple_of(THEN_ONE_IN);
        self.refused = self.refused.wrapping_add(1);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_tried_with_little_more_than_one_roc_a_packet() {
        let mut tries = Tries::default();
        let first = (0..FREELY).filter(|_| tries.are_due()).count();
        assert_eq!(first, FREELY as usize);
        let more = (0..160_000).filter(|_| tries.are_due()).count();
        assert_eq!(more, 10_000);
    }
}
