//! Requests that begin no call, those that are refused, and the way that messages take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{Direction, Discard},
    sip::{ConnectionId, Flow, HeaderName, Message, Method, Request, Transport},
};

const NONE: Bytes = Bytes::new();

#[test]
fn options_is_answered() {
    let mut bench = Bench::new();
    let mut peer = Phone::caller(CARRIER, "ping");
    bench.give(CARRIER, peer.request(Method::Options));
    let ok = bench.response(CARRIER, 200);
    assert!(ok.headers.has_token(HeaderName::Allow, "INFO"));
    assert!(ok.headers.has_token(HeaderName::Allow, "REFER"));
    assert!(!ok.headers.has_token(HeaderName::Allow, "SUBSCRIBE"));
    assert!(ok.headers.has_token(HeaderName::Accept, "application/sdp"));
    bench.finished();
}

#[test]
fn a_stranger_is_not_answered_and_counted() {
    let mut bench = Bench::new();
    let mut stranger = Phone::caller("203.0.113.9:5060", "+15551234");
    let invite = stranger.invite(&sdp(CARRIER, 4000, ""));
    let flow = Flow::udp(address(LISTEN_CARRIER), address("203.0.113.9:5060"));
    bench.give_over(&flow, invite);
    bench
        .core
        .receive(bench.now, &flow, &"rubbish\r\n\r\n".into());
    bench.collect();
    bench.silent();
    let discards = bench.core.statistics().discards;
    assert_eq!(discards[&Discard::UnknownSource], 1);
    assert_eq!(discards[&Discard::Malformed("start-line")], 1);
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_the_reason() {
    let mut bench = Bench::new();
    let mut peer = Phone::caller(CARRIER, "+15551234");
    let offer = sdp(CARRIER, 4000, "");
    let mut other = Phone::caller(CARRIER, "+7").with_call_id("other");
    let mut secure = Phone::caller(CARRIER, "+15551234").with_call_id("secure");
    secure.target = "sips:+15551234@198.51.100.1".into();
    let mut hops = peer.invite(&offer);
    hops.headers.set(HeaderName::MaxForwards, 0);
    let mut hash = peer.invite(&offer);
    hash.headers.set(HeaderName::ContentType, "text/plain");
    let mut malformed = peer.invite(&offer);
    malformed.headers.remove(HeaderName::Contact);
    for (request, status) in [
        (other.invite(&offer), 404),
        (secure.invite(&offer), 416),
        (hops, 483),
        (hash, 415),
        (malformed, 400),
        (peer.invite(&"v=0\r\nrubbish".into()), 400),
        (peer.request(Method::Refer), 405),
        (peer.request(Method::Register), 405),
        (peer.request(Method::Bye), 481),
        (
            peer.invite(&offer).with(HeaderName::Require, "100rel, x"),
            420,
        ),
    ] {
        let is_invite = request.method == Method::Invite;
        bench.give(CARRIER, request);
        if is_invite {
            bench.response(CARRIER, 100);
        }
        let refusal = bench.response(CARRIER, status);
        match status {
            405 => assert!(refusal.headers.has(HeaderName::Allow)),
            415 => assert!(refusal.headers.has(HeaderName::Accept)),
            420 => assert!(refusal.headers.has_token(HeaderName::Unsupported, "x")),
            _ => {}
        }
    }
    bench.silent();
    bench.finished();
}

#[test]
fn a_request_in_a_dialog_that_is_gone_is_481() {
    let (mut bench, mut caller, callee) = up();
    let mut wrong = caller.clone();
    wrong.local.set_tag("somebody-else");
    bench.give(CARRIER, wrong.request(Method::Bye));
    bench.response(CARRIER, 481);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.give(CARRIER, caller.request(Method::Info));
    bench.response(CARRIER, 481);
    bench.finished();
}

#[test]
fn an_old_request_is_out_of_order() {
    let (mut bench, mut caller, _) = up();
    let info = caller.numbered(Method::Info, 1);
    bench.give(CARRIER, info);
    bench.response(CARRIER, 500);
}

#[test]
fn the_same_call_by_two_ways_is_merged() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let mut twin = invite.clone();
    let via = "SIP/2.0/UDP 198.51.100.2:5060;rport;branch=z9hG4bKother";
    twin.headers.set(HeaderName::Via, via);
    bench.carry(CARRIER, invite, CENTRE);
    bench.give(CARRIER, twin);
    bench.response(CARRIER, 100);
    bench.response(CARRIER, 482);
    bench.silent();
}

