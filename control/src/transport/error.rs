//! What can go wrong at the edges.

use std::{fmt, io, net::SocketAddr};

use crate::sip::Transport;

/// Why the listeners could not be opened.
#[derive(Debug)]
pub enum TransportError {
    /// The operating system refused a listener.
    Listen {
        transport: Transport,
        address: SocketAddr,
        error: io::Error,
    },
    /// A trunk's certificates do not serve.
    Certificates { trunk: String, what: String },
}

impl fmt::Display for TransportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen {
                transport,
                address,
                error,
            } => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "end the other program that listens there, or choose another port"
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        "give this machine the address, or correct `listen`"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "choose a port above 1023 or allow CAP_NET_BIND_SERVICE"
                    }
                    _ => "correct `listen`",
                };
                write!(
                    formatter,
                    "cannot listen on {address} over {transport} ({error}): {remedy}"
                )
            }
            Self::Certificates { trunk, what } => {
                write!(formatter, "trunk {trunk:?}: {what}")
            }
        }
    }
}

impl std::error::Error for TransportError {}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nothing listens on the local address that it should be sent from.
    NoListener,
    /// The operating system refused the datagram.
    Refused(io::ErrorKind),
    /// More connections are open than the limit allows.
    Connections,
    /// The peer does not read what it was sent; its connection is being closed.
    SlowReader,
    /// No trunk with certificates is meant by that name.
    NoCertificates,
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoListener => formatter.write_str("no listener has that local address"),
            Self::Refused(kind) => write!(formatter, "the datagram was refused ({kind})"),
            Self::Connections => {
                formatter.write_str("too many connections are open: raise [limits] connections")
            }
            Self::SlowReader => formatter.write_str("the peer does not read what it is sent"),
            Self::NoCertificates => {
                formatter.write_str("no trunk has certificates for that destination")
            }
        }
    }
}

impl std::error::Error for SendError {}
