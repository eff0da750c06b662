//! What is not relayed, by its reason; and what a punt leaves as it was.

use rand::Rng as _;
use relay_abi::{
    U16, frame::BufferFrame, next_hop::NextHop, srtp::index::IndexState, verdict::Reason,
};

use super::{
    super::{
        lab::{INGRESS, Lab, config, entry, key, next_hop},
        packets::{Packet, rtp},
    },
    FROM, LOCALS, PEERS, SUITES, Secured, TO, Way, counted, packet, random_key, row, sealed,
    write_key,
};
use crate::{
    offload::{Datapath as _, MemoryDatapath, Offload, XdpMode},
    srtp::{Outbound, StreamKey},
};

/// Replays, changed bits, another key and packets in the clear: nothing of it leaves, each is
/// counted, and the good packets between them are relayed.
#[test]
fn attacks() {
    let mut lab = Lab::new();
    for family in 0..2 {
        for way in [Way::Unprotect, Way::Both] {
            let mut flow = Secured::install(&mut lab, way, family, SUITES[0], 4);
            let before = counted(&lab, Reason::Relayed);
            let dropped = lab.counters(5)[0].dropped;
            let mut refused = 0;
            let mut stranger = Outbound::new(&random_key(SUITES[0], 0)).expect("a key");
            for sequence in 1..=150 {
                let plain = packet(sequence, &[3; 50]);
                let good = flow.sent(&plain);
                let mut damaged = good.clone();
                // Behind the header, whose bits have reasons of their own, and before the MKI.
                let bit = rand::rng().random_range(8 * 12..8 * 62);
                damaged.payload[bit / 8] ^= 1 << (bit % 8);
                flow.refuses(&mut lab, &damaged.octets(), Reason::Authentication);
                let mut damaged = good.clone();
                let bit = rand::rng().random_range(8 * 66..8 * damaged.payload.len());
                damaged.payload[bit / 8] ^= 1 << (bit % 8);
                flow.refuses(&mut lab, &damaged.octets(), Reason::Authentication);
                let mut damaged = good.clone();
                damaged.payload[62] ^= 1;
                flow.refuses(&mut lab, &damaged.octets(), Reason::WrongMki);
                let mut foreign = sealed(&mut stranger, &plain);
                let tag = foreign.split_off(62);
                foreign.extend_from_slice(&good.payload[62..66]);
                foreign.extend_from_slice(&tag);
                let foreign = Packet::new(PEERS[family], LOCALS[family], foreign);
                flow.refuses(&mut lab, &foreign.octets(), Reason::Authentication);
                let mut clear = plain.clone();
                clear.extend_from_slice(&good.payload[62..66]);
                clear.extend_from_slice(&[0; 10]);
                let clear = Packet::new(PEERS[family], LOCALS[family], clear);
                flow.refuses(&mut lab, &clear.octets(), Reason::Authentication);
                let short = Packet::new(PEERS[family], LOCALS[family], packet(sequence, &[0; 9]));
                flow.refuses(&mut lab, &short.octets(), Reason::BadRtp);

                let expected = flow.relayed(&plain).octets();
                assert_eq!(lab.run(&good.octets(), 5).output, expected);
                flow.refuses(&mut lab, &good.octets(), Reason::Replay);
                refused += 7;
            }
            assert_eq!(counted(&lab, Reason::Relayed) - before, 150);
            assert_eq!(lab.counters(5)[0].dropped - dropped, refused);
        }
    }
}

