//! The path of a stream, and the closed list of reasons for one through userspace.

/// Who carries a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// The XDP program.
    Xdp,
    /// An io_uring worker, and why.
    Userspace(PathReason),
}

/// Why a stream is not the kernel's. Metrics and the CLI show [`PathReason::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathReason {
    /// The XDP program is not attached to one of the two interfaces.
    NoXdp,
    /// A leg is SRTP, which the kernel has not taken the program for.
    SrtpNotLoaded,
    /// A leg is SRTP, and the configuration keeps that from the kernel.
    SrtpOff,
    /// A leg's suite has AES of 256 bits in counter mode.
    SrtpAes256,
    /// A leg's suite has AES in Galois/counter mode.
    SrtpGcm,
    /// The table of SRTP streams was full when the stream's key came.
    SrtpStreams,
    /// One leg is IPv4, the other IPv6.
    AddressFamily,
    /// More payload types than a flow entry holds.
    PayloadTypes,
    /// A table of the kernel's is full.
    Capacity,
}

impl PathReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NoXdp,
        Self::SrtpNotLoaded,
        Self::SrtpOff,
        Self::SrtpAes256,
        Self::SrtpGcm,
        Self::SrtpStreams,
        Self::AddressFamily,
        Self::PayloadTypes,
        Self::Capacity,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoXdp => "no-xdp",
            Self::SrtpNotLoaded => "srtp-not-loaded",
            Self::SrtpOff => "srtp-off",
            Self::SrtpAes256 => "srtp-aes-256",
            Self::SrtpGcm => "srtp-gcm",
            Self::SrtpStreams => "srtp-streams",
            Self::AddressFamily => "address-family",
            Self::PayloadTypes => "payload-types",
            Self::Capacity => "capacity",
        }
    }
}
