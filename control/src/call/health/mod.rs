//! Which addresses of the trunks are in service.
//!
//! Each address has a circuit. It is closed while calls may go there, and opens when OPTIONS get no
//! answer or a bad one, or when a call finds nobody there. An open one is passed over until an
//! OPTIONS is answered, and in any case for as long as a Retry-After has asked for. On a trunk
//! without OPTIONS it closes by itself after [`REST`].

mod asking;
mod snapshot;

pub use snapshot::{Heard, PeerSnapshot, PeerState, TrunkSnapshot};

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng;

use super::{selection::order, timers::TimerKey, trunk::Trunk};
use crate::{
    config::Destination,
    sip::{Flow, TransactionId},
};

/// How long an address that a call found out of service is tried after the others, on a trunk whose
/// addresses are not asked by OPTIONS.
const REST: Duration = Duration::from_secs(60);
/// The longest Retry-After that is kept: one word of a peer must not put it out of service for
/// hours.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// How far apart the first OPTIONS to all addresses go out.
const APART: Duration = Duration::from_millis(10);

/// One address of a trunk, never that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PeerId(u64);

/// What is known of one address of a trunk.
#[derive(Debug)]
struct Peer {
    id: PeerId,
    destination: Destination,
    /// Set while the circuit is open.
    open: Option<Open>,
    /// When the circuit last opened or closed.
    since: Option<Instant>,
    /// When anything last came from there.
    heard: Option<Instant>,
    /// When a request of ours was last answered from there.
    answered: Option<Instant>,
    /// What last came of OPTIONS.
    last: Option<(Instant, Heard)>,
    round_trip: Option<Duration>,
    /// The OPTIONS that waits for its answer.
    probe: Option<Probe>,
    next_ask: Option<Instant>,
    /// The last OPTIONS met a connection that broke, and has gone out once more.
    asked_again: bool,
    timer: Option<TimerKey>,
    openings: u64,
}

#[derive(Debug)]
struct Open {
    why: Cause,
    /// Not to be closed before.
    until: Option<Instant>,
    /// The peer itself has asked for that, by Retry-After.
    told: bool,
    /// An OPTIONS was answered meanwhile.
    alive: bool,
}

#[derive(Debug)]
struct Probe {
    transaction: TransactionId,
    sent: Instant,
    deadline: Instant,
}

/// Why a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    OptionsUnanswered,
    OptionsNotSent,
    OptionsRefused(u16),
    CallUnanswered,
    CallNotSent,
    CallRefused,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OptionsUnanswered => formatter.write_str("no answer to OPTIONS"),
            Self::OptionsNotSent => formatter.write_str("no connection for OPTIONS"),
            Self::OptionsRefused(status) => write!(formatter, "{status} to OPTIONS"),
            Self::CallUnanswered => formatter.write_str("no answer to an INVITE"),
            Self::CallNotSent => formatter.write_str("no connection for an INVITE"),
            Self::CallRefused => formatter.write_str("503 to an INVITE"),
        }
    }
}

/// Whether a call may go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Yes,
    /// Nobody has asked whether it is back: after all others.
    Last,
    No,
}

/// A circuit has opened or closed. Its `Display` form is the log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEvent {
    pub trunk: Arc<str>,
    pub address: SocketAddr,
    /// Why it opened; `None` when it closed.
    pub down: Option<String>,
}

impl fmt::Display for PeerEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "trunk {} address {} ", self.trunk, self.address)?;
        match &self.down {
            Some(why) => write!(formatter, "is out of service: {why}"),
            None => formatter.write_str("is in service again"),
        }
    }
}

/// The addresses of all trunks.
#[derive(Debug, Default)]
pub(super) struct Peers {
    trunks: HashMap<Arc<str>, Vec<Peer>>,
    names: HashMap<PeerId, Arc<str>>,
    last: u64,
    /// Whether OPTIONS are sent.
    watching: bool,
}

impl Peers {
    pub(super) fn new(trunks: &[Arc<Trunk>]) -> Self {
        let mut peers = Self::default();
        peers.renew(trunks);
        peers
    }

    /// The addresses of the settings of now. Those that are known stay as they are; those that are
    /// left over are given back.
    fn renew(&mut self, trunks: &[Arc<Trunk>]) -> Vec<Peer> {
        let mut old = std::mem::take(&mut self.trunks);
        self.names.clear();
        let mut left_over = Vec::new();
        for trunk in trunks {
            let mut known = old.remove(&trunk.name).unwrap_or_default();
            let mut peers: Vec<Peer> = Vec::with_capacity(trunk.destinations.len());
            for destination in &trunk.destinations {
                let address = destination.address;
                if peers.iter().any(|peer| peer.address() == address) {
                    continue;
                }
                let place = known.iter().position(|peer| peer.address() == address);
                let mut peer = match place {
                    Some(place) => known.swap_remove(place),
                    None => {
                        self.last += 1;
                        Peer::new(PeerId(self.last), destination.clone())
                    }
                };
                peer.destination = destination.clone();
                self.names.insert(peer.id, Arc::clone(&trunk.name));
                peers.push(peer);
            }
            left_over.append(&mut known);
            self.trunks.insert(Arc::clone(&trunk.name), peers);
        }
        left_over.extend(old.into_values().flatten());
        left_over
    }

