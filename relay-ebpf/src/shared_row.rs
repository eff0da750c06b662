//! A row of a map that userspace changes while programs read it.

use relay_abi::shared::Shared;

/// Points to an element of a map, which stays mapped while the program runs.
#[derive(Clone, Copy)]
pub struct Row(*const u8);

impl Row {
    /// # Safety
    /// `row` points to an element of a map whose values are of 64 octets or more and begin with
    /// a version. Offsets that are asked for are within it.
    #[inline(always)]
    pub unsafe fn new<T>(row: *const T) -> Self {
        Self(row.cast())
    }

    #[inline(always)]
    fn read<T>(self, offset: usize) -> T {
        // SAFETY: within the element and aligned, by what `new` and `Shared` ask; whatever is in
        // it is a number. Volatile: read once, and in this order.
        unsafe { self.0.add(offset).cast::<T>().read_volatile() }
    }

    /// This processor keeps its loads in order, and the compiler those that are volatile.
    #[cfg(feature = "loads-in-order")]
    #[inline(always)]
    fn ordered_version(self) -> u32 {
        self.read(0)
    }

    /// An exchange, by which a processor that moves its loads about has to keep the order.
    #[cfg(not(feature = "loads-in-order"))]
    #[inline(always)]
    fn ordered_version(self) -> u32 {
        let mut first = 0u64;
        // SAFETY: it adds nothing to the first eight octets of the element, which are aligned.
        unsafe {
            core::arch::asm!(
                "{first} = atomic_fetch_add((u64 *)({row} + 0), {first})",
                row = in(reg) self.0,
                first = inout(reg) first,
                options(nostack),
            );
        }
        let [version, _]: [u32; 2] = zerocopy::transmute!(first);
        version
    }
}

impl Shared for Row {
    #[inline(always)]
    fn any_version(self) -> u32 {
        self.ordered_version()
    }

    #[inline(always)]
    fn is_still(self, version: u32) -> bool {
        self.ordered_version() == version
    }

    #[inline(always)]
    fn octet(self, offset: usize) -> u8 {
        self.read(offset)
    }

    #[inline(always)]
    fn half(self, offset: usize) -> u16 {
        self.read(offset)
    }

    #[inline(always)]
    fn word(self, offset: usize) -> u32 {
        self.read(offset)
    }

    #[inline(always)]
    fn wide<const OFFSET: usize>(self) -> u64 {
        let value: u64;
        // SAFETY: within the element and aligned, by what `new` and `Shared` ask.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({row} + {offset})",
                value = out(reg) value,
                row = in(reg) self.0,
                offset = const OFFSET,
                options(readonly, nostack, preserves_flags),
            );
        }
        value
    }

    #[inline(always)]
    fn long(self, offset: usize) -> u64 {
        self.read(offset)
    }

    #[inline(always)]
    fn any_long(self, offset: usize) -> u64 {
        // SAFETY: within the element, by what `Shared` asks, and read without alignment.
        unsafe { self.0.add(offset).cast::<u64>().read_unaligned() }
    }
}
