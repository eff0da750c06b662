//! The connections that are open or being opened.

use std::{
    collections::{HashMap, HashSet, hash_map},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{Notify, mpsc};

use super::{SendError, connection::Outgoing, tls::Ends};
use crate::sip::{ConnectionId, Target, Transport};

/// What a connection can be used for again: the same peer under the same name, to whom we show the
/// same certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    transport: Transport,
    local: IpAddr,
    remote: SocketAddr,
    server_name: Option<Arc<str>>,
    /// Which [`Ends`], with TLS.
    ends: Option<u64>,
}

impl Route {
    pub(super) fn to(target: &Target, ends: Option<&Arc<Ends>>) -> Self {
        Self {
            transport: target.transport,
            local: target.local.ip(),
            remote: target.remote,
            server_name: target.server_name.clone(),
            ends: ends.map(|ends| ends.number),
        }
    }
}

#[derive(Default)]
pub(super) struct Table {
    next: u64,
    entries: HashMap<ConnectionId, Entry>,
    /// Those that we opened, and those that a peer opened and said to be an alias of its address
    /// (RFC 5923). Another carries only what names it.
    routes: HashMap<Route, ConnectionId>,
}

struct Entry {
    handle: Handle,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
    routes: Vec<Route>,
    /// The certificates that it began with, once that is known.
    ends: Option<Arc<Ends>>,
}

/// How to reach the task of a connection.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) queue: mpsc::UnboundedSender<Outgoing>,
    /// Octets in the queue: what bounds it.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) close: Arc<Notify>,
}

enum Refused {
    SlowReader,
    /// The task ended a moment ago.
    Closed(Box<Outgoing>),
}

impl Handle {
    fn push(&self, outgoing: Outgoing, limit: usize) -> Result<(), Refused> {
        let length = outgoing.octets.len();
        if self.queued.fetch_add(length, Relaxed) + length > limit {
            self.close.notify_one();
            return Err(Refused::SlowReader);
        }
        self.queue
            .send(outgoing)
            .map_err(|mpsc::error::SendError(outgoing)| Refused::Closed(Box::new(outgoing)))
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the connection that a target names is there.
    pub(super) fn has(&self, target: &Target) -> bool {
        let id = target.connection;
        id.is_some_and(|id| self.entries.contains_key(&id))
    }

    /// Enters the connection that `flow` is to be, whose number it gets. `route` is where it leads
    /// when we open it.
    pub(super) fn insert(
        &mut self,
        handle: Handle,
        flow: &mut Target,
        route: Option<Route>,
    ) -> ConnectionId {
        self.next += 1;
        let id = ConnectionId(self.next);
        flow.connection = Some(id);
        if let Some(route) = &route {
            self.routes.insert(route.clone(), id);
        }
        let entry = Entry {
            handle,
            transport: flow.transport,
            local: flow.local,
            remote: flow.remote,
            routes: route.into_iter().collect(),
            ends: None,
        };
        self.entries.insert(id, entry);
        id
    }

    /// Says which certificates a connection began with.
    pub(super) fn identify(&mut self, id: ConnectionId, ends: Arc<Ends>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.ends = Some(ends);
        }
    }

    /// Lets requests of ours go over a connection that the peer at `remote` has opened, and whose
    /// certificate holds `names`, as if we had opened it.
    pub(super) fn alias(&mut self, id: ConnectionId, remote: SocketAddr, names: &[Arc<str>]) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        for name in names {
            let target = Target {
                transport: entry.transport,
                server_name: Some(Arc::clone(name)),
                ..Target::udp(entry.local, remote)
            };
            let route = Route::to(&target, entry.ends.as_ref());
            // The one that is in use stays so.
            if let hash_map::Entry::Vacant(vacant) = self.routes.entry(route.clone()) {
                vacant.insert(id);
                entry.routes.push(route);
            }
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        for route in self
            .entries
            .remove(&id)
            .into_iter()
            .flat_map(|it| it.routes)
        {
            if self.routes.get(&route) == Some(&id) {
                self.routes.remove(&route);
            }
        }
    }

    /// Queues on the connection that the target names or, when that is gone, on one that leads
    /// there. Gives the message back when a new connection is needed.
    pub(super) fn push(
        &mut self,
        outgoing: Outgoing,
        route: &Route,
        limit: usize,
    ) -> Result<Option<Outgoing>, SendError> {
        let target = &outgoing.target;
        let named = target.connection.filter(|id| self.entries.contains_key(id));
        let id = named.or_else(|| self.routes.get(route).copied());
        let Some((id, entry)) = id.and_then(|id| Some((id, self.entries.get(&id)?))) else {
            return Ok(Some(outgoing));
        };
        match entry.handle.push(outgoing, limit) {
            Ok(()) => Ok(None),
            Err(Refused::SlowReader) => {
                self.remove(id);
                Err(SendError::SlowReader)
            }
            Err(Refused::Closed(outgoing)) => {
                self.remove(id);
                Ok(Some(*outgoing))
            }
        }
    }

    /// Lets no more requests of ours begin on connections with certificates that are `overtaken`,
    /// and closes those of them that are not `busy`: what waits is written first. How many are left.
    pub(super) fn retire(
        &mut self,
        overtaken: impl Fn(SocketAddr, &Arc<Ends>) -> bool,
        busy: impl Fn(&Target) -> bool,
    ) -> usize {
        let old: HashSet<ConnectionId> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                let ends = entry.ends.as_ref();
                ends.is_some_and(|ends| overtaken(entry.local, ends))
            })
            .map(|(id, _)| *id)
            .collect();
        self.routes.retain(|_, id| !old.contains(id));
        let mut left = 0;
        for id in old {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            let flow = Target {
                transport: entry.transport,
                connection: Some(id),
                ..Target::udp(
                    entry.local,
                    entry
                        .routes
                        .first()
                        .map_or(entry.remote, |route| route.remote),
                )
            };
            if busy(&flow) {
                left += 1;
            } else {
                self.remove(id);
            }
        }
        left
    }

    /// Forgets every connection: their tasks write out what waits, and end.
    pub(super) fn finish(&mut self) {
        self.routes.clear();
        self.entries.clear();
    }
}
