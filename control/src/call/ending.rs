//! How calls end: refusal, CANCEL, BYE.

use std::{sync::Arc, time::Instant};

use relay_user::media::MediaPlane;

use super::{
    CallState, Change, Core, EndReason, Side,
    headers::carry_ending,
    invite::{RETRY_DRAINING, Refusal},
    model::{Bye, Call},
    routing::inside_dialog,
    status::back_later,
    wire::Client,
};
use crate::sip::{HeaderName, Headers, Method, Request, Response, TransactionId};

impl Call {
    /// The side's BYE has been answered, or never will be.
    pub(super) fn bye_is_over(&mut self, side: Side) {
        let leg = self.leg_mut(side);
        if leg.bye == Bye::Sent {
            leg.bye = Bye::Done;
        }
    }
}

impl<M: MediaPlane> Core<M> {
    /// Tells the caller that the call does not come about, and the callee's side to stop.
    pub(super) fn refuse_caller(
        &mut self,
        now: Instant,
        call: &mut Call,
        refusal: Refusal,
        response: Option<&Response>,
    ) {
        let trunk = Arc::clone(&call.leg(Side::A).trunk);
        let other = Arc::clone(&call.leg(Side::B).trunk);
        let Some(setup) = &mut call.setup else {
            return;
        };
        let tag = match setup.forks.first() {
            Some(fork) => fork.local_tag.clone(),
            None => self.new_tag().1,
        };
        let Some(setup) = &mut call.setup else {
            return;
        };
        if let Some(server) = setup.server.take() {
            let mut refused = refusal.response(&setup.request, &tag, &trunk);
            carry_ending(
                response.map(|response| &response.headers),
                &mut refused.headers,
                Some(refusal.status),
                (&other, &trunk),
            );
            let later = response.filter(|response| response.status == refusal.status);
            if let Some(later) = later.and_then(back_later) {
                refused.headers.push(HeaderName::RetryAfter, later);
            }
            self.answer(now, &trunk, server, &refused);
        }
        self.event(
            call,
            Change::Rejected {
                status: refusal.status,
                why: refusal.why,
            },
        );
        self.stop_callee(now, call, None);
    }

    /// Nobody wants the callee's answer any more.
    fn stop_callee(&mut self, now: Instant, call: &mut Call, reason: Option<&str>) {
        self.moved(call, Some(CallState::Ending));
        self.release_media(call);
        self.drop_carried(now, call);
        let Some(setup) = &mut call.setup else {
            return;
        };
        setup.attempt.cancelled = true;
        self.timers.clear(setup.no_answer.take());
        self.timers.clear(setup.attempt.silent.take());
        let waits = setup
            .attempt
            .client
            .is_some_and(|client| self.transactions.cancel(now, client, reason).is_ok());
        let answer = setup
            .reliable
            .as_mut()
            .and_then(|reliable| reliable.answer.take())
            .zip(setup.attempt.client);
        self.stop_reliable(now, setup);
        if !waits {
            self.end_setup(call);
        }
        if let Some(((response, flow), client)) = answer {
            self.dismiss(now, client, &response, &flow, false);
        }
    }

    /// The caller, or the side that sent a re-INVITE, does not want it any more.
    pub(super) fn on_cancel(
        &mut self,
        now: Instant,
        call: &mut Call,
        invite: TransactionId,
        request: &Request,
    ) {
        let reason = request.headers.text(HeaderName::Reason);
        if call
            .setup
            .as_ref()
            .is_some_and(|setup| setup.server == Some(invite))
        {
            self.cancel_setup(now, call, reason);
        } else if call
            .exchange
            .as_ref()
            .is_some_and(|exchange| exchange.server == Some(invite))
        {
            self.cancel_reinvite(now, call, 487, reason);
        }
    }

    /// The caller gives up: 487 to him, CANCEL to the callee.
    pub(super) fn cancel_setup(&mut self, now: Instant, call: &mut Call, reason: Option<&str>) {
        let trunk = Arc::clone(&call.leg(Side::A).trunk);
        let fallback = self.new_tag().1;
        if let Some(setup) = &mut call.setup
            && let Some(server) = setup.server.take()
        {
            let tag = setup
                .forks
                .first()
                .map_or(&fallback, |fork| &fork.local_tag);
            let response = Response::to_request(&setup.request, 487, Some(tag));
            self.answer(now, &trunk, server, &response);
            self.event(call, Change::Cancelled);
        }
        self.stop_callee(now, call, reason);
    }

