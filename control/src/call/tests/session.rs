//! Session timers (RFC 4028), each leg on its own.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{Change, EndReason, Side},
    sip::{HeaderName, Method, Request, Response},
};

const NONE: Bytes = Bytes::new();

fn version(request: &Request) -> String {
    let body = text(&request.body);
    let origin = body.lines().find(|line| line.starts_with("o=")).unwrap();
    origin.split(' ').nth(2).unwrap().to_owned()
}

/// A call whose callee has agreed to a session timer.
fn up_with(centre: &str, agreed: &str, allow: &str) -> (Bench, Phone, Phone) {
    let mut bench = Bench::keyed("", centre);
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    assert_eq!(invite.headers.text(HeaderName::SessionExpires), Some("600"));
    assert!(invite.headers.has_token(HeaderName::Supported, "timer"));
    let callee = Phone::callee(CENTRE, &invite, "b1");
    let mut ok = callee
        .answer(&invite, 200, &sdp(CENTRE, 5000, ""))
        .with(HeaderName::Allow, allow);
    if !agreed.is_empty() {
        ok.headers.push(HeaderName::SessionExpires, agreed);
    }
    bench.give(CENTRE, ok);
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert!(
        !ok.headers.has(HeaderName::SessionExpires),
        "legs have their own"
    );
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    (bench, caller, callee)
}

const TIMER: &str = "sip.session_expires = 600";

#[test]
fn a_session_is_refreshed_by_reinvites_that_change_nothing() {
    let (mut bench, _, callee) = up_with(TIMER, "600;refresher=uac", "INVITE, ACK, BYE");
    let media = bench.media.calls();
    let mut versions = Vec::new();
    for _ in 0..3 {
        bench.pass(Duration::from_secs(299));
        bench.silent();
        bench.pass(Duration::from_secs(1));
        let refresh = bench.request(CENTRE, Method::Invite);
        assert_eq!(
            refresh.headers.text(HeaderName::SessionExpires),
            Some("600;refresher=uac")
        );
        versions.push(version(&refresh));
        let ok = callee
            .answer(&refresh, 200, &sdp(CENTRE, 5000, ""))
            .with(HeaderName::SessionExpires, "600;refresher=uac");
        bench.give(CENTRE, ok);
        bench.request(CENTRE, Method::Ack);
        bench.silent();
    }
    assert_eq!(versions[1], versions[2], "the description is the same");
    assert_eq!(bench.core.calls().len(), 1);
    let after = bench.media.calls();
    for (before, after) in media.values().zip(after.values()) {
        for leg in 0..2 {
            assert_eq!(before.legs[leg].remote, after.legs[leg].remote);
            assert_eq!(before.legs[leg].port, after.legs[leg].port);
        }
        assert_eq!(before.streams, after.streams);
    }
}

#[test]
fn what_a_peer_gives_up_with_a_refresh_the_other_side_is_told() {
    let (mut bench, caller, callee) = up_with(TIMER, "600;refresher=uac", "INVITE, ACK, BYE");
    let only = |body: Bytes| -> Bytes {
        let all = "RTP/AVP 0 8 101";
        text(&body).replace(all, "RTP/AVP 8 101").into()
    };
    bench.pass(Duration::from_secs(300));
    let refresh = bench.request(CENTRE, Method::Invite);
    assert!(text(&refresh.body).contains("RTP/AVP 0 8 101\r\n"));
    bench.give(
        CENTRE,
        callee.answer(&refresh, 200, &only(sdp(CENTRE, 5000, ""))),
    );
    bench.request(CENTRE, Method::Ack);
    let told = bench.request(CARRIER, Method::Invite);
    let offer = text(&told.body);
    assert!(offer.contains("RTP/AVP 8 101\r\n"), "{offer}");
    bench.give(
        CARRIER,
        caller.answer(&told, 200, &only(sdp(CARRIER, 4000, ""))),
    );
    bench.request(CARRIER, Method::Ack);
    bench.silent();
    let media = bench.media.calls();
    for stream in &media.values().next().unwrap().streams {
        assert!(stream.active);
        assert!(
            stream
                .payload_types
                .iter()
                .all(|(from, _)| [8, 101].contains(from))
        );
    }
}

#[test]
fn a_session_is_refreshed_by_update_where_the_peer_knows_it() {
    let keys = "sip.session_expires = 600\nsip.update = true";
    let (mut bench, _, callee) = up_with(keys, "600;refresher=uac", "INVITE, ACK, BYE, UPDATE");
    for _ in 0..2 {
        bench.pass(Duration::from_secs(300));
        let refresh = bench.request(CENTRE, Method::Update);
        assert!(refresh.body.is_empty());
        // RFC 3311 §4; RFC 4028 §7.1: without it the peer would refresh, or end, the session.
        assert!(refresh.headers.has(HeaderName::Contact));
        assert!(refresh.headers.has_token(HeaderName::Supported, "timer"));
        let ok = callee
            .answer(&refresh, 200, &NONE)
            .with(HeaderName::SessionExpires, "600;refresher=uac");
        bench.give(CENTRE, ok);
        bench.silent();
    }
    // Nobody answers the next one: the call ends in time.
    bench.pass(Duration::from_secs(300 + 268));
    assert!(bench.changes().iter().any(|change| matches!(
        change,
        Change::Ending {
            why: EndReason::Lost(Side::B) | EndReason::Expired(Side::B)
        }
    )));
}

