//! When to ask for a neighbour.

use std::time::{Duration, Instant};

/// How long after a first question the second is asked; each further one waits twice as long.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// How often a neighbour that answered is asked whether it is still there. The kernel does so by
/// itself only for the packets that it sends, and it does not see those of the XDP program.
const REFRESH: Duration = Duration::from_secs(30);

/// The questions about one neighbour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    pub(super) asked: u32,
    /// When the next question is due; none while there is nothing to ask.
    pub(super) due: Option<Instant>,
}

impl Probe {
    /// Asks from the beginning: at once.
    pub(super) fn start(&mut self, now: Instant) {
        self.asked = 0;
        self.due = Some(now);
    }

    /// The neighbour answered.
    pub(super) fn answered(&mut self, now: Instant) {
        self.asked = 0;
        self.due = Some(now + REFRESH);
    }

    pub(super) fn stop(&mut self) {
        self.due = None;
    }

    /// A question was asked.
    pub(super) fn asked(&mut self, now: Instant, resolved: bool) {
        let wait = match resolved {
            true => REFRESH,
            false => FIRST.saturating_mul(1 << self.asked.min(16)).min(LONGEST),
        };
        self.asked = self.asked.saturating_add(1);
        self.due = Some(now + wait);
    }
}
