//! The measuring programs: `generate` makes RTP out of live test-run frames, `limit` redirects
//! and does nothing else, `sink` counts what arrives. The relay under test stands between the
//! first and the last.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod opaque;

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
    macros::{map, xdp},
    maps::{Array, DevMap, PerCpuArray, ProgramArray, RingBuf},
    programs::XdpContext,
};
use relay_abi::{
    U16,
    checksum::Change,
    headers::{self, Ethernet, Ipv4, Ipv6, Udp},
    measure::{
        HeadersV4, HeadersV6, LATENCY_BUCKETS, Load, PREPARED as PREPARED_PACKETS, PREPARED_OCTETS,
        Prepared, SAMPLE_EVERY, SAMPLE_OCTETS, Sample, SinkCounters, latency_bucket,
    },
};
use zerocopy::{FromBytes, IntoBytes};

use self::opaque::{one_less, opaque};

/// The load to make.
#[map]
static LOAD: Array<Load> = Array::with_max_entries(1, 0);

/// How many packets each CPU has made.
#[map]
static MADE: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// The one device that `generate` and `limit` send by.
#[map]
static DEVICE: DevMap = DevMap::with_max_entries(1, 0);

/// What `generate_prepared` and `feed` send.
#[map]
static PREPARED: Array<Prepared> = Array::with_max_entries(PREPARED_PACKETS, 0);

/// What `feed` hands its packets to.
#[map]
static FED: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[map]
static SINK: PerCpuArray<SinkCounters> = PerCpuArray::with_max_entries(1, 0);

/// Latencies, when the load carries the time of sending.
#[map]
static LATENCIES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LATENCY_BUCKETS as u32, 0);

#[map]
static SAMPLES: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

fn redirect() -> u32 {
    match DEVICE.redirect(0, u64::from(xdp_action::XDP_DROP)) {
        Ok(action) | Err(action) => action,
    }
}

/// Redirects every frame to the one device as it is: what no relay can be faster than.
#[xdp]
pub fn limit(_context: XdpContext) -> u32 {
    redirect()
}

/// Writes the headers of the next packet of the load over a frame, whatever was in it, and sends
/// it.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    let (Some(load), Some(made)) = (LOAD.get(0), MADE.get_ptr_mut(0)) else {
        return xdp_action::XDP_DROP;
    };
    // SAFETY: an element of this CPU alone.
    let n = unsafe {
        let n = *made;
        *made = n.wrapping_add(1);
        n
    };
    let numbers = load.numbers(n);
    let written = if load.ipv6 == 0 {
        write::<HeadersV4>(&context, &load.template_v4, load.timed, |headers, time| {
            let mut change = time;
            headers.number(&numbers, &mut change);
            headers.udp.checksum = change.apply_udp(headers.udp.checksum);
        })
    } else {
        write::<HeadersV6>(&context, &load.template_v6, load.timed, |headers, time| {
            let mut change = time;
            headers.number(&numbers, &mut change);
            headers.udp.checksum = change.apply_udp(headers.udp.checksum);
        })
    };
    if written.is_none() {
        return xdp_action::XDP_DROP;
    }
    redirect()
}

/// Sends the next of the prepared packets, which are whole up to the UDP header: SRTP, which no
/// program makes as fast as another takes it apart. Each flow sends each of them once; the streams'
/// keys are equal, so one packet serves all. Over IPv4.
#[xdp]
pub fn generate_prepared(context: XdpContext) -> u32 {
    match prepared(&context) {
        Some(()) => redirect(),
        None => xdp_action::XDP_DROP,
    }
}

