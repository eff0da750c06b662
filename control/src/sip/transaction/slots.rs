//! The transactions and when each wants to be woken.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    super::{Request, Target, Text},
    SentBy, Timer, TransactionId,
    server::ServerKey,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InviteClient,
    Client,
    InviteServer,
    Server,
}

/// The states of all four machines; Calling and Trying are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Trying,
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
}

pub(super) type Alarm = Option<(Instant, Timer)>;

pub(super) struct Transaction {
    pub kind: Kind,
    pub state: State,
    pub target: Target,
    /// What is sent again: the request, the last response, or the ACK.
    pub wire: Bytes,
    /// The wait before the next time.
    pub interval: Duration,
    /// A, E, G.
    pub retransmit: Alarm,
    /// What ends the state: B, D, F, H to M.
    pub deadline: Alarm,
    /// C and the wait after CANCEL.
    pub limit: Alarm,
    /// The earliest entry in the heap.
    scheduled: Option<Instant>,
    pub role: Role,
}

pub(super) enum Role {
    Client(Client),
    Server(Server),
}

pub(super) struct Client {
    /// The part of the branch that a stranger cannot guess.
    pub nonce: u64,
    /// What ACK and CANCEL are made from; INVITE only, until there is a final response.
    pub invite: Option<Box<Request>>,
    /// CANCEL is to be sent as soon as there is a provisional response (RFC 3261 §9.1).
    pub cancel_wanted: Option<Option<Text>>,
    /// The transaction of the CANCEL, which has the same branch.
    pub cancel: Option<TransactionId>,
    /// Nobody asked for this one: a CANCEL.
    pub silent: bool,
    /// What is sent by UDP when TCP, taken for its length, fails.
    pub by_size: Option<Box<(Request, SentBy)>>,
}

pub(super) struct Server {
    pub key: ServerKey,
    /// The To tag of the responses so far, for the response to a CANCEL.
    pub tag: Option<Text>,
    pub silent: bool,
}

impl Transaction {
    pub fn new(kind: Kind, target: Target, wire: Bytes, role: Role) -> Self {
        Self {
            kind,
            state: State::Trying,
            target,
            wire,
            interval: Duration::ZERO,
            retransmit: None,
            deadline: None,
            limit: None,
            scheduled: None,
            role,
        }
    }

    pub const fn is_silent(&self) -> bool {
        match &self.role {
            Role::Client(client) => client.silent,
            Role::Server(server) => server.silent,
        }
    }

    fn next_alarm(&self) -> Option<Instant> {
        [self.retransmit, self.deadline, self.limit]
            .into_iter()
            .flatten()
            .map(|(at, _)| at)
            .min()
    }

    /// Takes the alarm that is due, the one that ends the transaction first.
    pub fn take_due(&mut self, now: Instant) -> Option<Timer> {
        [&mut self.deadline, &mut self.limit, &mut self.retransmit]
            .into_iter()
            .find_map(|alarm| alarm.take_if(|(at, _)| *at <= now))
            .map(|(_, timer)| timer)
    }
}

/// How many stale entries of the heap are not worth a sweep.
const SLACK: usize = 1024;

// Boxed: the slab never gets smaller, and after a burst of calls most of it is empty.
struct Slot {
    generation: u32,
    transaction: Option<Box<Transaction>>,
}

/// A slab of transactions with generations in their names, and a heap of alarms. A transaction
/// has one entry in the heap as a rule; an alarm that moved or went leaves its entry behind,
/// which is passed over when it comes up.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    heap: BinaryHeap<Reverse<(Instant, TransactionId)>>,
}

const fn parts(id: TransactionId) -> (usize, u32) {
    ((id.0 & 0xffff_ffff) as usize, (id.0 >> 32) as u32)
}

impl Slots {
    pub const fn len(&self) -> usize {
        self.live
    }

