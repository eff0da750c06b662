//! The workers as the media plane sees them.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use relay_abi::{
    counters::ReasonCounters,
    flow::{Address, FlowKey},
};

use super::{
    Discard, LastOutput, SlowCounters, SlowError, SlowEvents, SlowFlow, endpoint,
    mailbox::{Command, Mailbox},
    served::Prepared,
    shared::FlowShared,
    socket_address, sockets,
    ways::Ways,
    worker::{Start, Worker},
};
use crate::{
    media::Family,
    offload::{Steering, WorkerRing},
};

/// What the workers are started with.
#[derive(Clone)]
pub struct WorkersConfig {
    /// Threads; a port pair belongs to worker `(port / 2) % workers`. At least one.
    pub workers: u16,
    /// Every local media address: packets leave from them.
    pub addresses: Vec<IpAddr>,
    /// The most flows that all workers together serve.
    pub flows: usize,
    /// What the kernel sent last on a flow, when there is a kernel path.
    pub last_output: Option<Arc<dyn LastOutput>>,
    /// Whether workers take packets from the device's queue themselves when theirs is empty, which
    /// saves interrupts on a device that defers them (`napi_defer_hard_irqs`,
    /// `gro_flush_timeout`).
    pub busy_poll: bool,
    /// A packet that waited longer to be read and sent is dropped as [`Discard::Stale`].
    pub stale: Duration,
}

/// How long a packet may wait and still be of use to who hears it.
pub const STALE: Duration = Duration::from_millis(200);

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

/// Counts over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersSnapshot {
    /// RTP packets sent on, and the octets of UDP payload that came in with them.
    pub rtp: ReasonCounters,
    /// RTCP packets sent on.
    pub rtcp: ReasonCounters,
    /// Checks of ICE that were answered.
    pub stun: ReasonCounters,
    /// How many of all left as frames to a known next hop; the others went through IP.
    pub frames: u64,
    /// What was not sent on, by reason, in the order of [`Discard::ALL`].
    pub discarded: Vec<(Discard, ReasonCounters)>,
    /// Packets that the kernel dropped because a worker's socket was full, as far as a later
    /// packet told.
    pub socket_overflows: u64,
    /// Packets that the kernel program handed over by the workers' rings, whatever became of them.
    pub handed_over: u64,
    /// Flows served.
    pub flows: usize,
    /// Whether sk_lookup steers; without it every port of a flow has a socket of its own.
    pub steered: bool,
}

/// The running workers. They end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    mailboxes: Vec<Arc<Mailbox>>,
    threads: Vec<JoinHandle<()>>,
    registry: Mutex<Registry>,
    limit: usize,
    steered: bool,
    /// Dropped after the threads, which ask it, have ended.
    ways: Option<Ways>,
}

/// The shared parts of all flows, those that another flow names as its opposite included.
#[derive(Debug, Default)]
struct Registry {
    flows: HashMap<FlowKey, Registered>,
    installed: usize,
}

#[derive(Debug, Default)]
struct Registered {
    shared: Arc<FlowShared>,
    installed: bool,
    opposite: Option<FlowKey>,
    /// How many flows name this one as their opposite.
    named: usize,
}

impl Registry {
    /// Makes `key` name `opposite`, or nobody.
    fn name(&mut self, key: &FlowKey, opposite: Option<FlowKey>) {
        let before = match self.flows.get_mut(key) {
            Some(registered) => std::mem::replace(&mut registered.opposite, opposite),
            None => return,
        };
        if let Some(opposite) = opposite {
            self.flows.entry(opposite).or_default().named += 1;
        }
        if let Some(before) = before {
            if let Some(registered) = self.flows.get_mut(&before) {
                registered.named = registered.named.saturating_sub(1);
            }
            self.tidy(&before);
        }
    }

    /// Forgets a flow that is neither installed nor named.
    fn tidy(&mut self, key: &FlowKey) {
        if self
            .flows
            .get(key)
            .is_some_and(|registered| !registered.installed && registered.named == 0)
        {
            self.flows.remove(key);
        }
    }

    fn shared(&self, key: &FlowKey) -> Option<Arc<FlowShared>> {
        self.flows
            .get(key)
            .map(|registered| Arc::clone(&registered.shared))
    }
}

/// How long a worker may take to read its commands before it counts as stopped.
const PATIENCE: Duration = Duration::from_secs(1);

