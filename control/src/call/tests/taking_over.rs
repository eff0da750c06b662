//! What is on its way while another peer takes a leg over.

use std::time::Duration;

use super::{
    bench::*,
    replacing::replacing,
    transfer::{NONE, ask, end_joined, hang_up, notified, refer, renegotiate, ring},
};
use crate::{
    call::CallState,
    sip::{HeaderName, Method, Request, Response},
};

pub(super) const TARGET: &str = "sip:+15557777@198.51.100.1";

/// The new peer that an INVITE has reached answers.
#[track_caller]
pub(super) fn come(bench: &mut Bench, invite: &Request) -> Phone {
    let new = Phone::callee(CENTRE, invite, "n1");
    bench.give(CENTRE, new.answer(invite, 200, &sdp(CENTRE, 5100, "")));
    bench.request(CENTRE, Method::Ack);
    new
}

/// The new peer that an INVITE has reached answers, and takes over the leg of the carrier's
/// caller.
#[track_caller]
pub(super) fn take_over(
    bench: &mut Bench,
    caller: &Phone,
    callee: &Phone,
    invite: &Request,
) -> Phone {
    let new = come(bench, invite);
    notified(bench, caller, "200", true);
    renegotiate(bench, callee, 5000);
    bench.silent();
    new
}

/// The caller that was taken over hangs up, and then the two that are left, whose media is at these
/// ports.
#[track_caller]
pub(super) fn leave(
    bench: &mut Bench,
    caller: &mut Phone,
    ports: [u16; 2],
    new: &mut Phone,
    callee: &Phone,
) {
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let [one, other] = ports.map(|port| format!("192.0.2.2:{port}"));
    end_joined(bench, [&one, &other], new, callee);
}

/// A re-INVITE to a side is cancelled, and nothing else is asked of it before that has ended.
#[track_caller]
pub(super) fn called_off(bench: &mut Bench, phone: &Phone) {
    let cancel = bench.request(phone.peer, Method::Cancel);
    bench.give(phone.peer, phone.answer(&cancel, 200, &NONE));
    bench.pass(Duration::from_secs(5));
    bench.silent();
}

fn info(phone: &mut Phone) -> Request {
    phone
        .request(Method::Info)
        .with_body("application/dtmf-relay", "Signal=1\r\nDuration=100\r\n")
}

#[test]
fn a_digit_for_whoever_has_asked_for_a_transfer_and_hung_up_ends_nothing() {
    let (mut bench, mut caller, mut callee) = up();
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.give(CENTRE, info(&mut callee));
    bench.response(CENTRE, 480);
    bench.silent();
    let mut new = come(&mut bench, &invite);
    renegotiate(&mut bench, &callee, 5000);
    hang_up(&mut bench, &mut new, &callee);
    bench.finished();
}

