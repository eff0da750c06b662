//! The attributes that an ICE agent meets (RFC 8489, section 14; RFC 8445, section 16.1).

/// One attribute of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
    /// Where it begins in the message.
    pub offset: usize,
}

impl Attribute<'_> {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;

    /// Those below 0x8000 that may stand in a request to us; what they say beyond that may be left
    /// aside: REALM, NONCE and MESSAGE-INTEGRITY-SHA256 belong to credentials that ICE has not, and
    /// ERROR-CODE, UNKNOWN-ATTRIBUTES and addresses to responses.
    const UNDERSTOOD: [u16; 11] = [
        0x0001,
        Self::USERNAME,
        Self::MESSAGE_INTEGRITY,
        Self::ERROR_CODE,
        Self::UNKNOWN_ATTRIBUTES,
        0x0014,
        0x0015,
        0x001c,
        Self::XOR_MAPPED_ADDRESS,
        Self::PRIORITY,
        Self::USE_CANDIDATE,
    ];

    /// Whether a message that holds one must be refused by who does not know it, and we do not.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.kind < 0x8000 && !Self::UNDERSTOOD.contains(&self.kind)
    }
}