/// Lengths that reach past the packet, be it into its tag, and headers that are not the program's:
/// nothing of it takes an index.
#[test]
fn what_does_not_fit_or_is_not_for_the_kernel() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        for (family, udp) in [34, 54].into_iter().enumerate() {
            let mut flow = Secured::install(&mut lab, way, family, SUITES[0], 128);
            let plain = packet(1, &[5; 160]);
            let good = flow.sent(&plain);
            let relayed = flow.relayed(&plain).octets();
            let trailer = good.payload.len() - plain.len();
            let changed = |length: usize, octets: &[(usize, u8)]| {
                let mut packet = good.clone();
                packet.payload.truncate(length);
                for (at, octet) in octets {
                    packet.payload[*at] = *octet;
                }
                packet.octets()
            };
            let whole = good.payload.len();
            for (input, reason) in [
                (changed(0, &[]), Reason::BadRtp),
                (changed(1, &[]), Reason::BadRtp),
                (changed(11, &[]), Reason::BadRtp),
                (changed(trailer + 11, &[]), Reason::BadRtp),
                (changed(trailer + 71, &[(0, 0x8f)]), Reason::BadRtp),
                (changed(trailer + 15, &[(0, 0x90)]), Reason::BadRtp),
                // One word more than there are.
                (
                    changed(whole, &[(0, 0x90), (14, 0), (15, 40)]),
                    Reason::BadRtp,
                ),
                (
                    changed(whole, &[(0, 0x9f), (74, 0xff), (75, 0xff)]),
                    Reason::BadRtp,
                ),
                (changed(whole, &[(0, 0xc0)]), Reason::BadRtp),
                (changed(whole, &[(0, 0x50)]), Reason::BadRtp),
                // What a row has where its packets must not take the short way.
                (changed(whole, &[(0, 0xff), (1, 0x7f)]), Reason::BadRtp),
                (changed(whole, &[(0, 0xff), (1, 0xff)]), Reason::BadRtp),
                (changed(whole, &[(1, 200)]), Reason::Rtcp),
                (changed(whole, &[(0, 1)]), Reason::Stun),
                (changed(whole, &[(0, 22)]), Reason::Dtls),
            ] {
                flow.refuses(&mut lab, &input, reason);
            }
            let frame = |octets: &[(usize, u8)]| {
                let mut frame = good.octets();
                for (at, octet) in octets {
                    frame[*at] = *octet;
                }
                frame
            };
            let [high, low] = (8 + whole as u16 - 1).to_be_bytes();
            let mut inputs = vec![
                (frame(&[(udp + 4, high), (udp + 5, low)]), Reason::NotUdp),
                (frame(&[])[..udp + 8 + whole - 1].to_vec(), Reason::NotUdp),
            ];
            inputs.extend(match family {
                0 => [
                    (frame(&[(14, 0x46)]), Reason::IpOptions),
                    (frame(&[(20, 0x20)]), Reason::Fragment),
                    (frame(&[(21, 1)]), Reason::Fragment),
                ],
                _ => [
                    (frame(&[(20, 0)]), Reason::ExtensionHeader),
                    (frame(&[(20, 44)]), Reason::ExtensionHeader),
                    (frame(&[(udp + 6, 0), (udp + 7, 0)]), Reason::NoChecksum),
                ],
            });
            for (input, reason) in inputs {
                flow.refuses(&mut lab, &input, reason);
            }
            assert_eq!(lab.run(&good.octets(), 5).output, relayed);
        }
    }
}

#[test]
fn packets_that_come_late() {
    let mut lab = Lab::new();
    let mut flow = Secured::install(&mut lab, Way::Unprotect, 0, SUITES[0], 0);
    let packets: Vec<_> = (1..=300u16)
        .map(|sequence| {
            let plain = packet(sequence, &[1; 20]);
            let sent = flow.sent(&plain).octets();
            (sent, flow.relayed(&plain).octets())
        })
        .collect();
    let [last, late, old] = [299, 299 - 127, 299 - 128].map(|index: usize| &packets[index]);
    for (input, expected) in [last, late] {
        assert_eq!(&lab.run(input, 5).output, expected);
    }
    flow.refuses(&mut lab, &old.0, Reason::OldIndex);
    flow.refuses(&mut lab, &late.0, Reason::Replay);
}

/// Of a sequence number one packet is protected: the same keystream never covers two.
#[test]
fn a_sequence_number_is_protected_once() {
    let mut lab = Lab::new();
    let mut flow = Secured::install(&mut lab, Way::Protect, 0, SUITES[1], 0);
    flow.relays(&mut lab, &packet(500, &[1; 20]));
    let again = flow.sent(&packet(500, &[2; 20])).octets();
    flow.refuses(&mut lab, &again, Reason::Repeated);
    // So far behind it may be the first of a source that begins anew, which a worker finds out.
    let old = flow.sent(&packet(500 - 128, &[2; 20])).octets();
    flow.refuses(&mut lab, &old, Reason::SequenceBehind);
    flow.relays(&mut lab, &packet(500 - 127, &[1; 20]));
}

