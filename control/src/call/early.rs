//! Requests inside dialogs that are not confirmed yet: the caller's, those of the callee's branches,
//! and those of the new peer of a transfer.
//!
//! An offer in UPDATE is carried nowhere then: it is answered here, where what the other side has
//! said or been told still holds (RFC 3311 §5.2).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    Core, Side,
    headers::{SDP, identify_response, is_sdp},
    invite::Refusal,
    model::{Call, Fork, Setup},
    progress::fork_mut,
    requests::not_served,
    trunk::Trunk,
};
use crate::{
    sdp::SdpError,
    sip::{HeaderName, Method, Request, Response, Text, TransactionId},
};

impl<M: MediaPlane> Core<M> {
    /// A request of the caller, or of a branch of the callee's side.
    pub(super) fn inside_early(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        let from = sender(request);
        let Some(setup) = call.setup.as_ref().filter(|setup| {
            let known = match side {
                Side::A => setup
                    .request
                    .headers
                    .from()
                    .is_ok_and(|caller| caller.tag().unwrap_or_default() == from),
                Side::B => setup.forks.iter().any(|fork| fork.remote_tag == from),
            };
            known && request.headers.call_id().as_ref() == Ok(&call.leg(side).call_id)
        }) else {
            return Err(Refusal::new(481, "no such dialog"));
        };
        let cancelled = setup.attempt.cancelled;
        let trunk = Arc::clone(&call.leg(side).trunk);
        match (&request.method, side) {
            // A caller may end an early dialog so (RFC 3261 §15).
            (Method::Bye, Side::A) if !cancelled => {
                let response = Response::to_request(request, 200, None);
                self.answer(now, &trunk, server, &response);
                let reason = request.headers.text(HeaderName::Reason);
                self.cancel_setup(now, call, reason);
            }
            (Method::Invite, Side::A) => {
                return Err(Refusal::new(500, "the first INVITE waits").retry_after(5));
            }
            (Method::Prack, Side::A) if trunk.sip.uses_prack() => {
                return self.on_prack(now, call, server, request);
            }
            (Method::Update, _) if trunk.sip.uses_update() => {
                let answer = match is_sdp(&request.headers, &request.body) {
                    None => None,
                    Some(false) => return Err(Refusal::new(415, "the body is not SDP")),
                    Some(true) if cancelled => {
                        return Err(Refusal::new(481, "the call is ending"));
                    }
                    Some(true) => Some(match side {
                        Side::A => self.answer_caller_early(call, request),
                        Side::B => self.answer_branch_early(call, &from, request),
                    }?),
                };
                self.accept_update(now, &trunk, server, request, answer);
            }
            _ => return self.asks_early(now, &trunk, server, request),
        }
        Ok(())
    }

    /// A request of the new peer of a transfer.
    pub(super) fn inside_invited(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        let from = sender(request);
        let headers = &request.headers;
        let to = headers.to().ok().and_then(|to| to.tag());
        let Some(transfer) = call.transfer.as_mut().filter(|transfer| {
            transfer.by == side
                && headers.call_id().as_ref() == Ok(&transfer.leg.call_id)
                && to.as_ref() == Some(&transfer.tag)
        }) else {
            return Err(Refusal::new(481, "no such dialog"));
        };
        let cancelled = transfer.attempt.cancelled;
        let trunk = Arc::clone(&transfer.leg.trunk);
        let Some(fork) = fork_mut(&mut transfer.forks, &from) else {
            return Err(Refusal::new(481, "no such dialog"));
        };
        if request.method != Method::Update || !trunk.sip.uses_update() {
            return self.asks_early(now, &trunk, server, request);
        }
        let answer = match is_sdp(&request.headers, &request.body) {
            None => None,
            Some(false) => return Err(Refusal::new(415, "the body is not SDP")),
            Some(true) if cancelled => return Err(Refusal::new(481, "the transfer is ending")),
            Some(true) => {
                let said = fork.sdp.as_ref().filter(|_| fork.is_answered);
                let said = said.ok_or_else(|| our_offer_waits(false))?;
                let negotiation = &mut transfer.negotiation;
                if transfer.renewed.as_ref() != Some(&from) {
                    negotiation.take_answer(side, said)?;
                }
                let answer = negotiation.offer_back(side, &request.body, &mut self.random)?;
                fork.sdp = Some(request.body.clone());
                transfer.renewed = Some(from);
                Some(answer.into())
            }
        };
        self.accept_update(now, &trunk, server, request, answer);
        Ok(())
    }

