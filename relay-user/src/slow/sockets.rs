//! The workers' sockets: the edge to the socket calls.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libc::{c_int, socklen_t};
use relay_abi::flow::Address;

use super::SlowError;
use crate::media::Family;

/// Octets of a worker's receiving socket. At the rate that a worker can serve it holds some tens
/// of milliseconds: what waits longer than that is better lost.
pub(super) const RECEIVE_BUFFER: c_int = 4 << 20;
/// Octets of the socket of one port.
const PORT_RECEIVE_BUFFER: c_int = 64 << 10;
/// Octets of a sending socket.
const SEND_BUFFER: c_int = 4 << 20;

/// Microseconds to look for packets before waiting. A worker never waits inside a receive, so that
/// it looks once, whatever this is.
const BUSY_POLL: c_int = 50;
/// How many packets are taken from the device's queue at once.
const BUSY_POLL_PACKETS: c_int = 64;
/// Of Linux's `asm-generic/socket.h`.
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;

/// An address as the kernel reads it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union SocketAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl SocketAddress {
    /// No address, for what a bound socket sends.
    pub(super) const NONE: (Self, socklen_t) = (
        Self {
            v4: libc::sockaddr_in {
                sin_family: 0,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: 0 },
                sin_zero: [0; 8],
            },
        },
        0,
    );

    /// `address` with `port`, and its length.
    pub(super) fn new(address: &Address, port: u16) -> (Self, socklen_t) {
        match address.as_v4() {
            Some(octets) => (
                Self {
                    v4: libc::sockaddr_in {
                        sin_family: libc::AF_INET as libc::sa_family_t,
                        sin_port: port.to_be(),
                        sin_addr: libc::in_addr {
                            s_addr: u32::from_ne_bytes(octets),
                        },
                        sin_zero: [0; 8],
                    },
                },
                size_of::<libc::sockaddr_in>() as socklen_t,
            ),
            None => (
                Self {
                    v6: libc::sockaddr_in6 {
                        sin6_family: libc::AF_INET6 as libc::sa_family_t,
                        sin6_port: port.to_be(),
                        sin6_flowinfo: 0,
                        sin6_addr: libc::in6_addr { s6_addr: address.0 },
                        sin6_scope_id: 0,
                    },
                },
                size_of::<libc::sockaddr_in6>() as socklen_t,
            ),
        }
    }

    pub(super) fn as_pointer(&self) -> *const libc::sockaddr {
        ptr::from_ref(self).cast()
    }
}

/// The socket that a worker receives every packet of `family` on; sk_lookup names it, so what it
/// is bound to is never asked for.
pub(super) fn receiver(family: Family, busy_poll: bool) -> Result<OwnedFd, SlowError> {
    let socket = datagram(family, RECEIVE_BUFFER)?;
    if busy_poll && let Err(error) = poll_busily(&socket) {
        tracing::warn!(
            %error,
            "workers do not poll the device: give the process CAP_NET_ADMIN, on Linux 5.11 or later"
        );
    }
    let anywhere = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    bind(&socket, SocketAddr::new(anywhere, 0)).map_err(failed("bind"))?;
    Ok(socket)
}

/// Lets whoever reads an empty socket look into the device's queue first, and keeps the device's
/// interrupts off as long as somebody does.
fn poll_busily(socket: &OwnedFd) -> Result<(), SlowError> {
    for (option, value, name) in [
        (libc::SO_BUSY_POLL, BUSY_POLL, "SO_BUSY_POLL"),
        (SO_PREFER_BUSY_POLL, 1, "SO_PREFER_BUSY_POLL"),
        (
            SO_BUSY_POLL_BUDGET,
            BUSY_POLL_PACKETS,
            "SO_BUSY_POLL_BUDGET",
        ),
    ] {
        set(socket, libc::SOL_SOCKET, option, value).map_err(failed(name))?;
    }
    Ok(())
}

/// A socket for one local port, where nothing steers.
pub(super) fn port(local: SocketAddr) -> Result<OwnedFd, SlowError> {
    let family = if local.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let socket = datagram(family, PORT_RECEIVE_BUFFER)?;
    bind(&socket, local).map_err(|error| SlowError::Bind {
        address: local,
        error,
    })?;
    Ok(socket)
}

