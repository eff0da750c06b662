//! Re-INVITEs: hold, resume, other codecs and addresses (RFC 3261 §14).
//!
//! One at a time is carried from a side to the other. Until it has succeeded the call is as it
//! was. When the other side answers 491, its own re-INVITE crossed with ours: we ask again after
//! the pause of §14.1, which depends on who made the Call-ID, so that the two do not meet again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    CallState, Change, Core, EndReason, Side,
    acknowledging::Acceptance,
    headers::{SDP, identify, identify_response, is_sdp},
    invite::Refusal,
    media::is_held,
    model::{Bye, Call, Exchange, Replacement},
    routing::inside_dialog,
    session::terms,
    status::{ends_dialog, inside_dialog as status_inside},
    timers::Due,
    wire::{Client, Failure},
};
use crate::{
    sdp::Direction,
    sip::{Flow, HeaderName, Method, Request, Response, Text, TransactionId},
};

/// How long after something else was in the way a side is asked again.
const BUSY: Duration = Duration::from_millis(500);
/// How often a side is asked that answers 491.
const ATTEMPTS: u32 = 4;

impl<M: MediaPlane> Core<M> {
    /// A re-INVITE from a side, in order.
    pub(super) fn on_reinvite(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: Request,
    ) {
        if let Err(refusal) = self.begin_reinvite(now, call, side, server, &request) {
            let trunk = Arc::clone(&call.leg(side).trunk);
            let response = refusal.response(&request, "", &trunk);
            self.answer(now, &trunk, server, &response);
        }
    }

    fn begin_reinvite(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        if call.state == CallState::Ending {
            return Err(Refusal::new(481, "the call is ending"));
        }
        if let Some(exchange) = &call.exchange
            && exchange.by == side
            && exchange.server.is_some()
        {
            // RFC 3261 §14.2: a second one before the answer to the first.
            let pause = self.random.random_range(1..=10);
            return Err(Refusal::new(500, "another re-INVITE waits").retry_after(pause));
        }
        self.is_quiet(call)?;
        let trunk = Arc::clone(&call.leg(side).trunk);
        let terms = terms(&trunk, request)?;
        let offer = match is_sdp(&request.headers, &request.body) {
            None => None,
            Some(true) => Some(&request.body),
            Some(false) => return Err(Refusal::new(415, "the body is not SDP")),
        };
        let always = call.leg(side.other()).trunk.sip.always_offers();
        let mut old_port = None;
        let body = match offer {
            Some(offer) => {
                let body = call.negotiation.offer(side, offer, &mut self.random)?;
                old_port = self.move_port(call, side, &request.headers, offer);
                body.into()
            }
            None if always => call
                .negotiation
                .offer_again(side.other(), Some(Direction::SendReceive), &mut self.random)?
                .into(),
            None => Bytes::new(),
        };
        if terms.is_some() || call.leg(side).session.is_some() {
            self.set_session(now, call, side, terms, &request.headers);
        }
        self.carry_offer(now, call, side, Some((server, request)), body, None);
        if let Some(exchange) = &mut call.exchange {
            exchange.old_port = old_port;
        } else if let Some(port) = old_port {
            self.move_back(call, side, port);
        }
        Ok(())
    }

    /// Whether nothing is on its way that another offer would cross.
    pub(super) fn is_quiet(&self, call: &Call) -> Result<(), Refusal> {
        if call.exchange.is_some() {
            return Err(Refusal::new(491, "the other side's re-INVITE waits"));
        }
        if call.setup.is_some()
            || call
                .legs
                .iter()
                .any(|leg| leg.accepted.is_some() || leg.owes_ack.is_some() || leg.bye != Bye::None)
            || call.negotiation.pending().is_some()
        {
            return Err(Refusal::new(491, "an INVITE is not acknowledged yet"));
        }
        if call.transfer.is_some() {
            return Err(Refusal::new(491, "a transfer waits"));
        }
        Ok(())
    }

    /// Asks the side opposite to `by`, for a peer or for ourselves. Without an `offer` the peer
    /// is to make one.
    pub(super) fn carry_offer(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        asked: Option<(TransactionId, &Request)>,
        offer: Bytes,
        replacement: Option<Box<Replacement>>,
    ) {
        let patience = Duration::from_secs(self.settings.limits.ring_seconds.max(1));
        call.exchange = Some(Box::new(Exchange {
            by,
            server: asked.map(|(server, _)| server),
            request: asked.map(|(_, request)| request.clone()),
            offerless: asked.is_some_and(|(_, request)| request.body.is_empty()),
            offer,
            client: None,
            cancelled: None,
            attempts: 0,
            retry: None,
            no_answer: Some(self.timers.set(now + patience, call.id, Due::NoAnswer)),
            replacement,
            old_port: None,
            then: None,
        }));
        if let Some((server, _)) = asked {
            self.servers.insert(server, (call.id, by));
        }
        self.ask(now, call);
    }

