use relay_abi::srtp::packet::Work;

use super::*;
use crate::{
    offload::StreamStates,
    srtp::{Row, Rows},
};

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

/// A leg that a transfer brings has sent elsewhere for hours.
#[test]
fn a_leg_that_joins_late_is_heard_whatever_its_suite() {
    for suite in SrtpSuite::ALL {
        let mut lab = Lab::new(secured(suite));
        let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
        for step in 0..15_u16 {
            seal(&mut callee, step.wrapping_mul(0x4000), 0);
        }
        for step in 15..30_u16 {
            let sequence = step.wrapping_mul(0x4000);
            let sealed = seal(&mut callee, sequence, 0);
            let heard = lab.send(CALLEE, OURS_CALLEE, &sealed).expect("relayed");
            assert_eq!(heard.payload[12..], rtp(0, sequence, 0, 8)[12..]);
        }
    }
}

/// What was not negotiated is not relayed, but it counts its sequence numbers as any: a peer's
/// libsrtp does not know of payload types.
#[test]
fn payload_types_that_were_not_negotiated_take_part_in_the_turns() {
    for suite in SrtpSuite::ALL {
        let mut lab = Lab::new(secured(suite));
        let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
        let mut forger = Outbound::new(&key(suite, 3)).expect("key fits");
        let mut send = |lab: &mut Lab, sequence: u16, payload_type: u8| {
            let sealed = seal(&mut callee, sequence, payload_type);
            lab.send(CALLEE, OURS_CALLEE, &sealed)
        };
        assert!(send(&mut lab, 10, 0).is_ok());
        // Eleven minutes and more of another codec, here by leaps.
        for step in 1..10_u16 {
            let sequence = step.wrapping_mul(0x4000);
            let refused = send(&mut lab, sequence, 99);
            assert_eq!(refused, Err(Discard::PayloadType), "{suite:?}");
            // Nothing that is not authentic moves them.
            let forged = seal(&mut forger, sequence.wrapping_add(0x3000), 99);
            let refused = lab.send(CALLEE, OURS_CALLEE, &forged);
            assert_eq!(refused, Err(Discard::PayloadType), "{suite:?}");
        }
        assert!(send(&mut lab, 0x4001, 0).is_ok(), "{suite:?}");
        assert_eq!(send(&mut lab, 0x4002, 99), Err(Discard::PayloadType));
        assert_eq!(lab.shared[1].read().srtp_failures, 0);
    }
}

fn seal(context: &mut Outbound, sequence: u16, payload_type: u8) -> Vec<u8> {
    let mut sealed = rtp(payload_type, sequence, 0, 8);
    sealed.resize(172 + TRAILER, 0);
    let length = context.protect(&mut sealed, 172).expect("protected");
    sealed.truncate(length);
    sealed
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
            assert_eq!(outcome, Err(Discard::Repeated), "{sequence}");
            continue;
        }
        assert!(
            theirs
                .unprotect(&mut outcome.expect("relayed").payload)
                .is_ok()
        );
    }
    let outcome = lab.send(CALLER, OURS_CALLER, &rtp(0, 20_009, 0, 7));
    assert_eq!(outcome, Err(Discard::Repeated));
    for sequence in 20_010..20_020 {
        let mut left = lab
            .send(CALLER, OURS_CALLER, &rtp(0, sequence, 0, 7))
            .expect("relayed");
        assert_eq!(left.ssrc(), 20_000);
        assert!(theirs.unprotect(&mut left.payload).is_ok(), "{sequence}");
    }
    // Nothing of it says that the source has a wrong key, as it has none.
    assert_eq!(lab.shared[0].read().srtp_failures, 0);
    assert_eq!(lab.shared[0].read().flow.dropped, 2);
}

/// A row for `key` in memory of the test's own.
fn row(key: &SrtpKey) -> Arc<Row> {
    let rows = Rows::new(Arc::new(StreamStates::on_the_heap(1)), 1);
    let row = rows.take(key).expect("a row");
    row.state().expect("its state").open(row.reference());
    row
}

/// [`secured`], in the rows that the kernel works by.
fn shared(suite: SrtpSuite) -> [SlowFlow; 2] {
    let mut flows = secured(suite);
    flows[0].protect_row = flows[0].protect.as_ref().map(row);
    flows[1].unprotect_row = flows[1].unprotect.as_ref().map(row);
    flows
}

