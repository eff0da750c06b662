//! What changes in a call that is up.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{CallState, Change, EndReason, Side},
    sip::{HeaderName, Method},
};

const NONE: Bytes = Bytes::new();

#[test]
fn the_caller_holds_and_resumes() {
    let (mut bench, mut caller, callee) = up();
    for (theirs, answered, held) in [
        ("a=sendonly\r\n", "a=recvonly", true),
        ("a=sendrecv\r\n", "a=sendrecv", false),
    ] {
        let invite = caller.invite(&sdp(CARRIER, 4000, theirs));
        let answer = sdp(CENTRE, 5000, &format!("{answered}\r\n"));
        let (onward, ok) = bench.reinvite(&mut caller, invite, &callee, &answer);
        assert!(text(&onward.body).contains(theirs.trim()));
        assert!(text(&ok.body).contains(answered));
        bench.silent();
        assert_eq!(bench.core.calls()[0].held, held);
        assert_eq!(
            bench.changes().last(),
            Some(&&Change::Renegotiated { by: Side::A, held })
        );
    }
}

#[test]
fn the_callee_changes_codec_and_address() {
    let (mut bench, caller, mut callee) = up();
    let offer = text(&sdp(CENTRE, 5002, "")).replace("RTP/AVP 0 8 101", "RTP/AVP 8");
    let invite = callee.invite(&offer.into());
    let answer = text(&sdp(CARRIER, 4000, "")).replace("RTP/AVP 0 8 101", "RTP/AVP 8");
    let (onward, _) = bench.reinvite(&mut callee, invite, &caller, &answer.into());
    assert_eq!(onward.headers.call_id().unwrap(), caller.call_id);
    bench.silent();
    let call = &bench.core.calls()[0];
    assert_eq!(call.codec.as_deref(), Some("PCMA/8000"));
    assert_eq!(
        bench.media.calls()[&call.id].legs[1].remote.unwrap().rtp,
        address("192.0.2.2:5002")
    );
}