#[test]
fn what_the_peer_that_has_left_says_to_a_digit_does_not_end_the_call() {
    let (mut bench, mut caller, mut callee) = up();
    bench.give(CENTRE, info(&mut callee));
    let digit = bench.request(CARRIER, Method::Info);
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = take_over(&mut bench, &caller, &callee, &invite);
    bench.give(CARRIER, caller.answer(&digit, 481, &NONE));
    bench.response(CENTRE, 500);
    bench.silent();
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

#[test]
fn a_late_answer_of_the_peer_that_has_left_is_acknowledged_to_that_peer() {
    let (mut bench, mut caller, mut callee) = up();
    let hold = callee.invite(&sdp(CENTRE, 5000, "a=sendonly\r\n"));
    let asked = bench.carry(CENTRE, hold.clone(), CARRIER);
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = Phone::callee(CENTRE, &invite, "n1");
    let ok = new.answer(&invite, 200, &sdp(CENTRE, 5100, ""));
    bench.give(CENTRE, ok.clone());
    let refused = bench.response(CENTRE, 487);
    bench.give(CENTRE, refusal_ack(&hold, &refused));
    let ack = bench.request(CENTRE, Method::Ack);
    notified(&mut bench, &caller, "200", true);
    renegotiate(&mut bench, &callee, 5000);

    let late = caller.answer(&asked, 200, &sdp(CARRIER, 4000, "a=recvonly\r\n"));
    bench.give(CARRIER, late);
    let theirs = bench.request(CARRIER, Method::Ack);
    assert_eq!(theirs.headers.call_id().unwrap(), caller.call_id);
    bench.silent();
    // The new peer's own ACK is still there, should it be lost.
    bench.give(CENTRE, ok);
    assert_eq!(bench.request(CENTRE, Method::Ack), ack);
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

#[test]
fn a_peer_that_has_left_and_never_answers_a_reinvite_does_not_end_the_call() {
    let (mut bench, mut caller, mut callee) = up();
    let hold = callee.invite(&sdp(CENTRE, 5000, "a=sendonly\r\n"));
    bench.carry(CENTRE, hold.clone(), CARRIER);
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    let refused = bench.response(CENTRE, 487);
    bench.give(CENTRE, refusal_ack(&hold, &refused));
    bench.request(CENTRE, Method::Ack);
    notified(&mut bench, &caller, "200", true);
    renegotiate(&mut bench, &callee, 5000);
    // Another re-INVITE is on its way when the time of the first is over.
    bench.pass(Duration::from_secs(31));
    bench.sent.clear();
    let moved = new.invite(&sdp(CENTRE, 5102, ""));
    let onward = bench.carry(CENTRE, moved, CENTRE);
    bench.give(CENTRE, callee.answer(&onward, 100, &NONE));
    bench.pass(Duration::from_secs(20));
    bench.sent.clear();
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    assert_eq!(
        bench.response(CENTRE, 200).headers.call_id(),
        invite.headers.call_id()
    );
    bench.give(CENTRE, new.ack());
    hang_up(&mut bench, &mut new, &callee);
    bench.finished();
}

/// The caller has asked for a transfer, which rings, and has hung up: the new peer's INVITE.
#[track_caller]
fn hang_up_early(bench: &mut Bench, caller: &mut Phone) -> Request {
    let (_, invite) = ring(bench, caller, TARGET);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    invite
}

/// The new peer answers after a while, and the call is its and the callee's.
#[track_caller]
fn go_on(bench: &mut Bench, callee: &Phone, invite: &Request) {
    bench.pass(Duration::from_secs(35));
    bench
        .sent
        .retain(|(target, _)| target.remote != address(CARRIER));
    bench.silent();
    let mut new = come(bench, invite);
    renegotiate(bench, callee, 5000);
    bench.silent();
    hang_up(bench, &mut new, callee);
    bench.pass(Duration::from_secs(40));
    bench.finished();
}

/// A call whose caller wants to hold it, and what has been said of that: the caller's re-INVITE and
/// ours, which the callee has not answered.
fn holding() -> (Bench, Phone, Phone, [Request; 2]) {
    let (mut bench, mut caller, callee) = up();
    let hold = caller.invite(&sdp(CARRIER, 4000, "a=sendonly\r\n"));
    let held = bench.carry(CARRIER, hold.clone(), CENTRE);
    bench.give(CENTRE, callee.answer(&held, 100, &NONE));
    (bench, caller, callee, [hold, held])
}

/// As [`holding`]; then a new peer has come in the caller's place, and what the callee was asked is
/// still open.
#[track_caller]
fn taken_over_while_holding() -> (Bench, Phone, Phone, Request) {
    let (mut bench, mut caller, callee, [hold, held]) = holding();
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let new = come(&mut bench, &invite);
    let refused = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&hold, &refused));
    notified(&mut bench, &caller, "200", true);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    called_off(&mut bench, &callee);
    (bench, new, callee, held)
}

#[test]
fn what_whoever_has_hung_up_has_asked_of_the_side_that_stays_does_not_end_the_transfer() {
    let (mut bench, mut caller, callee, [hold, held]) = holding();
    let invite = hang_up_early(&mut bench, &mut caller);
    let refused = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&hold, &refused));
    called_off(&mut bench, &callee);
    let ok = callee.answer(&held, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n"));
    bench.give(CENTRE, ok);
    bench.request(CENTRE, Method::Ack);
    renegotiate(&mut bench, &callee, 5000);
    go_on(&mut bench, &callee, &invite);
}

