//! An INVITE of ours that nobody has answered yet: which addresses it has left to go to, and how it
//! is sent to one.

use std::{sync::Arc, time::Instant};

use relay_user::media::MediaPlane;

use super::{
    Core, Side,
    authentication::own_tag,
    invite::FIRST_SEQUENCE,
    model::{Call, Leg},
    selection::order,
    timers::{Due, TimerKey},
    trunk::Trunk,
    wire::Client,
};
use crate::sip::{Request, Target, TransactionId};

/// Our INVITE to a peer that is new to a call, as it goes from one address to the next.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Its transaction; `None` while there is none.
    pub(super) client: Option<TransactionId>,
    pub(super) outgoing: Option<Request>,
    /// The place of the trunk's address that is being tried.
    pub(super) destination: usize,
    /// The places of those that may be tried after it, in order.
    pub(super) others: Vec<u16>,
    /// The trunks that may be tried when none of those serves the call, in order.
    pub(super) fallback: Vec<Arc<str>>,
    /// The session timer that the peer has asked for by 422, in seconds.
    pub(super) least_session: u32,
    /// A provisional other than 100 has come: no other address may be tried.
    pub(super) progressed: bool,
    /// Nobody wants an answer any more; what still comes of it is ended.
    pub(super) cancelled: bool,
    /// Until the address that is being tried must have said more than 100.
    pub(super) silent: Option<TimerKey>,
}

impl Attempt {
    /// To the first of some places, and then to the others.
    pub(super) fn new(places: Vec<u16>, fallback: Vec<Arc<str>>) -> Self {
        let mut attempt = Self {
            fallback,
            ..Self::default()
        };
        attempt.restart(places);
        attempt
    }

    /// Other places: those of another trunk.
    pub(super) fn restart(&mut self, places: Vec<u16>) {
        let mut places = places.into_iter();
        self.destination = places.next().unwrap_or_default().into();
        self.others = places.collect();
        self.least_session = 0;
    }
}

impl Call {
    /// The INVITE that makes the call, or that of a transfer: there are never both.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        match (&self.setup, &self.transfer) {
            (Some(setup), _) => Some(&setup.attempt),
            (None, Some(transfer)) => Some(&transfer.attempt),
            (None, None) => None,
        }
    }

    pub(super) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match (&mut self.setup, &mut self.transfer) {
            (Some(setup), _) => Some(&mut setup.attempt),
            (None, Some(transfer)) => Some(&mut transfer.attempt),
            (None, None) => None,
        }
    }

    /// Whether a transaction is that INVITE, and its answer is wanted.
    pub(super) fn awaits(&self, client: TransactionId) -> bool {
        self.attempt()
            .is_some_and(|attempt| attempt.client == Some(client) && !attempt.cancelled)
    }

    /// The side of the peer that is invited.
    pub(super) fn invited_side(&self) -> Side {
        self.transfer
            .as_ref()
            .map_or(Side::B, |transfer| transfer.by)
    }

    /// The leg of the peer that is invited.
    pub(super) fn invited(&self) -> &Leg {
        match &self.transfer {
            Some(transfer) => &transfer.leg,
            None => self.leg(Side::B),
        }
    }

    pub(super) fn invited_mut(&mut self) -> &mut Leg {
        let [_, callee] = &mut self.legs;
        match &mut self.transfer {
            Some(transfer) => &mut transfer.leg,
            None => callee,
        }
    }

    /// The number that is called.
    pub(super) fn called(&self) -> &str {
        match &self.transfer {
            Some(transfer) => &transfer.number,
            None => &self.number,
        }
    }
}

impl<M: MediaPlane> Core<M> {
    /// The places of the addresses of a trunk that a call may try, in order.
    pub(super) fn places(&mut self, now: Instant, trunk: &Trunk, is_emergency: bool) -> Vec<u16> {
        let places = self.peers.candidates(now, trunk, &mut self.random);
        if places.is_empty() && is_emergency {
            // Somebody may be there after all.
            return order(&trunk.destinations, &mut self.random);
        }
        places
    }

    /// Sends the INVITE to an address. False when there are too many transactions.
    pub(super) fn send_attempt(
        &mut self,
        now: Instant,
        call: &mut Call,
        target: Target,
        request: Request,
    ) -> bool {
        let id = call.id;
        let leg = call.invited_mut();
        leg.remote = target.remote;
        let trunk = Arc::clone(&leg.trunk);
        let client = Client::Setup {
            call: id,
            tag: own_tag(&request),
            trunk: Arc::clone(&trunk),
            address: target.remote,
            sent: now,
            sequence: FIRST_SEQUENCE,
            dismissed: Vec::new(),
        };
        let outgoing = request.clone();
        let client = self.send(now, &trunk, target, request, client);
        let Some(attempt) = call.attempt_mut() else {
            return false;
        };
        attempt.outgoing = Some(outgoing);
        attempt.client = client;
        self.timers.clear(attempt.silent.take());
        if client.is_some() && !(attempt.others.is_empty() && attempt.fallback.is_empty()) {
            attempt.silent = trunk
                .sip
                .answer_within()
                .map(|within| self.timers.set(now + within, id, Due::Silent));
        }
        client.is_some()
    }
}
