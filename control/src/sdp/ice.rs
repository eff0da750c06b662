//! ICE in SDP (RFC 8839), where we are the lite agent (RFC 8445, section 2.5).

use std::net::{IpAddr, SocketAddr};

use rand::{CryptoRng, Rng};
use relay_user::media::{IceCredentials, IceMedia};
use sdp_types::{Attribute, Media, Session};
use zeroize::Zeroizing;

/// `ice-char` (RFC 8839, section 5.4).
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of a ufrag of ours: 48 bits, of which 24 are asked for.
const FRAGMENT: usize = 8;
/// Characters of a password of ours: 144 bits, of which 128 are asked for.
const PASSWORD: usize = 24;

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteIce {
    pub(super) credentials: IceCredentials,
    /// The address of ours that it names in `a=remote-candidates` for RTP: that of the pair which
    /// it has nominated, with the address in its `c=` and `m=`.
    pub(super) nominated: Option<SocketAddr>,
}

/// Ours on a leg, and those before the last restart.
#[derive(Clone, Debug)]
pub(super) struct OwnIce {
    pub(super) own: IceCredentials,
    pub(super) before: Option<IceCredentials>,
}

/// What a leg has agreed to.
#[derive(Clone, Debug)]
pub(super) struct AgreedIce {
    pub(super) media: IceMedia,
    pub(super) theirs: RemoteIce,
}

/// What our description says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalIce {
    pub(super) credentials: IceCredentials,
    /// Whether RTCP has a candidate of its own.
    pub(super) rtcp: bool,
}

impl RemoteIce {
    /// Reads it from an audio line. `None` without usable credentials, and from another lite
    /// agent: nobody would check, so media goes to where its SDP says, as without ICE.
    pub(super) fn parse(session: &Session, media: &Media) -> Option<Self> {
        let value = |name: &str| {
            let mut all = media.attributes.iter().chain(&session.attributes);
            all.find(|attribute| attribute.attribute.eq_ignore_ascii_case(name))
                .and_then(|attribute| attribute.value.as_deref())
                .map(str::trim)
        };
        let is_lite = session
            .attributes
            .iter()
            .any(|attribute| attribute.attribute.eq_ignore_ascii_case("ice-lite"));
        let fragment = value("ice-ufrag").filter(|text| is_word(text, 4))?;
        let password = value("ice-pwd").filter(|text| is_word(text, 22))?;
        (!is_lite).then(|| Self {
            credentials: IceCredentials {
                fragment: fragment.into(),
                password: Zeroizing::new(password.to_owned()),
            },
            nominated: value("remote-candidates").and_then(nominated),
        })
    }
}

impl OwnIce {
    /// Those for the answer to an offer: the leg's own, or after a restart, which new credentials
    /// of the peer's say, new ones (RFC 8839, section 4.4.1.1.1).
    pub(super) fn answering<R: CryptoRng + ?Sized>(
        offered: &RemoteIce,
        before: Option<&AgreedIce>,
        random: &mut R,
    ) -> Self {
        match before {
            Some(agreed) if agreed.theirs.credentials == offered.credentials => Self {
                own: agreed.media.own.clone(),
                before: agreed.media.before.clone(),
            },
            Some(agreed) => Self {
                own: generate(random),
                before: Some(agreed.media.own.clone()),
            },
            None => Self {
                own: generate(random),
                before: None,
            },
        }
    }

    /// Those for an offer: the leg's own, which are no restart.
    pub(super) fn offering<R: CryptoRng + ?Sized>(
        before: Option<&AgreedIce>,
        random: &mut R,
    ) -> Self {
        match before {
            Some(agreed) => Self {
                own: agreed.media.own.clone(),
                before: agreed.media.before.clone(),
            },
            None => Self {
                own: generate(random),
                before: None,
            },
        }
    }

    /// What comes of it with what the peer says. `local` is our candidate, `remote` where the
    /// peer's SDP says that it is.
    pub(super) fn agree(
        &self,
        theirs: &RemoteIce,
        local: SocketAddr,
        remote: Option<SocketAddr>,
        before: Option<&AgreedIce>,
    ) -> AgreedIce {
        let same = before.filter(|before| before.media.own == self.own);
        AgreedIce {
            media: IceMedia {
                own: self.own.clone(),
                before: self.before.clone(),
                fragment: theirs.credentials.fragment.clone(),
                chosen: remote.filter(|_| theirs.nominated == Some(local)),
                known: same.and_then(|before| before.media.known),
            },
            theirs: theirs.clone(),
        }
    }
}

impl LocalIce {
    /// The attributes of the audio line.
    pub(super) fn attributes(&self, local: SocketAddr) -> Vec<Attribute> {
        let credentials = &self.credentials;
        let mut attributes = vec![
            Attribute::with_value("ice-ufrag", &*credentials.fragment),
            Attribute::with_value("ice-pwd", credentials.password.as_str()),
        ];
        for component in 1..=1 + u16::from(self.rtcp) {
            // The preference of host candidates, and the highest of one address (RFC 8445, section
            // 5.1.2).
            let priority = (126 << 24) | (65_535 << 8) | (256 - u32::from(component));
            let (ip, port) = (local.ip(), local.port() + component - 1);
            attributes.push(Attribute::with_value(
                "candidate",
                format!("1 {component} UDP {priority} {ip} {port} typ host"),
            ));
        }
        attributes
    }
}

fn generate<R: CryptoRng + ?Sized>(random: &mut R) -> IceCredentials {
    let mut word = |length: usize| {
        let mut text = Zeroizing::new(String::with_capacity(length));
        for _ in 0..length {
            let place = usize::from(random.random::<u8>() & 63);
            text.push(
                CHARACTERS
                    .get(place)
                    .map_or('A', |octet| char::from(*octet)),
            );
        }
        text
    };
    IceCredentials {
        fragment: word(FRAGMENT).as_str().into(),
        password: word(PASSWORD),
    }
}

/// Whether a text is from `least` to 256 of [`CHARACTERS`].
fn is_word(text: &str, least: usize) -> bool {
    (least..=256).contains(&text.len()) && text.bytes().all(|octet| CHARACTERS.contains(&octet))
}

/// The address for RTP of `a=remote-candidates` (RFC 8839, section 5.2).
fn nominated(value: &str) -> Option<SocketAddr> {
    let mut fields = value.split_ascii_whitespace();
    while let (Some(component), Some(ip), Some(port)) =
        (fields.next(), fields.next(), fields.next())
    {
        if component == "1" {
            return Some(SocketAddr::new(
                ip.parse::<IpAddr>().ok()?,
                port.parse().ok()?,
            ));
        }
    }
    None
}
