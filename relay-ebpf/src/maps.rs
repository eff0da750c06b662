//! The maps that the programs ask for by name. Their sizes here are placeholders: the loader sets
//! them from the configuration. The tables of every packet are [`crate::placed`].

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map},
    maps::{Array, DevMap, PerCpuArray, ProgramArray, RingBuf, SockMap},
};
use relay_abi::{
    counters::FlowCounters,
    punted::PuntedHead,
    secured::SecuredScratch,
    settings::Settings,
    srtp::{key::PreparedKey, stream::StreamState},
};

use crate::shared_word::Word;

/// The devices to redirect to.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(1, 0);

/// What each CPU saw of each flow, where the verifier follows no element of that length: all flows
/// of the first CPU, then those of the next one. Not a map for each CPU, whose pointer to the CPU's
/// element is another cache line.
#[map]
pub static FLOW_COUNTERS: Array<FlowCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The media port range and the workers.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// First drops, for userspace to tell.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Events that found no room in the ring.
#[map]
pub static EVENT_LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The programs that `relay` goes on to, where the kernel takes them.
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(3, 0);

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

/// The kernel sees to it that only rings are put into an array of them.
pub type Ring = btf_maps::RingBuf<PuntedHead, 4096>;

/// A ring for each worker, by which it takes what is punted to it.
#[btf_map]
pub static RINGS: ArrayOfMaps<Ring, 1> = ArrayOfMaps::new();
