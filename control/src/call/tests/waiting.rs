//! Provisional responses to a caller that wait for the PRACK of the one before.

use std::time::Duration;

use bytes::Bytes;

use super::{
    bench::*,
    early::{answer, carried, early, reliably, update},
    transfer::{NONE, hang_up},
};
use crate::sip::{HeaderName, Method, Response};

/// The caller acknowledges a reliable 18x, and its PRACK may bear an offer: the answer to it.
#[track_caller]
fn prack(bench: &mut Bench, caller: &mut Phone, told: &Response, offer: &Bytes) -> Response {
    caller.learn(told);
    let number = told.headers.number(HeaderName::RSeq).unwrap().unwrap();
    let mut prack = caller
        .request(Method::Prack)
        .with(HeaderName::RAck, format!("{number} 1 INVITE"));
    if !offer.is_empty() {
        prack = prack.with_body("application/sdp", offer.clone());
    }
    bench.give(CARRIER, prack);
    bench.response(CARRIER, 200)
}

#[test]
fn an_answer_that_waits_for_a_prack_is_not_sent_after_another_offer_of_the_callers() {
    // It is carried to the callee, answered here, or comes with the PRACK itself.
    for way in ["carried", "update", "prack"] {
        let (mut bench, mut caller, callee, invite) = early();
        reliably(&mut bench, &callee, &invite, 2, &NONE);
        let ringing = bench.response(CARRIER, 183);
        reliably(&mut bench, &callee, &invite, 3, &sdp(CENTRE, 5000, ""));
        bench.silent();
        let mut offer = NONE;
        match way {
            "carried" => {
                let hold = sdp(CARRIER, 4000, "a=sendonly\r\n");
                let onward = carried(&mut bench, &mut caller, &callee, &hold);
                let held = sdp(CENTRE, 5000, "a=recvonly\r\n");
                bench.give(CENTRE, callee.answer(&onward, 200, &held));
                assert!(text(&bench.response(CARRIER, 200).body).contains("a=recvonly"));
            }
            "update" => {
                update(&mut bench, &mut caller, &sdp(CARRIER, 4010, ""), 200);
            }
            _ => offer = sdp(CARRIER, 4010, ""),
        }
        prack(&mut bench, &mut caller, &ringing, &offer);
        let waited = bench.response(CARRIER, 183);
        assert!(waited.body.is_empty(), "{way}: {}", text(&waited.body));
        assert!(!waited.headers.has(HeaderName::ContentType));
        prack(&mut bench, &mut caller, &waited, &NONE);
        answer(&mut bench, &mut caller, &callee, &invite, &NONE);
        hang_up(&mut bench, &mut caller, &callee);
        bench.pass(Duration::from_secs(20));
        bench.finished();
    }
}

#[test]
fn an_answer_that_waits_for_a_prack_is_sent_when_another_offer_was_refused() {
    let (mut bench, mut caller, callee, invite) = early();
    reliably(&mut bench, &callee, &invite, 2, &NONE);
    let ringing = bench.response(CARRIER, 183);
    reliably(&mut bench, &callee, &invite, 3, &sdp(CENTRE, 5000, ""));
    let text = String::from_utf8(sdp(CARRIER, 4000, "").to_vec()).unwrap();
    let video = format!(
        "{}m=video 5010 RTP/AVP 34\r\n",
        text.replace("m=audio 4000", "m=audio 0")
    );
    update(&mut bench, &mut caller, &video.into(), 488);
    prack(&mut bench, &mut caller, &ringing, &NONE);
    assert!(!bench.response(CARRIER, 183).body.is_empty());
}
