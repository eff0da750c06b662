//! The core: what comes in, what goes out.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use relay_user::media::{CallId, MediaPlane};

use super::{
    CallEvent, CallSnapshot, CallState, Change, CoreStatistics, Discard, PeerEvent, Side,
    authentication::Authenticator,
    health::Peers,
    limits::{Places, Rates},
    location::Callbacks,
    model::Call,
    registration::Registrations,
    reliable::Unacknowledged,
    snapshot,
    timers::{Due, Timed, Timers},
    trunk::Trunk,
    wire::{Client, Merge},
};
use crate::{
    config::Settings,
    sip::{Awaited, Flow, Target, Text, TransactionId, TransactionLayer, TransactionSettings},
};

/// What the core wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message. Over UDP from `target.local`; over TCP and TLS on the connection, else on
    /// one to `target.remote`. When that fails, say so with [`Core::transport_failed`].
    Transmit { target: Target, bytes: Bytes },
    /// Log a change of a call.
    Event(CallEvent),
    /// Log that an address of a trunk went out of service or came back.
    Peer(PeerEvent),
    /// Close a connection once what waits there is written.
    Close(Flow),
}

/// Every call, and all signalling.
///
/// Give it each message ([`Core::receive`]) and the time when it asked for it ([`Core::timeout`] at
/// [`Core::next_timeout`]); after each, take the outputs with [`Core::poll`] until there is none.
pub struct Core<M> {
    pub(super) settings: Arc<Settings>,
    pub(super) trunks: Vec<Arc<Trunk>>,
    /// Which addresses of the trunks are in service.
    pub(super) peers: Peers,
    pub(super) media: M,
    pub(super) transactions: TransactionLayer,
    pub(super) calls: HashMap<CallId, Box<Call>>,
    /// Our tags, and what they belong to.
    pub(super) tags: HashMap<u64, (CallId, Side)>,
    /// What our transactions are for.
    pub(super) clients: HashMap<TransactionId, Client>,
    /// INVITEs that came in and have no final response: those that a CANCEL may stop.
    pub(super) servers: HashMap<TransactionId, (CallId, Side)>,
    /// Requests outside dialogs that are being served, to notice the same by another way.
    pub(super) merges: HashSet<Merge>,
    /// Which transaction serves each of them.
    pub(super) merging: HashMap<TransactionId, Merge>,
    pub(super) merge_key: u64,
    pub(super) callbacks: Callbacks,
    pub(super) authenticator: Authenticator,
    pub(super) registrations: Registrations,
    pub(super) rates: Rates,
    /// Reliable responses to INVITEs that are answered, by our tag in them.
    pub(super) unacknowledged: HashMap<u64, Unacknowledged>,
    /// What transfers that are under way will take.
    pub(super) places: Places,
    /// How many of the calls are legs whose place another peer has taken.
    pub(super) departing: usize,
    pub(super) timers: Timers,
    pub(super) outputs: VecDeque<Output>,
    pub(super) statistics: CoreStatistics,
    pub(super) draining: bool,
    pub(super) random: StdRng,
    last_call: u64,
}

impl<M: MediaPlane> Core<M> {
    /// A core without calls. `seed` must come from a secure source: tags, branches and SRTP keys
    /// are made from it.
    pub fn new(settings: Arc<Settings>, media: M, seed: [u8; 32]) -> Self {
        let mut random = StdRng::from_seed(seed);
        let transactions = TransactionSettings {
            timer_c: timer_c(&settings),
            ..TransactionSettings::default()
        };
        let transactions = TransactionLayer::new(transactions, random.next_u64());
        let trunks = Trunk::all(&settings);
        let merge_key = random.next_u64();
        let mut nonce_key = [0; 32];
        random.fill_bytes(&mut nonce_key);
        Self {
            peers: Peers::new(&trunks),
            trunks,
            settings,
            media,
            transactions,
            calls: HashMap::new(),
            tags: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            merges: HashSet::new(),
            merging: HashMap::new(),
            merge_key,
            callbacks: Callbacks::default(),
            authenticator: Authenticator::new(nonce_key),
            registrations: Registrations::default(),
            rates: Rates::default(),
            unacknowledged: HashMap::new(),
            places: Places::default(),
            departing: 0,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            statistics: CoreStatistics::default(),
            draining: false,
            random,
            last_call: 0,
        }
    }

