//! Where messages come from and go to.

use std::{fmt, net::SocketAddr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The transports that signalling runs over.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// Whether the transport itself delivers or says that it could not (RFC 3261 §17).
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// As Via writes it.
    #[must_use]
    pub const fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// As the `transport` parameter of a URI writes it.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// By its name in Via or in a URI, whatever the case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls]
            .into_iter()
            .find(|transport| transport.parameter().eq_ignore_ascii_case(name))
    }

    /// The port when none is named (RFC 3261 §19.1.2).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.parameter())
    }
}

/// One TCP or TLS connection, numbered by the edge that owns it and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The way of a message: where from or where to, by what transport, on which connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub transport: Transport,
    /// Our side. For a message to be sent over a new connection the port may be 0.
    pub local: SocketAddr,
    /// The peer's side.
    pub remote: SocketAddr,
    /// The connection to use. While it is open it is used; when it is gone or `None`, one to
    /// `remote` is opened or reused. Always `None` over UDP.
    pub connection: Option<ConnectionId>,
    /// The name that the peer's certificate must hold, for TLS connections that we open.
    pub server_name: Option<Arc<str>>,
    /// The name that we go by over TLS, if any: whose certificate we show on a connection that we
    /// open, or whom a peer that connects has asked for.
    pub own_name: Option<Arc<str>>,
}

/// The way that a received message came.
pub type Flow = Target;

/// What a dialog keeps of the way that the peer's last message came; the rest is its trunk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerWay {
    pub transport: Transport,
    pub remote: SocketAddr,
    /// The connection, to be used as long as it is open.
    pub connection: Option<ConnectionId>,
}

impl From<&Flow> for PeerWay {
    fn from(flow: &Flow) -> Self {
        Self {
            transport: flow.transport,
            remote: flow.remote,
            connection: flow.connection,
        }
    }
}

impl Target {
    /// Over UDP.
    #[must_use]
    pub const fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
            server_name: None,
            own_name: None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} over {}", self.remote, self.transport)
    }
}
