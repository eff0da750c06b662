//! UPDATE before a call, or a transfer, is answered (RFC 3311).

use std::time::Duration;

use bytes::Bytes;

use super::{
    bench::*,
    taking_over::{TARGET, leave},
    transfer::{NONE, ask, hang_up, notified, renegotiate},
};
use crate::sip::{HeaderName, Method, Request, Response};

const KEYS: &str = "sip.update = true\nsip.reliable_provisional = true";
const UPDATES: &str = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE";

/// A call that has reached the centre and rings, and its callee's INVITE.
fn begun() -> (Bench, Phone, Phone, Request) {
    begun_with(KEYS, "INVITE, ACK, CANCEL, BYE, PRACK")
}

/// As [`begun`], with the keys of the centre's trunk and the methods that the caller takes.
fn begun_with(keys: &str, allow: &str) -> (Bench, Phone, Phone, Request) {
    let mut bench = Bench::keyed(KEYS, keys);
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::Supported, "100rel")
        .with(HeaderName::Allow, allow);
    let invite = bench.carry(CARRIER, invite, CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    (bench, caller, callee, invite)
}

/// What a branch of the callee's side, or the new peer of a transfer, says reliably and is
/// acknowledged.
pub(super) fn reliably(
    bench: &mut Bench,
    phone: &Phone,
    invite: &Request,
    number: u32,
    body: &Bytes,
) {
    let progress = phone
        .answer(invite, 183, body)
        .with(HeaderName::Require, "100rel")
        .with(HeaderName::RSeq, number)
        .with(HeaderName::Allow, UPDATES);
    bench.give(phone.peer, progress);
    let prack = bench.request(phone.peer, Method::Prack);
    bench.give(phone.peer, phone.answer(&prack, 200, &NONE));
}

/// As [`reliably`], of the callee; and the caller acknowledges it, too.
fn progress(bench: &mut Bench, caller: &mut Phone, callee: &Phone, invite: &Request) {
    reliably(bench, callee, invite, 1, &sdp(CENTRE, 5000, ""));
    acknowledge(bench, caller);
}

/// The caller acknowledges a reliable 183.
fn acknowledge(bench: &mut Bench, caller: &mut Phone) {
    let told = bench.response(CARRIER, 183);
    caller.learn(&told);
    let number = told.headers.number(HeaderName::RSeq).unwrap().unwrap();
    let prack = caller
        .request(Method::Prack)
        .with(HeaderName::RAck, format!("{number} 1 INVITE"));
    bench.give(CARRIER, prack);
    bench.response(CARRIER, 200);
}

#[track_caller]
pub(super) fn update(bench: &mut Bench, phone: &mut Phone, body: &Bytes, status: u16) -> Response {
    let mut update = phone.request(Method::Update);
    if !body.is_empty() {
        update = update.with_body("application/sdp", body.clone());
    }
    bench.give(phone.peer, update);
    let told = bench.response(phone.peer, status);
    assert_eq!(told.headers.cseq().unwrap().method, Method::Update);
    assert_eq!(
        !told.body.is_empty(),
        status == 200 && !body.is_empty(),
        "an answer"
    );
    bench.silent();
    told
}

fn ports(bench: &Bench) -> [u16; 2] {
    let media = bench.media.calls();
    let legs = media.into_values().next().unwrap().legs;
    legs.map(|leg| leg.remote.unwrap().rtp.port())
}

/// The callee answers with this body, and the call is up.
#[track_caller]
pub(super) fn answer(
    bench: &mut Bench,
    caller: &mut Phone,
    callee: &Phone,
    invite: &Request,
    body: &Bytes,
) {
    bench.give(CENTRE, callee.answer(invite, 200, body));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert!(text(&ok.body).contains("m=audio"));
    caller.learn(&ok);
    bench.give(CARRIER, caller.numbered(Method::Ack, 1));
    bench.silent();
}

#[test]
fn a_callers_offer_waits_for_the_answer_to_its_first() {
    let (mut bench, mut caller, callee, invite) = begun();
    bench.give(CENTRE, callee.answer(&invite, 180, &NONE));
    let ringing = bench.response(CARRIER, 180);
    caller.learn(&ringing);
    let offer = sdp(CARRIER, 4010, "");
    let told = update(&mut bench, &mut caller, &offer, 500);
    let later = told.headers.number(HeaderName::RetryAfter);
    assert!(later.unwrap().unwrap() <= 10);
    update(&mut bench, &mut caller, &NONE, 200);
}

