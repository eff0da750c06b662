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
    /// A leg is SRTP.
    Srtp,
    /// One leg is IPv4, the other IPv6.
    AddressFamily,
    /// More payload types than a flow entry holds.
    PayloadTypes,
    /// A table of the kernel's is full.
    Capacity,
}

impl PathReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::NoXdp,
        Self::Srtp,
        Self::AddressFamily,
        Self::PayloadTypes,
        Self::Capacity,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoXdp => "no-xdp",
            Self::Srtp => "srtp",
            Self::AddressFamily => "address-family",
            Self::PayloadTypes => "payload-types",
            Self::Capacity => "capacity",
        }
    }
}
