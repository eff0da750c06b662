//! Packets for the tests, built by etherparse, which knows nothing of the code under test.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel,
    Ipv6Header, SingleVlanHeader, UdpHeader, VlanId, VlanPcp,
};

/// An Ethernet frame with a UDP datagram, described.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: [u8; 6],
    pub destination: [u8; 6],
    /// Protocol and VLAN of each tag.
    pub tags: Vec<(u16, u16)>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub hop_limit: u8,
    pub dscp: u8,
    pub ecn: u8,
    pub identification: u16,
    pub do_not_fragment: bool,
    pub flow_label: u32,
    pub checksum: bool,
    pub payload: Vec<u8>,
}

impl Packet {
    /// A datagram as a peer's stack would send it.
    pub fn new(from: &str, to: &str, payload: Vec<u8>) -> Self {
        Self {
            source: [2, 0, 0, 0, 0, 2],
            destination: [2, 0, 0, 0, 0, 1],
            tags: Vec::new(),
            from: from.parse().expect("an address and a port"),
            to: to.parse().expect("an address and a port"),
            hop_limit: 64,
            dscp: 0,
            ecn: 0,
            identification: 0x1234,
            do_not_fragment: false,
            flow_label: 0xabcde,
            checksum: true,
            payload,
        }
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let carried = match self.from {
            SocketAddr::V4(_) => EtherType::IPV4,
            SocketAddr::V6(_) => EtherType::IPV6,
        };
        let mut types: Vec<EtherType> =
            self.tags.iter().map(|(tpid, _)| EtherType(*tpid)).collect();
        types.push(carried);
        Ethernet2Header {
            source: self.source,
            destination: self.destination,
            ether_type: types[0],
        }
        .write(&mut frame)
        .expect("a header");
        for ((_, vlan), ether_type) in self.tags.iter().zip(&types[1..]) {
            SingleVlanHeader {
                pcp: VlanPcp::ZERO,
                drop_eligible_indicator: false,
                vlan_id: VlanId::try_new(*vlan).expect("a VLAN"),
                ether_type: *ether_type,
            }
            .write(&mut frame)
            .expect("a tag");
        }
        let udp_length = 8 + self.payload.len() as u16;
        let mut udp = UdpHeader {
            source_port: self.from.port(),
            destination_port: self.to.port(),
            length: udp_length,
            checksum: 0,
        };
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut ip = Ipv4Header {
                    dscp: IpDscp::try_new(self.dscp).expect("six bits"),
                    ecn: IpEcn::try_new(self.ecn).expect("two bits"),
                    total_len: 20 + udp_length,
                    identification: self.identification,
                    dont_fragment: self.do_not_fragment,
                    more_fragments: false,
                    fragment_offset: IpFragOffset::ZERO,
                    time_to_live: self.hop_limit,
                    protocol: IpNumber::UDP,
                    header_checksum: 0,
                    source: from.octets(),
                    destination: to.octets(),
                    options: Default::default(),
                };
                ip.header_checksum = ip.calc_header_checksum();
                if self.checksum {
                    udp.checksum = udp
                        .calc_checksum_ipv4(&ip, &self.payload)
                        .expect("a short payload");
                }
                ip.write(&mut frame).expect("a header");
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let ip = Ipv6Header {
                    traffic_class: (self.dscp << 2) | self.ecn,
                    flow_label: Ipv6FlowLabel::try_new(self.flow_label).expect("twenty bits"),
                    payload_length: udp_length,
                    next_header: IpNumber::UDP,
                    hop_limit: self.hop_limit,
                    source: from.octets(),
                    destination: to.octets(),
                };
                if self.checksum {
                    udp.checksum = udp
                        .calc_checksum_ipv6(&ip, &self.payload)
                        .expect("a short payload");
                }
                ip.write(&mut frame).expect("a header");
            }
            families => panic!("two address families: {families:?}"),
        }
        udp.write(&mut frame).expect("a header");
        frame.extend_from_slice(&self.payload);
        frame
    }
}

/// An RTP packet. `first` is version, padding, extension and contributing sources.
pub fn rtp(
    first: u8,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    rest: &[u8],
) -> Vec<u8> {
    let mut packet = vec![first, payload_type];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

/// Whether the checksums of a frame that holds a UDP datagram are right; `None` for a frame that
/// etherparse does not read as one. A datagram without a checksum over IPv4 is right.
pub fn checksums_are_right(frame: &[u8]) -> Option<bool> {
    let sliced = etherparse::SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else {
        return None;
    };
    let header = udp.to_header();
    match sliced.net? {
        etherparse::NetSlice::Ipv4(ip) => {
            let slice = ip.header().slice();
            let ip = ip.header().to_header();
            // It has no place for the reserved flag, so it would judge another header.
            if ip.to_bytes().as_slice() != slice {
                return None;
            }
            let udp_right = header.checksum == 0
                || header.checksum == header.calc_checksum_ipv4(&ip, udp.payload()).ok()?;
            Some(ip.header_checksum == ip.calc_header_checksum() && udp_right)
        }
        etherparse::NetSlice::Ipv6(ip) => {
            let ip = ip.header().to_header();
            Some(header.checksum == header.calc_checksum_ipv6(&ip, udp.payload()).ok()?)
        }
        _ => None,
    }
}
