//! Where a caller is (RFC 6442): the location beside the SDP of an INVITE is passed on, and its
//! ELIN may stand for the caller so that an emergency centre can call back.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::headers::SDP;
use crate::sip::{HeaderName, Part, Request, Text, Uri, join_parts, parts};

/// The type of a location.
const LOCATION: &str = "application/pidf+xml";
/// Marks the parts of our bodies. It stands in no SDP and in no XML.
const BOUNDARY: &str = "trunkline-part";
/// How long a callback finds the caller.
const CALLBACK: Duration = Duration::from_secs(3_600);
/// The most callers that a callback may be for.
const CALLBACKS: usize = 1_000;
/// The longest ELIN: a number.
const ELIN_OCTETS: usize = 20;

/// Takes the SDP out of an INVITE's body of several parts, and gives the locations beside it.
pub(super) fn unfold(request: &mut Request) -> Vec<Part> {
    let Some(read) = request
        .headers
        .text(HeaderName::ContentType)
        .and_then(|kind| parts(kind, &request.body))
    else {
        return Vec::new();
    };
    let Some(sdp) = read.iter().find(|part| part.content_type() == SDP) else {
        return Vec::new();
    };
    request.headers.set(HeaderName::ContentType, SDP);
    request.body = sdp.body.clone();
    read.into_iter()
        .filter(|part| part.content_type() == LOCATION)
        .collect()
}

/// Puts locations beside the SDP of an INVITE of ours.
pub(super) fn fold(request: Request, locations: &[Part]) -> Request {
    if locations.is_empty() {
        return request;
    }
    let kind = format!("Content-Type: {SDP}");
    let sdp = (!request.body.is_empty()).then(|| (kind.as_bytes(), &request.body[..]));
    let body: Bytes = join_parts(
        BOUNDARY,
        sdp.into_iter().chain(
            locations
                .iter()
                .map(|part| (&part.headers[..], &part.body[..])),
        ),
    );
    request
        .with(HeaderName::MimeVersion, "1.0")
        .with_body(&format!("multipart/mixed;boundary={BOUNDARY}"), body)
}

/// The emergency location identification number in a location.
pub(super) fn elin(locations: &[Part]) -> Option<Text> {
    locations.iter().find_map(|part| {
        let text = std::str::from_utf8(&part.body).ok()?;
        let (_, rest) = text.split_once("ELIN>")?;
        let (number, _) = rest.split_once('<')?;
        let number = number.trim();
        let is_number = !number.is_empty()
            && number.len() <= ELIN_OCTETS
            && number
                .bytes()
                .all(|octet| octet.is_ascii_digit() || octet == b'+');
        is_number.then(|| Text::from(number))
    })
}

/// Whom a call to an ELIN is for.
#[derive(Debug)]
struct Caller {
    number: Text,
    trunk: Arc<str>,
    until: Instant,
}

/// The callers for whom an ELIN stood.
#[derive(Debug, Default)]
pub(super) struct Callbacks(HashMap<Text, Caller>);

impl Callbacks {
    /// A caller has called as that ELIN.
    pub(super) fn remember(&mut self, now: Instant, elin: &Text, number: &str, trunk: &Arc<str>) {
        self.0.retain(|_, caller| caller.until > now);
        if self.0.len() < CALLBACKS || self.0.contains_key(elin) {
            let caller = Caller {
                number: number.into(),
                trunk: Arc::clone(trunk),
                until: now + CALLBACK,
            };
            self.0.insert(elin.clone(), caller);
        }
    }

    /// The trunk and number of the caller that a call to an ELIN is for; the request is made one
    /// to that number.
    pub(super) fn redirect(&self, now: Instant, request: &mut Request) -> Option<Arc<str>> {
        let called = request.uri.user_unescaped()?.into_owned();
        let caller = self
            .0
            .get(called.as_str())
            .filter(|caller| caller.until > now)?;
        match &mut request.uri {
            Uri::Sip(uri) => uri.user = Some(caller.number.clone()),
            Uri::Tel(uri) => uri.number = caller.number.clone(),
            Uri::Other(_) => return None,
        }
        Some(Arc::clone(&caller.trunk))
    }
}
