//! Calls: dialogs (RFC 3261 §12) and a back-to-back user agent that joins two of them.
//!
//! [`Core`] takes bytes and the time and gives bytes and events; it owns no socket, clock or
//! runtime. A call has two legs: A, whose INVITE came in, and B, to which ours went out. Each is a
//! dialog of its own; nothing of one shows on the other but by the rules in `headers`.

mod acknowledging;
mod attempt;
mod authentication;
mod carrying;
mod cause;
mod core;
mod departing;
mod dialog;
mod early;
mod ending;
mod event;
mod exchange;
mod failover;
mod headers;
mod health;
mod identity;
mod invite;
mod joining;
mod limits;
mod location;
mod media;
mod model;
mod numbers;
mod progress;
mod refreshing;
mod registration;
mod reinvite;
mod reliable;
mod replaces;
mod requests;
mod routing;
mod selection;
mod session;
mod snapshot;
mod statistics;
mod status;
mod tenant;
mod timers;
mod transfer;
mod trunk;
mod wire;

pub use crate::sdp::Side;
pub use core::{Core, Output};
pub use event::{CallEvent, Change, EndReason};
pub use health::{Heard, PeerEvent, PeerSnapshot, PeerState, TrunkSnapshot};
pub use registration::{RegistrationSnapshot, RegistrationState};
pub use snapshot::{CallSnapshot, CallState, LegSnapshot};
pub use statistics::{Authenticated, CoreStatistics, Direction, Discard};

#[cfg(test)]
mod tests;
