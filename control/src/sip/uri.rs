//! SIP, SIPS and tel URIs.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use bytes::{Bytes, BytesMut};

use super::{Parameters, SipError, Text, lexer};

/// A URI. What is not `sip:`, `sips:` or `tel:` is kept as text, so that it can be refused with
/// 416 or passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uri {
    Sip(SipUri),
    Tel(TelUri),
    /// Another scheme, whole.
    Other(Text),
}

/// A `sip:` or `sips:` URI (RFC 3261 §19.1). Its parts are as received, escapes included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SipUri {
    /// True for `sips:`.
    pub secure: bool,
    /// What stands before `@`, without a password.
    pub user: Option<Text>,
    pub password: Option<Text>,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: Text,
    pub port: Option<u16>,
    pub parameters: Parameters,
    /// What stands after `?`.
    pub headers: Option<Text>,
}

/// A `tel:` URI (RFC 3966).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TelUri {
    /// The number as received, visual separators included.
    pub number: Text,
    pub parameters: Parameters,
}

impl Uri {
    /// Reads a whole URI; the parts share `octets`.
    ///
    /// # Errors
    /// [`SipError::Uri`] when the grammar of its scheme is broken.
    pub fn parse(octets: &Bytes) -> Result<Self, SipError> {
        Self::parse_part(octets, octets)
    }

    pub(super) fn parse_part(whole: &Bytes, part: &[u8]) -> Result<Self, SipError> {
        let colon = part
            .iter()
            .position(|octet| *octet == b':')
            .ok_or(SipError::Uri)?;
        let (scheme, rest) = part.split_at_checked(colon).ok_or(SipError::Uri)?;
        let rest = rest.get(1..).unwrap_or_default();
        let uri = if scheme.eq_ignore_ascii_case(b"sip") {
            SipUri::parse(whole, rest, false).map(Self::Sip)
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            SipUri::parse(whole, rest, true).map(Self::Sip)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            TelUri::parse(whole, rest).map(Self::Tel)
        } else {
            Self::parse_other(whole, part, scheme, rest)
        };
        uri.ok_or(SipError::Uri)
    }

    fn parse_other(whole: &Bytes, part: &[u8], scheme: &[u8], rest: &[u8]) -> Option<Self> {
        let good_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'));
        let good_rest = !rest.is_empty()
            && rest
                .iter()
                .all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>' | b'"'));
        (good_scheme && good_rest)
            .then(|| Text::new(lexer::share(whole, part)).map(Self::Other))
            .flatten()
    }

    /// The SIP or SIPS URI, if it is one.
    #[must_use]
    pub const fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// The user of a SIP URI, or the number of a tel URI, as received.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Sip(uri) => uri.user.as_deref(),
            Self::Tel(uri) => Some(&uri.number),
            Self::Other(_) => None,
        }
    }

    /// The user without escapes.
    #[must_use]
    pub fn user_unescaped(&self) -> Option<Cow<'_, str>> {
        let user = self.user()?;
        if !user.contains('%') {
            return Some(Cow::Borrowed(user));
        }
        let octets = lexer::unescape(user.as_bytes())?;
        String::from_utf8(octets).ok().map(Cow::Owned)
    }

    /// The scheme in lower case; an unknown one as received.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match self {
            Self::Sip(uri) if uri.secure => "sips",
            Self::Sip(_) => "sip",
            Self::Tel(_) => "tel",
            Self::Other(whole) => whole.split(':').next().unwrap_or_default(),
        }
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Sip(uri) => uri.write(out),
            Self::Tel(uri) => {
                out.extend_from_slice(b"tel:");
                out.extend_from_slice(uri.number.octets());
                uri.parameters.write(out);
            }
            Self::Other(whole) => out.extend_from_slice(whole.octets()),
        }
    }
}

impl SipUri {
    /// `sip:host`, or `sip:user@host` when there is a user. The user is escaped where it must be;
    /// an IPv6 address may come with or without brackets.
    #[must_use]
    pub fn new(user: Option<&str>, host: &str, port: Option<u16>) -> Self {
        let bracketed = host.contains(':') && !host.starts_with('[');
        Self {
            secure: false,
            user: user.map(|user| escape_user(user).into()),
            password: None,
            host: if bracketed {
                format!("[{host}]").into()
            } else {
                host.into()
            },
            port,
            parameters: Parameters::new(),
            headers: None,
        }
    }

    fn parse(whole: &Bytes, rest: &[u8], secure: bool) -> Option<Self> {
        let at = rest.iter().position(|octet| *octet == b'@');
        let (user, password, rest) = match at {
            Some(at) => {
                let (userinfo, rest) = rest.split_at_checked(at)?;
                let mut parts = userinfo.splitn(2, |octet| *octet == b':');
                let user = parts.next().filter(|user| is_user(user))?;
                let password = parts.next();
                if !password.is_none_or(is_password) {
                    return None;
                }
                (Some(user), password, rest.get(1..)?)
            }
            None => (None, None, rest),
        };
        let host_end = rest
            .iter()
            .position(|octet| matches!(octet, b';' | b'?'))
            .unwrap_or(rest.len());
        let (host_port, rest) = rest.split_at_checked(host_end)?;
        if host_port.iter().any(|octet| lexer::is_white(*octet)) {
            return None;
        }
        let (host, port) = lexer::host_and_port(host_port)?;
        let (parameters, headers) = match rest.iter().position(|octet| *octet == b'?') {
            Some(at) => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
            None => (rest, None),
        };
        if parameters.iter().any(|octet| !is_parameter_octet(*octet))
            || !lexer::escapes_are_good(parameters)
            || !headers.is_none_or(is_headers)
        {
            return None;
        }
        let text = |part| Text::new(lexer::share(whole, part));
        Some(Self {
            secure,
            user: match user {
                Some(user) => Some(text(user)?),
                None => None,
            },
            password: match password {
                Some(password) => Some(text(password)?),
                None => None,
            },
            host: text(host)?,
            port,
            parameters: Parameters::parse(whole, parameters)?,
            headers: match headers {
                Some(headers) => Some(text(headers)?),
                None => None,
            },
        })
    }

