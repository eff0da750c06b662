//! When programs no longer stand on what was taken out of their reach.
//!
//! Programs find rows by links. A row that nothing links to any more may still be read by those
//! that found it before; once all that ran then have ended, nobody reads it. The kernel waits for
//! just that when an element of an array of maps is written (since Linux 4.20, for userspace to
//! rely on), and here one is written for no other reason. It takes milliseconds, so a thread waits.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use tracing::error;

use super::system_call::{ARRAY, ARRAY_OF_MAPS, Create, write};

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

impl Period {
    fn new() -> io::Result<Self> {
        let element = Create {
            map_type: ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            ..Create::default()
        };
        let inner = element.create()?;
        let outer = Create {
            map_type: ARRAY_OF_MAPS,
            inner_map: inner.as_raw_fd() as u32,
            ..element
        };
        Ok(Self {
            outer: outer.create()?,
            inner,
        })
    }

    /// Waits until all programs have ended that run now.
    fn pass(&self) -> io::Result<()> {
        // SAFETY: it was made with keys and values of four octets.
        unsafe { write(self.outer.as_fd(), 0, &self.inner.as_raw_fd()) }
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
