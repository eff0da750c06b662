//! AES-128 in counter mode (RFC 3711, section 4.1.1), by tables.
//!
//! A column of the state is spread: each of its octets has sixteen bits, the first one the lowest,
//! and stands there sixteen times itself, as an offset into a table of entries of sixteen octets. The
//! table and the round keys are spread too. So an octet's entry is found without a shift or a mask.
//!
//! What an octet contributes to its column depends on its row by a rotation alone. So an entry is a
//! column and the begin of the same once more, and the row says from where on it is read.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute, transmute_mut};

use super::machine::{Machine, State};

/// The columns of an expanded key: one block for each of ten rounds, and one before them. The last
/// block gives octets as they are, eight in a column.
pub const ROUND_KEY_COLUMNS: usize = 42;

/// A column, spread.
pub type Column = u64;

/// An expanded key.
pub type RoundKeys = [Column; ROUND_KEY_COLUMNS];

const SUBSTITUTIONS: [u8; 256] = substitutions();

/// What an octet is looked up in. The first seven are what it contributes to its column,
/// substitution and column mix in one, spread, from [`TERMS`] on; the last one's first octet is its
/// substitution.
pub type Entry = [u16; 8];

/// Where in an entry an octet's contribution begins, by its row.
pub const TERMS: [usize; 4] = if cfg!(target_endian = "big") {
    [0, 1, 2, 3]
} else {
    [0, 3, 2, 1]
};

pub const TABLE: [Entry; 256] = table();

/// A column whose lowest octet is the first one, spread.
#[inline(always)]
#[must_use]
pub const fn spread(column: u32) -> Column {
    let halves = (column as u64 | (column as u64) << 16) & 0x0000_ffff_0000_ffff;
    ((halves | halves << 8) & 0x00ff_00ff_00ff_00ff) << 4
}

/// The column that [`spread`] spread.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn gather(column: Column) -> u32 {
    let octets = [0, 16, 32, 48].map(|place| (column >> (place + 4)) as u8);
    u32::from_le_bytes(octets)
}

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

const fn table() -> [Entry; 256] {
    let mut table = [[0; 8]; 256];
    let mut octet = 0;
    while octet < 256 {
        let one = SUBSTITUTIONS[octet];
        let two = double(one);
        let three = two ^ one;
        let column = if cfg!(target_endian = "big") {
            [three, one, one, two]
        } else {
            [two, one, one, three]
        };
        let mut at = 0;
        while at < 7 {
            table[octet][at] = (column[at % 4] as u16) << 4;
            at += 1;
        }
        table[octet][7] = u16::from_ne_bytes([one, 0]);
        octet += 1;
    }
    table
}

/// Expands a key (FIPS 197, section 5.2).
#[must_use]
pub fn expand(key: &[u8; 16]) -> RoundKeys {
    let mut words = [0_u32; 44];
    for (word, octets) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*octets);
    }
    let mut constant = 1u8;
    for index in 4..words.len() {
        let mut word = words[index - 1];
        if index % 4 == 0 {
            let octets = word.rotate_right(8).to_le_bytes();
            word = u32::from_le_bytes(octets.map(|octet| SUBSTITUTIONS[octet as usize]));
            word ^= u32::from(constant);
            constant = double(constant);
        }
        words[index] = words[index - 4] ^ word;
    }
    let (rounds, last) = words.split_at(40);
    let mut keys = [0; ROUND_KEY_COLUMNS];
    for (key, word) in keys.iter_mut().zip(rounds) {
        *key = spread(*word);
    }
    for (key, pair) in keys[40..].iter_mut().zip(last.as_chunks::<2>().0) {
        *key = transmute!(pair.map(u32::to_le_bytes));
    }
    keys
}

/// What the keystream blocks of one packet have in common: their counters differ in the last octet
/// alone, which after the first round shows in one column and after the second in one term of
/// each column.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Shared {
    /// The first column after the first round, without the last octet's term.
    first: Column,
    /// The last column before the first round, without the counter.
    last: Column,
    /// The columns after the second round, without the first column's terms.
    second: [Column; 4],
}

impl Shared {
    /// Begins the keystream whose first counter block is `counter`, whose last octet is zero.
    #[inline(never)]
    pub fn begin<M: Machine>(&mut self, keys: &RoundKeys, counter: &[Column; 4]) {
        let mut state = M::State::new();
        state.put::<0>(counter[0] ^ keys[0]);
        state.put::<1>(counter[1] ^ keys[1]);
        state.put::<2>(counter[2] ^ keys[2]);
        self.last = counter[3] ^ keys[3];
        state.put::<3>(self.last);
        self.first = keys[4] ^ state.term::<0, 0>() ^ state.term::<1, 1>() ^ state.term::<2, 2>();
        macro_rules! column {
            ($to:literal: $a:literal $b:literal $c:literal $d:literal) => {
                state.put::<$to>(
                    keys[$to]
                        ^ state.term::<$a, 0>()
                        ^ state.term::<$b, 1>()
                        ^ state.term::<$c, 2>()
                        ^ state.term::<$d, 3>(),
                );
            };
        }
        column!(5: 1 2 3 0);
        column!(6: 2 3 0 1);
        column!(7: 3 0 1 2);
        self.second = [
            keys[8] ^ state.term::<5, 1>() ^ state.term::<6, 2>() ^ state.term::<7, 3>(),
            keys[9] ^ state.term::<5, 0>() ^ state.term::<6, 1>() ^ state.term::<7, 2>(),
            keys[10] ^ state.term::<6, 0>() ^ state.term::<7, 1>() ^ state.term::<5, 3>(),
            keys[11] ^ state.term::<7, 0>() ^ state.term::<5, 2>() ^ state.term::<6, 3>(),
        ];
    }

