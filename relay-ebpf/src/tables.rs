//! The maps as the relay's tables.

use core::{cell::Cell, hint::cold_path, mem, ptr};

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_redirect_map},
    programs::XdpContext,
};
use relay_abi::{
    counters::FlowCounters,
    event::FirstDrop,
    processor::Processor,
    row::NextHopRow,
    secured::{SecuredScratch, SecuredTables},
    srtp::{key::PreparedKey, stream::StreamState},
    tables::Tables,
    verdict::Reason,
};

use crate::{
    bpf::Bpf,
    maps::{DEVICES, EVENT_LOSSES, EVENTS, FLOW_COUNTERS, KEYS, SETTINGS, STATES, WORK},
    opaque::opaque,
    placed,
    shared_row::Row,
    shared_word::Word,
};

/// The maps, for one packet.
pub struct Maps<'a> {
    context: &'a XdpContext,
    /// Null until it was asked for, which is as late as possible: a register that calls leave as
    /// it was is worth more than asking.
    processor: Cell<*mut Processor>,
    way_out: Cell<u32>,
}

impl<'a> Maps<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext, processor: *mut Processor) -> Self {
        Self {
            context,
            processor: Cell::new(processor),
            way_out: Cell::new(xdp_action::XDP_PASS),
        }
    }

    /// [`Maps::new`] for who asks for nothing of a processor before [`Tables::can_send`].
    #[inline(always)]
    pub fn later(context: &'a XdpContext) -> Self {
        Self::new(context, ptr::null_mut())
    }

    /// Counts a packet for its reason.
    #[inline(always)]
    pub fn count(&self, reason: Reason, octets: u64) {
        // SAFETY: the one run of a program on this CPU, and nothing else of it holds the reasons.
        let reasons = unsafe { &mut (*self.processor.get()).reasons };
        if let Some(counters) = reasons.get_mut(opaque(reason as usize)) {
            counters.count(octets);
        }
    }

    /// Leaves word of why the packet that is handed over is punted.
    #[inline(always)]
    pub fn punted(&self, reason: Reason) {
        // SAFETY: as in `count`.
        unsafe { (*self.processor.get()).punted = reason as u32 };
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
        // SAFETY: so many buckets are there, which stay mapped while the program runs. Volatile,
        // because userspace writes it.
        unsafe {
            let bucket = placed::buckets().add(placed::bucket(bucket));
            bucket.cast::<u32>().read_volatile()
        }
    }

    #[inline(always)]
    fn any_row(&self, link: u32) -> Option<Row> {
        if link > placed::last_link() {
            cold_path();
            return None;
        }
        // SAFETY: up to there rows are in the tables.
        Some(unsafe { Row::new(placed::rows().add(link as usize)) })
    }

    #[inline(always)]
    fn next_hop_row(&self, index: u32) -> Option<Row> {
        let offset = placed::next_hop_index(index) * size_of::<NextHopRow>();
        // SAFETY: so many next hops are in the tables, each of which begins with a version.
        Some(unsafe { Row::new(placed::next_hops().add(offset)) })
    }

    /// A device that is not the ingress one is chosen here already: on failure the frame is still
    /// as it came and can be punted.
    #[inline(always)]
    fn can_send(&self, interface: u32, device: u32) -> bool {
        if interface == self.context.ingress_ifindex() as u32 {
            self.way_out.set(xdp_action::XDP_TX);
        } else {
            self.way_out.set(xdp_action::XDP_REDIRECT);
            // SAFETY: the map is of the kind that the helper takes.
            let action = unsafe {
                bpf_redirect_map(
                    (&raw const DEVICES).cast_mut().cast(),
                    device.into(),
                    xdp_action::XDP_ABORTED.into(),
                )
            };
            if action != xdp_action::XDP_REDIRECT.into() {
                cold_path();
                return false;
            }
        }
        if self.processor.get().is_null() {
            self.processor.set(processor());
        }
        true
    }

    #[inline(always)]
    fn counters(&self, index: u32) -> Option<&mut FlowCounters> {
        // SAFETY: as in `count`.
        let first = unsafe { (*self.processor.get()).first_counters };
        let index = first.wrapping_add(index);
        let counters = if index >= placed::counters_count() {
            cold_path();
            FLOW_COUNTERS.get_ptr_mut(index)?
        } else {
            // SAFETY: so many counters are there.
            unsafe { placed::counters().add(index as usize) }
        };
        // SAFETY: an element of this CPU alone, on which no other run of the program is under way;
        // userspace only reads it, but for zeroing it before a flow takes it.
        Some(unsafe { &mut *counters })
    }

    #[inline(always)]
    fn count_relayed(&self, octets: u64) {
        // SAFETY: as in `count`.
        let reasons = unsafe { &mut (*self.processor.get()).reasons };
        reasons[Reason::Relayed as usize].count(octets);
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
        // SAFETY: as in `count`.
        unsafe { (*self.processor.get()).clock.now(tick, read) }
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

/// What this CPU keeps to itself.
#[inline(always)]
pub fn processor() -> *mut Processor {
    // SAFETY: the helper of this number takes no argument, and what it gives is the whole register.
    let number = unsafe {
        let helper: unsafe extern "C" fn() -> u64 = mem::transmute(GET_SMP_PROCESSOR_ID);
        helper()
    };
    // SAFETY: there are so many, each for one CPU, on which no other run of the program is under
    // way; of userspace only the reasons are read.
    unsafe { placed::processors().add(placed::processor_number(number)) }
}

const GET_SMP_PROCESSOR_ID: usize = 8;