    /// The name that the next [`Slots::insert`] gives.
    pub fn next_id(&self) -> TransactionId {
        let index = self
            .free
            .last()
            .copied()
            .unwrap_or_else(|| u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let generation = self
            .slots
            .get(index as usize)
            .map_or(0, |slot| slot.generation);
        TransactionId(u64::from(generation) << 32 | u64::from(index))
    }

    pub fn insert(&mut self, transaction: Transaction) -> TransactionId {
        let id = self.next_id();
        let (index, generation) = parts(id);
        let transaction = Box::new(transaction);
        match self.slots.get_mut(index) {
            Some(slot) => {
                self.free.pop();
                slot.transaction = Some(transaction);
            }
            None => self.slots.push(Slot {
                generation,
                transaction: Some(transaction),
            }),
        }
        self.live += 1;
        id
    }

    pub fn get(&self, id: TransactionId) -> Option<&Transaction> {
        let (index, generation) = parts(id);
        self.slots
            .get(index)
            .filter(|slot| slot.generation == generation)?
            .transaction
            .as_deref()
    }

    pub fn get_mut(&mut self, id: TransactionId) -> Option<&mut Transaction> {
        let (index, generation) = parts(id);
        self.slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation)?
            .transaction
            .as_deref_mut()
    }

    pub fn remove(&mut self, id: TransactionId) -> Option<Box<Transaction>> {
        let (index, generation) = parts(id);
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation)?;
        let transaction = slot.transaction.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.live -= 1;
        self.free.push(u32::try_from(index).unwrap_or(u32::MAX));
        Some(transaction)
    }

    /// Sees to it that the transaction is woken for its next alarm.
    pub fn schedule(&mut self, id: TransactionId) {
        let Some(transaction) = self.get_mut(id) else {
            return;
        };
        let Some(next) = transaction.next_alarm() else {
            return;
        };
        if transaction
            .scheduled
            .is_none_or(|scheduled| next < scheduled)
        {
            transaction.scheduled = Some(next);
            self.heap.push(Reverse((next, id)));
            self.sweep();
        }
    }

    /// Throws entries away that mean nothing any more, when they are most of the heap: transactions
    /// that end at once would otherwise leave half a minute of them.
    fn sweep(&mut self) {
        if self.heap.len() <= 2 * self.live + SLACK {
            return;
        }
        let mut heap = std::mem::take(&mut self.heap);
        heap.retain(|Reverse((at, id))| {
            self.get_mut(*id)
                .is_some_and(|transaction| transaction.scheduled == Some(*at))
        });
        heap.shrink_to(2 * self.live + SLACK);
        self.heap = heap;
    }

    /// When something has to be done at the latest.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        loop {
            let Reverse((at, id)) = *self.heap.peek()?;
            match self.get_mut(id) {
                Some(transaction) if transaction.scheduled == Some(at) => {
                    if transaction.next_alarm() == Some(at) {
                        return Some(at);
                    }
                    // It moved to later.
                    transaction.scheduled = None;
                    self.heap.pop();
                    self.schedule(id);
                }
                _ => {
                    self.heap.pop();
                }
            }
        }
    }

    /// The next transaction with something due, its entry taken from the heap: it has to be
    /// scheduled anew.
    pub fn pop_due(&mut self, now: Instant) -> Option<TransactionId> {
        if self.next_timeout()? > now {
            return None;
        }
        let Reverse((_, id)) = self.heap.pop()?;
        if let Some(transaction) = self.get_mut(id) {
            transaction.scheduled = None;
        }
        Some(id)
    }

    /// Every transaction.
    pub fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.slots
            .iter()
            .filter_map(|slot| slot.transaction.as_deref())
    }

    /// The names of those that `wanted` picks.
    pub fn find(&self, wanted: impl Fn(&Transaction) -> bool) -> Vec<TransactionId> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.transaction.as_deref().is_some_and(&wanted))
            .map(|(index, slot)| TransactionId(u64::from(slot.generation) << 32 | index as u64))
            .collect()
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.heap.len()
    }
}