#[test]
fn a_caller_that_moves_after_a_reliable_answer_is_answered_here() {
    let keys = "sip.reliable_provisional = true";
    let (mut bench, mut caller, callee, invite) = begun_with(keys, UPDATES);
    progress(&mut bench, &mut caller, &callee, &invite);
    update(&mut bench, &mut caller, &sdp(CARRIER, 4010, ""), 200);
    assert_eq!(ports(&bench), [4010, 5000]);
    // What the callee would have to agree to has to wait where it takes no UPDATE.
    let hold = sdp(CARRIER, 4010, "a=sendonly\r\n");
    let told = update(&mut bench, &mut caller, &hold, 488);
    assert!(told.headers.has(HeaderName::Warning));
    answer(&mut bench, &mut caller, &callee, &invite, &NONE);
    assert_eq!(ports(&bench), [4010, 5000]);
    hang_up(&mut bench, &mut caller, &callee);
    bench.pass(Duration::from_secs(20));
    bench.finished();
}

/// The caller sends an UPDATE from another place, and the callee's BYE goes there.
fn move_caller(update: impl FnOnce(&mut Phone) -> Request) {
    let (mut bench, mut caller, mut callee, invite) = begun();
    progress(&mut bench, &mut caller, &callee, &invite);
    let mut update = update(&mut caller);
    let contact = "<sip:moved@198.51.100.2:5090>";
    update.headers.set(HeaderName::Contact, contact);
    bench.give(CARRIER, update);
    bench.response(CARRIER, 200);
    answer(&mut bench, &mut caller, &callee, &invite, &NONE);
    bench.give(CENTRE, callee.request(Method::Bye));
    let bye = bench.request("198.51.100.2:5090", Method::Bye);
    assert_eq!(bye.uri.to_string(), "sip:moved@198.51.100.2:5090");
}

#[test]
fn a_callers_new_contact_before_the_answer_is_used() {
    move_caller(|caller| {
        let update = caller.request(Method::Update);
        update.with_body("application/sdp", sdp(CARRIER, 4010, ""))
    });
}

#[test]
fn a_callers_new_contact_without_an_offer_is_used() {
    move_caller(|caller| caller.request(Method::Update));
}

#[test]
fn an_offer_of_the_callees_crosses_ours_until_it_has_answered_reliably() {
    let (mut bench, _, mut callee, invite) = begun();
    for body in [NONE, sdp(CENTRE, 5000, "")] {
        bench.give(CENTRE, callee.answer(&invite, 183, &body));
        bench.sent.clear();
        update(&mut bench, &mut callee, &sdp(CENTRE, 5002, ""), 491);
    }
    update(&mut bench, &mut callee, &NONE, 200);
}

#[test]
fn a_callee_that_moves_before_it_answers_is_answered_here() {
    // Some repeat what they have said first, which does not hold any more.
    for body in [NONE, sdp(CENTRE, 5000, "")] {
        let (mut bench, mut caller, mut callee, invite) = begun();
        progress(&mut bench, &mut caller, &callee, &invite);
        assert_eq!(ports(&bench), [4000, 5000]);
        update(&mut bench, &mut callee, &sdp(CENTRE, 5002, ""), 200);
        assert_eq!(ports(&bench), [4000, 5002]);
        answer(&mut bench, &mut caller, &callee, &invite, &body);
        assert_eq!(ports(&bench), [4000, 5002]);
        let hold = callee.invite(&sdp(CENTRE, 5002, "a=sendonly\r\n"));
        let held = sdp(CARRIER, 4000, "a=recvonly\r\n");
        bench.reinvite(&mut callee, hold, &caller, &held);
        hang_up(&mut bench, &mut caller, &callee);
        bench.finished();
    }
}

