//! What the caller's side hears of ringing, and reliable provisional responses.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::sip::{HeaderName, Method};

const NONE: Bytes = Bytes::new();

fn ringing(carrier: &str, centre: &str) -> (Bench, Phone, crate::sip::Request) {
    let mut bench = Bench::keyed(carrier, centre);
    let (_, callee, invite) = bench.begin_call();
    (bench, callee, invite)
}

#[test]
fn a_carrier_that_loses_ringback_gets_180_for_183() {
    let (mut bench, callee, invite) = ringing("sip.ringback = \"ringing\"", "");
    bench.give(CENTRE, callee.answer(&invite, 183, &sdp(CENTRE, 5000, "")));
    let told = bench.response(CARRIER, 180);
    assert!(told.body.is_empty());
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    assert!(!bench.response(CARRIER, 200).body.is_empty());
}

#[test]
fn only_the_first_183_passes_where_a_trunk_wants_it_so() {
    let (mut bench, callee, invite) = ringing("sip.ringback = \"first-183\"", "");
    bench.give(CENTRE, callee.answer(&invite, 183, &sdp(CENTRE, 5000, "")));
    assert!(!bench.response(CARRIER, 183).body.is_empty());
    let other = Phone::callee(CENTRE, &invite, "b2");
    bench.give(CENTRE, other.answer(&invite, 183, &sdp(CENTRE, 5002, "")));
    bench.silent();
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    bench.response(CARRIER, 180);
}

#[test]
fn a_reliable_provisional_response_is_acknowledged_once() {
    let (mut bench, callee, invite) = ringing("", "sip.reliable_provisional = true");
    assert!(invite.headers.has_token(HeaderName::Supported, "100rel"));
    let reliable = |number: u32, status| {
        callee
            .answer(&invite, status, &NONE)
            .with(HeaderName::Require, "100rel")
            .with(HeaderName::RSeq, number)
    };
    let sequence = invite.headers.cseq().unwrap().number;
    bench.give(CENTRE, reliable(7, 180));
    let prack = bench.request(CENTRE, Method::Prack);
    assert_eq!(
        prack.headers.text(HeaderName::RAck),
        Some(&*format!("7 {sequence} INVITE"))
    );
    assert_eq!(prack.headers.to().unwrap().tag(), callee.local.tag());
    bench.response(CARRIER, 180);
    bench.give(CENTRE, callee.answer(&prack, 200, &NONE));
    // The same again, and one that has overtaken another.
    bench.give(CENTRE, reliable(7, 180));
    bench.give(CENTRE, reliable(9, 183));
    bench.silent();
    bench.give(CENTRE, reliable(8, 183));
    let second = bench.request(CENTRE, Method::Prack);
    bench.give(CENTRE, callee.answer(&second, 200, &NONE));
    bench.response(CARRIER, 183);
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.cseq().unwrap().number, sequence);
    bench.response(CARRIER, 200);
    bench.core.hang_up(bench.now);
    bench.collect();
    let bye = bench.request(CENTRE, Method::Bye);
    assert!(
        bye.headers.cseq().unwrap().number > second.headers.cseq().unwrap().number,
        "the dialog goes on counting"
    );
}

/// A caller that wants reliable provisional responses, and its callee.
fn reliably(option: HeaderName) -> (Bench, Phone, Phone, crate::sip::Request) {
    let mut bench = Bench::keyed("sip.reliable_provisional = true", "");
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(
        CARRIER,
        caller
            .invite(&sdp(CARRIER, 4000, ""))
            .with(option, "100rel"),
        CENTRE,
    );
    assert!(!invite.headers.has(HeaderName::Require));
    let callee = Phone::callee(CENTRE, &invite, "b1");
    (bench, caller, callee, invite)
}

fn prack(caller: &mut Phone, response: &crate::sip::Response) -> crate::sip::Request {
    caller.learn(response);
    let number = response.headers.number(HeaderName::RSeq).unwrap().unwrap();
    caller
        .request(Method::Prack)
        .with(HeaderName::RAck, format!("{number} 1 INVITE"))
}

