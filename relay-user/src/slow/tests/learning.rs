use super::*;

#[test]
fn the_first_valid_packet_pins_its_source_and_is_relayed() {
    let mut lab = Lab::plain();
    let left = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 10, 160, 7))
        .expect("relayed");
    assert_eq!(
        (left.from, left.to),
        (address(OURS_CALLEE), address(CALLEE))
    );
    assert_eq!(left.sequence(), 65_010);
    assert_eq!(left.timestamp(), 1_160);
    assert_eq!(left.ssrc(), 20_000);
    assert_eq!(left.payload[12..], [0xd5; 160]);

    let entry = lab.source();
    assert!(entry.has(FlowEntry::PINNED | FlowEntry::SSRC_KNOWN));
    assert_eq!(entry.peer, endpoint(address(CALLER)));
    assert_eq!((entry.ssrc_in.get(), entry.generation.get()), (7, 1));
    assert_eq!(lab.event(), None);

    for foreign in ["198.51.100.2:30002", "198.51.100.9:30000", CALLEE] {
        let packet = rtp(0, 11, 320, 7);
        assert_eq!(
            lab.send(foreign, OURS_CALLER, &packet),
            Err(Discard::ForeignSource)
        );
    }
    let left = lab
        .send(CALLER, OURS_CALLER, &rtp(101, 11, 320, 7))
        .expect("relayed");
    assert_eq!((left.payload[1], left.sequence()), (96, 65_011));
    let counters = lab.shared[0].read();
    assert_eq!((counters.flow.packets, counters.flow.dropped), (2, 3));
    assert_eq!(counters.flow.octets, 2 * 172);
    assert_eq!(counters.peer, Some(address(CALLER)));
}

#[test]
fn what_was_not_negotiated_pins_nobody() {
    let mut lab = Lab::plain();
    let short = rtp(0, 1, 0, 7)[..11].to_vec();
    for (packet, discard) in [
        (rtp(8, 1, 0, 7), Discard::PayloadType),
        (short, Discard::BadRtp),
        (vec![], Discard::BadRtp),
        (vec![0x40; 172], Discard::BadRtp),
        (vec![0, 1, 0, 0], Discard::Stun),
        (vec![22, 254, 253], Discard::Dtls),
    ] {
        assert_eq!(lab.send(CALLER, OURS_CALLER, &packet), Err(discard));
    }
    let expiring = Hop {
        limit: 1,
        service: 0,
    };
    assert_eq!(
        lab.send_with(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7), expiring),
        Err(Discard::TtlExpired)
    );
    assert_eq!(lab.event(), None);
    assert_eq!(
        lab.send(CALLER, "198.51.100.1:20004", &rtp(0, 1, 0, 7)),
        Err(Discard::UnknownFlow)
    );
    assert!(
        lab.send("198.51.100.7:1", OURS_CALLER, &rtp(0, 1, 0, 7))
            .is_ok()
    );
}

#[test]
fn sources_outside_the_trunks_ranges_are_never_relayed() {
    let mut ranged = caller_to_callee();
    ranged.sources.allowed = vec!["198.51.100.0/28".parse().expect("a range")];
    let mut lab = Lab::new([ranged, callee_to_caller()]);
    let packet = rtp(0, 1, 0, 7);
    assert_eq!(
        lab.send("198.51.100.16:9", OURS_CALLER, &packet),
        Err(Discard::ForeignSource)
    );
    assert!(lab.send("198.51.100.15:9", OURS_CALLER, &packet).is_ok());
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &packet),
        Err(Discard::ForeignSource)
    );
}

#[test]
fn packets_go_to_the_learned_peer_and_before_that_to_the_signalled_one() {
    let mut lab = Lab::plain();
    let behind_nat = "203.0.113.77:5555";
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7))
            .expect("relayed")
            .to,
        address(CALLEE)
    );
    lab.send(behind_nat, OURS_CALLEE, &rtp(0, 1, 0, 8))
        .expect("relayed");
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 2, 160, 7))
            .expect("relayed")
            .to,
        address(behind_nat)
    );

    let mut silent = caller_to_callee();
    silent.entry.to = Default::default();
    let mut lab = Lab::new([silent, callee_to_caller()]);
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7)),
        Err(Discard::NoDestination)
    );
}

