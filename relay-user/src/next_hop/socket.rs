//! Netlink sockets: one that is told of changes, and those that ask.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::LinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    route::RouteMessage,
    rule::RuleMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    Inventory, Target,
    decode::{Decoded, decode},
};

/// What is watched: links, neighbours, and addresses, routes and rules of both families
/// (`RTNLGRP_*` in the kernel's rtnetlink.h).
const GROUPS: [u32; 8] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    19, // RTNLGRP_IPV6_RULE, which libc does not name
];

/// What the kernel puts into one datagram at most, with room to spare.
const DATAGRAM: usize = 64 * 1024;

/// How many changes may wait while this process does something else, in octets.
const BACKLOG: usize = 4 * 1024 * 1024;

/// How many datagrams of changes are read before they are applied.
const AT_ONCE: usize = 4096;

/// How often an interrupted dump is begun anew before what came is taken as it is.
const DUMPS: usize = 5;

/// A socket that is told of changes.
pub(super) struct Changes {
    socket: Socket,
    buffer: Vec<u8>,
}

/// A socket that asks. The kernel answers under a lock of its own, which others may hold for long:
/// who asks waits.
pub(super) struct Questions {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

/// What a reading of the changes gave.
pub(super) struct Told {
    pub(super) events: Vec<super::Event>,
    /// Changes were lost, or netlink does not tell all of them.
    pub(super) stale: bool,
}

impl Changes {
    /// Opens the socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // Best effort: with less room there are more reasons to read everything anew.
        let _ = socket.set_rx_buf_sz(BACKLOG as libc::c_int);
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// The socket to wait for.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, which lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Reads the changes that wait, [`AT_ONCE`] datagrams of them at most.
    pub(super) fn read(&mut self) -> io::Result<Told> {
        let mut told = Told {
            events: Vec::new(),
            stale: false,
        };
        for _ in 0..AT_ONCE {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) => told.stale |= length > self.buffer.len(),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(told),
                    Some(libc::ENOBUFS) => {
                        told.stale = true;
                        continue;
                    }
                    Some(libc::EINTR) => continue,
                    _ => return Err(error),
                },
            }
            for_each(&self.buffer, |header, message| {
                match decode(message, header.flags & NLM_F_REPLACE != 0) {
                    Decoded::Event(event) => told.events.push(event),
                    Decoded::Stale => told.stale = true,
                    Decoded::Nothing => {}
                }
            });
        }
        Ok(told)
    }
}

impl Questions {
    /// Opens the socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
            sequence: 0,
        })
    }

    /// Asks for everything.
    pub(super) fn inventory(&mut self) -> io::Result<Inventory> {
        for _ in 1..DUMPS {
            if let (inventory, false) = self.dump_all()? {
                return Ok(inventory);
            }
        }
        Ok(self.dump_all()?.0)
    }

    /// Everything, and whether it changed meanwhile.
    fn dump_all(&mut self) -> io::Result<(Inventory, bool)> {
        let mut inventory = Inventory::default();
        let mut interrupted = false;
        for question in [
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            RouteNetlinkMessage::GetRule(RuleMessage::default()),
            RouteNetlinkMessage::GetRoute(RouteMessage::default()),
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        ] {
            self.send(question, NLM_F_DUMP)?;
            interrupted |= self.answers(|message| {
                if let Decoded::Event(event) = decode(message, false) {
                    inventory.apply(event);
                }
            })?;
        }
        Ok((inventory, interrupted))
    }

    /// Has the kernel resolve a neighbour, or see whether it is still there: `NTF_USE` does what
    /// a packet to it would.
    pub(super) fn probe(&mut self, target: &Target) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = target.device;
        message.header.flags = NeighbourFlags::Use;
        let (family, address) = match target.neighbour {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        message.header.family = family;
        message.attributes = vec![NeighbourAttribute::Destination(address)];
        self.send(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_ACK,
        )?;
        self.answers(|_| {}).map(|_| ())
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.socket.send(&octets, 0).map(|_| ())
    }

    /// Reads the answers to the last question; says whether the kernel's tables changed under it.
    fn answers(&mut self, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
        let mut interrupted = false;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) => return Err(error),
            }
            let mut end = None;
            let sequence = self.sequence;
            for_each_payload(&self.buffer, |header, payload| {
                if header.sequence_number != sequence {
                    return;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) => each(message),
                    NetlinkPayload::Done(_) => end = Some(Ok(())),
                    NetlinkPayload::Error(error) => {
                        end = Some(match error.code {
                            None => Ok(()),
                            Some(_) => Err(error.to_io()),
                        });
                    }
                    _ => {}
                }
            });
            if let Some(end) = end {
                return end.map(|()| interrupted);
            }
        }
    }
}

fn for_each(datagram: &[u8], mut each: impl FnMut(&NetlinkHeader, RouteNetlinkMessage)) {
    for_each_payload(datagram, |header, payload| {
        if let NetlinkPayload::InnerMessage(message) = payload {
            each(header, message);
        }
    });
}

/// One message that cannot be read costs that message and no other.
fn for_each_payload(
    datagram: &[u8],
    mut each: impl FnMut(&NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>),
) {
    let mut rest = datagram;
    while let Some(length) = rest
        .first_chunk()
        .map(|head| u32::from_ne_bytes(*head) as usize)
    {
        let Some(one) = rest.get(..length).filter(|one| one.len() >= 16) else {
            return;
        };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
            Ok(message) => {
                let (header, payload) = message.into_parts();
                each(&header, payload);
            }
            Err(error) => tracing::debug!(%error, "a netlink message was not understood"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}
