//! Digest authentication both ways: challenges that we answer, and challenges that we make.

use std::time::Duration;

use super::{
    bench::*,
    transfer::{ask, hang_up, renegotiate},
};
use crate::{
    call::{Authenticated, EndReason},
    digest::{Answer, Asked, Challenge},
    sip::{HeaderName, Method, Request, Response},
};

const OURS: &str = "credentials.user = \"trunk-7\"\ncredentials.password = \"open sesame\"";
const THEIRS: &str = "authentication.realm = \"sbc\"\n\
     authentication.user = [{ name = \"alice\", password = \"wonder land\" }]";

/// A peer's challenge of a request.
fn challenge(phone: &Phone, request: &Request, status: u16, value: &str) -> Response {
    let name = if status == 401 {
        HeaderName::WwwAuthenticate
    } else {
        HeaderName::ProxyAuthenticate
    };
    phone.answer(request, status, &"".into()).with(name, value)
}

/// The credentials of a request of ours, if they are good.
fn proved(request: &Request, name: HeaderName) -> Option<Answer> {
    let answer = Answer::parse(request.headers.get(name)?.value()).unwrap();
    assert_eq!(answer.user, "trunk-7");
    assert_eq!(answer.uri, request.uri.to_string());
    answer
        .proves("open sesame", request.method.as_str(), &request.body)
        .then_some(answer)
}

const SHA: &str = "Digest realm=\"carrier\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"";

/// A call to the centre whose first INVITE the centre has challenged, and the second INVITE.
fn challenged(value: &str) -> (Bench, Phone, Phone, Request) {
    let mut bench = Bench::keyed("", OURS);
    let (caller, callee, first) = bench.begin_call();
    assert!(!first.headers.has(HeaderName::Authorization));
    bench.give(CENTRE, challenge(&callee, &first, 401, value));
    bench.request(CENTRE, Method::Ack);
    let second = bench.request(CENTRE, Method::Invite);
    assert_eq!(first.headers.call_id(), second.headers.call_id());
    assert_eq!(
        first.headers.get(HeaderName::From),
        second.headers.get(HeaderName::From)
    );
    assert_eq!(second.headers.cseq().unwrap().number, 2);
    assert_eq!(first.body, second.body);
    (bench, caller, callee, second)
}

#[test]
fn a_challenged_call_comes_about_and_ends() {
    let (mut bench, mut caller, callee, invite) = challenged(SHA);
    let answer = proved(&invite, HeaderName::Authorization).expect("good credentials");
    assert_eq!((answer.nonce.as_str(), answer.count), ("n1", Some(1)));
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.cseq().unwrap().number, 2);
    assert_eq!(
        ack.headers.get(HeaderName::Authorization),
        invite.headers.get(HeaderName::Authorization),
        "the ACK bears the INVITE's"
    );
    let ok = bench.response(CARRIER, 200);
    caller.learn(&ok);
    bench.give(CARRIER, caller.ack());

    // A re-INVITE has credentials at once; the centre wants others.
    let again = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4002, "")), CENTRE);
    let known = proved(&again, HeaderName::Authorization).expect("what is known is used");
    assert_eq!((known.nonce.as_str(), known.count), ("n1", Some(2)));
    assert_eq!(again.headers.cseq().unwrap().number, 3);
    let stale =
        "Digest realm=\"carrier\", nonce=\"n2\", algorithm=SHA-256, qop=\"auth\", stale=true";
    bench.give(CENTRE, challenge(&callee, &again, 401, stale));
    bench.request(CENTRE, Method::Ack);
    let third = bench.request(CENTRE, Method::Invite);
    let fresh = proved(&third, HeaderName::Authorization).expect("the new nonce is used");
    assert_eq!((fresh.nonce.as_str(), fresh.count), ("n2", Some(1)));
    assert_eq!(third.headers.cseq().unwrap().number, 4);
    bench.give(CENTRE, callee.answer(&third, 200, &sdp(CENTRE, 5000, "")));
    let ack = bench.request(CENTRE, Method::Ack);
    assert_eq!(ack.headers.cseq().unwrap().number, 4);
    bench.response(CARRIER, 200);
    bench.give(CARRIER, caller.ack());

    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    assert!(proved(&bye, HeaderName::Authorization).is_some());
    let other = "Digest realm=\"carrier\", nonce=\"n3\", qop=\"auth,auth-int\"";
    bench.give(CENTRE, challenge(&callee, &bye, 401, other));
    let bye = bench.request(CENTRE, Method::Bye);
    assert_eq!(bye.headers.cseq().unwrap().number, 6);
    assert!(proved(&bye, HeaderName::Authorization).is_some());
    bench.give(CENTRE, callee.answer(&bye, 200, &"".into()));
    bench.silent();
    bench.finished();
}

