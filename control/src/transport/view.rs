//! One configuration as the edges use it: who is admitted, and with which certificates.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    error::TransportError,
    tls::{Ends, Pool},
};
use crate::{
    config::{Limits, Settings, Trunk},
    sip::{self, Target, Transport},
};

/// How many earlier settings are asked whom they admit: each new answer of DNS makes others.
const FORMER: usize = 256;

#[derive(Clone)]
pub(super) struct View {
    settings: Arc<Settings>,
    /// Those before, which live as long as calls that began with them: the peers of those calls must
    /// be heard although no trunk names them any more.
    former: Vec<Weak<Settings>>,
    listeners: Arc<HashMap<SocketAddr, TlsListener>>,
}

/// The trunks that listen for TLS on one address, in the order of the configuration.
#[derive(Default)]
struct TlsListener {
    trunks: Vec<TlsTrunk>,
    /// Where in `trunks` the trunk of a name is.
    names: HashMap<String, usize>,
}

struct TlsTrunk {
    /// The names that its peers' certificates must hold.
    server_names: Vec<Arc<str>>,
    ends: Arc<Ends>,
}

impl TlsListener {
    fn named(&self, name: &str) -> Option<&TlsTrunk> {
        let place = match self.names.get(name) {
            Some(place) => *place,
            // Names in a configuration are in lower case.
            None => *self.names.get(&name.to_ascii_lowercase())?,
        };
        self.trunks.get(place)
    }
}

impl View {
    /// Reads the certificates; `before` is the view that this one follows.
    pub(super) fn new(
        settings: &Arc<Settings>,
        before: Option<&Self>,
    ) -> Result<Self, TransportError> {
        let mut pool = before.map_or_else(Pool::default, |view| Pool::of(view.every_end()));
        let mut listeners: HashMap<SocketAddr, TlsListener> = HashMap::new();
        for trunk in &settings.trunks {
            let ends = pool
                .ends(trunk)
                .map_err(|what| TransportError::Certificates {
                    trunk: trunk.name.clone(),
                    what,
                })?;
            let Some(ends) = ends else { continue };
            let listener = listeners.entry(trunk.listen).or_default();
            if let Some(name) = trunk.own_name() {
                let place = listener.trunks.len();
                listener.names.entry(name.to_owned()).or_insert(place);
            }
            listener.trunks.push(TlsTrunk {
                server_names: trunk.server_names(),
                ends,
            });
        }
        Ok(Self {
            settings: Arc::clone(settings),
            former: before.map(Self::outlived).unwrap_or_default(),
            listeners: Arc::new(listeners),
        })
    }

    /// The same certificates with other destinations.
    pub(super) fn with_settings(&self, settings: &Arc<Settings>) -> Self {
        Self {
            settings: Arc::clone(settings),
            former: self.outlived(),
            listeners: Arc::clone(&self.listeners),
        }
    }

