//! Registrations with trunks.

use std::{path::Path, sync::Arc, time::Duration};

use super::bench::*;
use crate::{
    call::RegistrationState,
    config,
    digest::Answer,
    sip::{HeaderName, Method, Request, Response},
};

const KEYS: &str = "credentials.user = \"line-1\"\ncredentials.password = \"open sesame\"\n\
     registration.registrar = \"carrier.example\"\nregistration.expires = 600";

/// The contact centre is where we register: it has two addresses.
fn bench() -> (Bench, Request) {
    let mut bench = Bench::keyed("", KEYS);
    bench.core.register(bench.now);
    bench.collect();
    let register = bench.request(CENTRE, Method::Register);
    (bench, register)
}

fn answer(request: &Request, status: u16) -> Response {
    Response::to_request(request, status, Some("r"))
}

/// A 200 that grants what is asked for, and lists another's binding too.
fn granted(request: &Request, seconds: u32) -> Response {
    let contact = request.headers.contact().unwrap().uri;
    answer(request, 200)
        .with(HeaderName::Contact, "<sip:line-1@203.0.113.77>;expires=7")
        .with(
            HeaderName::Contact,
            format!("<{contact}>;expires={seconds}"),
        )
}

fn state(bench: &Bench) -> Vec<(RegistrationState, Option<u16>, u32)> {
    let registrations = bench.core.statistics().registrations;
    let each = registrations.iter();
    each.map(|one| (one.state, one.status, one.failures))
        .collect()
}

/// Lets time pass until a REGISTER to that address comes, and says how long it took.
fn wait_register(bench: &mut Bench, peer: &str) -> (Duration, Request) {
    let begin = bench.now;
    for _ in 0..50 {
        let next = bench.core.next_timeout().expect("something is due");
        bench.pass(next.saturating_duration_since(bench.now));
        if let Some((_, crate::sip::Message::Request(request))) = bench.next(peer) {
            return (bench.now - begin, request);
        }
    }
    panic!("no REGISTER to {peer}");
}

#[test]
fn it_says_who_and_where_and_is_renewed_in_time() {
    let (mut bench, first) = bench();
    assert_eq!(first.uri.to_string(), "sip:carrier.example");
    let text = |name| first.headers.text(name).unwrap().to_owned();
    assert_eq!(text(HeaderName::To), "<sip:line-1@carrier.example>");
    assert!(text(HeaderName::From).starts_with("<sip:line-1@carrier.example>;tag="));
    assert_eq!(text(HeaderName::Contact), "<sip:line-1@192.0.2.1:5060>");
    assert_eq!(text(HeaderName::Expires), "600");
    assert_eq!(state(&bench), [(RegistrationState::Waiting, None, 0)]);
    bench.give(CENTRE, granted(&first, 300));
    assert_eq!(
        state(&bench),
        [(RegistrationState::Registered, Some(200), 0)]
    );
    bench.silent();

    let mut last = first;
    for _ in 0..3 {
        let (after, next) = wait_register(&mut bench, CENTRE);
        assert!(
            (150..=220).contains(&after.as_secs()),
            "of 300 s, with time for two attempts: {after:?}"
        );
        assert_eq!(next.headers.call_id(), last.headers.call_id());
        assert_eq!(
            next.headers.cseq().unwrap().number,
            last.headers.cseq().unwrap().number + 1
        );
        bench.give(CENTRE, granted(&next, 300));
        last = next;
    }
}

#[test]
fn a_challenge_is_answered() {
    let (mut bench, first) = bench();
    let challenge = answer(&first, 401).with(
        HeaderName::WwwAuthenticate,
        "Digest realm=\"carrier.example\", nonce=\"n1\", qop=\"auth\"",
    );
    bench.give(CENTRE, challenge);
    let second = bench.request(CENTRE, Method::Register);
    assert_eq!(first.headers.call_id(), second.headers.call_id());
    assert_eq!(second.headers.cseq().unwrap().number, 2);
    let field = second.headers.get(HeaderName::Authorization).unwrap();
    let proof = Answer::parse(field.value()).unwrap();
    assert_eq!(proof.uri, "sip:carrier.example");
    assert!(proof.proves("open sesame", "REGISTER", b""));
    bench.give(CENTRE, granted(&second, 600));
    assert_eq!(
        state(&bench),
        [(RegistrationState::Registered, Some(200), 0)]
    );
    let (_, third) = wait_register(&mut bench, CENTRE);
    assert_eq!(third.headers.cseq().unwrap().number, 3);
    assert!(third.headers.has(HeaderName::Authorization));
}

