//! The media plane as it runs, between two peers in network namespaces of their own.

mod ice;
mod paths;
mod sources;
mod srtp;

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use relay_abi::verdict::Reason;

use super::{Relay, RelayConfig};
use crate::{
    media::{
        CallId, CallMedia, Family, Latching, LegMedia, MediaInterface, MediaPlane as _, Path,
        PathReason, RemoteMedia, SourcePolicy, SrtpKey, SrtpKeys, SrtpSuite, Stream, StreamState,
        StreamStatistics,
    },
    namespace::Namespace,
    offload::XdpMode,
};

const CALL: CallId = CallId(7);

/// How long the media plane has for what it does in its own time: asking for a neighbour waits
/// for a lock of the kernel's that every namespace of the machine shares.
const PATIENCE: Duration = Duration::from_secs(30);

/// The media plane in the calling thread's namespace. Its workers drop nothing for its age: every
/// packet that is said here has to be heard, however long the machine keeps one of them waiting.
fn start(config: &RelayConfig) -> Relay {
    Relay::start_with(config, 2 * PATIENCE).unwrap()
}

/// Three namespaces: a carrier, a contact centre, and the media plane between them.
struct Bench {
    ours: Namespace,
    carrier: Namespace,
    centre: Namespace,
    relay: Relay,
}

/// A telephone: sends numbered RTP and hears it.
struct Telephone {
    socket: UdpSocket,
    ssrc: u32,
    sequence: u16,
}

/// An RTP packet that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    source: SocketAddr,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// What the sender put into the payload: its own count.
    number: u16,
}

impl Heard {
    /// Of a packet as [`Telephone::next_packet`] makes it.
    fn read(packet: &[u8], source: SocketAddr) -> Self {
        assert_eq!(packet.len(), 172);
        assert_eq!(packet[0], 0x80);
        assert!(packet[14..].iter().all(|octet| *octet == 0xd5));
        let short = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        Self {
            source,
            payload_type: packet[1] & 0x7f,
            sequence: short(2),
            timestamp: long(4),
            ssrc: long(8),
            number: short(12),
        }
    }
}

impl Bench {
    fn new(xdp: XdpMode) -> Self {
        let bench = Self::network();
        let relay = bench.0.enter(|| start(&Self::config(xdp)));
        let (ours, carrier, centre) = bench;
        Self {
            ours,
            carrier,
            centre,
            relay,
        }
    }

    fn config(xdp: XdpMode) -> RelayConfig {
        let interface = |name: &str, addresses: [&str; 2]| MediaInterface {
            name: name.into(),
            addresses: addresses.map(|address| address.parse().unwrap()).into(),
        };
        RelayConfig {
            interfaces: vec![
                interface("carrier0", ["10.81.0.1", "fd81::1"]),
                interface("centre0", ["10.82.0.1", "fd82::1"]),
            ],
            ports: 20000..=20199,
            workers: 2,
            busy_poll: false,
            xdp,
            xdp_forced: true,
            flows: 64,
            next_hops: 16,
            srtp_offload: true,
            srtp_streams: 16,
        }
    }

    fn network() -> (Namespace, Namespace, Namespace) {
        let [ours, carrier, centre] = [(); 3].map(|()| Namespace::new());
        for (peer, device, net) in [(&carrier, "carrier0", 81), (&centre, "centre0", 82)] {
            ours.veth(device, peer, "far0");
            ours.ip(&format!("address add 10.{net}.0.1/24 dev {device}"));
            ours.ip(&format!("address add fd{net}::1/64 dev {device} nodad"));
            for host in [2, 66] {
                peer.ip(&format!("address add 10.{net}.0.{host}/24 dev far0"));
                peer.ip(&format!("address add fd{net}::{host}/64 dev far0 nodad"));
            }
            // A veth sends UDP without its checksum, and receives redirected frames only by GRO.
            peer.run("ethtool", "-K far0 tx off gro on");
            ours.run("ethtool", &format!("-K {device} tx off"));
        }
        (ours, carrier, centre)
    }

