//! OPTIONS to the trunks' addresses, and their circuits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{CallState, Heard, PeerSnapshot, PeerState},
    sip::{ConnectionId, Flow, HeaderName, Message, Method, Request, Response, Transport},
};

const SECOND: Duration = Duration::from_secs(1);
const ASKED: &str = "options.interval_seconds = 20\noptions.timeout_seconds = 5";

/// The centre's addresses are asked every 20 seconds.
fn asked(keys: &str) -> Bench {
    let mut bench = Bench::keyed("", &format!("{ASKED}\n{keys}"));
    bench.core.watch(bench.now);
    bench.pass(SECOND / 10);
    bench
}

fn options(bench: &mut Bench, peer: &str) -> Request {
    bench.request(peer, Method::Options)
}

fn answer(bench: &mut Bench, peer: &str, status: u16) {
    let request = options(bench, peer);
    bench.give(peer, Response::to_request(&request, status, Some("o")));
}

fn both_answer(bench: &mut Bench, status: u16) {
    for peer in [CENTRE, SECOND_CENTRE] {
        answer(bench, peer, status);
    }
}

fn peer(bench: &Bench, address: &str) -> PeerSnapshot {
    let trunks = bench.core.trunk_snapshots();
    let peers = trunks.into_iter().flat_map(|trunk| trunk.peers);
    peers
        .into_iter()
        .find(|peer| peer.address == super::bench::address(address))
        .unwrap()
}

fn state(bench: &Bench, address: &str) -> PeerState {
    peer(bench, address).state
}

/// What was logged of addresses, and no more of it.
fn logged(bench: &mut Bench) -> Vec<String> {
    bench
        .peers
        .drain(..)
        .map(|event| event.to_string())
        .collect()
}

/// A new call from the carrier.
fn dial(bench: &mut Bench) -> Phone {
    // What was sent again is of no interest here.
    bench.sent.clear();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    caller.call_id = format!("{}-{number}", caller.call_id).into();
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    caller
}

/// Where a call goes first; it is refused there.
fn goes_to(bench: &mut Bench) -> Option<&'static str> {
    dial(bench);
    bench.response(CARRIER, 100);
    let at = [CENTRE, SECOND_CENTRE]
        .into_iter()
        .find(|peer| bench.sent.iter().any(|(to, _)| to.remote == address(peer)))?;
    let invite = bench.request(at, Method::Invite);
    bench.give(at, Response::to_request(&invite, 486, Some("b")));
    bench.request(at, Method::Ack);
    bench.response(CARRIER, 486);
    Some(at)
}

fn refused_with(bench: &mut Bench, status: u16) -> Response {
    dial(bench);
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, status);
    bench.silent();
    refusal
}

#[test]
fn every_address_is_asked_at_the_interval_and_no_other() {
    let mut bench = asked("domain = \"sbc.example.com\"");
    for _ in 0..3 {
        for peer in [CENTRE, SECOND_CENTRE] {
            let request = options(&mut bench, peer);
            assert_eq!(
                request.uri.to_string(),
                format!("sip:{}", address(peer).ip())
            );
            let contact = request.headers.contact().unwrap();
            assert_eq!(contact.uri.to_string(), "sip:sbc.example.com:5060");
            let from = request.headers.from().unwrap();
            assert_eq!(from.uri.to_string(), "sip:sbc.example.com");
            let via = request.headers.text(HeaderName::Via).unwrap();
            assert!(
                via.starts_with("SIP/2.0/UDP sbc.example.com:5060;"),
                "{via}"
            );
            assert!(request.headers.has(HeaderName::Allow));
            bench.give(peer, Response::to_request(&request, 200, Some("o")));
        }
        bench.silent();
        bench.pass(SECOND * 20 - SECOND / 5);
        bench.silent();
        bench.pass(SECOND / 5);
    }
    assert!(logged(&mut bench).is_empty());
}