    /// Adds one or two of the keystream's blocks, from number `number` on, which is below 256, to as
    /// many times four words as they lie in memory. Two at once are quicker than one after the
    /// other: while the one waits for its tables, the other goes on.
    // By itself, because inlined into a loop the compiler keeps the whole key on the stack.
    #[inline(never)]
    pub fn apply<M: Machine, const BLOCKS: usize>(
        &self,
        keys: &RoundKeys,
        number: u32,
        words: &mut [[u32; 4]; BLOCKS],
    ) {
        const { assert!(BLOCKS == 1 || BLOCKS == 2) };
        let mut state = M::State::new();
        macro_rules! begin {
            ($number:expr; $a:literal $b:literal $c:literal $d:literal $e:literal) => {
                state.put::<$d>(self.last ^ ($number as Column) << 52);
                state.put::<$e>(self.first ^ state.term::<$d, 3>());
                state.put::<$a>(self.second[0] ^ state.term::<$e, 0>());
                state.put::<$b>(self.second[1] ^ state.term::<$e, 3>());
                state.put::<$c>(self.second[2] ^ state.term::<$e, 2>());
                state.put::<$d>(self.second[3] ^ state.term::<$e, 1>());
            };
        }
        begin!(number; 0 1 2 3 4);
        if BLOCKS == 2 {
            begin!(number + 1; 8 9 10 11 12);
        }
        macro_rules! column {
            ($round:literal $column:literal;
                $to:literal: $a:literal $b:literal $c:literal $d:literal
                $other_to:literal: $e:literal $f:literal $g:literal $h:literal) => {
                let key = keys[4 * $round + $column];
                state.put::<$to>(column::<_, $a, $b, $c, $d>(&state, key));
                if BLOCKS == 2 {
                    state.put::<$other_to>(column::<_, $e, $f, $g, $h>(&state, key));
                }
            };
        }
        macro_rules! there {
            ($round:literal) => {
                column!($round 0; 4: 0 1 2 3 12: 8 9 10 11);
                column!($round 1; 5: 1 2 3 0 13: 9 10 11 8);
                column!($round 2; 6: 2 3 0 1 14: 10 11 8 9);
                column!($round 3; 7: 3 0 1 2 15: 11 8 9 10);
            };
        }
        macro_rules! back {
            ($round:literal) => {
                column!($round 0; 0: 4 5 6 7 8: 12 13 14 15);
                column!($round 1; 1: 5 6 7 4 9: 13 14 15 12);
                column!($round 2; 2: 6 7 4 5 10: 14 15 12 13);
                column!($round 3; 3: 7 4 5 6 11: 15 12 13 14);
            };
        }
        there!(3);
        back!(4);
        there!(5);
        back!(6);
        there!(7);
        back!(8);
        there!(9);
        macro_rules! last {
            ($to:literal: $a:literal $b:literal $c:literal $d:literal) => {
                state.substitute::<$a, 0, $to, 0>();
                state.substitute::<$b, 1, $to, 1>();
                state.substitute::<$c, 2, $to, 2>();
                state.substitute::<$d, 3, $to, 3>();
                state.substitute::<$b, 0, $to, 4>();
                state.substitute::<$c, 1, $to, 5>();
                state.substitute::<$d, 2, $to, 6>();
                state.substitute::<$a, 3, $to, 7>();
            };
        }
        macro_rules! add {
            ($block:literal: $first:literal $second:literal) => {
                let octets: &mut [[u8; 8]; 2] = transmute_mut!(&mut words[$block]);
                let first = u64::from_ne_bytes(octets[0]) ^ keys[40] ^ state.get::<$first>();
                let second = u64::from_ne_bytes(octets[1]) ^ keys[41] ^ state.get::<$second>();
                *octets = [first.to_ne_bytes(), second.to_ne_bytes()];
            };
        }
        last!(0: 4 5 6 7);
        last!(1: 6 7 4 5);
        if BLOCKS == 2 {
            last!(8: 12 13 14 15);
            last!(9: 14 15 12 13);
        }
        add!(0: 0 1);
        if BLOCKS == 2 {
            add!(1: 8 9);
        }
    }
}

/// A column of the next round.
#[inline(always)]
fn column<S: State, const A: usize, const B: usize, const C: usize, const D: usize>(
    state: &S,
    key: Column,
) -> Column {
    (key ^ state.term::<A, 0>() ^ state.term::<B, 1>())
        ^ (state.term::<C, 2>() ^ state.term::<D, 3>())
}
