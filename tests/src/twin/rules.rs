//! What Teams does not accept, and what it says then.

use std::{collections::HashSet, fmt};

use super::{
    link::Link,
    message::{Message, parameter},
    names::covers,
    sdp::{MediaSection, Sdp},
    uri::Uri,
};

/// The names of the three proxies, in the order in which they are to be tried.
pub const PROXIES: [&str; 3] = [
    "sip.pstnhub.microsoft.com",
    "sip2.pstnhub.microsoft.com",
    "sip3.pstnhub.microsoft.com",
];

/// What Teams' Allow holds.
pub const ALLOW: &str = "INVITE,ACK,OPTIONS,CANCEL,BYE,NOTIFY";

/// The shortest session timer that is accepted, in seconds (RFC 4028, section 4).
pub const SHORTEST_TIMER: u32 = 90;

/// A rule that a message has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    ContactMissing,
    ContactIsAddress,
    ContactForeign,
    ContactScheme,
    RequestScheme,
    MethodNotAllowed,
    Replaces,
    Requires,
    NoOffer,
    NoSrtp,
    NoSuite80,
    NoCodec,
    DuplicatePayloadType,
    NullAddress,
    OneWayHold,
    TimerTooShort,
    // Teams is not known to refuse what follows; it is remembered against the SBC.
    RequestName,
    RequestNumber,
    FromName,
    ViaName,
    ViaAlias,
    NoProduct,
    MediaMoved,
    RouteSet,
    RequestTarget,
}

impl Rule {
    /// Status and reason phrase of the refusal, and Teams' own code where one is known.
    #[must_use]
    pub const fn refusal(self) -> Option<(u16, &'static str, Option<u32>)> {
        Some(match self {
            Self::ContactForeign => (403, "Forbidden", Some(510_532)),
            Self::ContactMissing | Self::ContactIsAddress | Self::ContactScheme => {
                (403, "Forbidden", None)
            }
            Self::RequestScheme => (416, "Unsupported URI Scheme", None),
            Self::MethodNotAllowed => (405, "Method Not Allowed", None),
            Self::Replaces | Self::Requires => (420, "Bad Extension", None),
            Self::NoOffer | Self::NoSrtp | Self::NoSuite80 | Self::NoCodec => {
                (488, "Not Acceptable Here", Some(531_000))
            }
            Self::DuplicatePayloadType => (488, "Not Acceptable Here", None),
            Self::NullAddress | Self::OneWayHold => (488, "Not Acceptable Here", Some(531_052)),
            Self::TimerTooShort => (422, "Session Interval Too Small", None),
            _ => return None,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ContactMissing => "there is no Contact",
            Self::ContactIsAddress => "the Contact holds an IP address",
            Self::ContactForeign => "the Contact's name is not one of the certificate's",
            Self::ContactScheme => "the Contact is no sip: URI over TLS",
            Self::RequestScheme => "the Request-URI is no sip: URI",
            Self::MethodNotAllowed => "the method is not in Allow",
            Self::Replaces => "it holds Replaces",
            Self::Requires => "it requires an extension",
            Self::NoOffer => "it holds no offer",
            Self::NoSrtp => "the audio is not SRTP with keys",
            Self::NoSuite80 => "AES_CM_128_HMAC_SHA1_80 is not among the keys",
            Self::NoCodec => "none of the codecs is known",
            Self::DuplicatePayloadType => "one payload type has two uses",
            Self::NullAddress => "c= is 0.0.0.0",
            Self::OneWayHold => "hold is not a=inactive",
            Self::TimerTooShort => "the session timer is too short",
            Self::RequestName => "the Request-URI does not name a proxy",
            Self::RequestNumber => "the Request-URI is no +E.164;user=phone",
            Self::FromName => "From is no +E.164 at the Contact's name",
            Self::ViaName => "Via does not hold the Contact's name",
            Self::ViaAlias => "Via has no alias",
            Self::NoProduct => "there is no X-MS-SBC: Vendor/Model/Version",
            Self::MediaMoved => "the media address has changed in mid-call",
            Self::RouteSet => "the Route headers are not our Record-Route",
            Self::RequestTarget => "the Request-URI is not our Contact",
        })
    }
}

/// What a dialog expects of the requests inside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub(super) target: String,
    pub(super) routes: Vec<String>,
    pub(super) media: Option<std::net::SocketAddr>,
}

/// Every rule that a request breaks, in the order in which Teams would look. `dialog` is for
/// requests inside one.
pub(super) fn judge(request: &Message, link: &Link, dialog: Option<&Expected>) -> Vec<Rule> {
    let mut broken = Vec::new();
    let method = request.method();
    let wants_contact = matches!(method, "INVITE" | "OPTIONS");
    if wants_contact || request.header("Contact").is_some() {
        broken.extend(contact(request, link));
    }
    if !ALLOW.split(',').any(|allowed| allowed == method) {
        broken.push(Rule::MethodNotAllowed);
    }
    if !request.uri().starts_with("sip:") {
        broken.push(Rule::RequestScheme);
    }
    if request.header("Require").is_some() {
        broken.push(Rule::Requires);
    }
    if request.header("Replaces").is_some() {
        broken.push(Rule::Replaces);
    }
    if let Some(expected) = dialog {
        if method != "CANCEL" {
            broken.extend(inside(request, expected));
        }
    } else if wants_contact {
        broken.extend(names(request, method == "INVITE"));
    }
    if method == "INVITE" {
        if timer(request).is_some_and(|seconds| seconds < SHORTEST_TIMER) {
            broken.push(Rule::TimerTooShort);
        }
        match Sdp::of(&request.body) {
            None => broken.push(Rule::NoOffer),
            Some(sdp) => {
                broken.extend(description(&sdp, true));
                if let Some(known) = dialog.and_then(|expected| expected.media)
                    && sdp.audio_target().is_some_and(|target| target != known)
                {
                    broken.push(Rule::MediaMoved);
                }
            }
        }
    }
    broken
}