#[test]
fn teams_is_asked_once_a_minute_over_tls_in_our_name() {
    let teams = SETTINGS
        .replace(
            "transport = \"udp\"\nlisten = \"192.0.2.1:5060\"\naddresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
            "transport = \"tls\"\nlisten = \"192.0.2.1:5061\"\naddresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]\n\
             domain = \"sbc.example.com\"\nsip.profile = \"teams\"\n\
             tls.certificate = \"CERTIFICATE\"\ntls.key = \"KEY\"\ntls.roots = \"CERTIFICATE\"\n\
             tls.server_name = \"sip.pstnhub.microsoft.com\"",
        );
    let identity = rcgen::generate_simple_self_signed(["sbc.example.com".to_owned()]).unwrap();
    let folder = std::env::temp_dir();
    let path = |what: &str| folder.join(format!("trunkline-health-{what}-{}", std::process::id()));
    std::fs::write(path("certificate"), identity.cert.pem()).unwrap();
    std::fs::write(path("key"), identity.signing_key.serialize_pem()).unwrap();
    let teams = teams
        .replace("CERTIFICATE", path("certificate").to_str().unwrap())
        .replace("KEY", path("key").to_str().unwrap());
    let mut bench = Bench::with(&teams);
    for what in ["certificate", "key"] {
        std::fs::remove_file(path(what)).unwrap();
    }
    bench.core.watch(bench.now);
    bench.pass(SECOND);
    for _ in 0..2 {
        for peer in [CENTRE, SECOND_CENTRE] {
            let (target, message) = bench.next(peer).unwrap();
            assert_eq!(target.transport, Transport::Tls);
            assert_eq!(
                target.server_name.as_deref(),
                Some("sip.pstnhub.microsoft.com")
            );
            let Message::Request(request) = message else {
                panic!("{message:?}");
            };
            let text = String::from_utf8(request.to_bytes().to_vec()).unwrap();
            assert!(
                text.starts_with("OPTIONS sip:sip.pstnhub.microsoft.com"),
                "{text}"
            );
            assert!(text.contains("Contact: <sip:sbc.example.com:5061;transport=tls>\r\n"));
            assert!(text.contains("\r\nVia: SIP/2.0/TLS sbc.example.com:5061;"));
            assert!(text.contains(";alias"));
            assert!(text.contains("\r\nX-MS-SBC: Trunkline/SBC/"));
            assert!(
                !text.contains("sips:") && !text.contains("192.0.2."),
                "{text}"
            );
            let flow = Flow {
                connection: Some(ConnectionId(1)),
                ..target
            };
            bench.give_over(&flow, Response::to_request(&request, 200, Some("o")));
        }
        bench.silent();
        bench.pass(SECOND * 59 - SECOND / 10);
        bench.silent();
        bench.pass(SECOND + SECOND / 10);
    }
}

#[test]
fn who_does_not_answer_gets_no_calls_until_an_options_is_answered() {
    let mut bench = asked("");
    assert_eq!(state(&bench, CENTRE), PeerState::Untried);
    options(&mut bench, CENTRE);
    answer(&mut bench, SECOND_CENTRE, 200);
    assert_eq!(goes_to(&mut bench), Some(CENTRE), "nothing is known yet");
    bench.pass(SECOND * 5);
    assert_eq!(
        logged(&mut bench),
        [format!(
            "trunk centre address {CENTRE} is out of service: no answer to OPTIONS"
        )]
    );
    let down = peer(&bench, CENTRE);
    assert_eq!(down.state, PeerState::Down);
    assert_eq!(down.last.map(|(_, heard)| heard), Some(Heard::Nothing));
    assert_eq!(goes_to(&mut bench), Some(SECOND_CENTRE));

    // Still nothing: nothing more is logged.
    bench.pass(SECOND * 20);
    bench.sent.clear();
    bench.pass(SECOND * 15 - SECOND / 5);
    assert_eq!(state(&bench, CENTRE), PeerState::Down);
    assert!(!logged(&mut bench).iter().any(|line| line.contains(CENTRE)));
    bench.sent.clear();
    // 40 s after the first.
    bench.pass(SECOND / 10);
    bench.now += SECOND / 4;
    answer(&mut bench, CENTRE, 200);
    assert_eq!(
        logged(&mut bench),
        [format!("trunk centre address {CENTRE} is in service again")]
    );
    let up = peer(&bench, CENTRE);
    assert_eq!(up.state, PeerState::Up);
    assert_eq!(up.since, Some(bench.now));
    assert_eq!(up.round_trip, Some(SECOND / 4));
    assert_eq!(up.openings, 1);
    assert_eq!(goes_to(&mut bench), Some(CENTRE));
}

