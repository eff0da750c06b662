//! What a scrape gets, held against OpenMetrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use relay_user::{
    media::{MediaSnapshot, PortUse, Reason, ReasonCounters},
    offload::{InterfaceState, XdpMode},
};

use super::{exposition, figures::Figures, server::MetricsServer};
use crate::{
    call::{CallState, CoreStatistics, Direction, PeerSnapshot, PeerState, TrunkSnapshot},
    config::{self, Rank},
    daemon::{Phase, testing},
    transport::{Discard, Discards},
};

/// Reads a text as OpenMetrics 1.0 asks for, and gives the samples. Panics at the first fault.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family: Option<(String, String)> = None;
    let name = |text: &str| {
        assert!(
            text.chars()
                .next()
                .is_some_and(|first| first.is_ascii_alphabetic())
                && text
                    .chars()
                    .all(|character| character.is_ascii_alphanumeric() || character == '_'),
            "{text:?} is no name"
        );
        text.to_owned()
    };
    let mut help = None;
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (metric, words) = rest.split_once(' ').expect("a help text");
            assert!(!words.is_empty(), "{line}");
            help = Some(name(metric));
            family = None;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (metric, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(help.as_deref(), Some(metric), "HELP comes before TYPE");
            assert!(families.insert(metric.to_owned()), "{metric} comes twice");
            assert!(metric.starts_with("trunkline_"), "{metric}");
            assert!(!metric.ends_with("_total"), "{metric}");
            family = Some((metric.to_owned(), kind.to_owned()));
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            let (metric, labels) = match series.split_once('{') {
                Some((metric, labels)) => (metric, labels.strip_suffix('}').expect("a brace")),
                None => (series, ""),
            };
            check_labels(labels);
            let (family, kind) = family.as_ref().expect("a family");
            if kind == "counter" {
                assert_eq!(metric, format!("{family}_total"));
                assert!(value >= 0.0);
            } else {
                assert_eq!(metric, family);
            }
            assert!(value.is_finite(), "{line}");
            assert!(
                samples.insert(series.to_owned(), value).is_none(),
                "{series} comes twice"
            );
        }
    }
    samples
}

/// `name="value"` with commas between; quotes, backslashes and line ends are escaped.
fn check_labels(mut text: &str) {
    let mut names = BTreeSet::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect("a label");
        assert!(names.insert(name), "the label {name} comes twice");
        let mut escaped = false;
        let end = rest
            .find(|character| {
                let ends = character == '"' && !escaped;
                escaped = character == '\\' && !escaped;
                ends
            })
            .expect("a closing quote");
        text = rest.get(end + 1..).unwrap_or_default();
        if let Some(next) = text.strip_prefix(',') {
            assert!(!next.is_empty(), "a comma at the end");
            text = next;
        } else {
            assert!(text.is_empty(), "{text:?} after a label");
        }
    }
}

fn settings() -> config::Settings {
    let text = "[[interface]]\nname = \"eth0\"\naddresses = [\"192.0.2.1\"]\n\
        [[trunk]]\nname = \"carrier\"\ninterface = \"eth0\"\ntransport = \"udp\"\n\
        listen = \"192.0.2.1:5060\"\naddresses = [\"192.0.2.2\"]\n";
    config::parse(text, Path::new("test.toml")).unwrap()
}

fn trunks() -> Vec<TrunkSnapshot> {
    let peer = |address: &str| PeerSnapshot {
        address: address.parse().unwrap(),
        name: None,
        entry: Rank {
            priority: 1,
            weight: 1,
            place: 0,
        },
        record: None,
        state: PeerState::Up,
        why: None,
        since: None,
        held_until: None,
        heard: None,
        last: None,
        round_trip: Some(Duration::from_millis(250)),
        calls: 4,
        openings: 0,
    };
    vec![TrunkSnapshot {
        name: "carrier".into(),
        asked_every: None,
        calls: 4,
        registration: None,
        peers: vec![
            peer("198.51.100.2:5060"),
            PeerSnapshot {
                state: PeerState::Down,
                round_trip: None,
                openings: 7,
                ..peer("198.51.100.3:5060")
            },
        ],
    }]
}

