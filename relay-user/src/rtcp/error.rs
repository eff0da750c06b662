//! The one error of RTCP.

use std::fmt;

/// Why a packet is not RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpError {
    /// Shorter than its lengths or counts say.
    Truncated,
    /// Not version 2.
    Version,
    /// Not a packet type of RTCP (192 to 223).
    Type,
    /// Padding before the end, or more of it than there is packet.
    Padding,
}

impl fmt::Display for RtcpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Truncated => "the packet is shorter than it says",
            Self::Version => "the packet is not of version 2",
            Self::Type => "the packet type is not one of RTCP",
            Self::Padding => "the padding does not fit the packet",
        })
    }
}

impl std::error::Error for RtcpError {}
