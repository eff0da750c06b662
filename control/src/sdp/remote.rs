//! What a peer's SDP says, in the engine's own types.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use relay_user::media::{Family, MediaPort, RemoteMedia};
use sdp_types::{Attribute, Connection, Media, Origin, Session};
use zeroize::Zeroize;

use super::{
    Direction, SdpError,
    codec::{self, Codec, Format},
    crypto::Crypto,
    ice::RemoteIce,
};

/// Octets of a body.
pub(super) const MAXIMUM_OCTETS: usize = 64 * 1024;
/// `m=` lines of a description.
pub(super) const MAXIMUM_LINES: usize = 64;
/// Payload types of an `m=` line.
pub(super) const MAXIMUM_FORMATS: usize = 128;

/// A parsed description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// A digest of the `o=` line: it stays as long as nothing else changes (RFC 3264, section 8).
    pub(super) origin: u64,
    pub(super) lines: Vec<Line>,
}

/// One `m=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) title: LineTitle,
    /// The audio stream that it describes, or why it cannot be used. `None` for other media.
    pub(super) audio: Option<Result<Audio, SdpError>>,
}

/// What a refusal of the line repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineTitle {
    pub(super) media: String,
    pub(super) transport: String,
    pub(super) formats: String,
}

/// An audio stream in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Audio {
    pub(super) transport: Transport,
    /// `None` when the address is all zeros: hold by RFC 2543, or not known yet.
    pub(super) remote: Option<RemoteMedia>,
    pub(super) formats: Vec<Format>,
    /// With the hold by address counted in.
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) crypto: Vec<Crypto>,
    pub(super) ice: Option<Box<RemoteIce>>,
    pub(super) ptime: Option<u32>,
    pub(super) maxptime: Option<u32>,
}

impl Audio {
    /// Whether our port can send to where the stream is. A port stays for the life of a leg, and an
    /// address of zeros says nothing of the family.
    pub(super) fn check_family(&self, local: MediaPort) -> Result<(), SdpError> {
        let family = |ip: IpAddr| family_of(ip.to_canonical());
        let ours = family(local.rtp.ip());
        match self.remote {
            Some(remote) if family(remote.rtp.ip()) != ours => Err(SdpError::Family(ours)),
            _ => Ok(()),
        }
    }
}

/// The profiles that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Avp,
    Avpf,
    Savp,
    Savpf,
}

impl Transport {
    const ALL: [Self; 4] = [Self::Avp, Self::Avpf, Self::Savp, Self::Savpf];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Avpf => "RTP/AVPF",
            Self::Savp => "RTP/SAVP",
            Self::Savpf => "RTP/SAVPF",
        }
    }

    pub(super) const fn is_secure(self) -> bool {
        matches!(self, Self::Savp | Self::Savpf)
    }
}

/// The address family of a description's first audio stream in use: that of the local port which
/// the leg needs.
///
/// # Errors
/// As for an offer: [`SdpError::Malformed`], [`SdpError::TooLarge`], [`SdpError::NoAudio`],
/// [`SdpError::Transport`], [`SdpError::Address`].
pub fn family(body: &[u8]) -> Result<Family, SdpError> {
    let session = parse_session(body)?;
    let mut failure = SdpError::NoAudio;
    for media in &session.medias {
        if is_audio(media) && media.port != 0 {
            match connection_address(&session, media) {
                Ok(address) => return Ok(family_of(address)),
                Err(error) => failure = error,
            }
        }
    }
    Err(failure)
}

const fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

impl Description {
    pub(super) fn parse(body: &[u8]) -> Result<Self, SdpError> {
        let mut session = parse_session(body)?;
        let lines = session
            .medias
            .iter()
            .map(|media| {
                Ok(Line {
                    title: LineTitle {
                        media: media.media.clone(),
                        transport: media.proto.clone(),
                        formats: media.fmt.clone(),
                    },
                    audio: if is_audio(media) {
                        match parse_audio(&session, media) {
                            Err(error @ SdpError::TooLarge { .. }) => return Err(error),
                            audio => Some(audio),
                        }
                    } else {
                        None
                    },
                })
            })
            .collect::<Result<_, _>>();
        wipe(&mut session);
        Ok(Self {
            origin: digest(&session.origin),
            lines: lines?,
        })
    }
}

