//! The common packet: untagged IPv4 without options or IPv6, RTP without padding, extension or
//! contributing sources, of the pinned peer, the known SSRC and the flow's first payload type, out
//! by an untagged next hop. It takes the shortest way; whatever is in the least unusual takes the
//! long one ([`crate::relay`]), which decides the same for these.

use core::{
    hint::cold_path,
    mem::{offset_of, size_of},
    ops::DerefMut,
};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    native_endian::{U32 as NativeU32, U64 as NativeU64},
};

use crate::{
    U16, U32,
    checksum::SmallChange,
    counters::FlowCounters,
    frame::Frame,
    headers::{self, Ethernet, Udp},
    reception::{self, Arrival},
    relay::Relayed,
    row::{self, CommonFlow, NextHopRow},
    shared::Shared,
    tables::Tables,
};

/// Ethernet, IPv4, UDP and RTP, in fields that are read and written at once.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Front {
    link: NativeU64,
    link_end: NativeU32,
    /// The EtherType, the version and the length of the header, the service octet.
    kind: [u8; 4],
    total_length: U16,
    /// Identification, flags and fragment offset, the hop limit and the protocol.
    middle: [u8; 6],
    checksum: U16,
    ends: NativeU64,
    datagram: Datagram,
}

/// The same over IPv6.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FrontV6 {
    link: NativeU64,
    link_end: NativeU32,
    ether_type: U16,
    first: U32,
    payload_length: U16,
    /// The protocol and the hop limit.
    life: [u8; 2],
    source: [NativeU64; 2],
    destination: [NativeU64; 2],
    datagram: Datagram,
}

/// UDP and RTP.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Datagram {
    ports: NativeU32,
    udp_length: U16,
    udp_checksum: U16,
    rtp: [u8; 2],
    /// The sequence number and the timestamp.
    numbers: [u8; 6],
    ssrc: NativeU32,
}

const _: () = assert!(size_of::<Front>() == 54);
const _: () = assert!(size_of::<FrontV6>() == 74);

const KIND: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0]);
const KIND_MASK: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);

/// The fragment field, the hop limit and the protocol of a packet that is no fragment.
const WHOLE_UDP: u32 = u32::from_ne_bytes([0, 0, 0, headers::UDP]);
const WHOLE_UDP_MASK: u32 = {
    let [high, low] = headers::FRAGMENT.to_be_bytes();
    u32::from_ne_bytes([high, low, 0, 0xff])
};
/// More than one hop left.
const HOPS: u32 = u32::from_ne_bytes([0, 0, 0xfe, 0]);
const DO_NOT_FRAGMENT: [u8; 4] = {
    let [high, low] = headers::DO_NOT_FRAGMENT.to_be_bytes();
    [0, 0, high, low]
};

/// UDP with no hop left, as in [`FrontV6::life`].
const UDP: u32 = (headers::UDP as u32) << 8;

/// How many rows of a bucket are looked at here behind the first one.
const OTHERS: usize = 2;

macro_rules! flow {
    ($field:ident) => {
        offset_of!(CommonFlow, $field)
    };
}

macro_rules! next_hop {
    ($field:ident) => {
        offset_of!(NextHopRow, $field)
    };
}

const ETHERNET: usize = size_of::<Ethernet>();
/// Octets before the payload of UDP.
const HEADERS: usize = ETHERNET + 20 + size_of::<Udp>();
const HEADERS_V6: usize = HEADERS + 20;

