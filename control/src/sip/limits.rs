//! Bounds on what is read from the wire.

/// How large a message, and each part of it, may be. All in octets, but `headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole message.
    pub message: usize,
    pub body: usize,
    /// How many header fields, and how many elements their lists may have in all.
    pub headers: usize,
    /// One header field with its name and folds.
    pub header: usize,
    /// The Request-URI.
    pub uri: usize,
}

impl Default for Limits {
    /// Room for the largest datagram and for every message that RFC 4475 calls good.
    fn default() -> Self {
        Self {
            message: 65_535,
            body: 60_000,
            headers: 256,
            header: 8_192,
            uri: 2_048,
        }
    }
}
