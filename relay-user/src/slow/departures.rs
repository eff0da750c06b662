//! How a worker's packets leave: as Ethernet frames to the next hop, where that is known, and
//! through IP where it is not.
//!
//! A frame skips what IP does for each packet: route, netfilter, neighbour. So does the kernel
//! program; the frames of both are the same.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    os::fd::OwnedFd,
    sync::{Arc, mpsc::SyncSender},
};

use io_uring::Submitter;
use relay_abi::{
    flow::{Address, Endpoint},
    headers,
    next_hop::NextHop,
};

use super::{
    socket_address, sockets,
    table::EndpointHasher,
    ways::{Pair, Question, Way},
};

/// How many interfaces a worker sends frames by at once.
pub(super) const INTERFACES: usize = 16;
/// How many pairs of addresses a worker knows; when there are more it begins anew.
const PAIRS: usize = 4096;
/// Octets of the longest Ethernet header: addresses, two tags, the type.
const LONGEST: usize = 22;

/// What goes before an IP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    octets: [u8; LONGEST],
    length: u8,
}

impl Header {
    fn new(row: &NextHop, ethertype: u16) -> Self {
        let mut header = Self::default();
        header.put(&row.destination);
        header.put(&row.source);
        for tag in row.tags.iter().take(usize::from(row.tag_count)) {
            header.put(&tag.protocol.get().to_be_bytes());
            header.put(&tag.control.get().to_be_bytes());
        }
        header.put(&ethertype.to_be_bytes());
        header
    }

    fn put(&mut self, octets: &[u8]) {
        let start = usize::from(self.length);
        if let Some(place) = self.octets.get_mut(start..start + octets.len()) {
            place.copy_from_slice(octets);
            self.length += octets.len() as u8;
        }
    }

    /// Writes it before the IP packet at `start` of `buffer`, and says where it begins.
    pub(super) fn write(&self, buffer: &mut [u8], start: usize) -> Option<usize> {
        let octets = self.octets.get(..usize::from(self.length))?;
        let begin = start.checked_sub(octets.len())?;
        buffer.get_mut(begin..start)?.copy_from_slice(octets);
        Some(begin)
    }
}

/// A way out that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    pub header: Header,
    /// The place of the interface's packet socket among [`INTERFACES`].
    pub place: u32,
    /// The longest IP packet.
    mtu: usize,
}

#[derive(Debug)]
struct Known {
    way: Arc<Way>,
    version: u32,
    interface: u32,
    exit: Option<Exit>,
}

/// One worker's ways out.
#[derive(Debug)]
pub(super) struct Departures {
    questions: Option<SyncSender<Question>>,
    known: HashMap<(Address, Address), Known, BuildHasherDefault<EndpointHasher>>,
    sockets: [Option<(u32, OwnedFd)>; INTERFACES],
    /// An interface found no place: those that nothing leaves by any more are to be closed.
    crowded: bool,
}

impl Departures {
    pub(super) fn new(questions: Option<SyncSender<Question>>) -> Self {
        Self {
            questions,
            known: HashMap::default(),
            sockets: [const { None }; INTERFACES],
            crowded: false,
        }
    }

    /// The way out for an IP packet of `length` octets; none while there is none, or where IP has to
    /// judge its length. `open` makes the kernel know a packet socket by its place.
    pub(super) fn exit(
        &mut self,
        from: &Address,
        to: &Address,
        length: usize,
        open: impl FnOnce(u32, &OwnedFd) -> bool,
    ) -> Option<Exit> {
        let questions = self.questions.as_ref()?;
        let Some(known) = self.known.get_mut(&(*from, *to)) else {
            if self.known.len() >= PAIRS {
                self.known.clear();
            }
            let way = Arc::new(Way::default());
            let question = Question {
                pair: pair(from, to),
                way: Arc::downgrade(&way),
            };
            if questions.try_send(question).is_ok() {
                let known = Known {
                    way,
                    version: 0,
                    interface: 0,
                    exit: None,
                };
                self.known.insert((*from, *to), known);
            }
            return None;
        };
        if let Some(row) = known.way.changed(&mut known.version) {
            known.interface = row.interface.get();
            known.exit = None;
            if row.resolved == 1 {
                match place(&mut self.sockets, known.interface, open) {
                    Place::Taken(place) => {
                        known.exit = Some(Exit {
                            header: Header::new(&row, ethertype(to)),
                            place,
                            mtu: usize::from(row.mtu.get()),
                        });
                    }
                    Place::None => self.crowded = true,
                    Place::Refused => {}
                }
            }
        }
        known.exit.filter(|exit| length <= exit.mtu)
    }

