//! The transaction layer (RFC 3261 §17 with RFC 6026), without input or output.
//!
//! Messages, the time and orders go in; octets to send and events come out of
//! [`TransactionLayer::poll`]. The layer absorbs what is sent again, sends again what was lost,
//! answers an INVITE with 100 and a CANCEL by itself, and acknowledges refusals. What it holds is
//! bounded by [`TransactionSettings::transactions`].

mod awaited;
mod client;
mod event;
mod server;
mod slots;
mod success;
mod timer;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};

use self::{
    server::ServerKey,
    slots::{Kind, Role, Slots, State},
};
use super::{Flow, HeaderName, Message, Response, Target, Text, Via};
use crate::room::give_back;

pub use awaited::Awaited;
pub use event::{
    TransactionCounters, TransactionError, TransactionEvent, TransactionId, TransactionOutput,
};
pub use success::{SuccessRetransmission, SuccessStep};
pub use timer::{Timer, TransactionSettings};

/// What our Via says of us: where responses find us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentBy {
    /// A name or an address; IPv6 in brackets.
    pub host: Text,
    /// The port; `None` is the transport's default.
    pub port: Option<u16>,
}

/// All transactions of this element.
pub struct TransactionLayer {
    settings: TransactionSettings,
    slots: Slots,
    servers: HashMap<ServerKey, TransactionId>,
    outputs: VecDeque<TransactionOutput>,
    random: StdRng,
    fired: [u64; Timer::ALL.len()],
    counters: TransactionCounters,
}

impl TransactionLayer {
    /// `seed` makes the branches, so it must be one that a stranger cannot guess; a test gives
    /// the same one for the same run.
    #[must_use]
    pub fn new(settings: TransactionSettings, seed: u64) -> Self {
        Self {
            settings,
            slots: Slots::default(),
            servers: HashMap::new(),
            outputs: VecDeque::new(),
            random: StdRng::seed_from_u64(seed),
            fired: [0; Timer::ALL.len()],
            counters: TransactionCounters::default(),
        }
    }

    /// The values in use.
    #[must_use]
    pub const fn settings(&self) -> &TransactionSettings {
        &self.settings
    }

    /// Lets INVITEs ring for so long from now on (timer C).
    pub const fn set_timer_c(&mut self, timer_c: Duration) {
        self.settings.timer_c = timer_c;
    }

    /// How many transactions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a timer has fired.
    #[must_use]
    pub fn fired(&self, timer: Timer) -> u64 {
        self.fired.get(timer as usize).copied().unwrap_or_default()
    }

    /// What was not passed on.
    #[must_use]
    pub const fn counters(&self) -> &TransactionCounters {
        &self.counters
    }

    /// Takes a message that was parsed without a fault. For a faulty one that has an answer
    /// ([`Rejection::response`](super::Rejection)) there is
    /// [`TransactionLayer::respond_statelessly`].
    pub fn receive(&mut self, now: Instant, flow: &Flow, message: Message) {
        match message {
            Message::Request(request) => self.receive_request(now, flow, request),
            Message::Response(response) => self.receive_response(now, flow, response),
        }
    }

    /// Something may be due: call it at [`TransactionLayer::next_timeout`].
    pub fn timeout(&mut self, now: Instant) {
        while let Some(id) = self.slots.pop_due(now) {
            while let Some(timer) = self
                .slots
                .get_mut(id)
                .and_then(|transaction| transaction.take_due(now))
            {
                self.fire(now, id, timer);
            }
            self.slots.schedule(id);
        }
    }