/// A raw socket that packets with headers of our own leave by. Bound to `from`, so that routing
/// rules for that source hold; `None` sends from any.
pub(super) fn sender(family: Family, from: Option<IpAddr>) -> Result<OwnedFd, SlowError> {
    let domain = domain(family);
    // IPPROTO_RAW says that the headers come with each packet, and that none are received.
    let socket = socket(domain, libc::SOCK_RAW, libc::IPPROTO_RAW).map_err(|error| match error
        .raw_os_error()
    {
        Some(libc::EPERM | libc::EACCES) => SlowError::RawSocketRefused(error),
        _ => failed("socket(SOCK_RAW)")(error),
    })?;
    buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
    if let Some(from) = from {
        free_bind(&socket, family)?;
        bind(&socket, SocketAddr::new(from, 0)).map_err(failed("bind"))?;
    }
    Ok(socket)
}

/// A packet socket that whole frames leave by one interface by, through its queueing discipline. It
/// receives nothing.
pub(super) fn frames(interface: u32) -> io::Result<OwnedFd> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER)
        .or_else(|_| set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER))?;
    // SAFETY: a sockaddr_ll is integers, for which all zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = interface as c_int;
    // SAFETY: `address` has the length that is passed, and outlives the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            ptr::from_ref(&address).cast(),
            size_of_val(&address) as socklen_t,
        )
    };
    check(bound)?;
    Ok(socket)
}

/// An eventfd that wakes a worker.
pub(super) fn wake() -> Result<OwnedFd, SlowError> {
    // SAFETY: no pointer is passed.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    own(descriptor).map_err(failed("eventfd"))
}

/// Wakes the worker that reads `wake`.
pub(super) fn ring(wake: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight initialised octets that outlive the call. It fails only when the counter is
    // full, and then the worker is awake.
    unsafe { libc::write(wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

fn datagram(family: Family, octets: c_int) -> Result<OwnedFd, SlowError> {
    let socket = socket(domain(family), libc::SOCK_DGRAM, 0).map_err(failed("socket"))?;
    buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, octets)?;
    let each: &[(c_int, c_int, &'static str)] = match family {
        Family::V4 => &[
            (libc::SOL_IP, libc::IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR"),
            (libc::SOL_IP, libc::IP_RECVTTL, "IP_RECVTTL"),
            (libc::SOL_IP, libc::IP_RECVTOS, "IP_RECVTOS"),
        ],
        Family::V6 => &[
            (libc::SOL_IPV6, libc::IPV6_V6ONLY, "IPV6_V6ONLY"),
            (
                libc::SOL_IPV6,
                libc::IPV6_RECVORIGDSTADDR,
                "IPV6_RECVORIGDSTADDR",
            ),
            (libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"),
            (libc::SOL_IPV6, libc::IPV6_RECVTCLASS, "IPV6_RECVTCLASS"),
        ],
    };
    for (level, option, name) in each {
        set(&socket, *level, *option, 1).map_err(failed(name))?;
    }
    for (option, name) in [
        (libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
        (libc::SO_RXQ_OVFL, "SO_RXQ_OVFL"),
    ] {
        set(&socket, libc::SOL_SOCKET, option, 1).map_err(failed(name))?;
    }
    free_bind(&socket, family)?;
    Ok(socket)
}

/// Lets a socket be bound before its address is there, as loopback's is not in a new namespace.
fn free_bind(socket: &OwnedFd, family: Family) -> Result<(), SlowError> {
    match family {
        Family::V4 => set(socket, libc::SOL_IP, libc::IP_FREEBIND, 1),
        Family::V6 => set(socket, libc::SOL_IPV6, libc::IPV6_FREEBIND, 1),
    }
    .map_err(failed("FREEBIND"))
}

/// Sets a buffer's size beyond the system's limit where we may, within it where not.
fn buffer(socket: &OwnedFd, force: c_int, ask: c_int, octets: c_int) -> Result<(), SlowError> {
    set(socket, libc::SOL_SOCKET, force, octets)
        .or_else(|_| set(socket, libc::SOL_SOCKET, ask, octets))
        .map_err(failed("SO_RCVBUF or SO_SNDBUF"))
}

fn domain(family: Family) -> c_int {
    match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    }
}

fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    own(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })
}

fn own(descriptor: c_int) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us the descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn set(socket: &OwnedFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: `value` is an integer of the length that is passed, and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            size_of_val(&value) as socklen_t,
        )
    };
    check(result)
}

fn bind(socket: &OwnedFd, local: SocketAddr) -> io::Result<()> {
    let endpoint = super::endpoint(local);
    let (address, length) = SocketAddress::new(&endpoint.address, local.port());
    // SAFETY: `address` has at least `length` initialised octets and outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_pointer(), length) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn failed(call: &'static str) -> impl Fn(io::Error) -> SlowError {
    move |error| SlowError::Socket { call, error }
}
