//! Dialogs (RFC 3261 §12).

use super::headers::MAX_FORWARDS;
use crate::sip::{
    CSeq, Flow, HeaderName, Headers, Method, NameAddress, Request, Response, SipError, SipUri,
    Text, Uri,
};

/// The longest route set that is taken.
const ROUTES: usize = 32;

/// One dialog, early or confirmed, seen from our side.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) call_id: Text,
    /// Our From in requests of ours; our tag is in it.
    pub(super) local: NameAddress,
    pub(super) local_tag: Text,
    pub(super) remote: NameAddress,
    /// Empty when the peer sends none (RFC 2543).
    pub(super) remote_tag: Text,
    /// Where the next request goes: the peer's Contact.
    pub(super) remote_target: Uri,
    /// In the order in which a request of ours visits them.
    pub(super) routes: Vec<NameAddress>,
    /// The number of our last request.
    pub(super) local_sequence: u32,
    /// The number of the peer's last request; `None` before the first.
    pub(super) remote_sequence: Option<u32>,
    /// The way that the peer's last message came.
    pub(super) flow: Flow,
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
            call_id: headers.call_id()?,
            local: headers.to()?.with_tag(local_tag),
            local_tag: local_tag.clone(),
            remote_tag: remote.tag().unwrap_or_default(),
            remote,
            remote_target: headers.contact()?.uri,
            routes,
            local_sequence: 0,
            remote_sequence: Some(headers.cseq()?.number),
            flow: flow.clone(),
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
        Ok(Self {
            call_id: request.headers.call_id()?,
            local_tag: local.tag().unwrap_or_default(),
            local,
            remote_tag: remote.tag().unwrap_or_default(),
            remote,
            // A provisional response may come without one; then what reached the peer once does
            // so again.
            remote_target: response
                .headers
                .contact()
                .map_or_else(|_| request.uri.clone(), |contact| contact.uri),
            routes,
            local_sequence: request.headers.cseq()?.number,
            remote_sequence: None,
            flow: flow.clone(),
        })
    }

    /// Takes the peer's new Contact (a target refresh, RFC 3261 §12.2) and the way it came.
    pub(super) fn refresh(&mut self, contact: Result<NameAddress, SipError>, flow: &Flow) {
        if let Ok(contact) = contact {
            self.remote_target = contact.uri;
        }
        self.flow = flow.clone();
    }

    /// Whether a request of the peer belongs to it (RFC 3261 §12.2.2).
    pub(super) fn is_of(&self, headers: &Headers) -> bool {
        headers.call_id().as_ref() == Ok(&self.call_id)
            && headers
                .from()
                .is_ok_and(|from| from.tag().unwrap_or_default() == self.remote_tag)
            && headers
                .to()
                .is_ok_and(|to| to.tag().as_ref() == Some(&self.local_tag))
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
        let first_is_strict = self
            .routes
            .first()
            .is_some_and(|first| first.uri.as_sip().is_some_and(|uri| !uri.is_loose_router()));
        let (uri, routes, last) = match (first_is_strict, self.routes.split_first()) {
            (true, Some((first, rest))) => {
                // A strict router replaces the Request-URI by the next Route, so the target is
                // the last of them.
                let last = NameAddress::new(self.remote_target.clone());
                (request_uri(&first.uri), rest, Some(last))
            }
            _ => (
                request_uri(&self.remote_target),
                self.routes.as_slice(),
                None,
            ),
        };
        let mut request = Request::new(method.clone(), uri);
        let headers = &mut request.headers;
        for route in routes.iter().chain(last.as_ref()) {
            headers.push(HeaderName::Route, route);
        }
        headers.push(HeaderName::MaxForwards, MAX_FORWARDS);
        headers.push(HeaderName::From, &self.local);
        headers.push(HeaderName::To, &self.remote);
        headers.push(HeaderName::CallId, &self.call_id);
        headers.push(HeaderName::CSeq, CSeq::new(sequence, method));
        request
    }

    /// The URI that a request of ours visits first: the first route, else the remote target.
    pub(super) fn first_hop(&self) -> &Uri {
        self.routes
            .first()
            .map_or(&self.remote_target, |route| &route.uri)
    }
}

fn routes(routes: Vec<NameAddress>) -> Result<Vec<NameAddress>, SipError> {
    if routes.len() > ROUTES || routes.iter().any(|route| route.uri.as_sip().is_none()) {
        return Err(SipError::Malformed(HeaderName::RecordRoute));
    }
    Ok(routes)
}

/// A URI as a Request-URI: without headers and without the `method` parameter (RFC 3261
/// §19.1.1, table 1).
fn request_uri(uri: &Uri) -> Uri {
    match uri {
        Uri::Sip(sip) if sip.headers.is_some() || sip.parameters.has("method") => {
            let mut plain: SipUri = sip.clone();
            plain.headers = None;
            plain.parameters.remove("method");
            plain.into()
        }
        other => other.clone(),
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
    fn an_old_request_is_out_of_order() {
        let mut dialog = Dialog::accepted(&invite(&[]), &"ours".into(), &flow()).unwrap();
        assert!(!dialog.in_order(7));
        assert!(dialog.in_order(9));
        assert!(!dialog.in_order(8));
    }
}
