//! Handing a frame to its worker, by the ring that the two share.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use relay_abi::{
    clock::Clock,
    punted::{LONG, MIDDLE, Punted, SHORT},
};

use crate::{
    maps::{RINGS, Ring, SETTINGS},
    opaque::{one_less, opaque},
};

/// What came of it.
#[derive(Clone, Copy)]
pub enum Handed {
    Taken,
    /// The ring is full.
    Full,
    /// There is no ring, or the frame is longer than its records: it has to go up the stack.
    Refused,
}

/// Copies the frame into the ring of the worker of `port`.
#[inline(always)]
pub fn hand(context: &XdpContext, port: u16, clock: &mut Clock) -> Handed {
    let Some(worker) = SETTINGS.get(0).and_then(|settings| settings.worker(port)) else {
        return Handed::Refused;
    };
    let Some(ring) = RINGS.get(worker) else {
        return Handed::Refused;
    };
    let last = one_less(opaque(context.data_end() - context.data()));
    if last < SHORT {
        put::<SHORT>(context, ring, last + 1, clock)
    } else if last < MIDDLE {
        put::<MIDDLE>(context, ring, last + 1, clock)
    } else if last < LONG {
        put::<LONG>(context, ring, last + 1, clock)
    } else {
        Handed::Refused
    }
}

#[inline(always)]
fn put<const N: usize>(
    context: &XdpContext,
    ring: &Ring,
    length: usize,
    clock: &mut Clock,
) -> Handed {
    let Some(mut entry) = ring.reserve_untyped::<Punted<N>>(0) else {
        return Handed::Full;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted; `length` is at most the frame's room.
    let loaded = unsafe {
        (*record).head.arrived = clock.now(bpf_jiffies64(), || bpf_ktime_get_ns());
        (*record).head.length = length as u32;
        (*record).head.zero = 0;
        bpf_xdp_load_bytes(
            context.as_ptr().cast(),
            0,
            (&raw mut (*record).frame).cast(),
            length as u32,
        )
    };
    if loaded == 0 {
        entry.submit(0);
        Handed::Taken
    } else {
        entry.discard(0);
        Handed::Refused
    }
}
