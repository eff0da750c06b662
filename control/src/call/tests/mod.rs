//! Calls in simulated time.

mod bench;
mod setup;
