//! ICE of one leg as its worker sees it (RFC 8445, lite): who has checked from where, and which of
//! those pairs is the peer's.

use std::hash::{DefaultHasher, Hash, Hasher};

use relay_abi::flow::Endpoint;

use super::{Discard, flow::socket_address};
use crate::{
    media::IceMedia,
    stun::{self, Check, Outcome, Refusal, Response},
};

/// Pairs that are remembered of a leg; more than an endpoint's addresses, of a few forks.
const PAIRS: usize = 16;
/// No check is longer.
const LONGEST_CHECK: usize = 1280;

/// A leg's ICE. Made where nothing waits for it: on the worker's pair it allocates nothing.
#[derive(Debug)]
pub(super) struct Ice {
    media: IceMedia,
    fragment: u64,
    pairs: Vec<Pair>,
    answers: Bucket,
    refusals: Bucket,
}

/// An address of the leg that a check came from, and our port: a valid pair (RFC 8445, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    source: Endpoint,
    component: Component,
    /// A digest of the ufrag of who checked.
    fragment: u64,
    priority: u32,
    nominated: bool,
}

/// What a pair is for (RFC 8445, section 4: component).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Component {
    Rtp,
    Rtcp,
}

/// A response, and whether it refuses.
pub(super) struct Answered {
    pub response: Response,
    pub refusal: Option<Refusal>,
}

impl Ice {
    pub(super) fn new(media: IceMedia) -> Self {
        let fragment = digest(media.fragment.as_bytes());
        let mut pairs = Vec::with_capacity(PAIRS);
        pairs.extend(media.known.map(|known| Pair {
            source: super::endpoint(known),
            component: Component::Rtp,
            fragment,
            priority: 0,
            nominated: true,
        }));
        Self {
            media,
            fragment,
            pairs,
            answers: Bucket::new(100, 50),
            refusals: Bucket::new(10, 5),
        }
    }

    /// Whether the peer is whom it was with `earlier`.
    pub(super) fn continues(&self, earlier: &Self) -> bool {
        self.media.continues(&earlier.media)
    }

    /// Takes over what an earlier description of the leg had learned. Forks share our credentials,
    /// so their pairs stay; after a restart all begins anew.
    pub(super) fn inherit(&mut self, earlier: Self) {
        self.answers = earlier.answers;
        self.refusals = earlier.refusals;
        if self.media.own == earlier.media.own {
            self.pairs = earlier.pairs;
        }
        if let Some(chosen) = self.media.chosen {
            let chosen = super::endpoint(chosen);
            let fragment = self.fragment;
            for pair in &mut self.pairs {
                pair.nominated |= pair.component == Component::Rtp
                    && pair.source == chosen
                    && pair.fragment == fragment;
            }
        }
    }

    /// Answers what may be a check.
    ///
    /// # Errors
    /// [`Discard::Stun`] for what asks for no answer, [`Discard::StunRate`].
    pub(super) fn answer(
        &mut self,
        octets: &[u8],
        source: &Endpoint,
        component: Component,
        now: u64,
    ) -> Result<Answered, Discard> {
        if octets.len() > LONGEST_CHECK {
            return Err(Discard::Stun);
        }
        let media = &self.media;
        let password = |fragment: &[u8]| {
            let credentials = [Some(&media.own), media.before.as_ref()];
            let mut known = credentials.into_iter().flatten();
            known
                .find(|known| known.fragment.as_bytes() == fragment)
                .map(|known| known.password.as_bytes())
        };
        let answer = stun::answer(octets, socket_address(source), password);
        let answer = answer.map_err(|_| Discard::Stun)?;
        let (bucket, refusal) = match answer.outcome {
            Outcome::Checked(_) => (&mut self.answers, None),
            Outcome::Refused(refusal) => (&mut self.refusals, Some(refusal)),
        };
        if !bucket.take(now) {
            return Err(Discard::StunRate);
        }
        if let Outcome::Checked(check) = answer.outcome {
            self.note(source, component, &check);
        }
        Ok(Answered {
            response: answer.response,
            refusal,
        })
    }

    /// Notes a pair. One of before a restart is answered, and moves nothing.
    fn note(&mut self, source: &Endpoint, component: Component, check: &Check<'_>) {
        if check.own != self.media.own.fragment.as_bytes() {
            return;
        }
        let fragment = digest(check.fragment);
        let known = self.pairs.iter_mut().find(|pair| {
            pair.source == *source && pair.component == component && pair.fragment == fragment
        });
        if let Some(pair) = known {
            pair.priority = check.priority.unwrap_or(pair.priority);
            pair.nominated |= check.nominates;
            return;
        }
        let pair = Pair {
            source: *source,
            component,
            fragment,
            priority: check.priority.unwrap_or(0),
            nominated: check.nominates,
        };
        if self.pairs.len() < PAIRS {
            self.pairs.push(pair);
            return;
        }
        let wanted = self.fragment;
        let rank = |pair: &Pair| (pair.fragment == wanted, pair.nominated, pair.priority);
        if let Some(least) = self.pairs.iter_mut().min_by_key(|pair| rank(pair))
            && rank(least) < rank(&pair)
        {
            *least = pair;
        }
    }

    /// Whether the leg has checked from there.
    pub(super) fn has_checked(&self, source: &Endpoint, component: Component) -> bool {
        self.ours(component).any(|pair| pair.source == *source)
    }

    /// The pair that is the peer's: of those nominated the one of the highest priority (RFC 8445,
    /// section 8.1.1, and RFC 5245's aggressive nomination).
    pub(super) fn nominated(&self, component: Component) -> Option<Endpoint> {
        highest(self.ours(component).filter(|pair| pair.nominated))
    }

    /// The nominated pair, or before there is one the one of the highest priority.
    pub(super) fn best(&self, component: Component) -> Option<Endpoint> {
        let nominated = self.nominated(component);
        nominated.or_else(|| highest(self.ours(component)))
    }

    /// The pairs of the fork whose SDP holds.
    fn ours(&self, component: Component) -> impl Iterator<Item = &Pair> {
        self.pairs
            .iter()
            .filter(move |pair| pair.component == component && pair.fragment == self.fragment)
    }
}

/// The first of those with the highest priority.
fn highest<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Option<Endpoint> {
    let best = pairs.reduce(|best, pair| match pair.priority > best.priority {
        true => pair,
        false => best,
    });
    best.map(|pair| pair.source)
}

fn digest(fragment: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    fragment.hash(&mut hasher);
    hasher.finish()
}

/// How often something may happen: a burst, then so many a second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    most: u32,
    each: u64,
    refilled: u64,
}

impl Bucket {
    const fn new(most: u32, a_second: u64) -> Self {
        Self {
            left: most,
            most,
            each: 1_000_000_000 / a_second,
            refilled: 0,
        }
    }

    fn take(&mut self, now: u64) -> bool {
        let refills = now.saturating_sub(self.refilled) / self.each;
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(self.most);
            self.left = self.left.saturating_add(refills).min(self.most);
            self.refilled = now;
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}