#[test]
fn dtmf_by_info_is_carried_both_ways() {
    let (mut bench, mut caller, mut callee) = up();
    let dtmf = "Signal=5\r\nDuration=160\r\n";
    let info = caller
        .request(Method::Info)
        .with_body("application/dtmf-relay", dtmf);
    bench.give(CARRIER, info);
    let onward = bench.request(CENTRE, Method::Info);
    assert_eq!(onward.body, dtmf);
    assert_eq!(
        onward.headers.content_type().as_deref(),
        Some("application/dtmf-relay")
    );
    bench.give(CENTRE, callee.answer(&onward, 200, &NONE));
    bench.response(CARRIER, 200);

    bench.give(
        CENTRE,
        callee.request(Method::Info).with_body("text/plain", "x"),
    );
    let onward = bench.request(CARRIER, Method::Info);
    bench.give(CARRIER, caller.answer(&onward, 415, &NONE));
    bench.response(CENTRE, 415);
    bench.silent();
}

#[test]
fn draining_refuses_new_calls_and_keeps_the_old() {
    let (mut bench, mut caller, callee) = up();
    bench.core.drain();
    let mut second = Phone::caller(CARRIER, "+15559999").with_call_id("another");
    bench.give(CARRIER, second.invite(&sdp(CARRIER, 4002, "")));
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 503);
    assert!(refusal.headers.has(HeaderName::RetryAfter));
    bench.give(CARRIER, second.request(Method::Options));
    bench.response(CARRIER, 503);

    bench.give(CARRIER, caller.request(Method::Info));
    let onward = bench.request(CENTRE, Method::Info);
    bench.give(CENTRE, callee.answer(&onward, 200, &NONE));
    bench.response(CARRIER, 200);
}

#[test]
fn more_calls_than_allowed_are_503() {
    let mut bench = Bench::with(&SETTINGS.replace("ring_seconds = 60", "calls = 1"));
    bring_up(&mut bench);
    let mut second = Phone::caller(CARRIER, "+15559999").with_call_id("another");
    bench.give(CARRIER, second.invite(&sdp(CARRIER, 4002, "")));
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 503);
    assert!(refusal.headers.has(HeaderName::RetryAfter));
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn new_settings_are_for_new_calls() {
    let (mut bench, mut caller, callee) = up();
    let moved = SETTINGS
        .replace("192.0.2.2:5060", "192.0.2.7:5060")
        .replace("198.51.100.2:5060", "198.51.100.7:5060");
    bench.core.reconfigure(bench.now, settings(&moved));
    let mut second = Phone::caller("198.51.100.7:5060", "+15559999").with_call_id("another");
    let flow = Flow::udp(address(LISTEN_CARRIER), address("198.51.100.7:5060"));
    bench.give_over(&flow, second.invite(&sdp(CARRIER, 4002, "")));
    bench.request("192.0.2.7:5060", Method::Invite);

    // The old call's peers are heard as long as it lasts.
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.give(CARRIER, caller.request(Method::Options));
    assert!(bench.next(CARRIER).is_none());
}

#[test]
fn responses_and_calls_are_counted() {
    let (bench, _, _) = up();
    let statistics = bench.core.statistics();
    let count = |trunk: &str, direction, status| {
        statistics
            .responses
            .get(&(trunk.into(), direction, status))
            .copied()
    };
    assert_eq!(count("carrier", Direction::Sent, 200), Some(1));
    assert_eq!(count("centre", Direction::Received, 200), Some(1));
    let established: Vec<_> = statistics
        .calls
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|((trunk, state), count)| (&**trunk, state.name(), *count))
        .collect();
    assert_eq!(
        established,
        [("carrier", "established", 1), ("centre", "established", 1)]
    );
}

