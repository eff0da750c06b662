//! Whole frames: those that etherparse builds around what libsrtp makes.

use rand::Rng as _;
use relay_abi::{U16, flow::FlowEntry, verdict::Reason};

use super::{
    super::{
        lab::{Lab, Ran, XDP_REDIRECT, key, next_hop},
        packets::{Packet, checksums_are_right, rtp},
    },
    LOCALS, SUITES, Secured, Way, packet,
};

/// Every length of a payload, in three shapes of header, over two turns of the sequence number.
#[test]
fn every_payload_every_way() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        for family in 0..2 {
            for suite in SUITES {
                for mki in [0, 4, 128] {
                    let mut flow = Secured::install(&mut lab, way, family, suite, mki);
                    for length in 0..=320 {
                        let octets: Vec<u8> = (0..length).map(|_| rand::rng().random()).collect();
                        let sequence = (length as u16).wrapping_mul(410);
                        let (first, front): (u8, &[u8]) = match length % 3 {
                            0 => (0x80, &[]),
                            1 => (0x82, &[5; 8]),
                            _ => (0x90, &[0xbe, 0xde, 0, 1, 2, 3, 4, 5]),
                        };
                        let payload_type = if length % 5 == 0 { 0x80 | 101 } else { 0 };
                        let rest = [front, &octets[..]].concat();
                        let plain = rtp(
                            first,
                            payload_type,
                            sequence,
                            u32::MAX - 5,
                            0x1111_2222,
                            &rest,
                        );
                        flow.relays(&mut lab, &plain);
                    }
                }
            }
        }
    }
}

#[test]
fn the_longest_header_and_the_longest_packet() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 128);
        let sources = [7; 60];
        let extension = [0xbe, 0xde, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let rest = [&sources[..], &extension, &[9; 320]].concat();
        flow.relays(&mut lab, &rtp(0x9f, 0, 1, 1, 0x1111_2222, &rest));
        flow.relays(&mut lab, &packet(2, &[1; 487]));
        let longer = flow.sent(&packet(3, &[1; 488])).octets();
        flow.refuses(&mut lab, &longer, Reason::SrtpTooLong);
        flow.relays(&mut lab, &packet(4, &[1; 487]));
    }
}

#[test]
fn padding_is_looked_at_in_the_clear_alone() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        let mut flow = Secured::install(&mut lab, way, 1, SUITES[0], 0);
        flow.relays(
            &mut lab,
            &rtp(0xa0, 0, 1, 1, 0x1111_2222, &[1, 2, 3, 0, 0, 3]),
        );
        let wrong = rtp(0xa0, 0, 2, 1, 0x1111_2222, &[1, 2, 3, 0, 0, 7]);
        let wrong = flow.sent(&wrong).octets();
        flow.refuses(&mut lab, &wrong, Reason::BadRtp);
    }
}

/// Tags that come, go and stay, and the header's other fields.
#[test]
fn tags_and_code_points() {
    let tags: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 100)], &[(0x88a8, 7), (0x8100, 200)]];
    let mut lab = Lab::new();
    for way in Way::ALL {
        for (family, local) in LOCALS.into_iter().enumerate() {
            let mut flow = Secured::install(&mut lab, way, family, SUITES[0], 0);
            lab.clear_counters(5);
            let mut sequence = 0;
            for before in tags {
                for after in tags {
                    for dscp in [None, Some(46)] {
                        sequence += 1;
                        lab.set_next_hop(3, &next_hop(after));
                        let mut entry = flow.entry;
                        if let Some(dscp) = dscp {
                            entry.dscp = dscp;
                            entry.flags = U16::new(entry.flags.get() | FlowEntry::SET_DSCP);
                        }
                        lab.install(&key(local), &entry).expect("a flow");
                        let plain = packet(sequence, &[8; 160]);
                        let input = Packet {
                            tags: before.to_vec(),
                            dscp: 10,
                            ecn: 1,
                            ..flow.sent(&plain)
                        };
                        let expected = Packet {
                            tags: after.to_vec(),
                            dscp: dscp.unwrap_or(10),
                            ecn: 1,
                            ..flow.relayed(&plain)
                        };
                        let ran = lab.run(&input.octets(), 5);
                        assert_eq!(ran.reason, Reason::Relayed);
                        assert_eq!(ran.verdict, XDP_REDIRECT);
                        assert_eq!(ran.output, expected.octets(), "{before:?} {after:?}");
                        assert_eq!(checksums_are_right(&ran.output), Some(true));
                    }
                }
            }
            for counters in lab.counters(5) {
                assert_eq!(counters.packets, 18);
                assert_eq!(counters.reception.received, 18);
                assert_eq!(counters.reception.lost(), 0);
                assert_eq!(counters.reception.highest_sequence, 18);
                let out = 18 + u32::from(flow.entry.sequence_offset.get());
                assert_eq!(counters.reception.last_sequence, out);
            }
        }
    }
}

/// What comes in without a checksum over IPv4 leaves with one; what comes in with a wrong one in
/// the clear is not made right. SRTP has its tag for that.
#[test]
fn checksums_that_are_missing_or_wrong() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 0);
        let plain = packet(1, &[1; 33]);
        let missing = Packet {
            checksum: false,
            ..flow.sent(&plain)
        };
        let expected = flow.relayed(&plain).octets();
        assert_eq!(
            lab.run(&missing.octets(), 5),
            Ran {
                verdict: XDP_REDIRECT,
                reason: Reason::Relayed,
                output: expected
            }
        );
        let plain = packet(2, &[1; 33]);
        let mut wrong = flow.sent(&plain).octets();
        wrong[40] ^= 1;
        if way.unprotects() {
            let expected = flow.relayed(&plain).octets();
            let ran = lab.run(&wrong, 5);
            assert_eq!((ran.reason, ran.output), (Reason::Relayed, expected));
        } else {
            flow.refuses(&mut lab, &wrong, Reason::BadChecksum);
        }
    }
    let mut flow = Secured::install(&mut lab, Way::Protect, 1, SUITES[0], 0);
    let mut wrong = flow.sent(&packet(3, &[1; 33])).octets();
    wrong[60] ^= 1;
    flow.refuses(&mut lab, &wrong, Reason::BadChecksum);
    flow.relays(&mut lab, &packet(3, &[1; 33]));
}

/// Ethernet's padding behind a short packet goes.
#[test]
fn what_is_behind_the_packet_goes() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 0);
        let plain = packet(1, &[]);
        let mut input = flow.sent(&plain).octets();
        input.extend_from_slice(&[0; 46]);
        let expected = flow.relayed(&plain).octets();
        let ran = lab.run(&input, 5);
        assert_eq!((ran.reason, ran.output), (Reason::Relayed, expected));
    }
}
