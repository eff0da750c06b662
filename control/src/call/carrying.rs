//! Offers in UPDATE that the other side has to hear of before the call is answered (RFC 3311): they
//! are carried on in an UPDATE of ours where both sides' early dialogs let them, one at a time.
//!
//! The other side may be asked when it takes UPDATE and the first offer has an answer that came
//! reliably: the callee has given it, the caller has acknowledged it (RFC 6337, section 3.2).

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    Core, Side,
    dialog::Dialog,
    headers::{SDP, identify, is_sdp},
    invite::Refusal,
    model::{Call, Carried, Setup},
    progress::fork_mut,
    routing::inside_dialog,
    status,
    wire::Client,
};
use crate::sip::{HeaderName, Headers, Method, Request, Response, Text, TransactionId};

impl Setup {
    /// The early dialog with a side in which it may be asked. `None` when it cannot be.
    fn askable(&self, to: Side, branch: &Text) -> Option<Dialog> {
        let fork = self.forks.iter().find(|fork| fork.remote_tag == *branch)?;
        let (mut dialog, sequence) = match to {
            Side::A => {
                let headers = &self.request.headers;
                let takes = headers.has_token(HeaderName::Allow, "UPDATE");
                let has_answer = self.reliable.as_ref()?.has_answered;
                let dialog = Dialog::accepted(&self.request, &fork.local_tag, &self.flow);
                let dialog = dialog.ok().filter(|_| takes && has_answer)?;
                (dialog, fork.caller_sequence)
            }
            Side::B => {
                let dialog = fork.updates.as_deref().filter(|_| fork.is_answered)?;
                (dialog.clone(), fork.sequence)
            }
        };
        dialog.local_sequence = sequence;
        Some(dialog)
    }

    /// Whether a side waits for the answer to an UPDATE that is carried.
    pub(super) fn carries(&self, by: Side, from: &Text) -> bool {
        let carried = self.carried.as_ref().filter(|carried| carried.by == by);
        carried.is_some_and(|carried| by == Side::A || carried.branch == *from)
    }

    /// Takes a side's new Contact.
    pub(super) fn refresh(&mut self, side: Side, branch: &Text, headers: &Headers) {
        let (Some(field), Ok(contact)) = (headers.get(HeaderName::Contact), headers.contact())
        else {
            return;
        };
        match side {
            Side::A => {
                let contact = field.value().clone();
                self.request.headers.set(HeaderName::Contact, contact);
            }
            Side::B => {
                let fork = fork_mut(&mut self.forks, branch);
                if let Some(dialog) = fork.and_then(|fork| fork.updates.as_mut()) {
                    dialog.retarget(&contact);
                }
            }
        }
    }
}

impl<M: MediaPlane> Core<M> {
    /// Whether an offer of a side's crosses one that is carried (RFC 3311 §5.2).
    pub(super) fn crosses_carried(&mut self, call: &Call, side: Side) -> Result<(), Refusal> {
        let setup = call.setup.as_ref();
        match setup.and_then(|setup| setup.carried.as_ref()) {
            Some(carried) if carried.by == side => Err(self.wait("another UPDATE waits")),
            Some(_) => Err(Refusal::new(491, "the other side's UPDATE waits")),
            None => Ok(()),
        }
    }

    /// RFC 3311 §5.2: what cannot be answered before something else is.
    pub(super) fn wait(&mut self, why: &'static str) -> Refusal {
        Refusal::new(500, why).retry_after(self.random.random_range(0..=10))
    }