#[test]
fn the_kernel_and_the_worker_are_one_sender_and_one_receiver() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let flows = shared(suite);
    let rows = [&flows[0].protect_row, &flows[1].unprotect_row].map(Clone::clone);
    let [out, back] = rows.map(|row| row.expect("a row"));
    let mut lab = Lab::new(flows);
    let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
    let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
    let mut work = Work::default();
    // Over several turns of the sequence numbers, each packet by the one or by the other.
    for step in 0..1000u16 {
        let sequence = step.wrapping_mul(300);
        let plain = rtp(0, sequence, 0, 7);
        let mut sealed = rtp(0, sequence, 0, 8);
        sealed.resize(172 + TRAILER, 0);
        let length = callee.protect(&mut sealed, 172).expect("protected");
        sealed.truncate(length);
        if step % 3 == 1 {
            let mut left = rtp(0, sequence.wrapping_add(65_000), 1_000, 20_000);
            work.packet()[..172].copy_from_slice(&left);
            let index = out.state().expect("a state").index(false);
            let length = work.protect(out.key(), index, 172).expect("protected");
            left = work.packet()[..length].to_vec();
            let length = theirs.unprotect(&mut left).expect("authentic");
            assert_eq!(left[12..length], plain[12..]);

            work.packet()[..sealed.len()].copy_from_slice(&sealed);
            let index = back.state().expect("a state").index(false);
            let length = work.unprotect(back.key(), index, sealed.len());
            assert_eq!(length, Ok(172));
        } else {
            let mut left = lab.send(CALLER, OURS_CALLER, &plain).expect("relayed");
            let length = theirs.unprotect(&mut left.payload).expect("authentic");
            assert_eq!(left.payload[12..length], plain[12..]);
            let left = lab.send(CALLEE, OURS_CALLEE, &sealed).expect("relayed");
            assert_eq!(left.payload[12..], plain[12..]);
        }
        // Whoever had it, it is had.
        assert_eq!(
            lab.send(CALLEE, OURS_CALLEE, &sealed),
            Err(Discard::SrtpReplay)
        );
    }
    assert_eq!(theirs.roc(20_000), Some(5));
    assert_eq!(back.state().expect("a state").index(false).roc(), 4);
}

#[test]
fn a_new_ssrc_of_a_shared_key_moves_to_the_other_state() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut lab = Lab::new(shared(suite));
    let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
    let mut send = |lab: &mut Lab, sequence, ssrc| {
        let mut sealed = rtp(0, sequence, 0, ssrc);
        sealed.resize(172 + TRAILER, 0);
        let length = callee.protect(&mut sealed, 172).expect("protected");
        lab.send(CALLEE, OURS_CALLEE, &sealed[..length])
    };
    for (sequence, ssrc, second) in [(1, 8, false), (1, 9, true), (2, 8, false)] {
        assert!(send(&mut lab, sequence, ssrc).is_ok());
        let entry = lab.source();
        assert_eq!(entry.ssrc_in.get(), ssrc);
        assert_eq!(entry.has(FlowEntry::UNPROTECT_SECOND), second);
    }
}

#[test]
fn forged_ssrcs_use_up_no_changes() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    for flows in [secured(suite), shared(suite)] {
        let mut lab = Lab::new(flows);
        let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
        let mut stranger = Outbound::new(&key(suite, 3)).expect("key fits");
        let sealed = |sender: &mut Outbound, ssrc| {
            let mut sealed = rtp(0, 1, 0, ssrc);
            sealed.resize(172 + TRAILER, 0);
            let length = sender.protect(&mut sealed, 172).expect("protected");
            sealed.truncate(length);
            sealed
        };
        let packet = sealed(&mut callee, 8);
        assert!(lab.send(CALLEE, OURS_CALLEE, &packet).is_ok());
        for ssrc in 100..120 {
            let forged = sealed(&mut stranger, ssrc);
            assert_eq!(
                lab.send(CALLEE, OURS_CALLEE, &forged),
                Err(Discard::SrtpAuthentication)
            );
        }
        let packet = sealed(&mut callee, 9);
        assert!(lab.send(CALLEE, OURS_CALLEE, &packet).is_ok());
    }
}

#[test]
fn with_a_shared_key_a_source_that_begins_anew_is_heard_though_the_kernel_had_the_rest() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let flows = shared(suite);
    let out = flows[0].protect_row.clone().expect("a row");
    let mut lab = Lab::new(flows);
    let mut theirs = Inbound::new(&key(suite, 1)).expect("key fits");
    assert!(lab.send(CALLER, OURS_CALLER, &rtp(0, 100, 0, 7)).is_ok());
    // The kernel sent those up to 40,000, over the turn of the sequence numbers that leave.
    let last = 40_000u16.wrapping_add(65_000);
    let index = out.state().expect("a state").index(false);
    assert!(index.take(0x1_0000 | u64::from(last)).is_ok());
    lab.kernel = Some(Arc::new(Sent(FlowCounters {
        last_seen: lab.now + 1,
        reception: Reception {
            received: 100,
            highest_sequence: 40_000,
            last_sequence: last.into(),
            ..Reception::default()
        },
        ..FlowCounters::default()
    })));
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 20_009, 0, 7)),
        Err(Discard::Repeated)
    );
    let mut left = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 20_010, 0, 7))
        .expect("relayed");
    assert_eq!(left.sequence(), last + 1);
    assert!(theirs.unprotect(&mut left.payload).is_ok());
}

