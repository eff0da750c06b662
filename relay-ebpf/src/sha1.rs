//! SHA-1's rounds, instruction by instruction: the compiler keeps words on the stack and lets each
//! round wait for additions that could have been made before.

use core::arch::asm;

use relay_abi::srtp::sha1::{Schedule, place};

/// The instructions of one round, with five words in registers of these numbers, the word at an
/// offset of the schedule at r6, and r7 and r8.
macro_rules! round {
    (choose $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $c, "\n", "w8 ^= w", $d, "\n", "w8 &= w", $b, "\n", "w8 ^= w", $d, "\n",
            "w", $e, " += w8\n")
    };
    (parity $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $c, "\n", "w8 ^= w", $d, "\n", "w8 ^= w", $b, "\n", "w", $e, " += w8\n")
    };
    (majority $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $c, "\n", "w8 &= w", $d, "\n", "w", $e, " += w8\n",
            "w8 = w", $c, "\n", "w8 ^= w", $d, "\n", "w8 &= w", $b, "\n", "w", $e, " += w8\n")
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
            "w8 = w", $b, "\n", "w8 >>= 2\n", "w", $b, " <<= 30\n", "w", $b, " |= w8\n",
        )
    };
}

/// Takes a schedule into `state`.
#[inline(never)]
pub fn rounds(state: &mut [u32; 5], schedule: &Schedule) {
    // In 64-bit registers, whose upper halves stay zero.
    let [mut a, mut b, mut c, mut d, mut e] = state.map(|word| word as u64);
    macro_rules! five {
        ($kind:ident $constant:literal: $($first:literal)*) => {$(
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
                    options(pure, readonly, nostack),
                );
            }
        )*};
    }
    five!(choose 0x5a82_7999_u32: 0 5 10 15);
    five!(parity 0x6ed9_eba1_u32: 20 25 30 35);
    five!(majority 0x8f1b_bcdc_u32: 40 45 50 55);
    five!(parity 0xca62_c1d6_u32: 60 65 70 75);
    state[0] = state[0].wrapping_add(a as u32);
    state[1] = state[1].wrapping_add(b as u32);
    state[2] = state[2].wrapping_add(c as u32);
    state[3] = state[3].wrapping_add(d as u32);
    state[4] = state[4].wrapping_add(e as u32);
}