fn digest(origin: &Origin) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        &origin.username,
        &origin.sess_id,
        origin.sess_version,
        &origin.unicast_address,
    )
        .hash(&mut hasher);
    hasher.finish()
}

/// Overwrites the keys in what the parser made.
pub(super) fn wipe(session: &mut Session) {
    let attributes = session.attributes.iter_mut().chain(
        session
            .medias
            .iter_mut()
            .flat_map(|media| &mut media.attributes),
    );
    let is_secret =
        |attribute: &&mut Attribute| named(attribute, "crypto") || named(attribute, "ice-pwd");
    for attribute in attributes.filter(is_secret) {
        attribute.value.zeroize();
    }
}

fn parse_session(body: &[u8]) -> Result<Session, SdpError> {
    if body.len() > MAXIMUM_OCTETS {
        return Err(SdpError::TooLarge {
            what: "octets",
            limit: MAXIMUM_OCTETS,
        });
    }
    let session =
        Session::parse(body).map_err(|error| SdpError::Malformed(shortened(&error.to_string())))?;
    if session.medias.len() > MAXIMUM_LINES {
        return Err(SdpError::TooLarge {
            what: "media lines",
            limit: MAXIMUM_LINES,
        });
    }
    Ok(session)
}

fn is_audio(media: &Media) -> bool {
    media.media.eq_ignore_ascii_case("audio")
}

fn named(attribute: &Attribute, name: &str) -> bool {
    attribute.attribute.eq_ignore_ascii_case(name)
}

fn values<'a>(attributes: &'a [Attribute], name: &'a str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| named(attribute, name))
        .filter_map(|attribute| attribute.value.as_deref())
}

fn parse_audio(session: &Session, media: &Media) -> Result<Audio, SdpError> {
    let formats = parse_formats(media)?;
    if media.port == 0 {
        return Err(SdpError::NoAudio);
    }
    let transport = Transport::ALL
        .into_iter()
        .find(|transport| transport.name().eq_ignore_ascii_case(&media.proto))
        .ok_or_else(|| SdpError::Transport(shortened(&media.proto)))?;
    let address = connection_address(session, media)?;
    let rtcp_mux = media
        .attributes
        .iter()
        .any(|attribute| named(attribute, "rtcp-mux"));
    let direction = direction(&media.attributes)
        .or_else(|| direction(&session.attributes))
        .unwrap_or_default();
    let number = |name| {
        values(&media.attributes, name)
            .chain(values(&session.attributes, name))
            .find_map(|value| value.trim().parse::<u32>().ok())
    };
    Ok(Audio {
        transport,
        remote: (!address.is_unspecified()).then(|| RemoteMedia {
            rtp: SocketAddr::new(address, media.port),
            rtcp: rtcp_address(media, address),
        }),
        formats,
        direction: if address.is_unspecified() {
            Direction::new(direction.sends(), false)
        } else {
            direction
        },
        rtcp_mux,
        crypto: values(&media.attributes, "crypto")
            .chain(values(&session.attributes, "crypto"))
            .filter_map(Crypto::parse)
            .collect(),
        ice: RemoteIce::parse(session, media).map(Box::new),
        ptime: number("ptime"),
        maxptime: number("maxptime"),
    })
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes
        .iter()
        .rev()
        .filter(|attribute| attribute.value.is_none())
        .find_map(|attribute| Direction::parse(attribute.attribute.trim()))
}

