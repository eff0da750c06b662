//! What the admin socket and the metrics ask of the running daemon.

use std::sync::Arc;

use relay_user::media::{CallId, FlowSnapshot, MediaSnapshot, StreamStatistics};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    call::{CallSnapshot, CoreStatistics, TrunkSnapshot},
    config::Settings,
    transport::{Discards, Transports},
};

/// How far the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Names are being looked up.
    Starting,
    /// Calls are served.
    Ready,
    /// No new calls; it ends when the last has ended.
    Draining,
}

impl Phase {
    /// The name that `/readyz` and `trunkline stats` show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The media plane as it can be watched.
pub trait MediaObserver: Send + Sync {
    fn snapshot(&self) -> MediaSnapshot;
    fn flows(&self) -> Vec<FlowSnapshot>;
    /// What a call's streams have carried; `None` for a call without media.
    fn streams(&self, call: CallId) -> Option<[StreamStatistics; 2]>;
}

/// A question to the task that owns the calls.
#[derive(Debug)]
pub(super) enum Query {
    Calls(oneshot::Sender<Vec<CallSnapshot>>),
    Call(CallId, oneshot::Sender<Option<CallSnapshot>>),
    Statistics(oneshot::Sender<CoreStatistics>),
    Trunks(oneshot::Sender<Vec<TrunkSnapshot>>),
}

/// Asks a running daemon. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) queries: mpsc::Sender<Query>,
    pub(super) media: Arc<dyn MediaObserver>,
    pub(super) transports: Arc<Transports>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
}

impl Handle {
    /// Every call, the oldest first; `None` once the daemon has ended.
    pub async fn calls(&self) -> Option<Vec<CallSnapshot>> {
        let mut calls = self.ask(Query::Calls).await?;
        let media = Arc::clone(&self.media);
        // The kernel's counters are read on a thread of their own: calls are not held up.
        tokio::task::spawn_blocking(move || {
            for call in &mut calls {
                call.streams = media.streams(call.id);
            }
            calls
        })
        .await
        .ok()
    }

    /// One call; the outer `None` once the daemon has ended.
    pub async fn call(&self, id: CallId) -> Option<Option<CallSnapshot>> {
        self.ask(|answer| Query::Call(id, answer)).await
    }

    /// Counts of signalling; `None` once the daemon has ended.
    pub async fn statistics(&self) -> Option<CoreStatistics> {
        self.ask(Query::Statistics).await
    }

    /// Every trunk with its addresses; `None` once the daemon has ended.
    pub async fn trunks(&self) -> Option<Vec<TrunkSnapshot>> {
        self.ask(Query::Trunks).await
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
        let (answer, receiver) = oneshot::channel();
        self.queries.send(query(answer)).await.ok()?;
        receiver.await.ok()
    }

    /// The media plane's counts. It reads the kernel's maps, so it may take milliseconds; it is
    /// done on a thread of its own. `None` while the process ends.
    pub async fn media(&self) -> Option<MediaSnapshot> {
        let media = Arc::clone(&self.media);
        tokio::task::spawn_blocking(move || media.snapshot())
            .await
            .ok()
    }

    /// Every flow. As [`Handle::media`].
    pub async fn flows(&self) -> Option<Vec<FlowSnapshot>> {
        let media = Arc::clone(&self.media);
        tokio::task::spawn_blocking(move || media.flows())
            .await
            .ok()
    }

    #[must_use]
    pub fn discards(&self) -> Arc<Discards> {
        self.transports.discards()
    }

    #[must_use]
    pub fn connections(&self) -> usize {
        self.transports.connections()
    }

    /// The configuration in use.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}