/// Relays a common packet over IPv4. `None` for any other, which is as it came.
///
/// The frame is looked at before all else, so that its cache line is on its way early. What calls
/// the kernel comes before anything is written: calls leave few registers as they were.
#[inline(always)]
pub fn relay<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Relayed> {
    let length = frame.length();
    let Some(front) = frame.view_mut::<Front>(0) else {
        cold_path();
        return None;
    };
    if u32::from_ne_bytes(front.kind) & KIND_MASK != KIND
        || front.life() & WHOLE_UDP_MASK != WHOLE_UDP
        || front.life() & HOPS == 0
        // Nothing behind the packet, as the shortest frames have it.
        || front.total_length.get() as usize + ETHERNET != length
        || front.datagram.udp_length.get() as usize + (ETHERNET + 20) != length
    {
        cold_path();
        return None;
    }
    let ends = front.ends.get();
    let ports = front.datagram.ports.get();
    let [_, _, _, _, a, b, c, d] = ends.to_ne_bytes();
    let bucket = row::bucket(u32::from_be_bytes([a, b, c, d]), local_port(ports));
    let flow = find(tables, bucket, |flow| {
        flow.long(flow!(ends)) == ends && flow.word(flow!(ports)) == ports
    })?;
    if !front.datagram.is_of(flow, V4) {
        cold_path();
        return None;
    }
    let Ready {
        relayed,
        now,
        counters,
        link_begin,
        link_end,
    } = ready(tables, flow, length, HEADERS)?;

    front.link.set(link_begin);
    front.link_end.set(link_end);
    let mut header = SmallChange::header(flow.word(flow!(header_change)));
    let service = flow.octet(flow!(service));
    if service != CommonFlow::SERVICE_STAYS {
        let [_, _, before, old] = front.kind;
        let new = service | (old & 0b11);
        header.half([before, old], [before, new]);
        front.kind[3] = new;
    }
    // Never fragmented, so the identification says nothing (RFC 6864, section 4.1).
    let [fragment @ .., hops, _] = &mut front.middle;
    header.without(u32::from_ne_bytes(*fragment));
    *fragment = DO_NOT_FRAGMENT;
    *hops -= 1;
    front.checksum = header.apply_header(front.checksum);
    front.ends.set(flow.long(flow!(ends_out)));
    front.datagram.write(flow, now, counters);
    Some(relayed)
}

impl Front {
    /// The fragment field, the hop limit and the protocol.
    #[inline(always)]
    fn life(&self) -> u32 {
        let [_, _, life @ ..] = &self.middle;
        u32::from_ne_bytes(*life)
    }
}

/// The local port of what came in.
#[inline(always)]
const fn local_port(ports: u32) -> u16 {
    u32::from_be_bytes(ports.to_ne_bytes()) as u16
}

/// The row of a bucket that `is_it` says yes to.
#[inline(always)]
fn find<'a, T: Tables>(
    tables: &'a T,
    bucket: u32,
    is_it: impl Fn(T::Row<'a>) -> bool,
) -> Option<T::Row<'a>> {
    let mut flow = tables.any_row(tables.first_row(bucket))?;
    let mut others = OTHERS;
    while !is_it(flow) {
        cold_path();
        if others == 0 {
            return None;
        }
        others -= 1;
        flow = tables.flow_row(row::next(flow))?;
    }
    Some(flow)
}

/// What stands where the marker would be in a row's `rtp`, by family.
const V4: u16 = 0;
const V6: u16 = CommonFlow::V6;

/// All that calls the kernel, done.
struct Ready<C> {
    relayed: Relayed,
    now: u64,
    counters: C,
    link_begin: u64,
    link_end: u32,
}

/// Finds the next hop, gets ready to send, reads the clock and counts what is relayed from here on.
/// `None` if the frame is too long for the next hop or cannot be sent.
#[inline(always)]
fn ready<'a, T: Tables>(
    tables: &'a T,
    flow: T::Row<'a>,
    length: usize,
    headers: usize,
) -> Option<Ready<T::Counters<'a>>> {
    let next_hop = tables.next_hop_row(flow.half(flow!(next_hop)) as u32)?;
    // While it is being changed, nothing is short enough.
    let version = next_hop.any_version();
    if length > (version >> 16) as usize {
        cold_path();
        return None;
    }
    let link_begin = next_hop.long(next_hop!(link_begin));
    let link_end = next_hop.word(next_hop!(link_end));
    let relayed = Relayed {
        interface: next_hop.word(next_hop!(interface)),
        device: next_hop.word(next_hop!(device)),
    };
    if !next_hop.is_still(version) || !tables.can_send(relayed.interface, relayed.device) {
        cold_path();
        return None;
    }
    let now = tables.now();
    let mut counters = tables.counters(flow.word(flow!(counters)))?;
    tables.count_relayed(length as u64);
    counters.count(now, (length - headers) as u64);
    Some(Ready {
        relayed,
        now,
        counters,
        link_begin,
        link_end,
    })
}

impl Datagram {
    /// Whether the stream is the flow's, which is of the family.
    #[inline(always)]
    fn is_of(&self, flow: impl Shared, family: u16) -> bool {
        self.ssrc.get() == flow.word(flow!(ssrc_in))
            && u16::from_ne_bytes(self.rtp) & CommonFlow::RTP | family == flow.half(flow!(rtp))
    }

