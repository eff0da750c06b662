use super::*;

#[test]
fn rtcp_is_translated_between_ports_and_its_source_is_learned() {
    let mut lab = Lab::plain();
    lab.send(CALLER, OURS_CALLER, &rtp(0, 10, 160, 7))
        .expect("relayed");
    lab.send(CALLEE, OURS_CALLEE, &rtp(0, 600, 160, 8))
        .expect("relayed");
    assert!(lab.event().is_some() && lab.event().is_some());

    // The callee reports about what it heard: our SSRC, our sequence numbers.
    let report = receiver_report(8, 20_000, 65_010);
    let left = lab
        .send("203.0.113.2:49999", OURS_CALLEE_RTCP, &report)
        .expect("relayed");
    assert_eq!(
        (left.from, left.to),
        (address(OURS_CALLER_RTCP), address(CALLER_RTCP))
    );
    assert_eq!(word(&left.payload, 4), 20_002);
    assert_eq!((word(&left.payload, 8), word(&left.payload, 16)), (7, 10));
    assert_eq!(
        lab.event(),
        Some(SlowEvent::Rtcp {
            key: at(OURS_CALLEE),
            peer: endpoint(address("203.0.113.2:49999")),
        })
    );
    assert_eq!(lab.shared[1].read().rtcp_packets, 1);

    // Towards the callee it goes to where the callee's came from.
    let report = receiver_report(7, 20_002, 600 + 65_000);
    let left = lab
        .send(CALLER_RTCP, OURS_CALLER_RTCP, &report)
        .expect("relayed");
    assert_eq!(left.to, address("203.0.113.2:49999"));
    assert_eq!(
        (word(&left.payload, 4), word(&left.payload, 8)),
        (20_000, 8)
    );
    assert_eq!(word(&left.payload, 16), 600 + 65_536);

    for foreign in ["203.0.113.2:50000", "203.0.113.3:49999"] {
        let outcome = lab.send(foreign, OURS_CALLEE_RTCP, &report);
        assert_eq!(outcome, Err(Discard::ForeignSource));
    }
    for bad in [&report[..20], &[0x80, 0, 0, 1][..], &[]] {
        let outcome = lab.send(CALLER_RTCP, OURS_CALLER_RTCP, bad);
        assert_eq!(outcome, Err(Discard::BadRtcp), "{bad:?}");
    }
}

#[test]
fn multiplexed_rtcp_comes_from_the_peer_and_goes_to_it() {
    let mut flows = [caller_to_callee(), callee_to_caller()];
    flows[0].rtcp = RtcpRoute {
        from: endpoint(address(OURS_CALLEE)),
        to: endpoint(address(CALLEE)),
        multiplexed: true,
    };
    let mut lab = Lab::new(flows);
    lab.send("203.0.113.2:41111", OURS_CALLEE, &rtp(0, 600, 160, 8))
        .expect("relayed");
    let report = receiver_report(8, 20_000, 1);
    assert_eq!(
        lab.send(CALLEE, OURS_CALLEE, &report),
        Err(Discard::ForeignSource)
    );
    let left = lab
        .send("203.0.113.2:41111", OURS_CALLEE, &report)
        .expect("relayed");
    assert_eq!(
        (left.from, left.to),
        (address(OURS_CALLER_RTCP), address(CALLER_RTCP))
    );
    let left = lab
        .send(CALLER_RTCP, OURS_CALLER_RTCP, &report)
        .expect("relayed");
    assert_eq!(
        (left.from, left.to),
        (address(OURS_CALLEE), address("203.0.113.2:41111"))
    );
}

#[test]
fn srtcp_is_protected_and_unprotected_and_a_hold_lets_it_through() {
    for suite in SrtpSuite::ALL {
        let mut flows = secured(suite);
        flows[0].entry.flags = FlowEntry::HELD.into();
        let mut lab = Lab::new(flows);
        let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
        let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
        let plain = receiver_report(7, 20_002, 9);
        let mut left = lab
            .send(CALLER_RTCP, OURS_CALLER_RTCP, &plain)
            .expect("relayed");
        assert_eq!(left.to, address(CALLEE_RTCP));
        let length = theirs.unprotect_rtcp(&mut left.payload).expect("authentic");
        assert_eq!((length, word(&left.payload, 4)), (32, 20_000));

        let mut sealed = plain.clone();
        sealed.resize(32 + TRAILER, 0);
        let length = callee.protect_rtcp(&mut sealed, 32).expect("protected");
        let left = lab
            .send(CALLEE_RTCP, OURS_CALLEE_RTCP, &sealed[..length])
            .expect("relayed");
        assert_eq!((left.payload.len(), word(&left.payload, 4)), (32, 20_002));
        let outcome = lab.send(CALLEE_RTCP, OURS_CALLEE_RTCP, &sealed[..length]);
        assert_eq!(outcome, Err(Discard::SrtpReplay));
        let outcome = lab.send(CALLEE_RTCP, OURS_CALLEE_RTCP, &plain);
        assert!(matches!(
            outcome,
            Err(Discard::SrtpAuthentication | Discard::SrtpOther | Discard::SrtpReplay)
        ));
    }
}
