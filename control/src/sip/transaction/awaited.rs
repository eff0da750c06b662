//! The ways over which something is still to come or to be sent.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::{ConnectionId, Target, Transport},
    TransactionLayer,
    slots::{Kind, State},
};

/// Connections over which a request has no final response yet, in either direction. One that is
/// not among them can be closed, and nothing is lost with it.
#[derive(Debug, Default)]
pub struct Awaited {
    connections: HashSet<ConnectionId>,
    /// Peers that we asked, whatever the connection: our side's address, then theirs.
    peers: HashSet<(Transport, IpAddr, SocketAddr)>,
}

impl Awaited {
    /// Something is awaited over this one, too.
    pub fn add(&mut self, connection: ConnectionId) {
        self.connections.insert(connection);
    }

    /// Whether something is awaited over a connection.
    #[must_use]
    pub fn is_over(&self, connection: &Target) -> bool {
        let peer = (
            connection.transport,
            connection.local.ip(),
            connection.remote,
        );
        self.peers.contains(&peer)
            || connection
                .connection
                .is_some_and(|id| self.connections.contains(&id))
    }
}

impl TransactionLayer {
    /// What is awaited now, and over which connections.
    #[must_use]
    pub fn awaited(&self) -> Awaited {
        let mut awaited = Awaited::default();
        for transaction in self.slots.iter() {
            if !matches!(transaction.state, State::Trying | State::Proceeding) {
                continue;
            }
            let target = &transaction.target;
            awaited.connections.extend(target.connection);
            if matches!(transaction.kind, Kind::Client | Kind::InviteClient) {
                let peer = (target.transport, target.local.ip(), target.remote);
                awaited.peers.insert(peer);
            }
        }
        awaited
    }
}