    /// Asks the other side. False when that cannot be done as long as the call is not answered.
    pub(super) fn carry_early(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        branch: &Text,
        (server, request): (TransactionId, &Request),
    ) -> Result<bool, Refusal> {
        let to = by.other();
        let trunk = Arc::clone(&call.leg(to).trunk);
        let Some(setup) = call
            .setup
            .as_ref()
            .filter(|setup| !setup.offerless && setup.server.is_some() && trunk.sip.uses_update())
        else {
            return Ok(false);
        };
        if let Some(reliable) = &setup.reliable
            && (reliable.answer.is_some() || to == Side::A && reliable.answer_is_on_its_way())
        {
            return Err(self.wait("the caller has not acknowledged an answer"));
        }
        let Some(mut dialog) = setup.askable(to, branch) else {
            return Ok(false);
        };
        let offer = call
            .negotiation
            .offer_onward(by, &request.body, &mut self.random)?;
        let mut update = dialog.request(Method::Update);
        identify(&mut update, &trunk);
        let target = inside_dialog(&trunk, &dialog.first_hop(), &dialog.flow);
        let client = Client::Update {
            call: call.id,
            trunk: Arc::clone(&trunk),
        };
        let update = update.with_body(SDP, offer);
        let Some(client) = self.send(now, &trunk, target, update, client) else {
            call.negotiation.rollback();
            return Err(Refusal::new(500, "too many transactions").retry_after(1));
        };
        if let Some(setup) = &mut call.setup {
            if let Some(fork) = fork_mut(&mut setup.forks, branch) {
                *fork.sequence_to(to) = dialog.local_sequence;
            }
            setup.carried = Some(Box::new(Carried {
                by,
                server,
                request: request.clone(),
                branch: branch.clone(),
                client,
            }));
        }
        Ok(true)
    }

    /// What the other side says to an offer that was carried to it, or the status that stands for
    /// its silence.
    pub(super) fn on_carried(
        &mut self,
        now: Instant,
        call: &mut Call,
        client: TransactionId,
        status: u16,
        response: Option<&Response>,
    ) {
        let carried = call.setup.as_mut().and_then(|setup| {
            let carried = &mut setup.carried;
            carried.take_if(|carried| carried.client == client)
        });
        let Some(carried) = carried else { return };
        let Some(agreed) = response.filter(|response| response.is_success()) else {
            call.negotiation.rollback();
            let later = response.map(|response| response.headers.number(HeaderName::RetryAfter));
            let mut refusal = Refusal::new(status::inside_dialog(status), "the other side refused");
            if let (500, Some(Ok(Some(later)))) = (refusal.status, later) {
                refusal = refusal.retry_after(later);
            }
            self.refuse_carried(now, call, &carried, &refusal);
            self.answered_meanwhile(now, call);
            return;
        };
        match self.agree_early(call, &carried, agreed) {
            Ok(answer) => {
                let trunk = Arc::clone(&call.leg(carried.by).trunk);
                let Carried {
                    server, request, ..
                } = *carried;
                self.accept_update(now, &trunk, server, &request, Some(answer));
                self.answered_meanwhile(now, call);
            }
            Err(refusal) => {
                // The side has taken what the other cannot use: they no longer agree.
                self.refuse_carried(now, call, &carried, &refusal);
                self.refuse_caller(now, call, refusal, None);
            }
        }
    }

    /// The answer for the side that asked.
    fn agree_early(
        &mut self,
        call: &mut Call,
        carried: &Carried,
        response: &Response,
    ) -> Result<Bytes, Refusal> {
        if is_sdp(&response.headers, &response.body) != Some(true) {
            return Err(Refusal::new(502, "the 200 bears no SDP"));
        }
        let to = carried.by.other();
        let answer = call
            .negotiation
            .answer(to, &response.body)
            .map_err(Refusal::of_other_side)?;
        self.connect_media(call)?;
        if let Some(setup) = &mut call.setup {
            let branch = &carried.branch;
            setup.refresh(carried.by, branch, &carried.request.headers);
            setup.refresh(to, branch, &response.headers);
            if let Some(fork) = fork_mut(&mut setup.forks, branch) {
                fork.is_renewed = true;
            }
        }
        Ok(answer.into())
    }

    /// The call ends before the other side has answered.
    pub(super) fn drop_carried(&mut self, now: Instant, call: &mut Call) {
        let setup = call.setup.as_mut();
        if let Some(carried) = setup.and_then(|setup| setup.carried.take()) {
            let refusal = Refusal::new(487, "the call ends");
            self.refuse_carried(now, call, &carried, &refusal);
        }
    }

    fn refuse_carried(&mut self, now: Instant, call: &Call, carried: &Carried, why: &Refusal) {
        let trunk = Arc::clone(&call.leg(carried.by).trunk);
        let response = why.response(&carried.request, "", &trunk);
        self.answer(now, &trunk, carried.server, &response);
    }
}
