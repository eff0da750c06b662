//! How calls come about.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{CallState, Change},
    sip::{HeaderName, Method},
};

#[test]
fn a_call_is_made_answered_and_hung_up() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    assert_eq!(bench.core.calls()[0].state, CallState::Calling);

    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 180, &Bytes::new()));
    let ringing = bench.response(CARRIER, 180);
    assert!(ringing.body.is_empty());
    assert_eq!(bench.core.calls()[0].state, CallState::Ringing);
    assert!(bench.media.calls().is_empty());

    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.to().unwrap().tag().unwrap(), "b1");
    let ok = bench.response(CARRIER, 200);
    assert_eq!(
        ok.headers.to().unwrap().tag(),
        ringing.headers.to().unwrap().tag()
    );
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    bench.silent();

    let call = &bench.core.calls()[0];
    assert_eq!(call.state, CallState::Established);
    assert_eq!(call.codec.as_deref(), Some("PCMU/8000"));
    assert_eq!(call.number, "+15551234");
    let media = &bench.media.calls()[&call.id];
    assert_eq!(
        media.legs[0].remote.unwrap().rtp,
        address("198.51.100.2:4000")
    );
    assert_eq!(media.legs[1].remote.unwrap().rtp, address("192.0.2.2:5000"));
    assert!(media.streams.iter().all(|stream| stream.active));

    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bench.media.reserved_ports(), 0);
    bench.give(CENTRE, callee.answer(&bye, 200, &Bytes::new()));
    assert_eq!(bench.changes().last(), Some(&&Change::Ended));
    bench.finished();
}

#[test]
fn nothing_of_one_side_shows_on_the_other() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(HeaderName::Subject, "lunch")
        .with("X-Secret", "secret")
        .with(
            HeaderName::PAssertedIdentity,
            "<sip:secret@carrier.example>",
        )
        .with(HeaderName::RecordRoute, "<sip:198.51.100.2:5060;lr>");
    let invite = bench.carry(CARRIER, invite, CENTRE);
    let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
    for foreign in ["secret", "198.51.100", "Record-Route", "tag=a-"] {
        assert!(!text.contains(foreign), "{foreign} in {text}");
    }
    assert_eq!(invite.uri.to_string(), "sip:+15551234@192.0.2.2");
    let from = invite.headers.from().unwrap();
    assert_eq!(from.display_name().unwrap(), "Alice");
    assert_eq!(from.uri.to_string(), "sip:+4930123@192.0.2.1");
    assert_eq!(
        invite.headers.contact().unwrap().uri.to_string(),
        "sip:+4930123@192.0.2.1:5060"
    );
    assert_eq!(invite.headers.text(HeaderName::Subject), Some("lunch"));
    assert_eq!(
        invite.headers.number(HeaderName::MaxForwards).unwrap(),
        Some(69)
    );

    let callee = Phone::callee(CENTRE, &invite, "b1");
    let ok = callee
        .answer(&invite, 200, &sdp(CENTRE, 5000, ""))
        .with(HeaderName::Warning, "399 secret \"secret\"");
    bench.give(CENTRE, ok);
    let ok = bench.response(CARRIER, 200);
    let text = String::from_utf8_lossy(&ok.to_bytes()).into_owned();
    for foreign in ["secret-server", "192.0.2.", "tag=b1", "secret\""] {
        assert!(!text.contains(foreign), "{foreign} in {text}");
    }
    // A response that makes a dialog repeats the caller's own Record-Route.
    assert_eq!(
        ok.headers.text(HeaderName::RecordRoute),
        Some("<sip:198.51.100.2:5060;lr>")
    );
}

#[test]
fn without_an_offer_the_answer_travels_in_the_ack() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&Bytes::new()), CENTRE);
    assert!(invite.body.is_empty());
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    let ok = bench.response(CARRIER, 200);
    assert!(!ok.body.is_empty());
    bench.silent();

    caller.learn(&ok);
    bench.give(CARRIER, caller.ack_with(sdp(CARRIER, 4000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert!(text(&ack.body).contains("m=audio 200"));
    assert_eq!(bench.media.calls().len(), 1);
    bench.silent();

    // A copy of the 200 gets a copy of the ACK.
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    assert_eq!(bench.request(CENTRE, Method::Ack), ack);
}

#[test]
fn an_ack_without_the_wanted_answer_ends_the_call() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&Bytes::new()), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.ack());
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &Bytes::new()));
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &Bytes::new()));
    bench.finished();
}

