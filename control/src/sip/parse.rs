//! From octets to a message, in one pass over them.
//!
//! Time and memory are linear in the message's length, which [`Limits`] bounds. A fault does not
//! end the reading: the remaining fields are wanted for the response.

use std::{fmt, hash::Hasher};

use bytes::Bytes;
use memchr::memchr2;

use super::{
    CSeq, Header, HeaderName, Headers, Limits, Message, Method, Request, Response, SipError, Uri,
    inspection::Inspection, lexer,
};

/// A message that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub error: SipError,
    /// Where in the message, in octets from its beginning.
    pub offset: usize,
    /// The answer, when it was a request and enough of it was understood. An ACK is never
    /// answered.
    pub response: Option<Box<Response>>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at octet {}", self.error, self.offset)
    }
}

impl std::error::Error for Rejection {}

/// Reads one whole message: a datagram, or what
/// [`StreamFramer`](super::StreamFramer) gave. What follows the body that Content-Length
/// announces is left aside (RFC 3261 §18.3); without Content-Length the body goes to the end.
///
/// # Errors
/// A [`Rejection`] with the first fault found.
pub fn parse(octets: &[u8], limits: &Limits) -> Result<Message, Rejection> {
    if octets.len() > limits.message {
        // The beginning is enough for an answer.
        let head = octets.get(..limits.message).unwrap_or_default();
        return Err(reject(
            &Bytes::copy_from_slice(head),
            limits,
            SipError::MessageTooLarge {
                limit: limits.message,
            },
        ));
    }
    parse_shared(&Bytes::copy_from_slice(octets), limits)
}

/// As [`parse`], without a copy: the message shares `whole`.
///
/// # Errors
/// As [`parse`].
pub fn parse_shared(whole: &Bytes, limits: &Limits) -> Result<Message, Rejection> {
    if whole.len() > limits.message {
        let head = whole.slice(..limits.message);
        return Err(reject(
            &head,
            limits,
            SipError::MessageTooLarge {
                limit: limits.message,
            },
        ));
    }
    let mut reader = Reader::new(whole, limits);
    let start = reader.start_line();
    reader.fields();
    reader.check(start.as_ref());
    reader.finish(start)
}

/// Refuses a message whose end is unknown, with an answer when its head tells to whom.
pub(super) fn reject(head: &Bytes, limits: &Limits, error: SipError) -> Rejection {
    let mut reader = Reader::new(head, limits);
    reader.fault = Some((error, 0));
    let _ = reader.start_line();
    reader.fields();
    reader.rejection()
}

enum StartLine {
    Request(Method, Uri),
    Status(u16, Bytes),
}

struct Reader<'a> {
    whole: &'a Bytes,
    limits: &'a Limits,
    at: usize,
    headers: Vec<Header>,
    fault: Option<(SipError, usize)>,
    /// Whether the first line began as a request's does, with a method that wants an answer.
    answerable: bool,
    body: Bytes,
}

impl<'a> Reader<'a> {
    fn new(whole: &'a Bytes, limits: &'a Limits) -> Self {
        Self {
            whole,
            limits,
            at: 0,
            headers: Vec::with_capacity(16),
            fault: None,
            answerable: false,
            body: Bytes::new(),
        }
    }

    fn fail(&mut self, error: SipError, offset: usize) {
        self.fault.get_or_insert((error, offset));
    }