    fn of(&self, trunk: &str) -> &[Peer] {
        self.trunks.get(trunk).map_or(&[], Vec::as_slice)
    }

    fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        let name = self.names.get(&id)?;
        let peers = self.trunks.get_mut(name)?;
        peers.iter_mut().find(|peer| peer.id == id)
    }

    fn at(&mut self, trunk: &str, address: SocketAddr) -> Option<&mut Peer> {
        let peers = self.trunks.get_mut(trunk)?;
        peers.iter_mut().find(|peer| peer.address() == address)
    }

    /// Whoever sent a message that came so. A peer that connects does so from any port.
    fn behind(&mut self, trunk: &str, flow: &Flow) -> Option<&mut Peer> {
        let peers = self.trunks.get_mut(trunk)?;
        let place = peers
            .iter()
            .position(|peer| peer.address() == flow.remote)
            .or_else(|| {
                peers
                    .iter()
                    .position(|peer| peer.address().ip() == flow.remote.ip())
            })?;
        peers.get_mut(place)
    }

    fn usable(&self, now: Instant, trunk: &Trunk, address: SocketAddr) -> Use {
        let peers = self.of(&trunk.name);
        peers
            .iter()
            .find(|peer| peer.address() == address)
            .map_or(Use::Yes, |peer| peer.usable(now, trunk))
    }

    /// Whether a call may go to an address of the trunk now.
    pub(super) fn takes(&self, now: Instant, trunk: &Trunk, address: SocketAddr) -> bool {
        self.usable(now, trunk, address) != Use::No
    }

    /// Whether a call may go to any address of the trunk now.
    pub(super) fn has_candidate(&self, now: Instant, trunk: &Trunk) -> bool {
        let mut destinations = trunk.destinations.iter();
        destinations.any(|destination| self.takes(now, trunk, destination.address))
    }

    /// The addresses of the trunk that a call may go to, by their places, in the order in which it
    /// tries them.
    pub(super) fn candidates(
        &self,
        now: Instant,
        trunk: &Trunk,
        random: &mut impl Rng,
    ) -> Vec<u16> {
        let mut first = order(&trunk.destinations, random);
        let mut last = Vec::new();
        first.retain(|&place| {
            let destination = trunk.destinations.get(usize::from(place));
            let usable = destination.map(|it| self.usable(now, trunk, it.address));
            if usable == Some(Use::Last) {
                last.push(place);
            }
            usable == Some(Use::Yes)
        });
        first.append(&mut last);
        first
    }

    /// Something came from a peer.
    pub(super) fn heard(&mut self, now: Instant, trunk: &str, flow: &Flow) {
        if let Some(peer) = self.behind(trunk, flow) {
            peer.heard = Some(now);
        }
    }
}

impl Peer {
    const fn new(id: PeerId, destination: Destination) -> Self {
        Self {
            id,
            destination,
            open: None,
            since: None,
            heard: None,
            answered: None,
            last: None,
            round_trip: None,
            probe: None,
            next_ask: None,
            asked_again: false,
            timer: None,
            openings: 0,
        }
    }

    const fn address(&self) -> SocketAddr {
        self.destination.address
    }

    fn usable(&self, now: Instant, trunk: &Trunk) -> Use {
        let Some(open) = &self.open else {
            return Use::Yes;
        };
        let is_over = open.until.is_none_or(|until| until <= now);
        match trunk.asks_every() {
            Some(_) if is_over && open.alive => Use::Yes,
            None if is_over => Use::Yes,
            None if !open.told => Use::Last,
            _ => Use::No,
        }
    }

    /// Opens the circuit, or keeps it open. True when it was closed.
    fn open(
        &mut self,
        now: Instant,
        why: Cause,
        is_asked: bool,
        retry_after: Option<Duration>,
    ) -> bool {
        let told = retry_after.map(|time| now + time.min(LONGEST_RETRY_AFTER));
        let until = told.or_else(|| (!is_asked).then(|| now + REST));
        if let Some(open) = &mut self.open {
            open.until = open.until.max(until);
            open.told |= told.is_some();
            open.alive = false;
            return false;
        }
        self.open = Some(Open {
            why,
            until,
            told: told.is_some(),
            alive: false,
        });
        self.since = Some(now);
        self.openings += 1;
        true
    }

    /// The address was found alive. True when that closes the circuit.
    fn alive(&mut self, now: Instant) -> bool {
        match &mut self.open {
            Some(open) if open.told && open.until.is_some_and(|until| until > now) => {
                open.alive = true;
                false
            }
            Some(_) => self.close(now),
            None => false,
        }
    }

    fn close(&mut self, now: Instant) -> bool {
        let was_open = self.open.take().is_some();
        if was_open {
            self.since = Some(now);
        }
        was_open
    }

    /// When something is to be done about it.
    fn due(&self) -> Option<Instant> {
        let until = self.open.as_ref().and_then(|open| open.until);
        let deadline = self.probe.as_ref().map(|probe| probe.deadline);
        // An OPTIONS that is due waits for the one that is under way.
        let ask = self.next_ask.filter(|_| self.probe.is_none());
        [until, deadline, ask].into_iter().flatten().min()
    }
}
