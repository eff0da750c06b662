//! The media plane as it runs, between two peers in network namespaces of their own.

mod ice;
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

impl Bench {
    fn new(xdp: XdpMode) -> Self {
        let bench = Self::network();
        let relay = bench.0.enter(|| Relay::start(&Self::config(xdp)).unwrap());
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

    /// Waits for something to become true of the statistics, while `silent` must hear nothing.
    fn wait(&self, silent: &Telephone, wanted: impl Fn(&[StreamStatistics; 2]) -> bool) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if wanted(&self.statistics()) {
                return;
            }
            assert_eq!(silent.hear_for(Duration::from_millis(10)), None);
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

    fn say_as(&mut self, payload_type: u8, to: SocketAddr) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 160).to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.resize(172, 0xd5);
        self.socket.send_to(&packet, to).unwrap();
        self.sequence
    }

    fn hear(&self) -> Option<Heard> {
        self.hear_for(Duration::from_secs(5))
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
        assert_eq!(length, 172);
        assert_eq!(packet[0], 0x80);
        assert!(packet[14..172].iter().all(|octet| *octet == 0xd5));
        let short = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        Some(Heard {
            source,
            payload_type: packet[1] & 0x7f,
            sequence: short(2),
            timestamp: long(4),
            ssrc: long(8),
            number: short(12),
        })
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

#[test]
fn workers_learn_and_the_xdp_program_carries_on() {
    for family in [Family::V4, Family::V6] {
        let mut bench = Bench::new(XdpMode::Native);
        for state in bench.relay.snapshot().interfaces {
            assert_eq!(state.mode, XdpMode::Native, "{}", state.why);
        }
        let (mut first, mut second, media) = bench.call(family);
        assert_eq!(bench.connect(&media), [Path::Xdp; 2]);
        let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);

        let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);
        assert!(bench.statistics()[0].packets_userspace > 0);
        let learning = bench.statistics()[0].packets_xdp;
        for _ in 0..100 {
            let number = first.say(near);
            let one = second.hear().expect("what was said is not heard");
            assert_eq!((one.number, one.source, one.payload_type), (number, far, 0));
            heard.push(one);
        }
        assert_continuous(&heard);
        assert_eq!(bench.statistics()[0].packets_xdp, learning + 100);

        // The other payload type is renumbered, and back only what was negotiated goes.
        first.say_as(101, near);
        assert_eq!(second.hear().unwrap().payload_type, 96);
        let heard = bench.talk_until_xdp(1, &mut second, &mut first, far);
        assert_continuous(&heard);
        assert_eq!(heard[0].source, near);
        second.say_as(8, far);
        bench.wait(&first, |[_, back]| back.dropped == 1);

        let [forth, back] = bench.statistics();
        assert_eq!((forth.lost, back.lost), (0, 0));
        assert_eq!(forth.peer, Some(first.address()));
        assert_eq!(back.state, StreamState::Flowing);
        let snapshot = bench.relay.snapshot();
        assert_eq!((snapshot.flows, snapshot.next_hops_unresolved), (2, 0));
        let relayed = snapshot.kernel[Reason::Relayed as usize].1.packets;
        assert_eq!(relayed, forth.packets_xdp + back.packets_xdp);

        bench.relay.disconnect(CALL);
        for leg in &media.legs {
            bench.relay.release(leg.port);
        }
        let snapshot = bench.relay.snapshot();
        assert_eq!((snapshot.flows, snapshot.next_hops), (0, 0));
        assert!(snapshot.ports.iter().all(|ports| ports.used == 0));
        assert_eq!(bench.relay.flows(), []);
        first.say(near);
        assert_eq!(second.hear_for(Duration::from_millis(50)), None);
    }
}

