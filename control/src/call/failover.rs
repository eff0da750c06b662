//! From one address of a trunk to the next, and from one trunk to another, while nothing but 100
//! has come.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use relay_user::media::{CallId, MediaPlane, MediaPort};

use super::{
    Change, Core,
    invite::Refusal,
    model::{Call, Leg},
    status::tries_next,
    trunk::Trunk,
    wire::{Client, Failure},
};
use crate::{
    sdp::Negotiation,
    sip::{Flow, HeaderName, Response, Text, TransactionId},
};

/// The call of an INVITE that was given up for the next address: none has this number. What still
/// comes of it belongs to nobody, and a 2xx is acknowledged and ended.
pub(super) const NO_CALL: CallId = CallId(0);

impl<M: MediaPlane> Core<M> {
    /// A connection of ours to a peer was closed. What a peer has not answered with more than 100
    /// goes to the next address; without one it is waited for, since the answer may come over
    /// another connection.
    pub fn connection_closed(&mut self, now: Instant, flow: &Flow) {
        let mut waiting: Vec<CallId> = self
            .calls
            .values()
            .filter(|call| {
                let leg = call.invited();
                let client = call.attempt().and_then(|attempt| attempt.client);
                client.is_some_and(|it| self.transactions.transport(it) == Some(flow.transport))
                    && leg.remote == flow.remote
                    && leg.trunk.listen.ip() == flow.local.ip()
            })
            .map(|call| call.id)
            .collect();
        waiting.sort_unstable();
        for id in waiting {
            self.with_call(now, id, |core, call| {
                core.leave_address(now, call, Failure::Transport);
            });
        }
        self.options_closed(now, flow);
        self.drain_transactions(now);
    }

    /// An address has said nothing but 100 for as long as it may.
    pub(super) fn silent(&mut self, now: Instant, call: &mut Call) {
        if let Some(attempt) = call.attempt_mut() {
            attempt.silent = None;
        }
        self.leave_address(now, call, Failure::Timeout);
    }

    /// Gives up the INVITE that waits and sends one to the next address, if there is one.
    fn leave_address(&mut self, now: Instant, call: &mut Call, failure: Failure) {
        let Some(attempt) = call.attempt() else {
            return;
        };
        let Some(client) = attempt.client else { return };
        if attempt.cancelled || attempt.progressed {
            return;
        }
        if let Some(Client::Setup {
            trunk,
            address,
            sent,
            ..
        }) = self.clients.get(&client)
        {
            let (name, address, sent) = (Arc::clone(&trunk.name), *address, *sent);
            self.call_unanswered(now, &name, address, sent, failure);
        }
        let why = match failure {
            Failure::Timeout => "no answer",
            Failure::Transport => "a broken connection",
        };
        self.try_elsewhere(now, call, failure.status(), why, Some(client));
    }

    /// Sends the INVITE to the next address of the trunk, or else to the next trunk of the route,
    /// when a failure with that status lets it. `waits` is then given up. False when there is no
    /// other address to try.
    pub(super) fn try_elsewhere(
        &mut self,
        now: Instant,
        call: &mut Call,
        status: u16,
        why: &str,
        waits: Option<TransactionId>,
    ) -> bool {
        let Some(attempt) = call.attempt() else {
            return false;
        };
        if !tries_next(status) || attempt.progressed || attempt.cancelled {
            return false;
        }
        let left = call.invited().remote;
        if !self.take_next_address(now, call) && !self.take_next_trunk(now, call) {
            return false;
        }
        if let Some(client) = waits {
            self.abandon(now, client);
        }
        self.invite_again(now, call, format!("{why} from {left}").into());
        true
    }

    /// Lets the next address of the trunk that may be called be the one whose turn it is.
    fn take_next_address(&self, now: Instant, call: &mut Call) -> bool {
        let trunk = Arc::clone(&call.invited().trunk);
        // Then those are tried too that are out of service.
        let is_emergency = self.is_emergency(call.called());
        let Some(attempt) = call.attempt_mut() else {
            return false;
        };
        let next = attempt.others.iter().position(|&place| {
            let destination = trunk.destinations.get(usize::from(place));
            destination.is_some_and(|it| is_emergency || self.peers.takes(now, &trunk, it.address))
        });
        let next = next.and_then(|next| attempt.others.drain(..=next).next_back());
        attempt.destination = next.map_or(attempt.destination, usize::from);
        next.is_some()
    }

