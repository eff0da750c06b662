//! Lookups at a DNS server of the tests' own.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{Arc, Mutex},
};

use hickory_resolver::{
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::{Message, ResponseCode},
        rr::{Record, rdata::CNAME},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::*;
use crate::{config, transport::free_port};

/// What the server knows: by name, the TTL and the data of its records.
type Zone = HashMap<String, Vec<(u32, RData)>>;

/// A DNS server over UDP and TCP on loopback; it ends with the test's runtime.
struct Server {
    state: Arc<State>,
    address: SocketAddr,
    dns: Dns,
}

#[derive(Default)]
struct State {
    zone: Mutex<Zone>,
    /// Names that are answered with SERVFAIL.
    broken: Mutex<HashSet<String>>,
    /// Every name that was asked for, with the type.
    asked: Mutex<Vec<(String, RecordType)>>,
    /// From which UDP ports.
    ports: Mutex<Vec<u16>>,
}

/// The longest answer over UDP (RFC 1035 §2.3.4).
const DATAGRAM: usize = 512;

impl Server {
    async fn start(records: &[(&str, RData)]) -> Self {
        // One port for both; of what the kernel gives out, a connection may have the other one.
        let address = free_port("127.0.0.1");
        let datagrams = UdpSocket::bind(address).await.unwrap();
        let streams = TcpListener::bind(address).await.unwrap();
        let server = Self {
            state: Arc::default(),
            address,
            dns: Dns::at(address, PortRange::new(20_000, 29_999).unwrap()),
        };
        server.set(records);
        let state = Arc::clone(&server.state);
        tokio::spawn(async move {
            let mut octets = [0; DATAGRAM];
            while let Ok((length, from)) = datagrams.recv_from(&mut octets).await {
                state.ports.lock().unwrap().push(from.port());
                let answer = state.answer(&octets[..length], Some(DATAGRAM));
                datagrams.send_to(&answer, from).await.unwrap();
            }
        });
        let state = Arc::clone(&server.state);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = streams.accept().await {
                while let Ok(length) = stream.read_u16().await {
                    let mut octets = vec![0; length.into()];
                    stream.read_exact(&mut octets).await.unwrap();
                    let answer = state.answer(&octets, None);
                    let length = u16::try_from(answer.len()).unwrap();
                    stream.write_u16(length).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        server
    }

    /// Knows these records from now on and no others, each for a minute.
    fn set(&self, records: &[(&str, RData)]) {
        let mut zone = Zone::new();
        for (name, data) in records {
            let known = zone.entry(format!("{name}.")).or_default();
            known.push((60, data.clone()));
        }
        *self.state.zone.lock().unwrap() = zone;
    }

    fn set_broken(&self, name: &str) {
        self.state.broken.lock().unwrap().insert(name.to_owned());
    }

    fn set_ttl(&self, name: &str, ttl: u32) {
        for (time, _) in self.state.zone.lock().unwrap().get_mut(name).unwrap() {
            *time = ttl;
        }
    }

    /// What the addresses of a UDP trunk amount to, given what was known.
    async fn find(&self, addresses: &str, known: &Lookups) -> (Vec<String>, Lookups) {
        self.find_for(&settings(addresses), known).await
    }

    /// The same where nothing is known.
    async fn find_anew(&self, addresses: &str) -> (Vec<String>, Lookups) {
        self.find(addresses, &Lookups::default()).await
    }

    async fn find_for(&self, settings: &Settings, known: &Lookups) -> (Vec<String>, Lookups) {
        let lookups = look_up_all(&self.dns, settings, known, &Lookups::default()).await;
        let resolved = settings.with_lookups(|question| lookups.get(question));
        let destinations = resolved.trunks[0].destinations.iter();
        let texts = destinations.map(|it| match it.record {
            Some(record) => format!("{} {}/{}", it.address, record.priority, record.weight),
            None => it.address.to_string(),
        });
        (texts.collect(), lookups)
    }

    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.state.asked.lock().unwrap());
        let mut texts: Vec<_> = asked
            .iter()
            .map(|(name, kind)| format!("{kind} {name}"))
            .collect();
        texts.sort();
        texts
    }
}

impl Dns {
    fn at(server: SocketAddr, media: PortRange) -> Self {
        let mut known = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut known.connections {
            connection.port = server.port();
        }
        let config = ResolverConfig::from_name_servers(vec![known]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut(), media);
        // Every question is answered: a failure, not a measure.
        builder.options_mut().timeout = Duration::from_secs(30);
        builder.options_mut().attempts = 1;
        // A round of lookups has a resolver of its own, and with it a cache of its own.
        builder.options_mut().cache_size = 0;
        Self(Some(builder.build().unwrap()))
    }
}

impl State {
    /// The answer to a query; one that is longer than `limit` is cut.
    fn answer(&self, query: &[u8], limit: Option<usize>) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries[0].clone();
        let mut owner = question.name().to_ascii().to_ascii_lowercase();
        let kind = question.query_type();
        self.asked.lock().unwrap().push((owner.clone(), kind));
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(question);
        let zone = self.zone.lock().unwrap();
        if self.broken.lock().unwrap().contains(&owner) {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer.to_vec().unwrap();
        }
        if !zone.contains_key(&owner) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        while let Some(records) = zone.get(&owner) {
            let name = Name::from_ascii(&owner).unwrap();
            let mut alias = None;
            for (ttl, data) in records {
                if let RData::CNAME(CNAME(target)) = data {
                    alias = Some(target.to_ascii());
                }
                if data.record_type() == kind || alias.is_some() {
                    answer.add_answer(Record::from_rdata(name.clone(), *ttl, data.clone()));
                }
            }
            let Some(alias) = alias else { break };
            owner = alias;
        }
        let octets = answer.to_vec().unwrap();
        if limit.is_some_and(|limit| octets.len() > limit) {
            answer.answers.clear();
            answer.metadata.truncation = true;
            return answer.to_vec().unwrap();
        }
        octets
    }
}

