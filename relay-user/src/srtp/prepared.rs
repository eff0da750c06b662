//! Keys made ready for the engine that the kernel and the workers share.

use std::{fmt, ops::Deref};

use relay_abi::srtp::key::{LONGEST_MKI, PreparedKey, Tag};
use zerocopy::IntoBytes as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::media::{SrtpKey, SrtpSuite};

/// A [`PreparedKey`] that is wiped when it is dropped. Its `Debug` form shows nothing of it.
pub struct StreamKey(Box<PreparedKey>);

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
        let boxed = Self(Box::new(prepared.clone()));
        prepared.as_mut_bytes().zeroize();
        Some(boxed)
    }
}

impl From<&PreparedKey> for StreamKey {
    fn from(key: &PreparedKey) -> Self {
        Self(Box::new(key.clone()))
    }
}

impl Deref for StreamKey {
    type Target = PreparedKey;

    fn deref(&self) -> &PreparedKey {
        &self.0
    }
}

impl Drop for StreamKey {
    fn drop(&mut self) {
        self.0.as_mut().as_mut_bytes().zeroize();
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
