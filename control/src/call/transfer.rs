//! Transfers by REFER (RFC 3515, RFC 5589), carried out here: REFER never passes to the other
//! side. The new peer is invited with an offer of what the side that stays has agreed to; when it
//! answers it takes the place of the one that asked, and the side that stays is asked again. It
//! keeps our media address. A transfer that fails leaves the call as it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use relay_user::media::{MediaError, MediaPlane, MediaPort};

use super::{
    CallState, Change, Core, EndReason, Side,
    attempt::Attempt,
    dialog::Dialog,
    headers::{MAX_FORWARDS, SDP, identify, is_sdp},
    invite::{FIRST_SEQUENCE, Refusal, unavailable},
    media,
    model::{Bye, Call, Leg, Question, Transfer},
    progress::fork_mut,
    replaces::Replaces,
    routing::{called_uri, to_destination},
    session::ask,
    timers::Due,
    trunk::Trunk,
    wire::Failure,
};
use crate::{
    config::Destination,
    sdp::{Direction, Negotiation},
    sip::{
        CSeq, Flow, Header, HeaderName, Method, NameAddress, Request, Response, SipUri, Text,
        TransactionId, Uri, reason_phrase,
    },
};

/// Seconds that a subscription to a transfer's progress lasts.
const SUBSCRIPTION: u32 = 180;
/// The longest Referred-By that is carried.
const REFERRED_BY_OCTETS: usize = 2048;

impl<M: MediaPlane> Core<M> {
    /// A REFER from a side, in order.
    pub(super) fn on_refer(
        &mut self,
        now: Instant,
        call: &mut Call,
        side: Side,
        server: TransactionId,
        request: &Request,
    ) -> Result<(), Refusal> {
        let trunk = Arc::clone(&call.leg(side).trunk);
        if !trunk.sip.takes_refer() {
            return Err(Refusal::new(405, "the trunk may not transfer"));
        }
        let exchange = call.exchange.as_deref();
        if call.state != CallState::Established
            || call.transfer.is_some()
            || exchange.is_some_and(|exchange| exchange.replacement.is_some())
        {
            return Err(Refusal::new(500, "another transfer waits").retry_after(5));
        }
        self.may_depart()?;
        if request.headers.all(HeaderName::ReferTo).count() != 1 {
            return Err(Refusal::new(400, "one Refer-To is wanted"));
        }
        let to = request
            .headers
            .address(HeaderName::ReferTo)
            .map_err(|_| Refusal::new(400, "Refer-To cannot be read"))?;
        match &to.uri {
            Uri::Sip(uri) => {
                let method = uri.parameters.get("method").unwrap_or("INVITE");
                if !method.eq_ignore_ascii_case("INVITE") {
                    return Err(Refusal::new(501, "only an INVITE can be asked for"));
                }
            }
            Uri::Tel(_) => {}
            Uri::Other(_) => return Err(Refusal::new(416, "only sip: and tel: are served")),
        }
        let named = to
            .uri
            .as_sip()
            .and_then(|uri| uri.headers.as_deref())
            .and_then(Replaces::in_uri)
            // Teams means what stands in its URI, and finds the call by itself.
            .filter(|_| !trunk.sip.is_teams());
        let mut response = Response::to_request(request, 202, None);
        response
            .headers
            .push(HeaderName::Contact, NameAddress::new(trunk.contact(None)));
        self.answer(now, &trunk, server, &response);
        self.notify(now, call.leg_mut(side), 100, false);
        let begun = match named {
            Some(replaces) => self.join(now, call, side, &replaces),
            None => self.transfer(now, call, side, &to.uri, request),
        };
        if let Err(refusal) = begun {
            self.transfer_refused(now, call, side, &refusal);
        }
        Ok(())
    }

    /// Tells the side that asked how far its transfer is (RFC 3515 §2.4.4).
    pub(super) fn notify(&mut self, now: Instant, leg: &mut Leg, status: u16, is_last: bool) {
        if leg.bye != Bye::None {
            return;
        }
        let trunk = Arc::clone(&leg.trunk);
        let Some(dialog) = &mut leg.dialog else {
            return;
        };
        let mut request = dialog.request(Method::Notify);
        let state = if is_last {
            "terminated;reason=noresource".to_owned()
        } else {
            format!("active;expires={SUBSCRIPTION}")
        };
        let headers = &mut request.headers;
        headers.push(HeaderName::Contact, NameAddress::new(trunk.contact(None)));
        headers.push(HeaderName::Event, "refer");
        headers.push(HeaderName::SubscriptionState, state);
        let body = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        let request = request.with_body("message/sipfrag;version=2.0", body);
        self.send_for_nobody(now, &trunk, dialog, request);
    }