#[test]
fn what_was_counted_is_shown() {
    let mut core = CoreStatistics::default();
    core.calls.insert(("gone".into(), CallState::Ringing), 3);
    core.responses
        .insert(("carrier".into(), Direction::Sent, 503), 4);
    core.refused.insert(("carrier".into(), "trunk-rate"), 2);
    let media = MediaSnapshot {
        interfaces: vec![InterfaceState {
            name: "eth0".to_owned(),
            index: Some(2),
            mode: XdpMode::Generic,
            why: "the driver said \"no\\\"".to_owned(),
        }],
        kernel: vec![(
            Reason::ForeignSource,
            ReasonCounters {
                packets: 5,
                octets: 600,
            },
        )],
        srtp_failures: vec![("xdp", "replay", 6), ("userspace", "srtp-replay", 1)],
        next_hops_unresolved: 1,
        events_lost: 9,
        ports: vec![PortUse {
            interface: "eth0".to_owned(),
            used: 2,
            total: 5_000,
        }],
        ..MediaSnapshot::default()
    };
    let text = exposition::text(
        Figures {
            phase: Phase::Draining,
            settings: &settings(),
            core: &core,
            calls: &[],
            trunks: &trunks(),
            media: &media,
            discards: &Discards::default(),
            connections: 8,
        }
        .metrics(),
    )
    .unwrap();
    let samples = samples(&text);
    for (series, value) in [
        ("trunkline_ready", 0.0),
        (
            "trunkline_calls_refused_total{trunk=\"carrier\",reason=\"trunk-rate\"}",
            2.0,
        ),
        (
            "trunkline_peer_up{trunk=\"carrier\",address=\"198.51.100.2:5060\"}",
            1.0,
        ),
        (
            "trunkline_peer_up{trunk=\"carrier\",address=\"198.51.100.3:5060\"}",
            0.0,
        ),
        (
            "trunkline_peer_round_trip_seconds{trunk=\"carrier\",address=\"198.51.100.2:5060\"}",
            0.25,
        ),
        (
            "trunkline_peer_calls{trunk=\"carrier\",address=\"198.51.100.2:5060\"}",
            4.0,
        ),
        (
            "trunkline_peer_openings_total{trunk=\"carrier\",address=\"198.51.100.3:5060\"}",
            7.0,
        ),
        ("trunkline_calls{trunk=\"carrier\",state=\"ringing\"}", 0.0),
        ("trunkline_calls{trunk=\"gone\",state=\"ringing\"}", 3.0),
        (
            "trunkline_responses_total{trunk=\"carrier\",direction=\"sent\",code=\"503\"}",
            4.0,
        ),
        (
            "trunkline_discards_total{place=\"edge\",reason=\"oversized\"}",
            0.0,
        ),
        ("trunkline_connections", 8.0),
        (
            "trunkline_packets_total{path=\"xdp\",verdict=\"drop\",reason=\"foreign-source\"}",
            5.0,
        ),
        (
            "trunkline_octets_total{path=\"xdp\",verdict=\"drop\",reason=\"foreign-source\"}",
            600.0,
        ),
        (
            "trunkline_srtp_failures_total{path=\"xdp\",reason=\"replay\"}",
            6.0,
        ),
        (
            "trunkline_srtp_failures_total{path=\"userspace\",reason=\"srtp-replay\"}",
            1.0,
        ),
        ("trunkline_srtp_alarms{trunk=\"carrier\"}", 0.0),
        ("trunkline_srtp_xdp{why=\"\"}", 0.0),
        ("trunkline_next_hops_unresolved", 1.0),
        ("trunkline_events_lost_total", 9.0),
        ("trunkline_media_port_pairs_used{interface=\"eth0\"}", 2.0),
        (
            "trunkline_interface_xdp{interface=\"eth0\",mode=\"generic\",why=\"the driver said \\\"no\\\\\\\"\"}",
            1.0,
        ),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{text}");
    }
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_server_shows_metrics_health_and_readiness() {
    let running = testing::daemon().await;
    let server = MetricsServer::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = server.address().unwrap();
    tokio::spawn(server.run(running.handle.clone()));
    let fetch = |path: &'static str| async move {
        tokio::task::spawn_blocking(move || get(address, path))
            .await
            .unwrap()
    };
    let (head, body) = fetch("/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        ),
        "{head}"
    );
    assert_eq!(samples(&body).get("trunkline_ready"), Some(&1.0));
    assert_eq!(fetch("/healthz").await.1, "ok\n");
    let (head, body) = fetch("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "ready\n");
    let discards = running.handle.discards();
    assert_eq!(discards.get(Discard::MetricsRequest), 0);
    assert!(fetch("/other").await.0.starts_with("HTTP/1.1 404 "));
    for garbage in [&b"\xff\r\n\r\n"[..], b"GET /metrics HTTP/1.1\r\nHo"] {
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(garbage).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        })
        .await
        .unwrap();
    }
    let counted = async {
        while discards.get(Discard::MetricsRequest) < 3 {
            tokio::task::yield_now().await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(30), counted).await;
    counted.expect("each is counted in time");

    running.end().await;
    let (head, body) = fetch("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "draining\n");
    for path in ["/healthz", "/metrics"] {
        assert!(fetch(path).await.0.starts_with("HTTP/1.1 503 "));
    }
}
