//! SRTP in XDP, by itself: `protect` makes an SRTP packet of the RTP packet in a frame and
//! `unprotect` the reverse, each with the one key of the table. It shows what the verifier takes
//! and what a packet costs.
//!
//! Needs Linux 5.18: bpf_xdp_load_bytes (5.18), exchanges of words (5.12).

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod opaque;
mod shared_word;

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use relay_abi::{
    U16,
    headers::{self, Ethernet, Ipv4, Ipv6, Udp},
    srtp::{
        index::IndexState,
        key::PreparedKey,
        packet::{CryptError, LONGEST, LONGEST_PROTECTED, Work, fold},
    },
};

use self::{opaque::opaque, shared_word::Word};

/// The key.
#[map]
static KEYS: Array<PreparedKey> = Array::with_max_entries(1, 0);

/// Where its stream is.
#[map]
static STATES: Array<IndexState<Word>> = Array::with_max_entries(1, 0);

#[map]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Protect,
    Unprotect,
}

#[xdp]
pub fn protect(context: XdpContext) -> u32 {
    verdict(crypt(&context, Direction::Protect))
}

#[xdp]
pub fn unprotect(context: XdpContext) -> u32 {
    verdict(crypt(&context, Direction::Unprotect))
}

/// A protected payload and its length, for [`time_unprotect`].
#[map]
static SAVED: Array<Saved> = Array::with_max_entries(1, 0);

#[repr(C)]
struct Saved {
    length: u32,
    octets: [u8; 1020],
}

/// [`protect`], ready to run again on its own frame: from the beginning of the stream, and with the
/// tail taken away. A test run does not do that between repetitions.
#[xdp]
pub fn time_protect(context: XdpContext) -> u32 {
    rewind();
    let verdict = verdict(crypt(&context, Direction::Protect));
    if let Some(key) = KEYS.get(0) {
        resize(&context, -(key.trailer() as i32));
    }
    verdict
}