#[test]
fn too_short_a_registration_is_asked_for_longer() {
    let (mut bench, first) = bench();
    bench.give(
        CENTRE,
        answer(&first, 423).with(HeaderName::MinExpires, 1800),
    );
    let second = bench.request(CENTRE, Method::Register);
    assert_eq!(second.headers.text(HeaderName::Expires), Some("1800"));
    // Asked for less than before, or for as much again, is no reason to ask at once.
    bench.give(
        CENTRE,
        answer(&second, 423).with(HeaderName::MinExpires, 1800),
    );
    assert_eq!(state(&bench), [(RegistrationState::Failed, Some(423), 1)]);
}

#[test]
fn after_failures_the_other_address_is_tried_and_then_later_each_time() {
    let (mut bench, mut register) = bench();
    bench.give(CENTRE, answer(&register, 503));
    let mut pauses = Vec::new();
    let addresses = [SECOND_CENTRE, CENTRE, SECOND_CENTRE, CENTRE, SECOND_CENTRE];
    for peer in addresses {
        let (pause, next) = wait_register(&mut bench, peer);
        pauses.push(pause);
        register = next;
        bench.give(peer, answer(&register, 503));
    }
    assert_eq!(pauses[0], Duration::ZERO, "the other address at once");
    for (doublings, pause) in pauses[1..].iter().enumerate() {
        let longest = 30 << doublings;
        assert!(
            (longest / 2..=longest).contains(&pause.as_secs()),
            "{pause:?} of at most {longest} s"
        );
    }
    let (_, last) = wait_register(&mut bench, CENTRE);
    bench.give(CENTRE, granted(&last, 600));
    assert_eq!(
        state(&bench),
        [(RegistrationState::Registered, Some(200), 0)]
    );
}

#[test]
fn silence_is_a_failure() {
    let (mut bench, _) = bench();
    let (waited, _) = wait_register(&mut bench, SECOND_CENTRE);
    assert_eq!(waited.as_secs(), 32, "a transaction's time");
    assert_eq!(state(&bench)[0].1, Some(408));
}

#[test]
fn an_address_is_left_alone_for_as_long_as_it_asks_and_the_others_have_their_turn() {
    let (mut bench, first) = bench();
    let away = |register| answer(register, 503).with(HeaderName::RetryAfter, "900 (maintenance)");
    let begin = bench.now;
    bench.give(CENTRE, away(&first));
    let (pause, second) = wait_register(&mut bench, SECOND_CENTRE);
    assert_eq!(pause, Duration::ZERO, "the other address at once");
    bench.give(SECOND_CENTRE, answer(&second, 500));
    let (pause, third) = wait_register(&mut bench, SECOND_CENTRE);
    assert!((15..=30).contains(&pause.as_secs()), "{pause:?}");
    bench.give(SECOND_CENTRE, away(&third));
    let (_, fourth) = wait_register(&mut bench, CENTRE);
    assert_eq!((bench.now - begin).as_secs(), 900);
    bench.give(CENTRE, granted(&fourth, 600));
    assert_eq!(
        state(&bench),
        [(RegistrationState::Registered, Some(200), 0)]
    );
}

#[test]
fn a_registrar_that_would_have_us_come_back_in_no_time_is_not_asked_without_end() {
    let (mut bench, first) = bench();
    let busy = |register| answer(register, 503).with(HeaderName::RetryAfter, 0);
    bench.give(CENTRE, busy(&first));
    let (pause, second) = wait_register(&mut bench, SECOND_CENTRE);
    assert_eq!(pause, Duration::ZERO, "the other address at once");
    bench.give(SECOND_CENTRE, busy(&second));
    let (pause, _) = wait_register(&mut bench, CENTRE);
    assert!((15..=30).contains(&pause.as_secs()), "{pause:?}");
}

#[test]
fn draining_takes_it_back() {
    let (mut bench, first) = bench();
    bench.give(CENTRE, granted(&first, 600));
    bench.core.drain();
    bench.core.register(bench.now);
    bench.collect();
    let last = bench.request(CENTRE, Method::Register);
    assert_eq!(last.headers.text(HeaderName::Expires), Some("0"));
    assert_eq!(last.headers.cseq().unwrap().number, 2);
    assert!(bench.core.is_leaving());
    bench.give(CENTRE, answer(&last, 200));
    assert!(!bench.core.is_leaving());
    assert_eq!(state(&bench), []);
    bench.pass(Duration::from_secs(3_600));
    bench.silent();
    bench.finished();
}

