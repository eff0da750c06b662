//! The IP and UDP headers that a worker sends: those that the kernel program makes of a datagram,
//! octet for octet.

use relay_abi::{
    U16, U32,
    flow::{Address, Endpoint, FlowEntry},
    headers::{DO_NOT_FRAGMENT, Ipv4, Ipv6, UDP, Udp},
};
use zerocopy::IntoBytes;

use super::Discard;

/// The octets of the longest headers, IPv6 and UDP: the room that a payload needs before it.
pub(super) const LONGEST: usize = 48;

/// What of a header is not an address or a length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// TTL or hop limit, as it came in; more than 1.
    pub limit: u8,
    /// Code point and congestion notification, as they came in.
    pub service: u8,
}

impl Hop {
    /// The octet of code point and congestion notification as it leaves.
    fn service(self, entry: &FlowEntry) -> u8 {
        if entry.has(FlowEntry::SET_DSCP) {
            (entry.dscp << 2) | (self.service & 0b11)
        } else {
            self.service
        }
    }
}

/// Writes the headers before the payload of `length` octets that begins at `payload`, and says
/// where the IP packet begins.
///
/// # Errors
/// [`Discard::NoDestination`] if the endpoints are of different families, [`Discard::TooLarge`] if
/// the lengths do not fit the headers or `buffer`.
pub(super) fn write(
    buffer: &mut [u8],
    payload: usize,
    length: usize,
    from: &Endpoint,
    to: &Endpoint,
    hop: Hop,
    entry: &FlowEntry,
) -> Result<usize, Discard> {
    let udp_length = u16::try_from(length + 8).map_err(|_| Discard::TooLarge)?;
    let content = buffer
        .get(payload..payload + length)
        .ok_or(Discard::TooLarge)?;
    let udp_checksum = udp_checksum(from, to, udp_length, content);
    let udp = Udp {
        source: from.port,
        destination: to.port,
        length: U16::new(udp_length),
        checksum: udp_checksum,
    };
    let service = hop.service(entry);
    let limit = hop.limit.wrapping_sub(1);
    let start = match (from.address.as_v4(), to.address.as_v4()) {
        (Some(source), Some(destination)) => {
            let total = udp_length.checked_add(20).ok_or(Discard::TooLarge)?;
            let mut ip = Ipv4 {
                version_length: 0x45,
                service,
                total_length: U16::new(total),
                // Never fragmented, so the identification says nothing (RFC 6864, section 4.1).
                identification: U16::ZERO,
                fragment: U16::new(DO_NOT_FRAGMENT),
                ttl: limit,
                protocol: UDP,
                checksum: U16::ZERO,
                source,
                destination,
            };
            ip.checksum = U16::new(!fold(sum(ip.as_bytes())));
            put(buffer, payload, 28, ip.as_bytes(), &udp)?
        }
        (None, None) => {
            let ip = Ipv6 {
                version_class_label: U32::new((6 << 28) | (u32::from(service) << 20)),
                payload_length: U16::new(udp_length),
                next_header: UDP,
                hop_limit: limit,
                source: from.address.0,
                destination: to.address.0,
            };
            put(buffer, payload, 48, ip.as_bytes(), &udp)?
        }
        _ => return Err(Discard::NoDestination),
    };
    Ok(start)
}

fn put(
    buffer: &mut [u8],
    payload: usize,
    headers: usize,
    ip: &[u8],
    udp: &Udp,
) -> Result<usize, Discard> {
    let start = payload.checked_sub(headers).ok_or(Discard::TooLarge)?;
    let room = buffer
        .get_mut(start..payload)
        .and_then(|room| room.split_at_mut_checked(ip.len()))
        .ok_or(Discard::TooLarge)?;
    room.0.copy_from_slice(ip);
    room.1.copy_from_slice(udp.as_bytes());
    Ok(start)
}

/// The checksum over pseudo header, header and payload.
fn udp_checksum(from: &Endpoint, to: &Endpoint, length: u16, payload: &[u8]) -> U16 {
    let mut total = sum(payload) + pseudo_header(&from.address, &to.address, length);
    total += u64::from(from.port.get()) + u64::from(to.port.get()) + u64::from(length);
    match !fold(total) {
        0 => U16::MAX_VALUE,
        checksum => U16::new(checksum),
    }
}

/// The sum of UDP's pseudo header (RFC 768; RFC 8200, section 8.1): the same for both versions,
/// because a mapped address adds `0xffff`, which is nothing.
pub(super) fn pseudo_header(from: &Address, to: &Address, length: u16) -> u64 {
    sum(&from.0) + sum(&to.0) + u64::from(UDP) + u64::from(length)
}

