//! RTP streams in a capture.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Datagram, Protocol};
use crate::sound::g711;

/// Samples that a decoded stream holds at most: ten minutes.
const LONGEST: usize = 600 * crate::sound::SAMPLE_RATE;

/// The RTP packets from one address to another.
#[derive(Clone, Debug)]
pub struct RtpStream {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    packets: Vec<Packet>,
}

#[derive(Clone, Debug)]
struct Packet {
    /// Counted on over its cycles.
    sequence: i64,
    timestamp: u32,
    ssrc: u32,
    payload_type: u8,
    payload: Vec<u8>,
}

impl RtpStream {
    #[must_use]
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Every SSRC, in the order of first appearance.
    #[must_use]
    pub fn ssrcs(&self) -> Vec<u32> {
        let mut ssrcs = Vec::new();
        for packet in &self.packets {
            if !ssrcs.contains(&packet.ssrc) {
                ssrcs.push(packet.ssrc);
            }
        }
        ssrcs
    }

    /// Packets missing between the first and the last.
    #[must_use]
    pub fn lost(&self) -> usize {
        let mut sequences: Vec<i64> = self.packets.iter().map(|packet| packet.sequence).collect();
        sequences.sort_unstable();
        sequences.dedup();
        match (sequences.first(), sequences.last()) {
            (Some(first), Some(last)) => {
                usize::try_from(last - first + 1).unwrap_or(0) - sequences.len()
            }
            _ => 0,
        }
    }

    /// Payloads as they are on the wire.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(|packet| &packet.payload[..])
    }

    /// The sound, taken as G.711 by its payload type, each packet where its timestamp puts it.
    #[must_use]
    pub fn sound(&self) -> Vec<i16> {
        let Some(first) = self.packets.first() else {
            return Vec::new();
        };
        let mut samples = Vec::new();
        for packet in &self.packets {
            let decode = match packet.payload_type {
                0 => g711::decode_ulaw,
                8 => g711::decode_alaw,
                _ => continue,
            };
            let at = packet.timestamp.wrapping_sub(first.timestamp) as usize;
            let end = at + packet.payload.len();
            if end > LONGEST {
                continue;
            }
            if samples.len() < end {
                samples.resize(end, 0);
            }
            for (sample, &octet) in samples[at..end].iter_mut().zip(&packet.payload) {
                *sample = decode(octet);
            }
        }
        samples
    }
}

/// Every stream of a capture. Only what has RTP's version and no RTCP packet type counts.
#[must_use]
pub fn streams(datagrams: &[Datagram]) -> Vec<RtpStream> {
    let mut streams: BTreeMap<(SocketAddr, SocketAddr), RtpStream> = BTreeMap::new();
    for datagram in datagrams {
        let Some(mut packet) = parse(datagram) else {
            continue;
        };
        let stream = streams
            .entry((datagram.source, datagram.destination))
            .or_insert_with(|| RtpStream {
                source: datagram.source,
                destination: datagram.destination,
                packets: Vec::new(),
            });
        if let Some(last) = stream.packets.last() {
            let step = (packet.sequence as u16).wrapping_sub(last.sequence as u16) as i16;
            packet.sequence = last.sequence + i64::from(step);
        }
        stream.packets.push(packet);
    }
    streams.into_values().collect()
}

/// The stream with the most packets to an address and port.
#[must_use]
pub fn stream_to(datagrams: &[Datagram], destination: SocketAddr) -> Option<RtpStream> {
    streams(datagrams)
        .into_iter()
        .filter(|stream| stream.destination == destination)
        .max_by_key(RtpStream::packets)
}

fn parse(datagram: &Datagram) -> Option<Packet> {
    let octets = &datagram.payload;
    if datagram.protocol != Protocol::Udp || octets.len() < 12 || octets[0] >> 6 != 2 {
        return None;
    }
    // RFC 5761, section 4: these are RTCP's.
    if (192..=223).contains(&octets[1]) {
        return None;
    }
    let mut start = 12 + usize::from(octets[0] & 0x0f) * 4;
    if octets[0] & 0x10 != 0 {
        let words = octets.get(start + 2..start + 4)?;
        start += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    let word = |at: usize| -> Option<u32> {
        let octets = octets.get(at..at + 4)?;
        Some(u32::from_be_bytes([
            octets[0], octets[1], octets[2], octets[3],
        ]))
    };
    Some(Packet {
        sequence: i64::from(u16::from_be_bytes([octets[2], octets[3]])),
        timestamp: word(4)?,
        ssrc: word(8)?,
        payload_type: octets[1] & 0x7f,
        payload: octets.get(start..)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sound::{Melody, compare};

    fn packet(sequence: u16, timestamp: u32, payload: &[u8]) -> Datagram {
        let mut octets = vec![0x80, 0];
        octets.extend_from_slice(&sequence.to_be_bytes());
        octets.extend_from_slice(&timestamp.to_be_bytes());
        octets.extend_from_slice(&7u32.to_be_bytes());
        octets.extend_from_slice(payload);
        Datagram {
            time: Duration::ZERO,
            protocol: Protocol::Udp,
            source: "192.0.2.2:4000".parse().expect("an address"),
            destination: "192.0.2.1:5000".parse().expect("an address"),
            sequence: 0,
            payload: octets,
        }
    }

    #[test]
    fn a_stream_over_a_sequence_cycle_is_put_together() {
        let melody = Melody::new(1, 10);
        let mut datagrams: Vec<Datagram> = melody
            .ulaw()
            .chunks(160)
            .enumerate()
            .map(|(index, payload)| {
                let sequence = 65_400u16.wrapping_add(u16::try_from(index).expect("few"));
                let timestamp = (u32::MAX - 1_000).wrapping_add(index as u32 * 160);
                packet(sequence, timestamp, payload)
            })
            .collect();
        datagrams.remove(200);
        datagrams.swap(30, 31);
        let stream = &streams(&datagrams)[0];
        assert_eq!(stream.packets(), 499);
        assert_eq!(stream.lost(), 1);
        assert_eq!(stream.ssrcs(), [7]);
        let comparison = compare(melody.samples(), &stream.sound());
        assert!(comparison.is_same(9.0), "{comparison}");
    }

    #[test]
    fn rtcp_and_runts_are_no_stream() {
        let mut report = packet(1, 1, b"");
        report.payload[1] = 200;
        let mut runt = packet(1, 1, b"");
        runt.payload.truncate(11);
        assert!(streams(&[report, runt]).is_empty());
    }
}