#[test]
fn draining_does_not_wait_for_a_registrar_that_is_gone() {
    let (mut bench, first) = bench();
    bench.give(CENTRE, granted(&first, 600));
    bench.core.drain();
    bench.core.register(bench.now);
    bench.collect();
    bench.pass(Duration::from_secs(5));
    assert!(!bench.core.is_leaving());
}

#[test]
fn what_waits_for_its_answer_is_taken_back_after_it() {
    let (mut bench, first) = bench();
    bench.core.drain();
    bench.core.register(bench.now);
    bench.collect();
    bench.silent();
    bench.give(CENTRE, granted(&first, 600));
    let last = bench.request(CENTRE, Method::Register);
    assert_eq!(last.headers.text(HeaderName::Expires), Some("0"));
    bench.give(CENTRE, answer(&last, 200));
    assert!(!bench.core.is_leaving());
}

#[test]
fn other_settings_keep_it_or_take_it_back() {
    let (mut bench, first) = bench();
    bench.give(CENTRE, granted(&first, 600));
    let text = |keys: &str| {
        let address = "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]";
        SETTINGS.replace(address, &format!("{address}\n{keys}"))
    };
    bench.core.reconfigure(bench.now, settings(&text(KEYS)));
    bench.core.register(bench.now);
    bench.collect();
    bench.silent();

    let other = KEYS.replace("line-1", "line-2");
    bench.core.reconfigure(bench.now, settings(&text(&other)));
    bench.core.register(bench.now);
    bench.collect();
    let gone = bench.request(CENTRE, Method::Register);
    assert_eq!(gone.headers.text(HeaderName::Expires), Some("0"));
    assert_eq!(gone.headers.call_id(), first.headers.call_id());
    let new = bench.request(CENTRE, Method::Register);
    assert_eq!(
        new.headers.text(HeaderName::To),
        Some("<sip:line-2@carrier.example>")
    );
    bench.give(CENTRE, answer(&gone, 200));
    bench.give(CENTRE, granted(&new, 600));
    assert_eq!(
        state(&bench),
        [(RegistrationState::Registered, Some(200), 0)]
    );
}

#[test]
fn a_call_to_what_is_registered_goes_to_the_number_in_to() {
    let (mut bench, first) = bench();
    bench.give(CENTRE, granted(&first, 600));
    let mut caller = Phone::caller(CENTRE, "line-1");
    caller.remote = "<sip:+44201234@carrier.example>".parse().unwrap();
    let invite = bench.carry(CENTRE, caller.invite(&sdp(CENTRE, 5000, "")), CARRIER);
    assert_eq!(invite.uri.user(), Some("+44201234"));
}

#[test]
fn who_registers_by_a_name_registers_in_its_domain() {
    let named = SETTINGS
        .replace(
            "\"192.0.2.2:5060\", \"192.0.2.3:5060\"",
            "\"sip.carrier.example\"",
        )
        .replace(
            "[\"sip.carrier.example\"]",
            "[\"sip.carrier.example\"]\nregistration.user = \"line-1\"",
        );
    let settings = config::parse(&named, Path::new("test.toml")).unwrap();
    let settings = settings.with_lookups(|_| {
        vec![config::Found {
            address: address(CENTRE),
            record: None,
        }]
    });
    let mut bench = Bench::with(&named);
    bench.core.reconfigure(bench.now, Arc::new(settings));
    bench.core.register(bench.now);
    bench.collect();
    let register = bench.request(CENTRE, Method::Register);
    assert_eq!(register.uri.to_string(), "sip:sip.carrier.example");
    assert_eq!(
        register.headers.text(HeaderName::To),
        Some("<sip:line-1@sip.carrier.example>")
    );
}

#[test]
fn a_registrar_that_moves_is_not_told_to_forget_us_while_it_is_told_where_we_are() {
    let (mut bench, first) = bench();
    bench.give(CENTRE, granted(&first, 600));
    let moved = SETTINGS.replace(
        "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]",
        &format!("addresses = [\"192.0.2.3:5060\"]\n{KEYS}"),
    );
    bench.core.reconfigure(bench.now, settings(&moved));
    bench.core.register(bench.now);
    bench.collect();
    let again = bench.request(SECOND_CENTRE, Method::Register);
    assert_eq!(again.headers.text(HeaderName::Expires), Some("600"));
    assert_eq!(again.headers.call_id(), first.headers.call_id());
    assert_eq!(again.headers.cseq().unwrap().number, 2);
    bench.silent();
    bench.give(SECOND_CENTRE, granted(&again, 600));
    assert_eq!(
        state(&bench),
        [(RegistrationState::Registered, Some(200), 0)]
    );
}
