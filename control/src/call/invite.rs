//! An INVITE that begins a call: from its arrival to ours towards the callee.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay_user::media::{MediaError, MediaPlane, MediaPort};

use super::{
    CallState, Change, Core, Side,
    attempt::Attempt,
    headers::{MAX_FORWARDS, SDP, carry_invite, identify, is_sdp, no_reliable, to_address},
    identity::{carry_forwarding, identity},
    limits::RETRY_FULL,
    location::{elin, fold, unfold},
    media,
    model::{Call, Leg, Setup},
    numbers::{read_called, write_all},
    registration::aim,
    reliable::Reliable,
    routing::{called_host, called_uri, to_destination},
    session::{ask, terms},
    timers::Due,
    trunk::Trunk,
    wire::Merge,
};
use crate::{
    config::Route,
    sdp::{self, Negotiation, SdpError},
    sip::{
        CSeq, Flow, HeaderName, Headers, Method, NameAddress, Part, Request, Response, Text,
        TransactionId, Uri,
    },
};

/// The number of an INVITE of ours that begins a call.
pub(super) const FIRST_SEQUENCE: u32 = 1;
/// Retry-After while we are being shut down, in seconds.
pub(super) const RETRY_DRAINING: u32 = 30;

/// A final response that is not a call.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) why: Text,
    retry_after: Option<u32>,
    warning: Option<u16>,
    min_se: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: u16, why: &'static str) -> Self {
        Self {
            status,
            why: Text::from_static(why),
            retry_after: None,
            warning: None,
            min_se: None,
        }
    }

    /// What a 422 must say (RFC 4028 §6).
    pub(super) const fn min_se(mut self, seconds: u32) -> Self {
        self.min_se = Some(seconds);
        self
    }

    /// For the side that offered, when it is the other side's SDP that cannot be used.
    pub(super) fn of_other_side(error: SdpError) -> Self {
        Self {
            status: error.answer_status(),
            ..error.into()
        }
    }

    pub(super) const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The response to `request`, with what it must say beside its status.
    pub(super) fn response(&self, request: &Request, tag: &str, trunk: &Trunk) -> Response {
        let mut response = Response::to_request(request, self.status, Some(tag));
        let headers = &mut response.headers;
        if let Some(seconds) = self.retry_after {
            headers.push(HeaderName::RetryAfter, seconds);
        }
        if let Some(code) = self.warning {
            let text = self.why.replace(['"', '\\'], "'");
            headers.push(
                HeaderName::Warning,
                format!("{code} {} \"{text}\"", trunk.host),
            );
        }
        if let Some(seconds) = self.min_se {
            headers.push(HeaderName::MinSe, seconds);
        }
        match self.status {
            405 => headers.push(HeaderName::Allow, &trunk.allow),
            415 => headers.push(HeaderName::Accept, SDP),
            _ => {}
        }
        response
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self {
            status: error.status(),
            why: error.to_string().into(),
            retry_after: None,
            warning: error.warning(),
            min_se: None,
        }
    }
}

impl From<MediaError> for Refusal {
    fn from(error: MediaError) -> Self {
        let (status, retry_after, warning) = match &error {
            MediaError::PortsExhausted { .. } | MediaError::Capacity { .. } => {
                (503, Some(RETRY_FULL), None)
            }
            // 300: incompatible network protocol (RFC 3261 §20.43).
            MediaError::NoAddress { .. } => (488, None, Some(300)),
            _ => (500, None, None),
        };
        Self {
            status,
            why: error.to_string().into(),
            retry_after,
            warning,
            min_se: None,
        }
    }
}

impl<M: MediaPlane> Core<M> {
    /// An INVITE outside any dialog.
    pub(super) fn on_invite(
        &mut self,
        now: Instant,
        server: TransactionId,
        mut request: Request,
        flow: &Flow,
        trunk: &Arc<Trunk>,
    ) {
        let locations = unfold(&mut request);
        let replaces = request.headers.has(HeaderName::Replaces) && trunk.sip.takes_replaces();
        let begun = if replaces {
            self.on_replacing(now, server, &request, flow, trunk)
        } else {
            self.begin(now, server, &request, flow, trunk, locations)
        };
        if let Err(refusal) = begun {
            tracing::info!(
                trunk = &*trunk.name,
                call_id = request.headers.text(HeaderName::CallId),
                status = refusal.status,
                why = &*refusal.why,
                "call refused"
            );
            let (_, tag) = self.new_tag();
            let response = refusal.response(&request, &tag, trunk);
            self.answer(now, trunk, server, &response);
        }
    }

