//! Trunks whose addresses change under what came from the old ones.

use std::time::Duration;

use bytes::Bytes;

use super::bench::*;
use crate::sip::{Flow, Method};

#[test]
fn a_call_is_given_up_by_a_caller_whose_address_is_no_longer_its_trunk_s() {
    let mut bench = Bench::new();
    let mut caller = Phone::caller(CARRIER, "+15551234");
    let invite = caller.invite(&sdp(CARRIER, 4000, ""));
    let onward = bench.carry(CARRIER, invite.clone(), CENTRE);
    let callee = Phone::callee(CENTRE, &onward, "b1");
    bench.give(CENTRE, callee.answer(&onward, 180, &Bytes::new()));
    bench.response(CARRIER, 180);

    let moved = settings(&SETTINGS.replace("198.51.100.2:5060", "198.51.100.7:5060"));
    bench.core.reconfigure(bench.now, moved);
    let stranger = Flow::udp(address(LISTEN_CARRIER), address("203.0.113.66:5060"));
    bench.give_over(&stranger, cancel(&invite));
    bench.silent();
    bench.give(CARRIER, cancel(&invite));
    bench.response(CARRIER, 200);
    let refusal = bench.response(CARRIER, 487);
    let stop = bench.request(CENTRE, Method::Cancel);
    bench.give(CENTRE, callee.answer(&stop, 200, &Bytes::new()));
    bench.give(CENTRE, callee.answer(&onward, 487, &Bytes::new()));
    bench.request(CENTRE, Method::Ack);

    bench.give(CARRIER, refusal_ack(&invite, &refusal));
    bench.pass(Duration::from_secs(60));
    bench.silent();
    bench.finished();
}