#[test]
fn a_proxy_that_records_its_route_is_visited() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::RecordRoute, "<sip:198.51.100.50:5062;lr>");
    let invite = bench.carry(CARRIER, invite, CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    let ok = callee
        .answer(&invite, 200, &sdp(CENTRE, 5000, ""))
        .with(HeaderName::RecordRoute, "<sip:192.0.2.51;lr>")
        .with(HeaderName::RecordRoute, "<sip:192.0.2.50;lr>");
    bench.give(CENTRE, ok);
    let ack = bench.request("192.0.2.50:5060", Method::Ack);
    assert_eq!(ack.uri.to_string(), "sip:secret@192.0.2.2:5060");
    let routes = ack.headers.addresses(HeaderName::Route).unwrap();
    assert_eq!(routes.len(), 2);
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.ack());
    bench.core.hang_up(bench.now);
    bench.collect();
    let bye = bench.request("198.51.100.50:5062", Method::Bye);
    assert_eq!(
        bye.headers.text(HeaderName::Route),
        Some("<sip:198.51.100.50:5062;lr>")
    );
    bench.request("192.0.2.50:5060", Method::Bye);
}

#[test]
fn responses_go_back_to_where_the_request_came_from() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let flow = Flow::udp(address(LISTEN_CARRIER), address("198.51.100.2:31000"));
    let options = caller.request(Method::Options);
    bench.give_over(&flow, options);
    let ok = bench.response("198.51.100.2:31000", 200);
    let via = ok.headers.via().unwrap();
    assert_eq!(via.response_port(), Some(31000));
    assert_eq!(via.received().unwrap().to_string(), "198.51.100.2");
}

const TEAMS: &str = r#"
[media]
ports = "20000-20099"
[[interface]]
name = "carrier0"
addresses = ["198.51.100.1"]
[[interface]]
name = "teams0"
addresses = ["192.0.2.1"]
[[trunk]]
name = "carrier"
interface = "carrier0"
transport = "udp"
listen = "198.51.100.1:5060"
addresses = ["198.51.100.2:5060"]
[[trunk]]
name = "teams"
interface = "teams0"
transport = "tls"
listen = "192.0.2.1:5061"
addresses = ["192.0.2.2:5061"]
allowed_sources = ["192.0.2.0/24"]
srtp = "require"
domain = "sbc.example.com"
[trunk.tls]
certificate = "CERTIFICATE"
key = "KEY"
roots = "CERTIFICATE"
server_name = "sip.pstnhub.microsoft.com"
[[route]]
from = ["carrier"]
trunk = "teams"
[[route]]
from = ["teams"]
trunk = "carrier"
"#;

/// The settings of [`TEAMS`] with a certificate of its own.
fn teams() -> Bench {
    let key = rcgen::generate_simple_self_signed(vec!["sbc.example.com".to_owned()]).unwrap();
    let directory = std::env::temp_dir().join(format!("trunkline-call-{}", rand::random::<u64>()));
    std::fs::create_dir_all(&directory).unwrap();
    let (certificate, private) = (directory.join("c.pem"), directory.join("k.pem"));
    std::fs::write(&certificate, key.cert.pem()).unwrap();
    std::fs::write(&private, key.signing_key.serialize_pem()).unwrap();
    let text = TEAMS
        .replace("CERTIFICATE", certificate.to_str().unwrap())
        .replace("KEY", private.to_str().unwrap());
    let bench = Bench::with(&text);
    std::fs::remove_dir_all(&directory).unwrap();
    bench
}

