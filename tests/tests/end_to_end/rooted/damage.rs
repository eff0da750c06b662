//! Damaged input on every socket for a minute: the daemon runs on, its memory stays flat, its
//! calls do not notice, and every discard is counted.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tests::{
    daemon::{DaemonSettings, METRICS, SIP_PORT, TLS_PORT},
    lab::{Party, Side, wait_until},
    peers::{Scenario, SipTransport},
    scene::{LIMIT, Part, Scene},
    sound::{Melody, compare},
};

const MINUTE: Duration = Duration::from_secs(60);
/// Datagrams in a burst: few enough for every socket's buffer.
const BURST: usize = 20;
/// Octets from which on a datagram is awaited before the next one is sent.
const GIANT: usize = 10_000;
/// Connections to each listener in a round.
const CONNECTIONS: usize = 5;
/// How much more memory than after the first rounds is still flat: a few arenas of the allocator.
const SLACK: u64 = 16 << 20;
/// Rounds in which pools and buffers find their size.
const WARM_UP: usize = 5;

/// A whole INVITE, of which parts are sent.
const INVITE: &str = "INVITE sip:+15551000@198.51.100.1 SIP/2.0\r\n\
Via: SIP/2.0/UDP 198.51.100.2:5999;branch=z9hG4bKdamage;rport\r\n\
From: <sip:a@198.51.100.2>;tag=1\r\nTo: <sip:+15551000@198.51.100.1>\r\n\
Call-ID: damage\r\nCSeq: 1 INVITE\r\nContact: <sip:a@198.51.100.2:5999>\r\n\
Max-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: 40\r\n\r\nv=0\r\n";

struct Attack<'a> {
    scene: &'a Scene,
    random: StdRng,
    tls: Arc<ClientConfig>,
    /// The media ports of calls, by the party that sends to them.
    media: Vec<(Party, SocketAddr)>,
}