#[test]
fn what_the_caller_would_have_to_hear_of_is_refused_to_the_callee() {
    let (mut bench, mut caller, mut callee, invite) = begun();
    progress(&mut bench, &mut caller, &callee, &invite);
    let text = String::from_utf8(sdp(CENTRE, 5002, "").to_vec()).unwrap();
    for offer in [
        sdp(CENTRE, 5002, "a=sendonly\r\n"),
        text.replace("RTP/AVP 0 8 101", "RTP/AVP 8").into(),
        text.replace("RTP/AVP 0 8 101", "RTP/AVP 9").into(),
        format!("{text}m=video 5010 RTP/AVP 34\r\n").into(),
    ] {
        update(&mut bench, &mut callee, &offer, 488);
        assert_eq!(ports(&bench), [4000, 5000]);
    }
    answer(&mut bench, &mut caller, &callee, &invite, &NONE);
    assert_eq!(ports(&bench), [4000, 5000]);
}

#[test]
fn of_several_branches_none_can_offer_anew() {
    let (mut bench, mut caller, mut callee, invite) = begun();
    progress(&mut bench, &mut caller, &callee, &invite);
    let other = Phone::callee(CENTRE, &invite, "b2");
    reliably(&mut bench, &other, &invite, 1, &sdp(CENTRE, 5200, ""));
    bench.response(CARRIER, 183);
    update(&mut bench, &mut callee, &sdp(CENTRE, 5002, ""), 488);
    update(&mut bench, &mut caller, &sdp(CARRIER, 4010, ""), 488);
    assert_eq!(ports(&bench), [4000, 5200]);
}

#[test]
fn a_branch_that_answers_after_another_has_moved_has_its_own_answer() {
    let (mut bench, mut caller, mut callee, invite) = begun();
    progress(&mut bench, &mut caller, &callee, &invite);
    update(&mut bench, &mut callee, &sdp(CENTRE, 5002, ""), 200);
    let other = Phone::callee(CENTRE, &invite, "b2");
    bench.give(CENTRE, other.answer(&invite, 183, &sdp(CENTRE, 5200, "")));
    bench.response(CARRIER, 183);
    assert_eq!(ports(&bench), [4000, 5002]);
    let body = sdp(CENTRE, 5200, "");
    bench.give(CENTRE, other.answer(&invite, 200, &body));
    // The 183 was reliable for the caller, and has no PRACK yet; it bears no answer.
    bench.request(CENTRE, Method::Ack);
    caller.learn(&bench.response(CARRIER, 200));
    assert_eq!(ports(&bench), [4000, 5200]);
}

/// A call in which both sides have had their answers, and take UPDATE.
pub(super) fn early() -> (Bench, Phone, Phone, Request) {
    let (mut bench, mut caller, callee, invite) = begun_with(KEYS, UPDATES);
    progress(&mut bench, &mut caller, &callee, &invite);
    (bench, caller, callee, invite)
}

/// An UPDATE with an offer as it reaches the other side.
#[track_caller]
pub(super) fn carried(bench: &mut Bench, by: &mut Phone, to: &Phone, offer: &Bytes) -> Request {
    let update = by.request(Method::Update);
    bench.give(by.peer, update.with_body("application/sdp", offer.clone()));
    let onward = bench.request(to.peer, Method::Update);
    bench.silent();
    assert_eq!(onward.headers.call_id().unwrap(), to.call_id);
    assert_eq!(onward.headers.to().unwrap().tag(), to.local.tag());
    assert!(onward.headers.has(HeaderName::Contact), "RFC 3311 §4");
    onward
}