#[test]
fn an_invite_to_teams_has_the_shape_that_teams_wants() {
    let mut bench = teams();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    let (target, message) = bench.next("192.0.2.2:5061").unwrap();
    assert_eq!(target.transport, Transport::Tls);
    assert_eq!(
        target.server_name,
        Some(Arc::from("sip.pstnhub.microsoft.com"))
    );
    let Message::Request(invite) = message else {
        panic!("{message:?}");
    };
    assert_eq!(
        invite.uri.to_string(),
        "sip:+15551234@sip.pstnhub.microsoft.com;user=phone"
    );
    let headers = &invite.headers;
    assert_eq!(
        headers.from().unwrap().uri.to_string(),
        "sip:+4930123@sbc.example.com"
    );
    assert_eq!(
        headers.contact().unwrap().uri.to_string(),
        "sip:+4930123@sbc.example.com:5061;transport=tls"
    );
    let via = headers.via().unwrap();
    assert_eq!(via.host, "sbc.example.com");
    assert!(via.parameters.has("alias"));
    let body = text(&invite.body);
    assert!(body.contains("RTP/SAVP"));
    assert!(body.contains("AES_CM_128_HMAC_SHA1_80"));
}

#[test]
fn over_tls_the_dialog_stays_on_its_connection() {
    let mut bench = teams();
    let flow = Flow {
        transport: Transport::Tls,
        local: address("192.0.2.1:5061"),
        remote: address("192.0.2.9:40001"),
        connection: Some(ConnectionId(7)),
        server_name: None,
        own_name: None,
    };
    let mut teams = Phone::caller("192.0.2.9:5061", "+441234");
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
         m=audio 5000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{}\r\n",
        "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"
    );
    let mut invite = teams.invite(&offer.into());
    invite.headers.set(
        HeaderName::Via,
        "SIP/2.0/TLS sip.pstnhub.microsoft.com:5061;branch=z9hG4bKteams",
    );
    invite.headers.set(
        HeaderName::Contact,
        "<sip:api@sip.pstnhub.microsoft.com:5061;transport=tls>",
    );
    bench.give_over(&flow, invite);
    let (target, _) = bench.sent.pop_front().unwrap();
    assert_eq!(target.connection, Some(ConnectionId(7)));
    let invite = bench.request(CARRIER, Method::Invite);
    let callee = Phone::callee(CARRIER, &invite, "b1");
    bench.give(
        CARRIER,
        callee.answer(&invite, 200, &sdp(CARRIER, 4000, "")),
    );
    bench.request(CARRIER, Method::Ack);
    bench.sent.clear();
    bench.pass(Duration::from_secs(33));
    // Never acknowledged, so we hang up: on the connection while it lasts, else to the proxy.
    let (target, _) = bench
        .sent
        .iter()
        .find(|(_, message)| {
            matches!(message, Message::Request(request)
                if request.method == Method::Bye && request.uri.to_string().contains("pstnhub"))
        })
        .unwrap();
    assert_eq!(target.connection, Some(ConnectionId(7)));
    assert_eq!(target.remote, address("192.0.2.2:5061"));
    assert_eq!(
        target.server_name.as_deref(),
        Some("sip.pstnhub.microsoft.com")
    );
}

#[test]
fn a_request_may_be_as_long_as_the_configuration_says_whatever_part_of_it_is_body() {
    let limits = "[limits]\nmessage_octets = 200000";
    let mut bench = Bench::with(&SETTINGS.replace("[limits]", limits));
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let options = caller.request(Method::Options);
    let options = options.with_body("text/plain", vec![b'x'; 150_000]);
    bench.give(CARRIER, options);
    bench.response(CARRIER, 200);
}

#[test]
fn the_log_line_names_the_call_and_what_changed() {
    let (bench, _, _) = up();
    let lines: Vec<String> = bench.events.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "call 1 carrier -> centre received for +15551234",
            "call 1 carrier -> centre sent to 192.0.2.2:5060 over udp",
            "call 1 carrier -> centre answered",
        ]
    );
    assert!(
        bench
            .events
            .iter()
            .all(|event| event.call_ids.iter().all(Option::is_some))
    );
}

