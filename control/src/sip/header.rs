//! One header field.

use bytes::{Bytes, BytesMut};

use super::{CSeq, HeaderKey, HeaderName, Method, NameAddress, Text, Via, lexer};

/// One header field. Its name and value are as received or as given: case, inner white space and
/// compact forms are kept. Only the folds of a field that is known by name are replaced by one
/// space (RFC 3261 §7.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) known: Option<HeaderName>,
    pub(super) name: Bytes,
    pub(super) value: Bytes,
}

impl Header {
    /// A header field. A line break in the value becomes a space, so that a value can never begin
    /// another header.
    #[must_use]
    pub fn new<'a>(key: impl Into<HeaderKey<'a>>, value: impl FieldValue) -> Self {
        let (known, name) = match key.into() {
            HeaderKey::Known(name) => (Some(name), Bytes::from_static(name.as_str().as_bytes())),
            HeaderKey::Other(name) => (
                None,
                name.bytes()
                    .map(|octet| {
                        if lexer::is_token_octet(octet) {
                            octet
                        } else {
                            b'-'
                        }
                    })
                    .collect(),
            ),
        };
        Self {
            known,
            name,
            value: one_line(value.into_octets()),
        }
    }

    /// The name, when it is one that is known here.
    #[must_use]
    pub const fn known_name(&self) -> Option<HeaderName> {
        self.known
    }

    /// The name as it stands on the wire, compact when it came so.
    #[must_use]
    pub fn name(&self) -> &str {
        // A name is a token, which is ASCII.
        std::str::from_utf8(&self.name).unwrap_or_default()
    }

    /// The value as it stands on the wire, without the white space around it.
    #[must_use]
    pub const fn value(&self) -> &Bytes {
        &self.value
    }

    /// The value as text; `None` when it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }

    /// Whether the field has this name.
    #[must_use]
    pub fn is(&self, key: HeaderKey<'_>) -> bool {
        match key {
            HeaderKey::Known(name) => self.known == Some(name),
            HeaderKey::Other(name) => {
                self.known.is_none() && self.name.eq_ignore_ascii_case(name.as_bytes())
            }
        }
    }

    /// The elements of the value: for a list ([`HeaderName::is_list`]) what its commas part, for
    /// any other field the whole value. Never empty ones.
    pub fn elements(&self) -> impl Iterator<Item = Bytes> {
        let is_list = self.known.is_some_and(HeaderName::is_list);
        let mut rest = Some(self.value.as_ref());
        std::iter::from_fn(move || {
            loop {
                let octets = rest?;
                let comma = is_list.then(|| lexer::next_comma(octets)).flatten();
                let element = match comma {
                    Some(at) => {
                        rest = octets.get(at + 1..);
                        octets.get(..at)?
                    }
                    None => {
                        rest = None;
                        octets
                    }
                };
                let element = lexer::trim(element);
                if !element.is_empty() {
                    return Some(lexer::share(&self.value, element));
                }
            }
        })
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(&self.value);
        out.extend_from_slice(b"\r\n");
    }
}

pub(super) fn one_line(value: Bytes) -> Bytes {
    if value.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        value
            .iter()
            .map(|octet| match octet {
                b'\r' | b'\n' | 0 => b' ',
                other => *other,
            })
            .collect()
    } else {
        value
    }
}

/// What can be the value of a header field.
pub trait FieldValue {
    /// The value as it stands on the wire.
    fn into_octets(self) -> Bytes;
}

impl FieldValue for Bytes {
    fn into_octets(self) -> Bytes {
        self
    }
}

impl FieldValue for Text {
    fn into_octets(self) -> Bytes {
        self.into()
    }
}

impl FieldValue for &Text {
    fn into_octets(self) -> Bytes {
        self.octets().clone()
    }
}

impl FieldValue for &str {
    fn into_octets(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl FieldValue for String {
    fn into_octets(self) -> Bytes {
        self.into()
    }
}

impl FieldValue for &String {
    fn into_octets(self) -> Bytes {
        self.as_str().into_octets()
    }
}

impl FieldValue for u32 {
    fn into_octets(self) -> Bytes {
        self.to_string().into()
    }
}

impl FieldValue for &CSeq {
    fn into_octets(self) -> Bytes {
        self.to_string().into()
    }
}

impl FieldValue for CSeq {
    fn into_octets(self) -> Bytes {
        (&self).into_octets()
    }
}

impl FieldValue for &Method {
    fn into_octets(self) -> Bytes {
        self.as_str().into_octets()
    }
}

impl FieldValue for &NameAddress {
    fn into_octets(self) -> Bytes {
        let mut out = BytesMut::with_capacity(96);
        self.write(&mut out);
        out.freeze()
    }
}

impl FieldValue for NameAddress {
    fn into_octets(self) -> Bytes {
        (&self).into_octets()
    }
}

impl FieldValue for &Via {
    fn into_octets(self) -> Bytes {
        let mut out = BytesMut::with_capacity(96);
        self.write(&mut out);
        out.freeze()
    }
}

impl FieldValue for Via {
    fn into_octets(self) -> Bytes {
        (&self).into_octets()
    }
}
