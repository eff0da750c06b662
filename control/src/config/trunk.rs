//! A trunk as the configuration has it. The documentation of every field becomes
//! docs/configuration.md.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    authentication::{self, Authentication, Credentials, Registration},
    destination::{Destination, Found, Question, WeightedAddress},
    numbers::Numbers,
    options::Options,
    settings::CallLimits,
    signalling::Signalling,
    values::{Host, HostName, TrunkAddress},
};
use crate::sip::Transport;

/// A SIP peer, and how to speak with it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Its name in routes, metrics and logs: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The interface for its media: the name of an `[[interface]]`.
    pub interface: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: Transport,
    /// Our address and port for its signalling. Trunks may share one; then `allowed_sources` tells
    /// them apart, or `domain`: the name that a request is for, in its Request-URI or in To, or
    /// that TLS was opened for (SNI).
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Where calls to this trunk go, in order: the next is tried when one does not answer. A name
    /// without a port is looked up by its SRV records (`_sip._udp`, `_sip._tcp` or `_sips._tcp`,
    /// by `transport`; NAPTR is not asked for), which say addresses, ports, priorities and weights;
    /// where it has none, and with a port, by A or AAAA. Of one name 64 addresses are used. It is
    /// looked up again when the answer's time is over, after 5 s at least and 300 s at most; what
    /// is known stays while that fails. Without a port elsewhere: 5060, or 5061 for TLS. Empty: calls only come from this trunk. A
    /// table gives an address a priority and a weight.
    #[serde(default)]
    pub addresses: Vec<WeightedAddress>,
    /// Who may signal as this trunk, as ranges such as `"198.51.100.0/24"`. Empty: only its
    /// `addresses`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allowed_sources: Vec<IpNet>,
    /// Our media address for calls that come with `X-MS-UserLocation: internal` (Teams' local media
    /// optimisation), and from re-INVITEs with it on, where another endpoint sends them: one of an
    /// `[[interface]]`, for users inside of our network. Left out: as for all others.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub internal_address: Option<IpAddr>,
    /// Our media address for all other calls with the trunk. Left out: the interface's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub external_address: Option<IpAddr>,
    /// Where its media may come from, as ranges. Empty: anywhere. The address in its SDP is always
    /// allowed.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub media_sources: Vec<IpNet>,
    /// How the source of its media is pinned: `strict` (the address and port in its SDP and no
    /// other), `latch` (the source of the first valid packet, anew when its SDP names another
    /// address) or `relatch-on-reinvite` (that, and anew after each offer and answer).
    #[serde(default)]
    pub latching: Latching,
    /// SRTP with keys in the SDP (RFC 4568): `require` (nothing else), `offer` (if the peer takes
    /// it) or `off`.
    #[serde(default)]
    pub srtp: Srtp,
    /// Whether its media proves where it is by ICE (RFC 8445), as Teams' media bypass does: `lite`
    /// (offered to it, and agreed to when it offers; we answer its checks and send none) or `off`.
    /// Where both sides have it, it decides what `latching` does otherwise.
    #[serde(default)]
    pub ice: Ice,
    /// How hold is offered to it: `as-sent` (in the other side's form) or `inactive`, for peers
    /// that know no one-way direction, such as Teams.
    #[serde(default)]
    pub hold: Hold,
    /// The codecs that may be used, by their names in SDP, such as `"PCMU"`. Empty: all. The
    /// order is the offering side's.
    #[serde(default)]
    pub codecs: Vec<String>,
    /// Differentiated services code point of media sent to it, 0 to 63; 46 is expedited
    /// forwarding. Left out: as it came in.
    #[serde(default)]
    pub dscp: Option<u8>,
    /// Our name in Contact, From and Via, and the one that this trunk is known by where several
    /// share an address. Left out: the address in `listen`. Teams insists on a name.
    #[serde(default)]
    pub domain: Option<HostName>,
    /// After how many seconds without traffic a TCP or TLS connection that we opened asks whether
    /// its peer is there (RFC 5626 §4.4.1, a double line break); the connection is closed when
    /// nothing comes back within 10 s. 0: never. Ask only peers that answer. Theirs are answered
    /// always.
    #[serde(default)]
    pub keep_alive_seconds: u16,
    /// How to speak SIP with the trunk. What is left out is as `profile` has it.
    #[serde(default)]
    pub sip: Signalling,
    #[serde(default)]
    pub options: Options,
    /// The tenant whose trunk it is: the name of a `[[tenant]]`.
    #[serde(default)]
    pub tenant: Option<String>,
    #[serde(default)]
    pub limits: CallLimits,
    /// Certificates. Needed when the transport is `tls`.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// How the trunk writes telephone numbers, in the Request-URI, From, To, P-Asserted-Identity,
    /// Diversion and History-Info of calls, in both directions. Between trunks a number has its
    /// country code behind `+`, and so it is for routes. Shorter ones than seven digits stay as
    /// they are, and so do those in transfers.
    #[serde(default)]
    pub numbers: Numbers,
    /// With what challenges of the trunk (401 and 407) are answered, to any request but OPTIONS:
    /// there a challenge says as well as a 200 that somebody is there. MD5, SHA-256 and SHA-512-256
    /// are known; of several challenges the first of those is answered.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Whom the trunk has to be: requests that begin something, all but OPTIONS, are challenged
    /// with 401 until they prove a password. Those inside calls are not. `allowed_sources` holds
    /// besides.
    #[serde(default)]
    pub authentication: Option<Authentication>,
    /// Registering with the trunk (RFC 3261 §10), so that it knows where we are: with the first of
    /// its `addresses` that takes it, again before it ends, and no longer once we shut down. A
    /// call to the user that is registered goes to the number in To.
    #[serde(default)]
    pub registration: Option<Registration>,
    /// `addresses`, with names as they were last looked up. Empty until then.
    #[serde(skip)]
    pub destinations: Vec<Destination>,
}