#[test]
fn refusals_are_shown_and_only_some_put_out_of_service() {
    for (keys, status, is_down) in [
        ("", 200, false),
        ("", 403, false),
        ("", 404, false),
        ("", 405, false),
        ("", 500, false),
        ("", 408, true),
        ("", 503, true),
        ("", 504, true),
        ("options.down_codes = [403]", 403, true),
        ("options.down_codes = [403]", 503, false),
    ] {
        let mut bench = asked(keys);
        answer(&mut bench, CENTRE, status);
        let peer = peer(&bench, CENTRE);
        let state = if is_down {
            PeerState::Down
        } else {
            PeerState::Up
        };
        assert_eq!(peer.state, state, "{status} {keys}");
        assert_eq!(
            peer.last.map(|(_, heard)| heard),
            Some(Heard::Status(status))
        );
        let why = is_down.then(|| format!("{status} to OPTIONS"));
        assert_eq!(peer.why, why);
    }
}

#[test]
fn whoever_was_heard_from_lately_may_miss_an_options() {
    let mut bench = asked("options.grace_seconds = 30");
    answer(&mut bench, CENTRE, 200);
    options(&mut bench, SECOND_CENTRE);
    // It asks us instead.
    let mut phone = Phone::caller(SECOND_CENTRE, "ping");
    bench.give(SECOND_CENTRE, phone.request(Method::Options));
    bench.response(SECOND_CENTRE, 200);
    bench.pass(SECOND * 26);
    assert_eq!(state(&bench, SECOND_CENTRE), PeerState::Untried);
    bench.pass(SECOND * 20);
    for peer in [CENTRE, SECOND_CENTRE] {
        assert_eq!(
            state(&bench, peer),
            PeerState::Down,
            "45 s after it was heard"
        );
    }
}

#[test]
fn with_all_out_of_service_calls_are_refused_at_once_and_those_that_are_up_stay() {
    for (keys, status) in [("", 503), ("sip.unavailable_code = 480", 480)] {
        let mut bench = asked(keys);
        both_answer(&mut bench, 200);
        let (mut caller, callee) = bring_up(&mut bench);
        bench.pass(SECOND * 20);
        bench.sent.clear();
        bench.pass(SECOND * 5);
        for peer in [CENTRE, SECOND_CENTRE] {
            assert_eq!(state(&bench, peer), PeerState::Down);
        }
        let refusal = refused_with(&mut bench, status);
        assert!(!refusal.headers.has(HeaderName::RetryAfter));
        assert_eq!(bench.core.calls()[0].state, CallState::Established);

        // Both are back by the next OPTIONS.
        bench.pass(SECOND * 14);
        bench.sent.clear();
        bench.pass(SECOND);
        both_answer(&mut bench, 200);
        assert_eq!(goes_to(&mut bench), Some(CENTRE));
        bench.sent.clear();
        bench.give(CARRIER, caller.request(Method::Bye));
        bench.response(CARRIER, 200);
        let bye = bench.request(CENTRE, Method::Bye);
        bench.give(CENTRE, callee.answer(&bye, 200, &Bytes::new()));
        assert!(bench.core.calls().is_empty());
    }
}

#[test]
fn a_route_may_name_who_takes_calls_meanwhile() {
    let text = SETTINGS
        .replace(
            "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
            &format!("addresses = [\"192.0.2.2:5060\"]\n{ASKED}"),
        )
        .replace(
            "trunk = \"centre\"",
            "trunk = \"centre\"\nfallback = [\"second\"]",
        )
        + "[[trunk]]\nname = \"second\"\ninterface = \"centre0\"\ntransport = \"udp\"\n\
           listen = \"192.0.2.1:5070\"\naddresses = [\"192.0.2.3:5060\"]\n";
    let mut bench = Bench::with(&text);
    bench.core.watch(bench.now);
    bench.pass(SECOND);
    answer(&mut bench, CENTRE, 200);
    assert_eq!(goes_to(&mut bench), Some(CENTRE));
    bench.pass(SECOND * 20);
    answer(&mut bench, CENTRE, 503);
    dial(&mut bench);
    bench.response(CARRIER, 100);
    bench.request(SECOND_CENTRE, Method::Invite);
}

