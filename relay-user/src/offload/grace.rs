//! When programs no longer stand on what was taken out of their reach.
//!
//! Programs find rows by links. A row that nothing links to any more may still be read by those
//! that found it before; once all that ran then have ended, nobody reads it. The kernel waits for
//! just that when an element of an array of maps is written (since Linux 4.20, for userspace to
//! rely on), and here one is written for no other reason. It takes milliseconds, so a thread waits.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use tracing::error;

/// Rows that come back when no program stands on them any more.
#[derive(Debug)]
pub(super) struct Grace {
    given: Sender<Vec<u32>>,
    returned: Receiver<Returned>,
    /// Rows that have not come back.
    waiting: usize,
}

/// Rows that were given, and those of them that may be used: none when the kernel did not wait.
#[derive(Debug)]
struct Returned {
    given: usize,
    rows: Vec<u32>,
}

impl Grace {
    /// # Errors
    /// When the kernel refuses the maps or the thread.
    pub(super) fn new() -> io::Result<Self> {
        let period = Period::new()?;
        let (given, batches) = channel::<Vec<u32>>();
        let (free, returned) = channel();
        thread::Builder::new()
            .name("grace".to_owned())
            .spawn(move || {
                // Ends when the table does.
                while let Ok(mut batch) = batches.recv() {
                    // One wait serves for all that came during the last one: those who install
                    // many flows a second would otherwise give more than comes back.
                    batch.extend(batches.try_iter().flatten());
                    let given = batch.len();
                    if let Err(why) = period.pass() {
                        // The rows are lost to the table, which says so when it is full.
                        error!("the kernel did not wait for its programs: {why}");
                        batch.clear();
                    }
                    if free.send(Returned { given, rows: batch }).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            given,
            returned,
            waiting: 0,
        })
    }

    /// Takes rows that nothing links to any more.
    pub(super) fn give(&mut self, rows: Vec<u32>) {
        let count = rows.len();
        if self.given.send(rows).is_ok() {
            self.waiting += count;
        }
    }

    /// Rows on which no program stands, if there are some by now.
    pub(super) fn take(&mut self) -> Option<Vec<u32>> {
        let returned = self.returned.try_recv().ok()?;
        Some(self.rows_of(returned))
    }

    /// As [`Grace::take`], but waits for them; `None` when none were given.
    pub(super) fn wait(&mut self) -> Option<Vec<u32>> {
        if self.waiting == 0 {
            return None;
        }
        let returned = self.returned.recv().ok()?;
        Some(self.rows_of(returned))
    }

    fn rows_of(&mut self, returned: Returned) -> Vec<u32> {
        self.waiting = self.waiting.saturating_sub(returned.given);
        returned.rows
    }
}

/// An array of maps, which is written to wait for programs.
struct Period {
    outer: OwnedFd,
    inner: OwnedFd,
}

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const ARRAY: u32 = 2;
const ARRAY_OF_MAPS: u32 = 12;

/// The beginning of the kernel's `bpf_attr` for [`MAP_CREATE`]: zeros are meant behind it.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map: u32,
}

/// The same for [`MAP_UPDATE_ELEM`].
#[repr(C)]
struct Update {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are as long as said and live over the call, and what they point to
    // does too.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

impl Period {
    fn new() -> io::Result<Self> {
        let create = |map_type, inner_map| -> io::Result<OwnedFd> {
            let descriptor = bpf(
                MAP_CREATE,
                &Create {
                    map_type,
                    key_size: 4,
                    value_size: 4,
                    max_entries: 1,
                    map_flags: 0,
                    inner_map,
                },
            )?;
            // SAFETY: the kernel has just given it, and nobody else has it.
            Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
        };
        let inner = create(ARRAY, 0)?;
        let outer = create(ARRAY_OF_MAPS, inner.as_raw_fd() as u32)?;
        Ok(Self { outer, inner })
    }

    /// Waits until all programs have ended that run now.
    fn pass(&self) -> io::Result<()> {
        let (key, value) = (0u32, self.inner.as_raw_fd());
        bpf(
            MAP_UPDATE_ELEM,
            &Update {
                map: self.outer.as_raw_fd() as u32,
                zero: 0,
                key: std::ptr::from_ref(&key) as u64,
                value: std::ptr::from_ref(&value) as u64,
                flags: 0,
            },
        )
        .map(|_| ())
    }
}

#[cfg(test)]
mod rooted {
    use super::*;

    /// However fast they are given, rows come back once each, and nobody waits for more.
    #[test]
    fn every_row_comes_back_once() {
        let mut grace = Grace::new().expect("root");
        for batch in 0..100 {
            grace.give(vec![2 * batch, 2 * batch + 1]);
        }
        let mut rows: Vec<u32> = std::iter::from_fn(|| grace.wait()).flatten().collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..200).collect::<Vec<u32>>());
        assert_eq!(grace.take(), None);
    }
}