    /// The next output; `None` when there is none for now.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Does what is due by now.
    pub fn timeout(&mut self, now: Instant) {
        self.transactions.timeout(now);
        self.drain_transactions(now);
        self.registrations_due(now);
        while let Some(timed) = self.timers.take(now) {
            let (id, due) = match timed {
                Timed::Call(id, due) => (id, due),
                Timed::Peer(peer) => {
                    self.peer_due(now, peer);
                    self.drain_transactions(now);
                    continue;
                }
                Timed::Prack(tag) => {
                    self.unacknowledged.remove(&tag);
                    continue;
                }
            };
            self.with_call(now, id, |core, call| match due {
                Due::NoAnswer => core.no_answer(now, call),
                Due::Silent => core.silent(now, call),
                Due::Unacknowledged(side) => core.accepted_due(now, call, side),
                Due::Retry => core.retry_reinvite(now, call),
                Due::Reoffer(to, question) => core.reoffer(now, call, to, question),
                Due::Session(side) => core.session_due(now, call, side),
                Due::Reliable => core.reliable_due(now, call),
                Due::Transfer => core.give_up_transfer(now, call),
                Due::Depart(side) => core.depart_due(now, call, side),
            });
            self.drain_transactions(now);
        }
    }

    /// When [`Core::timeout`] wants to be called next.
    #[must_use]
    pub fn next_timeout(&mut self) -> Option<Instant> {
        let times = [
            self.timers.next(),
            self.transactions.next_timeout(),
            self.registrations.next(),
        ];
        times.into_iter().flatten().min()
    }

    /// Uses new settings for calls that begin from now on. [`Core::register`] does the same for
    /// registrations.
    pub fn reconfigure(&mut self, now: Instant, settings: Arc<Settings>) {
        self.authenticator.forget_challenges();
        self.trunks = Trunk::all(&settings);
        self.transactions.set_timer_c(timer_c(&settings));
        self.settings = settings;
        self.renew_limits();
        self.renew_peers(now);
    }

    /// From now on answers each new INVITE and OPTIONS with 503 and Retry-After. Calls that are up
    /// go on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Hangs up every call.
    pub fn hang_up(&mut self, now: Instant) {
        let mut calls: Vec<CallId> = self.calls.keys().copied().collect();
        calls.sort_unstable();
        for id in calls {
            self.with_call(now, id, |core, call| core.hang_up_call(now, call));
        }
        self.drain_transactions(now);
    }

    /// The connections over which something is awaited.
    #[must_use]
    pub fn awaited(&self) -> Awaited {
        let mut awaited = self.transactions.awaited();
        let legs = self.calls.values().flat_map(|call| &call.legs);
        // The ACK of our 2xx, which has no transaction.
        for leg in legs.filter(|leg| leg.accepted.is_some()) {
            let connection = leg.dialog.as_ref().and_then(|it| it.flow.connection);
            connection.into_iter().for_each(|id| awaited.add(id));
        }
        awaited
    }