#[test]
fn early_media_is_connected() {
    let mut bench = Bench::new();
    let (_, callee, invite) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&invite, 183, &sdp(CENTRE, 5000, "")));
    let progress = bench.response(CARRIER, 183);
    assert!(!progress.body.is_empty());
    assert_eq!(bench.media.calls().len(), 1);

    // The 200 of one that has said it all in the 183 needs no SDP.
    bench.give(CENTRE, callee.answer(&invite, 200, &Bytes::new()));
    bench.request(CENTRE, Method::Ack);
    assert_eq!(bench.response(CARRIER, 200).body, progress.body);
}

#[test]
fn of_several_forks_the_first_that_answers_wins() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    let one = Phone::callee(CENTRE, &invite, "b1");
    let two = Phone::callee(CENTRE, &invite, "b2");
    bench.give(CENTRE, one.answer(&invite, 180, &Bytes::new()));
    bench.give(CENTRE, two.answer(&invite, 183, &sdp(CENTRE, 6000, "")));
    let tag_one = bench.response(CARRIER, 180).headers.to().unwrap().tag();
    let tag_two = bench.response(CARRIER, 183).headers.to().unwrap().tag();
    assert_ne!(tag_one, tag_two);

    bench.give(CENTRE, one.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert_eq!(ok.headers.to().unwrap().tag(), tag_one);
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());

    bench.give(CENTRE, two.answer(&invite, 200, &sdp(CENTRE, 6000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.to().unwrap().tag().unwrap(), "b2");
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.to().unwrap().tag().unwrap(), "b2");
    bench.give(CENTRE, two.answer(&bye, 200, &Bytes::new()));
    bench.silent();
    let id = bench.core.calls()[0].id;
    let media = bench.media.calls();
    assert_eq!(
        media[&id].legs[1].remote.unwrap().rtp,
        address("192.0.2.2:5000")
    );
}

#[test]
fn a_flood_of_forks_is_bounded_and_the_answer_still_counts() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    for number in 0..200 {
        let fork = Phone::callee(CENTRE, &invite, &format!("b{number}"));
        bench.give(CENTRE, fork.answer(&invite, 180, &Bytes::new()));
    }
    let told = std::iter::from_fn(|| bench.next(CARRIER)).count();
    assert_eq!(told, 128);
    let last = Phone::callee(CENTRE, &invite, "b199");
    bench.give(CENTRE, last.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, last.answer(&bye, 200, &Bytes::new()));
    bench.finished();
}

#[test]
fn a_busy_callee_is_told_to_the_caller() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    let busy = callee
        .answer(&invite, 486, &Bytes::new())
        .with_reason("secret reason")
        .with(HeaderName::Reason, "Q.850;cause=17");
    bench.give(CENTRE, busy);
    bench.request(CENTRE, Method::Ack);
    let busy = bench.response(CARRIER, 486);
    assert_eq!(busy.reason, "Busy Here");
    assert_eq!(
        busy.headers.text(HeaderName::Reason),
        Some("Q.850;cause=17")
    );
    bench.give(CARRIER, refusal_ack(&first, &busy));
    bench.silent();
    bench.finished();
}

#[test]
fn a_challenge_or_redirection_is_not_passed_on() {
    for (theirs, ours) in [(407, 500), (302, 480), (603, 603), (404, 404)] {
        let mut bench = Bench::new();
        let (_, callee, invite) = bench.begin_call();
        bench.give(CENTRE, callee.answer(&invite, theirs, &Bytes::new()));
        let refusal = bench.response(CARRIER, ours);
        assert!(!refusal.headers.has(HeaderName::Contact));
        bench.finished();
    }
}

#[test]
fn the_next_address_is_tried_when_one_fails() {
    let mut bench = Bench::new();
    let (_, callee, first) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&first, 503, &Bytes::new()));
    let second = bench.request(SECOND_CENTRE, Method::Invite);
    assert_ne!(
        first.headers.call_id().unwrap(),
        second.headers.call_id().unwrap()
    );
    let callee = Phone::callee(SECOND_CENTRE, &second, "b2");
    bench.give(
        SECOND_CENTRE,
        callee.answer(&second, 200, &sdp(SECOND_CENTRE, 5000, "")),
    );
    bench.request(SECOND_CENTRE, Method::Ack);
    bench.response(CARRIER, 200);
    assert!(
        bench
            .changes()
            .iter()
            .any(|change| matches!(change, Change::Failover { .. }))
    );
}

