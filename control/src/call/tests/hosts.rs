//! Routes by the host of the Request-URI.

use super::bench::*;
use crate::sip::{HeaderName, Method};

/// A carrier that calls us by two names and an address; each goes to an address of its own.
fn bench() -> Bench {
    let centre = SETTINGS.find("[[trunk]]\nname = \"centre\"").unwrap();
    let routes = SETTINGS.find("[[route]]").unwrap();
    let trunk = &SETTINGS[centre..routes];
    let second = trunk
        .replace("\"centre\"", "\"second\"")
        .replace(":5060\"\naddresses", ":5070\"\naddresses")
        .replace(
            "\"192.0.2.2:5060\", \"192.0.2.3:5060\"",
            "\"192.0.2.3:5060\"",
        );
    let route = |keys: &str, to: &str| format!("[[route]]\n{keys}\ntrunk = \"{to}\"\n");
    let text = format!(
        "{}{second}{}{}{}",
        &SETTINGS[..routes],
        route(
            "host = \"Sales.example.com\"\nnumber = \"^.1555\"",
            "second"
        ),
        route("from = [\"carrier\"]\nhost = \"198.51.100.1\"", "centre"),
        route("from = [\"second\"]", "carrier"),
    );
    Bench::with(&text)
}

/// Calls a URI and says where the call went, or how it was refused.
fn called(bench: &mut Bench, uri: &str) -> Result<&'static str, u16> {
    let mut caller = Phone::caller(CARRIER, "+15551234");
    caller.call_id = uri.into();
    caller.target = uri.to_owned();
    bench.sent.clear();
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    for peer in [CENTRE, SECOND_CENTRE] {
        if bench.next(peer).is_some() {
            return Ok(peer);
        }
    }
    let mut last = None;
    while let Some((_, crate::sip::Message::Response(response))) = bench.next(CARRIER) {
        last = Some(response.status);
    }
    Err(last.expect("a response"))
}

#[test]
fn a_route_takes_calls_to_its_host_alone() {
    let mut bench = bench();
    for (uri, wanted) in [
        ("sip:+15551234@sales.example.com", Ok(SECOND_CENTRE)),
        (
            "sip:+15551234@SALES.example.com:5060;user=phone",
            Ok(SECOND_CENTRE),
        ),
        ("sip:+4930@sales.example.com", Err(404)),
        ("sip:+15551234@198.51.100.1:5060", Ok(CENTRE)),
        ("sip:+15551234@support.example.com", Err(404)),
        ("sip:+15551234@a.sales.example.com", Err(404)),
        // Without a host.
        ("tel:+15551234", Err(404)),
    ] {
        assert_eq!(called(&mut bench, uri), wanted, "{uri}");
    }
}

#[test]
fn a_transfer_is_routed_by_the_host_that_it_names() {
    let mut bench = bench();
    let (mut caller, _callee) = bring_up(&mut bench);
    let refer = caller
        .request(Method::Refer)
        .with(HeaderName::ReferTo, "<sip:+15559999@sales.example.com>");
    bench.give(CARRIER, refer);
    bench.response(CARRIER, 202);
    let invite = bench.request(SECOND_CENTRE, Method::Invite);
    assert_eq!(invite.uri.user_unescaped().as_deref(), Some("+15559999"));
}
