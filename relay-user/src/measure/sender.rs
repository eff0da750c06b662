//! Sending whole frames by a packet socket: for loads that are paced, or that an XDP program
//! cannot make, as SRTP.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use super::{MeasureError, index_of, refused};
use crate::clock::nanoseconds;

/// The most frames that one call takes.
pub const BURST: usize = 64;

/// A packet socket that sends by one interface, past the queueing discipline.
pub struct Sender {
    socket: OwnedFd,
}

impl Sender {
    /// Opens one on an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses it; without `CAP_NET_RAW`, for one.
    pub fn open(interface: &str) -> Result<Self, MeasureError> {
        let index = index_of(interface)?;
        // SAFETY: no pointer is passed. Protocol 0: it receives nothing.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(refused("open a packet socket")(io::Error::last_os_error()));
        }
        // SAFETY: the kernel just gave us the descriptor, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let one: libc::c_int = 1;
        // SAFETY: `one` is an integer of the length that is passed, and outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                ptr::from_ref(&one).cast(),
                size_of_val(&one) as libc::socklen_t,
            )
        };
        if set < 0 {
            return Err(refused("set PACKET_QDISC_BYPASS")(
                io::Error::last_os_error(),
            ));
        }
        // SAFETY: a sockaddr_ll is integers, for which all zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as libc::c_int;
        // SAFETY: `address` has the length that is passed, and outlives the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(refused("bind a packet socket")(io::Error::last_os_error()));
        }
        Ok(Self { socket })
    }

    /// Sends the first [`BURST`] of `frames` and says how many left.
    ///
    /// # Errors
    /// When none left; that the interface has no room (`ENOBUFS`) is no error, but no frame.
    pub fn send(&self, frames: &[&[u8]]) -> Result<usize, MeasureError> {
        let empty = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut parts = [empty; BURST];
        // SAFETY: a mmsghdr is integers and pointers, for which all zeros are valid.
        let mut messages: [libc::mmsghdr; BURST] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        for ((part, message), frame) in parts.iter_mut().zip(&mut messages).zip(frames) {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: the first `count` messages each point to one part of `parts`, which points to a
        // frame; all of them outlive the call, which only reads them and writes the lengths.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR) => Ok(0),
            _ => Err(refused("send frames")(error)),
        }
    }
}

/// Nanoseconds of the clock that the sink reads.
#[must_use]
pub fn now() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC)
}
