//! The maps as the relay's tables.

use core::ptr::read_volatile;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_ktime_get_ns};
use relay_abi::{
    counters::FlowCounters,
    event::FirstDrop,
    flow::{FlowEntry, FlowKey},
    next_hop::NextHop,
    seal::{SealedFlow, SealedNextHop},
    tables::{Scratch, Tables},
    verdict::Reason,
};

use crate::maps::{
    DEVICES, EVENT_LOSSES, EVENTS, FLOW_COUNTERS, FLOWS, NEXT_HOPS, REASONS, SCRATCH, SETTINGS,
};

/// The maps, for a packet that came in by `ingress`.
pub struct Maps {
    pub ingress: u32,
}

/// Copies a map element that others may be writing, each word once.
#[inline(always)]
fn copy<const WORDS: usize>(element: *const u64, words: &mut [u64; WORDS]) {
    let mut index = 0;
    while index < WORDS {
        // SAFETY: a map element stays mapped while the program runs, even when it is removed; its
        // words are aligned, and whatever is in them is a number. Volatile, because the copy must
        // be the only reading: the seal is computed over the copy.
        words[index] = unsafe { read_volatile(element.add(index)) };
        index += 1;
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn is_media_port(&self, port: u16) -> bool {
        SETTINGS
            .get(0)
            .is_some_and(|settings| settings.is_media_port(port))
    }

    #[inline(always)]
    fn flow<'a>(&self, key: &FlowKey, sealed: &'a mut SealedFlow) -> Result<&'a FlowEntry, Reason> {
        let element = FLOWS.get_ptr(key).ok_or(Reason::UnknownFlow)?;
        copy::<15>(element.cast(), zerocopy::transmute_mut!(sealed));
        sealed.open(key).ok_or(Reason::Changing)
    }

    #[inline(always)]
    fn next_hop<'a>(
        &self,
        index: u32,
        sealed: &'a mut SealedNextHop,
    ) -> Result<&'a NextHop, Reason> {
        let element = NEXT_HOPS.get_ptr(index).ok_or(Reason::UnresolvedNextHop)?;
        copy::<5>(element.cast(), zerocopy::transmute_mut!(sealed));
        sealed.open().ok_or(Reason::Changing)
    }

    /// A device that is not the ingress one is chosen here already: on failure the frame is still
    /// as it came and can be punted.
    #[inline(always)]
    fn can_send(&self, next_hop: &NextHop) -> bool {
        next_hop.interface.get() == self.ingress
            || DEVICES
                .redirect(next_hop.device.get(), u64::from(xdp_action::XDP_ABORTED))
                .is_ok()
    }

    #[inline(always)]
    fn counters(&mut self, index: u32) -> Option<&mut FlowCounters> {
        let counters = FLOW_COUNTERS.get_ptr_mut(index)?;
        // SAFETY: an element of this CPU alone, on which no other run of the program is under way;
        // userspace only reads it, but for zeroing it before a flow takes it.
        Some(unsafe { &mut *counters })
    }

    #[inline(always)]
    fn tell(&mut self, event: &FirstDrop) {
        // Without waking anybody: userspace looks when it reads the counters.
        let flags = u64::from(aya_ebpf::bindings::BPF_RB_NO_WAKEUP);
        if EVENTS.output::<FirstDrop>(event, flags).is_err()
            && let Some(losses) = EVENT_LOSSES.get_ptr_mut(0)
        {
            // SAFETY: an element of this CPU alone.
            unsafe { *losses += 1 };
        }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: it takes no argument.
        unsafe { bpf_ktime_get_ns() }
    }
}

/// This CPU's scratch memory. Only the verifier thinks that there may be none.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: an element of this CPU alone, on which no other run of the program is under way, and
    // the one run asks for it once.
    Some(unsafe { &mut *scratch })
}

/// Counts a packet for its reason.
#[inline(always)]
pub fn count(reason: Reason, octets: u64) {
    if let Some(counters) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: an element of this CPU alone, which userspace only reads.
        let counters = unsafe { &mut *counters };
        counters.packets = counters.packets.wrapping_add(1);
        counters.octets = counters.octets.wrapping_add(octets);
    }
}
