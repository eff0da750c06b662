//! Nonces that nothing has to be remembered of until they are used with good credentials: they
//! bear the time, and a code that only we can make.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// Used nonces that are remembered at most. With more, the oldest are no longer taken.
const MOST: usize = 16_384;
/// Octets of the time and of what makes two nonces of one moment differ.
const STAMP: usize = 16;
/// Octets of the code.
const CODE: usize = 16;

/// Whether a nonce may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Good,
    /// Ours, and too old or used before: another one will do.
    Stale,
    /// Not ours, or for somebody else.
    Foreign,
}

/// Makes nonces and knows them again. What it remembers are the counts of those that were used,
/// for as long as they live.
pub struct Nonces {
    key: hmac::Key,
    /// When the times in the nonces begin.
    origin: Option<Instant>,
    /// The last count of each nonce that was used, by its number.
    used: HashMap<u64, u32>,
    /// Those in the order in which they were made: times in milliseconds, and numbers.
    order: BTreeMap<(u64, u64), ()>,
    /// Nonces made up to this time are forgotten, and so stale.
    forgotten: u64,
    /// The longest that any of them may live, in milliseconds.
    longest: u64,
}

impl Nonces {
    /// `key` must come from a secure source.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            origin: None,
            used: HashMap::new(),
            order: BTreeMap::new(),
            forgotten: 0,
            longest: 0,
        }
    }

    /// A new one for whom `whom` names. `number` is a random one.
    pub fn make(&mut self, now: Instant, whom: &str, number: u64) -> String {
        let mut octets = Vec::with_capacity(STAMP + CODE);
        octets.extend(self.milliseconds(now).to_be_bytes());
        octets.extend(number.to_be_bytes());
        let code = self.code(&octets, whom);
        octets.extend(code.as_ref().get(..CODE).unwrap_or_default());
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// Takes a nonce that came with good credentials of `whom`. `count` must rise; one without a
    /// count may be used once.
    pub fn take(
        &mut self,
        now: Instant,
        whom: &str,
        nonce: &str,
        count: Option<u32>,
        life: Duration,
    ) -> Freshness {
        let Some((made, number)) = self.read(nonce, whom) else {
            return Freshness::Foreign;
        };
        let now = self.milliseconds(now);
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        if made > now || now - made > life || made < self.forgotten {
            return Freshness::Stale;
        }
        let count = count.unwrap_or(u32::MAX);
        if count == 0 || self.used.get(&number).is_some_and(|last| count <= *last) {
            return Freshness::Stale;
        }
        if self.used.insert(number, count).is_none() {
            self.order.insert((made, number), ());
        }
        self.longest = self.longest.max(life);
        self.forget(now.saturating_sub(self.longest));
        Freshness::Good
    }

    /// How many are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Forgets what was made before a time, and more when there are too many.
    fn forget(&mut self, before: u64) {
        while let Some(((made, number), ())) = self.order.first_key_value() {
            let (made, number) = (*made, *number);
            let too_many = self.used.len() > MOST;
            if made >= before && !too_many {
                return;
            }
            self.order.pop_first();
            self.used.remove(&number);
            self.forgotten = self.forgotten.max(made + 1);
        }
    }

    /// The time when it was made and its number.
    fn read(&self, nonce: &str, whom: &str) -> Option<(u64, u64)> {
        let octets = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (stamp, code) = octets.split_at_checked(STAMP)?;
        let wanted = self.code(stamp, whom);
        let wanted = wanted.as_ref().get(..CODE)?;
        let differs = wanted
            .iter()
            .zip(code)
            .fold(0, |differs, (one, other)| differs | (one ^ other));
        if code.len() != CODE || differs != 0 {
            return None;
        }
        let (made, number) = stamp.split_at_checked(8)?;
        Some((
            u64::from_be_bytes(made.try_into().ok()?),
            u64::from_be_bytes(number.try_into().ok()?),
        ))
    }

    fn code(&self, stamp: &[u8], whom: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(stamp);
        context.update(whom.as_bytes());
        context.sign()
    }

    fn milliseconds(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        u64::try_from(now.saturating_duration_since(origin).as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Nonces")
            .field("used", &self.used.len())
            .finish_non_exhaustive()
    }
}
