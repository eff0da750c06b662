//! Trunks and their addresses as operators see them.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::MediaPlane;

use super::{
    super::{Core, RegistrationSnapshot},
    Peer,
};
use crate::config::Rank;

/// One trunk at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct TrunkSnapshot {
    pub name: Arc<str>,
    /// How often each address is asked by OPTIONS; `None` when none is.
    pub asked_every: Option<Duration>,
    /// The calls that have a leg over the trunk.
    pub calls: u64,
    /// That we are registered with it, where it wants that.
    pub registration: Option<RegistrationSnapshot>,
    /// In the order of their priorities.
    pub peers: Vec<PeerSnapshot>,
}

/// One address of a trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSnapshot {
    pub address: SocketAddr,
    /// The name that its certificate must hold.
    pub name: Option<Arc<str>>,
    /// The turn of what stands in the configuration for it.
    pub entry: Rank,
    /// The turn of the SRV record that has led there.
    pub record: Option<Rank>,
    pub state: PeerState,
    /// Why it is out of service.
    pub why: Option<String>,
    /// When it went out of service or came back; `None` when it never did.
    pub since: Option<Instant>,
    /// When the time is over for which it has asked not to be called.
    pub held_until: Option<Instant>,
    /// When anything last came from it.
    pub heard: Option<Instant>,
    /// What last came of OPTIONS.
    pub last: Option<(Instant, Heard)>,
    /// From the last OPTIONS to its answer.
    pub round_trip: Option<Duration>,
    /// The calls that have a leg to or from its host.
    pub calls: u64,
    /// How often it went out of service.
    pub openings: u64,
}

/// Whether an address is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Calls go there.
    Up,
    /// Calls go there, and no OPTIONS was answered yet.
    Untried,
    /// No calls go there.
    Down,
}

impl PeerState {
    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Untried => "untried",
            Self::Down => "down",
        }
    }
}

/// What came of an OPTIONS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The status of its answer.
    Status(u16),
    /// Nothing in time.
    Nothing,
    /// It could not be sent, or its connection broke.
    NoConnection,
}

impl fmt::Display for Heard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "{status}"),
            Self::Nothing => formatter.write_str("no answer"),
            Self::NoConnection => formatter.write_str("no connection"),
        }
    }
}

impl Peer {
    fn snapshot(&self, is_asked: bool) -> PeerSnapshot {
        let state = match &self.open {
            Some(_) => PeerState::Down,
            None if is_asked && self.answered.is_none() => PeerState::Untried,
            None => PeerState::Up,
        };
        PeerSnapshot {
            address: self.address(),
            name: self.destination.server_name.clone(),
            entry: self.destination.entry,
            record: self.destination.record,
            state,
            why: self.open.as_ref().map(|open| open.why.to_string()),
            since: self.since,
            held_until: self
                .open
                .as_ref()
                .filter(|open| open.told)
                .and_then(|open| open.until),
            heard: self.heard,
            last: self.last,
            round_trip: self.round_trip,
            calls: 0,
            openings: self.openings,
        }
    }
}

impl<M: MediaPlane> Core<M> {
    /// Every trunk, in the order of the configuration.
    #[must_use]
    pub fn trunk_snapshots(&self) -> Vec<TrunkSnapshot> {
        let mut trunks: Vec<TrunkSnapshot> = self
            .trunks
            .iter()
            .map(|trunk| {
                let asked_every = trunk.asks_every();
                let peers = self.peers.of(&trunk.name).iter();
                TrunkSnapshot {
                    name: Arc::clone(&trunk.name),
                    asked_every,
                    calls: 0,
                    registration: self.registrations.of(&trunk.name),
                    peers: peers
                        .map(|peer| peer.snapshot(asked_every.is_some()))
                        .collect(),
                }
            })
            .collect();
        let places: std::collections::HashMap<Arc<str>, usize> = (0..)
            .zip(&trunks)
            .map(|(place, trunk)| (Arc::clone(&trunk.name), place))
            .collect();
        for leg in self.calls.values().flat_map(|call| &call.legs) {
            let Some(trunk) = places
                .get(&leg.trunk.name)
                .and_then(|place| trunks.get_mut(*place))
            else {
                continue;
            };
            trunk.calls += 1;
            let peers = &mut trunk.peers;
            let at = peers
                .iter()
                .position(|peer| peer.address == leg.remote)
                .or_else(|| {
                    peers
                        .iter()
                        .position(|peer| peer.address.ip() == leg.remote.ip())
                });
            if let Some(peer) = at.and_then(|at| peers.get_mut(at)) {
                peer.calls += 1;
            }
        }
        trunks
    }
}