#[test]
fn an_offer_that_the_other_side_has_to_hear_of_is_carried_to_it() {
    for by_caller in [true, false] {
        let (mut bench, mut caller, mut callee, invite) = early();
        let (by, to, port, other) = if by_caller {
            (&mut caller, &mut callee, 4010, 5000)
        } else {
            (&mut callee, &mut caller, 5010, 4000)
        };
        let hold = sdp(by.peer, port, "a=sendonly\r\n");
        let onward = carried(&mut bench, by, to, &hold);
        assert!(text(&onward.body).contains("a=sendonly"));
        assert!(!text(&onward.body).contains(&port.to_string()));
        let before = bench.media.calls().into_values().next().unwrap();
        assert!(before.streams.iter().all(|stream| stream.active));

        let held = sdp(to.peer, other, "a=recvonly\r\n");
        bench.give(to.peer, to.answer(&onward, 200, &held));
        let told = bench.response(by.peer, 200);
        assert_eq!(told.headers.cseq().unwrap().method, Method::Update);
        assert!(text(&told.body).contains("a=recvonly"));
        bench.silent();
        let expected = if by_caller {
            [4010, 5000]
        } else {
            [4000, 5010]
        };
        assert_eq!(ports(&bench), expected);
        let media = bench.media.calls().into_values().next().unwrap();
        let active = media.streams.map(|stream| stream.active);
        assert_eq!(active, [by_caller, !by_caller]);

        // What moves only is still answered here.
        let moved = sdp(by.peer, port + 2, "a=sendonly\r\n");
        update(&mut bench, by, &moved, 200);
        // The callee repeats its first answer, which does not hold any more.
        bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
        bench.request(CENTRE, Method::Ack);
        let ok = bench.response(CARRIER, 200);
        assert_eq!(text(&ok.body).contains("a=recvonly"), by_caller);
        assert_eq!(
            ok.body.is_empty(),
            !by_caller,
            "no second answer to an answer"
        );
        caller.learn(&ok);
        bench.give(CARRIER, caller.numbered(Method::Ack, 1));
        let expected = if by_caller {
            [4012, 5000]
        } else {
            [4000, 5012]
        };
        assert_eq!(ports(&bench), expected);

        let resume = caller.invite(&sdp(CARRIER, 4012, ""));
        let again = sdp(CENTRE, 5012, "");
        let (asked, _) = bench.reinvite(&mut caller, resume, &callee, &again);
        let number = |request: &Request| request.headers.cseq().unwrap().number;
        assert!(!by_caller || number(&asked) > number(&onward));
        let moved = callee.invite(&sdp(CENTRE, 5014, ""));
        let again = sdp(CARRIER, 4012, "");
        let (asked, _) = bench.reinvite(&mut callee, moved, &caller, &again);
        assert!(by_caller || number(&asked) > number(&onward));
        hang_up(&mut bench, &mut caller, &callee);
        bench.finished();
    }
}

#[test]
fn a_refused_offer_leaves_an_early_call_as_it_was() {
    for (status, told) in [(488, 488), (491, 491), (500, 500), (0, 408)] {
        let (mut bench, mut caller, mut callee, invite) = early();
        let hold = sdp(CARRIER, 4010, "a=sendonly\r\n");
        let onward = carried(&mut bench, &mut caller, &callee, &hold);
        if status == 0 {
            bench.pass(Duration::from_secs(32));
            bench
                .sent
                .retain(|(target, _)| target.remote == address(CARRIER));
        } else {
            let refused = callee.answer(&onward, status, &NONE);
            bench.give(CENTRE, refused.with(HeaderName::RetryAfter, 7));
        }
        let refused = bench.response(CARRIER, told);
        let later = refused.headers.number(HeaderName::RetryAfter).unwrap();
        assert_eq!(later, Some(7).filter(|_| status == 500));
        bench.silent();
        assert_eq!(ports(&bench), [4000, 5000]);
        update(&mut bench, &mut callee, &sdp(CENTRE, 5002, ""), 200);
        let onward = carried(&mut bench, &mut caller, &callee, &hold);
        let held = sdp(CENTRE, 5002, "a=recvonly\r\n");
        bench.give(CENTRE, callee.answer(&onward, 200, &held));
        bench.response(CARRIER, 200);
        assert_eq!(ports(&bench), [4010, 5002]);
        answer(&mut bench, &mut caller, &callee, &invite, &NONE);
        hang_up(&mut bench, &mut caller, &callee);
        bench.finished();
    }
}

#[test]
fn offers_cross_one_that_is_carried() {
    let (mut bench, mut caller, mut callee, invite) = early();
    let hold = sdp(CENTRE, 5000, "a=sendonly\r\n");
    let onward = carried(&mut bench, &mut callee, &caller, &hold);
    for body in [&NONE, &sdp(CENTRE, 5002, "")] {
        let told = update(&mut bench, &mut callee, body, 500);
        assert!(told.headers.has(HeaderName::RetryAfter));
    }
    update(&mut bench, &mut caller, &sdp(CARRIER, 4010, ""), 491);
    update(&mut bench, &mut caller, &NONE, 200);
    // An answer to the first offer is none to this.
    bench.give(CENTRE, callee.answer(&invite, 183, &sdp(CENTRE, 5004, "")));
    assert!(bench.response(CARRIER, 183).body.is_empty());
    let held = sdp(CARRIER, 4000, "a=recvonly\r\n");
    bench.give(CARRIER, caller.answer(&onward, 200, &held));
    assert!(text(&bench.response(CENTRE, 200).body).contains("a=recvonly"));
    assert_eq!(ports(&bench), [4000, 5000]);
}