#[test]
fn nobody_else_is_heard_before_or_after_the_pin() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    media.legs[0].sources.allowed = vec!["10.81.0.2/32".parse().unwrap()];
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut foreign = Telephone::new(&bench.carrier, "10.81.0.66:6000", 0x6666_6666);
    for _ in 0..10 {
        foreign.say(near);
    }
    bench.wait(&second, |[forth, _]| forth.dropped == 10);
    assert_eq!(bench.statistics()[0].peer, None);

    let heard = bench.talk_until_xdp(0, &mut first, &mut second, near);
    assert_continuous(&heard);
    let mut neighbour = Telephone::new(&bench.carrier, "10.81.0.2:6002", first.ssrc);
    for _ in 0..10 {
        foreign.say(near);
        neighbour.say(near);
    }
    bench.wait(&second, |[forth, _]| forth.dropped == 30);
    let number = first.say(near);
    assert_eq!(second.hear().unwrap().number, number);
    let snapshot = bench.relay.snapshot();
    assert_eq!(
        snapshot.kernel[Reason::ForeignSource as usize].1.packets,
        20
    );
    second.say(media.legs[1].port.rtp);
    assert!(first.hear().is_some());
    assert_eq!(foreign.hear_for(Duration::from_millis(10)), None);
}

#[test]
fn hold_lets_nothing_through_and_resume_goes_on() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);

    media.streams[0].active = false;
    bench.connect(&media);
    for _ in 0..5 {
        first.say(near);
    }
    bench.wait(&second, |[forth, _]| {
        forth.dropped == 5 && forth.state == StreamState::Held
    });

    media.streams[0].active = true;
    bench.connect(&media);
    let packets = bench.statistics()[0].packets_xdp;
    first.say(near);
    let resumed = second.hear().unwrap();
    assert_eq!(bench.statistics()[0].packets_xdp, packets + 1);
    let last = heard.pop().unwrap();
    assert_eq!(resumed.ssrc, last.ssrc);
    assert_eq!(resumed.sequence, last.sequence.wrapping_add(6));
    assert_eq!(bench.statistics()[0].peer, Some(first.address()));
}

#[test]
fn relatching_follows_the_telephone_after_a_new_offer_only() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    media.legs[0].sources.latching = Latching::RelatchOnReinvite;
    bench.connect(&media);
    let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);
    let before = bench.talk_until_xdp(0, &mut first, &mut second, near);
    bench.talk_until_xdp(1, &mut second, &mut first, far);

    let mut moved = Telephone::new(&bench.carrier, "10.81.0.66:6100", 0x3333_3333);
    moved.say(near);
    bench.wait(&second, |[forth, _]| forth.dropped == 1);

    media.legs[0].negotiation += 1;
    bench.connect(&media);
    let packets = bench.statistics()[0].packets_xdp;
    let after = bench.talk_until(&mut moved, &mut second, near, |[forth, _]| {
        forth.packets_xdp > packets
    });
    assert_eq!(bench.statistics()[0].peer, Some(moved.address()));
    // The other leg hears the same source go on.
    let mut heard = vec![*before.last().unwrap()];
    heard.extend(after);
    assert_continuous(&heard);
    second.say(far);
    assert!(moved.hear().is_some(), "media goes to the new telephone");
    assert_eq!(first.hear_for(Duration::from_millis(10)), None);
}

#[test]
fn strictly_only_the_signalled_address_is_heard() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    media.legs[0].sources.latching = Latching::Strict;
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut other = Telephone::new(&bench.carrier, "10.81.0.2:6002", first.ssrc);
    other.say(near);
    bench.wait(&second, |[forth, _]| forth.dropped == 1);
    assert_eq!(bench.statistics()[0].state, StreamState::Waiting);
    let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);

    // SDP names another port of the same telephone, whose stream goes on.
    media.legs[0].remote = Some(RemoteMedia {
        rtp: other.address(),
        rtcp: other.address(),
    });
    media.legs[0].negotiation += 1;
    bench.connect(&media);
    let (ssrc, packets) = (heard[0].ssrc, bench.statistics()[0].packets_xdp);
    other.sequence = first.sequence;
    heard.extend(
        bench.talk_until(&mut other, &mut second, near, |[forth, _]| {
            forth.packets_xdp > packets
        }),
    );
    assert_eq!(heard.last().unwrap().ssrc, ssrc);
    assert_continuous(&heard);
    first.say(near);
    bench.wait(&second, |[forth, _]| forth.dropped == 2);
}

