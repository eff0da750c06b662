//! What a flow has carried, put together from the kernel's counts and the worker's.

use relay_abi::counters::FlowCounters;

use super::{KernelTables, alarm::refused, flow::Flow, rows::FlowRows, slow_path::SlowPath};
use crate::{
    media::{StreamState, StreamStatistics},
    slow::{SlowCounters, socket_address},
};

/// What the kernel and the worker have counted.
pub(super) fn read(
    tables: &KernelTables,
    slow: &dyn SlowPath,
    flow: &Flow,
) -> (FlowCounters, SlowCounters) {
    let kernel = flow.counters.and_then(|index| {
        let read = tables.with(|datapath| datapath.read(index))?;
        read.map_err(|error| tracing::error!(%error, "counters were not read"))
            .ok()
    });
    (
        kernel.unwrap_or_default(),
        slow.read(&flow.key).unwrap_or_default(),
    )
}

pub(super) fn statistics(
    tables: &KernelTables,
    slow: &dyn SlowPath,
    (flow, rows): (&mut Flow, &FlowRows),
    active: bool,
) -> StreamStatistics {
    let (kernel, worker) = read(tables, slow, flow);
    let both = kernel.merge(worker.flow);
    let lost = update_loss(flow, &both);
    let peer = match flow.is_learned() {
        true => Some(socket_address(&flow.entry.peer)),
        false => worker.peer,
    };
    StreamStatistics {
        path: flow.path,
        state: match (active, flow.is_learned() || worker.flow.packets > 0) {
            (false, _) => StreamState::Held,
            (true, true) => StreamState::Flowing,
            (true, false) => StreamState::Waiting,
        },
        packets_xdp: kernel.packets,
        packets_userspace: worker.flow.packets,
        octets: both.octets,
        dropped: both.dropped,
        lost,
        jitter_ms: jitter_ms(&kernel, &worker.flow, flow.entry.clock_rate.get()),
        srtp_failures: refused(flow, rows, &worker),
        srtp_alarm: flow.watch.is_raised(),
        peer,
    }
}

/// The jitter of both views of a source, each weighted by how much it saw (RFC 3550, section
/// 6.4.1: units of the timestamp, here times 16).
fn jitter_ms(kernel: &FlowCounters, worker: &FlowCounters, clock_rate: u32) -> f64 {
    let generation = kernel.merge(*worker).reception.generation;
    let views = [kernel.reception, worker.reception];
    let views = views.iter().filter(|view| view.generation == generation);
    let (mut sum, mut received) = (0.0, 0.0);
    for view in views {
        sum += f64::from(view.jitter) * f64::from(view.received);
        received += f64::from(view.received);
    }
    if received == 0.0 || clock_rate == 0 {
        return 0.0;
    }
    sum / received / 16.0 * 1000.0 / f64::from(clock_rate)
}

/// Takes in what is lost of the source that both views are of, and gives the sum.
pub(super) fn update_loss(flow: &mut Flow, both: &FlowCounters) -> u64 {
    let reception = &both.reception;
    match reception.received {
        0 => flow.loss.sum(),
        _ => flow.loss.update(reception.generation, reception.lost()),
    }
}
