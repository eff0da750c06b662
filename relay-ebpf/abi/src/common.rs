//! The common packet: untagged IPv4 without options or IPv6, RTP without padding, extension or
//! contributing sources, of the pinned peer, the known SSRC and the flow's first payload type, out
//! by an untagged next hop. It takes the shortest way; whatever is in the least unusual takes the
//! long one ([`crate::relay`]), which decides the same for these.

use core::{
    mem::{offset_of, size_of},
    ops::DerefMut,
};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    native_endian::{U16 as NativeU16, U32 as NativeU32, U64 as NativeU64},
};

use crate::{
    U16, U32,
    checksum::SmallChange,
    counters::FlowCounters,
    frame::Frame,
    headers,
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
    kind: NativeU32,
    total_length: U16,
    /// Identification, flags and fragment offset.
    fragment: NativeU32,
    /// The hop limit and the protocol.
    life: [u8; 2],
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
    rtp: NativeU16,
    sequence: U16,
    timestamp: U32,
    ssrc: NativeU32,
}

const _: () = assert!(size_of::<Front>() == 54);
const _: () = assert!(size_of::<FrontV6>() == 74);

const KIND: u32 = u32::from_ne_bytes([0x08, 0x00, 0x45, 0]);
const KIND_MASK: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
const FRAGMENT: u32 = {
    let [high, low] = headers::FRAGMENT.to_be_bytes();
    u32::from_ne_bytes([0, 0, high, low])
};
const DO_NOT_FRAGMENT: u32 = {
    let [high, low] = headers::DO_NOT_FRAGMENT.to_be_bytes();
    u32::from_ne_bytes([0, 0, high, low])
};

/// UDP with no hop left, as [`Front::life`] in the order of the least octet first.
const UDP: u16 = (headers::UDP as u16) << 8;

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

/// A frame that looks as a common packet does.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    ip_length: usize,
    udp_length: usize,
}

/// Looks at a frame alone. Before all else, so that its cache line is on its way early.
#[inline(always)]
pub fn candidate<F: Frame>(frame: &mut F) -> Option<Candidate> {
    let length = frame.length();
    let front = frame.view_mut::<Front>(0)?;
    if front.kind.get() & KIND_MASK != KIND
        || front.fragment.get() & FRAGMENT != 0
        // More than one hop left, and UDP.
        || u16::from_le_bytes(front.life).wrapping_sub(UDP | 2) > 0xff - 2
    {
        return None;
    }
    let ip_length = front.total_length.get() as usize;
    let udp_length = front.datagram.udp_length.get() as usize;
    // From the headers' octets to the frame's.
    if ip_length.wrapping_sub(40) > length.wrapping_sub(size_of::<Front>())
        || ip_length != udp_length + 20
    {
        return None;
    }
    Some(Candidate {
        ip_length,
        udp_length,
    })
}

/// Relays a common packet. `None` for any other, which is as it came.
///
/// What calls the kernel comes before anything is written: calls leave few registers as they were.
#[inline(always)]
pub fn relay<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    candidate: Candidate,
) -> Option<Relayed> {
    let Candidate {
        ip_length,
        udp_length,
    } = candidate;
    let front = frame.view_mut::<Front>(0)?;
    let ends = front.ends.get();
    let ports = front.datagram.ports.get();
    let [_, _, _, _, a, b, c, d] = ends.to_ne_bytes();
    let [_, _, e, f] = ports.to_ne_bytes();
    let bucket = row::bucket(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
    let mut flow = tables.flow_row(tables.first_row(bucket))?;
    let mut others = OTHERS;
    while flow.long(flow!(ends)) != ends || flow.word(flow!(ports)) != ports {
        if others == 0 {
            return None;
        }
        others -= 1;
        flow = tables.flow_row(row::next(flow))?;
    }
    if !front.datagram.is_of(flow, V4) {
        return None;
    }
    let Ready {
        relayed,
        now,
        counters,
        link_begin,
        link_end,
    } = ready(tables, flow, ip_length)?;

    front.link.set(link_begin);
    front.link_end.set(link_end);

    let mut header = SmallChange::new(flow.half(flow!(header_change)));
    let service = flow.octet(flow!(service));
    if service != CommonFlow::SERVICE_STAYS {
        let [a, b, c, old] = front.kind.get().to_ne_bytes();
        let new = service | (old & 0b11);
        header.half([c, old], [c, new]);
        front.kind.set(u32::from_ne_bytes([a, b, c, new]));
    }
    // Never fragmented, so the identification says nothing (RFC 6864, section 4.1).
    let fragment = front.fragment.get();
    header.without(fragment as u16);
    header.without((fragment >> 16) as u16);
    front.fragment.set(DO_NOT_FRAGMENT);
    front.life[0] -= 1;
    front.checksum = header.apply(front.checksum);
    front.ends.set(flow.long(flow!(ends_out)));
    front.datagram.write(flow, udp_length, now, counters);
    Some(relayed)
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

/// Finds the next hop, gets ready to send, and reads the clock. `None` if the packet is too long for
/// it or it cannot be sent.
#[inline(always)]
fn ready<'a, T: Tables>(
    tables: &'a T,
    flow: T::Row<'a>,
    ip_length: usize,
) -> Option<Ready<T::Counters<'a>>> {
    let next_hop = tables.next_hop_row(flow.half(flow!(next_hop)) as u32)?;
    // While it is being changed, nothing is short enough.
    let version = next_hop.any_version();
    if ip_length > (version >> 16) as usize {
        return None;
    }
    let relayed = Relayed {
        interface: next_hop.word(next_hop!(interface)),
        device: next_hop.word(next_hop!(device)),
    };
    if !tables.can_send(relayed.interface, relayed.device) {
        return None;
    }
    let now = tables.now();
    let counters = tables.counters(flow.word(flow!(counters)))?;
    let ready = Ready {
        relayed,
        now,
        counters,
        link_begin: next_hop.long(next_hop!(link_begin)),
        link_end: next_hop.word(next_hop!(link_end)),
    };
    next_hop.is_still(version).then_some(ready)
}