#[test]
fn a_session_that_the_peer_should_refresh_and_does_not_ends() {
    let (mut bench, caller, callee) = up_with(TIMER, "600;refresher=uas", "INVITE, ACK, BYE");
    bench.pass(Duration::from_millis(567_999));
    bench.silent();
    bench.pass(Duration::from_millis(1));
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    assert!(bench.changes().contains(&&Change::Ending {
        why: EndReason::Expired(Side::B)
    }));
    bench.finished();
}

#[test]
fn a_refresh_of_the_peer_goes_no_further_and_keeps_the_call_up() {
    let keys = "sip.session_expires = 600\nsip.update = true";
    let (mut bench, _, mut callee) = up_with(keys, "600;refresher=uas", "INVITE, UPDATE");
    for _ in 0..4 {
        bench.pass(Duration::from_secs(500));
        let update = callee
            .request(Method::Update)
            .with(HeaderName::Supported, "timer")
            .with(HeaderName::SessionExpires, "600;refresher=uac");
        bench.give(CENTRE, update);
        let ok = bench.response(CENTRE, 200);
        assert_eq!(
            ok.headers.text(HeaderName::SessionExpires),
            Some("600;refresher=uac")
        );
        bench.silent();
    }
    assert_eq!(bench.core.calls().len(), 1);
}

/// The callee wants to refresh from now on, in a hold that the caller takes or refuses.
fn with_other_terms(status: u16) -> (Bench, Phone, Phone, Response) {
    let (mut bench, caller, mut callee) = up_with(TIMER, "600;refresher=uac", "INVITE, ACK, BYE");
    let hold = callee
        .invite(&sdp(CENTRE, 5000, "a=sendonly\r\n"))
        .with(HeaderName::Supported, "timer")
        .with(HeaderName::SessionExpires, "600;refresher=uac");
    let onward = bench.carry(CENTRE, hold.clone(), CARRIER);
    let body = match status {
        200 => sdp(CARRIER, 4000, "a=recvonly\r\n"),
        _ => NONE,
    };
    bench.give(CARRIER, caller.answer(&onward, status, &body));
    bench.request(CARRIER, Method::Ack);
    let told = bench.response(CENTRE, status);
    let ack = match status {
        200 => callee.ack(),
        _ => refusal_ack(&hold, &told),
    };
    bench.give(CENTRE, ack);
    (bench, caller, callee, told)
}

