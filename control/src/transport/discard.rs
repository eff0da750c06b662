//! What is discarded at the edges, counted by a closed list of reasons.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! discards {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why something was discarded before it became a message, or was not sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Discard { $($(#[$doc])* $name,)* }

        impl Discard {
            /// Every reason, in the order of the discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name that metrics and logs show.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

discards! {
    /// A datagram or a message longer than `message_octets`.
    Oversized = "oversized";
    /// A stream whose messages cannot be told apart, or whose TLS records are none. Its connection
    /// was closed.
    Malformed = "malformed";
    /// From a host that no trunk on that address admits.
    ForeignSource = "foreign-source";
    /// A datagram that came while the queue of messages was full.
    Overload = "overload";
    /// A connection beyond the limit.
    Connections = "connections";
    /// A connection of a host that has as many as one host may.
    ConnectionsOfHost = "connections-of-host";
    /// A connection that had not sent a message yet and lost its place to another one.
    Handshakes = "handshakes";
    /// A TLS handshake that failed or took too long.
    HandshakeFailed = "handshake-failed";
    /// A TLS handshake in which the peer showed no certificate although one is demanded.
    CertificateMissing = "certificate-missing";
    /// A TLS handshake with a certificate that no trusted authority has signed, or whose time is
    /// over.
    CertificateUntrusted = "certificate-untrusted";
    /// A TLS handshake with a certificate that does not hold the peer's name.
    CertificateName = "certificate-name";
    /// A connection on which a message did not come to its end, in time or at all.
    Unfinished = "unfinished";
    /// A connection closed because its peer did not read what was sent to it.
    SlowReader = "slow-reader";
    /// A connection of ours whose peer did not answer a keep-alive.
    KeepAlive = "keep-alive";
    /// A datagram that could not be sent.
    SendFailed = "send-failed";
    /// A line on the admin socket that is no request.
    AdminRequest = "admin-request";
    /// A connection to the metrics' address whose last octets were no request that is served.
    MetricsRequest = "metrics-request";
}

/// How often each reason occurred.
#[derive(Debug)]
pub struct Discards([AtomicU64; Discard::ALL.len()]);

impl Default for Discards {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Discard::ALL.len()])
    }
}

impl Discards {
    pub(crate) fn count(&self, reason: Discard) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    #[must_use]
    pub fn get(&self, reason: Discard) -> u64 {
        self.0
            .get(reason as usize)
            .map_or(0, |counter| counter.load(Relaxed))
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL
            .iter()
            .map(|reason| (*reason, self.get(*reason)))
    }
}
