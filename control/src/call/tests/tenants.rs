//! Customers behind one address and port, told apart by their names.

use bytes::Bytes;

use super::bench::*;
use crate::{
    call::Discard,
    sip::{Flow, HeaderName, Message, Method, NameAddress, Request},
};

/// The carrier serves two customers, from the same hosts.
fn tenants() -> Bench {
    let begin = SETTINGS.find("[[trunk]]\nname = \"carrier\"").unwrap();
    let end = SETTINGS.find("[[trunk]]\nname = \"centre\"").unwrap();
    let carrier = &SETTINGS[begin..end];
    let tenant = |name: &str| {
        let domain = format!("domain = \"{name}.example.com\"\n");
        carrier.replace("\"carrier\"", &format!("\"{name}\"")) + &domain
    };
    let text = format!(
        "{}{}{}{}",
        &SETTINGS[..begin],
        tenant("one"),
        tenant("two"),
        &SETTINGS[end..]
    );
    let text = text
        .replace("from = [\"carrier\"]", "from = [\"one\", \"two\"]")
        .replace("trunk = \"carrier\"", "trunk = \"two\"");
    Bench::with(&text)
}

fn flow(asked: Option<&str>) -> Flow {
    Flow {
        own_name: asked.map(Into::into),
        ..Flow::udp(address(LISTEN_CARRIER), address(CARRIER))
    }
}

/// A caller that names a host in the Request-URI and one in To.
fn caller(called: &str, to: &str) -> Phone {
    let mut caller = Phone::caller(CARRIER, "+15551234");
    caller.target = format!("sip:+15551234@{called}");
    caller.remote = format!("<sip:+15551234@{to}>").parse().unwrap();
    caller
}

#[test]
fn a_call_belongs_to_the_tenant_that_it_names() {
    for (called, to, asked, tenant) in [
        ("one.example.com", "two.example.com", None, "one"),
        ("TWO.example.com:5060", "one.example.com", None, "two"),
        (
            "198.51.100.1",
            "two.example.com",
            Some("one.example.com"),
            "two",
        ),
        (
            "198.51.100.1",
            "198.51.100.1",
            Some("two.example.com"),
            "two",
        ),
        (
            "other.example.com",
            "other.example.com",
            Some("One.example.com"),
            "one",
        ),
    ] {
        let mut bench = tenants();
        let mut caller = caller(called, to);
        let flow = flow(asked);
        bench.give_over(&flow, caller.invite(&sdp(CARRIER, 4000, "")));
        bench.response(CARRIER, 100);
        let invite = bench.request(CENTRE, Method::Invite);
        let callee = Phone::callee(CENTRE, &invite, "b1");
        bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
        bench.request(CENTRE, Method::Ack);
        let ok = bench.response(CARRIER, 200);
        let contact = ok.headers.contact().unwrap().uri.to_string();
        assert_eq!(
            contact,
            format!("sip:+15551234@{tenant}.example.com:5060"),
            "{called} {to} {asked:?}"
        );
        assert_eq!(&*bench.core.calls()[0].legs[0].trunk, tenant);
        // In the dialog it stays the same, whatever the URIs say.
        caller.learn(&ok);
        caller.target = "sip:198.51.100.1".to_owned();
        bench.give_over(&self::flow(None), caller.ack());
        bench.give_over(&self::flow(None), caller.request(Method::Bye));
        bench.response(CARRIER, 200);
        let bye = bench.request(CENTRE, Method::Bye);
        bench.give(CENTRE, callee.answer(&bye, 200, &Bytes::new()));
        bench.finished();
    }
}

#[test]
fn a_request_that_names_no_tenant_is_answered_with_404_and_counted() {
    let mut bench = tenants();
    let mut stranger = caller("three.example.com", "three.example.com");
    let options: Request = stranger.request(Method::Options);
    bench.give_over(&flow(Some("four.example.com")), options);
    bench.response(CARRIER, 404);
    let ack = stranger.ack();
    bench.give_over(&flow(None), ack);
    bench.silent();
    let discards = bench.core.statistics().discards;
    assert_eq!(discards[&Discard::UnknownTenant], 2);
}

#[test]
fn a_call_to_a_tenant_is_made_in_its_name() {
    let mut bench = tenants();
    bench.give(
        CENTRE,
        Phone::caller(CENTRE, "+441").invite(&sdp(CENTRE, 4000, "")),
    );
    let invite = bench.request(CARRIER, Method::Invite);
    let from: NameAddress = invite.headers.from().unwrap();
    assert_eq!(from.uri.as_sip().unwrap().host, "two.example.com");
    assert_eq!(invite.headers.via().unwrap().host, "two.example.com");
    // Its answers need no name.
    let callee = Phone::callee(CARRIER, &invite, "b1");
    let refusal = callee.answer(&invite, 486, &Bytes::new());
    bench.give_over(&flow(None), Message::Response(refusal));
    assert!(
        bench
            .request(CARRIER, Method::Ack)
            .headers
            .has(HeaderName::Via)
    );
    bench.response(CENTRE, 100);
    bench.response(CENTRE, 486);
}
