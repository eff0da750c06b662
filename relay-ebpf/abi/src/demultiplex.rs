//! What a datagram on a media port is, by its first two octets (RFC 7983 and RFC 5761, section 4).

/// The protocols that share a media port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Rtp,
    Rtcp,
    Stun,
    Dtls,
    /// ZRTP, TURN channels, keep-alives without content and what nobody knows.
    Other,
}

/// Tells the protocols apart. `first` is `None` for a datagram without content, `second` for one
/// of a single octet.
#[inline(always)]
#[must_use]
pub fn demultiplex(first: Option<u8>, second: Option<u8>) -> Protocol {
    match first {
        Some(128..=191) => match second {
            // RTCP packet types 192–223 are RTP payload types 64–95 with the marker set, which
            // RFC 5761 therefore forbids.
            Some(192..=223) => Protocol::Rtcp,
            _ => Protocol::Rtp,
        },
        Some(0..=3) => Protocol::Stun,
        Some(20..=63) => Protocol::Dtls,
        _ => Protocol::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_rfc_7983_and_rfc_5761() {
        for (first, second, protocol) in [
            (Some(0x80), Some(0), Protocol::Rtp),
            (Some(0x80), Some(0x80), Protocol::Rtp),
            (Some(0xbf), Some(127), Protocol::Rtp),
            (Some(0x80), Some(191), Protocol::Rtp),
            (Some(0x80), Some(224), Protocol::Rtp),
            (Some(0x80), None, Protocol::Rtp),
            (Some(0x81), Some(200), Protocol::Rtcp),
            (Some(0x81), Some(192), Protocol::Rtcp),
            (Some(0xa1), Some(223), Protocol::Rtcp),
            (Some(0), Some(1), Protocol::Stun),
            (Some(3), Some(200), Protocol::Stun),
            (Some(20), Some(254), Protocol::Dtls),
            (Some(63), Some(254), Protocol::Dtls),
            (Some(4), Some(0), Protocol::Other),
            (Some(16), Some(0), Protocol::Other),
            (Some(64), Some(0), Protocol::Other),
            (Some(127), Some(0), Protocol::Other),
            (Some(192), Some(0), Protocol::Other),
            (None, None, Protocol::Other),
        ] {
            assert_eq!(demultiplex(first, second), protocol, "{first:?} {second:?}");
        }
    }
}