#[test]
fn a_call_without_any_response_opens_the_circuit_and_options_close_it() {
    let mut bench = asked("sip.answer_seconds = 3");
    both_answer(&mut bench, 200);
    bench.pass(SECOND);
    dial(&mut bench);
    bench.request(CENTRE, Method::Invite);
    bench.sent.clear();
    bench.pass(SECOND * 3);
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    bench.give(SECOND_CENTRE, Response::to_request(&second, 486, Some("b")));
    // It is asked at once; the answer, when it comes, closes the circuit.
    let is_options = |message: &Message| matches!(message, Message::Request(request) if request.method == Method::Options);
    let probe = bench
        .sent
        .iter()
        .find(|(_, message)| is_options(message))
        .cloned();
    assert_eq!(
        logged(&mut bench),
        [format!(
            "trunk centre address {CENTRE} is out of service: no answer to an INVITE"
        )]
    );
    assert_eq!(goes_to(&mut bench), Some(SECOND_CENTRE));
    assert_eq!(state(&bench, CENTRE), PeerState::Down);
    bench.sent.extend(probe);
    answer(&mut bench, CENTRE, 200);
    assert_eq!(goes_to(&mut bench), Some(CENTRE));
}

#[test]
fn a_call_that_was_answered_with_100_says_nothing_against_its_address() {
    let mut bench = asked("sip.answer_seconds = 3");
    both_answer(&mut bench, 200);
    bench.pass(SECOND);
    dial(&mut bench);
    let first = bench.request(CENTRE, Method::Invite);
    bench.give(CENTRE, Response::to_request(&first, 100, None));
    bench.pass(SECOND * 3);
    bench.request(CENTRE, Method::Cancel);
    bench.request(SECOND_CENTRE, Method::Invite);
    assert!(logged(&mut bench).is_empty());
}

#[test]
fn retry_after_is_kept_although_options_are_answered() {
    let mut bench = asked("");
    both_answer(&mut bench, 200);
    dial(&mut bench);
    let invite = bench.request(CENTRE, Method::Invite);
    let busy = Response::to_request(&invite, 503, Some("b")).with(HeaderName::RetryAfter, "30");
    let told = bench.now;
    bench.give(CENTRE, busy);
    bench.request(CENTRE, Method::Ack);
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    bench.give(SECOND_CENTRE, Response::to_request(&second, 486, Some("b")));
    assert_eq!(peer(&bench, CENTRE).held_until, Some(told + SECOND * 30));
    bench.sent.clear();
    bench.pass(SECOND / 10);
    answer(&mut bench, CENTRE, 200);
    assert_eq!(goes_to(&mut bench), Some(SECOND_CENTRE));
    bench.now = told + SECOND * 30 - SECOND / 10;
    assert_eq!(goes_to(&mut bench), Some(SECOND_CENTRE));
    bench.pass(SECOND / 10);
    assert_eq!(state(&bench, CENTRE), PeerState::Up);
    assert_eq!(goes_to(&mut bench), Some(CENTRE));
    assert!(bench.closed.is_empty(), "that is for Teams alone");
}

#[test]
fn the_longest_retry_after_is_five_minutes() {
    let mut bench = Bench::new();
    dial(&mut bench);
    let invite = bench.request(CENTRE, Method::Invite);
    let busy = Response::to_request(&invite, 503, Some("b"))
        .with(HeaderName::RetryAfter, "4000000000 (for ever)");
    bench.give(CENTRE, busy);
    let held = peer(&bench, CENTRE).held_until;
    assert_eq!(held, Some(bench.now + SECOND * 300));
}

#[test]
fn without_options_an_address_that_failed_rests_for_a_minute() {
    let mut bench = Bench::keyed("", "sip.answer_seconds = 3");
    dial(&mut bench);
    bench.pass(SECOND * 3);
    assert_eq!(state(&bench, CENTRE), PeerState::Down);
    bench.sent.clear();
    // The other one is tried first, and the one that failed after it.
    dial(&mut bench);
    bench.response(CARRIER, 100);
    let invite = bench.request(SECOND_CENTRE, Method::Invite);
    bench.give(SECOND_CENTRE, Response::to_request(&invite, 503, Some("b")));
    bench.request(SECOND_CENTRE, Method::Ack);
    let invite = bench.request(CENTRE, Method::Invite);
    // Whoever answers is there.
    bench.give(CENTRE, Response::to_request(&invite, 486, Some("b")));
    assert_eq!(state(&bench, CENTRE), PeerState::Up);

    bench.pass(SECOND);
    dial(&mut bench);
    bench.pass(SECOND * 3);
    assert_eq!(state(&bench, CENTRE), PeerState::Down);
    bench.pass(SECOND * 60);
    assert_eq!(state(&bench, CENTRE), PeerState::Up);
    assert_eq!(goes_to(&mut bench), Some(CENTRE));
}

