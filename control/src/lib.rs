//! Trunkline's control plane: SIP, SDP, calls, routing, metrics, and the edges that join them to
//! the network.

pub mod admin;
pub mod call;
pub mod config;
pub mod daemon;
mod digest;
pub mod metrics;
mod quality;
mod room;
pub mod sdp;
pub mod sip;
mod transport;