#[test]
fn a_caller_that_requires_it_is_told_again_until_it_acknowledges() {
    let (mut bench, mut caller, callee, invite) = reliably(HeaderName::Require);
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    let ringing = bench.response(CARRIER, 180);
    assert!(ringing.headers.has_token(HeaderName::Require, "100rel"));
    bench.pass(Duration::from_millis(500));
    assert_eq!(bench.response(CARRIER, 180), ringing);
    // The next one waits for the PRACK of the first.
    bench.give(CENTRE, callee.answer(&invite, 183, &sdp(CENTRE, 5000, "")));
    bench.silent();
    let wrong = caller
        .request(Method::Prack)
        .with(HeaderName::RAck, "1 1 INVITE");
    let mut wrong = wrong;
    wrong
        .headers
        .set(HeaderName::To, ringing.headers.to().unwrap());
    bench.give(CARRIER, wrong);
    bench.response(CARRIER, 481);
    let first = prack(&mut caller, &ringing);
    bench.give(CARRIER, first);
    bench.response(CARRIER, 200);
    let progress = bench.response(CARRIER, 183);
    assert!(!progress.body.is_empty());
    // The answer waits for the PRACK of the one that bears the description.
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.silent();
    let second = prack(&mut caller, &progress);
    bench.give(CARRIER, second);
    bench.response(CARRIER, 200);
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert_eq!(ok.headers.cseq().unwrap().method, Method::Invite);
    bench.give(CARRIER, caller.numbered(Method::Ack, 1));
    bench.pass(Duration::from_secs(5));
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn an_offer_in_prack_is_answered_where_the_callee_s_answer_still_holds() {
    let (mut bench, mut caller, callee, invite) = reliably(HeaderName::Supported);
    let answer = sdp(CENTRE, 5000, "");
    for (offer, status, port) in [
        // Another codec than the callee's, another direction, and another port.
        ("m=audio 4000 RTP/AVP 9", 488, 4000),
        ("a=sendonly", 488, 4000),
        ("m=audio 4010 RTP/AVP", 200, 4010),
    ] {
        bench.give(CENTRE, callee.answer(&invite, 183, &answer));
        let progress = bench.response(CARRIER, 183);
        let text = String::from_utf8(sdp(CARRIER, 4000, "").to_vec()).unwrap();
        let text = match offer.split_once(" RTP/AVP") {
            None => format!("{text}{offer}\r\n"),
            Some((line, "")) => text.replace("m=audio 4000", line),
            Some(_) => text.replace("m=audio 4000 RTP/AVP 0 8", offer),
        };
        let prack = prack(&mut caller, &progress).with_body("application/sdp", text);
        bench.give(CARRIER, prack);
        let told = bench.response(CARRIER, status);
        assert_eq!(told.body.is_empty(), status == 488, "{offer}");
        assert_eq!(told.headers.has(HeaderName::Warning), status == 488);
        let media = bench.media.calls();
        let legs = &media.values().next().unwrap().legs;
        assert_eq!(legs[0].remote.unwrap().rtp.port(), port, "{offer}");
        // It has been acknowledged, whatever came of the offer.
        bench.pass(Duration::from_secs(2));
        bench.silent();
    }
    bench.give(CENTRE, callee.answer(&invite, 200, &answer));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    bench.give(CARRIER, caller.numbered(Method::Ack, 1));
    bench.silent();
    let media = bench.media.calls();
    let legs = &media.values().next().unwrap().legs;
    assert_eq!(legs[0].remote.unwrap().rtp.port(), 4010);
}

/// RFC 3262 §3: what was sent may be acknowledged after the final response, and is not sent again.
#[test]
fn a_prack_that_comes_after_the_cancel_is_served() {
    for callee_is_done in [false, true] {
        let mut bench = Bench::keyed("sip.reliable_provisional = true", "");
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let first = caller
            .invite(&sdp(CARRIER, 4000, ""))
            .with(HeaderName::Supported, "100rel");
        let invite = bench.carry(CARRIER, first.clone(), CENTRE);
        let callee = Phone::callee(CENTRE, &invite, "b1");
        bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
        let ringing = bench.response(CARRIER, 180);
        bench.give(CARRIER, cancel(&first));
        bench.response(CARRIER, 200);
        let refused = bench.response(CARRIER, 487);
        bench.give(CARRIER, refusal_ack(&first, &refused));
        bench.request(CENTRE, Method::Cancel);
        let end = |bench: &mut Bench| {
            bench.give(CENTRE, callee.answer(&invite, 487, &NONE));
            bench.request(CENTRE, Method::Ack);
        };
        if callee_is_done {
            end(&mut bench);
        }
        bench.pass(Duration::from_millis(1_500));
        bench
            .sent
            .retain(|(target, _)| target.remote == address(CARRIER));
        bench.silent();
        let mut wrong = prack(&mut caller, &ringing);
        wrong.headers.set(HeaderName::RAck, "1 1 INVITE");
        bench.give(CARRIER, wrong);
        bench.response(CARRIER, 481);
        for status in [200, 481] {
            let prack = prack(&mut caller, &ringing);
            bench.give(CARRIER, prack);
            bench.response(CARRIER, status);
        }
        if !callee_is_done {
            end(&mut bench);
        }
        bench.finished();
    }
}

#[test]
fn a_prack_that_comes_after_the_answer_is_served_once() {
    let (mut bench, mut caller, callee, invite) = reliably(HeaderName::Supported);
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    let ringing = bench.response(CARRIER, 180);
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    for status in [200, 481] {
        let prack = prack(&mut caller, &ringing);
        bench.give(CARRIER, prack);
        bench.response(CARRIER, status);
    }
    bench.give(CARRIER, caller.numbered(Method::Ack, 1));
    bench.pass(Duration::from_secs(60));
    bench.silent();
    assert!(bench.core.unacknowledged.is_empty());
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_prack_that_never_comes_after_the_cancel_is_waited_for_no_longer_than_its_response_lives() {
    let (mut bench, _, callee, invite) = reliably(HeaderName::Supported);
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    bench.response(CARRIER, 180);
    bench.give(CENTRE, callee.answer(&invite, 486, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 486);
    assert_eq!(bench.core.unacknowledged.len(), 1);
    bench.pass(Duration::from_secs(32));
    assert!(bench.core.unacknowledged.is_empty());
}

/// Its first one would bear the callee's offer, which nobody has answered when it is acknowledged.
#[test]
fn reliable_responses_are_asked_for_only_where_they_are_acknowledged_as_they_should_be() {
    let knows = |invite: &crate::sip::Request| {
        assert!(invite.headers.has_token(HeaderName::Supported, "timer"));
        invite.headers.has_token(HeaderName::Supported, "100rel")
    };
    for (body, is_known) in [(sdp(CARRIER, 4000, ""), true), (NONE, false)] {
        let mut bench = Bench::keyed("", "sip.reliable_provisional = true");
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let invite = bench.carry(CARRIER, caller.invite(&body), CENTRE);
        assert_eq!(knows(&invite), is_known);
    }
    let mut bench = Bench::keyed("", "sip.reliable_provisional = true");
    let (mut caller, callee) = bring_up(&mut bench);
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let answer = sdp(CENTRE, 5000, "");
    let (onward, _) = bench.reinvite(&mut caller, invite, &callee, &answer);
    assert!(!knows(&onward), "nobody waits for its ringing");
}

/// RFC 3261 §13.2.1 would have the first reliable one bear an offer.
#[test]
fn ringing_is_told_unreliably_or_not_at_all_where_the_invite_bears_no_offer() {
    for (option, is_told) in [(HeaderName::Supported, true), (HeaderName::Require, false)] {
        let mut bench = Bench::keyed("sip.reliable_provisional = true", "");
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let invite = caller.invite(&NONE).with(option, "100rel");
        let invite = bench.carry(CARRIER, invite, CENTRE);
        let callee = Phone::callee(CENTRE, &invite, "b1");
        bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
        if is_told {
            let ringing = bench.response(CARRIER, 180);
            assert!(!ringing.headers.has(HeaderName::Require));
        }
        bench.silent();
        bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
        assert!(!bench.response(CARRIER, 200).body.is_empty());
    }
}

#[test]
fn a_caller_that_never_acknowledges_is_refused() {
    let (mut bench, _, callee, invite) = reliably(HeaderName::Supported);
    bench.give(CENTRE, callee.answer(&invite, 183, &sdp(CENTRE, 5000, "")));
    bench.pass(Duration::from_millis(100));
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.pass(Duration::from_secs(32));
    while let Some((_, crate::sip::Message::Response(response))) = bench.next(CARRIER) {
        if response.status != 183 {
            assert_eq!(response.status, 504);
            break;
        }
    }
    // The callee must hear that nobody is there.
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.pass(Duration::from_secs(40));
    bench.finished();
}

#[test]
fn a_trunk_without_reliable_responses_refuses_whoever_requires_them() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::Require, "100rel");
    bench.give(CARRIER, invite);
    bench.response(CARRIER, 100);
    let refused = bench.response(CARRIER, 420);
    assert_eq!(
        refused.headers.text(HeaderName::Unsupported),
        Some("100rel")
    );
}

#[test]
fn a_call_rings_for_as_long_as_the_settings_of_now_let_it() {
    let mut bench = Bench::new();
    let longer = SETTINGS.replace("ring_seconds = 60", "ring_seconds = 300");
    bench.core.reconfigure(bench.now, settings(&longer));
    let (_, callee, invite) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    bench.response(CARRIER, 180);
    bench.pass(Duration::from_secs(299));
    bench.silent();
    bench.pass(Duration::from_secs(1));
    bench.response(CARRIER, 480);
    bench.request(CENTRE, Method::Cancel);
}