#[test]
fn a_new_peer_may_answer_before_what_whoever_has_hung_up_has_asked_is_over() {
    let (mut bench, mut caller, callee, [hold, held]) = holding();
    let invite = hang_up_early(&mut bench, &mut caller);
    let refused = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&hold, &refused));
    called_off(&mut bench, &callee);
    let mut new = come(&mut bench, &invite);
    bench.pass(Duration::from_secs(5));
    bench.silent();
    // Nor may the new peer's offer be the second one there.
    let moved = new.invite(&sdp(CENTRE, 5102, ""));
    bench.give(CENTRE, moved.clone());
    bench.response(CENTRE, 100);
    let refused = bench.response(CENTRE, 491);
    bench.give(CENTRE, refusal_ack(&moved, &refused));
    bench.give(CENTRE, callee.answer(&held, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    renegotiate(&mut bench, &callee, 5000);
    bench.silent();
    hang_up(&mut bench, &mut new, &callee);
    bench.finished();
}

#[test]
fn what_the_side_that_stays_has_asked_of_whoever_has_hung_up_does_not_end_the_transfer() {
    for status in [0, 481] {
        let (mut bench, mut caller, mut callee) = up();
        let hold = callee.invite(&sdp(CENTRE, 5000, "a=sendonly\r\n"));
        let held = bench.carry(CENTRE, hold.clone(), CARRIER);
        let invite = hang_up_early(&mut bench, &mut caller);
        let refused = bench.response(CENTRE, 491);
        bench.give(CENTRE, refusal_ack(&hold, &refused));
        if status != 0 {
            bench.give(CARRIER, caller.answer(&held, status, &NONE));
            bench.request(CARRIER, Method::Ack);
        }
        go_on(&mut bench, &callee, &invite);
    }
}

#[test]
fn an_offer_that_whoever_has_hung_up_has_not_answered_is_answered_for_it() {
    let (mut bench, mut caller, callee) = up();
    let onward = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
    bench.response(CARRIER, 200);
    let invite = hang_up_early(&mut bench, &mut caller);
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.call_id().unwrap(), callee.call_id);
    assert!(!ack.body.is_empty(), "the answer");
    go_on(&mut bench, &callee, &invite);
}

#[test]
fn an_answer_that_whoever_has_hung_up_has_waited_for_does_not_end_the_transfer() {
    for keys in ["", "sip.offer = \"always\""] {
        let mut bench = Bench::keyed(keys, "");
        let (mut caller, mut callee) = bring_up(&mut bench);
        let onward = bench.carry(CENTRE, callee.invite(&NONE), CARRIER);
        let ok = caller.answer(&onward, 200, &sdp(CARRIER, 4000, ""));
        bench.give(CARRIER, ok);
        bench.response(CENTRE, 200);
        let acknowledged = bench.next(CARRIER).is_some();
        let invite = hang_up_early(&mut bench, &mut caller);
        if !acknowledged {
            bench.request(CARRIER, Method::Ack);
        }
        bench.give(CENTRE, callee.ack_with(sdp(CENTRE, 5000, "")));
        go_on(&mut bench, &callee, &invite);
    }
}

