//! Session descriptions: what the twin reads and what it writes.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

/// A description that was read.
#[derive(Clone, Debug, Default)]
pub struct Sdp {
    pub origin: String,
    /// The session's address.
    pub connection: Option<String>,
    pub attributes: Vec<(String, String)>,
    pub media: Vec<MediaSection>,
}

/// One `m=` section.
#[derive(Clone, Debug, Default)]
pub struct MediaSection {
    pub kind: String,
    pub port: u16,
    pub protocol: String,
    pub formats: Vec<u8>,
    pub connection: Option<String>,
    pub attributes: Vec<(String, String)>,
}

/// One `a=crypto` line (RFC 4568, section 9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    pub tag: u32,
    pub suite: String,
    /// Everything behind `inline:`.
    pub key: String,
}

impl Sdp {
    /// Reads the SDP of a body, also out of a multipart one.
    #[must_use]
    pub fn of(body: &str) -> Option<Self> {
        let start = body.find("v=0\r\n")?;
        let mut sdp = Self::default();
        for line in body[start..].split("\r\n") {
            let Some((kind, value)) = line.split_once('=') else {
                break;
            };
            let attribute = || {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                (name.to_owned(), value.to_owned())
            };
            match (kind, sdp.media.last_mut()) {
                ("o", _) => value.clone_into(&mut sdp.origin),
                ("m", _) => sdp.media.push(MediaSection::parse(value)?),
                ("c", None) => sdp.connection = Some(address_of(value)),
                ("c", Some(media)) => media.connection = Some(address_of(value)),
                ("a", None) => sdp.attributes.push(attribute()),
                ("a", Some(media)) => media.attributes.push(attribute()),
                _ if kind.len() == 1 => {}
                _ => break,
            }
        }
        Some(sdp)
    }

    /// The first audio section.
    #[must_use]
    pub fn audio(&self) -> Option<&MediaSection> {
        self.media.iter().find(|media| media.kind == "audio")
    }

    /// Where audio is wanted, as text: also an address that is none.
    #[must_use]
    pub fn audio_address(&self) -> Option<&str> {
        let audio = self.audio()?;
        audio.connection.as_deref().or(self.connection.as_deref())
    }

    /// Where audio is wanted.
    #[must_use]
    pub fn audio_target(&self) -> Option<SocketAddr> {
        let address: IpAddr = self.audio_address()?.parse().ok()?;
        Some(SocketAddr::new(address, self.audio()?.port))
    }

    /// The direction of audio, seen from its sender.
    #[must_use]
    pub fn direction(&self) -> &str {
        let of = |attributes: &[(String, String)]| {
            ["sendrecv", "sendonly", "recvonly", "inactive"]
                .into_iter()
                .find(|direction| attributes.iter().any(|(name, _)| name == direction))
        };
        self.audio()
            .and_then(|audio| of(&audio.attributes))
            .or_else(|| of(&self.attributes))
            .unwrap_or("sendrecv")
    }

    /// The keys of the audio section, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<Crypto> {
        self.audio()
            .map(|audio| {
                let lines = audio.attributes.iter().filter(|(name, _)| name == "crypto");
                lines
                    .filter_map(|(_, value)| {
                        let mut parts = value.split_whitespace();
                        Some(Crypto {
                            tag: parts.next()?.parse().ok()?,
                            suite: parts.next()?.to_owned(),
                            key: parts.next()?.strip_prefix("inline:")?.to_owned(),
                        })
                    })
                    .collect()
            })
            .unwrap_or_default()
    }
}

impl MediaSection {
    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split_whitespace();
        let kind = parts.next()?.to_owned();
        let port = parts.next()?.split('/').next()?.parse().ok()?;
        let protocol = parts.next()?.to_owned();
        Some(Self {
            kind,
            port,
            protocol,
            formats: parts.filter_map(|format| format.parse().ok()).collect(),
            ..Self::default()
        })
    }

    /// The first value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The codec of a payload type, such as `PCMU/8000`, static ones by RFC 3551.
    #[must_use]
    pub fn codec(&self, format: u8) -> Option<String> {
        let mapped = self
            .attributes
            .iter()
            .filter(|(name, _)| name == "rtpmap")
            .filter_map(|(_, value)| value.split_once(' '))
            .find(|(known, _)| known.parse() == Ok(format))
            .map(|(_, codec)| codec.trim().to_owned());
        mapped.or_else(|| {
            let known = match format {
                0 => "PCMU/8000",
                8 => "PCMA/8000",
                9 => "G722/8000",
                13 => "CN/8000",
                18 => "G729/8000",
                _ => return None,
            };
            Some(known.to_owned())
        })
    }
}