#[test]
fn a_proxy_and_the_peer_behind_it_are_both_answered() {
    let mut bench = Bench::keyed("", OURS);
    let (_, callee, first) = bench.begin_call();
    let proxy = "Digest realm=\"proxy\", nonce=\"p1\"";
    bench.give(CENTRE, challenge(&callee, &first, 407, proxy));
    bench.request(CENTRE, Method::Ack);
    let second = bench.request(CENTRE, Method::Invite);
    assert!(proved(&second, HeaderName::ProxyAuthorization).is_some());
    bench.give(CENTRE, challenge(&callee, &second, 401, SHA));
    bench.request(CENTRE, Method::Ack);
    let third = bench.request(CENTRE, Method::Invite);
    assert!(proved(&third, HeaderName::ProxyAuthorization).is_some());
    assert!(proved(&third, HeaderName::Authorization).is_some());
    assert_eq!(third.headers.cseq().unwrap().number, 3);
}

#[test]
fn the_first_challenge_that_is_known_is_answered() {
    let value = "Digest realm=\"carrier\", nonce=\"n0\", algorithm=SHA3-512";
    let mut bench = Bench::keyed("", OURS);
    let (_, callee, first) = bench.begin_call();
    let both = challenge(&callee, &first, 401, value)
        .with(HeaderName::WwwAuthenticate, SHA)
        .with(
            HeaderName::WwwAuthenticate,
            "Digest realm=\"carrier\", nonce=\"n9\"",
        );
    bench.give(CENTRE, both);
    bench.request(CENTRE, Method::Ack);
    let second = bench.request(CENTRE, Method::Invite);
    let answer = proved(&second, HeaderName::Authorization).expect("good credentials");
    assert_eq!(answer.nonce, "n1");
}

#[test]
fn credentials_that_are_not_taken_are_given_up() {
    let (mut bench, _, callee, invite) = challenged(SHA);
    let again = SHA.replace("n1", "n2");
    bench.give(CENTRE, challenge(&callee, &invite, 401, &again));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 500);
    bench.silent();
    bench.finished();
}

#[test]
fn a_peer_that_finds_every_nonce_stale_is_given_up() {
    let (mut bench, _, callee, mut invite) = challenged(SHA);
    let stale = format!("{SHA}, stale=true");
    for _ in 0..2 {
        bench.give(CENTRE, challenge(&callee, &invite, 401, &stale));
        bench.request(CENTRE, Method::Ack);
        invite = bench.request(CENTRE, Method::Invite);
    }
    bench.give(CENTRE, challenge(&callee, &invite, 401, &stale));
    bench.request(CENTRE, Method::Ack);
    bench.response(CARRIER, 500);
    bench.finished();
}

#[test]
fn without_credentials_or_for_another_realm_a_challenge_is_a_refusal() {
    for keys in ["", &format!("{OURS}\ncredentials.realm = \"elsewhere\"")] {
        let mut bench = Bench::keyed("", keys);
        let (_, callee, first) = bench.begin_call();
        bench.give(CENTRE, challenge(&callee, &first, 401, SHA));
        bench.request(CENTRE, Method::Ack);
        bench.response(CARRIER, 500);
        bench.silent();
        bench.finished();
    }
}

