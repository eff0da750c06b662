//! SRTP and SRTCP (RFC 3711) over libsrtp, in place in a caller's buffer.
//!
//! A context holds one master key and one direction: an [`Inbound`] one the key that a leg sends
//! with, an [`Outbound`] one the key that we send with. It serves every SSRC, each with its own
//! rollover counter and replay window of 128 packets. A key that a leg names again keeps its
//! context and so its ROC ([`Inbound::uses`]); a new key begins a new context, at ROC 0 but for an
//! inbound one whose sender was elsewhere before: its first packet is tried with later ROCs too.
//!
//! A context may share the indices of its RTP with the kernel's program ([`Row`]). Its RTP is then
//! protected and unprotected by our own functions, those of the kernel; its RTCP by libsrtp still.
//! A worker's contexts of the kernel's suites have such a row in any case, or one of their own,
//! since our functions are quicker among many calls (docs/slow-path.md).

#[cfg(test)]
mod agreement;
mod error;
mod prepared;
mod row;
mod session;
#[cfg(test)]
mod tests;
mod turns;

pub use error::SrtpError;
pub use prepared::{StreamKey, offloadable};
pub use row::{Row, Rows};

use std::sync::Arc;

use row::{RowInbound, RowOutbound};
use session::{Direction, Operation, Session};

use crate::media::SrtpKey;

/// The most octets that protecting adds: the tag, the MKI and SRTCP's index.
pub const TRAILER: usize = session::TRAILER;

/// How many SSRCs a key may be used with; more are refused, so that whoever holds a key cannot make
/// a context grow without bound.
pub const SOURCES: usize = 32;

/// Unprotects what a leg sends.
#[derive(Debug)]
pub struct Inbound {
    session: Session,
    row: Option<RowInbound>,
}

/// Protects what is sent to a leg.
#[derive(Debug)]
pub struct Outbound {
    session: Session,
    row: Option<RowOutbound>,
}

impl Inbound {
    /// # Errors
    /// [`SrtpError::Key`] if the master key or the MKI does not have a length that the suite takes.
    pub fn new(key: &SrtpKey) -> Result<Self, SrtpError> {
        Ok(Self {
            session: Session::new(key, Direction::Inbound)?,
            row: None,
        })
    }

    /// A context whose RTP is unprotected by `row`, which was taken for the same key, or without one
    /// by our functions all the same where they know the suite.
    ///
    /// # Errors
    /// Those of [`Inbound::new`].
    pub fn sharing(key: &SrtpKey, row: Option<Arc<Row>>) -> Result<Self, SrtpError> {
        Ok(Self {
            row: row.or_else(|| Row::own(key)).map(RowInbound::new),
            ..Self::new(key)?
        })
    }

    /// Notes that a source of this generation is told of ([`Row::announce`]).
    pub fn announce(&self, generation: u32) {
        if let Some(row) = &self.row {
            row.row().announce(generation);
        }
    }

    /// Whether the last packet's SSRC is the one of the second index state of a row that the kernel
    /// knows of.
    #[must_use]
    pub fn is_on_second(&self) -> bool {
        let shared = |row: &&RowInbound| !row.row().is_own();
        self.row
            .as_ref()
            .filter(shared)
            .is_some_and(RowInbound::current)
    }

    /// Whether this context is of `key`, its suite and its MKI.
    #[must_use]
    pub fn uses(&self, key: &SrtpKey) -> bool {
        self.session.key() == key
    }

    /// Whether `other` is of the same key, and of the same row if of any.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let rows = [self, other].map(|context| context.row.as_ref().map(|row| row.row()));
        self.uses(other.session.key()) && row::same(rows)
    }

    /// Makes an RTP packet of the SRTP packet that fills `packet`, and says how long it is. After
    /// an error the content is undefined.
    ///
    /// # Errors
    /// [`SrtpError::Authentication`], [`SrtpError::Replay`], [`SrtpError::Malformed`],
    /// [`SrtpError::Mki`], [`SrtpError::Sources`], [`SrtpError::Failed`].
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        if let Some(row) = &mut self.row {
            return row.unprotect(packet);
        }
        self.session.unprotect(packet)
    }

    /// As [`Inbound::unprotect`], from SRTCP to RTCP.
    ///
    /// # Errors
    /// Those of [`Inbound::unprotect`].
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = packet.len();
        self.session.run(Operation::UnprotectRtcp, packet, length)
    }

    /// The rollover counter of `ssrc`, `None` if no packet of it was taken yet.
    pub fn roc(&mut self, ssrc: u32) -> Option<u32> {
        self.session.roc(ssrc)
    }
}

impl Outbound {
    /// # Errors
    /// [`SrtpError::Key`] if the master key or the MKI does not have a length that the suite takes.
    pub fn new(key: &SrtpKey) -> Result<Self, SrtpError> {
        Ok(Self {
            session: Session::new(key, Direction::Outbound)?,
            row: None,
        })
    }

    /// A context whose RTP is protected by `row`, which was taken for the same key, or without one
    /// by our functions all the same where they know the suite.
    ///
    /// # Errors
    /// Those of [`Outbound::new`].
    pub fn sharing(key: &SrtpKey, row: Option<Arc<Row>>) -> Result<Self, SrtpError> {
        Ok(Self {
            row: row.or_else(|| Row::own(key)).map(RowOutbound::new),
            ..Self::new(key)?
        })
    }

    /// The highest index that RTP was protected with by any path, of a context with a row; zero
    /// before the first packet.
    #[must_use]
    pub fn shared_highest(&self) -> Option<u64> {
        self.row.as_ref().map(RowOutbound::highest)
    }

    /// Whether this context is of `key`, its suite and its MKI.
    #[must_use]
    pub fn uses(&self, key: &SrtpKey) -> bool {
        self.session.key() == key
    }

    /// Whether `other` is of the same key, and of the same row if of any.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let rows = [self, other].map(|context| context.row.as_ref().map(|row| row.row()));
        self.uses(other.session.key()) && row::same(rows)
    }

    /// Makes an SRTP packet of the RTP packet in the first `length` octets of `buffer`, which has
    /// [`TRAILER`] octets more, and says how long it is. After an error the content is undefined.
    ///
    /// # Errors
    /// [`SrtpError::Replay`] for a sequence number that was protected before or is older than the
    /// window, [`SrtpError::NoRoom`], [`SrtpError::Malformed`], [`SrtpError::Sources`],
    /// [`SrtpError::Failed`].
    pub fn protect(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        if let Some(row) = &self.row {
            return row.protect(buffer, length);
        }
        self.session.run(Operation::Protect, buffer, length)
    }

    /// As [`Outbound::protect`], from RTCP to SRTCP.
    ///
    /// # Errors
    /// Those of [`Outbound::protect`].
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        self.session.run(Operation::ProtectRtcp, buffer, length)
    }

    /// The rollover counter of `ssrc`, `None` if no packet of it was protected yet.
    pub fn roc(&mut self, ssrc: u32) -> Option<u32> {
        self.session.roc(ssrc)
    }

    /// Lets `ssrc` go on at `roc`, for a stream whose earlier packets another path has sent.
    ///
    /// # Errors
    /// [`SrtpError::Rollover`] for the GCM suites, where libsrtp cannot; [`SrtpError::Sources`],
    /// [`SrtpError::Failed`].
    pub fn set_roc(&mut self, ssrc: u32, roc: u32) -> Result<(), SrtpError> {
        self.session.set_roc(ssrc, roc)
    }
}
