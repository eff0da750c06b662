//! SHA-1's block, instruction by instruction: the compiler keeps words on the stack and lets each
//! round wait for additions that could have been made before.
//!
//! A round waits for the one before it, the schedule for hardly anything, so the schedule is made
//! between the rounds, while they wait.

use core::arch::asm;

use relay_abi::srtp::sha1::{Schedule, place};

use crate::opaque::opaque;

/// The instructions of one round, with five words in registers of these numbers, the word at an
/// offset of the schedule at r6, and r7, r8 and r9.
macro_rules! round {
    (choose $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $c, "\n", "w8 ^= w", $d, "\n", "w8 &= w", $b, "\n", "w8 ^= w", $d, "\n",
            "w", $e, " += w8\n")
    };
    (parity $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $b, "\n", "w8 ^= w", $d, "\n", "w8 ^= w", $c, "\n", "w", $e, " += w8\n")
    };
    (majority $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $b, "\n", "w8 &= w", $d, "\n", "w", $e, " += w8\n",
            "w8 = w", $b, "\n", "w8 ^= w", $d, "\n", "w8 &= w", $c, "\n", "w", $e, " += w8\n")
    };
    (@ $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal:
        $($function:literal),*) => {
        concat!(
            "r7 = *(u32 *)(r6 + {", $offset, "})\n",
            "w", $e, " += w7\n",
            "w", $e, " += {constant}\n",
            $($function,)*
            // Moved up by five in 64 bits, a word is its rotation in two halves. It is what the
            // round before gives: nothing else is to wait for that.
            "r7 = r", $a, "\n", "r7 <<= 5\n",
            "w", $e, " += w7\n", "r7 >>= 32\n", "w", $e, " += w7\n",
            // The product with the sum of two powers of two has a word's rotation by thirty in its
            // upper half. That is slower, and has time.
            "r", $b, " *= r9\n", "r", $b, " >>= 32\n",
        )
    };
}

/// Rotates either word in r7 to the left by so much and puts them down. R0 is what the shift to the
/// left leaves of each word; the rest comes from the shift to the right.
macro_rules! rotate_and_put {
    ($left:literal $right:literal) => {
        concat!(
            "r8 = r7\nr8 >>= ",
            $right,
            "\nr7 <<= ",
            $left,
            "\nr7 ^= r8\nr7 &= r0\nr7 ^= r8\n*(u64 *)(r6 + {place}) = r7\n",
        )
    };
}

