//! RTP's fixed header and the validity checks of RFC 3550, section A.1.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{U16, U32, checksum::Change, flow::FlowEntry};

/// The fixed header of RTP (RFC 3550, section 5.1).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct RtpHeader {
    /// Version (2 bits), padding, extension, and the number of contributing sources (4 bits).
    pub first: u8,
    /// Marker, and payload type (7 bits).
    pub second: u8,
    pub sequence: U16,
    pub timestamp: U32,
    pub ssrc: U32,
}

/// The octets of the fixed header.
pub const HEADER: usize = size_of::<RtpHeader>();

const _: () = assert!(HEADER == 12);

impl RtpHeader {
    /// The version; 2 in every RTP packet of today.
    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.first >> 6
    }

    #[inline(always)]
    #[must_use]
    pub const fn payload_type(&self) -> u8 {
        self.second & 0x7f
    }

    #[inline(always)]
    #[must_use]
    pub const fn marker(&self) -> bool {
        self.second & 0x80 != 0
    }

    /// Translates the header for the other leg, with the payload type that
    /// [`crate::relay::check_stream`] found, and adds to `change` what that does to a checksum.
    #[inline(always)]
    pub fn translate(&mut self, entry: &FlowEntry, payload_type: u8, change: &mut Change) {
        let second = (self.second & 0x80) | (payload_type & 0x7f);
        change.half([self.first, self.second], [self.first, second]);
        self.second = second;

        let sequence = U16::new(
            self.sequence
                .get()
                .wrapping_add(entry.sequence_offset.get()),
        );
        change.half(self.sequence.to_bytes(), sequence.to_bytes());
        self.sequence = sequence;

        let timestamp = U32::new(
            self.timestamp
                .get()
                .wrapping_add(entry.timestamp_offset.get()),
        );
        change.word(self.timestamp.to_bytes(), timestamp.to_bytes());
        self.timestamp = timestamp;

        change.word(self.ssrc.to_bytes(), entry.ssrc_out.to_bytes());
        self.ssrc = entry.ssrc_out;
    }
}

/// Whether the contributing sources, the header extension and, if `padding` asks for it, the
/// padding of an RTP packet of `length` octets fit into it. `first` is its first octet, `octet`
/// reads one at an offset. SRTP encrypts the padding's count, so it is asked for only in the clear.
#[inline(always)]
pub fn lengths_fit(
    first: u8,
    length: usize,
    padding: bool,
    octet: impl Fn(usize) -> Option<u8>,
) -> bool {
    let mut header = HEADER + 4 * (first & 0x0f) as usize;
    if first & 0x10 != 0 {
        if header + 4 > length {
            return false;
        }
        let (Some(high), Some(low)) = (octet(header + 2), octet(header + 3)) else {
            return false;
        };
        header += 4 + 4 * u16::from_be_bytes([high, low]) as usize;
    }
    if header > length {
        return false;
    }
    if padding && first & 0x20 != 0 {
        // A packet of padding alone is valid: senders probe with them.
        let Some(count) = octet(length - 1) else {
            return false;
        };
        if count == 0 || header + count as usize > length {
            return false;
        }
    }
    true
}

/// The header of an RTP packet in the clear, `None` if it is not version 2 or its lengths do not
/// fit (RFC 3550, section A.1).
#[must_use]
pub fn parse(packet: &[u8]) -> Option<&RtpHeader> {
    parse_with(packet, true)
}

/// The header of an SRTP packet: [`parse`] without the padding, which is encrypted.
#[must_use]
pub fn parse_protected(packet: &[u8]) -> Option<&RtpHeader> {
    parse_with(packet, false)
}

fn parse_with(packet: &[u8], padding: bool) -> Option<&RtpHeader> {
    let (header, _) = RtpHeader::ref_from_prefix(packet).ok()?;
    let octet = |offset: usize| packet.get(offset).copied();
    (header.version() == 2 && lengths_fit(header.first, packet.len(), padding, octet))
        .then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = std::vec![first, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn lengths_that_the_header_promises_have_to_be_there() {
        let extension = |words: u8| [0xbe, 0xde, 0, words];
        for (description, packet, valid) in [
            ("a header alone", packet(0x80, &[]), true),
            ("payload", packet(0x80, &[0xff; 160]), true),
            ("eleven octets", packet(0x80, &[])[..11].to_vec(), false),
            ("version 1", packet(0x40, &[0; 8]), false),
            ("version 3", packet(0xc0, &[0; 8]), false),
            ("a contributing source", packet(0x81, &[0; 4]), true),
            (
                "a contributing source cut short",
                packet(0x81, &[0; 3]),
                false,
            ),
            ("15 contributing sources", packet(0x8f, &[0; 60]), true),
            ("an empty extension", packet(0x90, &extension(0)), true),
            ("an extension cut short", packet(0x90, &extension(1)), false),
            (
                "half an extension header",
                packet(0x90, &[0xbe, 0xde]),
                false,
            ),
            ("padding", packet(0xa0, &[7, 7, 2]), true),
            ("nothing but padding", packet(0xa0, &[0, 0, 3]), true),
            (
                "padding that reaches into the header",
                packet(0xa0, &[0, 0, 4]),
                false,
            ),
            ("padding of none", packet(0xa0, &[0, 0, 0]), false),
            ("padding without room", packet(0xa0, &[]), false),
        ] {
            assert_eq!(parse(&packet).is_some(), valid, "{description}");
        }
    }

    #[test]
    fn the_padding_of_srtp_is_not_looked_at() {
        assert!(parse_protected(&packet(0xa0, &[0, 0, 0xff])).is_some());
        assert!(parse_protected(&packet(0x81, &[0, 0, 0xff])).is_none());
    }
}
