//! Ports for the listeners of tests.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

/// Below those that the kernel gives to connections of other tests meanwhile.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of an address that nobody has, and no other test of this process gets.
pub(crate) fn free_port(ip: &str) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(101) as u16;
    loop {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Relaxed)) % COUNT;
        let address = SocketAddr::new(ip.parse().unwrap(), FIRST + next);
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
