use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use relay_abi::{U16, flow::FlowEntry, verdict::Reason};

use super::seccomp::refuse;
use crate::{
    measure::pin,
    namespace::Namespace,
    offload::{Datapath as _, Offload, OffloadConfig, Steering, XdpDatapath, XdpMode},
    slow::{
        Discard, LastOutput, SlowCounters, SlowEvents, SlowFlow, Workers, WorkersConfig,
        WorkersSnapshot,
        tests::{CALLEE, CALLEE_RTCP, CALLER, CALLER_RTCP, address, at},
    },
};

/// So many that the two flows of a call are not of one worker.
pub(super) const WORKERS: u16 = 3;

/// How long a test waits for what comes at once before it fails: however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether something becomes true.
pub(super) fn in_time(mut is: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        if is() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::yield_now();
    }
}

/// Three hosts in a row: a caller, ours, a callee.
pub(super) struct Lab {
    pub caller: Namespace,
    pub ours: Namespace,
    pub callee: Namespace,
    pub workers: Option<Workers>,
    pub events: SlowEvents,
    /// Attached while it lives.
    _steering: Option<Steering>,
    kernel: Option<Mutex<Kernel>>,
}

/// The XDP program on both of our devices, which leaves every flow to the workers.
pub(super) struct Kernel {
    _offload: Offload,
    datapath: XdpDatapath,
}

impl Kernel {
    pub(super) fn install(&mut self, local: &str, flow: &SlowFlow) {
        let mut entry = flow.entry;
        entry.flags = U16::new(entry.flags.get() | FlowEntry::USERSPACE);
        self.datapath.install(&at(local), &entry).expect("room");
    }
}

impl Lab {
    /// Its workers drop nothing for its age: what is said has to be heard, however long the machine
    /// keeps one of them waiting.
    pub(super) fn new(steered: bool) -> Self {
        Self::with(steered, config(WORKERS))
    }

    pub(super) fn with(steered: bool, config: WorkersConfig) -> Self {
        Self::of(hosts(), |events| {
            let (workers, steering) = start(&config, steered, events);
            (workers, steering, None)
        })
    }

    /// [`Lab::new`], on a kernel that refuses `IORING_REGISTER_PBUF_RING`.
    pub(super) fn without_buffer_rings(steered: bool) -> Self {
        const REGISTER_PBUF_RING: u32 = 22;
        Self::where_threads(steered, &config(WORKERS), || {
            let register = libc::SYS_io_uring_register;
            refuse(register, Some(REGISTER_PBUF_RING), libc::EINVAL);
        })
    }

    /// With the workers on one CPU.
    pub(super) fn on_cpu(cpu: usize, config: WorkersConfig) -> Self {
        Self::where_threads(true, &config, || pin(0, cpu).expect("a CPU"))
    }

    /// With what holds for a thread and those that it starts, the workers'.
    fn where_threads(steered: bool, config: &WorkersConfig, hold: impl FnOnce() + Send) -> Self {
        Self::of(hosts(), |events| {
            thread::scope(|scope| {
                let started = scope.spawn(|| {
                    hold();
                    let (workers, steering) = start(config, steered, events);
                    (workers, steering, None)
                });
                started.join().expect("started")
            })
        })
    }

    /// As it is with XDP: what the program punts of known flows comes by rings, unless the kernel
    /// has `refused` its program for them.
    pub(super) fn with_xdp(refused: bool, config: WorkersConfig) -> Self {
        let hosts = hosts();
        whole_checksums(&[&hosts[0], &hosts[2]]);
        Self::of(hosts, |events| {
            let (workers, steering, kernel) = start_with_xdp(&config, refused, events);
            (workers, Some(steering), Some(kernel))
        })
    }

    /// With what `start` starts on our host.
    fn of(
        [caller, ours, callee]: [Namespace; 3],
        start: impl FnOnce(SlowEvents) -> (Workers, Option<Steering>, Option<Kernel>) + Send,
    ) -> Self {
        let events = SlowEvents::new(256);
        let (workers, steering, kernel) = ours.enter(|| start(events.clone()));
        Self {
            caller,
            ours,
            callee,
            workers: Some(workers),
            events,
            _steering: steering,
            kernel: kernel.map(Mutex::new),
        }
    }

    /// What the program counted.
    pub(super) fn counted(&self, reason: Reason) -> u64 {
        let kernel = self.kernel.as_ref().expect("XDP").lock();
        let reasons = kernel.expect("not poisoned").datapath.reasons();
        let reasons = reasons.expect("counters");
        let found = reasons.iter().find(|(each, _)| *each == reason);
        found.expect("every reason").1.packets
    }

    pub(super) fn workers(&self) -> &Workers {
        self.workers.as_ref().expect("workers")
    }

    /// Installs a flow; ports that take sockets of their own take them inside.
    pub(super) fn install(&self, local: &str, flow: SlowFlow) {
        if let Some(kernel) = &self.kernel {
            kernel.lock().expect("not poisoned").install(local, &flow);
        }
        self.ours
            .enter(|| self.workers().install(at(local), flow))
            .expect("installed");
    }

    pub(super) fn read(&self, local: &str) -> SlowCounters {
        self.workers().read(&at(local)).expect("installed")
    }

    pub(super) fn snapshot(&self) -> WorkersSnapshot {
        self.workers().snapshot()
    }

    /// Waits until the workers' counts are as `wanted`: a packet may be heard before its send has
    /// been counted.
    pub(super) fn until(&self, wanted: impl Fn(&WorkersSnapshot) -> bool) {
        let reached = in_time(|| wanted(&self.snapshot()));
        assert!(reached, "{:?}", self.snapshot());
    }

