//! Why a description was not taken.

use std::fmt;

use relay_user::media::Family;

/// The one error of the SDP engine. [`SdpError::status`] is the SIP response that it deserves in an
/// offer, [`SdpError::answer_status`] what the other side is told of it in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdpError {
    /// The body is not SDP; the text says what and on which line.
    Malformed(String),
    /// More than the engine takes: octets, media lines or payload types.
    TooLarge { what: &'static str, limit: usize },
    /// No audio line, or only ones with port 0.
    NoAudio,
    /// The other side refused the audio line that was offered (port 0).
    StreamRefused,
    /// A transport other than RTP/AVP, RTP/SAVP and their feedback forms.
    Transport(String),
    /// A connection address that is not one unicast IP address.
    Address(String),
    /// A connection address of another family than our media address on the leg, which is of this one.
    Family(Family),
    /// Nothing that both trunks allow and the answerer takes.
    NoSharedCodec,
    /// The trunk asks for SRTP and the description has none.
    SrtpRequired,
    /// The description asks for SRTP and the trunk has it off.
    SrtpNotAllowed,
    /// SRTP, but no `a=crypto` that can be used.
    SrtpUnusable,
    /// An offer that changes what may not change before the call is answered.
    Unchangeable(&'static str),
    /// An offer while another one is unanswered (RFC 3261, section 14.1).
    OfferPending,
    /// An answer without an offer to that side, or an exchange ended without one.
    NotPending,
}

impl SdpError {
    /// The final response to the request that carried or caused it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooLarge { .. } => 413,
            Self::OfferPending => 491,
            Self::NotPending => 500,
            Self::NoAudio
            | Self::StreamRefused
            | Self::Transport(_)
            | Self::Address(_)
            | Self::Family(_)
            | Self::NoSharedCodec
            | Self::SrtpRequired
            | Self::SrtpNotAllowed
            | Self::SrtpUnusable
            | Self::Unchangeable(_) => 488,
        }
    }

    /// The final response to the side that offered when the other side's answer is at fault: the
    /// request itself was not bad.
    #[must_use]
    pub const fn answer_status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::TooLarge { .. } => 502,
            _ => self.status(),
        }
    }

    /// The code of a Warning header beside a 488 (RFC 3261, section 20.43).
    #[must_use]
    pub const fn warning(&self) -> Option<u16> {
        match self {
            Self::Family(_) => Some(300),
            Self::Address(_) => Some(301),
            Self::Transport(_) | Self::SrtpRequired | Self::SrtpNotAllowed => Some(302),
            Self::NoAudio | Self::StreamRefused => Some(304),
            Self::NoSharedCodec => Some(305),
            Self::SrtpUnusable => Some(306),
            Self::Unchangeable(_) => Some(399),
            Self::Malformed(_) | Self::TooLarge { .. } | Self::OfferPending | Self::NotPending => {
                None
            }
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(formatter, "the body is not valid SDP: {what}"),
            Self::TooLarge { what, limit } => {
                write!(formatter, "the SDP has more than {limit} {what}")
            }
            Self::NoAudio => formatter.write_str("the SDP has no audio stream in use"),
            Self::StreamRefused => formatter.write_str("the other side refused the audio stream"),
            Self::Transport(name) => write!(
                formatter,
                "the transport {name} is not served: RTP/AVP and RTP/SAVP are"
            ),
            Self::Address(address) => write!(
                formatter,
                "the connection address {address} is not a unicast IP address"
            ),
            Self::Family(family) => write!(
                formatter,
                "the connection address is of another family than the media address of the leg, which is {}",
                match family {
                    Family::V4 => "IPv4",
                    Family::V6 => "IPv6",
                }
            ),
            Self::NoSharedCodec => formatter.write_str(
                "no codec is left that both sides and the codec lists of both trunks share",
            ),
            Self::SrtpRequired => {
                formatter.write_str("the trunk requires SRTP and the SDP offers or answers without")
            }
            Self::SrtpNotAllowed => {
                formatter.write_str("the SDP asks for SRTP, and srtp is off for the trunk")
            }
            Self::SrtpUnusable => {
                formatter.write_str("the SDP has no a=crypto with a suite and key that can be used")
            }
            Self::Unchangeable(what) => {
                write!(
                    formatter,
                    "before the call is answered an offer cannot change {what}"
                )
            }
            Self::OfferPending => formatter.write_str("another offer is still unanswered"),
            Self::NotPending => formatter.write_str("no offer to that side waits for an answer"),
        }
    }
}

impl std::error::Error for SdpError {}
