//! The next hops that workers send frames to, kept true from netlink.
//!
//! A worker asks once for each pair of a local and a remote address, by handing over a [`Way`] that
//! nothing leaves by yet. From then on one thread writes into it what netlink tells, and the worker
//! reads it with each packet: no lock, and one load while nothing changes.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use relay_abi::next_hop::NextHop;
use zerocopy::transmute;

use crate::next_hop::{NextHopError, Sink, Watcher};

/// The most neighbours that frames are sent to; packets to others are left to IP.
const NEIGHBOURS: usize = 4096;
/// How many questions may wait; a worker asks again with a later packet.
const QUESTIONS: usize = 256;
/// How many pairs are kept before it is looked whether workers still use them.
const PAIRS: usize = 1024;

/// A local address and a remote one.
pub(super) type Pair = (IpAddr, IpAddr);

const WORDS: usize = 4;
const _: () = assert!(size_of::<NextHop>() == WORDS * 8);

/// Where the packets of one pair leave to: one writer at a time, any number of readers. `version` is
/// odd while it is being written.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Way {
    version: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl Way {
    /// Called under the lock of the [`Book`].
    fn publish(&self, row: &NextHop) {
        let words: [u64; WORDS] = transmute!(*row);
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (shared, word) in self.words.iter().zip(words) {
            shared.store(word, Ordering::Relaxed);
        }
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }

    /// The row, if it is another one than that of `version`, which becomes its own. One that is
    /// just being written is left for next time.
    pub(super) fn changed(&self, version: &mut u32) -> Option<NextHop> {
        let now = self.version.load(Ordering::Acquire);
        if now == *version || now % 2 == 1 {
            return None;
        }
        let mut words = [0; WORDS];
        for (word, shared) in words.iter_mut().zip(&self.words) {
            *word = shared.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if self.version.load(Ordering::Relaxed) != now {
            return None;
        }
        *version = now;
        Some(transmute!(words))
    }
}

/// What a worker asks: to write into `way` where packets of `pair` leave to.
#[derive(Debug)]
pub(super) struct Question {
    pub pair: Pair,
    pub way: Weak<Way>,
}

/// The rows in use and who reads them.
#[derive(Debug, Default)]
struct Book {
    rows: Vec<NextHop>,
    pairs: HashMap<Pair, Entry>,
    /// How many pairs there may be until the next look at which are used.
    enough: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// The row, once the table has named it.
    row: Option<u32>,
    ways: Vec<Weak<Way>>,
}

impl Entry {
    fn publish(&self, row: &NextHop) {
        for way in self.ways.iter().filter_map(Weak::upgrade) {
            way.publish(row);
        }
    }
}

impl Book {
    fn write(&mut self, index: u32, row: &NextHop) {
        let place = index as usize;
        if self.rows.len() <= place {
            self.rows.resize(place + 1, NextHop::default());
        }
        if let Some(written) = self.rows.get_mut(place) {
            *written = *row;
        }
        for entry in self.pairs.values() {
            if entry.row == Some(index) {
                entry.publish(row);
            }
        }
    }

    /// Points a pair at a row. One that nobody asked for is none of ours.
    fn point(&mut self, pair: &Pair, index: u32) {
        let row = self.rows.get(index as usize).copied().unwrap_or_default();
        if let Some(entry) = self.pairs.get_mut(pair) {
            entry.row = Some(index);
            entry.publish(&row);
        }
    }

    /// Forgets the pairs that no worker has any more, when there are many.
    fn forgotten(&mut self) -> Vec<Pair> {
        if self.pairs.len() <= self.enough {
            return Vec::new();
        }
        let mut forgotten = Vec::new();
        self.pairs.retain(|pair, entry| {
            entry.ways.retain(|way| way.strong_count() > 0);
            if entry.ways.is_empty() {
                forgotten.push(*pair);
            }
            !entry.ways.is_empty()
        });
        self.enough = (2 * self.pairs.len()).max(PAIRS);
        forgotten
    }
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Book>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, question: Question, watcher: &Watcher) {
        let Question { pair, way } = question;
        let known = {
            let mut book = self.lock();
            let entry = book.pairs.entry(pair).or_default();
            entry.ways.retain(|way| way.strong_count() > 0);
            entry.ways.push(way);
            entry.row
        };
        // Not under the book's lock: the watcher writes rows under its own and then takes this one.
        let named = match known {
            Some(_) => None,
            None => Some(watcher.acquire(pair.0, pair.1)),
        };
        let mut book = self.lock();
        match (named, book.pairs.get(&pair).and_then(|entry| entry.row)) {
            // The pair may have been moved since it was named.
            (_, Some(index)) | (Some(Ok(index)), None) => book.point(&pair, index),
            (_, None) => {
                book.pairs.remove(&pair);
            }
        }
        let forgotten = book.forgotten();
        drop(book);
        for (source, destination) in forgotten {
            watcher.release(source, destination);
        }
    }
}

impl Sink for Shared {
    fn write(&self, index: u32, row: &NextHop) {
        self.lock().write(index, row);
    }

    fn moved(&self, moved: &[(IpAddr, IpAddr, u32)]) {
        let mut book = self.lock();
        for (source, destination, index) in moved {
            book.point(&(*source, *destination), *index);
        }
    }
}

/// The thread that answers workers.
#[derive(Debug)]
pub(super) struct Ways {
    questions: Option<SyncSender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl Ways {
    /// Starts it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When netlink is refused.
    pub(super) fn start() -> Result<Self, NextHopError> {
        let shared = Shared::default();
        let watcher = Watcher::over_every_device(NEIGHBOURS, shared.clone())?;
        let (questions, asked) = sync_channel(QUESTIONS);
        let thread = thread::Builder::new()
            .name("ways".into())
            .spawn(move || answer(&shared, &watcher, &asked))
            .ok();
        Ok(Self {
            questions: thread.is_some().then_some(questions),
            thread,
        })
    }

    /// Where to ask; nowhere if the thread did not start.
    pub(super) fn questions(&self) -> Option<SyncSender<Question>> {
        self.questions.clone()
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        // It ends when the last one who could ask is gone.
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(shared: &Shared, watcher: &Watcher, asked: &Receiver<Question>) {
    while let Ok(question) = asked.recv() {
        shared.answer(question, watcher);
    }
}