#[test]
fn the_same_invite_by_another_way_is_482_also_when_the_call_is_answered() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    let other_way = |number: u32| {
        let mut copy = first.clone();
        copy.headers.set(
            HeaderName::Via,
            format!("SIP/2.0/UDP {CARRIER};branch=z9hG4bKother{number}"),
        );
        copy
    };
    let refused = |bench: &mut Bench, copy: Request| {
        bench.give(CARRIER, copy.clone());
        bench.response(CARRIER, 100);
        let refusal = bench.response(CARRIER, 482);
        bench.give(CARRIER, refusal_ack(&copy, &refusal));
    };
    refused(&mut bench, other_way(1));
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.ack());
    refused(&mut bench, other_way(2));
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
    // No longer than the transaction lasts.
    bench.pass(Duration::from_secs(40));
    bench.carry(CARRIER, other_way(3), CENTRE);
}

#[test]
fn an_update_with_an_offer_is_a_reinvite_for_the_other_side() {
    let mut bench = Bench::keyed("sip.update = true", "");
    let (mut caller, callee) = bring_up(&mut bench);
    let update = caller
        .request(Method::Update)
        .with_body("application/sdp", sdp(CARRIER, 4010, "a=sendonly\r\n"));
    bench.give(CARRIER, update);
    let onward = bench.request(CENTRE, Method::Invite);
    bench.give(
        CENTRE,
        callee.answer(&onward, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n")),
    );
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert_eq!(ok.headers.cseq().unwrap().method, Method::Update);
    assert!(text(&ok.body).contains("a=recvonly"));
    bench.pass(Duration::from_secs(5));
    bench.silent();
    assert!(bench.core.calls()[0].held);
}

#[test]
fn a_request_too_long_for_a_datagram_goes_over_tcp_and_by_udp_where_there_is_none() {
    let long = format!("a=x-long:{}\r\n", "x".repeat(600));
    for (keys, takes_tcp) in [
        ("sip.large_by_tcp = true", true),
        ("sip.large_by_tcp = true", false),
        ("", false),
    ] {
        let keys = format!("{keys}\nsip.headers_allow = [\"X-Long\"]");
        let mut bench = Bench::keyed("", &keys);
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let invite = caller
            .invite(&sdp(CARRIER, 4000, &long))
            .with("X-Long", "y".repeat(900));
        bench.give(CARRIER, invite);
        bench.response(CARRIER, 100);
        let (mut target, message) = bench.next(CENTRE).unwrap();
        let Message::Request(mut invite) = message else {
            panic!("{message:?}")
        };
        let sent = |invite: &Request| invite.headers.via().unwrap().transport.to_string();
        if keys.contains("large") {
            assert_eq!((target.transport, &*sent(&invite)), (Transport::Tcp, "TCP"));
            assert!(invite.to_bytes().len() > 1_300);
            if !takes_tcp {
                bench.core.transport_failed(bench.now, &target);
                bench.collect();
                let branch = invite.headers.via().unwrap().branch().map(str::to_owned);
                (target, invite) = match bench.next(CENTRE) {
                    Some((target, Message::Request(invite))) => (target, invite),
                    other => panic!("{other:?}"),
                };
                assert_eq!(invite.headers.via().unwrap().branch(), branch.as_deref());
            }
        }
        if !takes_tcp {
            assert_eq!((target.transport, &*sent(&invite)), (Transport::Udp, "UDP"));
        }
        let callee = Phone::callee(CENTRE, &invite, "b1");
        let flow = Flow {
            transport: target.transport,
            connection: takes_tcp.then_some(ConnectionId(7)),
            ..Flow::udp(address(LISTEN_CENTRE), address(CENTRE))
        };
        bench.give_over(&flow, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
        let (ack, _) = bench.next(CENTRE).unwrap();
        assert_eq!(
            (ack.transport, ack.connection),
            (Transport::Udp, None),
            "short again"
        );
        bench.response(CARRIER, 200);
    }
}
