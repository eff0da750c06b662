//! What the callee's side says to the INVITE that makes a call.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::MediaPlane;

use super::{
    CallState, Change, Core, Side,
    acknowledging::Acceptance,
    dialog::Dialog,
    headers::{SDP, identify_response, is_sdp},
    invite::Refusal,
    model::{Call, EARLY_DIALOGS, Fork, Setup, Transfer},
    status::towards_caller,
    trunk::Trunk,
    wire::Failure,
};
use crate::{
    config::Ringback,
    sdp::Direction,
    sip::{Flow, HeaderName, Method, Request, Response, Text, TransactionId},
};

impl<M: MediaPlane> Core<M> {
    /// A response to our INVITE. True when it is a 2xx that nobody wants any more: it must be
    /// acknowledged and its dialog ended.
    pub(super) fn on_setup_response(
        &mut self,
        now: Instant,
        call: &mut Call,
        client: TransactionId,
        response: &Response,
        flow: &Flow,
    ) -> bool {
        if Self::is_transfer(call, client) {
            return self.on_transfer_response(now, call, response, flow);
        }
        let Some(setup) = &mut call.setup else {
            return response.is_success()
                && !self.repeat_ack(call, Side::B, response)
                && !self.repeat_ack(call, Side::A, response);
        };
        if setup.attempt.client != Some(client) {
            return response.is_success();
        }
        call.legs[Side::B.index()].remote = flow.remote;
        let cancelled = setup.attempt.cancelled;
        if response.is_provisional() {
            if !cancelled && response.status != 100 {
                setup.attempt.progressed = true;
                if self.acknowledge_provisional(now, call, response, flow) {
                    self.progress(now, call, response);
                }
            }
            return false;
        }
        if cancelled {
            self.end_setup(call);
            return response.is_success();
        }
        if response.is_success() {
            return match Self::waiting_answer(call, response) {
                Some(is_copy) => !is_copy,
                None if Self::answer_waits(call, response, flow) => false,
                None => !self.answered(now, call, response, flow),
            };
        }
        self.setup_failed(now, call, response.status, Some(response));
        false
    }

    /// No response came to our INVITE.
    pub(super) fn on_setup_failure(
        &mut self,
        now: Instant,
        call: &mut Call,
        client: TransactionId,
        failure: Failure,
    ) {
        if Self::is_transfer(call, client) {
            self.on_transfer_failure(now, call, failure);
            return;
        }
        match &call.setup {
            Some(setup) if setup.attempt.client == Some(client) => {
                if !setup.attempt.cancelled {
                    self.setup_failed(now, call, failure.status(), None);
                } else {
                    self.end_setup(call);
                }
            }
            _ => {}
        }
    }

    /// A provisional response other than 100.
    fn progress(&mut self, now: Instant, call: &mut Call, response: &Response) {
        let tag = response
            .headers
            .to()
            .ok()
            .and_then(|to| to.tag())
            .unwrap_or_default();
        let Some(local_tag) = self.fork(call, &tag, EARLY_DIALOGS) else {
            return;
        };
        let mut body = None;
        let is_reliable = reliable(&call.leg(Side::B).trunk, response).is_some();
        let wanted = call.setup.as_ref().is_some_and(|setup| {
            // After another offer, or while one is on its way, that is what counts.
            !setup.offerless
                && setup.carried.is_none()
                && !setup.forks.iter().any(|fork| fork.is_renewed)
        });
        if wanted && is_sdp(&response.headers, &response.body) == Some(true) {
            match call.negotiation.answer(Side::B, &response.body) {
                Ok(answer) => {
                    if let Err(error) = self.connect_media(call) {
                        tracing::warn!(call = call.id.0, %error, "no early media");
                    }
                    body = Some(Bytes::from(answer));
                    let setup = call.setup.as_mut();
                    if let Some(fork) = setup.and_then(|setup| fork_mut(&mut setup.forks, &tag)) {
                        fork.sdp = Some(response.body.clone());
                        fork.is_answered |= is_reliable;
                    }
                }
                Err(error) => {
                    tracing::warn!(call = call.id.0, %error, "early SDP left aside");
                }
            }
        }
        let change = Change::Ringing {
            status: response.status,
            early_media: body.is_some(),
        };
        self.moved(call, Some(CallState::Ringing));
        self.event(call, change);
        let trunk = Arc::clone(&call.leg(Side::A).trunk);
        let mut status = response.status;
        if let Some(setup) = &mut call.setup {
            match trunk.sip.ringback {
                Ringback::AsSent => {}
                Ringback::Ringing => {
                    if status == 183 {
                        status = 180;
                    }
                    body = None;
                }
                Ringback::FirstProgress => {
                    if status == 183 && setup.told_progress {
                        return;
                    }
                }
            }
            setup.told_progress |= status == 183;
        }
        if let Some(setup) = &call.setup
            && let Some(server) = setup.server
        {
            let theirs = &setup.request.headers;
            if setup.reliable.is_none() && theirs.has_token(HeaderName::Require, "100rel") {
                // None but reliable ones may be sent (RFC 3262 §3).
                return;
            }
            let mut onward = Response::to_request(&setup.request, status, Some(&local_tag))
                .copy_record_route(&setup.request);
            identify_response(&mut onward, &trunk);
            if let Some(body) = body {
                onward = onward.with_body(SDP, body);
            }
            self.tell_progress(now, call, server, onward);
        }
    }