#[test]
fn a_reinvite_forgets_the_peer_only_where_the_trunk_says_so() {
    let moved = "198.51.100.3:1234";
    for (latching, relatches) in [
        (Latching::Latch, false),
        (Latching::RelatchOnReinvite, true),
    ] {
        let mut flow = caller_to_callee();
        flow.sources.latching = latching;
        let mut lab = Lab::new([flow.clone(), callee_to_caller()]);
        let first = lab
            .send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7))
            .expect("relayed");
        lab.source();
        lab.install(0, flow.clone());
        let packet = rtp(0, 2, 160, 7);
        assert_eq!(
            lab.send(moved, OURS_CALLER, &packet),
            Err(Discard::ForeignSource)
        );

        flow.sources.negotiation += 1;
        lab.install(0, flow);
        let outcome = lab.send(moved, OURS_CALLER, &packet);
        if relatches {
            let left = outcome.expect("relayed");
            assert_eq!(left.sequence(), first.sequence().wrapping_add(1));
            assert_eq!(left.ssrc(), first.ssrc());
            assert_eq!(lab.source().peer, endpoint(address(moved)));
        } else {
            assert_eq!(outcome, Err(Discard::ForeignSource));
        }
    }
}

#[test]
fn a_peer_whose_description_moves_is_followed_and_what_it_sent_before_is_not() {
    let moved = "198.51.100.3:1234";
    for latching in [Latching::Latch, Latching::RelatchOnReinvite] {
        let mut flow = caller_to_callee();
        flow.sources.latching = latching;
        flow.sources.rtp = Some(address(CALLER));
        let mut lab = Lab::new([flow.clone(), callee_to_caller()]);
        let first = lab
            .send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7))
            .expect("relayed");
        lab.source();

        flow.sources.negotiation += 1;
        flow.sources.rtp = Some(address(moved));
        lab.install(0, flow.clone());
        for late in 2..4 {
            assert_eq!(
                lab.send(CALLER, OURS_CALLER, &rtp(0, late, 160, 7)),
                Err(Discard::ForeignSource)
            );
            lab.elapse(20);
        }
        let left = lab
            .send(moved, OURS_CALLER, &rtp(0, 2, 160, 7))
            .expect("relayed");
        assert_eq!(left.sequence(), first.sequence().wrapping_add(1));
        assert_eq!(lab.source().peer, endpoint(address(moved)));

        // Back at once: nobody that was there before is in its way.
        flow.sources.negotiation += 1;
        flow.sources.rtp = Some(address(CALLER));
        lab.install(0, flow);
        assert_eq!(
            lab.send(moved, OURS_CALLER, &rtp(0, 3, 320, 7)),
            Err(Discard::ForeignSource)
        );
        lab.send(CALLER, OURS_CALLER, &rtp(0, 3, 320, 7))
            .expect("relayed");
    }
}

#[test]
fn a_peer_that_sends_on_from_where_it_no_longer_receives_is_heard_after_a_while() {
    let mut flow = caller_to_callee();
    flow.sources.rtp = Some(address(CALLER));
    let mut lab = Lab::new([flow.clone(), callee_to_caller()]);
    lab.send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7))
        .expect("relayed");
    lab.source();
    flow.sources.rtp = Some(address("198.51.100.3:1234"));
    lab.install(0, flow);
    for sequence in 2..52 {
        assert_eq!(
            lab.send(CALLER, OURS_CALLER, &rtp(0, sequence, 160, 7)),
            Err(Discard::ForeignSource)
        );
        lab.elapse(20);
    }
    lab.send(CALLER, OURS_CALLER, &rtp(0, 52, 160, 7))
        .expect("relayed");
    assert_eq!(lab.source().peer, endpoint(address(CALLER)));
}

