//! Dialogs (RFC 3261 §12).

use bytes::Bytes;

use super::headers::MAX_FORWARDS;
use crate::sip::{
    CSeq, FieldValue, Flow, HeaderName, Headers, Method, NameAddress, PeerWay, Request, Response,
    SipError, SipUri, Text, Uri,
};

/// The longest route set that is taken.
const ROUTES: usize = 32;

/// One dialog, early or confirmed, seen from our side. A call keeps two of them for as long as it
/// lasts and asks them little: what they hold is text in one piece, read when a request is made.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    texts: Texts,
    /// Whether its Call-ID is ours.
    pub(super) is_begun_here: bool,
    /// The number of our last request.
    pub(super) local_sequence: u32,
    /// The number of the peer's last request; `None` before the first.
    pub(super) remote_sequence: Option<u32>,
    /// The way that the peer's last message came.
    pub(super) flow: PeerWay,
}

const _: () = assert!(size_of::<Dialog>() <= 128);

/// What [`Texts`] are of.
#[derive(Clone, Copy)]
enum Piece {
    CallId,
    /// Our From in requests of ours; our tag is in it.
    Local,
    LocalTag,
    Remote,
    /// Empty when the peer sends none (RFC 2543).
    RemoteTag,
    /// Where the next request goes: the peer's Contact.
    RemoteTarget,
    /// In the order in which a request of ours visits them, with a line break after each.
    Routes,
}

const PIECES: usize = Piece::Routes as usize + 1;

/// The texts of a dialog as they stand in headers, one after the other in one allocation.
#[derive(Clone, Debug)]
struct Texts {
    octets: Box<[u8]>,
    ends: [u32; PIECES],
}

impl Texts {
    fn new(pieces: [&[u8]; PIECES]) -> Self {
        let mut end = 0;
        Self {
            octets: pieces.concat().into(),
            // A message is shorter than 4 GiB, and all pieces come from one or two.
            ends: pieces.map(|piece| {
                end += piece.len() as u32;
                end
            }),
        }
    }

    fn get(&self, piece: Piece) -> &[u8] {
        let place = piece as usize;
        let end = |place: usize| self.ends.get(place).map_or(0, |end| *end as usize);
        let start = place.checked_sub(1).map_or(0, end);
        self.octets.get(start..end(place)).unwrap_or_default()
    }

    fn text(&self, piece: Piece) -> &str {
        std::str::from_utf8(self.get(piece)).unwrap_or_default()
    }

    fn replace(&mut self, piece: Piece, octets: &[u8]) {
        let mut pieces = [
            Piece::CallId,
            Piece::Local,
            Piece::LocalTag,
            Piece::Remote,
            Piece::RemoteTag,
            Piece::RemoteTarget,
            Piece::Routes,
        ]
        .map(|piece| self.get(piece));
        if let Some(place) = pieces.get_mut(piece as usize) {
            *place = octets;
        }
        *self = Self::new(pieces);
    }

    fn header(&self, piece: Piece) -> Bytes {
        Bytes::copy_from_slice(self.get(piece))
    }

    fn routes(&self) -> impl Iterator<Item = NameAddress> {
        self.get(Piece::Routes)
            .split(|octet| *octet == b'\n')
            .filter_map(|route| NameAddress::parse(&Bytes::copy_from_slice(route)).ok())
    }
}

impl Dialog {
    /// The dialog that our response to `request` makes (RFC 3261 §12.1.1).
    ///
    /// # Errors
    /// When From, To, Contact, Call-ID, CSeq or Record-Route are missing or malformed.
    pub(super) fn accepted(
        request: &Request,
        local_tag: &Text,
        flow: &Flow,
    ) -> Result<Self, SipError> {
        let headers = &request.headers;
        let remote = headers.from()?;
        let routes = routes(headers.addresses(HeaderName::RecordRoute)?)?;
        Ok(Self {
            texts: Texts::new([
                headers.call_id()?.as_bytes(),
                &headers.to()?.with_tag(local_tag).into_octets(),
                local_tag.as_bytes(),
                &(&remote).into_octets(),
                remote.tag().unwrap_or_default().as_bytes(),
                headers.contact()?.uri.to_string().as_bytes(),
                &lines(&routes),
            ]),
            is_begun_here: false,
            local_sequence: 0,
            remote_sequence: Some(headers.cseq()?.number),
            flow: flow.into(),
        })
    }

    /// The dialog that a response to a request of ours makes (RFC 3261 §12.1.2).
    ///
    /// # Errors
    /// When To or Record-Route of the response, or a header of the request, are malformed.
    pub(super) fn requested(
        request: &Request,
        response: &Response,
        flow: &Flow,
    ) -> Result<Self, SipError> {
        let local = request.headers.from()?;
        let remote = response.headers.to()?;
        let mut routes = routes(response.headers.addresses(HeaderName::RecordRoute)?)?;
        routes.reverse();
        // A provisional response may come without one; then what reached the peer once does so
        // again.
        let remote_target = response.headers.contact().map_or_else(
            |_| request.uri.to_string(),
            |contact| contact.uri.to_string(),
        );
        Ok(Self {
            texts: Texts::new([
                request.headers.call_id()?.as_bytes(),
                &(&local).into_octets(),
                local.tag().unwrap_or_default().as_bytes(),
                &(&remote).into_octets(),
                remote.tag().unwrap_or_default().as_bytes(),
                remote_target.as_bytes(),
                &lines(&routes),
            ]),
            is_begun_here: true,
            local_sequence: request.headers.cseq()?.number,
            remote_sequence: None,
            flow: flow.into(),
        })
    }

