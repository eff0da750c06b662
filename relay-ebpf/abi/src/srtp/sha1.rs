//! SHA-1 (FIPS 180-4, section 6.1.2) and the prepared states of HMAC (RFC 2104).

use core::hint::black_box;

use zerocopy::transmute_ref;

/// The state of an empty message.
pub const INITIAL: [u32; 5] = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// The words of a message block.
pub const BLOCK: usize = 16;

/// The message schedule: 80 words, two in each, the even one in the upper half.
pub type Schedule = [u64; 40];

/// Puts a block of the message, in words as they lie in memory, where its schedule begins.
#[inline(always)]
pub fn begin(schedule: &mut Schedule, block: &[u32; BLOCK]) {
    let pairs: &[[u8; 8]; BLOCK / 2] = transmute_ref!(block);
    let mut index = 0;
    while index < BLOCK / 2 {
        schedule[index] = u64::from_be_bytes(pairs[index]);
        index += 1;
    }
}

/// Puts a block that is nothing but a digest where its schedule begins, in a message that came in
/// `before` octets before it.
#[inline(always)]
pub fn begin_digest(schedule: &mut Schedule, digest: &[u32; 5], before: u32) {
    let pair = |even: u32, odd: u32| (even as u64) << 32 | odd as u64;
    schedule[0] = pair(digest[0], digest[1]);
    schedule[1] = pair(digest[2], digest[3]);
    schedule[2] = pair(digest[4], 0x8000_0000);
    // A zero that the compiler does not know: of several that it knows it makes a call, which
    // writes octet by octet.
    let zero = black_box(0);
    schedule[3] = zero;
    schedule[4] = zero;
    schedule[5] = zero;
    schedule[6] = zero;
    schedule[7] = pair(0, 8 * (before + 20));
}

/// Takes the block where `schedule` begins into `state`, as any machine can. What is behind it is
/// working memory.
#[inline(always)]
pub fn compress(state: &mut [u32; 5], schedule: &mut Schedule) {
    extend(schedule);
    rounds(state, schedule);
}

/// Makes the schedule of its first sixteen words, two words at a time.
// By itself, as `rounds`: as one function the compiler keeps the whole schedule on the stack.
#[inline(never)]
fn extend(schedule: &mut Schedule) {
    let (mut before, mut last) = (schedule[6], schedule[7]);
    let mut index = BLOCK / 2;
    macro_rules! next {
        ($($ahead:literal)*) => {$(
            let mixed = schedule[index + $ahead - 8]
                ^ schedule[index + $ahead - 7]
                ^ schedule[index + $ahead - 4]
                ^ ((before << 32) | (last >> 32));
            before = last;
            last = ((mixed << 1) & 0xffff_fffe_ffff_fffe) | ((mixed >> 31) & 0x0000_0001_0000_0001);
            schedule[index + $ahead] = last;
        )*};
    }
    while index < 16 {
        next!(0 1 2 3);
        index += 4;
    }
    // From the second turn on: the recurrence put into itself, squared. Its distances are even, so
    // no pair is taken apart, and a pair waits for the third one before it, not for the last.
    macro_rules! next {
        ($($ahead:literal)*) => {$(
            let mixed = schedule[index + $ahead - 16]
                ^ schedule[index + $ahead - 14]
                ^ schedule[index + $ahead - 8]
                ^ schedule[index + $ahead - 3];
            schedule[index + $ahead] =
                ((mixed << 2) & 0xffff_fffc_ffff_fffc) | ((mixed >> 30) & 0x0000_0003_0000_0003);
        )*};
    }
    while index < 40 {
        next!(0 1 2 3);
        index += 4;
    }
}

/// Where the schedule has a word, as its halves lie in memory.
#[must_use]
pub const fn place(word: usize) -> usize {
    if cfg!(target_endian = "big") {
        word
    } else {
        word ^ 1
    }
}

#[inline(never)]
fn rounds(state: &mut [u32; 5], schedule: &Schedule) {
    let words: &[u32; 80] = transmute_ref!(schedule);
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    macro_rules! round {
        ($function:expr, $constant:literal, $a:ident $b:ident $e:ident, $index:expr) => {
            $e = $e
                .wrapping_add(words[place($index)])
                .wrapping_add($constant)
                .wrapping_add($function)
                .wrapping_add($a.rotate_left(5));
            $b = $b.rotate_left(30);
        };
    }
    macro_rules! function {
        (choose, $b:ident $c:ident $d:ident) => {
            $d ^ ($b & ($c ^ $d))
        };
        (parity, $b:ident $c:ident $d:ident) => {
            $b ^ $c ^ $d
        };
        (majority, $b:ident $c:ident $d:ident) => {
            ($b & $c) | ($d & ($b ^ $c))
        };
    }
    macro_rules! five {
        ($kind:ident $constant:literal: $($index:literal)*) => {$(
            round!(function!($kind, b c d), $constant, a b e, $index);
            round!(function!($kind, a b c), $constant, e a d, $index + 1);
            round!(function!($kind, e a b), $constant, d e c, $index + 2);
            round!(function!($kind, d e a), $constant, c d b, $index + 3);
            round!(function!($kind, c d e), $constant, b c a, $index + 4);
        )*};
    }
    five!(choose 0x5a82_7999: 0 5 10 15);
    five!(parity 0x6ed9_eba1: 20 25 30 35);
    five!(majority 0x8f1b_bcdc: 40 45 50 55);
    five!(parity 0xca62_c1d6: 60 65 70 75);
    state[0] = state[0].wrapping_add(a);
    state[1] = state[1].wrapping_add(b);
    state[2] = state[2].wrapping_add(c);
    state[3] = state[3].wrapping_add(d);
    state[4] = state[4].wrapping_add(e);
}

/// The states after the key's inner and outer blocks of HMAC-SHA1, for a key of 20 octets.
#[must_use]
pub fn prepare(key: &[u8; 20]) -> [[u32; 5]; 2] {
    [0x36, 0x5c].map(|pad| {
        let mut block = [u32::from_ne_bytes([pad; 4]); BLOCK];
        for (word, octets) in block.iter_mut().zip(key.as_chunks::<4>().0) {
            *word ^= u32::from_ne_bytes(*octets);
        }
        let (mut state, mut schedule) = (INITIAL, [0; 40]);
        begin(&mut schedule, &block);
        compress(&mut state, &mut schedule);
        state
    })
}
