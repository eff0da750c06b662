//! How many calls a trunk and a tenant may have.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::MediaPlane;

use super::{CallState, Core, Side, invite::Refusal, model::Call, trunk::Trunk};
use crate::config::CallLimits;

/// Retry-After when there are too many calls at one time, in seconds: long enough for some to end.
pub(super) const RETRY_FULL: u32 = 5;
/// Retry-After when calls come too fast.
const RETRY_FAST: u32 = 1;
const SECOND: Duration = Duration::from_secs(1);

/// Whom a limit is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Trunk(Arc<str>),
    Tenant(Arc<str>),
}

/// When the calls that have begun are worth their time, by whom they are of: no rate is over its
/// limit while that is less than a second ahead.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<Whose, Instant>);

impl Rates {
    /// Forgets whoever is no more.
    pub(super) fn renew(&mut self, trunks: &[Arc<Trunk>]) {
        self.0.retain(|whose, _| {
            trunks.iter().any(|trunk| match whose {
                Whose::Trunk(name) => trunk.name == *name,
                Whose::Tenant(name) => trunk.tenant_name.as_ref() == Some(name),
            })
        });
    }

    /// Whether one more call may begin now.
    fn allows(&self, now: Instant, whose: &Whose, a_second: u32) -> bool {
        let Some(worth) = self.0.get(whose) else {
            return a_second > 0;
        };
        let room = SECOND.saturating_sub(each(a_second));
        a_second > 0 && worth.saturating_duration_since(now) <= room
    }

    /// One more has begun.
    fn count(&mut self, now: Instant, whose: Whose, a_second: u32) {
        let worth = self.0.entry(whose).or_insert(now);
        *worth = (*worth).max(now) + each(a_second);
    }
}

fn each(a_second: u32) -> Duration {
    SECOND / a_second.max(1)
}

/// A limit that a call must keep.
struct Bound<'t> {
    whose: Whose,
    limits: &'t CallLimits,
    /// The trunk that brings it in, for metrics.
    trunk: &'t Trunk,
}

impl<M: MediaPlane> Core<M> {
    /// Whether a number is one that is called in an emergency.
    pub(super) fn is_emergency(&self, number: &str) -> bool {
        let emergency = &self.settings.limits.emergency;
        emergency.iter().any(|pattern| pattern.is_match(number))
    }

    /// Whether one more call from a trunk to another keeps the limits of both and of their tenants;
    /// then it is counted.
    pub(super) fn keep_limits(
        &mut self,
        now: Instant,
        from: &Trunk,
        to: &Trunk,
    ) -> Result<(), Refusal> {
        let mut bounds: Vec<Bound<'_>> = Vec::new();
        for trunk in [from, to] {
            let own = Some((Whose::Trunk(Arc::clone(&trunk.name)), &trunk.limits));
            let tenant = trunk
                .tenant_name
                .clone()
                .map(Whose::Tenant)
                .zip(trunk.tenant_limits());
            for (whose, limits) in own.into_iter().chain(tenant) {
                let has_limit = limits.calls.is_some() || limits.calls_per_second.is_some();
                if has_limit && !bounds.iter().any(|bound| bound.whose == whose) {
                    bounds.push(Bound {
                        whose,
                        limits,
                        trunk,
                    });
                }
            }
        }
        for bound in &bounds {
            let refused = |(reason, why, retry): (&'static str, &'static str, u32)| {
                let code = bound.limits.code.unwrap_or(503);
                let mut refusal = Refusal::new(code, why);
                if matches!(code, 480 | 486 | 503) {
                    refusal = refusal.retry_after(retry);
                }
                (reason, refusal)
            };
            let is_tenant = matches!(bound.whose, Whose::Tenant(_));
            let full = bound
                .limits
                .calls
                .is_some_and(|most| self.calls_of(&bound.whose) >= u64::from(most));
            let fast = bound
                .limits
                .calls_per_second
                .is_some_and(|rate| !self.rates.allows(now, &bound.whose, rate));
            let over = match (full, fast, is_tenant) {
                (true, _, false) => (
                    "trunk-calls",
                    "as many calls as the trunk may have",
                    RETRY_FULL,
                ),
                (true, _, true) => (
                    "tenant-calls",
                    "as many calls as the tenant may have",
                    RETRY_FULL,
                ),
                (_, true, false) => (
                    "trunk-rate",
                    "calls come faster than the trunk may have",
                    RETRY_FAST,
                ),
                (_, true, true) => (
                    "tenant-rate",
                    "calls come faster than the tenant may have",
                    RETRY_FAST,
                ),
                (false, false, _) => continue,
            };
            let (reason, refusal) = refused(over);
            self.statistics.refused(&bound.trunk.name, reason);
            return Err(refusal);
        }
        for bound in bounds {
            if let Some(rate) = bound.limits.calls_per_second {
                self.rates.count(now, bound.whose, rate);
            }
        }
        Ok(())
    }

    /// As [`Core::keep_limits`] of one trunk, for a peer that is to take the place of the one on a
    /// side of a call.
    pub(super) fn keep_limits_instead(
        &mut self,
        now: Instant,
        call: &Call,
        side: Side,
        trunk: &Trunk,
    ) -> Result<(), Refusal> {
        let (left, state) = (Arc::clone(&call.leg(side).trunk.name), Some(call.state));
        self.statistics.moved(&left, state, None);
        let kept = self.keep_limits(now, trunk, trunk);
        self.statistics.moved(&left, None, state);
        kept
    }

    /// How many calls are not ending.
    fn calls_of(&self, whose: &Whose) -> u64 {
        let of = |trunk: &Arc<str>| -> u64 {
            [
                CallState::Calling,
                CallState::Ringing,
                CallState::Established,
            ]
            .into_iter()
            .filter_map(|state| self.statistics.calls.get(&(Arc::clone(trunk), state)))
            .sum()
        };
        match whose {
            Whose::Trunk(name) => of(name),
            Whose::Tenant(name) => self
                .trunks
                .iter()
                .filter(|trunk| trunk.tenant_name.as_ref() == Some(name))
                .map(|trunk| of(&trunk.name))
                .sum(),
        }
    }
}
