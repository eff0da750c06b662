//! Real devices: a peer, the relay and another peer, each in a network namespace of its own, with
//! veth pairs between them. What one peer sends raw arrives at the other octet for octet.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use relay_abi::{U32, next_hop::NextHop, verdict::Reason};

use super::{
    lab::{config, entry, key, next_hop},
    packets::{Packet, rtp},
};
use crate::{
    media::Family,
    namespace::Namespace,
    offload::{Datapath as _, Offload, OffloadConfig, XdpMode},
};

/// A packet socket, which sends and receives whole frames.
struct Wire(OwnedFd);

impl Wire {
    /// On a device of a namespace.
    fn of(namespace: &Namespace, device: &str) -> Self {
        let index = namespace.index(device);
        namespace.enter(|| Self::open(index).expect("a packet socket"))
    }

    fn open(interface: u32) -> io::Result<Self> {
        let every = u16::to_be(libc::ETH_P_ALL as u16);
        // SAFETY: it takes numbers only.
        let descriptor = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(every),
            )
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else has it.
        let wire = Self(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // SAFETY: plain numbers, for which zeros are a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = every;
        address.sll_ifindex = interface as i32;
        // SAFETY: the address lives over the call and has the length that is said.
        let bound = unsafe {
            libc::bind(
                wire.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        // So that a packet that never comes fails the test instead of stopping it.
        let patience = libc::timeval {
            tv_sec: 10,
            tv_usec: 0,
        };
        // SAFETY: as above.
        let patient = unsafe {
            libc::setsockopt(
                wire.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                size_of_val(&patience) as u32,
            )
        };
        if bound != 0 || patient != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(wire)
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: the frame lives over the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// Waits until a frame comes that is `expected`, past whatever else the stacks say.
    fn expect(&self, description: &str, expected: &[u8]) {
        let mut seen = Vec::new();
        loop {
            let mut frame = vec![0; 2048];
            // SAFETY: the buffer lives over the call and has the length that is said.
            let received = unsafe {
                libc::recv(
                    self.0.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    0,
                )
            };
            let Ok(length) = usize::try_from(received) else {
                panic!(
                    "{description}: {} after {seen:x?}, instead of {expected:x?}",
                    io::Error::last_os_error()
                );
            };
            frame.truncate(length);
            if frame == expected {
                return;
            }
            seen.push(frame);
        }
    }
}

/// Three namespaces in a row: near peer, relay, far peer.
struct Row {
    near: Namespace,
    relay: Namespace,
    far: Namespace,
}

impl Row {
    fn new() -> Self {
        let row = Self {
            near: Namespace::new(),
            relay: Namespace::new(),
            far: Namespace::new(),
        };
        row.relay.veth("relay0", &row.near, "near0");
        row.relay.veth("relay1", &row.far, "far0");
        row
    }
}

const ENDS: [[&str; 4]; 2] = [
    [
        "198.51.100.2:30000",
        "198.51.100.1:20000",
        "203.0.113.1:20002",
        "203.0.113.2:40000",
    ],
    [
        "[2001:db8:1::2]:30000",
        "[2001:db8:1::1]:20000",
        "[2001:db8:2::1]:20002",
        "[2001:db8:2::2]:40000",
    ],
];

fn relays_between_namespaces(mode: XdpMode) {
    let row = Row::new();
    // What veth is to take natively from an XDP program elsewhere needs a program at its other end
    // as well; one that knows no port passes everything on.
    let passing = |interface: &str| OffloadConfig {
        media_ports: 1..=1,
        workers: 0,
        ..config(&[interface], mode)
    };
    let _near_end = row.near.enter(|| Offload::load(&passing("near0")));
    let _far_end = row.far.enter(|| Offload::load(&passing("far0")));
    let mut offload = row
        .relay
        .enter(|| Offload::load(&config(&["relay0", "relay1"], mode)));
    for state in offload.interfaces() {
        assert_eq!(state.mode, mode, "{state:?}");
    }
    let mut datapath = offload.take_datapath().expect("attached");

    let to_near = row.relay.index("relay0");
    let to_far = row.relay.index("relay1");
    row.relay.enter(|| {
        datapath.set_device(0, to_near).expect("a device");
        datapath.set_device(1, to_far).expect("a device");
    });
    for (row, interface) in [(0, to_near), (1, to_far)] {
        let next_hop = NextHop {
            interface: U32::new(interface),
            device: U32::new(row),
            ..next_hop(&[])
        };
        datapath.set_next_hop(row, &next_hop).expect("written");
    }

    let near = Wire::of(&row.near, "near0");
    let far = Wire::of(&row.far, "far0");
    for [peer, local, from, to] in ENDS {
        let sent = Packet::new(peer, local, rtp(0x80, 0, 7, 160, 0x1111_2222, &[0x55; 160]));
        let relayed = Packet {
            source: [2, 0, 0, 0, 1, 1],
            destination: [2, 0, 0, 0, 1, 2],
            hop_limit: 63,
            identification: 0,
            do_not_fragment: true,
            flow_label: 0,
            ..Packet::new(
                from,
                to,
                rtp(0x80, 0, 0xff07, 0xffff_ffa0, 0x3333_4444, &[0x55; 160]),
            )
        };
        for (hop, wire, description) in [(1, &far, "redirected"), (0, &near, "sent back")] {
            let mut entry = entry(peer, from, to);
            entry.next_hop = U32::new(hop);
            datapath.install(&key(local), &entry).expect("installed");
            near.send(&sent.octets());
            wire.expect(&format!("{mode}, {description}"), &relayed.octets());
        }
    }
    let counters = datapath.read(5).expect("counters");
    assert_eq!(counters.packets, 4);
    assert_eq!(counters.octets, 4 * 172);
    let reasons = datapath.reasons().expect("counters");
    assert_eq!(reasons[Reason::Relayed as usize].1.packets, 4);

    let has_program = || {
        let shown = row.relay.run("ip", "link show dev relay0");
        shown.contains("xdp")
    };
    assert!(has_program());
    drop(offload);
    // Other tests start processes, which hold copies of the links until they execute.
    let detached = (0..1000).any(|_| !has_program());
    assert!(detached);
}

#[test]
fn native_mode_relays_between_namespaces() {
    relays_between_namespaces(XdpMode::Native);
}

#[test]
fn generic_mode_relays_between_namespaces() {
    relays_between_namespaces(XdpMode::Generic);
}

#[test]
fn a_native_refusal_on_one_interface_makes_all_generic() {
    let namespace = Namespace::new();
    namespace.ip("link add veth0 type veth peer name veth1");
    // Loopback has no native XDP.
    let offload = namespace.enter(|| Offload::load(&config(&["veth0", "lo"], XdpMode::Native)));
    for state in offload.interfaces() {
        assert_eq!(state.mode, XdpMode::Generic, "{state:?}");
        assert!(state.why.contains("refused on lo"), "{state:?}");
    }
    drop(offload);
    let forced = OffloadConfig {
        forced: true,
        ..config(&["veth0", "lo"], XdpMode::Native)
    };
    let offload = namespace.enter(|| Offload::load(&forced));
    for state in offload.interfaces() {
        assert_eq!(state.mode, XdpMode::Off, "{state:?}");
        assert!(state.why.contains("refused on lo"), "{state:?}");
    }
}

#[test]
fn steering_gives_every_port_to_its_worker() {
    let namespace = Namespace::new();
    namespace.enter(|| {
        let mut offload = Offload::load(&config(&[], XdpMode::Off));
        let mut steering = offload.take_steering().expect("steering");
        let mut sockets = Vec::new();
        for worker in 0..2 {
            for (family, address) in [
                (Family::V4, Ipv4Addr::UNSPECIFIED.into()),
                (Family::V6, Ipv6Addr::UNSPECIFIED.into()),
            ] {
                let address: std::net::IpAddr = address;
                let socket = UdpSocket::bind((address, 0)).expect("a socket");
                socket
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .expect("patience");
                steering.set(worker, family, &socket).expect("set");
                sockets.push(socket);
            }
        }
        let elsewhere = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        assert!(steering.set(2, Family::V4, &elsewhere).is_err());

        for (port, worker) in [(20_000, 0), (20_001, 0), (20_002, 1), (29_999, 1)] {
            for (loopback, family) in [("127.0.0.1", 0), ("::1", 1)] {
                let sender = UdpSocket::bind((loopback, 0)).expect("a socket");
                let content = format!("{loopback} {port}");
                sender
                    .send_to(content.as_bytes(), (loopback, port))
                    .expect("sent");
                let mut buffer = [0; 64];
                let (length, source) = sockets[worker * 2 + family]
                    .recv_from(&mut buffer)
                    .expect("steered");
                assert_eq!(&buffer[..length], content.as_bytes());
                assert_eq!(source, sender.local_addr().expect("bound"));
            }
        }
        // A port of somebody else is left to its socket.
        let sender = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        elsewhere
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("patience");
        sender
            .send_to(b"mine", elsewhere.local_addr().expect("bound"))
            .expect("sent");
        let mut buffer = [0; 64];
        assert_eq!(elsewhere.recv(&mut buffer).expect("received"), 4);
    });
}
