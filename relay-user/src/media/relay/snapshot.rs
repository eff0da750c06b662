//! What operators see of the media plane.

use super::{Relay, Shared, plane::Call, statistics::read};
use crate::{
    media::{CallId, FlowSnapshot, MediaSnapshot, Path, PathReason},
    slow::socket_address,
};

/// How many calls are looked at under one holding of the lock.
const AT_ONCE: usize = 64;

impl Relay {
    /// Counts and states for metrics. Takes a system call or two for each flow, and holds calls
    /// up for no longer than a few of those.
    #[must_use]
    pub fn snapshot(&self) -> MediaSnapshot {
        let shared = &self.running.shared;
        let workers = shared.slow.snapshot();
        let mut snapshot = MediaSnapshot {
            interfaces: shared.interfaces.clone(),
            workers_relayed: workers.rtp,
            workers_answered: workers.stun,
            socket_overflows: workers.socket_overflows,
            events_lost: shared.events.refused(),
            ..MediaSnapshot::default()
        };
        snapshot.workers_relayed.packets += workers.rtcp.packets;
        snapshot.workers_relayed.octets += workers.rtcp.octets;
        snapshot.srtp = shared.srtp.clone();
        snapshot.workers_discarded = workers.discarded;
        shared.tables.with(|datapath| {
            snapshot.flows = datapath.flow_count();
            snapshot.flow_capacity = datapath.capacity().flows;
            snapshot.map_memory = datapath.map_memory();
            match (datapath.reasons(), datapath.event_losses()) {
                (Ok(reasons), Ok(losses)) => {
                    snapshot.kernel = reasons;
                    snapshot.events_lost += losses;
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "the kernel's counters were not read");
                }
            }
        });
        if let Some(next_hops) = shared.next_hops() {
            let (used, unresolved) =
                next_hops.look(|table| (table.used(), table.unresolved().count()));
            snapshot.next_hops = u32::try_from(used).unwrap_or(u32::MAX);
            snapshot.next_hops_unresolved = u32::try_from(unresolved).unwrap_or(u32::MAX);
        }
        snapshot.srtp_failures = srtp_failures(&snapshot);
        let paths = std::iter::once(Path::Xdp).chain(PathReason::ALL.map(Path::Userspace));
        snapshot.streams = paths.map(|path| (path, 0)).collect();
        each_call(shared, |shared, _, call| {
            for path in call.paths() {
                let streams = &mut snapshot.streams;
                if let Some((_, count)) = streams.iter_mut().find(|(known, _)| *known == path) {
                    *count += 1;
                }
            }
            call.refresh_loss(&shared.tables, shared.slow.as_ref());
        });
        let mut plane = shared.plane();
        snapshot.lost = plane.lost();
        snapshot.srtp.streams = plane.srtp.used();
        snapshot.ports = plane.ports.uses();
        snapshot
    }

    /// Every flow, ordered by call. Takes a system call or two for each, and holds calls up for no
    /// longer than a few of those.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowSnapshot> {
        let mut snapshots = Vec::new();
        each_call(&self.running.shared, |shared, id, call| {
            for flow in &call.flows {
                let (kernel, worker) = read(&shared.tables, shared.slow.as_ref(), flow);
                snapshots.push(FlowSnapshot {
                    call: id,
                    local: socket_address(&flow.key.local),
                    peer: match flow.is_learned() {
                        true => Some(socket_address(&flow.entry.peer)),
                        false => worker.peer,
                    },
                    destination: flow.destination().map(|to| socket_address(&to)),
                    path: flow.path,
                    packets_xdp: kernel.packets,
                    packets_userspace: worker.flow.packets,
                    dropped: kernel.dropped.wrapping_add(worker.flow.dropped),
                });
            }
        });
        snapshots
    }
}

/// The reasons of SRTP among all that both paths counted.
fn srtp_failures(snapshot: &MediaSnapshot) -> Vec<(&'static str, &'static str, u64)> {
    let kernel = snapshot.kernel.iter();
    let kernel = kernel.filter(|(reason, _)| reason.is_srtp_failure());
    let workers = snapshot.workers_discarded.iter();
    let workers = workers.filter(|(discard, _)| discard.is_srtp_failure());
    kernel
        .map(|(reason, counters)| ("xdp", reason.name(), counters.packets))
        .chain(workers.map(|(discard, counters)| ("userspace", discard.name(), counters.packets)))
        .collect()
}

/// Visits every call in order; one that ends meanwhile is left out.
pub(super) fn each_call(shared: &Shared, mut visit: impl FnMut(&Shared, CallId, &mut Call)) {
    let mut calls: Vec<CallId> = shared.plane().calls.keys().copied().collect();
    calls.sort_unstable();
    for some in calls.chunks(AT_ONCE) {
        let mut plane = shared.plane();
        for id in some {
            if let Some(call) = plane.calls.get_mut(id) {
                visit(shared, *id, call);
            }
        }
    }
}
