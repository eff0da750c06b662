//! A new peer's INVITE, from one address to the next and from one trunk to another.

use std::time::Duration;

use super::{
    bench::*,
    failover::with_fallback,
    transfer::{NONE, ask, end_joined, hang_up, notified, referred, renegotiate, unanswered},
};
use crate::{
    call::{CallState, Change},
    sip::{Flow, HeaderName, Method, Request},
};

/// A call that its caller asks to transfer to a number of a route with a fallback: the caller, who
/// stays, and the INVITE to the new peer.
fn begun(lines: &str) -> (Bench, Phone, Phone, Request) {
    transferring(with_fallback(lines))
}

fn transferring(mut bench: Bench) -> (Bench, Phone, Phone, Request) {
    let (mut caller, callee) = bring_up(&mut bench);
    let invite = invited(&mut bench, &mut caller);
    (bench, caller, callee, invite)
}

fn invited(bench: &mut Bench, caller: &mut Phone) -> Request {
    ask(bench, caller, "sip:+15557777@198.51.100.1");
    let invite = bench.request(CENTRE, Method::Invite);
    assert_eq!(invite.uri.user(), Some("+15557777"));
    invite
}

fn refuse(bench: &mut Bench, invite: &Request, status: u16) {
    let new = Phone::callee(CENTRE, invite, "n1");
    bench.give(CENTRE, new.answer(invite, status, &NONE));
    bench.request(CENTRE, Method::Ack);
}

fn break_connection(bench: &mut Bench) {
    let broken = Flow::udp(address(LISTEN_CENTRE), address(CENTRE));
    bench.core.connection_closed(bench.now, &broken);
    bench.collect();
}

#[test]
fn a_transfer_that_a_trunk_does_not_serve_goes_to_the_fallback_of_its_route() {
    for failure in ["408", "503", "504", "silence", "a broken connection"] {
        let (mut bench, mut caller, callee, first) = begun("codecs = [\"PCMA\"]");
        match failure {
            "silence" => {
                bench.pass(Duration::from_millis(2_999));
                assert!(bench.next(SECOND_CENTRE).is_none());
                bench.pass(Duration::from_millis(1));
                bench
                    .sent
                    .retain(|(target, _)| target.remote != address(CENTRE));
            }
            "a broken connection" => {
                let trying = Phone::callee(CENTRE, &first, "n1").answer(&first, 100, &NONE);
                bench.give(CENTRE, trying);
                break_connection(&mut bench);
                bench.request(CENTRE, Method::Cancel);
            }
            status => refuse(&mut bench, &first, status.parse().unwrap()),
        }
        let second = bench.request(SECOND_CENTRE, Method::Invite);
        assert_eq!(second.uri.user(), Some("+15557777"));
        assert_ne!(second.headers.call_id(), first.headers.call_id());
        assert!(second.headers.has(HeaderName::ReferredBy), "{failure}");
        let contact = second.headers.contact().unwrap().uri.to_string();
        assert!(contact.ends_with("@192.0.2.1:5070"), "{contact}");
        let offer = text(&second.body);
        assert!(offer.contains("RTP/AVP 8 101"), "its codecs: {offer}");
        assert_eq!(bench.media.reserved_ports(), 3, "{failure}");

        let mut new = Phone::callee(SECOND_CENTRE, &second, "n2");
        let ok = new.answer(&second, 200, &sdp(SECOND_CENTRE, 5100, ""));
        bench.give(SECOND_CENTRE, ok);
        bench.request(SECOND_CENTRE, Method::Ack);
        notified(&mut bench, &caller, "200", true);
        renegotiate(&mut bench, &callee, 5000);
        bench.give(CARRIER, caller.request(Method::Bye));
        bench.response(CARRIER, 200);
        let calls = bench.core.calls();
        assert_eq!(&*calls[0].legs[0].trunk, "second", "{failure}");
        let media = ["192.0.2.3:5100", "192.0.2.2:5000"];
        end_joined(&mut bench, media, &mut new, &callee);
        let counted = bench.core.statistics().calls;
        assert!(counted.values().all(|count| *count == 0), "{counted:?}");
    }
}

