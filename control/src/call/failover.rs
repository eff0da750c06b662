//! From one address of a trunk to the next, and from one trunk to another, while nothing but 100
//! has come.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use relay_user::media::{CallId, MediaPlane};

use super::{
    Change, Core, Side,
    invite::Refusal,
    model::{Call, Leg, Setup},
    selection::order,
    status::tries_next,
    trunk::Trunk,
    wire::{Client, Failure},
};
use crate::sip::{Flow, TransactionId};

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
                let leg = call.leg(Side::B);
                call.setup.is_some()
                    && leg.remote == flow.remote
                    && leg.trunk.listen.ip() == flow.local.ip()
                    && leg.trunk.speaks(flow.transport)
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
        if let Some(setup) = &mut call.setup {
            setup.silent = None;
        }
        self.leave_address(now, call, Failure::Timeout);
    }

    /// Gives up the INVITE that waits and sends one to the next address, if there is one.
    fn leave_address(&mut self, now: Instant, call: &mut Call, failure: Failure) {
        let Some(setup) = &call.setup else { return };
        let Some(client) = setup.client else { return };
        if setup.cancelled || setup.progressed {
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
        let left = call.leg(Side::B).remote;
        if self.may_try_next(now, call, failure.status()) {
            self.abandon(now, client);
            self.try_next(now, call, why);
        } else if self.take_next_trunk(now, call, failure.status()) {
            self.abandon(now, client);
            self.invite_elsewhere(now, call, why, left);
        }
    }

    /// Sends the INVITE to the next trunk of the route, which has been found, after `left`.
    pub(super) fn invite_elsewhere(
        &mut self,
        now: Instant,
        call: &mut Call,
        why: &str,
        left: SocketAddr,
    ) {
        let why = format!("{why} from {left}").into();
        self.event(call, Change::Failover { why });
        self.invite_again(now, call);
    }

    /// Lets the next trunk of the route that can take the call be the callee's, when a failure with
    /// that status lets it.
    pub(super) fn take_next_trunk(&mut self, now: Instant, call: &mut Call, status: u16) -> bool {
        let Some(setup) = &mut call.setup else {
            return false;
        };
        if !tries_next(status) || setup.progressed || setup.cancelled {
            return false;
        }
        let mut names = std::mem::take(&mut setup.fallback).into_iter();
        let is_emergency = self.is_emergency(&call.number);
        let (old, state) = (Arc::clone(&call.leg(Side::B).trunk.name), Some(call.state));
        self.statistics.moved(&old, state, None);
        let found = names.by_ref().find_map(|name| {
            let trunk = self.trunk_named(&name)?;
            let mut places = self.peers.candidates(now, &trunk, &mut self.random);
            if places.is_empty() && is_emergency {
                places = order(&trunk.destinations, &mut self.random);
            }
            let is_in_limits =
                |core: &mut Self| is_emergency || core.keep_limits(now, &trunk, &trunk).is_ok();
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
        let trunk = Arc::clone(&call.leg(Side::B).trunk);
        self.statistics.moved(&trunk.name, None, state);
        let mut places = found.unwrap_or_default().into_iter();
        match (&mut call.setup, places.next()) {
            (Some(setup), Some(first)) => {
                setup.fallback = names.collect();
                setup.destination = first.into();
                setup.others = places.collect();
                setup.least_session = 0;
                true
            }
            _ => false,
        }
    }

    /// Makes the callee's leg one of another trunk: nothing has been told of it to anybody.
    fn give_to(&mut self, call: &mut Call, trunk: &Arc<Trunk>) -> Result<(), Refusal> {
        let [a, b] = &mut call.legs;
        let (Some(setup), Some(port_a)) = (&mut call.setup, a.port) else {
            return Err(Refusal::new(500, "the call has no port"));
        };
        let port = self.reserve(trunk, None, None)?;
        let body = Some(&setup.request.body).filter(|_| !setup.offerless);
        let (negotiation, offer) = self
            .first_offer([&a.trunk, trunk], [port_a, port], body)
            .inspect_err(|_| self.media.release(port))?;
        setup.offer = offer;
        call.negotiation = negotiation;
        let leg = Leg::new(Arc::clone(trunk), b.call_id.clone(), b.remote, Some(port));
        if let Some(port) = std::mem::replace(b, leg).port {
            self.media.release(port);
        }
        Ok(())
    }

    /// Whether a failure with that status lets the next address be tried.
    pub(super) fn may_try_next(&self, now: Instant, call: &Call, status: u16) -> bool {
        call.setup.as_ref().is_some_and(|setup| {
            tries_next(status) && !setup.progressed && self.next_place(now, call, setup).is_some()
        })
    }

    /// Where in the list of addresses that are left the next one stands that may be called.
    fn next_place(&self, now: Instant, call: &Call, setup: &Setup) -> Option<usize> {
        let trunk = &call.leg(Side::B).trunk;
        // Then those are tried too that are out of service.
        let is_emergency = self.is_emergency(&call.number);
        setup.others.iter().position(|&place| {
            let destination = trunk.destinations.get(usize::from(place));
            destination.is_some_and(|it| is_emergency || self.peers.takes(now, trunk, it.address))
        })
    }

    /// Sends the INVITE to the next address.
    pub(super) fn try_next(&mut self, now: Instant, call: &mut Call, why: &str) {
        let next = call
            .setup
            .as_ref()
            .and_then(|setup| self.next_place(now, call, setup));
        if let (Some(setup), Some(next)) = (&mut call.setup, next) {
            let next = setup.others.drain(..=next).next_back();
            setup.destination = next.map_or(setup.destination, usize::from);
            let why = format!("{why} from {}", call.leg(Side::B).remote).into();
            self.event(call, Change::Failover { why });
            self.invite_again(now, call);
        }
    }

    /// Sends the INVITE once more, to the address whose turn it is.
    pub(super) fn invite_again(&mut self, now: Instant, call: &mut Call) {
        let Some(setup) = &mut call.setup else { return };
        setup.client = None;
        let tag = setup
            .outgoing
            .as_ref()
            .and_then(|request| request.headers.from().ok()?.tag())
            .unwrap_or_default();
        // A new Call-ID keeps the attempts apart where two addresses are one host.
        call.leg_mut(Side::B).call_id = self.new_sip_call_id();
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
