//! Numbers in the forms of the two trunks.

use super::bench::*;
use crate::sip::{HeaderName, Method};

const NATIONAL: &str = "numbers.form = \"national\"\nnumbers.country = \"44\"\nsip.trusted = true\n\
     sip.forwarding = \"diversion\"";

/// What the centre gets of a call of the carrier's, and what the carrier gets answered.
#[test]
fn each_trunk_sees_its_own_form_and_routes_see_plus() {
    let mut bench = Bench::keyed(
        NATIONAL,
        "numbers.form = \"digits\"\nsip.trusted = true\nsip.forwarding = \"diversion\"",
    );
    let mut caller = Phone::caller(CARRIER, "0015551234567");
    caller.local = "\"A\" <sip:02079460000@198.51.100.2>;tag=a1"
        .parse()
        .unwrap();
    let invite = caller
        .invite(&sdp(CARRIER, 4000, ""))
        .with(
            HeaderName::PAssertedIdentity,
            "<sip:02079460001@198.51.100.2>",
        )
        .with(
            HeaderName::Diversion,
            "<sip:003312345678@198.51.100.2>;reason=user-busy",
        );
    bench.give(CARRIER, invite);
    let trying = bench.response(CARRIER, 100);
    assert_eq!(trying.headers.from().unwrap(), caller.local);
    let onward = bench.request(CENTRE, Method::Invite);
    let user = |name| {
        let address = onward.headers.address(name).unwrap();
        address.uri.user().unwrap().to_owned()
    };
    assert_eq!(onward.uri.user(), Some("15551234567"));
    assert_eq!(user(HeaderName::To), "15551234567");
    assert_eq!(user(HeaderName::From), "442079460000");
    assert_eq!(user(HeaderName::PAssertedIdentity), "442079460001");
    assert_eq!(user(HeaderName::Diversion), "3312345678");
    assert!(onward.headers.from().unwrap().tag().is_some());
    assert_eq!(&*bench.core.calls()[0].number, "+15551234567");

    let callee = Phone::callee(CENTRE, &onward, "b1");
    bench.give(CENTRE, callee.answer(&onward, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    let ok = bench.response(CARRIER, 200);
    assert_eq!(ok.headers.from().unwrap(), caller.local);
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.from().unwrap(), onward.headers.from().unwrap());
    bench.give(CENTRE, callee.answer(&bye, 200, &"".into()));
    bench.finished();
}

#[test]
fn towards_a_national_trunk_its_country_s_numbers_lose_their_code() {
    let mut bench = Bench::keyed(NATIONAL, "");
    let mut caller = Phone::caller(CENTRE, "+442079460000");
    caller.local = "<sip:+4930123456@192.0.2.2>;tag=a1".parse().unwrap();
    let onward = bench.carry(CENTRE, caller.invite(&sdp(CENTRE, 5000, "")), CARRIER);
    assert_eq!(onward.uri.user(), Some("02079460000"));
    assert_eq!(onward.headers.to().unwrap().uri.user(), Some("02079460000"));
    assert_eq!(
        onward.headers.from().unwrap().uri.user(),
        Some("004930123456")
    );
}
