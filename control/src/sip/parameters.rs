//! Parameters of URIs and header values: `;name=value;flag`.

use std::{borrow::Cow, fmt};

use bytes::{Bytes, BytesMut};

use super::{Text, lexer};

/// A list of `;name` and `;name=value`, kept as received and read on demand. Names are compared
/// without regard to case; the first of two equal names counts.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Parameters(Text);

impl Parameters {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `;name=value…` up to the end of `octets`. `None` when the syntax is wrong.
    pub(super) fn parse(whole: &Bytes, octets: &[u8]) -> Option<Self> {
        let octets = lexer::trim(octets);
        let mut rest = octets;
        while !rest.is_empty() {
            let (_, _, after) = take(rest)?;
            rest = after;
        }
        Text::new(lexer::share(whole, octets)).map(Self)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole list as it stands on the wire, its first `;` included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Every name with its value as received: a quoted string still has its quotes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut rest = self.0.octets().as_ref();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (name, value, after) = take(rest)?;
            rest = after;
            let value = match value {
                Some(value) => Some(std::str::from_utf8(value).ok()?),
                None => None,
            };
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// Whether the name is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The value as received; `None` when the name is absent or has no value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value)
    }

    /// As [`Parameters::get`], sharing the buffer.
    #[must_use]
    pub fn get_shared(&self, name: &str) -> Option<Text> {
        let value = self.get(name)?;
        Text::new(lexer::share(self.0.octets(), value.as_bytes()))
    }

    /// The value without quotes and backslashes.
    #[must_use]
    pub fn unquoted(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(unquote)
    }

    /// Puts `;name=value` at the end, or changes the value where the name is already. The value
    /// is written as given, so a value that is not a token must come quoted.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.replace(name, Some(Some(value.to_string())));
    }

    /// Puts `;name` at the end, or takes the value away where the name is already.
    pub fn set_flag(&mut self, name: &str) {
        self.replace(name, Some(None));
    }

    /// Takes the name away.
    pub fn remove(&mut self, name: &str) {
        if self.has(name) {
            self.replace(name, None);
        }
    }

    fn replace(&mut self, name: &str, new: Option<Option<String>>) {
        let mut out = String::with_capacity(self.0.len() + name.len() + 24);
        let mut put = |name: &str, value: Option<&str>| {
            out.push(';');
            out.push_str(name);
            if let Some(value) = value {
                out.push('=');
                // A line break in a value would begin a header of the peer's choosing.
                out.extend(
                    value
                        .chars()
                        .map(|letter| if letter.is_control() { ' ' } else { letter }),
                );
            }
        };
        let mut done = false;
        for (known, value) in self.iter() {
            if !known.eq_ignore_ascii_case(name) {
                put(known, value);
            } else if let Some(new) = &new
                && !done
            {
                put(known, new.as_deref());
                done = true;
            }
        }
        if let Some(new) = &new
            && !done
        {
            put(name, new.as_deref());
        }
        self.0 = out.into();
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(self.0.octets());
    }
}

/// `;name[=value]` off the front: the name, the value, the rest.
#[expect(clippy::type_complexity, reason = "name, value, rest")]
fn take(octets: &[u8]) -> Option<(&[u8], Option<&[u8]>, &[u8])> {
    let [b';', rest @ ..] = octets else {
        return None;
    };
    let end = part_length(rest)?;
    let (part, after) = rest.split_at_checked(end)?;
    let part = lexer::trim(part);
    let (name, value) = match part.iter().position(|octet| *octet == b'=') {
        Some(at) => (
            lexer::trim(part.get(..at)?),
            Some(lexer::trim(part.get(at + 1..)?)),
        ),
        None => (part, None),
    };
    let good_name = !name.is_empty()
        && name.iter().all(|octet| {
            lexer::is_token_octet(*octet)
                || matches!(octet, b'[' | b']' | b'/' | b':' | b'&' | b'$' | b'(' | b')')
        });
    let good_value = value.is_none_or(|value| {
        value.first() == Some(&b'"') && lexer::quoted_length(value) == Some(value.len())
            || value.iter().all(|octet| {
                !lexer::is_white(*octet)
                    && !octet.is_ascii_control()
                    && !matches!(octet, b'"' | b'<' | b'>' | b',')
            })
    });
    (good_name && good_value).then_some((name, value, after))
}

/// The length up to the next `;` outside quotes.
fn part_length(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(octet) = octets.get(at) {
        match octet {
            b';' => return Some(at),
            b'"' => at += lexer::quoted_length(octets.get(at..)?)?,
            _ => at += 1,
        }
    }
    Some(at)
}

/// The content of a quoted string; anything else as it is.
pub(super) fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
    else {
        return Cow::Borrowed(value);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        out.extend(if letter == '\\' {
            letters.next()
        } else {
            Some(letter)
        });
    }
    Cow::Owned(out)
}

impl fmt::Debug for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
