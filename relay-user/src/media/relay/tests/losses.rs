//! The count of lost packets over all calls, which metrics show as a counter.

use super::*;

/// What the worker saw of a source that began at 1: how far it came, and how much of that.
fn saw(bench: &Bench, port: MediaPort, highest: u32, received: u32) {
    let flow = FlowCounters {
        packets: u64::from(received),
        reception: Reception {
            generation: 1,
            base_sequence: 1,
            highest_sequence: highest,
            received,
            ..Reception::default()
        },
        ..FlowCounters::default()
    };
    let counters = SlowCounters {
        flow,
        ..SlowCounters::default()
    };
    let mut known = bench.slow.counters.lock().unwrap();
    known.insert(flow_key(port.rtp), counters);
}

/// What metrics show.
fn lost(bench: &mut Bench) -> u64 {
    bench.statistics(CALL).unwrap();
    bench.plane.lost()
}

#[test]
fn what_was_lost_at_a_port_that_a_leg_has_left_stays_counted() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    bench.connect(CALL, &media).unwrap();
    saw(&bench, media.legs[0].port, 100, 90);
    assert_eq!(lost(&mut bench), 10);
    // Three more, which nobody has asked for when the leg moves.
    saw(&bench, media.legs[0].port, 110, 97);
    let port = bench.plane.ports.reserve("carrier0", Family::V4).unwrap();
    media.legs[0].port = port;
    bench.connect(CALL, &media).unwrap();
    assert_eq!(lost(&mut bench), 13);
    saw(&bench, port, 10, 8);
    assert_eq!(lost(&mut bench), 15);
    bench.disconnect(CALL);
    assert_eq!(bench.plane.lost(), 15);
}

#[test]
fn what_comes_late_after_all_does_not_lower_the_count() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    let port = media.legs[0].port;
    bench.connect(CALL, &media).unwrap();
    saw(&bench, port, 100, 98);
    assert_eq!(lost(&mut bench), 2);
    saw(&bench, port, 100, 99);
    let [forth, _] = bench.statistics(CALL).unwrap();
    assert_eq!(forth.lost, 1, "the stream's own tells how it is");
    assert_eq!(lost(&mut bench), 2);
    saw(&bench, port, 110, 107);
    assert_eq!(lost(&mut bench), 3);
    bench.disconnect(CALL);
    assert_eq!(bench.plane.lost(), 3);
}
