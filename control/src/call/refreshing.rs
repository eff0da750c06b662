//! Re-INVITEs that refresh a session (RFC 4028) and change nothing, while something else of the call
//! is on its way: a transfer may ring for longer than a session lasts.
//!
//! The other side is not asked: the answer is what was agreed. What changes something has to wait.

use std::time::Instant;

use relay_user::media::MediaPlane;

use super::{
    CallState, Core, Side,
    headers::is_sdp,
    invite::Refusal,
    model::{Bye, Call},
    session::terms,
};
use crate::{
    sdp::Negotiation,
    sip::{Request, TransactionId},
};

impl Call {
    /// What held on the leg of a side before another peer wanted to take it over, if one does.
    fn before(&mut self, side: Side) -> Option<&mut Negotiation> {
        let exchange = self.exchange.as_mut();
        let replacement = exchange.filter(|exchange| exchange.by == side)?;
        Some(&mut replacement.replacement.as_mut()?.before)
    }

    /// Whether no INVITE is on its way on the leg of a side, in either direction (RFC 3261 §14).
    fn is_free(&self, side: Side) -> bool {
        let leg = self.leg(side);
        self.state == CallState::Established
            && leg.dialog.is_some()
            && leg.accepted.is_none()
            && leg.owes_ack.is_none()
            && leg.bye == Bye::None
            && leg.asked.is_none()
    }
}

impl<M: MediaPlane> Core<M> {
    /// Answers a re-INVITE, or UPDATE, that changes nothing. False when it has to wait for what is
    /// on its way.
    pub(super) fn refresh_alone(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<bool, Refusal> {
        if !call.is_free(side) {
            return Ok(false);
        }
        let refused = terms(&call.leg(side).trunk, request).err();
        let asks = call.exchange.is_some();
        let kind = is_sdp(&request.headers, &request.body);
        let (held, is_alone) = match call.before(side) {
            Some(before) => (before, true),
            None => (&mut call.negotiation, !asks),
        };
        let random = &mut self.random;
        let body = match (kind, refused) {
            (Some(true), None) => held.answer_unchanged(side, &request.body, random),
            // Its answer comes with the ACK.
            (None, None) if is_alone => held.offer_again(side, None, random),
            (_, Some(refusal)) => return Err(refusal),
            _ => return Ok(false),
        };
        let Ok(body) = body else {
            return Ok(false);
        };
        let offerless = kind.is_none();
        let asked = (server, request);
        self.tell_agreement(now, call, side, asked, None, body.into(), offerless);
        Ok(true)
    }

    /// A peer whose place another one wants answers what it was offered with its refresh. True when
    /// that was so.
    pub(super) fn on_answer_of_replaced(
        &mut self,
        call: &mut Call,
        side: Side,
        request: &Request,
    ) -> bool {
        let id = call.id;
        let Some(held) = call.before(side) else {
            return false;
        };
        let taken = held
            .take_answer(side, &request.body)
            .and_then(|()| held.commit());
        if let Err(error) = taken {
            tracing::warn!(call = id.0, %error, "unusable ACK");
            held.rollback();
            return true;
        }
        let media = held.media();
        if let Err(error) = self.connect(call, media) {
            tracing::warn!(call = call.id.0, %error, "the media stays as it was");
        }
        true
    }
}
