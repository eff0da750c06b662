//! The maps. Their sizes here are placeholders: the loader sets them from the configuration.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, DevMap, PerCpuArray, ProgramArray, RingBuf, SockMap},
};
use relay_abi::{
    counters::FlowCounters,
    processor::Processor,
    row::{Buckets, FlowRow, NextHopRow},
    secured::SecuredScratch,
    settings::Settings,
    srtp::{key::PreparedKey, stream::StreamState},
};

use crate::shared_word::Word;

/// What to do with each flow, by its row's number. There is no row 0.
#[map]
pub static FLOWS: Array<FlowRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The number of the first row of each bucket.
#[map]
pub static BUCKETS: Array<Buckets> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One less than the number of buckets, a power of two. The loader sets it; a constant to the
/// verifier.
#[unsafe(no_mangle)]
static LAST_BUCKET: u32 = 0;

/// The highest number that a bucket has.
#[inline(always)]
pub fn last_bucket() -> u32 {
    // SAFETY: a static of this program. Volatile, because it is not what the compiler sees.
    unsafe { (&raw const LAST_BUCKET).read_volatile() }
}

/// The ways out.
#[map]
pub static NEXT_HOPS: Array<NextHopRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

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
