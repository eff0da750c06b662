//! What the control plane asks of the media plane, in its own words: legs, streams, ports. No map,
//! ring or packet shows through here.

mod description;
mod error;
mod ice;
mod memory;
mod path;
mod planner;
mod ports;
mod relay;
mod snapshot;
mod statistics;
#[cfg(test)]
mod tests;

pub use description::{
    CallMedia, Latching, LegMedia, RemoteMedia, SourcePolicy, SrtpKey, SrtpKeys, SrtpSuite, Stream,
};
pub use error::MediaError;
pub use ice::{IceCredentials, IceMedia};
pub use memory::MemoryMedia;
pub use path::{Path, PathReason};
use planner::is_srtp_offloadable;
pub use planner::{Capabilities, SrtpOffload, plan};
pub use ports::MediaInterface;
pub use relay::{Relay, RelayConfig, StartError};
pub use snapshot::{
    FlowSnapshot, MediaSnapshot, PortUse, Reason, ReasonCounters, SrtpState, Verdict,
};
pub use statistics::{StreamState, StreamStatistics};

use std::net::{IpAddr, SocketAddr};

/// The address families of a media interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// A call, as the control plane numbers it; never used twice in one run of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A reserved pair of local ports: RTP on the even one, RTCP on the next (RFC 3550, section 11).
/// Give it back with [`MediaPlane::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MediaPort {
    pub rtp: SocketAddr,
}

impl MediaPort {
    /// Where RTCP comes in unless both sides multiplex it (RFC 5761).
    #[must_use]
    pub fn rtcp(&self) -> SocketAddr {
        SocketAddr::new(self.rtp.ip(), self.rtp.port() + 1)
    }
}

/// The media plane as the control plane sees it. Calls take microseconds to a millisecond (a few
/// system calls at most) and never wait for a peer.
pub trait MediaPlane: Send {
    /// Reserves a port pair on the named interface.
    ///
    /// # Errors
    /// [`MediaError::PortsExhausted`], [`MediaError::NoAddress`].
    fn reserve(&mut self, interface: &str, family: Family) -> Result<MediaPort, MediaError>;

    /// Reserves a port pair on one address of an interface.
    ///
    /// # Errors
    /// As [`MediaPlane::reserve`].
    fn reserve_at(&mut self, address: IpAddr) -> Result<MediaPort, MediaError>;

    /// Gives a port pair back. Flows on it must have been removed before; an unknown port is
    /// ignored, so that giving back twice does no harm.
    fn release(&mut self, port: MediaPort);

    /// Makes the media of a call what `media` says: the whole of it, new or changed. Streams whose
    /// description did not change keep their learned peer, sequence numbers and ROC.
    ///
    /// # Errors
    /// [`MediaError::Capacity`] when a map is full, [`MediaError::Keys`] for keys that do not fit
    /// their suite, [`MediaError::NotReserved`] for a port that is not the call's to use; then the
    /// call's media is as it was before.
    fn connect(&mut self, call: CallId, media: CallMedia) -> Result<[Path; 2], MediaError>;

    /// Removes a call's flows and wipes its keys. Its ports stay reserved until released.
    fn disconnect(&mut self, call: CallId);

    /// What the two streams of a call have carried: first the one from leg 0 to leg 1, then the
    /// one from leg 1 to leg 0. `None` for a call without media.
    fn statistics(&self, call: CallId) -> Option<[StreamStatistics; 2]>;
}