#[test]
fn a_side_is_not_asked_again_before_it_has_answered_what_the_side_that_left_has_asked() {
    // No status: it never answers.
    for status in [200, 487, 0] {
        let (mut bench, mut new, callee, held) = taken_over_while_holding();
        let held = match status {
            200 => callee.answer(&held, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n")),
            _ => callee.answer(&held, 487, &NONE),
        };
        if status == 0 {
            bench.pass(Duration::from_secs(27));
        } else {
            bench.give(CENTRE, held.clone());
            let ack = bench.request(CENTRE, Method::Ack);
            // A copy of it leads to nothing more.
            bench.give(CENTRE, held);
            let asked = bench.sent.pop_front().unwrap();
            assert_eq!(bench.request(CENTRE, Method::Ack), ack);
            bench.sent.push_front(asked);
        }
        let asked = renegotiate(&mut bench, &callee, 5000);
        assert!(text(&asked.body).contains("a=sendrecv"));
        bench.silent();
        hang_up(&mut bench, &mut new, &callee);
        bench.finished();
    }
}

#[test]
fn what_whoever_has_hung_up_says_to_a_digit_does_not_end_the_transfer() {
    // No status: it never answers.
    for status in [481, 0] {
        let (mut bench, mut caller, mut callee) = up();
        bench.give(CENTRE, info(&mut callee));
        let digit = bench.request(CARRIER, Method::Info);
        let invite = hang_up_early(&mut bench, &mut caller);
        if status == 0 {
            bench.pass(Duration::from_secs(32));
            bench.response(CENTRE, 408);
        } else {
            bench.give(CARRIER, caller.answer(&digit, status, &NONE));
            bench.response(CENTRE, 500);
        }
        bench.sent.clear();
        let mut new = come(&mut bench, &invite);
        renegotiate(&mut bench, &callee, 5000);
        hang_up(&mut bench, &mut new, &callee);
        bench.pass(Duration::from_secs(40));
        bench.finished();
    }
}

#[test]
fn what_whoever_has_hung_up_says_to_a_refresh_does_not_end_the_transfer() {
    let mut bench = Bench::keyed("sip.update = true", "");
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::Supported, "timer")
        .with(HeaderName::SessionExpires, "600;refresher=uas")
        .with(HeaderName::Allow, "INVITE, ACK, CANCEL, BYE, UPDATE");
    let invite = bench.carry(CARRIER, invite, CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.answer_call(&mut caller, &callee, &invite, 5000);
    bench.pass(Duration::from_secs(300));
    let refresh = bench.request(CARRIER, Method::Update);
    let invite = hang_up_early(&mut bench, &mut caller);
    bench.give(CARRIER, caller.answer(&refresh, 481, &NONE));
    go_on(&mut bench, &callee, &invite);
}

/// A call of the carrier's and its callee's 200.
fn second_call(bench: &mut Bench) -> (Phone, Phone, Response) {
    let mut second = Phone::caller(CARRIER, "+15559999").with_call_id("consultation");
    second.local.set_tag("consulting");
    let invite = bench.carry(CARRIER, second.invite(&sdp(CARRIER, 4002, "")), CENTRE);
    let other = Phone::callee(CENTRE, &invite, "o1");
    bench.answer_call(&mut second, &other, &invite, 5200);
    let ok = other.answer(&invite, 200, &sdp(CENTRE, 5200, ""));
    (second, other, ok)
}

/// What Refer-To says of a call that another one is to be joined to.
fn naming(second: &Phone) -> String {
    let replaces = format!(
        "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
        second.call_id,
        second.remote.tag().unwrap(),
        second.local.tag().unwrap()
    );
    format!("sip:+15559999@198.51.100.1?Replaces={replaces}")
}

#[test]
fn a_copy_of_the_answer_of_one_who_was_joined_does_not_end_the_call() {
    let (mut bench, mut caller, callee) = up();
    let (second, mut other, ok) = second_call(&mut bench);
    bench.give(CARRIER, refer(&mut caller, &naming(&second)));
    bench.response(CARRIER, 202);
    notified(&mut bench, &caller, "100", false);
    notified(&mut bench, &caller, "200", true);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, second.answer(&bye, 200, &NONE));
    // Its ACK was lost.
    bench.give(CENTRE, ok);
    let asked = bench.request(CENTRE, Method::Invite);
    let again = bench.request(CENTRE, Method::Ack);
    assert_eq!(again.headers.call_id().unwrap(), other.call_id);
    bench.silent();
    bench.give(CENTRE, other.answer(&asked, 200, &sdp(CENTRE, 5200, "")));
    bench.request(CENTRE, Method::Ack);
    renegotiate(&mut bench, &callee, 5000);
    leave(&mut bench, &mut caller, [5200, 5000], &mut other, &callee);
}

