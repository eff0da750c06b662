//! What the transaction layer tells and asks.

use std::fmt;

use bytes::Bytes;

use super::super::{Flow, Request, Response, Target};

/// Names one transaction. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub(super) u64);

impl fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.0)
    }
}

/// What [`TransactionLayer::poll`](super::TransactionLayer::poll) gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once into the queue and once out of it; a box would be an allocation for each"
)]
pub enum TransactionOutput {
    /// Send these octets.
    Transmit { target: Target, bytes: Bytes },
    /// For the transaction's user.
    Event(TransactionEvent),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionEvent {
    /// A request began a server transaction, to be answered with
    /// [`TransactionLayer::respond`](super::TransactionLayer::respond). An INVITE has had its 100
    /// already. `received` and `rport` are in its Via. Never an ACK or a CANCEL.
    Request {
        id: TransactionId,
        flow: Flow,
        request: Request,
    },
    /// An ACK for a 2xx: it belongs to a dialog, not to a transaction.
    Ack { flow: Flow, request: Request },
    /// A CANCEL for the INVITE transaction `invite`, which has no final response yet. The CANCEL
    /// itself has been answered; the INVITE still wants its 487.
    Cancel {
        invite: TransactionId,
        flow: Flow,
        request: Request,
    },
    /// A response to a request of ours. Of an INVITE, every provisional response and every 2xx is
    /// told, the ones sent again too: each 2xx wants its ACK. Other final responses come once, and
    /// of an INVITE have been acknowledged.
    Response {
        id: TransactionId,
        flow: Flow,
        response: Response,
    },
    /// A request of ours got no final response in time: to be taken as a 408.
    Timeout { id: TransactionId },
    /// A final response (not 2xx) of ours to an INVITE got no ACK.
    NoAck { id: TransactionId },
    /// A request of ours could not be sent: to be taken as a 503.
    TransportFailed { id: TransactionId },
    /// The transaction is over and its name means nothing any more. Comes once, last.
    Terminated { id: TransactionId },
}

/// Why the transaction layer did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionError {
    /// The transaction is over, or of the other side's kind.
    Unknown,
    /// The transaction has had its final response.
    Answered,
    /// There are as many transactions as the limit allows.
    Full { limit: usize },
    /// The request lacks From, To, Call-ID or CSeq, or is an ACK or a CANCEL.
    Request,
}

impl fmt::Display for TransactionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("the transaction is over"),
            Self::Answered => formatter.write_str("the transaction has had its final response"),
            Self::Full { limit } => write!(
                formatter,
                "there are {limit} transactions already: raise the limit, or wait"
            ),
            Self::Request => formatter.write_str("the request cannot begin a transaction"),
        }
    }
}

impl std::error::Error for TransactionError {}

/// Messages that the layer did not pass on, by cause, and what it answered alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionCounters {
    /// Requests sent again by the peer and absorbed.
    pub absorbed_requests: u64,
    /// Final responses sent again by the peer and absorbed.
    pub absorbed_responses: u64,
    /// Requests and responses that we sent again.
    pub retransmissions: u64,
    /// Responses that belong to no transaction.
    pub stray_responses: u64,
    /// CANCELs that belong to no transaction, answered with 481.
    pub stray_cancels: u64,
    /// Requests beyond the limit, answered with 503.
    pub overloaded: u64,
}