impl Workers {
    /// Starts the threads and, with `steering`, hands it their sockets. Without it (no right to
    /// load BPF) every port of a flow gets a socket of its own. `rings` are the workers' in turn, or
    /// none; a worker without one gets everything by its sockets.
    ///
    /// # Errors
    /// [`SlowError::IoUringRefused`], [`SlowError::IoUringTooOld`],
    /// [`SlowError::RawSocketRefused`], [`SlowError::Socket`], [`SlowError::Steering`],
    /// [`SlowError::Thread`].
    pub fn start(
        config: WorkersConfig,
        mut steering: Option<&mut Steering>,
        rings: Vec<WorkerRing>,
        events: SlowEvents,
    ) -> Result<Self, SlowError> {
        let mut rings = rings.into_iter();
        let steered = steering.is_some();
        if !steered {
            tracing::warn!(
                "nothing steers media to the workers (no right to load BPF): every port of a call \
                 takes a socket of its own, and calls end where descriptors do; give the process \
                 CAP_BPF and CAP_NET_ADMIN"
            );
        }
        let ways = match Ways::start() {
            Ok(ways) => Some(ways),
            Err(error) => {
                tracing::warn!(%error, "the slow path's packets all leave through IP, more slowly");
                None
            }
        };
        let mut workers = Self {
            mailboxes: Vec::new(),
            threads: Vec::new(),
            registry: Mutex::default(),
            limit: config.flows,
            steered,
            ways,
        };
        let questions = workers.ways.as_ref().and_then(Ways::questions);
        for number in 0..config.workers.max(1) {
            let receivers = match &mut steering {
                Some(steering) => receivers(number, steering, config.busy_poll)?,
                None => Vec::new(),
            };
            let mailbox = Arc::new(Mailbox::new()?);
            let start = Start {
                mailbox: Arc::clone(&mailbox),
                events: events.clone(),
                last_output: config.last_output.clone(),
                receivers,
                senders: senders(&config.addresses)?,
                ring: rings.next(),
                questions: questions.clone(),
                stale: u64::try_from(config.stale.as_nanos()).unwrap_or(u64::MAX),
            };
            let (tell, told) = mpsc::sync_channel(1);
            let thread = thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || match Worker::new(start) {
                    Ok(worker) => {
                        let _ = tell.send(Ok(()));
                        worker.run();
                    }
                    Err(error) => {
                        let _ = tell.send(Err(error));
                    }
                })
                .map_err(SlowError::Thread)?;
            workers.mailboxes.push(mailbox);
            workers.threads.push(thread);
            told.recv().map_err(|_| {
                SlowError::Thread(io::Error::other("it ended before it had begun"))
            })??;
        }
        Ok(workers)
    }

    /// Installs a flow, or makes an installed one what `flow` says: SRTP contexts whose key did not
    /// change and the learned peer stay. Packets meet it a moment after the return.
    ///
    /// # Errors
    /// [`SlowError::Keys`], [`SlowError::Full`], [`SlowError::Busy`], [`SlowError::Bind`],
    /// [`SlowError::Socket`]; then everything is as it was.
    pub fn install(&self, key: FlowKey, flow: SlowFlow) -> Result<(), SlowError> {
        let opposite = flow.opposite;
        let mut registry = self.registry();
        let before = registry.flows.get(&key);
        let new = before.is_none_or(|registered| !registered.installed);
        if new && registry.installed >= self.limit {
            return Err(SlowError::Full { limit: self.limit });
        }
        let named = before.and_then(|registered| registered.opposite);
        registry.flows.entry(key).or_default();
        registry.name(&key, opposite);
        let shared = registry.shared(&key).unwrap_or_default();
        let other = opposite.and_then(|opposite| registry.shared(&opposite));
        let result = Prepared::new(key, flow, shared, other).and_then(|prepared| {
            let ports = if new && !self.steered {
                Some(port_sockets(&key)?)
            } else {
                None
            };
            self.tell(
                &key,
                Command::Install {
                    prepared: Box::new(prepared),
                    ports,
                },
            )
        });
        match result {
            Ok(()) if new => {
                registry.installed += 1;
                if let Some(registered) = registry.flows.get_mut(&key) {
                    registered.installed = true;
                }
            }
            Ok(()) => {}
            Err(_) => {
                registry.name(&key, named);
                registry.tidy(&key);
            }
        }
        result
    }

    /// Removes a flow and wipes its keys; an unknown one is ignored.
    ///
    /// # Errors
    /// [`SlowError::Busy`]; then the flow is still there.
    pub fn remove(&self, key: &FlowKey) -> Result<(), SlowError> {
        let closed = {
            let mut registry = self.registry();
            if !registry
                .flows
                .get(key)
                .is_some_and(|registered| registered.installed)
            {
                return Ok(());
            }
            let (done, closed) = mpsc::sync_channel(1);
            // Ports that have sockets of their own may be given to another call only when those
            // are closed.
            let done = (!self.steered).then_some(done);
            self.tell(key, Command::Remove { key: *key, done })?;
            registry.name(key, None);
            registry.installed = registry.installed.saturating_sub(1);
            if let Some(registered) = registry.flows.get_mut(key) {
                registered.installed = false;
            }
            registry.tidy(key);
            closed
        };
        if !self.steered {
            // It ends with the senders, which the worker drops.
            let _ = closed.recv_timeout(PATIENCE);
        }
        Ok(())
    }

    /// What the worker has counted of a flow, `None` if it is not installed.
    #[must_use]
    pub fn read(&self, key: &FlowKey) -> Option<SlowCounters> {
        let shared = {
            let registry = self.registry();
            let registered = registry.flows.get(key)?;
            registered.installed.then(|| Arc::clone(&registered.shared))
        }?;
        Some(shared.read())
    }

    /// Counts over all workers.
    #[must_use]
    pub fn snapshot(&self) -> WorkersSnapshot {
        let counters = || self.mailboxes.iter().map(|mailbox| &mailbox.counters);
        let sum = |each: &mut dyn Iterator<Item = ReasonCounters>| {
            each.fold(ReasonCounters::default(), |sum, one| ReasonCounters {
                packets: sum.packets + one.packets,
                octets: sum.octets + one.octets,
            })
        };
        WorkersSnapshot {
            rtp: sum(&mut counters().map(|worker| worker.rtp.read())),
            rtcp: sum(&mut counters().map(|worker| worker.rtcp.read())),
            stun: sum(&mut counters().map(|worker| worker.stun.read())),
            discarded: Discard::ALL
                .iter()
                .map(|discard| {
                    let each = &mut counters().map(|worker| worker.discarded.read(*discard));
                    (*discard, sum(each))
                })
                .collect(),
            frames: counters()
                .map(|worker| worker.frames.load(Ordering::Relaxed))
                .sum(),
            socket_overflows: counters()
                .map(|worker| worker.overflows.load(Ordering::Relaxed))
                .sum(),
            handed_over: counters()
                .map(|worker| worker.handed_over.load(Ordering::Relaxed))
                .sum(),
            flows: self.registry().installed,
            steered: self.steered,
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a command to the worker of the flow.
    fn tell(&self, key: &FlowKey, command: Command) -> Result<(), SlowError> {
        let count = self.mailboxes.len().max(1);
        let worker = usize::from(key.local.port.get() / 2) % count;
        let busy = SlowError::Busy { worker };
        let Some(mailbox) = self.mailboxes.get(worker) else {
            return Err(busy);
        };
        let mut command = command;
        for _ in 0..PATIENCE.as_millis() {
            match mailbox.commands.push(command) {
                Ok(()) => {
                    sockets::ring(&mailbox.wake);
                    return Ok(());
                }
                Err(refused) => command = refused,
            }
            sockets::ring(&mailbox.wake);
            thread::sleep(Duration::from_millis(1));
        }
        Err(busy)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.stop.store(true, Ordering::Release);
            sockets::ring(&mailbox.wake);
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// The steered sockets of a worker: one for each family that the machine has.
fn receivers(
    worker: u16,
    steering: &mut Steering,
    busy_poll: bool,
) -> Result<Vec<OwnedFd>, SlowError> {
    let mut receivers = Vec::new();
    for family in [Family::V4, Family::V6] {
        let Some(socket) = present(sockets::receiver(family, busy_poll))? else {
            continue;
        };
        steering
            .set(worker, family, &socket)
            .map_err(|error| SlowError::Steering(error.to_string()))?;
        receivers.push(socket);
    }
    Ok(receivers)
}

/// Raw sockets: one for each address, and one of each family for every other address.
fn senders(addresses: &[IpAddr]) -> Result<Vec<(Address, OwnedFd)>, SlowError> {
    let mut senders = Vec::new();
    let bound = addresses.iter().map(|address| (*address, Some(*address)));
    let any = [
        (IpAddr::from([0u8; 4]), None),
        (IpAddr::from([0u8; 16]), None),
    ];
    for (address, from) in bound.chain(any) {
        let family = if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        if let Some(socket) = present(sockets::sender(family, from))? {
            let endpoint = endpoint(SocketAddr::new(address, 0));
            senders.push((endpoint.address, socket));
        }
    }
    Ok(senders)
}

/// `None` for a socket of a family that this machine does not have.
fn present(socket: Result<OwnedFd, SlowError>) -> Result<Option<OwnedFd>, SlowError> {
    match socket {
        Ok(socket) => Ok(Some(socket)),
        Err(SlowError::Socket { error, .. })
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Sockets for a flow's RTP and RTCP ports.
fn port_sockets(key: &FlowKey) -> Result<[OwnedFd; 2], SlowError> {
    let rtp = socket_address(&key.local);
    let rtcp = SocketAddr::new(rtp.ip(), rtp.port() | 1);
    Ok([free_port(rtp)?, free_port(rtcp)?])
}

/// The socket of a port that another call may just have given back: the kernel lets go of it a
/// moment after the worker has.
fn free_port(local: SocketAddr) -> Result<OwnedFd, SlowError> {
    for _ in 0..20 {
        match sockets::port(local) {
            Err(SlowError::Bind { error, .. }) if error.kind() == io::ErrorKind::AddrInUse => {
                thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
    sockets::port(local)
}
