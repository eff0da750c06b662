//! Why octets are not a STUN message to be answered.

use std::fmt;

/// What a datagram that is not answered lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunError {
    /// Not a STUN message, or one whose lengths contradict each other (RFC 8489, section 5).
    Malformed,
    /// FINGERPRINT is wrong, or not the last attribute (RFC 8489, section 14.7).
    Fingerprint,
    /// No request for a Binding: a keep-alive indication, or an answer to nobody's question.
    NotRequest,
}

impl fmt::Display for StunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "not a STUN message",
            Self::Fingerprint => "a STUN message with a wrong fingerprint",
            Self::NotRequest => "a STUN message that asks for no answer",
        })
    }
}

impl std::error::Error for StunError {}