#[test]
fn without_xdp_the_workers_carry_everything() {
    let mut bench = Bench::new(XdpMode::Off);
    let (first, second, media) = bench.call(Family::V4);
    let path = Path::Userspace(PathReason::NoXdp);
    assert_eq!(bench.connect(&media), [path; 2]);
    carried_by_workers(&bench.relay, first, second, &media);
}

/// Neither XDP nor steering: as where BPF is forbidden.
#[test]
fn without_the_right_to_load_bpf_ports_get_sockets_of_their_own() {
    let (ours, carrier, centre) = Bench::network();
    let relay = ours.enter(|| {
        drop_bpf_rights();
        Relay::start(&Bench::config(XdpMode::Native)).unwrap()
    });
    for state in relay.snapshot().interfaces {
        assert_eq!(state.mode, XdpMode::Off);
        assert!(!state.why.is_empty());
    }
    let mut bench = Bench {
        ours,
        carrier,
        centre,
        relay,
    };
    let (first, second, media) = bench.call(Family::V4);
    let path = Path::Userspace(PathReason::NoXdp);
    assert_eq!(bench.connect(&media), [path; 2]);
    carried_by_workers(&bench.relay, first, second, &media);
}

fn carried_by_workers(
    relay: &Relay,
    mut first: Telephone,
    mut second: Telephone,
    media: &CallMedia,
) {
    let [near, far] = media.legs.each_ref().map(|leg| leg.port.rtp);
    for _ in 0..20 {
        let number = first.say(near);
        let heard = second.hear().map(|heard| heard.number);
        assert_eq!(heard, Some(number), "{:?}", relay.snapshot());
        let number = second.say(far);
        let heard = first.hear().map(|heard| heard.number);
        assert_eq!(heard, Some(number), "{:?}", relay.snapshot());
    }
    for stream in relay.statistics(CALL).unwrap() {
        assert_eq!((stream.packets_xdp, stream.packets_userspace), (0, 20));
        assert_eq!((stream.lost, stream.dropped), (0, 0));
    }
}

#[test]
fn a_neighbour_with_a_new_ethernet_address_is_followed() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, media) = bench.call(Family::V4);
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    bench.talk_until_xdp(0, &mut first, &mut second, near);
    bench.centre.ip("link set far0 address 02:00:00:00:82:02");
    bench
        .ours
        .ip("neighbour replace 10.82.0.2 lladdr 02:00:00:00:82:02 dev centre0 nud reachable");
    let packets = bench.statistics()[0].packets_xdp;
    let mut heard = 0;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        first.say(near);
        if second.hear_for(Duration::from_millis(100)).is_some() {
            heard += 1;
            if bench.statistics()[0].packets_xdp > packets && heard > 10 {
                return;
            }
        }
    }
    panic!("{heard} heard: {:?}", bench.relay.snapshot());
}

#[test]
fn a_stream_moves_between_the_paths_and_loses_nothing() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    bench.connect(&media);
    let near = media.legs[0].port.rtp;
    let mut heard = bench.talk_until_xdp(0, &mut first, &mut second, near);
    // More payload types than the kernel tells apart.
    let few = media.streams[0].payload_types.clone();
    let many: Vec<(u8, u8)> = (96..105).map(|number| (number, number)).collect();
    for turn in 0..6 {
        media.streams[0].payload_types = few.clone();
        if turn % 2 == 0 {
            media.streams[0].payload_types.extend(&many);
        }
        let [path, _] = bench.connect(&media);
        assert_eq!(path == Path::Xdp, turn % 2 == 1);
        for _ in 0..10 {
            first.say(near);
            heard.push(second.hear().unwrap());
        }
    }
    assert_continuous(&heard);
    let [forth, _] = bench.statistics();
    assert_eq!(forth.lost, 0);
    assert!(forth.packets_xdp >= 30 && forth.packets_userspace >= 30);
}