#[test]
fn a_reinvite_without_an_offer_gets_one() {
    let (mut bench, mut caller, callee) = up();
    let onward = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    assert!(onward.body.is_empty());
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5006, "")));
    let ok = bench.response(CARRIER, 200);
    assert!(!ok.body.is_empty());
    bench.silent();
    bench.give(CARRIER, caller.ack_with(sdp(CARRIER, 4006, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert!(!ack.body.is_empty());
    let media = bench.media.calls();
    let legs = &media.values().next().unwrap().legs;
    assert_eq!(legs[0].remote.unwrap().rtp.port(), 4006);
    assert_eq!(legs[1].remote.unwrap().rtp.port(), 5006);
}

#[test]
fn a_refused_reinvite_leaves_the_call_as_it_was() {
    let (mut bench, mut caller, callee) = up();
    let before = bench.media.calls();
    let invite = caller.invite(&sdp(CARRIER, 4008, "a=inactive\r\n"));
    let onward = bench.carry(CARRIER, invite, CENTRE);
    bench.give(CENTRE, callee.answer(&onward, 488, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 488);
    assert_eq!(bench.media.calls(), before);
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
}

#[test]
fn a_reinvite_in_another_address_family_is_refused_and_the_sound_goes_on() {
    let (mut bench, mut caller, _) = up();
    let before = bench.media.calls();
    let moved = text(&sdp(CARRIER, 4000, ""))
        .replace("c=IN IP4 198.51.100.2", "c=IN IP6 2001:db8::2")
        .into();
    bench.give(CARRIER, caller.invite(&moved));
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 488);
    let warning = refusal.headers.text("Warning").unwrap();
    assert!(warning.starts_with("300 "), "{warning}");
    bench.silent();
    assert_eq!(bench.media.calls(), before);
}

#[test]
fn a_reinvite_that_finds_no_call_ends_it() {
    for status in [408, 481] {
        let (mut bench, mut caller, callee) = up();
        let onward = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
        bench.give(CENTRE, callee.answer(&onward, status, &NONE));
        let bye = bench.next(CARRIER);
        assert!(bye.is_some());
        let bye = bench.request(CARRIER, Method::Bye);
        bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
        assert!(bench.changes().contains(&&Change::Ending {
            why: EndReason::Lost(Side::B)
        }));
        bench.pass(Duration::from_secs(33));
        bench.finished();
    }
}

#[test]
fn a_callee_that_is_gone_is_noticed_by_silence() {
    let (mut bench, mut caller, _) = up();
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.pass(Duration::from_secs(32));
    bench.response(CARRIER, 100);
    bench.response(CARRIER, 408);
    bench.pass(Duration::from_secs(33));
    bench.finished();
}

#[test]
fn after_glare_we_ask_again_within_the_time_of_the_call_ids_owner() {
    for (asks, asked, least, most) in [
        // The Call-ID towards the centre is ours, towards the carrier it is not.
        (CARRIER, CENTRE, 2_100, 4_000),
        (CENTRE, CARRIER, 0, 2_000),
    ] {
        let (mut bench, mut caller, mut callee) = up();
        let (one, two) = if asks == CARRIER {
            (&mut caller, &callee)
        } else {
            (&mut callee, &caller)
        };
        let onward = bench.carry(asks, one.invite(&sdp(asks, 7000, "")), asked);
        bench.give(asked, two.answer(&onward, 491, &NONE));
        bench.request(asked, Method::Ack);
        bench.silent();
        let begun = bench.now;
        while bench.sent.is_empty() {
            bench.pass(Duration::from_millis(10));
        }
        let waited = (bench.now - begun).as_millis();
        assert!((least..=most + 10).contains(&waited), "{waited} ms");
        let again = bench.request(asked, Method::Invite);
        assert_eq!(again.body, onward.body);
        assert!(again.headers.cseq().unwrap().number > onward.headers.cseq().unwrap().number);
        bench.give(asked, two.answer(&again, 200, &sdp(asked, 7002, "")));
        bench.request(asked, Method::Ack);
        bench.response(asks, 200);
    }
}

#[test]
fn whoever_comes_back_first_after_a_glare_has_its_turn() {
    let (mut bench, mut caller, mut callee) = up();
    let hold = caller.invite(&sdp(CARRIER, 7000, "a=sendonly\r\n"));
    let onward = bench.carry(CARRIER, hold.clone(), CENTRE);
    let crossing = callee.invite(&sdp(CENTRE, 7100, ""));
    bench.give(CENTRE, crossing.clone());
    bench.response(CENTRE, 100);
    let refused = bench.response(CENTRE, 491);
    bench.give(CENTRE, refusal_ack(&crossing, &refused));
    bench.give(CENTRE, callee.answer(&onward, 491, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.silent();
    // The callee has not made the Call-ID: it waits for two seconds at most, we for longer.
    bench.pass(Duration::from_secs(2));
    bench.give(CENTRE, callee.invite(&sdp(CENTRE, 7100, "")));
    bench.response(CENTRE, 100);
    let refused = bench.response(CARRIER, 491);
    bench.give(CARRIER, refusal_ack(&hold, &refused));
    let onward = bench.request(CARRIER, Method::Invite);
    bench.give(
        CARRIER,
        caller.answer(&onward, 200, &sdp(CARRIER, 7000, "")),
    );
    bench.request(CARRIER, Method::Ack);
    bench.response(CENTRE, 200);
    bench.give(CENTRE, callee.ack());
    bench.pass(Duration::from_secs(4));
    bench.silent();
    assert!(!bench.core.calls()[0].held);
    // Then the caller's.
    let hold = caller.invite(&sdp(CARRIER, 7000, "a=sendonly\r\n"));
    let answer = sdp(CENTRE, 7100, "a=recvonly\r\n");
    bench.reinvite(&mut caller, hold, &callee, &answer);
    assert!(bench.core.calls()[0].held);
}

#[test]
fn endless_glare_is_passed_on() {
    let (mut bench, mut caller, callee) = up();
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    for _ in 0..4 {
        let onward = bench.request(CENTRE, Method::Invite);
        bench.give(CENTRE, callee.answer(&onward, 491, &NONE));
        bench.request(CENTRE, Method::Ack);
        if bench.sent.is_empty() {
            while bench.sent.is_empty() {
                bench.pass(Duration::from_millis(10));
            }
        }
    }
    bench.response(CARRIER, 491);
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
}

#[test]
fn crossing_reinvites_get_491() {
    let (mut bench, mut caller, mut callee) = up();
    bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    bench.give(CENTRE, callee.invite(&sdp(CENTRE, 5000, "")));
    bench.response(CENTRE, 100);
    bench.response(CENTRE, 491);

    // A second one of the same side waits, too (RFC 3261 §14.2).
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 500);
    assert!(refusal.headers.has(HeaderName::RetryAfter));
}

#[test]
fn a_cancelled_reinvite_leaves_the_call_as_it_was() {
    let (mut bench, mut caller, callee) = up();
    let invite = caller.invite(&sdp(CARRIER, 4000, "a=inactive\r\n"));
    let onward = bench.carry(CARRIER, invite.clone(), CENTRE);
    bench.give(CENTRE, callee.answer(&onward, 100, &NONE));
    bench.give(CARRIER, cancel(&invite));
    bench.response(CARRIER, 200);
    bench.request(CENTRE, Method::Cancel);
    bench.give(CENTRE, callee.answer(&onward, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 487);
    let call = &bench.core.calls()[0];
    assert_eq!((call.state, call.held), (CallState::Established, false));
}

#[test]
fn a_reinvite_accepted_in_spite_of_its_cancel_holds() {
    let (mut bench, mut caller, callee) = up();
    let invite = caller.invite(&sdp(CARRIER, 4000, "a=inactive\r\n"));
    let onward = bench.carry(CARRIER, invite.clone(), CENTRE);
    bench.give(CARRIER, cancel(&invite));
    bench.response(CARRIER, 200);
    bench.give(
        CENTRE,
        callee.answer(&onward, 200, &sdp(CENTRE, 5000, "a=inactive\r\n")),
    );
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    assert!(bench.core.calls()[0].held);
}

#[test]
fn hanging_up_ends_a_reinvite_on_its_way() {
    let (mut bench, mut caller, mut callee) = up();
    let onward = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    bench.response(CARRIER, 487);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CENTRE, callee.answer(&onward, 487, &NONE));
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    bench.finished();
}

#[test]
fn the_new_contact_of_a_reinvite_is_used() {
    let (mut bench, mut caller, mut callee) = up();
    let mut invite = caller.invite(&sdp(CARRIER, 4000, ""));
    invite
        .headers
        .set(HeaderName::Contact, "<sip:moved@198.51.100.2:5090>");
    bench.reinvite(&mut caller, invite, &callee, &sdp(CENTRE, 5000, ""));
    bench.give(CENTRE, callee.request(Method::Bye));
    let bye = bench.request("198.51.100.2:5090", Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:moved@198.51.100.2:5090");
}

#[test]
fn a_copy_of_an_answer_is_acknowledged_although_another_one_has_followed_it() {
    let mut bench = Bench::new();
    let (mut caller, callee, invite) = bench.begin_call();
    bench.answer_call(&mut caller, &callee, &invite, 5000);
    // The ACK was lost.
    let moved = caller.invite(&sdp(CARRIER, 4002, ""));
    let (again, _) = bench.reinvite(&mut caller, moved, &callee, &sdp(CENTRE, 5000, ""));
    for request in [&invite, &again, &invite] {
        let ok = callee.answer(request, 200, &sdp(CENTRE, 5000, ""));
        bench.give(CENTRE, ok);
        let ack = bench.request(CENTRE, Method::Ack);
        let number = request.headers.cseq().unwrap().number;
        assert_eq!(ack.headers.cseq().unwrap().number, number);
        bench.silent();
    }
}
