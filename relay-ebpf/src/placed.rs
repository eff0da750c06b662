//! What the loader writes into the instructions: [`relay_abi::placed`].

use core::{arch::asm, hint::assert_unchecked};

use relay_abi::{
    counters::FlowCounters,
    placed::{self, PLACED},
    processor::Processor,
};

/// An instruction that the loader completes. Not pure: where it stands it costs less than a
/// register that holds its value over a call.
macro_rules! placed {
    ($what:expr) => {{
        let value: u64;
        // SAFETY: it writes a register.
        unsafe {
            asm!(
                "{value} = {what} ll",
                value = out(reg) value,
                what = const (PLACED as u64) << 32 | $what as u64,
                options(nomem, nostack, preserves_flags),
            );
        }
        value
    }};
}

/// A mask that the loader completes.
macro_rules! masked {
    ($value:expr, $what:expr) => {{
        let mut value = $value as u64;
        // SAFETY: it changes a register.
        unsafe {
            asm!(
                "{value} &= {what}",
                value = inout(reg) value,
                what = const (PLACED | $what) as i32,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        value as usize
    }};
}

macro_rules! places {
    ($($name:ident: $what:ident, *mut $element:ty;)*) => {$(
        #[inline(always)]
        pub fn $name() -> *mut $element {
            let place = placed!(placed::$what) as *mut $element;
            // SAFETY: no element of a map is there.
            unsafe { assert_unchecked(!place.is_null()) };
            place
        }
    )*};
}

macro_rules! numbers {
    ($($name:ident: $what:ident;)*) => {$(
        #[inline(always)]
        pub fn $name() -> u32 {
            placed!(placed::$what) as u32
        }
    )*};
}

places! {
    next_hops: NEXT_HOPS, *mut u8;
    buckets: BUCKETS, *mut u8;
    rows: ROWS, *mut u8;
    counters: COUNTERS, *mut FlowCounters;
    processors: PROCESSORS, *mut Processor;
}

numbers! {
    last_link: LAST_LINK;
    counters_count: COUNTERS_COUNT;
}

/// A next hop's index: no check, since userspace writes no other.
#[inline(always)]
pub fn next_hop_index(index: u32) -> usize {
    masked!(index, placed::LAST_NEXT_HOP)
}

#[inline(always)]
pub fn bucket(bucket: u32) -> usize {
    masked!(bucket, placed::LAST_BUCKET)
}

/// A CPU's number: no check, since there are no others.
#[inline(always)]
pub fn processor_number(number: u64) -> usize {
    masked!(number, placed::LAST_PROCESSOR)
}