fn address_of(value: &str) -> String {
    let address = value.split_whitespace().nth(2).unwrap_or_default();
    address.split('/').next().unwrap_or_default().to_owned()
}

/// What a party says of its own media.
#[derive(Clone, Debug)]
pub struct Description {
    pub address: SocketAddr,
    pub secure: bool,
    /// Payload types with their `rtpmap`; an empty one is left out.
    pub formats: Vec<(u8, &'static str)>,
    pub keys: Vec<Crypto>,
    pub direction: &'static str,
    /// Attributes of the audio section besides.
    pub extra: Vec<String>,
    /// Whole sections behind the audio section.
    pub sections: String,
    pub version: u32,
}

impl Description {
    /// Teams' codecs: the payload types are the ones that it uses.
    pub const TEAMS: [(u8, &'static str); 9] = [
        (104, "SILK/16000"),
        (9, "G722/8000"),
        (103, "SILK/8000"),
        (0, "PCMU/8000"),
        (8, "PCMA/8000"),
        (18, "G729/8000"),
        (13, "CN/8000"),
        (118, "CN/16000"),
        (101, "telephone-event/8000"),
    ];

    /// A carrier's codecs.
    pub const CARRIER: [(u8, &'static str); 3] = [
        (0, "PCMU/8000"),
        (8, "PCMA/8000"),
        (96, "telephone-event/8000"),
    ];

    /// The text that goes into a body.
    #[must_use]
    pub fn text(&self) -> String {
        let family = if self.address.is_ipv4() { "IP4" } else { "IP6" };
        let (ip, port) = (self.address.ip(), self.address.port());
        let protocol = if self.secure { "RTP/SAVP" } else { "RTP/AVP" };
        let formats: Vec<String> = self
            .formats
            .iter()
            .map(|(format, _)| format.to_string())
            .collect();
        let mut text = format!(
            "v=0\r\no=- 20461 {} IN {family} {ip}\r\ns=session\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio {port} {protocol} {}\r\n",
            self.version,
            formats.join(" ")
        );
        for key in &self.keys {
            let _ = write!(
                text,
                "a=crypto:{} {} inline:{}\r\n",
                key.tag, key.suite, key.key
            );
        }
        for (format, codec) in &self.formats {
            let _ = write!(text, "a=rtpmap:{format} {codec}\r\n");
            if codec.starts_with("telephone-event") {
                let _ = write!(text, "a=fmtp:{format} 0-16\r\n");
            }
        }
        for attribute in &self.extra {
            let _ = write!(text, "a={attribute}\r\n");
        }
        let _ = write!(text, "a=ptime:20\r\na={}\r\n", self.direction);
        text.push_str(&self.sections);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let description = Description {
            address: "192.0.2.2:50000".parse().expect("an address"),
            secure: true,
            formats: Description::TEAMS.to_vec(),
            keys: vec![Crypto {
                tag: 1,
                suite: "AES_CM_128_HMAC_SHA1_80".to_owned(),
                key: "abc|2^31".to_owned(),
            }],
            direction: "inactive",
            extra: vec!["rtcp-mux".to_owned()],
            sections: "m=video 0 RTP/SAVP 122\r\n".to_owned(),
            version: 1,
        };
        let sdp = Sdp::of(&description.text()).expect("a description");
        assert_eq!(sdp.audio_target(), Some(description.address));
        assert_eq!(sdp.keys(), description.keys);
        assert_eq!(sdp.direction(), "inactive");
        let audio = sdp.audio().expect("audio");
        assert_eq!(audio.formats.len(), 9);
        assert_eq!(audio.codec(104).as_deref(), Some("SILK/16000"));
        assert_eq!(audio.attribute("rtcp-mux"), Some(""));
        assert_eq!(sdp.media.len(), 2);
    }
}