/// At the rollover counter's end a key is used up (RFC 3711, section 9.2): the last packet of it is
/// relayed and none after it, for its keystream would be that of the first ones.
#[test]
fn a_key_that_is_used_up() {
    const LAST: u64 = (1 << 48) - 1;
    for way in Way::ALL {
        let mut lab = Lab::new();
        let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 0);
        let row = if way.unprotects() {
            flow.entry.unprotect
        } else {
            flow.entry.protect
        };
        let offset = match way {
            Way::Protect => flow.entry.sequence_offset.get(),
            _ => 0,
        };
        let at = |sequence: u16| packet(sequence.wrapping_sub(offset), &[1; 20]);
        let last = flow.sent(&at(0xffff)).octets();
        let after = flow.sent(&at(0)).octets();
        for states in lab.streams() {
            let state = states.get(row.row()).expect("a row").index(false);
            state.set(&IndexState::after(LAST - 1));
        }
        if way == Way::Protect {
            assert_eq!(lab.run(&last, 5).reason, Reason::Relayed);
        } else {
            // Of another turn of the peer's.
            flow.refuses(&mut lab, &last, Reason::Authentication);
        }
        flow.refuses(&mut lab, &after, Reason::Exhausted);
        assert_eq!(counted(&lab, Reason::Exhausted), 1);
    }
}

/// What is punted takes no index: the same packet is relayed when the obstacle is gone.
#[test]
fn a_punt_takes_no_index() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        for family in 0..2 {
            let mut flow = Secured::install(&mut lab, way, family, SUITES[0], 4);
            let plain = packet(1, &[5; 160]);
            let sent = flow.sent(&plain);
            let input = sent.octets();
            let relayed = flow.relayed(&plain);
            let octets = |packet: &Packet| packet.payload.len() + [28, 48][family];
            let hop = next_hop(&[]);
            let mtu = |mtu: usize| NextHop {
                mtu: U16::new(mtu as u16),
                ..hop
            };
            for (obstacle, reason) in [
                (mtu(octets(&relayed) - 1), Reason::TooLarge),
                (NextHop { resolved: 0, ..hop }, Reason::UnresolvedNextHop),
                (
                    NextHop {
                        device: 1.into(),
                        ..hop
                    },
                    Reason::UnresolvedNextHop,
                ),
            ] {
                lab.set_next_hop(3, &obstacle);
                flow.refuses(&mut lab, &input, reason);
            }
            lab.set_next_hop(3, &mtu(octets(&relayed)));
            let expired = Packet {
                hop_limit: 1,
                ..sent.clone()
            };
            flow.refuses(&mut lab, &expired.octets(), Reason::TtlExpired);
            let foreign = Packet {
                from: FROM[family].parse().expect("an address"),
                ..sent.clone()
            };
            flow.refuses(&mut lab, &foreign.octets(), Reason::ForeignSource);
            assert_eq!(lab.run(&input, 5).output, relayed.octets());
        }
    }
}

#[test]
fn a_new_ssrc_and_a_foreign_payload_type_cost_no_cryptography() {
    let mut lab = Lab::new();
    let flow = Secured::install(&mut lab, Way::Unprotect, 0, SUITES[0], 0);
    let frame = |payload_type, ssrc| {
        let payload = rtp(0x80, payload_type, 1, 1, ssrc, &[0; 60]);
        Packet::new(PEERS[0], LOCALS[0], payload).octets()
    };
    flow.refuses(&mut lab, &frame(0, 0x9999_9999), Reason::NewSsrc);
    flow.refuses(&mut lab, &frame(77, 0x1111_2222), Reason::PayloadType);
}

/// A row that was wiped or given to another is not the flow's any more.
#[test]
fn another_generation_of_a_row() {
    let mut lab = Lab::new();
    for way in Way::ALL {
        let mut flow = Secured::install(&mut lab, way, 0, SUITES[0], 0);
        let used = [flow.entry.unprotect, flow.entry.protect];
        flow.relays(&mut lab, &packet(1, &[1; 160]));
        let input = flow.sent(&packet(2, &[1; 160])).octets();
        let used = used[usize::from(!way.unprotects())];
        lab.wipe_key(used);
        flow.refuses(&mut lab, &input, Reason::KeyChanging);
        let next = row(used.row(), used.generation() + 1);
        let same_key = match way.unprotects() {
            true => flow.key_in.clone(),
            false => flow.key_out.clone(),
        };
        write_key(&mut lab, next, &same_key);
        flow.refuses(&mut lab, &input, Reason::KeyChanging);
        // A wipe by the earlier generation is not the row's.
        lab.wipe_key(used);
        let mut entry = flow.entry;
        if way.unprotects() {
            entry.unprotect = next;
        } else {
            entry.protect = next;
        }
        lab.install(&key(LOCALS[0]), &entry).expect("a flow");
        let expected = flow.relayed(&packet(2, &[1; 160])).octets();
        assert_eq!(lab.run(&input, 5).output, expected);
    }
}

