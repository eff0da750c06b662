//! The one error of SRTP.

use std::fmt;

/// Why a packet was not protected or unprotected, or a context not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpError {
    /// The authentication tag is wrong: another key, or a changed packet.
    Authentication,
    /// Seen before, or older than the replay window.
    Replay,
    /// Not an RTP or RTCP packet, or one shorter than its headers say.
    Malformed,
    /// The packet's MKI is not the key's.
    Mki,
    /// More SSRCs with one key than a context keeps.
    Sources,
    /// The buffer has no room for what protecting adds.
    NoRoom,
    /// The master key's length does not fit the suite, or the MKI is empty or longer than 128.
    Key,
    /// libsrtp cannot begin at a rollover counter in this suite.
    Rollover,
    /// Whatever else libsrtp refuses: the cipher failed, the key is used up.
    Failed,
}

impl fmt::Display for SrtpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Authentication => "the authentication tag is wrong",
            Self::Replay => "the packet was seen before or is too old to tell",
            Self::Malformed => "the packet is malformed",
            Self::Mki => "the packet's master key identifier is unknown",
            Self::Sources => "the key is used with too many SSRCs",
            Self::NoRoom => "the buffer has no room for the tag",
            Self::Key => {
                "the master key or its identifier has a length that the suite does not take"
            }
            Self::Rollover => "libsrtp cannot begin at a rollover counter in this suite",
            Self::Failed => "libsrtp refuses the packet",
        })
    }
}

impl std::error::Error for SrtpError {}
