//! Array maps in this process's memory.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd as _},
    ptr::NonNull,
    slice,
};

use relay_abi::srtp::stream::StreamState;

/// What may be shared with programs that change it.
///
/// # Safety
/// Any octets make it, and all of it is atomic.
pub(super) unsafe trait Atomic: Sync {}

// SAFETY: an atomic number.
unsafe impl Atomic for std::sync::atomic::AtomicU32 {}
// SAFETY: atomic numbers.
unsafe impl<const LENGTH: usize> Atomic for [std::sync::atomic::AtomicU64; LENGTH] {}
// SAFETY: its words are atomic, and any numbers make them.
unsafe impl Atomic for StreamState {}

/// An array map, whose elements lie without a gap.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    begin: NonNull<T>,
    length: usize,
    element: PhantomData<T>,
}

// SAFETY: it is a pointer to memory that stays mapped until it is dropped, and that is atomic.
unsafe impl<T: Atomic> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Atomic> Sync for Mapped<T> {}

impl<T: Atomic> Mapped<T> {
    /// The first `length` elements of a map.
    pub(super) fn new(map: &impl AsFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, which overlays nothing; the kernel refuses one that is longer than
        // the map's pages.
        let begin = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if begin == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let begin = NonNull::new(begin.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            begin,
            length,
            element: PhantomData,
        })
    }

    pub(super) fn elements(&self) -> &[T] {
        // SAFETY: so many are mapped as long as `self` lives, from a page's beginning on; any
        // octets make them, and they are written through atomics only, here and in the kernel.
        unsafe { slice::from_raw_parts(self.begin.as_ptr(), self.length) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nothing borrows it any more.
        unsafe { libc::munmap(self.begin.as_ptr().cast(), self.length * size_of::<T>()) };
    }
}