#[test]
fn no_other_address_is_tried_once_it_rings() {
    let mut bench = Bench::new();
    let (_, callee, invite) = bench.begin_call();
    bench.give(CENTRE, callee.answer(&invite, 180, &Bytes::new()));
    bench.response(CARRIER, 180);
    bench.give(CENTRE, callee.answer(&invite, 503, &Bytes::new()));
    bench.response(CARRIER, 503);
    assert!(bench.next(SECOND_CENTRE).is_none());
    bench.finished();
}

#[test]
fn silence_everywhere_is_408() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    bench.pass(Duration::from_secs(100));
    bench.response(CARRIER, 408);
    bench.finished();
}

#[test]
fn a_broken_transport_moves_on_at_once() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    let (target, _) = bench.next(CENTRE).unwrap();
    bench.core.transport_failed(bench.now, &target);
    bench.collect();
    let (target, _) = bench.next(SECOND_CENTRE).unwrap();
    bench.core.transport_failed(bench.now, &target);
    bench.collect();
    bench.response(CARRIER, 503);
    bench.finished();
}

#[test]
fn who_does_not_answer_is_given_up() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(CARRIER, first.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 180, &Bytes::new()));
    bench.response(CARRIER, 180);
    bench.pass(Duration::from_secs(60));
    let refusal = bench.response(CARRIER, 480);
    bench.give(CARRIER, refusal_ack(&first, &refusal));
    let cancel = bench.request(CENTRE, Method::Cancel);
    assert_eq!(
        bench.media.reserved_ports(),
        0,
        "media is not kept for a CANCEL"
    );
    bench.give(CENTRE, callee.answer(&cancel, 200, &Bytes::new()));
    bench.give(CENTRE, callee.answer(&invite, 487, &Bytes::new()));
    bench.request(CENTRE, Method::Ack);
    bench.silent();
    bench.finished();
}

#[test]
fn a_media_failure_refuses_the_call() {
    // One port pair for the whole interface: the second call finds none.
    let text = SETTINGS.replace("20000-20099", "20000-20001");
    let mut bench = Bench::with(&text);
    bring_up(&mut bench);
    let mut second = Phone::caller(CARRIER, "+15559999").with_call_id("another");
    bench.give(CARRIER, second.invite(&sdp(CARRIER, 4002, "")));
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 503);
    assert!(refusal.headers.has(HeaderName::RetryAfter));
    assert_eq!(
        bench.media.reserved_ports(),
        2,
        "the first call keeps its own"
    );
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_codec_that_nobody_shares_is_488() {
    let text = SETTINGS.replace(
        "name = \"centre\"\n",
        "name = \"centre\"\ncodecs = [\"opus\"]\n",
    );
    let mut bench = Bench::with(&text);
    let mut caller = Phone::caller(CARRIER, "+15551234");
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 488);
    assert!(
        refusal
            .headers
            .text(HeaderName::Warning)
            .unwrap()
            .starts_with("305 198.51.100.1")
    );
    bench.finished();
}

#[test]
fn when_a_callee_will_be_there_again_the_caller_is_told() {
    for (status, told, later) in [(486, 486, Some(120)), (503, 503, None), (302, 480, None)] {
        let mut bench = Bench::new();
        let (_, callee, invite) = bench.begin_call();
        let refusal = callee.answer(&invite, status, &Bytes::new());
        bench.give(CENTRE, refusal.with(HeaderName::RetryAfter, 120));
        bench.request(CENTRE, Method::Ack);
        if status == 503 {
            let second = bench.request(SECOND_CENTRE, Method::Invite);
            let other = Phone::callee(SECOND_CENTRE, &second, "b2");
            let refusal = other.answer(&second, status, &Bytes::new());
            bench.give(SECOND_CENTRE, refusal.with(HeaderName::RetryAfter, 120));
        }
        let refused = bench.response(CARRIER, told);
        let number = refused.headers.number(HeaderName::RetryAfter);
        assert_eq!(number.unwrap(), later, "{status}");
    }
}
