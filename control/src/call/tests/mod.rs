//! Calls in simulated time.

mod bench;
mod conformance;
mod media_scenarios;
mod setup;
