use super::*;

#[test]
fn srtp_is_protected_and_unprotected_between_the_legs() {
    for suite in SrtpSuite::ALL {
        let mut lab = Lab::new(secured(suite));
        let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
        let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
        // Beyond the end of the sequence numbers, so that the rollover counter is used.
        for step in 0..1000u16 {
            let sequence = step.wrapping_mul(200);
            let plain = rtp(0, sequence, 0, 7);
            let mut left = lab.send(CALLER, OURS_CALLER, &plain).expect("relayed");
            let length = theirs.unprotect(&mut left.payload).expect("authentic");
            assert_eq!(left.payload[12..length], plain[12..]);

            let mut sealed = rtp(0, sequence, 0, 8);
            sealed.resize(172 + TRAILER, 0);
            let length = callee.protect(&mut sealed, 172).expect("protected");
            let left = lab
                .send(CALLEE, OURS_CALLEE, &sealed[..length])
                .expect("relayed");
            assert_eq!(left.payload[12..], plain[12..]);
        }
        assert_eq!(theirs.roc(20_000), Some(4));
    }
}

#[test]
fn forged_and_replayed_srtp_is_counted_and_pins_nobody() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut lab = Lab::new(secured(suite));
    assert_eq!(
        lab.send("203.0.113.66:6", OURS_CALLEE, &rtp(0, 1, 0, 8)),
        Err(Discard::SrtpAuthentication)
    );
    assert_eq!(lab.event(), None);
    let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
    let mut sealed = rtp(0, 1, 0, 8);
    sealed.resize(172 + TRAILER, 0);
    let length = callee.protect(&mut sealed, 172).expect("protected");
    assert!(lab.send(CALLEE, OURS_CALLEE, &sealed[..length]).is_ok());
    assert_eq!(
        lab.send(CALLEE, OURS_CALLEE, &sealed[..length]),
        Err(Discard::SrtpReplay)
    );
    assert_eq!(lab.shared[1].read().srtp_failures, 2);
    assert_eq!(lab.shared[1].read().flow.packets, 1);
}

#[test]
fn a_refresh_with_the_same_keys_keeps_the_contexts_and_new_keys_begin_anew() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut lab = Lab::new(secured(suite));
    let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
    let mut step = 0u16;
    let mut send = |lab: &mut Lab, theirs: &mut Inbound| {
        step = step.wrapping_add(30_000);
        let mut left = lab
            .send(CALLER, OURS_CALLER, &rtp(0, step, 0, 7))
            .expect("relayed");
        theirs.unprotect(&mut left.payload)
    };
    for _ in 0..4 {
        assert!(send(&mut lab, &mut theirs).is_ok());
    }
    assert_eq!(theirs.roc(20_000), Some(1));
    let [refreshed, _] = secured(suite);
    lab.install(0, refreshed);
    assert!(send(&mut lab, &mut theirs).is_ok());

    let [mut renewed, _] = secured(suite);
    renewed.protect = Some(key(suite, 9));
    lab.install(0, renewed);
    let mut afresh = Inbound::new(&key(suite, 9)).expect("key fits");
    assert!(send(&mut lab, &mut afresh).is_ok());
    assert_eq!(afresh.roc(20_000), Some(0));
}

#[test]
fn after_a_long_hold_srtp_goes_on_without_a_gap() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut lab = Lab::new(secured(suite));
    let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
    let first = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7))
        .expect("relayed");
    let [mut held, resumed] = [secured(suite), secured(suite)].map(|[flow, _]| flow);
    held.entry.flags = FlowEntry::HELD.into();
    lab.install(0, held);
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 2, 160, 7)),
        Err(Discard::Held)
    );
    lab.install(0, resumed);
    let next = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 40_000, 6_400_000, 7))
        .expect("relayed");
    assert_eq!(next.sequence(), first.sequence().wrapping_add(1));
    for mut left in [first, next] {
        assert!(theirs.unprotect(&mut left.payload).is_ok());
    }
}

#[test]
fn a_source_that_begins_anew_under_its_ssrc_is_heard_from_its_second_packet_on() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut lab = Lab::new(secured(suite));
    let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
    for sequence in (40_000..40_010).chain([20_005]).chain(40_010..40_020) {
        let outcome = lab.send(CALLER, OURS_CALLER, &rtp(0, sequence, 0, 7));
        if sequence == 20_005 {
            assert_eq!(outcome, Err(Discard::SrtpReplay), "{sequence}");
            continue;
        }
        assert!(
            theirs
                .unprotect(&mut outcome.expect("relayed").payload)
                .is_ok()
        );
    }
    let outcome = lab.send(CALLER, OURS_CALLER, &rtp(0, 20_009, 0, 7));
    assert_eq!(outcome, Err(Discard::SrtpReplay));
    for sequence in 20_010..20_020 {
        let mut left = lab
            .send(CALLER, OURS_CALLER, &rtp(0, sequence, 0, 7))
            .expect("relayed");
        assert_eq!(left.ssrc(), 20_000);
        assert!(theirs.unprotect(&mut left.payload).is_ok(), "{sequence}");
    }
}
