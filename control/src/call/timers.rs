//! The timers of calls, of trunks' addresses and of what outlasts a call. Each belongs to one and can
//! be taken back.

use std::{collections::BTreeMap, time::Instant};

use relay_user::media::CallId;

use super::{Side, health::PeerId, model::Question};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The callee has rung long enough.
    NoAnswer,
    /// An address of the callee's trunk has said nothing but 100 for too long.
    Silent,
    /// Our 2xx to the side has not been acknowledged.
    Unacknowledged(Side),
    /// The pause after a 491 is over.
    Retry,
    /// A side is to be asked again, in the other's name.
    Reoffer(Side, Question),
    /// The session of a side is to be refreshed, or over.
    Session(Side),
    /// A new peer has not answered.
    Transfer,
    /// A provisional response to the caller has no PRACK.
    Reliable,
    /// A side that was replaced has not hung up.
    Depart(Side),
}

/// What is due, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    Call(CallId, Due),
    Peer(PeerId),
    /// The PRACK of a provisional response with that tag of ours comes no more.
    Prack(u64),
}

/// Takes a timer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(Instant, u64);

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Instant, u64), Timed>,
    next: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, call: CallId, due: Due) -> TimerKey {
        self.insert(at, Timed::Call(call, due))
    }

    pub(super) fn set_peer(&mut self, at: Instant, peer: PeerId) -> TimerKey {
        self.insert(at, Timed::Peer(peer))
    }

    pub(super) fn set_prack(&mut self, at: Instant, tag: u64) -> TimerKey {
        self.insert(at, Timed::Prack(tag))
    }

    fn insert(&mut self, at: Instant, timed: Timed) -> TimerKey {
        self.next += 1;
        self.queue.insert((at, self.next), timed);
        TimerKey(at, self.next)
    }

    pub(super) fn clear(&mut self, key: Option<TimerKey>) {
        if let Some(TimerKey(at, number)) = key {
            self.queue.remove(&(at, number));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next timer that is due by now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Timed> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// How many belong to calls.
    #[cfg(test)]
    pub(super) fn of_calls(&self) -> usize {
        let calls = |timed: &&Timed| matches!(timed, Timed::Call(..));
        self.queue.values().filter(calls).count()
    }
}
