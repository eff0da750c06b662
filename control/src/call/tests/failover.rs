//! From one address of a trunk to the next.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{CallState, Change},
    sip::{Flow, Method, Request, Response},
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
    bench.give(
        SECOND_CENTRE,
        callee.answer(second, 200, &sdp(SECOND_CENTRE, 5000, "")),
    );
    bench.request(SECOND_CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
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
