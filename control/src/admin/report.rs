//! Snapshots in the words of the admin socket.

use std::time::Instant;

use relay_user::media::{
    FlowSnapshot, MediaSnapshot, Path, SrtpOffload, StreamState, StreamStatistics, Verdict,
};

use super::protocol::{
    AddressReport, CallReport, Count, FlowReport, InterfaceReport, LegReport, PacketCount,
    PortReport, RegistrationReport, ResponseCount, SrtpReport, StatisticsReport, StreamReport,
    TrunkCount, TrunkReport,
};
use crate::{
    call::{
        CallSnapshot, CoreStatistics, LegSnapshot, PeerSnapshot, RegistrationSnapshot,
        TrunkSnapshot,
    },
    daemon::Handle,
    quality::estimate,
};

/// The name of a path, and the reason for userspace.
pub(crate) fn path(path: Path) -> (&'static str, Option<&'static str>) {
    match path {
        Path::Xdp => ("xdp", None),
        Path::Userspace(reason) => ("userspace", Some(reason.name())),
    }
}

pub(crate) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward => "forward",
        Verdict::Punt => "punt",
        Verdict::Drop => "drop",
        Verdict::Pass => "pass",
    }
}

pub(super) fn call(call: &CallSnapshot, now: Instant) -> CallReport {
    let [caller, callee] = &call.legs;
    let streams = call.streams.iter().flat_map(|[there, back]| {
        [
            stream(call, there, &caller.trunk, &callee.trunk),
            stream(call, back, &callee.trunk, &caller.trunk),
        ]
    });
    CallReport {
        id: call.id.0,
        state: call.state.name().to_owned(),
        from: call.from.as_ref().map(ToString::to_string),
        to: call.number.to_string(),
        caller: leg(caller),
        callee: leg(callee),
        codec: call.codec.clone(),
        held: call.held,
        age: now.saturating_duration_since(call.started).as_secs(),
        answered: call
            .answered
            .map(|answered| now.saturating_duration_since(answered).as_secs()),
        streams: streams.collect(),
    }
}

fn leg(leg: &LegSnapshot) -> LegReport {
    LegReport {
        trunk: leg.trunk.to_string(),
        call_id: leg.call_id.to_string(),
        remote: leg.remote.to_string(),
        media: leg.media.map(|media| media.to_string()),
    }
}

fn stream(call: &CallSnapshot, stream: &StreamStatistics, from: &str, to: &str) -> StreamReport {
    let received = stream.packets_xdp + stream.packets_userspace;
    let quality = estimate(
        codec_name(call).unwrap_or_default(),
        received,
        stream.lost,
        stream.jitter_ms,
    );
    let (path, reason) = path(stream.path);
    StreamReport {
        direction: format!("{from} -> {to}"),
        path: path.to_owned(),
        reason: reason.map(str::to_owned),
        state: match stream.state {
            StreamState::Waiting => "waiting",
            StreamState::Flowing => "flowing",
            StreamState::Held => "held",
        }
        .to_owned(),
        packets_xdp: stream.packets_xdp,
        packets_userspace: stream.packets_userspace,
        octets: stream.octets,
        dropped: stream.dropped,
        lost: stream.lost,
        jitter_ms: hundredths(stream.jitter_ms),
        mos: quality.map(|quality| hundredths(quality.mos)),
        srtp_failures: stream.srtp_failures,
        srtp_alarm: stream.srtp_alarm,
        peer: stream.peer.map(|peer| peer.to_string()),
    }
}

