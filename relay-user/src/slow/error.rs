//! The one error of the slow path's boundary.

use std::{fmt, io, net::SocketAddr};

/// Why the workers could not start, or a flow was not installed.
#[derive(Debug)]
pub enum SlowError {
    /// The kernel refuses io_uring to this process.
    IoUringRefused(io::Error),
    /// The kernel's io_uring lacks what the workers need.
    IoUringTooOld(io::Error),
    /// Raw sockets are refused.
    RawSocketRefused(io::Error),
    /// A socket call failed; the text says which.
    Socket {
        call: &'static str,
        error: io::Error,
    },
    /// A port of a flow could not be bound (without sk_lookup steering only).
    Bind {
        address: SocketAddr,
        error: io::Error,
    },
    /// The steering program did not take a worker's socket.
    Steering(String),
    /// The worker's queue of commands stayed full: it is stopped or starved.
    Busy { worker: usize },
    /// As many flows as the configuration allows.
    Full { limit: usize },
    /// A key's length does not fit its suite, or its MKI is too long.
    Keys { suite: &'static str },
    /// A thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for SlowError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUringRefused(error) => write!(
                formatter,
                "the kernel refuses io_uring ({error}): a seccomp profile forbids it (Docker's \
                 default one does: run with a profile that allows io_uring_setup, io_uring_enter \
                 and io_uring_register), or `sysctl kernel.io_uring_disabled` is not 0 (set it to \
                 0, or to 1 with this process in kernel.io_uring_group)"
            ),
            Self::IoUringTooOld(error) => write!(
                formatter,
                "this kernel's io_uring lacks what the workers need ({error}): Linux 6.1 or later \
                 is required"
            ),
            Self::RawSocketRefused(error) => write!(
                formatter,
                "raw sockets are refused ({error}): give the process CAP_NET_RAW"
            ),
            Self::Socket { call, error } => {
                write!(formatter, "a worker's socket: {call} failed: {error}")
            }
            Self::Bind { address, error } => write!(
                formatter,
                "the media port {address} cannot be bound: {error}; take it out of [media] ports \
                 or stop who uses it"
            ),
            Self::Steering(what) => write!(
                formatter,
                "the sk_lookup program did not take a worker's socket: {what}"
            ),
            Self::Busy { worker } => write!(
                formatter,
                "worker {worker} does not take commands: it is stopped or starved of CPU"
            ),
            Self::Full { limit } => write!(
                formatter,
                "the workers serve {limit} flows already: raise flows in [media]"
            ),
            Self::Keys { suite } => write!(
                formatter,
                "a master key or MKI does not have the length that {suite} asks for"
            ),
            Self::Thread(error) => write!(formatter, "a worker's thread did not start: {error}"),
        }
    }
}

impl std::error::Error for SlowError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::IoUringRefused(error)
            | Self::IoUringTooOld(error)
            | Self::RawSocketRefused(error)
            | Self::Thread(error)
            | Self::Socket { error, .. }
            | Self::Bind { error, .. } => Some(error),
            _ => None,
        }
    }
}
