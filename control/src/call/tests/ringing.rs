//! What the caller's side hears of ringing, and reliable provisional responses.

use bytes::Bytes;

use super::bench::*;
use crate::sip::{HeaderName, Method};

const NONE: Bytes = Bytes::new();

fn ringing(carrier: &str, centre: &str) -> (Bench, Phone, crate::sip::Request) {
    let mut bench = Bench::keyed(carrier, centre);
    let mut caller = Phone::caller(CARRIER, "+15551234");
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    let invite = bench.request(CENTRE, Method::Invite);
    let callee = Phone::callee(CENTRE, &invite, "b1");
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
