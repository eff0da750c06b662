//! A peer that sends whatever it likes, whenever it likes.

use std::time::Duration;

use rand::{Rng, seq::IndexedRandom};

use super::{
    super::{CSeq, Method, Response, Transport},
    bench::{Bench, incoming, request, sent_by, target},
    *,
};

const METHODS: [Method; 6] = [
    Method::Invite,
    Method::Ack,
    Method::Cancel,
    Method::Bye,
    Method::Options,
    Method::Info,
];

const STATUSES: [u16; 9] = [100, 180, 183, 200, 202, 302, 486, 503, 699];

const LIMIT: usize = 24;

/// One random thing: a request with one of few branches, a response to anything that was sent, an
/// answer of ours, a request of ours, a CANCEL of ours, a failure, or time that passes.
fn step(bench: &mut Bench, random: &mut StdRng, ours: &mut Vec<TransactionId>) {
    let transport = *[Transport::Udp, Transport::Tcp, Transport::Tls]
        .choose(random)
        .expect("one");
    let method = METHODS.choose(random).expect("one").clone();
    let status = *STATUSES.choose(random).expect("one");
    match random.random_range(0..12) {
        0..=3 => {
            let branch = format!("z9hG4bK{}", random.random_range(0..6));
            let mut request = incoming(method, &branch);
            if random.random_bool(0.3) {
                request.headers.set(HeaderName::To, "<sip:b@b>;tag=x");
            }
            bench.receive(&target(transport), request);
        }
        4..=6 => {
            let Some((_, _, Message::Request(sent))) = bench.sent.choose(random).cloned() else {
                return;
            };
            let mut response = Response::to_request(&sent, status, Some("t"));
            if random.random_bool(0.2) {
                response.headers.set(HeaderName::CSeq, CSeq::new(1, method));
            }
            bench.receive(&target(transport), response);
        }
        7 => {
            let Some(id) = ours.choose(random).copied() else {
                return;
            };
            let answer = Response::to_request(&incoming(method, "z9hG4bK0"), status, Some("t"));
            let _ = bench.layer.respond(bench.now, id, &answer);
        }
        8 => {
            let sent =
                bench
                    .layer
                    .request(bench.now, target(transport), &sent_by(), request(method));
            ours.extend(sent);
        }
        9 => {
            if let Some(id) = ours.choose(random).copied() {
                let _ = bench.layer.cancel(bench.now, id, None);
            }
        }
        10 if random.random_bool(0.1) => {
            bench.layer.transport_failed(bench.now, &target(transport));
        }
        _ => {
            let until =
                bench.now - bench.start + Duration::from_millis(random.random_range(0..9000));
            bench.run_until(until);
        }
    }
    bench.drain();
    ours.extend(bench.events.iter().filter_map(|event| match event {
        TransactionEvent::Request { id, .. } => Some(*id),
        _ => None,
    }));
    bench.events.clear();
    bench.sent.truncate(64);
}

#[test]
fn whatever_a_peer_sends_the_layer_stays_within_its_bounds_and_ends_empty() {
    for seed in 0..600 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bench = Bench::with(TransactionSettings {
            transactions: LIMIT,
            ..TransactionSettings::default()
        });
        let mut ours = Vec::new();
        for _ in 0..120 {
            step(&mut bench, &mut random, &mut ours);
            // CANCELs of our own come on top: at most one for each INVITE.
            assert!(bench.layer.len() <= 2 * (LIMIT + LIMIT / 4), "seed {seed}");
        }
        // Whoever uses the layer answers an INVITE some day.
        for id in ours {
            let busy = Response::to_request(&incoming(Method::Invite, "z9hG4bK0"), 486, Some("t"));
            let _ = bench.layer.respond(bench.now, id, &busy);
        }
        let end = bench.now - bench.start + Duration::from_secs(600);
        bench.run_until(end);
        bench.assert_empty();
    }
}