#[test]
fn a_new_ssrc_goes_on_where_the_old_one_ended() {
    let mut lab = Lab::plain();
    lab.send(CALLER, OURS_CALLER, &rtp(0, 10, 160, 7))
        .expect("relayed");
    assert_eq!(lab.source().generation.get(), 1);
    lab.elapse(20);
    let last = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 11, 320, 7))
        .expect("relayed");
    lab.elapse(500);
    let next = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 60_000, 4_000_000, 99))
        .expect("relayed");
    assert_eq!(next.ssrc(), last.ssrc());
    assert_eq!(next.sequence(), last.sequence().wrapping_add(1));
    let step = next.timestamp().wrapping_sub(last.timestamp());
    assert!(
        (3_990..=4_010).contains(&step),
        "half a second at 8 kHz, not {step}"
    );
    let entry = lab.source();
    assert_eq!((entry.ssrc_in.get(), entry.generation.get()), (99, 2));
    lab.elapse(20);
    let after = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 60_001, 4_000_160, 99))
        .expect("relayed");
    assert_eq!(after.sequence(), next.sequence().wrapping_add(1));
    assert_eq!(after.timestamp(), next.timestamp().wrapping_add(160));
}

#[test]
fn a_flood_of_ssrcs_is_limited_and_the_stream_lives_on() {
    let mut lab = Lab::plain();
    lab.send(CALLER, OURS_CALLER, &rtp(0, 10, 160, 7))
        .expect("relayed");
    let refused = (100..200)
        .filter(|ssrc| {
            lab.send(CALLER, OURS_CALLER, &rtp(0, 1, 0, *ssrc)) == Err(Discard::SsrcRate)
        })
        .count();
    assert_eq!(refused, 96);
    lab.elapse(1_000);
    assert!(lab.send(CALLER, OURS_CALLER, &rtp(0, 11, 320, 7)).is_ok());
}

struct Kernel(FlowCounters);

impl LastOutput for Kernel {
    fn last_output(&self, counters: u32) -> Option<FlowCounters> {
        (counters == 5).then_some(self.0)
    }
}

#[test]
fn a_source_takes_over_from_what_the_kernel_sent_last() {
    let mut known = caller_to_callee();
    known.entry.peer = endpoint(address(CALLER));
    known.entry.flags = (FlowEntry::PINNED | FlowEntry::SSRC_KNOWN).into();
    known.entry.ssrc_in = 7.into();
    known.entry.counters = 5.into();
    let mut lab = Lab::new([known, callee_to_caller()]);
    lab.kernel = Some(Arc::new(Kernel(FlowCounters {
        last_seen: lab.now - 20_000_000,
        reception: Reception {
            received: 100,
            highest_sequence: 70_000,
            last_sequence: 4_999,
            last_timestamp: 80_000,
            ..Reception::default()
        },
        ..FlowCounters::default()
    })));
    let left = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 9, 9, 8))
        .expect("relayed");
    assert_eq!(left.sequence(), 5_000);
    assert!(
        (80_155..=80_165).contains(&left.timestamp()),
        "20 ms at 8 kHz"
    );
}

#[test]
fn what_the_relay_says_of_a_source_is_taken_and_what_is_older_is_not() {
    let mut lab = Lab::plain();
    lab.send(CALLER, OURS_CALLER, &rtp(0, 10, 160, 7))
        .expect("relayed");
    let first = lab.source();
    lab.send(CALLER, OURS_CALLER, &rtp(0, 700, 160, 8))
        .expect("relayed");
    let second = lab.source();
    let mut old = caller_to_callee();
    old.entry = first;
    lab.install(0, old);
    let left = lab
        .send(CALLER, OURS_CALLER, &rtp(0, 701, 320, 8))
        .expect("relayed");
    assert_eq!(
        left.sequence(),
        701u16.wrapping_add(second.sequence_offset.get())
    );
    assert_eq!(lab.event(), None);
}