    /// Writes what leaves, and records how it came.
    #[inline(always)]
    fn write(
        &mut self,
        flow: impl Shared,
        now: u64,
        mut counters: impl DerefMut<Target = FlowCounters>,
    ) {
        // In the upper half; what is in the lower one does not matter.
        let sequence = self.upper();
        let sequence_out = sequence as u64 + flow.wide::<{ flow!(sequence_offset) }>();
        let timestamp = self.timestamp();
        let timestamp_out = timestamp as u64 + flow.wide::<{ flow!(timestamp_offset) }>();
        self.number(sequence_out as u32, timestamp_out as u32);
        if self.udp_checksum != U16::ZERO {
            let mut datagram = SmallChange::datagram(flow.half(flow!(datagram_change)));
            datagram.wraps(((sequence_out >> 32) + (timestamp_out >> 32)) as u32);
            self.udp_checksum = datagram.apply_datagram(self.udp_checksum);
        } else {
            cold_path();
        }
        counters.reception.record_more(&Arrival {
            generation: flow.word(flow!(generation)),
            ticks: reception::ticks_by(now, flow.word(flow!(units)) as u64),
            sequence: (sequence >> 16) as u16,
            timestamp,
            sequence_out: (sequence_out as u32 >> 16) as u16,
            timestamp_out: timestamp_out as u32,
        });
        self.ports.set(flow.word(flow!(ports_out)));
        self.rtp[1] ^= flow.octet(flow!(payload_type_change));
        self.ssrc.set(flow.word(flow!(ssrc_out)));
    }

    /// The sequence number and half of the timestamp.
    #[inline(always)]
    fn upper(&self) -> u32 {
        let [upper @ .., _, _] = &self.numbers;
        u32::from_be_bytes(*upper)
    }

    #[inline(always)]
    fn timestamp(&self) -> u32 {
        let [_, _, timestamp @ ..] = &self.numbers;
        u32::from_be_bytes(*timestamp)
    }

    /// Writes a sequence number, from the upper half, and a timestamp.
    #[inline(always)]
    fn number(&mut self, sequence: u32, timestamp: u32) {
        let [out @ .., _, _, _, _] = &mut self.numbers;
        // What a compiler makes two octets of otherwise.
        let upper = if cfg!(target_endian = "big") {
            sequence >> 16
        } else {
            sequence.swap_bytes()
        };
        *out = (upper as u16).to_ne_bytes();
        let [_, _, out @ ..] = &mut self.numbers;
        *out = timestamp.to_be_bytes();
    }
}

/// [`relay`] over IPv6. The addresses are those of the flow entry, behind the row's first line.
#[inline(always)]
pub fn relay_v6<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Option<Relayed> {
    let length = frame.length();
    let Some(front) = frame.view_mut::<FrontV6>(0) else {
        cold_path();
        return None;
    };
    if front.ether_type.get() != headers::IPV6
        || front.first.get() >> 28 != 6
        // UDP, and more than one hop left.
        || (u16::from_be_bytes(front.life) as u32).wrapping_sub(UDP | 2) > 0xff - 2
        || front.datagram.udp_checksum == U16::ZERO
        || front.payload_length.get() as usize + (ETHERNET + 40) != length
        || front.datagram.udp_length != front.payload_length
    {
        cold_path();
        return None;
    }
    let ports = front.datagram.ports.get();
    let destination = [front.destination[0].get(), front.destination[1].get()];
    let bucket = row::bucket_v6(destination, local_port(ports));
    let flow = find(tables, bucket, |flow| {
        flow.word(flow!(ports)) == ports && row::is_to(flow, destination)
    })?;
    let [peer, from, to] = row::ADDRESSES;
    if !front.datagram.is_of(flow, V6)
        || front.source[0].get() != flow.any_long(peer)
        || front.source[1].get() != flow.any_long(peer + 8)
    {
        cold_path();
        return None;
    }
    let Ready {
        relayed,
        now,
        counters,
        link_begin,
        link_end,
    } = ready(tables, flow, length, HEADERS_V6)?;

    front.link.set(link_begin);
    front.link_end.set(link_end);
    let service = match flow.octet(flow!(service)) {
        CommonFlow::SERVICE_STAYS => (front.first.get() >> 20) as u8,
        service => service | (front.first.get() >> 20) as u8 & 0b11,
    };
    // Unlabelled, as a packet of another flow (RFC 6437, section 3).
    front.first = U32::new((6 << 28) | ((service as u32) << 20));
    front.life[1] -= 1;
    front.source[0].set(flow.any_long(from));
    front.source[1].set(flow.any_long(from + 8));
    front.destination[0].set(flow.any_long(to));
    front.destination[1].set(flow.any_long(to + 8));
    front.datagram.write(flow, now, counters);
    Some(relayed)
}