impl Attack<'_> {
    fn octets(&mut self, most: usize) -> Vec<u8> {
        let mut octets = vec![0; self.random.random_range(1..=most)];
        self.random.fill_bytes(&mut octets);
        octets
    }

    /// Random, truncated or oversized, for a SIP socket.
    fn no_message(&mut self, oversized: usize) -> Vec<u8> {
        match self.random.random_range(0..3) {
            0 => {
                let mut octets = self.octets(1_400);
                // Line ends alone are a keep-alive.
                octets[0] = octets[0].max(b' ' + 1);
                octets
            }
            1 => {
                let length = self.random.random_range(1..INVITE.len() - 20);
                INVITE.as_bytes()[..length].to_vec()
            }
            _ => {
                let mut message = b"INVITE sip:a@b SIP/2.0\r\nX-Long: ".to_vec();
                message.resize(oversized, b'a');
                message
            }
        }
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        let value = self.scene.daemon.metric(&self.scene.lab, name, labels);
        value.expect("metrics") as usize
    }

    fn socket(&self, party: Party) -> UdpSocket {
        let local = SocketAddr::new(party.ipv4(Side::Peer), 0);
        let bound = self.scene.lab.peer(party).enter(|| UdpSocket::bind(local));
        bound.expect("the namespace").expect("a socket")
    }

    fn connect(&self, party: Party, port: u16) -> TcpStream {
        let remote = SocketAddr::new(party.ipv4(Side::Sbc), port);
        let connected = self
            .scene
            .lab
            .peer(party)
            .enter(|| TcpStream::connect_timeout(&remote, Duration::from_secs(5)));
        connected.expect("the namespace").expect("a connection")
    }

    /// Every datagram of the burst is one more discard.
    fn sip_over_udp(&mut self) {
        let before = self.metric("trunkline_discards_total", &[]);
        let socket = self.socket(Party::Carrier);
        let remote = SocketAddr::new(Party::Carrier.ipv4(Side::Sbc), SIP_PORT);
        for sent in 1..=BURST {
            let datagram = self.no_message(60_000);
            socket.send_to(&datagram, remote).expect("sent");
            // A socket's buffer holds many datagrams, but few giants.
            if datagram.len() > GIANT || sent == BURST {
                self.wait_counted("trunkline_discards_total", &[], before, sent);
            }
        }
    }

    fn wait_counted(&self, name: &str, labels: &[(&str, &str)], before: usize, sent: usize) {
        let mut counted = 0;
        let exactly = wait_until(LIMIT, || {
            counted = self.metric(name, labels) - before;
            counted >= sent
        });
        assert!(
            exactly && counted == sent,
            "{name}: {counted} of {sent} are counted"
        );
    }

    /// Connections that say no SIP are closed and counted; those that end in mid-message harm
    /// nobody.
    fn sip_over_tcp(&mut self) {
        let before = self.metric("trunkline_discards_total", &[]);
        for _ in 0..CONNECTIONS {
            let mut stream = self.connect(Party::ContactCentre, SIP_PORT);
            let mut octets = b"no SIP at all\r\n\r\n".to_vec();
            octets.extend(self.octets(4_000));
            let _ = stream.write_all(&octets);
            closed(&mut stream);
            let mut truncated = self.connect(Party::ContactCentre, SIP_PORT);
            let length = self.random.random_range(1..INVITE.len());
            let _ = truncated.write_all(&INVITE.as_bytes()[..length]);
            let mut oversized = self.connect(Party::ContactCentre, SIP_PORT);
            let _ = oversized.write_all(&[b'a'; 100_000]);
            closed(&mut oversized);
        }
        let counted = self.metric("trunkline_discards_total", &[]) - before;
        assert!(counted >= 2 * CONNECTIONS, "{counted} discards over TCP");
    }

    fn sip_over_tls(&mut self) {
        let labels = [("reason", "handshake-failed")];
        let before = self.metric("trunkline_discards_total", &labels);
        for _ in 0..CONNECTIONS {
            let mut stream = self.connect(Party::Teams, TLS_PORT);
            let mut octets = b"\xffno hello\r\n\r\n".to_vec();
            octets.extend(self.octets(4_000));
            let _ = stream.write_all(&octets);
            closed(&mut stream);
        }
        let all = wait_until(LIMIT, || {
            self.metric("trunkline_discards_total", &labels) >= before + CONNECTIONS
        });
        assert!(all, "failed handshakes are counted");

        let before = self.metric("trunkline_discards_total", &[]);
        for _ in 0..CONNECTIONS {
            let mut socket = self.connect(Party::Teams, TLS_PORT);
            let name = ServerName::from(Party::Teams.ipv4(Side::Sbc));
            let config = Arc::clone(&self.tls);
            let mut session = ClientConnection::new(config, name).expect("a session");
            let mut stream = Stream::new(&mut session, &mut socket);
            let mut octets = b"encrypted, and still no SIP\r\n\r\n".to_vec();
            octets.extend(self.octets(4_000));
            stream.write_all(&octets).expect("a handshake");
            closed(&mut stream);
        }
        let counted = self.metric("trunkline_discards_total", &[]) - before;
        assert!(counted >= CONNECTIONS, "{counted} discards within TLS");
    }

    /// Random octets, runts, whole RTP packets and giants, from an address that may send but is
    /// not the pinned one, and to a port without a call: each is dropped, and counted once.
    fn media(&mut self) {
        let labels = [("verdict", "drop")];
        let mut targets = self.media.clone();
        targets.push((
            Party::Carrier,
            SocketAddr::new(Party::Carrier.ipv4(Side::Sbc), 29_998),
        ));
        for (party, target) in targets {
            for port in [target.port(), target.port() + 1] {
                let before = self.metric("trunkline_packets_total", &labels);
                let socket = self.socket(party);
                for index in 0..BURST {
                    let mut datagram = match index % 4 {
                        0 => self.octets(1_400),
                        1 => self.octets(16),
                        2 => self.octets(172),
                        _ => vec![0x80; 20_000],
                    };
                    if index % 4 == 2 {
                        datagram.resize(172, 0xff);
                        datagram[..2].copy_from_slice(&[0x80, 0]);
                    }
                    let target = SocketAddr::new(target.ip(), port);
                    socket.send_to(&datagram, target).expect("sent");
                    if datagram.len() > GIANT || index + 1 == BURST {
                        self.wait_counted("trunkline_packets_total", &labels, before, index + 1);
                    }
                }
            }
        }
    }

    fn admin_and_metrics(&mut self) {
        for _ in 0..CONNECTIONS {
            let mut stream = UnixStream::connect(self.scene.daemon.socket()).expect("admin");
            let _ = stream.write_all(&self.octets(10_000));
            let mut long = UnixStream::connect(self.scene.daemon.socket()).expect("admin");
            let _ = long.write_all(&vec![b'{'; 100_000]);
            let mut cut = UnixStream::connect(self.scene.daemon.socket()).expect("admin");
            let _ = cut.write_all(b"{\"command\":\"ca");

            let octets = self.octets(10_000);
            let talk = || -> std::io::Result<()> {
                TcpStream::connect(METRICS)?.write_all(&octets)?;
                TcpStream::connect(METRICS)?.write_all(b"GET /met")?;
                let mut long = TcpStream::connect(METRICS)?;
                long.write_all(b"GET /metrics HTTP/1.1\r\nX: ")?;
                long.write_all(&[b'a'; 100_000])
            };
            // It may well hang up in the middle of this.
            let _ = self.scene.lab.sbc().enter(talk).expect("the namespace");
        }
    }
}

