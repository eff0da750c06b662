//! The core: what comes in, what goes out.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::{CallId, MediaPlane};

use super::{CallEvent, CallSnapshot, CoreStatistics, timers::Timers, trunk::Trunk};
use crate::{
    config::Settings,
    sip::{Flow, Target},
};

/// What the core wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message. Over UDP from `target.local`; over TCP and TLS on the connection, else on
    /// one to `target.remote`. When that fails, say so with [`Core::transport_failed`].
    Transmit { target: Target, bytes: Bytes },
    /// Log a change of a call.
    Event(CallEvent),
}

/// Every call, and all signalling.
///
/// Give it each message ([`Core::receive`]) and the time when it asked for it ([`Core::timeout`] at
/// [`Core::next_timeout`]); after each, take the outputs with [`Core::poll`] until there is none.
#[derive(Debug)]
pub struct Core<M> {
    settings: Arc<Settings>,
    trunks: Vec<Arc<Trunk>>,
    media: M,
    timers: Timers,
    outputs: VecDeque<Output>,
    statistics: CoreStatistics,
    draining: bool,
    seed: [u8; 32],
}

impl<M: MediaPlane> Core<M> {
    /// A core without calls. `seed` must come from a secure source: tags, branches and SRTP keys
    /// are made from it.
    pub fn new(settings: Arc<Settings>, media: M, seed: [u8; 32]) -> Self {
        Self {
            trunks: Trunk::all(&settings),
            settings,
            media,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            statistics: CoreStatistics::default(),
            draining: false,
            seed,
        }
    }

    /// One whole message, and the way it came.
    pub fn receive(&mut self, now: Instant, flow: &Flow, message: &Bytes) {
        let _ = (now, flow, message);
    }

    /// A message could not be sent to `target`, or its connection broke.
    pub fn transport_failed(&mut self, now: Instant, target: &Target) {
        let _ = (now, target);
    }

    /// The next output; `None` when there is none for now.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Does what is due by now.
    pub fn timeout(&mut self, now: Instant) {
        while let Some((call, due)) = self.timers.take(now) {
            let _ = (call, due);
        }
    }

    /// When [`Core::timeout`] wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Uses new settings for calls that begin from now on.
    pub fn reconfigure(&mut self, settings: Arc<Settings>) {
        self.trunks = Trunk::all(&settings);
        self.settings = settings;
    }

    /// From now on answers each new INVITE and OPTIONS with 503 and Retry-After. Calls that are up
    /// go on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Hangs up every call.
    pub fn hang_up(&mut self, now: Instant) {
        let _ = now;
    }

    /// Whether no call and no transaction is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Every call, the oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallSnapshot> {
        Vec::new()
    }

    /// One call.
    #[must_use]
    pub fn call(&self, id: CallId) -> Option<CallSnapshot> {
        let _ = id;
        None
    }

    /// Counts for metrics.
    #[must_use]
    pub fn statistics(&self) -> CoreStatistics {
        self.statistics.clone()
    }

    /// The media plane.
    #[must_use]
    pub const fn media(&self) -> &M {
        &self.media
    }
}