impl Trunk {
    /// Whether its messages may come by the transport: its own, and for a UDP trunk TCP where
    /// that takes its large requests (RFC 3261 §18.1.1).
    #[must_use]
    pub fn speaks(&self, transport: Transport) -> bool {
        self.transport == transport
            || transport == Transport::Tcp
                && self.transport == Transport::Udp
                && self.sip.large_by_tcp
    }

    /// The name that it goes by over TLS, if any.
    #[must_use]
    pub fn own_name(&self) -> Option<&str> {
        let domain = self.domain.as_ref().map(HostName::as_str);
        domain.filter(|_| self.transport == Transport::Tls)
    }

    /// The user part that is registered with it.
    #[must_use]
    pub fn registered_user(&self) -> Option<String> {
        let registration = self.registration.as_ref()?;
        authentication::registered_user(registration, self.credentials.as_ref())
    }

    /// The addresses of its own that its media has by where a phone is.
    pub fn media_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let both = [self.internal_address, self.external_address];
        both.into_iter().flatten()
    }

    /// Whether a host may signal as this trunk.
    #[must_use]
    pub fn admits(&self, source: IpAddr) -> bool {
        if self.allowed_sources.is_empty() {
            self.destinations
                .iter()
                .any(|destination| destination.address.ip() == source)
        } else {
            self.allowed_sources
                .iter()
                .any(|range| range.contains(&source))
        }
    }

    /// Its addresses as calls try them: those of one priority together, with their weights.
    pub fn turns(&self) -> Vec<Vec<(&TrunkAddress, u16)>> {
        let mut ranked: Vec<_> = self
            .addresses
            .iter()
            .enumerate()
            .map(|(place, entry)| (entry.rank(place), &entry.address))
            .collect();
        ranked.sort_by_key(|(rank, _)| (rank.priority, rank.place));
        ranked
            .chunk_by(|(one, _), (other, _)| one.priority == other.priority)
            .map(|turn| turn.iter().map(|(rank, address)| (*address, rank.weight)))
            .map(Iterator::collect)
            .collect()
    }

    /// The names that its peers' certificates must hold.
    pub(crate) fn server_names(&self) -> Vec<Arc<str>> {
        let configured = self.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        self.addresses
            .iter()
            .map(|address| match (configured, &address.address.host) {
                (Some(name), _) | (None, Host::Name(name)) => Arc::from(name.as_str()),
                (None, Host::Address(ip)) => Arc::from(ip.to_string()),
            })
            .collect()
    }

    /// The names of which the certificate of those who connect must hold one; empty: any will do.
    pub(crate) fn peer_names(&self) -> Vec<Arc<str>> {
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let mut names: Vec<Arc<str>> = if !tls.peer_names.is_empty() {
            tls.peer_names
                .iter()
                .map(|name| name.as_str().into())
                .collect()
        } else if let Some(name) = &tls.server_name {
            vec![name.as_str().into()]
        } else {
            let hosts = self.addresses.iter().map(|it| &it.address.host);
            hosts
                .filter_map(|host| match host {
                    Host::Name(name) => Some(name.as_str().into()),
                    Host::Address(_) => None,
                })
                .collect()
        };
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What is to be looked up for its addresses.
    pub(crate) fn questions(&self) -> impl Iterator<Item = Question> {
        self.addresses
            .iter()
            .filter_map(|entry| self.question(&entry.address))
    }

    fn question(&self, address: &TrunkAddress) -> Option<Question> {
        match &address.host {
            Host::Address(_) => None,
            Host::Name(name) => Some(Question {
                name: name.clone(),
                port: address.port,
                transport: self.transport,
                is_ipv6: self.listen.is_ipv6(),
            }),
        }
    }

    /// Where calls go, given what a name is known to stand for: in the order of the priorities, of
    /// the configuration's first, then of the SRV records'.
    pub(crate) fn resolve(&self, lookup: impl Fn(&Question) -> Vec<Found>) -> Vec<Destination> {
        let mut destinations = Vec::new();
        let entries = self.addresses.iter().zip(self.server_names()).enumerate();
        for (place, (entry, server_name)) in entries {
            let port = entry.address.port.unwrap_or(self.transport.default_port());
            let found = match (&entry.address.host, self.question(&entry.address)) {
                (Host::Address(ip), _) => vec![Found {
                    address: SocketAddr::new(*ip, port),
                    record: None,
                }],
                (_, Some(question)) => lookup(&question),
                (_, None) => Vec::new(),
            };
            // RFC 5922 §4: the name that was configured, whatever the SRV records lead to.
            let server_name = (self.transport == Transport::Tls).then_some(server_name);
            for Found { address, record } in found {
                // Nothing can be sent to the other family from this listener.
                if address.is_ipv4() == self.listen.is_ipv4() {
                    destinations.push(Destination {
                        address,
                        server_name: server_name.clone(),
                        entry: entry.rank(place),
                        record,
                    });
                }
            }
        }
        destinations.sort_by_key(|it| {
            let record = it.record.map(|record| (record.priority, record.place));
            (it.entry.priority, it.entry.place, record)
        });
        destinations
    }
}