    fn begin(
        &mut self,
        now: Instant,
        server: TransactionId,
        request: &Request,
        flow: &Flow,
        from: &Arc<Trunk>,
        locations: Vec<Part>,
    ) -> Result<(), Refusal> {
        let mut called = request.clone();
        aim(&mut called, from);
        read_called(&mut called, from);
        let back = self.callbacks.redirect(now, &mut called);
        let request = &called;
        let (number, to, places) = self.route(now, request, from, back.as_deref())?;
        if places.is_empty() {
            self.statistics.refused(&to.name, "unavailable");
            return Err(unavailable(&to));
        }
        let fallback = match back {
            Some(_) => Vec::new(),
            None => self.fallback(&from.name, &number, &request.uri, &to),
        };
        let terms = terms(from, request)?;
        let offerless = match is_sdp(&request.headers, &request.body) {
            None => true,
            Some(true) => false,
            Some(false) => return Err(Refusal::new(415, "the body is not SDP")),
        };
        if !accepts_sdp(request) {
            return Err(Refusal::new(406, "the caller takes no SDP"));
        }
        let (caller, call_id) = caller_of(&request.headers)?;
        let family = if offerless {
            None
        } else {
            Some(sdp::family(&request.body)?)
        };
        let elin = if from.sip.elin {
            elin(&locations)
        } else {
            None
        };
        if let (Some(elin), Some(number)) = (&elin, caller.uri.user()) {
            self.callbacks.remember(now, elin, number, &from.name);
        }
        let id = self.new_call_id();
        let mut legs = [
            Leg::new(Arc::clone(from), call_id.copied(), flow.remote, None),
            Leg::new(Arc::clone(&to), self.new_sip_call_id(), flow.remote, None),
        ];
        let body = (!offerless).then_some(&request.body);
        let (negotiation, offer) = self
            .describe(&mut legs, family, &request.headers, body)
            .inspect_err(|_| {
                for port in legs.iter_mut().filter_map(|leg| leg.port.take()) {
                    self.media.release(port);
                }
            })?;
        let call = Call {
            id,
            // What is kept must not keep the whole INVITE.
            number: number.copied(),
            from: caller.uri.user().map(Text::from),
            started: now,
            answered: None,
            state: CallState::Calling,
            legs,
            negotiation,
            setup: Some(Box::new(Setup {
                server: Some(server),
                request: request.clone(),
                flow: flow.clone(),
                offerless,
                offer,
                locations,
                elin,
                terms,
                attempt: Attempt::new(places, fallback),
                reliable: if offerless {
                    // The first one would have to bear an offer, which is the callee's to make.
                    None
                } else {
                    Reliable::wanted(from, request, &mut self.random)
                },
                told_progress: false,
                forks: Vec::new(),
                no_answer: None,
                carried: None,
            })),
            exchange: None,
            transfer: None,
            infos: 0,
            departs: false,
            why: None,
        };
        self.statistics.started(&from.name, &to.name);
        self.enter(now, call, server, &request.headers, number);
        Ok(())
    }

    /// Puts a new call among the others, and goes on with it.
    fn enter(
        &mut self,
        now: Instant,
        mut call: Call,
        server: TransactionId,
        headers: &Headers,
        number: Text,
    ) {
        let id = call.id;
        for leg in &call.legs {
            self.statistics
                .moved(&leg.trunk.name, None, Some(call.state));
        }
        if let Some(merge) = Merge::of(self.merge_key, headers) {
            self.merges.insert(merge);
            self.merging.insert(server, merge);
        }
        self.servers.insert(server, (id, Side::A));
        self.event(&call, Change::Received { number });

        let patience = Duration::from_secs(self.settings.limits.ring_seconds.max(1));
        let timer = self.timers.set(now + patience, id, Due::NoAnswer);
        if let Some(setup) = &mut call.setup {
            setup.no_answer = Some(timer);
        }
        let (tag, text) = self.new_tag();
        self.tags.insert(tag, (id, Side::B));
        self.calls.insert(id, Box::new(call));
        self.with_call(now, id, |core, call| core.invite_callee(now, call, &text));
    }