/// Seconds in Session-Expires.
pub(super) fn timer(message: &Message) -> Option<u32> {
    let value = message.header("Session-Expires")?;
    value.split(';').next()?.trim().parse().ok()
}

fn contact(request: &Message, link: &Link) -> Option<Rule> {
    let Some(value) = request.header("Contact") else {
        return Some(Rule::ContactMissing);
    };
    let Some(uri) = Uri::parse(value) else {
        return Some(Rule::ContactMissing);
    };
    if uri.is_address() {
        return Some(Rule::ContactIsAddress);
    }
    let shown = link
        .connection()
        .map_or(&[][..], |connection| &connection.names);
    if !covers(shown, &uri.host) {
        return Some(Rule::ContactForeign);
    }
    let secure = uri
        .parameter("transport")
        .is_some_and(|transport| transport.eq_ignore_ascii_case("tls"));
    (uri.scheme != "sip" || !secure).then_some(Rule::ContactScheme)
}

fn names(request: &Message, invite: bool) -> Vec<Rule> {
    let mut broken = Vec::new();
    let uri = Uri::parse(request.uri());
    let is_proxy = |uri: &Uri| PROXIES.contains(&uri.host.as_str());
    if !uri.as_ref().is_some_and(is_proxy) {
        broken.push(Rule::RequestName);
    }
    let contact = request.header("Contact").and_then(Uri::parse);
    let host = contact.map(|uri| uri.host).unwrap_or_default();
    let via = request.header("Via").unwrap_or_default();
    let sent_by = via
        .split_whitespace()
        .nth(1)
        .and_then(|sent_by| sent_by.split([':', ';']).next())
        .unwrap_or_default();
    if !sent_by.eq_ignore_ascii_case(&host) {
        broken.push(Rule::ViaName);
    }
    if parameter(via, "alias").is_none() {
        broken.push(Rule::ViaAlias);
    }
    if !invite {
        return broken;
    }
    let phone = uri
        .as_ref()
        .is_some_and(|uri| uri.is_e164() && uri.parameter("user") == Some("phone"));
    if !phone {
        broken.push(Rule::RequestNumber);
    }
    let from = request.header("From").and_then(Uri::parse);
    let anonymous = |uri: &Uri| uri.host == "anonymous.invalid";
    if !from.is_some_and(|from| anonymous(&from) || (from.is_e164() && from.host == host)) {
        broken.push(Rule::FromName);
    }
    let product = request.header("X-MS-SBC").unwrap_or_default();
    if product.split('/').filter(|part| !part.is_empty()).count() < 3 {
        broken.push(Rule::NoProduct);
    }
    broken
}

fn inside(request: &Message, expected: &Expected) -> Vec<Rule> {
    let mut broken = Vec::new();
    if request.uri() != expected.target {
        broken.push(Rule::RequestTarget);
    }
    if request.list("Route") != expected.routes {
        broken.push(Rule::RouteSet);
    }
    broken
}

/// Every rule that an offer or an answer breaks.
pub(super) fn description(sdp: &Sdp, is_offer: bool) -> Vec<Rule> {
    let mut broken = Vec::new();
    let Some(audio) = sdp.audio() else {
        return vec![Rule::NoOffer];
    };
    let keys = sdp.keys();
    if audio.protocol != "RTP/SAVP" || keys.is_empty() {
        broken.push(Rule::NoSrtp);
    } else if is_offer
        && !keys
            .iter()
            .any(|key| key.suite == "AES_CM_128_HMAC_SHA1_80")
    {
        broken.push(Rule::NoSuite80);
    }
    if !audio.formats.iter().any(|&format| is_known(audio, format)) {
        broken.push(Rule::NoCodec);
    }
    if has_duplicates(audio) {
        broken.push(Rule::DuplicatePayloadType);
    }
    if sdp.audio_address() == Some("0.0.0.0") {
        broken.push(Rule::NullAddress);
    }
    if matches!(sdp.direction(), "sendonly" | "recvonly") {
        broken.push(Rule::OneWayHold);
    }
    broken
}

fn is_known(audio: &MediaSection, format: u8) -> bool {
    const KNOWN: [&str; 6] = [
        "SILK/16000",
        "SILK/8000",
        "G722/8000",
        "PCMU/8000",
        "PCMA/8000",
        "G729/8000",
    ];
    audio.codec(format).is_some_and(|codec| {
        let codec = codec.trim_end_matches("/1");
        KNOWN.iter().any(|known| known.eq_ignore_ascii_case(codec))
    })
}

fn has_duplicates(audio: &MediaSection) -> bool {
    let mut formats = HashSet::new();
    let mut mapped = HashSet::new();
    let mappings = audio
        .attributes
        .iter()
        .filter(|(name, _)| name == "rtpmap")
        .filter_map(|(_, value)| value.split_whitespace().next());
    !audio.formats.iter().all(|format| formats.insert(*format))
        || !mappings.into_iter().all(|format| mapped.insert(format))
}
