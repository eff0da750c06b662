//! Bodies of several parts (RFC 2046 §5.1, RFC 5621).

use bytes::Bytes;

use super::lexer;

/// The most parts of a body that are read.
const PARTS: usize = 8;

/// One part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its header fields as they stand, without the blank line after them.
    pub headers: Bytes,
    pub body: Bytes,
}

impl Part {
    /// Its type without parameters, in lower case; plain text when it does not say.
    #[must_use]
    pub fn content_type(&self) -> String {
        let headers = String::from_utf8_lossy(&self.headers).into_owned();
        headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("Content-Type"))
            .and_then(|(_, value)| value.split(';').next())
            .map_or_else(
                || "text/plain".to_owned(),
                |kind| kind.trim().to_ascii_lowercase(),
            )
    }
}

/// The parts of a `multipart/mixed` body; `None` when it is none, or is broken.
#[must_use]
pub fn parts(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim().trim_matches('"'))
        .filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)?;
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = delimiter.as_bytes();
    // The first delimiter may stand at the very beginning.
    let first = delimiter.get(2..)?;
    let mut rest: &[u8] = if body.starts_with(first) {
        body.get(first.len()..)?
    } else {
        let at = find(body, delimiter)?;
        body.get(at + delimiter.len()..)?
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == PARTS {
            return None;
        }
        let line = find(rest, b"\r\n")?;
        // The line's end stays: a part may have no headers at all.
        let content = rest.get(line..)?;
        let end = find(content, delimiter)?;
        let whole = content.get(..end)?;
        let blank = find(whole, b"\r\n\r\n")?;
        parts.push(Part {
            headers: lexer::share(body, whole.get(2..blank).unwrap_or_default()),
            body: lexer::share(body, whole.get(blank + 4..)?),
        });
        rest = content.get(end + delimiter.len()..)?;
    }
    Some(parts)
}

/// A body of several parts.
#[must_use]
pub fn join<'a>(boundary: &str, parts: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Bytes {
    let mut out = Vec::new();
    for (headers, body) in parts {
        out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        out.extend_from_slice(headers);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out.into()
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_joined() {
        let body = join(
            "b1",
            [
                (&b"Content-Type: application/sdp"[..], &b"v=0\r\n"[..]),
                (b"Content-Type: application/pidf+xml; x=1", b"<a/>"),
            ]
            .into_iter(),
        );
        let read = parts("multipart/Mixed; boundary=\"b1\"", &body).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].content_type(), "application/sdp");
        assert_eq!(&read[0].body[..], b"v=0\r\n");
        assert_eq!(read[1].content_type(), "application/pidf+xml");
        assert_eq!(&read[1].body[..], b"<a/>");
    }

    #[test]
    fn what_is_broken_is_not_read() {
        for (kind, body) in [
            ("application/sdp", "v=0"),
            ("multipart/mixed", "--b\r\n\r\nx\r\n--b--"),
            ("multipart/mixed;boundary=b", "--b\r\n\r\nx"),
            ("multipart/mixed;boundary=b", "--c\r\n\r\nx\r\n--c--"),
            ("multipart/mixed;boundary=", "--\r\n\r\nx\r\n----"),
            ("multipart/mixed;boundary=b", "--b"),
        ] {
            assert_eq!(
                parts(kind, &Bytes::from_static(body.as_bytes())),
                None,
                "{body}"
            );
        }
        let many = "--b\r\n\r\nx\r\n".repeat(100) + "--b--";
        assert_eq!(parts("multipart/mixed;boundary=b", &many.into()), None);
    }
}
