//! Calls with SRTP on a leg: their keys, rows and sources.

use super::*;

/// A call whose second leg is SRTP, and both sources known; the ports of both legs.
fn secured(bench: &mut Bench) -> (CallMedia, [MediaPort; 2]) {
    let mut media = bench.media();
    media.legs[1].srtp = Some(keys(1));
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let ports = media.legs.each_ref().map(|leg| leg.port);
    bench.learn(ports[0], "198.51.100.2:6000", 1);
    announce(bench, ports[1], 1);
    bench.learn(ports[1], "192.0.2.2:7000", 1);
    (media, ports)
}

/// What a worker notes when it tells of a source.
fn announce(bench: &Bench, port: MediaPort, generation: u32) {
    let row = bench.told(port).unprotect_row.expect("a row");
    row.announce(generation);
}

#[test]
fn the_kernel_has_a_row_for_each_key_of_a_leg_with_srtp() {
    let mut bench = Bench::new(16);
    let (media, [first, second]) = secured(&mut bench);
    let [out, back] = [first, second].map(|port| bench.entry(port).unwrap());
    assert!(out.has(PINNED | FlowEntry::PROTECT) && !out.has(FlowEntry::UNPROTECT));
    assert!(back.has(PINNED | FlowEntry::UNPROTECT) && !back.has(FlowEntry::PROTECT));
    let rows = [out.protect, back.unprotect];
    assert_ne!(rows[0], rows[1]);
    let states = bench.datapath.streams();
    for row in rows {
        assert!(states.get(row.row()).unwrap().is(row));
    }
    let told = [first, second].map(|port| bench.told(port));
    assert_eq!(told[0].protect_row.as_ref().unwrap().reference(), rows[0]);
    assert_eq!(told[1].unprotect_row.as_ref().unwrap().reference(), rows[1]);
    assert_eq!(bench.plane.srtp.used(), 2);

    // The same keys go on as they are, whatever else is negotiated.
    let mut refreshed = media.clone();
    refreshed.legs[1].negotiation += 1;
    refreshed.streams[0].payload_types = vec![(0, 8)];
    assert_eq!(bench.connect(CALL, &refreshed), Ok(XDP));
    let [now, then] = [first, second].map(|port| bench.entry(port).unwrap());
    assert_eq!((now.protect, then), (out.protect, back));
    assert!(now.has(PINNED));

    drop(told);
    bench.disconnect(CALL);
    for row in rows {
        assert!(!states.get(row.row()).unwrap().is(row), "wiped");
    }
    assert_eq!(bench.plane.srtp.used(), 0);
}

#[test]
fn a_new_key_has_a_row_of_its_own_and_its_source_is_asked_for_again() {
    let mut bench = Bench::new(16);
    let (mut media, [first, second]) = secured(&mut bench);
    let [out, back] = [first, second].map(|port| bench.entry(port).unwrap());
    let stale = bench.news(second, "192.0.2.2:7000", 1);
    let states = bench.datapath.streams();
    states.get(back.unprotect.row()).unwrap().refuse();

    let mut renewed = keys(1);
    renewed.unprotect = keys(2).unprotect;
    media.legs[1].srtp = Some(renewed);
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let [same, other] = [first, second].map(|port| bench.entry(port).unwrap());
    assert_eq!(same, out);
    assert_ne!(other.unprotect, back.unprotect);
    assert!(other.has(FlowEntry::PINNED | FlowEntry::UNPROTECT));
    assert!(!other.has(FlowEntry::SSRC_KNOWN));
    assert!(
        states
            .get(other.unprotect.row())
            .unwrap()
            .is(other.unprotect)
    );
    assert!(!states.get(back.unprotect.row()).unwrap().is(back.unprotect));
    assert_eq!(bench.statistics(CALL).unwrap()[1].srtp_failures, 1);

    bench.tell(second, &stale);
    assert!(!bench.entry(second).unwrap().has(FlowEntry::SSRC_KNOWN));
    announce(&bench, second, 2);
    bench.learn(second, "192.0.2.2:7000", 2);
    assert!(bench.entry(second).unwrap().has(PINNED));
}

#[test]
fn the_kernel_works_by_the_state_that_the_last_news_names() {
    let mut bench = Bench::new(16);
    let (_, [_, second]) = secured(&mut bench);
    let mut news = bench.news(second, "192.0.2.2:7000", 2);
    news.ssrc_in = 9.into();
    news.flags = (news.flags.get() | FlowEntry::UNPROTECT_SECOND).into();
    // A third source has been told of already, in the first one's state.
    announce(&bench, second, 3);
    bench.tell(second, &news);
    assert_eq!(bench.entry(second).unwrap().ssrc_in.get(), 0x1234);
    announce(&bench, second, 2);
    bench.tell(second, &news);
    let entry = bench.entry(second).unwrap();
    assert_eq!(entry.ssrc_in.get(), 9);
    assert!(entry.has(FlowEntry::UNPROTECT_SECOND));
}

