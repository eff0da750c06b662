//! Sessions that are refreshed by re-INVITE while something else of the call is on its way.

use std::time::Duration;

use bytes::Bytes;

use super::{
    bench::*,
    replacing::replacing,
    taking_over::{TARGET, called_off, come, leave, take_over},
    transfer::{NONE, ask, end_joined, hang_up, notified, renegotiate, ring},
};
use crate::{
    call::CallState,
    sip::{HeaderName, Method, Request, Response},
};

/// A request that refreshes a session of 90 seconds.
fn refreshing(request: Request) -> Request {
    request
        .with(HeaderName::Supported, "timer")
        .with(HeaderName::SessionExpires, "90;refresher=uac")
}

/// A call with sessions of 90 seconds, the caller's refreshed by it and the callee's by `refresher`,
/// in which the caller has asked for a transfer: the INVITE to the new peer, which rings.
fn ringing_with(refresher: &str) -> (Bench, Phone, Phone, Request) {
    let mut bench = Bench::keyed("sip.update = true", "sip.session_expires = 90");
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = refreshing(caller.invite(&sdp(CARRIER, 4000, "")));
    let invite = bench.carry(CARRIER, invite, CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, refreshed(&callee, &invite, refresher));
    bench.request(CENTRE, Method::Ack);
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.ack());
    let (_, invite) = ring(&mut bench, &mut caller, TARGET);
    (bench, caller, callee, invite)
}

/// The callee agrees to an INVITE, and to who refreshes.
fn refreshed(callee: &Phone, invite: &Request, refresher: &str) -> Response {
    callee.answer(invite, 200, &sdp(CENTRE, 5000, "")).with(
        HeaderName::SessionExpires,
        format!("90;refresher={refresher}"),
    )
}

/// As [`ringing_with`], half a minute ago; the callee refreshes its session.
fn ringing() -> (Bench, Phone, Phone, Request) {
    let (mut bench, caller, callee, invite) = ringing_with("uas");
    bench.pass(Duration::from_secs(30));
    bench.silent();
    (bench, caller, callee, invite)
}

/// A refresh that is answered at once, and that nobody else hears of.
#[track_caller]
fn refresh(bench: &mut Bench, phone: &mut Phone, body: &Bytes) -> Response {
    bench.give(phone.peer, refreshing(phone.invite(body)));
    bench.response(phone.peer, 100);
    let ok = bench.response(phone.peer, 200);
    assert_eq!(
        ok.headers.text(HeaderName::SessionExpires),
        Some("90;refresher=uac")
    );
    assert!(ok.headers.contact().is_ok());
    bench.silent();
    ok
}

/// The new peer answers, and the two that are left have one call.
#[track_caller]
fn join(bench: &mut Bench, caller: &mut Phone, callee: &Phone, invite: &Request) {
    let mut new = take_over(bench, caller, callee, invite);
    leave(bench, caller, [5100, 5000], &mut new, callee);
}

#[test]
fn a_call_outlives_its_sessions_while_a_transfer_rings() {
    let (mut bench, mut caller, mut callee, invite) = ringing();
    let (media, ports) = (bench.media.calls(), bench.media.reserved_ports());
    let ours = bench.core.calls()[0]
        .legs
        .clone()
        .map(|leg| leg.media.unwrap());
    for (phone, leg, port) in [(&mut caller, 0, 4000), (&mut callee, 1, 5000)] {
        let peer = phone.peer;
        let ok = refresh(&mut bench, phone, &sdp(peer, port, ""));
        let answer = text(&ok.body);
        let line = format!("m=audio {} RTP/AVP 0 8 101\r\n", ours[leg].port());
        assert!(answer.contains(&line), "{answer}");
        bench.give(peer, phone.ack());
    }
    assert_eq!(bench.media.calls(), media);
    assert_eq!(bench.media.reserved_ports(), ports);
    // Longer than the sessions would have lasted.
    bench.pass(Duration::from_secs(29));
    bench.silent();
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    join(&mut bench, &mut caller, &callee, &invite);
}

#[test]
fn we_refresh_a_session_while_a_transfer_rings() {
    for answers in [true, false] {
        let (mut bench, mut caller, callee, invite) = ringing_with("uac");
        bench.pass(Duration::from_secs(45));
        let asked = bench.request(CENTRE, Method::Invite);
        assert_eq!(asked.headers.call_id().unwrap(), callee.call_id);
        if answers {
            bench.give(CENTRE, refreshed(&callee, &asked, "uac"));
            bench.request(CENTRE, Method::Ack);
            bench.pass(Duration::from_millis(14_900));
            bench.silent();
            assert_eq!(bench.core.calls()[0].state, CallState::Established);
            join(&mut bench, &mut caller, &callee, &invite);
            continue;
        }
        // The new peer answers before the side that stays does.
        bench.give(CENTRE, callee.answer(&asked, 100, &NONE));
        let mut new = come(&mut bench, &invite);
        notified(&mut bench, &caller, "200", true);
        called_off(&mut bench, &callee);
        bench.give(CENTRE, callee.answer(&asked, 200, &sdp(CENTRE, 5000, "")));
        bench.request(CENTRE, Method::Ack);
        renegotiate(&mut bench, &callee, 5000);
        leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
    }
}

