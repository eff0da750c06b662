//! Starting the media plane.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::{IpAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
    time::Duration,
};

use super::{
    HopSink, KernelTables, Relay, Running, Shared, events, plane::Plane, rows::SrtpRows,
    slow_path::SlowPath,
};
use crate::{
    media::{MediaInterface, SrtpOffload, SrtpState, ports::Ports},
    next_hop::{NextHopError, Watcher, lower_devices},
    offload::{Datapath, InterfaceState, Offload, OffloadConfig, XdpMode},
    slow::{LastOutput, STALE, SlowError, SlowEvents, Workers, WorkersConfig},
    srtp::Rows,
};

/// How many events of the workers may wait: each is told again later when there is no room.
const EVENTS: usize = 8192;

/// What the media plane is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    pub interfaces: Vec<MediaInterface>,
    /// The local ports of media, RTP and RTCP, on every address.
    pub ports: RangeInclusive<u16>,
    /// Threads of the slow path; 0: one a core.
    pub workers: u16,
    /// Workers poll the device's queue, see [`WorkersConfig::busy_poll`].
    pub busy_poll: bool,
    /// The best mode of XDP to try; native falls back to generic, and generic to none.
    pub xdp: XdpMode,
    /// Take that mode or none.
    pub xdp_forced: bool,
    /// How many flows each of the kernel's table and the workers hold: two for each call.
    pub flows: u32,
    /// How many next hops the kernel's table holds: one for each neighbour in use.
    pub next_hops: u32,
    /// Whether SRTP may go through the kernel.
    pub srtp_offload: bool,
    /// How many keys of SRTP the kernel's table holds: two for each leg of SRTP.
    pub srtp_streams: u32,
}

impl RelayConfig {
    /// What is loaded into the kernel, as far as the configuration alone says: so that
    /// [`crate::offload::memory`] can tell what it takes.
    #[must_use]
    pub fn offload(&self) -> OffloadConfig {
        let mut interfaces: Vec<String> = Vec::new();
        for interface in &self.interfaces {
            if !interfaces.contains(&interface.name) {
                interfaces.push(interface.name.clone());
            }
        }
        OffloadConfig {
            mode: self.xdp,
            forced: self.xdp_forced,
            interfaces,
            flows: self.flows,
            next_hops: self.next_hops,
            srtp_streams: match self.srtp_offload {
                true => self.srtp_streams,
                false => 0,
            },
            media_ports: self.ports.clone(),
            workers: self.worker_count(),
        }
    }

    fn worker_count(&self) -> u16 {
        match self.workers {
            0 => thread::available_parallelism()
                .map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX)),
            workers => workers,
        }
    }
}

/// Why the media plane does not start.
#[derive(Debug)]
pub enum StartError {
    /// There is no port pair to give out.
    NoPorts,
    /// The workers do not start.
    Slow(SlowError),
    /// Netlink is refused.
    NextHops(NextHopError),
    /// A thread does not start.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPorts => formatter.write_str(
                "there is no media port to give out: name an [[interface]] with addresses, and \
                 [media] ports that hold at least one pair of an even port and the next",
            ),
            Self::Slow(error) => write!(formatter, "the slow path does not start: {error}"),
            Self::NextHops(error) => error.fmt(formatter),
            Self::Thread(error) => write!(
                formatter,
                "a thread of the media plane does not start: {error}; raise the limit of \
                 processes (ulimit -u, or TasksMax of the service)"
            ),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoPorts => None,
            Self::Slow(error) => Some(error),
            Self::NextHops(error) => Some(error),
            Self::Thread(error) => Some(error),
        }
    }
}

