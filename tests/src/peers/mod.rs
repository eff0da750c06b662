//! The real peers: SIPp and baresip, and the certificates that TLS wants.

mod baresip;
mod certificates;
mod sipp;

pub use baresip::{Baresip, BaresipConfig, MediaEncryption, SipTransport};
pub use certificates::{Certificates, SBC_NAME, TEAMS_NAME};
pub use sipp::{Scenario, Sipp, SippConfig};
