//! The maps. Their sizes here are placeholders: the loader sets them from the configuration.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, DevMap, PerCpuArray, ProgramArray, RingBuf, SockMap},
};
use relay_abi::{
    counters::FlowCounters,
    processor::Processor,
    row::TABLES as TABLES_OCTETS,
    secured::SecuredScratch,
    settings::Settings,
    srtp::{key::PreparedKey, stream::StreamState},
};

use crate::shared_word::Word;

/// The tables that userspace writes and every packet needs, in one element, so that one lookup
/// finds them all: next hops, buckets of flows, rows of flows. The loader sets its length.
#[map]
pub static TABLES: Array<[u8; TABLES_OCTETS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A number that the loader sets; a constant to the verifier.
#[repr(transparent)]
pub struct Loaded(u32);

impl Loaded {
    #[inline(always)]
    pub fn get(&'static self) -> u32 {
        // SAFETY: a static of this program. Volatile, because it is not what the compiler sees.
        unsafe { (&raw const self.0).read_volatile() }
    }
}

/// The highest index of a next hop.
#[unsafe(no_mangle)]
pub static LAST_NEXT_HOP: Loaded = Loaded(0);

/// Where in the tables the buckets begin, in octets.
#[unsafe(no_mangle)]
pub static FIRST_BUCKET: Loaded = Loaded(0);

/// One less than the number of buckets, a power of two.
#[unsafe(no_mangle)]
pub static LAST_BUCKET: Loaded = Loaded(0);

/// The highest link to a row.
#[unsafe(no_mangle)]
pub static LAST_LINK: Loaded = Loaded(0);

/// The devices to redirect to.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(1, 0);

/// What each CPU saw of each flow: all flows of the first CPU, then those of the next one. Not a
/// map for each CPU, whose pointer to the CPU's element is another cache line.
#[map]
pub static FLOW_COUNTERS: Array<FlowCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What each CPU keeps to itself.
#[map]
pub static PROCESSORS: PerCpuArray<Processor> = PerCpuArray::with_max_entries(1, 0);

/// The media port range and the workers.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// First drops, for userspace to tell.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Events that found no room in the ring.
#[map]
pub static EVENT_LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The programs that relay SRTP, where the kernel takes them.
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// The SRTP key of each row.
#[map]
pub static KEYS: Array<PreparedKey> = Array::with_max_entries(1, 0);

/// Each row's generation and indices, which the workers share.
#[map]
pub static STATES: Array<StreamState<Word>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where each CPU protects and unprotects.
#[map]
pub static WORK: PerCpuArray<SecuredScratch> = PerCpuArray::with_max_entries(1, 0);

/// The workers' receiving sockets.
#[map]
pub static SOCKETS: SockMap = SockMap::with_max_entries(2, 0);
