//! What a stream has carried.

use std::net::SocketAddr;

use super::Path;

/// Counts of one stream since it began, over both paths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamStatistics {
    pub path: Path,
    pub state: StreamState,
    /// RTP packets relayed by the XDP program.
    pub packets_xdp: u64,
    /// RTP packets relayed by a worker.
    pub packets_userspace: u64,
    /// Octets of UDP payload relayed.
    pub octets: u64,
    /// Packets of this stream dropped, for whatever reason.
    pub dropped: u64,
    /// RTP packets that the source sent and that did not come (RFC 3550, section A.3).
    pub lost: u64,
    /// Interarrival jitter in milliseconds (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// SRTP packets refused: authentication failed, or seen before.
    pub srtp_failures: u64,
    /// Whether so many were refused lately that its sender must have another key, or somebody else
    /// sends: ten a second over five seconds.
    pub srtp_alarm: bool,
    /// The pinned source.
    pub peer: Option<SocketAddr>,
}

impl StreamStatistics {
    /// Of a stream that nothing has come for yet.
    #[must_use]
    pub const fn new(path: Path) -> Self {
        Self {
            path,
            state: StreamState::Waiting,
            packets_xdp: 0,
            packets_userspace: 0,
            octets: 0,
            dropped: 0,
            lost: 0,
            jitter_ms: 0.0,
            srtp_failures: 0,
            srtp_alarm: false,
            peer: None,
        }
    }
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// No packet has pinned the source yet.
    Waiting,
    /// Relayed.
    Flowing,
    /// Hold lets nothing through.
    Held,
}
