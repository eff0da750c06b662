//! The closed list of reasons for which a worker lets a packet end.

use std::sync::atomic::{AtomicU64, Ordering};

use relay_abi::{counters::ReasonCounters, verdict::Reason};

macro_rules! discards {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a worker did not send a packet on. The discriminant is the index of its counter;
        /// what the kernel drops too has the kernel's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Discard { $($(#[$doc])* $name,)* }

        impl Discard {
            /// Every reason, in the order of the discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name that metrics and the CLI show.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

discards! {
    /// A media port without a flow.
    UnknownFlow = "unknown-flow";
    /// Not from the pinned peer, or from an address that may not become it.
    ForeignSource = "foreign-source";
    /// Not RTP version 2, or shorter than its own header says (RFC 3550, section A.1).
    BadRtp = "bad-rtp";
    /// Not RTCP, or a compound that its own lengths contradict (RFC 3550, section A.2).
    BadRtcp = "bad-rtcp";
    /// A payload type that was not negotiated.
    PayloadType = "payload-type";
    /// The media description lets nothing through in this direction.
    Held = "held";
    /// STUN (RFC 7983) on a leg without ICE, or none that asks for an answer.
    Stun = "stun";
    /// A check by wrong credentials, or one that cannot be served: answered with an error.
    StunRefused = "stun-refused";
    /// More checks than are answered.
    StunRate = "stun-rate";
    /// DTLS (RFC 7983), which nobody serves.
    Dtls = "dtls";
    /// The TTL or hop limit would reach zero.
    TtlExpired = "ttl-expired";
    /// Larger than a buffer, or than the next hop's MTU.
    TooLarge = "too-large";
    /// The pinned peer changes its SSRC faster than anybody's telephone does.
    SsrcRate = "ssrc-rate";
    /// SRTP or SRTCP whose authentication failed.
    SrtpAuthentication = "srtp-authentication";
    /// SRTP or SRTCP that was seen before, or is older than the replay window.
    SrtpReplay = "srtp-replay";
    /// A sequence number that was protected before, or is older than the window: the same keystream
    /// must not cover two packets.
    Repeated = "repeated";
    /// SRTP or SRTCP that is refused for another reason.
    SrtpOther = "srtp-other";
    /// The checksum of IPv4's header or of UDP is wrong.
    BadChecksum = "bad-checksum";
    /// The other leg has not said where it receives.
    NoDestination = "no-destination";
    /// It waited longer than [`STALE`](super::STALE) to be read and sent.
    Stale = "stale";
    /// No send slot was free.
    NoSendSlot = "no-send-slot";
    /// The kernel did not send it: no route, no room in the device's queue, a firewall.
    SendFailed = "send-failed";
}

impl Discard {
    /// Whether SRTP or SRTCP was refused, be it as it came or as it would have left.
    #[must_use]
    pub const fn is_srtp_failure(self) -> bool {
        self.is_of_source() || matches!(self, Self::Repeated)
    }

    /// Whether what came was refused: its sender has another key, or somebody else sent it.
    pub(super) const fn is_of_source(self) -> bool {
        matches!(
            self,
            Self::SrtpAuthentication | Self::SrtpReplay | Self::SrtpOther
        )
    }
}

impl From<Reason> for Discard {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::ForeignSource => Self::ForeignSource,
            Reason::PayloadType => Self::PayloadType,
            Reason::Held => Self::Held,
            Reason::TtlExpired => Self::TtlExpired,
            Reason::TooLarge => Self::TooLarge,
            Reason::Stun => Self::Stun,
            Reason::Dtls => Self::Dtls,
            Reason::UnknownFlow => Self::UnknownFlow,
            _ => Self::BadRtp,
        }
    }
}

/// What one worker discarded, by reason. Written by the worker alone.
#[derive(Debug)]
pub(super) struct DiscardCounters {
    packets: [AtomicU64; Discard::ALL.len()],
    octets: [AtomicU64; Discard::ALL.len()],
}

impl DiscardCounters {
    pub(super) fn new() -> Self {
        Self {
            packets: [const { AtomicU64::new(0) }; Discard::ALL.len()],
            octets: [const { AtomicU64::new(0) }; Discard::ALL.len()],
        }
    }

    /// Counts one packet; called by the worker's thread alone.
    pub(super) fn count(&self, discard: Discard, octets: usize) {
        let index = discard as usize;
        if let (Some(packets), Some(sum)) = (self.packets.get(index), self.octets.get(index)) {
            packets.store(packets.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            sum.store(
                sum.load(Ordering::Relaxed) + octets as u64,
                Ordering::Relaxed,
            );
        }
    }

    pub(super) fn read(&self, discard: Discard) -> ReasonCounters {
        let index = discard as usize;
        let load = |list: &[AtomicU64]| {
            list.get(index)
                .map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        ReasonCounters {
            packets: load(&self.packets),
            octets: load(&self.octets),
        }
    }
}
