//! For any packet of any flow of SRTP: the programs in the kernel and the datapath in memory give
//! the same verdict, the same reason, the same octets and the same counters.

use std::cell::RefCell;

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use relay_abi::{
    U16,
    flow::FlowEntry,
    next_hop::NextHop,
    verdict::{Reason, Verdict},
};

use super::{
    super::{
        lab::{Lab, key, next_hop},
        packets::{Packet, checksums_are_right, rtp},
    },
    LOCALS, PEERS, SUITES, Secured, Way, sealed,
};
use crate::srtp::Outbound;

#[derive(Clone, Debug)]
enum Content {
    /// As the peer would send it.
    Good,
    /// The packet before once more.
    Again,
    Changed(Index, u8),
    Cut(Index),
    Longer(Vec<u8>),
    Clear,
    Noise(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Step {
    content: Content,
    first: u8,
    second: u8,
    ahead: u16,
    ssrc: u32,
    rest: Vec<u8>,
    hop_limit: u8,
    checksum: bool,
    wrong_checksum: bool,
    tags: Vec<(u16, u16)>,
    hop: NextHop,
    flags: u16,
    generation: u8,
    behind: usize,
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    other: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![24 => Just(usual), 1 => other]
}

fn step() -> impl Strategy<Value = Step> {
    let content = prop_oneof![
        14 => Just(Content::Good),
        3 => Just(Content::Again),
        2 => (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Content::Changed(at, bit)),
        1 => any::<Index>().prop_map(Content::Cut),
        1 => vec(any::<u8>(), 1..20).prop_map(Content::Longer),
        1 => Just(Content::Clear),
        1 => vec(any::<u8>(), 0..200).prop_map(Content::Noise),
    ];
    let tags = || {
        vec(
            (prop_oneof![Just(0x8100u16), Just(0x88a8)], 0u16..4096),
            0..=2,
        )
    };
    let hop = (
        tags(),
        mostly(1500u16, 30u16..400),
        mostly(0u32, 0u32..3),
        mostly(1u8, Just(0)),
    )
        .prop_map(|(tags, mtu, device, resolved)| NextHop {
            mtu: U16::new(mtu),
            device: device.into(),
            resolved,
            ..next_hop(&tags)
        });
    let header = (
        prop_oneof![10 => Just(0x80u8), 3 => 0x80u8..0x84, 2 => 0x80u8..0xc0],
        mostly(
            0u8,
            prop_oneof![Just(101u8), Just(0x80), Just(200), any::<u8>()],
        ),
        prop_oneof![8 => 1u16..3, 2 => Just(0u16.wrapping_sub(5)), 1 => 0u16..1000, 1 => any::<u16>()],
        mostly(0x1111_2222u32, any::<u32>()),
        prop_oneof![
            8 => vec(any::<u8>(), 0..330),
            3 => vec(0u8..4, 0..80),
            1 => vec(any::<u8>(), 480..600),
        ],
    );
    (
        content,
        header,
        (
            mostly(64u8, 0u8..3),
            mostly(true, Just(false)),
            mostly(false, Just(true)),
        ),
        mostly(Vec::new(), tags()),
        hop,
        mostly(
            0u16,
            prop_oneof![Just(FlowEntry::HELD), Just(FlowEntry::USERSPACE)],
        ),
        mostly(0u8, 1u8..3),
        mostly(0usize, 1usize..30),
    )
        .prop_map(
            |(
                content,
                header,
                (hop_limit, checksum, wrong_checksum),
                tags,
                hop,
                flags,
                generation,
                behind,
            )| {
                let (first, second, ahead, ssrc, rest) = header;
                Step {
                    content,
                    first,
                    second,
                    ahead,
                    ssrc,
                    rest,
                    hop_limit,
                    checksum,
                    wrong_checksum,
                    tags,
                    hop,
                    flags,
                    generation,
                    behind,
                }
            },
        )
}

#[test]
fn kernel_and_memory_agree() {
    let lab = RefCell::new(Lab::new());
    let seen = RefCell::new(vec![0u32; Reason::ALL.len()]);
    let strategy = (
        0usize..2,
        0usize..3,
        0usize..2,
        prop_oneof![Just(0usize), Just(4), Just(128)],
        any::<u16>(),
        vec(step(), 20..40),
    );
    let mut runner = TestRunner::new(Config {
        cases: 250,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    runner
        .run(&strategy, |(family, way, suite, mki, start, steps)| {
            let mut lab = lab.borrow_mut();
            let way = Way::ALL[way];
            let flow = Secured::install(&mut lab, way, family, SUITES[suite], mki);
            // A context for each packet: libsrtp would refuse to protect a repeated number.
            let seal = |plain: &[u8], context: &mut Outbound| {
                if way.unprotects() && plain.len() >= 12 && plain[0] >> 6 == 2 {
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        sealed(context, plain)
                    }))
                    .unwrap_or_else(|_| plain.to_vec())
                } else {
                    plain.to_vec()
                }
            };
            let mut sequence = start;
            let mut last: Option<Vec<u8>> = None;
            for step in &steps {
                sequence = sequence.wrapping_add(step.ahead);
                lab.set_next_hop(3, &step.hop);
                let mut entry = flow.entry;
                entry.flags = U16::new(entry.flags.get() | step.flags);
                if step.generation == 1 && way.unprotects() {
                    entry.unprotect = super::row(3, 9);
                }
                if step.generation == 2 && way.protects() {
                    entry.protect = super::row(7, 9);
                }
                lab.install(&key(LOCALS[family]), &entry).expect("a flow");
                let plain = rtp(step.first, step.second, sequence, 5, step.ssrc, &step.rest);
                let fits = relay_abi::rtp::parse_protected(&plain).is_some();
                let good = if fits {
                    let mut context = Outbound::new(&flow.key_in).expect("a key");
                    seal(&plain, &mut context)
                } else {
                    plain.clone()
                };
                let payload = match &step.content {
                    Content::Good => good,
                    Content::Again => last.clone().unwrap_or(good),
                    Content::Changed(at, bit) => {
                        let mut changed = good;
                        let at = at.index(changed.len());
                        changed[at] ^= 1 << bit;
                        changed
                    }
                    Content::Cut(at) => good[..at.index(good.len())].to_vec(),
                    Content::Longer(more) => [&good[..], more].concat(),
                    Content::Clear => plain,
                    Content::Noise(noise) => noise.clone(),
                };
                last = Some(payload.clone());
                let mut frame = Packet {
                    tags: step.tags.clone(),
                    hop_limit: step.hop_limit,
                    checksum: step.checksum || family == 1,
                    ..Packet::new(PEERS[family], LOCALS[family], payload)
                }
                .octets();
                if step.wrong_checksum {
                    let at = 14 + 4 * step.tags.len() + [26, 46][family];
                    frame[at] ^= 0x40;
                }
                frame.extend(std::iter::repeat_n(7, step.behind));

                let before = lab.counters(5);
                let in_kernel = lab.in_kernel(&frame);
                let in_memory = lab.in_memory(&frame);
                prop_assert_eq!(&in_kernel, &in_memory);
                let after = lab.counters(5);
                let moved = |side: usize| {
                    (
                        after[side].packets - before[side].packets,
                        after[side].octets - before[side].octets,
                        after[side].dropped - before[side].dropped,
                    )
                };
                prop_assert_eq!(moved(0), moved(1));
                seen.borrow_mut()[in_kernel.reason as usize] += 1;
                match in_kernel.reason.verdict() {
                    Verdict::Forward => {
                        prop_assert_eq!(checksums_are_right(&in_kernel.output), Some(true));
                    }
                    Verdict::Punt | Verdict::Pass => prop_assert_eq!(&in_kernel.output, &frame),
                    Verdict::Drop => {}
                }
            }
            for row in [3, 7] {
                let highest = lab.highest(row);
                prop_assert_eq!(highest[0], highest[1]);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));

    let seen = seen.into_inner();
    println!("{:?}", Reason::ALL.iter().zip(&seen).collect::<Vec<_>>());
    for reason in [
        Reason::Relayed,
        Reason::BadRtp,
        Reason::SrtpTooLong,
        Reason::KeyChanging,
        Reason::BadChecksum,
        Reason::Authentication,
        Reason::Replay,
        Reason::OldIndex,
        Reason::WrongMki,
        Reason::Repeated,
        Reason::TooLarge,
        Reason::UnresolvedNextHop,
        Reason::TtlExpired,
        Reason::Held,
        Reason::Userspace,
        Reason::PayloadType,
        Reason::NewSsrc,
    ] {
        assert!(seen[reason as usize] > 0, "{reason:?} never came");
    }
    let all: u32 = seen.iter().sum();
    assert!(seen[Reason::Relayed as usize] * 5 > all, "{seen:?}");
}
