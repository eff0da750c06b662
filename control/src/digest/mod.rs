//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760), without input or output: challenges
//! and the answers to them, from both sides.

mod algorithm;
mod answer;
mod challenge;
mod nonce;
mod parameters;

pub use algorithm::Algorithm;
pub use answer::{Answer, Asked, Protection};
pub use challenge::Challenge;
pub use nonce::{Freshness, Nonces};

#[cfg(test)]
mod tests;
