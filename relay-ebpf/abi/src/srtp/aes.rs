//! AES-128 in counter mode (RFC 3711, section 4.1.1), by tables.
//!
//! A column of the state is a word whose lowest octet is the column's first one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The words of an expanded key: one block for each of ten rounds, and one before them.
pub const ROUND_KEY_WORDS: usize = 44;

const SUBSTITUTIONS: [u8; 256] = substitutions();
/// What an octet of each row contributes to its column: substitution and column mix in one.
static TABLES: [[u32; 256]; 4] = tables();

/// Multiplication by x in AES's field.
const fn double(octet: u8) -> u8 {
    (octet << 1) ^ ((octet >> 7) * 0x1b)
}

/// The substitution box (FIPS 197, section 5.1.1), by powers of the generator 3 and its inverse.
const fn substitutions() -> [u8; 256] {
    let mut table = [0; 256];
    let (mut power, mut inverse) = (1u8, 1u8);
    loop {
        power ^= double(power);
        // Division by 3.
        inverse ^= inverse << 1;
        inverse ^= inverse << 2;
        inverse ^= inverse << 4;
        inverse ^= (inverse >> 7) * 0x09;
        let spread = inverse
            ^ inverse.rotate_left(1)
            ^ inverse.rotate_left(2)
            ^ inverse.rotate_left(3)
            ^ inverse.rotate_left(4);
        table[power as usize] = spread ^ 0x63;
        if power == 1 {
            break;
        }
    }
    table[0] = 0x63;
    table
}

const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut octet = 0;
    while octet < 256 {
        let one = SUBSTITUTIONS[octet];
        let two = double(one);
        let word = u32::from_le_bytes([two, one, one, two ^ one]);
        tables[0][octet] = word;
        tables[1][octet] = word.rotate_left(8);
        tables[2][octet] = word.rotate_left(16);
        tables[3][octet] = word.rotate_left(24);
        octet += 1;
    }
    tables
}

/// Expands a key (FIPS 197, section 5.2).
#[must_use]
pub fn expand(key: &[u8; 16]) -> [u32; ROUND_KEY_WORDS] {
    let mut words = [0; ROUND_KEY_WORDS];
    for (word, octets) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*octets);
    }
    let mut constant = 1u8;
    for index in 4..ROUND_KEY_WORDS {
        let mut word = words[index - 1];
        if index % 4 == 0 {
            let octets = word.rotate_right(8).to_le_bytes();
            word = u32::from_le_bytes(octets.map(|octet| SUBSTITUTIONS[octet as usize]));
            word ^= u32::from(constant);
            constant = double(constant);
        }
        words[index] = words[index - 4] ^ word;
    }
    words
}

/// What the keystream blocks of one packet have in common: their counters differ in the last octet
/// alone, which after the first round shows in one column and after the second in one term of
/// each column.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Shared {
    /// The first column after the first round, without the last octet's term.
    first: u32,
    /// The last octet before the first round, without the counter.
    last: u32,
    /// The columns after the second round, without the first column's terms.
    second: [u32; 4],
}

/// Columns are worked on in 64-bit registers, of which the upper half stays zero: the compiler then
/// needs one instruction less to find a place in a table.
type Column = u64;

#[inline(always)]
fn look<const ROW: usize>(table: usize, column: Column) -> Column {
    TABLES[table][(column >> (8 * ROW)) as usize & 0xff] as Column
}

#[inline(always)]
fn term<const ROW: usize>(column: Column) -> Column {
    look::<ROW>(ROW, column)
}

#[inline(always)]
fn column(a: Column, b: Column, c: Column, d: Column, key: u32) -> Column {
    term::<0>(a) ^ term::<1>(b) ^ term::<2>(c) ^ term::<3>(d) ^ key as Column
}

/// A column of the last round, which does not mix: in each row, one of the tables holds the bare
/// substitution.
#[inline(always)]
fn last(a: Column, b: Column, c: Column, d: Column, key: u32) -> u32 {
    let a = look::<0>(2, a) & 0x0000_00ff;
    let b = look::<1>(3, b) & 0x0000_ff00;
    let c = look::<2>(0, c) & 0x00ff_0000;
    let d = look::<3>(1, d) & 0xff00_0000;
    (a ^ b ^ c ^ d ^ key as Column) as u32
}

impl Shared {
    /// Begins the keystream whose first counter block is `counter`, whose last octet is zero.
    #[inline(never)]
    pub fn begin(&mut self, keys: &[u32; ROUND_KEY_WORDS], counter: &[u32; 4]) {
        let a = (counter[0] ^ keys[0]) as Column;
        let b = (counter[1] ^ keys[1]) as Column;
        let c = (counter[2] ^ keys[2]) as Column;
        let d = (counter[3] ^ keys[3]) as Column;
        self.first = (term::<0>(a) ^ term::<1>(b) ^ term::<2>(c)) as u32 ^ keys[4];
        self.last = (d >> 24) as u32;
        let f = column(b, c, d, a, keys[5]);
        let g = column(c, d, a, b, keys[6]);
        let h = column(d, a, b, c, keys[7]);
        self.second = [
            (term::<1>(f) ^ term::<2>(g) ^ term::<3>(h)) as u32 ^ keys[8],
            (term::<0>(f) ^ term::<1>(g) ^ term::<2>(h)) as u32 ^ keys[9],
            (term::<0>(g) ^ term::<1>(h) ^ term::<3>(f)) as u32 ^ keys[10],
            (term::<0>(h) ^ term::<2>(f) ^ term::<3>(g)) as u32 ^ keys[11],
        ];
    }

    /// Adds the keystream's block number `number`, below 256, to four words as they lie in memory.
    // By itself, because inlined into a loop the compiler keeps the whole key on the stack.
    #[inline(never)]
    pub fn apply(&self, keys: &[u32; ROUND_KEY_WORDS], number: u32, words: &mut [u32; 4]) {
        let first = self.first as Column ^ look::<0>(3, (self.last ^ number) as Column);
        let mut a = self.second[0] as Column ^ term::<0>(first);
        let mut b = self.second[1] as Column ^ term::<3>(first);
        let mut c = self.second[2] as Column ^ term::<2>(first);
        let mut d = self.second[3] as Column ^ term::<1>(first);
        macro_rules! round {
            ($($round:literal)*) => {$(
                let e = column(a, b, c, d, keys[4 * $round]);
                let f = column(b, c, d, a, keys[4 * $round + 1]);
                let g = column(c, d, a, b, keys[4 * $round + 2]);
                let h = column(d, a, b, c, keys[4 * $round + 3]);
                (a, b, c, d) = (e, f, g, h);
            )*};
        }
        round!(3 4 5 6 7 8 9);
        words[0] ^= last(a, b, c, d, keys[40]).to_le();
        words[1] ^= last(b, c, d, a, keys[41]).to_le();
        words[2] ^= last(c, d, a, b, keys[42]).to_le();
        words[3] ^= last(d, a, b, c, keys[43]).to_le();
    }
}
