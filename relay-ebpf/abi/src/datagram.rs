//! Finding a UDP datagram of ours in a frame, over either family.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_ref};

use crate::{
    U16,
    flow::Address,
    frame::Frame,
    headers::{self, Ethernet, Ipv4, Ipv6, Tag, Udp},
    tables::{Scratch, Tables},
    verdict::Reason,
};

/// A UDP datagram of ours, found in a frame. Its key and source are in the [`Scratch`].
pub(crate) struct Datagram {
    /// Where the IP header begins: 14, 18 or 22.
    pub network: usize,
    pub ipv6: bool,
    pub hop_limit: u8,
    /// The whole IP packet's octets.
    pub length: usize,
    /// Where the UDP payload begins, and its octets.
    pub payload: usize,
    pub payload_length: usize,
}

/// A datagram whose flow has SRTP, for who goes on with it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FoundDatagram {
    network: u32,
    ipv6: u32,
    hop_limit: u32,
    length: u32,
    payload_length: u32,
    zero: u32,
}

impl From<&Datagram> for FoundDatagram {
    #[inline(always)]
    fn from(datagram: &Datagram) -> Self {
        Self {
            network: datagram.network as u32,
            ipv6: datagram.ipv6.into(),
            hop_limit: datagram.hop_limit.into(),
            length: datagram.length as u32,
            payload_length: datagram.payload_length as u32,
            zero: 0,
        }
    }
}

impl From<&FoundDatagram> for Datagram {
    #[inline(always)]
    fn from(found: &FoundDatagram) -> Self {
        // One after the other, since the verifier wants offsets that it knows.
        let network = match found.network {
            14 => 14,
            18 => 18,
            _ => 22,
        };
        let (ipv6, headers) = match found.ipv6 {
            0 => (false, 28),
            _ => (true, 48),
        };
        Self {
            network,
            ipv6,
            hop_limit: found.hop_limit as u8,
            length: found.length as usize,
            payload: network + headers,
            payload_length: found.payload_length as usize,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv4Udp {
    pub ip: Ipv4,
    pub udp: Udp,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv6Udp {
    pub ip: Ipv6,
    pub udp: Udp,
}

/// Finds the UDP datagram in a frame, if it is for a media port.
#[inline(always)]
pub(crate) fn datagram<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<Datagram, Reason> {
    let ethernet = frame.view::<Ethernet>(0).ok_or(Reason::NotIp)?;
    let mut ether_type = ethernet.ether_type.get();
    let mut network = 14;
    if is_tag(ether_type) {
        let tag = frame.view::<Tag>(14).ok_or(Reason::NotIp)?;
        ether_type = tag.ether_type.get();
        network = 18;
        if is_tag(ether_type) {
            let tag = frame.view::<Tag>(18).ok_or(Reason::NotIp)?;
            ether_type = tag.ether_type.get();
            network = 22;
        }
    }
    match ether_type {
        headers::IPV4 => datagram_v4(frame, tables, scratch, network),
        headers::IPV6 => datagram_v6(frame, tables, scratch, network),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == headers::VLAN || ether_type == headers::SERVICE_VLAN
}

#[inline(always)]
fn datagram_v4<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
    network: usize,
) -> Result<Datagram, Reason> {
    let ip = frame.view::<Ipv4>(network).ok_or(Reason::NotIp)?;
    if ip.version_length >> 4 != 4 || ip.version_length & 0x0f < 5 {
        return Err(Reason::NotIp);
    }
    if ip.protocol != headers::UDP {
        return Err(Reason::NotUdp);
    }
    if ip.version_length != 0x45 {
        return Err(Reason::IpOptions);
    }
    if ip.fragment.get() & headers::FRAGMENT != 0 {
        return Err(Reason::Fragment);
    }
    let Ipv4Udp { ip, udp } = frame.view(network).ok_or(Reason::NotUdp)?;
    if !tables.is_media_port(udp.destination.get()) {
        return Err(Reason::NotMedia);
    }
    let length = ip.total_length.get() as usize;
    let udp_length = udp.length.get() as usize;
    if udp_length < 8 || udp_length + 20 != length || network + length > frame.length() {
        return Err(Reason::NotUdp);
    }
    scratch.key.local.address.set_v4(ip.destination);
    scratch.key.local.port = udp.destination;
    scratch.key.zero = U16::ZERO;
    scratch.source.address.set_v4(ip.source);
    scratch.source.port = udp.source;
    Ok(Datagram {
        network,
        ipv6: false,
        hop_limit: ip.ttl,
        length,
        payload: network + 28,
        payload_length: udp_length - 8,
    })
}

#[inline(always)]
fn datagram_v6<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    scratch: &mut Scratch,
    network: usize,
) -> Result<Datagram, Reason> {
    let ip = frame.view::<Ipv6>(network).ok_or(Reason::NotIp)?;
    if ip.version_class_label.get() >> 28 != 6 {
        return Err(Reason::NotIp);
    }
    if ip.next_header != headers::UDP {
        return Err(if headers::is_extension(ip.next_header) {
            Reason::ExtensionHeader
        } else {
            Reason::NotUdp
        });
    }
    let Ipv6Udp { ip, udp } = frame.view(network).ok_or(Reason::NotUdp)?;
    if !tables.is_media_port(udp.destination.get()) {
        return Err(Reason::NotMedia);
    }
    let local: &Address = transmute_ref!(&ip.destination);
    // An IPv4-mapped address on the wire must not find the flow of the IPv4 address.
    if local.is_v4() {
        return Err(Reason::NotMedia);
    }
    let udp_length = udp.length.get() as usize;
    let length = 40 + ip.payload_length.get() as usize;
    if udp_length < 8 || udp_length + 40 != length || network + length > frame.length() {
        return Err(Reason::NotUdp);
    }
    if udp.checksum == U16::ZERO {
        return Err(Reason::NoChecksum);
    }
    scratch.key.local.address.set(local);
    scratch.key.local.port = udp.destination;
    scratch.key.zero = U16::ZERO;
    scratch.source.address.set(transmute_ref!(&ip.source));
    scratch.source.port = udp.source;
    Ok(Datagram {
        network,
        ipv6: true,
        hop_limit: ip.hop_limit,
        length,
        payload: network + 48,
        payload_length: udp_length - 8,
    })
}
