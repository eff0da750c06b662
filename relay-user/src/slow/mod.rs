//! The slow path: io_uring workers, one a core, that relay what the kernel program does not.
//!
//! A worker receives every datagram of its share of the media ports on one socket for each address
//! family, relays it by the same functions as the kernel program, and sends it with headers of its
//! own: as a frame to the next hop, or where that is not known through a raw socket. It learns
//! peers and SSRCs, translates RTCP, and protects and unprotects SRTP.

mod buffers;
mod datagram;
mod departures;
mod discard;
mod error;
mod event;
mod flow;
mod headers;
mod ice;
mod mailbox;
mod ports;
mod punted;
mod relaying;
#[cfg(test)]
mod rooted;
mod served;
mod shared;
mod sockets;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod ways;
mod worker;
mod workers;

pub use discard::Discard;
pub use error::SlowError;
pub use event::{SlowEvent, SlowEvents};
pub use flow::{LastOutput, RtcpRoute, SlowFlow, Sources, endpoint, flow_key, socket_address};
pub use shared::SlowCounters;
pub use workers::{STALE, Workers, WorkersConfig, WorkersSnapshot};
