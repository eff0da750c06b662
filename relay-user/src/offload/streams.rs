//! The states of protected streams, which the kernel and the workers share.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _},
    ptr::NonNull,
    slice,
};

use relay_abi::srtp::stream::StreamState;

/// The row for each [`relay_abi::srtp::stream::RowReference`]. The kernel program takes indices in
/// the same memory, by the same exchanges.
#[derive(Debug)]
pub struct StreamStates(Memory);

#[derive(Debug)]
enum Memory {
    Heap(Box<[StreamState]>),
    Mapped(Mapped),
}

impl StreamStates {
    /// Rows that no kernel shares.
    #[must_use]
    pub fn on_the_heap(rows: u32) -> Self {
        Self(Memory::Heap(
            (0..rows).map(|_| StreamState::default()).collect(),
        ))
    }

    /// The rows of the map STATES.
    pub(super) fn mapped(map: &impl AsFd, rows: u32) -> io::Result<Self> {
        Mapped::new(map, rows).map(|mapped| Self(Memory::Mapped(mapped)))
    }

    /// A row's state, `None` behind the table's end.
    #[must_use]
    pub fn get(&self, row: u32) -> Option<&StreamState> {
        let rows = match &self.0 {
            Memory::Heap(rows) => rows,
            Memory::Mapped(mapped) => mapped.rows(),
        };
        rows.get(row as usize)
    }
}

/// An array map in this process's memory.
#[derive(Debug)]
struct Mapped {
    begin: NonNull<StreamState>,
    rows: usize,
}

// SAFETY: it is a pointer to memory that stays mapped until it is dropped, and whose words are
// atomic.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(map: &impl AsFd, rows: u32) -> io::Result<Self> {
        let rows = rows as usize;
        // SAFETY: a new mapping, which overlays nothing; the kernel refuses one that is longer than
        // the map's pages.
        let begin = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                rows * size_of::<StreamState>(),
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
        Ok(Self { begin, rows })
    }

    fn rows(&self) -> &[StreamState] {
        // SAFETY: so many elements are mapped as long as `self` lives, at a page's beginning and
        // eight octets' multiples apart; any numbers make them, and they are written through
        // atomic words only, here and in the kernel.
        unsafe { slice::from_raw_parts(self.begin.as_ptr(), self.rows) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and nothing borrows it any more.
        unsafe {
            libc::munmap(
                self.begin.as_ptr().cast(),
                self.rows * size_of::<StreamState>(),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_last_row_there_is_none() {
        let states = StreamStates::on_the_heap(2);
        assert!(states.get(1).is_some());
        assert!(states.get(2).is_none());
    }
}
