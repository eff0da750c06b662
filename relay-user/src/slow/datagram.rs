//! What a multishot receive writes into a buffer: a header, the source's address, control messages
//! and the payload (io_uring_prep_recvmsg_multishot(3)).

use relay_abi::flow::{Address, Endpoint};

use super::headers::Hop;

/// Octets that a source's address takes: that of the longer family.
pub(super) const NAME: usize = size_of::<libc::sockaddr_in6>();
/// Octets that the control messages take; more than all that we ask for.
pub(super) const CONTROL: usize = 160;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A buffer as the kernel fills it, and its length.
    fn filled(name: &[u8], messages: &[(i32, i32, &[u8])], payload: &[u8]) -> (Vec<u8>, usize) {
        let mut control = Vec::new();
        for (level, kind, data) in messages {
            control.extend((16 + data.len()).to_ne_bytes());
            control.extend(level.to_ne_bytes());
            control.extend(kind.to_ne_bytes());
            control.extend_from_slice(data);
            control.resize(control.len().next_multiple_of(8), 0);
        }
        let mut buffer = Vec::new();
        for word in [
            name.len() as u32,
            control.len() as u32,
            payload.len() as u32,
            0,
        ] {
            buffer.extend(word.to_ne_bytes());
        }
        buffer.extend_from_slice(name);
        buffer.resize(HEADER + NAME, 0);
        buffer.extend_from_slice(&control);
        buffer.resize(PAYLOAD, 0);
        buffer.extend_from_slice(payload);
        let length = buffer.len();
        (buffer, length)
    }

    fn v4(last: u8, port: u16) -> Vec<u8> {
        let mut address = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        address.extend(port.to_be_bytes());
        address.extend([192, 0, 2, last]);
        address.extend([0; 8]);
        address
    }

    #[test]
    fn what_the_kernel_tells_is_read() {
        let local = v4(1, 20_000);
        let mut stamp = 5u64.to_ne_bytes().to_vec();
        stamp.extend(7u64.to_ne_bytes());
        let (buffer, length) = filled(
            &v4(2, 4000),
            &[
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &stamp),
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &9u32.to_ne_bytes()),
                (libc::SOL_IP, libc::IP_TOS, &[0xb8]),
                (libc::SOL_IP, libc::IP_TTL, &61u32.to_ne_bytes()),
                (libc::SOL_IP, libc::IP_ORIGDSTADDR, &local),
            ],
            b"content",
        );
        let datagram = parse(&buffer, length).expect("whole");
        assert_eq!(
            datagram.source,
            crate::slow::endpoint(([192, 0, 2, 2], 4000).into())
        );
        assert_eq!(
            datagram.local,
            crate::slow::endpoint(([192, 0, 2, 1], 20_000).into())
        );
        assert_eq!((datagram.limit, datagram.service), (61, 0xb8));
        assert_eq!(datagram.arrived, Some(5_000_000_007));
        assert_eq!(datagram.overflows, Some(9));
        assert_eq!(datagram.payload_length, 7);
    }

    #[test]
    fn an_ipv4_mapped_address_on_the_wire_is_nobody() {
        let mut mapped = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        mapped.extend([0x4e, 0x20, 0, 0, 0, 0]);
        mapped.extend(Address::v4([192, 0, 2, 1]).0);
        mapped.extend([0; 4]);
        let limit = (libc::SOL_IPV6, libc::IPV6_HOPLIMIT, &[61, 0, 0, 0][..]);
        let to_mapped = [limit, (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR, &mapped)];
        let (buffer, length) = filled(&v4(2, 4000), &to_mapped, b"");
        assert_eq!(parse(&buffer, length), None);
        let local = v4(1, 20_000);
        let from_mapped = [limit, (libc::SOL_IP, libc::IP_ORIGDSTADDR, &local)];
        let (buffer, length) = filled(&mapped, &from_mapped, b"");
        assert_eq!(parse(&buffer, length), None);
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_buffer_is_read_or_refused(
            buffer in proptest::collection::vec(any::<u8>(), 0..400),
            length in 0usize..500,
            control in 0u32..250,
        ) {
            let mut buffer = buffer;
            if let Some(place) = buffer.get_mut(4..8) {
                place.copy_from_slice(&control.to_ne_bytes());
            }
            if let Some(datagram) = parse(&buffer, length) {
                prop_assert!(PAYLOAD + datagram.payload_length <= buffer.len());
            }
        }
    }
}
