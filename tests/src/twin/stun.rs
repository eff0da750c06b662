//! STUN's Binding as ICE uses it (RFC 8489, RFC 8445).

use std::net::{IpAddr, SocketAddr};

use rand::Rng;
use ring::hmac;

const COOKIE: u32 = 0x2112_a442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;
/// What Microsoft's endpoints add and RFC 8445 does not know; it may be left aside.
const IMPLEMENTATION_VERSION: u16 = 0x8070;

/// What a check is to hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Check<'a> {
    /// The other side's ufrag, then our own.
    pub fragments: [&'a str; 2],
    /// The other side's password.
    pub password: &'a str,
    /// USE-CANDIDATE.
    pub nominates: bool,
    /// Of a higher priority than others.
    pub preferred: bool,
    /// An attribute that nobody need know.
    pub unknown: bool,
}

impl Check<'_> {
    /// The Binding request and its transaction.
    #[must_use]
    pub fn request(&self) -> (Vec<u8>, [u8; 12]) {
        let mut transaction = [0; 12];
        rand::rng().fill(&mut transaction);
        let mut octets = Vec::new();
        octets.extend(REQUEST.to_be_bytes());
        octets.extend([0, 0]);
        octets.extend(COOKIE.to_be_bytes());
        octets.extend(transaction);
        if self.unknown {
            attribute(&mut octets, IMPLEMENTATION_VERSION, &[0, 0, 0, 3]);
        }
        let [theirs, ours] = self.fragments;
        attribute(&mut octets, USERNAME, format!("{theirs}:{ours}").as_bytes());
        let priority = if self.preferred {
            0x7eff_ffffu32
        } else {
            0x6e00_1eff
        };
        attribute(&mut octets, PRIORITY, &priority.to_be_bytes());
        attribute(&mut octets, ICE_CONTROLLING, &[7; 8]);
        if self.nominates {
            attribute(&mut octets, USE_CANDIDATE, &[]);
        }
        seal(&mut octets, self.password);
        (octets, transaction)
    }
}

/// Whether octets are a Binding request.
#[must_use]
pub fn is_request(octets: &[u8]) -> bool {
    octets.get(..2) == Some(&REQUEST.to_be_bytes()[..])
        && octets.get(4..8) == Some(&COOKIE.to_be_bytes()[..])
}

/// Whether octets are the answer to a check: a success with MESSAGE-INTEGRITY by the password.
/// Gives the address that it tells.
#[must_use]
pub fn answer(octets: &[u8], transaction: &[u8; 12], password: &str) -> Option<SocketAddr> {
    if outcome(octets, transaction)? != Outcome::Success || !is_sealed(octets, password) {
        return None;
    }
    let value = find(octets, XOR_MAPPED_ADDRESS)?.1;
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]) ^ (COOKIE >> 16) as u16;
    let address: [u8; 4] = value.get(4..8)?.try_into().ok()?;
    let address = u32::from_be_bytes(address) ^ COOKIE;
    Some(SocketAddr::new(IpAddr::V4(address.into()), port))
}

/// What a response to a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// With its error code.
    Error(u16),
}

/// What octets say of a check, if they are a response to it, whoever sealed it.
#[must_use]
pub fn outcome(octets: &[u8], transaction: &[u8; 12]) -> Option<Outcome> {
    if octets.get(4..8)? != COOKIE.to_be_bytes() || octets.get(8..20)? != transaction {
        return None;
    }
    match u16::from_be_bytes([octets[0], octets[1]]) {
        SUCCESS => Some(Outcome::Success),
        ERROR => {
            let value = find(octets, ERROR_CODE)?.1;
            let (class, number) = (*value.get(2)? & 7, *value.get(3)?);
            Some(Outcome::Error(u16::from(class) * 100 + u16::from(number)))
        }
        _ => None,
    }
}

fn attribute(octets: &mut Vec<u8>, kind: u16, value: &[u8]) {
    octets.extend(kind.to_be_bytes());
    octets.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
}

