//! Trunkline's programs in the kernel: `relay`, the XDP fast path, and `steer`, which hands what
//! was punted to its worker. All decisions are in `relay-abi`; here are only the edges: the
//! packet's memory, the maps and the verdicts.
//!
//! Needs Linux 5.10: sk_lookup (5.9), ring buffer (5.8), bpf_redirect_map's verdict on a missing
//! device (5.4), several scalars of one origin known to be equal (5.10).

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;
mod opaque;
mod packet;
mod shared_row;
mod shared_word;
mod steer;
mod tables;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use relay_abi::{
    common,
    frame::Frame,
    processor::Processor,
    relay::{Outcome, relay_any},
    verdict::{Reason, Verdict},
};

use self::{maps::PROGRAMS, packet::Packet, tables::Maps};

#[xdp]
pub fn relay(context: XdpContext) -> u32 {
    let ingress = context.ingress_ifindex() as u32;
    let mut packet = Packet::new(&context);
    let octets = packet.length() as u64;
    let Some(Processor {
        reasons,
        clock,
        scratch,
    }) = tables::processor()
    else {
        return xdp_action::XDP_PASS;
    };
    let mut maps = Maps { ingress, clock };
    let outcome: Outcome = match common::relay(&mut packet, &mut maps) {
        Some(relayed) => {
            tables::count(reasons, Reason::Relayed, octets);
            relayed.into()
        }
        None => {
            let outcome = relay_any(&mut packet, &mut maps, scratch);
            if outcome.reason == Reason::NoSrtp {
                // SAFETY: the context is the one that the kernel gave. It returns only where the
                // program was not taken.
                unsafe { PROGRAMS.tail_call(&context, 0) };
            }
            tables::count(reasons, outcome.reason, octets);
            outcome
        }
    };
    match outcome.reason.verdict() {
        Verdict::Forward if outcome.interface == ingress => xdp_action::XDP_TX,
        // The device was chosen when the relay asked whether the next hop can be sent by.
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