    fn transfer_refused(&mut self, now: Instant, call: &mut Call, by: Side, refusal: &Refusal) {
        self.notify(now, call.leg_mut(by), refusal.status, true);
        let status = refusal.status;
        tracing::info!(call = call.id.0, status, why = &*refusal.why, "no transfer");
        self.event(call, Change::TransferFailed { by, status });
    }

    /// Invites whom Refer-To names.
    fn transfer(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        target: &Uri,
        refer: &Request,
    ) -> Result<(), Refusal> {
        let asking = Arc::clone(&call.leg(by).trunk);
        let number = target.user_unescaped().unwrap_or_default();
        let number = Text::from(number.split(';').next().unwrap_or_default());
        let is_verbatim = asking.sip.is_teams();
        let (trunk, fallback) = if is_verbatim {
            (asking, Vec::new())
        } else {
            let trunk = self.trunk_for_call(now, &asking.name, &number, target, None)?;
            let fallback = self.fallback(&asking.name, &number, target, &trunk);
            (trunk, fallback)
        };
        let is_emergency = self.is_emergency(&number);
        let mut places = self.places(now, &trunk, is_emergency);
        if places.is_empty() {
            self.statistics.refused(&trunk.name, "unavailable");
            return Err(unavailable(&trunk));
        }
        if !is_emergency {
            self.keep_limits_instead(now, call, by, &trunk)?;
        }
        named_first(&trunk, &mut places, target);
        let port = self.reserve(&trunk, None, None)?;
        let (negotiation, offer) = self
            .new_offer(&call.negotiation, by, &trunk, port)
            .inspect_err(|_| self.media.release(port))?;
        let referred_by = refer
            .headers
            .get(HeaderName::ReferredBy)
            .filter(|field| field.value().len() <= REFERRED_BY_OCTETS)
            .cloned();
        let patience = Duration::from_secs(self.settings.limits.ring_seconds.max(1));
        let (tag_number, tag) = self.new_tag();
        self.tags.insert(tag_number, (call.id, by));
        let remote = call.leg(by).remote;
        let place = Some(self.take_place(call, by, &trunk));
        call.transfer = Some(Box::new(Transfer {
            by,
            leg: Leg::new(trunk, self.new_sip_call_id(), remote, Some(port)),
            negotiation,
            offer,
            uri: target.clone(),
            number,
            referred_by,
            tag,
            attempt: Attempt::new(places, fallback),
            forks: Vec::new(),
            renewed: None,
            asker_is_gone: false,
            is_verbatim,
            place,
            timer: Some(self.timers.set(now + patience, call.id, Due::Transfer)),
        }));
        self.invite_new_peer(now, call);
        Ok(())
    }

    /// What a new peer in the place of a side is offered: what the other side has agreed to.
    pub(super) fn new_offer(
        &mut self,
        agreed: &Negotiation,
        by: Side,
        trunk: &Trunk,
        port: MediaPort,
    ) -> Result<(Negotiation, Bytes), Refusal> {
        let policy = media::policy(trunk, port);
        let mut negotiation = agreed.with_new_peer(by, policy, &mut self.random);
        let direction = Some(Direction::SendReceive);
        let offer = negotiation.offer_again(by, direction, &mut self.random)?;
        Ok((negotiation, offer.into()))
    }

    /// Sends the INVITE to the address whose turn it is.
    pub(super) fn invite_new_peer(&mut self, now: Instant, call: &mut Call) {
        let Some(transfer) = &call.transfer else {
            return;
        };
        let caller = match transfer.by {
            Side::B => call.from.as_ref(),
            Side::A => Some(&call.number),
        };
        let trunk = &transfer.leg.trunk;
        let Some(destination) = trunk.destinations.get(transfer.attempt.destination) else {
            self.transfer_failed(now, call, 503);
            return;
        };
        let target = to_destination(trunk, destination);
        let request = invitation(transfer, trunk, destination, caller.map(Text::as_str));
        let to = target.to_string();
        if self.send_attempt(now, call, target, request) {
            self.event(call, Change::Transferring { to });
        } else {
            tracing::info!(call = call.id.0, "no transfer: too many transactions");
            self.transfer_failed(now, call, 503);
        }
    }

