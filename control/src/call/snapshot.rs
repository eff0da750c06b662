//! Calls as operators see them.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use relay_user::media::{CallId, StreamStatistics};

use super::model::{Call, Leg};
use crate::sip::Text;

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallState {
    /// The callee's trunk has not yet reacted with more than 100.
    Calling,
    /// A provisional response came.
    Ringing,
    /// Answered.
    Established,
    /// Hung up or given up; the last transactions are being finished.
    Ending,
}

impl CallState {
    /// Every state, in the order in which a call goes through them.
    pub const ALL: [Self; 4] = [
        Self::Calling,
        Self::Ringing,
        Self::Established,
        Self::Ending,
    ];

    /// The name in metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::Ringing => "ringing",
            Self::Established => "established",
            Self::Ending => "ending",
        }
    }
}

/// One call at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CallSnapshot {
    pub id: CallId,
    pub state: CallState,
    /// The number that was called: the user part of the caller's Request-URI.
    pub number: Text,
    /// The caller's number: the user part of From; `None` when there is none.
    pub from: Option<Text>,
    /// The caller's leg, then the callee's.
    pub legs: [LegSnapshot; 2],
    /// The voice codec as SDP names it, such as `PCMU/8000`; `None` before an answer.
    pub codec: Option<String>,
    /// Whether media flows in no direction, or in one only.
    pub held: bool,
    /// When the INVITE came.
    pub started: Instant,
    /// When the callee answered.
    pub answered: Option<Instant>,
    /// From the caller to the callee, then back; `None` before media is connected.
    pub streams: Option<[StreamStatistics; 2]>,
}

/// One leg of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegSnapshot {
    pub trunk: Arc<str>,
    pub call_id: Text,
    /// The peer's signalling address.
    pub remote: SocketAddr,
    /// Our address and port for the leg's RTP.
    pub media: Option<SocketAddr>,
}

pub(super) fn of(call: &Call, streams: Option<[StreamStatistics; 2]>) -> CallSnapshot {
    let leg = |leg: &Leg| LegSnapshot {
        trunk: Arc::clone(&leg.trunk.name),
        call_id: leg.call_id.clone(),
        remote: leg.remote,
        media: leg.port.map(|port| port.rtp),
    };
    let [a, b] = &call.legs;
    let media = call.negotiation.media();
    CallSnapshot {
        id: call.id,
        state: call.state,
        number: call.number.clone(),
        from: call.from.clone(),
        legs: [leg(a), leg(b)],
        codec: media
            .as_ref()
            .map(|media| format!("{}/{}", media.codec.name, media.codec.clock_rate)),
        held: media.is_some_and(|media| media.streams.iter().any(|stream| !stream.active)),
        started: call.started,
        answered: call.answered,
        streams,
    }
}