    /// Our tag.
    pub(super) fn local_tag(&self) -> &str {
        self.texts.text(Piece::LocalTag)
    }

    /// The peer's tag; empty when it sends none (RFC 2543).
    pub(super) fn remote_tag(&self) -> &str {
        self.texts.text(Piece::RemoteTag)
    }

    /// Takes the peer's new Contact (a target refresh, RFC 3261 §12.2) and the way it came.
    pub(super) fn refresh(&mut self, contact: Result<NameAddress, SipError>, flow: &Flow) {
        if let Ok(contact) = contact {
            self.retarget(&contact);
        }
        self.flow = flow.into();
    }

    pub(super) fn retarget(&mut self, contact: &NameAddress) {
        let target = contact.uri.to_string();
        if target.as_bytes() != self.texts.get(Piece::RemoteTarget) {
            self.texts.replace(Piece::RemoteTarget, target.as_bytes());
        }
    }

    /// Whether a request of the peer belongs to it (RFC 3261 §12.2.2).
    pub(super) fn is_of(&self, headers: &Headers) -> bool {
        headers
            .call_id()
            .is_ok_and(|call_id| call_id == self.texts.text(Piece::CallId))
            && headers
                .from()
                .is_ok_and(|from| from.tag().unwrap_or_default() == self.remote_tag())
            && headers
                .to()
                .is_ok_and(|to| to.tag().as_deref() == Some(self.local_tag()))
    }

    /// Takes the number of a request of the peer's. False when it is not higher than the last
    /// (RFC 3261 §12.2.2).
    pub(super) fn in_order(&mut self, sequence: u32) -> bool {
        if self.remote_sequence.is_some_and(|last| sequence <= last) {
            return false;
        }
        self.remote_sequence = Some(sequence);
        true
    }

    /// The next request of ours, without Via, Contact and body (RFC 3261 §12.2.1.1).
    pub(super) fn request(&mut self, method: Method) -> Request {
        self.local_sequence += 1;
        self.request_numbered(method, self.local_sequence)
    }

    /// As [`Dialog::request`], with a given number: for the ACK of a 2xx (RFC 3261 §13.2.2.4).
    pub(super) fn request_numbered(&self, method: Method, sequence: u32) -> Request {
        let remote_target = self.remote_target();
        let mut routes: Vec<NameAddress> = self.texts.routes().collect();
        let strict = routes
            .first()
            .is_some_and(|first| first.uri.as_sip().is_some_and(|uri| !uri.is_loose_router()));
        let uri = if strict {
            // A strict router replaces the Request-URI by the next Route, so the target is the
            // last of them.
            let first = routes.remove(0);
            routes.push(NameAddress::new(remote_target));
            request_uri(first.uri)
        } else {
            request_uri(remote_target)
        };
        let mut request = Request::new(method.clone(), uri);
        let headers = &mut request.headers;
        for route in &routes {
            headers.push(HeaderName::Route, route);
        }
        headers.push(HeaderName::MaxForwards, MAX_FORWARDS);
        headers.push(HeaderName::From, self.texts.header(Piece::Local));
        headers.push(HeaderName::To, self.texts.header(Piece::Remote));
        headers.push(HeaderName::CallId, self.texts.header(Piece::CallId));
        headers.push(HeaderName::CSeq, CSeq::new(sequence, method));
        request
    }

    /// The URI that a request of ours visits first: the first route, else the remote target.
    pub(super) fn first_hop(&self) -> Uri {
        let first = self.texts.routes().next();
        first.map_or_else(|| self.remote_target(), |route| route.uri)
    }

    fn remote_target(&self) -> Uri {
        let octets = self.texts.header(Piece::RemoteTarget);
        // It was one when it came.
        Uri::parse(&octets).unwrap_or_else(|_| Uri::Other(Text::new(octets).unwrap_or_default()))
    }
}

/// A line for each.
fn lines(routes: &[NameAddress]) -> Vec<u8> {
    let mut lines = Vec::new();
    for route in routes {
        lines.extend_from_slice(&route.into_octets());
        lines.push(b'\n');
    }
    lines
}

fn routes(routes: Vec<NameAddress>) -> Result<Vec<NameAddress>, SipError> {
    if routes.len() > ROUTES || routes.iter().any(|route| route.uri.as_sip().is_none()) {
        return Err(SipError::Malformed(HeaderName::RecordRoute));
    }
    Ok(routes)
}