    /// Whether a transaction is the INVITE to a new peer.
    pub(super) fn is_transfer(call: &Call, client: TransactionId) -> bool {
        call.transfer
            .as_ref()
            .is_some_and(|transfer| transfer.attempt.client == Some(client))
    }

    /// A response of the new peer. True when it is a 2xx that nobody wants.
    pub(super) fn on_transfer_response(
        &mut self,
        now: Instant,
        call: &mut Call,
        response: &Response,
        flow: &Flow,
    ) -> bool {
        let Some(transfer) = &mut call.transfer else {
            return response.is_success();
        };
        let by = transfer.by;
        if response.is_provisional() {
            if response.status != 100 && !transfer.attempt.cancelled {
                transfer.attempt.progressed = true;
                if !self.acknowledge_new_peer(now, transfer, response, flow) {
                    return false;
                }
                self.notify(now, call.leg_mut(by), response.status, false);
            }
            return false;
        }
        if transfer.attempt.cancelled {
            self.end_transfer(call);
            return response.is_success();
        }
        if !response.is_success() {
            self.new_peer_failed(now, call, response.status, Some(response));
            return false;
        }
        match self.hand_over(now, call, response, flow) {
            Ok(()) => false,
            Err(refusal) => {
                self.transfer_failed(now, call, refusal.status);
                true
            }
        }
    }

    /// No response of the new peer came.
    pub(super) fn on_transfer_failure(&mut self, now: Instant, call: &mut Call, failure: Failure) {
        self.new_peer_failed(now, call, failure.status(), None);
    }

    /// The INVITE failed with a status: the next address is tried, or whoever asked is told.
    fn new_peer_failed(
        &mut self,
        now: Instant,
        call: &mut Call,
        status: u16,
        response: Option<&Response>,
    ) {
        if let Some(transfer) = &mut call.transfer {
            transfer.attempt.client = None;
        }
        if !self.ask_longer(now, call, status, response)
            && !self.try_elsewhere(now, call, status, &status.to_string(), None)
        {
            self.transfer_failed(now, call, status);
        }
    }

    fn transfer_failed(&mut self, now: Instant, call: &mut Call, status: u16) {
        let Some(transfer) = &call.transfer else {
            return;
        };
        let (by, gone) = (transfer.by, transfer.asker_is_gone);
        let was_given_up = transfer.attempt.cancelled;
        self.end_transfer(call);
        if was_given_up {
            return;
        }
        let status = if status >= 300 { status } else { 500 };
        self.notify(now, call.leg_mut(by), status, true);
        self.event(call, Change::TransferFailed { by, status });
        if gone {
            // Nobody is left to give the call back to.
            self.end(now, call, EndReason::Bye(by), None);
        }
    }

    /// Gives back what a transfer held.
    fn end_transfer(&mut self, call: &mut Call) {
        if let Some(mut transfer) = call.transfer.take() {
            self.timers.clear(transfer.timer);
            self.timers.clear(transfer.attempt.silent);
            self.forget_tag(&transfer.tag);
            if let Some(port) = transfer.leg.port.take() {
                self.media.release(port);
            }
        }
    }

    /// The new peer has not answered in time, or is not wanted any more.
    pub(super) fn give_up_transfer(&mut self, now: Instant, call: &mut Call) {
        let Some(transfer) = &mut call.transfer else {
            return;
        };
        self.timers.clear(transfer.timer.take());
        self.timers.clear(transfer.attempt.silent.take());
        transfer.attempt.cancelled = true;
        drop(transfer.place.take());
        let client = transfer.attempt.client;
        let waits =
            client.is_some_and(|client| self.transactions.cancel(now, client, None).is_ok());
        let ending = call.state == CallState::Ending;
        if !ending {
            let by = call.transfer.as_ref().map(|transfer| transfer.by);
            if let Some(by) = by {
                self.notify(now, call.leg_mut(by), 408, true);
                self.event(call, Change::TransferFailed { by, status: 408 });
            }
        }
        let gone = call
            .transfer
            .as_ref()
            .filter(|transfer| transfer.asker_is_gone)
            .map(|transfer| transfer.by);
        if !waits {
            self.end_transfer(call);
        }
        if let (Some(by), false) = (gone, ending) {
            self.end(now, call, EndReason::Bye(by), None);
        }
    }

