//! A key made ready: everything that does not depend on the packet.

use core::{fmt, mem::size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::aes;
#[cfg(not(target_arch = "bpf"))]
use super::{derivation, sha1};

/// The longest master key identifier (RFC 4568, section 6.1).
pub const LONGEST_MKI: usize = 128;

/// How many octets of the tag a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Ten octets, of AES_CM_128_HMAC_SHA1_80.
    Long,
    /// Four octets, of AES_CM_128_HMAC_SHA1_32.
    Short,
}

/// A key as the kernel's table holds it. Its `Debug` form shows nothing of it.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PreparedKey {
    pub(super) round_keys: aes::RoundKeys,
    /// The session salt as the columns of a counter block.
    pub(super) salt: [aes::Column; 4],
    /// HMAC's states after the key's blocks.
    pub(super) inner: [u32; 5],
    pub(super) outer: [u32; 5],
    /// 10 or 4.
    pub(super) tag_length: u32,
    pub(super) mki_length: u32,
    pub(super) mki: [u8; LONGEST_MKI],
}

const _: () = assert!(size_of::<PreparedKey>() == 544);

impl PreparedKey {
    /// Makes an SDES master key and salt ready (RFC 4568, section 6.1). `None` if the MKI is longer
    /// than [`LONGEST_MKI`].
    #[cfg(not(target_arch = "bpf"))]
    #[must_use]
    pub fn new(master: &[u8; 16], salt: &[u8; 14], tag: Tag, mki: &[u8]) -> Option<Self> {
        let mut octets = [0; LONGEST_MKI];
        octets.get_mut(..mki.len())?.copy_from_slice(mki);
        let keys = derivation::SessionKeys::derive(master, salt);
        let [inner, outer] = sha1::prepare(&keys.authentication);
        Some(Self {
            round_keys: aes::expand(&keys.encryption),
            salt: derivation::counter(&keys.salt).map(aes::spread),
            inner,
            outer,
            tag_length: match tag {
                Tag::Long => 10,
                Tag::Short => 4,
            },
            mki_length: mki.len() as u32,
            mki: octets,
        })
    }

    /// The master key identifier that packets carry; empty if there is none.
    #[cfg(not(target_arch = "bpf"))]
    #[must_use]
    pub fn mki(&self) -> &[u8] {
        self.mki.get(..self.mki_length as usize).unwrap_or_default()
    }

    /// The session's AES key.
    #[cfg(not(target_arch = "bpf"))]
    #[must_use]
    pub fn encryption(&self) -> [u8; 16] {
        let mut key = [0; 16];
        let columns = self.round_keys.iter();
        for (octets, column) in key.as_chunks_mut::<4>().0.iter_mut().zip(columns) {
            *octets = aes::gather(*column).to_le_bytes();
        }
        key
    }

    /// The octets that protecting adds.
    #[inline(always)]
    #[must_use]
    pub fn trailer(&self) -> usize {
        (self.mki_length as usize & 0xff) + (self.tag_length as usize & 0xf)
    }
}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PreparedKey")
            .finish_non_exhaustive()
    }
}
