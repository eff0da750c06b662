//! SRTP by libsrtp, with keys as SDP writes them (RFC 4568).

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::Rng;
use srtp::{CryptoPolicy, Session, StreamPolicy};

use super::sdp::Crypto;

/// Octets of the master key and salt of AES_CM_128.
const MASTER: usize = 30;

/// A suite, a master key with its salt, and an MKI.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    short_tag: bool,
    master: Vec<u8>,
    mki: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

impl Key {
    /// A fresh one with `_80`'s tag, or `_32`'s.
    #[must_use]
    pub fn fresh(short_tag: bool) -> Self {
        let mut master = vec![0; MASTER];
        rand::rng().fill(&mut master[..]);
        Self {
            short_tag,
            master,
            mki: Vec::new(),
        }
    }

    /// With an MKI of one octet.
    #[must_use]
    pub fn with_mki(mut self, value: u8) -> Self {
        self.mki = vec![value];
        self
    }

    /// As SDP writes it, with the lifetime that Teams asks for.
    #[must_use]
    pub fn crypto(&self, tag: u32) -> Crypto {
        let mut key = format!("{}|2^31", STANDARD.encode(&self.master));
        if let Some(value) = self.mki.first() {
            key.push_str(&format!("|{value}:1"));
        }
        Crypto {
            tag,
            suite: if self.short_tag {
                "AES_CM_128_HMAC_SHA1_32".to_owned()
            } else {
                "AES_CM_128_HMAC_SHA1_80".to_owned()
            },
            key,
        }
    }

    /// Reads a line of SDP; `None` for another suite or a key of the wrong length.
    #[must_use]
    pub fn parse(crypto: &Crypto) -> Option<Self> {
        let short_tag = match crypto.suite.as_str() {
            "AES_CM_128_HMAC_SHA1_80" => false,
            "AES_CM_128_HMAC_SHA1_32" => true,
            _ => return None,
        };
        let mut parts = crypto.key.split('|');
        let master = STANDARD.decode(parts.next()?).ok()?;
        let mki = parts
            .find_map(|part| part.split_once(':'))
            .and_then(|(value, length)| {
                let value: u64 = value.parse().ok()?;
                let length: usize = length.parse().ok()?;
                value
                    .to_be_bytes()
                    .get(8usize.checked_sub(length)?..)
                    .map(<[u8]>::to_vec)
            })
            .unwrap_or_default();
        (master.len() == MASTER).then_some(Self {
            short_tag,
            master,
            mki,
        })
    }

    fn policy(&self) -> StreamPolicy<'_> {
        StreamPolicy {
            rtp: if self.short_tag {
                CryptoPolicy::aes_cm_128_hmac_sha1_32()
            } else {
                CryptoPolicy::aes_cm_128_hmac_sha1_80()
            },
            rtcp: CryptoPolicy::aes_cm_128_hmac_sha1_80(),
            key: &self.master,
            ..StreamPolicy::default()
        }
    }

    /// Octets of the authentication tag of a packet.
    const fn tag(&self) -> usize {
        if self.short_tag { 4 } else { 10 }
    }

    /// Takes the MKI out before a tag of `tag` octets; `None` when it is not there.
    fn without_mki(&self, octets: &[u8], tag: usize) -> Option<Vec<u8>> {
        let end = octets.len().checked_sub(tag)?;
        let start = end.checked_sub(self.mki.len())?;
        (octets[start..end] == self.mki[..]).then(|| [&octets[..start], &octets[end..]].concat())
    }

    fn insert_mki(&self, octets: &mut Vec<u8>, tag: usize) {
        let at = octets.len().saturating_sub(tag);
        octets.splice(at..at, self.mki.iter().copied());
    }
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Outbound {
    key: Key,
    session: Session,
    /// The ROC after the last packet.
    cycles: u32,
}

impl Outbound {
    pub(super) fn new(key: &Key) -> Option<Self> {
        Some(Self {
            session: Session::with_outbound_template(key.policy()).ok()?,
            key: key.clone(),
            cycles: 0,
        })
    }

    pub(super) fn is(&self, key: &Key) -> bool {
        self.key == *key
    }

    pub(super) const fn cycles(&self) -> u32 {
        self.cycles
    }

    pub(super) fn protect(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let ssrc = packet.get(8..12)?.try_into().ok().map(u32::from_be_bytes)?;
        self.session.protect(&mut packet).ok()?;
        self.cycles = self.session.get_stream_roc(ssrc).unwrap_or(0);
        self.key.insert_mki(&mut packet, self.key.tag());
        Some(packet)
    }

    pub(super) fn protect_report(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        self.session.protect_rtcp(&mut packet).ok()?;
        self.key.insert_mki(&mut packet, 10);
        Some(packet)
    }
}

/// What comes.
#[derive(Debug)]
pub(super) struct Inbound {
    key: Key,
    session: Session,
    /// The ROC after the last packet.
    cycles: u32,
}

impl Inbound {
    pub(super) fn new(key: &Key) -> Option<Self> {
        Some(Self {
            session: Session::with_inbound_template(key.policy()).ok()?,
            key: key.clone(),
            cycles: 0,
        })
    }

    pub(super) fn is(&self, key: &Key) -> bool {
        self.key == *key
    }

    pub(super) const fn cycles(&self) -> u32 {
        self.cycles
    }

    pub(super) fn unprotect(&mut self, octets: &[u8]) -> Option<Vec<u8>> {
        let mut packet = self.key.without_mki(octets, self.key.tag())?;
        self.session.unprotect(&mut packet).ok()?;
        let ssrc = packet.get(8..12)?.try_into().ok().map(u32::from_be_bytes)?;
        self.cycles = self.session.get_stream_roc(ssrc).unwrap_or(0);
        Some(packet)
    }

    pub(super) fn unprotect_report(&mut self, octets: &[u8]) -> Option<Vec<u8>> {
        let mut packet = self.key.without_mki(octets, 10)?;
        self.session.unprotect_rtcp(&mut packet).ok()?;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_way_through_sdp() {
        for key in [Key::fresh(true), Key::fresh(false).with_mki(7)] {
            assert_eq!(Key::parse(&key.crypto(1)).as_ref(), Some(&key));
            let mut out = Outbound::new(&key).expect("a session");
            let mut into = Inbound::new(&key).expect("a session");
            let plain: Vec<u8> = [&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5][..], &[9; 160]].concat();
            let mut secret = out.protect(plain.clone()).expect("protected");
            assert_eq!(into.unprotect(&secret), Some(plain));
            secret[20] ^= 1;
            assert_eq!(into.unprotect(&secret), None);
        }
    }
}