    /// The host as an address, when it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        host_address(&self.host)
    }

    /// The `transport` parameter.
    #[must_use]
    pub fn transport(&self) -> Option<&str> {
        self.parameters.get("transport")
    }

    /// Whether the URI is a loose router's (`lr`, RFC 3261 §19.1.1).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.parameters.has("lr")
    }

    /// Equal by RFC 3261 §19.1.4: hosts without regard to case, users and passwords with; `user`,
    /// `ttl`, `method`, `maddr` and `transport` must be in both or in neither, other parameters
    /// must not differ where both have them; headers must be the same.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        let same_parameter =
            |name: &str, theirs: &Parameters, mine: Option<&str>| match (mine, theirs.get(name)) {
                (Some(mine), Some(theirs)) => mine.eq_ignore_ascii_case(theirs),
                (None, None) => true,
                _ => !["user", "ttl", "method", "maddr", "transport"]
                    .iter()
                    .any(|strict| strict.eq_ignore_ascii_case(name)),
            };
        self.secure == other.secure
            && same_user(self.user.as_ref(), other.user.as_ref())
            && same_user(self.password.as_ref(), other.password.as_ref())
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && self
                .parameters
                .iter()
                .all(|(name, value)| same_parameter(name, &other.parameters, value))
            && other
                .parameters
                .iter()
                .all(|(name, value)| same_parameter(name, &self.parameters, value))
            && self.headers == other.headers
    }

    fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(if self.secure { b"sips:" } else { b"sip:" });
        if let Some(user) = &self.user {
            out.extend_from_slice(user.octets());
            if let Some(password) = &self.password {
                out.extend_from_slice(b":");
                out.extend_from_slice(password.octets());
            }
            out.extend_from_slice(b"@");
        }
        out.extend_from_slice(self.host.octets());
        if let Some(port) = self.port {
            out.extend_from_slice(b":");
            out.extend_from_slice(port.to_string().as_bytes());
        }
        self.parameters.write(out);
        if let Some(headers) = &self.headers {
            out.extend_from_slice(b"?");
            out.extend_from_slice(headers.octets());
        }
    }
}

impl TelUri {
    fn parse(whole: &Bytes, rest: &[u8]) -> Option<Self> {
        let end = rest
            .iter()
            .position(|octet| *octet == b';')
            .unwrap_or(rest.len());
        let (number, parameters) = rest.split_at_checked(end)?;
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        let good = digits.iter().any(u8::is_ascii_hexdigit)
            && digits.iter().all(|octet| {
                octet.is_ascii_hexdigit()
                    || matches!(octet, b'-' | b'.' | b'(' | b')' | b'*' | b'#')
            })
            && parameters.iter().all(|octet| is_parameter_octet(*octet));
        if !good {
            return None;
        }
        Some(Self {
            number: Text::new(lexer::share(whole, number))?,
            parameters: Parameters::parse(whole, parameters)?,
        })
    }
}

/// The address that a URI's or a Via's host is, brackets or not.
pub(super) fn host_address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
        .parse()
        .ok()
}

fn same_user(mine: Option<&Text>, theirs: Option<&Text>) -> bool {
    match (mine, theirs) {
        (None, None) => true,
        (Some(mine), Some(theirs)) => {
            mine == theirs || lexer::unescape(mine.as_bytes()) == lexer::unescape(theirs.as_bytes())
        }
        _ => false,
    }
}

const fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')'
        )
}

// `#` is not in the RFC's grammar, but dialled as it is by many a telephone.
const fn is_user_octet(octet: u8) -> bool {
    is_unreserved(octet)
        || matches!(
            octet,
            b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/' | b'#'
        )
}

fn is_user(user: &[u8]) -> bool {
    !user.is_empty()
        && user
            .iter()
            .all(|octet| is_user_octet(*octet) || *octet == b'%')
        && lexer::escapes_are_good(user)
}

fn is_password(password: &[u8]) -> bool {
    password.iter().all(|octet| {
        is_unreserved(*octet) || matches!(octet, b'&' | b'=' | b'+' | b'$' | b',' | b'%')
    }) && lexer::escapes_are_good(password)
}

const fn is_parameter_octet(octet: u8) -> bool {
    is_unreserved(octet)
        || matches!(
            octet,
            b'[' | b']' | b'/' | b':' | b'&' | b'+' | b'$' | b'%' | b';' | b'=' | b'"'
        )
}

fn is_headers(headers: &[u8]) -> bool {
    lexer::escapes_are_good(headers)
        && headers.split(|octet| *octet == b'&').all(|header| {
            header.iter().all(|octet| {
                is_unreserved(*octet)
                    || matches!(
                        octet,
                        b'[' | b']' | b'/' | b'?' | b':' | b'+' | b'$' | b'%' | b'=' | b';' | b'@'
                    )
            }) && header.contains(&b'=')
        })
}

fn escape_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for octet in user.bytes() {
        if is_user_octet(octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Self::Sip(uri)
    }
}

impl FromStr for Uri {
    type Err = SipError;

    fn from_str(text: &str) -> Result<Self, SipError> {
        Self::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = BytesMut::with_capacity(64);
        self.write(&mut out);
        formatter.write_str(&String::from_utf8_lossy(&out))
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = BytesMut::with_capacity(64);
        self.write(&mut out);
        formatter.write_str(&String::from_utf8_lossy(&out))
    }
}