/// A URI as a Request-URI: without headers and without the `method` parameter (RFC 3261
/// §19.1.1, table 1).
fn request_uri(uri: Uri) -> Uri {
    match uri {
        Uri::Sip(sip) if sip.headers.is_some() || sip.parameters.has("method") => {
            let mut plain: SipUri = sip;
            plain.headers = None;
            plain.parameters.remove("method");
            plain.into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(record_routes: &[&str]) -> Request {
        let mut request = Request::new(Method::Invite, "sip:2@192.0.2.1".parse().unwrap())
            .with(HeaderName::From, "<sip:1@198.51.100.2>;tag=theirs")
            .with(HeaderName::To, "<sip:2@192.0.2.1>")
            .with(HeaderName::CallId, "c1")
            .with(HeaderName::CSeq, "7 INVITE")
            .with(HeaderName::Contact, "<sip:1@198.51.100.2:5070>");
        for route in record_routes {
            request.headers.push(HeaderName::RecordRoute, *route);
        }
        request
    }

    fn flow() -> Flow {
        Flow::udp(
            "192.0.2.1:5060".parse().unwrap(),
            "198.51.100.2:5060".parse().unwrap(),
        )
    }

    fn values(request: &Request, name: HeaderName) -> Vec<String> {
        let addresses = request.headers.addresses(name).unwrap();
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_called_side_keeps_the_record_routes_in_order() {
        let request = invite(&["<sip:p1;lr>", "<sip:p2;lr>, <sip:p3;lr>"]);
        let mut dialog = Dialog::accepted(&request, &"ours".into(), &flow()).unwrap();
        let bye = dialog.request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:1@198.51.100.2:5070");
        assert_eq!(
            values(&bye, HeaderName::Route),
            ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]
        );
        assert_eq!(bye.headers.from().unwrap().tag().unwrap(), "ours");
        assert_eq!(bye.headers.to().unwrap().tag().unwrap(), "theirs");
        assert_eq!(bye.headers.cseq().unwrap().number, 1);
        assert_eq!(dialog.first_hop().to_string(), "sip:p1;lr");
    }

    #[test]
    fn a_calling_side_reverses_the_record_routes() {
        let request = invite(&[]);
        let response = Response::to_request(&request, 200, Some("theirs"))
            .with(HeaderName::RecordRoute, "<sip:p1;lr>")
            .with(HeaderName::RecordRoute, "<sip:p2;lr>")
            .with(HeaderName::Contact, "<sip:2@192.0.2.9>");
        let dialog = Dialog::requested(&request, &response, &flow()).unwrap();
        let ack = dialog.request_numbered(Method::Ack, 7);
        assert_eq!(
            values(&ack, HeaderName::Route),
            ["<sip:p2;lr>", "<sip:p1;lr>"]
        );
        assert_eq!(ack.uri.to_string(), "sip:2@192.0.2.9");
        assert_eq!(ack.headers.cseq().unwrap(), CSeq::new(7, Method::Ack));
    }

    #[test]
    fn a_strict_router_stands_in_the_request_uri() {
        let request = invite(&["<sip:strict>", "<sip:p2;lr>"]);
        let mut dialog = Dialog::accepted(&request, &"ours".into(), &flow()).unwrap();
        let bye = dialog.request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:strict");
        assert_eq!(
            values(&bye, HeaderName::Route),
            ["<sip:p2;lr>", "<sip:1@198.51.100.2:5070>"]
        );
    }

    #[test]
    fn a_target_refresh_changes_where_requests_go_and_nothing_else() {
        let mut dialog =
            Dialog::accepted(&invite(&["<sip:p1;lr>"]), &"ours".into(), &flow()).unwrap();
        let before = dialog.request(Method::Info);
        let contact = "<sip:moved@203.0.113.9:5080;transport=tcp>".parse();
        dialog.refresh(contact, &flow());
        let after = dialog.request(Method::Info);
        assert_eq!(
            after.uri.to_string(),
            "sip:moved@203.0.113.9:5080;transport=tcp"
        );
        for name in [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::Route,
        ] {
            assert_eq!(after.headers.get(name), before.headers.get(name));
        }
        assert_eq!(
            (dialog.local_tag(), dialog.remote_tag()),
            ("ours", "theirs")
        );
    }

    #[test]
    fn a_display_name_that_is_no_utf8_comes_back_octet_for_octet() {
        let mut request = invite(&[]);
        let from = Bytes::from_static(b"\"J\xf6rg\" <sip:1@198.51.100.2>;tag=theirs");
        request.headers.set(HeaderName::From, from.clone());
        let mut dialog = Dialog::accepted(&request, &"ours".into(), &flow()).unwrap();
        let bye = dialog.request(Method::Bye);
        assert_eq!(*bye.headers.get(HeaderName::To).unwrap().value(), from);
    }

    #[test]
    fn an_old_request_is_out_of_order() {
        let mut dialog = Dialog::accepted(&invite(&[]), &"ours".into(), &flow()).unwrap();
        assert!(!dialog.in_order(7));
        assert!(dialog.in_order(9));
        assert!(!dialog.in_order(8));
    }
}
