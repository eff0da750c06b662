//! What a leg's trunk says about its SDP.

use std::sync::Arc;

use relay_user::media::{MediaPort, SrtpSuite};

use super::codec::Codec;
use crate::config::{Hold, Srtp};

/// One of the two legs of a call: `A` is leg 0 of [`relay_user::media::CallMedia`], `B` is leg 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    A,
    B,
}

impl Side {
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The leg's place in `CallMedia::legs`.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// Everything that the engine must know about a leg beside its SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegPolicy {
    /// The reserved port pair: what our descriptions to this leg name in `c=` and `m=`.
    pub local: MediaPort,
    pub srtp: SrtpPolicy,
    /// The suites of our offers, in this order; [`LegPolicy::DEFAULT_SUITES`] when there is none.
    /// Offers of the leg may use any suite of [`SrtpSuite::ALL`].
    pub suites: Box<[SrtpSuite]>,
    pub codecs: CodecFilter,
    /// Whether RTP and RTCP may share a port (RFC 5761): offered, and agreed to when offered.
    pub rtcp_mux: bool,
    pub hold: Hold,
    /// Whether ICE is offered, and agreed to when offered: as a lite agent.
    pub ice: bool,
}

impl LegPolicy {
    /// The suites that an offer names unless the trunk says otherwise.
    pub const DEFAULT_SUITES: [SrtpSuite; 2] = [
        SrtpSuite::AesCm128HmacSha1_80,
        SrtpSuite::AesCm128HmacSha1_32,
    ];

    /// A plain RTP leg that takes every codec.
    #[must_use]
    pub fn new(local: MediaPort) -> Self {
        Self {
            local,
            srtp: SrtpPolicy::Off,
            suites: Box::default(),
            codecs: CodecFilter::default(),
            rtcp_mux: true,
            hold: Hold::AsSent,
            ice: false,
        }
    }
}

/// Whether a leg is SRTP, keyed by SDES (RFC 4568).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SrtpPolicy {
    /// Offers are `RTP/SAVP` with `a=crypto`; a description without keys is refused.
    Require,
    /// Offers are `RTP/AVP` with `a=crypto` (opportunistic, RFC 8643), so that a peer without
    /// SRTP can answer in plain; offers in `RTP/SAVP`, and in `RTP/AVP` with or without keys, are
    /// taken, encrypted where they can be.
    Offer,
    /// Offers are `RTP/AVP`; `RTP/SAVP` is refused and keys beside `RTP/AVP` are not used.
    #[default]
    Off,
}

impl From<Srtp> for SrtpPolicy {
    fn from(srtp: Srtp) -> Self {
        match srtp {
            Srtp::Require => Self::Require,
            Srtp::Offer => Self::Offer,
            Srtp::Off => Self::Off,
        }
    }
}

/// The codecs that a trunk lets through, by encoding name as in `a=rtpmap`, whatever the case;
/// none named lets every one through. `telephone-event` always passes, or DTMF would be lost
/// without a word. Clones share the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodecFilter {
    names: Arc<[String]>,
}

impl CodecFilter {
    /// A filter from the trunk's `codecs`.
    #[must_use]
    pub fn new<S: AsRef<str>>(names: &[S]) -> Self {
        Self {
            names: names.iter().map(|name| name.as_ref().to_owned()).collect(),
        }
    }

    /// Whether it lets everything through.
    pub(super) fn is_open(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn allows(&self, codec: &Codec) -> bool {
        self.names.is_empty()
            || codec.is("telephone-event")
            || self.names.iter().any(|name| codec.is(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(name: &str, clock_rate: u32) -> Codec {
        Codec {
            name: name.to_owned().into(),
            clock_rate,
            channels: 1,
        }
    }

    #[test]
    fn a_filter_goes_by_name() {
        let filter = CodecFilter::new(&["pcma", "SILK"]);
        assert!(filter.allows(&codec("PCMA", 8000)));
        assert!(filter.allows(&codec("silk", 16000)));
        assert!(!filter.allows(&codec("PCMU", 8000)));
        assert!(filter.allows(&codec("telephone-event", 8000)));
        assert!(CodecFilter::default().allows(&codec("G729", 8000)));
    }
}