/// What the kernel sent last.
struct Sent(FlowCounters);

impl LastOutput for Sent {
    fn last_output(&self, _: u32) -> Option<FlowCounters> {
        Some(self.0)
    }
}

#[test]
fn a_shared_key_that_is_another_one_begins_at_no_rollover() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let first = shared(suite);
    let mut lab = Lab::new(first.clone());
    let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
    let send = |lab: &mut Lab, callee: &mut Outbound, sequence| {
        let mut sealed = rtp(0, sequence, 0, 8);
        sealed.resize(172 + TRAILER, 0);
        let length = callee.protect(&mut sealed, 172).expect("protected");
        sealed.truncate(length);
        (lab.send(CALLEE, OURS_CALLEE, &sealed), sealed)
    };
    let mut recorded = Vec::new();
    for sequence in [30_000, 60_000, 20_000, 50_000] {
        let (outcome, sealed) = send(&mut lab, &mut callee, sequence);
        assert!(outcome.is_ok());
        recorded.push(sealed);
    }
    // The same key and row go on; and what the kernel is told of its source is still so.
    lab.install(1, first[1].clone());
    assert!(send(&mut lab, &mut callee, 50_001).0.is_ok());
    let state = first[1].unprotect_row.as_ref().and_then(|row| row.state());
    assert_eq!(state.expect("a state").index(false).roc(), 1);

    let mut renewed = secured(suite)[1].clone();
    renewed.unprotect = Some(key(suite, 9));
    renewed.unprotect_row = renewed.unprotect.as_ref().map(row);
    lab.install(1, renewed.clone());
    for sealed in &recorded {
        assert_eq!(
            lab.send(CALLEE, OURS_CALLEE, sealed),
            Err(Discard::SrtpAuthentication)
        );
    }
    let mut afresh = Outbound::new(&key(suite, 9)).expect("key fits");
    while lab.event().is_some() {}
    assert!(send(&mut lab, &mut afresh, 50_002).0.is_ok());
    assert!(!lab.source().has(FlowEntry::UNPROTECT_SECOND));
    let state = renewed.unprotect_row.as_ref().and_then(|row| row.state());
    assert_eq!(state.expect("a state").index(false).highest(), 50_002);
}

#[test]
fn packets_longer_than_the_kernel_takes_count_in_the_same_window() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let mut lab = Lab::new(shared(suite));
    let mut callee = Outbound::new(&key(suite, 2)).expect("key fits");
    for (sequence, octets) in [(1, 1200), (2, 0), (3, 160), (4, 488)] {
        let mut sealed = rtp(0, sequence, 0, 8);
        sealed.resize(12 + octets, 0xd5);
        let plain = sealed.clone();
        sealed.resize(plain.len() + TRAILER, 0);
        let length = callee.protect(&mut sealed, plain.len()).expect("protected");
        sealed.truncate(length);
        let left = lab.send(CALLEE, OURS_CALLEE, &sealed).expect("relayed");
        assert_eq!(left.payload[12..], plain[12..]);
        assert_eq!(
            lab.send(CALLEE, OURS_CALLEE, &sealed),
            Err(Discard::SrtpReplay)
        );
    }
}

/// What a worker translates by is its own for as long as the key, but no longer.
#[test]
fn under_another_key_the_ssrc_is_the_one_that_is_told() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    for flows in [secured(suite), shared(suite)] {
        let mut lab = Lab::new(flows.clone());
        let first = lab
            .send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7))
            .expect("relayed");
        let mut same = flows[0].clone();
        same.entry.ssrc_out = 5.into();
        lab.install(0, same);
        let second = lab
            .send(CALLER, OURS_CALLER, &rtp(0, 2, 0, 7))
            .expect("relayed");
        assert_eq!(second.ssrc(), first.ssrc());

        let mut renewed = secured(suite)[0].clone();
        renewed.protect = Some(key(suite, 9));
        renewed.entry.ssrc_out = 6.into();
        lab.install(0, renewed);
        let mut theirs = Inbound::new(&key(suite, 9)).expect("key fits");
        let mut third = lab
            .send(CALLER, OURS_CALLER, &rtp(0, 3, 0, 7))
            .expect("relayed");
        assert_eq!(third.ssrc(), 6);
        assert_eq!(third.sequence(), second.sequence().wrapping_add(1));
        assert!(theirs.unprotect(&mut third.payload).is_ok());
    }
}