fn connection_address(session: &Session, media: &Media) -> Result<IpAddr, SdpError> {
    let connection: &Connection = media
        .connections
        .first()
        .or(session.connection.as_ref())
        .ok_or_else(|| SdpError::Malformed("an audio stream without a c= line".to_owned()))?;
    let refused = || SdpError::Address(shortened(&connection.connection_address));
    // A suffix (time to live, number of addresses) belongs to multicast only.
    let address = connection
        .connection_address
        .parse::<IpAddr>()
        .map_err(|_| refused())?;
    let limited = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_multicast() || limited {
        return Err(refused());
    }
    Ok(address)
}

/// `a=rtcp` (RFC 3605), or the port after RTP's.
fn rtcp_address(media: &Media, address: IpAddr) -> SocketAddr {
    let named = values(&media.attributes, "rtcp").next().and_then(|value| {
        let mut fields = value.split_ascii_whitespace();
        let port = fields
            .next()?
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)?;
        let address = fields
            .nth(2)
            .and_then(|field| field.parse::<IpAddr>().ok())
            .filter(|named| !named.is_unspecified() && !named.is_multicast())
            .filter(|named| named.is_ipv4() == address.is_ipv4())
            .unwrap_or(address);
        Some(SocketAddr::new(address, port))
    });
    named.unwrap_or_else(|| {
        SocketAddr::new(address, media.port.checked_add(1).unwrap_or(media.port))
    })
}

/// The formats that are understood, each once, in order. A format without a known name is left
/// out rather than refused: the others can still be used.
fn parse_formats(media: &Media) -> Result<Vec<Format>, SdpError> {
    let mut codecs: [Option<Codec>; 128] = [const { None }; 128];
    let mut parameters: [Vec<String>; 128] = [const { Vec::new() }; 128];
    for (number, rest) in values(&media.attributes, "rtpmap").filter_map(of_payload_type) {
        if let Some(codec @ None) = codecs.get_mut(number) {
            *codec = parse_codec(rest);
        }
    }
    for (number, rest) in values(&media.attributes, "fmtp").filter_map(of_payload_type) {
        if let Some(lines) = parameters.get_mut(number) {
            lines.push(rest.to_owned());
        }
    }
    let mut formats: Vec<Format> = Vec::new();
    for (place, field) in media.fmt.split_ascii_whitespace().enumerate() {
        if place >= MAXIMUM_FORMATS {
            return Err(SdpError::TooLarge {
                what: "payload types in a media line",
                limit: MAXIMUM_FORMATS,
            });
        }
        let Some(payload_type) = field.parse::<u8>().ok().filter(|number| *number < 128) else {
            continue;
        };
        if formats
            .iter()
            .any(|format| format.payload_type == payload_type)
        {
            continue;
        }
        let place = usize::from(payload_type);
        let codec = codecs.get_mut(place).and_then(Option::take);
        if let Some(codec) = codec.or_else(|| codec::of_static(payload_type)) {
            formats.push(Format {
                payload_type,
                codec,
                parameters: parameters
                    .get_mut(place)
                    .map(std::mem::take)
                    .unwrap_or_default()
                    .into(),
            });
        }
    }
    Ok(formats)
}

/// The payload type at the head of an `a=rtpmap` or `a=fmtp`, and what follows it.
fn of_payload_type(value: &str) -> Option<(usize, &str)> {
    let (number, rest) = value.trim().split_once([' ', '\t'])?;
    Some((number.parse().ok()?, rest.trim()))
}

fn parse_codec(value: &str) -> Option<Codec> {
    let mut fields = value.split('/').map(str::trim);
    let name = fields.next().filter(|name| is_token(name))?;
    let clock_rate = fields.next()?.parse().ok().filter(|rate| *rate != 0)?;
    let channels = match fields.next() {
        Some(channels) => channels.parse().ok().filter(|channels| *channels != 0)?,
        None => 1,
    };
    Some(Codec {
        name: codec::encoding_name(name),
        clock_rate,
        channels,
    })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Text of a peer's in an error is kept short.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
