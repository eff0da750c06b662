//! The thread that keeps the table true.

use std::{
    collections::HashMap,
    fmt, io,
    net::IpAddr,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::net::UnixDatagram,
    },
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use relay_abi::next_hop::NextHop;

use super::{
    NextHopTable, Output, TableFull, Target, Unresolved,
    socket::{Changes, Questions},
};

/// How long to wait at least between two readings of everything.
const RESYNC_INTERVAL: Duration = Duration::from_millis(200);

/// How many neighbours may wait to be asked for.
const PROBES: usize = 1024;

/// How long to wait after netlink itself failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the table's changes are done to.
pub trait Sink: Send + Sync + 'static {
    /// Writes one row of the kernel's table. Called in the order of the changes, under the
    /// table's lock.
    fn write(&self, index: u32, row: &NextHop);

    /// Destinations, as (source, destination, row), whose flows are to be pointed at another row.
    /// Called by the watching thread alone, under no lock of this module.
    fn moved(&self, moved: &[(IpAddr, IpAddr, u32)]);
}

/// Netlink could not be opened or read.
#[derive(Debug)]
pub struct NextHopError(io::Error);

impl fmt::Display for NextHopError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "links, routes and neighbours cannot be read by netlink: {}; allow AF_NETLINK sockets \
             to this process (a seccomp or systemd RestrictAddressFamilies setting may forbid them)",
            self.0
        )
    }
}

impl std::error::Error for NextHopError {}

/// For each name of a device, the name of the one that its frames leave by: its own, or that of
/// the one under a VLAN's. An unknown name stands for itself.
///
/// # Errors
/// [`NextHopError`] when netlink is refused.
pub fn lower_devices(names: &[String]) -> Result<HashMap<String, String>, NextHopError> {
    let inventory = Questions::open()
        .and_then(|mut questions| questions.inventory())
        .map_err(NextHopError)?;
    Ok(names
        .iter()
        .map(|name| {
            let lower = inventory.lower_device(name).unwrap_or(name);
            (name.clone(), lower.to_owned())
        })
        .collect())
}

/// A [`NextHopTable`] fed from netlink by a thread of its own, in the network namespace of the
/// thread that started it. A second thread asks for neighbours: the kernel may let it wait, and
/// their answers must not. Dropping this ends both.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    table: Mutex<NextHopTable>,
    sink: Box<dyn Sink>,
    wake: UnixDatagram,
    stop: AtomicBool,
}

impl Watcher {
    /// Reads everything once, then watches. The table has at most `limit` rows over `devices`,
    /// given as (kernel's index, place in the device map).
    ///
    /// # Errors
    /// [`NextHopError`] when netlink is refused.
    pub fn start(
        limit: usize,
        devices: impl IntoIterator<Item = (u32, u32)>,
        sink: impl Sink,
    ) -> Result<Self, NextHopError> {
        Self::watch(NextHopTable::new(limit, devices), "next-hops", sink)
    }

    /// As [`Watcher::start`], over every Ethernet device.
    ///
    /// # Errors
    /// [`NextHopError`] when netlink is refused.
    pub fn over_every_device(limit: usize, sink: impl Sink) -> Result<Self, NextHopError> {
        Self::watch(NextHopTable::over_every_device(limit), "slow-hops", sink)
    }

    fn watch(mut table: NextHopTable, name: &str, sink: impl Sink) -> Result<Self, NextHopError> {
        let mut sockets = Sockets {
            changes: Changes::open().map_err(NextHopError)?,
            questions: Questions::open().map_err(NextHopError)?,
        };
        let inventory = sockets.questions.inventory().map_err(NextHopError)?;
        let asking = Questions::open().map_err(NextHopError)?;
        let (wake, woken) = UnixDatagram::pair().map_err(NextHopError)?;
        wake.set_nonblocking(true).map_err(NextHopError)?;
        woken.set_nonblocking(true).map_err(NextHopError)?;

        table.replace(Instant::now(), inventory);
        let shared = Arc::new(Shared {
            table: Mutex::new(table),
            sink: Box::new(sink),
            wake,
            stop: AtomicBool::new(false),
        });
        shared.carry_out(&mut shared.lock());
        let (probes, asked) = mpsc::sync_channel(PROBES);
        thread::Builder::new()
            .name("neighbours".into())
            .spawn(move || ask(asking, &asked))
            .map_err(NextHopError)?;
        let watching = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || watch(&watching, &mut sockets, &woken, &probes))
            .map_err(NextHopError)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The row by which packets from `source` to `destination` leave; written before this
    /// returns. Ended by [`Watcher::release`].
    ///
    /// # Errors
    /// [`TableFull`].
    pub fn acquire(&self, source: IpAddr, destination: IpAddr) -> Result<u32, TableFull> {
        let mut table = self.shared.lock();
        let (due, used) = (table.next_timeout(), table.used());
        let index = table.acquire(Instant::now(), source, destination);
        self.shared.carry_out(&mut table);
        let new = index.ok().filter(|_| table.used() > used);
        match new.and_then(|index| table.why(index)) {
            None | Some(Unresolved::Neighbour) => {}
            Some(why) if table.is_over_every_device() => {
                tracing::debug!("packets from {source} to {destination} are left to IP: {why}");
            }
            Some(why) => {
                tracing::warn!("packets from {source} to {destination} take the slow path: {why}")
            }
        }
        let sooner = table.next_timeout().filter(|next| Some(*next) != due);
        drop(table);
        if sooner.is_some() {
            self.shared.wake();
        }
        index
    }

