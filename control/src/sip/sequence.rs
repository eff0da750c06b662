//! The CSeq header.

use std::fmt;

use super::{Method, lexer};

/// The CSeq header field (RFC 3261 §20.16).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// Less than 2^31 (RFC 3261 §8.1.1.5).
    pub number: u32,
    pub method: Method,
}

impl CSeq {
    /// A sequence number for a method.
    #[must_use]
    pub const fn new(number: u32, method: Method) -> Self {
        Self { number, method }
    }

    /// `None` when the syntax is wrong or the number is 2^31 or more.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = lexer::trim(value);
        let split = value.iter().position(|octet| lexer::is_white(*octet))?;
        let (number, method) = value.split_at_checked(split)?;
        let number = lexer::number(number).filter(|number| *number < 1 << 31)?;
        Some(Self {
            number,
            method: Method::parse(lexer::trim(method))?,
        })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.number, self.method)
    }
}