    /// How many calls there are.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call and no transaction is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.transactions.is_empty()
    }

    /// Whether no table holds anything of a call that is over.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.calls.is_empty()
            && self.tags.is_empty()
            && self.clients.is_empty()
            && self.servers.is_empty()
            && self.merges.is_empty()
            && self.merging.is_empty()
            && self.authenticator.sent.is_empty()
            && self.authenticator.invites.is_empty()
            && self.timers.of_calls() == 0
            && self.unacknowledged.is_empty()
            && self.places.len() == 0
            && self.departing == 0
    }

    /// Every call, the oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallSnapshot> {
        let mut calls = self.calls_without_streams();
        for call in &mut calls {
            call.streams = self.media.statistics(call.id);
        }
        calls
    }

    /// As [`Core::calls`], with the streams left out: those are read from the kernel, which takes
    /// a system call for each and would hold signalling up.
    #[must_use]
    pub fn calls_without_streams(&self) -> Vec<CallSnapshot> {
        let mut calls: Vec<CallSnapshot> = self
            .calls
            .values()
            .map(|call| snapshot::of(call, None))
            .collect();
        calls.sort_unstable_by_key(|call| call.id);
        calls
    }

    /// One call.
    #[must_use]
    pub fn call(&self, id: CallId) -> Option<CallSnapshot> {
        let call = self.calls.get(&id)?;
        Some(snapshot::of(call, self.media.statistics(id)))
    }

    /// Counts for metrics.
    #[must_use]
    pub fn statistics(&self) -> CoreStatistics {
        let mut statistics = self.statistics.clone();
        statistics.transactions = self.transactions.len();
        statistics.registrations = self.registrations.snapshots();
        let counters = self.transactions.counters();
        for (why, count) in [
            (Discard::StrayResponse, counters.stray_responses),
            (Discard::StrayCancel, counters.stray_cancels),
            (Discard::Overload, counters.overloaded),
        ] {
            if count > 0 {
                statistics.discards.insert(why, count);
            }
        }
        statistics
    }

    /// The media plane.
    #[must_use]
    pub const fn media(&self) -> &M {
        &self.media
    }

    pub(super) fn new_call_id(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    /// A tag of ours that nothing else has, as a number and as text.
    pub(super) fn new_tag(&mut self) -> (u64, Text) {
        let number = self.random.next_u64();
        (number, format!("{number:016x}").into())
    }

    /// A Call-ID of ours (RFC 3261 §8.1.1.4); it says nothing of us.
    pub(super) fn new_sip_call_id(&mut self) -> Text {
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        format!("{high:016x}{low:016x}").into()
    }

    /// Lets `act` work on a call, and forgets the call when that was the end of it.
    pub(super) fn with_call(
        &mut self,
        now: Instant,
        id: CallId,
        act: impl FnOnce(&mut Self, &mut Call),
    ) -> bool {
        let Some(mut call) = self.calls.remove(&id) else {
            return false;
        };
        act(self, &mut call);
        if call.is_over() {
            self.forget(now, &mut call);
        } else {
            self.calls.insert(id, call);
        }
        true
    }

    pub(super) fn forget(&mut self, _now: Instant, call: &mut Call) {
        self.release_media(call);
        self.departing = self.departing.saturating_sub(call.departs.into());
        for side in [Side::A, Side::B] {
            self.clear_accepted(call, side);
            self.clear_session(call, side);
            if let Some(dialog) = &call.leg(side).dialog {
                self.forget_tag(dialog.local_tag());
            }
        }
        self.moved(call, None);
        self.event(call, Change::Ended);
    }

    pub(super) fn forget_tag(&mut self, tag: &str) {
        if let Some(tag) = parse_tag(tag) {
            self.tags.remove(&tag);
            self.authenticator.invites.remove(&tag);
        }
    }

    /// Changes a call's state; `None` when it is forgotten.
    pub(super) fn moved(&mut self, call: &mut Call, state: Option<CallState>) {
        if state == Some(call.state) {
            return;
        }
        for leg in &call.legs {
            self.statistics
                .moved(&leg.trunk.name, Some(call.state), state);
        }
        if let Some(state) = state {
            call.state = state;
        }
    }

    pub(super) fn event(&mut self, call: &Call, change: Change) {
        let [a, b] = &call.legs;
        self.outputs.push_back(Output::Event(CallEvent {
            call: call.id,
            trunks: [Arc::clone(&a.trunk.name), Arc::clone(&b.trunk.name)],
            call_ids: [Some(a.call_id.clone()), Some(b.call_id.clone())],
            change,
        }));
    }

    /// The trunk of that name in the settings of now.
    pub(super) fn trunk_named(&self, name: &str) -> Option<Arc<Trunk>> {
        self.trunks
            .iter()
            .find(|trunk| *trunk.name == *name)
            .cloned()
    }
}

/// How long a transaction lets a call ring. It is ours to end one; this is for what slips through.
fn timer_c(settings: &Settings) -> Duration {
    let ring = Duration::from_secs(settings.limits.ring_seconds);
    let least = TransactionSettings::default().timer_c;
    least.max(ring + Duration::from_secs(5))
}

/// One of our tags as a number; `None` when it is not in our form.
pub(super) fn parse_tag(tag: &str) -> Option<u64> {
    (tag.len() == 16)
        .then(|| u64::from_str_radix(tag, 16).ok())
        .flatten()
}
