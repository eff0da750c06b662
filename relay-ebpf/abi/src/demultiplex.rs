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

/// Tells the protocols apart by a datagram's payload.
#[must_use]
pub fn demultiplex(payload: &[u8]) -> Protocol {
    match *payload {
        [] => Protocol::Other,
        [first] => by_octets(first, 0),
        [first, second, ..] => by_octets(first, second),
    }
}

/// Tells the protocols apart by the first two octets. A second one that is not there counts as 0.
#[inline(always)]
#[must_use]
pub fn by_octets(first: u8, second: u8) -> Protocol {
    match first {
        // RTCP packet types 192–223 are RTP payload types 64–95 with the marker set, which RFC 5761
        // therefore forbids.
        128..=191 if matches!(second, 192..=223) => Protocol::Rtcp,
        128..=191 => Protocol::Rtp,
        0..=3 => Protocol::Stun,
        20..=63 => Protocol::Dtls,
        _ => Protocol::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_rfc_7983_and_rfc_5761() {
        assert_eq!(demultiplex(&[]), Protocol::Other);
        assert_eq!(demultiplex(&[0x80]), Protocol::Rtp);
        for (first, second, protocol) in [
            (0x80, 0, Protocol::Rtp),
            (0x80, 0x80, Protocol::Rtp),
            (0xbf, 127, Protocol::Rtp),
            (0x80, 191, Protocol::Rtp),
            (0x80, 224, Protocol::Rtp),
            (0x81, 200, Protocol::Rtcp),
            (0x81, 192, Protocol::Rtcp),
            (0xa1, 223, Protocol::Rtcp),
            (0, 1, Protocol::Stun),
            (3, 200, Protocol::Stun),
            (20, 254, Protocol::Dtls),
            (63, 254, Protocol::Dtls),
            (4, 0, Protocol::Other),
            (16, 0, Protocol::Other),
            (64, 0, Protocol::Other),
            (127, 0, Protocol::Other),
            (192, 0, Protocol::Other),
        ] {
            assert_eq!(
                demultiplex(&[first, second, 0]),
                protocol,
                "{first:?} {second:?}"
            );
        }
    }
}
