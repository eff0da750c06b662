//! SHA-1's block, instruction by instruction: the compiler keeps words on the stack and lets each
//! round wait for additions that could have been made before.

use core::arch::asm;

use relay_abi::srtp::sha1::{Schedule, place};

use crate::opaque::opaque;

/// The instructions of one round, with five words in registers of these numbers, the word at an
/// offset of the schedule at r6, and r7, r8 and r9.
macro_rules! round {
    (choose $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $c, "\n", "w8 ^= w", $d, "\n", "w8 &= w", $b, "\n", "w8 ^= w", $d, "\n",
            "w", $e, " += w8\n";
            "w8 = w", $b, "\n", "w8 >>= 2\n", "w", $b, " <<= 30\n", "w", $b, " |= w8\n")
    };
    (parity $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $b, "\n", "w8 ^= w", $d, "\n", "w8 ^= w", $c, "\n", "w", $e, " += w8\n";
            "r", $b, " *= r9\n", "r", $b, " >>= 32\n")
    };
    (majority $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        round!(@ $offset $a $b $c $d $e:
            "w8 = w", $b, "\n", "w8 &= w", $d, "\n", "w", $e, " += w8\n",
            "w8 = w", $b, "\n", "w8 ^= w", $d, "\n", "w8 &= w", $c, "\n", "w", $e, " += w8\n";
            "r", $b, " *= r9\n", "r", $b, " >>= 32\n")
    };
    (@ $offset:literal $a:literal $b:literal $c:literal $d:literal $e:literal:
        $($function:literal),*; $($rotation:literal),*) => {
        concat!(
            "r7 = *(u32 *)(r6 + {", $offset, "})\n",
            "w", $e, " += w7\n",
            "w", $e, " += {constant}\n",
            $($function,)*
            // Moved up by five in 64 bits, a word is its rotation in two halves. It is what the
            // round before gives: nothing else is to wait for that.
            "r7 = r", $a, "\n", "r7 <<= 5\n",
            "w", $e, " += w7\n", "r7 >>= 32\n", "w", $e, " += w7\n",
            $($rotation,)*
        )
    };
}

/// Two words of the schedule, each rotated to the left by one: of those before.
macro_rules! next {
    ($schedule:ident $high:ident $low:ident $before:ident $last:ident $($pair:literal)*) => {$(
        let next;
        // SAFETY: it reads and writes the schedule.
        unsafe {
            asm!(
                "{next} = *(u64 *)({schedule} + {sixteen})",
                "{other} = *(u64 *)({schedule} + {fourteen})",
                "{next} ^= {other}",
                "{other} = *(u64 *)({schedule} + {eight})",
                "{next} ^= {other}",
                "{before} <<= 32",
                "{next} ^= {before}",
                "{other} = {last}",
                "{other} >>= 32",
                "{next} ^= {other}",
                "{other} = {next}",
                "{next} <<= 1",
                "{next} &= {high}",
                "{other} >>= 31",
                "{other} &= {low}",
                "{next} |= {other}",
                "*(u64 *)({schedule} + {place}) = {next}",
                sixteen = const 8 * ($pair - 8),
                fourteen = const 8 * ($pair - 7),
                eight = const 8 * ($pair - 4),
                place = const 8 * $pair,
                schedule = in(reg) $schedule,
                high = in(reg) $high,
                low = in(reg) $low,
                before = inout(reg) $before => _,
                last = in(reg) $last,
                next = out(reg) next,
                other = out(reg) _,
                options(nostack),
            );
        }
        $before = $last;
        $last = next;
    )*};
}

/// As `next`, from the second turn on, where the words of a pair do not depend on each other or on
/// the pair before, and are rotated by two.
macro_rules! later {
    ($schedule:ident $high:ident $low:ident $($pair:literal)*) => {$(
        // SAFETY: as above.
        unsafe {
            asm!(
                "{next} = *(u64 *)({schedule} + {thirty_two})",
                "{other} = *(u64 *)({schedule} + {twenty_eight})",
                "{next} ^= {other}",
                "{other} = *(u64 *)({schedule} + {sixteen})",
                "{next} ^= {other}",
                "{other} = *(u64 *)({schedule} + {six})",
                "{next} ^= {other}",
                "{other} = {next}",
                "{next} <<= 2",
                "{next} &= {high}",
                "{other} >>= 30",
                "{other} &= {low}",
                "{next} |= {other}",
                "*(u64 *)({schedule} + {place}) = {next}",
                thirty_two = const 8 * ($pair - 16),
                twenty_eight = const 8 * ($pair - 14),
                sixteen = const 8 * ($pair - 8),
                six = const 8 * ($pair - 3),
                place = const 8 * $pair,
                schedule = in(reg) $schedule,
                high = in(reg) $high,
                low = in(reg) $low,
                next = out(reg) _,
                other = out(reg) _,
                options(nostack),
            );
        }
    )*};
}

/// Makes a schedule of its first sixteen words.
#[inline(always)]
fn extend(schedule: &mut Schedule) {
    let [.., mut before, mut last] = *schedule.first_chunk::<8>().unwrap_or(&[0; 8]);
    let (high, low) = (opaque(0xffff_fffe_ffff_fffe), opaque(0x0000_0001_0000_0001));
    let schedule = schedule.as_mut_ptr();
    next!(schedule high low before last 8 9 10 11 12 13 14 15);
    let (high, low) = (opaque(0xffff_fffc_ffff_fffc), opaque(0x0000_0003_0000_0003));
    later!(schedule high low 16 17 18 19 20 21 22 23 24 25 26 27);
    later!(schedule high low 28 29 30 31 32 33 34 35 36 37 38 39);
}

/// Takes the block in the first sixteen words of `schedule` into `state`.
#[inline(never)]
pub fn compress(state: &mut [u32; 5], schedule: &mut Schedule) {
    extend(schedule);
    let rotation = opaque((1 << 62) | (1 << 30));
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
                    in("r9") rotation,
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