#[test]
fn a_call_that_is_cancelled_answers_no_challenge() {
    let mut bench = Bench::keyed("", OURS);
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let first = bench.carry(CARRIER, invite.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &first, "b1");
    bench.give(CARRIER, cancel(&invite));
    bench.response(CARRIER, 200);
    let refusal = bench.response(CARRIER, 487);
    bench.give(CARRIER, refusal_ack(&invite, &refusal));
    bench.give(CENTRE, challenge(&callee, &first, 401, SHA));
    bench.request(CENTRE, Method::Ack);
    bench.silent();
    bench.finished();
}

/// The request with credentials for a challenge of ours.
fn with_credentials(
    request: Request,
    challenge: &Challenge,
    password: &str,
    count: u32,
) -> Request {
    let uri = request.uri.to_string();
    let asked = Asked {
        method: request.method.as_str(),
        uri: &uri,
        body: &request.body,
    };
    let answer = Answer::new(challenge, "alice", password, asked, count, "c0");
    request.with(HeaderName::Authorization, answer.text())
}

fn challenges(response: &Response) -> Vec<Challenge> {
    response
        .headers
        .all(HeaderName::WwwAuthenticate)
        .map(|field| Challenge::parse(field.value()).unwrap())
        .collect()
}

/// The next INVITE of a caller, in a dialog of its own.
fn next_call(number: u32) -> Phone {
    Phone::caller(CARRIER, "+15551234").with_call_id(&format!("call-{number}"))
}

fn outcomes(bench: &Bench) -> Vec<(Authenticated, u64)> {
    let statistics = bench.core.statistics();
    let counted = statistics.authenticated.iter();
    counted
        .map(|((_, outcome), count)| (*outcome, *count))
        .collect()
}

#[test]
fn a_caller_has_to_prove_who_he_is() {
    let mut bench = Bench::keyed(THEIRS, "");
    let mut caller = next_call(1);
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    bench.give(CARRIER, first.clone());
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 401);
    bench.give(CARRIER, refusal_ack(&first, &refusal));
    let offered = challenges(&refusal);
    let names: Vec<_> = offered.iter().map(|one| one.algorithm.name()).collect();
    assert_eq!(names, ["SHA-256", "MD5"]);
    assert!(offered.iter().all(|one| one.realm == "sbc" && !one.stale));

    let wrong = with_credentials(
        caller.invite(&sdp(CARRIER, 4000, "")),
        &offered[0],
        "land",
        1,
    );
    bench.give(CARRIER, wrong.clone());
    bench.response(CARRIER, 100);
    let refusal = bench.response(CARRIER, 401);
    bench.give(CARRIER, refusal_ack(&wrong, &refusal));
    bench.silent();

    for (challenge, count) in [(&offered[0], 1), (&offered[1], 1), (&offered[0], 2)] {
        let mut caller = next_call(10 + count + u32::from(challenge == &offered[1]) * 10);
        let invite = caller.invite(&sdp(CARRIER, 4000, ""));
        let passed = bench.carry(
            CARRIER,
            with_credentials(invite, challenge, "wonder land", count),
            CENTRE,
        );
        assert!(
            !passed.headers.has(HeaderName::Authorization),
            "credentials are for us alone"
        );
    }
    assert_eq!(
        outcomes(&bench),
        [
            (Authenticated::Challenged, 1),
            (Authenticated::Accepted, 3),
            (Authenticated::Refused, 1)
        ]
    );
    let log = format!("{:?} {:?}", bench.core.statistics(), bench.events);
    assert!(!log.contains("wonder land"));
}

