use std::{io, net::UdpSocket, os::fd::BorrowedFd, sync::Arc, time::Duration};

use crate::{
    media::Family,
    namespace::Namespace,
    offload::{Offload, OffloadConfig, Steering, XdpMode},
    slow::{
        Discard, LastOutput, SlowCounters, SlowEvents, SlowFlow, Steer, Workers, WorkersConfig,
        WorkersSnapshot,
        tests::{CALLEE, CALLEE_RTCP, CALLER, CALLER_RTCP, address, at},
    },
};

/// So many that the two flows of a call are not of one worker.
const WORKERS: usize = 3;

/// How long a test waits for a packet before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Steered(Steering);

impl Steer for Steered {
    fn set(&mut self, worker: usize, family: Family, socket: BorrowedFd<'_>) -> io::Result<()> {
        let worker = u16::try_from(worker).map_err(io::Error::other)?;
        self.0
            .set(worker, family, &socket)
            .map_err(io::Error::other)
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
    _steering: Option<Steered>,
}

impl Lab {
    pub(super) fn new(steered: bool) -> Self {
        Self::with(steered, None)
    }

    pub(super) fn with(steered: bool, last_output: Option<Arc<dyn LastOutput>>) -> Self {
        let [caller, ours, callee] = hosts();
        let events = SlowEvents::new(256);
        let (workers, steering) =
            ours.enter(|| start(WORKERS, steered, last_output, events.clone()));
        Self {
            caller,
            ours,
            callee,
            workers: Some(workers),
            events,
            _steering: steering,
        }
    }

    pub(super) fn workers(&self) -> &Workers {
        self.workers.as_ref().expect("workers")
    }

    /// Installs a flow; ports that take sockets of their own take them inside.
    pub(super) fn install(&self, local: &str, flow: SlowFlow) {
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
        let reached = (0..1_000_000).any(|_| {
            std::thread::yield_now();
            wanted(&self.snapshot())
        });
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

/// Workers in the calling thread's namespace, and what steers to them.
pub(super) fn start(
    workers: usize,
    steered: bool,
    last_output: Option<Arc<dyn LastOutput>>,
    events: SlowEvents,
) -> (Workers, Option<Steered>) {
    let mut steering = steered.then(|| {
        let mut offload = Offload::load(&OffloadConfig {
            mode: XdpMode::Off,
            forced: true,
            interfaces: Vec::new(),
            flows: 16,
            next_hops: 16,
            srtp_streams: 0,
            media_ports: 20_000..=29_999,
            workers: workers as u16,
        });
        Steered(offload.take_steering().expect("sk_lookup"))
    });
    let config = WorkersConfig {
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
        last_output,
        busy_poll: false,
    };
    let steer = steering.as_mut().map(|steering| steering as &mut dyn Steer);
    let workers = Workers::start(config, steer, events).expect("workers");
    (workers, steering)
}

/// A socket of a peer's.
pub(super) struct Peer(pub UdpSocket);

impl Peer {
    pub(super) fn new(namespace: &Namespace, local: &str) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(address(local)).expect("a free port"));
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