fn set_length(octets: &mut [u8], length: usize) {
    let length = u16::try_from(length).unwrap_or(0);
    octets[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Puts MESSAGE-INTEGRITY and FINGERPRINT behind a message.
fn seal(octets: &mut Vec<u8>, password: &str) {
    let length = octets.len() - 20;
    set_length(octets, length + 24);
    let tag = hmac::sign(&key(password), octets);
    attribute(octets, MESSAGE_INTEGRITY, tag.as_ref());
    set_length(octets, length + 32);
    let fingerprint = crc32(octets) ^ 0x5354_554e;
    attribute(octets, FINGERPRINT, &fingerprint.to_be_bytes());
}

fn is_sealed(octets: &[u8], password: &str) -> bool {
    let Some((at, tag)) = find(octets, MESSAGE_INTEGRITY) else {
        return false;
    };
    let mut covered = octets[..at].to_vec();
    set_length(&mut covered, at + 4);
    hmac::verify(&key(password), &covered, tag).is_ok()
}

fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// Where an attribute begins, and its value.
fn find(octets: &[u8], wanted: u16) -> Option<(usize, &[u8])> {
    let mut at = 20;
    loop {
        let head = octets.get(at..at + 4)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = octets.get(at + 4..at + 4 + length)?;
        if kind == wanted {
            return Some((at, value));
        }
        at += 4 + length.next_multiple_of(4);
    }
}

/// CRC-32 of ISO 3309.
fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |crc, &octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769, section 2.2.
    const RESPONSE: [u8; 80] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1,
        0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3,
        0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00,
        0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn the_sample_response_is_understood() {
        let transaction: [u8; 12] = RESPONSE[8..20].try_into().expect("twelve octets");
        let told = answer(&RESPONSE, &transaction, PASSWORD);
        assert_eq!(told, Some("192.0.2.1:32853".parse().expect("an address")));
        assert_eq!(answer(&RESPONSE, &transaction, "another"), None);
        assert_eq!(answer(&RESPONSE, &[0; 12], PASSWORD), None);
        assert_eq!(outcome(&RESPONSE, &transaction), Some(Outcome::Success));
        assert_eq!(outcome(&RESPONSE, &[0; 12]), None);
        let fingerprint = crc32(&RESPONSE[..72]) ^ 0x5354_554e;
        assert_eq!(RESPONSE[76..], fingerprint.to_be_bytes());
    }

    #[test]
    fn an_error_is_told_by_its_code() {
        let mut octets = ERROR.to_be_bytes().to_vec();
        octets.extend([0, 8]);
        octets.extend(COOKIE.to_be_bytes());
        octets.extend([7; 12]);
        attribute(&mut octets, ERROR_CODE, &[0, 0, 4, 1]);
        assert_eq!(outcome(&octets, &[7; 12]), Some(Outcome::Error(401)));
        assert_eq!(outcome(&octets[..24], &[7; 12]), None);
    }

    #[test]
    fn a_check_is_sealed() {
        let check = Check {
            fragments: ["theirs", "ours"],
            password: PASSWORD,
            nominates: true,
            preferred: true,
            unknown: true,
        };
        let (octets, transaction) = check.request();
        assert!(is_request(&octets) && is_sealed(&octets, PASSWORD));
        assert!(!is_sealed(&octets, "another"));
        assert_eq!(octets[8..20], transaction);
        assert_eq!(find(&octets, USERNAME).expect("there").1, b"theirs:ours");
        assert!(find(&octets, USE_CANDIDATE).is_some());
        let priority = find(&octets, PRIORITY).expect("there").1;
        assert_eq!(priority, 0x7eff_ffffu32.to_be_bytes());
        let end = octets.len() - 8;
        let fingerprint = crc32(&octets[..end]) ^ 0x5354_554e;
        assert_eq!(octets[end + 4..], fingerprint.to_be_bytes());
    }
}