    /// The number that is called, the trunk that takes it, and the places of the addresses of the
    /// trunk that may be tried, in order.
    /// `back`: the trunk that a call back goes to.
    fn route(
        &mut self,
        now: Instant,
        request: &Request,
        from: &Trunk,
        back: Option<&str>,
    ) -> Result<(Text, Arc<Trunk>, Vec<u16>), Refusal> {
        if self.draining {
            return Err(Refusal::new(503, "shutting down").retry_after(RETRY_DRAINING));
        }
        if Merge::of(self.merge_key, &request.headers)
            .is_some_and(|merge| self.merges.contains(&merge))
        {
            return Err(Refusal::new(482, "the same request came by another way"));
        }
        match &request.uri {
            Uri::Sip(uri) if !uri.secure => {}
            Uri::Tel(_) => {}
            _ => return Err(Refusal::new(416, "only sip: and tel: are served")),
        }
        if max_forwards(request) == 0 {
            return Err(Refusal::new(483, "Max-Forwards is used up"));
        }
        let number = request
            .uri
            .user_unescaped()
            .and_then(|user| user.split(';').next().map(Text::from))
            .filter(|number| !number.is_empty())
            .ok_or_else(|| Refusal::new(404, "the Request-URI has no number"))?;
        let is_emergency = self.is_emergency(&number);
        if !is_emergency && !self.has_room() {
            self.statistics.refused(&from.name, "calls");
            return Err(
                Refusal::new(503, "as many calls as [limits] calls allows").retry_after(RETRY_FULL)
            );
        }
        let to = self.trunk_for_call(now, &from.name, &number, &request.uri, back)?;
        if to.destinations.is_empty() {
            return Err(Refusal::new(503, "the trunk has no known address").retry_after(RETRY_FULL));
        }
        let places = self.places(now, &to, is_emergency);
        if !is_emergency && !places.is_empty() {
            self.keep_limits(now, &[from, &to])?;
        }
        Ok((number, to, places))
    }

    /// The trunk that takes a call to a number at a URI: of those that its route names the first with
    /// an address in service, or the first of all when there is none.
    pub(super) fn trunk_for_call(
        &self,
        now: Instant,
        from: &str,
        number: &str,
        uri: &Uri,
        back: Option<&str>,
    ) -> Result<Arc<Trunk>, Refusal> {
        let names: Vec<&str> = match back {
            Some(name) => vec![name],
            None => self
                .settings
                .route(from, number, host(uri))
                .into_iter()
                .flat_map(Route::trunks)
                .collect(),
        };
        let trunks = names.into_iter().filter_map(|name| self.trunk_named(name));
        let mut first = None;
        for trunk in trunks {
            if self.peers.has_candidate(now, &trunk) {
                return Ok(trunk);
            }
            first.get_or_insert(trunk);
        }
        first.ok_or_else(|| Refusal::new(404, "no route takes the number"))
    }

    /// The trunks that the route of a call names behind the one that takes it.
    pub(super) fn fallback(
        &self,
        from: &str,
        number: &str,
        uri: &Uri,
        to: &Trunk,
    ) -> Vec<Arc<str>> {
        let route = self.settings.route(from, number, host(uri));
        let trunks = route.into_iter().flat_map(Route::trunks);
        let behind = trunks.skip_while(|name| **name != *to.name).skip(1);
        behind.map(Arc::from).collect()
    }

    /// Reserves both ports, and makes the offer for the callee from the caller's. `headers` are those
    /// of the caller's INVITE.
    fn describe(
        &mut self,
        legs: &mut [Leg; 2],
        family: Option<relay_user::media::Family>,
        headers: &Headers,
        offer: Option<&Bytes>,
    ) -> Result<(Negotiation, Bytes), Refusal> {
        let [a, b] = legs;
        let port_a = self.reserve(&a.trunk, family, Some(headers))?;
        a.port = Some(port_a);
        let port_b = self.reserve(&b.trunk, None, None)?;
        b.port = Some(port_b);
        self.first_offer([&a.trunk, &b.trunk], [port_a, port_b], offer)
    }

    /// The offer for the callee's side; empty where it is to make one.
    pub(super) fn first_offer(
        &mut self,
        trunks: [&Trunk; 2],
        ports: [MediaPort; 2],
        offer: Option<&Bytes>,
    ) -> Result<(Negotiation, Bytes), Refusal> {
        let ([caller, callee], [port_a, port_b]) = (trunks, ports);
        let policies = [media::policy(caller, port_a), media::policy(callee, port_b)];
        let mut negotiation = Negotiation::new(policies, &mut self.random);
        let body = match offer {
            Some(body) => negotiation.offer(Side::A, body, &mut self.random)?.into(),
            None if callee.sip.always_offers() => {
                negotiation.offer_unasked(Side::B, &mut self.random)?.into()
            }
            None => Bytes::new(),
        };
        Ok((negotiation, body))
    }