/// The asker hangs up, and the session of the side that stays is refreshed in time.
#[track_caller]
fn is_refreshed_without(bench: &mut Bench, asker: &mut Phone, stays: &Phone) {
    bench.give(CARRIER, asker.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.pass(Duration::from_secs(45));
    let asked = bench.request(CENTRE, Method::Invite);
    assert_eq!(asked.headers.call_id().unwrap(), stays.call_id);
}

#[test]
fn we_refresh_the_session_of_the_side_that_stays_when_the_asker_has_hung_up() {
    let (mut bench, mut caller, callee, _) = ringing_with("uac");
    is_refreshed_without(&mut bench, &mut caller, &callee);
}

#[test]
fn what_the_asker_has_not_acknowledged_when_it_hangs_up_keeps_no_refresh_of_ours_back() {
    let (mut bench, mut caller, callee, _) = ringing_with("uac");
    refresh(&mut bench, &mut caller, &NONE);
    is_refreshed_without(&mut bench, &mut caller, &callee);
}

#[test]
fn what_a_side_says_in_its_refresh_is_taken_although_the_asker_has_hung_up_meanwhile() {
    let (mut bench, mut caller, mut callee, _) = ringing();
    refresh(&mut bench, &mut callee, &NONE);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.give(CENTRE, callee.ack_with(sdp(CENTRE, 5006, "")));
    bench.silent();
    let media = bench.media.calls();
    let leg = &media.values().next().unwrap().legs[1];
    assert_eq!(leg.remote.unwrap().rtp.port(), 5006);
}

#[test]
fn a_refresh_says_what_was_said_before() {
    let (mut bench, _, mut callee, _) = ringing();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let ok = refresh(&mut bench, &mut callee, &sdp(CENTRE, 5000, ""));
        bench.give(CENTRE, callee.ack());
        answers.push(text(&ok.body));
    }
    assert_eq!(answers[0], answers[1], "the version too");
}

#[test]
fn what_changes_something_waits_for_the_transfer() {
    let (mut bench, mut caller, mut callee, invite) = ringing();
    let other_version = text(&sdp(CENTRE, 5000, "")).replace("o=- 1 5000", "o=- 1 5001");
    for offer in [
        sdp(CENTRE, 5002, ""),
        // Some forget to count the version up.
        sdp(CENTRE, 5000, "a=sendonly\r\n"),
        other_version.into(),
    ] {
        let asked = refreshing(callee.invite(&offer));
        bench.give(CENTRE, asked.clone());
        bench.response(CENTRE, 100);
        let refused = bench.response(CENTRE, 491);
        assert!(!refused.headers.has(HeaderName::SessionExpires));
        bench.give(CENTRE, refusal_ack(&asked, &refused));
    }
    bench.silent();
    join(&mut bench, &mut caller, &callee, &invite);
}

#[test]
fn a_refresh_by_update_that_repeats_the_offer_is_answered_at_once() {
    let (mut bench, mut caller, callee, invite) = ringing();
    let update = caller
        .request(Method::Update)
        .with_body("application/sdp", sdp(CARRIER, 4000, ""));
    bench.give(CARRIER, refreshing(update));
    let ok = bench.response(CARRIER, 200);
    assert!(text(&ok.body).contains("m=audio"));
    bench.silent();
    join(&mut bench, &mut caller, &callee, &invite);
}

#[test]
fn a_refresh_without_an_offer_is_offered_what_was_agreed() {
    let (mut bench, mut caller, mut callee, invite) = ringing();
    let ok = refresh(&mut bench, &mut callee, &NONE);
    let offer = text(&ok.body);
    assert!(offer.contains("a=sendrecv"), "{offer}");
    // It has moved.
    bench.give(CENTRE, callee.ack_with(sdp(CENTRE, 5006, "")));
    bench.silent();
    let media = bench.media.calls();
    let leg = &media.values().next().unwrap().legs[1];
    assert_eq!(leg.remote.unwrap().rtp.port(), 5006);
    let mut new = come(&mut bench, &invite);
    notified(&mut bench, &caller, "200", true);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    // Before it is asked again, too.
    let media = bench.media.calls();
    let leg = &media.values().next().unwrap().legs[1];
    assert_eq!(leg.remote.unwrap().rtp.port(), 5006);
    renegotiate(&mut bench, &callee, 5006);
    let media = ["192.0.2.2:5100", "192.0.2.2:5006"];
    end_joined(&mut bench, media, &mut new, &callee);
}

