//! What finds no place or is refused, and what a call is then.

use super::*;

#[test]
fn without_a_port_to_give_out_nothing_starts() {
    let config = RelayConfig {
        interfaces: Vec::new(),
        ports: 20000..=20199,
        workers: 1,
        busy_poll: false,
        xdp: XdpMode::Off,
        xdp_forced: false,
        flows: 16,
        next_hops: 16,
        srtp_offload: true,
        srtp_streams: 16,
    };
    let refused = Relay::start(&config).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StartError::NoPorts));
    assert!(refused.to_string().contains("[[interface]]"));
    assert!(config.offload().interfaces.is_empty());
}

#[test]
fn a_full_kernel_leaves_calls_to_the_workers_and_takes_them_later() {
    let mut bench = Bench::new(2);
    let (one, other) = (bench.media(), bench.media());
    assert_eq!(bench.connect(CALL, &one), Ok(XDP));
    let full = userspace(PathReason::Capacity);
    assert_eq!(bench.connect(CallId(2), &other), Ok(full));
    assert_eq!(bench.entry(other.legs[0].port), None);
    bench.told(other.legs[0].port);
    bench.learn(other.legs[0].port, "198.51.100.2:6000", 1);
    assert_eq!(bench.entry(other.legs[0].port), None);

    // Counters of an ended call are nobody's when they are used again.
    let index = bench.entry(one.legs[0].port).unwrap().counters.get();
    let packets = FlowCounters {
        packets: 9,
        ..FlowCounters::default()
    };
    for index in [index, index + 1] {
        bench
            .datapath
            .counted
            .lock()
            .unwrap()
            .insert(index, packets);
    }
    assert_eq!(bench.statistics(CALL).unwrap()[0].packets_xdp, 9);
    bench.disconnect(CALL);
    assert_eq!(bench.entry(one.legs[0].port), None);
    let mut changed = other;
    changed.legs[0].negotiation += 1;
    assert_eq!(bench.connect(CallId(2), &changed), Ok(XDP));
    assert!(bench.entry(changed.legs[0].port).unwrap().has(PINNED));
    assert_eq!(bench.statistics(CallId(2)).unwrap()[0].packets_xdp, 0);
}

#[test]
fn what_a_worker_refuses_leaves_the_call_as_it_was() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    *bench.slow.refused.lock().unwrap() = Some(flow_key(second.rtp));
    let refusal = Err(MediaError::Capacity {
        table: "flows of the workers",
        limit: 7,
    });
    assert_eq!(bench.connect(CALL, &media), refusal);
    assert!(bench.slow.flows.lock().unwrap().is_empty());
    assert_eq!(bench.entry(first), None);
    assert_eq!(bench.statistics(CALL), None);

    *bench.slow.refused.lock().unwrap() = None;
    bench.connect(CALL, &media).unwrap();
    bench.learn(first, "198.51.100.2:6000", 1);
    let before = bench.entry(first);
    *bench.slow.refused.lock().unwrap() = Some(flow_key(second.rtp));
    media.streams[0].active = false;
    assert_eq!(bench.connect(CALL, &media), refusal);
    assert_eq!(bench.entry(first), before);
    assert!(!bench.told(first).entry.has(FlowEntry::HELD));
}

#[test]
fn ports_of_nobody_or_of_another_call_are_refused() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    bench.connect(CALL, &media).unwrap();
    let refusal = |port: MediaPort| Err(MediaError::NotReserved { port: port.rtp });
    let first = media.legs[0].port;
    assert_eq!(bench.connect(CallId(2), &media), refusal(first));

    let mut same = bench.media();
    same.legs[1].port = same.legs[0].port;
    let port = same.legs[0].port;
    assert_eq!(bench.connect(CallId(2), &same), refusal(port));

    bench.disconnect(CALL);
    bench.plane.ports.release(first);
    assert_eq!(bench.connect(CALL, &media), refusal(first));
}

#[test]
fn a_busy_worker_is_asked_again_but_not_for_a_port_that_is_in_use_anew() {
    let mut bench = Bench::new(16);
    let media = bench.media();
    let [first, second] = media.legs.each_ref().map(|leg| flow_key(leg.port.rtp));
    bench.connect(CALL, &media).unwrap();
    *bench.slow.busy.lock().unwrap() = true;
    bench.disconnect(CALL);
    bench.plane.sweep(&bench.slow);
    assert_eq!(bench.slow.flows.lock().unwrap().len(), 2);

    let mut reused = bench.media();
    reused.legs[0].port = media.legs[0].port;
    bench.connect(CallId(2), &reused).unwrap();
    *bench.slow.busy.lock().unwrap() = false;
    bench.plane.sweep(&bench.slow);
    let flows = bench.slow.flows.lock().unwrap();
    assert!(flows.contains_key(&first) && !flows.contains_key(&second));
}
