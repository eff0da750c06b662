//! What a leg's trunk says about its SDP.

use relay_user::media::{MediaPort, SrtpSuite};

use super::codec::{Codec, is_auxiliary};

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
    /// The suites of our offers, in this order. Offers of the leg may use any suite of
    /// [`SrtpSuite::ALL`].
    pub suites: Vec<SrtpSuite>,
    pub codecs: CodecFilter,
    /// Whether RTP and RTCP may share a port (RFC 5761): offered, and agreed to when offered.
    pub rtcp_mux: bool,
    pub hold: HoldForm,
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
            suites: Self::DEFAULT_SUITES.to_vec(),
            codecs: CodecFilter::default(),
            rtcp_mux: true,
            hold: HoldForm::AsSent,
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

/// How a one-way direction is offered to a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HoldForm {
    /// As the other leg sent it.
    #[default]
    AsSent,
    /// `sendonly` and `recvonly` are offered as `inactive`.
    Inactive,
}

/// The codecs that a trunk lets through; empty lets every one through. `telephone-event` always
/// passes, or DTMF would be lost without a word. A name is an encoding name as in `a=rtpmap`,
/// with the clock rate where it matters: `PCMU`, `SILK/16000`. Case does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodecFilter {
    names: Vec<(String, Option<u32>)>,
}

impl CodecFilter {
    /// A filter from the trunk's `codecs`. A rate that is not a number is part of the name, and
    /// so lets nothing through.
    #[must_use]
    pub fn new<S: AsRef<str>>(names: &[S]) -> Self {
        let names = names
            .iter()
            .map(|name| {
                let name = name.as_ref().trim();
                match name
                    .split_once('/')
                    .map(|(name, rate)| (name, rate.parse::<u32>()))
                {
                    Some((name, Ok(rate))) => (name.to_owned(), Some(rate)),
                    _ => (name.to_owned(), None),
                }
            })
            .collect();
        Self { names }
    }

    pub(super) fn allows(&self, codec: &Codec) -> bool {
        self.names.is_empty()
            || codec.is("telephone-event")
            || self.names.iter().any(|(name, rate)| {
                codec.is(name) && rate.is_none_or(|rate| rate == codec.clock_rate)
            })
    }

    /// Whether a codec that carries sound could pass.
    #[must_use]
    pub fn allows_voice(&self) -> bool {
        self.names.is_empty() || self.names.iter().any(|(name, _)| !is_auxiliary(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(name: &str, clock_rate: u32) -> Codec {
        Codec {
            name: name.into(),
            clock_rate,
            channels: 1,
        }
    }

    #[test]
    fn a_filter_goes_by_name_and_rate() {
        let filter = CodecFilter::new(&["pcma", "SILK/16000"]);
        assert!(filter.allows(&codec("PCMA", 8000)));
        assert!(filter.allows(&codec("silk", 16000)));
        assert!(!filter.allows(&codec("SILK", 8000)));
        assert!(!filter.allows(&codec("PCMU", 8000)));
        assert!(filter.allows(&codec("telephone-event", 8000)));
        assert!(CodecFilter::default().allows(&codec("G729", 8000)));
    }
}