/// [`unprotect`] of the same packet again and again: from the beginning of the stream, and with the
/// frame made what it was.
#[xdp]
pub fn time_unprotect(context: XdpContext) -> u32 {
    rewind();
    let Some(saved) = SAVED.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let begin = size_of::<FrontV4>();
    let length = saved.length as usize;
    let lacking = (begin + length) as i32 - (context.data_end() - context.data()) as i32;
    if lacking != 0 && !resize(&context, lacking) {
        return xdp_action::XDP_ABORTED;
    }
    let given = opaque(length) & 0x3ff;
    if given == 0 || given > LONGEST_PROTECTED {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: `given` octets, at most `LONGEST_PROTECTED`, are in `saved`.
    unsafe {
        bpf_xdp_store_bytes(
            context.as_ptr().cast(),
            begin as u32,
            saved.octets.as_ptr().cast_mut().cast(),
            given as u32,
        )
    };
    verdict(crypt(&context, Direction::Unprotect))
}

/// Lets the stream begin anew.
#[inline(always)]
fn rewind() {
    if let Some(state) = STATES.get_ptr_mut(0) {
        let words: *mut u64 = state.cast();
        let mut word = 0;
        while word < size_of::<IndexState<Word>>() / 8 {
            // SAFETY: the word is in the element, aligned; only a test run is under way.
            unsafe { words.add(word).write_volatile(0) };
            word += 1;
        }
    }
}

/// Whatever is not a packet that this can do passes; what is not authentic or not new ends here.
#[inline(always)]
fn verdict(result: Option<Result<(), CryptError>>) -> u32 {
    match result {
        Some(Ok(())) => xdp_action::XDP_TX,
        Some(Err(CryptError::TooLong)) | None => xdp_action::XDP_PASS,
        Some(Err(_)) => xdp_action::XDP_DROP,
    }
}

#[repr(C)]
struct FrontV4 {
    ethernet: Ethernet,
    ip: Ipv4,
    udp: Udp,
}

#[repr(C)]
struct FrontV6 {
    ethernet: Ethernet,
    ip: Ipv6,
    udp: Udp,
}

#[inline(always)]
fn front<T>(context: &XdpContext) -> Option<&mut T> {
    let start = context.data();
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: within the packet, as just compared; `T` is made of headers, which any octets make
    // and which have no alignment. Nobody holds it over a change of the packet's size.
    Some(unsafe { &mut *(start as *mut T) })
}

#[inline(always)]
fn crypt(context: &XdpContext, direction: Direction) -> Option<Result<(), CryptError>> {
    let key = KEYS.get(0)?;
    let state = STATES.get(0)?;
    let work = WORK.get_ptr_mut(0)?;
    // SAFETY: an element of this CPU alone, on which no other run of the program is under way.
    let work = unsafe { &mut *work };

    let ether_type = front::<Ethernet>(context)?.ether_type.get();
    let begin = match ether_type {
        headers::IPV4 => size_of::<FrontV4>(),
        headers::IPV6 => size_of::<FrontV6>(),
        _ => return None,
    };
    let length = (context.data_end() - context.data()).checked_sub(begin)?;
    let limit = match direction {
        Direction::Protect => LONGEST,
        Direction::Unprotect => LONGEST_PROTECTED,
    };
    let taken = opaque(length) & 0x3ff;
    if length >= 0x400 || taken == 0 || taken > limit {
        return None;
    }
    let place = work.packet().as_mut_ptr();
    // SAFETY: `place` has room for `taken` octets, at most `LONGEST_PROTECTED`.
    let loaded = unsafe {
        bpf_xdp_load_bytes(
            context.as_ptr().cast(),
            begin as u32,
            place.cast(),
            taken as u32,
        )
    };
    if loaded != 0 {
        return None;
    }
    let result = match direction {
        Direction::Protect => {
            // First, so that a driver without room leaves everything as it was.
            if !resize(context, key.trailer() as i32) {
                return None;
            }
            work.protect(key, state, taken)
        }
        Direction::Unprotect => work.unprotect(key, state, taken),
    };
    let length = match result {
        Ok(length) => length,
        Err(error) => return Some(Err(error)),
    };
    if direction == Direction::Unprotect && !resize(context, -(key.trailer() as i32)) {
        return None;
    }
    let given = opaque(length) & 0x3ff;
    if given == 0 || given > LONGEST_PROTECTED {
        return None;
    }
    let sum = work.sum(given)?;
    let place = work.packet().as_mut_ptr();
    // SAFETY: `given` octets of `place` are the packet.
    let stored = unsafe {
        bpf_xdp_store_bytes(
            context.as_ptr().cast(),
            begin as u32,
            place.cast(),
            given as u32,
        )
    };
    if stored != 0 {
        return None;
    }
    let octets = U16::new(given as u16 + 8);
    if ether_type == headers::IPV4 {
        finish_v4(front(context)?, octets, sum);
    } else {
        finish_v6(front(context)?, octets, sum);
    }
    Some(Ok(()))
}

#[inline(always)]
fn resize(context: &XdpContext, by: i32) -> bool {
    // SAFETY: the context is the one that the kernel gave; nobody holds a pointer into the packet.
    unsafe { bpf_xdp_adjust_tail(context.as_ptr().cast(), by) == 0 }
}

/// Writes lengths and checksums; `octets` is the UDP length, `sum` that of the payload.
#[inline(always)]
fn finish_v4(front: &mut FrontV4, octets: U16, sum: u16) {
    let total = U16::new(octets.get() + 20);
    let mut change = relay_abi::checksum::Change::default();
    change.half(front.ip.total_length.to_bytes(), total.to_bytes());
    front.ip.checksum = change.apply(front.ip.checksum);
    front.ip.total_length = total;
    let pseudo = u32::from_ne_bytes(front.ip.source) as u64
        + u32::from_ne_bytes(front.ip.destination) as u64;
    finish_udp(&mut front.udp, octets, pseudo + sum as u64);
}

#[inline(always)]
fn finish_v6(front: &mut FrontV6, octets: U16, sum: u16) {
    front.ip.payload_length = octets;
    let [a, b, c, d]: [[u8; 4]; 4] = zerocopy::transmute!(front.ip.source);
    let [e, f, g, h]: [[u8; 4]; 4] = zerocopy::transmute!(front.ip.destination);
    let mut pseudo = 0;
    for word in [a, b, c, d, e, f, g, h] {
        pseudo += u32::from_ne_bytes(word) as u64;
    }
    finish_udp(&mut front.udp, octets, pseudo + sum as u64);
}

#[inline(always)]
fn finish_udp(udp: &mut Udp, octets: U16, sum: u64) {
    udp.length = octets;
    let length = u16::from_ne_bytes(octets.to_bytes()) as u64;
    let ports = u16::from_ne_bytes(udp.source.to_bytes()) as u64
        + u16::from_ne_bytes(udp.destination.to_bytes()) as u64;
    let protocol = u16::from_ne_bytes([0, headers::UDP]) as u64;
    let sum = !fold(sum + 2 * length + ports + protocol);
    // Zero would say that there is none (RFC 768).
    udp.checksum = U16::from_bytes(if sum == 0 {
        [0xff; 2]
    } else {
        sum.to_ne_bytes()
    });
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