    pub(super) fn discarded(&self, discard: Discard) -> u64 {
        let snapshot = self.snapshot();
        let found = snapshot.discarded.iter().find(|(each, _)| *each == discard);
        found.expect("every reason").1.packets
    }

    pub(super) fn caller(&self) -> Peer {
        Peer::new(&self.caller, CALLER)
    }

    pub(super) fn callee(&self) -> Peer {
        Peer::new(&self.callee, CALLEE)
    }

    pub(super) fn caller_rtcp(&self) -> Peer {
        Peer::new(&self.caller, CALLER_RTCP)
    }

    pub(super) fn callee_rtcp(&self) -> Peer {
        Peer::new(&self.callee, CALLEE_RTCP)
    }
}

/// A caller's, ours and a callee's, with their addresses.
pub(super) fn hosts() -> [Namespace; 3] {
    let [caller, ours, callee] = [0; 3].map(|_| Namespace::new());
    ours.veth("west", &caller, "wan");
    ours.veth("east", &callee, "wan");
    for (namespace, device, v4, v6) in [
        (&caller, "wan", "198.51.100.2/24", "2001:db8:1::2/64"),
        (&ours, "west", "198.51.100.1/24", "2001:db8:1::1/64"),
        (&ours, "east", "203.0.113.1/24", "2001:db8:2::1/64"),
        (&callee, "wan", "203.0.113.2/24", "2001:db8:2::2/64"),
    ] {
        namespace.ip(&format!("address add {v4} dev {device}"));
        namespace.ip(&format!("address add {v6} dev {device} nodad"));
    }
    [caller, ours, callee]
}

/// Lets peers compute their checksums themselves: the program would see unfinished ones.
pub(super) fn whole_checksums(peers: &[&Namespace]) {
    for peer in peers {
        peer.run("ethtool", "-K wan tx off");
    }
}

/// Workers in the calling thread's namespace, and what steers to them.
pub(super) fn start(
    config: &WorkersConfig,
    steered: bool,
    events: SlowEvents,
) -> (Workers, Option<Steering>) {
    let mut steering = steered.then(|| {
        let mut offload = Offload::load(&offload(config.workers, XdpMode::Off));
        offload.take_steering().expect("sk_lookup")
    });
    let workers = Workers::start(config.clone(), steering.as_mut(), Vec::new(), events);
    (workers.expect("workers"), steering)
}

/// [`start`], with the XDP program.
pub(super) fn start_with_xdp(
    config: &WorkersConfig,
    refused: bool,
    events: SlowEvents,
) -> (Workers, Steering, Kernel) {
    let workers = config.workers;
    let wanted = offload(workers, XdpMode::Native);
    let mut offload = match refused {
        true => Offload::load_without_rings(&wanted),
        false => Offload::load(&wanted),
    };
    let rings = offload.take_rings();
    let expected = if refused { 0 } else { workers };
    assert_eq!(rings.len(), usize::from(expected), "{:?}", offload.steps());
    let mut steering = offload.take_steering().expect("sk_lookup");
    let datapath = offload.take_datapath().expect("XDP");
    let workers = Workers::start(config.clone(), Some(&mut steering), rings, events);
    let kernel = Kernel {
        _offload: offload,
        datapath,
    };
    (workers.expect("workers"), steering, kernel)
}

fn offload(workers: u16, mode: XdpMode) -> OffloadConfig {
    OffloadConfig {
        mode,
        forced: true,
        interfaces: match mode {
            XdpMode::Off => Vec::new(),
            _ => ["west", "east"].map(str::to_owned).to_vec(),
        },
        flows: 16,
        next_hops: 16,
        srtp_streams: 0,
        media_ports: 20_000..=29_999,
        workers,
    }
}

/// So many workers, which drop nothing for its age.
pub(super) fn config(workers: u16) -> WorkersConfig {
    WorkersConfig {
        workers,
        addresses: [
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8:1::1",
            "2001:db8:2::1",
        ]
        .map(|address| address.parse().expect("an address"))
        .to_vec(),
        flows: 100,
        last_output: None,
        busy_poll: false,
        stale: 2 * PATIENCE,
    }
}

/// Older than a busy machine makes a packet.
pub(super) const AGE: Duration = Duration::from_secs(2);

/// Workers that ask for what the kernel sent last, and drop what is too old.
pub(super) fn asking(last_output: impl LastOutput + 'static) -> WorkersConfig {
    WorkersConfig {
        last_output: Some(Arc::new(last_output)),
        stale: AGE,
        ..config(WORKERS)
    }
}

/// A socket of a peer's.
pub(super) struct Peer(pub UdpSocket);

impl Peer {
    pub(super) fn new(namespace: &Namespace, local: &str) -> Self {
        let bind = || match UdpSocket::bind(address(local)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            bound => Some(bound.expect("an address")),
        };
        // A process that another test starts holds what is closed here until it has begun.
        let bound = namespace.enter(|| {
            let mut bound = None;
            in_time(|| {
                bound = bind();
                bound.is_some()
            });
            bound
        });
        let socket = bound.expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(socket)
    }

    pub(super) fn send(&self, to: &str, payload: &[u8]) {
        self.0.send_to(payload, address(to)).expect("sent");
    }

    /// The next packet, which has to come from `from`.
    pub(super) fn receive(&self, from: &str) -> Vec<u8> {
        let mut buffer = vec![0; 2048];
        let (length, source) = loop {
            match self.0.recv_from(&mut buffer) {
                // Somebody stopped this process and let it go on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.expect("a packet comes"),
            }
        };
        assert_eq!(source, address(from));
        buffer.truncate(length);
        buffer
    }
}
