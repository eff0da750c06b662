//! What asks for credentials: WWW-Authenticate and Proxy-Authenticate.

use super::{
    Algorithm,
    answer::Protection,
    parameters::{Parameters, quoted},
};

/// A challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub opaque: Option<String>,
    pub algorithm: Algorithm,
    /// Whether it named the algorithm: an answer names what the challenge did.
    pub names_algorithm: bool,
    /// `None`: as RFC 2069 had it.
    pub protection: Option<Protection>,
    /// The credentials were good, the nonce is too old.
    pub stale: bool,
}

impl Challenge {
    /// Reads a header's value. `None` when it is not Digest or wants what is not known here: another
    /// algorithm or another protection.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let parameters = Parameters::parse(value)?;
        let algorithm = parameters.get("algorithm");
        let protection = match parameters.get("qop") {
            None => None,
            // What covers the body is left to those who offer nothing else.
            Some(offered) => {
                let mut known: Vec<_> = offered
                    .split(',')
                    .filter_map(|name| Protection::parse(name.trim()))
                    .collect();
                known.sort_unstable();
                Some(known.first().copied()?)
            }
        };
        Some(Self {
            realm: parameters.get("realm")?.to_owned(),
            nonce: parameters.get("nonce")?.to_owned(),
            opaque: parameters.get("opaque").map(str::to_owned),
            algorithm: algorithm.map_or(Some(Algorithm::Md5), Algorithm::parse)?,
            names_algorithm: algorithm.is_some(),
            protection,
            stale: parameters
                .get("stale")
                .is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The header's value.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "Digest realm={}, nonce={}",
            quoted(&self.realm),
            quoted(&self.nonce)
        );
        if let Some(opaque) = &self.opaque {
            text.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        if self.names_algorithm {
            text.push_str(&format!(", algorithm={}", self.algorithm.name()));
        }
        if let Some(protection) = self.protection {
            text.push_str(&format!(", qop=\"{}\"", protection.name()));
        }
        if self.stale {
            text.push_str(", stale=true");
        }
        text
    }
}
