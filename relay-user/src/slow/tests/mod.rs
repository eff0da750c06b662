//! Relaying without sockets: two flows in one table, and what leaves as the next host reads it.

mod equality;
mod ice;
mod learning;
mod reports;
mod security;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
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
pub(in crate::slow) const CALLER: &str = "198.51.100.2:30000";
pub(in crate::slow) const CALLER_RTCP: &str = "198.51.100.2:30001";
pub(in crate::slow) const OURS_CALLER: &str = "198.51.100.1:20000";
pub(in crate::slow) const OURS_CALLER_RTCP: &str = "198.51.100.1:20001";
pub(in crate::slow) const OURS_CALLEE: &str = "203.0.113.1:20002";
pub(in crate::slow) const OURS_CALLEE_RTCP: &str = "203.0.113.1:20003";
pub(in crate::slow) const CALLEE: &str = "203.0.113.2:40000";
pub(in crate::slow) const CALLEE_RTCP: &str = "203.0.113.2:40001";

pub(in crate::slow) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(in crate::slow) fn at(text: &str) -> FlowKey {
    flow_key(address(text))
}

/// The flow from `source`'s leg to `destination`'s, G.711 as payload type 0 and events as 101 to
/// 96, nothing learned.
pub(in crate::slow) fn flow(
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
        unprotect_row: None,
        protect_row: None,
        rtcp: RtcpRoute {
            from: endpoint(address(from[1])),
            to: endpoint(address(to[1])),
            multiplexed: false,
        },
        opposite: Some(at(from[0])),
        ice: None,
    }
}

pub(in crate::slow) fn caller_to_callee() -> SlowFlow {
    flow(
        [OURS_CALLER, OURS_CALLER_RTCP],
        [CALLER, CALLER_RTCP],
        [OURS_CALLEE, OURS_CALLEE_RTCP],
        [CALLEE, CALLEE_RTCP],
    )
}

pub(in crate::slow) fn callee_to_caller() -> SlowFlow {
    flow(
        [OURS_CALLEE, OURS_CALLEE_RTCP],
        [CALLEE, CALLEE_RTCP],
        [OURS_CALLER, OURS_CALLER_RTCP],
        [CALLER, CALLER_RTCP],
    )
}

pub(in crate::slow) fn key(suite: SrtpSuite, seed: u8) -> SrtpKey {
    SrtpKey {
        suite,
        master: (0..suite.master_length())
            .map(|octet| octet as u8 ^ seed)
            .collect::<Vec<_>>()
            .into(),
        mki: None,
    }
}

pub(in crate::slow) fn rtp(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
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
        // An answer to a check may be longer than the check.
        buffer.resize(LONGEST + payload.len() + TRAILER.max(128), 0);
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

/// A caller in the clear and a callee with SRTP: the flows of both directions.
fn secured(suite: SrtpSuite) -> [SlowFlow; 2] {
    let mut flows = [caller_to_callee(), callee_to_caller()];
    flows[0].protect = Some(key(suite, 1));
    flows[1].unprotect = Some(key(suite, 2));
    flows
}

pub(in crate::slow) fn receiver_report(sender: u32, about: u32, extended: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    packet.extend(sender.to_be_bytes());
    packet.extend(about.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(extended.to_be_bytes());
    packet.extend([0; 12]);
    packet
}

pub(in crate::slow) fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[at..at + 4].try_into().expect("four"))
}