impl Datagram {
    /// Whether the stream is the flow's, which is of the family.
    #[inline(always)]
    fn is_of(&self, flow: impl Shared, family: u16) -> bool {
        self.ssrc.get() == flow.word(flow!(ssrc_in))
            && self.rtp.get() & CommonFlow::RTP | family == flow.half(flow!(rtp))
    }

    /// Writes what leaves, and counts it.
    #[inline(always)]
    fn write(
        &mut self,
        flow: impl Shared,
        udp_length: usize,
        now: u64,
        mut counters: impl DerefMut<Target = FlowCounters>,
    ) {
        self.ports.set(flow.word(flow!(ports_out)));
        let payload_type_change = flow.octet(flow!(payload_type_change));
        let rtp = self.rtp.get() ^ u16::from_ne_bytes([0, payload_type_change]);
        self.rtp.set(rtp);
        let offsets = flow.long(flow!(offsets));
        let sequence = self.sequence.get();
        let sequence_out = sequence as u64 + (offsets & 0xffff);
        self.sequence = U16::new(sequence_out as u16);
        let timestamp = self.timestamp.get();
        let timestamp_out = timestamp as u64 + (offsets >> 32);
        self.timestamp = U32::new(timestamp_out as u32);
        self.ssrc.set(flow.word(flow!(ssrc_out)));
        let mut datagram = SmallChange::new(flow.half(flow!(datagram_change)));
        datagram.wraps(((sequence_out >> 16) + (timestamp_out >> 32)) as u32);
        self.udp_checksum = datagram.apply_udp(self.udp_checksum);

        counters.relayed(
            now,
            udp_length as u64 - 8,
            &Arrival {
                generation: flow.word(flow!(generation)),
                ticks: reception::ticks_by(now, flow.word(flow!(units)) as u64),
                sequence,
                timestamp,
                sequence_out: sequence_out as u16,
                timestamp_out: timestamp_out as u32,
            },
        );
    }
}

/// [`candidate`] over IPv6.
#[inline(always)]
pub fn candidate_v6<F: Frame>(frame: &mut F) -> Option<Candidate> {
    let length = frame.length();
    let front = frame.view_mut::<FrontV6>(0)?;
    if front.ether_type.get() != headers::IPV6
        || front.first.get() >> 28 != 6
        // UDP, and more than one hop left.
        || u16::from_be_bytes(front.life).wrapping_sub(UDP | 2) > 0xff - 2
        || front.datagram.udp_checksum == U16::ZERO
        // What else there may be, a flow that takes no common way has.
        || front.datagram.rtp.to_bytes()[0] != 0x80
    {
        return None;
    }
    let udp_length = front.datagram.udp_length.get() as usize;
    if udp_length.wrapping_sub(20) > length.wrapping_sub(size_of::<FrontV6>())
        || front.payload_length.get() as usize != udp_length
    {
        return None;
    }
    Some(Candidate {
        ip_length: udp_length + 40,
        udp_length,
    })
}

/// [`relay`] over IPv6. The addresses are those of the flow entry, behind the row's first line.
#[inline(always)]
pub fn relay_v6<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    candidate: Candidate,
) -> Option<Relayed> {
    let Candidate {
        ip_length,
        udp_length,
    } = candidate;
    let front = frame.view_mut::<FrontV6>(0)?;
    let ports = front.datagram.ports.get();
    let destination = [front.destination[0].get(), front.destination[1].get()];
    let [_, _, e, f] = ports.to_ne_bytes();
    let bucket = row::bucket_v6(destination, u16::from_be_bytes([e, f]));
    let mut flow = tables.flow_row(tables.first_row(bucket))?;
    let mut others = OTHERS;
    while flow.word(flow!(ports)) != ports || !row::is_to(flow, destination) {
        if others == 0 {
            return None;
        }
        others -= 1;
        flow = tables.flow_row(row::next(flow))?;
    }
    let [peer, from, to] = row::ADDRESSES;
    if !front.datagram.is_of(flow, V6)
        || front.source[0].get() != flow.any_long(peer)
        || front.source[1].get() != flow.any_long(peer + 8)
    {
        return None;
    }
    let Ready {
        relayed,
        now,
        counters,
        link_begin,
        link_end,
    } = ready(tables, flow, ip_length)?;

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
    front.datagram.write(flow, udp_length, now, counters);
    Some(relayed)
}
