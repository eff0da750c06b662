//! Messages out of a stream of octets.

use bytes::{Buf, Bytes, BytesMut};

use super::{HeaderName, Limits, Rejection, SipError, lexer, parse};

/// What a stream gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, for [`parse_shared`](super::parse_shared).
    Message(Bytes),
    /// Two line breaks: the side that opened the connection asks whether we are there, and wants
    /// one line break back (RFC 5626 §4.4.1). Nothing to do on connections that we opened.
    Ping,
    /// One line break: the answer to such a question.
    Pong,
}

/// Cuts a TCP or TLS stream into messages (RFC 3261 §18.3): each is as long as its Content-Length
/// says.
///
/// What it holds is bounded: take every frame after each [`StreamFramer::push`], and no more than
/// one unfinished message, which [`Limits`] bounds, stays inside. After an error the end of the
/// message is unknown, so the stream gives nothing more and the connection should be closed.
#[derive(Debug)]
pub struct StreamFramer {
    limits: Limits,
    buffer: BytesMut,
    /// How far the end of the head was looked for in vain.
    scanned: usize,
    /// The lengths of head and body, once the head is whole.
    lengths: Option<(usize, usize)>,
    half_ping: bool,
    failed: bool,
}

impl StreamFramer {
    /// For one connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            scanned: 0,
            lengths: None,
            half_ping: false,
            failed: false,
        }
    }

    /// Takes what was read.
    pub fn push(&mut self, octets: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// How many octets wait for more.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame, `None` when more octets are needed.
    ///
    /// # Errors
    /// A [`Rejection`] when the message has no Content-Length, several, a malformed one, or is
    /// larger than the limits.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Rejection> {
        if self.failed {
            return Ok(None);
        }
        if self.lengths.is_none() {
            if let Some(frame) = self.keep_alive() {
                return Ok(Some(frame));
            }
            self.find_head()?;
        }
        let Some((head, body)) = self.lengths else {
            return Ok(None);
        };
        let length = head + body;
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.lengths = None;
        self.scanned = 0;
        self.half_ping = false;
        Ok(Some(Frame::Message(self.buffer.split_to(length).freeze())))
    }

    fn keep_alive(&mut self) -> Option<Frame> {
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.advance(4);
            self.half_ping = false;
            return Some(Frame::Ping);
        }
        if !self.buffer.starts_with(b"\r\n") || self.buffer.get(..) == Some(b"\r\n\r") {
            return None;
        }
        self.buffer.advance(2);
        // The second half of a ping may come in a segment of its own.
        self.half_ping = !self.half_ping;
        Some(if self.half_ping {
            Frame::Pong
        } else {
            Frame::Ping
        })
    }

    fn find_head(&mut self) -> Result<(), Rejection> {
        let from = self.scanned.saturating_sub(3);
        let found = self
            .buffer
            .get(from..)
            .and_then(|octets| memchr::memmem::find(octets, b"\r\n\r\n"));
        let limit = self.limits.message;
        let Some(found) = found else {
            self.scanned = self.buffer.len();
            if self.buffer.len() > limit {
                return Err(self.fail(limit, SipError::MessageTooLarge { limit }));
            }
            return Ok(());
        };
        let head = from + found + 4;
        if head > limit {
            return Err(self.fail(limit, SipError::MessageTooLarge { limit }));
        }
        let body = match content_length(self.buffer.get(..head).unwrap_or_default()) {
            Ok(body) => body,
            Err(error) => return Err(self.fail(head, error)),
        };
        if body > self.limits.body {
            let limit = self.limits.body;
            return Err(self.fail(head, SipError::BodyTooLarge { limit }));
        }
        if head + body > limit {
            return Err(self.fail(head, SipError::MessageTooLarge { limit }));
        }
        self.lengths = Some((head, body));
        Ok(())
    }

    fn fail(&mut self, head: usize, error: SipError) -> Rejection {
        self.failed = true;
        let head = self.buffer.split_to(head.min(self.buffer.len())).freeze();
        self.buffer = BytesMut::new();
        parse::reject(&head, &self.limits, error)
    }
}

fn content_length(head: &[u8]) -> Result<usize, SipError> {
    let mut found = None;
    let mut rest = head;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        let line = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + 2..).unwrap_or_default();
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let name = line.get(..colon).unwrap_or_default();
        if name.first().is_none_or(|octet| lexer::is_white(*octet))
            || HeaderName::lookup(lexer::trim(name)) != Some(HeaderName::ContentLength)
        {
            continue;
        }
        // A value on the next line is a fold, legal and never seen.
        let mut value = lexer::trim(line.get(colon + 1..).unwrap_or_default());
        if value.is_empty()
            && rest
                .first()
                .is_some_and(|octet| matches!(octet, b' ' | b'\t'))
        {
            let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
            value = lexer::trim(rest.get(..end).unwrap_or_default());
        }
        if found.is_some() {
            return Err(SipError::Repeated(HeaderName::ContentLength));
        }
        let length = lexer::number(value).ok_or(SipError::Malformed(HeaderName::ContentLength))?;
        found = Some(length as usize);
    }
    found.ok_or(SipError::LengthRequired)
}

#[cfg(test)]
#[path = "framer_tests.rs"]
mod tests;
