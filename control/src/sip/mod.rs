//! SIP (RFC 3261) without input or output: messages, their parts, parsing and serialising.
//!
//! A [`Message`] keeps its headers in order and byte for byte; what the core needs from them is
//! read through typed views ([`Uri`], [`NameAddress`], [`Via`], [`CSeq`]). Nothing here owns a
//! socket or reads a clock. Everything that came from the wire shares the received buffer, so
//! clones are cheap.

mod address;
mod error;
mod framer;
mod header;
mod header_name;
mod headers;
mod inspection;
mod lexer;
mod limits;
mod message;
mod method;
mod multipart;
mod parameters;
mod parse;
mod sequence;
mod status;
mod target;
mod text;
mod transaction;
mod uri;
mod via;

pub use address::NameAddress;
pub use error::SipError;
pub use framer::{Frame, StreamFramer};
pub use header::{FieldValue, Header};
pub use header_name::{HeaderKey, HeaderName};
pub use headers::Headers;
pub use limits::Limits;
pub use message::{Message, Request, Response};
pub use method::Method;
pub use multipart::{Part, join as join_parts, parts};
pub use parameters::Parameters;
#[cfg(test)]
pub(crate) use parse::torture_cases;
pub use parse::{Rejection, parse, parse_shared};
pub use sequence::CSeq;
pub use status::reason_phrase;
pub use target::{ConnectionId, Flow, PeerWay, Target, Transport};
pub use text::Text;
pub use transaction::{
    Awaited, SentBy, SuccessRetransmission, SuccessStep, Timer, TransactionCounters,
    TransactionError, TransactionEvent, TransactionId, TransactionLayer, TransactionOutput,
    TransactionSettings,
};
pub use uri::{SipUri, TelUri, Uri};
pub use via::Via;