    /// Acknowledges a reliable provisional response (RFC 3262 §4). False when it is to be left
    /// aside: it came before, or out of order.
    fn acknowledge_provisional(
        &mut self,
        now: Instant,
        call: &mut Call,
        response: &Response,
        flow: &Flow,
    ) -> bool {
        let trunk = Arc::clone(&call.leg(Side::B).trunk);
        let Some((tag, number)) = reliable(&trunk, response) else {
            return true;
        };
        if self.fork(call, &tag, EARLY_DIALOGS).is_none() {
            return false;
        }
        let prack = call.setup.as_mut().and_then(|setup| {
            let fork = fork_mut(&mut setup.forks, &tag)?;
            fork.acknowledge(setup.attempt.outgoing.as_ref()?, response, flow, number)
        });
        let Some((dialog, prack)) = prack else {
            return false;
        };
        self.send_for_nobody(now, &trunk, &dialog, prack);
        true
    }

    /// As [`Core::acknowledge_provisional`], of the new peer of a transfer, whose SDP is kept.
    pub(super) fn acknowledge_new_peer(
        &mut self,
        now: Instant,
        transfer: &mut Transfer,
        response: &Response,
        flow: &Flow,
    ) -> bool {
        let trunk = Arc::clone(&transfer.leg.trunk);
        let tag = response.headers.to().ok().and_then(|to| to.tag());
        let tag = tag.unwrap_or_default();
        let forks = &mut transfer.forks;
        if fork_mut(forks, &tag).is_none() && forks.len() < EARLY_DIALOGS {
            forks.push(Fork::new(tag.clone(), transfer.tag.clone()));
        }
        let wanted = reliable(&trunk, response);
        let is_renewed = transfer.renewed.as_ref() == Some(&tag);
        if let Some(fork) = fork_mut(forks, &tag)
            && is_sdp(&response.headers, &response.body) == Some(true)
            && !is_renewed
        {
            fork.sdp = Some(response.body.clone());
            fork.is_answered |= wanted.is_some();
        }
        let Some((tag, number)) = wanted else {
            return true;
        };
        let prack = fork_mut(forks, &tag).and_then(|fork| {
            fork.acknowledge(transfer.attempt.outgoing.as_ref()?, response, flow, number)
        });
        let Some((dialog, prack)) = prack else {
            return false;
        };
        self.send_for_nobody(now, &trunk, &dialog, prack);
        true
    }

    /// Our tag towards the caller for the callee's fork of that tag. `None` when there are too
    /// many.
    fn fork(&mut self, call: &mut Call, remote_tag: &Text, most: usize) -> Option<Text> {
        let setup = call.setup.as_mut()?;
        if let Some(fork) = fork_mut(&mut setup.forks, remote_tag) {
            return Some(fork.local_tag.clone());
        }
        if setup.forks.len() >= most {
            return None;
        }
        let (number, local_tag) = self.new_tag();
        self.tags.insert(number, (call.id, Side::A));
        setup
            .forks
            .push(Fork::new(remote_tag.clone(), local_tag.clone()));
        Some(local_tag)
    }

