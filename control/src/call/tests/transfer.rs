//! Transfers by REFER.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::{CallState, Change, Side},
    sip::{HeaderName, Method, Request},
};

pub(super) const NONE: Bytes = Bytes::new();
const TARGET: &str = "sip:+15557777@192.0.2.2:5060;x-m=8:orgid:1;x-t=ab%2Dc;transport=udp";

/// The status in a NOTIFY, and whether it is the last one.
fn progress(notify: &Request) -> (String, bool) {
    assert_eq!(notify.headers.text(HeaderName::Event), Some("refer"));
    assert!(
        notify
            .headers
            .text(HeaderName::ContentType)
            .unwrap()
            .starts_with("message/sipfrag")
    );
    let state = notify.headers.text(HeaderName::SubscriptionState).unwrap();
    let fragment = text(&notify.body);
    (fragment[8..11].to_owned(), state.starts_with("terminated"))
}

pub(super) fn notified(bench: &mut Bench, phone: &Phone, status: &str, last: bool) {
    let notify = bench.request(phone.peer, Method::Notify);
    assert_eq!(progress(&notify), (status.to_owned(), last));
    bench.give(phone.peer, phone.answer(&notify, 200, &NONE));
}

pub(super) fn refer(phone: &mut Phone, to: &str) -> Request {
    phone
        .request(Method::Refer)
        .with(HeaderName::ReferTo, format!("<{to}>"))
        .with(
            HeaderName::ReferredBy,
            "<sip:+1555@sbc;x=1>;word=\"for word\"",
        )
}

/// A side asks for a transfer, which is begun.
pub(super) fn ask(bench: &mut Bench, phone: &mut Phone, to: &str) {
    bench.give(phone.peer, refer(phone, to));
    bench.response(phone.peer, 202);
    notified(bench, phone, "100", false);
}

/// A side asks for a transfer, whose new peer rings: that, and its INVITE.
#[track_caller]
pub(super) fn ring(bench: &mut Bench, phone: &mut Phone, to: &str) -> (Phone, Request) {
    ask(bench, phone, to);
    let invite = bench.request(CENTRE, Method::Invite);
    let new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 180, &NONE));
    notified(bench, phone, "180", false);
    (new, invite)
}

/// A call to Teams that it asks to transfer: the caller, Teams, and the INVITE to the new peer.
pub(super) fn referred() -> (Bench, Phone, Phone, Request) {
    let mut bench = Bench::teams("");
    let (caller, mut callee) = bring_up(&mut bench);
    ask(&mut bench, &mut callee, TARGET);
    let invite = bench.request(CENTRE, Method::Invite);
    (bench, caller, callee, invite)
}

/// As [`referred`], when the new peer has rung for as long as it may: its INVITE is given up.
pub(super) fn unanswered() -> (Bench, Phone, Phone, Request) {
    let (mut bench, caller, callee, invite) = referred();
    let new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 180, &NONE));
    notified(&mut bench, &callee, "180", false);
    bench.pass(Duration::from_secs(60));
    bench.request(CENTRE, Method::Cancel);
    notified(&mut bench, &callee, "408", true);
    (bench, caller, callee, invite)
}

/// Answers the re-INVITE that a transfer ends with.
pub(super) fn renegotiate(bench: &mut Bench, phone: &Phone, port: u16) -> Request {
    let invite = bench.request(phone.peer, Method::Invite);
    assert_eq!(invite.headers.call_id().unwrap(), phone.call_id);
    let ok = phone.answer(&invite, 200, &sdp(phone.peer, port, ""));
    bench.give(phone.peer, ok);
    bench.request(phone.peer, Method::Ack);
    invite
}

pub(super) fn hang_up(bench: &mut Bench, one: &mut Phone, other: &Phone) {
    let bye = one.request(Method::Bye);
    bench.give(one.peer, bye);
    bench.response(one.peer, 200);
    let bye = bench.request(other.peer, Method::Bye);
    assert_eq!(bye.headers.call_id().unwrap(), other.call_id);
    bench.give(other.peer, other.answer(&bye, 200, &NONE));
    bench.pass(Duration::from_secs(20));
}