    /// The side that asked has hung up before its transfer was done: it goes on without that side
    /// (RFC 5589 §6.1). False when there is nothing to go on with.
    pub(super) fn asker_hangs_up(&mut self, now: Instant, call: &mut Call, side: Side) -> bool {
        let Some(transfer) = call
            .transfer
            .as_mut()
            .filter(|transfer| transfer.by == side && !transfer.attempt.cancelled)
        else {
            return false;
        };
        transfer.asker_is_gone = true;
        call.leg_mut(side).bye = Bye::Done;
        let accepted = self.clear_accepted(call, side);
        if call.exchange.is_none() && accepted.is_some_and(|accepted| accepted.wants_answer) {
            // What it was offered with its refresh has no answer any more.
            call.negotiation.rollback();
        }
        self.clear_session(call, side);
        self.answer_owed(call, side.other());
        if let Some(sequence) = call.leg_mut(side).owes_ack.take() {
            self.acknowledge(call, side, sequence, None);
        }
        let exchange = call.exchange.as_ref();
        let is_asked = exchange.is_some_and(|exchange| exchange.by != side);
        if is_asked && let Some(accepted) = &mut call.leg_mut(side.other()).accepted {
            // Nobody is left whose offer the ACK might answer.
            accepted.wants_answer = false;
        }
        // What one of the two has asked of the other comes to nothing; what we have asked of the side
        // that stays goes on.
        let status = match call.exchange.as_deref() {
            Some(exchange) if exchange.by != side => Some(491),
            Some(exchange) if exchange.request.is_some() => {
                if let Some(client) = exchange.client {
                    let _ = self.transactions.cancel(now, client, None);
                }
                Some(487)
            }
            _ => None,
        };
        if let Some(status) = status {
            let refusal = Refusal::new(status, "the side that asked for a transfer has hung up");
            self.refuse_reinvite(now, call, refusal);
        }
        true
    }

    /// The new peer has answered: it takes the leg over.
    fn hand_over(
        &mut self,
        now: Instant,
        call: &mut Call,
        response: &Response,
        flow: &Flow,
    ) -> Result<(), Refusal> {
        let unusable = || Refusal::new(500, "the new peer's 200 makes no dialog");
        let Some(transfer) = &mut call.transfer else {
            return Err(unusable());
        };
        let by = transfer.by;
        let outgoing = transfer.attempt.outgoing.as_ref().ok_or_else(unusable)?;
        let mut dialog = Dialog::requested(outgoing, response, flow).map_err(|_| unusable())?;
        let sequence = dialog.local_sequence;
        let tag = Text::from(dialog.remote_tag());
        let fork = fork_mut(&mut transfer.forks, &tag);
        if let Some(fork) = &fork {
            dialog.local_sequence = sequence.max(fork.sequence);
        }
        let body = match is_sdp(&response.headers, &response.body) {
            _ if transfer.renewed == Some(tag) => None,
            Some(true) => Some(response.body.clone()),
            // What another of its branches has said is no answer of this one's.
            _ => Some(
                fork.and_then(|fork| fork.sdp.clone())
                    .ok_or_else(|| Refusal::new(488, "the new peer's 200 bears no SDP"))?,
            ),
        };
        self.answer_owed(call, by.other());
        let Some(transfer) = &mut call.transfer else {
            return Err(unusable());
        };
        transfer.negotiation.adopt(by.other(), &call.negotiation);
        match body {
            Some(body) => transfer.negotiation.take_answer(by, &body)?,
            None => drop(transfer.negotiation.repeat_answer()?),
        }
        transfer.negotiation.commit()?;
        let Some(transfer) = call.transfer.take() else {
            return Err(unusable());
        };
        self.timers.clear(transfer.timer);
        self.timers.clear(transfer.attempt.silent);
        self.abandon_exchange(now, call);
        let Transfer {
            mut leg,
            mut negotiation,
            place,
            ..
        } = *transfer;
        let stays = by.other();
        if let Some(port) = call.leg(stays).port {
            // What was abandoned may have been about to give it another one.
            negotiation.relocate(stays, port);
        }
        if let Some(accepted) = &mut call.leg_mut(stays).accepted {
            // Whatever it answers to what it was offered: it is asked anew.
            accepted.wants_answer = false;
        }
        leg.remote = flow.remote;
        leg.dialog = Some(dialog);
        let mut old = std::mem::replace(call.leg_mut(by), leg);
        let before = std::mem::replace(&mut call.negotiation, negotiation);
        self.statistics_moved(&old, call, by);
        drop(place);
        self.acknowledge(call, by, sequence, None);
        self.session_answered(now, call, by, response);
        let connected = self.connect_media(call);
        self.notify(now, &mut old, 200, true);
        self.depart(now, call, by, old, before, false);
        self.event(call, Change::Transferred { by });
        self.offer_newly(now, call, by, connected, (by.other(), None));
        Ok(())
    }

