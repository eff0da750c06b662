//! Between calls and transactions: every message comes and goes through here.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use relay_user::media::{CallId, MediaPlane};

use super::{
    Core, Discard, Output, Side,
    cause::ELSEWHERE,
    dialog::Dialog,
    failover::NO_CALL,
    health::PeerId,
    model::{Acknowledged, Call, EARLY_DIALOGS},
    routing::inside_dialog,
    statistics::Direction,
    tenant::Stranger,
    trunk::Trunk,
};
use crate::room::give_back;
use crate::sip::{
    Flow, HeaderName, Headers, Message, Method, Request, Response, Target, Text, TransactionEvent,
    TransactionId, TransactionOutput, parse_shared,
};

/// Our tag in a request on a leg, which stays the leg's own when it goes to another call.
pub(super) type OwnTag = Option<u64>;

/// What a transaction of ours is for.
#[derive(Debug)]
pub(super) enum Client {
    /// The INVITE to a peer that is new to a call, on a side.
    Setup {
        call: CallId,
        tag: OwnTag,
        trunk: Arc<Trunk>,
        /// The address of the trunk that it went to, and when.
        address: SocketAddr,
        sent: Instant,
        /// Its number.
        sequence: u32,
        /// Forks whose 2xx came too late: their tags, and our ACKs for further copies.
        dismissed: Vec<(Text, Acknowledged)>,
    },
    /// A re-INVITE to a side.
    Reinvite {
        tag: OwnTag,
        /// Its number.
        sequence: u32,
        trunk: Arc<Trunk>,
    },
    /// A BYE to a side.
    Bye {
        call: CallId,
        to: Side,
        trunk: Arc<Trunk>,
    },
    /// An UPDATE to a side that refreshes its session.
    Refresh { tag: OwnTag, trunk: Arc<Trunk> },
    /// An UPDATE of the other side, carried before the call is answered.
    Update { call: CallId, trunk: Arc<Trunk> },
    /// An INFO of the other side, carried to a side.
    Info {
        call: CallId,
        tag: OwnTag,
        trunk: Arc<Trunk>,
        server: TransactionId,
        request: Box<Request>,
        from: Arc<Trunk>,
    },
    /// Asks whether an address of a trunk is in service.
    Options { trunk: Arc<Trunk>, peer: PeerId },
    /// A REGISTER.
    Register { trunk: Arc<Trunk> },
    /// Nobody waits for the response.
    Nobody { trunk: Arc<Trunk> },
}

impl Client {
    pub(super) const fn trunk(&self) -> &Arc<Trunk> {
        match self {
            Self::Setup { trunk, .. }
            | Self::Reinvite { trunk, .. }
            | Self::Bye { trunk, .. }
            | Self::Refresh { trunk, .. }
            | Self::Update { trunk, .. }
            | Self::Info { trunk, .. }
            | Self::Options { trunk, .. }
            | Self::Register { trunk }
            | Self::Nobody { trunk } => trunk,
        }
    }

    /// The request has gone again with another number.
    pub(super) const fn renumber(&mut self, number: u32) {
        if let Self::Setup { sequence, .. } | Self::Reinvite { sequence, .. } = self {
            *sequence = number;
        }
    }
}

/// How a transaction of ours failed without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    Transport,
}

impl Failure {
    /// The status that stands for it (RFC 3261 §8.1.3.1).
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Timeout => 408,
            Self::Transport => 503,
        }
    }
}

/// A digest of what makes two requests outside dialogs the same one (RFC 3261 §8.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Merge(u64);

impl Merge {
    /// `key` makes it one that nobody outside can steer.
    pub(super) fn of(key: u64, headers: &Headers) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        (
            key,
            headers.from().ok()?.tag()?.as_str(),
            headers.call_id().ok()?.as_str(),
            headers.cseq().ok()?.number,
        )
            .hash(&mut hasher);
        Some(Self(hasher.finish()))
    }
}

impl<M: MediaPlane> Core<M> {
    /// One whole message, and the way it came.
    pub fn receive(&mut self, now: Instant, flow: &Flow, message: &Bytes) {
        let limits = self.settings.limits.message_limits();
        match parse_shared(message, &limits) {
            Err(rejection) => {
                self.statistics
                    .discard(Discard::Malformed(rejection.error.name()));
                if let Some(response) = rejection.response
                    && let Some(trunk) = self.some_trunk_of(flow)
                {
                    self.statistics
                        .response(&trunk.name, Direction::Sent, response.status);
                    self.transactions.respond_statelessly(flow, *response);
                }
            }
            Ok(Message::Request(request)) => match self.admit(flow, &request) {
                Ok(()) => self
                    .transactions
                    .receive(now, flow, Message::Request(request)),
                Err(Stranger::Source) => self.statistics.discard(Discard::UnknownSource),
                Err(Stranger::Tenant) => self.refuse_tenant(flow, &request),
            },
            // A response finds its transaction by a branch that nobody can guess, so it may come
            // from an address that is no longer configured.
            Ok(message) => self.transactions.receive(now, flow, message),
        }
        self.drain_transactions(now);
    }

