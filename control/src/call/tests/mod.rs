//! Calls in simulated time.

mod bench;
mod conformance;
mod damaged;
mod media_scenarios;
mod setup;