#[test]
fn a_wiped_key_is_gone_from_the_kernel() {
    let mut lab = Lab::new();
    let flow = Secured::install(&mut lab, Way::Both, 0, SUITES[0], 16);
    assert!(lab.key_octets(3).iter().any(|octet| *octet != 0));
    lab.wipe_key(flow.entry.unprotect);
    assert!(lab.key_octets(3).iter().all(|octet| *octet == 0));
    assert!(lab.key_octets(7).iter().any(|octet| *octet != 0));
}

#[test]
fn a_flow_of_no_row_is_refused() {
    let mut lab = Lab::new();
    let flow = Secured::install(&mut lab, Way::Both, 0, SUITES[0], 0);
    for wrong in [Default::default(), row(16, 1)] {
        let mut entry = flow.entry;
        entry.unprotect = wrong;
        assert!(lab.install(&key(LOCALS[0]), &entry).is_err());
    }
    let prepared = StreamKey::new(&flow.key_in).expect("a key");
    assert!(lab.kernel.write_key(row(16, 1), &prepared).is_err());
    assert!(lab.memory.write_key(row(16, 1), &prepared).is_err());
}

/// A frame that cannot grow is punted as it came. A test run always has room, so in memory alone.
#[test]
fn a_frame_without_room() {
    let mut lab = Lab::new();
    let mut flow = Secured::install(&mut lab, Way::Protect, 0, SUITES[0], 0);
    let input = flow.sent(&packet(1, &[1; 160])).octets();
    for (hop, head, tail) in [(next_hop(&[]), 64, 9), (next_hop(&[(0x8100, 1)]), 3, 10)] {
        lab.memory.set_next_hop(3, &hop).expect("written");
        let mut buffer = [vec![0; head], input.clone(), vec![0; tail]].concat();
        let mut frame = BufferFrame::between(&mut buffer, head, head + input.len());
        let outcome = lab.memory.relay(&mut frame, INGRESS, 1);
        assert_eq!(outcome.reason, Reason::NoRoom);
        assert_eq!(frame.octets(), input);
    }
    lab.set_next_hop(3, &next_hop(&[]));
    let expected = flow.relayed(&packet(1, &[1; 160])).octets();
    assert_eq!(lab.run(&input, 5).output, expected);
}

/// Where the kernel refuses the programs for SRTP, the relay still loads, says why, and punts such
/// flows.
#[test]
fn without_the_programs_for_srtp() {
    let config = config(&[], XdpMode::Native);
    let mut lab = Lab::of(Offload::load_without_srtp(&config), &config);
    let why = lab.kernel.srtp().expect_err("withheld");
    assert!(why.contains("5.18"), "{why}");
    assert!(lab.steps().iter().any(|step| step.contains(&why)));
    lab.refuse_srtp(&why);
    let mut flow = Secured::install(&mut lab, Way::Both, 0, SUITES[0], 0);
    let input = flow.sent(&packet(1, &[1; 160])).octets();
    flow.refuses(&mut lab, &input, Reason::NoSrtp);
    let plain = entry(PEERS[0], FROM[0], TO[0]);
    lab.install(&key(LOCALS[0]), &plain).expect("a flow");
    let input = Packet::new(PEERS[0], LOCALS[0], packet(1, &[1; 160])).octets();
    assert_eq!(lab.run(&input, 5).reason, Reason::Relayed);
}

#[test]
fn without_rows_srtp_is_off() {
    let config = crate::offload::OffloadConfig {
        srtp_streams: 0,
        ..config(&[], XdpMode::Native)
    };
    let mut offload = Offload::load(&config);
    let datapath = offload.take_datapath().expect("loaded");
    let off = Err("off in the configuration".to_owned());
    assert_eq!(datapath.srtp(), off);
    assert_eq!(MemoryDatapath::new(&config).srtp(), off);
}
