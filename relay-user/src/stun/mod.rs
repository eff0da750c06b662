//! STUN (RFC 8489) as an ICE-lite agent speaks it (RFC 8445, sections 2.5 and 7.3): it answers
//! connectivity checks and never sends any. Octets in, octets out; nothing is allocated.

mod agent;
mod attribute;
mod builder;
mod error;
mod integrity;
mod message;
#[cfg(test)]
mod tests;

pub use agent::{Answer, Check, Outcome, Refusal, Response, answer};
pub use attribute::Attribute;
pub use builder::Builder;
pub use error::StunError;
pub use message::{Class, Message};

/// The fixed field that tells STUN from what came before it (RFC 8489, section 5).
pub const COOKIE: u32 = 0x2112_a442;
/// Octets of the header.
pub const HEADER: usize = 20;
/// The method of connectivity checks.
pub const BINDING: u16 = 0x001;
