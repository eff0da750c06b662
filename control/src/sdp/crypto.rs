//! `a=crypto` (RFC 4568), with the suites of RFC 6188 and RFC 7714.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rand::CryptoRng;
use relay_user::media::{SrtpKey, SrtpSuite};
use zeroize::Zeroizing;

/// Some peers leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One usable `a=crypto` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crypto {
    pub(super) tag: u32,
    /// The suite's name as the peer wrote it: an answer repeats it.
    pub(super) suite_name: String,
    pub(super) key: SrtpKey,
}

impl Crypto {
    /// A line of our own.
    pub(super) fn new(tag: u32, key: SrtpKey) -> Self {
        Self {
            tag,
            suite_name: key.suite.name().to_owned(),
            key,
        }
    }

    /// Parses the value of an `a=crypto`; `None` for a suite, key or session parameter that is
    /// not served (RFC 4568, section 5.1.2: such a line is skipped). Never accepts a parameter
    /// that turns encryption or authentication off.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_ascii_whitespace();
        let tag = fields.next()?;
        if tag.is_empty() || tag.len() > 9 {
            return None;
        }
        let tag = tag.parse().ok()?;
        let suite_name = fields.next()?;
        let suite = suite_of(suite_name)?;
        let keys = fields.next()?;
        if !fields.all(is_harmless) {
            return None;
        }
        let mut first = None;
        for parameter in keys.split(';') {
            let key = parse_key(suite, parameter)?;
            // Each packet names its key where there is an identifier: one without is simpler for
            // both.
            if key.mki.is_none() {
                first = Some(key);
                break;
            }
            first.get_or_insert(key);
        }
        Some(Self {
            tag,
            suite_name: suite_name.to_owned(),
            key: first?,
        })
    }

    /// The value of the attribute. The lifetime is the longest that SRTCP allows, in the form
    /// that Teams asks for.
    pub(super) fn value(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(BASE64.encode(self.key.master.as_slice()));
        Zeroizing::new(format!(
            "{} {} inline:{}|2^31",
            self.tag,
            self.suite_name,
            key.as_str()
        ))
    }
}

/// A fresh key for a suite.
pub(super) fn generate<R: CryptoRng + ?Sized>(suite: SrtpSuite, random: &mut R) -> SrtpKey {
    let mut master = Zeroizing::new(vec![0; suite.master_length()]);
    random.fill_bytes(master.as_mut_slice());
    SrtpKey {
        suite,
        master,
        mki: None,
    }
}

/// Whether a suite's tag has 32 bits only.
pub(super) const fn is_short(suite: SrtpSuite) -> bool {
    matches!(
        suite,
        SrtpSuite::AesCm128HmacSha1_32 | SrtpSuite::AesCm256HmacSha1_32
    )
}

fn suite_of(name: &str) -> Option<SrtpSuite> {
    // The names of the drafts before RFC 6188 are still in use.
    let name = match name {
        "AES_CM_256_HMAC_SHA1_80" => "AES_256_CM_HMAC_SHA1_80",
        "AES_CM_256_HMAC_SHA1_32" => "AES_256_CM_HMAC_SHA1_32",
        name => name,
    };
    SrtpSuite::ALL
        .into_iter()
        .find(|suite| suite.name().eq_ignore_ascii_case(name))
}

fn is_harmless(parameter: &str) -> bool {
    parameter == "KDR=0" || parameter.starts_with("WSH=") || parameter.starts_with('-')
}

fn parse_key(suite: SrtpSuite, parameter: &str) -> Option<SrtpKey> {
    let (method, rest) = parameter.split_once(':')?;
    if !method.eq_ignore_ascii_case("inline") {
        return None;
    }
    let mut fields = rest.split('|');
    let master = Zeroizing::new(BASE64.decode(fields.next()?).ok()?);
    if master.len() != suite.master_length() {
        return None;
    }
    let mut mki = None;
    for (place, field) in fields.enumerate() {
        match field.split_once(':') {
            Some((value, length)) if mki.is_none() => mki = Some(parse_mki(value, length)?),
            None if place == 0 && is_lifetime(field) => {}
            _ => return None,
        }
    }
    Some(SrtpKey { suite, master, mki })
}

/// `2^n` or a number of packets.
fn is_lifetime(field: &str) -> bool {
    match field.strip_prefix("2^") {
        Some(power) => power.parse::<u8>().is_ok_and(|power| power <= 48),
        None => field
            .parse::<u64>()
            .is_ok_and(|packets| (1..=1 << 48).contains(&packets)),
    }
}

/// The identifier is a number written into so many octets (RFC 4568, section 6.1).
fn parse_mki(value: &str, length: &str) -> Option<Vec<u8>> {
    let value = value.parse::<u128>().ok()?;
    let length = length.parse::<usize>().ok()?;
    if !(1..=128).contains(&length) {
        return None;
    }
    let octets = value.to_be_bytes();
    let significant = octets.len() - value.leading_zeros() as usize / 8;
    if significant > length {
        return None;
    }
    let mut mki = vec![0; length];
    for (to, from) in mki.iter_mut().rev().zip(octets.iter().rev()) {
        *to = *from;
    }
    Some(mki)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn takes_lifetimes_and_identifiers_in_every_form() {
        let plain = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).unwrap();
        assert_eq!((plain.tag, plain.key.mki.as_ref()), (1, None));
        assert_eq!(plain.key.master.len(), 30);
        for (parameters, mki) in [
            ("|2^20", None),
            ("|1048576", None),
            ("|2^31|1:1", Some(vec![1])),
            ("|1:4", Some(vec![0, 0, 0, 1])),
            ("|2^48|65536:3", Some(vec![1, 0, 0])),
        ] {
            let line = format!("0 AES_CM_128_HMAC_SHA1_32 inline:{KEY}{parameters}");
            let crypto = Crypto::parse(&line).unwrap();
            assert_eq!(crypto.key.mki, mki, "{parameters}");
            assert_eq!(crypto.key.master, plain.key.master);
        }
    }

    #[test]
    fn skips_what_it_must_not_or_cannot_use() {
        for line in [
            "",
            "1",
            "1 AES_CM_128_HMAC_SHA1_80",
            "x AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 NULL_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES_256_CM_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES_CM_128_HMAC_SHA1_80 inline:short",
            "1 AES_CM_128_HMAC_SHA1_80 uri:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^49",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|256:1",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|1:129",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz UNENCRYPTED_SRTP",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz UNAUTHENTICATED_SRTP",
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz KDR=3",
        ] {
            assert_eq!(Crypto::parse(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut random = rand::rng();
        for suite in SrtpSuite::ALL {
            let crypto = Crypto::new(7, generate(suite, &mut random));
            assert_eq!(
                Crypto::parse(&crypto.value()).as_ref(),
                Some(&crypto),
                "{suite:?}"
            );
        }
    }

    #[test]
    fn of_two_keys_in_one_line_the_one_without_identifier_is_used() {
        let crypto = Crypto::parse(&format!(
            "1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:1;inline:{KEY}|2^31"
        ))
        .unwrap();
        assert_eq!(crypto.key.mki, None);
    }

    #[test]
    fn an_error_or_dump_shows_no_key() {
        let crypto = Crypto::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).unwrap();
        let shown = format!("{crypto:?}");
        assert!(!shown.contains(KEY) && !shown.contains("89, 83"), "{shown}");
    }
}