    /// A message could not be sent to `target`, or its connection broke.
    pub fn transport_failed(&mut self, now: Instant, target: &Target) {
        self.transactions.transport_failed(now, target);
        self.drain_transactions(now);
    }

    pub(super) fn drain_transactions(&mut self, now: Instant) {
        while let Some(output) = self.transactions.poll() {
            match output {
                TransactionOutput::Transmit { target, bytes } => {
                    self.outputs.push_back(Output::Transmit { target, bytes });
                }
                TransactionOutput::Event(event) => self.on_event(now, event),
            }
        }
    }

    fn on_event(&mut self, now: Instant, event: TransactionEvent) {
        match event {
            TransactionEvent::Request { id, flow, request } => {
                self.on_request(now, id, request, &flow);
            }
            TransactionEvent::Ack { flow, request } => self.on_ack(now, &request, &flow),
            TransactionEvent::Cancel {
                invite, request, ..
            } => {
                if let Some((call, _)) = self.servers.get(&invite).copied() {
                    self.with_call(now, call, |core, call| {
                        core.on_cancel(now, call, invite, &request);
                    });
                }
            }
            TransactionEvent::Response { id, flow, response } => {
                self.on_response(now, id, &response, &flow);
            }
            TransactionEvent::Timeout { id } => self.on_failure(now, id, Failure::Timeout),
            TransactionEvent::TransportFailed { id } => {
                self.on_failure(now, id, Failure::Transport);
            }
            // The caller never heard our refusal; there is nobody left to tell.
            TransactionEvent::NoAck { .. } => {}
            TransactionEvent::Terminated { id } => {
                if let Some(client) = self.clients.remove(&id) {
                    self.forget_ack(&client);
                }
                self.authenticator.sent.remove(&id);
                self.servers.remove(&id);
                if let Some(merge) = self.merging.remove(&id) {
                    self.merges.remove(&merge);
                }
                give_back(&mut self.clients);
            }
        }
    }

