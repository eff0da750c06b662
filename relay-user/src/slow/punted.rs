//! What the kernel program hands over: whole frames, out of which a worker finds for itself what a
//! socket would have told, and checks what IP and UDP would have checked: what leaves gets checksums
//! made anew, so a wrong one has to end here.

use std::net::{Ipv4Addr, Ipv6Addr};

use relay_abi::{
    flow::{Address, Endpoint},
    frame::View,
    headers::{self, Ethernet, Ipv4, Ipv6, Tag, Udp},
    punted::PuntedHead,
};
use zerocopy::FromBytes;

use super::{
    Discard,
    headers::{Hop, fold, pseudo_header, sum},
};

/// A datagram out of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Punted<'a> {
    /// When it came in, in nanoseconds of the monotonic clock.
    pub arrived: u64,
    pub source: Endpoint,
    pub local: Endpoint,
    pub hop: Hop,
    pub payload: &'a [u8],
}

/// Reads a record of the ring.
///
/// # Errors
/// [`Discard::BadChecksum`], [`Discard::ForeignSource`] for an address that no packet comes from,
/// and [`Discard::UnknownFlow`] for what the program hands over to nobody.
pub(super) fn parse(record: &[u8]) -> Result<Punted<'_>, Discard> {
    let (head, room) = PuntedHead::read_from_prefix(record).map_err(|_| Discard::UnknownFlow)?;
    let frame = room.get(..head.length as usize);
    let datagram = parse_frame(frame.ok_or(Discard::UnknownFlow)?)?;
    Ok(Punted {
        arrived: head.arrived,
        ..datagram
    })
}

fn parse_frame(frame: &[u8]) -> Result<Punted<'_>, Discard> {
    let (mut ether_type, mut rest) = {
        let (ethernet, rest) = part::<Ethernet>(frame)?;
        (ethernet.ether_type.get(), rest)
    };
    // As many as the program reads.
    for _ in 0..2 {
        if !matches!(ether_type, headers::VLAN | headers::SERVICE_VLAN) {
            break;
        }
        let (tag, behind) = part::<Tag>(rest)?;
        (ether_type, rest) = (tag.ether_type.get(), behind);
    }
    match ether_type {
        headers::IPV4 => parse_v4(rest),
        headers::IPV6 => parse_v6(rest),
        _ => Err(Discard::UnknownFlow),
    }
}

fn part<T: View>(octets: &[u8]) -> Result<(&T, &[u8]), Discard> {
    T::ref_from_prefix(octets).map_err(|_| Discard::UnknownFlow)
}

fn parse_v4(packet: &[u8]) -> Result<Punted<'_>, Discard> {
    let (ip, datagram) = part::<Ipv4>(packet)?;
    let fragment = ip.fragment.get() & headers::FRAGMENT;
    if ip.version_length != 0x45 || ip.protocol != headers::UDP || fragment != 0 {
        return Err(Discard::UnknownFlow);
    }
    let header = packet.get(..size_of::<Ipv4>()).unwrap_or_default();
    if fold(sum(header)) != 0xffff {
        return Err(Discard::BadChecksum);
    }
    let source = Ipv4Addr::from(ip.source);
    let [network, ..] = ip.source;
    if network == 0 || source.is_loopback() || source.is_multicast() || source.is_broadcast() {
        return Err(Discard::ForeignSource);
    }
    let hop = Hop {
        limit: ip.ttl,
        service: ip.service,
    };
    let [source, local] = [ip.source, ip.destination].map(Address::v4);
    let length = ip.total_length.get().wrapping_sub(20);
    finish(datagram, length, source, local, hop)
}