    /// A telephone for each leg, and a call between them.
    fn call(&mut self, family: Family) -> (Telephone, Telephone, CallMedia) {
        let hosts = match family {
            Family::V4 => ["10.81.0.2", "10.82.0.2"],
            Family::V6 => ["[fd81::2]", "[fd82::2]"],
        };
        let first = Telephone::new(&self.carrier, &format!("{}:6000", hosts[0]), 0x1111_1111);
        let second = Telephone::new(&self.centre, &format!("{}:7000", hosts[1]), 0x2222_2222);
        let mut leg = |interface: &str, telephone: &Telephone| LegMedia {
            port: self.relay.reserve(interface, family).unwrap(),
            remote: Some(RemoteMedia {
                rtp: telephone.address(),
                rtcp: telephone.address(),
            }),
            sources: SourcePolicy {
                latching: Latching::Latch,
                allowed: vec!["10.80.0.0/14".parse().unwrap()],
            },
            negotiation: 1,
            srtp: None,
            ice: None,
            rtcp_mux: true,
            dscp: None,
        };
        let stream = |payload_types| Stream {
            active: true,
            payload_types,
            clock_rate: 8000,
        };
        let media = CallMedia {
            legs: [leg("carrier0", &first), leg("centre0", &second)],
            streams: [stream(vec![(0, 0), (101, 96)]), stream(vec![(0, 0)])],
        };
        (first, second, media)
    }

    /// Inside, for sockets that are opened for the call's ports.
    fn connect(&mut self, media: &CallMedia) -> [Path; 2] {
        let relay = &mut self.relay;
        self.ours
            .enter(|| relay.connect(CALL, media.clone()).unwrap())
    }

    fn statistics(&self) -> [StreamStatistics; 2] {
        self.relay.statistics(CALL).unwrap()
    }

    /// Talks until the XDP program relays; what was heard.
    fn talk_until_xdp(
        &self,
        direction: usize,
        from: &mut Telephone,
        to: &mut Telephone,
        local: SocketAddr,
    ) -> Vec<Heard> {
        self.talk_until(from, to, local, |streams| {
            streams[direction].packets_xdp > 0
        })
    }

    /// Talks until something has become true of the statistics; what was heard.
    fn talk_until(
        &self,
        from: &mut Telephone,
        to: &mut Telephone,
        local: SocketAddr,
        wanted: impl Fn(&[StreamStatistics; 2]) -> bool,
    ) -> Vec<Heard> {
        let mut heard = Vec::new();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            from.say(local);
            heard.push(to.hear().expect("what was said is not heard"));
            if wanted(&self.statistics()) {
                return heard;
            }
        }
        panic!(
            "it does not come true: {:?} {:?} {:?}",
            self.statistics(),
            self.relay.snapshot(),
            self.unresolved()
        );
    }

    /// The rows that nothing leaves by, and why.
    fn unresolved(&self) -> Vec<String> {
        let next_hops = self.relay.running.shared.next_hops();
        next_hops.map_or(Vec::new(), |next_hops| {
            next_hops.look(|table| {
                let rows = table.unresolved();
                rows.map(|(target, why)| format!("{target:?}: {why}"))
                    .collect()
            })
        })
    }

    /// Waits for something to become true of the statistics, while `silent` must hear nothing, nor
    /// for a moment after it.
    fn wait(&self, silent: &Telephone, wanted: impl Fn(&[StreamStatistics; 2]) -> bool) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let done = wanted(&self.statistics());
            assert_eq!(silent.hear_for(Duration::from_millis(10)), None);
            if done {
                return;
            }
        }
        panic!("{:?}", self.statistics());
    }
}

impl Telephone {
    fn new(namespace: &Namespace, address: &str, ssrc: u32) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(address).unwrap());
        Self {
            socket,
            ssrc,
            sequence: 65_500,
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends one packet; its number.
    fn say(&mut self, to: SocketAddr) -> u16 {
        self.say_as(0, to)
    }

    /// The next packet, `step` sequence numbers on.
    fn next_packet(&mut self, payload_type: u8, step: u16) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(step);
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 160).to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.resize(172, 0xd5);
        packet
    }

    fn say_as(&mut self, payload_type: u8, to: SocketAddr) -> u16 {
        let packet = self.next_packet(payload_type, 1);
        self.socket.send_to(&packet, to).unwrap();
        self.sequence
    }

    fn hear(&self) -> Option<Heard> {
        self.hear_for(PATIENCE)
    }

    /// A datagram, if one comes in time.
    fn receive(&self, packet: &mut [u8], time: Duration) -> Option<(usize, SocketAddr)> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv_from(packet) {
                Ok(received) => return Some(received),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn hear_for(&self, time: Duration) -> Option<Heard> {
        let mut packet = [0; 2048];
        let (length, source) = self.receive(&mut packet, time)?;
        Some(Heard::read(&packet[..length], source))
    }
}

/// One source as the other side hears it: one SSRC, sequence numbers and timestamps in step.
fn assert_continuous(heard: &[Heard]) {
    for pair in heard.windows(2) {
        let [one, next] = pair else { continue };
        assert_eq!(one.ssrc, next.ssrc);
        assert_eq!(
            next.sequence,
            one.sequence.wrapping_add(1),
            "{one:?} {next:?}"
        );
    }
}