#[test]
fn a_side_that_crosses_what_a_transfer_asks_of_it_is_asked_again_afterwards() {
    let (mut bench, mut caller, mut callee) = up();
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = come(&mut bench, &invite);
    notified(&mut bench, &caller, "200", true);
    let asked = bench.request(CENTRE, Method::Invite);
    bench.give(CENTRE, callee.answer(&asked, 491, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.give(CENTRE, callee.invite(&sdp(CENTRE, 5000, "")));
    bench.response(CENTRE, 100);
    renegotiate(&mut bench, &new, 5100);
    bench.response(CENTRE, 200);
    bench.give(CENTRE, callee.ack());
    bench.pass(Duration::from_millis(500));
    let again = renegotiate(&mut bench, &callee, 5000);
    assert!(text(&again.body).contains("a=sendrecv"));
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

#[test]
fn a_side_that_has_not_answered_the_side_that_left_is_asked_again_when_it_says_so() {
    let (mut bench, mut caller, callee) = up();
    let hold = caller.invite(&sdp(CARRIER, 4000, "a=sendonly\r\n"));
    let held = bench.carry(CARRIER, hold.clone(), CENTRE);
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = come(&mut bench, &invite);
    let refused = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&hold, &refused));
    notified(&mut bench, &caller, "200", true);
    bench.silent();
    let ok = callee.answer(&held, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n"));
    bench.give(CENTRE, ok);
    bench.request(CENTRE, Method::Ack);
    let asked = bench.request(CENTRE, Method::Invite);
    let later = callee.answer(&asked, 500, &NONE);
    bench.give(CENTRE, later.with(HeaderName::RetryAfter, 3));
    bench.request(CENTRE, Method::Ack);
    bench.pass(Duration::from_millis(2_999));
    bench.silent();
    bench.pass(Duration::from_millis(1));
    renegotiate(&mut bench, &callee, 5000);
    let media = bench.media.calls();
    let media = media.values().next().unwrap();
    assert!(media.streams.iter().all(|stream| stream.active));
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

#[test]
fn a_call_is_joined_although_what_the_side_that_left_has_asked_is_still_open() {
    let (mut bench, mut new, callee, held) = taken_over_while_holding();

    let (second, mut other, _) = second_call(&mut bench);
    let to = naming(&second);
    bench.give(CENTRE, refer(&mut new, &to));
    bench.response(CENTRE, 202);
    notified(&mut bench, &new, "100", false);
    notified(&mut bench, &new, "200", true);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, second.answer(&bye, 200, &NONE));
    bench.give(CENTRE, new.request(Method::Bye));
    bench.response(CENTRE, 200);
    bench.pass(Duration::from_secs(5));
    bench.silent();

    bench.give(CENTRE, callee.answer(&held, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    let asked = renegotiate(&mut bench, &callee, 5000);
    assert!(text(&asked.body).contains("a=sendrecv"));
    bench.pass(Duration::from_millis(500));
    renegotiate(&mut bench, &other, 5200);
    renegotiate(&mut bench, &callee, 5000);
    end_joined(
        &mut bench,
        ["192.0.2.2:5200", "192.0.2.2:5000"],
        &mut other,
        &callee,
    );
}

#[test]
fn who_asks_again_after_a_glare_waits_as_whoever_has_made_the_call_id_of_the_leg() {
    // The new peer was called by us, in the caller's place, or has called in the callee's.
    let (mut bench, mut caller, mut callee) = up();
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let new = take_over(&mut bench, &caller, &callee, &invite);
    let moved = callee.invite(&sdp(CENTRE, 5002, ""));
    let onward = bench.carry(CENTRE, moved, CENTRE);
    bench.give(CENTRE, new.answer(&onward, 491, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.pass(Duration::from_millis(2_090));
    bench.silent();
    bench.pass(Duration::from_millis(1_910));
    bench.request(CENTRE, Method::Invite);

    let (mut bench, mut caller, callee) = up();
    let mut new = Phone::caller(CENTRE, "+449999").with_call_id("another");
    let invite = replacing(&callee, new.invite(&sdp(CENTRE, 5100, "")));
    let asked = bench.carry(CENTRE, invite, CARRIER);
    bench.give(CARRIER, caller.answer(&asked, 200, &sdp(CARRIER, 4000, "")));
    bench.request(CARRIER, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    new.learn(&bench.response(CENTRE, 200));
    bench.give(CENTRE, new.ack());
    let moved = caller.invite(&sdp(CARRIER, 4002, ""));
    let onward = bench.carry(CARRIER, moved, CENTRE);
    bench.give(CENTRE, new.answer(&onward, 491, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.pass(Duration::from_secs(2));
    bench.request(CENTRE, Method::Invite);
}

#[test]
fn a_party_on_hold_is_taken_off_although_the_one_that_it_is_joined_to_takes_no_reinvite() {
    let (mut bench, mut caller, callee) = up();
    let hold = caller.invite(&sdp(CARRIER, 4000, "a=sendonly\r\n"));
    let held = sdp(CENTRE, 5000, "a=recvonly\r\n");
    bench.reinvite(&mut caller, hold, &callee, &held);
    let (second, mut other, _) = second_call(&mut bench);
    bench.give(CARRIER, refer(&mut caller, &naming(&second)));
    bench.response(CARRIER, 202);
    notified(&mut bench, &caller, "100", false);
    notified(&mut bench, &caller, "200", true);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, second.answer(&bye, 200, &NONE));
    let asked = bench.request(CENTRE, Method::Invite);
    assert_eq!(asked.headers.call_id().unwrap(), other.call_id);
    bench.give(CENTRE, other.answer(&asked, 488, &NONE));
    bench.request(CENTRE, Method::Ack);
    let asked = renegotiate(&mut bench, &callee, 5000);
    assert!(text(&asked.body).contains("a=sendrecv"));
    let media = bench.media.calls();
    let media = media.values().next().unwrap();
    assert!(media.streams.iter().all(|stream| stream.active));
    leave(&mut bench, &mut caller, [5200, 5000], &mut other, &callee);
}