#[test]
fn a_503_without_retry_after_means_nothing_where_nobody_asks() {
    let mut bench = Bench::new();
    dial(&mut bench);
    let invite = bench.request(CENTRE, Method::Invite);
    bench.give(CENTRE, Response::to_request(&invite, 503, Some("b")));
    bench.request(SECOND_CENTRE, Method::Invite);
    assert_eq!(state(&bench, CENTRE), PeerState::Up);
}

#[test]
fn options_over_a_connection_that_broke_go_out_once_more() {
    let mut bench = asked("");
    let flow = Flow::udp(address(LISTEN_CENTRE), address(CENTRE));
    options(&mut bench, CENTRE);
    bench.core.connection_closed(bench.now, &flow);
    bench.pass(Duration::from_millis(1));
    options(&mut bench, CENTRE);
    assert_eq!(state(&bench, CENTRE), PeerState::Untried);
    bench.core.connection_closed(bench.now, &flow);
    bench.collect();
    assert_eq!(
        logged(&mut bench),
        [format!(
            "trunk centre address {CENTRE} is out of service: no connection for OPTIONS"
        )]
    );
}

#[test]
fn teams_has_the_connection_closed_over_which_it_asked_to_be_left_alone() {
    let mut bench = Bench::teams("");
    dial(&mut bench);
    let (target, message) = bench.next(CENTRE).unwrap();
    let Message::Request(invite) = message else {
        panic!("{message:?}");
    };
    let flow = Flow {
        connection: Some(ConnectionId(7)),
        ..target
    };
    let busy = Response::to_request(&invite, 503, Some("b")).with(HeaderName::RetryAfter, "30");
    bench.give_over(&flow, busy);
    assert_eq!(bench.closed, [flow]);
    bench.request(CENTRE, Method::Ack);
    bench.request(SECOND_CENTRE, Method::Invite);
}

#[test]
fn new_settings_keep_what_is_known_of_an_address() {
    let mut bench = asked("");
    answer(&mut bench, CENTRE, 503);
    answer(&mut bench, SECOND_CENTRE, 200);
    logged(&mut bench);
    let text = SETTINGS.replace(
        "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
        &format!("addresses = [\"192.0.2.4:5060\", \"192.0.2.2:5060\"]\n{ASKED}"),
    );
    bench.core.reconfigure(bench.now, settings(&text));
    bench.pass(SECOND / 4);
    assert_eq!(state(&bench, CENTRE), PeerState::Down);
    assert_eq!(state(&bench, "192.0.2.4:5060"), PeerState::Untried);
    options(&mut bench, "192.0.2.4:5060");
    bench.silent();
    // The next one comes at its time, and the address that is gone is asked no more.
    bench.sent.clear();
    bench.pass(SECOND * 20);
    options(&mut bench, CENTRE);
    assert!(bench.next(SECOND_CENTRE).is_none());

    // Without OPTIONS nobody would ever find out that it is back.
    let silent = text.replace(ASKED, "");
    bench.core.reconfigure(bench.now, settings(&silent));
    bench.sent.clear();
    bench.pass(SECOND * 60);
    assert_eq!(state(&bench, CENTRE), PeerState::Up);
    bench
        .core
        .reconfigure(bench.now, Arc::clone(&settings(SETTINGS)));
}

#[test]
fn who_shuts_down_asks_no_more() {
    let mut bench = asked("");
    both_answer(&mut bench, 200);
    bench.core.drain();
    bench.pass(SECOND * 100);
    bench.silent();
}

#[test]
fn a_call_in_an_emergency_is_tried_whoever_is_out_of_service() {
    let text = SETTINGS
        .replace(
            "ring_seconds = 60",
            "ring_seconds = 60\nemergency = [\"^112$\"]",
        )
        .replace("^\\\\+1555", "^(\\\\+1555|112)")
        .replace(
            "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
            &format!("addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]\n{ASKED}"),
        );
    let mut bench = Bench::with(&text);
    bench.core.watch(bench.now);
    bench.pass(SECOND / 10);
    both_answer(&mut bench, 503);
    refused_with(&mut bench, 503);
    let mut caller = Phone::caller(CARRIER, "112");
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    let invite = bench.request(CENTRE, Method::Invite);
    bench.give(CENTRE, Response::to_request(&invite, 503, Some("b")));
    bench.request(CENTRE, Method::Ack);
    bench.request(SECOND_CENTRE, Method::Invite);
}