    /// Closes the sockets that no frame leaves by any more, if their places are needed. To be called
    /// when no frame waits to be sent.
    pub(super) fn tidy(&mut self, submitter: &Submitter<'_>, first: u32) {
        if !std::mem::take(&mut self.crowded) {
            return;
        }
        let mut closed = false;
        for (place, slot) in self.sockets.iter_mut().enumerate() {
            let used = |interface: u32| {
                let known = self.known.values();
                known
                    .filter(|known| known.exit.is_some())
                    .any(|known| known.interface == interface)
            };
            if slot
                .as_ref()
                .is_some_and(|(interface, _)| !used(*interface))
            {
                let _ = submitter.register_files_update(first + place as u32, &[-1]);
                *slot = None;
                closed = true;
            }
        }
        if closed {
            // Whoever found no place looks again.
            for known in self.known.values_mut().filter(|known| known.exit.is_none()) {
                known.version = 0;
            }
        }
    }
}

enum Place {
    Taken(u32),
    /// All are.
    None,
    /// The kernel gave no socket, and has been told of.
    Refused,
}

/// The place of an interface's socket, which is opened if there is none.
fn place(
    slots: &mut [Option<(u32, OwnedFd)>; INTERFACES],
    interface: u32,
    open: impl FnOnce(u32, &OwnedFd) -> bool,
) -> Place {
    let of = |slot: &Option<(u32, OwnedFd)>| slot.as_ref().map(|(interface, _)| *interface);
    if let Some(place) = slots.iter().position(|slot| of(slot) == Some(interface)) {
        return Place::Taken(place as u32);
    }
    let Some((place, slot)) = slots
        .iter_mut()
        .enumerate()
        .find(|(_, slot)| slot.is_none())
    else {
        return Place::None;
    };
    match sockets::frames(interface) {
        Ok(socket) if open(place as u32, &socket) => {
            *slot = Some((interface, socket));
            Place::Taken(place as u32)
        }
        Ok(_) => Place::Refused,
        Err(error) => {
            tracing::warn!(
                %error,
                interface,
                "no packet socket sends by an interface: IP sends its packets, more slowly; allow \
                 AF_PACKET sockets to this process (seccomp, systemd's RestrictAddressFamilies)"
            );
            Place::Refused
        }
    }
}

fn ethertype(to: &Address) -> u16 {
    match to.as_v4() {
        Some(_) => headers::IPV4,
        None => headers::IPV6,
    }
}

fn pair(from: &Address, to: &Address) -> Pair {
    let ip = |address: &Address| {
        let endpoint = Endpoint {
            address: *address,
            port: 0.into(),
        };
        socket_address(&endpoint).ip()
    };
    (ip(from), ip(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::SlicedPacket;
    use relay_abi::next_hop::VlanTag;

    const ROW: NextHop = NextHop {
        interface: relay_abi::U32::new(7),
        device: relay_abi::U32::ZERO,
        mtu: relay_abi::U16::new(1500),
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
        tags: [
            VlanTag {
                protocol: relay_abi::U16::new(headers::SERVICE_VLAN),
                control: relay_abi::U16::new(100),
            },
            VlanTag {
                protocol: relay_abi::U16::new(headers::VLAN),
                control: relay_abi::U16::new(42),
            },
        ],
        tag_count: 0,
        resolved: 1,
    };

    #[test]
    fn another_parser_reads_addresses_tags_and_type() {
        for (tag_count, vlans) in [(0, vec![]), (1, vec![100]), (2, vec![100, 42])] {
            let header = Header::new(&NextHop { tag_count, ..ROW }, headers::IPV4);
            let mut frame = vec![0xff; 30];
            let ip = etherparse::Ipv4Header::new(
                0,
                64,
                etherparse::IpNumber::EXPERIMENTAL_AND_TESTING_0,
                [192, 0, 2, 1],
                [192, 0, 2, 2],
            )
            .expect("short");
            frame.extend(ip.to_bytes());
            let begin = header.write(&mut frame, 30).expect("room");
            assert_eq!(begin, 30 - 14 - 4 * usize::from(tag_count));
            let parsed = SlicedPacket::from_ethernet(&frame[begin..]).expect("a frame");
            let link = parsed.link.as_ref().and_then(|link| link.to_header());
            let ethernet = link.and_then(|link| link.ethernet2()).expect("Ethernet");
            assert_eq!(ethernet.source, ROW.source);
            assert_eq!(ethernet.destination, ROW.destination);
            let read: Vec<u16> = parsed.vlan_ids().iter().map(|vlan| vlan.value()).collect();
            assert_eq!(read, vlans);
            assert!(parsed.net.is_some(), "an IP packet follows");
        }
    }

    #[test]
    fn a_header_without_room_is_refused() {
        let header = Header::new(&ROW, headers::IPV6);
        assert_eq!(header.write(&mut [0; 40], 13), None);
        assert_eq!(header.write(&mut [0; 10], 20), None);
    }
}