    /// Its settings and those before them, once others follow: the oldest go when they are too many.
    fn outlived(&self) -> Vec<Weak<Settings>> {
        let living = self.former.iter().filter(|it| it.strong_count() > 0);
        let mut former: Vec<_> = living.cloned().collect();
        former.push(Arc::downgrade(&self.settings));
        former.drain(..former.len().saturating_sub(FORMER));
        former
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings before that calls still have.
    pub(super) fn former(&self) -> impl Iterator<Item = Arc<Settings>> {
        self.former.iter().filter_map(Weak::upgrade)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(super) fn message_limits(&self) -> sip::Limits {
        self.settings.limits.message_limits()
    }

    /// After how long without traffic a connection of ours asks whether its peer is there.
    pub(super) fn keep_alive(&self, target: &Target) -> Option<Duration> {
        let is_there = |trunk: &&Trunk| {
            let mut destinations = trunk.destinations.iter();
            trunk.speaks(target.transport)
                && trunk.listen.ip() == target.local.ip()
                && destinations.any(|destination| destination.address == target.remote)
        };
        let seconds = self.settings.trunks.iter().filter(is_there);
        let seconds = seconds.map(|trunk| trunk.keep_alive_seconds);
        let shortest = seconds.filter(|seconds| *seconds > 0).min();
        shortest.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether requests from a host are listened to.
    pub(super) fn admits(&self, transport: Transport, local: SocketAddr, source: IpAddr) -> bool {
        let admit = |settings: &Settings| {
            settings.trunks.iter().any(|trunk| {
                trunk.speaks(transport)
                    && trunk.listen == local
                    && (trunk.admits(source)
                        || trunk
                            .destinations
                            .iter()
                            .any(|destination| destination.address.ip() == source))
            })
        };
        admit(&self.settings) || self.former().any(|settings| admit(&settings))
    }

    /// Whether a host is one of the addresses of a trunk that listens there.
    pub(super) fn names(&self, transport: Transport, local: SocketAddr, host: IpAddr) -> bool {
        self.settings.trunks.iter().any(|trunk| {
            let mut destinations = trunk.destinations.iter();
            trunk.speaks(transport)
                && trunk.listen == local
                && destinations.any(|destination| destination.address.ip() == host)
        })
    }

    fn every_end(&self) -> impl Iterator<Item = Arc<Ends>> {
        let trunks = self.listeners.values().flat_map(|it| &it.trunks);
        trunks.map(|trunk| Arc::clone(&trunk.ends))
    }

    /// What is shown to those who connect and ask for a name (RFC 6066 §3): what the trunk of that
    /// name has, or else the listener's first.
    pub(super) fn ends_for(&self, local: SocketAddr, name: Option<&str>) -> Option<Arc<Ends>> {
        let listener = self.listeners.get(&local)?;
        let trunk = name
            .and_then(|name| listener.named(name))
            .or_else(|| listener.trunks.first())?;
        Some(Arc::clone(&trunk.ends))
    }

    /// How to speak TLS with a peer from a listener's address. The local port may be 0.
    pub(super) fn ends_to(&self, target: &Target) -> Option<Arc<Ends>> {
        let name = target.server_name.as_deref()?;
        let calls = |trunk: &&TlsTrunk| trunk.server_names.iter().any(|known| **known == *name);
        let of = |listener: &TlsListener| {
            let own = target.own_name.as_deref();
            own.and_then(|own| listener.named(own))
                .filter(calls)
                .or_else(|| listener.trunks.iter().find(calls))
                .map(|trunk| Arc::clone(&trunk.ends))
        };
        match self.listeners.get(&target.local) {
            Some(listener) => of(listener),
            None if target.local.port() == 0 => self
                .listeners
                .iter()
                .filter(|(listen, _)| listen.ip() == target.local.ip())
                .find_map(|(_, listener)| of(listener)),
            None => None,
        }
    }

    /// The name that the peer's certificate must hold when a response goes over a new connection:
    /// where a peer's own connection is gone, or none of ours says it. `None` when no trunk that
    /// admits the peer may be called.
    pub(super) fn name_of_peer(&self, target: &Target) -> Option<Arc<str>> {
        let host = target.remote.ip();
        let trunks = self.settings.trunks.iter().filter(|trunk| {
            trunk.transport == target.transport
                && trunk.listen == target.local
                && trunk.admits(host)
                && !trunk.destinations.is_empty()
        });
        let is_asked = |trunk: &&Trunk| {
            let (own, asked) = (trunk.own_name(), target.own_name.as_deref());
            own.zip(asked)
                .is_some_and(|(own, asked)| own.eq_ignore_ascii_case(asked))
        };
        let trunk = trunks
            .clone()
            .find(is_asked)
            .or_else(|| trunks.clone().next())?;
        let mut destinations = trunk.destinations.iter();
        let known = destinations.find(|destination| destination.address.ip() == host);
        known.or(trunk.destinations.first())?.server_name.clone()
    }

    /// Whether connections that began with these certificates are overtaken: their listener has
    /// others now. Those of a listener that is gone stay, since calls may still need them.
    pub(super) fn has_overtaken(&self, local: SocketAddr, ends: &Arc<Ends>) -> bool {
        let mut listeners = self
            .listeners
            .iter()
            .filter(|(listen, _)| {
                listen.ip() == local.ip() && [listen.port(), 0].contains(&local.port())
            })
            .peekable();
        listeners.peek().is_some()
            && !listeners
                .any(|(_, it)| it.trunks.iter().any(|trunk| Arc::ptr_eq(&trunk.ends, ends)))
    }
}