/// Reads until the other side closes; it has to within the limit.
fn closed(stream: &mut impl Read) {
    let mut octets = [0; 1_024];
    while stream.read(&mut octets).is_ok_and(|read| read > 0) {}
}

fn tls(scene: &Scene) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(&scene.certificates.roots).expect("a certificate");
    roots.add(root).expect("an authority");
    Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

#[test]
fn a_minute_of_damage() {
    let mut scene = Scene::new(&DaemonSettings {
        centre_transport: "tcp",
        ..DaemonSettings::default()
    });
    let melodies: Vec<Melody> = (1..=4).map(|seed| Melody::new(seed, 200)).collect();
    let centre = scene.centre(SipTransport::Tcp, &melodies[0]);
    let teams = scene.teams(true, &melodies[1]);
    let caller = |number, port, melody| {
        scene.sipp_calls(
            Party::Carrier,
            Party::ipv4,
            port,
            number,
            Part {
                scenario: Scenario::CallAndListen,
                talk: Duration::ZERO,
                melody: Some(melody),
            },
        )
    };
    let mut callers = [
        caller("+15551000", 5_070, &melodies[2]),
        caller("+16660000", 5_080, &melodies[3]),
    ];
    let flowing = wait_until(LIMIT, || {
        scene.daemon.calls().is_ok_and(|calls| {
            calls.len() == 2
                && calls.iter().all(|call| {
                    call.streams.len() == 2
                        && call
                            .streams
                            .iter()
                            .all(|stream| stream.packets_xdp + stream.packets_userspace > 50)
                })
        })
    });
    assert!(flowing, "two calls; log:\n{}", scene.daemon.log());

    let media = scene
        .daemon
        .calls()
        .expect("calls")
        .iter()
        .flat_map(|call| call.media.clone())
        .filter_map(|address: SocketAddr| {
            let party = Party::ALL
                .into_iter()
                .find(|party| party.ipv4(Side::Sbc) == address.ip())?;
            Some((party, address))
        })
        .collect();
    let mut attack = Attack {
        tls: tls(&scene),
        scene: &scene,
        random: StdRng::seed_from_u64(7),
        media,
    };
    assert_eq!(attack.media.len(), 4, "the calls' media ports");
    let end = Instant::now() + MINUTE;
    let mut rounds = 0;
    let mut warm = 0;
    while Instant::now() < end {
        attack.sip_over_udp();
        attack.media();
        attack.sip_over_tcp();
        attack.sip_over_tls();
        attack.admin_and_metrics();
        rounds += 1;
        if rounds == WARM_UP {
            warm = scene.daemon.resident().expect("memory");
        }
    }
    assert!(rounds > WARM_UP, "{rounds} rounds");
    let resident = scene.daemon.resident().expect("memory");
    assert!(
        resident <= warm + SLACK,
        "memory grew from {warm} to {resident} octets in {rounds} rounds"
    );

    let calls = scene.daemon.calls().expect("calls");
    assert_eq!(calls.len(), 2, "{calls:?}");
    for stream in calls.iter().flat_map(|call| &call.streams) {
        assert!(
            stream.packets_xdp + stream.packets_userspace > 2_900,
            "{stream:?}"
        );
        assert_eq!(stream.lost, 0, "{stream:?}");
    }
    assert!(scene.daemon.is_running());
    let mut called = [(centre, &melodies[2]), (teams, &melodies[3])];
    for (baresip, sent) in &mut called {
        let heard = baresip.heard();
        let comparison = compare(sent.samples(), &heard[0]);
        assert!(comparison.is_same(55.0), "all the while: {comparison}");
        baresip.hang_up().expect("hung up");
    }
    for caller in &mut callers {
        caller.finish(LIMIT).expect("the caller's scenario");
    }
    scene.wait_no_call();
}
