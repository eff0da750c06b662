//! What the engine keeps of one leg as long as the call lasts.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{CryptoRng, Rng};
use relay_user::media::{SrtpKey, SrtpSuite};

use super::{
    codec::{self, Codec, Format},
    crypto::{self, Crypto},
    local::LocalDescription,
    policy::LegPolicy,
};

#[derive(Clone, Debug)]
pub(super) struct LegState {
    pub(super) policy: LegPolicy,
    session_id: u64,
    /// A digest of the description that bears `version`.
    written: u64,
    /// 0 before the first description.
    version: u32,
    /// Descriptions received from the leg.
    pub(super) received: u32,
    /// A digest of the `o=` line of the last description of the leg's that holds; 0 before it.
    pub(super) origin: u64,
    /// What each payload type of our descriptions stands for: never changed within a session
    /// (RFC 3264, section 8.3.2).
    pub(super) bound: Box<[Format]>,
    /// One for each suite that was ever offered or chosen; a refresh must not change them.
    keys: Vec<SrtpKey>,
}

impl LegState {
    pub(super) fn new<R: CryptoRng + ?Sized>(policy: LegPolicy, random: &mut R) -> Self {
        Self {
            policy,
            // Some peers read it as a signed number.
            session_id: random.random::<u64>() >> 2,
            version: 0,
            written: 0,
            bound: Box::default(),
            keys: Vec::new(),
            received: 0,
            origin: 0,
        }
    }

    /// The body of a description; the version goes up when it says something new (RFC 3264,
    /// section 8).
    pub(super) fn write(&mut self, description: &LocalDescription) -> String {
        let body = description.write(self.session_id, u64::from(self.version) + 1);
        let written = self.digest(&body);
        if self.version > 0 && self.written == written {
            return description.write(self.session_id, self.version.into());
        }
        self.written = written;
        self.version = self.version.saturating_add(1);
        let named = |bound: &Format| {
            let mut formats = description.formats.iter();
            formats.any(|format| format.payload_type == bound.payload_type)
        };
        let kept = self.bound.iter().filter(|bound| !named(bound));
        self.bound = kept.chain(&description.formats).cloned().collect();
        body
    }

    /// Of what a body says beside its origin, in which the version stands. A peer
    /// that made two alike would mislead itself alone.
    fn digest(&self, body: &str) -> u64 {
        let said = body.split_once("\r\ns=").map_or(body, |(_, said)| said);
        let mut hasher = DefaultHasher::new();
        (self.session_id, said).hash(&mut hasher);
        hasher.finish()
    }

    /// Our key for a suite on this leg.
    pub(super) fn key<R: CryptoRng + ?Sized>(
        &mut self,
        suite: SrtpSuite,
        random: &mut R,
    ) -> SrtpKey {
        if let Some(key) = self.keys.iter().find(|key| key.suite == suite) {
            return key.clone();
        }
        let key = crypto::generate(suite, random);
        self.keys.push(key.clone());
        key
    }

    /// Our line in the answer to an offer whose line is chosen.
    pub(super) fn crypto<R: CryptoRng + ?Sized>(
        &mut self,
        theirs: &Crypto,
        random: &mut R,
    ) -> Crypto {
        Crypto {
            tag: theirs.tag,
            suite_name: theirs.suite_name.clone(),
            key: self.key(theirs.key.suite, random),
        }
    }

    /// Gives the formats numbers for an offer to this leg: the number that a codec already has
    /// here, else the one that it came with, else its static one, else a free one. `None` when no
    /// number is left.
    pub(super) fn number(&self, formats: &[Format]) -> Vec<Option<u8>> {
        let mut used = [false; 128];
        let mut is_free = |number: u8, codec: &Codec| {
            let bound_to_other = self
                .bound
                .iter()
                .any(|bound| bound.payload_type == number && bound.codec != *codec);
            match used.get_mut(usize::from(number)) {
                Some(taken) if !*taken && !bound_to_other => {
                    *taken = true;
                    true
                }
                _ => false,
            }
        };
        let mut numbers = vec![None; formats.len()];
        // What has a number keeps it, so these come first; the closest match before the rest.
        for exactly in [true, false] {
            for (format, number) in formats.iter().zip(&mut numbers) {
                if number.is_none() {
                    *number = self
                        .bound
                        .iter()
                        .filter(|bound| {
                            bound.codec == format.codec
                                && (!exactly || bound.parameters == format.parameters)
                        })
                        .map(|bound| bound.payload_type)
                        .find(|bound| is_free(*bound, &format.codec));
                }
            }
        }
        for (format, number) in formats.iter().zip(&mut numbers) {
            if number.is_none() {
                let own = codec::static_of(&format.codec);
                let came_with = Some(format.payload_type)
                    .filter(|number| codec::is_dynamic(*number) || own == Some(*number));
                *number = came_with
                    .into_iter()
                    .chain(own)
                    .find(|number| is_free(*number, &format.codec));
            }
        }
        for (format, number) in formats.iter().zip(&mut numbers) {
            if number.is_none() {
                *number = codec::dynamic().find(|number| is_free(*number, &format.codec));
            }
        }
        numbers
    }
}
