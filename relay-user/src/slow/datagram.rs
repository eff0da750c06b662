//! What a multishot receive writes into a buffer: a header, the source's address, control messages
//! and the payload (io_uring_prep_recvmsg_multishot(3)).

use relay_abi::flow::{Address, Endpoint};

use super::headers::Hop;

/// Octets that a source's address takes: that of the longer family.
pub(super) const NAME: usize = size_of::<libc::sockaddr_in6>();
/// Octets that the control messages take; more than all that we ask for.
pub(super) const CONTROL: usize = 192;
const HEADER: usize = 16;
/// Where the payload begins.
pub(super) const PAYLOAD: usize = HEADER + NAME + CONTROL;

const _: () = assert!(PAYLOAD >= super::headers::LONGEST);
// libsrtp reads headers in words.
const _: () = assert!(PAYLOAD.is_multiple_of(4));

/// What came with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub source: Endpoint,
    pub local: Endpoint,
    pub limit: u8,
    pub service: u8,
    /// When it came in, in nanoseconds of the wall clock, if the kernel says.
    pub arrived: Option<u64>,
    /// How many packets the socket has dropped for lack of room, if any.
    pub overflows: Option<u32>,
    pub payload_length: usize,
    /// Larger than the buffer.
    pub truncated: bool,
}

impl Datagram {
    pub(super) fn hop(&self) -> Hop {
        Hop {
            limit: self.limit,
            service: self.service,
        }
    }
}

/// Reads the first `length` octets of a buffer. `None` if they are not what we asked for, or come
/// from or go to an IPv4-mapped address, which nothing on the wire has a right to.
pub(super) fn parse(buffer: &[u8], length: usize) -> Option<Datagram> {
    let buffer = buffer.get(..length)?;
    let word = |index: usize| {
        let octets = buffer.get(4 * index..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*octets))
    };
    let control_length = word(1)? as usize;
    let flags = word(3)? as i32;
    let source = endpoint(buffer.get(HEADER..HEADER + NAME)?)?;
    let mut control = buffer
        .get(HEADER + NAME..PAYLOAD)?
        .get(..control_length.min(CONTROL))?;
    let payload_length = length.checked_sub(PAYLOAD)?;

    let mut local = None;
    let mut limit = None;
    let mut datagram = Datagram {
        source,
        local: Endpoint::default(),
        limit: 0,
        service: 0,
        arrived: None,
        overflows: None,
        payload_length,
        truncated: flags & libc::MSG_TRUNC != 0,
    };
    while let Some((level, kind, data, rest)) = message(control) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) | (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => {
                local = endpoint(data);
            }
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                limit = integer(data).and_then(|limit| u8::try_from(limit).ok());
            }
            (libc::SOL_IP, libc::IP_TOS) => {
                datagram.service = data.first().copied().unwrap_or(0);
            }
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                let class = integer(data).unwrap_or(0);
                datagram.service = u8::try_from(class).unwrap_or(0);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => datagram.arrived = timestamp(data),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => datagram.overflows = integer(data),
            _ => {}
        }
        control = rest;
    }
    datagram.local = local?;
    datagram.limit = limit?;
    Some(datagram)
}

type Message<'a> = (i32, i32, &'a [u8], &'a [u8]);

/// The first control message: level, type, data; and those that follow.
fn message(control: &[u8]) -> Option<Message<'_>> {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    let length = usize::from_ne_bytes(*control.first_chunk()?);
    let level = i32::from_ne_bytes(*control.get(8..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*control.get(12..)?.first_chunk()?);
    let data = control.get(HEAD..length)?;
    let next = length.checked_next_multiple_of(size_of::<usize>())?;
    Some((level, kind, data, control.get(next..).unwrap_or_default()))
}

const _: () = assert!(size_of::<libc::cmsghdr>() == 16);

fn integer(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

fn timestamp(data: &[u8]) -> Option<u64> {
    let (seconds, rest) = data.split_first_chunk::<8>()?;
    let nanoseconds = rest.first_chunk::<8>()?;
    u64::from_ne_bytes(*seconds)
        .checked_mul(1_000_000_000)?
        .checked_add(u64::from_ne_bytes(*nanoseconds))
}

/// A `sockaddr_in` or `sockaddr_in6`.
fn endpoint(address: &[u8]) -> Option<Endpoint> {
    let family = u16::from_ne_bytes(*address.first_chunk()?);
    let port = u16::from_be_bytes(*address.get(2..)?.first_chunk()?);
    let address = if i32::from(family) == libc::AF_INET {
        Address::v4(*address.get(4..)?.first_chunk()?)
    } else if i32::from(family) == libc::AF_INET6 {
        let address = Address(*address.get(8..)?.first_chunk()?);
        if address.as_v4().is_some() {
            return None;
        }
        address
    } else {
        return None;
    };
    Some(Endpoint {
        address,
        port: port.into(),
    })
}