/// Takes the block in the first sixteen words of `schedule` into `state`.
#[inline(never)]
pub fn compress(state: &mut [u32; 5], schedule: &mut Schedule) {
    // In 64-bit registers, whose upper halves stay zero.
    let [mut a, mut b, mut c, mut d, mut e] = state.map(|word| word as u64);
    let rotation = opaque((1 << 62) | (1 << 30));
    let schedule = schedule.as_mut_ptr();
    macro_rules! five {
        ($kind:ident $constant:literal: $first:literal) => {
            // SAFETY: it reads words of the schedule and changes the registers that it names.
            unsafe {
                asm!(
                    round!($kind "first" 1 2 3 4 5),
                    round!($kind "second" 5 1 2 3 4),
                    round!($kind "third" 4 5 1 2 3),
                    round!($kind "fourth" 3 4 5 1 2),
                    round!($kind "fifth" 2 3 4 5 1),
                    constant = const $constant as i32,
                    first = const 4 * place($first),
                    second = const 4 * place($first + 1),
                    third = const 4 * place($first + 2),
                    fourth = const 4 * place($first + 3),
                    fifth = const 4 * place($first + 4),
                    inout("r1") a,
                    inout("r2") b,
                    inout("r3") c,
                    inout("r4") d,
                    inout("r5") e,
                    in("r6") schedule,
                    out("r7") _,
                    out("r8") _,
                    in("r9") rotation,
                    options(readonly, nostack),
                );
            }
        };
    }
    // Two words, each of them rotated to the left by one.
    macro_rules! pairs {
        ($mask:ident: $($pair:literal)*) => {$(
            // SAFETY: it reads and writes the schedule and changes the registers that it names.
            unsafe {
                asm!(
                    "r7 = *(u64 *)(r6 + {sixteen})",
                    "r8 = *(u64 *)(r6 + {fourteen})",
                    "r7 ^= r8",
                    "r8 = *(u64 *)(r6 + {eight})",
                    "r7 ^= r8",
                    "r8 = *(u64 *)(r6 + {four})",
                    "r8 <<= 32",
                    "r7 ^= r8",
                    "r8 = *(u64 *)(r6 + {two})",
                    "r8 >>= 32",
                    "r7 ^= r8",
                    rotate_and_put!(1 31),
                    sixteen = const 8 * ($pair - 8),
                    fourteen = const 8 * ($pair - 7),
                    eight = const 8 * ($pair - 4),
                    four = const 8 * ($pair - 2),
                    two = const 8 * ($pair - 1),
                    place = const 8 * $pair,
                    in("r0") $mask,
                    in("r6") schedule,
                    out("r7") _,
                    out("r8") _,
                    options(nostack),
                );
            }
        )*};
    }
    // As `pairs`, from the second turn on, where they are rotated by two and wait for less.
    macro_rules! later {
        ($mask:ident: $($pair:literal)*) => {$(
            // SAFETY: as above.
            unsafe {
                asm!(
                    "r7 = *(u64 *)(r6 + {thirty_two})",
                    "r8 = *(u64 *)(r6 + {twenty_eight})",
                    "r7 ^= r8",
                    "r8 = *(u64 *)(r6 + {sixteen})",
                    "r7 ^= r8",
                    "r8 = *(u64 *)(r6 + {six})",
                    "r7 ^= r8",
                    rotate_and_put!(2 30),
                    thirty_two = const 8 * ($pair - 16),
                    twenty_eight = const 8 * ($pair - 14),
                    sixteen = const 8 * ($pair - 8),
                    six = const 8 * ($pair - 3),
                    place = const 8 * $pair,
                    in("r0") $mask,
                    in("r6") schedule,
                    out("r7") _,
                    out("r8") _,
                    options(nostack),
                );
            }
        )*};
    }
    let mask = opaque(0xffff_fffe_ffff_fffe);
    five!(choose 0x5a82_7999_u32: 0);
    pairs!(mask: 8 9);
    five!(choose 0x5a82_7999_u32: 5);
    pairs!(mask: 10 11 12);
    five!(choose 0x5a82_7999_u32: 10);
    pairs!(mask: 13 14);
    five!(choose 0x5a82_7999_u32: 15);
    pairs!(mask: 15);
    let mask = opaque(0xffff_fffc_ffff_fffc);
    later!(mask: 16 17);
    five!(parity 0x6ed9_eba1_u32: 20);
    later!(mask: 18 19);
    five!(parity 0x6ed9_eba1_u32: 25);
    later!(mask: 20 21 22);
    five!(parity 0x6ed9_eba1_u32: 30);
    later!(mask: 23 24);
    five!(parity 0x6ed9_eba1_u32: 35);
    later!(mask: 25 26 27);
    five!(majority 0x8f1b_bcdc_u32: 40);
    later!(mask: 28 29);
    five!(majority 0x8f1b_bcdc_u32: 45);
    later!(mask: 30 31 32);
    five!(majority 0x8f1b_bcdc_u32: 50);
    later!(mask: 33 34);
    five!(majority 0x8f1b_bcdc_u32: 55);
    later!(mask: 35 36 37);
    five!(parity 0xca62_c1d6_u32: 60);
    later!(mask: 38 39);
    five!(parity 0xca62_c1d6_u32: 65);
    five!(parity 0xca62_c1d6_u32: 70);
    five!(parity 0xca62_c1d6_u32: 75);
    state[0] = state[0].wrapping_add(a as u32);
    state[1] = state[1].wrapping_add(b as u32);
    state[2] = state[2].wrapping_add(c as u32);
    state[3] = state[3].wrapping_add(d as u32);
    state[4] = state[4].wrapping_add(e as u32);
}