    /// The first 2xx. False when it cannot be used: then its dialog is to be ended.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        call: &mut Call,
        response: &Response,
        flow: &Flow,
    ) -> bool {
        let tag = response
            .headers
            .to()
            .ok()
            .and_then(|to| to.tag())
            .unwrap_or_default();
        let local_tag = self.fork(call, &tag, EARLY_DIALOGS + 1);
        let dialogs = call.setup.as_ref().and_then(|setup| {
            let ours = Dialog::accepted(&setup.request, local_tag.as_ref()?, &setup.flow).ok()?;
            let outgoing = setup.attempt.outgoing.as_ref()?;
            let theirs = Dialog::requested(outgoing, response, flow).ok()?;
            Some((ours, theirs))
        });
        let Some((mut dialog_a, mut dialog_b)) = dialogs else {
            let refusal = Refusal::new(500, "the callee's 200 makes no dialog");
            self.refuse_caller(now, call, refusal, None);
            return false;
        };
        let body = match self.agree(call, response, &tag) {
            Ok(body) => body,
            Err(refusal) => {
                self.refuse_caller(now, call, refusal, None);
                return false;
            }
        };
        let Some(mut setup) = call.setup.take() else {
            return false;
        };
        self.stop_reliable(now, &mut setup);
        self.forget_setup(&setup, Some(dialog_a.local_tag()));
        call.answered = Some(now);
        let sequence = dialog_b.local_sequence;
        if let Some(fork) = setup.forks.iter().find(|fork| fork.remote_tag == tag) {
            dialog_b.local_sequence = sequence.max(fork.sequence);
            dialog_a.local_sequence = fork.caller_sequence;
        }
        let made = setup.offerless && !setup.offer.is_empty();
        let server_sequence = dialog_a.remote_sequence.unwrap_or_default();
        call.leg_mut(Side::A).dialog = Some(dialog_a);
        call.leg_mut(Side::B).dialog = Some(dialog_b);
        self.moved(call, Some(CallState::Established));
        self.event(call, Change::Answered);
        self.session_answered(now, call, Side::B, response);
        self.set_session(now, call, Side::A, setup.terms, &setup.request.headers);
        if setup.offerless && !made {
            call.leg_mut(Side::B).owes_ack = Some(sequence);
        } else {
            self.acknowledge(call, Side::B, sequence, None);
        }
        let trunk = Arc::clone(&call.leg(Side::A).trunk);
        let mut onward =
            Response::to_request(&setup.request, response.status, local_tag.as_deref())
                .copy_record_route(&setup.request);
        identify_response(&mut onward, &trunk);
        if let Some(terms) = setup.terms {
            terms.write(&mut onward.headers);
        }
        if !body.is_empty() {
            onward = onward.with_body(SDP, body);
        }
        if let Some(server) = setup.server {
            self.servers.remove(&server);
            self.accept(
                now,
                call,
                Side::A,
                server,
                &onward,
                Acceptance {
                    sequence: server_sequence,
                    wants_answer: setup.offerless,
                    is_first: true,
                },
            );
        }
        true
    }

    /// The body of our 2xx to the caller, with the media connected when it is an answer.
    fn agree(
        &mut self,
        call: &mut Call,
        response: &Response,
        tag: &Text,
    ) -> Result<Bytes, Refusal> {
        let Some(setup) = &mut call.setup else {
            return Err(Refusal::new(500, "no INVITE waits for an answer"));
        };
        let fork = fork_mut(&mut setup.forks, tag);
        if fork.as_ref().is_some_and(|fork| fork.is_renewed) {
            let answer = if call.negotiation.pending() == Some(Side::A) {
                call.negotiation.repeat_answer()?
            } else {
                // The last offer was the callee's, and the caller has answered it.
                String::new()
            };
            self.connect_media(call)?;
            call.negotiation.commit()?;
            return Ok(answer.into());
        }
        let body = match is_sdp(&response.headers, &response.body) {
            Some(true) => response.body.clone(),
            // An answer in a provisional response holds for the 2xx that has none.
            _ => fork
                .and_then(|fork| fork.sdp.clone())
                .ok_or_else(|| Refusal::new(488, "the callee's 200 bears no SDP"))?,
        };
        if setup.offerless && !setup.offer.is_empty() {
            call.negotiation
                .take_answer(Side::B, &body)
                .map_err(Refusal::of_other_side)?;
            call.negotiation.commit()?;
            let direction = Some(Direction::SendReceive);
            let offer = call
                .negotiation
                .offer_again(Side::A, direction, &mut self.random)?;
            return Ok(offer.into());
        }
        call.negotiation.return_to_first();
        if setup.offerless {
            return Ok(call
                .negotiation
                .offer(Side::B, &body, &mut self.random)
                .map_err(Refusal::of_other_side)?
                .into());
        }
        let answer = call
            .negotiation
            .answer(Side::B, &body)
            .map_err(Refusal::of_other_side)?;
        self.connect_media(call)?;
        call.negotiation.commit()?;
        Ok(answer.into())
    }

    /// Our INVITE failed with a status: the next address is tried, or the caller is told.
    fn setup_failed(
        &mut self,
        now: Instant,
        call: &mut Call,
        status: u16,
        response: Option<&Response>,
    ) {
        let Some(setup) = &mut call.setup else {
            return;
        };
        setup.attempt.client = None;
        if self.ask_longer(now, call, status, response)
            || self.try_elsewhere(now, call, status, &status.to_string(), None)
        {
            return;
        }
        let why = match response {
            Some(_) => "the callee's side refused",
            None if status == 408 => "the callee's side did not answer",
            None => "the callee's side cannot be reached",
        };
        self.refuse_caller(
            now,
            call,
            Refusal::new(towards_caller(status), why),
            response,
        );
    }

    /// Whatever remains of the INVITE is over.
    pub(super) fn end_setup(&mut self, call: &mut Call) {
        if let Some(setup) = call.setup.take() {
            self.forget_setup(&setup, None);
        }
    }

    /// Forgets a setup's timers and the tags of its early dialogs but `kept`.
    pub(super) fn forget_setup(&mut self, setup: &Setup, kept: Option<&str>) {
        self.timers.clear(setup.no_answer);
        self.timers.clear(setup.attempt.silent);
        let reliable = setup.reliable.as_ref();
        self.timers
            .clear(reliable.and_then(|reliable| reliable.timer()));
        if let Some(server) = setup.server {
            self.servers.remove(&server);
        }
        for fork in &setup.forks {
            if kept != Some(fork.local_tag.as_str()) {
                self.forget_tag(&fork.local_tag);
            }
        }
        if kept.is_none()
            && let Some(tag) = setup
                .attempt
                .outgoing
                .as_ref()
                .and_then(|request| request.headers.from().ok()?.tag())
        {
            self.forget_tag(&tag);
        }
    }
}

