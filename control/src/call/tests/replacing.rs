//! INVITEs with Replaces.

use bytes::Bytes;

use super::{
    bench::*,
    transfer::{NONE, end_joined, hang_up, refer},
};
use crate::{
    call::Direction,
    sip::{HeaderName, Method, Request},
};

/// Who wants to take the place of a peer of the centre.
fn another() -> Phone {
    Phone::caller(CENTRE, "+449999").with_call_id("another")
}

pub(super) fn replacing(phone: &Phone, invite: Request) -> Request {
    let value = format!(
        "{};to-tag={};from-tag={}",
        phone.call_id,
        phone.remote.tag().unwrap(),
        phone.local.tag().unwrap()
    );
    invite.with(HeaderName::Replaces, value)
}

#[test]
fn an_invite_with_replaces_takes_the_leg_over() {
    let mut bench = Bench::teams("");
    let (caller, callee) = bring_up(&mut bench);
    let mut new = another();
    let invite = new.invite(&sdp(CENTRE, 5100, ""));
    let asked = bench.carry(CENTRE, replacing(&callee, invite), CARRIER);
    assert_eq!(asked.headers.call_id().unwrap(), caller.call_id);
    bench.give(CARRIER, caller.answer(&asked, 200, &sdp(CARRIER, 4000, "")));
    bench.request(CARRIER, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.call_id().unwrap(), callee.call_id);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    let ok = bench.response(CENTRE, 200);
    new.learn(&ok);
    bench.give(CENTRE, new.ack());
    let media = ["198.51.100.2:4000", "192.0.2.2:5100"];
    end_joined(&mut bench, media, &mut new, &caller);
}

#[test]
fn an_invite_with_replaces_and_no_offer_is_offered_what_the_other_side_offers() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bring_up(&mut bench);
    let mut new = another();
    let invite = new.invite(&NONE);
    let asked = bench.carry(CENTRE, replacing(&callee, invite), CARRIER);
    assert!(asked.body.is_empty(), "the offer is its to make");
    bench.give(CARRIER, caller.answer(&asked, 200, &sdp(CARRIER, 4006, "")));
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.call_id().unwrap(), callee.call_id);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    let ok = bench.response(CENTRE, 200);
    let offer = text(&ok.body);
    assert!(offer.contains("m=audio"), "{offer}");
    let media = bench.media.calls();
    let media = media.values().next().unwrap();
    assert!(media.streams.iter().all(|stream| !stream.active));
    assert_eq!(media.legs[1].remote, None, "the old peer gets nothing");
    new.learn(&ok);
    bench.give(CENTRE, new.ack_with(sdp(CENTRE, 5100, "")));
    let ack = bench.request(CARRIER, Method::Ack);
    assert!(!ack.body.is_empty(), "the answer");
    let media = ["198.51.100.2:4006", "192.0.2.2:5100"];
    end_joined(&mut bench, media, &mut caller, &new);
}

/// Teams is never asked without an offer, so it is offered what was agreed.
#[test]
fn teams_is_offered_what_was_agreed_where_a_replacing_invite_bears_no_offer() {
    let mut bench = Bench::teams("");
    let (caller, mut callee) = bring_up(&mut bench);
    let mut new = Phone::caller(CARRIER, "+15557777").with_call_id("another");
    let invite = new.invite(&NONE);
    let asked = bench.carry(CARRIER, replacing(&caller, invite), CENTRE);
    let offer = text(&asked.body);
    assert!(offer.contains("a=sendrecv"), "{offer}");
    bench.give(CENTRE, callee.answer(&asked, 200, &sdp(CENTRE, 5006, "")));
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    let ok = bench.response(CARRIER, 200);
    assert!(!ok.body.is_empty());
    let media = bench.media.calls();
    assert_eq!(media.values().next().unwrap().legs[0].remote, None);
    new.learn(&ok);
    bench.give(CARRIER, new.ack_with(sdp(CARRIER, 4100, "")));
    let media = ["198.51.100.2:4100", "192.0.2.2:5006"];
    end_joined(&mut bench, media, &mut callee, &new);
}

/// An INVITE with this body that is to replace the callee, and that the caller refuses.
fn refused(mut bench: Bench, body: Bytes) {
    let (mut caller, callee) = bring_up(&mut bench);
    let before = bench.media.calls();
    let mut new = another();
    let invite = new.invite(&body);
    let asked = bench.carry(CENTRE, replacing(&callee, invite), CARRIER);
    bench.give(CARRIER, caller.answer(&asked, 488, &NONE));
    bench.request(CARRIER, Method::Ack);
    bench.response(CENTRE, 488);
    bench.silent();
    assert_eq!(bench.media.calls(), before);
    assert_eq!(bench.media.reserved_ports(), 2);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_replacement_without_an_offer_that_fails_leaves_the_call_as_it_was() {
    refused(Bench::new(), NONE);
}

#[test]
fn a_replacement_that_the_other_side_refuses_leaves_the_call_as_it_was() {
    refused(Bench::teams(""), sdp(CENTRE, 5100, ""));
}

#[test]
fn a_replacement_that_the_end_of_the_call_stops_is_refused_by_its_own_trunk() {
    let mut bench = Bench::new();
    let (mut caller, _) = bring_up(&mut bench);
    let mut new = another();
    let invite = new.invite(&sdp(CENTRE, 5100, ""));
    // Its peer is the carrier's, whose place it wants.
    bench.carry(CENTRE, replacing(&caller, invite), CENTRE);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CENTRE, 487);
    let responses = bench.core.statistics().responses;
    let refused = |trunk: &str| responses.get(&(trunk.into(), Direction::Sent, 487));
    assert_eq!((refused("centre"), refused("carrier")), (Some(&1), None));
}

#[test]
fn an_invite_that_replaces_nothing_is_refused() {
    let mut bench = Bench::teams("");
    let (_, callee) = bring_up(&mut bench);
    let stranger = callee.clone().with_call_id("unknown");
    let mut new = another();
    let invite = new.invite(&sdp(CENTRE, 5100, ""));
    bench.give(CENTRE, replacing(&stranger, invite));
    bench.response(CENTRE, 100);
    bench.response(CENTRE, 481);
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}

#[test]
fn a_refer_waits_for_an_invite_with_replaces() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bring_up(&mut bench);
    let mut new = another();
    let invite = new.invite(&sdp(CENTRE, 5100, ""));
    bench.carry(CENTRE, replacing(&callee, invite), CARRIER);
    bench.give(CARRIER, refer(&mut caller, "sip:+15557777@198.51.100.1"));
    let later = bench.response(CARRIER, 500);
    assert!(later.headers.has(HeaderName::RetryAfter));
    bench.silent();
}
