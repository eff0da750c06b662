//! The real peers: SIPp, baresip, Kamailio and ffmpeg, and the certificates that TLS wants.

mod baresip;
mod certificates;
mod ffmpeg;
mod kamailio;
mod sipp;

pub use baresip::{Baresip, BaresipConfig, MediaEncryption, SipTransport};
pub use certificates::{Certificates, SBC_NAME, TEAMS_NAME};
pub use ffmpeg::Ffmpeg;
pub use kamailio::{Kamailio, KamailioConfig, Proofs};
pub use sipp::{CALLED, CALLER, SECURED_KEY, SECURED_PORT, Scenario, Sipp, SippConfig, User};