#[test]
fn an_answer_of_the_callees_waits_for_the_one_to_an_update() {
    for status in [200, 488] {
        let (mut bench, mut caller, mut callee, invite) = early();
        let hold = sdp(CARRIER, 4000, "a=sendonly\r\n");
        let onward = carried(&mut bench, &mut caller, &callee, &hold);
        // It has been sent after the one to the UPDATE, but that is late.
        for _ in 0..2 {
            bench.give(CENTRE, callee.answer(&invite, 200, &NONE));
            bench.silent();
        }
        let body = match status {
            200 => sdp(CENTRE, 5000, "a=recvonly\r\n"),
            _ => NONE,
        };
        bench.give(CENTRE, callee.answer(&onward, status, &body));
        bench.response(CARRIER, status);
        bench.request(CENTRE, Method::Ack);
        let ok = bench.response(CARRIER, 200);
        assert_eq!(ok.headers.cseq().unwrap().method, Method::Invite);
        assert_eq!(text(&ok.body).contains("a=recvonly"), status == 200);
        caller.learn(&ok);
        bench.give(CARRIER, caller.numbered(Method::Ack, 1));
        hang_up(&mut bench, &mut callee, &caller);
        bench.finished();
    }
}

#[test]
fn a_caller_that_gives_up_ends_what_is_carried_to_it() {
    let (mut bench, mut caller, mut callee, invite) = early();
    let hold = sdp(CENTRE, 5000, "a=sendonly\r\n");
    let onward = carried(&mut bench, &mut callee, &caller, &hold);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.response(CARRIER, 487);
    bench.response(CENTRE, 487);
    bench.request(CENTRE, Method::Cancel);
    let late = sdp(CARRIER, 4000, "a=recvonly\r\n");
    bench.give(CARRIER, caller.answer(&onward, 200, &late));
    bench.silent();
    bench.give(CENTRE, callee.answer(&invite, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    bench.pass(Duration::from_secs(40));
    bench.finished();
}

#[test]
fn an_answer_that_cannot_be_used_ends_an_early_call() {
    let (mut bench, mut caller, callee, _) = early();
    let hold = sdp(CARRIER, 4000, "a=sendonly\r\n");
    let onward = carried(&mut bench, &mut caller, &callee, &hold);
    bench.give(CENTRE, callee.answer(&onward, 200, &NONE));
    for method in [Method::Update, Method::Invite] {
        let told = bench.response(CARRIER, 502);
        assert_eq!(told.headers.cseq().unwrap().method, method);
    }
    bench.request(CENTRE, Method::Cancel);
}

#[test]
fn a_branch_that_answers_after_an_offer_to_another_has_its_own_answer() {
    let (mut bench, mut caller, callee, invite) = early();
    for direction in ["sendonly", "inactive"] {
        let hold = sdp(CARRIER, 4000, &format!("a={direction}\r\n"));
        let onward = carried(&mut bench, &mut caller, &callee, &hold);
        let held = sdp(CENTRE, 5000, "a=inactive\r\n");
        bench.give(CENTRE, callee.answer(&onward, 200, &held));
        bench.response(CARRIER, 200);
    }
    let other = Phone::callee(CENTRE, &invite, "b2");
    bench.give(CENTRE, other.answer(&invite, 200, &sdp(CENTRE, 5200, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert!(text(&ok.body).contains("a=sendrecv"));
    caller.learn(&ok);
    bench.give(CARRIER, caller.numbered(Method::Ack, 1));
    assert_eq!(ports(&bench), [4000, 5200]);
}

#[test]
fn a_callees_offer_waits_until_the_caller_has_acknowledged_its_answer() {
    let (mut bench, mut caller, mut callee, invite) = begun_with(KEYS, UPDATES);
    reliably(&mut bench, &callee, &invite, 1, &sdp(CENTRE, 5000, ""));
    // It has been sent, and is not acknowledged.
    let told = bench.sent.pop_front().unwrap();
    let hold = sdp(CENTRE, 5000, "a=sendonly\r\n");
    let later = update(&mut bench, &mut callee, &hold, 500);
    assert!(later.headers.has(HeaderName::RetryAfter));
    bench.sent.push_front(told);
    acknowledge(&mut bench, &mut caller);
    carried(&mut bench, &mut callee, &caller, &hold);
}

/// A call whose caller has asked for a transfer: the new peer and its INVITE.
fn invited() -> (Bench, Phone, Phone, Phone, Request) {
    let mut bench = Bench::keyed("", KEYS);
    let (mut caller, callee) = bring_up(&mut bench);
    ask(&mut bench, &mut caller, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    let new = Phone::callee(CENTRE, &invite, "n1");
    (bench, caller, callee, new, invite)
}

#[test]
fn a_new_peer_is_served_before_it_answers() {
    let (mut bench, caller, _, mut new, invite) = invited();
    bench.give(CENTRE, new.answer(&invite, 180, &NONE));
    notified(&mut bench, &caller, "180", false);
    update(&mut bench, &mut new, &NONE, 200);
    update(&mut bench, &mut new, &sdp(CENTRE, 5102, ""), 491);
    for (method, status) in [
        (Method::Options, 200),
        (Method::Bye, 481),
        (Method::Info, 480),
        (Method::Refer, 405),
    ] {
        bench.give(CENTRE, new.request(method));
        bench.response(CENTRE, status);
    }
    let mut stranger = new.clone();
    stranger.local.set_tag("somebody-else");
    update(&mut bench, &mut stranger, &NONE, 481);
}

#[test]
fn a_new_peer_that_moves_before_it_answers_is_heard_where_it_is() {
    for body in [NONE, sdp(CENTRE, 5100, "")] {
        let (mut bench, mut caller, callee, mut new, invite) = invited();
        reliably(&mut bench, &new, &invite, 1, &sdp(CENTRE, 5100, ""));
        notified(&mut bench, &caller, "183", false);
        // Nobody has been told of it yet, so it may narrow its codecs, too.
        let moved = String::from_utf8(sdp(CENTRE, 5102, "").to_vec()).unwrap();
        let moved = moved.replace("RTP/AVP 0 8 101", "RTP/AVP 8 101");
        for _ in 0..2 {
            update(&mut bench, &mut new, &moved.clone().into(), 200);
        }
        bench.give(CENTRE, new.answer(&invite, 200, &body));
        bench.request(CENTRE, Method::Ack);
        notified(&mut bench, &caller, "200", true);
        let asked = renegotiate(&mut bench, &callee, 5000);
        assert!(text(&asked.body).contains("RTP/AVP 8 101"));
        leave(&mut bench, &mut caller, [5102, 5000], &mut new, &callee);
    }
}

#[test]
fn a_branch_of_a_new_peer_is_not_taken_for_another() {
    let (mut bench, mut caller, callee, mut new, invite) = invited();
    reliably(&mut bench, &new, &invite, 1, &sdp(CENTRE, 5100, ""));
    notified(&mut bench, &caller, "183", false);
    let other = Phone::callee(CENTRE, &invite, "n2");
    reliably(&mut bench, &other, &invite, 1, &sdp(CENTRE, 5200, ""));
    notified(&mut bench, &caller, "183", false);
    bench.give(CENTRE, new.answer(&invite, 200, &NONE));
    bench.request(CENTRE, Method::Ack);
    notified(&mut bench, &caller, "200", true);
    renegotiate(&mut bench, &callee, 5000);
    leave(&mut bench, &mut caller, [5100, 5000], &mut new, &callee);
}

#[test]
fn a_second_update_waits_for_the_answer_to_the_first() {
    let mut bench = Bench::keyed(KEYS, "");
    let (mut caller, callee) = bring_up(&mut bench);
    let hold = caller
        .request(Method::Update)
        .with_body("application/sdp", sdp(CARRIER, 4000, "a=sendonly\r\n"));
    bench.give(CARRIER, hold);
    let onward = bench.request(CENTRE, Method::Invite);
    let told = update(&mut bench, &mut caller, &NONE, 500);
    assert!(told.headers.has(HeaderName::RetryAfter));
    let held = callee.answer(&onward, 200, &sdp(CENTRE, 5000, "a=recvonly\r\n"));
    bench.give(CENTRE, held);
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    update(&mut bench, &mut caller, &NONE, 200);
}