    /// Asks a side by ourselves, in the name of the other: to refresh its session, or because
    /// another peer stands behind it now. `then` is asked when it has agreed.
    pub(super) fn reoffer(
        &mut self,
        now: Instant,
        call: &mut Call,
        to: Side,
        direction: Option<Direction>,
        then: Option<Side>,
    ) {
        if call.state != CallState::Established {
            return;
        }
        if self.is_quiet(call).is_err() {
            self.timers.set(now + BUSY, call.id, Due::Reoffer(to));
            return;
        }
        match call
            .negotiation
            .offer_again(to, direction, &mut self.random)
        {
            Ok(offer) => {
                self.carry_offer(now, call, to.other(), None, offer.into(), None);
                if let Some(exchange) = &mut call.exchange {
                    exchange.then = then;
                }
            }
            Err(error) => {
                tracing::warn!(call = call.id.0, %error, "a side cannot be asked again");
            }
        }
    }

    /// The body of the 2xx or of the ACK is what we made, so that its answer goes nowhere.
    fn is_made(exchange: &Exchange) -> bool {
        exchange.request.is_none() || exchange.offerless && !exchange.offer.is_empty()
    }

    /// Sends the re-INVITE onward.
    fn ask(&mut self, now: Instant, call: &mut Call) {
        let id = call.id;
        let Some(exchange) = &mut call.exchange else {
            return;
        };
        exchange.attempts += 1;
        exchange.retry = None;
        let (to, offer) = (exchange.by.other(), exchange.offer.clone());
        let leg = call.leg_mut(to);
        let trunk = Arc::clone(&leg.trunk);
        let Some(dialog) = &mut leg.dialog else {
            return;
        };
        let mut request = dialog.request(Method::Invite);
        let target = inside_dialog(&trunk, &dialog.first_hop(), &dialog.flow);
        let sequence = dialog.local_sequence;
        identify(&mut request, &trunk);
        Self::repeat_session(call, to, &mut request.headers);
        if !offer.is_empty() {
            request = request.with_body(SDP, offer);
        }
        let client = Client::Reinvite {
            call: id,
            to,
            sequence,
            trunk: Arc::clone(&trunk),
        };
        let client = self.send(now, &trunk, target, request, client);
        if let Some(exchange) = &mut call.exchange {
            exchange.client = client;
        }
        if client.is_none() {
            self.refuse_reinvite(now, call, Refusal::new(500, "too many transactions"));
        }
    }

    /// The pause after a 491 is over.
    pub(super) fn retry_reinvite(&mut self, now: Instant, call: &mut Call) {
        if call.state == CallState::Established {
            self.ask(now, call);
        }
    }

    /// A response to our re-INVITE.
    pub(super) fn on_reinvite_response(
        &mut self,
        now: Instant,
        call: &mut Call,
        client: TransactionId,
        to: Side,
        response: &Response,
        flow: &Flow,
    ) {
        let waits = call.exchange.as_ref().and_then(|exchange| exchange.client) == Some(client);
        if !waits {
            if response.is_success() && !self.repeats_owed(call, to, response) {
                self.acknowledge_late(call, to, response);
            }
            return;
        }
        if response.is_provisional() {
            return;
        }
        if let Some(exchange) = &mut call.exchange {
            exchange.client = None;
        }
        if response.is_success() {
            if let Some(dialog) = &mut call.leg_mut(to).dialog {
                dialog.refresh(response.headers.contact(), flow);
            }
            self.session_answered(now, call, to, response);
            self.reinvite_accepted(now, call, to, response);
        } else {
            self.reinvite_failed(now, call, to, response.status);
            if call.state == CallState::Established {
                self.refresh_failed(now, call, to, response);
            }
        }
    }

    /// No response came to our re-INVITE.
    pub(super) fn on_reinvite_failure(
        &mut self,
        now: Instant,
        call: &mut Call,
        client: TransactionId,
        to: Side,
        failure: Failure,
    ) {
        if let Some(exchange) = &mut call.exchange
            && exchange.client == Some(client)
        {
            exchange.client = None;
            self.reinvite_failed(now, call, to, failure.status());
        }
    }

    /// The 2xx whose ACK waits for the other side's: there is nothing to repeat yet.
    fn repeats_owed(&self, call: &Call, side: Side, response: &Response) -> bool {
        let number = response.headers.cseq().ok().map(|cseq| cseq.number);
        number.is_some() && call.leg(side).owes_ack == number
    }

