//! What happens to calls, for logs.

use std::{fmt, sync::Arc};

use relay_user::media::CallId;

use super::Side;
use crate::sip::Text;

/// One change of a call's state. Its `Display` form is the log line, without the Call-IDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEvent {
    pub call: CallId,
    /// The names of the trunks: the caller's, then the callee's.
    pub trunks: [Arc<str>; 2],
    /// The Call-ID of each leg; the second is `None` while no INVITE has gone out.
    pub call_ids: [Option<Text>; 2],
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An INVITE came and has a route to the second trunk.
    Received { number: Text },
    /// The INVITE went to one of the trunk's addresses.
    Sent { to: String },
    /// An address of the trunk did not serve the call, and the next one is tried.
    Failover { why: Text },
    /// A provisional response other than 100 came from the callee.
    Ringing { status: u16, early_media: bool },
    /// The callee accepted.
    Answered,
    /// A re-INVITE was carried through.
    Renegotiated { by: Side, held: bool },
    /// A re-INVITE failed and the call goes on as it was.
    RenegotiationFailed { by: Side, status: u16 },
    /// A side asked for another peer in its place, who has been invited.
    Transferring { to: String },
    /// Another peer has taken the place of that side.
    Transferred { by: Side },
    /// The transfer failed and the call goes on as it was; `status` is what that side was told.
    TransferFailed { by: Side, status: u16 },
    /// The call never came about; `status` is what the caller was told.
    Rejected { status: u16, why: Text },
    /// The caller gave up.
    Cancelled,
    /// An established call began to end.
    Ending { why: EndReason },
    /// Nothing of the call is left.
    Ended,
}

/// Why an established call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// One side sent BYE.
    Bye(Side),
    /// The side never acknowledged our 2xx.
    NoAck(Side),
    /// The side no longer knows the call, or does not answer.
    Lost(Side),
    /// The side's SDP could not be used where the protocol leaves no way to refuse it.
    Media(Side),
    /// Nobody refreshed the side's session in time (RFC 4028).
    Expired(Side),
    /// The side joined its other party to another call.
    Transferred(Side),
    /// We were asked to end it.
    Local,
}

impl EndReason {
    /// A short name, the same for every call that ends so.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bye(_) => "bye",
            Self::NoAck(_) => "no-ack",
            Self::Lost(_) => "lost",
            Self::Media(_) => "media",
            Self::Expired(_) => "session-expired",
            Self::Transferred(_) => "transferred",
            Self::Local => "local",
        }
    }
}

const fn party(side: Side) -> &'static str {
    match side {
        Side::A => "the caller",
        Side::B => "the callee",
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bye(side) => write!(formatter, "{} hung up", party(side)),
            Self::NoAck(side) => write!(formatter, "{} sent no ACK", party(side)),
            Self::Lost(side) => write!(formatter, "{} no longer answers", party(side)),
            Self::Media(side) => write!(formatter, "the SDP of {} is unusable", party(side)),
            Self::Expired(side) => write!(formatter, "the session of {} expired", party(side)),
            Self::Transferred(side) => {
                write!(formatter, "{} joined it to another call", party(side))
            }
            Self::Local => formatter.write_str("hung up here"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received { number } => write!(formatter, "received for {number}"),
            Self::Sent { to } => write!(formatter, "sent to {to}"),
            Self::Failover { why } => write!(formatter, "trying the next address: {why}"),
            Self::Ringing {
                status,
                early_media: false,
            } => write!(formatter, "ringing ({status})"),
            Self::Ringing {
                status,
                early_media: true,
            } => write!(formatter, "ringing with early media ({status})"),
            Self::Answered => formatter.write_str("answered"),
            Self::Renegotiated { by, held: true } => write!(formatter, "held by {}", party(*by)),
            Self::Renegotiated { by, held: false } => {
                write!(formatter, "renegotiated by {}", party(*by))
            }
            Self::RenegotiationFailed { by, status } => write!(
                formatter,
                "renegotiation by {} failed ({status})",
                party(*by)
            ),
            Self::Transferring { to } => write!(formatter, "transferring, sent to {to}"),
            Self::Transferred { by } => write!(formatter, "transferred by {}", party(*by)),
            Self::TransferFailed { by, status } => {
                write!(formatter, "transfer by {} failed ({status})", party(*by))
            }
            Self::Rejected { status, why } => write!(formatter, "rejected with {status}: {why}"),
            Self::Cancelled => formatter.write_str("cancelled by the caller"),
            Self::Ending { why } => write!(formatter, "ending: {why}"),
            Self::Ended => formatter.write_str("ended"),
        }
    }
}

impl fmt::Display for CallEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = &self.trunks;
        write!(
            formatter,
            "call {} {from} -> {to} {}",
            self.call.0, self.change
        )
    }
}