    fn on_response(&mut self, now: Instant, id: TransactionId, response: &Response, flow: &Flow) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        self.statistics
            .response(&client.trunk().name, Direction::Received, response.status);
        self.peers.heard(now, &client.trunk().name, flow);
        if self.answer_challenge(now, id, response) {
            return;
        }
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        match *client {
            Client::Setup {
                call,
                tag,
                ref trunk,
                address,
                ..
            } => {
                let trunk = Arc::clone(trunk);
                let call = match self.place_of(tag) {
                    Some((of_now, _)) if call != NO_CALL => of_now,
                    _ => call,
                };
                self.call_answered(now, &trunk, address, response);
                self.close_refused(&trunk, response, flow);
                let mut unwanted = response.is_success();
                self.with_call(now, call, |core, call| {
                    unwanted = core.on_setup_response(now, call, id, response, flow);
                });
                if unwanted {
                    let answered = self
                        .calls
                        .get(&call)
                        .is_some_and(|call| call.answered.is_some());
                    self.dismiss(now, id, response, flow, answered);
                }
            }
            Client::Reinvite { tag, .. } => {
                let known = self.with_leg(now, tag, |core, call, to| {
                    core.on_reinvite_response(now, call, id, to, response, flow);
                });
                if !known && response.is_success() {
                    self.acknowledge_orphan(id, response, flow);
                }
            }
            _ if response.is_provisional() => {}
            Client::Bye { call, to, .. } => {
                self.with_call(now, call, |_, call| call.bye_is_over(to));
            }
            Client::Refresh { tag, .. } => {
                self.with_leg(now, tag, |core, call, to| {
                    core.on_refreshed(now, call, to, response.status, Some(response));
                });
            }
            Client::Update { call, .. } => {
                self.with_call(now, call, |core, call| {
                    core.on_carried(now, call, id, response.status, Some(response));
                });
            }
            Client::Info { .. } => {
                if let Some(client) = self.clients.remove(&id) {
                    self.on_info_answer(now, client, response.status, Some(response));
                }
            }
            Client::Options { ref trunk, peer } => {
                let trunk = Arc::clone(trunk);
                self.on_options_answer(now, id, peer, response);
                self.close_refused(&trunk, response, flow);
            }
            Client::Register { .. } => self.on_registered(now, id, response),
            Client::Nobody { .. } => {}
        }
    }

    fn on_failure(&mut self, now: Instant, id: TransactionId, failure: Failure) {
        match self.clients.get(&id) {
            Some(&Client::Setup {
                call,
                ref trunk,
                address,
                sent,
                ..
            }) => {
                let name = Arc::clone(&trunk.name);
                // One that was given up has told already what it found.
                if call != NO_CALL {
                    self.call_unanswered(now, &name, address, sent, failure);
                }
                self.with_call(now, call, |core, call| {
                    core.on_setup_failure(now, call, id, failure);
                });
            }
            Some(&Client::Reinvite { tag, .. }) => {
                self.with_leg(now, tag, |core, call, to| {
                    core.on_reinvite_failure(now, call, id, to, failure);
                });
            }
            Some(&Client::Bye { call, to, .. }) => {
                self.with_call(now, call, |_, call| call.bye_is_over(to));
            }
            Some(&Client::Refresh { tag, .. }) => {
                self.with_leg(now, tag, |core, call, to| {
                    core.on_refreshed(now, call, to, failure.status(), None);
                });
            }
            Some(&Client::Update { call, .. }) => {
                self.with_call(now, call, |core, call| {
                    core.on_carried(now, call, id, failure.status(), None);
                });
            }
            Some(Client::Info { .. }) => {
                if let Some(client) = self.clients.remove(&id) {
                    self.on_info_answer(now, client, failure.status(), None);
                }
            }
            Some(&Client::Options { peer, .. }) => {
                self.on_options_failure(now, id, peer, failure);
            }
            Some(Client::Register { .. }) => {
                self.registration_failed(now, id, failure.status(), None);
            }
            Some(Client::Nobody { .. }) | None => {}
        }
    }

    /// With the transaction of an INVITE, copies of its 2xx end too, and nobody wants our ACK again.
    fn forget_ack(&mut self, client: &Client) {
        let (tag, number) = match *client {
            Client::Setup { tag, sequence, .. } | Client::Reinvite { tag, sequence, .. } => {
                (tag, sequence)
            }
            _ => return,
        };
        if let Some((call, side)) = self.place_of(tag)
            && let Some(call) = self.calls.get_mut(&call)
        {
            let leg = call.leg_mut(side);
            leg.acknowledged.take_if(|ack| ack.sequence == number);
        }
    }

    /// The call that a transaction of ours belongs to now.
    pub(super) fn call_of(&self, client: &Client) -> Option<CallId> {
        match *client {
            Client::Setup { call, .. }
            | Client::Bye { call, .. }
            | Client::Update { call, .. }
            | Client::Info { call, .. } => Some(call),
            Client::Reinvite { tag, .. } | Client::Refresh { tag, .. } => {
                self.place_of(tag).map(|(call, _)| call)
            }
            Client::Options { .. } | Client::Register { .. } | Client::Nobody { .. } => None,
        }
    }

    /// The call and the side of the leg with that tag of ours.
    fn place_of(&self, tag: OwnTag) -> Option<(CallId, Side)> {
        self.tags.get(&tag?).copied()
    }

    /// Does something with the call that the leg with that tag is in now, if there is one.
    pub(super) fn with_leg(
        &mut self,
        now: Instant,
        tag: OwnTag,
        act: impl FnOnce(&mut Self, &mut Call, Side),
    ) -> bool {
        self.place_of(tag).is_some_and(|(call, side)| {
            self.with_call(now, call, |core, call| act(core, call, side))
        })
    }

    /// Sends a request in a transaction. `None` when there are too many.
    pub(super) fn send(
        &mut self,
        now: Instant,
        trunk: &Trunk,
        target: Target,
        request: Request,
        client: Client,
    ) -> Option<TransactionId> {
        let id = self.transmit(now, trunk, target, request)?;
        self.clients.insert(id, client);
        Some(id)
    }

    /// As [`Core::send`], without saying what the transaction is for.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        trunk: &Trunk,
        target: Target,
        mut request: Request,
    ) -> Option<TransactionId> {
        self.authorise(trunk, &mut request);
        let kept = trunk
            .credentials
            .is_some()
            .then(|| (request.clone(), target.clone()));
        let sent = if trunk.sip.large_by_tcp {
            self.transactions
                .request_by_size(now, target, &trunk.sent_by, request)
        } else {
            self.transactions
                .request(now, target, &trunk.sent_by, request)
        };
        let id = sent
            .inspect_err(|error| tracing::warn!(trunk = &*trunk.name, %error, "not sent"))
            .ok()?;
        if let Some((request, target)) = kept {
            self.keep_sent(id, request, target);
        }
        Some(id)
    }

    /// Answers a request.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        trunk: &Trunk,
        server: TransactionId,
        response: &Response,
    ) {
        self.statistics
            .response(&trunk.name, Direction::Sent, response.status);
        if response.status >= 200 {
            self.servers.remove(&server);
        }
        // A transaction that is over has nobody who waits for its response.
        let _ = self.transactions.respond(now, server, response);
    }

    /// Sends the ACK of a 2xx, and keeps it for further copies of the 2xx.
    pub(super) fn send_ack(
        &mut self,
        trunk: &Trunk,
        dialog: &Dialog,
        sequence: u32,
        body: Option<Bytes>,
    ) -> Acknowledged {
        let mut ack = dialog.request_numbered(Method::Ack, sequence);
        if let Some(body) = body {
            ack = ack.with_body(super::headers::SDP, body);
        }
        self.authorise_ack(&mut ack);
        let target = inside_dialog(trunk, &dialog.first_hop(), &dialog.flow);
        let bytes = self
            .transactions
            .acknowledge(target.clone(), &trunk.sent_by, ack);
        Acknowledged {
            sequence,
            target,
            bytes,
        }
    }

    /// Acknowledges a 2xx that nobody wants and ends its dialog: a fork that lost, or an answer
    /// that crossed with our CANCEL (RFC 3261 §13.2.2.4).
    /// `elsewhere`: another has answered.
    pub(super) fn dismiss(
        &mut self,
        now: Instant,
        id: TransactionId,
        response: &Response,
        flow: &Flow,
        elsewhere: bool,
    ) {
        let tag = response
            .headers
            .to()
            .ok()
            .and_then(|to| to.tag())
            .unwrap_or_default();
        let Some(Client::Setup {
            trunk, dismissed, ..
        }) = self.clients.get(&id)
        else {
            return;
        };
        if let Some((_, ack)) = dismissed.iter().find(|(known, _)| *known == tag) {
            self.transactions
                .transmit(ack.target.clone(), ack.bytes.clone());
            return;
        }
        if dismissed.len() >= EARLY_DIALOGS {
            return;
        }
        let trunk = Arc::clone(trunk);
        let Some((mut dialog, sequence)) = dialog_of(response, flow) else {
            return;
        };
        let ack = self.send_ack(&trunk, &dialog, sequence, None);
        if let Some(Client::Setup { dismissed, .. }) = self.clients.get_mut(&id) {
            dismissed.push((tag, ack));
        }
        let mut bye = dialog.request(Method::Bye);
        if elsewhere {
            bye.headers.push(HeaderName::Reason, ELSEWHERE);
        }
        self.send_for_nobody(now, &trunk, &dialog, bye);
    }

    /// Sends a request inside a dialog whose answer nobody waits for.
    pub(super) fn send_for_nobody(
        &mut self,
        now: Instant,
        trunk: &Arc<Trunk>,
        dialog: &Dialog,
        request: Request,
    ) {
        let target = inside_dialog(trunk, &dialog.first_hop(), &dialog.flow);
        let client = Client::Nobody {
            trunk: Arc::clone(trunk),
        };
        self.send(now, trunk, target, request, client);
    }

    /// Acknowledges the 2xx to a re-INVITE whose call is over: its BYE was answered first.
    fn acknowledge_orphan(&mut self, id: TransactionId, response: &Response, flow: &Flow) {
        let Some(trunk) = self
            .clients
            .get(&id)
            .map(|client| Arc::clone(client.trunk()))
        else {
            return;
        };
        if let Some((dialog, sequence)) = dialog_of(response, flow) {
            self.send_ack(&trunk, &dialog, sequence, None);
        }
    }

    /// Sends an ACK of a side again when a 2xx is a copy of one that was acknowledged.
    pub(super) fn repeat_ack(&mut self, call: &Call, side: Side, response: &Response) -> bool {
        let leg = call.leg(side);
        let Some(dialog) = &leg.dialog else {
            return false;
        };
        let tag = response.headers.to().ok().and_then(|to| to.tag());
        let sequence = response.headers.cseq().ok().map(|cseq| cseq.number);
        if tag.unwrap_or_default() != dialog.remote_tag() {
            return false;
        }
        if let (Some(ack), Some(sequence)) = (&leg.acknowledged, sequence) {
            if ack.sequence == sequence {
                self.transactions
                    .transmit(ack.target.clone(), ack.bytes.clone());
            } else if sequence < ack.sequence {
                // Of those before the last one no ACK is kept.
                self.send_ack(&leg.trunk, dialog, sequence, None);
            }
        }
        true
    }
}

/// The dialog that a 2xx to an INVITE of ours makes, from the response alone.
fn dialog_of(response: &Response, flow: &Flow) -> Option<(Dialog, u32)> {
    let mut request = Request::new(Method::Invite, response.headers.to().ok()?.uri);
    for name in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        request
            .headers
            .push_header(response.headers.get(name)?.clone());
    }
    let dialog = Dialog::requested(&request, response, flow).ok()?;
    let sequence = dialog.local_sequence;
    Some((dialog, sequence))
}