    fn rest(&self) -> &'a [u8] {
        self.whole.get(self.at..).unwrap_or_default()
    }

    fn start_line(&mut self) -> Option<StartLine> {
        // RFC 3261 §7.5: line breaks before the start line are ignored.
        while self.rest().starts_with(b"\r\n") {
            self.at += 2;
        }
        let begin = self.at;
        let rest = self.rest();
        let Some(end) = memchr2(b'\r', b'\n', rest) else {
            self.fail(SipError::Unfinished, begin);
            self.at = self.whole.len();
            return None;
        };
        let (line, after) = rest.split_at_checked(end)?;
        let good_end = after.starts_with(b"\r\n");
        self.at += end + if good_end { 2 } else { 1 };
        if !good_end {
            self.fail(SipError::StartLine, begin + end);
        }
        let result = if line.len() >= 4 && line.get(..4)?.eq_ignore_ascii_case(b"SIP/") {
            self.status_line(line)
        } else {
            self.request_line(line)
        };
        match result {
            Ok(start) => Some(start),
            Err(error) => {
                self.fail(error, begin);
                None
            }
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<StartLine, SipError> {
        let space = memchr::memchr(b' ', line).ok_or(SipError::StartLine)?;
        let (method, rest) = line.split_at_checked(space).ok_or(SipError::StartLine)?;
        let method = Method::parse(method).ok_or(SipError::StartLine)?;
        self.answerable = method != Method::Ack;
        let rest = rest.get(1..).unwrap_or_default();
        let space = memchr::memrchr(b' ', rest).ok_or(SipError::StartLine)?;
        let (uri, version) = rest.split_at_checked(space).ok_or(SipError::StartLine)?;
        check_version(version.get(1..).unwrap_or_default())?;
        if uri.len() > self.limits.uri {
            return Err(SipError::UriTooLong {
                limit: self.limits.uri,
            });
        }
        if uri.is_empty() || uri.iter().any(|octet| lexer::is_white(*octet)) {
            return Err(SipError::StartLine);
        }
        let uri = Uri::parse_part(self.whole, uri)?;
        // Headers may not stand in a Request-URI (RFC 3261 §19.1.1).
        if uri.as_sip().is_some_and(|uri| uri.headers.is_some()) {
            return Err(SipError::Uri);
        }
        Ok(StartLine::Request(method, uri))
    }

    fn status_line(&self, line: &[u8]) -> Result<StartLine, SipError> {
        let space = memchr::memchr(b' ', line).ok_or(SipError::StartLine)?;
        let (version, rest) = line.split_at_checked(space).ok_or(SipError::StartLine)?;
        check_version(version)?;
        let (status, reason) = match rest {
            [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
            // The space before an empty reason phrase is forgotten by many.
            [b' ', a, b, c] => ([*a, *b, *c], &[][..]),
            _ => return Err(SipError::StartLine),
        };
        let status = lexer::number(&status)
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (100..700).contains(status))
            .ok_or(SipError::StartLine)?;
        Ok(StartLine::Status(status, lexer::share(self.whole, reason)))
    }

    fn fields(&mut self) {
        loop {
            if self.rest().starts_with(b"\r\n") {
                self.at += 2;
                return;
            }
            let begin = self.at;
            let Some(line) = self.line() else {
                return;
            };
            if line.octets.len() > self.limits.header {
                let limit = self.limits.header;
                self.fail(SipError::HeaderTooLong { limit }, begin);
                continue;
            }
            if !line.good {
                self.fail(SipError::HeaderLine, begin);
                continue;
            }
            let Some(header) = self.field(&line) else {
                self.fail(SipError::HeaderLine, begin);
                continue;
            };
            if self.headers.len() == self.limits.headers {
                let limit = self.limits.headers;
                self.fail(SipError::TooManyHeaders { limit }, begin);
                return;
            }
            self.headers.push(header);
        }
    }

    /// The next line with its folds, its end left away.
    fn line(&mut self) -> Option<Line<'a>> {
        let begin = self.at;
        let mut line = Line {
            octets: &[],
            folded: false,
            good: true,
        };
        loop {
            let Some(found) = memchr2(b'\r', b'\n', self.rest()) else {
                self.fail(SipError::Unfinished, begin);
                self.at = self.whole.len();
                return None;
            };
            let end = self.at + found;
            match self.whole.get(end..) {
                Some([b'\r', b'\n', after @ ..]) => {
                    self.at = end + 2;
                    if matches!(after, [b' ' | b'\t', ..]) {
                        line.folded = true;
                        continue;
                    }
                    line.octets = self.whole.get(begin..end)?;
                    return Some(line);
                }
                _ => {
                    line.good = false;
                    self.at = end + 1;
                    // What is only CR and LF would be looked at octet by octet.
                    if self.at - begin > self.limits.header {
                        let limit = self.limits.header;
                        self.fail(SipError::HeaderTooLong { limit }, begin);
                        return None;
                    }
                }
            }
        }
    }

    fn field(&self, line: &Line<'_>) -> Option<Header> {
        let colon = memchr::memchr(b':', line.octets)?;
        let (name, value) = line.octets.split_at_checked(colon)?;
        let name = match name {
            [.., b' ' | b'\t'] => lexer::trim(name),
            name => name,
        };
        if !lexer::is_token(name) {
            return None;
        }
        let known = HeaderName::lookup(name);
        let name = match known {
            Some(known) if known.as_str().as_bytes() == name => {
                Bytes::from_static(known.as_str().as_bytes())
            }
            _ => lexer::share(self.whole, name),
        };
        let value = lexer::trim(value.get(1..)?);
        let value = if line.folded && known.is_some() {
            unfold(value)
        } else {
            lexer::share(self.whole, value)
        };
        Some(Header { known, name, value })
    }

    /// What every message must have, and the fields that the core cannot do without.
    fn check(&mut self, start: Option<&StartLine>) {
        let mut seen = [false; 7];
        let mut length = None;
        let mut fault = None;
        let mut inspection = Inspection {
            elements: 0,
            limit: self.limits.headers,
            is_request: matches!(start, Some(StartLine::Request(..))),
        };
        for header in &self.headers {
            let Some(known) = header.known else { continue };
            let single = match known {
                HeaderName::CallId => 0,
                HeaderName::CSeq => 1,
                HeaderName::From => 2,
                HeaderName::To => 3,
                HeaderName::MaxForwards => 4,
                HeaderName::ContentLength => 5,
                HeaderName::ContentType => 6,
                _ => 7,
            };
            if let Some(seen) = seen.get_mut(single)
                && std::mem::replace(seen, true)
            {
                fault.get_or_insert(SipError::Repeated(known));
            }
            if known == HeaderName::ContentLength {
                length = lexer::number(&header.value);
            }
            if !inspection.is_good(header, known) {
                fault.get_or_insert(SipError::Malformed(known));
            }
        }
        if inspection.elements > inspection.limit {
            let limit = inspection.limit;
            fault.get_or_insert(SipError::TooManyHeaders { limit });
        }
        for (name, seen) in [
            HeaderName::CallId,
            HeaderName::CSeq,
            HeaderName::From,
            HeaderName::To,
        ]
        .into_iter()
        .zip(seen)
        {
            if !seen {
                fault.get_or_insert(SipError::Missing(name));
            }
        }
        if !self
            .headers
            .iter()
            .any(|header| header.known == Some(HeaderName::Via))
        {
            fault.get_or_insert(SipError::Missing(HeaderName::Via));
        }
        if fault.is_none()
            && let Some(StartLine::Request(method, _)) = start
            && !self.cseq_is_for(method)
        {
            fault = Some(SipError::MethodMismatch);
        }
        let at = self.at;
        if let Some(fault) = fault {
            self.fail(fault, at);
        }
        self.take_body(length);
    }

    fn cseq_is_for(&self, method: &Method) -> bool {
        self.headers
            .iter()
            .find(|header| header.known == Some(HeaderName::CSeq))
            .and_then(|header| CSeq::parse(&header.value))
            .is_some_and(|cseq| cseq.method == *method)
    }

    fn take_body(&mut self, length: Option<u32>) {
        let rest = self.rest();
        let length = length.map_or(rest.len(), |length| length as usize);
        let at = self.at;
        match rest.get(..length) {
            Some(body) if length <= self.limits.body => self.body = lexer::share(self.whole, body),
            _ if length > self.limits.body => {
                let limit = self.limits.body;
                self.fail(SipError::BodyTooLarge { limit }, at);
            }
            _ => self.fail(SipError::BodyTruncated, at),
        }
    }

    fn finish(self, start: Option<StartLine>) -> Result<Message, Rejection> {
        match start {
            Some(start) if self.fault.is_none() => {
                let headers = Headers::from_fields(self.headers);
                let body = self.body;
                Ok(match start {
                    StartLine::Request(method, uri) => Message::Request(Request {
                        method,
                        uri,
                        headers,
                        body,
                    }),
                    StartLine::Status(status, reason) => Message::Response(Response {
                        status,
                        reason,
                        headers,
                        body,
                    }),
                })
            }
            _ => Err(self.rejection()),
        }
    }

    fn rejection(self) -> Rejection {
        let (error, offset) = self.fault.unwrap_or((SipError::StartLine, 0));
        let headers = Headers::from_fields(self.headers);
        let response = (self.answerable && headers.via().is_ok()).then(|| {
            // Stateless, so the same request must get the same tag (RFC 3261 §8.2.6.2).
            let tag = steady_tag(&headers);
            let reason = format!("Bad Request: {error}");
            let response = Response::from_headers(&headers, error.status(), Some(&tag));
            Box::new(if error.status() == 400 {
                response.with_reason(&reason)
            } else {
                response
            })
        });
        Rejection {
            error,
            offset,
            response,
        }
    }
}

