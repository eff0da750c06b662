//! What RFC 3261 asks of both ends of a dialog, where telephones are known to differ.

use std::time::Duration;

use super::bench::{
    Bench, CARRIER, CENTRE, Phone, address, bring_up, cancel, refusal_ack, sdp, up,
};
use crate::sip::{HeaderName, Message, Method, Request, Response};

fn invite_with(field: HeaderName, value: &str) -> Request {
    let mut invite = Phone::caller(CARRIER, "+15551234").invite(&sdp(CARRIER, 4000, ""));
    invite.headers.set(field, value);
    invite
}

/// What a caller gets for its INVITE beside the 100.
fn refusal(bench: &mut Bench, invite: &Request, status: u16) -> Response {
    bench.give(CARRIER, invite.clone());
    bench.response(CARRIER, 100);
    let refused = bench.response(CARRIER, status);
    bench.give(CARRIER, refusal_ack(invite, &refused));
    refused
}

#[test]
fn what_must_be_understood_and_is_not_is_refused_by_name() {
    let mut bench = Bench::new();
    let refused = refusal(
        &mut bench,
        &invite_with(HeaderName::Require, "100rel, x"),
        420,
    );
    assert_eq!(
        refused.headers.text(HeaderName::Unsupported),
        Some("100rel, x")
    );
    bench.finished();
}

#[test]
fn a_call_that_has_gone_too_far_is_refused() {
    let mut bench = Bench::new();
    refusal(&mut bench, &invite_with(HeaderName::MaxForwards, "0"), 483);
    bench.finished();
}

#[test]
fn another_scheme_is_refused_with_416() {
    for uri in ["sips:+15551234@198.51.100.1", "urn:service:sos"] {
        let mut bench = Bench::new();
        let mut invite = Phone::caller(CARRIER, "+15551234").invite(&sdp(CARRIER, 4000, ""));
        invite.uri = uri.parse().unwrap();
        refusal(&mut bench, &invite, 416);
        bench.finished();
    }
}

#[test]
fn the_same_invite_by_another_way_is_a_loop() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let onward = bench.carry(CARRIER, invite.clone(), CENTRE);
    let mut merged = invite;
    merged.headers.set(
        HeaderName::Via,
        "SIP/2.0/UDP 198.51.100.2;rport;branch=z9hG4bKother",
    );
    let refused = refusal(&mut bench, &merged, 482);
    assert!(refused.headers.to().unwrap().tag().is_some());
    // The first goes on.
    let callee = Phone::callee(CENTRE, &onward, "b");
    bench.give(CENTRE, callee.answer(&onward, 486, &bytes::Bytes::new()));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 486);
}

#[test]
fn a_refused_caller_may_try_again_with_the_next_number() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let onward = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &onward, "b");
    bench.give(CENTRE, callee.answer(&onward, 486, &bytes::Bytes::new()));
    bench.request(CENTRE, Method::Ack);
    let busy = bench.response(CARRIER, 486);
    bench.give(CARRIER, refusal_ack(&first, &busy));

    bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
}

#[test]
fn a_caller_without_a_tag_is_served() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    caller.local.parameters.remove("tag");
    let mut invite = Request::new(Method::Invite, caller.target.parse().unwrap())
        .with(
            HeaderName::Via,
            "SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bKold",
        )
        .with(HeaderName::From, &caller.local)
        .with(HeaderName::To, &caller.remote)
        .with(HeaderName::CallId, "old")
        .with(HeaderName::CSeq, "1 INVITE")
        .with(HeaderName::Contact, "<sip:old@198.51.100.2>")
        .with_body("application/sdp", sdp(CARRIER, 4000, ""));
    let onward = bench.carry(CARRIER, invite.clone(), CENTRE);
    let mut callee = Phone::callee(CENTRE, &onward, "b");
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    invite.method = Method::Ack;
    invite.body = bytes::Bytes::new();
    invite.headers.remove(HeaderName::ContentType);
    invite.headers.set(HeaderName::CSeq, "1 ACK");
    invite.headers.set(HeaderName::To, ok.headers.to().unwrap());
    invite.headers.set(
        HeaderName::Via,
        "SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bKoldack",
    );
    bench.give(CARRIER, invite);
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    let bye = bench.request(CARRIER, Method::Bye);
    assert_eq!(bye.headers.to().unwrap().tag(), None);
    bench.give(CARRIER, Response::to_request(&bye, 200, None));
    bench.finished();
}

#[test]
fn requests_inside_a_dialog_follow_its_route_set() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller.invite(&sdp(CARRIER, 4000, "")).with(
        HeaderName::RecordRoute,
        "<sip:198.51.100.9;lr>, <sip:198.51.100.8:5080;lr>",
    );
    let onward = bench.carry(CARRIER, invite, CENTRE);
    assert!(!onward.headers.has(HeaderName::RecordRoute));
    let mut callee = Phone::callee(CENTRE, &onward, "b");
    let ok = callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")).with(
        HeaderName::RecordRoute,
        "<sip:192.0.2.9;lr>, <sip:192.0.2.8:5080;lr>",
    );
    bench.give(CENTRE, ok);
    // The last that recorded itself is the first on the way there.
    let ack = bench.request("192.0.2.8:5080", Method::Ack);
    assert_eq!(ack.uri.to_string(), format!("sip:secret@{CENTRE}"));
    let routes = ack.headers.addresses(HeaderName::Route).unwrap();
    assert_eq!(routes.len(), 2);
    assert_eq!(routes[0].uri.to_string(), "sip:192.0.2.8:5080;lr");
    let ok = bench.response(CARRIER, 200);
    assert_eq!(
        ok.headers.addresses(HeaderName::RecordRoute).unwrap().len(),
        2
    );
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    let bye = bench.request("198.51.100.9:5060", Method::Bye);
    let routes = bye.headers.addresses(HeaderName::Route).unwrap();
    assert_eq!(routes[0].uri.to_string(), "sip:198.51.100.9;lr");
    assert_eq!(routes[1].uri.to_string(), "sip:198.51.100.8:5080;lr");
}

