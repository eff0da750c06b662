//! Many branches of the callee's side ring, and one or two answer.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::bench::*;
use crate::{
    call::CallState,
    sip::{HeaderName, Method},
};

const NONE: Bytes = Bytes::new();
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

#[test]
fn of_a_hundred_branches_and_two_racing_answers_one_wins_a_thousand_times() {
    for seed in 0..1_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bench = Bench::new();
        let mut caller = Phone::caller(CARRIER, "+15551234");
        let invite = bench.carry(CARRIER, caller.invite(&sdp(CARRIER, 4000, "")), CENTRE);
        let branches: Vec<Phone> = (0..100)
            .map(|branch| Phone::callee(CENTRE, &invite, &format!("b{branch}")))
            .collect();
        let (one, other) = (random.random_range(0..100), random.random_range(0..99));
        let other = if other >= one { other + 1 } else { other };
        let mut tags = std::collections::HashSet::new();
        for (place, branch) in branches.iter().enumerate() {
            // Who answers may not have rung.
            if (place == one || place == other) && random.random_bool(0.5) {
                continue;
            }
            bench.give(CENTRE, branch.answer(&invite, 180, &NONE));
            let ringing = bench.response(CARRIER, 180);
            assert!(tags.insert(ringing.headers.to().unwrap().tag()));
        }
        let answers = [one, other].map(|place| {
            let port = 5000 + 2 * u16::try_from(place).unwrap();
            branches[place].answer(&invite, 200, &sdp(CENTRE, port, ""))
        });
        bench.give(CENTRE, answers[0].clone());
        bench.request(CENTRE, Method::Ack);
        let ok = bench.response(CARRIER, 200);
        if random.random_bool(0.5) {
            caller.learn(&ok);
            bench.give(CARRIER, caller.ack());
        }
        // The second 200 comes, and perhaps again.
        bench.give(CENTRE, answers[1].clone());
        let ack = bench.request(CENTRE, Method::Ack);
        assert_eq!(ack.headers.to().unwrap().tag(), branches[other].local.tag());
        let bye = bench.request(CENTRE, Method::Bye);
        assert_eq!(bye.headers.to().unwrap().tag(), branches[other].local.tag());
        assert_eq!(bye.headers.text(HeaderName::Reason), Some(ELSEWHERE));
        if random.random_bool(0.5) {
            bench.give(CENTRE, answers[1].clone());
            bench.request(CENTRE, Method::Ack);
        }
        bench.give(CENTRE, branches[other].answer(&bye, 200, &NONE));
        if caller.target.contains("+1555") {
            caller.learn(&ok);
            bench.give(CARRIER, caller.ack());
        }
        bench.silent();
        let calls = bench.core.calls();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].state, CallState::Established);
        assert_eq!(bench.media.reserved_ports(), 2);
        let media = bench.media.calls();
        let port = media.values().next().unwrap().legs[1]
            .remote
            .unwrap()
            .rtp
            .port();
        assert_eq!(usize::from(port), 5000 + 2 * one, "the winner is heard");
        let mut winner = branches[one].clone();
        bench.give(CENTRE, winner.request(Method::Bye));
        bench.response(CENTRE, 200);
        let bye = bench.request(CARRIER, Method::Bye);
        bench.give(CARRIER, caller.answer(&bye, 200, &NONE));
        bench.finished();
    }
}
