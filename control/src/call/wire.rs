//! Between calls and transactions: every message comes and goes through here.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::{CallId, MediaPlane};

use super::{
    Core, Discard, Output, Side,
    headers::identify,
    model::Acknowledged,
    statistics::Direction,
    trunk::Trunk,
};
use crate::sip::{
    Flow, HeaderName, Headers, Limits, Message, Method, Request, Response, Target, Text,
    TransactionId, TransactionOutput, Via, parse_shared,
};

/// What a transaction of ours is for.
#[derive(Debug)]
pub(super) enum Client {
    /// The INVITE that makes a call.
    Setup {
        call: CallId,
        trunk: Arc<Trunk>,
        /// Forks whose 2xx came too late: their tags, and our ACKs for further copies.
        dismissed: Vec<(Text, Acknowledged)>,
    },
    /// A re-INVITE to a side.
    Reinvite { call: CallId, to: Side, trunk: Arc<Trunk> },
    /// A BYE to a side.
    Bye { call: CallId, to: Side, trunk: Arc<Trunk> },
    /// An INFO of the other side, carried to a side.
    Info {
        call: CallId,
        to: Side,
        trunk: Arc<Trunk>,
        server: TransactionId,
        request: Box<Request>,
        from: Arc<Trunk>,
    },
    /// Nobody waits for the response.
    Nobody { trunk: Arc<Trunk> },
}

impl Client {
    const fn trunk(&self) -> &Arc<Trunk> {
        match self {
            Self::Setup { trunk, .. }
            | Self::Reinvite { trunk, .. }
            | Self::Bye { trunk, .. }
            | Self::Info { trunk, .. }
            | Self::Nobody { trunk } => trunk,
        }
    }
}

/// How a transaction of ours failed without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    Transport,
}

impl Failure {
    /// The status that stands for it (RFC 3261 §8.1.3.1).
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Timeout => 408,
            Self::Transport => 503,
        }
    }
}

/// What makes two requests outside dialogs the same one (RFC 3261 §8.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Merge {
    tag: Text,
    call_id: Text,
    sequence: u32,
}

impl Merge {
    pub(super) fn of(headers: &Headers) -> Option<Self> {
        Some(Self {
            tag: headers.from().ok()?.tag()?,
            call_id: headers.call_id().ok()?,
            sequence: headers.cseq().ok()?.number,
        })
    }
}
