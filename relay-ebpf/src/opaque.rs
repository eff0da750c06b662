//! Values whose origin the compiler cannot see.

use core::arch::asm;

/// Hides from the compiler where a value comes from, so that what the verifier has to see (a mask,
/// a comparison of this very pointer) is not optimised into something equal that it cannot follow.
#[inline(always)]
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: it moves a register to itself. Without an instruction there would be two line numbers
    // for the next one, which the kernel refuses.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}

/// A length's last offset. Compared with a limit and made a length again, it tells every verifier that
/// the length is not zero; before Linux 6.8 a comparison with zero does not.
#[inline(always)]
pub fn one_less(length: usize) -> usize {
    opaque(length.wrapping_sub(1))
}
