use std::{net::SocketAddr, sync::Arc, time::Duration};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use proptest::prelude::*;
use relay_abi::{
    counters::FlowCounters,
    flow::{FlowEntry, FlowKey, PayloadTypePair},
    frame::BufferFrame,
    next_hop::NextHop,
    reception::Reception,
    verdict::{Reason, Verdict},
};

use super::{
    headers::{Hop, LONGEST},
    relaying::{Received, Surroundings},
    served::Prepared,
    shared::FlowShared,
    table::Table,
    *,
};
use crate::{
    media::{Latching, SrtpKey, SrtpSuite},
    offload::{Datapath as _, MemoryDatapath, OffloadConfig, XdpMode},
    srtp::{Inbound, Outbound, TRAILER},
};

/// The peers of both legs, and our ports towards them.
pub(super) const CALLER: &str = "198.51.100.2:30000";
pub(super) const CALLER_RTCP: &str = "198.51.100.2:30001";
pub(super) const OURS_CALLER: &str = "198.51.100.1:20000";
pub(super) const OURS_CALLER_RTCP: &str = "198.51.100.1:20001";
pub(super) const OURS_CALLEE: &str = "203.0.113.1:20002";
pub(super) const OURS_CALLEE_RTCP: &str = "203.0.113.1:20003";
pub(super) const CALLEE: &str = "203.0.113.2:40000";
pub(super) const CALLEE_RTCP: &str = "203.0.113.2:40001";

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(super) fn at(text: &str) -> FlowKey {
    flow_key(address(text))
}

/// The flow from `source`'s leg to `destination`'s, G.711 as payload type 0 and events as 101 to
/// 96, nothing learned.
pub(super) fn flow(
    local: [&str; 2],
    source: [&str; 2],
    from: [&str; 2],
    to: [&str; 2],
) -> SlowFlow {
    let mut payload_types = [PayloadTypePair::default(); 8];
    payload_types[1] = PayloadTypePair {
        incoming: 101,
        outgoing: 96,
    };
    SlowFlow {
        entry: FlowEntry {
            from: endpoint(address(from[0])),
            to: endpoint(address(to[0])),
            ssrc_out: u32::from(address(local[0]).port()).into(),
            timestamp_offset: 1_000.into(),
            sequence_offset: 65_000.into(),
            clock_rate: 8000.into(),
            payload_type_count: 2,
            payload_types,
            ..FlowEntry::default()
        },
        payload_types: Vec::new(),
        sources: Sources {
            rtp: Some(address(source[0])),
            rtcp: Some(address(source[1])),
            ..Sources::default()
        },
        unprotect: None,
        protect: None,
        rtcp: RtcpRoute {
            from: endpoint(address(from[1])),
            to: endpoint(address(to[1])),
            multiplexed: false,
        },
        opposite: Some(at(from[0])),
    }
}

pub(super) fn caller_to_callee() -> SlowFlow {
    flow(
        [OURS_CALLER, OURS_CALLER_RTCP],
        [CALLER, CALLER_RTCP],
        [OURS_CALLEE, OURS_CALLEE_RTCP],
        [CALLEE, CALLEE_RTCP],
    )
}

pub(super) fn callee_to_caller() -> SlowFlow {
    flow(
        [OURS_CALLEE, OURS_CALLEE_RTCP],
        [CALLEE, CALLEE_RTCP],
        [OURS_CALLER, OURS_CALLER_RTCP],
        [CALLER, CALLER_RTCP],
    )
}

pub(super) fn key(suite: SrtpSuite, seed: u8) -> SrtpKey {
    SrtpKey {
        suite,
        master: (0..suite.master_length())
            .map(|octet| octet as u8 ^ seed)
            .collect::<Vec<_>>()
            .into(),
        mki: None,
    }
}

pub(super) fn rtp(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

/// What left, as the next host reads it.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

impl Left {
    fn of(packet: &[u8]) -> Self {
        let parsed = PacketHeaders::from_ip_slice(packet).expect("an IP packet");
        let Some(TransportHeader::Udp(udp)) = &parsed.transport else {
            panic!("UDP")
        };
        let (from, to): (std::net::IpAddr, std::net::IpAddr) = match &parsed.net {
            Some(NetHeaders::Ipv4(ip, _)) => (ip.source.into(), ip.destination.into()),
            Some(NetHeaders::Ipv6(ip, _)) => (ip.source.into(), ip.destination.into()),
            _ => panic!("IP"),
        };
        Self {
            from: SocketAddr::new(from, udp.source_port),
            to: SocketAddr::new(to, udp.destination_port),
            payload: parsed.payload.slice().to_vec(),
        }
    }

    fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.payload[2], self.payload[3]])
    }

    fn timestamp(&self) -> u32 {
        u32::from_be_bytes(self.payload[4..8].try_into().expect("four"))
    }

    fn ssrc(&self) -> u32 {
        u32::from_be_bytes(self.payload[8..12].try_into().expect("four"))
    }
}

