//! Session keys from a master key (RFC 3711, section 4.3), at a key derivation rate of zero.

use zeroize::Zeroize as _;

use super::{
    aes::{RoundKeys, Shared, expand, spread},
    machine::Plain,
};

/// What a session key is for: the label of RFC 3711, section 4.3.2.
const ENCRYPTION: u8 = 0;
const AUTHENTICATION: u8 = 1;
const SALT: u8 = 2;

/// The session keys of SRTP. Wiped when they are dropped.
#[derive(Clone)]
pub struct SessionKeys {
    pub encryption: [u8; 16],
    pub authentication: [u8; 20],
    pub salt: [u8; 14],
}

impl SessionKeys {
    /// Derives the keys of SRTP from a master key and a master salt.
    #[must_use]
    pub fn derive(master: &[u8; 16], salt: &[u8; 14]) -> Self {
        let mut keys = expand(master);
        let mut derived = Self {
            encryption: [0; 16],
            authentication: [0; 20],
            salt: [0; 14],
        };
        generate(&keys, salt, ENCRYPTION, &mut derived.encryption);
        generate(&keys, salt, AUTHENTICATION, &mut derived.authentication);
        generate(&keys, salt, SALT, &mut derived.salt);
        keys.zeroize();
        derived
    }
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.encryption.zeroize();
        self.authentication.zeroize();
        self.salt.zeroize();
    }
}

fn generate(keys: &RoundKeys, salt: &[u8; 14], label: u8, derived: &mut [u8]) {
    let mut counter = counter(salt);
    // The label stands above the index, which is zero.
    counter[1] ^= u32::from_le_bytes([0, 0, 0, label]);
    let mut shared = Shared::default();
    shared.begin::<Plain>(keys, &counter.map(spread));
    for (number, chunk) in (0..).zip(derived.chunks_mut(16)) {
        let mut block = [[0; 4]];
        shared.apply::<Plain, _>(keys, number, &mut block);
        for (octet, stream) in chunk
            .iter_mut()
            .zip(block[0].iter().flat_map(|word| word.to_ne_bytes()))
        {
            *octet = stream;
        }
    }
}

/// A salt as the columns of a counter block.
pub(super) fn counter(salt: &[u8; 14]) -> [u32; 4] {
    let mut octets = [0; 16];
    for (octet, salt) in octets.iter_mut().zip(salt) {
        *octet = *salt;
    }
    let mut columns = [0; 4];
    for (column, octets) in columns.iter_mut().zip(octets.as_chunks::<4>().0) {
        *column = u32::from_le_bytes(*octets);
    }
    columns
}
