//! A message as it was received: a view that has been found sound.

use super::{
    COOKIE, HEADER, StunError,
    attribute::Attribute,
    integrity::{self, TAG},
};

/// What a message is for (RFC 8489, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A STUN message whose lengths fit, and whose FINGERPRINT, if there is one, is right.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    octets: &'a [u8],
    kind: u16,
    transaction: &'a [u8; 12],
}

impl<'a> Message<'a> {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// [`StunError::Malformed`], [`StunError::Fingerprint`].
    pub fn parse(octets: &'a [u8]) -> Result<Self, StunError> {
        let (header, body) = octets
            .split_first_chunk::<HEADER>()
            .ok_or(StunError::Malformed)?;
        let half = |at: usize| -> Option<u16> {
            let octets = header.get(at..)?.first_chunk()?;
            Some(u16::from_be_bytes(*octets))
        };
        let kind = half(0).filter(|kind| kind & 0xc000 == 0);
        let kind = kind.ok_or(StunError::Malformed)?;
        let cookie = header.get(4..8) == Some(&COOKIE.to_be_bytes());
        let length = half(2).map(usize::from) == Some(body.len());
        if !cookie || !length || body.len() % 4 != 0 {
            return Err(StunError::Malformed);
        }
        let message = Self {
            octets,
            kind,
            transaction: octets
                .get(8..)
                .and_then(|rest| rest.first_chunk())
                .ok_or(StunError::Malformed)?,
        };
        let mut attributes = message.raw_attributes();
        let mut last = None;
        for attribute in attributes.by_ref() {
            if last == Some(Attribute::FINGERPRINT) {
                return Err(StunError::Fingerprint);
            }
            last = Some(attribute.kind);
            if attribute.kind == Attribute::FINGERPRINT {
                let covered = octets.get(..attribute.offset).unwrap_or_default();
                if attribute.value != integrity::fingerprint(covered).to_be_bytes() {
                    return Err(StunError::Fingerprint);
                }
            }
        }
        if attributes.is_broken() {
            return Err(StunError::Malformed);
        }
        Ok(message)
    }

    #[must_use]
    pub fn class(&self) -> Class {
        match self.kind & 0x0110 {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        }
    }

    /// The method, such as [`super::BINDING`].
    #[must_use]
    pub fn method(&self) -> u16 {
        let kind = self.kind;
        kind & 0x000f | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2
    }

    #[must_use]
    pub fn transaction(&self) -> &'a [u8; 12] {
        self.transaction
    }

    /// The attributes that count: those behind MESSAGE-INTEGRITY are nobody's word (RFC 8489,
    /// section 14.5).
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> {
        let mut covered = true;
        self.raw_attributes().take_while(move |attribute| {
            let counts = covered;
            covered &= attribute.kind != Attribute::MESSAGE_INTEGRITY;
            counts
        })
    }

    /// The first attribute of a kind among those that count.
    #[must_use]
    pub fn attribute(&self, kind: u16) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }

    /// Whether MESSAGE-INTEGRITY is there and by the password.
    #[must_use]
    pub fn is_by(&self, password: &[u8]) -> bool {
        let Some(attribute) = self.attribute(Attribute::MESSAGE_INTEGRITY) else {
            return false;
        };
        let covered = self.octets.get(..attribute.offset).unwrap_or_default();
        // The length is as if MESSAGE-INTEGRITY were the last attribute.
        let length = (attribute.offset + 4 + TAG).checked_sub(HEADER);
        let length = length.and_then(|length| u16::try_from(length).ok());
        let tag = length.and_then(|length| integrity::tag(covered, length, password));
        tag.is_some_and(|tag| integrity::equal(&tag, attribute.value))
    }

    fn raw_attributes(&self) -> Attributes<'a> {
        Attributes {
            octets: self.octets,
            offset: HEADER,
        }
    }
}

/// Every attribute, as far as the lengths lead.
struct Attributes<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl Attributes<'_> {
    /// Whether it ended before the message does.
    fn is_broken(&self) -> bool {
        self.offset != self.octets.len()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let rest = self.octets.get(self.offset..)?;
        let ([a, b, c, d], rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let padded = length.next_multiple_of(4);
        let value = rest.get(..padded)?.get(..length)?;
        let attribute = Attribute {
            kind: u16::from_be_bytes([*a, *b]),
            value,
            offset: self.offset,
        };
        self.offset += 4 + padded;
        Some(attribute)
    }
}
