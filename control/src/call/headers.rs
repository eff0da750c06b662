//! What passes from one leg to the other, and the headers that are our own.
//!
//! A message of one leg is never copied to the other: a new one is made, and only what the table
//! [`RULES`] names is carried over. Via, Route, Record-Route, Contact, Call-ID, the tags and CSeq
//! belong to a leg. From and To keep the display name, the user and `user=phone`; their hosts are
//! replaced. User-Agent, Server, Organization, Call-Info, Alert-Info, Error-Info, Warning,
//! Diversion, History-Info, P-Asserted-Identity, X- headers and any unknown header stay where
//! they came from.

use crate::sip::{HeaderName, Headers, Method, NameAddress, Request, Response, SipUri, Text, Uri};

use super::trunk::Trunk;

/// Max-Forwards of requests that begin here (RFC 3261 §8.1.1.6).
pub(super) const MAX_FORWARDS: u32 = 70;

/// The methods that are served.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO";

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

fn carry(from: &Headers, to: &mut Headers, passes: Passes) {
    for (name, _) in RULES.iter().filter(|(_, when)| *when == passes) {
        for field in from.all(*name).take(FIELDS) {
            if field.value().len() <= VALUE_OCTETS {
                to.push_header(field.clone());
            }
        }
    }
}

/// Carries what the caller's INVITE says over to the callee's.
pub(super) fn carry_invite(from: &Headers, to: &mut Headers) {
    carry(from, to, Passes::Invite);
}

/// Carries why something ends.
pub(super) fn carry_ending(from: &Headers, to: &mut Headers) {
    carry(from, to, Passes::Ending);
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

/// Who the caller is, as the other trunk sees it: `"display" <sip:user@our host>`.
pub(super) fn from_address(theirs: &NameAddress, trunk: &Trunk) -> NameAddress {
    let uri = match &theirs.uri {
        // The host of an anonymous caller says nothing and must stay (RFC 3323 §4.1.1.3).
        Uri::Sip(uri) if uri.host.eq_ignore_ascii_case("anonymous.invalid") => SipUri {
            host: uri.host.clone(),
            ..rehosted(&theirs.uri, "", None)
        },
        uri => rehosted(uri, &trunk.host, None),
    };
    with_display(theirs, uri)
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
    if request.method == Method::Invite {
        let user = request
            .headers
            .from()
            .ok()
            .and_then(|from| from.uri.as_sip().and_then(|uri| uri.user.clone()));
        let contact = NameAddress::new(trunk.contact(user.as_ref()));
        request.headers.push(HeaderName::Contact, contact);
        request.headers.push(HeaderName::Allow, ALLOW);
        request.headers.push(HeaderName::UserAgent, PRODUCT);
    }
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
    response.headers.push(HeaderName::Allow, ALLOW);
    response.headers.push(HeaderName::Server, PRODUCT);
}