/// The two have one call, with their media at these addresses, until the first hangs up.
#[track_caller]
pub(super) fn end_joined(bench: &mut Bench, media: [&str; 2], one: &mut Phone, other: &Phone) {
    bench.silent();
    assert_eq!(remotes(bench), media);
    assert_eq!(bench.media.reserved_ports(), 2);
    hang_up(bench, one, other);
    bench.finished();
}

fn remotes(bench: &Bench) -> [String; 2] {
    let calls = bench.media.calls();
    assert_eq!(calls.len(), 1);
    let legs = calls.into_values().next().unwrap().legs;
    legs.map(|leg| leg.remote.unwrap().rtp.to_string())
}

#[test]
fn a_blind_transfer_of_teams_goes_back_to_its_proxy_word_for_word() {
    let (mut bench, caller, mut callee, invite) = referred();
    let ours = bench.core.calls()[0].legs[0].media;
    assert_eq!(invite.uri.to_string(), TARGET);
    assert_eq!(
        invite.headers.text(HeaderName::ReferredBy),
        Some("<sip:+1555@sbc;x=1>;word=\"for word\"")
    );
    assert_ne!(invite.headers.call_id().unwrap(), callee.call_id);
    assert!(!invite.body.is_empty() && !invite.headers.has(HeaderName::Replaces));
    let mut new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 180, &NONE));
    notified(&mut bench, &callee, "180", false);
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    bench.request(CENTRE, Method::Ack);
    notified(&mut bench, &callee, "200", true);
    let asked = renegotiate(&mut bench, &caller, 4000);
    let port = ours.unwrap().port();
    assert!(
        text(&asked.body).contains(&format!("m=audio {port} ")),
        "the address of the side that stays does not move"
    );
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    bench.silent();
    assert_eq!(remotes(&bench), ["198.51.100.2:4000", "192.0.2.2:5100"]);
    assert_eq!(bench.media.reserved_ports(), 2);
    assert!(
        bench
            .changes()
            .contains(&&Change::Transferred { by: Side::B })
    );
    assert_eq!(bench.core.calls().len(), 1);
    hang_up(&mut bench, &mut new, &caller);
    bench.finished();
}

#[test]
fn a_transfer_that_fails_gives_the_call_back() {
    let mut bench = Bench::teams("");
    let (mut caller, mut callee) = bring_up(&mut bench);
    let before = bench.media.calls();
    for status in [486, 603] {
        ask(&mut bench, &mut callee, TARGET);
        let invite = bench.request(CENTRE, Method::Invite);
        let new = Phone::callee(CENTRE, &invite, "n1");
        bench.give(CENTRE, new.answer(&invite, status, &NONE));
        bench.request(CENTRE, Method::Ack);
        notified(&mut bench, &callee, &status.to_string(), true);
        bench.silent();
        assert_eq!(bench.media.calls(), before);
        assert_eq!(bench.media.reserved_ports(), 2);
    }
    // It can still be renegotiated and ended.
    let invite = callee.invite(&sdp(CENTRE, 5000, "a=inactive\r\n"));
    let answer = sdp(CARRIER, 4000, "a=inactive\r\n");
    bench.reinvite(&mut callee, invite, &caller, &answer);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_transfer_that_nobody_answers_is_given_up_after_the_ringing_time() {
    let (mut bench, mut caller, callee, invite) = unanswered();
    let new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 487, &NONE));
    bench.request(CENTRE, Method::Ack);
    assert_eq!(bench.core.calls()[0].state, CallState::Established);
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_transfer_outlives_the_side_that_asked_for_it() {
    let (mut bench, caller, mut callee, invite) = referred();
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    bench.silent();
    let mut new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    bench.request(CENTRE, Method::Ack);
    renegotiate(&mut bench, &caller, 4000);
    bench.silent();
    assert_eq!(remotes(&bench)[1], "192.0.2.2:5100");
    hang_up(&mut bench, &mut new, &caller);
    bench.finished();
}

