//! Whether what the sink sampled is what had to arrive: the headers as they should have been
//! rewritten, and the checksums right, by a parser that is not ours.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

use super::{Ends, Failure};

/// A sampled frame, taken apart.
pub struct Arrived<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub hop_limit: u8,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// The UDP payload: RTP or SRTP, header and all.
    pub packet: &'a [u8],
}

/// Takes a frame apart and checks what is independent of the relay: the Ethernet addresses, the
/// lengths and both checksums.
///
/// # Errors
/// What is wrong with it.
pub fn parse<'a>(frame: &'a [u8], ends: &Ends) -> Result<Arrived<'a>, Failure> {
    let headers = PacketHeaders::from_ethernet_slice(frame)?;
    let link = headers.link.and_then(|link| link.ethernet2());
    let link = link.ok_or("it is not Ethernet")?;
    if (link.source, link.destination) != (ends.egress.mac, ends.sink.mac) {
        return Err("its Ethernet addresses are not those of the next hop".into());
    }
    let Some(TransportHeader::Udp(udp)) = headers.transport else {
        return Err("it is not UDP".into());
    };
    let packet = headers.payload.slice();
    if usize::from(udp.length) != packet.len() + 8 {
        return Err("its UDP length is not that of its payload".into());
    }
    let (from, to, hop_limit, checksum) = match headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            if ip.header_checksum != ip.calc_header_checksum() {
                return Err("its IPv4 checksum is wrong".into());
            }
            (
                IpAddr::from(ip.source),
                IpAddr::from(ip.destination),
                ip.time_to_live,
                udp.calc_checksum_ipv4(&ip, packet)?,
            )
        }
        Some(NetHeaders::Ipv6(ip, _)) => (
            IpAddr::from(ip.source),
            IpAddr::from(ip.destination),
            ip.hop_limit,
            udp.calc_checksum_ipv6(&ip, packet)?,
        ),
        _ => return Err("it is not IP".into()),
    };
    if udp.checksum != checksum {
        return Err(format!(
            "its UDP checksum is {:#06x} and should be {checksum:#06x}",
            udp.checksum
        )
        .into());
    }
    let Some([first, second, a, b, c, d, e, f, g, h, i, j]) = packet.first_chunk() else {
        return Err("it is shorter than an RTP header".into());
    };
    // Version 2, with a header extension or without.
    if *first & 0xef != 0x80 {
        return Err("its RTP header does not begin as it was sent".into());
    }
    Ok(Arrived {
        from: SocketAddr::new(from, udp.source_port),
        to: SocketAddr::new(to, udp.destination_port),
        hop_limit,
        payload_type: second & 0x7f,
        sequence: u16::from_be_bytes([*a, *b]),
        timestamp: u32::from_be_bytes([*c, *d, *e, *f]),
        ssrc: u32::from_be_bytes([*g, *h, *i, *j]),
        packet,
    })
}

/// Judges every sample; a wrong one is a failure, and so is that there was none.
///
/// # Errors
/// What is wrong with the first wrong one, and its octets.
pub fn judge(
    samples: &[Vec<u8>],
    ends: &Ends,
    mut judge: impl FnMut(&Arrived<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if samples.is_empty() {
        return Err("the sink has no samples to judge".into());
    }
    for sample in samples {
        parse(sample, ends)
            .and_then(|arrived| judge(&arrived))
            .map_err(|why| format!("a relayed packet is wrong: {why}: {sample:02x?}"))?;
    }
    Ok(())
}

/// Compares one thing that arrived with what it should be.
///
/// # Errors
/// When they differ.
pub fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    arrived: T,
    wanted: T,
) -> Result<(), Failure> {
    if arrived == wanted {
        Ok(())
    } else {
        Err(format!("its {what} is {arrived:?} and should be {wanted:?}").into())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::{super::End, *};

    fn ends() -> Ends {
        let end = |last| End {
            name: String::new(),
            mac: [2, 0, 0, 0, 0, last],
        };
        Ends {
            generator: end(1),
            ingress: end(2),
            egress: end(3),
            sink: end(4),
        }
    }

    fn frame() -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(ends().egress.mac, ends().sink.mac)
            .ipv4([203, 0, 113, 1], [203, 0, 113, 2], 63)
            .udp(1, 2)
            .write(&mut frame, &[0x80, 8, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 42])
            .expect("a frame");
        frame
    }

    #[test]
    fn a_changed_octet_shows() {
        let whole = frame();
        let arrived = parse(&whole, &ends()).expect("whole");
        assert_eq!((arrived.payload_type, arrived.ssrc), (8, 7));
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            assert!(parse(&changed, &ends()).is_err(), "{index}");
        }
    }

    #[test]
    fn no_samples_are_no_proof() {
        assert!(judge(&[], &ends(), |_| Ok(())).is_err());
        assert!(judge(&[frame()], &ends(), |_| Ok(())).is_ok());
        assert!(judge(&[frame()], &ends(), |_| Err("no".into())).is_err());
    }
}
