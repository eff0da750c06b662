//! Damage on the SIP sockets.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring::default_provider,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use socket2::{Domain, Socket, Type};

use super::{
    Attack, Bench,
    octets::{cut_invite, invite, no_sip, random, stray_response},
};
use crate::{
    daemon::{SIP_PORT, TLS_PORT},
    lab::{Party, Side},
    scene::Scene,
};

/// Datagrams of a batch: they all find room in the socket's buffer.
const DATAGRAMS: u64 = 32;
/// One takes half of the socket's buffer.
const LARGE: u64 = 1;
const CONNECTIONS: u64 = 8;
/// Somebody whom no trunk admits, on every link.
const STRANGER: u8 = 77;
/// How long the daemon may take to close a connection; a failure, not a measure.
const CLOSING: Duration = Duration::from_secs(20);

/// Every kind, in order.
pub const SIGNALLING: &[Attack] = &[
    Attack {
        name: "SIP over UDP, messages that end too early",
        counted: &[("core", "*")],
        batch: |bench| datagrams(bench, DATAGRAMS, |random| cut_invite(random, "UDP")),
    },
    Attack {
        name: "SIP over UDP, random octets",
        counted: &[("core", "*")],
        batch: |bench| datagrams(bench, DATAGRAMS, |random| no_sip(random, 1..1_400)),
    },
    Attack {
        name: "SIP over UDP, the largest datagrams that there are",
        counted: &[("core", "*")],
        batch: |bench| datagrams(bench, LARGE, |random| no_sip(random, 60_000..65_507)),
    },
    Attack {
        name: "SIP over UDP, responses that nobody asked for",
        counted: &[("core", "stray-response")],
        batch: |bench| datagrams(bench, DATAGRAMS, stray_response),
    },
    Attack {
        name: "SIP over UDP, strangers",
        counted: &[("edge", "foreign-source")],
        batch: |bench| {
            let to = sbc(Party::Carrier, SIP_PORT);
            for index in 0..DATAGRAMS {
                let payload = {
                    let mut random = bench.random.borrow_mut();
                    match index % 2 {
                        0 => invite(&mut random, "UDP"),
                        _ => no_sip(&mut random, 1..1_400),
                    }
                };
                let from = SocketAddr::from(([198, 51, 100, STRANGER], 5_060));
                bench.inject(Party::Carrier, from, to, &payload);
            }
            DATAGRAMS
        },
    },
    Attack {
        name: "SIP over TCP, heads without a length",
        counted: &[("edge", "malformed")],
        batch: |bench| {
            streams(bench, false, |random| {
                let mut octets = no_sip(random, 1..4_000);
                octets.extend_from_slice(b"\r\n\r\n");
                octets
            })
        },
    },
    Attack {
        name: "SIP over TCP, heads without an end and bodies without measure",
        counted: &[("edge", "oversized")],
        batch: |bench| {
            streams(bench, false, |random| {
                if random.random_bool(0.5) {
                    return vec![b'x'; 200_000];
                }
                let length: u32 = random.random_range(70_000..4_000_000_000);
                format!("BYE sip:a SIP/2.0\r\nContent-Length: {length}\r\n\r\n").into_bytes()
            })
        },
    },
    Attack {
        name: "SIP over TCP, messages that end too early",
        counted: &[("edge", "unfinished")],
        batch: |bench| streams(bench, true, |random| cut_invite(random, "TCP")),
    },
    Attack {
        name: "SIP over TCP and TLS, strangers",
        counted: &[("edge", "foreign-source")],
        batch: |bench| {
            for index in 0..CONNECTIONS {
                let (party, port) = SERVED[index as usize % 2];
                let mut stream = connect(bench.scene, party, port, true);
                let _ = stream.write_all(&no_sip(&mut bench.random.borrow_mut(), 1..2_000));
                closed(&mut stream);
            }
            CONNECTIONS
        },
    },
    Attack {
        name: "SIP over TLS, garbage and cut greetings before the handshake",
        counted: &[("edge", "handshake-failed")],
        batch: |bench| {
            let (party, port) = SERVED[1];
            for index in 0..CONNECTIONS {
                let mut octets = no_sip(&mut bench.random.borrow_mut(), 6..2_000);
                if index % 2 == 0 {
                    octets = greeting(bench.scene);
                    let length = bench.random.borrow_mut().random_range(1..octets.len());
                    octets.truncate(length);
                }
                let mut stream = connect(bench.scene, party, port, false);
                let _ = stream.write_all(&octets);
                let _ = stream.shutdown(Shutdown::Write);
                closed(&mut stream);
            }
            CONNECTIONS
        },
    },
    Attack {
        name: "SIP over TLS, garbage inside and in place of records",
        counted: &[("edge", "malformed")],
        batch: |bench| {
            for index in 0..CONNECTIONS {
                let mut stream = secure(bench.scene);
                let mut octets = no_sip(&mut bench.random.borrow_mut(), 6..2_000);
                octets.extend_from_slice(b"\r\n\r\n");
                if index % 2 == 0 {
                    let _ = stream.write_all(&octets);
                } else {
                    let _ = stream.sock.write_all(&octets);
                }
                closed(&mut stream.sock);
            }
            CONNECTIONS
        },
    },
    Attack {
        name: "SIP over TLS, messages that end too early",
        counted: &[("edge", "unfinished")],
        batch: |bench| {
            for index in 0..CONNECTIONS {
                let mut stream = secure(bench.scene);
                let octets = cut_invite(&mut bench.random.borrow_mut(), "TLS");
                let _ = stream.write_all(&octets);
                if index % 2 == 0 {
                    stream.conn.send_close_notify();
                }
                let _ = stream.flush();
                let _ = stream.sock.shutdown(Shutdown::Write);
                closed(&mut stream.sock);
            }
            CONNECTIONS
        },
    },
];