/// Two flows in one table.
struct Lab {
    table: Table,
    events: SlowEvents,
    shared: [Arc<FlowShared>; 2],
    now: u64,
    kernel: Option<Arc<dyn LastOutput>>,
}

impl Lab {
    fn new(flows: [SlowFlow; 2]) -> Self {
        let mut lab = Self {
            table: Table::default(),
            events: SlowEvents::new(16),
            shared: Default::default(),
            now: 1_000_000_000_000,
            kernel: None,
        };
        for (index, flow) in flows.into_iter().enumerate() {
            lab.install(index, flow);
        }
        lab
    }

    fn plain() -> Self {
        Self::new([caller_to_callee(), callee_to_caller()])
    }

    fn install(&mut self, index: usize, flow: SlowFlow) {
        let key = at([OURS_CALLER, OURS_CALLEE][index]);
        let [own, other] = [index, 1 - index].map(|index| Arc::clone(&self.shared[index]));
        let prepared = Prepared::new(key, flow, own, Some(other)).expect("keys fit");
        self.table.install(prepared);
    }

    fn send(&mut self, from: &str, to: &str, payload: &[u8]) -> Result<Left, Discard> {
        self.send_with(
            from,
            to,
            payload,
            Hop {
                limit: 64,
                service: 0,
            },
        )
        .map(|packet| Left::of(&packet))
    }

    fn send_with(
        &mut self,
        from: &str,
        to: &str,
        payload: &[u8],
        hop: Hop,
    ) -> Result<Vec<u8>, Discard> {
        let mut buffer = vec![0; LONGEST];
        buffer.extend_from_slice(payload);
        buffer.resize(LONGEST + payload.len() + TRAILER, 0);
        let received = Received {
            source: endpoint(address(from)),
            local: endpoint(address(to)),
            hop,
            now: self.now,
        };
        let around = Surroundings {
            events: &self.events,
            kernel: self.kernel.as_deref(),
        };
        let departure = self.table.relay(
            &received,
            &mut buffer,
            LONGEST..LONGEST + payload.len(),
            around,
        )?;
        Ok(buffer[departure.packet].to_vec())
    }

    fn event(&self) -> Option<SlowEvent> {
        self.events.next(Duration::ZERO)
    }

    fn source(&self) -> FlowEntry {
        match self.event() {
            Some(SlowEvent::Source { entry, .. }) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn elapse(&mut self, milliseconds: u64) {
        self.now += milliseconds * 1_000_000;
    }
}

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

/// A caller in the clear and a callee with SRTP: the flows of both directions.
fn secured(suite: SrtpSuite) -> [SlowFlow; 2] {
    let mut flows = [caller_to_callee(), callee_to_caller()];
    flows[0].protect = Some(key(suite, 1));
    flows[1].unprotect = Some(key(suite, 2));
    flows
}

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

pub(super) fn receiver_report(sender: u32, about: u32, extended: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    packet.extend(sender.to_be_bytes());
    packet.extend(about.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(extended.to_be_bytes());
    packet.extend([0; 12]);
    packet
}

pub(super) fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[at..at + 4].try_into().expect("four"))
}

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

/// The kernel program's function over one flow and one next hop, installed as the kernel's are.
fn datapath(key: &FlowKey, entry: &FlowEntry) -> MemoryDatapath {
    let mut datapath = MemoryDatapath::new(&OffloadConfig {
        mode: XdpMode::Off,
        forced: true,
        interfaces: Vec::new(),
        flows: 1,
        next_hops: 1,
        media_ports: 20_000..=29_999,
        workers: 1,
    });
    let next_hop = NextHop {
        mtu: 1500.into(),
        interface: 1.into(),
        resolved: 1,
        ..NextHop::default()
    };
    datapath.set_next_hop(0, &next_hop).expect("a row");
    datapath.install(key, entry).expect("room");
    datapath
}

fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    other: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(usual), 1 => other]
}

