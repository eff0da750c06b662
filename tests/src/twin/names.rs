//! The names in a certificate, read from its DER, and what a name covers.

/// `2.5.29.17`, subjectAltName.
const SUBJECT_ALTERNATIVE_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];
/// `2.5.4.3`, commonName.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];

/// The DNS names in a certificate's subjectAltName and the common name of its subject.
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    // The issuer's common name stands before the subject's; an issuer without one is not made here.
    if let Some(at) = positions(certificate, &COMMON_NAME).nth(1)
        && let Some((_, value, _)) = element(&certificate[at + COMMON_NAME.len()..])
    {
        names.push(String::from_utf8_lossy(value).into_owned());
    }
    for at in positions(certificate, &SUBJECT_ALTERNATIVE_NAME) {
        let mut rest = &certificate[at + SUBJECT_ALTERNATIVE_NAME.len()..];
        // An extension may say that it is critical.
        if let Some((0x01, _, behind)) = element(rest) {
            rest = behind;
        }
        let Some((0x04, octets, _)) = element(rest) else {
            continue;
        };
        let Some((0x30, mut rest, _)) = element(octets) else {
            continue;
        };
        while let Some((tag, value, behind)) = element(rest) {
            if tag == 0x82 {
                names.push(String::from_utf8_lossy(value).into_owned());
            }
            rest = behind;
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Whether one of a certificate's names covers a host; a wildcard covers one label.
#[must_use]
pub fn covers(names: &[String], host: &str) -> bool {
    names.iter().any(|name| match name.strip_prefix("*.") {
        Some(base) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(base)),
        None => name.eq_ignore_ascii_case(host),
    })
}

fn positions<'a>(octets: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    octets
        .windows(wanted.len())
        .enumerate()
        .filter(move |(_, window)| *window == wanted)
        .map(|(at, _)| at)
}

/// Tag, value and what follows.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = octets.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let digits = rest.get(..count).filter(|_| count <= 3)?;
        let length = digits
            .iter()
            .fold(0, |length, &digit| length << 8 | usize::from(digit));
        (length, &rest[count..])
    };
    Some((tag, rest.get(..length)?, &rest[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label() {
        let names = ["*.sbc.example.com".to_owned(), "sbc.example.com".to_owned()];
        assert!(covers(&names, "one.sbc.example.com"));
        assert!(covers(&names, "SBC.example.com"));
        assert!(!covers(&names, "a.one.sbc.example.com"));
        assert!(!covers(&names, "example.com"));
        assert!(!covers(&names, ".sbc.example.com"));
    }
}
