//! SIP URIs, as far as they are judged.

/// The parts of a URI; all text is as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    pub scheme: String,
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// What stands behind the host and port, from the first `;` or `?` on.
    pub rest: String,
}

impl Uri {
    /// Reads a URI or the address of a header field.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = match (text.find('<'), text.rfind('>')) {
            (Some(start), Some(end)) => text.get(start + 1..end)?,
            _ => text,
        };
        let (scheme, rest) = text.trim().split_once(':')?;
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let end = rest.find([';', '?']).unwrap_or(rest.len());
        let (place, rest) = rest.split_at(end);
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !place.ends_with(']') => {
                (host, Some(port.parse().ok()?))
            }
            _ => (place, None),
        };
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            rest: rest.to_owned(),
        })
    }

    /// Whether the host is an address and no name.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }

    /// The value of a URI parameter; empty when it has none.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.rest.split('?').next().unwrap_or_default();
        parameters.split(';').find_map(|part| {
            let (known, value) = part.split_once('=').unwrap_or((part, ""));
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Whether the user part is a number by E.164: `+` and digits, 15 at most.
    #[must_use]
    pub fn is_e164(&self) -> bool {
        self.user
            .as_deref()
            .and_then(|user| user.strip_prefix('+'))
            .is_some_and(|digits| {
                (1..=15).contains(&digits.len())
                    && digits.bytes().all(|octet| octet.is_ascii_digit())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let uri = Uri::parse("\"A\" <sip:+15550100@sbc.example.com:5061;transport=tls>;tag=1")
            .expect("a URI");
        assert_eq!(uri.host, "sbc.example.com");
        assert_eq!(uri.port, Some(5061));
        assert_eq!(uri.parameter("transport"), Some("tls"));
        assert!(uri.is_e164() && !uri.is_address());
        for address in [
            "sip:192.0.2.1",
            "sip:[2001:db8::1]:5061",
            "sips:1@192.0.2.1",
        ] {
            assert!(
                Uri::parse(address).expect("a URI").is_address(),
                "{address}"
            );
        }
        assert!(!Uri::parse("sip:0123@a").expect("a URI").is_e164());
    }
}
