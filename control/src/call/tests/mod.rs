//! Calls in simulated time.

mod agent;
mod bench;
mod conformance;
mod damaged;
mod ending;
mod media_scenarios;
mod offers;
mod random;
mod reinvite;
mod requests;
mod setup;
mod transfer;