#[test]
fn a_call_ends_when_its_transfer_fails_after_the_asker_has_gone() {
    let (mut bench, caller, mut callee, invite) = referred();
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    let new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 486, &NONE));
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CARRIER, Method::Bye);
    bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
    bench.finished();
}

#[test]
fn a_side_that_stays_may_hang_up_during_a_transfer() {
    let (mut bench, mut caller, callee, invite) = referred();
    let new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 180, &NONE));
    notified(&mut bench, &callee, "180", false);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    bench.request(CENTRE, Method::Cancel);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    // The answer has crossed with the CANCEL.
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    bench.request(CENTRE, Method::Ack);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, new.answer(&bye, 200, &NONE));
    bench.silent();
    bench.finished();
}

#[test]
fn the_next_address_is_tried_when_a_new_peer_is_out_of_service() {
    let (mut bench, caller, callee, invite) = referred();
    let new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 503, &NONE));
    bench.request(CENTRE, Method::Ack);
    let invite = bench.request(SECOND_CENTRE, Method::Invite);
    assert_eq!(invite.uri.to_string(), TARGET);
    let new = Phone::callee(SECOND_CENTRE, &invite, "n2");
    bench.give(
        SECOND_CENTRE,
        new.answer(&invite, 200, &sdp(SECOND_CENTRE, 5100, "")),
    );
    bench.request(SECOND_CENTRE, Method::Ack);
    notified(&mut bench, &callee, "200", true);
    renegotiate(&mut bench, &caller, 4000);
    // Teams should hang up now; when it does not, we do.
    bench.pass(Duration::from_secs(8));
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &NONE));
    bench.silent();
    assert_eq!(bench.core.calls().len(), 1);
}

/// A contact centre that has called a Teams user, and may call the carrier.
fn centre_and_teams() -> (Bench, Phone, Phone) {
    let settings = SETTINGS
        .replace(
            "listen = \"198.51.100.1:5060\"",
            "listen = \"198.51.100.1:5060\"\ndomain = \"sbc.example.com\"\nsip.profile = \"teams\"",
        )
        .replace("number = \"^\\\\+44\"\n", "");
    let mut bench = Bench::with(&settings);
    let mut centre = Phone::caller(CENTRE, "+441234");
    let invite = bench.carry(CENTRE, centre.invite(&sdp(CENTRE, 5000, "")), CARRIER);
    let teams = Phone::callee(CARRIER, &invite, "t1");
    bench.answer_call(&mut centre, &teams, &invite, 4000);
    bench.silent();
    (bench, centre, teams)
}

#[test]
fn a_refer_of_the_contact_centre_ends_here_and_the_teams_leg_keeps_its_address() {
    let (mut bench, mut centre, teams) = centre_and_teams();
    let ours = bench.core.calls()[0].legs[1].media.unwrap().port();
    ask(&mut bench, &mut centre, "sip:+447777@192.0.2.1");
    let invite = bench.request(CARRIER, Method::Invite);
    assert_eq!(invite.uri.user(), Some("+447777"));
    let mut new = Phone::callee(CARRIER, &invite, "n1");
    bench.give(CARRIER, new.answer(&invite, 200, &sdp(CARRIER, 4100, "")));
    bench.request(CARRIER, Method::Ack);
    notified(&mut bench, &centre, "200", true);
    let asked = renegotiate(&mut bench, &teams, 4000);
    let offer = text(&asked.body);
    assert!(offer.contains(&format!("m=audio {ours} ")), "{offer}");
    assert_eq!(remotes(&bench), ["198.51.100.2:4100", "198.51.100.2:4000"]);
    bench.give(CENTRE, centre.request(Method::Bye));
    bench.response(CENTRE, 200);
    hang_up(&mut bench, &mut new, &teams);
    bench.finished();
}

