//! The far end that says no: Microsoft Teams' side of Direct Routing, as strict as Teams is, and
//! the report of what a session border controller gets past it.
//!
//! It knows what Microsoft documents and nothing of the session border controller it meets. It
//! reads and writes SIP and SDP by code of its own, so that a mistake there is not shared.

mod agent;
mod authority;
mod call;
mod dialog;
mod dns;
mod incoming;
mod link;
mod media;
mod message;
mod names;
mod outgoing;
mod place;
pub mod proxied;
pub mod report;
mod rules;
mod sdp;
mod secret;
pub mod serviced;
mod stun;
mod tls;
mod uri;

#[cfg(test)]
mod strict_tests;
