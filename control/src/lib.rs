//! Trunkline's control plane: SIP, SDP, calls, routing, metrics, and the edges that join them to
//! the network.

pub mod admin;
pub mod call;
pub mod config;
pub mod daemon;
pub mod digest;
pub mod metrics;
pub mod quality;
mod room;
pub mod sdp;
pub mod sip;
pub mod transport;
