//! Whether header fields that the core reads keep to their grammar.

use bytes::Bytes;

use super::{CSeq, Header, HeaderName, NameAddress, Via, lexer};

/// Counts the elements of lists on the way; beyond `limit` they are not looked at.
pub(super) struct Inspection {
    pub elements: usize,
    pub limit: usize,
    pub is_request: bool,
}

impl Inspection {
    pub(super) fn is_good(&mut self, header: &Header, name: HeaderName) -> bool {
        let value = &header.value;
        match name {
            HeaderName::Via => self.each(header, |element| Via::parse(element).is_some()),
            HeaderName::CSeq => CSeq::parse(value).is_some(),
            HeaderName::CallId => {
                !value.is_empty()
                    && std::str::from_utf8(value).is_ok()
                    && !value.iter().any(|octet| lexer::is_white(*octet))
            }
            HeaderName::From | HeaderName::To => NameAddress::parse(value).is_ok(),
            HeaderName::MaxForwards => lexer::number(value).is_some_and(|hops| hops <= 255),
            HeaderName::ContentLength => lexer::number(value).is_some(),
            HeaderName::Contact => {
                value.as_ref() == b"*"
                    || self.each(header, |element| NameAddress::parse(element).is_ok())
            }
            // Of a response only what makes a dialog is read; a request's Route decides its way.
            HeaderName::Route | HeaderName::RecordRoute if self.is_request => {
                self.each(header, |element| NameAddress::parse(element).is_ok())
            }
            _ => true,
        }
    }

    fn each(&mut self, header: &Header, is_good: impl Fn(&Bytes) -> bool) -> bool {
        header.elements().all(|element| {
            self.elements += 1;
            self.elements > self.limit || is_good(&element)
        })
    }
}
