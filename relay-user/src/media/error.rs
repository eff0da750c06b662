//! The one error of the media plane's boundary.

use std::{fmt, net::SocketAddr};

/// Why the media plane did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaError {
    /// Every port pair of the interface's range is taken.
    PortsExhausted { interface: String },
    /// The interface is unknown or has no media address of the family.
    NoAddress { interface: String },
    /// A table is as full as the configuration lets it grow.
    Capacity { table: &'static str, limit: usize },
    /// A leg's port was not reserved, or has been given back.
    NotReserved { port: SocketAddr },
    /// A key's length does not fit its suite.
    Keys { suite: &'static str },
    /// The kernel refused; the text says which call and what to do.
    Kernel(String),
}

impl fmt::Display for MediaError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortsExhausted { interface } => write!(
                formatter,
                "every media port of {interface} is taken: widen [media] ports, or wait for calls to end"
            ),
            Self::NoAddress { interface } => write!(
                formatter,
                "{interface} has no media address of that family: add one to its [[interface]]"
            ),
            Self::Capacity { table, limit } => {
                write!(
                    formatter,
                    "the table {table} is full at {limit}: raise its limit in [media]"
                )
            }
            Self::NotReserved { port } => write!(
                formatter,
                "the media port {port} is not reserved: reserve it before connecting a call to it"
            ),
            Self::Keys { suite } => {
                write!(
                    formatter,
                    "a master key does not have the length that {suite} asks for"
                )
            }
            Self::Kernel(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for MediaError {}
