//! What can be wrong with a SIP message.

use std::fmt;

use super::HeaderName;

/// Why a message, or a part of one, was not understood. [`SipError::status`] is the answer that
/// a request with this fault earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SipError {
    /// The first line is neither a request line nor a status line.
    StartLine,
    /// The protocol version is not SIP/2.0.
    Version,
    /// The Request-URI, or another URI, breaks the grammar.
    Uri,
    /// The Request-URI is longer than the limit, in octets.
    UriTooLong { limit: usize },
    /// A line is not `name: value`, or a CR or LF stands alone.
    HeaderLine,
    /// A header field, folds included, is longer than the limit, in octets.
    HeaderTooLong { limit: usize },
    /// There are more header fields than the limit.
    TooManyHeaders { limit: usize },
    /// The message is longer than the limit, in octets.
    MessageTooLarge { limit: usize },
    /// The body is longer than the limit, in octets.
    BodyTooLarge { limit: usize },
    /// No empty line ends the header fields.
    Unfinished,
    /// Content-Length asks for more than there is.
    BodyTruncated,
    /// A header field that the message needs is not there.
    Missing(HeaderName),
    /// A header field that may stand once stands there twice.
    Repeated(HeaderName),
    /// A header field's value breaks its grammar.
    Malformed(HeaderName),
    /// The method in CSeq is not the request's.
    MethodMismatch,
    /// Over a stream, a message without Content-Length has no end (RFC 3261 §18.3).
    LengthRequired,
}

impl SipError {
    /// The status code of the response.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::UriTooLong { .. } => 414,
            Self::BodyTooLarge { .. } => 413,
            Self::MessageTooLarge { .. } => 513,
            _ => 400,
        }
    }

    /// A short name, the same for every message with this fault: for counting discards.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StartLine => "start-line",
            Self::Version => "version",
            Self::Uri => "uri",
            Self::UriTooLong { .. } => "uri-too-long",
            Self::HeaderLine => "header-line",
            Self::HeaderTooLong { .. } => "header-too-long",
            Self::TooManyHeaders { .. } => "too-many-headers",
            Self::MessageTooLarge { .. } => "message-too-large",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::Unfinished => "unfinished",
            Self::BodyTruncated => "body-truncated",
            Self::Missing(_) => "header-missing",
            Self::Repeated(_) => "header-repeated",
            Self::Malformed(_) => "header-malformed",
            Self::MethodMismatch => "method-mismatch",
            Self::LengthRequired => "length-required",
        }
    }
}

impl fmt::Display for SipError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartLine => formatter.write_str("the first line is no SIP start line"),
            Self::Version => formatter.write_str("the version is not SIP/2.0"),
            Self::Uri => formatter.write_str("a URI is malformed"),
            Self::UriTooLong { limit } => {
                write!(formatter, "the Request-URI is longer than {limit} octets")
            }
            Self::HeaderLine => formatter.write_str("a line is not a header field"),
            Self::HeaderTooLong { limit } => {
                write!(formatter, "a header field is longer than {limit} octets")
            }
            Self::TooManyHeaders { limit } => {
                write!(formatter, "there are more than {limit} header fields")
            }
            Self::MessageTooLarge { limit } => {
                write!(formatter, "the message is longer than {limit} octets")
            }
            Self::BodyTooLarge { limit } => {
                write!(formatter, "the body is longer than {limit} octets")
            }
            Self::Unfinished => formatter.write_str("no empty line ends the header fields"),
            Self::BodyTruncated => formatter.write_str("the body is shorter than Content-Length"),
            Self::Missing(name) => write!(formatter, "{name} is missing"),
            Self::Repeated(name) => write!(formatter, "{name} stands there twice"),
            Self::Malformed(name) => write!(formatter, "{name} is malformed"),
            Self::MethodMismatch => formatter.write_str("the method of CSeq is another"),
            Self::LengthRequired => formatter.write_str("Content-Length is missing on a stream"),
        }
    }
}

impl std::error::Error for SipError {}
