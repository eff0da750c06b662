//! MESSAGE-INTEGRITY (RFC 8489, section 14.5) and FINGERPRINT (section 14.7).

use ring::hmac;

/// Octets of the HMAC-SHA1 of MESSAGE-INTEGRITY.
pub(super) const TAG: usize = 20;
const FINGERPRINT: u32 = 0x5354_554e;

/// The HMAC over a message as far as `covered`, its length field taken as `length`.
pub(super) fn tag(covered: &[u8], length: u16, password: &[u8]) -> Option<[u8; TAG]> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password);
    let mut context = hmac::Context::with_key(&key);
    context.update(covered.get(..2)?);
    context.update(&length.to_be_bytes());
    context.update(covered.get(4..)?);
    context.sign().as_ref().try_into().ok()
}

/// Whether two are the same, in a time that says nothing of where they differ.
pub(super) fn equal(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

/// FINGERPRINT of what stands before it.
pub(super) fn fingerprint(covered: &[u8]) -> u32 {
    let register = covered.iter().fold(u32::MAX, |register, octet| {
        let index = (register ^ u32::from(*octet)) & 0xff;
        let entry = CRC.get(index as usize).copied().unwrap_or(0);
        (register >> 8) ^ entry
    });
    !register ^ FINGERPRINT
}

/// The CRC-32 of ISO 3309, octet by octet.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut entry = index as u32;
        let mut bit = 0;
        while bit < 8 {
            entry = if entry & 1 == 1 {
                (entry >> 1) ^ 0xedb8_8320
            } else {
                entry >> 1
            };
            bit += 1;
        }
        table[index] = entry;
        index += 1;
    }
    table
};