struct Line<'a> {
    octets: &'a [u8],
    folded: bool,
    good: bool,
}

fn check_version(version: &[u8]) -> Result<(), SipError> {
    if version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let numbers = match version.get(..4) {
        Some(name) if name.eq_ignore_ascii_case(b"SIP/") => version.get(4..).unwrap_or_default(),
        _ => return Err(SipError::StartLine),
    };
    let is_version = numbers.contains(&b'.')
        && numbers
            .iter()
            .all(|octet| octet.is_ascii_digit() || *octet == b'.');
    Err(if is_version {
        SipError::Version
    } else {
        SipError::StartLine
    })
}

/// Each fold, and the white space around it, as one space (RFC 3261 §7.3.1).
fn unfold(value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\r', rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        while out.last().is_some_and(|octet| lexer::is_white(*octet)) {
            out.pop();
        }
        out.push(b' ');
        let blank = after
            .iter()
            .position(|octet| !lexer::is_white(*octet))
            .unwrap_or(after.len());
        rest = after.get(blank..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.into()
}

/// A To tag that depends on nothing but the request.
pub(super) fn steady_tag(headers: &Headers) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    for name in [
        HeaderName::Via,
        HeaderName::From,
        HeaderName::CallId,
        HeaderName::CSeq,
    ] {
        if let Some(header) = headers.get(name) {
            hasher.write(&header.value);
            hasher.write_u8(b'\n');
        }
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "parse_properties.rs"]
mod properties;

#[cfg(test)]
#[path = "torture_cases.rs"]
pub(crate) mod torture_cases;

#[cfg(test)]
#[path = "torture_tests.rs"]
mod torture;