    /// A 2xx that came again, or too late to be carried: it wants its ACK.
    fn acknowledge_late(&mut self, call: &mut Call, side: Side, response: &Response) {
        let Ok(number) = response.headers.cseq().map(|cseq| cseq.number) else {
            return;
        };
        let known = call
            .leg(side)
            .acknowledged
            .as_ref()
            .is_some_and(|ack| ack.sequence == number);
        if known {
            self.repeat_ack(call, side, response);
        } else {
            self.acknowledge(call, side, number, None);
        }
    }

    fn reinvite_accepted(&mut self, now: Instant, call: &mut Call, to: Side, response: &Response) {
        let by = to.other();
        let Ok(number) = response.headers.cseq().map(|cseq| cseq.number) else {
            return;
        };
        let replacement = call
            .exchange
            .as_mut()
            .and_then(|exchange| exchange.replacement.take());
        let request = call
            .exchange
            .as_ref()
            .and_then(|exchange| exchange.request.clone());
        let tag = match (replacement, &request) {
            (Some(replacement), Some(request)) => {
                self.take_over(now, call, by, request, *replacement)
            }
            _ => None,
        };
        match self.agree_again(call, to, response, tag.is_some()) {
            Ok(body) => {
                let Some(exchange) = &mut call.exchange else {
                    return;
                };
                let waits = exchange.offerless;
                let owes = waits && !Self::is_made(exchange);
                let server = exchange.server.take();
                let then = exchange.then.take();
                if let Some(port) = exchange.old_port.take() {
                    self.media.release(port);
                }
                if owes {
                    call.leg_mut(to).owes_ack = Some(number);
                } else {
                    if !waits {
                        self.end_exchange(call);
                    }
                    self.acknowledge(call, to, number, None);
                }
                let held = is_held(call);
                self.event(call, Change::Renegotiated { by, held });
                if let (Some(server), Some(request)) = (server, request) {
                    self.tell_agreement(now, call, by, (server, &request), tag, body, waits);
                }
                if let Some(then) = then {
                    self.reoffer(now, call, then, None, None);
                }
            }
            Err(refusal) => {
                // The side has taken what the other cannot use: they no longer agree.
                self.acknowledge(call, to, number, None);
                self.refuse_reinvite(now, call, refusal);
                self.end(now, call, EndReason::Media(to), None);
            }
        }
    }

