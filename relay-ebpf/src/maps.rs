//! The maps. Their sizes here are placeholders: the loader sets them from the configuration.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, DevMap, HashMap, PerCpuArray, ProgramArray, RingBuf, SockMap},
};
use relay_abi::{
    counters::{FlowCounters, ReasonCounters},
    flow::FlowKey,
    seal::{SealedFlow, SealedNextHop},
    settings::Settings,
    srtp::{key::PreparedKey, packet::Work, stream::StreamState},
    tables::Scratch,
    verdict::Reason,
};

use crate::shared_word::Word;

/// What to do with each flow.
#[map]
pub static FLOWS: HashMap<FlowKey, SealedFlow> = HashMap::with_max_entries(1, 0);

/// The ways out.
#[map]
pub static NEXT_HOPS: Array<SealedNextHop> = Array::with_max_entries(1, 0);

/// The devices to redirect to.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(1, 0);

/// What each CPU saw of each flow.
#[map]
pub static FLOW_COUNTERS: PerCpuArray<FlowCounters> = PerCpuArray::with_max_entries(1, 0);

/// What each CPU counted for each reason.
#[map]
pub static REASONS: PerCpuArray<ReasonCounters> =
    PerCpuArray::with_max_entries(Reason::ALL.len() as u32, 0);

/// The media port range and the workers.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// First drops, for userspace to tell.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Events that found no room in the ring.
#[map]
pub static EVENT_LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Each CPU's copies of what it works on.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The program that relays SRTP, where the kernel takes it.
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The SRTP key of each row.
#[map]
pub static KEYS: Array<PreparedKey> = Array::with_max_entries(1, 0);

/// Each row's generation and indices, which the workers share.
#[map]
pub static STATES: Array<StreamState<Word>> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Where each CPU protects and unprotects.
#[map]
pub static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// The workers' receiving sockets.
#[map]
pub static SOCKETS: SockMap = SockMap::with_max_entries(2, 0);
