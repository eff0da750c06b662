//! Payload types and what they stand for (RFC 3551, section 6; RFC 8866, section 6.6).

use std::borrow::Cow;

/// A codec as SDP names it.
#[derive(Clone, Debug)]
pub struct Codec {
    /// The encoding name, as it was written.
    pub name: Cow<'static, str>,
    /// The RTP clock in hertz.
    pub clock_rate: u32,
    pub channels: u32,
}

impl Codec {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether it carries sound; events and comfort noise only go with one that does.
    pub(super) fn is_voice(&self) -> bool {
        !["telephone-event", "CN", "tone"]
            .iter()
            .any(|auxiliary| self.is(auxiliary))
    }

    /// Packets of these formats name other payload types inside, where no relay renumbers them.
    pub(super) fn refers_to_payload_types(&self) -> bool {
        self.is("red") || self.is("rtx")
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
    }
}

impl Eq for Codec {}

/// One format of an `m=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub payload_type: u8,
    pub codec: Codec,
    pub parameters: Parameters,
}

/// The text of the `a=fmtp` lines of a format after the payload type.
pub type Parameters = Box<[String]>;

/// The codec that a payload type without `a=rtpmap` stands for (RFC 3551, table 4).
pub(super) fn of_static(payload_type: u8) -> Option<Codec> {
    STATIC
        .iter()
        .find(|(number, ..)| *number == payload_type)
        .map(|&(_, name, clock_rate, channels)| Codec {
            name: Cow::Borrowed(name),
            clock_rate,
            channels,
        })
}

/// An encoding name; without a copy where it is a common one.
pub(super) fn encoding_name(written: &str) -> Cow<'static, str> {
    let fixed = STATIC.iter().map(|(_, name, ..)| *name);
    fixed
        .chain(DYNAMIC)
        .find(|name| *name == written)
        .map_or_else(|| Cow::Owned(written.to_owned()), Cow::Borrowed)
}

/// The payload type that RFC 3551 gives a codec.
pub(super) fn static_of(codec: &Codec) -> Option<u8> {
    STATIC
        .iter()
        .find(|(_, name, clock_rate, channels)| {
            codec.is(name) && codec.clock_rate == *clock_rate && codec.channels == *channels
        })
        .map(|(number, ..)| *number)
}

/// Names without a number of their own that calls often hold.
const DYNAMIC: [&str; 10] = [
    "telephone-event",
    "opus",
    "SILK",
    "AMR",
    "AMR-WB",
    "EVS",
    "iLBC",
    "speex",
    "G726-32",
    "x-msrta",
];

const STATIC: [(u8, &str, u32, u32); 17] = [
    (0, "PCMU", 8000, 1),
    (3, "GSM", 8000, 1),
    (4, "G723", 8000, 1),
    (5, "DVI4", 8000, 1),
    (6, "DVI4", 16000, 1),
    (7, "LPC", 8000, 1),
    (8, "PCMA", 8000, 1),
    (9, "G722", 8000, 1),
    (10, "L16", 44100, 2),
    (11, "L16", 44100, 1),
    (12, "QCELP", 8000, 1),
    (13, "CN", 8000, 1),
    (14, "MPA", 90000, 1),
    (15, "G728", 8000, 1),
    (16, "DVI4", 11025, 1),
    (17, "DVI4", 22050, 1),
    (18, "G729", 8000, 1),
];

/// Numbers for dynamic payload types: first the range of RFC 3551, then the unassigned ones below
/// 64. From 64 to 95 they could be taken for RTCP (RFC 5761, section 4).
pub(super) fn dynamic() -> impl Iterator<Item = u8> {
    (96..=127).chain(35..=63)
}

pub(super) fn is_dynamic(payload_type: u8) -> bool {
    matches!(payload_type, 96..=127 | 35..=63)
}
