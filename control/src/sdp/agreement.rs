//! What an exchange comes to: for the media plane, and for the exchanges after it.

use relay_user::media::{
    CallMedia, IceMedia, LegMedia, MediaPort, RemoteMedia, SourcePolicy, SrtpKeys, Stream,
};

use super::{
    Direction, Side,
    codec::{Codec, Parameters},
    ice::AgreedIce,
    local::Layout,
    remote::Transport,
};

/// A flow entry holds so many payload types; being lenient must not cost a stream its fast path.
const TOLERATED: usize = 8;

/// What both legs have agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedMedia {
    pub legs: [NegotiatedLeg; 2],
    /// From leg A to leg B, then from leg B to leg A.
    pub streams: [Stream; 2],
    /// The codec that the answer put first.
    pub codec: Codec,
}

/// One leg's part of [`NegotiatedMedia`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedLeg {
    /// Our description's address on this leg.
    pub local: MediaPort,
    /// `None` when the leg has only ever named an address of zeros.
    pub remote: Option<RemoteMedia>,
    pub srtp: Option<SrtpKeys>,
    /// When both sides have said that they have ICE.
    pub ice: Option<Box<IceMedia>>,
    pub rtcp_mux: bool,
    /// The leg's own direction: what is left of it after offer and answer.
    pub direction: Direction,
    /// Counts the descriptions received from the leg.
    pub negotiation: u32,
}

impl NegotiatedMedia {
    /// The description that the media plane takes.
    #[must_use]
    pub fn call_media(self, sources: [SourcePolicy; 2], dscp: [Option<u8>; 2]) -> CallMedia {
        let [a, b] = self.legs;
        let [sources_a, sources_b] = sources;
        let [dscp_a, dscp_b] = dscp;
        let leg = |leg: NegotiatedLeg, sources, dscp| LegMedia {
            port: leg.local,
            remote: leg.remote,
            sources,
            negotiation: leg.negotiation,
            srtp: leg.srtp,
            ice: leg.ice,
            rtcp_mux: leg.rtcp_mux,
            dscp,
        };
        CallMedia {
            legs: [leg(a, sources_a, dscp_a), leg(b, sources_b, dscp_b)],
            streams: self.streams,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Agreement {
    pub(super) legs: [AgreedLeg; 2],
    pub(super) formats: Box<[AgreedFormat]>,
}

#[derive(Clone, Debug)]
pub(super) struct AgreedLeg {
    pub(super) transport: Transport,
    pub(super) remote: Option<RemoteMedia>,
    /// Together, because a call keeps as little as it can where a leg has neither.
    pub(super) secrets: Option<Box<Secrets>>,
    pub(super) rtcp_mux: bool,
    pub(super) direction: Direction,
    pub(super) ptime: Option<u32>,
    pub(super) maxptime: Option<u32>,
    pub(super) layout: Layout,
    pub(super) negotiation: u32,
}

/// The SRTP of a leg, and its ICE.
#[derive(Clone, Debug)]
pub(super) struct Secrets {
    pub(super) srtp: Option<SrtpKeys>,
    pub(super) ice: Option<Box<AgreedIce>>,
}

impl Secrets {
    pub(super) fn new(srtp: Option<SrtpKeys>, ice: Option<Box<AgreedIce>>) -> Option<Box<Self>> {
        (srtp.is_some() || ice.is_some()).then(|| Box::new(Self { srtp, ice }))
    }
}

impl AgreedLeg {
    pub(super) fn srtp(&self) -> Option<&SrtpKeys> {
        self.secrets.as_deref()?.srtp.as_ref()
    }

    pub(super) fn ice(&self) -> Option<&AgreedIce> {
        self.secrets.as_deref()?.ice.as_deref()
    }
}

/// A codec in use and its numbers, by leg.
#[derive(Clone, Debug)]
pub(super) struct AgreedFormat {
    pub(super) codec: Codec,
    /// In the leg's description: what it receives.
    pub(super) theirs: [u8; 2],
    /// In ours: what it sends.
    pub(super) ours: [u8; 2],
    /// What each leg has said of it in `a=fmtp`; `None` where neither has said anything.
    parameters: Option<Box<[Parameters; 2]>>,
}

impl AgreedFormat {
    pub(super) fn new(
        codec: Codec,
        theirs: [u8; 2],
        ours: [u8; 2],
        parameters: [Parameters; 2],
    ) -> Self {
        let are_said = parameters.iter().any(|lines| !lines.is_empty());
        Self {
            codec,
            theirs,
            ours,
            parameters: are_said.then(|| Box::new(parameters)),
        }
    }

    /// What a leg has said of it.
    pub(super) fn parameters(&self, side: Side) -> Parameters {
        let both = self.parameters.as_deref();
        both.map(|both| of(both, side).clone()).unwrap_or_default()
    }

    /// The same codec where the leg at `place` is leg `theirs` of another call, which has `other`.
    pub(super) fn with(&self, place: Side, other: &Self, theirs: Side) -> Self {
        let stays = place.other();
        let join =
            |one: &[u8; 2], other: &[u8; 2]| by_side(place, *of(other, theirs), *of(one, stays));
        Self::new(
            self.codec.clone(),
            join(&self.theirs, &other.theirs),
            join(&self.ours, &other.ours),
            by_side(place, other.parameters(theirs), self.parameters(stays)),
        )
    }
}

impl Agreement {
    /// The stream from a side to the other.
    pub(super) fn stream(&self, from: Side, clock_rate: u32) -> Stream {
        let to = from.other();
        let mut payload_types: Vec<(u8, u8)> = self
            .formats
            .iter()
            .map(|format| (*of(&format.ours, from), *of(&format.theirs, to)))
            .collect();
        // A peer that numbers its answer anew should still send by the offer's numbers (RFC 3264,
        // section 6.1), and some do not.
        for format in &self.formats {
            let own = *of(&format.theirs, from);
            if payload_types.len() < TOLERATED
                && !payload_types.iter().any(|(number, _)| *number == own)
            {
                payload_types.push((own, *of(&format.theirs, to)));
            }
        }
        Stream {
            active: of(&self.legs, from).direction.sends()
                && of(&self.legs, to).direction.receives(),
            payload_types,
            clock_rate,
        }
    }
}

pub(super) fn of<T>(pair: &[T; 2], side: Side) -> &T {
    let [a, b] = pair;
    match side {
        Side::A => a,
        Side::B => b,
    }
}

pub(super) fn by_side<T>(first: Side, value: T, other: T) -> [T; 2] {
    match first {
        Side::A => [value, other],
        Side::B => [other, value],
    }
}