#[test]
fn a_held_source_of_srtp_is_the_workers_and_comes_back_to_be_asked_for() {
    let mut bench = Bench::new(16);
    let (mut media, [first, second]) = secured(&mut bench);
    for stream in &mut media.streams {
        stream.active = false;
    }
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    assert!(
        bench
            .entry(second)
            .unwrap()
            .has(FlowEntry::HELD | FlowEntry::USERSPACE)
    );
    assert!(!bench.entry(first).unwrap().has(FlowEntry::USERSPACE));
    for stream in &mut media.streams {
        stream.active = true;
    }
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    for port in [first, second] {
        let entry = bench.entry(port).unwrap();
        assert!(entry.has(FlowEntry::PINNED) && !entry.has(FlowEntry::SSRC_KNOWN));
        assert!(!entry.has(FlowEntry::USERSPACE));
    }
    // Where the peers are is known all the same.
    let to = bench.entry(first).unwrap().to;
    assert_eq!(to, endpoint("192.0.2.2:7000".parse().unwrap()));
}

/// Over half a turn of the sequence number in which the kernel has counted nothing its rollover
/// counter would be lost.
#[test]
fn a_source_that_sends_only_what_was_not_negotiated_is_the_workers_until_it_speaks() {
    let mut bench = Bench::new(16);
    let (_, [first, second]) = secured(&mut bench);
    let count = |bench: &Bench, packets: u64, dropped: u64| {
        let index = bench.entry(second).unwrap().counters.get();
        let counters = FlowCounters {
            packets,
            dropped,
            ..FlowCounters::default()
        };
        bench
            .datapath
            .counted
            .lock()
            .unwrap()
            .insert(index, counters);
    };
    let is_workers = |bench: &mut Bench| {
        let call = bench.plane.calls.get_mut(&CALL).unwrap();
        strays::look_at(&bench.tables, &bench.slow, call);
        let [other, entry] = [first, second].map(|port| bench.entry(port).unwrap());
        assert!(!other.has(FlowEntry::USERSPACE));
        entry.has(FlowEntry::USERSPACE)
    };
    let row = bench.told(second).unprotect_row.unwrap();
    let index = row.state().unwrap().index(false);
    // Packets that are taken among some that are not.
    for step in 1..5 {
        index.take(step).unwrap();
        count(&bench, step, 100 * step);
        assert!(!is_workers(&mut bench));
    }
    // Silence.
    for _ in 0..3 {
        assert!(!is_workers(&mut bench));
    }
    // A flood.
    count(&bench, 4, 1_000_000);
    assert!(!is_workers(&mut bench));
    count(&bench, 4, 1_000_250);
    assert!(is_workers(&mut bench));
    assert!(!row.does_kernel_work());
    // The worker counts on.
    let mut worker = SlowCounters::default();
    for step in 1..4 {
        index.take(step << 14).unwrap();
        worker.flow.dropped += 250;
        let key = flow_key(second.rtp);
        bench.slow.counters.lock().unwrap().insert(key, worker);
        assert!(is_workers(&mut bench));
        assert!(!row.does_kernel_work());
    }
    worker.flow.packets += 1;
    let key = flow_key(second.rtp);
    bench.slow.counters.lock().unwrap().insert(key, worker);
    // News of another source are under way.
    announce(&bench, second, 2);
    assert!(is_workers(&mut bench));
    bench.learn(second, "192.0.2.2:7000", 2);
    worker.flow.packets += 1;
    bench.slow.counters.lock().unwrap().insert(key, worker);
    assert!(!is_workers(&mut bench));
    assert!(row.does_kernel_work());
}

#[test]
fn a_key_that_found_no_row_stays_with_libsrtp_and_the_next_one_gets_one() {
    let mut bench = Bench::new(2);
    let rows = Rows::resting(bench.datapath.streams(), 1, Duration::ZERO);
    bench.plane.srtp = SrtpRows::new(SrtpOffload::Loaded, Some(rows));
    let mut media = bench.media();
    media.legs[1].srtp = Some(keys(1));
    let paths = [Path::Xdp, Path::Userspace(PathReason::SrtpStreams)];
    assert_eq!(bench.connect(CALL, &media), Ok(paths));
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    assert!(bench.told(first).protect_row.is_some());
    assert!(bench.told(second).unprotect_row.is_none());

    // A row is free again, but the key has begun without one.
    let mut renewed = media.clone();
    renewed.legs[1].srtp.as_mut().unwrap().protect.suite = SrtpSuite::AesCm128HmacSha1_32;
    assert_eq!(bench.connect(CALL, &renewed), Ok([paths[1]; 2]));
    assert_eq!(bench.connect(CALL, &media).map(|_| ()), Ok(()));
    assert!(bench.told(second).unprotect_row.is_none());
}