proptest! {
    /// For any packet and any entry of a stream in the kernel: a worker gives the verdict of the
    /// kernel program, the same octets, and the same counters.
    #[test]
    fn a_worker_does_what_the_kernel_program_does(
        ipv6: bool, first in mostly(0x80u8, any::<u8>()),
        second in mostly(0u8, prop_oneof![Just(0x80), Just(101), any::<u8>()]),
        sequence: u16, timestamp: u32, ssrc in mostly(7u32, any::<u32>()),
        rest in proptest::collection::vec(any::<u8>(), 0..400),
        foreign in mostly(false, Just(true)), ttl in mostly(64u8, any::<u8>()), service: u8,
        flags in 0u16..32, dscp in 0u8..64, offsets: (u32, u16, u32), ports: (u16, u16),
        cut in mostly(0usize, 0usize..12),
    ) {
        let mut payload = vec![first, second];
        payload.extend(sequence.to_be_bytes());
        payload.extend(timestamp.to_be_bytes());
        payload.extend(ssrc.to_be_bytes());
        payload.extend(&rest);
        payload.truncate(payload.len() - cut.min(rest.len() + 12));
        let hosts: [[u8; 16]; 4] = [2, 1, 3, 4].map(|last| {
            let mut host = [0x20; 16];
            host[15] = last;
            host
        });
        let host = |index: usize, port: u16| {
            let host = hosts[index];
            if ipv6 {
                SocketAddr::from((host, port))
            } else {
                SocketAddr::from(([10, 0, 0, host[15]], port))
            }
        };
        let (peer, local, from, to) =
            (host(0, ports.0), host(1, 20_000), host(2, 20_002), host(3, ports.1.max(1)));
        // A stream that the planner gave to the worker is out of the comparison.
        let flags = flags & !FlowEntry::USERSPACE | FlowEntry::PINNED | FlowEntry::SSRC_KNOWN;
        let entry = FlowEntry {
            peer: endpoint(peer),
            from: endpoint(from),
            to: endpoint(to),
            flags: flags.into(),
            ssrc_in: 7.into(),
            ssrc_out: offsets.0.into(),
            timestamp_offset: offsets.2.into(),
            sequence_offset: offsets.1.into(),
            clock_rate: 8000.into(),
            dscp,
            ..caller_to_callee().entry
        };
        let source = if foreign { host(3, 9) } else { peer };
        let mut frame = vec![0; 14];
        let builder = if ipv6 {
            PacketBuilder::ipv6(
                match source.ip() { std::net::IpAddr::V6(ip) => ip.octets(), _ => unreachable!() },
                hosts[1], ttl,
            )
        } else {
            PacketBuilder::ipv4(
                match source.ip() { std::net::IpAddr::V4(ip) => ip.octets(), _ => unreachable!() },
                [10, 0, 0, 1], ttl,
            )
        }
        .udp(source.port(), local.port());
        builder.write(&mut frame, &payload).expect("written");
        frame[12..14].copy_from_slice(if ipv6 { &[0x86, 0xdd] } else { &[8, 0] });
        if ipv6 {
            frame[14] = 0x60 | service >> 4;
            frame[15] |= service << 4;
        } else {
            frame[15] = service;
            frame[24..26].fill(0);
            let sum: u32 = frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            // A sum of exactly 0x10000 folds once more; the header's first word makes it unlikely.
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let now = 77_000_000_000;
        let mut kernel = datapath(&flow_key(local), &entry);
        let mut kernel_frame = BufferFrame::new(&mut frame, 0);
        let outcome = kernel.relay(&mut kernel_frame, 1, now);
        let counted = kernel.read(0).expect("counters");

        let shared = Arc::new(FlowShared::default());
        let mut table = Table::default();
        let flow = SlowFlow { entry, ..caller_to_callee() };
        let prepared = Prepared::new(flow_key(local), flow, Arc::clone(&shared), None).expect("no keys");
        table.install(prepared);
        let mut buffer = vec![0; LONGEST];
        buffer.extend_from_slice(&payload);
        buffer.resize(LONGEST + payload.len() + TRAILER, 0);
        let received = Received {
            source: endpoint(source),
            local: endpoint(local),
            hop: Hop { limit: ttl, service },
            now,
        };
        let events = SlowEvents::new(4);
        let around = Surroundings { events: &events, kernel: None };
        let result = table.relay(&received, &mut buffer, LONGEST..LONGEST + payload.len(), around);
        match outcome.reason.verdict() {
            Verdict::Forward => {
                let departure = result.expect("the kernel relays it");
                let frame = kernel_frame.octets();
                prop_assert_eq!(&buffer[departure.packet], &frame[14..]);
                prop_assert_eq!(shared.read().flow, counted);
            }
            Verdict::Drop => {
                prop_assert_eq!(result, Err(outcome.reason.into()));
                prop_assert_eq!(shared.read().flow.dropped, counted.dropped);
            }
            // The worker is whom it is punted to; here are the reasons that it agrees with.
            _ => match outcome.reason {
                Reason::TtlExpired => prop_assert_eq!(result, Err(Discard::TtlExpired)),
                Reason::Stun => prop_assert_eq!(result, Err(Discard::Stun)),
                Reason::Dtls => prop_assert_eq!(result, Err(Discard::Dtls)),
                Reason::NewSsrc => prop_assert!(result.is_ok() || ttl <= 1),
                Reason::Rtcp => {}
                other => prop_assert!(false, "{other:?}"),
            },
        }
    }
}