#[test]
fn ipv4_and_ipv6_hear_each_other_by_the_workers() {
    let mut bench = Bench::new(XdpMode::Native);
    let (first, _, mut media) = bench.call(Family::V4);
    let second = Telephone::new(&bench.centre, "[fd82::2]:7000", 0x2222_2222);
    media.legs[1].port = bench.relay.reserve("centre0", Family::V6).unwrap();
    media.legs[1].remote = Some(RemoteMedia {
        rtp: second.address(),
        rtcp: second.address(),
    });
    let path = Path::Userspace(PathReason::AddressFamily);
    assert_eq!(bench.connect(&media), [path; 2]);
    carried_by_workers(&bench.relay, first, second, &media);
}

#[test]
fn rtcp_goes_from_port_to_port_with_the_ssrcs_that_each_leg_knows() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, mut second, mut media) = bench.call(Family::V4);
    let control = Telephone::new(&bench.carrier, "10.81.0.2:6001", 0);
    let other = Telephone::new(&bench.centre, "10.82.0.2:7001", 0);
    for (leg, telephone) in media.legs.iter_mut().zip([&control, &other]) {
        leg.rtcp_mux = false;
        leg.remote.as_mut().unwrap().rtcp = telephone.address();
    }
    bench.connect(&media);
    let [near, far] = media.legs.each_ref().map(|leg| leg.port);
    let heard = bench.talk_until_xdp(0, &mut first, &mut second, near.rtp);

    // A sender report without report blocks (RFC 3550, section 6.4.1).
    let mut report = vec![0x80, 200, 0, 6];
    report.extend(first.ssrc.to_be_bytes());
    report.extend([0; 20]);
    control.socket.send_to(&report, near.rtcp()).unwrap();
    let mut packet = [0; 2048];
    let (length, source) = other.receive(&mut packet, Duration::from_secs(5)).unwrap();
    assert!(length >= 28);
    assert_eq!(source, far.rtcp());
    assert_eq!(packet[1], 200);
    assert_eq!(packet[4..8], heard[0].ssrc.to_be_bytes());
}

#[test]
fn srtp_that_the_kernel_does_not_serve_is_the_workers() {
    let mut bench = Bench::new(XdpMode::Native);
    let (mut first, second, mut media) = bench.call(Family::V4);
    let key = |octet| SrtpKey {
        suite: SrtpSuite::AesCm256HmacSha1_80,
        master: vec![octet; 46].into(),
        mki: None,
    };
    media.legs[1].srtp = Some(SrtpKeys {
        protect: key(1),
        unprotect: key(2),
    });
    let path = Path::Userspace(PathReason::SrtpAes256);
    assert_eq!(bench.connect(&media), [path; 2]);
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let number = first.say(media.legs[0].port.rtp);
        let mut packet = [0; 2048];
        let (length, _) = second.receive(&mut packet, Duration::from_secs(5)).unwrap();
        assert_eq!(length, 172 + 10, "an authentication tag of ten octets");
        assert!(!packet[14..172].iter().all(|octet| *octet == 0xd5));
        assert_eq!(u16::from_be_bytes([packet[2], packet[3]]), number);
        assert!(seen.insert(packet[12..172].to_vec()));
    }
    // Plain RTP from the leg that must send SRTP goes nowhere.
    let mut second = second;
    second.say(media.legs[1].port.rtp);
    bench.wait(&first, |[_, back]| back.srtp_failures == 1);
    let refused = bench.relay.snapshot().srtp_failures;
    let sum = refused.iter().map(|(.., packets)| packets).sum::<u64>();
    assert_eq!(sum, 1, "{refused:?}");
    assert!(refused.contains(&("userspace", "srtp-authentication", 1)));
}

/// Takes from the calling thread, and the threads that it starts, what loading BPF needs.
fn drop_bpf_rights() {
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    // `capset` of linux/capability.h, version 3: a header, and two words of each set.
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: both pointers are to arrays of the sizes that version 3 has, alive over the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    assert_eq!(result, 0);
    for right in [SYS_ADMIN, PERFMON, BPF] {
        let word = &mut sets[(right / 32) as usize];
        // Effective and permitted.
        for set in &mut word[..2] {
            *set &= !(1 << (right % 32));
        }
    }
    // SAFETY: as above; the call only reads them, and changes the calling thread alone.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
