//! For any packet, any flow entry and any next hop: the program in the kernel and the datapath in
//! memory give the same verdict, the same reason and the same octets, and a frame whose checksums
//! were right leaves with checksums that are right.

use std::cell::RefCell;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use relay_abi::{
    U16, U32,
    flow::{FlowEntry, PayloadTypePair},
    next_hop::{NextHop, VlanTag},
    verdict::{Reason, Verdict},
};

use super::{
    lab::{INGRESS, Lab, endpoint, key},
    packets::{Packet, checksums_are_right, rtp},
};

const PEERS: [[&str; 2]; 2] = [
    ["198.51.100.2:30000", "198.51.100.2:30001"],
    ["[2001:db8:1::2]:30000", "[2001:db8:1::3]:30000"],
];
const LOCALS: [[&str; 3]; 2] = [
    ["198.51.100.1:20000", "198.51.100.1:20001", "198.51.100.1:9"],
    [
        "[2001:db8:1::1]:20000",
        "[2001:db8:1::1]:29999",
        "[2001:db8:1::1]:30000",
    ],
];
const FROM: [&str; 2] = ["203.0.113.1:20002", "[2001:db8:2::1]:20002"];
const TO: [&str; 2] = ["203.0.113.2:40000", "[2001:db8:2::2]:40000"];

/// Mostly `usual`, so that a whole packet has a chance to be relayed.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    other: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![8 => Just(usual), 1 => other]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let structured = (
        mostly(0x80u8, any::<u8>()),
        mostly(
            0u8,
            prop_oneof![Just(101), Just(0x80), Just(200), any::<u8>()],
        ),
        any::<u16>(),
        any::<u32>(),
        mostly(0x1111_2222u32, any::<u32>()),
        prop_oneof![
            vec(any::<u8>(), 0..40),
            vec(0u8..8, 0..40),
            vec(any::<u8>(), 0..1400)
        ],
    )
        .prop_map(|(first, second, sequence, timestamp, ssrc, rest)| {
            rtp(first, second, sequence, timestamp, ssrc, &rest)
        });
    prop_oneof![8 => structured, 1 => vec(any::<u8>(), 0..40)]
}

fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let tag = (select(vec![0x8100u16, 0x88a8]), 0u16..4096);
    vec(tag, 0..=3)
}

fn packet(family: usize) -> impl Strategy<Value = Packet> {
    (
        mostly(PEERS[family][0], Just(PEERS[family][1])),
        mostly(LOCALS[family][0], select(LOCALS[family].to_vec())),
        payload(),
        mostly(Vec::new(), tags()),
        mostly(64u8, prop_oneof![0u8..3, any::<u8>()]),
        (0u8..64, 0u8..4, any::<u16>(), any::<bool>(), 0u32..1 << 20),
        mostly(true, Just(false)),
    )
        .prop_map(|(from, to, payload, tags, hop_limit, header, checksum)| {
            let (dscp, ecn, identification, do_not_fragment, flow_label) = header;
            Packet {
                tags,
                hop_limit,
                dscp,
                ecn,
                identification,
                do_not_fragment,
                flow_label,
                checksum,
                ..Packet::new(from, to, payload)
            }
        })
}

#[derive(Clone, Debug)]
enum Damage {
    Octet(Index, u8),
    /// Options, a fragment, an extension header or another protocol, in a frame without tags.
    Network(usize, u8),
    Bit(Index, u8),
    Cut(Index),
    Longer(Vec<u8>),
    Insert(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Damage::Octet(at, octet)),
        select(vec![
            (14, 0x46),
            (14, 0x4f),
            (20, 0x20),
            (20, 0),
            (20, 43),
            (20, 44),
            (20, 58),
            (21, 1),
            (23, 6),
        ])
        .prop_map(|(at, octet)| Damage::Network(at, octet)),
        (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        any::<Index>().prop_map(Damage::Cut),
        vec(any::<u8>(), 0..20).prop_map(Damage::Longer),
        (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Damage::Insert(at, octet)),
    ]
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        // Most of what decides is in the first hundred octets.
        let reach = frame.len().min(100);
        match self {
            Self::Octet(at, octet) => frame[at.index(reach)] = *octet,
            Self::Network(at, octet) => {
                if let Some(place) = frame.get_mut(*at) {
                    *place = *octet;
                }
            }
            Self::Bit(at, bit) => frame[at.index(reach)] ^= 1 << bit,
            Self::Cut(at) => frame.truncate(at.index(frame.len()).max(14)),
            Self::Longer(tail) => frame.extend_from_slice(tail),
            Self::Insert(at, octet) => frame.insert(at.index(reach), *octet),
        }
    }
}

/// Frames of a test run have at least an Ethernet header.
fn frame(family: usize) -> impl Strategy<Value = Vec<u8>> {
    let damaged = (
        packet(family),
        prop_oneof![2 => vec(damage(), 0), 1 => vec(damage(), 1..4)],
    )
        .prop_map(|(packet, damages)| {
            let mut frame = packet.octets();
            for damage in damages {
                damage.apply(&mut frame);
            }
            frame.resize(frame.len().max(14), 0);
            frame
        });
    prop_oneof![30 => damaged, 1 => vec(any::<u8>(), 14..200)]
}