/// Whose a provisional response is that wants to be acknowledged, by its tag, and its RSeq.
fn reliable(trunk: &Trunk, response: &Response) -> Option<(Text, u32)> {
    let headers = &response.headers;
    let number = headers.number(HeaderName::RSeq).ok().flatten()?;
    let is_wanted = trunk.sip.uses_prack() && headers.has_token(HeaderName::Require, "100rel");
    let tag = headers.to().ok().and_then(|to| to.tag());
    is_wanted.then(|| (tag.unwrap_or_default(), number))
}

impl Fork {
    const fn new(remote_tag: Text, local_tag: Text) -> Self {
        Self {
            remote_tag,
            local_tag,
            sdp: None,
            is_answered: false,
            is_renewed: false,
            reliable: 0,
            sequence: 0,
            caller_sequence: 0,
            updates: None,
        }
    }

    /// CSeq of our last request in it to a side; 0 before the first.
    pub(super) const fn sequence_to(&mut self, side: Side) -> &mut u32 {
        match side {
            Side::A => &mut self.caller_sequence,
            Side::B => &mut self.sequence,
        }
    }

    /// The PRACK of a reliable response to an INVITE, and its dialog. `None` when the response came
    /// before, or out of order.
    fn acknowledge(
        &mut self,
        invite: &Request,
        response: &Response,
        flow: &Flow,
        number: u32,
    ) -> Option<(Dialog, Request)> {
        let mut dialog = Dialog::requested(invite, response, flow).ok()?;
        if self.reliable != 0 && number != self.reliable.wrapping_add(1) {
            return None;
        }
        self.reliable = number;
        let first = dialog.local_sequence;
        dialog.local_sequence = first.max(self.sequence);
        let prack = dialog.request(Method::Prack);
        self.sequence = dialog.local_sequence;
        let updates = response.headers.has_token(HeaderName::Allow, "UPDATE");
        self.updates = updates.then(|| Box::new(dialog.clone()));
        let prack = prack.with(HeaderName::RAck, format!("{number} {first} INVITE"));
        Some((dialog, prack))
    }
}

pub(super) fn fork_mut<'a>(forks: &'a mut [Fork], remote_tag: &Text) -> Option<&'a mut Fork> {
    forks.iter_mut().find(|fork| fork.remote_tag == *remote_tag)
}