#[test]
fn an_attended_transfer_of_the_contact_centre_joins_its_two_calls() {
    let (mut bench, mut centre, teams) = centre_and_teams();
    // The first party waits.
    let hold = centre.invite(&sdp(CENTRE, 5000, "a=sendonly\r\n"));
    let answer = sdp(CARRIER, 4000, "a=inactive\r\n");
    bench.reinvite(&mut centre, hold, &teams, &answer);
    // The second party is asked.
    let mut second = Phone::caller(CENTRE, "+449999").with_call_id("consultation");
    second.local.set_tag("consulting");
    let invite = bench.carry(CENTRE, second.invite(&sdp(CENTRE, 5002, "")), CARRIER);
    let mut other = Phone::callee(CARRIER, &invite, "o1");
    bench.answer_call(&mut second, &other, &invite, 4200);
    assert_eq!(bench.media.reserved_ports(), 4);

    let replaces = format!(
        "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
        second.call_id,
        second.remote.tag().unwrap(),
        second.local.tag().unwrap()
    );
    let to = format!("sip:+449999@192.0.2.1?Replaces={replaces}");
    ask(&mut bench, &mut centre, &to);
    notified(&mut bench, &centre, "200", true);
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.call_id().unwrap(), second.call_id);
    bench.give(CENTRE, second.answer(&bye, 200, &NONE));
    for (phone, port) in [(&other, 4200), (&teams, 4000)] {
        let asked = renegotiate(&mut bench, phone, port);
        assert!(!asked.headers.has(HeaderName::Replaces));
        assert!(text(&asked.body).contains("a=sendrecv"));
    }
    bench.give(CENTRE, centre.request(Method::Bye));
    bench.response(CENTRE, 200);
    bench.silent();
    assert_eq!(remotes(&bench), ["198.51.100.2:4200", "198.51.100.2:4000"]);
    let media = bench.media.calls();
    assert!(
        media
            .values()
            .next()
            .unwrap()
            .streams
            .iter()
            .all(|stream| stream.active)
    );
    assert_eq!(bench.media.reserved_ports(), 2);
    hang_up(&mut bench, &mut other, &teams);
    bench.finished();
}

#[test]
fn a_refer_of_a_trunk_that_may_not_transfer_is_refused() {
    let mut bench = Bench::teams("sip.refer = false");
    let (_, mut callee) = bring_up(&mut bench);
    bench.give(CENTRE, refer(&mut callee, TARGET));
    let refused = bench.response(CENTRE, 405);
    assert!(!refused.headers.has_token(HeaderName::Allow, "REFER"));
    assert!(refused.headers.has_token(HeaderName::Allow, "NOTIFY"));
    bench.silent();
}

#[test]
fn a_refer_that_makes_no_sense_is_refused_and_the_call_goes_on() {
    let mut bench = Bench::teams("");
    let (mut caller, mut callee) = bring_up(&mut bench);
    bench.give(CENTRE, callee.request(Method::Refer));
    bench.response(CENTRE, 400);
    let refused = refer(&mut callee, "mailto:a@b");
    bench.give(CENTRE, refused);
    bench.response(CENTRE, 416);
    let refused = refer(&mut callee, "sip:a@b;method=BYE");
    bench.give(CENTRE, refused);
    bench.response(CENTRE, 501);
    bench.silent();
    hang_up(&mut bench, &mut caller, &callee);
    bench.finished();
}

