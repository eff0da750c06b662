//! What passes from one leg to the other, and the headers that are our own.
//!
//! A message of one leg is never copied to the other: a new one is made, and only what the table
//! [`RULES`] names is carried over. Via, Route, Record-Route, Contact, Call-ID, the tags and CSeq
//! belong to a leg. From and To keep the display name, the user and `user=phone`; their hosts are
//! replaced. Who calls, and for whom, is told by the rules in `identity`. User-Agent, Server,
//! Organization, Call-Info, Alert-Info, Error-Info, Warning, X- headers and any unknown header
//! stay where they came from, unless the trunk's `headers_allow` names them.

use crate::sip::{HeaderName, Headers, Method, NameAddress, Request, Response, SipUri, Text, Uri};

use super::{cause, trunk::Trunk};

/// Max-Forwards of requests that begin here (RFC 3261 §8.1.1.6).
pub(super) const MAX_FORWARDS: u32 = 70;

/// The name that we give ourselves in User-Agent and Server.
const PRODUCT: &str = concat!("Trunkline/", env!("CARGO_PKG_VERSION"));

/// The largest value of a header that is carried over, in octets.
const VALUE_OCTETS: usize = 2048;
/// The most fields of one name that are carried over.
const FIELDS: usize = 8;

/// Which messages a header passes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    /// INVITE that begins a call.
    Invite,
    /// BYE, CANCEL, and final responses to INVITE other than 2xx.
    Ending,
    /// Wherever a body is carried.
    Body,
    /// INFO.
    Info,
}

/// The one list of headers that pass from one leg to the other, byte for byte.
const RULES: &[(&str, Passes)] = &[
    // What the call is about, said by one user to the other.
    ("Subject", Passes::Invite),
    ("Priority", Passes::Invite),
    ("User-to-User", Passes::Invite),
    ("Accept-Language", Passes::Invite),
    // Where the caller is (RFC 6442).
    ("Geolocation", Passes::Invite),
    ("Geolocation-Routing", Passes::Invite),
    // The caller's wish for privacy must reach whoever shows the number.
    ("Privacy", Passes::Invite),
    // Why it ended: Q.850 causes, "answered elsewhere".
    ("Reason", Passes::Ending),
    ("User-to-User", Passes::Ending),
    // What the body is. SDP is written anew and takes none of these.
    ("Content-Type", Passes::Body),
    ("Content-Disposition", Passes::Body),
    ("Content-Language", Passes::Body),
    ("Content-Encoding", Passes::Body),
    ("MIME-Version", Passes::Body),
    ("Info-Package", Passes::Info),
];

/// What no profile may carry: it belongs to a leg, or is made by rules of its own.
const OWN: &[HeaderName] = &[
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::MaxForwards,
    HeaderName::Route,
    HeaderName::RecordRoute,
    HeaderName::ContentLength,
    HeaderName::ContentType,
    HeaderName::ContentEncoding,
    HeaderName::Allow,
    HeaderName::Supported,
    HeaderName::Require,
    HeaderName::ProxyRequire,
    HeaderName::Unsupported,
    HeaderName::SessionExpires,
    HeaderName::MinSe,
    HeaderName::RSeq,
    HeaderName::RAck,
    HeaderName::Replaces,
    HeaderName::ReferTo,
    HeaderName::PAssertedIdentity,
    HeaderName::Authorization,
    HeaderName::ProxyAuthorization,
    HeaderName::WwwAuthenticate,
    HeaderName::ProxyAuthenticate,
];

fn carry(from: &Headers, to: &mut Headers, passes: Passes) {
    for (name, _) in RULES.iter().filter(|(_, when)| *when == passes) {
        carry_named(from, to, name);
    }
}

fn carry_named(from: &Headers, to: &mut Headers, name: &str) {
    for field in from.all(name).take(FIELDS) {
        if field.value().len() <= VALUE_OCTETS {
            to.push_header(field.clone());
        }
    }
}

/// What the trunk's profile adds and takes away.
fn apply_profile(from: &Headers, to: &mut Headers, trunk: &Trunk) {
    for name in &trunk.sip.headers_allow {
        let known = HeaderName::lookup(name.as_bytes());
        if !known.is_some_and(|known| OWN.contains(&known)) && !to.has(name) {
            carry_named(from, to, name);
        }
    }
    for name in &trunk.sip.headers_strip {
        let known = HeaderName::lookup(name.as_bytes());
        if !known.is_some_and(|known| OWN.contains(&known)) {
            to.remove(name);
        }
    }
}

/// Carries what the caller's INVITE says over to the callee's.
pub(super) fn carry_invite(from: &Headers, to: &mut Headers, trunk: &Trunk) {
    carry(from, to, Passes::Invite);
    apply_profile(from, to, trunk);
}

