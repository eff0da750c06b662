//! Verdicts, and the closed list of reasons that counters, metrics and the CLI name them by.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten; it leaves by a next hop.
    Forward,
    /// It goes up the stack to a worker.
    Punt,
    /// It ends here, counted.
    Drop,
    /// Not for a media port of ours; the stack has it untouched.
    Pass,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $verdict:ident, $text:literal;)*) => {
        /// Why a packet got its verdict. The discriminant is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)* }
            }

            /// The name that metrics and the CLI show.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Relayed.
    Relayed = Forward, "relayed";
    /// Neither IPv4 nor IPv6, or too short to tell.
    NotIp = Pass, "not-ip";
    /// No UDP in it, or a length that its headers do not agree on.
    NotUdp = Pass, "not-udp";
    /// UDP, for a port that is not in the media port range.
    NotMedia = Pass, "not-media";
    /// A media port without a flow entry.
    UnknownFlow = Punt, "unknown-flow";
    /// IPv4 options in a UDP packet, whatever its port.
    IpOptions = Punt, "ip-options";
    /// An IPv4 fragment of a UDP packet, whatever its port.
    Fragment = Punt, "fragment";
    /// An IPv6 extension header, whatever follows it.
    ExtensionHeader = Punt, "extension-header";
    /// The TTL or hop limit would reach zero.
    TtlExpired = Punt, "ttl-expired";
    /// RTCP on the RTP port (RFC 5761).
    Rtcp = Punt, "rtcp";
    /// STUN (RFC 7983).
    Stun = Punt, "stun";
    /// DTLS (RFC 7983).
    Dtls = Punt, "dtls";
    /// The flow's stream has no path in the kernel.
    Userspace = Punt, "userspace";
    /// The flow entry or the next hop was being changed while the kernel read it.
    Changing = Punt, "changing";
    /// No peer is pinned yet.
    NotPinned = Punt, "not-pinned";
    /// The pinned peer sends with an SSRC that is not translated yet.
    NewSsrc = Punt, "new-ssrc";
    /// The next hop's neighbour is not known yet, or its device is not in the device map.
    UnresolvedNextHop = Punt, "unresolved-next-hop";
    /// Larger than the next hop's MTU.
    TooLarge = Punt, "too-large";
    /// The driver gave no room to grow or shrink the frame.
    NoRoom = Punt, "no-room";
    /// The flow is of SRTP, and the kernel has not taken the program for it.
    NoSrtp = Punt, "no-srtp";
    /// Longer than what the kernel protects or unprotects.
    SrtpTooLong = Punt, "srtp-too-long";
    /// The flow's key was being changed.
    KeyChanging = Punt, "key-changing";
    /// To be protected, and behind all that may still be: so looks a source that begins anew.
    SequenceBehind = Punt, "sequence-behind";
    /// Not from the pinned peer.
    ForeignSource = Drop, "foreign-source";
    /// Not RTP version 2, or shorter than its own header says (RFC 3550, section A.1).
    BadRtp = Drop, "bad-rtp";
    /// A payload type that was not negotiated.
    PayloadType = Drop, "payload-type";
    /// UDP over IPv6 without a checksum (RFC 8200, section 8.1).
    NoChecksum = Drop, "no-checksum";
    /// The media description lets nothing through in this direction.
    Held = Drop, "held";
    /// The UDP checksum of a packet in the clear is wrong (RFC 768).
    BadChecksum = Drop, "bad-checksum";
    /// The SRTP tag is wrong: another key, a changed packet, or no SRTP at all.
    Authentication = Drop, "authentication";
    /// An SRTP packet that came before (RFC 3711, section 3.3.2).
    Replay = Drop, "replay";
    /// An SRTP packet older than the replay window.
    OldIndex = Drop, "old-index";
    /// The SRTP packet's master key identifier is not the key's.
    WrongMki = Drop, "wrong-mki";
    /// A sequence number that was protected before, or is older than the window: the same keystream
    /// must not cover two packets.
    Repeated = Drop, "repeated";
    /// The SRTP key is used up: the rollover counter is at its end.
    Exhausted = Drop, "exhausted";
    /// Other CPUs were quicker at the stream's index every time.
    Contended = Drop, "contended";
    /// The flow's key was taken away while the packet was worked on.
    KeyChanged = Drop, "key-changed";
    /// To be punted, and the worker has not taken what came before: its ring is full.
    WorkerBusy = Drop, "worker-busy";
}

impl Reason {
    /// Whether a packet that is punted for it goes to its worker by the ring that the two share:
    /// RTP of a known flow. The rest of what is punted goes up the stack.
    #[inline(always)]
    #[must_use]
    pub const fn is_handed_over(self) -> bool {
        matches!(
            self,
            Self::TtlExpired
                | Self::Userspace
                | Self::Changing
                | Self::NotPinned
                | Self::NewSsrc
                | Self::UnresolvedNextHop
                | Self::TooLarge
                | Self::NoRoom
                | Self::NoSrtp
                | Self::SrtpTooLong
                | Self::KeyChanging
                | Self::SequenceBehind
        )
    }

    /// Whether SRTP was refused.
    #[must_use]
    pub const fn is_srtp_failure(self) -> bool {
        matches!(
            self,
            Self::Authentication
                | Self::Replay
                | Self::OldIndex
                | Self::WrongMki
                | Self::Repeated
                | Self::Exhausted
                | Self::Contended
                | Self::KeyChanged
        )
    }
}
