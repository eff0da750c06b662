//! What a worker is told about a flow.

use std::{net::SocketAddr, sync::Arc};

use ipnet::IpNet;
use relay_abi::flow::{Address, Endpoint, FlowEntry, FlowKey};

use crate::{
    media::{IceMedia, Latching, SrtpKey},
    srtp::Row,
};

/// One direction of a call's media as a worker serves it: what comes in on one leg's ports, RTP and
/// RTCP alike, and goes out of the other leg's.
#[derive(Clone, Debug)]
pub struct SlowFlow {
    /// As the kernel has it or would have it. A worker reads it thus:
    ///
    /// - with [`FlowEntry::PINNED`] and [`FlowEntry::SSRC_KNOWN`] it is the truth about the source;
    ///   without them the worker keeps what it has learned, or learns;
    /// - `ssrc_out` and the offsets are what the first source is translated by; once a source is
    ///   known the worker's own are kept, but for `ssrc_out` when `protect` is another key;
    /// - `to` is where packets go until the other leg's peer is learned;
    /// - [`FlowEntry::UNPROTECT_SECOND`] is the worker's to say, which knows whose SSRC each of the
    ///   row's states is;
    /// - [`FlowEntry::USERSPACE`] and `next_hop` mean nothing to it, and `counters` is what
    ///   [`LastOutput`] is asked for; [`SlowEvent::Source`](super::SlowEvent::Source) has them as
    ///   they were installed.
    pub entry: FlowEntry,
    /// All payload types as (incoming, outgoing), where they are more than the entry holds; empty
    /// otherwise.
    pub payload_types: Vec<(u8, u8)>,
    pub sources: Sources,
    /// The leg's key when it sends SRTP: unprotects its RTP and RTCP.
    pub unprotect: Option<SrtpKey>,
    /// Our key towards the other leg when that is SRTP: protects RTP and RTCP.
    pub protect: Option<SrtpKey>,
    /// The row of `unprotect`, whose indices the kernel takes too; with `None` the worker
    /// counts them alone.
    pub unprotect_row: Option<Arc<Row>>,
    /// The row of `protect`.
    pub protect_row: Option<Arc<Row>>,
    pub rtcp: RtcpRoute,
    /// The flow of the other direction, whose translation RTCP's reports are led back through and
    /// whose learned peer this flow's packets are sent to.
    pub opposite: Option<FlowKey>,
    /// What checks are answered by, when the leg has ICE: then packets are taken only from where a
    /// check came from.
    pub ice: Option<IceMedia>,
}

/// From where a flow's packets may come.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub latching: Latching,
    /// Counts the leg's offers and answers: under [`Latching::RelatchOnReinvite`] a change forgets
    /// the learned peer. Under [`Latching::Strict`] a change of `rtp` does.
    pub negotiation: u32,
    /// What the trunk allows; empty allows every address. The signalled addresses always are.
    pub allowed: Vec<IpNet>,
    /// What the leg's SDP names.
    pub rtp: Option<SocketAddr>,
    pub rtcp: Option<SocketAddr>,
}

/// How the RTCP of a flow goes on to the other leg.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtcpRoute {
    /// The local endpoint to send from: the other leg's RTCP port, or its RTP port when that leg
    /// multiplexes (RFC 5761).
    pub from: Endpoint,
    /// Where the other leg's SDP wants it; unspecified when it does not say. The address that the
    /// other leg's RTCP comes from goes before it.
    pub to: Endpoint,
    /// Whether the other leg multiplexes, so that its learned RTP peer is its RTCP peer too.
    pub multiplexed: bool,
}

/// What the kernel sent last on a flow, for the sequence numbers and timestamps of a source that
/// takes over. Asked rarely, from worker threads.
pub trait LastOutput: Send + Sync {
    /// The counters' reception of the flow entry's `counters` index, from the CPU that saw the
    /// flow last, and when (nanoseconds of the monotonic clock). `None` if the kernel never saw it.
    fn last_output(&self, counters: u32) -> Option<relay_abi::counters::FlowCounters>;
}

/// `address` in the form that maps and flow entries hold it.
#[must_use]
pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: match address.ip() {
            std::net::IpAddr::V4(ip) => Address::v4(ip.octets()),
            std::net::IpAddr::V6(ip) => Address(ip.octets()),
        },
        port: address.port().into(),
    }
}

/// The inverse of [`endpoint`].
#[must_use]
pub fn socket_address(endpoint: &Endpoint) -> SocketAddr {
    let port = endpoint.port.get();
    match endpoint.address.as_v4() {
        Some(octets) => SocketAddr::from((octets, port)),
        None => SocketAddr::from((endpoint.address.0, port)),
    }
}

/// The key of the flow that comes in on `local`'s port.
#[must_use]
pub fn flow_key(local: SocketAddr) -> FlowKey {
    FlowKey {
        local: endpoint(local),
        zero: 0.into(),
    }
}
