//! Requests inside dialogs that are not confirmed yet: the caller's, those of the callee's branches,
//! and those of the new peer of a transfer.
//!
//! An offer in UPDATE is answered here where what the other side has said or been told still holds
//! (RFC 3311 §5.2). Else the other side is asked, if it can be.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
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
                let answer = if makes_offer(request, cancelled)? {
                    match self.offered_early(now, call, (side, &from), server, request)? {
                        None => return Ok(()),
                        answer => answer,
                    }
                } else {
                    if setup.carries(side, &from) {
                        return Err(self.wait("another UPDATE waits"));
                    }
                    if let Some(setup) = &mut call.setup {
                        setup.refresh(side, &from, &request.headers);
                    }
                    None
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
        let mut answer = None;
        if makes_offer(request, cancelled)? {
            let said = fork.sdp.as_ref().filter(|_| fork.is_answered);
            let said = said.ok_or_else(our_offer_waits)?;
            let negotiation = &mut transfer.negotiation;
            if transfer.renewed.as_ref() != Some(&from) {
                negotiation.take_answer(side, said)?;
            }
            let ours = negotiation.offer_back(side, &request.body, &mut self.random)?;
            fork.sdp = Some(request.body.clone());
            transfer.renewed = Some(from);
            answer = Some(ours.into());
        }
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

    pub(super) fn accept_update(
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

    /// The answer to an offer of the caller's or of a branch of the callee's side. `None` when the
    /// other side is asked.
    fn offered_early(
        &mut self,
        now: Instant,
        call: &mut Call,
        (side, from): (Side, &Text),
        server: TransactionId,
        request: &Request,
    ) -> Result<Option<Bytes>, Refusal> {
        self.crosses_carried(call, side)?;
        let Some(setup) = &mut call.setup else {
            return Err(Refusal::new(481, "no such dialog"));
        };
        let to = request.headers.to().ok().and_then(|to| to.tag());
        let fork = setup.forks.iter().find(|fork| match side {
            Side::A => Some(&fork.local_tag) == to.as_ref(),
            Side::B => fork.remote_tag == *from,
        });
        let is_answered = fork.is_some_and(|fork| fork.is_answered);
        let branch = fork.map(|fork| fork.remote_tag.clone());
        let branch = branch.unwrap_or_default();
        match side {
            // RFC 3311 §5.2, of this and the next.
            Side::A if !setup.reliable.as_ref().is_some_and(|it| it.has_answered) => {
                return Err(self.wait("the INVITE is not answered"));
            }
            Side::B if !is_answered && setup.offer.is_empty() => {
                return Err(self.wait("an offer is not answered yet"));
            }
            Side::B if !is_answered => return Err(our_offer_waits()),
            _ => has_one_branch(setup)?,
        }
        let answer = call
            .negotiation
            .offer_further(side, &request.body, &mut self.random);
        if let Err(SdpError::Unchangeable(_)) = answer
            && self.carry_early(now, call, side, &branch, (server, request))?
        {
            if side == Side::A {
                call.withhold_answers();
            }
            return Ok(None);
        }
        let answer = answer?;
        self.connect_media(call)?;
        if side == Side::A {
            call.withhold_answers();
        }
        if let Some(setup) = &mut call.setup {
            setup.refresh(side, &branch, &request.headers);
            if side == Side::B
                && let Some(fork) = fork_mut(&mut setup.forks, &branch)
            {
                fork.is_renewed = true;
            }
        }
        Ok(Some(answer.into()))
    }
}

/// The tag of whoever sends a request.
fn sender(request: &Request) -> Text {
    let from = request.headers.from().ok().and_then(|from| from.tag());
    from.unwrap_or_default()
}

/// Whether an UPDATE bears an offer, which must be one that can be taken.
fn makes_offer(request: &Request, is_ending: bool) -> Result<bool, Refusal> {
    match is_sdp(&request.headers, &request.body) {
        None => Ok(false),
        Some(false) => Err(Refusal::new(415, "the body is not SDP")),
        Some(true) if is_ending => Err(Refusal::new(481, "the call is ending")),
        Some(true) => Ok(true),
    }
}

fn our_offer_waits() -> Refusal {
    Refusal::new(491, "our offer is not answered yet")
}

/// What one branch of the callee's side has agreed to does not hold for another.
fn has_one_branch(setup: &Setup) -> Result<(), Refusal> {
    let said = |fork: &&Fork| fork.sdp.is_some();
    if setup.forks.iter().filter(said).count() > 1 {
        return Err(SdpError::Unchangeable("what several branches have answered").into());
    }
    Ok(())
}
