//! What workers tell: rare, bounded, and told again with the next packet when there was no room.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use relay_abi::flow::{Endpoint, FlowEntry, FlowKey};

/// Something that a worker learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowEvent {
    /// A flow's source is known, or another one took over: the entry is what the worker relays by
    /// from now on, with peer, SSRCs, offsets and generation, [`FlowEntry::PINNED`] and
    /// [`FlowEntry::SSRC_KNOWN`]. Its `to` is the one that was installed.
    Source { key: FlowKey, entry: FlowEntry },
    /// A flow's peer was nominated by ICE, and its SSRC is not known yet: the entry has
    /// [`FlowEntry::PINNED`] and the peer.
    Peer { key: FlowKey, entry: FlowEntry },
    /// The address that a leg's RTCP comes from.
    Rtcp { key: FlowKey, peer: Endpoint },
}

/// A bounded queue of [`SlowEvent`]s from all workers to one reader. Clones share it.
#[derive(Clone, Debug)]
pub struct SlowEvents {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: ArrayQueue<SlowEvent>,
    refused: AtomicU64,
    waiting: Mutex<bool>,
    arrived: Condvar,
}

impl SlowEvents {
    /// Room for `capacity` events (at least one).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                queue: ArrayQueue::new(capacity.max(1)),
                refused: AtomicU64::new(0),
                waiting: Mutex::new(false),
                arrived: Condvar::new(),
            }),
        }
    }

    /// The next event, waiting for one at most `timeout`.
    #[must_use]
    pub fn next(&self, timeout: Duration) -> Option<SlowEvent> {
        if let Some(event) = self.inner.queue.pop() {
            return Some(event);
        }
        let mut waiting = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *waiting = true;
        // An event that came between the look above and the flag would wake nobody.
        if let Some(event) = self.inner.queue.pop() {
            *waiting = false;
            return Some(event);
        }
        let (mut waiting, _) = self
            .inner
            .arrived
            .wait_timeout_while(waiting, timeout, |_| self.inner.queue.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        *waiting = false;
        drop(waiting);
        self.inner.queue.pop()
    }

    /// How often there was no room; each of these was told again by a later packet.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// False when there is no room: the caller keeps it for later.
    pub(super) fn tell(&self, event: SlowEvent) -> bool {
        if self.inner.queue.push(event).is_err() {
            self.inner.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let waiting = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *waiting {
            self.inner.arrived.notify_one();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn event(port: u16) -> SlowEvent {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], port));
        SlowEvent::Rtcp {
            key: crate::slow::flow_key(address),
            peer: crate::slow::endpoint(address),
        }
    }

    #[test]
    fn a_full_queue_refuses_and_counts() {
        let events = SlowEvents::new(2);
        assert!(events.tell(event(1)));
        assert!(events.tell(event(2)));
        assert!(!events.tell(event(3)));
        assert_eq!(events.refused(), 1);
        assert_eq!(events.next(Duration::ZERO), Some(event(1)));
        assert!(events.tell(event(3)));
        assert_eq!(events.next(Duration::ZERO), Some(event(2)));
        assert_eq!(events.next(Duration::ZERO), Some(event(3)));
        assert_eq!(events.next(Duration::ZERO), None);
    }

    #[test]
    fn a_waiting_reader_gets_every_event() {
        let events = SlowEvents::new(4);
        let reader = thread::spawn({
            let events = events.clone();
            move || {
                (0..1000)
                    .map(|_| events.next(Duration::from_secs(60)))
                    .collect::<Vec<_>>()
            }
        });
        for port in 0..1000 {
            while !events.tell(event(port)) {
                thread::yield_now();
            }
        }
        let read = reader.join().expect("the reader ends");
        assert!(read.into_iter().eq((0..1000).map(|port| Some(event(port)))));
    }
}
