//! The edges of signalling: UDP, TCP and TLS sockets on one side, whole messages on the other.
//!
//! What comes in goes through one bounded channel to the task that owns the calls. When that task
//! is behind, datagrams are dropped and counted, and streams are read no further.

mod connection;
mod discard;
mod error;
#[cfg(test)]
mod free_port;
mod handshakes;
mod listener;
mod places;
mod resolver;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod udp;
mod verifier;
mod view;

pub use discard::{Discard, Discards};
pub use error::{SendError, TransportError};
#[cfg(test)]
pub(crate) use free_port::free_port;
pub use resolver::{Lookups, resolve};

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    config::Settings,
    sip::{Flow, Target, Transport},
};
use connection::Outgoing;
use handshakes::Handshakes;
use places::Places;
use table::Table;
use udp::UdpEdge;
use view::View;

/// How many messages may wait for the task that owns the calls.
pub const QUEUE: usize = 4_096;

/// How long connections may take to write out what waits when the process ends.
const SHUT_DOWN: Duration = Duration::from_secs(2);

/// What the edges tell the task that owns the calls.
#[derive(Debug)]
pub enum TransportEvent {
    /// One whole message, as it came.
    Message { flow: Flow, octets: Bytes },
    /// What was sent there did not arrive: the connection could not be opened, or broke.
    Failed(Target),
    /// A connection that we opened was closed, by whomever: what waits for an answer over it may
    /// wait in vain.
    Closed(Flow),
}

/// Every socket of signalling. Dropping it closes them.
pub struct Transports {
    shared: Arc<Shared>,
    listeners: Mutex<HashMap<(Transport, SocketAddr), Listener>>,
}

struct Listener {
    task: AbortHandle,
    /// Only with UDP.
    socket: Option<UdpEdge>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all tasks of the edges have in common.
struct Shared {
    view: RwLock<Arc<View>>,
    discards: Arc<Discards>,
    events: mpsc::Sender<TransportEvent>,
    table: Mutex<Table>,
    connections: Places,
    handshakes: Handshakes,
}

impl Shared {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transports {
    /// Opens every listener of the configuration. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first listener that cannot be opened, or the first trunk whose certificates cannot be
    /// read; then nothing stays open.
    pub fn start(
        settings: &Arc<Settings>,
        events: mpsc::Sender<TransportEvent>,
    ) -> Result<Self, TransportError> {
        let shared = Arc::new(Shared {
            view: RwLock::new(Arc::new(View::new(settings, None)?)),
            discards: Arc::new(Discards::default()),
            events,
            table: Mutex::new(Table::default()),
            connections: Places::new(settings.limits.connections),
            handshakes: Handshakes::new(settings.limits.handshakes),
        });
        let transports = Self {
            shared,
            listeners: Mutex::new(HashMap::new()),
        };
        transports.open(settings)?;
        Ok(transports)
    }

    /// Goes over to another configuration: opens the listeners that are new, and reads the
    /// certificates anew. Those that are gone stay open until [`Transports::close_listeners`].
    /// Connections of a certificate that has changed take no new requests: see
    /// [`Transports::retire`]. The limits of connections and handshakes stay as they were at the
    /// start.
    ///
    /// # Errors
    /// As [`Transports::start`]; then everything is as it was.
    pub fn reload(&self, settings: &Arc<Settings>) -> Result<(), TransportError> {
        let view = Arc::new(View::new(settings, Some(&self.shared.view()))?);
        self.open(settings)?;
        *self
            .shared
            .view
            .write()
            .unwrap_or_else(PoisonError::into_inner) = view;
        self.retire(|_| true);
        Ok(())
    }

    /// Closes connections that began with certificates, or rules for them, that are no longer in
    /// use; those that are `busy` only stop to take new requests. How many of them are left.
    pub fn retire(&self, busy: impl Fn(&Target) -> bool) -> usize {
        let view = self.shared.view();
        let overtaken = |local, ends: &Arc<_>| view.has_overtaken(local, ends);
        self.shared.table().retire(overtaken, busy)
    }

    /// Takes over destinations that were looked up anew, and nothing else.
    pub fn update_destinations(&self, settings: &Arc<Settings>) {
        let mut view = self
            .shared
            .view
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(view.with_settings(settings));
    }

    /// Closes the listeners that no trunk has any more, nor a call that is up. How many are left of
    /// those that no trunk has.
    pub fn close_listeners(&self) -> usize {
        let view = self.shared.view();
        let wanted = listener::wanted(view.settings());
        // Without its trunk nothing is left to show to those who connect over TLS.
        let is_open_to_calls = |listen: &(Transport, SocketAddr)| {
            let mut former = view.former();
            listen.0 != Transport::Tls && former.any(|it| listener::wanted(&it).contains(listen))
        };
        let mut listeners = self.listeners();
        listeners.retain(|listen, _| wanted.contains(listen) || is_open_to_calls(listen));
        listeners.len().saturating_sub(wanted.len())
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<(Transport, SocketAddr), Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what is not open yet: all of it or nothing.
    fn open(&self, settings: &Settings) -> Result<(), TransportError> {
        let mut listeners = self.listeners();
        let mut opened = Vec::new();
        for listen in listener::wanted(settings) {
            if !listeners.contains_key(&listen) {
                opened.push((listen, listener::open(&self.shared, listen)?));
            }
        }
        listeners.extend(opened);
        Ok(())
    }

    /// Sends one message, without waiting. Over a stream a failure comes later, as
    /// [`TransportEvent::Failed`].
    ///
    /// # Errors
    /// It could not even be tried. The caller treats it like [`TransportEvent::Failed`].
    pub fn send(&self, target: &Target, octets: Bytes) -> Result<(), SendError> {
        match target.transport {
            Transport::Udp => self.send_datagram(target, &octets),
            Transport::Tcp | Transport::Tls => connection::send(
                &self.shared,
                Outgoing {
                    target: target.clone(),
                    octets,
                },
            ),
        }
    }

    /// Closes the connection that the flow names, if it is open, once what waits there is written.
    pub fn close(&self, flow: &Flow) {
        if let Some(id) = flow.connection {
            self.shared.table().remove(id);
        }
    }

    fn send_datagram(&self, target: &Target, octets: &[u8]) -> Result<(), SendError> {
        let listeners = self.listeners();
        let socket = listeners
            .get(&(Transport::Udp, target.local))
            .and_then(|listener| listener.socket.as_ref())
            .ok_or(SendError::NoListener)?;
        socket.send(target.remote, octets, &self.shared.discards)
    }

    /// What was discarded, by reason.
    #[must_use]
    pub fn discards(&self) -> Arc<Discards> {
        Arc::clone(&self.shared.discards)
    }

    /// How many connections are open or being opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.table().len()
    }

    /// Writes out what waits and closes every connection; ends when they are closed or after two
    /// seconds.
    pub async fn shut_down(&self) {
        self.listeners().clear();
        self.shared.table().finish();
        // Every connection holds a place until it is closed.
        let closed = self.shared.connections.all_free();
        let _ = tokio::time::timeout(SHUT_DOWN, closed).await;
    }
}
