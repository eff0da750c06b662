//! How many calls trunks and tenants may have.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;

use super::bench::*;
use crate::sip::{HeaderName, Message, Method, Response};

const SECOND: Duration = Duration::from_secs(1);

fn dial(bench: &mut Bench, number: &str) -> Phone {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut caller = Phone::caller(CARRIER, number);
    let call = NEXT.fetch_add(1, Ordering::Relaxed);
    caller.call_id = format!("{}-{call}", caller.call_id).into();
    bench.sent.clear();
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    bench.response(CARRIER, 100);
    caller
}

/// The status that a new call gets at once, with its Retry-After; `None` when it is on its way.
fn outcome(bench: &mut Bench, number: &str) -> Option<(u16, Option<String>)> {
    dial(bench, number);
    match bench.next(CARRIER) {
        Some((_, Message::Response(response))) => Some((
            response.status,
            response
                .headers
                .text(HeaderName::RetryAfter)
                .map(str::to_owned),
        )),
        _ => None,
    }
}

/// A new call that its callee refuses.
fn over(bench: &mut Bench) {
    dial(bench, "+15551234");
    let invite = bench.request(CENTRE, Method::Invite);
    bench.give(CENTRE, Response::to_request(&invite, 486, Some("b")));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 486);
}

fn refused(bench: &Bench) -> Vec<(String, &'static str, u64)> {
    let statistics = bench.core.statistics();
    let refused = statistics.refused.iter();
    refused
        .map(|((trunk, reason), count)| (trunk.to_string(), *reason, *count))
        .collect()
}

fn limits(calls: Option<u32>, a_second: Option<u32>, code: Option<u16>) -> String {
    let mut text = String::new();
    for (key, value) in [
        ("calls", calls),
        ("calls_per_second", a_second),
        ("code", code.map(u32::from)),
    ] {
        if let Some(value) = value {
            text += &format!("limits.{key} = {value}\n");
        }
    }
    text
}

#[test]
fn a_trunk_has_so_many_calls_at_one_time_and_no_more() {
    for (carrier, centre, whose) in [(Some(2), None, "carrier"), (None, Some(2), "centre")] {
        let mut bench = Bench::keyed(&limits(carrier, None, None), &limits(centre, None, None));
        let (mut caller, callee) = bring_up(&mut bench);
        assert_eq!(outcome(&mut bench, "+15551234"), None);
        for _ in 0..3 {
            let full = outcome(&mut bench, "+15551234");
            assert_eq!(full, Some((503, Some("5".to_owned()))));
        }
        assert_eq!(refused(&bench), [(whose.to_owned(), "trunk-calls", 3)]);
        bench.sent.clear();
        bench.give(CARRIER, caller.request(Method::Bye));
        bench.response(CARRIER, 200);
        // From then on there is room, whenever the other side answers its BYE.
        assert_eq!(outcome(&mut bench, "+15551234"), None);
        let _ = callee;
    }
}

#[test]
fn calls_begin_at_the_rate_and_in_bursts_of_a_second_of_it() {
    let mut bench = Bench::keyed(&limits(None, Some(4), None), "");
    for _ in 0..4 {
        over(&mut bench);
    }
    let fast = Some((503, Some("1".to_owned())));
    assert_eq!(outcome(&mut bench, "+15551234"), fast);
    bench.pass(SECOND / 4 - Duration::from_millis(1));
    assert_eq!(outcome(&mut bench, "+15551234"), fast);
    bench.pass(Duration::from_millis(1));
    over(&mut bench);
    assert_eq!(outcome(&mut bench, "+15551234"), fast);
    // What was refused has not counted, and what was not used is not saved up for ever.
    bench.pass(SECOND * 100);
    for _ in 0..4 {
        over(&mut bench);
    }
    assert_eq!(outcome(&mut bench, "+15551234"), fast);
    assert_eq!(refused(&bench), [("carrier".to_owned(), "trunk-rate", 4)]);
}

#[test]
fn the_code_is_the_configured_one() {
    for (code, retry) in [(486, true), (480, true), (403, false)] {
        let mut bench = Bench::keyed(&limits(Some(1), None, Some(code)), "");
        bring_up(&mut bench);
        let (status, retry_after) = outcome(&mut bench, "+15551234").unwrap();
        assert_eq!((status, retry_after.is_some()), (code, retry));
    }
}

/// The carrier's trunk and the centre's are one tenant's.
fn tenant(limits: &str) -> Bench {
    let key = "tenant = \"customer\"";
    let text = SETTINGS
        .replace(
            "addresses = [\"198.51.100.2:5060\"]",
            &format!("addresses = [\"198.51.100.2:5060\"]\n{key}"),
        )
        .replace(
            "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
            &format!("addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]\n{key}"),
        );
    Bench::with(&format!(
        "{text}\n[[tenant]]\nname = \"customer\"\n{limits}"
    ))
}

#[test]
fn a_tenant_has_its_limits_over_all_its_trunks() {
    // A call has a leg on two trunks of the tenant's.
    for most in [4, 5] {
        let mut bench = tenant(&format!("limits.calls = {most}\nlimits.code = 486"));
        bring_up(&mut bench);
        assert_eq!(outcome(&mut bench, "+15551234"), None);
        assert_eq!(outcome(&mut bench, "+15551234").unwrap().0, 486, "{most}");
        assert_eq!(refused(&bench), [("carrier".to_owned(), "tenant-calls", 1)]);
    }

    let mut bench = tenant("limits.calls_per_second = 2");
    over(&mut bench);
    over(&mut bench);
    assert_eq!(outcome(&mut bench, "+15551234").unwrap().0, 503);
    assert_eq!(refused(&bench), [("carrier".to_owned(), "tenant-rate", 1)]);
}

#[test]
fn calls_in_an_emergency_are_taken_whatever_the_limits() {
    let text = SETTINGS
        .replace(
            "ring_seconds = 60",
            "ring_seconds = 60\ncalls = 1\nemergency = [\"^(112|911)$\"]",
        )
        .replace(
            "addresses = [\"198.51.100.2:5060\"]",
            "addresses = [\"198.51.100.2:5060\"]\nlimits.calls = 1\nlimits.calls_per_second = 1",
        )
        .replace("^\\\\+1555", "^(\\\\+1555|112|911|1122)");
    let mut bench = Bench::with(&text);
    let (mut caller, callee) = bring_up(&mut bench);
    assert_eq!(outcome(&mut bench, "+15551234").unwrap().0, 503);
    assert_eq!(refused(&bench), [("carrier".to_owned(), "calls", 1)]);
    for number in ["112", "911", "112"] {
        assert_eq!(outcome(&mut bench, number), None, "{number}");
    }
    assert_eq!(
        outcome(&mut bench, "1122").unwrap().0,
        503,
        "another number"
    );
    // They count: there is no room for others until they are over.
    bench.sent.clear();
    bench.give(CARRIER, caller.request(Method::Bye));
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &Bytes::new()));
    bench.pass(SECOND);
    assert_eq!(outcome(&mut bench, "+15551234").unwrap().0, 503);
}
