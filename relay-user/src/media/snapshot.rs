//! The media plane as operators see it. Nothing here holds a key.

use std::net::SocketAddr;

pub use relay_abi::{
    counters::ReasonCounters,
    verdict::{Reason, Verdict},
};

use super::{CallId, Path, SrtpOffload};
use crate::{offload::InterfaceState, slow::Discard};

/// The media plane at one moment. What counts counts since the start of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaSnapshot {
    /// Each interface with the mode that XDP came to on it, and why.
    pub interfaces: Vec<InterfaceState>,
    /// What the XDP program did, by reason.
    pub kernel: Vec<(Reason, ReasonCounters)>,
    /// What the workers relayed, in packets and octets of UDP payload.
    pub workers_relayed: ReasonCounters,
    /// Checks of ICE that the workers answered well.
    pub workers_answered: ReasonCounters,
    /// What the workers discarded, by reason.
    pub workers_discarded: Vec<(Discard, ReasonCounters)>,
    /// Packets that the kernel dropped because a worker's socket was full.
    pub socket_overflows: u64,
    /// SRTP and SRTCP packets that were refused, by path (`xdp` or `userspace`) and reason.
    pub srtp_failures: Vec<(&'static str, &'static str, u64)>,
    /// What the kernel does with SRTP.
    pub srtp: SrtpState,
    /// RTP packets that sources sent and that did not come (RFC 3550, section A.3).
    pub lost: u64,
    /// Streams that exist now, by path.
    pub streams: Vec<(Path, u64)>,
    /// Entries of the kernel's flow table.
    pub flows: u32,
    /// How many it holds at most.
    pub flow_capacity: u32,
    /// Octets that the kernel's maps take.
    pub map_memory: u64,
    pub next_hops: u32,
    /// Those whose neighbour is not known.
    pub next_hops_unresolved: u32,
    /// Events that found no room on their way to the planner, from the kernel and from the workers.
    pub events_lost: u64,
    /// Port pairs by interface.
    pub ports: Vec<PortUse>,
}

/// What the kernel does with SRTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SrtpState {
    pub offload: SrtpOffload,
    /// Why it is so.
    pub why: String,
    /// Rows in use, one for each key.
    pub streams: u32,
    /// How many there are.
    pub capacity: u32,
}

/// The port pairs of one interface, over all its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUse {
    pub interface: String,
    pub used: u32,
    pub total: u32,
}

/// One flow: what arrives at one local address and port.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSnapshot {
    pub call: CallId,
    /// Our address and port that it arrives at.
    pub local: SocketAddr,
    /// The pinned source.
    pub peer: Option<SocketAddr>,
    /// Where it goes, as far as that is known.
    pub destination: Option<SocketAddr>,
    pub path: Path,
    pub packets_xdp: u64,
    pub packets_userspace: u64,
    pub dropped: u64,
}