#[test]
fn a_transfer_that_no_trunk_serves_gives_the_call_back() {
    let (mut bench, mut caller, callee, first) = begun("");
    let before = bench.media.calls();
    refuse(&mut bench, &first, 503);
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    let new = Phone::callee(SECOND_CENTRE, &second, "n2");
    bench.give(SECOND_CENTRE, new.answer(&second, 504, &NONE));
    bench.request(SECOND_CENTRE, Method::Ack);
    notified(&mut bench, &caller, "504", true);
    bench.silent();
    assert_eq!(bench.media.calls(), before);
    assert_eq!(bench.media.reserved_ports(), 2);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_new_peer_that_refuses_or_rings_leads_to_no_fallback() {
    for status in [486, 302, 180] {
        let (mut bench, caller, _, first) = begun("");
        let new = Phone::callee(CENTRE, &first, "n1");
        bench.give(CENTRE, new.answer(&first, status, &NONE));
        if status == 180 {
            notified(&mut bench, &caller, "180", false);
            bench.pass(Duration::from_secs(4));
            break_connection(&mut bench);
            bench.silent();
            bench.give(CENTRE, new.answer(&first, 503, &NONE));
        }
        bench.request(CENTRE, Method::Ack);
        let told = if status == 180 { 503 } else { status };
        notified(&mut bench, &caller, &told.to_string(), true);
        bench.silent();
    }
}

#[test]
fn a_fallback_that_is_full_takes_no_transfer() {
    let mut bench = with_fallback("limits.calls = 1");
    let (mut caller, _) = bring_up(&mut bench);
    let mut another = Phone::caller(CARRIER, "+15551235").with_call_id("another");
    let invite = bench.carry(CARRIER, another.invite(&sdp(CARRIER, 4002, "")), CENTRE);
    refuse(&mut bench, &invite, 503);
    bench.request(SECOND_CENTRE, Method::Invite);
    let first = invited(&mut bench, &mut caller);
    refuse(&mut bench, &first, 504);
    notified(&mut bench, &caller, "504", true);
    bench.silent();
    assert_eq!(bench.media.reserved_ports(), 4);
}

#[test]
fn an_address_of_teams_that_says_nothing_of_a_new_peer_for_ten_seconds_is_left() {
    let (mut bench, caller, callee, first) = referred();
    let old = Phone::callee(CENTRE, &first, "n1");
    bench.give(CENTRE, old.answer(&first, 100, &NONE));
    bench.pass(Duration::from_millis(9_999));
    bench.silent();
    bench.pass(Duration::from_millis(1));
    let cancel = bench.request(CENTRE, Method::Cancel);
    bench.give(CENTRE, old.answer(&cancel, 200, &NONE));
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    assert_eq!(second.uri, first.uri);
    // The first one's answer crossed with our CANCEL.
    bench.give(CENTRE, old.answer(&first, 200, &sdp(CENTRE, 5090, "")));
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, old.answer(&bye, 200, &NONE));
    bench.silent();

    let mut new = Phone::callee(SECOND_CENTRE, &second, "n2");
    bench.pass(Duration::from_secs(20));
    bench.sent.clear();
    let ok = new.answer(&second, 200, &sdp(SECOND_CENTRE, 5100, ""));
    bench.give(SECOND_CENTRE, ok);
    bench.request(SECOND_CENTRE, Method::Ack);
    notified(&mut bench, &callee, "200", true);
    renegotiate(&mut bench, &caller, 4000);
    bench.pass(Duration::from_secs(8));
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    hang_up(&mut bench, &mut new, &caller);
    bench.finished();
}

#[test]
fn a_transfer_to_which_nothing_answers_even_a_cancel_fails_once() {
    let (mut bench, mut caller, callee, _) = unanswered();
    bench.pass(Duration::from_secs(64));
    let told = bench.sent.iter().any(|(_, message)| {
        matches!(message, crate::sip::Message::Request(request) if request.method == Method::Notify)
    });
    assert!(!told, "{:#?}", bench.sent);
    let failed = |change: &&&Change| matches!(change, Change::TransferFailed { .. });
    assert_eq!(bench.changes().iter().filter(failed).count(), 1);
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    bench.sent.clear();
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_new_peer_that_wants_a_longer_session_is_asked_once_more_with_it() {
    let (mut bench, mut caller, callee, first) =
        transferring(Bench::keyed("", "sip.session_expires = 600"));
    let short = |invite: &Request, least: u32| {
        Phone::callee(CENTRE, invite, "n1")
            .answer(invite, 422, &NONE)
            .with(HeaderName::MinSe, least)
    };
    bench.give(CENTRE, short(&first, 900));
    bench.request(CENTRE, Method::Ack);
    let again = bench.request(CENTRE, Method::Invite);
    assert_eq!(again.headers.text(HeaderName::MinSe), Some("900"));
    assert_ne!(again.headers.call_id(), first.headers.call_id());
    bench.give(CENTRE, short(&again, 1800));
    bench.request(CENTRE, Method::Ack);
    notified(&mut bench, &caller, "422", true);
    bench.silent();
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_transfer_keeps_the_limits_of_the_trunk_that_it_goes_to() {
    let mut bench = Bench::keyed("", "limits.calls = 1");
    let (mut caller, mut callee) = bring_up(&mut bench);
    ask(&mut bench, &mut caller, "sip:+15557777@198.51.100.1");
    notified(&mut bench, &caller, "503", true);
    bench.silent();
    let refused = bench.core.statistics().refused;
    assert_eq!(refused[&("centre".into(), "trunk-calls")], 1);
    assert_eq!(bench.media.reserved_ports(), 2);
    hang_up(&mut bench, &mut callee, &caller);
    bench.finished();
}

#[test]
fn whoever_asks_for_a_transfer_makes_room_for_the_new_peer() {
    let mut bench = Bench::teams("limits.calls = 1");
    let (_, mut callee) = bring_up(&mut bench);
    ask(&mut bench, &mut callee, "sip:+15557777@192.0.2.2");
    bench.request(CENTRE, Method::Invite);
}