#[test]
fn an_event_without_room_is_told_with_a_later_packet() {
    let mut lab = Lab::plain();
    lab.events = SlowEvents::new(1);
    lab.send(CALLER, OURS_CALLER, &rtp(0, 10, 160, 7))
        .expect("relayed");
    lab.send(CALLEE, OURS_CALLEE, &rtp(0, 10, 160, 8))
        .expect("relayed");
    assert_eq!(lab.source().ssrc_in.get(), 7);
    assert_eq!(lab.event(), None);
    lab.send(CALLEE, OURS_CALLEE, &rtp(0, 11, 320, 8))
        .expect("relayed");
    assert_eq!(lab.source().ssrc_in.get(), 8);
    assert_eq!(lab.events.refused(), 1);
}

#[test]
fn a_held_stream_learns_its_peer_and_lets_nothing_through() {
    let mut held = caller_to_callee();
    held.entry.flags = FlowEntry::HELD.into();
    let mut lab = Lab::new([held, callee_to_caller()]);
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 1, 0, 7)),
        Err(Discard::Held)
    );
    assert_eq!(lab.source().peer, endpoint(address(CALLER)));
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(0, 2, 160, 7)),
        Err(Discard::Held)
    );
    lab.install(0, caller_to_callee());
    assert!(lab.send(CALLER, OURS_CALLER, &rtp(0, 3, 320, 7)).is_ok());
}

#[test]
fn more_payload_types_than_an_entry_holds_are_told_apart() {
    let mut many = caller_to_callee();
    many.payload_types = (0..40).map(|number| (number, number + 50)).collect();
    many.entry.payload_type_count = 0;
    let mut lab = Lab::new([many, callee_to_caller()]);
    for round in 0..2 {
        for number in 0..40 {
            let sequence = u16::from(number) + 40 * round;
            let left = lab
                .send(CALLER, OURS_CALLER, &rtp(number, sequence, 0, 7))
                .expect("relayed");
            assert_eq!(left.payload[1], number + 50);
        }
    }
    assert_eq!(
        lab.send(CALLER, OURS_CALLER, &rtp(40, 90, 0, 7)),
        Err(Discard::PayloadType)
    );
}

#[test]
fn a_strict_flow_follows_its_sdp_and_nothing_else() {
    let mut flow = caller_to_callee();
    flow.sources.latching = Latching::Strict;
    let mut lab = Lab::new([flow.clone(), callee_to_caller()]);
    let moved = "198.51.100.3:1234";
    let send =
        |lab: &mut Lab, from: &str, sequence| lab.send(from, OURS_CALLER, &rtp(0, sequence, 0, 7));
    assert_eq!(send(&mut lab, moved, 1), Err(Discard::ForeignSource));
    assert!(send(&mut lab, CALLER, 1).is_ok());
    lab.install(0, flow.clone());
    assert!(send(&mut lab, CALLER, 2).is_ok());
    flow.sources.rtp = Some(address(moved));
    lab.install(0, flow);
    assert_eq!(send(&mut lab, CALLER, 3), Err(Discard::ForeignSource));
    assert!(send(&mut lab, moved, 3).is_ok());
    assert_eq!(send(&mut lab, CALLER, 4), Err(Discard::ForeignSource));
}

#[test]
fn a_codec_with_another_clock_is_no_jitter() {
    let mut lab = Lab::plain();
    let mut heard = Vec::new();
    for (clock_rate, first) in [(8_000_u32, 1_u16), (48_000, 11), (8_000, 21)] {
        let mut flow = caller_to_callee();
        flow.entry.clock_rate = clock_rate.into();
        lab.install(0, flow);
        for sequence in first..first + 10 {
            let timestamp = u32::from(sequence) * clock_rate / 50;
            let left = lab
                .send(CALLER, OURS_CALLER, &rtp(0, sequence, timestamp, 7))
                .expect("relayed");
            heard.push((left.ssrc(), left.sequence()));
            lab.elapse(20);
        }
        let jitter = lab.shared[0].read().flow.reception.jitter / 16;
        let milliseconds = jitter / (clock_rate / 1000);
        assert_eq!(milliseconds, 0, "at {clock_rate} hertz");
    }
    // The callee hears one source without a gap.
    let (ssrc, first) = heard[0];
    let expected: Vec<_> = (0..30).map(|at| (ssrc, first.wrapping_add(at))).collect();
    assert_eq!(heard, expected);
}
