//! What is really on the wire: a capture, and SIP and RTP read from it without any of the code
//! under test.

mod capture;
mod plain;
mod rtp;
mod sip;

pub use capture::{Capture, Datagram, Protocol};
pub use plain::{PlainCount, PlainSound};
pub use rtp::{RtpStream, stream_to, streams};
pub use sip::{Sighting, sightings};
