//! Which of a trunk's addresses a call goes to, by their priorities and weights.

use std::{collections::BTreeMap, time::Duration};

use super::bench::*;
use crate::{
    call::Core,
    sip::{HeaderName, Message, Method, Request, Response},
};

const THIRD: &str = "192.0.2.4:5060";
const FOURTH: &str = "192.0.2.5:5060";

const LIST: &str = "addresses = [\"192.0.2.2:5060\", \"192.0.2.3:5060\"]";

fn settings_with(addresses: &str) -> String {
    SETTINGS.replace(LIST, &format!("addresses = [{addresses}]"))
}

/// Three addresses that share calls 3 to 1 to 0 before a fourth has its turn.
fn shared() -> String {
    let entry = |address: &str, priority: u16, weight: u16| {
        format!("{{ address = \"{address}\", priority = {priority}, weight = {weight} }}")
    };
    settings_with(
        &[
            // Out of their order.
            entry(FOURTH, 20, 1),
            entry(CENTRE, 10, 3),
            entry(SECOND_CENTRE, 10, 1),
            entry(THIRD, 10, 0),
        ]
        .join(", "),
    )
}

/// Begins a call and gives the address that it went to, with the INVITE there.
fn begin(bench: &mut Bench, number: u32) -> (String, Request) {
    let mut caller = Phone::caller(CARRIER, "+15551234");
    caller.call_id = format!("call-{number}").into();
    bench.sent.clear();
    bench.give(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")));
    let sent = invites(bench);
    let [(address, invite)] = <[_; 1]>::try_from(sent).expect("one INVITE");
    (address, invite)
}

/// The INVITEs that were sent, taken.
fn invites(bench: &mut Bench) -> Vec<(String, Request)> {
    let sent = bench.sent.drain(..).filter_map(|(target, message)| {
        let remote = target.remote.to_string();
        match message {
            Message::Request(request) if request.method == Method::Invite => {
                Some((remote, request))
            }
            _ => None,
        }
    });
    sent.collect()
}

/// The address of the call `number` refuses it for good, so that nothing of it is left.
fn refuse(bench: &mut Bench, (address, invite): (String, Request)) {
    let peer: &'static str = [CENTRE, SECOND_CENTRE, THIRD, FOURTH]
        .into_iter()
        .find(|peer| *peer == address)
        .expect("a known address");
    bench.give(peer, Response::to_request(&invite, 486, Some("busy")));
}

fn fail(bench: &mut Bench, address: &str, invite: &Request) {
    let peer: &'static str = [CENTRE, SECOND_CENTRE, THIRD, FOURTH]
        .into_iter()
        .find(|peer| *peer == address)
        .expect("a known address");
    bench.give(peer, Response::to_request(invite, 503, Some("broken")));
}

#[test]
fn calls_are_shared_by_weight() {
    let mut bench = Bench::with(&shared());
    let mut counts = BTreeMap::new();
    for number in 0..400 {
        let call = begin(&mut bench, number);
        *counts.entry(call.0.clone()).or_insert(0) += 1;
        refuse(&mut bench, call);
        bench.pass(Duration::from_secs(40));
    }
    // Four standard deviations are 35 of 400.
    let of = |peer: &str| counts.get(peer).copied().unwrap_or(0);
    assert!((300 - 35..300 + 35).contains(&of(CENTRE)), "{counts:?}");
    assert!(of(SECOND_CENTRE) >= 65, "{counts:?}");
    assert_eq!(of(FOURTH), 0, "{counts:?}");
}

#[test]
fn a_call_goes_through_one_priority_before_the_next() {
    let mut bench = Bench::with(&shared());
    for number in 0..30 {
        let mut tried = Vec::new();
        let mut call = begin(&mut bench, number);
        loop {
            tried.push(call.0.clone());
            fail(&mut bench, &call.0, &call.1);
            let mut next = invites(&mut bench);
            match next.pop() {
                Some(next) => call = next,
                None => break,
            }
        }
        assert_eq!(tried.len(), 4, "{tried:?}");
        assert_eq!(tried.pop().as_deref(), Some(FOURTH));
        tried.sort();
        assert_eq!(tried, [CENTRE, SECOND_CENTRE, THIRD]);
        bench.pass(Duration::from_secs(40));
    }
}

#[test]
fn an_address_out_of_service_leaves_its_share_to_its_equals() {
    let mut bench = Bench::with(&shared());
    // A 503 with Retry-After puts the first out of service.
    let mut number = 0;
    loop {
        number += 1;
        let (address, invite) = begin(&mut bench, number);
        if address == CENTRE {
            let held = Response::to_request(&invite, 503, Some("full"));
            bench.give(CENTRE, held.with(HeaderName::RetryAfter, 200));
            let next = invites(&mut bench).pop().expect("the next address");
            refuse(&mut bench, next);
            break;
        }
        refuse(&mut bench, (address, invite));
    }
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        number += 1;
        let call = begin(&mut bench, number);
        *counts.entry(call.0.clone()).or_insert(0) += 1;
        refuse(&mut bench, call);
    }
    assert_eq!(counts.get(CENTRE), None, "{counts:?}");
    assert_eq!(counts.get(FOURTH), None, "{counts:?}");
    assert!(counts[SECOND_CENTRE] > 30, "{counts:?}");
}

