//! Calls in simulated time.

mod agent;
mod authentication;
mod bench;
mod bypass;
mod conformance;
mod damaged;
mod ending;
mod failover;
mod forking;
mod health;
mod identity;
mod limits;
mod media_scenarios;
mod numbers;
mod offers;
mod random;
mod registration;
mod reinvite;
mod requests;
mod ringing;
mod selection;
mod session;
mod setup;
mod tenants;
mod torture;
mod transfer;