/// The sum of the big-endian words of `octets` modulo 2^16 - 1, not folded yet.
pub(super) fn sum(octets: &[u8]) -> u64 {
    let mut words = octets.chunks_exact(8);
    let mut total = 0u64;
    for word in &mut words {
        // Eight octets at once: 2^16 is 1 modulo 2^16 - 1, so the four words add up by themselves.
        let word = word.try_into().map_or(0, u64::from_be_bytes);
        total += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut rest = [0; 8];
    let remainder = words.remainder();
    if let Some(place) = rest.get_mut(..remainder.len()) {
        place.copy_from_slice(remainder);
    }
    let word = u64::from_be_bytes(rest);
    total + (word >> 32) + (word & 0xffff_ffff)
}

pub(super) fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slow::endpoint;
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    use proptest::prelude::*;

    fn written(from: &str, to: &str, payload: &[u8], entry: &FlowEntry) -> Vec<u8> {
        let mut buffer = vec![0; LONGEST];
        buffer.extend_from_slice(payload);
        let start = write(
            &mut buffer,
            LONGEST,
            payload.len(),
            &endpoint(from.parse().expect("an address")),
            &endpoint(to.parse().expect("an address")),
            Hop {
                limit: 64,
                service: 0xb9,
            },
            entry,
        )
        .expect("it fits");
        buffer.split_off(start)
    }

    proptest! {
        /// The checksums are the ones that another implementation computes.
        #[test]
        fn checksums_are_right(payload in proptest::collection::vec(any::<u8>(), 0..1400), ports: (u16, u16)) {
            let from = format!("192.0.2.1:{}", ports.0);
            let to = format!("198.51.100.77:{}", ports.1);
            let packet = written(&from, &to, &payload, &FlowEntry::default());
            let parsed = PacketHeaders::from_ip_slice(&packet).expect("an IP packet");
            let Some(NetHeaders::Ipv4(ip, _)) = &parsed.net else { panic!("IPv4") };
            let Some(TransportHeader::Udp(udp)) = &parsed.transport else { panic!("UDP") };
            prop_assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            prop_assert_eq!(udp.calc_checksum_ipv4(ip, &payload).expect("short"), udp.checksum);
            prop_assert_eq!(parsed.payload.slice(), &payload[..]);
            prop_assert!(ip.dont_fragment && ip.identification == 0 && !ip.more_fragments);
            prop_assert_eq!((ip.time_to_live, udp.source_port, udp.destination_port), (63, ports.0, ports.1));

            let from = format!("[2001:db8::1]:{}", ports.0);
            let to = format!("[2001:db8:ffff::77]:{}", ports.1);
            let packet = written(&from, &to, &payload, &FlowEntry::default());
            let parsed = PacketHeaders::from_ip_slice(&packet).expect("an IP packet");
            let Some(NetHeaders::Ipv6(ip, _)) = &parsed.net else { panic!("IPv6") };
            let Some(TransportHeader::Udp(udp)) = &parsed.transport else { panic!("UDP") };
            prop_assert_eq!(udp.calc_checksum_ipv6(ip, &payload).expect("short"), udp.checksum);
            prop_assert_eq!(parsed.payload.slice(), &payload[..]);
            prop_assert_eq!((ip.hop_limit, ip.flow_label.value()), (63, 0));
        }
    }

    #[test]
    fn the_code_point_is_kept_or_set_and_the_congestion_bits_are_kept() {
        let mut entry = FlowEntry::default();
        let service = |entry: &FlowEntry| {
            let v4 = written("192.0.2.1:1", "192.0.2.2:2", b"x", entry);
            let v6 = written("[2001:db8::1]:1", "[2001:db8::2]:2", b"x", entry);
            let class = (v6[0] << 4) | (v6[1] >> 4);
            assert_eq!(v4[1], class);
            class
        };
        assert_eq!(service(&entry), 0xb9);
        entry.flags = FlowEntry::SET_DSCP.into();
        entry.dscp = 46;
        assert_eq!(service(&entry), (46 << 2) | 1);
    }

    #[test]
    fn endpoints_of_two_families_and_short_buffers_are_refused() {
        let v4 = endpoint("192.0.2.1:1".parse().expect("an address"));
        let v6 = endpoint("[2001:db8::1]:1".parse().expect("an address"));
        let hop = Hop {
            limit: 64,
            service: 0,
        };
        let entry = FlowEntry::default();
        let mut buffer = [0; 100];
        assert_eq!(
            write(&mut buffer, 48, 10, &v4, &v6, hop, &entry),
            Err(Discard::NoDestination)
        );
        assert_eq!(
            write(&mut buffer, 48, 53, &v4, &v4, hop, &entry),
            Err(Discard::TooLarge)
        );
        assert_eq!(
            write(&mut buffer, 20, 10, &v4, &v4, hop, &entry),
            Err(Discard::TooLarge)
        );
    }
}
