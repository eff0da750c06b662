//! The smallest pieces of SIP's grammar (RFC 3261 §25.1).

use bytes::Bytes;

/// Linear white space; CR and LF stand only in folds, the parser has seen to that.
pub(super) const fn is_white(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

pub(super) const fn is_token_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

pub(super) fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().copied().all(is_token_octet)
}

/// Without the white space at both ends.
pub(super) fn trim(mut octets: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = octets
        && is_white(*first)
    {
        octets = rest;
    }
    while let [rest @ .., last] = octets
        && is_white(*last)
    {
        octets = rest;
    }
    octets
}

/// Of `octets`, which start with a quotation mark: the length of the quoted string, both marks
/// included. `None` when it is never closed.
pub(super) fn quoted_length(octets: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match octets.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// `part` as a shared slice of `whole`. `part` must have been cut from `whole`.
pub(super) fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() {
        Bytes::new()
    } else {
        whole.slice_ref(part)
    }
}

/// The place of the first comma outside quoted strings and angle brackets.
pub(super) fn next_comma(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut bracketed = false;
    while let Some(octet) = octets.get(at) {
        match octet {
            b'"' if !bracketed => {
                at += quoted_length(octets.get(at..)?)?;
                continue;
            }
            b'<' => bracketed = true,
            b'>' => bracketed = false,
            b',' if !bracketed => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Decimal digits only, and no more than fit.
pub(super) fn number(octets: &[u8]) -> Option<u32> {
    if octets.is_empty() || octets.len() > 20 {
        return None;
    }
    octets.iter().try_fold(0u32, |sum, octet| {
        let digit = octet.is_ascii_digit().then(|| u32::from(octet - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Removes `%41`-style escapes; `None` when one is malformed.
pub(super) fn unescape(octets: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else {
                return None;
            };
            out.push(hexadecimal(*high)? << 4 | hexadecimal(*low)?);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    Some(out)
}

const fn hexadecimal(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

/// Whether every `%` begins a good escape.
pub(super) fn escapes_are_good(octets: &[u8]) -> bool {
    let mut rest = octets;
    while let Some(at) = rest.iter().position(|octet| *octet == b'%') {
        match rest.get(at + 1..at + 3) {
            Some([high, low]) if hexadecimal(*high).is_some() && hexadecimal(*low).is_some() => {}
            _ => return false,
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    true
}

/// The host (with brackets when IPv6) and port of `host[:port]`; white space is allowed around
/// the colon, as Via allows it.
pub(super) fn host_and_port(octets: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = if octets.first() == Some(&b'[') {
        octets.iter().position(|octet| *octet == b']')? + 1
    } else {
        octets
            .iter()
            .position(|octet| *octet == b':' || is_white(*octet))
            .unwrap_or(octets.len())
    };
    let (host, rest) = octets.split_at_checked(host_end)?;
    if !is_host(host) {
        return None;
    }
    let port = match trim(rest) {
        [] => None,
        [b':', digits @ ..] => {
            let port = u16::try_from(number(trim(digits))?).ok()?;
            Some(port)
        }
        _ => return None,
    };
    Some((host, port))
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', address @ .., b']'] => std::str::from_utf8(address)
            .is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        // An underscore is not in the RFC's grammar but in many a private domain.
        name => name
            .iter()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_')),
    }
}
