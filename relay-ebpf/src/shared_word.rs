//! A word of a map element that other CPUs exchange too.

use core::{arch::asm, cell::UnsafeCell};

use relay_abi::srtp::index::SharedWord;

/// The compiler has no exchange for this target; the kernel has, since 5.12.
#[repr(transparent)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: it is only read as a whole and written by exchange.
unsafe impl Sync for Word {}

impl SharedWord for Word {
    #[inline(always)]
    fn read(&self) -> u64 {
        // SAFETY: the word is there as long as `self`, and aligned; volatile, because others write
        // it.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn exchange(&self, seen: u64, wanted: u64) -> bool {
        let found: u64;
        // SAFETY: one instruction that compares the word with r0 and writes it if they are equal;
        // r0 is then what was found. The word is there as long as `self`, and aligned.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({word} + 0, r0, {wanted})",
                word = in(reg) self.0.get(),
                wanted = in(reg) wanted,
                inout("r0") seen => found,
                options(nostack),
            );
        }
        found == seen
    }

    /// This processor keeps its loads in order, and the compiler those that are volatile.
    #[cfg(feature = "loads-in-order")]
    #[inline(always)]
    fn is_still(&self, value: u64) -> bool {
        self.read() == value
    }
}
