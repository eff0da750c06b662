//! The maps as the relay's tables.

use core::cell::Cell;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_redirect_map},
    programs::XdpContext,
};
use relay_abi::{
    clock::Clock,
    counters::{FlowCounters, ReasonCounters},
    event::FirstDrop,
    processor::{Processor, REASONS},
    row::{LINK, NextHopRow},
    secured::{SecuredScratch, SecuredTables},
    srtp::{key::PreparedKey, stream::StreamState},
    tables::Tables,
    verdict::Reason,
};

use crate::{
    bpf::Bpf,
    maps::{
        DEVICES, EVENT_LOSSES, EVENTS, FIRST_BUCKET, FLOW_COUNTERS, KEYS, LAST_BUCKET, LAST_LINK,
        LAST_NEXT_HOP, PROCESSORS, SETTINGS, STATES, TABLES, WORK,
    },
    opaque::opaque,
    shared_row::Row,
    shared_word::Word,
};

/// The maps, for one packet.
pub struct Maps<'a> {
    context: &'a XdpContext,
    tables: *const u8,
    clock: *mut Clock,
    first_counters: &'a u32,
    way_out: Cell<u32>,
}

impl<'a> Maps<'a> {
    #[inline(always)]
    pub fn new(
        context: &'a XdpContext,
        clock: &'a mut Clock,
        first_counters: &'a u32,
    ) -> Option<Self> {
        Some(Self {
            context,
            tables: TABLES.get_ptr(0)?.cast(),
            clock,
            first_counters,
            way_out: Cell::new(xdp_action::XDP_PASS),
        })
    }

    /// The verdict by which the frame leaves as [`Tables::can_send`] made ready.
    #[inline(always)]
    pub fn way_out(&self) -> u32 {
        self.way_out.get()
    }
}

impl Tables for Maps<'_> {
    type Row<'a>
        = Row
    where
        Self: 'a;
    type Counters<'a>
        = &'a mut FlowCounters
    where
        Self: 'a;

    #[inline(always)]
    fn is_media_port(&self, port: u16) -> bool {
        SETTINGS
            .get(0)
            .is_some_and(|settings| settings.is_media_port(port))
    }

    #[inline(always)]
    fn first_row(&self, bucket: u32) -> u32 {
        let bucket = (bucket & LAST_BUCKET.get()) as usize;
        // SAFETY: so many buckets are in the tables, which stay mapped while the program runs.
        // Volatile, because userspace writes it.
        unsafe {
            let buckets = self.tables.add(FIRST_BUCKET.get() as usize);
            buckets.cast::<u32>().add(bucket).read_volatile()
        }
    }

    #[inline(always)]
    fn flow_row(&self, link: u32) -> Option<Row> {
        if link == 0 || link > LAST_LINK.get() {
            return None;
        }
        // SAFETY: up to there rows are in the tables.
        Some(unsafe { Row::new(self.tables.add(link as usize * LINK)) })
    }

    #[inline(always)]
    fn next_hop_row(&self, index: u32) -> Option<Row> {
        if index > LAST_NEXT_HOP.get() {
            return None;
        }
        // SAFETY: so many next hops are in the tables, each of which begins with a version.
        Some(unsafe { Row::new(self.tables.add(index as usize * size_of::<NextHopRow>())) })
    }

    /// A device that is not the ingress one is chosen here already: on failure the frame is still
    /// as it came and can be punted.
    #[inline(always)]
    fn can_send(&self, interface: u32, device: u32) -> bool {
        if interface == self.context.ingress_ifindex() as u32 {
            self.way_out.set(xdp_action::XDP_TX);
            return true;
        }
        self.way_out.set(xdp_action::XDP_REDIRECT);
        // SAFETY: the map is of the kind that the helper takes.
        let action = unsafe {
            bpf_redirect_map(
                (&raw const DEVICES).cast_mut().cast(),
                device.into(),
                xdp_action::XDP_ABORTED.into(),
            )
        };
        action == xdp_action::XDP_REDIRECT.into()
    }

    #[inline(always)]
    fn counters(&self, index: u32) -> Option<&mut FlowCounters> {
        let counters = FLOW_COUNTERS.get_ptr_mut(self.first_counters.wrapping_add(index))?;
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
        // SAFETY: neither takes an argument.
        let (tick, read) = unsafe { (bpf_jiffies64(), || bpf_ktime_get_ns()) };
        // SAFETY: it was made of a reference that nobody else has, and nothing here holds it on.
        unsafe { &mut *self.clock }.now(tick, read)
    }
}

impl SecuredTables for Maps<'_> {
    type Word = Word;
    type Machine = Bpf;

    #[inline(always)]
    fn key(&self, row: u32) -> Option<&PreparedKey> {
        KEYS.get(row)
    }

    #[inline(always)]
    fn stream(&self, row: u32) -> Option<&StreamState<Word>> {
        STATES.get(row)
    }
}

/// Where this CPU protects and unprotects, as [`processor`].
#[inline(always)]
pub fn work() -> Option<&'static mut SecuredScratch> {
    let work = WORK.get_ptr_mut(0)?;
    // SAFETY: as in `processor`.
    Some(unsafe { &mut *work })
}

/// What this CPU keeps to itself. Only the verifier thinks that there may be none.
#[inline(always)]
pub fn processor() -> Option<&'static mut Processor> {
    let processor = PROCESSORS.get_ptr_mut(0)?;
    // SAFETY: an element of this CPU alone, on which no other run of the program is under way, and
    // the one run asks for it once; of userspace only the reasons are read.
    Some(unsafe { &mut *processor })
}

/// Counts a packet for its reason.
#[inline(always)]
pub fn count(reasons: &mut [ReasonCounters; REASONS], reason: Reason, octets: u64) {
    if let Some(counters) = reasons.get_mut(opaque(reason as usize)) {
        counters.count(octets);
    }
}