#[test]
fn a_reinvite_that_is_refused_does_not_change_who_refreshes() {
    let (mut bench, _, callee, told) = with_other_terms(488);
    assert!(!told.headers.has(HeaderName::SessionExpires));
    bench.pass(Duration::from_secs(300));
    let refresh = bench.request(CENTRE, Method::Invite);
    let ok = callee
        .answer(&refresh, 200, &sdp(CENTRE, 5000, ""))
        .with(HeaderName::SessionExpires, "600;refresher=uac");
    bench.give(CENTRE, ok);
    bench.request(CENTRE, Method::Ack);
    bench.pass(Duration::from_secs(299));
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_reinvite_that_is_accepted_changes_who_refreshes() {
    let (mut bench, _, _, told) = with_other_terms(200);
    assert_eq!(
        told.headers.text(HeaderName::SessionExpires),
        Some("600;refresher=uac")
    );
    bench.pass(Duration::from_secs(567));
    bench.silent();
    bench.pass(Duration::from_secs(2));
    assert!(bench.changes().contains(&&Change::Ending {
        why: EndReason::Expired(Side::B)
    }));
}

#[test]
fn a_session_does_not_run_out_while_its_refresh_waits_for_the_other_side() {
    let (mut bench, caller, mut callee) = up_with(TIMER, "600;refresher=uas", "INVITE, ACK, BYE");
    bench.pass(Duration::from_secs(540));
    let refresh = callee
        .invite(&sdp(CENTRE, 5000, ""))
        .with(HeaderName::Supported, "timer")
        .with(HeaderName::SessionExpires, "600;refresher=uac");
    let onward = bench.carry(CENTRE, refresh, CARRIER);
    bench.give(CARRIER, caller.answer(&onward, 100, &NONE));
    bench.pass(Duration::from_secs(40));
    bench.silent();
    bench.give(
        CARRIER,
        caller.answer(&onward, 200, &sdp(CARRIER, 4000, "")),
    );
    bench.request(CARRIER, Method::Ack);
    bench.response(CENTRE, 200);
    bench.give(CENTRE, callee.ack());
    bench.pass(Duration::from_secs(560));
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_peer_without_session_timers_has_none() {
    let (mut bench, ..) = up_with(TIMER, "", "INVITE, ACK, BYE");
    bench.pass(Duration::from_secs(5_000));
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_callee_who_finds_the_timer_too_short_is_asked_again() {
    let mut bench = Bench::keyed("", TIMER);
    let (_, callee, invite) = bench.begin_call();
    let short = callee
        .answer(&invite, 422, &NONE)
        .with(HeaderName::MinSe, 900);
    bench.give(CENTRE, short);
    bench.request(CENTRE, Method::Ack);
    let again = bench.request(CENTRE, Method::Invite);
    assert_eq!(again.headers.text(HeaderName::SessionExpires), Some("900"));
    assert_eq!(again.headers.text(HeaderName::MinSe), Some("900"));
    bench.silent();
}

#[test]
fn a_refresh_that_has_to_wait_leaves_a_hold_as_it_is() {
    let (mut bench, mut caller, callee) = up_with(TIMER, "600;refresher=uac", "INVITE, ACK, BYE");
    bench.pass(Duration::from_secs(299));
    let hold = caller.invite(&sdp(CARRIER, 4000, "a=sendonly\r\n"));
    let onward = bench.carry(CARRIER, hold, CENTRE);
    bench.give(CENTRE, callee.answer(&onward, 100, &NONE));
    // The time for the refresh comes while the callee has not answered.
    bench.pass(Duration::from_secs(2));
    let held = callee
        .answer(&onward, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n"))
        .with(HeaderName::SessionExpires, "600;refresher=uac");
    bench.give(CENTRE, held);
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    bench.give(CARRIER, caller.ack());
    bench.pass(Duration::from_secs(1));
    let refresh = bench.request(CENTRE, Method::Invite);
    let offer = text(&refresh.body);
    assert!(offer.contains("a=sendonly"), "{offer}");
}

#[test]
fn a_callee_that_wants_a_session_of_no_length_is_not_asked_again() {
    let mut bench = Bench::keyed("", TIMER);
    let (_, callee, invite) = bench.begin_call();
    let none = callee
        .answer(&invite, 422, &NONE)
        .with(HeaderName::MinSe, 0);
    bench.give(CENTRE, none);
    bench.request(CENTRE, Method::Ack);
    // The session timer is ours, not the caller's.
    bench.response(CARRIER, 500);
    bench.silent();
}

#[test]
fn a_caller_whose_timer_is_too_short_is_told_the_least() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::Supported, "timer")
        .with(HeaderName::SessionExpires, "60");
    bench.give(CARRIER, invite);
    bench.response(CARRIER, 100);
    let refused = bench.response(CARRIER, 422);
    assert_eq!(refused.headers.text(HeaderName::MinSe), Some("90"));
    bench.finished();
}

#[test]
fn a_callers_timer_is_its_legs_alone() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::Supported, "timer")
        .with(HeaderName::SessionExpires, "1800;refresher=uas");
    let invite = bench.carry(CARRIER, invite, CENTRE);
    assert!(!invite.headers.has(HeaderName::SessionExpires));
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert_eq!(
        ok.headers.text(HeaderName::SessionExpires),
        Some("1800;refresher=uas")
    );
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    bench.pass(Duration::from_secs(900));
    let refresh = bench.request(CARRIER, Method::Invite);
    let ok = caller
        .answer(&refresh, 200, &sdp(CARRIER, 4000, ""))
        .with(HeaderName::SessionExpires, "1800;refresher=uac");
    bench.give(CARRIER, ok);
    bench.request(CARRIER, Method::Ack);
    bench.silent();
}

#[test]
fn a_refresh_that_meets_a_reinvite_is_asked_again() {
    let (mut bench, _, callee) = up_with(TIMER, "600;refresher=uac", "INVITE, ACK, BYE");
    bench.pass(Duration::from_secs(300));
    let refresh = bench.request(CENTRE, Method::Invite);
    bench.give(CENTRE, callee.answer(&refresh, 491, &NONE));
    bench.request(CENTRE, Method::Ack);
    let begun = bench.now;
    while bench.sent.is_empty() {
        bench.pass(Duration::from_millis(10));
    }
    assert!(
        bench.now - begun >= Duration::from_millis(2_100),
        "RFC 3261 §14.1"
    );
    let refresh = bench.request(CENTRE, Method::Invite);
    let ok = callee
        .answer(&refresh, 200, &sdp(CENTRE, 5000, ""))
        .with(HeaderName::SessionExpires, "600;refresher=uac");
    bench.give(CENTRE, ok);
    bench.request(CENTRE, Method::Ack);
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}
