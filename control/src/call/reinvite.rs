//! Re-INVITEs: hold, resume, other codecs and addresses (RFC 3261 §14).
//!
//! One at a time is carried from a side to the other. Until it has succeeded the call is as it
//! was. When the other side answers 491, its own re-INVITE crossed with ours: we ask again after
//! the pause of §14.1, which depends on who made the Call-ID, so that the two do not meet again; who
//! comes back in that pause has its turn. What only refreshes a session waits for nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::Rng;
use relay_user::media::MediaPlane;

use super::{
    CallState, Core, Side,
    authentication::own_tag,
    headers::{SDP, identify, is_sdp, no_reliable},
    invite::Refusal,
    model::{Asked, Bye, Call, Exchange, Leg, Question, Replacement},
    routing::inside_dialog,
    session::terms,
    timers::Due,
    wire::Client,
};
use crate::{
    sdp::Direction,
    sip::{HeaderName, Method, Request, TransactionId},
};

/// How long after something else was in the way a side is asked again.
const BUSY: Duration = Duration::from_millis(500);

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
            && exchange.is_asked_by(side)
        {
            // RFC 3261 §14.2: a second one before the answer to the first.
            let pause = self.random.random_range(1..=10);
            return Err(Refusal::new(500, "another re-INVITE waits").retry_after(pause));
        }
        self.give_way(now, call, side);
        if let Err(busy) = self.is_quiet(call) {
            return match self.refresh_alone(now, call, side, server, request)? {
                true => Ok(()),
                false => Err(busy),
            };
        }
        let trunk = Arc::clone(&call.leg(side).trunk);
        // What holds of them is said in the 2xx, and not before.
        terms(&trunk, request)?;
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
        self.carry_offer(now, call, side, Some((server, request)), body, None);
        if let Some(exchange) = &mut call.exchange {
            exchange.old_port = old_port;
        } else if let Some(port) = old_port {
            self.move_back(call, side, port);
        }
        Ok(())
    }

    /// A side that has answered 491, and does not wait as long as we do, has its turn now. Whoever
    /// asked is told the same and asks again by itself, and so do we.
    fn give_way(&mut self, now: Instant, call: &mut Call, side: Side) {
        let waits = call.exchange.as_ref().filter(|exchange| {
            exchange.by != side && exchange.retry.is_some() && exchange.replacement.is_none()
        });
        let Some(exchange) = waits else { return };
        if exchange.request.is_none() {
            let due = Due::Reoffer(side, exchange.question);
            self.timers.set(now + BUSY, call.id, due);
        }
        let refusal = Refusal::new(491, "the other side's re-INVITE comes first");
        self.refuse_reinvite(now, call, refusal);
    }

    /// Whether nothing is on its way that another offer would cross.
    pub(super) fn is_quiet(&self, call: &Call) -> Result<(), Refusal> {
        self.may_ask(call)?;
        no_transfer(call)
    }

    /// As [`Core::is_quiet`], where an INVITE of ours may be open that nobody waits for any more: a
    /// side that has not answered it is asked by [`Core::reoffer`] when it has ended.
    pub(super) fn may_join(&self, call: &Call) -> Result<(), Refusal> {
        no_transfer(call)?;
        self.is_acknowledged(call)
    }

    /// As [`Core::is_quiet`], for an offer of ours, which says nothing that a transfer changes.
    fn may_ask(&self, call: &Call) -> Result<(), Refusal> {
        let is_asked = |leg: &Leg| leg.asked.is_some() && leg.bye == Bye::None;
        if call.exchange.is_none() && call.legs.iter().any(is_asked) {
            return Err(Refusal::new(491, "an INVITE is not answered yet"));
        }
        self.is_acknowledged(call)
    }

    /// Whether whatever was agreed to is acknowledged, and nothing else is asked.
    fn is_acknowledged(&self, call: &Call) -> Result<(), Refusal> {
        if call.exchange.is_some() {
            return Err(Refusal::new(491, "the other side's re-INVITE waits"));
        }
        if call.setup.is_some()
            || [Side::A, Side::B].into_iter().any(|side| {
                let leg = call.leg(side);
                let is_gone = leg.bye != Bye::None && !call.is_being_replaced(side);
                leg.accepted.is_some() || leg.owes_ack.is_some() || is_gone
            })
            || call.negotiation.pending().is_some()
        {
            return Err(Refusal::new(491, "an INVITE is not acknowledged yet"));
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
            question: Question::default(),
        }));
        if let Some((server, _)) = asked {
            self.servers.insert(server, (call.id, by));
        }
        self.ask(now, call);
    }

    /// Asks a side by ourselves, in the name of the other: to refresh its session, or because
    /// another peer stands behind it now.
    pub(super) fn reoffer(&mut self, now: Instant, call: &mut Call, to: Side, question: Question) {
        if call.state != CallState::Established || call.leg(to).bye != Bye::None {
            return;
        }
        if call.exchange.is_none()
            && let Some(asked) = &mut call.leg_mut(to).asked
        {
            // Whoever wanted to know is gone.
            let _ = self.transactions.cancel(now, asked.client, None);
            let next = asked.next.get_or_insert_default();
            next.direction = question.direction.or(next.direction);
            next.then = question.then.or(next.then);
            return;
        }
        // A refresh does not wait for a transfer: that may ring for longer than the session lasts.
        if self.may_ask(call).is_err() {
            self.timers
                .set(now + BUSY, call.id, Due::Reoffer(to, question));
            return;
        }
        match call
            .negotiation
            .offer_again(to, question.direction, &mut self.random)
        {
            Ok(offer) => {
                self.carry_offer(now, call, to.other(), None, offer.into(), None);
                if let Some(exchange) = &mut call.exchange {
                    exchange.question = question;
                }
            }
            Err(error) => {
                tracing::warn!(call = call.id.0, %error, "a side cannot be asked again");
            }
        }
    }

    /// The body of the 2xx or of the ACK is what we made, so that its answer goes nowhere.
    pub(super) fn is_made(exchange: &Exchange) -> bool {
        exchange.request.is_none() || exchange.offerless && !exchange.offer.is_empty()
    }

    /// Sends the re-INVITE onward.
    fn ask(&mut self, now: Instant, call: &mut Call) {
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
        no_reliable(&mut request);
        Self::repeat_session(call, to, &mut request.headers);
        if !offer.is_empty() {
            request = request.with_body(SDP, offer);
        }
        let client = Client::Reinvite {
            tag: own_tag(&request),
            sequence,
            trunk: Arc::clone(&trunk),
        };
        let client = self.send(now, &trunk, target, request, client);
        call.leg_mut(to).asked = client.map(|client| Box::new(Asked { client, next: None }));
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
}

/// Whether a re-INVITE refreshes the target of its dialog (RFC 3261 §12.2.2).
pub(super) fn refreshes_target(request: &Request) -> bool {
    matches!(request.method, Method::Invite | Method::Update)
        && request.headers.has(HeaderName::Contact)
}

fn no_transfer(call: &Call) -> Result<(), Refusal> {
    match call.transfer {
        Some(_) => Err(Refusal::new(491, "a transfer waits")),
        None => Ok(()),
    }
}
