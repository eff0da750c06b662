//! The buffers that packets are received into, rewritten in and sent from.
//!
//! The kernel takes a buffer for each packet from those that it was offered; the worker rewrites it
//! in place and sends it from there, and gives it back when the send has completed. So buffers are
//! the send slots too: when all are under way the kernel finds none, and packets wait in the socket,
//! which is bounded.

use std::{
    io, ptr, slice,
    sync::{
        Once,
        atomic::{AtomicU16, Ordering},
    },
};

use io_uring::{Submitter, opcode, squeue, types::BufRingEntry};

use crate::srtp::TRAILER;

/// How many buffers a worker has: a power of two.
pub(super) const BUFFERS: u16 = 256;
/// How many more it has for what it copies itself, which the kernel is never offered.
const OWN: u16 = 64;
/// All of them.
pub(super) const ALL: u16 = BUFFERS + OWN;
/// Octets of one.
pub(super) const SIZE: usize = 2048;
/// From one to the next. Not a power of two, or the same few sets of the processor's caches would
/// hold the beginnings of all.
const STRIDE: usize = SIZE + 64;
/// Octets of one that the kernel may fill; the rest is room for SRTP's trailer.
pub(super) const FILLED: usize = SIZE - TRAILER;
/// The group that the buffers are registered as.
pub(super) const GROUP: u16 = 0;

/// Anonymous memory of the process, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing else.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            length,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever owned it is gone with it.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// How the kernel is offered buffers.
#[derive(Debug)]
enum Offers {
    /// In a ring that it reads by itself, up to the tail that it was shown.
    Ring { ring: Mapping, tail: u16 },
    /// By a submission for each; these wait for theirs.
    Submissions(Vec<u16>),
}

impl Offers {
    /// Those by submissions where the kernel refuses the ring.
    fn new(submitter: &Submitter<'_>) -> io::Result<Self> {
        let ring = Mapping::new(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        // SAFETY: the ring is page-aligned, has `BUFFERS` entries, and outlives the io_uring: a
        // worker drops its io_uring first.
        let registered =
            unsafe { submitter.register_buf_ring_with_flags(ring.start as u64, BUFFERS, GROUP, 0) };
        Ok(match registered {
            Ok(()) => Self::Ring { ring, tail: 0 },
            Err(error) => {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!(
                        %error,
                        "this kernel's io_uring refuses buffer rings: the media workers offer it \
                         each buffer by a submission"
                    );
                });
                Self::Submissions(Vec::with_capacity(usize::from(BUFFERS)))
            }
        })
    }
}

/// A worker's buffers and what offers them to the kernel. It must outlive the io_uring that it is
/// made for.
#[derive(Debug)]
pub(super) struct Buffers {
    offers: Offers,
    memory: Mapping,
    /// How many the kernel has.
    offered: u16,
    /// Those of its own that are free. The last one given back is the next one taken: it is still in
    /// the processor's caches.
    free: Vec<u16>,
}

impl Buffers {
    pub(super) fn new(submitter: &Submitter<'_>) -> io::Result<Self> {
        let mut buffers = Self {
            offers: Offers::new(submitter)?,
            memory: Mapping::new(usize::from(ALL) * STRIDE)?,
            offered: 0,
            free: (BUFFERS..ALL).collect(),
        };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The kernel took a buffer for a packet.
    pub(super) fn taken(&mut self) {
        self.offered = self.offered.saturating_sub(1);
    }

    /// Whether the kernel has a buffer for another packet.
    pub(super) fn any_offered(&self) -> bool {
        self.offered > 0
    }

    /// The buffer `id`, which the kernel named in a completion and which was not given back since.
    pub(super) fn get(&mut self, id: u16) -> &mut [u8] {
        let offset = usize::from(id % ALL) * STRIDE;
        // SAFETY: the range is inside the mapping, whose octets are initialised (zero at first).
        // The kernel writes a buffer only between its offer and the completion that names it, and
        // reads it only until a send completes; the worker asks for it in neither time. The
        // borrow of `self` keeps a second slice from existing.
        unsafe { slice::from_raw_parts_mut(self.memory.start.add(offset), SIZE) }
    }

    /// Offers the buffer `id` to the kernel, from the next [`Buffers::publish`] on, or when what
    /// [`Buffers::submission`] says of it is submitted.
    pub(super) fn give_back(&mut self, id: u16) {
        if id >= BUFFERS {
            self.free.push(id);
            return;
        }
        match &mut self.offers {
            Offers::Ring { ring, tail } => {
                let slot = usize::from(*tail % BUFFERS);
                // SAFETY: both offsets are inside their mappings, the entry is aligned, and the
                // kernel does not read an entry behind the published tail.
                let entry = unsafe { &mut *ring.start.cast::<BufRingEntry>().add(slot) };
                entry.set_addr(self.memory.start as u64 + u64::from(id) * STRIDE as u64);
                entry.set_len(FILLED as u32);
                entry.set_bid(id);
                *tail = tail.wrapping_add(1);
            }
            // There is room for each, so it never grows.
            Offers::Submissions(waiting) => waiting.push(id),
        }
        self.offered = self.offered.saturating_add(1).min(BUFFERS);
    }

    /// The next buffer to offer by a submission, and that; its completion comes only if it fails.
    pub(super) fn submission(&mut self) -> Option<(u16, squeue::Entry)> {
        let Offers::Submissions(waiting) = &mut self.offers else {
            return None;
        };
        let id = waiting.pop()?;
        // Inside the mapping, whose buffers `id` is one of.
        let start = self.memory.start.wrapping_add(usize::from(id) * STRIDE);
        let entry = opcode::ProvideBuffers::new(start, FILLED as i32, 1, GROUP, id).build();
        Some((id, entry.flags(squeue::Flags::SKIP_SUCCESS)))
    }

    /// Buffer `id` was not offered after all.
    pub(super) fn not_offered(&mut self, id: u16) {
        self.taken();
        self.give_back(id);
    }

    /// Takes one that the kernel is not offered.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Lets the kernel see what was given back.
    pub(super) fn publish(&mut self) {
        if let Offers::Ring { ring, tail } = &self.offers {
            // SAFETY: the tail is a field of the ring's first entry
            // (io_uring_register_buf_ring(3)), aligned and inside the mapping; the kernel only
            // reads it.
            unsafe {
                let shown = BufRingEntry::tail(ring.start.cast::<BufRingEntry>());
                AtomicU16::from_ptr(shown.cast_mut()).store(*tail, Ordering::Release);
            }
        }
    }
}