/// The codec without its clock rate.
pub(crate) fn codec_name(call: &CallSnapshot) -> Option<&str> {
    call.codec.as_deref()?.split('/').next()
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

pub(super) fn flow(flow: &FlowSnapshot) -> FlowReport {
    let (path, reason) = path(flow.path);
    FlowReport {
        call: flow.call.0,
        local: flow.local.to_string(),
        peer: flow.peer.map(|peer| peer.to_string()),
        destination: flow.destination.map(|destination| destination.to_string()),
        path: path.to_owned(),
        reason: reason.map(str::to_owned),
        packets_xdp: flow.packets_xdp,
        packets_userspace: flow.packets_userspace,
        dropped: flow.dropped,
    }
}

pub(super) fn trunk(trunk: &TrunkSnapshot, now: Instant) -> TrunkReport {
    TrunkReport {
        name: trunk.name.to_string(),
        options_interval: trunk.asked_every.map(|interval| interval.as_secs()),
        calls: trunk.calls,
        registration: trunk
            .registration
            .as_ref()
            .map(|one| registration(one, now)),
        addresses: trunk.peers.iter().map(|peer| address(peer, now)).collect(),
    }
}

fn registration(one: &RegistrationSnapshot, now: Instant) -> RegistrationReport {
    let left = |until: Instant| until.checked_duration_since(now);
    RegistrationReport {
        address: one.address.to_string(),
        state: one.state.name().to_owned(),
        code: one.status,
        expires: one.until.and_then(left).map(|left| left.as_secs()),
        failures: one.failures,
    }
}

fn address(peer: &PeerSnapshot, now: Instant) -> AddressReport {
    let ago = |at: Option<Instant>| Some(now.saturating_duration_since(at?).as_secs());
    AddressReport {
        address: peer.address.to_string(),
        name: peer.name.as_ref().map(ToString::to_string),
        priority: match peer.record {
            Some(record) => format!("{}.{}", peer.entry.priority, record.priority),
            None => peer.entry.priority.to_string(),
        },
        weight: peer.record.unwrap_or(peer.entry).weight,
        state: peer.state.name().to_owned(),
        why: peer.why.clone(),
        since: ago(peer.since),
        retry_after: peer
            .held_until
            .map(|until| until.saturating_duration_since(now).as_secs()),
        answer: peer.last.map(|(_, heard)| heard.to_string()),
        answered: ago(peer.last.map(|(at, _)| at)),
        heard: ago(peer.heard),
        round_trip_ms: peer
            .round_trip
            .map(|time| hundredths(time.as_secs_f64() * 1000.0)),
        calls: peer.calls,
        openings: peer.openings,
    }
}

pub(super) fn statistics(
    handle: &Handle,
    core: &CoreStatistics,
    media: &MediaSnapshot,
) -> StatisticsReport {
    StatisticsReport {
        phase: handle.phase().name().to_owned(),
        calls: core
            .calls
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|((trunk, state), count)| TrunkCount {
                trunk: trunk.to_string(),
                state: state.name().to_owned(),
                count: *count,
            })
            .collect(),
        responses: core
            .responses
            .iter()
            .map(|((trunk, direction, code), count)| ResponseCount {
                trunk: trunk.to_string(),
                direction: direction.name().to_owned(),
                code: *code,
                count: *count,
            })
            .collect(),
        discarded: discarded(handle, core),
        transactions: core.transactions as u64,
        connections: handle.connections() as u64,
        interfaces: media
            .interfaces
            .iter()
            .map(|interface| InterfaceReport {
                name: interface.name.clone(),
                xdp: interface.mode.name().to_owned(),
                why: interface.why.clone(),
            })
            .collect(),
        packets: packets(media)
            .into_iter()
            .filter(|count| count.packets > 0)
            .collect(),
        streams: media
            .streams
            .iter()
            .map(|(which, count)| Count {
                name: match path(*which) {
                    (path, Some(reason)) => format!("{path} ({reason})"),
                    (path, None) => path.to_owned(),
                },
                count: *count,
            })
            .collect(),
        srtp_failures: media.srtp_failures.iter().map(|(.., count)| count).sum(),
        srtp_xdp: SrtpReport {
            loaded: media.srtp.offload == SrtpOffload::Loaded,
            why: media.srtp.why.clone(),
            streams: media.srtp.streams.into(),
            capacity: media.srtp.capacity.into(),
        },
        lost: media.lost,
        flows: media.flows.into(),
        flow_capacity: media.flow_capacity.into(),
        map_memory: media.map_memory,
        next_hops: media.next_hops.into(),
        next_hops_unresolved: media.next_hops_unresolved.into(),
        events_lost: media.events_lost,
        ports: media
            .ports
            .iter()
            .map(|ports| PortReport {
                interface: ports.interface.clone(),
                used: ports.used.into(),
                total: ports.total.into(),
            })
            .collect(),
    }
}

/// What was discarded at the edges and in the core, each reason once.
fn discarded(handle: &Handle, core: &CoreStatistics) -> Vec<Count> {
    let mut counts: std::collections::BTreeMap<&'static str, u64> =
        std::collections::BTreeMap::new();
    for (reason, count) in handle.discards().iter() {
        *counts.entry(reason.name()).or_default() += count;
    }
    for (reason, count) in &core.discards {
        *counts.entry(reason.name()).or_default() += count;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| Count {
            name: name.to_owned(),
            count,
        })
        .collect()
}

/// Every packet of media that was counted, by path, verdict and reason.
pub(crate) fn packets(media: &MediaSnapshot) -> Vec<PacketCount> {
    let kernel = media.kernel.iter().map(|(reason, counters)| PacketCount {
        path: "xdp".to_owned(),
        verdict: verdict(reason.verdict()).to_owned(),
        reason: reason.name().to_owned(),
        packets: counters.packets,
        octets: counters.octets,
    });
    let forwarded = [
        ("relayed", media.workers_relayed),
        ("stun-answered", media.workers_answered),
    ];
    let forwarded = forwarded.map(|(reason, counters)| PacketCount {
        path: "userspace".to_owned(),
        verdict: verdict(Verdict::Forward).to_owned(),
        reason: reason.to_owned(),
        packets: counters.packets,
        octets: counters.octets,
    });
    let discarded = media
        .workers_discarded
        .iter()
        .map(|(reason, counters)| PacketCount {
            path: "userspace".to_owned(),
            verdict: verdict(Verdict::Drop).to_owned(),
            reason: reason.name().to_owned(),
            packets: counters.packets,
            octets: counters.octets,
        });
    kernel.chain(forwarded).chain(discarded).collect()
}
