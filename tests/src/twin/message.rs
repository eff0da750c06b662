//! SIP messages as text: read strictly enough to judge them, written plainly. Nothing of the code
//! under test is in here.

use std::fmt::Write;

/// Octets that a message may have at most.
const LONGEST: usize = 65_536;

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The first line, without its end.
    pub start: String,
    /// Names in their long form as they came, values without surrounding space.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    /// A request without headers.
    #[must_use]
    pub fn request(method: &str, uri: &str) -> Self {
        Self {
            start: format!("{method} {uri} SIP/2.0"),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// A response with what RFC 3261, section 8.2.6.2, has copied from the request. `tag` goes into
    /// To when there is none yet.
    #[must_use]
    pub fn response(request: &Self, status: u16, reason: &str, tag: &str) -> Self {
        let mut response = Self {
            start: format!("SIP/2.0 {status} {reason}"),
            headers: Vec::new(),
            body: String::new(),
        };
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in request.all(name) {
                let mut value = value.to_owned();
                if name == "To" && status > 100 && parameter(&value, "tag").is_none() {
                    let _ = write!(value, ";tag={tag}");
                }
                response.push(name, &value);
            }
        }
        response
    }

    /// With one more header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.push(name, value);
        self
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, kind: &str, body: &str) -> Self {
        self.push("Content-Type", kind);
        body.clone_into(&mut self.body);
        self
    }

    pub fn push(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Takes every field of a name away.
    #[cfg(test)]
    pub fn remove(&mut self, name: &str) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// The first field of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every field of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a name whose fields may hold several, separated by commas.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        self.all(name).flat_map(split_list).collect()
    }

    #[must_use]
    pub fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0 ")
    }

    /// The method; of a response, that of its request.
    #[must_use]
    pub fn method(&self) -> &str {
        if self.is_request() {
            return self.start.split(' ').next().unwrap_or_default();
        }
        self.header("CSeq")
            .and_then(|value| value.split_whitespace().nth(1))
            .unwrap_or_default()
    }

    /// The Request-URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let rest = self.start.strip_prefix("SIP/2.0 ")?;
        rest.split(' ').next()?.parse().ok()
    }

    #[must_use]
    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    /// The number in CSeq.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.header("CSeq")
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    #[must_use]
    pub fn caller_tag(&self) -> &str {
        self.header("From")
            .and_then(|value| parameter(value, "tag"))
            .unwrap_or_default()
    }

    #[must_use]
    pub fn to_tag(&self) -> Option<&str> {
        parameter(self.header("To")?, "tag")
    }

    /// The branch of the topmost Via.
    #[must_use]
    pub fn branch(&self) -> &str {
        self.header("Via")
            .and_then(|value| parameter(value, "branch"))
            .unwrap_or_default()
    }

    /// What goes on the wire, Content-Length included.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n", self.body.len());
        text.push_str(&self.body);
        text.into_bytes()
    }

    /// Reads one whole message.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(octets);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        if !start.starts_with("SIP/2.0 ") && !start.ends_with(" SIP/2.0") {
            return None;
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let (_, last) = headers.last_mut()?;
                last.push(' ');
                last.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((long_form(name.trim()).to_owned(), value.trim().to_owned()));
        }
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Length"));
        Some(Self {
            start,
            headers,
            body: body.to_owned(),
        })
    }
}

/// Puts a stream's octets together to messages, by Content-Length (RFC 3261, section 18.3).
#[derive(Debug, Default)]
pub(crate) struct Framer {
    octets: Vec<u8>,
}

impl Framer {
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// The next whole message. `Err` when the stream can hold none any more.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, ()> {
        let leading = self
            .octets
            .iter()
            .take_while(|octet| matches!(octet, b'\r' | b'\n'))
            .count();
        self.octets.drain(..leading);
        let Some(head) = self
            .octets
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        else {
            return if self.octets.len() > LONGEST {
                Err(())
            } else {
                Ok(None)
            };
        };
        let length = String::from_utf8_lossy(&self.octets[..head])
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| long_form(name.trim()).eq_ignore_ascii_case("Content-Length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .filter(|&length| length <= LONGEST)
            .ok_or(())?;
        let end = head + 4 + length;
        if self.octets.len() < end {
            return Ok(None);
        }
        let message = Message::parse(&self.octets[..end]).ok_or(())?;
        self.octets.drain(..end);
        Ok(Some(message))
    }
}

fn long_form(name: &str) -> &str {
    match name {
        "v" | "V" => "Via",
        "f" | "F" => "From",
        "t" | "T" => "To",
        "i" | "I" => "Call-ID",
        "m" | "M" => "Contact",
        "c" | "C" => "Content-Type",
        "l" | "L" => "Content-Length",
        "k" | "K" => "Supported",
        "s" | "S" => "Subject",
        "o" | "O" => "Event",
        "r" | "R" => "Refer-To",
        "b" | "B" => "Referred-By",
        "x" | "X" => "Session-Expires",
        "e" | "E" => "Content-Encoding",
        "u" | "U" => "Allow-Events",
        other => other,
    }
}

/// Splits at commas outside of quotes and angle brackets.
fn split_list(value: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut angle) = (false, false);
    for character in value.chars() {
        match character {
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            ',' if !quoted && !angle => {
                parts.push(part.trim().to_owned());
                part.clear();
                continue;
            }
            _ => {}
        }
        part.push(character);
    }
    parts.push(part.trim().to_owned());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The value of a header parameter, which stands behind the address if there is one; empty when it
/// is there without a value.
#[must_use]
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let rest = value.rfind('>').map_or(value, |end| &value[end + 1..]);
    rest.split(';').skip(1).find_map(|part| {
        let (known, value) = part.split_once('=').unwrap_or((part, ""));
        known
            .trim()
            .eq_ignore_ascii_case(name)
            .then_some(value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_messages() {
        let first = Message::request("INVITE", "sip:+1@example.com")
            .with("Via", "SIP/2.0/TLS a.example;branch=z9hG4bK1")
            .with("From", "<sip:+2;x@b.example;user=phone>;tag=x1")
            .with("To", "<sip:+1@example.com>")
            .with("Call-ID", "c1")
            .with("CSeq", "7 INVITE")
            .with_body("application/sdp", "v=0\r\n");
        let second = Message::response(&first, 180, "Ringing", "y2");
        let mut octets = first.octets();
        octets.extend(b"\r\n\r\n");
        octets.extend(second.octets());
        let mut framer = Framer::default();
        let mut read = Vec::new();
        for octet in octets {
            framer.push(&[octet]);
            while let Some(message) = framer.next().expect("well-formed") {
                read.push(message);
            }
        }
        assert_eq!(read, [first, second]);
        assert_eq!(read[0].caller_tag(), "x1");
        assert_eq!(read[0].branch(), "z9hG4bK1");
        assert_eq!(read[1].to_tag(), Some("y2"));
        assert_eq!((read[1].method(), read[1].sequence()), ("INVITE", 7));
    }

    #[test]
    fn what_is_not_sip_ends_the_stream() {
        let mut framer = Framer::default();
        framer.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(framer.next(), Err(()));
    }

    #[test]
    fn lists_and_compact_forms() {
        let text = "OPTIONS sip:a SIP/2.0\r\nm: <sip:a,b@c>;q=1, \"x,y\" <sip:d>\r\n\r\n";
        let message = Message::parse(text.as_bytes()).expect("well-formed");
        assert_eq!(
            message.list("Contact"),
            ["<sip:a,b@c>;q=1", "\"x,y\" <sip:d>"]
        );
    }
}
