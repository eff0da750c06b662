//! Keys made ready for the engine that the kernel and the workers share.

use std::{array, fmt, ops::Deref};

use aes::{
    Aes128Enc, Block,
    cipher::{BlockEncrypt as _, KeyInit as _},
};
use relay_abi::srtp::{
    buffer::{BLOCK, Engine},
    key::{LONGEST_MKI, PreparedKey, Tag},
};
use sha1::digest::generic_array::GenericArray;
use zerocopy::IntoBytes as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::media::{SrtpKey, SrtpSuite};

/// A [`PreparedKey`] that is wiped when it is dropped, and as an [`Engine`] uses the processor's
/// instructions for AES and SHA-1 where there are some. Its `Debug` form shows nothing of it.
pub struct StreamKey(Box<Ready>);

struct Ready {
    prepared: PreparedKey,
    /// Wipes itself.
    cipher: Aes128Enc,
}

/// Blocks of keystream that are made at once.
const AT_ONCE: usize = 8;

/// The tag of the suites that the kernel serves, `None` for the others.
#[must_use]
pub fn offloadable(suite: SrtpSuite) -> Option<Tag> {
    match suite {
        SrtpSuite::AesCm128HmacSha1_80 => Some(Tag::Long),
        SrtpSuite::AesCm128HmacSha1_32 => Some(Tag::Short),
        SrtpSuite::AesCm256HmacSha1_80
        | SrtpSuite::AesCm256HmacSha1_32
        | SrtpSuite::AeadAes128Gcm
        | SrtpSuite::AeadAes256Gcm => None,
    }
}

impl StreamKey {
    /// `None` for a suite that the kernel does not serve ([`offloadable`]), for a master key of
    /// another length than the suite's and for an MKI longer than [`LONGEST_MKI`].
    #[must_use]
    pub fn new(key: &SrtpKey) -> Option<Self> {
        let tag = offloadable(key.suite)?;
        let mki = key.mki.as_deref().unwrap_or_default();
        if key.master.len() != 30 || mki.len() > LONGEST_MKI {
            return None;
        }
        let mut master = Zeroizing::new([0; 16]);
        let mut salt = Zeroizing::new([0; 14]);
        master.copy_from_slice(key.master.get(..16)?);
        salt.copy_from_slice(key.master.get(16..)?);
        let mut prepared = PreparedKey::new(&master, &salt, tag, mki)?;
        let boxed = Self::from(&prepared);
        prepared.as_mut_bytes().zeroize();
        Some(boxed)
    }
}

impl From<&PreparedKey> for StreamKey {
    fn from(key: &PreparedKey) -> Self {
        let encryption = Zeroizing::new(key.encryption());
        Self(Box::new(Ready {
            prepared: key.clone(),
            cipher: Aes128Enc::new(GenericArray::from_slice(encryption.as_slice())),
        }))
    }
}

impl Deref for StreamKey {
    type Target = PreparedKey;

    fn deref(&self) -> &PreparedKey {
        &self.0.prepared
    }
}

impl Engine for StreamKey {
    fn key(&self) -> &PreparedKey {
        self
    }

    fn crypt(&self, counter: &[u8; 16], octets: &mut [u8]) {
        let [fixed @ .., _, _] = *counter;
        for (group, octets) in (0u16..).zip(octets.chunks_mut(AT_ONCE * 16)) {
            let first = group.wrapping_mul(AT_ONCE as u16);
            let mut stream: [Block; AT_ONCE] = array::from_fn(|number| {
                let [high, low] = first.wrapping_add(number as u16).to_be_bytes();
                let mut block = Block::default();
                let (begin, end) = block.split_at_mut(fixed.len());
                begin.copy_from_slice(&fixed);
                end.copy_from_slice(&[high, low]);
                block
            });
            self.0.cipher.encrypt_blocks(&mut stream);
            for (octets, stream) in octets.chunks_mut(16).zip(&stream) {
                for (octet, stream) in octets.iter_mut().zip(stream) {
                    *octet ^= stream;
                }
            }
        }
    }

    fn compress(&self, digest: &mut [u32; 5], blocks: &[[u8; BLOCK]]) {
        for block in blocks {
            sha1::compress(
                digest,
                std::slice::from_ref(GenericArray::from_slice(block)),
            );
        }
    }
}

impl Drop for StreamKey {
    fn drop(&mut self) {
        self.0.prepared.as_mut_bytes().zeroize();
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StreamKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(suite: SrtpSuite, octets: usize, mki: usize) -> SrtpKey {
        SrtpKey {
            suite,
            master: Zeroizing::new(vec![7; octets]),
            mki: Some(vec![1; mki]),
        }
    }

    #[test]
    fn two_suites_are_the_kernels() {
        for suite in SrtpSuite::ALL {
            let octets = suite.master_length();
            assert_eq!(
                StreamKey::new(&key(suite, octets, 4)).is_some(),
                offloadable(suite).is_some(),
                "{suite:?}"
            );
        }
        let long = SrtpSuite::AesCm128HmacSha1_80;
        assert!(StreamKey::new(&key(long, 30, LONGEST_MKI)).is_some());
        assert!(StreamKey::new(&key(long, 30, LONGEST_MKI + 1)).is_none());
        assert!(StreamKey::new(&key(long, 29, 0)).is_none());
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = StreamKey::new(&key(SrtpSuite::AesCm128HmacSha1_80, 30, 0)).expect("a key");
        assert_eq!(format!("{key:?}"), "StreamKey { .. }");
    }
}