fn parse_v6(packet: &[u8]) -> Result<Punted<'_>, Discard> {
    let (ip, datagram) = part::<Ipv6>(packet)?;
    if ip.version_class_label.get() >> 28 != 6 || ip.next_header != headers::UDP {
        return Err(Discard::UnknownFlow);
    }
    let source = Ipv6Addr::from(ip.source);
    if source.is_loopback() || source.is_multicast() || source.is_unspecified() {
        return Err(Discard::ForeignSource);
    }
    let [source, local] = [ip.source, ip.destination].map(Address);
    // An IPv4-mapped address has no right to be on the wire.
    if source.as_v4().is_some() || local.as_v4().is_some() {
        return Err(Discard::ForeignSource);
    }
    let hop = Hop {
        limit: ip.hop_limit,
        service: (ip.version_class_label.get() >> 20) as u8,
    };
    finish(datagram, ip.payload_length.get(), source, local, hop)
}

/// Reads UDP, which has to be all of the IP packet's `length` octets.
fn finish(
    datagram: &[u8],
    length: u16,
    source: Address,
    local: Address,
    hop: Hop,
) -> Result<Punted<'_>, Discard> {
    let (udp, _) = part::<Udp>(datagram)?;
    if udp.length.get() != length {
        return Err(Discard::UnknownFlow);
    }
    let datagram = datagram
        .get(..usize::from(length))
        .ok_or(Discard::UnknownFlow)?;
    let payload = datagram.get(8..).ok_or(Discard::UnknownFlow)?;
    let absent = udp.checksum.get() == 0 && local.as_v4().is_some();
    if !absent {
        let total = sum(datagram) + pseudo_header(&source, &local, length);
        if udp.checksum.get() == 0 || fold(total) != 0xffff {
            return Err(Discard::BadChecksum);
        }
    }
    Ok(Punted {
        arrived: 0,
        source: Endpoint {
            address: source,
            port: udp.source,
        },
        local: Endpoint {
            address: local,
            port: udp.destination,
        },
        hop,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, PacketHeaders, SlicedPacket, VlanId};
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    /// What a test says of a datagram, in another crate's terms.
    #[derive(Clone, Debug)]
    struct Sent {
        ipv6: bool,
        tags: u8,
        source: [u8; 4],
        ports: (u16, u16),
        limit: u8,
        payload: Vec<u8>,
        trailer: usize,
    }

    fn sent() -> impl Strategy<Value = Sent> {
        (
            any::<bool>(),
            0u8..3,
            any::<[u8; 4]>(),
            any::<(u16, u16)>(),
            any::<u8>(),
            proptest::collection::vec(any::<u8>(), 0..400),
            0usize..20,
        )
            .prop_map(
                |(ipv6, tags, source, ports, limit, payload, trailer)| Sent {
                    ipv6,
                    tags,
                    source: [192 + source[0] % 8, source[1], source[2], source[3]],
                    ports,
                    limit,
                    payload,
                    trailer,
                },
            )
    }

    const LOCAL: [u8; 4] = [198, 51, 100, 1];

    fn v6(last: [u8; 4]) -> [u8; 16] {
        let mut address = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 0, 0, 0];
        address[12..].copy_from_slice(&last);
        address
    }

    impl Sent {
        fn frame(&self) -> Vec<u8> {
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let mut frame = Vec::new();
            macro_rules! write {
                ($link:expr) => {
                    match self.ipv6 {
                        true => $link.ipv6(v6(self.source), v6(LOCAL), self.limit),
                        false => $link.ipv4(self.source, LOCAL, self.limit),
                    }
                    .udp(self.ports.0, self.ports.1)
                    .write(&mut frame, &self.payload)
                    .expect("a frame")
                };
            }
            let tag = VlanId::try_new(7).expect("a tag");
            match self.tags {
                0 => write!(builder),
                1 => write!(builder.single_vlan(tag)),
                _ => write!(builder.double_vlan(tag, tag)),
            }
            // What pads a short frame.
            frame.resize(frame.len() + self.trailer, 0x55);
            frame
        }
    }

    /// A record of the ring: rooms come in few sizes, and what is behind the frame is undefined.
    fn record(frame: &[u8]) -> Vec<u8> {
        let head = PuntedHead {
            arrived: 77,
            length: frame.len() as u32,
            zero: 0,
        };
        let mut record = [head.as_bytes(), frame].concat();
        record.resize(record.len().next_multiple_of(256), 0xaa);
        record
    }

    proptest! {
        #[test]
        fn what_another_crate_writes_is_read(sent in sent()) {
            let record = record(&sent.frame());
            let read = parse(&record).expect("a datagram");
            let address = |last| match sent.ipv6 {
                true => Address(v6(last)),
                false => Address::v4(last),
            };
            prop_assert_eq!(read.arrived, 77);
            prop_assert_eq!(read.source.address, address(sent.source));
            prop_assert_eq!(read.local.address, address(LOCAL));
            prop_assert_eq!((read.source.port.get(), read.local.port.get()), sent.ports);
            prop_assert_eq!(read.hop.limit, sent.limit);
            prop_assert_eq!(read.payload, &sent.payload[..]);
        }

        /// One wrong octet, wherever it is: what is read all the same is right by another crate's
        /// arithmetic.
        #[test]
        fn nothing_with_a_wrong_checksum_is_read(
            sent in sent(),
            place: prop::sample::Index,
            flip in 1u8..,
        ) {
            let mut frame = sent.frame();
            let place = place.index(frame.len());
            frame[place] ^= flip;
            let record = record(&frame);
            let Ok(read) = parse(&record) else {
                return Ok(());
            };
            let headers = PacketHeaders::from_ethernet_slice(&frame).expect("headers");
            let whole = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let udp = headers.transport.and_then(|transport| transport.udp()).expect("UDP");
            let right = match headers.net.expect("IP") {
                etherparse::NetHeaders::Ipv4(ip, _) => {
                    prop_assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
                    udp.calc_checksum_ipv4(&ip, read.payload)
                }
                etherparse::NetHeaders::Ipv6(ip, _) => {
                    udp.calc_checksum_ipv6(&ip, read.payload)
                }
                etherparse::NetHeaders::Arp(_) => panic!("ARP"),
            };
            prop_assert!(whole.transport.is_some());
            // One flip makes no zero of a checksum that was none, unless it was all that was set.
            prop_assert!(udp.checksum == 0 && !sent.ipv6 || right.expect("short") == udp.checksum);
        }

        #[test]
        fn whatever_is_in_a_record_is_read_or_refused(
            record in proptest::collection::vec(any::<u8>(), 0..300),
            length in 0u32..400,
        ) {
            let mut record = record;
            if let Some(place) = record.get_mut(8..12) {
                place.copy_from_slice(&length.to_ne_bytes());
            }
            let _ = parse(&record);
        }
    }

    #[test]
    fn addresses_that_no_packet_comes_from_are_refused() {
        let read = |source: [u8; 4]| {
            let sent = Sent {
                ipv6: false,
                tags: 0,
                source,
                ports: (1, 2),
                limit: 64,
                payload: vec![1],
                trailer: 0,
            };
            parse(&record(&sent.frame())).map(|_| ())
        };
        assert_eq!(read([192, 0, 2, 1]), Ok(()));
        for nobody in [[127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0, 1, 2, 3]] {
            assert_eq!(read(nobody), Err(Discard::ForeignSource), "{nobody:?}");
        }
        let mapped = Address::v4([192, 0, 2, 1]).0;
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(mapped, v6(LOCAL), 64)
            .udp(1, 2)
            .write(&mut frame, &[1])
            .expect("a frame");
        assert_eq!(
            parse(&record(&frame)).map(|_| ()),
            Err(Discard::ForeignSource)
        );
    }

    #[test]
    fn ipv6_has_to_have_a_checksum_and_ipv4_need_not() {
        for (ipv6, udp) in [(false, 14 + 20), (true, 14 + 40)] {
            let sent = Sent {
                ipv6,
                tags: 0,
                source: [192, 0, 2, 1],
                ports: (1, 2),
                limit: 64,
                payload: vec![1],
                trailer: 0,
            };
            let mut frame = sent.frame();
            frame[udp + 6..udp + 8].fill(0);
            let read = parse(&record(&frame)).map(|_| ());
            assert_eq!(read.is_ok(), !ipv6, "{read:?}");
        }
    }
}
