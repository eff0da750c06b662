//! 2xx to INVITE and their ACKs, both ways (RFC 3261 §13.2.2.4 and §13.3.1.4).
//!
//! The ACK of a 2xx that answers our offer is sent at once: a lost ACK on one side does not make
//! the other side repeat itself or give up. When the 2xx bears an offer, its ACK waits for the
//! answer in the other side's.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::MediaPlane;

use super::{
    Core, Discard, EndReason, Side,
    core::parse_tag,
    headers::is_sdp,
    invite::Refusal,
    model::{Accepted, Bye, Call, Question},
    timers::Due,
};
use crate::sip::{Flow, Request, Response, SuccessRetransmission, SuccessStep, TransactionId};

/// What a 2xx of ours is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptance {
    /// The number of the INVITE.
    pub(super) sequence: u32,
    /// The 2xx bears our offer, so the ACK must bear an answer.
    pub(super) wants_answer: bool,
    /// The INVITE was the one that made the dialog.
    pub(super) is_first: bool,
}

impl<M: MediaPlane> Core<M> {
    /// Sends a 2xx to an INVITE, again and again until its ACK comes.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        response: &Response,
        acceptance: Acceptance,
    ) {
        let trunk = Arc::clone(&call.leg(side).trunk);
        let Ok(target) = self.transactions.response_target(server) else {
            return;
        };
        self.answer(now, &trunk, server, response);
        let retransmission = SuccessRetransmission::new(
            now,
            self.transactions.settings(),
            target,
            response.to_bytes(),
        );
        let due = Due::Unacknowledged(side);
        let timer = self.timers.set(retransmission.next_timeout(), call.id, due);
        self.clear_accepted(call, side);
        call.leg_mut(side).accepted = Some(Box::new(Accepted {
            sequence: acceptance.sequence,
            retransmission,
            timer: Some(timer),
            wants_answer: acceptance.wants_answer,
            is_first: acceptance.is_first,
        }));
    }

    pub(super) fn clear_accepted(&mut self, call: &mut Call, side: Side) -> Option<Box<Accepted>> {
        let accepted = call.leg_mut(side).accepted.take();
        if let Some(accepted) = &accepted {
            self.timers.clear(accepted.timer);
        }
        accepted
    }

    /// Our 2xx has still no ACK.
    pub(super) fn accepted_due(&mut self, now: Instant, call: &mut Call, side: Side) {
        let id = call.id;
        let Some(accepted) = &mut call.leg_mut(side).accepted else {
            return;
        };
        match accepted.retransmission.timeout(now) {
            SuccessStep::NoAck => {
                accepted.timer = None;
                self.no_ack(now, call, side);
                return;
            }
            SuccessStep::Transmit { target, bytes } => self.transactions.transmit(target, bytes),
            SuccessStep::Wait => {}
        }
        let at = accepted.retransmission.next_timeout();
        accepted.timer = Some(self.timers.set(at, id, Due::Unacknowledged(side)));
    }

    fn no_ack(&mut self, now: Instant, call: &mut Call, side: Side) {
        self.clear_accepted(call, side);
        if call.leg(side).bye == Bye::AfterAck {
            self.send_bye(now, call, side, None);
        } else {
            self.end(now, call, EndReason::NoAck(side), None);
        }
    }

    /// An ACK for a 2xx.
    pub(super) fn on_ack(&mut self, now: Instant, request: &Request, flow: &Flow) {
        let found = request
            .headers
            .to()
            .ok()
            .and_then(|to| self.tags.get(&parse_tag(&to.tag()?)?).copied());
        let known = found.is_some_and(|(id, side)| {
            self.with_call(now, id, |core, call| {
                core.acknowledged(now, call, side, request, flow);
            })
        });
        if !known {
            self.statistics.discard(Discard::StrayAck);
        }
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        request: &Request,
        flow: &Flow,
    ) {
        let number = request.headers.cseq().map(|cseq| cseq.number).ok();
        let leg = call.leg_mut(side);
        let waits = leg
            .accepted
            .as_ref()
            .is_some_and(|accepted| Some(accepted.sequence) == number);
        let belongs = leg
            .dialog
            .as_ref()
            .is_some_and(|dialog| dialog.is_of(&request.headers));
        if !waits || !belongs {
            // The ACK came again: so did the 2xx.
            return;
        }
        if let Some(dialog) = &mut leg.dialog {
            dialog.flow = flow.into();
        }
        let Some(accepted) = self.clear_accepted(call, side) else {
            return;
        };
        if call.leg(side).bye == Bye::AfterAck {
            self.send_bye(now, call, side, None);
            return;
        }
        if accepted.wants_answer {
            self.on_answer(now, call, side, request);
        }
    }

    /// The ACK bears the answer to the offer of the other side's 2xx.
    fn on_answer(&mut self, now: Instant, call: &mut Call, side: Side, request: &Request) {
        if self.on_answer_of_replaced(call, side, request) {
            return;
        }
        let other = side.other();
        self.end_exchange(call);
        // None when the other side was offered, not asked: its answer has had its ACK.
        let owed = call.leg_mut(other).owes_ack.take();
        match self.take_answer(call, side, request, owed.is_some()) {
            Ok((body, is_narrowed)) => {
                if let Some(sequence) = owed {
                    self.acknowledge(call, other, sequence, Some(body));
                } else if is_narrowed {
                    self.reoffer(now, call, other, Question::default());
                }
            }
            Err(refusal) => {
                tracing::warn!(call = call.id.0, why = &*refusal.why, "unusable ACK");
                call.negotiation.rollback();
                if let Some(sequence) = owed {
                    self.acknowledge(call, other, sequence, None);
                }
                self.end(now, call, EndReason::Media(side), None);
            }
        }
    }

    /// What the other side is told of it, and whether it has to be asked anew.
    fn take_answer(
        &mut self,
        call: &mut Call,
        side: Side,
        request: &Request,
        is_told: bool,
    ) -> Result<(Bytes, bool), Refusal> {
        if is_sdp(&request.headers, &request.body) != Some(true) {
            return Err(Refusal::new(488, "the ACK bears no answer"));
        }
        let answer = if is_told {
            call.negotiation.answer(side, &request.body)?
        } else {
            call.negotiation.take_answer(side, &request.body)?;
            String::new()
        };
        let is_narrowed = call.negotiation.is_narrowed();
        self.connect_media(call)?;
        call.negotiation.commit()?;
        Ok((answer.into(), is_narrowed))
    }

    /// Sends the ACK of a side's 2xx.
    pub(super) fn acknowledge(
        &mut self,
        call: &mut Call,
        side: Side,
        sequence: u32,
        body: Option<Bytes>,
    ) {
        let leg = call.leg(side);
        let Some(dialog) = &leg.dialog else {
            return;
        };
        let trunk = Arc::clone(&leg.trunk);
        let ack = self.send_ack(&trunk, dialog, sequence, body);
        call.leg_mut(side).acknowledged = Some(Box::new(ack));
    }
}
