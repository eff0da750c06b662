//! Addresses with a display name: From, To, Contact, Route and the like.

use std::{borrow::Cow, fmt, str::FromStr};

use bytes::{Bytes, BytesMut};

use super::{Parameters, SipError, Text, Uri, lexer, parameters};

/// `"display" <uri>;parameters` (RFC 3261 §20.10, `name-addr` and `addr-spec`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameAddress {
    /// As received, with quotes when it had them. May hold octets that are not UTF-8.
    display: Option<Bytes>,
    pub uri: Uri,
    /// The header's parameters (`tag`, `expires`, …), not the URI's.
    pub parameters: Parameters,
}

impl NameAddress {
    /// An address without display name or parameters.
    #[must_use]
    pub fn new(uri: impl Into<Uri>) -> Self {
        Self {
            display: None,
            uri: uri.into(),
            parameters: Parameters::new(),
        }
    }

    /// Reads one address, the whole of `octets`.
    ///
    /// # Errors
    /// [`SipError::Uri`] for whatever breaks the grammar.
    pub fn parse(octets: &Bytes) -> Result<Self, SipError> {
        Self::parse_part(octets, octets)
    }

    pub(super) fn parse_part(whole: &Bytes, part: &[u8]) -> Result<Self, SipError> {
        let part = lexer::trim(part);
        let display_length = match part.first() {
            Some(b'"') => lexer::quoted_length(part).ok_or(SipError::Uri)?,
            _ => part
                .iter()
                .position(|octet| matches!(octet, b'<' | b'"'))
                .unwrap_or(0),
        };
        let (display, rest) = part.split_at_checked(display_length).ok_or(SipError::Uri)?;
        let display = lexer::trim(display);
        let rest = lexer::trim(rest);
        let (uri, parameters) = if let [b'<', rest @ ..] = rest {
            if !is_display(display) {
                return Err(SipError::Uri);
            }
            let end = rest
                .iter()
                .position(|octet| *octet == b'>')
                .ok_or(SipError::Uri)?;
            let (uri, rest) = rest.split_at_checked(end).ok_or(SipError::Uri)?;
            (uri, rest.get(1..).unwrap_or_default())
        } else {
            // Without brackets, `;` begins the header's parameters and `?` may not stand at all
            // (RFC 3261 §20).
            if !display.is_empty() {
                return Err(SipError::Uri);
            }
            let end = rest
                .iter()
                .position(|octet| *octet == b';')
                .unwrap_or(rest.len());
            let (uri, rest) = rest.split_at_checked(end).ok_or(SipError::Uri)?;
            if uri.iter().any(|octet| matches!(octet, b'?' | b',')) {
                return Err(SipError::Uri);
            }
            (lexer::trim(uri), rest)
        };
        Ok(Self {
            display: (!display.is_empty()).then(|| lexer::share(whole, display)),
            uri: Uri::parse_part(whole, uri)?,
            parameters: Parameters::parse(whole, parameters).ok_or(SipError::Uri)?,
        })
    }

    /// The display name without quotes and backslashes; octets that are not UTF-8 are replaced.
    #[must_use]
    pub fn display_name(&self) -> Option<Cow<'_, str>> {
        let display = self.display.as_ref()?;
        Some(match String::from_utf8_lossy(display) {
            Cow::Borrowed(text) => parameters::unquote(text),
            Cow::Owned(text) => Cow::Owned(parameters::unquote(&text).into_owned()),
        })
    }

    /// Sets the display name, quoting and escaping it; empty takes it away.
    pub fn set_display_name(&mut self, name: &str) {
        if name.is_empty() {
            self.display = None;
            return;
        }
        let mut quoted = String::with_capacity(name.len() + 2);
        quoted.push('"');
        for letter in name.chars() {
            match letter {
                '"' | '\\' => {
                    quoted.push('\\');
                    quoted.push(letter);
                }
                letter if letter.is_control() => quoted.push(' '),
                letter => quoted.push(letter),
            }
        }
        quoted.push('"');
        self.display = Some(Bytes::from(quoted));
    }

    /// The same with a display name.
    #[must_use]
    pub fn with_display_name(mut self, name: &str) -> Self {
        self.set_display_name(name);
        self
    }

    /// The `tag` of From and To.
    #[must_use]
    pub fn tag(&self) -> Option<Text> {
        self.parameters.get_shared("tag")
    }

    /// Sets the `tag`.
    pub fn set_tag(&mut self, tag: &str) {
        self.parameters.set("tag", tag);
    }

    /// The same with a `tag`.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.set_tag(tag);
        self
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        if let Some(display) = &self.display {
            out.extend_from_slice(display);
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(b"<");
        self.uri.write(out);
        out.extend_from_slice(b">");
        self.parameters.write(out);
    }
}

/// A quoted string, or words as lenient as telephones are: what would make the rest of the
/// header ambiguous is refused.
fn is_display(display: &[u8]) -> bool {
    match display.first() {
        None => true,
        Some(b'"') => lexer::quoted_length(display) == Some(display.len()),
        Some(_) => display.iter().all(|octet| {
            !matches!(
                octet,
                b'"' | b',' | b';' | b'<' | b'>' | b'@' | b'\\' | 0x7f | ..0x09 | 0x0b | 0x0c | 0x0e
                    ..0x20
            )
        }),
    }
}

impl FromStr for NameAddress {
    type Err = SipError;

    fn from_str(text: &str) -> Result<Self, SipError> {
        Self::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Display for NameAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = BytesMut::with_capacity(96);
        self.write(&mut out);
        formatter.write_str(&String::from_utf8_lossy(&out))
    }
}
