//! The timers of the transaction layer.

use std::time::Duration;

/// The timers by the RFC's letters (RFC 3261 §17 and table 4, RFC 6026).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// INVITE client: sends the request again.
    A,
    /// INVITE client: no response came.
    B,
    /// INVITE client: no final response came after a provisional one (RFC 3261 §16.8).
    C,
    /// INVITE client: waits for final responses that are sent again.
    D,
    /// Client: sends the request again.
    E,
    /// Client: no final response came.
    F,
    /// INVITE server: sends the final response again.
    G,
    /// INVITE server: no ACK came.
    H,
    /// INVITE server: waits for ACKs that are sent again.
    I,
    /// Server: waits for requests that are sent again.
    J,
    /// Client: waits for responses that are sent again.
    K,
    /// INVITE server: waits for requests that are sent again after a 2xx.
    L,
    /// INVITE client: waits for further 2xx.
    M,
    /// INVITE client: no final response came after CANCEL (RFC 3261 §9.1, without a letter).
    Cancelled,
    /// Server: nobody answered a request while its sender still waited (RFC 4320 §4.1, without a
    /// letter).
    Unanswered,
}

impl Timer {
    /// Every timer.
    pub const ALL: [Self; 15] = [
        Self::A,
        Self::B,
        Self::C,
        Self::D,
        Self::E,
        Self::F,
        Self::G,
        Self::H,
        Self::I,
        Self::J,
        Self::K,
        Self::L,
        Self::M,
        Self::Cancelled,
        Self::Unanswered,
    ];
}

/// The values that the timers are made of, and the bound on transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionSettings {
    /// An estimate of the round trip.
    pub t1: Duration,
    /// The longest interval between requests (not INVITE) and responses to INVITE.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
    /// Timer C; more than three minutes (RFC 3261 §16.6).
    pub timer_c: Duration,
    /// How many transactions there may be at once. Beyond it new requests get 503; those inside
    /// a dialog have a quarter more, so that calls can still end.
    pub transactions: usize,
    /// Retry-After of that 503, in seconds.
    pub retry_after: u32,
}

impl Default for TransactionSettings {
    /// The RFC's values.
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(185),
            transactions: 600_000,
            retry_after: 5,
        }
    }
}

impl TransactionSettings {
    /// How long a transaction lives that hears nothing: 64 times T1.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}