impl Relay {
    /// Loads the programs, starts the workers and watches the next hops, in the calling thread's
    /// network namespace. What the kernel refuses of XDP and BPF is done without, and the log and
    /// the snapshot's interfaces say so.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &RelayConfig) -> Result<Self, StartError> {
        Self::start_with(config, STALE)
    }

    /// As [`Relay::start`], with packets that wait longer than `stale` dropped.
    pub(super) fn start_with(config: &RelayConfig, stale: Duration) -> Result<Self, StartError> {
        let ports = Ports::new(&config.interfaces, &config.ports);
        if ports.total() == 0 {
            return Err(StartError::NoPorts);
        }
        for address in addresses(&config.interfaces) {
            warn_of_absent(address);
        }
        let mut offload_config = config.offload();
        // Frames come in and leave by the device under a VLAN's: that one gets the program.
        let lower = lower_devices(&offload_config.interfaces).map_err(StartError::NextHops)?;
        offload_config.interfaces = Vec::new();
        for name in lower.values() {
            if !offload_config.interfaces.contains(name) {
                offload_config.interfaces.push(name.clone());
            }
        }
        offload_config.interfaces.sort_unstable();
        let mut offload = Offload::load(&offload_config);
        let datapath = offload.take_datapath();
        let mut steering = offload.take_steering();

        let tables = KernelTables {
            datapath: datapath
                .map(|datapath| Arc::new(Mutex::new(Box::new(datapath) as Box<dyn Datapath>))),
        };
        let last_output = tables.datapath.is_some().then(|| {
            let tables: Arc<dyn LastOutput> = Arc::new(tables.clone());
            tables
        });
        let events = SlowEvents::new(EVENTS);
        let slow = Workers::start(
            WorkersConfig {
                workers: offload_config.workers,
                addresses: addresses(&config.interfaces),
                flows: config.flows as usize,
                last_output,
                busy_poll: config.busy_poll,
                stale,
            },
            steering.as_mut(),
            offload.take_rings(),
            events.clone(),
        )
        .map_err(StartError::Slow)?;
        let states = per_interface(config, offload.interfaces(), &lower);
        let attached = offload.interfaces().to_vec();
        Self::assemble(
            config,
            Assembly {
                ports,
                tables,
                slow: Box::new(slow),
                events,
                states,
                devices: attached,
                attached: Box::new((Mutex::new(offload), Mutex::new(steering))),
            },
        )
    }

    /// Puts the parts together and starts the threads.
    pub(super) fn assemble(config: &RelayConfig, parts: Assembly) -> Result<Self, StartError> {
        let modes: HashMap<&str, XdpMode> = parts
            .states
            .iter()
            .map(|state| (state.name.as_str(), state.mode))
            .collect();
        let offloaded: HashSet<IpAddr> = config
            .interfaces
            .iter()
            .filter(|interface| {
                let mode = modes.get(interface.name.as_str());
                mode.is_some_and(|mode| *mode != XdpMode::Off)
            })
            .flat_map(|interface| interface.addresses.iter().copied())
            .collect();
        let devices: Vec<(u32, u32)> = parts
            .devices
            .iter()
            .filter(|state| state.mode != XdpMode::Off)
            .filter_map(|state| state.index)
            .zip(0..)
            .collect();
        let (rows, srtp) = srtp_rows(config, &parts.tables);
        let shared = Arc::new(Shared {
            plane: Mutex::new(Plane::new(parts.ports, config.flows, rows, offloaded)),
            srtp,
            tables: parts.tables.clone(),
            next_hops: Mutex::new(None),
            slow: parts.slow,
            events: parts.events,
            interfaces: parts.states,
        });
        if parts.tables.datapath.is_some() {
            for (index, slot) in &devices {
                let set = parts
                    .tables
                    .with(|datapath| datapath.set_device(*slot, *index));
                if let Some(Err(error)) = set {
                    tracing::error!(%error, "frames will not leave by a device");
                }
            }
            let sink = HopSink {
                tables: parts.tables,
                shared: Arc::downgrade(&shared),
            };
            let watcher = Watcher::start(config.next_hops as usize, devices, sink)
                .map_err(StartError::NextHops)?;
            let mut next_hops = shared
                .next_hops
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            *next_hops = Some(Arc::new(watcher));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = Running {
            shared: Arc::clone(&shared),
            stop: Arc::clone(&stop),
            events: None,
            _attached: parts.attached,
        };
        running.events = Some(
            thread::Builder::new()
                .name("media-events".into())
                .spawn(move || events::run(&shared, &stop))
                .map_err(StartError::Thread)?,
        );
        Ok(Self {
            running: Arc::new(running),
        })
    }
}

/// The parts that a [`Relay`] is put together from.
pub(super) struct Assembly {
    pub(super) ports: Ports,
    pub(super) tables: KernelTables,
    pub(super) slow: Box<dyn SlowPath>,
    pub(super) events: SlowEvents,
    /// By the names of the configuration.
    pub(super) states: Vec<InterfaceState>,
    /// The devices that frames leave by.
    pub(super) devices: Vec<InterfaceState>,
    pub(super) attached: Box<dyn Send + Sync>,
}

/// What the kernel does with SRTP, for the planner and to be shown.
fn srtp_rows(config: &RelayConfig, tables: &KernelTables) -> (SrtpRows, SrtpState) {
    let state = |offload, why: String, capacity| SrtpState {
        offload,
        why,
        streams: 0,
        capacity,
    };
    if config.offload().srtp_streams == 0 {
        let state = state(SrtpOffload::Off, "off in the configuration".into(), 0);
        return (SrtpRows::new(SrtpOffload::Off, None), state);
    }
    let loaded = tables.with(|datapath| {
        datapath.srtp()?;
        let capacity = datapath.capacity().srtp_streams;
        Ok::<_, String>((Rows::new(datapath.streams(), capacity), capacity))
    });
    let why = match loaded {
        Some(Ok((rows, capacity))) => {
            let state = state(SrtpOffload::Loaded, "the kernel took it".into(), capacity);
            return (SrtpRows::new(SrtpOffload::Loaded, Some(rows)), state);
        }
        Some(Err(why)) => why,
        None => "no XDP program runs".to_owned(),
    };
    let state = state(SrtpOffload::NotLoaded, why, 0);
    (SrtpRows::new(SrtpOffload::NotLoaded, None), state)
}

/// An address may come to the machine later, when another one fails over to it.
fn warn_of_absent(address: IpAddr) {
    if let Err(error) = UdpSocket::bind((address, 0)) {
        tracing::warn!(
            %error,
            "the media address {address} is not on this machine: no media comes in there until it is"
        );
    }
}

fn addresses(interfaces: &[MediaInterface]) -> Vec<IpAddr> {
    let addresses = interfaces.iter().flat_map(|interface| &interface.addresses);
    let unique: HashSet<IpAddr> = addresses.copied().collect();
    unique.into_iter().collect()
}

/// What came of each interface of the configuration: a VLAN's is what came of its lower device.
fn per_interface(
    config: &RelayConfig,
    devices: &[InterfaceState],
    lower: &HashMap<String, String>,
) -> Vec<InterfaceState> {
    let mut states: Vec<InterfaceState> = Vec::new();
    for interface in &config.interfaces {
        let device = lower.get(&interface.name).unwrap_or(&interface.name);
        let state = devices.iter().find(|state| state.name == *device);
        let Some(state) = state.filter(|_| states.iter().all(|one| one.name != interface.name))
        else {
            continue;
        };
        let why = match *device == interface.name {
            true => state.why.clone(),
            false => format!("by {device}: {}", state.why),
        };
        states.push(InterfaceState {
            name: interface.name.clone(),
            why,
            ..state.clone()
        });
    }
    states
}
