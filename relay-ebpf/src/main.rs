//! Trunkline's programs in the kernel: `relay`, the XDP fast path, `relay_srtp`, which it calls for
//! flows with SRTP, `hand_over`, which gives what is punted to its worker, and `steer`, which gives
//! the worker's socket what came to it by the stack. All decisions are in `relay-abi`; here are only the edges: the
//! packet's memory, the maps and the verdicts.
//!
//! Needs Linux 5.10: sk_lookup (5.9), ring buffer (5.8), bpf_redirect_map's verdict on a missing
//! device (5.4), several scalars of one origin known to be equal (5.10).

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod bpf;
mod hand;
mod maps;
mod opaque;
mod packet;
mod placed;
mod sha1;
mod shared_row;
mod shared_word;
mod steer;
mod tables;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use relay_abi::{
    common,
    frame::Frame,
    relay::{Outcome, relay_any},
    secured::{self, SecuredScratch},
    tables::Scratch,
    verdict::{Reason, Verdict},
};

use self::{
    hand::{Handed, hand},
    maps::PROGRAMS,
    opaque::opaque,
    packet::Packet,
    tables::Maps,
};

/// Where in the program array `relay_srtp`, `relay_srtp_out` and `hand_over` are.
const UNPROTECT: u32 = 0;
const PROTECT: u32 = 1;
const HAND_OVER: u32 = 2;

#[xdp]
pub fn relay(context: XdpContext) -> u32 {
    if let Some(way_out) = relay_common(&context).or_else(|| relay_common_v6(&context)) {
        return way_out;
    }
    // What the other way found is asked for again: kept, it would be in its way.
    let mut packet = Packet::new(&context);
    let octets = packet.length() as u64;
    let processor = tables::processor();
    let mut maps = Maps::new(&context, processor);
    // SAFETY: what one run asks for once.
    let scratch = unsafe { &mut (*processor).scratch };
    let outcome = relay_any(&mut packet, &mut maps, scratch);
    if outcome.reason == Reason::NoSrtp {
        // SAFETY: the context is the one that the kernel gave. It returns only where the program
        // was not taken.
        unsafe { PROGRAMS.tail_call(&context, UNPROTECT) };
    }
    end(&outcome, &context, &maps, octets)
}

/// Goes on with what the others punt of known flows: hands the frame to the flow's worker by the
/// ring that the two share. Needs Linux 5.18: bpf_xdp_load_bytes.
#[xdp]
pub fn hand_over(context: XdpContext) -> u32 {
    // SAFETY: what one run asks for once.
    let processor = unsafe { &mut *tables::processor() };
    let octets = (context.data_end() - context.data()) as u64;
    let port = processor.scratch.key.local.port.get();
    let (reason, action) = match hand(&context, port, &mut processor.clock) {
        Handed::Taken => (processor.punted, xdp_action::XDP_DROP),
        Handed::Full => (Reason::WorkerBusy as u32, xdp_action::XDP_DROP),
        Handed::Refused => (processor.punted, xdp_action::XDP_PASS),
    };
    if let Some(counters) = processor.reasons.get_mut(opaque(reason as usize)) {
        counters.count(octets);
    }
    action
}

#[inline(always)]
fn relay_common(context: &XdpContext) -> Option<u32> {
    let maps = Maps::later(context);
    common::relay(&mut Packet::new(context), &maps)?;
    Some(maps.way_out())
}

#[inline(always)]
fn relay_common_v6(context: &XdpContext) -> Option<u32> {
    let maps = Maps::later(context);
    common::relay_v6(&mut Packet::new(context), &maps)?;
    Some(maps.way_out())
}

/// Goes on with what `relay` left, flows with SRTP: it decides and unprotects. Needs Linux 5.18:
/// bpf_xdp_load_bytes (5.18), exchanges of words (5.12).
#[xdp]
pub fn relay_srtp(context: XdpContext) -> u32 {
    let Some(work) = tables::work() else {
        return xdp_action::XDP_PASS;
    };
    let processor = tables::processor();
    let mut maps = Maps::new(&context, processor);
    // SAFETY: what one run asks for once.
    let scratch = unsafe { &mut (*processor).scratch };
    let mut result =
        prepare(&context, &mut maps, scratch, work).and_then(|()| unprotect(&maps, scratch, work));
    if result.is_ok() {
        // SAFETY: as in `relay`. The loader puts both programs there or none.
        unsafe { PROGRAMS.tail_call(&context, PROTECT) };
        result = Err(Reason::KeyChanged);
    }
    let outcome = secured::outcome(result, &mut maps, scratch);
    end(&outcome, &context, &maps, work.octets())
}

/// Goes on with what `relay_srtp` left: it protects and writes the frame. A program of its own, so
/// that the verifier does not follow it once for each way through the other.
#[xdp]
pub fn relay_srtp_out(context: XdpContext) -> u32 {
    let Some(work) = tables::work() else {
        return xdp_action::XDP_DROP;
    };
    let processor = tables::processor();
    let mut maps = Maps::new(&context, processor);
    // SAFETY: what one run asks for once.
    let scratch = unsafe { &mut (*processor).scratch };
    let result =
        protect(&maps, scratch, work).and_then(|()| complete(&context, &mut maps, scratch, work));
    let outcome = secured::outcome(result, &mut maps, scratch);
    end(&outcome, &context, &maps, work.octets())
}

// Each step is a function of its own: there is one stack for each.
#[inline(never)]
fn prepare(
    context: &XdpContext,
    maps: &mut Maps<'_>,
    scratch: &mut Scratch,
    work: &mut SecuredScratch,
) -> Result<(), Reason> {
    secured::prepare(&mut Packet::new(context), maps, scratch, work)
}

#[inline(never)]
fn unprotect(maps: &Maps<'_>, scratch: &Scratch, work: &mut SecuredScratch) -> Result<(), Reason> {
    secured::unprotect(maps, scratch, work)
}

#[inline(never)]
fn protect(maps: &Maps<'_>, scratch: &Scratch, work: &mut SecuredScratch) -> Result<(), Reason> {
    secured::protect(maps, scratch, work)
}

#[inline(never)]
fn complete(
    context: &XdpContext,
    maps: &mut Maps<'_>,
    scratch: &mut Scratch,
    work: &mut SecuredScratch,
) -> Result<(), Reason> {
    secured::complete(&mut Packet::new(context), maps, scratch, work)
}

/// Counts a packet and says what becomes of it, but for what goes on to `hand_over`.
#[inline(always)]
fn end(outcome: &Outcome, context: &XdpContext, maps: &Maps<'_>, octets: u64) -> u32 {
    if outcome.reason.is_handed_over() {
        maps.punted(outcome.reason);
        // SAFETY: as in `relay`. It returns where the program was not taken: then the stack has it.
        unsafe { PROGRAMS.tail_call(context, HAND_OVER) };
    }
    maps.count(outcome.reason, octets);
    verdict(outcome, context)
}

#[inline(always)]
fn verdict(outcome: &Outcome, context: &XdpContext) -> u32 {
    match outcome.reason.verdict() {
        // The device was chosen when the relay asked whether there is one.
        Verdict::Forward if outcome.interface == context.ingress_ifindex() as u32 => {
            xdp_action::XDP_TX
        }
        Verdict::Forward => xdp_action::XDP_REDIRECT,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Punt | Verdict::Pass => xdp_action::XDP_PASS,
    }
}

/// The licence that the kernel reads: MIT, in the form by which it knows that helpers under the
/// GPL may be called.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing panics; were it otherwise, the verifier would refuse the endless loop.
    loop {}
}