    /// Sends our INVITE to the address of the trunk whose turn it is. `tag` is our tag in it.
    pub(super) fn invite_callee(&mut self, now: Instant, call: &mut Call, tag: &str) {
        let trunk = Arc::clone(&call.leg(Side::B).trunk);
        let Some(setup) = &mut call.setup else {
            return;
        };
        let Some(destination) = trunk.destinations.get(setup.attempt.destination) else {
            self.refuse_caller(
                now,
                call,
                Refusal::new(503, "no address is left to try"),
                None,
            );
            return;
        };
        let target = to_destination(&trunk, destination);
        let uri = called_uri(&trunk, destination, &setup.request.uri);
        let mut called = called_host(&trunk, destination);
        called.port = None;
        let mut request = Request::new(Method::Invite, uri.into());
        let theirs = &setup.request.headers;
        let whose = Arc::clone(&call.legs[0].trunk);
        let forwarded_to = request.uri.as_sip().cloned();
        let headers = &mut request.headers;
        headers.push(HeaderName::MaxForwards, max_forwards(&setup.request) - 1);
        if let (Some(mut identity), Ok(to)) = (identity(theirs, &whose, &trunk), theirs.to()) {
            if let Some(elin) = &setup.elin {
                identity.replace_number(elin, &trunk);
            }
            headers.push(HeaderName::From, identity.from.with_tag(tag));
            headers.push(HeaderName::To, to_address(&to, &called));
            for asserted in identity.asserted {
                headers.push(HeaderName::PAssertedIdentity, asserted);
            }
        }
        let [_, leg] = &call.legs;
        headers.push(HeaderName::CallId, &leg.call_id);
        headers.push(HeaderName::CSeq, CSeq::new(FIRST_SEQUENCE, Method::Invite));
        identify(&mut request, &trunk);
        if let Some(called) = forwarded_to {
            carry_forwarding(theirs, &trunk, &called, &mut request.headers);
        }
        ask(&trunk, setup.attempt.least_session, &mut request.headers);
        carry_invite(theirs, &mut request.headers, &trunk);
        write_all(&mut request, &whose, &trunk);
        if setup.offer.is_empty() {
            no_reliable(&mut request);
        } else {
            request = request.with_body(SDP, setup.offer.clone());
        }
        request = fold(request, &setup.locations);
        let to = target.to_string();
        if self.send_attempt(now, call, target, request) {
            self.event(call, Change::Sent { to });
        } else {
            let refusal = Refusal::new(503, "too many transactions").retry_after(RETRY_FULL);
            self.refuse_caller(now, call, refusal, None);
        }
    }
}

/// Who calls, and the Call-ID, of an INVITE whose caller can be answered and reached.
fn caller_of(headers: &Headers) -> Result<(NameAddress, Text), Refusal> {
    let (Ok(caller), Ok(call_id), Ok(contact)) =
        (headers.from(), headers.call_id(), headers.contact())
    else {
        return Err(Refusal::new(400, "From, Call-ID or Contact cannot be used"));
    };
    if contact.uri.as_sip().is_none() || headers.addresses(HeaderName::RecordRoute).is_err() {
        return Err(Refusal::new(400, "Contact or Record-Route cannot be used"));
    }
    Ok((caller, call_id))
}

/// No address of the trunk is in service.
pub(super) fn unavailable(trunk: &Trunk) -> Refusal {
    Refusal::new(
        trunk.sip.unavailable_code(),
        "no address of the trunk is in service",
    )
}

/// The host that a route may ask for.
fn host(uri: &Uri) -> Option<&str> {
    uri.as_sip().map(|uri| uri.host.as_str())
}

/// Whether Accept lets an answer be SDP (RFC 3261 §20.1).
fn accepts_sdp(request: &Request) -> bool {
    let mut accepted = request.headers.elements(HeaderName::Accept).peekable();
    accepted.peek().is_none()
        || accepted.any(|range| {
            let range = range
                .split(|octet| *octet == b';')
                .next()
                .unwrap_or_default();
            let range = range.trim_ascii();
            [SDP, "application/*", "*/*"]
                .iter()
                .any(|known| range.eq_ignore_ascii_case(known.as_bytes()))
        })
}

/// Max-Forwards of a request; one without it begins here.
fn max_forwards(request: &Request) -> u32 {
    match request.headers.number(HeaderName::MaxForwards) {
        Ok(Some(hops)) => hops.min(MAX_FORWARDS),
        Ok(None) => MAX_FORWARDS,
        Err(_) => 0,
    }
}