/// The listeners for connections.
const SERVED: [(Party, u16); 2] = [(Party::ContactCentre, SIP_PORT), (Party::Teams, TLS_PORT)];

/// Connections on which the peer never says what it began to say.
pub struct HalfOpen {
    streams: Vec<TcpStream>,
}

impl HalfOpen {
    /// How many of each transport: with those of both there is still room for others.
    const EACH: u64 = 40;
    /// What is counted for them in the end.
    pub const COUNTED: &[(&str, &str)] = &[("edge", "unfinished"), ("edge", "handshake-failed")];

    /// # Panics
    /// When a connection is not taken.
    #[must_use]
    pub fn open(bench: &Bench<'_>) -> Self {
        let mut streams = Vec::new();
        for (party, port) in SERVED {
            for index in 0..Self::EACH {
                let mut stream = connect(bench.scene, party, port, false);
                let octets = match (party, index % 2) {
                    (_, 0) => Vec::new(),
                    (Party::Teams, _) => greeting(bench.scene)[..20].to_vec(),
                    _ => cut_invite(&mut bench.random.borrow_mut(), "TCP"),
                };
                stream.write_all(&octets).expect("written");
                streams.push(stream);
            }
        }
        Self { streams }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.streams.len() as u64
    }
}

fn sbc(party: Party, port: u16) -> SocketAddr {
    SocketAddr::new(party.ipv4(Side::Sbc), port)
}

/// Datagrams from the carrier's own address, from a port that reads no answer.
fn datagrams(
    bench: &Bench<'_>,
    count: u64,
    mut make: impl FnMut(&mut rand::rngs::StdRng) -> Vec<u8>,
) -> u64 {
    let from = SocketAddr::new(Party::Carrier.ipv4(Side::Peer), 0);
    let open = || std::net::UdpSocket::bind(from);
    let entered = bench.scene.lab.peer(Party::Carrier).enter(open);
    let socket = entered.expect("a namespace").expect("a socket");
    for _ in 0..count {
        let payload = make(&mut bench.random.borrow_mut());
        let sent = socket.send_to(&payload, sbc(Party::Carrier, SIP_PORT));
        assert_eq!(sent.expect("sent"), payload.len());
    }
    count
}

/// Connections over TCP, each with some octets; `ends` says that no more will follow.
fn streams(
    bench: &Bench<'_>,
    ends: bool,
    mut make: impl FnMut(&mut rand::rngs::StdRng) -> Vec<u8>,
) -> u64 {
    let (party, port) = SERVED[0];
    for _ in 0..CONNECTIONS {
        let octets = make(&mut bench.random.borrow_mut());
        let mut stream = connect(bench.scene, party, port, false);
        // The daemon may close before it has read everything.
        let _ = stream.write_all(&octets);
        if ends {
            let _ = stream.shutdown(Shutdown::Write);
        }
        closed(&mut stream);
    }
    CONNECTIONS
}

fn connect(scene: &Scene, party: Party, port: u16, stranger: bool) -> TcpStream {
    let mut from = party.ipv4(Side::Peer);
    if let (true, std::net::IpAddr::V4(address)) = (stranger, from) {
        let [a, b, c, _] = address.octets();
        from = std::net::IpAddr::from([a, b, c, STRANGER]);
        // It may have this address from another time.
        let _ = scene.lab.peer(party).run(
            "ip",
            &["address", "replace", &format!("{from}/24"), "dev", "eth0"],
        );
    }
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&sbc(party, port).into())?;
        socket.set_read_timeout(Some(CLOSING))?;
        Ok::<_, std::io::Error>(socket.into())
    };
    let entered = scene.lab.peer(party).enter(open);
    entered.expect("a namespace").expect("a connection")
}

/// Waits until the daemon has closed.
pub(super) fn closed(stream: &mut impl Read) {
    let mut octets = [0; 4_096];
    loop {
        match stream.read(&mut octets) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the daemon does not close: {error}"),
        }
    }
}

fn client(scene: &Scene) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(&scene.certificates.roots).expect("a certificate");
    roots.add(root).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(crate::peers::SBC_NAME).expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// A connection whose handshake both sides have ended, as the answer to a ping shows.
fn secure(scene: &Scene) -> StreamOwned<ClientConnection, TcpStream> {
    let (party, port) = SERVED[1];
    let mut stream = StreamOwned::new(client(scene), connect(scene, party, port, false));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("TLS");
    }
    stream.write_all(b"\r\n\r\n").expect("a ping");
    stream.read_exact(&mut [0; 2]).expect("its answer");
    stream
}

/// The first octets that a TLS client says.
fn greeting(scene: &Scene) -> Vec<u8> {
    let mut octets = Vec::new();
    client(scene).write_tls(&mut octets).expect("a greeting");
    octets
}

/// Random octets of at least one, for sockets that know no keep-alive.
pub(super) fn anything(source: &mut rand::rngs::StdRng) -> Vec<u8> {
    random(source, 1..3_000)
}
