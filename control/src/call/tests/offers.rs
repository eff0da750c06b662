//! Offers towards Teams: always there, and hold in the one form that it knows.

use bytes::Bytes;

use super::bench::*;
use crate::sip::{HeaderName, Method};

const NONE: Bytes = Bytes::new();

#[test]
fn an_invite_without_an_offer_reaches_teams_with_one() {
    let mut bench = Bench::teams("");
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    let offer = text(&invite.body);
    assert!(
        offer.contains("m=audio") && offer.contains("PCMA/8000"),
        "{offer}"
    );
    assert!(offer.contains("telephone-event/8000"));
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert!(ack.body.is_empty(), "its answer has come");
    let ok = bench.response(CARRIER, 200);
    assert!(
        text(&ok.body).contains("a=sendrecv"),
        "an offer for the caller"
    );
    assert!(
        bench.media.calls().is_empty(),
        "the caller has not said where it is"
    );
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack_with(sdp(CARRIER, 4000, "")));
    bench.silent();
    let media = bench.media.calls();
    let media = media.values().next().unwrap();
    assert_eq!(
        media.legs[0].remote.unwrap().rtp,
        address("198.51.100.2:4000")
    );
    assert_eq!(media.legs[1].remote.unwrap().rtp, address("192.0.2.2:5000"));
    assert!(media.streams.iter().all(|stream| stream.active));
}

#[test]
fn teams_is_told_when_a_caller_without_an_offer_takes_fewer_codecs_than_it() {
    let mut bench = Bench::teams("");
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    let formats = |body: &Bytes, formats: &str| -> Bytes {
        let all = "RTP/AVP 0 8 101";
        text(body)
            .replace(all, &format!("RTP/AVP {formats}"))
            .into()
    };
    let answer = formats(&sdp(CENTRE, 5000, ""), "8 0 101");
    bench.give(CENTRE, callee.answer(&invite, 200, &answer));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert!(text(&ok.body).contains("RTP/AVP 8 0 101"));
    caller.learn(&ok);
    let answer = formats(&sdp(CARRIER, 4000, ""), "0 101");
    bench.give(CARRIER, caller.ack_with(answer));
    // It would have gone on to send PCMA, which the caller does not take.
    let anew = bench.request(CENTRE, Method::Invite);
    assert!(
        text(&anew.body).contains("RTP/AVP 0 101\r\n"),
        "{}",
        text(&anew.body)
    );
    let answer = formats(&sdp(CENTRE, 5000, ""), "0 101");
    bench.give(CENTRE, callee.answer(&anew, 200, &answer));
    bench.request(CENTRE, Method::Ack);
    bench.silent();
    let media = bench.media.calls();
    let streams = &media.values().next().unwrap().streams;
    assert!(streams.iter().all(|stream| stream.active));
    assert_eq!(bench.core.calls()[0].codec.as_deref(), Some("PCMU/8000"));
}

#[test]
fn a_reinvite_without_an_offer_reaches_teams_with_one() {
    let mut bench = Bench::teams("");
    let (mut caller, callee) = bring_up(&mut bench);
    let onward = bench.carry(CARRIER, caller.invite(&NONE), CENTRE);
    assert!(text(&onward.body).contains("a=sendrecv"));
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5006, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert!(!ok.body.is_empty());
    bench.give(CARRIER, caller.ack_with(sdp(CARRIER, 4006, "")));
    bench.silent();
    let media = bench.media.calls();
    let legs = &media.values().next().unwrap().legs;
    assert_eq!(legs[0].remote.unwrap().rtp.port(), 4006);
    assert_eq!(legs[1].remote.unwrap().rtp.port(), 5006);
}

#[test]
fn hold_in_each_of_its_forms_reaches_teams_as_inactive() {
    let mut bench = Bench::teams("");
    let (mut caller, callee) = bring_up(&mut bench);
    let zeros = text(&sdp(CARRIER, 4000, "")).replace("c=IN IP4 198.51.100.2", "c=IN IP4 0.0.0.0");
    for held in [
        sdp(CARRIER, 4000, "a=sendonly\r\n"),
        sdp(CARRIER, 4000, "a=inactive\r\n"),
        sdp(CARRIER, 4000, "a=recvonly\r\n"),
        zeros.into(),
    ] {
        let invite = caller.invite(&held);
        let answer = sdp(CENTRE, 5000, "a=inactive\r\n");
        let (onward, _) = bench.reinvite(&mut caller, invite, &callee, &answer);
        let offer = text(&onward.body);
        assert!(offer.contains("a=inactive"), "{offer}");
        assert!(!offer.contains("0.0.0.0"), "{offer}");
        assert!(bench.core.calls()[0].held);
    }
}

#[test]
fn nothing_but_what_teams_takes_is_sent_to_it() {
    let mut bench = Bench::teams("sip.update = true\nsip.reliable_provisional = true");
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
    let headers = &invite.headers;
    for method in ["PRACK", "UPDATE", "SUBSCRIBE"] {
        assert!(!headers.has_token(HeaderName::Allow, method));
    }
    for method in ["NOTIFY", "REFER", "OPTIONS"] {
        assert!(headers.has_token(HeaderName::Allow, method));
    }
    assert!(!headers.has_token(HeaderName::Supported, "100rel"));
    assert!(!headers.has(HeaderName::Require));
    assert!(headers.text("X-MS-SBC").unwrap().starts_with("Trunkline/"));
    let contact = headers.contact().unwrap();
    assert_eq!(contact.uri.as_sip().unwrap().host, "sbc.example.com");
    assert_eq!(headers.via().unwrap().host, "sbc.example.com");
    assert_eq!(
        headers.from().unwrap().uri.to_string(),
        "sip:+4930123@sbc.example.com"
    );
}
