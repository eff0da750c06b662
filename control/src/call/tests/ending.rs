//! How calls end.

use std::time::Duration;

use bytes::Bytes;

use super::{
    bench::*,
    taking_over::{TARGET, take_over},
    transfer::ask,
};
use crate::{
    call::{CallState, Change, EndReason, Side},
    sip::{HeaderName, Method},
};

const NONE: Bytes = Bytes::new();

#[test]
fn the_callee_hangs_up() {
    let (mut bench, caller, mut callee) = up();
    let bye = callee
        .request(Method::Bye)
        .with(HeaderName::Reason, "Q.850;cause=16");
    bench.give(CENTRE, bye);
    bench.response(CENTRE, 200);
    let bye = bench.request(CARRIER, Method::Bye);
    assert_eq!(bye.headers.text(HeaderName::Reason), Some("Q.850;cause=16"));
    assert_eq!(bye.headers.call_id().unwrap(), caller.call_id);
    assert_eq!(bye.uri.to_string(), "sip:secret@198.51.100.2:5060");
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    assert!(bench.changes().contains(&&Change::Ending {
        why: EndReason::Bye(Side::B)
    }));
    bench.finished();
}

#[test]
fn both_hang_up_at_once() {
    let (mut bench, mut caller, mut callee) = up();
    let from_caller = caller.request(Method::Bye);
    let from_callee = callee.request(Method::Bye);
    bench.give(CARRIER, from_caller);
    bench.response(CARRIER, 200);
    bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, from_callee);
    bench.response(CENTRE, 200);
    bench.silent();
    bench.finished();
}

#[test]
fn a_bye_that_nobody_answers_is_given_up() {
    let (mut bench, mut caller, _) = up();
    bench.give(CARRIER, caller.request(Method::Bye));
    assert_eq!(bench.core.calls()[0].state, CallState::Ending);
    assert_eq!(bench.media.reserved_ports(), 0, "media ends at once");
    bench.pass(Duration::from_secs(33));
    bench.finished();
}

#[test]
fn a_cancel_stops_the_callee() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    bench.response(CARRIER, 180);
    let reason = "SIP;cause=200;text=\"Call completed elsewhere\"";
    bench.give(CARRIER, cancel(&first).with(HeaderName::Reason, reason));
    bench.response(CARRIER, 200);
    let refusal = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&first, &refusal));
    let sent = bench.request(CENTRE, Method::Cancel);
    assert_eq!(sent.headers.text(HeaderName::Reason), Some(reason));
    assert_eq!(
        sent.headers.via().unwrap().branch(),
        invite.headers.via().unwrap().branch()
    );
    bench.give(CENTRE, callee.answer(&sent, 200, &NONE));
    bench.give(CENTRE, callee.answer(&invite, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.silent();
    bench.finished();
}

#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    bench.give(CARRIER, cancel(&first));
    bench.response(CARRIER, 200);
    bench.response(CARRIER, 487);
    bench.silent();
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    bench.request(CENTRE, Method::Cancel);
    bench.silent();
    bench.give(CENTRE, callee.answer(&invite, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.finished();
}

#[test]
fn an_answer_that_crosses_with_the_cancel_is_ended() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    bench.response(CARRIER, 180);
    bench.give(CARRIER, cancel(&first));
    bench.response(CARRIER, 200);
    let refusal = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&first, &refusal));
    bench.request(CENTRE, Method::Cancel);
    let ok = callee.answer(&invite, 200, &sdp(CENTRE, 5000, ""));
    bench.give(CENTRE, ok.clone());
    let ack = bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, ok);
    assert_eq!(bench.request(CENTRE, Method::Ack), ack, "a copy for a copy");
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.silent();
    bench.finished();
}

#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    bench.give(CARRIER, cancel(&first));
    bench.response(CARRIER, 200);
    bench.silent();
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
}

#[test]
fn a_200_is_repeated_until_its_ack_and_then_given_up() {
    let mut bench = Bench::new();
    let (mut caller, callee, invite) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    bench.pass(Duration::from_millis(500));
    assert_eq!(bench.response(CARRIER, 200), ok);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.response(CARRIER, 200), ok);
    bench.silent();
    bench.pass(Duration::from_millis(30_499));
    while let Some((target, _)) = bench.next(CARRIER) {
        assert_eq!(target.remote, address(CARRIER));
    }
    bench.silent();
    bench.pass(Duration::from_millis(1));
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    caller.learn(&ok);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    assert!(bench.changes().contains(&&Change::Ending {
        why: EndReason::NoAck(Side::A)
    }));
    bench.finished();
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let mut bench = Bench::new();
    let (mut caller, mut callee, invite) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    bench.silent();
    bench.give(CARRIER, caller.ack());
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    bench.finished();
}

#[test]
fn a_caller_may_hang_up_before_its_ack() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    // Without an offer, so that the callee's ACK is still owed.
    let invite = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.silent();
    bench.finished();
}

#[test]
fn a_bye_in_an_early_dialog_cancels_the_call() {
    let mut bench = Bench::new();
    let (mut caller, callee, invite) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    caller.learn(&bench.response(CARRIER, 180));
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.response(CARRIER, 487);
    bench.request(CENTRE, Method::Cancel);
    bench.give(CENTRE, callee.answer(&invite, 487, &NONE));
    bench.finished();
}

#[test]
fn hanging_up_everything_leaves_nothing() {
    let (mut bench, caller, callee) = up();
    let mut second = Phone::caller(CARRIER, "+15559999").with_call_id("another");
    let invite = bench.carry(CARRIER, second.invite(&sdp(CARRIER, 4002, "")), CENTRE);
    let ringing = Phone::callee(CENTRE, &invite, "b2");
    bench.give(CENTRE, ringing.answer(&invite, 180, &NONE));
    bench.response(CARRIER, 180);

    bench.core.hang_up(bench.now);
    bench.collect();
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.response(CARRIER, 503);
    bench.request(CENTRE, Method::Cancel);
    bench.give(CENTRE, ringing.answer(&invite, 487, &NONE));
    bench.finished();
}

#[test]
fn a_reinvite_that_is_answered_after_the_end_still_gets_its_ack() {
    let (mut bench, mut caller, callee) = up();
    let onward = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.response(CARRIER, 487);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    assert_eq!(bench.core.calls(), []);
    let ok = callee.answer(&onward, 200, &sdp(CENTRE, 5000, ""));
    for _ in 0..2 {
        bench.give(CENTRE, ok.clone());
        let ack = bench.request(CENTRE, Method::Ack);
        assert_eq!(
            ack.headers.cseq().unwrap().number,
            onward.headers.cseq().unwrap().number
        );
        assert_eq!(ack.headers.to().unwrap().tag(), callee.local.tag());
    }
    bench.silent();
    bench.pass(Duration::from_secs(40));
    bench.finished();
}

#[test]
fn a_leg_that_was_taken_over_is_hung_up_with_the_calls() {
    let (mut bench, mut caller, callee) = up();
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let new = take_over(&mut bench, &caller, &callee, &invite);
    bench.core.hang_up(bench.now);
    bench.collect();
    let bye = bench.request(CARRIER, Method::Bye);
    assert_eq!(bye.headers.call_id().unwrap(), caller.call_id);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    for _ in [&new, &callee] {
        let bye = bench.request(CENTRE, Method::Bye);
        bench.give(CENTRE, new.answer(&bye, 200, &NONE));
    }
    bench.silent();
    bench.finished();
}
