//! What to load, and what came of it.

use std::{fmt, ops::RangeInclusive};

/// How the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum XdpMode {
    /// Not at all: every stream takes the slow path.
    Off,
    /// In the network stack, after the driver has made a socket buffer.
    Generic,
    /// In the driver.
    Native,
}

impl XdpMode {
    /// The name in the configuration, the metrics and the logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Generic => "generic",
            Self::Native => "native",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What to load and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffloadConfig {
    /// The best mode to try; native falls back to generic, and generic to none.
    pub mode: XdpMode,
    /// Take `mode` or none: no fallback to another.
    pub forced: bool,
    /// The interfaces to attach to, by name.
    pub interfaces: Vec<String>,
    /// How many flows the kernel's tables hold: two for each call.
    pub flows: u32,
    /// How many next hops their table holds.
    pub next_hops: u32,
    /// How many protected streams the kernel's tables hold: two for each leg of SRTP. 0 leaves all
    /// SRTP to userspace.
    pub srtp_streams: u32,
    /// The local ports of media, RTP and RTCP.
    pub media_ports: RangeInclusive<u16>,
    /// How many workers share the media ports; 0 steers nothing.
    pub workers: u16,
}

/// How many devices frames can leave by.
pub(crate) const DEVICES: u32 = 64;

/// The ring of the events: room for some five thousand, should all flows drop at once.
pub(crate) const EVENT_OCTETS: u32 = 256 * 1024;

/// The rings of all workers together: room for some 7,400 packets of 20 ms of G.711.
const RINGS_OCTETS: u32 = 2 * 1024 * 1024;

/// What each ring has at least, of however many.
const LEAST_RING_OCTETS: u32 = 256 * 1024;

/// The ring of each of so many workers, which share what there is to do as they share the room for
/// it: a power of two, as the kernel wants it.
pub(crate) fn ring_octets(workers: u32) -> u32 {
    let sharers = workers.clamp(1, RINGS_OCTETS / LEAST_RING_OCTETS);
    RINGS_OCTETS / sharers.next_power_of_two()
}

/// What came of attaching to one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceState {
    pub name: String,
    /// The kernel's index, `None` when there is no such interface.
    pub index: Option<u32>,
    /// The mode that it came to.
    pub mode: XdpMode,
    /// Why this one: what was refused on the way, or that nothing was.
    pub why: String,
}