/// How a trunk's media peer is pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Latching {
    Strict,
    #[default]
    Latch,
    RelatchOnReinvite,
}

impl From<Latching> for relay_user::media::Latching {
    fn from(latching: Latching) -> Self {
        match latching {
            Latching::Strict => Self::Strict,
            Latching::Latch => Self::Latch,
            Latching::RelatchOnReinvite => Self::RelatchOnReinvite,
        }
    }
}

/// Whether a trunk's media is SRTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    Require,
    Offer,
    #[default]
    Off,
}

/// Whether a trunk's media has ICE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ice {
    Lite,
    #[default]
    Off,
}

/// How hold is offered to a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    #[default]
    AsSent,
    Inactive,
}

/// The certificates of a TLS trunk, as PEM files. SIGHUP reads them anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Our certificate, then its intermediates. It is shown to those who connect and to those that
    /// we connect to.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities that may have signed the peer's certificate.
    #[serde(default = "default_roots")]
    pub roots: PathBuf,
    /// The name that the peer's certificate must hold. Left out: the name or address in
    /// `addresses`.
    #[serde(default)]
    pub server_name: Option<HostName>,
    /// Whether those who connect must show a certificate signed by one of `roots`, with one of
    /// `peer_names` in its subjectAltName. Its extended key usage may be that of a server, as
    /// Teams' is.
    #[serde(default)]
    pub require_client_certificate: bool,
    /// The names of which the certificate of those who connect must hold one, if it is required.
    /// Left out: `server_name`, or else the names in `addresses`; with none of those, any name.
    #[serde(default)]
    pub peer_names: Vec<HostName>,
}

/// What Debian and Ubuntu install as the authorities to trust.
fn default_roots() -> PathBuf {
    PathBuf::from("/etc/ssl/certs/ca-certificates.crt")
}
