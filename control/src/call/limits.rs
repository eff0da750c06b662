//! How many calls a trunk and a tenant may have.

use std::{
    collections::{BTreeMap, HashMap},
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

/// A place for a peer that is to take over a leg of a call that is up: taken for as long as this
/// is there.
#[derive(Debug)]
pub(super) struct Place {
    _taken: Arc<()>,
}

/// The places that are taken so, by the trunk of the leg and that of the peer.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<(Arc<str>, Arc<str>), Arc<()>>);

impl Places {
    /// For a peer of `to` in the place of one of `from`.
    fn take(&mut self, from: &Arc<str>, to: &Arc<str>) -> Place {
        let key = (Arc::clone(from), Arc::clone(to));
        Place {
            _taken: Arc::clone(self.0.entry(key).or_default()),
        }
    }

    /// Forgets whom nobody takes a place of.
    fn renew(&mut self) {
        self.0.retain(|_, places| count(places) > 0);
    }

    /// How many of the peers come to trunks that `is_of` is true of, and not from one of them:
    /// those only change places.
    fn coming(&self, is_of: impl Fn(&str) -> bool) -> u64 {
        let places = self.0.iter();
        places
            .filter(|((from, to), _)| is_of(to) && !is_of(from))
            .map(|(_, places)| count(places))
            .sum()
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.0.values().map(count).sum()
    }
}

fn count(places: &Arc<()>) -> u64 {
    // One is ours.
    Arc::strong_count(places).saturating_sub(1) as u64
}

/// A limit that a call must keep.
struct Bound<'t> {
    whose: Whose,
    limits: &'t CallLimits,
    /// How many of the call's legs it is for.
    legs: u64,
    /// The trunk that brings it in, for metrics.
    trunk: &'t Trunk,
}

impl<M: MediaPlane> Core<M> {
    /// Whether a number is one that is called in an emergency.
    pub(super) fn is_emergency(&self, number: &str) -> bool {
        let emergency = &self.settings.limits.emergency;
        emergency.iter().any(|pattern| pattern.is_match(number))
    }

    /// Whether legs of these trunks keep their limits and those of their tenants; then the call that
    /// they are of is counted.
    pub(super) fn keep_limits(&mut self, now: Instant, legs: &[&Trunk]) -> Result<(), Refusal> {
        let mut bounds: Vec<Bound<'_>> = Vec::new();
        for trunk in legs {
            let own = Some((Whose::Trunk(Arc::clone(&trunk.name)), &trunk.limits));
            let tenant = trunk
                .tenant_name
                .clone()
                .map(Whose::Tenant)
                .zip(trunk.tenant_limits());
            for (whose, limits) in own.into_iter().chain(tenant) {
                if let Some(bound) = bounds.iter_mut().find(|bound| bound.whose == whose) {
                    bound.legs += 1;
                } else if limits.calls.is_some() || limits.calls_per_second.is_some() {
                    bounds.push(Bound {
                        whose,
                        limits,
                        legs: 1,
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
                .is_some_and(|most| self.calls_of(&bound.whose) + bound.legs > most.into());
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
        let kept = self.keep_limits(now, &[trunk]);
        self.statistics.moved(&left, None, state);
        kept
    }

    /// Takes a place for a peer of a trunk that is to take the place of the one on a side of a call.
    pub(super) fn take_place(&mut self, call: &Call, side: Side, trunk: &Trunk) -> Place {
        self.places.take(&call.leg(side).trunk.name, &trunk.name)
    }

    /// Forgets the rates and places of whoever is no more.
    pub(super) fn renew_limits(&mut self) {
        self.rates.renew(&self.trunks);
        self.places.renew();
    }

    /// Whether there are fewer calls than there may be. A leg whose place another peer has taken is
    /// none.
    pub(super) fn has_room(&self) -> bool {
        self.calls.len() < self.settings.limits.calls as usize + self.departing
    }

    /// Whether another leg may leave its call, beside those that peers who are on their way will
    /// take the place of.
    pub(super) fn may_depart(&self) -> Result<(), Refusal> {
        let departing = self.departing as u64 + self.places.len();
        if departing < self.settings.limits.calls.into() {
            return Ok(());
        }
        Err(Refusal::new(503, "too many legs that were taken over hang up").retry_after(RETRY_FULL))
    }

    /// How many calls are not ending, with those that transfers will make.
    fn calls_of(&self, whose: &Whose) -> u64 {
        let names: Vec<&Arc<str>> = match whose {
            Whose::Trunk(name) => vec![name],
            Whose::Tenant(tenant) => self
                .trunks
                .iter()
                .filter(|trunk| trunk.tenant_name.as_ref() == Some(tenant))
                .map(|trunk| &trunk.name)
                .collect(),
        };
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
        let up: u64 = names.iter().map(|name| of(name)).sum();
        up + self
            .places
            .coming(|trunk| names.iter().any(|name| ***name == *trunk))
    }
}
