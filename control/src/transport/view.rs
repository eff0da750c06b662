//! One configuration as the edges use it: who is admitted, and with which certificates.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls_pki_types::CertificateDer;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{error::TransportError, tls};
use crate::{
    config::{Limits, Settings},
    sip::{self, Transport},
};

#[derive(Clone)]
pub(super) struct View {
    settings: Arc<Settings>,
    listeners: HashMap<SocketAddr, TlsListener>,
    /// By listener and the name that the peer's certificate must hold.
    connectors: HashMap<(SocketAddr, Arc<str>), TlsConnector>,
}

#[derive(Clone)]
struct TlsListener {
    acceptor: TlsAcceptor,
    certificate: Option<CertificateDer<'static>>,
}

impl View {
    pub(super) fn new(settings: &Arc<Settings>) -> Result<Self, TransportError> {
        let mut listeners = HashMap::new();
        let mut connectors = HashMap::new();
        for trunk in &settings.trunks {
            let Some(certificates) = &trunk.tls else {
                continue;
            };
            let ends = tls::ends(certificates).map_err(|what| TransportError::Certificates {
                trunk: trunk.name.clone(),
                what,
            })?;
            for name in trunk.server_names() {
                connectors.insert((trunk.listen, name), ends.connector.clone());
            }
            listeners.entry(trunk.listen).or_insert(TlsListener {
                acceptor: ends.acceptor,
                certificate: ends.certificate,
            });
        }
        Ok(Self {
            settings: Arc::clone(settings),
            listeners,
            connectors,
        })
    }

    /// The same certificates with other destinations.
    pub(super) fn with_settings(&self, settings: &Arc<Settings>) -> Self {
        Self {
            settings: Arc::clone(settings),
            ..self.clone()
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(super) fn message_limits(&self) -> sip::Limits {
        self.settings.limits.message_limits()
    }

    /// Whether requests from a host are listened to.
    pub(super) fn admits(&self, transport: Transport, local: SocketAddr, source: IpAddr) -> bool {
        self.settings.trunks.iter().any(|trunk| {
            trunk.speaks(transport)
                && trunk.listen == local
                && (trunk.admits(source)
                    || trunk
                        .destinations
                        .iter()
                        .any(|destination| destination.address.ip() == source))
        })
    }

    pub(super) fn acceptor(&self, local: SocketAddr) -> Option<TlsAcceptor> {
        self.listeners
            .get(&local)
            .map(|listener| listener.acceptor.clone())
    }

    /// Our certificate on a listener.
    pub(super) fn identity(&self, local: SocketAddr) -> Option<&CertificateDer<'static>> {
        self.listeners
            .get(&local)
            .and_then(|listener| listener.certificate.as_ref())
    }

    /// How to speak TLS to a peer of that name from a listener's address. The local port may be 0.
    pub(super) fn connector(
        &self,
        local: SocketAddr,
        server_name: &Arc<str>,
    ) -> Option<TlsConnector> {
        self.connectors
            .get(&(local, Arc::clone(server_name)))
            .or_else(|| {
                self.connectors
                    .iter()
                    .find(|((listen, name), _)| {
                        listen.ip() == local.ip() && name == server_name && local.port() == 0
                    })
                    .map(|(_, connector)| connector)
            })
            .cloned()
    }
}
