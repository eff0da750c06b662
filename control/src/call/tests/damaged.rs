//! Damaged messages in the middle of calls.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::bench::{Bench, CARRIER, CENTRE, Phone, address, cancel, listener_of, sdp};
use crate::sip::{Flow, HeaderName, Message, Method, Response};

const PIECES: [&str; 16] = [
    "\r\n",
    "\r",
    "\n",
    "\0",
    ";",
    "\"",
    "<",
    ">",
    ",",
    "%",
    "[",
    ":",
    "@",
    "-1",
    "99999999999",
    " ",
];

/// Changes a few octets, doubles or takes away a piece.
fn damage(octets: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        if octets.is_empty() {
            return;
        }
        let at = random.random_range(0..octets.len());
        let end = (at + random.random_range(1..40)).min(octets.len());
        match random.random_range(0..5) {
            0 => octets[at] = random.random(),
            1 => drop(octets.drain(at..end)),
            2 => {
                let piece = octets[at..end].to_vec();
                drop(octets.splice(at..at, piece));
            }
            3 => {
                let piece = PIECES.choose(random).unwrap().bytes();
                drop(octets.splice(at..end.min(at + 1), piece));
            }
            _ => octets.truncate(end),
        }
    }
}

/// Damages a message as a whole, or only its body so that its head is still believed.
fn damaged(message: Message, random: &mut StdRng) -> Bytes {
    if random.random_bool(0.5) {
        let mut octets = message.to_bytes().to_vec();
        damage(&mut octets, random);
        return octets.into();
    }
    let mut body = message.body().to_vec();
    damage(&mut body, random);
    match message {
        Message::Request(mut request) => {
            request.body = body.into();
            request.to_bytes()
        }
        Message::Response(mut response) => {
            response.body = body.into();
            response.to_bytes()
        }
    }
}

/// Both peers of one run. What they receive they answer, damaged or not.
struct Peers {
    bench: Bench,
    random: StdRng,
    damage: f64,
}

impl Peers {
    fn give(&mut self, peer: &str, message: impl Into<Message>) {
        let message = message.into();
        let flow = Flow::udp(address(listener_of(peer)), address(peer));
        let bytes = if self.random.random_bool(self.damage) {
            damaged(message, &mut self.random)
        } else {
            message.to_bytes()
        };
        self.bench.core.receive(self.bench.now, &flow, &bytes);
        self.bench.collect();
    }

    /// Answers what was sent, until nothing is sent any more.
    fn answer_all(&mut self) {
        for _ in 0..40 {
            let Some((target, message)) = self.bench.sent.pop_front() else {
                return;
            };
            let peer = if target.remote == address(CARRIER) {
                CARRIER
            } else {
                CENTRE
            };
            let Message::Request(request) = message else {
                continue;
            };
            let status = match request.method {
                Method::Ack => continue,
                Method::Invite => *[180, 200, 200, 200, 486, 503]
                    .choose(&mut self.random)
                    .unwrap(),
                _ => 200,
            };
            let mut response = Response::to_request(&request, status, Some("t"));
            if request.method == Method::Invite {
                response
                    .headers
                    .push(HeaderName::Contact, format!("<sip:x@{peer}>"));
                response = response.with_body("application/sdp", sdp(peer, 5000, ""));
            }
            self.give(peer, response);
        }
    }
}

#[test]
fn damaged_messages_are_survived_counted_and_leave_nothing_behind() {
    let mut discarded = 0;
    let mut made = 0;
    for seed in 0..400 {
        let mut peers = Peers {
            bench: Bench::new(),
            random: StdRng::seed_from_u64(seed),
            damage: 0.4,
        };
        for _ in 0..6 {
            let mut caller = Phone::caller(CARRIER, "+15551234")
                .with_call_id(&format!("{seed}-{}", peers.random.random::<u32>()));
            let invite = caller.invite(&sdp(CARRIER, 4000, ""));
            peers.give(CARRIER, invite.clone());
            let answer = peers
                .bench
                .sent
                .iter()
                .find_map(|(_, message)| match message {
                    Message::Response(response) if response.status == 200 => Some(response.clone()),
                    _ => None,
                });
            peers.answer_all();
            if let Some(answer) = answer
                && answer.headers.has(HeaderName::Contact)
            {
                caller.learn(&answer);
            }
            for method in [Method::Ack, Method::Info, Method::Invite, Method::Options] {
                let request = match method {
                    Method::Ack => caller.ack(),
                    Method::Invite => caller.invite(&sdp(CARRIER, 4000, "a=sendonly\r\n")),
                    other => caller.request(other),
                };
                peers.give(CARRIER, request);
                peers.answer_all();
            }
            if peers.random.random_bool(0.3) {
                peers.give(CARRIER, cancel(&invite));
            }
            let time = Duration::from_millis(peers.random.random_range(0..3000));
            peers.bench.pass(time);
            peers.answer_all();
        }
        made += peers.bench.core.calls().len();
        // From here on every message is whole again, and the calls end.
        peers.damage = 0.0;
        peers.bench.core.hang_up(peers.bench.now);
        peers.bench.collect();
        for _ in 0..400 {
            peers.answer_all();
            peers.bench.pass(Duration::from_secs(1));
        }
        discarded += peers.bench.core.statistics().discards.values().sum::<u64>();
        peers.bench.finished();
    }
    assert!(made > 0, "no call came about");
    assert!(discarded > 0, "nothing was damaged enough");
}
