//! Who calls, for whom a call was forwarded, which headers pass, and why it ended.

use bytes::Bytes;

use super::bench::*;
use crate::sip::{HeaderName, Method, Request};

const NONE: Bytes = Bytes::new();
const TEAMS: &str = "domain = \"sbc.example.com\"\nhold = \"inactive\"\nsip.profile = \"teams\"\n";

/// What the centre gets of an INVITE of the carrier with further headers.
fn onward(carrier: &str, centre: &str, headers: &[(&'static str, &str)]) -> (Bench, Request) {
    let mut bench = Bench::keyed(carrier, centre);
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let mut invite = caller.invite(&sdp(CARRIER, 4000, ""));
    for (name, value) in headers {
        invite.headers.push(*name, *value);
    }
    let invite = bench.carry(CARRIER, invite, CENTRE);
    (bench, invite)
}

fn shown(request: &Request, name: HeaderName) -> Vec<String> {
    let addresses = request.headers.addresses(name).unwrap();
    addresses
        .into_iter()
        .map(|mut address| {
            address.parameters.remove("tag");
            address.to_string()
        })
        .collect()
}

#[test]
fn teams_is_told_the_asserted_identity_in_from() {
    let (_, invite) = onward(
        "sip.trusted = true",
        TEAMS,
        &[(
            "P-Asserted-Identity",
            "\"Bob\" <sip:+49309999@carrier.example>",
        )],
    );
    let expected = ["\"Bob\" <sip:+49309999@sbc.example.com>"];
    assert_eq!(shown(&invite, HeaderName::From), expected);
    assert_eq!(shown(&invite, HeaderName::PAssertedIdentity), expected);
}

#[test]
fn an_identity_that_an_untrusted_trunk_asserts_is_not_believed() {
    let (_, invite) = onward(
        "",
        TEAMS,
        &[("P-Asserted-Identity", "<sip:+49309999@carrier.example>")],
    );
    assert_eq!(
        shown(&invite, HeaderName::From),
        ["\"Alice\" <sip:+4930123@sbc.example.com>"]
    );
    assert!(!invite.headers.has(HeaderName::PAssertedIdentity));
}

#[test]
fn a_caller_who_asks_for_privacy_is_anonymous_and_only_a_trusted_trunk_is_told() {
    let headers = [
        ("P-Asserted-Identity", "<sip:+49309999@carrier.example>"),
        ("Privacy", "id"),
    ];
    let anonymous = ["\"Anonymous\" <sip:anonymous@anonymous.invalid>"];
    let (_, invite) = onward("sip.trusted = true", TEAMS, &headers);
    assert_eq!(shown(&invite, HeaderName::From), anonymous);
    assert_eq!(
        shown(&invite, HeaderName::PAssertedIdentity),
        ["<sip:+49309999@sbc.example.com>"]
    );
    assert_eq!(invite.headers.text(HeaderName::Privacy), Some("id"));
    let (_, invite) = onward("sip.trusted = true", "", &headers);
    assert_eq!(shown(&invite, HeaderName::From), anonymous);
    assert!(!invite.headers.has(HeaderName::PAssertedIdentity));
    let whole = invite.to_bytes();
    assert!(!String::from_utf8_lossy(&whole).contains("9309999"));
}

#[test]
fn diversion_becomes_history_info_towards_teams() {
    let (_, invite) = onward(
        "",
        TEAMS,
        &[
            ("Diversion", "<sip:+1002@carrier.example>;reason=no-answer"),
            (
                "Diversion",
                "<sip:+1001@carrier.example>;reason=unconditional;counter=1",
            ),
        ],
    );
    assert_eq!(
        shown(&invite, HeaderName::HistoryInfo),
        [
            "<sip:+1001@192.0.2.2?Reason=SIP%3Bcause%3D302>;index=1",
            "<sip:+1002@192.0.2.2?Reason=SIP%3Bcause%3D408>;index=1.1",
            "<sip:+15551234@192.0.2.2>;index=1.1.1",
        ]
    );
    assert!(!invite.headers.has(HeaderName::Diversion));
}

#[test]
fn history_info_of_teams_becomes_diversion_towards_a_carrier() {
    let (_, invite) = onward(
        TEAMS,
        "sip.forwarding = \"diversion\"",
        &[(
            "History-Info",
            "<sip:+1001@sip.pstnhub.microsoft.com;user=phone?Reason=SIP%3Bcause%3D302%3Btext%3D\
             %22Moved%20Temporarily%22>;index=1, \
             <sip:+1002@sip.pstnhub.microsoft.com;user=phone?Reason=SIP%3bcause%3d486>;index=1.1, \
             <sip:+15551234@sbc.example.com>;index=1.2",
        )],
    );
    assert_eq!(
        shown(&invite, HeaderName::Diversion),
        [
            "<sip:+1002@192.0.2.1;user=phone>;reason=user-busy;counter=1",
            "<sip:+1001@192.0.2.1;user=phone>;reason=unconditional;counter=1",
        ]
    );
    assert!(!invite.headers.has(HeaderName::HistoryInfo));
    let (_, invite) = onward("", "", &[("Diversion", "<sip:+1@a>;reason=no-answer")]);
    assert!(
        !invite.headers.has(HeaderName::Diversion),
        "not unless asked"
    );
}

#[test]
fn a_cause_in_history_info_is_of_the_party_that_forwarded_the_call_there() {
    for (history, expected) in [
        (
            "<sip:+1001@a>;index=1, <sip:+1002@a;cause=302>;index=1.1, \
             <sip:+15551234@a;cause=486>;index=1.1.1",
            vec![
                "<sip:+1002@192.0.2.1>;reason=user-busy;counter=1",
                "<sip:+1001@192.0.2.1>;reason=unconditional;counter=1",
            ],
        ),
        // One that was tried in between has forwarded nothing.
        (
            "<sip:+1001@a>;index=1, <sip:+1002@a>;index=1.1, \
             <sip:+15551234@a;cause=408>;index=1.2;mp=1",
            vec!["<sip:+1001@192.0.2.1>;reason=no-answer;counter=1"],
        ),
        // Both ways of saying it at once.
        (
            "<sip:+1001@a?Reason=SIP%3Bcause%3D302>;index=1, \
             <sip:+15551234@a;cause=302>;index=1.1",
            vec!["<sip:+1001@192.0.2.1>;reason=unconditional;counter=1"],
        ),
    ] {
        let keys = "sip.forwarding = \"diversion\"";
        let (_, invite) = onward("", keys, &[("History-Info", history)]);
        assert_eq!(shown(&invite, HeaderName::Diversion), expected, "{history}");
    }
}

#[test]
fn a_trunks_profile_lets_headers_pass_and_strips_others() {
    let headers = [
        ("X-Customer", "4711"),
        ("Subject", "hello"),
        ("Via", "never"),
    ];
    let (_, invite) = onward(
        "",
        "sip.headers_allow = [\"x-customer\", \"Contact\"]\nsip.headers_strip = [\"Subject\", \"From\"]",
        &headers[..2],
    );
    assert_eq!(invite.headers.text("X-Customer"), Some("4711"));
    assert!(!invite.headers.has(HeaderName::Subject));
    assert_eq!(invite.headers.all(HeaderName::Contact).count(), 1);
    assert_eq!(invite.headers.all(HeaderName::From).count(), 1);
    let (_, invite) = onward("", "", &headers[..2]);
    assert!(!invite.headers.has("X-Customer"));
    assert!(invite.headers.has(HeaderName::Subject));
}

#[test]
fn a_busy_user_of_teams_is_busy_for_the_carrier() {
    for (centre, cause) in [(TEAMS, "17"), ("", "34"), ("sip.busy_cause = 21", "21")] {
        let (mut bench, invite) = onward("", centre, &[]);
        let callee = Phone::callee(CENTRE, &invite, "b1");
        let busy = callee
            .answer(&invite, 486, &NONE)
            .with(HeaderName::Reason, "Q.850;cause=34;text=\"no circuit\"");
        bench.give(CENTRE, busy);
        bench.request(CENTRE, Method::Ack);
        let refusal = bench.response(CARRIER, 486);
        let reason = refusal.headers.text(HeaderName::Reason).unwrap();
        assert!(
            reason.starts_with(&format!("Q.850;cause={cause}")),
            "{reason}"
        );
    }
}

#[test]
fn a_reason_is_made_where_a_trunk_wants_one() {
    let (mut bench, invite) = onward("sip.make_reason = true", "", &[]);
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 404, &NONE));
    bench.request(CENTRE, Method::Ack);
    let refusal = bench.response(CARRIER, 404);
    assert_eq!(
        refusal.headers.text(HeaderName::Reason),
        Some("Q.850;cause=1")
    );

    let mut bench = Bench::keyed("sip.make_reason = true", "");
    let (_, mut callee) = bring_up(&mut bench);
    bench.give(CENTRE, callee.request(Method::Bye));
    let bye = bench.request(CARRIER, Method::Bye);
    assert_eq!(bye.headers.text(HeaderName::Reason), Some("Q.850;cause=16"));
}