#[test]
fn an_answer_that_crosses_with_cancel_is_acknowledged_and_ended() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let onward = bench.carry(CARRIER, invite.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &onward, "b");
    bench.give(CENTRE, callee.answer(&onward, 180, &bytes::Bytes::new()));
    bench.response(CARRIER, 180);
    bench.give(CARRIER, cancel(&invite));
    bench.response(CARRIER, 200);
    let refused = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&invite, &refused));
    bench.request(CENTRE, Method::Cancel);
    let ok = callee.answer(&onward, 200, &sdp(CENTRE, 5000, ""));
    bench.give(CENTRE, ok.clone());
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    // The answer again: only its ACK again.
    bench.give(CENTRE, ok);
    bench.request(CENTRE, Method::Ack);
    bench.give(CENTRE, Response::to_request(&bye, 200, None));
    bench.silent();
    bench.finished();
}

#[test]
fn a_request_out_of_order_is_refused_and_the_call_stays() {
    let (mut bench, mut caller, _) = up();
    caller.sequence += 5;
    bench.give(CARRIER, caller.request(Method::Options));
    bench.response(CARRIER, 200);
    let late = caller.numbered(Method::Bye, 2);
    bench.give(CARRIER, late);
    bench.response(CARRIER, 500);
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_method_that_is_not_served_leaves_the_call_alone() {
    let (mut bench, mut caller, _) = up();
    for method in [Method::Update, Method::Prack, Method::Subscribe] {
        bench.give(CARRIER, caller.request(method));
        let refused = bench.response(CARRIER, 405);
        assert!(refused.headers.has(HeaderName::Allow));
    }
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_request_of_another_dialog_is_481() {
    let (mut bench, caller, _) = up();
    let mut wrong_tag = caller.clone();
    wrong_tag.remote.set_tag("0123456789abcdef");
    let mut wrong_from = caller.clone();
    wrong_from.local.set_tag("other");
    let mut wrong_call = caller;
    wrong_call.call_id = "other".into();
    for phone in [&mut wrong_tag, &mut wrong_from, &mut wrong_call] {
        bench.give(CARRIER, phone.request(Method::Bye));
        bench.response(CARRIER, 481);
    }
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_new_contact_in_a_reinvite_is_where_the_next_request_goes() {
    let (mut bench, mut caller, callee) = up();
    let mut reinvite = caller.invite(&sdp(CARRIER, 4000, "a=sendonly\r\n"));
    reinvite
        .headers
        .set(HeaderName::Contact, "<sip:moved@198.51.100.7:5090>");
    let onward = bench.carry(CARRIER, reinvite, CENTRE);
    let mut ok = callee.answer(&onward, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n"));
    ok.headers
        .set(HeaderName::Contact, "<sip:moved@192.0.2.7:5090>");
    bench.give(CENTRE, ok);
    bench.request("192.0.2.7:5090", Method::Ack);
    bench.response(CARRIER, 200);
    bench.give(CARRIER, caller.ack());
    bench.core.hang_up(bench.now);
    bench.collect();
    let bye = bench.request("198.51.100.7:5090", Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:moved@198.51.100.7:5090");
    bench.request("192.0.2.7:5090", Method::Bye);
}

#[test]
fn both_sides_hang_up_at_once() {
    let (mut bench, mut caller, mut callee) = up();
    let bye_a = caller.request(Method::Bye);
    let bye_b = callee.request(Method::Bye);
    bench.give(CARRIER, bye_a);
    bench.give(CENTRE, bye_b);
    bench.response(CARRIER, 200);
    let to_b = bench.request(CENTRE, Method::Bye);
    bench.response(CENTRE, 200);
    bench.give(CENTRE, Response::to_request(&to_b, 481, None));
    bench.silent();
    bench.finished();
}

#[test]
fn an_answer_that_is_never_acknowledged_ends_the_call() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let onward = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    let callee = Phone::callee(CENTRE, &onward, "b");
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    bench.pass(Duration::from_secs(31));
    let copies = bench
        .sent
        .iter()
        .filter(|(target, _)| target.remote == address(CARRIER))
        .count();
    assert_eq!(copies, 1 + 9, "T1 doubling to T2");
    bench.sent.clear();
    bench.pass(Duration::from_secs(2));
    let is_bye = |message: &Message| matches!(message, Message::Request(request) if request.method == Method::Bye);
    let byes = bench
        .sent
        .iter()
        .filter(|(target, message)| target.remote == address(CARRIER) && is_bye(message));
    assert!(byes.count() > 0, "the caller is not told");
    let bye_b = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, Response::to_request(&bye_b, 200, None));
}

#[test]
fn a_call_can_be_made_again_after_all_of_it() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let (mut caller, _) = bring_up(&mut bench);
        bench.give(CARRIER, caller.request(Method::Bye));
        bench.response(CARRIER, 200);
        let bye = bench.request(CENTRE, Method::Bye);
        bench.give(CENTRE, Response::to_request(&bye, 200, None));
        bench.finished();
        bench.sent.clear();
    }
}