    /// What everybody is told who has been invited, or is not answered yet.
    fn asks_early(
        &mut self,
        now: Instant,
        trunk: &Trunk,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        match request.method {
            Method::Options => {
                let mut response =
                    Response::to_request(request, 200, None).with(HeaderName::Allow, &trunk.allow);
                response.headers.push(HeaderName::Accept, SDP);
                self.answer(now, trunk, server, &response);
                Ok(())
            }
            Method::Bye => Err(Refusal::new(481, "the dialog is not confirmed")),
            Method::Invite => Err(Refusal::new(491, "the INVITE waits")),
            Method::Info => Err(Refusal::new(480, "the call is not answered")),
            _ => Err(not_served(&request.method)),
        }
    }

    fn accept_update(
        &mut self,
        now: Instant,
        trunk: &Trunk,
        server: TransactionId,
        request: &Request,
        answer: Option<Bytes>,
    ) {
        let mut response = Response::to_request(request, 200, None);
        identify_response(&mut response, trunk);
        if let Some(answer) = answer {
            response = response.with_body(SDP, answer);
        }
        self.answer(now, trunk, server, &response);
    }

    /// The answer to an offer of the caller's, when it has had the one to its first.
    fn answer_caller_early(
        &mut self,
        call: &mut Call,
        request: &Request,
    ) -> Result<Bytes, Refusal> {
        let setup = call.setup.as_deref();
        let has_answer = setup.is_some_and(|setup| {
            let mut reliable = setup.reliable.iter();
            reliable.any(|reliable| reliable.has_answered)
        });
        if !has_answer {
            // RFC 3311 §5.2.
            let pause = self.random.random_range(0..=10);
            return Err(Refusal::new(500, "the INVITE is not answered").retry_after(pause));
        }
        setup.map_or(Ok(()), has_one_branch)?;
        let answer = self.answer_early(call, &request.body)?;
        if let Some(setup) = &mut call.setup
            && let Some(contact) = request.headers.get(HeaderName::Contact)
            && request.headers.contact().is_ok()
        {
            let contact = contact.value().clone();
            setup.request.headers.set(HeaderName::Contact, contact);
        }
        Ok(answer)
    }

    /// The answer to an offer of a branch of the callee's side, when it has answered ours.
    fn answer_branch_early(
        &mut self,
        call: &mut Call,
        tag: &Text,
        request: &Request,
    ) -> Result<Bytes, Refusal> {
        let Some(setup) = &mut call.setup else {
            return Err(Refusal::new(481, "no such dialog"));
        };
        let owes = setup.offer.is_empty();
        let has_answered = fork_mut(&mut setup.forks, tag).is_some_and(|fork| fork.is_answered);
        if !has_answered && owes {
            let pause = self.random.random_range(0..=10);
            return Err(our_offer_waits(true).retry_after(pause));
        }
        if !has_answered {
            return Err(our_offer_waits(false));
        }
        has_one_branch(setup)?;
        let answer = call
            .negotiation
            .offer_back(Side::B, &request.body, &mut self.random)?;
        if let Some(setup) = &mut call.setup
            && let Some(fork) = fork_mut(&mut setup.forks, tag)
        {
            fork.is_renewed = true;
        }
        self.connect_media(call)?;
        Ok(answer.into())
    }
}

/// The tag of whoever sends a request.
fn sender(request: &Request) -> Text {
    let from = request.headers.from().ok().and_then(|from| from.tag());
    from.unwrap_or_default()
}

/// `owes`: it is the offer of the peer's that waits for our answer.
fn our_offer_waits(owes: bool) -> Refusal {
    if owes {
        Refusal::new(500, "an offer is not answered yet")
    } else {
        Refusal::new(491, "our offer is not answered yet")
    }
}

/// What one branch of the callee's side has agreed to does not hold for another.
fn has_one_branch(setup: &Setup) -> Result<(), Refusal> {
    let said = |fork: &&Fork| fork.sdp.is_some();
    if setup.forks.iter().filter(said).count() > 1 {
        return Err(SdpError::Unchangeable("what several branches have answered").into());
    }
    Ok(())
}