#[test]
fn a_plain_list_is_tried_in_its_order() {
    let mut bench = Bench::new();
    for number in 0..20 {
        let (address, invite) = begin(&mut bench, number);
        assert_eq!(address, CENTRE);
        fail(&mut bench, &address, &invite);
        let (next, invite) = invites(&mut bench).pop().expect("the next address");
        assert_eq!(next, SECOND_CENTRE);
        refuse(&mut bench, (next, invite));
    }
}

#[test]
fn a_reload_changes_the_turns_and_keeps_what_is_known_of_the_peers() {
    let mut bench = Bench::with(&shared());
    let state = |core: &Core<_>| {
        let trunks = core.trunk_snapshots();
        let peers = &trunks[1].peers;
        let each = peers
            .iter()
            .map(|peer| (peer.address.to_string(), peer.heard));
        each.collect::<BTreeMap<_, _>>()
    };
    let call = begin(&mut bench, 1);
    refuse(&mut bench, call);
    let known = state(&bench.core);
    assert!(known.values().any(Option::is_some), "{known:?}");

    let turned = shared().replace("priority = 20", "priority = 1");
    bench.core.reconfigure(bench.now, settings(&turned));
    assert_eq!(state(&bench.core), known);
    for number in 2..20 {
        let call = begin(&mut bench, number);
        assert_eq!(call.0, FOURTH);
        refuse(&mut bench, call);
    }
}

#[test]
fn registrars_of_one_priority_come_before_those_of_the_next() {
    let keys = "credentials.user = \"line-1\"\ncredentials.password = \"open sesame\"\n\
                registration.registrar = \"carrier.example\"\n";
    let mut firsts = BTreeMap::new();
    for seed in 0..40 {
        let text = shared().replace("addresses = [{", &format!("{keys}addresses = [{{"));
        let media = media_of(&settings(&text));
        let mut bench = Bench::with(&text);
        bench.core = Core::new(settings(&text), media, [seed; 32]);
        bench.core.register(bench.now);
        bench.collect();
        let mut tried: Vec<String> = Vec::new();
        for _ in 0..4 {
            let at = bench.sent.iter().position(|(_, message)| {
                matches!(message, Message::Request(it) if it.method == Method::Register)
            });
            let (target, message) = bench.sent.remove(at.expect("a REGISTER")).unwrap();
            let Message::Request(register) = message else {
                unreachable!("looked for above")
            };
            tried.push(target.remote.to_string());
            fail(&mut bench, &tried[tried.len() - 1].clone(), &register);
            bench.pass(Duration::ZERO);
        }
        assert_eq!(tried.pop().as_deref(), Some(FOURTH), "{tried:?}");
        *firsts.entry(tried[0].clone()).or_insert(0) += 1;
        tried.sort();
        assert_eq!(tried, [CENTRE, SECOND_CENTRE, THIRD]);
    }
    assert!(
        firsts[CENTRE] > 20 && firsts[SECOND_CENTRE] > 1,
        "{firsts:?}"
    );
}