/// Carries why something ends, from a trunk to another. `status` is the response's; `None` for
/// BYE.
pub(super) fn carry_ending(
    from: Option<&Headers>,
    to: &mut Headers,
    status: Option<u16>,
    trunks: (&Trunk, &Trunk),
) {
    if let Some(from) = from {
        carry(from, to, Passes::Ending);
        cause::correct(status.unwrap_or_default(), trunks.0, to);
        apply_profile(from, to, trunks.1);
    }
    cause::make(status, trunks.1, to);
}

/// Carries an INFO's body and what it is.
pub(super) fn carry_info(from: &Request, to: &mut Request) {
    carry(&from.headers, &mut to.headers, Passes::Info);
    if !from.body.is_empty() {
        carry(&from.headers, &mut to.headers, Passes::Body);
        to.body = from.body.clone();
    }
}

/// Carries the body of a response to INFO and what it is.
pub(super) fn carry_info_answer(from: &Response, to: &mut Response) {
    if !from.body.is_empty() {
        carry(&from.headers, &mut to.headers, Passes::Body);
        to.body = from.body.clone();
    }
}

/// The body's type when it is SDP, and not encoded.
pub(super) const SDP: &str = "application/sdp";

/// Whether a body is SDP; `None` when there is no body.
pub(super) fn is_sdp(headers: &Headers, body: &[u8]) -> Option<bool> {
    if body.is_empty() {
        return None;
    }
    let plain = headers
        .text(HeaderName::ContentEncoding)
        .is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    // Content-Type may not be left out beside a body (RFC 3261 §20.15), and is.
    let kind = headers.content_type();
    Some(plain && kind.is_none_or(|kind| kind == SDP))
}

/// Who is called, as the trunk sees it: `"display" <sip:user@host>`.
pub(super) fn to_address(theirs: &NameAddress, called: &SipUri) -> NameAddress {
    with_display(theirs, rehosted(&theirs.uri, &called.host, called.port))
}

fn with_display(theirs: &NameAddress, uri: SipUri) -> NameAddress {
    let mut address = NameAddress::new(uri);
    if let Some(name) = theirs.display_name() {
        address.set_display_name(&name);
    }
    address
}

/// The URI with its user (a number keeps `user=phone`) and another host; everything else goes.
pub(super) fn rehosted(uri: &Uri, host: &str, port: Option<u16>) -> SipUri {
    let mut new = SipUri::new(None, host, port);
    match uri {
        Uri::Sip(sip) => {
            new.user.clone_from(&sip.user);
            if let Some(kind) = sip.parameters.get("user") {
                new.parameters.set("user", kind);
            }
        }
        Uri::Tel(tel) => {
            // Visual separators do not belong to a number (RFC 3966 §5.1.1).
            let number: String = tel
                .number
                .chars()
                .filter(|letter| !matches!(letter, '-' | '.' | '(' | ')'))
                .collect();
            new.user = Some(Text::from(number));
            new.parameters.set("user", "phone");
        }
        Uri::Other(_) => {}
    }
    new
}

/// Puts Allow, User-Agent and Contact into a request of ours, as its method wants them.
pub(super) fn identify(request: &mut Request, trunk: &Trunk) {
    if matches!(
        request.method,
        Method::Invite | Method::Update | Method::Options
    ) {
        let user = request
            .headers
            .from()
            .ok()
            .and_then(|from| from.uri.as_sip().and_then(|uri| uri.user.clone()));
        let contact = NameAddress::new(trunk.contact(user.as_ref()));
        request.headers.push(HeaderName::Contact, contact);
        request.headers.push(HeaderName::Allow, &trunk.allow);
        if !request.headers.has(HeaderName::Supported) {
            request
                .headers
                .push(HeaderName::Supported, &trunk.supported);
        }
        request.headers.push(HeaderName::UserAgent, PRODUCT);
        if let Some(product) = trunk.sip.product() {
            request.headers.push("X-MS-SBC", product);
        }
    }
}

/// Takes 100rel out of what an INVITE of ours says that we know: a reliable provisional response to it
/// could not be acknowledged as it must be (RFC 3262 §5), as it would bear the offer, or nobody waits
/// for any.
pub(super) fn no_reliable(request: &mut Request) {
    let known = request.headers.text(HeaderName::Supported);
    let known = known.unwrap_or_default().split(", ");
    let others: Vec<&str> = known.filter(|option| *option != "100rel").collect();
    let others = others.join(", ");
    request.headers.set(HeaderName::Supported, others);
}

/// Puts Contact, Allow and Server into a response that makes a dialog.
pub(super) fn identify_response(response: &mut Response, trunk: &Trunk) {
    let user = response
        .headers
        .to()
        .ok()
        .and_then(|to| to.uri.as_sip().and_then(|uri| uri.user.clone()));
    let contact = NameAddress::new(trunk.contact(user.as_ref()));
    response.headers.push(HeaderName::Contact, contact);
    response.headers.push(HeaderName::Allow, &trunk.allow);
    response
        .headers
        .push(HeaderName::Supported, &trunk.supported);
    response.headers.push(HeaderName::Server, PRODUCT);
    if let Some(product) = trunk.sip.product() {
        response.headers.push("X-MS-SBC", product);
    }
}
