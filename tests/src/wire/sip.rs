//! SIP messages in a capture, as far as tests look at them: by plain text.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Datagram, Protocol};

/// A SIP message that was seen.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub time: Duration,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The whole message.
    pub text: String,
}

impl Sighting {
    /// The first line.
    #[must_use]
    pub fn start_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The value of the first header field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.text
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The status code of a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let rest = self.start_line().strip_prefix("SIP/2.0 ")?;
        rest.split(' ').next()?.parse().ok()
    }

    /// The method, also of a response's request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.header("CSeq")
            .and_then(|value| value.split_whitespace().nth(1))
            .unwrap_or_default()
    }

    /// The first SRTP key in the message's SDP (RFC 4568), in base64.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        let line = self
            .text
            .lines()
            .find(|line| line.starts_with("a=crypto:"))?;
        let key = line.split_once(" inline:")?.1;
        key.split(['|', ' ', ';']).next()
    }

    /// Where the message's SDP wants audio sent.
    #[must_use]
    pub fn audio(&self) -> Option<SocketAddr> {
        let body = self.text.split_once("\r\n\r\n")?.1;
        let address: IpAddr = body
            .lines()
            .find_map(|line| line.strip_prefix("c=IN IP"))?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        let port = body
            .lines()
            .find_map(|line| line.strip_prefix("m=audio "))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        Some(SocketAddr::new(address, port))
    }
}

/// Every SIP message that went in the clear over UDP or TCP, in order of time.
#[must_use]
pub fn sightings(datagrams: &[Datagram]) -> Vec<Sighting> {
    let mut found = Vec::new();
    let mut connections: BTreeMap<(SocketAddr, SocketAddr), Connection> = BTreeMap::new();
    for datagram in datagrams {
        match datagram.protocol {
            Protocol::Udp => {
                if let Ok(text) = std::str::from_utf8(&datagram.payload)
                    && is_start(text)
                {
                    found.push(sighting(datagram, text.to_owned()));
                }
            }
            Protocol::Tcp => {
                let connection = connections
                    .entry((datagram.source, datagram.destination))
                    .or_default();
                connection.push(datagram);
                while let Some(text) = connection.next_message() {
                    found.push(sighting(datagram, text));
                }
            }
        }
    }
    found
}

fn is_start(text: &str) -> bool {
    text.lines()
        .next()
        .is_some_and(|line| line.starts_with("SIP/2.0 ") || line.ends_with(" SIP/2.0"))
}

fn sighting(datagram: &Datagram, text: String) -> Sighting {
    Sighting {
        time: datagram.time,
        source: datagram.source,
        destination: datagram.destination,
        text,
    }
}

/// One direction of a TCP connection; segments that were sent again count once.
#[derive(Default)]
struct Connection {
    next: Option<u32>,
    octets: Vec<u8>,
}

impl Connection {
    fn push(&mut self, segment: &Datagram) {
        if segment.payload.is_empty() {
            return;
        }
        let next = *self.next.get_or_insert(segment.sequence);
        let known = next.wrapping_sub(segment.sequence) as usize;
        if let Some(new) = segment.payload.get(known..) {
            self.octets.extend_from_slice(new);
            self.next = Some(next.wrapping_add(u32::try_from(new.len()).unwrap_or(0)));
        }
    }

    fn next_message(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.octets);
        let head = text.find("\r\n\r\n")? + 4;
        let skipped = text.len() - text.trim_start().len();
        let length: usize = text[..head]
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| {
                name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("l")
            })
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        let message = text.get(skipped..head + length)?.to_owned();
        let end = head + length;
        if !is_start(&message) {
            self.octets.clear();
            return None;
        }
        self.octets.drain(..end.min(self.octets.len()));
        Some(message)
    }
}