#[test]
fn a_location_passes_beside_the_offer_and_its_number_may_stand_for_the_caller() {
    const LOCATION: &str = "<presence><ELIN>+15550911</ELIN></presence>";
    for (keys, shown_as) in [("", "+4930123"), ("sip.elin = true", "+15550911")] {
        let mut bench = Bench::keyed(keys, "");
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let offer = String::from_utf8_lossy(&sdp(CARRIER, 4000, "")).into_owned();
        let body = format!(
            "--part\r\nContent-Type: application/sdp\r\n\r\n{offer}\r\n--part\r\n\
             Content-Type: application/pidf+xml\r\nContent-ID: <a@b>\r\n\r\n{LOCATION}\r\n--part--\r\n"
        );
        let invite = caller
            .request(Method::Invite)
            .with("Geolocation", "<cid:a@b>")
            .with_body("multipart/mixed;boundary=part", body);
        let onward = bench.carry(CARRIER, invite, CENTRE);
        let body = text(&onward.body);
        assert!(
            body.contains("m=audio") && body.contains(LOCATION),
            "{body}"
        );
        assert!(body.contains("Content-ID: <a@b>"));
        assert!(!body.contains("198.51.100.2"), "the offer is ours");
        assert_eq!(onward.headers.text("Geolocation"), Some("<cid:a@b>"));
        assert_eq!(onward.headers.from().unwrap().uri.user(), Some(shown_as));
        let callee = Phone::callee(CENTRE, &onward, "b1");
        bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
        bench.request(CENTRE, Method::Ack);
        bench.response(CARRIER, 200);

        let mut back = Phone::caller(CENTRE, "+15550911");
        bench.give(CENTRE, back.invite(&sdp(CENTRE, 5002, "")));
        bench.response(CENTRE, 100);
        if keys.is_empty() {
            bench.response(CENTRE, 404);
        } else {
            let called = bench.request(CARRIER, Method::Invite);
            assert_eq!(called.uri.user(), Some("+4930123"));
        }
    }
}
