//! Rows that one writer changes while programs on every CPU read them.
//!
//! What is read in the middle of a change can be half of one next hop and half of another, which
//! would send one caller's voice to somebody else. So a row that is changed where it is begins with
//! a version: odd while the row is being changed, another one after every change. A reader takes
//! the version, then what it needs, then asks whether the version is still the same, and does
//! nothing with what it read until then. It asks for no lock and costs two loads.

/// A row as its readers see it. Offsets are in octets; those of longer values are multiples of
/// their lengths.
pub trait Shared: Copy {
    /// The version, read before whatever is asked for next.
    fn any_version(self) -> u32;

    /// The version, read before whatever is asked for next; `None` while the row is being changed.
    #[inline(always)]
    fn version(self) -> Option<u32> {
        let version = self.any_version();
        (version & 1 == 0).then_some(version)
    }

    /// Whether the version is still the one that was read before, asked after everything else.
    fn is_still(self, version: u32) -> bool;

    fn octet(self, offset: usize) -> u8;

    fn half(self, offset: usize) -> u16;

    fn word(self, offset: usize) -> u32;

    /// As [`Shared::word`], to be added to: a compiler that sees that it has 32 bits asks by a
    /// branch whether the sum has more.
    #[inline(always)]
    fn wide<const OFFSET: usize>(self) -> u64 {
        self.word(OFFSET) as u64
    }

    fn long(self, offset: usize) -> u64;

    /// As [`Shared::long`], at any even offset, of a row that nobody changes meanwhile.
    fn any_long(self, offset: usize) -> u64;
}

/// Copies what begins at `offset` of a row, in the machine's words.
#[inline(always)]
pub fn copy<const WORDS: usize>(row: impl Shared, offset: usize, words: &mut [u64; WORDS]) {
    let mut index = 0;
    while index < WORDS {
        words[index] = row.long(offset + index * 8);
        index += 1;
    }
}
