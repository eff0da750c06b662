//! Payload types that were not negotiated.

use super::*;

/// Eleven minutes of a codec that nobody agreed on are more than half a turn of the sequence number.
#[test]
fn a_source_is_heard_again_after_turns_of_what_was_not_negotiated() {
    let mut call = Call::new(Family::V4, [None, Some(keys(LONG, 1))]);
    call.until_kernel(1);
    let to = call.port(1);
    let stray = |call: &mut Call, step: u16| {
        let mut packet = call.phones[1].line.next_packet(99, step);
        packet.resize(172 + TRAILER, 0);
        let (out, _) = call.phones[1].contexts.as_mut().unwrap();
        let length = out.protect(&mut packet, 172).unwrap();
        call.phones[1].send(&packet[..length], to);
    };
    let by_worker = |call: &Call| {
        let discarded = call.bench.relay.snapshot().workers_discarded;
        let mut stray = discarded.iter();
        let stray = stray.find(|(reason, _)| reason.name() == "payload-type");
        stray.map_or(0, |(_, counters)| counters.packets)
    };
    // A packet every 10 ms, until the worker has them.
    let end = Instant::now() + PATIENCE;
    while by_worker(&call) == 0 {
        assert!(Instant::now() < end, "{:?}", call.bench.statistics());
        stray(&mut call, 1);
        assert_eq!(call.phones[0].hear_for(Duration::from_millis(10)), None);
    }
    // Three turns, each packet counted before the next one.
    for _ in 0..12 {
        let before = by_worker(&call);
        stray(&mut call, 0x4000);
        while by_worker(&call) == before {
            assert!(Instant::now() < end, "{:?}", call.bench.statistics());
            assert_eq!(call.phones[0].hear_for(Duration::from_millis(1)), None);
        }
    }
    call.talk(1, 1);
    call.until_kernel(1);
    call.by_kernel(1, 100, 300);
    assert_eq!(call.failures(), 0);
}