#[test]
fn credentials_serve_once_and_for_a_time_and_for_one_number() {
    let mut bench = Bench::keyed(THEIRS, "");
    let mut caller = next_call(1);
    let first = caller.invite(&sdp(CARRIER, 4000, ""));
    bench.give(CARRIER, first.clone());
    bench.response(CARRIER, 100);
    let offered = challenges(&bench.response(CARRIER, 401)).remove(0);
    let refused = |bench: &mut Bench, invite: Request| {
        bench.give(CARRIER, invite);
        bench.response(CARRIER, 100);
        challenges(&bench.response(CARRIER, 401)).remove(0)
    };

    let good = with_credentials(next_call(2).invite(&"".into()), &offered, "wonder land", 1);
    let taken = good.headers.get(HeaderName::Authorization).unwrap().clone();
    bench.carry(CARRIER, good, CENTRE);

    let mut replayed = next_call(3).invite(&"".into());
    replayed.headers.push_header(taken.clone());
    assert!(
        refused(&mut bench, replayed).stale,
        "the count does not rise"
    );

    let mut other = Phone::caller(CARRIER, "+15559999").with_call_id("other");
    let mut other = other.invite(&"".into());
    let stolen = with_credentials(next_call(4).invite(&"".into()), &offered, "wonder land", 2);
    let stolen = stolen.headers.get(HeaderName::Authorization).unwrap();
    other.headers.push_header(stolen.clone());
    assert!(
        !refused(&mut bench, other).stale,
        "another number is called"
    );

    bench.pass(Duration::from_secs(301));
    bench.sent.clear();
    let late = with_credentials(next_call(5).invite(&"".into()), &offered, "wonder land", 3);
    let fresh = refused(&mut bench, late);
    assert!(fresh.stale, "the nonce is too old");
    bench.carry(
        CARRIER,
        with_credentials(next_call(6).invite(&"".into()), &fresh, "wonder land", 1),
        CENTRE,
    );
}

#[test]
fn options_and_what_is_inside_a_call_are_not_challenged() {
    let mut bench = Bench::keyed(THEIRS, "");
    let mut asking = next_call(1);
    bench.give(CARRIER, asking.request(Method::Options));
    bench.response(CARRIER, 200);
    let mut registering = next_call(2);
    bench.give(CARRIER, registering.request(Method::Register));
    let offered = challenges(&bench.response(CARRIER, 401)).remove(0);

    let mut caller = next_call(3);
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let invite = bench.carry(
        CARRIER,
        with_credentials(invite, &offered, "wonder land", 1),
        CENTRE,
    );
    let callee = Phone::callee(CENTRE, &invite, "b1");
    bench.give(CENTRE, callee.answer(&invite, 200, &sdp(CENTRE, 5000, "")));
    bench.request(CENTRE, Method::Ack);
    caller.learn(&bench.response(CARRIER, 200));
    bench.give(CARRIER, caller.ack());
    bench.give(CARRIER, caller.request(Method::Bye));
    bench.response(CARRIER, 200);
    let bye = bench.request(CENTRE, Method::Bye);
    bench.give(CENTRE, callee.answer(&bye, 200, &"".into()));
    assert_eq!(
        bench
            .core
            .statistics()
            .ended
            .get(EndReason::Bye(crate::call::Side::A).name()),
        Some(&1)
    );
    bench.finished();
}

#[test]
fn nothing_is_left_of_the_credentials_for_one_who_has_asked_for_a_transfer_and_hung_up() {
    let mut bench = Bench::keyed("", OURS);
    let (caller, mut callee) = bring_up(&mut bench);
    ask(&mut bench, &mut callee, "sip:+447777@192.0.2.1");
    let invite = bench.request(CARRIER, Method::Invite);
    bench.give(CENTRE, callee.request(Method::Bye));
    bench.response(CENTRE, 200);
    let mut new = Phone::callee(CARRIER, &invite, "n1");
    bench.give(CARRIER, new.answer(&invite, 200, &sdp(CARRIER, 4100, "")));
    bench.request(CARRIER, Method::Ack);
    renegotiate(&mut bench, &caller, 4000);
    hang_up(&mut bench, &mut new, &caller);
    bench.finished();
}