    /// Our 2xx to the side that asked.
    #[expect(
        clippy::too_many_arguments,
        reason = "a request and the parts of its answer"
    )]
    fn tell_agreement(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        (server, request): (TransactionId, &Request),
        tag: Option<Text>,
        body: Bytes,
        wants_answer: bool,
    ) {
        let trunk = Arc::clone(&call.leg(by).trunk);
        let mut onward =
            Response::to_request(request, 200, tag.as_deref()).copy_record_route(request);
        identify_response(&mut onward, &trunk);
        if tag.is_some() {
            let terms = terms(&trunk, request).ok().flatten();
            self.set_session(now, call, by, terms, &request.headers);
        }
        if let Some(session) = &call.leg(by).session {
            session.terms().write(&mut onward.headers);
        }
        let onward = onward.with_body(SDP, body);
        if request.method == Method::Update {
            self.answer(now, &trunk, server, &onward);
            return;
        }
        let acceptance = Acceptance {
            sequence: request.headers.cseq().map_or(0, |cseq| cseq.number),
            wants_answer,
            is_first: tag.is_some(),
        };
        self.accept(now, call, by, server, &onward, acceptance);
    }

    /// The body of our 2xx, with the media changed when it is an answer.
    fn agree_again(
        &mut self,
        call: &mut Call,
        to: Side,
        response: &Response,
        is_replaced: bool,
    ) -> Result<Bytes, Refusal> {
        if is_sdp(&response.headers, &response.body) != Some(true) {
            return Err(Refusal::new(488, "the 200 bears no SDP"));
        }
        let (offerless, made) = call.exchange.as_ref().map_or((false, false), |exchange| {
            (exchange.offerless, Self::is_made(exchange))
        });
        if made {
            call.negotiation
                .take_answer(to, &response.body)
                .map_err(Refusal::of_other_side)?;
            self.connect_media(call)?;
            call.negotiation.commit()?;
            return if offerless {
                let again = call
                    .negotiation
                    .offer_again(to.other(), None, &mut self.random)?;
                Ok(again.into())
            } else {
                Ok(Bytes::new())
            };
        }
        if offerless {
            let offer = call
                .negotiation
                .offer(to, &response.body, &mut self.random)
                .map_err(Refusal::of_other_side)?;
            // Only where another peer has taken the other leg over: the old one's port is free.
            if is_replaced {
                self.connect_media(call)?;
            }
            return Ok(offer.into());
        }
        let answer = call
            .negotiation
            .answer(to, &response.body)
            .map_err(Refusal::of_other_side)?;
        self.connect_media(call)?;
        call.negotiation.commit()?;
        Ok(answer.into())
    }

    fn reinvite_failed(&mut self, now: Instant, call: &mut Call, to: Side, status: u16) {
        let Some(exchange) = &mut call.exchange else {
            return;
        };
        if let Some(cancelled) = exchange.cancelled {
            self.refuse_reinvite(now, call, Refusal::new(cancelled, "cancelled"));
            if ends_dialog(status) {
                self.end(now, call, EndReason::Lost(to), None);
            }
            return;
        }
        if status == 491 && exchange.attempts < ATTEMPTS {
            // RFC 3261 §14.1, in units of 10 ms. The Call-ID of leg B is ours.
            let units = match to {
                Side::B => self.random.random_range(210..=400),
                Side::A => self.random.random_range(0..=200),
            };
            let at = now + Duration::from_millis(10 * units);
            exchange.retry = Some(self.timers.set(at, call.id, Due::Retry));
            return;
        }
        self.refuse_reinvite(
            now,
            call,
            Refusal::new(status_inside(status), "the other side refused"),
        );
        if ends_dialog(status) {
            self.end(now, call, EndReason::Lost(to), None);
        }
    }

    /// Tells the side that asked; the call goes on as it was.
    fn refuse_reinvite(&mut self, now: Instant, call: &mut Call, refusal: Refusal) {
        let Some(exchange) = &mut call.exchange else {
            return;
        };
        let by = exchange.by;
        let replacing = exchange.replacement.take();
        if let Some(server) = exchange.server.take() {
            let trunk = Arc::clone(&call.leg(by).trunk);
            let request = call
                .exchange
                .as_ref()
                .and_then(|exchange| exchange.request.clone());
            if let Some(request) = request {
                let (_, tag) = self.new_tag();
                let trunk = replacing
                    .as_ref()
                    .map_or(trunk, |one| Arc::clone(&one.leg.trunk));
                let response = refusal.response(&request, &tag, &trunk);
                self.answer(now, &trunk, server, &response);
            }
        }
        match replacing {
            Some(replacement) => self.withdraw(call, *replacement),
            None => call.negotiation.rollback(),
        }
        self.end_exchange(call);
        let status = refusal.status;
        self.event(call, Change::RenegotiationFailed { by, status });
    }

    /// The side that asked gives up, or has waited too long. What it is told waits for the other
    /// side: if that has agreed in the meantime, so has the call.
    pub(super) fn cancel_reinvite(
        &mut self,
        now: Instant,
        call: &mut Call,
        status: u16,
        reason: Option<&str>,
    ) {
        let Some(exchange) = &mut call.exchange else {
            return;
        };
        exchange.cancelled = Some(status);
        match exchange.client {
            Some(client) => {
                let _ = self.transactions.cancel(now, client, reason);
            }
            None if exchange.server.is_some() => {
                self.refuse_reinvite(now, call, Refusal::new(status, "cancelled"));
            }
            None => {}
        }
    }

    /// The call ends in the middle of a re-INVITE.
    pub(super) fn abandon_exchange(&mut self, now: Instant, call: &mut Call) {
        if let Some(exchange) = &mut call.exchange {
            let by = exchange.by;
            let server = exchange.server.take();
            let request = exchange.request.take();
            let replacing = exchange.replacement.take();
            if let (Some(server), Some(request)) = (server, request) {
                let (_, tag) = self.new_tag();
                let trunk = Arc::clone(&call.leg(by).trunk);
                let response = Response::to_request(&request, 487, Some(&tag));
                self.answer(now, &trunk, server, &response);
            }
            if let Some(replacement) = replacing {
                self.withdraw(call, *replacement);
            }
        }
        self.end_exchange(call);
    }

    pub(super) fn end_exchange(&mut self, call: &mut Call) {
        if let Some(exchange) = call.exchange.take() {
            self.timers.clear(exchange.retry);
            self.timers.clear(exchange.no_answer);
            if let Some(server) = exchange.server {
                self.servers.remove(&server);
            }
            if let Some(port) = exchange.old_port {
                self.move_back(call, exchange.by, port);
            }
        }
    }
}

/// Whether a re-INVITE refreshes the target of its dialog (RFC 3261 §12.2.2).
pub(super) fn refreshes_target(request: &Request) -> bool {
    matches!(request.method, Method::Invite | Method::Update)
        && request.headers.has(HeaderName::Contact)
}