#[test]
fn a_transfer_that_overtakes_a_move_of_the_media_address_leaves_it_where_it_was() {
    let mut bench = Bench::with(&with_internal_address());
    let (mut caller, mut callee) = bring_up(&mut bench);
    let ours = bench.core.calls()[0].legs[1].media.unwrap();
    // The callee goes elsewhere, and the caller asks for a transfer instead of answering that.
    let mut elsewhere = callee.invite(&sdp(CENTRE, 5006, ""));
    elsewhere.headers.push("X-MS-UserLocation", "internal");
    let asked = bench.carry(CENTRE, elsewhere.clone(), CARRIER);
    ask(&mut bench, &mut caller, "sip:+15557777@198.51.100.1");
    let invite = bench.request(CENTRE, Method::Invite);
    let mut new = Phone::callee(CENTRE, &invite, "n1");
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    let refused = bench.response(CENTRE, 487);
    bench.give(CENTRE, refusal_ack(&elsewhere, &refused));
    bench.request(CENTRE, Method::Ack);
    let again = renegotiate(&mut bench, &callee, 5000);
    let offer = text(&again.body);
    assert!(
        offer.contains(&format!("m=audio {} ", ours.port())),
        "{offer}"
    );
    let media = bench.media.calls();
    let media = media.into_values().next().unwrap();
    assert_eq!(media.legs[1].port.rtp, ours);
    bench.sent.clear();
    bench.give(CARRIER, caller.answer(&asked, 487, &NONE));
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.sent.clear();
    assert_eq!(bench.media.reserved_ports(), 2);
    hang_up(&mut bench, &mut new, &callee);
    bench.finished();
}

#[test]
fn the_ack_to_a_new_peer_is_kept_no_longer_than_its_2xx_may_come_again() {
    let (mut bench, mut centre, teams) = centre_and_teams();
    ask(&mut bench, &mut centre, "sip:+447777@192.0.2.1");
    let invite = bench.request(CARRIER, Method::Invite);
    let new = Phone::callee(CARRIER, &invite, "n1");
    let ok = new.answer(&invite, 200, &sdp(CARRIER, 4100, ""));
    bench.give(CARRIER, ok.clone());
    let ack = bench.request(CARRIER, Method::Ack);
    renegotiate(&mut bench, &teams, 4000);
    bench.sent.clear();
    bench.give(CARRIER, ok);
    assert_eq!(bench.request(CARRIER, Method::Ack), ack);
    bench.pass(Duration::from_secs(60));
    let mut legs = bench.core.calls.values().flat_map(|call| &call.legs);
    assert!(legs.all(|leg| leg.acknowledged.is_none()));
}

#[test]
fn reliable_provisional_responses_of_a_new_peer_are_acknowledged() {
    let mut bench = Bench::keyed("", "sip.reliable_provisional = true");
    let (mut caller, callee) = bring_up(&mut bench);
    ask(&mut bench, &mut caller, "sip:+15557777@198.51.100.1");
    let invite = bench.request(CENTRE, Method::Invite);
    assert!(invite.headers.has_token(HeaderName::Supported, "100rel"));
    let new = Phone::callee(CENTRE, &invite, "n1");
    for (status, number, copies) in [(183, 7, 2), (180, 8, 1)] {
        let reliable = new
            .answer(&invite, status, &NONE)
            .with(HeaderName::Require, "100rel")
            .with(HeaderName::RSeq, number);
        bench.give(CENTRE, reliable.clone());
        let prack = bench.request(CENTRE, Method::Prack);
        let named = format!("{number} 1 INVITE");
        assert_eq!(prack.headers.text(HeaderName::RAck), Some(&*named));
        assert_eq!(prack.headers.call_id(), invite.headers.call_id());
        bench.give(CENTRE, new.answer(&prack, 200, &NONE));
        notified(&mut bench, &caller, &status.to_string(), false);
        for _ in 1..copies {
            bench.give(CENTRE, reliable.clone());
            bench.silent();
        }
    }
    bench.give(CENTRE, new.answer(&invite, 200, &sdp(CENTRE, 5100, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.cseq().unwrap().number, 1);
    notified(&mut bench, &caller, "200", true);
    renegotiate(&mut bench, &callee, 5000);
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    // Our next request in the dialog has a number above those of the PRACKs.
    bench.give(CENTRE, callee.clone().request(Method::Bye));
    bench.response(CENTRE, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.cseq().unwrap().number, 4);
    bench.give(CENTRE, new.answer(&bye, 200, &NONE));
    bench.pass(Duration::from_secs(20));
    bench.finished();
}