    /// Ends one [`Watcher::acquire`].
    pub fn release(&self, source: IpAddr, destination: IpAddr) {
        let mut table = self.shared.lock();
        table.release(source, destination);
        self.shared.carry_out(&mut table);
    }

    /// Looks into the table.
    pub fn look<T>(&self, look: impl FnOnce(&NextHopTable) -> T) -> T {
        look(&self.shared.lock())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, NextHopTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A full socket means that a wake-up waits already.
    fn wake(&self) {
        let _ = self.wake.send(&[0]);
    }

    /// Writes rows; what else is to be done is left to the watching thread.
    fn carry_out(&self, table: &mut NextHopTable) -> Orders {
        let mut orders = Orders::default();
        while let Some(output) = table.poll() {
            match output {
                Output::Write { index, row } => self.sink.write(index, &row),
                Output::Probe(target) => orders.probes.push(target),
                Output::Moved {
                    source,
                    destination,
                    index,
                } => orders.moved.push((source, destination, index)),
            }
        }
        orders
    }
}

/// What is done outside the lock. Only the watching thread's calls of the table give any.
#[derive(Default)]
struct Orders {
    probes: Vec<Target>,
    moved: Vec<(IpAddr, IpAddr, u32)>,
}

/// The watching thread's.
struct Sockets {
    changes: Changes,
    questions: Questions,
}

/// Asks for neighbours until nobody wants any.
fn ask(mut questions: Questions, probes: &mpsc::Receiver<Target>) {
    while let Ok(target) = probes.recv() {
        if let Err(error) = questions.probe(&target) {
            tracing::debug!(%error, ?target, "the kernel was not made to ask for a neighbour");
        }
    }
}

fn watch(
    shared: &Shared,
    sockets: &mut Sockets,
    woken: &UnixDatagram,
    probes: &mpsc::SyncSender<Target>,
) {
    let mut resync: Option<Instant> = None;
    let mut last_resync = Instant::now();
    loop {
        let due = shared.lock().next_timeout();
        let until = match (due, resync) {
            (Some(due), Some(resync)) => Some(due.min(resync)),
            (due, resync) => due.or(resync),
        };
        if let Err(error) = wait([sockets.changes.descriptor(), woken.as_fd()], until) {
            tracing::error!(%error, "waiting for netlink failed; trying again");
            // It would fail again at once, for as long as it does.
            thread::sleep(RETRY_INTERVAL);
        }
        while woken.recv(&mut [0; 8]).is_ok() {}
        if shared.stop.load(Ordering::Acquire) {
            return;
        }

        let now = Instant::now();
        let told = sockets.changes.read();
        if let Err(error) = &told {
            tracing::error!(%error, "reading netlink failed; everything will be read anew");
            resync = Some(now + RETRY_INTERVAL);
        }
        let inventory = match resync.filter(|due| *due <= now) {
            Some(_) => {
                last_resync = now;
                resync = None;
                match sockets.questions.inventory() {
                    Ok(inventory) => Some(inventory),
                    Err(error) => {
                        tracing::error!(%error, "netlink's tables cannot be read; trying again");
                        resync = Some(now + RETRY_INTERVAL);
                        None
                    }
                }
            }
            None => None,
        };

        let mut table = shared.lock();
        if let Ok(told) = told {
            let fits = table.apply(now, told.events);
            if told.stale || !fits {
                resync.get_or_insert((last_resync + RESYNC_INTERVAL).max(now));
            }
        }
        if let Some(inventory) = inventory {
            table.replace(now, inventory);
        }
        table.timeout(now);
        let orders = shared.carry_out(&mut table);
        drop(table);

        if !orders.moved.is_empty() {
            shared.sink.moved(&orders.moved);
        }
        for target in orders.probes {
            // One that finds no room is asked for again when its next question is due.
            let _ = probes.try_send(target);
        }
    }
}

/// Waits until one of the descriptors can be read, or until then.
fn wait(descriptors: [BorrowedFd<'_>; 2], until: Option<Instant>) -> io::Result<()> {
    let timeout = until.map_or(-1, |until| {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: waking a moment too early would make a busy loop of the last millisecond.
        i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    });
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: `polled` is an array of two initialised `pollfd`s that outlives the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
    match result {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}