    /// When [`TransactionLayer::timeout`] wants to be called; `None` when nothing waits.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        self.slots.next_timeout()
    }

    /// What is to be sent or told next. Ask until there is nothing more.
    pub fn poll(&mut self) -> Option<TransactionOutput> {
        self.outputs.pop_front()
    }

    /// Nothing could be sent to `target`: requests to it that have heard nothing yet fail. Those
    /// that have may still be answered over another connection, and those that show another
    /// certificate, ask for another or come from another address of ours go over their own.
    pub fn transport_failed(&mut self, now: Instant, target: &Target) {
        let failed = self.slots.find(|transaction| {
            matches!(transaction.kind, Kind::Client | Kind::InviteClient)
                && transaction.state == State::Trying
                && transaction.target.transport == target.transport
                && transaction.target.remote == target.remote
                && transaction.target.local == target.local
                && transaction.target.server_name == target.server_name
                && transaction.target.own_name == target.own_name
                && (target.connection.is_none()
                    || transaction.target.connection.is_none()
                    || transaction.target.connection == target.connection)
        });
        for id in failed {
            if self.fall_back(now, id) {
                continue;
            }
            self.tell(id, TransactionEvent::TransportFailed { id });
            self.terminate(id);
        }
    }

    /// Sends a response without a transaction, where its topmost Via says (RFC 3261 §18.2.2). The
    /// Via is given `received` and `rport` first.
    pub fn respond_statelessly(&mut self, flow: &Flow, mut response: Response) {
        let Ok(mut via) = response.headers.via() else {
            return;
        };
        if via.mark_received(flow.remote) {
            response.headers.set_first(HeaderName::Via, &via);
        }
        let target = response_target(flow, &via);
        self.transmit(target, response.to_bytes());
    }

    /// Sends octets that belong to no transaction: an ACK for a 2xx once more.
    pub fn transmit(&mut self, target: Target, bytes: Bytes) {
        self.outputs
            .push_back(TransactionOutput::Transmit { target, bytes });
    }

    fn fire(&mut self, now: Instant, id: TransactionId, timer: Timer) {
        self.count(timer);
        match timer {
            Timer::A | Timer::E | Timer::G => self.retransmit(now, id, timer),
            Timer::B | Timer::F | Timer::Cancelled => {
                self.tell(id, TransactionEvent::Timeout { id });
                self.terminate(id);
            }
            Timer::C => self.give_up_ringing(now, id),
            Timer::H => {
                self.tell(id, TransactionEvent::NoAck { id });
                self.terminate(id);
            }
            Timer::D | Timer::I | Timer::J | Timer::K | Timer::L | Timer::M | Timer::Unanswered => {
                self.terminate(id)
            }
        }
    }

    fn count(&mut self, timer: Timer) {
        if let Some(fired) = self.fired.get_mut(timer as usize) {
            *fired += 1;
        }
    }

    fn retransmit(&mut self, now: Instant, id: TransactionId, timer: Timer) {
        let longest = self.settings.t2;
        let Some(transaction) = self.slots.get_mut(id) else {
            return;
        };
        transaction.interval = match (timer, transaction.state) {
            // INVITE's requests have no longest interval, B ends them (RFC 3261 §17.1.1.2).
            (Timer::A, _) => transaction.interval * 2,
            (Timer::E, State::Proceeding) => longest,
            _ => (transaction.interval * 2).min(longest),
        };
        transaction.retransmit = Some((now + transaction.interval, timer));
        let target = transaction.target.clone();
        let bytes = transaction.wire.clone();
        self.counters.retransmissions += 1;
        self.transmit(target, bytes);
    }

    /// An event about a transaction that somebody asked for.
    fn tell(&mut self, id: TransactionId, event: TransactionEvent) {
        if self
            .slots
            .get_mut(id)
            .is_some_and(|transaction| !transaction.is_silent())
        {
            self.outputs.push_back(TransactionOutput::Event(event));
        }
    }

    fn terminate(&mut self, id: TransactionId) {
        let Some(transaction) = self.slots.remove(id) else {
            return;
        };
        if !transaction.is_silent() {
            self.outputs
                .push_back(TransactionOutput::Event(TransactionEvent::Terminated {
                    id,
                }));
        }
        if let Role::Server(server) = transaction.role {
            self.servers.remove(&server.key);
            give_back(&mut self.servers);
        }
    }
}

impl fmt::Debug for TransactionLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TransactionLayer")
            .field("transactions", &self.slots.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Where the responses to a request go (RFC 3261 §18.2.2, RFC 3581 §4). Over a stream: back on
/// its connection, and when that is gone, to the port that the sender listens on. `maddr` is left
/// aside: it would let a stranger choose whom we send to.
fn response_target(flow: &Flow, via: &Via) -> Target {
    let mut target = flow.clone();
    if flow.transport.is_reliable() || !via.parameters.has("rport") {
        let port = via.port.unwrap_or(flow.transport.default_port());
        target.remote.set_port(port);
    }
    target
}

#[cfg(test)]
mod bench;

#[cfg(test)]
mod client_tests;

#[cfg(test)]
mod server_tests;

#[cfg(test)]
mod lossy_tests;

#[cfg(test)]
mod hostile_tests;
