//! The timers of calls. Each belongs to a call and can be taken back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use relay_user::media::CallId;

use super::Side;

/// RFC 3261 §17.1.1.1: the estimate of a round trip.
pub(super) const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2: the longest pause between retransmissions.
pub(super) const T2: Duration = Duration::from_secs(4);
/// 64 × T1: how long anything is waited for that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(32);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The callee has rung long enough.
    NoAnswer,
    /// A cancelled INVITE has still no final response.
    Cancelled,
    /// Our 2xx to the side has not been acknowledged: send it again.
    Resend(Side),
    /// Our 2xx to the side has not been acknowledged for too long.
    NoAck(Side),
    /// The pause after a 491 is over.
    Retry,
}

/// Takes a timer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(Instant, u64);

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Instant, u64), (CallId, Due)>,
    next: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, call: CallId, due: Due) -> TimerKey {
        self.next += 1;
        self.queue.insert((at, self.next), (call, due));
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
    pub(super) fn take(&mut self, now: Instant) -> Option<(CallId, Due)> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