fn entry(family: usize) -> impl Strategy<Value = FlowEntry> {
    let usual = FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
    let pair = (0u8..128, 0u8..128)
        .prop_map(|(incoming, outgoing)| PayloadTypePair { incoming, outgoing });
    (
        prop_oneof![
            6 => Just(usual),
            3 => Just(usual | FlowEntry::SET_DSCP),
            1 => 0u16..32,
        ],
        any::<(u32, u32, u16)>(),
        0u32..16,
        0u32..64,
        any::<(u32, u32)>(),
        0u8..64,
        mostly(2u8, 0u8..=8),
        vec(pair, 8),
    )
        .prop_map(
            move |(flags, offsets, next_hop, counters, source, dscp, count, pairs)| {
                let (ssrc_out, timestamp, sequence) = offsets;
                let (generation, clock_rate) = source;
                let mut entry = FlowEntry {
                    peer: endpoint(PEERS[family][0]),
                    from: endpoint(FROM[family]),
                    to: endpoint(TO[family]),
                    flags: U16::new(flags),
                    ssrc_in: U32::new(0x1111_2222),
                    ssrc_out: U32::new(ssrc_out),
                    timestamp_offset: U32::new(timestamp),
                    sequence_offset: U16::new(sequence),
                    next_hop: U32::new(next_hop),
                    counters: U32::new(counters),
                    generation: U32::new(generation),
                    clock_rate: U32::new(clock_rate),
                    dscp,
                    payload_type_count: count,
                    ..FlowEntry::default()
                };
                entry.payload_types.copy_from_slice(&pairs);
                entry.payload_types[0].incoming = 0;
                entry
            },
        )
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    (
        select(vec![INGRESS, INGRESS + 1]),
        mostly(0u32, 0u32..3),
        mostly(1500u16, prop_oneof![40u16..300, any::<u16>()]),
        any::<([u8; 6], [u8; 6])>(),
        any::<[(u16, u16); 2]>(),
        prop_oneof![3 => 0u8..3, 1 => any::<u8>()],
        mostly(1u8, any::<u8>()),
    )
        .prop_map(
            |(interface, device, mtu, addresses, tags, tag_count, resolved)| NextHop {
                interface: U32::new(interface),
                device: U32::new(device),
                mtu: U16::new(mtu),
                source: addresses.0,
                destination: addresses.1,
                tags: tags.map(|(protocol, control)| VlanTag {
                    protocol: U16::new(protocol),
                    control: U16::new(control),
                }),
                tag_count,
                resolved,
            },
        )
}

#[test]
fn kernel_and_memory_agree() {
    let cases = 8_000;
    let lab = RefCell::new(Lab::new());
    let seen = RefCell::new(vec![0u32; Reason::ALL.len()]);
    let strategy = (0usize..2)
        .prop_flat_map(|family| (Just(family), frame(family), entry(family), next_hop()));
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&strategy, |(family, frame, entry, next_hop)| {
            let mut lab = lab.borrow_mut();
            let key = key(LOCALS[family][0]);
            lab.install(&key, &entry).expect("an entry that can relay");
            lab.set_next_hop(entry.next_hop.get(), &next_hop);

            let counters = entry.counters.get();
            let [kernel_before, memory_before] = lab.counters(counters);
            let in_kernel = lab.in_kernel(&frame);
            let in_memory = lab.in_memory(&frame);
            prop_assert_eq!(&in_kernel, &in_memory);
            let [kernel, memory] = lab.counters(counters);
            prop_assert_eq!(
                kernel.packets - kernel_before.packets,
                memory.packets - memory_before.packets
            );
            prop_assert_eq!(
                kernel.dropped - kernel_before.dropped,
                memory.dropped - memory_before.dropped
            );
            seen.borrow_mut()[in_kernel.reason as usize] += 1;

            if in_kernel.reason.verdict() != Verdict::Forward {
                prop_assert_eq!(&in_kernel.output, &frame);
            } else if checksums_are_right(&frame) == Some(true)
                && (next_hop.tag_count == 0 || tags_are_tags(&next_hop))
            {
                prop_assert_eq!(checksums_are_right(&in_kernel.output), Some(true));
            }
            lab.remove(&key);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));

    // A generator that never reaches a branch proves nothing about it.
    let seen = seen.into_inner();
    println!("{:?}", Reason::ALL.iter().zip(&seen).collect::<Vec<_>>());
    for reason in Reason::ALL {
        let reached = seen[*reason as usize];
        // No entry changes while the test reads it, and a test run always has room.
        // Those of SRTP and of the workers' rings are reached elsewhere.
        let elsewhere = matches!(
            reason,
            Reason::Changing | Reason::NoRoom | Reason::WorkerBusy
        );
        let possible = !elsewhere && !of_srtp(*reason);
        assert_eq!(reached > 0, possible, "{reason:?} came {reached} times");
    }
    assert!(seen[Reason::Relayed as usize] * 8 > cases, "{seen:?}");
}

/// Whether a flow without SRTP never has it.
fn of_srtp(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SequenceBehind
            | Reason::NoSrtp
            | Reason::SrtpTooLong
            | Reason::KeyChanging
            | Reason::BadChecksum
            | Reason::Authentication
            | Reason::Replay
            | Reason::OldIndex
            | Reason::WrongMki
            | Reason::Repeated
            | Reason::Exhausted
            | Reason::Contended
            | Reason::KeyChanged
    )
}

/// Whether etherparse can read through what the next hop writes.
fn tags_are_tags(next_hop: &NextHop) -> bool {
    next_hop
        .tags
        .iter()
        .take(next_hop.tag_count.into())
        .all(|tag| matches!(tag.protocol.get(), 0x8100 | 0x88a8))
}
