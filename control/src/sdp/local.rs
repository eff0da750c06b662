//! Our own descriptions, before and as they are written.

use relay_user::media::MediaPort;
use sdp_types::{Attribute, Connection, Media, Origin, Session, Time};

use super::{
    Direction,
    codec::Format,
    crypto::Crypto,
    ice::LocalIce,
    remote::{LineTitle, Transport, wipe},
};

/// What we say to a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalDescription {
    pub(super) port: MediaPort,
    pub(super) transport: Transport,
    pub(super) formats: Vec<Format>,
    pub(super) direction: Direction,
    pub(super) crypto: Vec<Crypto>,
    pub(super) ice: Option<LocalIce>,
    pub(super) rtcp_mux: bool,
    /// Says that RTCP shares the port, as an agreed `a=rtcp-mux` does (RFC 8035).
    pub(super) rtcp_shared: bool,
    pub(super) ptime: Option<u32>,
    pub(super) maxptime: Option<u32>,
    pub(super) layout: Layout,
}

/// The `m=` lines of a leg: their order and number last as long as its session (RFC 3264,
/// section 8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Every line but the audio stream's, refused.
    refused: Box<[LineTitle]>,
    /// The place of the audio stream's line.
    audio: usize,
}

impl Layout {
    /// The layout of lines of which the one at `audio` is in use.
    pub(super) fn new(titles: impl Iterator<Item = LineTitle>, audio: usize) -> Self {
        let others = titles.enumerate().filter(|(place, _)| *place != audio);
        Self {
            refused: others.map(|(_, title)| title).collect(),
            audio,
        }
    }

    pub(super) const fn audio(&self) -> usize {
        self.audio
    }

    /// Whether as many lines stand in both, with the audio stream's at the same place.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.refused.len(), self.audio) == (other.refused.len(), other.audio)
    }

    /// The refused lines before the audio stream's, and those after it.
    fn refused(&self) -> (&[LineTitle], &[LineTitle]) {
        self.refused
            .split_at_checked(self.audio)
            .unwrap_or((&self.refused, &[]))
    }
}

impl LocalDescription {
    /// The body. It names nothing but our own address (RFC 8866, section 5).
    pub(super) fn write(&self, session_id: u64, version: u64) -> String {
        let address = self.port.rtp.ip();
        let mut session = Session::new(Origin::with_ip_addr(session_id, version, address), "-");
        session.connection = Some(Connection::from_ip_addr(address));
        session.times = vec![Time::new(0, 0)];
        if self.ice.is_some() {
            // The second says that we are one of RFC 8445's (section 10).
            session.attributes = vec![
                Attribute::new("ice-lite"),
                Attribute::with_value("ice-options", "ice2"),
            ];
        }
        let (before, after) = self.layout.refused();
        let before = before.iter().map(refused);
        session.medias = before
            .chain([self.audio()])
            .chain(after.iter().map(refused))
            .collect();
        let body = session.to_string();
        wipe(&mut session);
        body
    }

    fn audio(&self) -> Media {
        let numbers: Vec<String> = self
            .formats
            .iter()
            .map(|format| format.payload_type.to_string())
            .collect();
        Media {
            media: "audio".to_owned(),
            port: self.port.rtp.port(),
            num_ports: None,
            proto: self.transport.name().to_owned(),
            fmt: numbers.join(" "),
            media_title: None,
            connections: Vec::new(),
            bandwidths: Vec::new(),
            key: None,
            attributes: self.attributes(),
        }
    }

    fn attributes(&self) -> Vec<Attribute> {
        let mut attributes = Vec::new();
        for Format {
            payload_type,
            codec,
            parameters,
        } in &self.formats
        {
            let mut mapping = format!("{payload_type} {}/{}", codec.name, codec.clock_rate);
            if codec.channels != 1 {
                mapping.push_str(&format!("/{}", codec.channels));
            }
            attributes.push(Attribute::with_value("rtpmap", mapping));
            for line in parameters.iter() {
                attributes.push(Attribute::with_value(
                    "fmtp",
                    format!("{payload_type} {line}"),
                ));
            }
        }
        if let Some(ptime) = self.ptime {
            attributes.push(Attribute::with_value("ptime", ptime));
        }
        if let Some(maxptime) = self.maxptime {
            attributes.push(Attribute::with_value("maxptime", maxptime));
        }
        for crypto in &self.crypto {
            attributes.push(Attribute::with_value("crypto", crypto.value().as_str()));
        }
        if self.rtcp_shared {
            attributes.push(Attribute::with_value("rtcp", self.port.rtp.port()));
        }
        if self.rtcp_mux {
            attributes.push(Attribute::new("rtcp-mux"));
        }
        if let Some(ice) = &self.ice {
            attributes.extend(ice.attributes(self.port.rtp));
        }
        attributes.push(Attribute::new(self.direction.name()));
        attributes
    }
}

fn refused(title: &LineTitle) -> Media {
    Media {
        media: title.media.clone(),
        port: 0,
        num_ports: None,
        proto: title.transport.clone(),
        fmt: title.formats.clone(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}