#[test]
fn a_new_peer_may_answer_before_a_refresh_is_acknowledged() {
    let (mut bench, mut caller, mut callee, invite) = ringing();
    refresh(&mut bench, &mut callee, &NONE);
    let mut new = come(&mut bench, &invite);
    notified(&mut bench, &caller, "200", true);
    bench.give(CENTRE, callee.ack_with(sdp(CENTRE, 5000, "")));
    bench.silent();
    bench.pass(Duration::from_millis(500));
    renegotiate(&mut bench, &callee, 5000);
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

/// The side that stays has made an offer in its 2xx, whose answer was lost with the asker's ACK.
#[test]
fn an_offer_that_the_asker_of_a_transfer_has_not_answered_is_answered_for_it() {
    let (mut bench, mut caller, callee) = up();
    let onward = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
    bench.response(CARRIER, 200);
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    let owed = bench.request(CENTRE, Method::Ack);
    assert_eq!(owed.headers.call_id().unwrap(), callee.call_id);
    assert!(text(&owed.body).contains("m=audio"), "the answer");
    bench.request(CENTRE, Method::Ack);
    notified(&mut bench, &caller, "200", true);
    renegotiate(&mut bench, &callee, 5000);
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

/// Somebody wants to take the callee's place, and the caller is asked.
fn replacing_callee() -> (Bench, Phone, Phone, Request, Request) {
    let (mut bench, caller, callee) = up();
    let mut new = Phone::caller(CENTRE, "+449999").with_call_id("another");
    let invite = replacing(&callee, new.invite(&sdp(CENTRE, 5100, "")));
    let asked = bench.carry(CENTRE, invite.clone(), CARRIER);
    bench.give(CARRIER, caller.answer(&asked, 100, &NONE));
    (bench, caller, callee, invite, asked)
}

#[test]
fn a_peer_that_another_one_wants_to_replace_may_refresh_its_session() {
    for (body, answered) in [
        (sdp(CENTRE, 5000, ""), None),
        (NONE, Some(sdp(CENTRE, 5008, ""))),
        (NONE, Some(NONE)),
    ] {
        let (mut bench, mut caller, mut callee, invite, asked) = replacing_callee();
        let ok = refresh(&mut bench, &mut callee, &body);
        assert!(text(&ok.body).contains("m=audio"));
        let ack = match &answered {
            None => callee.ack(),
            Some(answer) => callee.ack_with(answer.clone()),
        };
        bench.give(CENTRE, ack);
        bench.silent();
        // The caller does not want the other one: the call is as it was, and goes on.
        bench.give(CARRIER, caller.answer(&asked, 486, &NONE));
        bench.request(CARRIER, Method::Ack);
        let refused = bench.response(CENTRE, 486);
        bench.give(CENTRE, refusal_ack(&invite, &refused));
        let media = bench.media.calls();
        let leg = &media.values().next().unwrap().legs[1];
        let port = match &answered {
            Some(answer) if !answer.is_empty() => 5008,
            _ => 5000,
        };
        assert_eq!(leg.remote.unwrap().rtp.port(), port);
        let hold = callee.invite(&sdp(CENTRE, port, "a=sendonly\r\n"));
        let held = sdp(CARRIER, 4000, "a=recvonly\r\n");
        bench.reinvite(&mut callee, hold, &caller, &held);
        assert!(bench.core.calls()[0].held);
        hang_up(&mut bench, &mut caller, &callee);
        bench.finished();
    }
}

#[test]
fn a_peer_that_has_refreshed_is_replaced_all_the_same() {
    for body in [sdp(CENTRE, 5000, ""), NONE] {
        let (mut bench, mut caller, mut callee, invite, asked) = replacing_callee();
        refresh(&mut bench, &mut callee, &body);
        bench.give(CARRIER, caller.answer(&asked, 200, &sdp(CARRIER, 4000, "")));
        bench.request(CARRIER, Method::Ack);
        let bye = bench.request(CENTRE, Method::Bye);
        assert_eq!(bye.headers.call_id().unwrap(), callee.call_id);
        bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
        let ok = bench.response(CENTRE, 200);
        let mut new = Phone::caller(CENTRE, "+449999").with_call_id("another");
        new.sequence = invite.headers.cseq().unwrap().number;
        new.learn(&ok);
        bench.give(CENTRE, new.ack());
        let media = ["198.51.100.2:4000", "192.0.2.2:5100"];
        end_joined(&mut bench, media, &mut caller, &new);
    }
}

#[test]
fn a_side_that_is_asked_for_itself_has_to_wait_with_its_refresh() {
    let (mut bench, mut caller, callee, _, asked) = replacing_callee();
    let crossing = refreshing(caller.invite(&sdp(CARRIER, 4000, "")));
    bench.give(CARRIER, crossing.clone());
    bench.response(CARRIER, 100);
    // RFC 3261 §14.2: an INVITE of ours is on its way there.
    let refused = bench.response(CARRIER, 491);
    bench.give(CARRIER, refusal_ack(&crossing, &refused));
    bench.give(CARRIER, caller.answer(&asked, 486, &NONE));
    bench.request(CARRIER, Method::Ack);
    bench.response(CENTRE, 486);
    bench.silent();
    assert_eq!(callee.peer, CENTRE);
}
