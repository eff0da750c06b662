//! The media of a call: two legs and the two streams between them.

use std::{fmt, net::SocketAddr};

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::{IceMedia, MediaError, MediaPort};

/// Both legs of a call and what flows between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallMedia {
    pub legs: [LegMedia; 2],
    /// From leg 0 to leg 1, then from leg 1 to leg 0.
    pub streams: [Stream; 2],
}

impl CallMedia {
    /// Whether every key is as long as its suite asks for.
    pub(crate) fn check_keys(&self) -> Result<(), MediaError> {
        let legs = self.legs.iter().filter_map(|leg| leg.srtp.as_ref());
        for key in legs.flat_map(|keys| [&keys.protect, &keys.unprotect]) {
            if key.master.len() != key.suite.master_length() {
                let suite = key.suite.name();
                return Err(MediaError::Keys { suite });
            }
        }
        Ok(())
    }
}

/// One leg's side of the media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegMedia {
    pub port: MediaPort,
    /// Where the leg's SDP says that it receives; `None` until it has said so.
    pub remote: Option<RemoteMedia>,
    pub sources: SourcePolicy,
    /// Counts the offers and answers of this leg: under [`Latching::RelatchOnReinvite`] a change
    /// forgets the learned peer.
    pub negotiation: u32,
    /// Keys of both directions when the leg is SRTP.
    pub srtp: Option<SrtpKeys>,
    /// What the leg's checks are answered by, when it has ICE.
    pub ice: Option<Box<IceMedia>>,
    /// Whether RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Differentiated services code point (0–63) of packets sent to this leg; `None` keeps what
    /// came in.
    pub dscp: Option<u8>,
}

impl LegMedia {
    /// How the peer is pinned where ICE does not decide it.
    pub(crate) fn latching(&self) -> Latching {
        match self.ice {
            Some(_) => Latching::Latch,
            None => self.sources.latching,
        }
    }

    /// Where packets go before the peer is known: with ICE nowhere, because nobody there has asked
    /// for them (RFC 8445, section 12.1).
    pub(crate) fn signalled(&self) -> Option<RemoteMedia> {
        self.remote.filter(|_| self.ice.is_none())
    }
}

/// A leg's address for RTP and, when not multiplexed, RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteMedia {
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
}

/// From where a leg's media may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePolicy {
    pub latching: Latching,
    /// What the trunk allows; empty allows every address. SDP's own address is always allowed.
    pub allowed: Vec<IpNet>,
}

/// How a leg's peer is pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latching {
    /// Only the address and port that SDP names.
    Strict,
    /// The source of the first valid packet, and again when the leg's SDP names another address.
    #[default]
    Latch,
    /// The same, and again after each offer or answer.
    RelatchOnReinvite,
}

impl Latching {
    /// Whether a source that was learned `earlier` is forgotten for a description that makes it be
    /// learned by `self`: one that has `moved` to another address, or is a new offer or answer.
    /// [`Latching::Strict`] learns none.
    pub(crate) fn learns_anew(self, earlier: Self, moved: bool, negotiated: bool) -> bool {
        let changed = self != earlier || moved;
        match self {
            Self::Strict => false,
            Self::Latch => changed,
            Self::RelatchOnReinvite => changed || negotiated,
        }
    }
}

/// One direction between the legs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// False while hold lets nothing through in this direction.
    pub active: bool,
    /// Payload types as (from the source leg, towards the other leg); others are dropped.
    pub payload_types: Vec<(u8, u8)>,
    /// The RTP clock of the stream's codec in hertz.
    pub clock_rate: u32,
}

/// The SDES keys of one leg.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// Ours: protects what is sent to the leg.
    pub protect: SrtpKey,
    /// The leg's: unprotects what it sends.
    pub unprotect: SrtpKey,
}

/// One SDES master key (RFC 4568). Its `Debug` form never shows the key.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    pub suite: SrtpSuite,
    /// Master key and master salt, one after the other, as in the SDP's `inline:`.
    pub master: Zeroizing<Vec<u8>>,
    /// The master key identifier that each packet carries, if any.
    pub mki: Option<Vec<u8>>,
}

/// The crypto suites that a leg may negotiate, by their names in SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpSuite {
    /// `AES_CM_128_HMAC_SHA1_80` (RFC 4568).
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32` (RFC 4568).
    AesCm128HmacSha1_32,
    /// `AES_256_CM_HMAC_SHA1_80` (RFC 6188).
    AesCm256HmacSha1_80,
    /// `AES_256_CM_HMAC_SHA1_32` (RFC 6188).
    AesCm256HmacSha1_32,
    /// `AEAD_AES_128_GCM` (RFC 7714).
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM` (RFC 7714).
    AeadAes256Gcm,
}

impl SrtpSuite {
    /// Every suite, the one that most peers take first.
    pub const ALL: [Self; 6] = [
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
        Self::AesCm256HmacSha1_80,
        Self::AesCm256HmacSha1_32,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// The name in `a=crypto`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The octets of master key and master salt together.
    #[must_use]
    pub const fn master_length(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 16 + 14,
            Self::AesCm256HmacSha1_80 | Self::AesCm256HmacSha1_32 => 32 + 14,
            Self::AeadAes128Gcm => 16 + 12,
            Self::AeadAes256Gcm => 32 + 12,
        }
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SrtpKeys")
            .field("protect", &self.protect)
            .field("unprotect", &self.unprotect)
            .finish()
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SrtpKey")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