    /// It has rung long enough.
    pub(super) fn no_answer(&mut self, now: Instant, call: &mut Call) {
        if let Some(setup) = &mut call.setup {
            setup.no_answer = None;
            let (status, why) = if setup.attempt.progressed {
                (480, "the callee did not answer")
            } else {
                (408, "the callee's side did not answer")
            };
            self.refuse_caller(now, call, Refusal::new(status, why), None);
        } else if let Some(exchange) = &mut call.exchange {
            exchange.no_answer = None;
            self.cancel_reinvite(now, call, 480, None);
        }
    }

    /// Ends an established call: BYE to every side that is still there, with what `headers` says
    /// of why.
    pub(super) fn end(
        &mut self,
        now: Instant,
        call: &mut Call,
        why: EndReason,
        headers: Option<&Headers>,
    ) {
        if let EndReason::Bye(side) = why {
            call.leg_mut(side).bye = Bye::Done;
            self.clear_accepted(call, side);
        }
        if call.state == CallState::Ending {
            return;
        }
        self.statistics.ended(why);
        call.why = Some(why);
        self.moved(call, Some(CallState::Ending));
        self.event(call, Change::Ending { why });
        self.abandon_exchange(now, call);
        self.give_up_transfer(now, call);
        self.release_media(call);
        for side in [Side::A, Side::B] {
            if let Some(sequence) = call.leg_mut(side).owes_ack.take() {
                self.acknowledge(call, side, sequence, None);
            }
            let leg = call.leg_mut(side);
            if leg.bye != Bye::None {
                continue;
            }
            // RFC 3261 §15: the side that was called may not send BYE before the ACK.
            if leg
                .accepted
                .as_ref()
                .is_some_and(|accepted| accepted.is_first)
            {
                leg.bye = Bye::AfterAck;
            } else {
                self.send_bye(now, call, side, headers);
            }
        }
    }

    pub(super) fn send_bye(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        headers: Option<&Headers>,
    ) {
        self.clear_accepted(call, side);
        self.clear_session(call, side);
        let id = call.id;
        let other = Arc::clone(&call.leg(side.other()).trunk);
        let leg = call.leg_mut(side);
        let trunk = Arc::clone(&leg.trunk);
        let Some(dialog) = &mut leg.dialog else {
            leg.bye = Bye::Done;
            return;
        };
        let mut bye = dialog.request(Method::Bye);
        carry_ending(headers, &mut bye.headers, None, (&other, &trunk));
        let target = inside_dialog(&trunk, &dialog.first_hop(), &dialog.flow);
        let client = Client::Bye {
            call: id,
            to: side,
            trunk: Arc::clone(&trunk),
        };
        let sent = self.send(now, &trunk, target, bye, client);
        call.leg_mut(side).bye = if sent.is_some() { Bye::Sent } else { Bye::Done };
    }

    /// A BYE from a side.
    pub(super) fn on_bye(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) {
        let trunk = Arc::clone(&call.leg(side).trunk);
        let response = Response::to_request(request, 200, None);
        self.answer(now, &trunk, server, &response);
        if !self.asker_hangs_up(now, call, side) {
            self.end(now, call, EndReason::Bye(side), Some(&request.headers));
        }
    }

    /// Ends a call for a reason of our own.
    pub(super) fn hang_up_call(&mut self, now: Instant, call: &mut Call) {
        match &call.setup {
            Some(setup) if setup.attempt.cancelled => {}
            Some(_) => {
                let refusal = Refusal::new(503, "shutting down").retry_after(RETRY_DRAINING);
                self.refuse_caller(now, call, refusal, None);
            }
            None if call.departs => {
                for side in [Side::A, Side::B] {
                    self.depart_due(now, call, side);
                }
            }
            None => self.end(now, call, EndReason::Local, None),
        }
    }
}