fn settings(addresses: &str) -> Settings {
    let text = format!(
        "[[interface]]\nname = \"lo\"\naddresses = [\"127.0.0.1\"]\n[[trunk]]\nname = \"a\"\n\
         interface = \"lo\"\ntransport = \"udp\"\nlisten = \"127.0.0.1:5060\"\n\
         addresses = [{addresses}]\n"
    );
    config::parse(&text, Path::new("test.toml")).unwrap()
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    let target = Name::from_ascii(target).unwrap();
    RData::SRV(SRV::new(priority, weight, port, target))
}

fn a(last: u8) -> RData {
    RData::A(Ipv4Addr::new(192, 0, 2, last).into())
}

/// A name with a service on one host, and with an address of its own.
fn service_and_address() -> [(&'static str, RData); 3] {
    [
        ("_sip._udp.example.com", srv(1, 1, 5070, "one.example.com.")),
        ("one.example.com", a(1)),
        ("example.com", a(9)),
    ]
}

#[tokio::test]
async fn srv_records_say_addresses_ports_priorities_and_weights() {
    let server = Server::start(&[
        (
            "_sip._udp.example.com",
            srv(20, 0, 5060, "backup.example.com."),
        ),
        (
            "_sip._udp.example.com",
            srv(10, 20, 5070, "small.example.com."),
        ),
        (
            "_sip._udp.example.com",
            srv(10, 60, 5080, "big.example.com."),
        ),
        ("big.example.com", a(3)),
        ("big.example.com", a(2)),
        ("small.example.com", a(4)),
        ("backup.example.com", a(5)),
        ("example.com", a(99)),
    ])
    .await;
    let (found, lookups) = server.find_anew("\"example.com\"").await;
    assert_eq!(
        found,
        [
            "192.0.2.2:5080 10/60",
            "192.0.2.3:5080 10/60",
            "192.0.2.4:5070 10/20",
            "192.0.2.5:5060 20/0",
        ]
    );
    assert_eq!(
        server.asked(),
        [
            "A backup.example.com.",
            "A big.example.com.",
            "A small.example.com.",
            "SRV _sip._udp.example.com.",
        ]
    );
    let again = server.find("\"example.com\"", &lookups).await.1;
    assert!(lookups.is_same(&again));
}

#[tokio::test]
async fn without_srv_records_and_with_a_port_the_addresses_are_those_of_the_name() {
    let records = [
        ("plain.example.com", a(1)),
        (
            "_sip._udp.ported.example.com",
            srv(1, 1, 5099, "plain.example.com."),
        ),
        ("ported.example.com", a(2)),
    ];
    let server = Server::start(&records).await;
    let (found, _) = server
        .find_anew("\"plain.example.com\", \"ported.example.com:5070\"")
        .await;
    assert_eq!(found, ["192.0.2.1:5060", "192.0.2.2:5070"]);
    assert_eq!(
        server.asked(),
        [
            "A plain.example.com.",
            "A ported.example.com.",
            "SRV _sip._udp.plain.example.com.",
        ]
    );
}

#[tokio::test]
async fn the_transport_and_the_family_say_what_is_asked_for() {
    let server = Server::start(&[
        ("_sip._tcp.example.com", srv(1, 1, 5070, "tcp.example.com.")),
        (
            "_sips._tcp.example.com",
            srv(1, 1, 5071, "tls.example.com."),
        ),
        ("tcp.example.com", a(1)),
        (
            "tcp.example.com",
            RData::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
        ),
        ("tls.example.com", a(2)),
    ])
    .await;
    let mut settings = settings("\"example.com\"");
    let nothing = Lookups::default();
    settings.trunks[0].transport = Transport::Tls;
    let (found, lookups) = server.find_for(&settings, &nothing).await;
    assert_eq!(found, ["192.0.2.2:5071 1/1"]);
    // RFC 5922: the certificate holds the name that was asked for, not the target's.
    let resolved = settings.with_lookups(|question| lookups.get(question));
    let name = resolved.trunks[0].destinations[0].server_name.as_deref();
    assert_eq!(name, Some("example.com"));

    settings.trunks[0].transport = Transport::Tcp;
    assert_eq!(
        server.find_for(&settings, &nothing).await.0,
        ["192.0.2.1:5070 1/1"]
    );
    settings.trunks[0].listen = "[::1]:5060".parse().unwrap();
    assert_eq!(
        server.find_for(&settings, &nothing).await.0,
        ["[2001:db8::1]:5070 1/1"]
    );
    assert!(!server.asked().iter().any(|asked| asked.contains("_udp")));
}

#[tokio::test]
async fn what_is_known_stays_while_a_lookup_fails() {
    let good = [
        ("_sip._udp.example.com", srv(1, 1, 5070, "one.example.com.")),
        ("_sip._udp.example.com", srv(2, 1, 5070, "two.example.com.")),
        ("one.example.com", a(1)),
        ("two.example.com", a(2)),
    ];
    let server = Server::start(&good).await;
    let (all, known) = server.find_anew("\"example.com\"").await;
    assert_eq!(all, ["192.0.2.1:5070 1/1", "192.0.2.2:5070 2/1"]);
    // One target is not known any more, the other has moved.
    server.set(&[good[0].clone(), good[1].clone(), ("two.example.com", a(7))]);
    let (found, known) = server.find("\"example.com\"", &known).await;
    assert_eq!(found, ["192.0.2.1:5070 1/1", "192.0.2.7:5070 2/1"]);
    // Nothing is known any more.
    server.set(&[]);
    let (found, known) = server.find("\"example.com\"", &known).await;
    assert_eq!(found, ["192.0.2.1:5070 1/1", "192.0.2.7:5070 2/1"]);
    // A name that never was known is none.
    let (found, _) = server.find("\"gone.example.com\"", &known).await;
    assert_eq!(found, [""; 0]);
    // The SRV records have gone for good, and the name has an address now.
    server.set(&[("example.com", a(9))]);
    let (found, _) = server.find("\"example.com\"", &known).await;
    assert_eq!(found, ["192.0.2.9:5060"]);
}

#[tokio::test]
async fn a_server_that_fails_does_not_turn_srv_into_a() {
    let server = Server::start(&service_and_address()).await;
    let (_, known) = server.find_anew("\"example.com\"").await;
    server.set_broken("_sip._udp.example.com.");
    let (found, known) = server.find("\"example.com\"", &known).await;
    assert_eq!(found, ["192.0.2.1:5070 1/1"]);
    assert!(known.due().is_some_and(|due| due <= Instant::now() + RETRY));
}

#[tokio::test]
async fn where_srv_was_never_answered_the_addresses_of_the_name_do() {
    let server = Server::start(&service_and_address()).await;
    server.set_broken("_sip._udp.example.com.");
    let (found, known) = server.find_anew("\"example.com\"").await;
    assert_eq!(found, ["192.0.2.9:5060"]);
    assert!(known.due().is_some_and(|due| due <= Instant::now() + RETRY));
    server.state.broken.lock().unwrap().clear();
    let (found, _) = server.find("\"example.com\"", &known).await;
    assert_eq!(found, ["192.0.2.1:5070 1/1"]);
}

#[tokio::test]
async fn a_target_of_a_dot_says_that_there_is_no_service() {
    let server = Server::start(&[
        ("_sip._udp.example.com", srv(0, 0, 0, ".")),
        ("example.com", a(1)),
    ])
    .await;
    let (found, _) = server.find_anew("\"example.com\"").await;
    assert_eq!(found, [""; 0]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_a_datagram_is_asked_for_over_tcp() {
    let names: Vec<String> = (1..=40)
        .map(|number| format!("proxy-{number}.a-name-that-takes-some-room.example.com"))
        .collect();
    let mut records: Vec<(&str, RData)> = Vec::new();
    for (number, name) in (1..).zip(&names) {
        records.push((
            "_sip._udp.example.com",
            srv(number, 1, 5060, &format!("{name}.")),
        ));
        records.push((name, a(u8::try_from(number).unwrap())));
    }
    let server = Server::start(&records).await;
    let (found, _) = server.find_anew("\"example.com\"").await;
    assert_eq!(found.len(), 40);
    assert_eq!(found[39], "192.0.2.40:5060 40/1");
}

#[tokio::test]
async fn only_so_many_records_are_used_the_preferred_ones_first() {
    let mut records = vec![("one.example.com", a(1))];
    for number in (1..=100).rev() {
        let record = srv(number, 1, 5000 + number, "one.example.com.");
        records.push(("_sip._udp.example.com", record));
    }
    let server = Server::start(&records).await;
    let (found, _) = server.find_anew("\"example.com\"").await;
    assert_eq!(found.len(), RECORDS);
    assert_eq!(found[0], "192.0.2.1:5001 1/1");
}

#[tokio::test]
async fn only_so_many_addresses_are_used() {
    let mut records = Vec::new();
    for (number, host) in [(1, "one.example.com"), (2, "two.example.com")] {
        let record = srv(number, 1, 5060, &format!("{host}."));
        records.push(("_sip._udp.example.com", record));
        records.extend((1..=200).map(|last| (host, a(last))));
    }
    let server = Server::start(&records).await;
    for name in ["\"one.example.com:5060\"", "\"example.com\""] {
        let (found, _) = server.find_anew(name).await;
        assert_eq!(found.len(), RECORDS, "{name}");
        assert!(found[63].starts_with("192.0.2.64:5060"), "{found:?}");
    }
}

#[tokio::test]
async fn aliases_are_followed() {
    let alias = RData::CNAME(CNAME(Name::from_ascii("real.example.com.").unwrap()));
    let server = Server::start(&[("alias.example.com", alias), ("real.example.com", a(1))]).await;
    let (found, _) = server.find_anew("\"alias.example.com:5060\"").await;
    assert_eq!(found, ["192.0.2.1:5060"]);
}

#[tokio::test]
async fn an_answer_holds_for_its_ttl_within_bounds() {
    let server = Server::start(&service_and_address()).await;
    for (services, host, least, most) in [
        (0, 3600, LEAST, LEAST),
        (3600, 0, LEAST, LEAST),
        (3600, 100_000, MOST, MOST),
        (60, 40, Duration::from_secs(39), Duration::from_secs(40)),
    ] {
        server.set_ttl("_sip._udp.example.com.", services);
        server.set_ttl("one.example.com.", host);
        let before = Instant::now();
        let (found, lookups) = server.find_anew("\"example.com\"").await;
        assert_eq!(found, ["192.0.2.1:5070 1/1"]);
        let due = lookups.due().unwrap();
        assert!(due >= before + least, "{services} {host}");
        assert!(due <= Instant::now() + most, "{services} {host}");
        // What is not due is not asked for.
        assert!(lookups.fresh(due).due().is_none());
        server.asked();
        let settings = settings("\"example.com\"");
        let fresh = lookups.fresh(before);
        look_up_all(&server.dns, &settings, &lookups, &fresh).await;
        assert_eq!(server.asked(), [""; 0]);
    }
}

#[tokio::test]
async fn a_change_is_told_from_the_same_in_another_order() {
    let records = [
        ("_sip._udp.example.com", srv(1, 5, 5070, "one.example.com.")),
        ("_sip._udp.example.com", srv(1, 5, 5070, "two.example.com.")),
        ("one.example.com", a(1)),
        ("two.example.com", a(2)),
        ("two.example.com", a(3)),
    ];
    let server = Server::start(&records).await;
    let (_, known) = server.find_anew("\"example.com\"").await;
    let mut turned = records.clone();
    turned.reverse();
    server.set(&turned);
    let (_, same) = server.find("\"example.com\"", &known).await;
    assert!(known.is_same(&same));
    turned[0] = ("two.example.com", a(4));
    server.set(&turned);
    let (found, changed) = server.find("\"example.com\"", &known).await;
    assert!(!known.is_same(&changed));
    assert!(
        found.contains(&"192.0.2.4:5070 1/5".to_owned()),
        "{found:?}"
    );
}

#[tokio::test]
async fn what_only_the_system_knows_is_found_too() {
    let settings = settings("\"localhost:5070\"");
    // No server at all.
    let lookups = look_up_all(
        &Dns(None),
        &settings,
        &Lookups::default(),
        &Lookups::default(),
    )
    .await;
    let resolved = settings.with_lookups(|question| lookups.get(question));
    let addresses: Vec<_> = resolved.trunks[0]
        .destinations
        .iter()
        .map(|destination| destination.address.to_string())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:5070"]);
}

#[tokio::test]
async fn questions_leave_from_no_media_port() {
    let server = Server::start(&[("sbc.example", a(1))]).await;
    // Below those that the kernel gives out by itself.
    let media = PortRange::new(1024, 32_767).unwrap();
    let dns = Dns::at(server.address, media);
    let settings = settings("\"sbc.example:5060\"");
    for _ in 0..30 {
        let nothing = Lookups::default();
        look_up_all(&dns, &settings, &nothing, &nothing).await;
    }
    let ports = std::mem::take(&mut *server.state.ports.lock().unwrap());
    assert!(ports.len() >= 30, "{ports:?}");
    assert!(!ports.iter().any(|port| media.contains(*port)), "{ports:?}");
}