#[test]
fn what_the_kernel_has_not_taken_is_libsrtps() {
    for (offload, reason) in [
        (SrtpOffload::Off, PathReason::SrtpOff),
        (SrtpOffload::NotLoaded, PathReason::SrtpNotLoaded),
    ] {
        let mut bench = Bench::new(16);
        bench.plane.srtp = SrtpRows::new(offload, None);
        let mut media = bench.media();
        media.legs[1].srtp = Some(keys(1));
        assert_eq!(bench.connect(CALL, &media), Ok(userspace(reason)));
        let port = media.legs[0].port;
        assert!(bench.told(port).protect.is_some());
        assert!(bench.told(port).protect_row.is_none());
        assert!(!bench.entry(port).unwrap().has(FlowEntry::PROTECT));
    }
}

/// A suite that comes back has the key that it had, and its packets begin at ROC 0: under an SSRC
/// that the key has protected before, the same keystream would cover two packets.
#[test]
fn a_key_that_comes_back_protects_another_ssrc() {
    for offload in [SrtpOffload::Loaded, SrtpOffload::Off] {
        let mut bench = Bench::new(16);
        if offload == SrtpOffload::Off {
            bench.plane.srtp = SrtpRows::new(offload, None);
        }
        let mut media = bench.media();
        let port = media.legs[0].port;
        let other = keys_of(SrtpSuite::AesCm128HmacSha1_32, 3);
        let mut seen = Vec::new();
        for keys in [
            Some(keys(1)),
            Some(other),
            Some(keys(1)),
            None,
            Some(keys(1)),
        ] {
            media.legs[1].srtp = keys;
            let told = bench.slow.flows.lock().unwrap().len() == 2;
            let stale = told.then(|| bench.news(port, "198.51.100.2:6000", 1));
            bench.connect(CALL, &media).unwrap();
            bench.learn(port, "198.51.100.2:6000", 2);
            if let Some(stale) = stale {
                bench.tell(port, &stale);
            }
            let ssrc = bench.entry(port).unwrap().ssrc_out;
            assert_eq!(bench.told(port).entry.ssrc_out, ssrc);
            if media.legs[1].srtp.is_some() {
                assert!(!seen.contains(&ssrc), "{offload:?}");
                seen.push(ssrc);
            }
            // A refresh is none.
            media.legs[1].negotiation += 1;
            bench.connect(CALL, &media).unwrap();
            assert_eq!(bench.entry(port).unwrap().ssrc_out, ssrc);
        }
    }
}

/// Where one worker takes new keys and the other one cannot, the first one gets back the keys that
/// it has just forgotten: it must not begin anew under them as if they were new.
#[test]
fn keys_that_are_given_back_to_a_worker_have_been_used() {
    let mut bench = Bench::new(16);
    let mut media = bench.media();
    media.legs[0].srtp = Some(keys(1));
    media.legs[1].srtp = Some(keys(2));
    assert_eq!(bench.connect(CALL, &media), Ok(XDP));
    let [first, second] = media.legs.each_ref().map(|leg| leg.port);
    announce(&bench, first, 1);
    bench.learn(first, "198.51.100.2:6000", 1);
    let before = bench.entry(first).unwrap();
    *bench.slow.refused.lock().unwrap() = Some(flow_key(second.rtp));

    // A description with the same keys costs nothing.
    let mut refused = media.clone();
    refused.streams[0].payload_types = vec![(0, 8)];
    assert!(bench.connect(CALL, &refused).is_err());
    assert_eq!(bench.entry(first).unwrap(), before);

    let stale = bench.news(first, "198.51.100.2:6000", 1);
    refused.legs[0].srtp = Some(keys(3));
    refused.legs[1].srtp = Some(keys(4));
    assert!(bench.connect(CALL, &refused).is_err());
    bench.tell(first, &stale);
    let after = bench.entry(first).unwrap();
    assert_eq!(
        (after.unprotect, after.protect),
        (before.unprotect, before.protect)
    );
    assert_ne!(after.ssrc_out, before.ssrc_out);
    assert_eq!(bench.told(first).entry.ssrc_out, after.ssrc_out);
    assert!(!after.has(FlowEntry::SSRC_KNOWN));
}
