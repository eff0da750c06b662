//! The 2xx to an INVITE, sent again until its ACK comes.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{super::Target, TransactionSettings};

/// What [`SuccessRetransmission::timeout`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuccessStep {
    /// Nothing yet.
    Wait,
    /// Send the 2xx again.
    Transmit { target: Target, bytes: Bytes },
    /// No ACK came in 64 times T1: the dialog stands, and should be ended with BYE.
    NoAck,
}

/// Sends a 2xx again, whatever the transport, at intervals that double from T1 to T2, until the
/// ACK comes or 64 times T1 have passed (RFC 3261 §13.3.1.4). It belongs to the dialog: drop it
/// when the ACK has come.
#[derive(Clone, Debug)]
pub struct SuccessRetransmission {
    target: Target,
    bytes: Bytes,
    interval: Duration,
    longest: Duration,
    next: Instant,
    end: Instant,
}

impl SuccessRetransmission {
    /// For a 2xx that has just been sent for the first time.
    #[must_use]
    pub fn new(now: Instant, settings: &TransactionSettings, target: Target, bytes: Bytes) -> Self {
        Self {
            target,
            bytes,
            interval: settings.t1,
            longest: settings.t2,
            next: now + settings.t1,
            end: now + settings.patience(),
        }
    }

    /// When [`SuccessRetransmission::timeout`] wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.next.min(self.end)
    }

    /// The time has come.
    pub fn timeout(&mut self, now: Instant) -> SuccessStep {
        if now >= self.end {
            return SuccessStep::NoAck;
        }
        if now < self.next {
            return SuccessStep::Wait;
        }
        self.interval = (self.interval * 2).min(self.longest);
        self.next = now + self.interval;
        SuccessStep::Transmit {
            target: self.target.clone(),
            bytes: self.bytes.clone(),
        }
    }
}
