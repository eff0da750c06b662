//! How the addresses of a trunk are asked whether they are in service: `[trunk.options]`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::trunk::Trunk;

/// How the trunk's addresses are asked by OPTIONS whether they are in service. One that is not
/// gets no calls until it answers again; calls that are up stay. Calls find that out too: an INVITE
/// that gets no response at all, whose connection breaks or that earns a 503 takes its address out
/// of service. A Retry-After is kept, for five minutes at most. Without OPTIONS an address that was
/// found so is tried after the others for a minute, and a 503 without Retry-After means nothing.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How often each address is asked, in seconds. 0: never. Left out: 0; `teams`: 60.
    pub interval_seconds: Option<u32>,
    /// How long an answer is waited for, in seconds, and no longer than `interval_seconds`.
    pub timeout_seconds: u32,
    /// The answers that say that an address is out of service. Any other final one, a 403 too,
    /// says that it is in service.
    pub down_codes: Vec<u16>,
    /// For how many seconds after an address was last heard from an OPTIONS without an answer does
    /// not take it out of service. Left out: 0; `teams`: 180.
    pub grace_seconds: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval_seconds: None,
            timeout_seconds: 10,
            down_codes: vec![408, 503, 504],
            grace_seconds: None,
        }
    }
}

/// What Teams asks for, in seconds: no more than one OPTIONS in 60, and at least one in 180.
const TEAMS_INTERVAL: u32 = 60;
const TEAMS_GRACE: u32 = 180;

impl Trunk {
    /// How often each of its addresses is asked by OPTIONS; `None` when none is.
    #[must_use]
    pub fn asks_every(&self) -> Option<Duration> {
        let left_out = if self.sip.is_teams() {
            TEAMS_INTERVAL
        } else {
            0
        };
        let seconds = self.options.interval_seconds.unwrap_or(left_out);
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// How long an answer to OPTIONS is waited for.
    #[must_use]
    pub fn answers_within(&self) -> Duration {
        let patience = Duration::from_secs(self.options.timeout_seconds.into());
        self.asks_every()
            .map_or(patience, |interval| patience.min(interval))
    }

    /// How long after it was last heard from an address is in service without an answer to OPTIONS.
    #[must_use]
    pub fn heard_within(&self) -> Duration {
        let left_out = if self.sip.is_teams() { TEAMS_GRACE } else { 0 };
        Duration::from_secs(self.options.grace_seconds.unwrap_or(left_out).into())
    }

    /// Whether an address may be asked before its turn, as soon as a call has found it out of
    /// service. Teams wants no OPTIONS more often than its interval.
    #[must_use]
    pub fn asks_at_once(&self) -> bool {
        !self.sip.is_teams()
    }
}
