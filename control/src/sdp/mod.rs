//! Session descriptions between two legs: offers and answers by RFC 3264, SRTP keys by RFC 4568.
//!
//! [`Negotiation`] takes what one leg says and gives what to say to the other. It holds no socket,
//! clock or message, and reads SDP through [`sdp_types`].
//!
//! A call with the offer in the INVITE: `offer(Side::A, …)` gives the INVITE's body for B;
//! `answer(Side::B, …)` the body for A, for each 18x or 200 with SDP; `commit()` with the 200.
//! Without one: `offer(Side::B, …)` with B's 200 gives the body of ours, `answer(Side::A, …)` with
//! A's ACK that of our ACK, then `commit()`. A re-INVITE is the same from either side.
//! [`Negotiation::media`] is what to hand to the media plane after each answer, commit and
//! rollback.

mod agreement;
mod codec;
mod crypto;
mod direction;
mod early;
mod error;
mod exchange;
mod ice;
mod leg;
mod local;
mod negotiation;
mod policy;
mod remote;
mod renewal;
#[cfg(test)]
mod tests;

pub use agreement::{NegotiatedLeg, NegotiatedMedia};
pub use codec::Codec;
pub use direction::Direction;
pub use error::SdpError;
pub use negotiation::Negotiation;
pub use policy::{CodecFilter, LegPolicy, Side, SrtpPolicy};
pub use remote::family;
