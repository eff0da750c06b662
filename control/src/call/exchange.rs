//! What becomes of a re-INVITE that is carried from a side to the other: agreed to, refused,
//! cancelled, or given up because the call ends.

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
    headers::{SDP, identify_response, is_sdp},
    invite::Refusal,
    media::is_held,
    model::{Call, Question},
    session::terms,
    status::{ends_dialog, inside_dialog},
    timers::Due,
    wire::Failure,
};
use crate::sip::{Flow, HeaderName, Method, Request, Response, Text, TransactionId};

/// How often a side is asked that answers 491, or 500 with Retry-After.
const ATTEMPTS: u32 = 4;
/// The longest Retry-After that is waited for, in seconds (RFC 3261 §14.2).
const LONGEST: u32 = 10;

impl<M: MediaPlane> Core<M> {
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
        if response.is_provisional() {
            return;
        }
        let next = call.leg_mut(to).asked_ended(client);
        let waits = call.exchange.as_ref().and_then(|exchange| exchange.client) == Some(client);
        if !waits {
            if response.is_success() && !self.repeats_owed(call, to, response) {
                self.acknowledge_late(now, call, to, response, next);
            } else {
                self.ask_next(now, call, to, next);
            }
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
            let later = response.headers.number(HeaderName::RetryAfter);
            let later = later.ok().flatten();
            self.reinvite_failed(now, call, to, response.status, later);
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
        let next = call.leg_mut(to).asked_ended(client);
        if let Some(exchange) = &mut call.exchange
            && exchange.client == Some(client)
        {
            exchange.client = None;
            self.reinvite_failed(now, call, to, failure.status(), None);
        } else {
            self.ask_next(now, call, to, next);
        }
    }

    fn ask_next(&mut self, now: Instant, call: &mut Call, to: Side, next: Option<Question>) {
        if let Some(question) = next {
            self.reoffer(now, call, to, question);
        }
    }

    /// The 2xx whose ACK waits for the other side's: there is nothing to repeat yet.
    fn repeats_owed(&self, call: &Call, side: Side, response: &Response) -> bool {
        let number = response.headers.cseq().ok().map(|cseq| cseq.number);
        number.is_some() && call.leg(side).owes_ack == number
    }

    /// A 2xx that came again, or too late to be carried: it wants its ACK. To what the side has agreed
    /// too late nobody else has: it is asked again, unless it will be anyhow.
    fn acknowledge_late(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        response: &Response,
        next: Option<Question>,
    ) {
        let Ok(number) = response.headers.cseq().map(|cseq| cseq.number) else {
            return;
        };
        let last = call.leg(side).acknowledged.as_ref();
        let last = last.map(|ack| ack.sequence);
        if last.is_some_and(|last| number <= last) {
            self.repeat_ack(call, side, response);
            return;
        }
        self.acknowledge(call, side, number, None);
        let is_asked = call
            .exchange
            .as_ref()
            .is_some_and(|exchange| exchange.by != side);
        let next = next.or_else(|| (!is_asked).then(Question::default));
        self.ask_next(now, call, side, next);
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
                let then = exchange.question.then.take();
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
                    self.reoffer(now, call, then, Question::default());
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
    pub(super) fn tell_agreement(
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
        let terms = terms(&trunk, request).ok().flatten();
        self.set_session(now, call, by, terms, &request.headers);
        if let Some(terms) = terms {
            terms.write(&mut onward.headers);
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
            // Who asked is told by our offer in the 2xx.
            if call.negotiation.is_narrowed()
                && !offerless
                && let Some(exchange) = &mut call.exchange
            {
                exchange.question.then.get_or_insert(to.other());
            }
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

    /// `later`: the seconds after which it may be tried again.
    fn reinvite_failed(
        &mut self,
        now: Instant,
        call: &mut Call,
        to: Side,
        status: u16,
        later: Option<u32>,
    ) {
        let dialog = call.leg(to).dialog.as_ref();
        let is_begun_here = dialog.is_some_and(|dialog| dialog.is_begun_here);
        let Some(exchange) = &mut call.exchange else {
            return;
        };
        if let Some(cancelled) = exchange.cancelled {
            let refusal = Refusal::new(cancelled, "cancelled");
            self.not_agreed(now, call, to, status, refusal);
            return;
        }
        let pause = match (status, later, is_begun_here) {
            // RFC 3261 §14.1, in units of 10 ms: by whose the Call-ID is.
            (491, _, true) => Some(10 * self.random.random_range(210..=400)),
            (491, _, false) => Some(10 * self.random.random_range(0..=200)),
            // RFC 3261 §14.2: it has not answered the one before.
            (500, Some(seconds @ ..=LONGEST), _) => Some(1_000 * u64::from(seconds.max(1))),
            _ => None,
        };
        if let Some(pause) = pause.filter(|_| exchange.attempts < ATTEMPTS) {
            let at = now + Duration::from_millis(pause);
            exchange.retry = Some(self.timers.set(at, call.id, Due::Retry));
            return;
        }
        let refusal = Refusal::new(inside_dialog(status), "the other side refused");
        self.not_agreed(now, call, to, status, refusal);
    }

    /// A side has refused with a status, and is not asked again.
    fn not_agreed(
        &mut self,
        now: Instant,
        call: &mut Call,
        to: Side,
        status: u16,
        refusal: Refusal,
    ) {
        let exchange = call.exchange.as_ref();
        let then = exchange.and_then(|exchange| exchange.question.then);
        self.refuse_reinvite(now, call, refusal);
        if ends_dialog(status) {
            self.end(now, call, EndReason::Lost(to), None);
        } else if let Some(then) = then {
            self.reoffer(now, call, then, Question::default());
        }
    }

    /// Tells the side that asked; the call goes on as it was.
    pub(super) fn refuse_reinvite(&mut self, now: Instant, call: &mut Call, refusal: Refusal) {
        let Some(exchange) = &mut call.exchange else {
            return;
        };
        let by = exchange.by;
        if !self.answer_asker(now, call, &refusal) {
            call.negotiation.rollback();
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
        self.answer_asker(now, call, &Refusal::new(487, "the call ends"));
        self.end_exchange(call);
    }

    /// Refuses what the side that asked, or the peer that wanted to take it over, has asked for.
    /// True when it was such a peer, and the call is what it was.
    fn answer_asker(&mut self, now: Instant, call: &mut Call, refusal: &Refusal) -> bool {
        let Some(exchange) = &mut call.exchange else {
            return false;
        };
        let (server, request) = (exchange.server.take(), exchange.request.take());
        let replacing = exchange.replacement.take();
        let by = exchange.by;
        if let (Some(server), Some(request)) = (server, request) {
            let leg = replacing.as_ref().map_or(call.leg(by), |one| &one.leg);
            let trunk = Arc::clone(&leg.trunk);
            let (_, tag) = self.new_tag();
            let response = refusal.response(&request, &tag, &trunk);
            self.answer(now, &trunk, server, &response);
        }
        let is_replacing = replacing.is_some();
        if let Some(replacement) = replacing {
            self.withdraw(call, *replacement);
        }
        is_replacing
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
