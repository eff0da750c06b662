//! Calls in simulated time.

mod agent;
mod bench;
mod conformance;
mod damaged;
mod media_scenarios;
mod random;
mod setup;
