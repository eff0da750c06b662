//! The connections that are open or being opened.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{Notify, mpsc};

use super::{SendError, connection::Outgoing};
use crate::sip::{ConnectionId, Target, Transport};

/// What a connection that we opened can be used for again: the same peer under the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    transport: Transport,
    local: IpAddr,
    remote: SocketAddr,
    server_name: Option<Arc<str>>,
}

impl Route {
    pub(super) fn to(target: &Target) -> Self {
        Self {
            transport: target.transport,
            local: target.local.ip(),
            remote: target.remote,
            server_name: target.server_name.clone(),
        }
    }
}

#[derive(Default)]
pub(super) struct Table {
    next: u64,
    entries: HashMap<ConnectionId, Entry>,
    /// Those that we opened. One that a peer opened carries only what names it, since its
    /// certificate was not checked against a name.
    routes: HashMap<Route, ConnectionId>,
}

struct Entry {
    handle: Handle,
    local: SocketAddr,
    route: Option<Route>,
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

    pub(super) fn insert(
        &mut self,
        handle: Handle,
        local: SocketAddr,
        route: Option<Route>,
    ) -> ConnectionId {
        self.next += 1;
        let id = ConnectionId(self.next);
        if let Some(route) = &route {
            self.routes.insert(route.clone(), id);
        }
        self.entries.insert(
            id,
            Entry {
                handle,
                local,
                route,
            },
        );
        id
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(Entry {
            route: Some(route), ..
        }) = self.entries.remove(&id)
            && self.routes.get(&route) == Some(&id)
        {
            self.routes.remove(&route);
        }
    }

    /// Queues on the connection that the target names or, when that is gone, on one that we
    /// opened to the same peer. Gives the message back when a new connection is needed.
    pub(super) fn push(
        &mut self,
        outgoing: Outgoing,
        limit: usize,
    ) -> Result<Option<Outgoing>, SendError> {
        let target = &outgoing.target;
        let named = target.connection.filter(|id| self.entries.contains_key(id));
        let id = named.or_else(|| self.routes.get(&Route::to(target)).copied());
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

    /// Lets connections from some local addresses take no more requests of ours.
    pub(super) fn retire(&mut self, changed: impl Fn(SocketAddr) -> bool) {
        let entries = &self.entries;
        self.routes
            .retain(|_, id| entries.get(id).is_some_and(|entry| !changed(entry.local)));
    }

    /// Forgets every connection: their tasks write out what waits, and end.
    pub(super) fn finish(&mut self) {
        self.routes.clear();
        self.entries.clear();
    }
}
