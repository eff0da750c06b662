//! From one address of a trunk to the next.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{CallState, Change},
    sip::{Flow, Method, Request, Response, Transport},
};

/// A call to two addresses of which the first has its INVITE.
fn begun(mut bench: Bench) -> (Bench, Phone, Request) {
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    // What is sent again over UDP is of no interest here.
    bench.sent.clear();
    (bench, caller, first)
}

fn is_up(bench: &mut Bench, caller: &mut Phone, second: &Request) -> Phone {
    let callee = Phone::callee(SECOND_CENTRE, second, "b2");
    bench.answer_call(caller, &callee, second, 5000);
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    callee
}

fn hang_up(bench: &mut Bench, caller: &mut Phone, callee: &Phone) {
    bench.sent.clear();
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(SECOND_CENTRE, Method::Bye);
    bench.give(SECOND_CENTRE, callee.answer(&bye, 200, &Bytes::new()));
}

#[test]
fn an_address_of_teams_that_says_only_100_for_ten_seconds_is_left() {
    let (mut bench, mut caller, first) = begun(Bench::teams(""));
    bench.give(CENTRE, Response::to_request(&first, 100, None));
    bench.pass(Duration::from_millis(9_999));
    bench.silent();
    bench.pass(Duration::from_millis(1));
    let cancel = bench.request(CENTRE, Method::Cancel);
    assert_eq!(cancel.uri, first.uri);
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    assert_ne!(second.headers.call_id(), first.headers.call_id());
    let callee = is_up(&mut bench, &mut caller, &second);

    // The first one's answer crossed with our CANCEL: it is ended, and the call goes on.
    let late = Phone::callee(CENTRE, &first, "b1");
    bench.sent.clear();
    bench.give(CENTRE, late.answer(&first, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, late.answer(&bye, 200, &Bytes::new()));
    bench.silent();
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn an_address_that_says_nothing_is_left_after_the_time_that_is_set() {
    let (mut bench, mut caller, _) = begun(Bench::keyed("", "sip.answer_seconds = 3"));
    bench.pass(Duration::from_millis(2_999));
    assert!(bench.next(SECOND_CENTRE).is_none());
    bench.pass(Duration::from_millis(1));
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    let callee = is_up(&mut bench, &mut caller, &second);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn the_last_address_may_take_its_time() {
    let (mut bench, mut caller, _) = begun(Bench::teams(""));
    bench.pass(Duration::from_secs(10));
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    bench.give(SECOND_CENTRE, Response::to_request(&second, 100, None));
    bench.pass(Duration::from_secs(40));
    let callee = is_up(&mut bench, &mut caller, &second);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn an_address_that_rings_is_not_left() {
    let (mut bench, _, first) = begun(Bench::teams(""));
    let callee = Phone::callee(CENTRE, &first, "b1");
    bench.give(CENTRE, callee.answer(&first, 180, &Bytes::new()));
    bench.response(CARRIER, 180);
    bench.pass(Duration::from_secs(40));
    bench.core.connection_closed(
        bench.now,
        &Flow::udp(address(LISTEN_CENTRE), address(CENTRE)),
    );
    bench.collect();
    bench.silent();
}

#[test]
fn a_connection_that_breaks_after_100_moves_on_at_once() {
    let (mut bench, mut caller, first) = begun(Bench::new());
    bench.give(CENTRE, Response::to_request(&first, 100, None));
    let elsewhere = Flow::udp(address(LISTEN_CENTRE), address(SECOND_CENTRE));
    bench.core.connection_closed(bench.now, &elsewhere);
    bench.collect();
    bench.silent();

    let broken = Flow::udp(address(LISTEN_CENTRE), address(CENTRE));
    bench.core.connection_closed(bench.now, &broken);
    bench.collect();
    bench.request(CENTRE, Method::Cancel);
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    assert!(
        bench
            .changes()
            .iter()
            .any(|change| matches!(change, Change::Failover { .. }))
    );
    let callee = is_up(&mut bench, &mut caller, &second);
    // Once it is up, connections come and go.
    bench.core.connection_closed(bench.now, &broken);
    bench.core.connection_closed(bench.now, &elsewhere);
    bench.collect();
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_call_over_udp_stays_where_it_is_when_a_connection_for_large_requests_closes() {
    let keys = "sip.large_by_tcp = true\noptions.interval_seconds = 60";
    let mut bench = Bench::keyed("", keys);
    bench.core.watch(bench.now);
    bench.pass(Duration::from_millis(100));
    for peer in [CENTRE, SECOND_CENTRE] {
        let options = bench.request(peer, Method::Options);
        bench.give(peer, Response::to_request(&options, 200, Some("o")));
    }
    let (mut bench, mut caller, first) = begun(bench);
    bench.give(CENTRE, Response::to_request(&first, 100, None));
    let idle = Flow {
        transport: Transport::Tcp,
        ..Flow::udp(address(LISTEN_CENTRE), address(CENTRE))
    };
    bench.core.connection_closed(bench.now, &idle);
    bench.collect();
    bench.silent();
    assert!(bench.peers.is_empty(), "{:?}", bench.peers);
    let callee = Phone::callee(CENTRE, &first, "b1");
    bench.answer_call(&mut caller, &callee, &first, 5000);
}

/// Calls of the carrier go to one address, or else to a second trunk with lines of its own.
pub(super) fn with_fallback(lines: &str) -> Bench {
    let text = SETTINGS
        .replace(
            "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
            "addresses = [\"192.0.2.2:5060\"]\nsip.answer_seconds = 3",
        )
        .replace(
            "trunk = \"centre\"",
            "trunk = \"centre\"\nfallback = [\"second\"]",
        );
    let second = format!(
        "[[trunk]]\nname = \"second\"\ninterface = \"centre0\"\ntransport = \"udp\"\n\
         listen = \"192.0.2.1:5070\"\naddresses = [\"192.0.2.3:5060\"]\n{lines}\n"
    );
    Bench::with(&(text + &second))
}

#[test]
fn a_call_that_a_trunk_does_not_serve_goes_to_the_fallback_of_its_route() {
    for failure in ["503", "silence", "a broken connection"] {
        let (mut bench, mut caller, first) = begun(with_fallback("codecs = [\"PCMA\"]"));
        match failure {
            "503" => {
                let refusal = Response::to_request(&first, 503, Some("b"));
                bench.give(CENTRE, refusal);
                bench.request(CENTRE, Method::Ack);
            }
            "silence" => bench.pass(Duration::from_secs(3)),
            _ => {
                bench.give(CENTRE, Response::to_request(&first, 100, None));
                let broken = Flow::udp(address(LISTEN_CENTRE), address(CENTRE));
                bench.core.connection_closed(bench.now, &broken);
                bench.collect();
                bench.request(CENTRE, Method::Cancel);
            }
        }
        let second = bench.request(SECOND_CENTRE, Method::Invite);
        let contact = second.headers.contact().unwrap().uri.to_string();
        assert!(contact.ends_with("@192.0.2.1:5070"), "{contact}");
        let offer = text(&second.body);
        assert!(offer.contains("RTP/AVP 8 101"), "its codecs: {offer}");
        assert_eq!(bench.media.reserved_ports(), 2, "{failure}");
        let calls = bench.core.calls();
        assert_eq!(&*calls[0].legs[1].trunk, "second", "{failure}");
        let callee = is_up(&mut bench, &mut caller, &second);
        hang_up(&mut bench, &mut caller, &callee);
        bench.finished();
        let counted = bench.core.statistics().calls;
        assert!(counted.values().all(|count| *count == 0), "{counted:?}");
    }
}

#[test]
fn a_refusal_of_the_callee_s_or_a_call_that_rings_goes_to_no_fallback() {
    for status in [486, 302, 180] {
        let (mut bench, _, first) = begun(with_fallback(""));
        let callee = Phone::callee(CENTRE, &first, "b1");
        bench.give(CENTRE, callee.answer(&first, status, &Bytes::new()));
        bench.pass(Duration::from_secs(10));
        if status == 180 {
            bench.sent.clear();
            bench.give(CENTRE, callee.answer(&first, 503, &Bytes::new()));
        }
        assert!(bench.next(SECOND_CENTRE).is_none(), "{status}");
    }
}

#[test]
fn a_fallback_that_is_full_leaves_the_call_with_its_refusal() {
    let (mut bench, _, first) = begun(with_fallback("limits.calls = 1"));
    bench.give(CENTRE, Response::to_request(&first, 504, Some("b")));
    bench.request(CENTRE, Method::Ack);
    bench.request(SECOND_CENTRE, Method::Invite);
    let mut caller = Phone::caller(CARRIER, "+15551235").with_call_id("another");
    let another = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4002, "")), CENTRE);
    bench.sent.clear();
    bench.give(CENTRE, Response::to_request(&another, 504, Some("b")));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 504);
    bench.silent();
    assert_eq!(bench.media.reserved_ports(), 2, "those of the first call");
}
