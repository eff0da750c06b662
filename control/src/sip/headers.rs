//! The header fields of a message, in order.

use std::slice;

use bytes::{Bytes, BytesMut};

use super::{
    CSeq, FieldValue, Header, HeaderKey, HeaderName, NameAddress, SipError, Text, Via,
    header::one_line, lexer,
};

/// The header fields of a message, in the order in which they stand on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) const fn from_fields(fields: Vec<Header>) -> Self {
        Self(fields)
    }

    /// How many fields there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every field, in order.
    pub fn iter(&self) -> slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// The first field of that name.
    #[must_use]
    pub fn get<'a>(&self, key: impl Into<HeaderKey<'a>>) -> Option<&Header> {
        let key = key.into();
        self.0.iter().find(|field| field.is(key))
    }

    /// Every field of that name, in order.
    pub fn all<'a>(&self, key: impl Into<HeaderKey<'a>>) -> impl Iterator<Item = &Header> {
        let key = key.into();
        self.0.iter().filter(move |field| field.is(key))
    }

    /// Whether there is a field of that name.
    #[must_use]
    pub fn has<'a>(&self, key: impl Into<HeaderKey<'a>>) -> bool {
        self.get(key).is_some()
    }

    /// The value of the first field of that name; `None` when there is none or it is not UTF-8.
    #[must_use]
    pub fn text<'a>(&self, key: impl Into<HeaderKey<'a>>) -> Option<&str> {
        self.get(key)?.text()
    }

    /// Every element of every field of that name, in order: several values on one line and
    /// several lines are the same thing (RFC 3261 §7.3.1).
    pub fn elements<'a>(&self, key: impl Into<HeaderKey<'a>>) -> impl Iterator<Item = Bytes> {
        self.all(key).flat_map(Header::elements)
    }

    /// Whether the list holds the token, whatever its case: for Supported, Require, Allow.
    #[must_use]
    pub fn has_token<'a>(&self, key: impl Into<HeaderKey<'a>>, token: &str) -> bool {
        self.elements(key)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Puts a field at the end.
    pub fn push<'a>(&mut self, key: impl Into<HeaderKey<'a>>, value: impl FieldValue) {
        self.0.push(Header::new(key, value));
    }

    /// Puts a field that exists already at the end, byte for byte.
    pub fn push_header(&mut self, header: Header) {
        self.0.push(header);
    }

    /// Puts a field before every other of its name, or before all when there is none: for Via,
    /// Route and Record-Route.
    pub fn push_first<'a>(&mut self, key: impl Into<HeaderKey<'a>>, value: impl FieldValue) {
        let header = Header::new(key, value);
        let at = match header.known {
            Some(known) => self.0.iter().position(|field| field.known == Some(known)),
            None => self.0.iter().position(|field| {
                field.known.is_none() && field.name.eq_ignore_ascii_case(&header.name)
            }),
        };
        self.0.insert(at.unwrap_or(0), header);
    }

    /// Gives the name this one value: in the place of the first field of that name, or at the
    /// end. Further fields of the name go.
    pub fn set<'a>(&mut self, key: impl Into<HeaderKey<'a>>, value: impl FieldValue) {
        let key = key.into();
        match self.0.iter().position(|field| field.is(key)) {
            Some(at) => {
                let mut seen = false;
                self.0
                    .retain(|field| !field.is(key) || !std::mem::replace(&mut seen, true));
                if let Some(field) = self.0.get_mut(at) {
                    field.value = one_line(value.into_octets());
                }
            }
            None => self.push(key, value),
        }
    }

    /// Takes every field of that name away and says whether there was one.
    pub fn remove<'a>(&mut self, key: impl Into<HeaderKey<'a>>) -> bool {
        let key = key.into();
        let before = self.0.len();
        self.0.retain(|field| !field.is(key));
        self.0.len() != before
    }

    /// Keeps the fields for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Header) -> bool) {
        self.0.retain(keep);
    }

    /// Replaces the first element of that name, leaving the others on its line.
    pub fn set_first<'a>(&mut self, key: impl Into<HeaderKey<'a>>, value: impl FieldValue) {
        let key = key.into();
        let Some(field) = self.0.iter_mut().find(|field| field.is(key)) else {
            self.push_first(key, value);
            return;
        };
        let rest = field
            .known
            .is_some_and(HeaderName::is_list)
            .then(|| lexer::next_comma(&field.value))
            .flatten();
        let first = one_line(value.into_octets());
        field.value = match rest {
            Some(at) => {
                let mut out = BytesMut::with_capacity(first.len() + field.value.len() - at);
                out.extend_from_slice(&first);
                out.extend_from_slice(field.value.get(at..).unwrap_or_default());
                out.freeze()
            }
            None => first,
        };
    }

    /// Takes the first element of that name away and returns it.
    pub fn remove_first<'a>(&mut self, key: impl Into<HeaderKey<'a>>) -> Option<Bytes> {
        let key = key.into();
        let at = self.0.iter().position(|field| field.is(key))?;
        let field = self.0.get_mut(at)?;
        let comma = field
            .known
            .is_some_and(HeaderName::is_list)
            .then(|| lexer::next_comma(&field.value))
            .flatten();
        match comma {
            Some(comma) => {
                let whole = field.value.clone();
                let first = lexer::share(&whole, lexer::trim(whole.get(..comma)?));
                field.value = lexer::share(&whole, lexer::trim(whole.get(comma + 1..)?));
                Some(first)
            }
            None => Some(self.0.remove(at).value),
        }
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`SipError::Missing`] or [`SipError::Malformed`].
    pub fn via(&self) -> Result<Via, SipError> {
        let first = self
            .elements(HeaderName::Via)
            .next()
            .ok_or(SipError::Missing(HeaderName::Via))?;
        Via::parse(&first).ok_or(SipError::Malformed(HeaderName::Via))
    }

    /// Every Via, the topmost first.
    ///
    /// # Errors
    /// [`SipError::Malformed`].
    pub fn vias(&self) -> Result<Vec<Via>, SipError> {
        self.elements(HeaderName::Via)
            .map(|element| Via::parse(&element).ok_or(SipError::Malformed(HeaderName::Via)))
            .collect()
    }

    /// From.
    ///
    /// # Errors
    /// [`SipError::Missing`] or [`SipError::Malformed`].
    pub fn from(&self) -> Result<NameAddress, SipError> {
        self.address(HeaderName::From)
    }

    /// To.
    ///
    /// # Errors
    /// [`SipError::Missing`] or [`SipError::Malformed`].
    pub fn to(&self) -> Result<NameAddress, SipError> {
        self.address(HeaderName::To)
    }

    /// The first Contact.
    ///
    /// # Errors
    /// [`SipError::Missing`] or [`SipError::Malformed`], also for `*`.
    pub fn contact(&self) -> Result<NameAddress, SipError> {
        self.address(HeaderName::Contact)
    }

    /// The first address of a header field that holds addresses.
    ///
    /// # Errors
    /// [`SipError::Missing`] or [`SipError::Malformed`].
    pub fn address(&self, name: HeaderName) -> Result<NameAddress, SipError> {
        let first = self.elements(name).next().ok_or(SipError::Missing(name))?;
        NameAddress::parse(&first).map_err(|_| SipError::Malformed(name))
    }

    /// Every address of a header field that holds addresses, in order: Contact, Route,
    /// Record-Route, P-Asserted-Identity, History-Info, Diversion and the like.
    ///
    /// # Errors
    /// [`SipError::Malformed`] when one of them is.
    pub fn addresses(&self, name: HeaderName) -> Result<Vec<NameAddress>, SipError> {
        self.elements(name)
            .map(|element| NameAddress::parse(&element).map_err(|_| SipError::Malformed(name)))
            .collect()
    }

    /// CSeq.
    ///
    /// # Errors
    /// [`SipError::Missing`] or [`SipError::Malformed`].
    pub fn cseq(&self) -> Result<CSeq, SipError> {
        let field = self
            .get(HeaderName::CSeq)
            .ok_or(SipError::Missing(HeaderName::CSeq))?;
        CSeq::parse(&field.value).ok_or(SipError::Malformed(HeaderName::CSeq))
    }

    /// Call-ID, compared octet by octet.
    ///
    /// # Errors
    /// [`SipError::Missing`], or [`SipError::Malformed`] when it is not UTF-8.
    pub fn call_id(&self) -> Result<Text, SipError> {
        let field = self
            .get(HeaderName::CallId)
            .ok_or(SipError::Missing(HeaderName::CallId))?;
        Text::new(field.value.clone()).ok_or(SipError::Malformed(HeaderName::CallId))
    }

    /// The number in a header field that is one: Max-Forwards, Content-Length, Expires, Min-SE,
    /// RSeq, Retry-After. What follows it (parameters, a comment) is left aside. `None` when the
    /// field is absent.
    ///
    /// # Errors
    /// [`SipError::Malformed`] when there is no number or it does not fit.
    pub fn number(&self, name: HeaderName) -> Result<Option<u32>, SipError> {
        let Some(field) = self.get(name) else {
            return Ok(None);
        };
        let end = field
            .value
            .iter()
            .position(|octet| matches!(octet, b';' | b'(') || lexer::is_white(*octet))
            .unwrap_or(field.value.len());
        field
            .value
            .get(..end)
            .and_then(lexer::number)
            .map(Some)
            .ok_or(SipError::Malformed(name))
    }

    /// Content-Type without its parameters, in lower case; `None` when absent.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        let text = self.text(HeaderName::ContentType)?;
        let kind = text.split(';').next()?;
        Some(
            kind.chars()
                .filter(|letter| !letter.is_ascii_whitespace())
                .map(|letter| letter.to_ascii_lowercase())
                .collect(),
        )
    }

    /// Writes every field, with Content-Length saying `body` octets.
    pub(super) fn write(&self, out: &mut BytesMut, body: usize) {
        let mut length_written = false;
        for field in &self.0 {
            if field.known == Some(HeaderName::ContentLength) {
                if std::mem::replace(&mut length_written, true) {
                    continue;
                }
                if lexer::number(&field.value).map(|length| length as usize) != Some(body) {
                    out.extend_from_slice(&field.name);
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(body.to_string().as_bytes());
                    out.extend_from_slice(b"\r\n");
                    continue;
                }
            }
            field.write(out);
        }
        if !length_written {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(body.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Extend<Header> for Headers {
    fn extend<T: IntoIterator<Item = Header>>(&mut self, fields: T) {
        self.0.extend(fields);
    }
}