    /// The side that stays has made an offer to the one that leaves, whose answer will not come any
    /// more: it gets what was agreed.
    fn answer_owed(&mut self, call: &mut Call, stays: Side) {
        if let Some(sequence) = call.leg_mut(stays).owes_ack.take() {
            let answer = call.negotiation.answer_again(stays.other());
            let answer = answer
                .and_then(|answer| call.negotiation.commit().map(|()| answer))
                .inspect_err(
                    |error| tracing::warn!(call = call.id.0, %error, "an ACK without answer"),
                )
                .ok();
            self.acknowledge(call, stays, sequence, answer.map(Bytes::from));
        }
    }

    /// A leg is another peer's: side `to` is asked to send to it, and `then` the other one.
    pub(super) fn offer_newly(
        &mut self,
        now: Instant,
        call: &mut Call,
        by: Side,
        connected: Result<(), MediaError>,
        (to, then): (Side, Option<Side>),
    ) {
        match connected {
            Ok(()) => {
                let direction = Some(Direction::SendReceive);
                self.reoffer(now, call, to, Question { direction, then });
            }
            Err(error) => {
                tracing::warn!(call = call.id.0, %error, "no media after a transfer");
                self.end(now, call, EndReason::Media(by), None);
            }
        }
    }
}

/// Puts the places first whose address or name the URI names.
fn named_first(trunk: &Trunk, places: &mut [u16], uri: &Uri) {
    let host = uri
        .as_sip()
        .map(|uri| uri.host.as_str())
        .unwrap_or_default();
    let named = |destination: &Destination| {
        destination
            .server_name
            .as_deref()
            .is_some_and(|name| name.eq_ignore_ascii_case(host))
            || destination.address.ip().to_string() == host
    };
    places.sort_by_key(|place| {
        !trunk
            .destinations
            .get(usize::from(*place))
            .is_some_and(named)
    });
}

/// The INVITE to the new peer.
fn invitation(
    transfer: &Transfer,
    trunk: &Trunk,
    destination: &Destination,
    caller: Option<&str>,
) -> Request {
    let uri: Uri = if transfer.is_verbatim {
        // Word for word: what Teams knows of the transfer stands in the parameters.
        match &transfer.uri {
            Uri::Sip(uri) => {
                let mut uri: SipUri = uri.clone();
                uri.headers = None;
                uri.into()
            }
            other => other.clone(),
        }
    } else {
        called_uri(trunk, destination, &transfer.uri).into()
    };
    let from = NameAddress::new(SipUri::new(caller, &trunk.host, None)).with_tag(&transfer.tag);
    let mut request = Request::new(Method::Invite, uri.clone());
    let headers = &mut request.headers;
    headers.push(HeaderName::MaxForwards, MAX_FORWARDS);
    headers.push(HeaderName::From, from);
    headers.push(HeaderName::To, NameAddress::new(uri));
    headers.push(HeaderName::CallId, &transfer.leg.call_id);
    headers.push(HeaderName::CSeq, CSeq::new(FIRST_SEQUENCE, Method::Invite));
    identify(&mut request, trunk);
    if let Some(field) = &transfer.referred_by {
        request
            .headers
            .push_header(Header::new(HeaderName::ReferredBy, field.value().clone()));
    }
    ask(trunk, transfer.attempt.least_session, &mut request.headers);
    request.with_body(SDP, Bytes::clone(&transfer.offer))
}
