//! Requests that are no INVITE of a new call: which method, in which dialog, and what about it.

use std::{sync::Arc, time::Instant};

use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    CallState, Core, EndReason, Side,
    authentication::own_tag,
    core::parse_tag,
    headers::{SDP, carry_info, carry_info_answer, identify_response, is_sdp},
    invite::{RETRY_DRAINING, Refusal},
    location::unfold,
    model::{Bye, Call, INFOS},
    reinvite::refreshes_target,
    routing::inside_dialog,
    session,
    status::{self, ends_dialog},
    trunk::Trunk,
    wire::Client,
};
use crate::sip::{Flow, HeaderName, Method, Request, Response, Text, TransactionId, Uri};

impl<M: MediaPlane> Core<M> {
    /// A new request, ACK and CANCEL apart (RFC 3261 §8.2).
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        server: TransactionId,
        request: Request,
        flow: &Flow,
    ) {
        let Ok(trunk) = self.trunk_for(flow, &request) else {
            return;
        };
        self.peers.heard(now, &trunk.name, flow);
        let (_, fresh) = self.new_tag();
        if let Some(refused) = refuse_extensions(&request, &fresh, &trunk) {
            self.answer(now, &trunk, server, &refused);
            return;
        }
        let tag = request.headers.to().ok().and_then(|to| to.tag());
        if let Some(tag) = tag {
            self.on_tagged(now, server, request, flow, &trunk, &tag);
            return;
        }
        // Whether we are there may be asked by everybody whom the trunk admits.
        if request.method != Method::Options
            && let Err(challenge) = self.authenticate(now, &request, &trunk, &fresh)
        {
            self.answer(now, &trunk, server, &challenge);
            return;
        }
        match request.method {
            // What cannot be understood cannot be refused for its method alone (RFC 3261 §8.2.2.1).
            Method::Options if matches!(request.uri, Uri::Other(_)) => {
                let refusal = Refusal::new(416, "only sip: and tel: are served");
                self.refuse(now, server, &request, &trunk, refusal);
            }
            Method::Invite => self.on_invite(now, server, request, flow, &trunk),
            Method::Options => self.on_options(now, server, &request, &trunk),
            Method::Bye | Method::Info => {
                self.refuse(
                    now,
                    server,
                    &request,
                    &trunk,
                    Refusal::new(481, "no dialog"),
                );
            }
            _ => {
                let refusal = not_served(&request.method);
                self.refuse(now, server, &request, &trunk, refusal);
            }
        }
    }

    fn refuse(
        &mut self,
        now: Instant,
        server: TransactionId,
        request: &Request,
        trunk: &Trunk,
        refusal: Refusal,
    ) {
        let (_, tag) = self.new_tag();
        let response = refusal.response(request, &tag, trunk);
        self.answer(now, trunk, server, &response);
    }

    /// OPTIONS asks whether an INVITE would be served now (RFC 3261 §11.2).
    fn on_options(
        &mut self,
        now: Instant,
        server: TransactionId,
        request: &Request,
        trunk: &Trunk,
    ) {
        if self.draining {
            let refusal = Refusal::new(503, "shutting down").retry_after(RETRY_DRAINING);
            self.refuse(now, server, request, trunk, refusal);
            return;
        }
        let (_, tag) = self.new_tag();
        let mut response = Response::to_request(request, 200, Some(&tag));
        identify_response(&mut response, trunk);
        response.headers.push(HeaderName::Accept, SDP);
        self.answer(now, trunk, server, &response);
    }

    /// A request with a tag in To belongs to a dialog, or to none any more.
    fn on_tagged(
        &mut self,
        now: Instant,
        server: TransactionId,
        request: Request,
        flow: &Flow,
        trunk: &Arc<Trunk>,
        tag: &Text,
    ) {
        if request.method == Method::Prack
            && let Some(response) = self.on_late_prack(tag, &request)
        {
            self.answer(now, trunk, server, &response);
            return;
        }
        let found = parse_tag(tag).and_then(|tag| self.tags.get(&tag).copied());
        let mut refusal = Some((Refusal::new(481, "no such dialog"), request));
        if let Some((id, side)) = found {
            self.with_call(now, id, |core, call| {
                if let Some((_, request)) = refusal.take() {
                    refusal = core
                        .inside(now, call, side, server, &request, flow)
                        .err()
                        .map(|refusal| (refusal, request));
                }
            });
        }
        if let Some((refusal, request)) = refusal {
            let response = refusal.response(&request, tag, trunk);
            self.answer(now, trunk, server, &response);
        }
    }

    fn inside(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
        flow: &Flow,
    ) -> Result<(), Refusal> {
        let ending = call.state == CallState::Ending;
        let leg = call.leg_mut(side);
        let trunk = Arc::clone(&leg.trunk);
        let Some(dialog) = &mut leg.dialog else {
            return self.inside_early(now, call, side, server, request);
        };
        if !dialog.is_of(&request.headers) {
            return self.inside_invited(now, call, side, server, request);
        }
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        if !dialog.in_order(number) {
            return Err(Refusal::new(500, "the request is out of order"));
        }
        dialog.flow = flow.into();
        match request.method {
            Method::Bye => self.on_bye(now, call, side, server, request),
            Method::Options => {
                let mut response =
                    Response::to_request(request, 200, None).with(HeaderName::Allow, &trunk.allow);
                response.headers.push(HeaderName::Accept, SDP);
                self.answer(now, &trunk, server, &response);
            }
            _ if ending || leg.bye != Bye::None => {
                return Err(Refusal::new(481, "the call is ending"));
            }
            Method::Invite => {
                if refreshes_target(request) {
                    dialog.refresh(request.headers.contact(), flow);
                }
                let mut request = request.clone();
                unfold(&mut request);
                self.on_reinvite(now, call, side, server, request);
            }
            Method::Info => return self.on_info(now, call, side, server, request),
            Method::Update if trunk.sip.uses_update() => {
                if refreshes_target(request) {
                    dialog.refresh(request.headers.contact(), flow);
                }
                return self.on_update(now, call, side, server, request);
            }
            Method::Prack if trunk.sip.uses_prack() => {
                return Err(Refusal::new(481, "nothing waits for this PRACK"));
            }
            Method::Refer => return self.on_refer(now, call, side, server, request),
            // Of subscriptions, which we have none of (RFC 6665 §4.1.3).
            Method::Notify => return Err(Refusal::new(489, "no subscription")),
            _ => return Err(not_served(&request.method)),
        }
        Ok(())
    }

    /// An UPDATE (RFC 3311): with an offer a re-INVITE to the other side, without one a refresh.
    fn on_update(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        let waits = call.exchange.as_ref().is_some_and(|exchange| {
            let before = exchange.request.as_ref().map(|request| &request.method);
            exchange.is_asked_by(side) && before == Some(&Method::Update)
        });
        if waits {
            // RFC 3311 §5.2: a second one before the answer to the first.
            let pause = self.random.random_range(0..=10);
            return Err(Refusal::new(500, "another UPDATE waits").retry_after(pause));
        }
        if is_sdp(&request.headers, &request.body).is_some() {
            self.on_reinvite(now, call, side, server, request.clone());
            return Ok(());
        }
        let trunk = Arc::clone(&call.leg(side).trunk);
        let terms = session::terms(&trunk, request)?;
        self.set_session(now, call, side, terms, &request.headers);
        let mut response = Response::to_request(request, 200, None);
        identify_response(&mut response, &trunk);
        if let Some(terms) = terms {
            terms.write(&mut response.headers);
        }
        self.answer(now, &trunk, server, &response);
        Ok(())
    }

    /// Carries an INFO (RFC 6086) to the other side: DTMF, for the most part.
    fn on_info(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        if call.infos >= INFOS {
            return Err(Refusal::new(500, "too many INFOs wait").retry_after(1));
        }
        let to = side.other();
        if call.leg(to).trunk.sip.is_teams() {
            return Err(Refusal::new(405, "the other side takes no INFO"));
        }
        let from = Arc::clone(&call.leg(side).trunk);
        let leg = call.leg_mut(to);
        let trunk = Arc::clone(&leg.trunk);
        if leg.bye != Bye::None {
            return Err(Refusal::new(480, "the other side has hung up"));
        }
        let Some(dialog) = &mut leg.dialog else {
            return Err(Refusal::new(480, "the call is not answered"));
        };
        let mut info = dialog.request(Method::Info);
        carry_info(request, &mut info);
        let target = inside_dialog(&trunk, &dialog.first_hop(), &dialog.flow);
        let client = Client::Info {
            call: call.id,
            tag: own_tag(&info),
            trunk: Arc::clone(&trunk),
            server,
            request: Box::new(request.clone()),
            from,
        };
        if self.send(now, &trunk, target, info, client).is_none() {
            return Err(Refusal::new(500, "too many transactions").retry_after(1));
        }
        call.infos += 1;
        Ok(())
    }

    /// The other side has answered an INFO, or not.
    pub(super) fn on_info_answer(
        &mut self,
        now: Instant,
        client: Client,
        status: u16,
        response: Option<&Response>,
    ) {
        let Client::Info {
            call,
            tag,
            server,
            request,
            from,
            ..
        } = client
        else {
            return;
        };
        let onward = if status < 300 {
            status
        } else {
            status::inside_dialog(status)
        };
        let mut answer = Response::to_request(&request, onward, None);
        if let Some(response) = response {
            carry_info_answer(response, &mut answer);
        }
        self.answer(now, &from, server, &answer);
        self.with_call(now, call, |_, call| {
            call.infos = call.infos.saturating_sub(1);
        });
        if ends_dialog(status) {
            self.with_leg(now, tag, |core, call, to| {
                // Of whoever has hung up no more is expected, and a transfer goes on without it.
                if call.leg(to).bye == Bye::None {
                    core.end(now, call, EndReason::Lost(to), None);
                }
            });
        }
    }
}

/// 405 is for methods that we know, 501 for others (RFC 3261 §21.4.6 and §21.5.2).
pub(super) fn not_served(method: &Method) -> Refusal {
    match method {
        Method::Other(_) => Refusal::new(501, "the method is not known"),
        _ => Refusal::new(405, "the method is not served"),
    }
}

/// RFC 3261 §8.2.2.3: extensions that we do not know and must.
fn refuse_extensions(request: &Request, tag: &str, trunk: &Trunk) -> Option<Response> {
    let unknown: Vec<String> = request
        .headers
        .elements(HeaderName::Require)
        .map(|option| String::from_utf8_lossy(&option).into_owned())
        .filter(|option| {
            !trunk
                .supported
                .split(", ")
                .any(|known| known.eq_ignore_ascii_case(option))
        })
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let response = Response::to_request(request, 420, Some(tag));
    Some(response.with(HeaderName::Unsupported, unknown.join(", ")))
}