/// Writes the next of the prepared packets over the frame and hands it to another program, if one is
/// there. So a test run can give a program that changes packets one after the other.
#[xdp]
pub fn feed(context: XdpContext) -> u32 {
    if prepared(&context).is_some() {
        // SAFETY: the context is the one that the kernel gave. It returns only where none is there.
        unsafe { FED.tail_call(&context, 0) };
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn prepared(context: &XdpContext) -> Option<()> {
    let load = LOAD.get(0)?;
    let made = MADE.get_ptr_mut(0)?;
    // SAFETY: an element of this CPU alone.
    let n = unsafe {
        let n = *made;
        *made = n.wrapping_add(1);
        n
    };
    let numbers = load.numbers(n);
    let packet = PREPARED.get(u32::from(numbers.sequence) & (PREPARED_PACKETS - 1))?;
    let length = size_of::<DatagramV4>() + usize::from(packet.length);
    let before = opaque(context.data_end() - context.data());
    let growth = length as i32 - before as i32;
    // SAFETY: the context is this program's; pointers into the packet are made afterwards.
    if unsafe { bpf_xdp_adjust_tail(context.as_ptr().cast(), growth) } != 0 {
        return None;
    }
    let start = context.data();
    if start + size_of::<DatagramV4>() > context.data_end() {
        return None;
    }
    // SAFETY: within the packet, as just compared; any octets make it, unaligned; nothing else
    // holds them.
    let front = unsafe { &mut *(start as *mut DatagramV4) };
    // By value: of copies from place to place the compiler makes calls, octet by octet.
    let HeadersV4 {
        ethernet,
        ip,
        mut udp,
        ..
    } = load.template_v4;
    let port = U16::new(udp.destination.get().wrapping_add(numbers.port));
    let mut change = Change::default();
    change.half(udp.destination.to_bytes(), port.to_bytes());
    udp.destination = port;
    udp.checksum = change.apply_udp(packet.checksum);
    *front = DatagramV4 { ethernet, ip, udp };
    let last = one_less(usize::from(packet.length));
    if last >= PREPARED_OCTETS {
        return None;
    }
    // SAFETY: `last` is that of an octet there is.
    let stored = unsafe {
        bpf_xdp_store_bytes(
            context.as_ptr().cast(),
            size_of::<DatagramV4>() as u32,
            packet.octets.as_ptr().cast_mut().cast(),
            last as u32 + 1,
        )
    };
    (stored == 0).then_some(())
}

/// The headers and the first eight octets of the payload behind them.
#[derive(
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
struct Timed<H> {
    headers: H,
    time: [u8; 8],
}

#[inline(always)]
fn write<H: FromBytes + IntoBytes + Copy>(
    context: &XdpContext,
    template: &H,
    timed: u8,
    number: impl FnOnce(&mut H, Change),
) -> Option<()> {
    let start = context.data();
    if start + size_of::<Timed<H>>() > context.data_end() {
        return None;
    }
    // SAFETY: the octets are within the packet, as just compared; any octets make the headers,
    // which have no alignment; nothing else holds them.
    let front = unsafe { &mut *(start as *mut Timed<H>) };
    front.headers = *template;
    let mut change = Change::default();
    if timed != 0 {
        // The template's checksum is that of a payload that begins with zeros.
        front.time = now().to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = front.time;
        change.word([0; 4], [a, b, c, d]);
        change.word([0; 4], [e, f, g, h]);
    }
    number(&mut front.headers, change);
    Some(())
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: it takes no argument.
    unsafe { bpf_ktime_get_ns() }
}

/// What of a frame says whether it is a datagram, over either family.
#[repr(C)]
struct DatagramV4 {
    ethernet: Ethernet,
    ip: Ipv4,
    udp: Udp,
}

#[repr(C)]
struct DatagramV6 {
    ethernet: Ethernet,
    ip: Ipv6,
    udp: Udp,
}

/// Counts a frame, samples it, and drops it.
#[xdp]
pub fn sink(context: XdpContext) -> u32 {
    let Some(counters) = SINK.get_ptr_mut(0) else {
        return xdp_action::XDP_DROP;
    };
    // SAFETY: an element of this CPU alone.
    let counters = unsafe { &mut *counters };
    let Some(payload) = payload(&context) else {
        counters.others += 1;
        return xdp_action::XDP_DROP;
    };
    counters.packets += 1;
    if counters.packets % SAMPLE_EVERY == 0 && sample(&context).is_none() {
        counters.samples_lost += 1;
    }
    if let Some(load) = LOAD.get(0)
        && load.timed != 0
    {
        time(&context, payload + usize::from(load.time_offset & 15));
    }
    xdp_action::XDP_DROP
}

/// Where the RTP payload of a datagram begins.
#[inline(always)]
fn payload(context: &XdpContext) -> Option<usize> {
    let (start, end) = (context.data(), context.data_end());
    if start + size_of::<DatagramV4>() > end {
        return None;
    }
    // SAFETY: within the packet, as just compared; any octets make it, unaligned.
    let datagram = unsafe { &*(start as *const DatagramV4) };
    if datagram.ethernet.ether_type.get() == headers::IPV4 && datagram.ip.protocol == headers::UDP {
        return Some(size_of::<HeadersV4>());
    }
    if start + size_of::<DatagramV6>() > end {
        return None;
    }
    // SAFETY: as above.
    let datagram = unsafe { &*(start as *const DatagramV6) };
    if datagram.ethernet.ether_type.get() == headers::IPV6
        && datagram.ip.next_header == headers::UDP
    {
        return Some(size_of::<HeadersV6>());
    }
    None
}

#[inline(always)]
fn time(context: &XdpContext, payload: usize) {
    let start = context.data() + payload;
    if start + 8 > context.data_end() {
        return;
    }
    // SAFETY: within the packet, as just compared; read without alignment.
    let sent = unsafe { (start as *const u64).read_unaligned() };
    let latency = now().wrapping_sub(sent);
    if let Some(count) = LATENCIES.get_ptr_mut(latency_bucket(latency) as u32) {
        // SAFETY: an element of this CPU alone.
        unsafe { *count += 1 };
    }
}

#[inline(always)]
fn sample(context: &XdpContext) -> Option<()> {
    let last = one_less(opaque(context.data_end() - context.data()));
    let mut entry = SAMPLES.reserve::<Sample>(0)?;
    let sample = entry.as_mut_ptr();
    if last >= SAMPLE_OCTETS {
        entry.discard(0);
        return None;
    }
    // SAFETY: the entry is ours until it is submitted; `last` is that of an octet there is.
    let loaded = unsafe {
        (*sample).length = last as u32 + 1;
        bpf_xdp_load_bytes(
            context.as_ptr().cast(),
            0,
            (&raw mut (*sample).octets).cast(),
            last as u32 + 1,
        )
    };
    if loaded == 0 {
        entry.submit(0);
        Some(())
    } else {
        entry.discard(0);
        None
    }
}

/// As in `relay`: what the kernel reads.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing panics; were it otherwise, the verifier would refuse the endless loop.
    loop {}
}
