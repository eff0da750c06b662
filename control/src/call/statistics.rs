//! Counts for metrics.

use std::{collections::BTreeMap, sync::Arc};

use super::{CallState, EndReason, RegistrationSnapshot};

/// What the core has counted since it began, and the calls that it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreStatistics {
    /// Calls by trunk and state, each counted on both its trunks.
    pub calls: BTreeMap<(Arc<str>, CallState), u64>,
    /// Calls that began, by trunk of the caller and trunk of the callee.
    pub started: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// Calls that were refused here, by trunk and reason: `calls` ([limits] calls), `trunk-calls`,
    /// `trunk-rate`, `tenant-calls`, `tenant-rate`, `unavailable` (no address in service).
    pub refused: BTreeMap<(Arc<str>, &'static str), u64>,
    /// Established calls that ended, by reason ([`EndReason::name`]).
    pub ended: BTreeMap<&'static str, u64>,
    /// Responses by trunk, direction and status code.
    pub responses: BTreeMap<(Arc<str>, Direction, u16), u64>,
    /// Messages that were thrown away.
    pub discards: BTreeMap<Discard, u64>,
    /// Requests of trunks that have to authenticate themselves, by trunk and outcome.
    pub authenticated: BTreeMap<(Arc<str>, Authenticated), u64>,
    /// Our registrations with trunks.
    pub registrations: Vec<RegistrationSnapshot>,
    /// SIP transactions that are not finished.
    pub transactions: usize,
}

/// Which way a response went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the trunk.
    Sent,
    /// From the trunk.
    Received,
}

impl Direction {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// What became of a request that has to bear credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Authenticated {
    /// It had none, and was challenged.
    Challenged,
    /// They are good.
    Accepted,
    /// Another user or password.
    Refused,
    /// The user and the password are good, the nonce was too old or used before.
    Stale,
}

impl Authenticated {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Challenged => "challenged",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Stale => "stale",
        }
    }
}

/// Why a message was not passed on to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discard {
    /// It is not SIP; the fault's short name.
    Malformed(&'static str),
    /// A request from a host that no trunk admits.
    UnknownSource,
    /// A request that names none of the trunks that share its address, answered with 404.
    UnknownTenant,
    /// A response to nothing that we asked, or too late.
    StrayResponse,
    /// An ACK that acknowledges nothing.
    StrayAck,
    /// A CANCEL of nothing that we know, answered with 481.
    StrayCancel,
    /// A request while the table of transactions is full, answered with 503.
    Overload,
}

impl Discard {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed(fault) => fault,
            Self::UnknownSource => "unknown-source",
            Self::UnknownTenant => "unknown-tenant",
            Self::StrayResponse => "stray-response",
            Self::StrayAck => "stray-ack",
            Self::StrayCancel => "stray-cancel",
            Self::Overload => "overload",
        }
    }
}

impl CoreStatistics {
    pub(super) fn discard(&mut self, why: Discard) {
        *self.discards.entry(why).or_default() += 1;
    }

    pub(super) fn response(&mut self, trunk: &Arc<str>, direction: Direction, status: u16) {
        *self
            .responses
            .entry((Arc::clone(trunk), direction, status))
            .or_default() += 1;
    }

    pub(super) fn authenticated(&mut self, trunk: &Arc<str>, outcome: Authenticated) {
        *self
            .authenticated
            .entry((Arc::clone(trunk), outcome))
            .or_default() += 1;
    }

    pub(super) fn started(&mut self, from: &Arc<str>, to: &Arc<str>) {
        *self
            .started
            .entry((Arc::clone(from), Arc::clone(to)))
            .or_default() += 1;
    }

    pub(super) fn refused(&mut self, trunk: &Arc<str>, reason: &'static str) {
        *self.refused.entry((Arc::clone(trunk), reason)).or_default() += 1;
    }

    pub(super) fn ended(&mut self, why: EndReason) {
        *self.ended.entry(why.name()).or_default() += 1;
    }

    /// Moves a call of a trunk from one state to another; `None` is before and after its life.
    pub(super) fn moved(
        &mut self,
        trunk: &Arc<str>,
        from: Option<CallState>,
        to: Option<CallState>,
    ) {
        if let Some(from) = from
            && let Some(count) = self.calls.get_mut(&(Arc::clone(trunk), from))
        {
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.calls.entry((Arc::clone(trunk), to)).or_default() += 1;
        }
    }
}
