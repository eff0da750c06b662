//! The hash functions (RFC 8760 §2).

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use ring::digest::{Context, SHA256, SHA512_256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A hash function of digest authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    #[serde(rename = "MD5")]
    Md5,
    #[serde(rename = "SHA-256")]
    Sha256,
    #[serde(rename = "SHA-512-256")]
    Sha512,
}

impl Algorithm {
    /// As the parameter `algorithm` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512-256",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// The hash of the parts, a colon between each two, in hexadecimal digits. Wiped when dropped,
    /// since the hash of a password is as good as the password.
    pub(super) fn hash(self, parts: &[&[u8]]) -> Zeroizing<String> {
        match self {
            Self::Md5 => {
                let mut hasher = Md5::new();
                joined(parts, |part| hasher.update(part));
                hexadecimal(&hasher.finalize())
            }
            Self::Sha256 | Self::Sha512 => {
                let mut context = Context::new(if self == Self::Sha256 {
                    &SHA256
                } else {
                    &SHA512_256
                });
                joined(parts, |part| context.update(part));
                hexadecimal(context.finish().as_ref())
            }
        }
    }
}

fn joined(parts: &[&[u8]], mut take: impl FnMut(&[u8])) {
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            take(b":");
        }
        take(part);
    }
}

pub(super) fn hexadecimal(octets: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(octets.len() * 2));
    for octet in octets {
        let _ = write!(text, "{octet:02x}");
    }
    text
}