    /// Lets the next trunk of the route that can take the call be that of the peer.
    fn take_next_trunk(&mut self, now: Instant, call: &mut Call) -> bool {
        let is_emergency = self.is_emergency(call.called());
        let Some(attempt) = call.attempt_mut() else {
            return false;
        };
        let mut names = std::mem::take(&mut attempt.fallback).into_iter();
        if let Some(transfer) = &mut call.transfer {
            // Another trunk's is wanted instead.
            drop(transfer.place.take());
        }
        let side = call.invited_side();
        let (old, state) = (Arc::clone(&call.leg(side).trunk.name), Some(call.state));
        let found = names.by_ref().find_map(|name| {
            let trunk = self.trunk_named(&name)?;
            let places = self.places(now, &trunk, is_emergency);
            let is_in_limits = |core: &mut Self| {
                is_emergency || core.keep_limits_instead(now, call, side, &trunk).is_ok()
            };
            if places.is_empty() || !is_in_limits(self) {
                return None;
            }
            self.give_to(call, &trunk)
                .inspect_err(|refusal| {
                    tracing::info!(
                        call = call.id.0,
                        trunk = &*trunk.name,
                        why = &*refusal.why,
                        "cannot take the call"
                    );
                })
                .ok()?;
            Some(places)
        });
        if let Some(mut transfer) = call.transfer.take() {
            transfer.place = Some(self.take_place(call, side, &transfer.leg.trunk));
            call.transfer = Some(transfer);
        }
        let new = &call.leg(side).trunk.name;
        self.statistics.moved(&old, state, None);
        self.statistics.moved(new, None, state);
        match (call.attempt_mut(), found) {
            (Some(attempt), Some(places)) => {
                attempt.fallback = names.collect();
                attempt.restart(places);
                true
            }
            _ => false,
        }
    }

    /// Makes the leg of the peer that is invited one of another trunk: nothing has been told of it
    /// to anybody.
    fn give_to(&mut self, call: &mut Call, trunk: &Arc<Trunk>) -> Result<(), Refusal> {
        let port = self.reserve(trunk, None, None)?;
        let offered = match &call.transfer {
            Some(transfer) => self.new_offer(&call.negotiation, transfer.by, trunk, port),
            None => self.callee_offer(call, trunk, port),
        };
        let (negotiation, offer) = offered.inspect_err(|_| self.media.release(port))?;
        if let Some(transfer) = &mut call.transfer {
            transfer.negotiation = negotiation;
            transfer.offer = offer;
        } else if let Some(setup) = &mut call.setup {
            setup.offer = offer;
            call.negotiation = negotiation;
        }
        let leg = call.invited_mut();
        let new = Leg::new(
            Arc::clone(trunk),
            leg.call_id.clone(),
            leg.remote,
            Some(port),
        );
        if let Some(port) = std::mem::replace(leg, new).port {
            self.media.release(port);
        }
        Ok(())
    }

    /// The caller's offer as it goes to a trunk.
    fn callee_offer(
        &mut self,
        call: &Call,
        trunk: &Trunk,
        port: MediaPort,
    ) -> Result<(Negotiation, Bytes), Refusal> {
        let [a, _] = &call.legs;
        let (Some(setup), Some(port_a)) = (&call.setup, a.port) else {
            return Err(Refusal::new(500, "the call has no port"));
        };
        let body = Some(&setup.request.body).filter(|_| !setup.offerless);
        self.first_offer([&a.trunk, trunk], [port_a, port], body)
    }

    /// The peer wants a longer session timer: the INVITE goes once more, with as long a one (RFC
    /// 4028 §7.3). False when that is not what a refusal says, or has been done.
    pub(super) fn ask_longer(
        &mut self,
        now: Instant,
        call: &mut Call,
        status: u16,
        response: Option<&Response>,
    ) -> bool {
        let least = response
            .filter(|_| status == 422)
            .and_then(|response| response.headers.number(HeaderName::MinSe).ok().flatten())
            .filter(|least| *least > 0);
        let left = call.invited().remote;
        match (call.attempt_mut(), least) {
            (Some(attempt), Some(least)) if attempt.least_session == 0 && !attempt.cancelled => {
                attempt.least_session = least;
            }
            _ => return false,
        }
        self.invite_again(now, call, format!("{status} from {left}").into());
        true
    }

    /// Sends the INVITE once more, to the address whose turn it is.
    fn invite_again(&mut self, now: Instant, call: &mut Call, why: Text) {
        self.event(call, Change::Failover { why });
        // A new Call-ID keeps the attempts apart where two addresses are one host.
        call.invited_mut().call_id = self.new_sip_call_id();
        if let Some(attempt) = call.attempt_mut() {
            attempt.client = None;
        }
        if call.transfer.is_some() {
            self.invite_new_peer(now, call);
            return;
        }
        let outgoing = call.attempt().and_then(|it| it.outgoing.as_ref());
        let tag = outgoing
            .and_then(|request| request.headers.from().ok()?.tag())
            .unwrap_or_default();
        self.invite_callee(now, call, &tag);
    }

    /// Cancels an INVITE that has been given up, and takes it off its call.
    fn abandon(&mut self, now: Instant, client: TransactionId) {
        if let Some(Client::Setup { call, trunk, .. }) = self.clients.get_mut(&client) {
            tracing::debug!(trunk = &*trunk.name, call = call.0, "an INVITE is given up");
            *call = NO_CALL;
        }
        // One that has ended meanwhile has nothing to cancel.
        let _ = self.transactions.cancel(now, client, None);
    }
}
