//! Calls in simulated time.

mod bench;
mod media_scenarios;
mod setup;
