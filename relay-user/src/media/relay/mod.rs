//! The real media plane: it holds the kernel's tables, the workers, the next hops and the ports,
//! and makes of a call's description what each of them is told.
//!
//! Everything is under one lock, held for microseconds. It is taken before the next hops' and the
//! kernel tables' own, never after.

mod alarm;
mod counters;
mod events;
mod flow;
mod kernel;
mod plane;
#[cfg(test)]
mod rooted;
mod rows;
mod slow_path;
mod snapshot;
mod start;
mod statistics;
mod strays;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use relay_abi::next_hop::NextHop;

pub use start::{RelayConfig, StartError};

use super::{
    CallId, CallMedia, Family, MediaError, MediaPlane, MediaPort, Path, SrtpState, StreamStatistics,
};
use crate::{
    next_hop::{Sink, Watcher},
    offload::{Datapath, InterfaceState},
    slow::{LastOutput, SlowEvents},
};
use plane::{Parts, Plane};
use slow_path::SlowPath;

/// The media plane over the XDP program and the workers. Clones are handles of the same one, which
/// ends with the last of them: its threads stop and the XDP program is detached.
#[derive(Clone)]
pub struct Relay {
    running: Arc<Running>,
}

/// What ends with the last handle.
struct Running {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    events: Option<JoinHandle<()>>,
    /// What keeps the programs attached, whatever it is.
    _attached: Box<dyn Send + Sync>,
}

/// What the threads of the media plane share.
struct Shared {
    plane: Mutex<Plane>,
    tables: KernelTables,
    next_hops: Mutex<Option<Arc<Watcher>>>,
    slow: Box<dyn SlowPath>,
    events: SlowEvents,
    interfaces: Vec<InterfaceState>,
    srtp: SrtpState,
}

/// The kernel's tables, if the XDP program runs.
#[derive(Clone)]
struct KernelTables {
    datapath: Option<Arc<Mutex<Box<dyn Datapath>>>>,
}

impl KernelTables {
    /// Does something to the tables; `None` where there are none.
    fn with<T>(&self, act: impl FnOnce(&mut dyn Datapath) -> T) -> Option<T> {
        let datapath = self.datapath.as_ref()?;
        let mut datapath = datapath.lock().unwrap_or_else(PoisonError::into_inner);
        Some(act(datapath.as_mut()))
    }
}

impl LastOutput for KernelTables {
    fn last_output(&self, counters: u32) -> Option<relay_abi::counters::FlowCounters> {
        let read = self.with(|datapath| datapath.read(counters).ok()).flatten();
        read.filter(|counters| counters.packets > 0)
    }
}

impl Shared {
    fn plane(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the calls, with what they are made of.
    fn with_plane<T>(&self, act: impl FnOnce(&mut Plane, &Parts<'_>) -> T) -> T {
        let next_hops = self.next_hops();
        let parts = Parts {
            tables: &self.tables,
            next_hops: next_hops.as_deref(),
            slow: self.slow.as_ref(),
        };
        act(&mut self.plane(), &parts)
    }

    fn next_hops(&self) -> Option<Arc<Watcher>> {
        let next_hops = self.next_hops.lock();
        next_hops.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes what the next hops' watcher finds. It must not keep the media plane alive: the watcher
/// is a part of it.
struct HopSink {
    tables: KernelTables,
    shared: std::sync::Weak<Shared>,
}

impl Sink for HopSink {
    fn write(&self, index: u32, row: &NextHop) {
        let written = self
            .tables
            .with(|datapath| datapath.set_next_hop(index, row));
        if let Some(Err(error)) = written {
            tracing::error!(%error, index, "a next hop was not written");
        }
    }

    fn moved(&self, moved: &[(IpAddr, IpAddr, u32)]) {
        if let Some(shared) = self.shared.upgrade() {
            shared.plane().move_hops(&shared.tables, moved);
        }
    }
}

impl MediaPlane for Relay {
    fn reserve(&mut self, interface: &str, family: Family) -> Result<MediaPort, MediaError> {
        let mut plane = self.running.shared.plane();
        plane.ports.reserve(interface, family)
    }

    fn reserve_at(&mut self, address: IpAddr) -> Result<MediaPort, MediaError> {
        self.running.shared.plane().ports.reserve_at(address)
    }

    fn release(&mut self, port: MediaPort) {
        self.running.shared.plane().ports.release(port);
    }

    fn connect(&mut self, call: CallId, media: CallMedia) -> Result<[Path; 2], MediaError> {
        let shared = &self.running.shared;
        shared.with_plane(|plane, parts| plane.connect(parts, call, media))
    }

    fn disconnect(&mut self, call: CallId) {
        let shared = &self.running.shared;
        shared.with_plane(|plane, parts| plane.disconnect(parts, call));
    }

    fn statistics(&self, call: CallId) -> Option<[StreamStatistics; 2]> {
        let shared = &self.running.shared;
        let mut plane = shared.plane();
        plane.statistics(&shared.tables, shared.slow.as_ref(), call)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(events) = self.events.take() {
            // A thread that panicked has said so already.
            let _ = events.join();
        }
        let next_hops = self.shared.next_hops.lock();
        drop(next_hops.unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Relay")
            .field("interfaces", &self.running.shared.interfaces)
            .finish_non_exhaustive()
    }
}
