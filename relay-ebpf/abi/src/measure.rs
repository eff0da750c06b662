//! What the measuring programs and their driver share: the load to make, and what the sink saw.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    U16, U32,
    checksum::Change,
    headers::{Ethernet, Ipv4, Ipv6, Udp},
    rtp::RtpHeader,
};

/// Everything in front of the RTP payload, over IPv4.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct HeadersV4 {
    pub ethernet: Ethernet,
    pub ip: Ipv4,
    pub udp: Udp,
    pub rtp: RtpHeader,
}

/// Everything in front of the RTP payload, over IPv6.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct HeadersV6 {
    pub ethernet: Ethernet,
    pub ip: Ipv6,
    pub udp: Udp,
    pub rtp: RtpHeader,
}

/// The load that the generator makes: packet `n` belongs to flow `n % flows` and is that flow's
/// packet number `n / flows`. Flow `f` goes to port `first + 2 × (f % pairs)` of the template's
/// destination address plus `f / pairs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Load {
    pub flows: u32,
    /// How many flows one destination address takes.
    pub pairs: u32,
    /// Added to a flow's RTP timestamp from packet to packet.
    pub timestamp_step: u32,
    /// 1 for IPv6.
    pub ipv6: u8,
    /// 1 if the first eight octets of the payload are to carry the time of sending.
    pub timed: u8,
    /// Octets from the end of the RTP header to the time of sending, for the sink.
    pub time_offset: u8,
    pub zero: u8,
    /// The headers of flow 0's packet 0, checksums and all.
    pub template_v4: HeadersV4,
    pub template_v6: HeadersV6,
}

const _: () = assert!(size_of::<HeadersV4>() == 54);
const _: () = assert!(size_of::<HeadersV6>() == 74);
const _: () = assert!(size_of::<Load>() == 144);

/// What sets one packet of the load apart from the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// How far the destination address is from the template's.
    pub address: u32,
    /// How far the destination port is from the template's.
    pub port: u16,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl Load {
    /// What sets packet `n` apart.
    #[inline(always)]
    #[must_use]
    pub fn numbers(&self, n: u32) -> Numbers {
        // The verifier refuses a division by what may be zero.
        let flows = if self.flows == 0 { 1 } else { self.flows };
        let pairs = if self.pairs == 0 { 1 } else { self.pairs };
        let flow = n % flows;
        let round = n / flows;
        Numbers {
            address: flow / pairs,
            port: (flow % pairs * 2) as u16,
            sequence: round as u16,
            timestamp: round.wrapping_mul(self.timestamp_step),
            ssrc: flow,
        }
    }
}

macro_rules! headers {
    ($name:ident) => {
        impl $name {
            /// Makes the template's headers those of the packet with these numbers, and notes what
            /// that changes in the UDP checksum.
            #[inline(always)]
            pub fn number(&mut self, numbers: &Numbers, change: &mut Change) {
                self.shift_address(numbers.address, change);
                let port = U16::new(self.udp.destination.get().wrapping_add(numbers.port));
                change.half(self.udp.destination.to_bytes(), port.to_bytes());
                self.udp.destination = port;
                let sequence = U16::new(self.rtp.sequence.get().wrapping_add(numbers.sequence));
                change.half(self.rtp.sequence.to_bytes(), sequence.to_bytes());
                self.rtp.sequence = sequence;
                let timestamp = U32::new(self.rtp.timestamp.get().wrapping_add(numbers.timestamp));
                change.word(self.rtp.timestamp.to_bytes(), timestamp.to_bytes());
                self.rtp.timestamp = timestamp;
                let ssrc = U32::new(self.rtp.ssrc.get().wrapping_add(numbers.ssrc));
                change.word(self.rtp.ssrc.to_bytes(), ssrc.to_bytes());
                self.rtp.ssrc = ssrc;
            }
        }
    };
}

headers!(HeadersV4);
headers!(HeadersV6);

impl HeadersV4 {
    #[inline(always)]
    fn shift_address(&mut self, by: u32, change: &mut Change) {
        let old = self.ip.destination;
        let new = u32::from_be_bytes(old).wrapping_add(by).to_be_bytes();
        let mut header = Change::default();
        header.word(old, new);
        change.word(old, new);
        self.ip.destination = new;
        self.ip.checksum = header.apply(self.ip.checksum);
    }
}

impl HeadersV6 {
    #[inline(always)]
    fn shift_address(&mut self, by: u32, change: &mut Change) {
        let [head @ .., a, b, c, d] = self.ip.destination;
        let [e, f, g, h] = u32::from_be_bytes([a, b, c, d])
            .wrapping_add(by)
            .to_be_bytes();
        change.word([a, b, c, d], [e, f, g, h]);
        let [i, j, k, l, m, n, o, p, q, r, s, t] = head;
        self.ip.destination = [i, j, k, l, m, n, o, p, q, r, s, t, e, f, g, h];
    }
}

/// How many prepared packets there is room for: so many each flow of the load may send.
pub const PREPARED: u32 = 4096;
/// The longest prepared packet.
pub const PREPARED_OCTETS: usize = 512;

/// A UDP payload that is sent as it is, by each flow once, and what goes with it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Prepared {
    pub length: u16,
    /// The UDP checksum of flow 0's packet.
    pub checksum: U16,
    pub zero: [u8; 4],
    pub octets: [u8; PREPARED_OCTETS],
}

const _: () = assert!(size_of::<Prepared>() == 520);

/// What one CPU's sink counted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct SinkCounters {
    /// UDP datagrams.
    pub packets: u64,
    /// Frames that are something else.
    pub others: u64,
    /// Samples that found no room in the ring.
    pub samples_lost: u64,
}

/// One frame in this many is given to the driver whole. A power of two.
pub const SAMPLE_EVERY: u64 = 4096;
/// The largest frame that is sampled.
pub const SAMPLE_OCTETS: usize = 511;

/// A frame as the sink saw it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sample {
    pub length: u32,
    pub octets: [u8; SAMPLE_OCTETS + 1],
}

/// Buckets of the latency histogram: 16 for each power of two, up to 2^40 ns.
pub const LATENCY_BUCKETS: usize = 40 * 16;

/// The bucket of a latency in nanoseconds. Buckets are 1/16 of a power of two wide.
#[inline(always)]
#[must_use]
pub fn latency_bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds | 16;
    let power = 63 - value.leading_zeros() as usize;
    let within = ((value >> (power - 4)) & 15) as usize;
    let bucket = power * 16 + within;
    if bucket < LATENCY_BUCKETS {
        bucket
    } else {
        LATENCY_BUCKETS - 1
    }
}

/// The smallest latency, in nanoseconds, above those of a bucket.
#[must_use]
pub fn latency_limit(bucket: usize) -> u64 {
    let (power, within) = (bucket / 16, bucket as u64 % 16);
    if power < 4 {
        return 16;
    }
    (16 + within + 1) << (power - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_below_its_buckets_limit_and_not_far() {
        for nanoseconds in [0, 1, 15, 16, 17, 99, 1_000, 123_456, 50_000_000, 1 << 39] {
            let limit = latency_limit(latency_bucket(nanoseconds));
            assert!(nanoseconds < limit, "{nanoseconds} {limit}");
            assert!(
                limit <= 17 + nanoseconds + nanoseconds / 8,
                "{nanoseconds} {limit}"
            );
        }
    }
}
