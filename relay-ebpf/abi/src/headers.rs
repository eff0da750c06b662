//! Views of the headers under RTP. Fixed parts only: what options and extension headers would
//! shift is punted.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{U16, U32};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer's tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// The protocol number of UDP, in IPv4 and IPv6.
pub const UDP: u8 = 17;

macro_rules! header {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        const _: () = assert!(size_of::<$name>() == $size);
    };
}

header! {
    /// Ethernet II.
    Ethernet, 14 {
        destination: [u8; 6],
        source: [u8; 6],
        /// The type of what follows, a tag's included.
        ether_type: U16,
    }
}

header! {
    /// What follows a tag's own EtherType (IEEE 802.1Q and 802.1ad).
    Tag, 4 {
        control: U16,
        ether_type: U16,
    }
}

header! {
    /// IPv4 without options (RFC 791).
    Ipv4, 20 {
        /// Version (4 bits) and header length in words of four octets (4 bits).
        version_length: u8,
        /// Differentiated services code point (6 bits) and congestion notification (2 bits).
        service: u8,
        total_length: U16,
        identification: U16,
        /// Flags (3 bits) and fragment offset (13 bits).
        fragment: U16,
        ttl: u8,
        protocol: u8,
        checksum: U16,
        source: [u8; 4],
        destination: [u8; 4],
    }
}

header! {
    /// The fixed header of IPv6 (RFC 8200).
    Ipv6, 40 {
        /// Version (4 bits), traffic class (8 bits) and flow label (20 bits).
        version_class_label: U32,
        payload_length: U16,
        next_header: u8,
        hop_limit: u8,
        source: [u8; 16],
        destination: [u8; 16],
    }
}

header! {
    /// UDP (RFC 768).
    Udp, 8 {
        source: U16,
        destination: U16,
        length: U16,
        checksum: U16,
    }
}

/// The more-fragments flag and the fragment offset: any of it set makes a fragment.
pub const FRAGMENT: u16 = 0x3fff;
/// The flag that forbids fragmentation.
pub const DO_NOT_FRAGMENT: u16 = 0x4000;

/// Whether an IPv6 next header names an extension header (IANA's list) rather than what the packet
/// carries.
#[inline(always)]
#[must_use]
pub fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        0 | 43 | 44 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254
    )
}
