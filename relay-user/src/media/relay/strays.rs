//! Sources that send nothing for long but payload types that were not negotiated.
//!
//! The kernel drops such packets before SRTP and so counts no index of them. After half a turn of
//! the sequence number, eleven minutes of a telephone's packets, nothing that the source sends would
//! be authentic any more. So as long as nothing else comes its stream is the worker's, which counts
//! on; the first good packet gives it back at the next look.

use relay_abi::flow::FlowEntry;

use super::{
    KernelTables, Shared, alarm, flow::Flow, kernel::install_kernel, plane::Call, rows::FlowRows,
    slow_path::SlowPath, snapshot::each_call, statistics::read,
};

/// The most packets between two looks that are taken for a source's: a thousand a second. What is
/// more is a flood, which is best dropped where it is.
const MOST: u32 = 1000 * alarm::INTERVAL.as_secs() as u32;

/// What was seen of a stream at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strays {
    /// The indices that its row was at, added up.
    highest: u64,
    /// Packets relayed and dropped by both paths, all there were.
    relayed: u32,
    dropped: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Packets are taken.
    #[default]
    Heard,
    /// None was taken between the last two looks.
    Silent,
    /// None was taken, and some were dropped: the worker has the stream.
    Astray,
}

impl Strays {
    /// Whether the worker has the stream until something good comes.
    pub(super) fn are_there(self) -> bool {
        self.phase == Phase::Astray
    }
}

/// Looks at every stream of SRTP that the kernel unprotects.
pub(super) fn look(shared: &Shared) {
    each_call(shared, |shared, _, call| {
        look_at(&shared.tables, shared.slow.as_ref(), call);
    });
}

pub(super) fn look_at(tables: &KernelTables, slow: &dyn SlowPath, call: &mut Call) {
    for (flow, rows) in call.flows.iter_mut().zip(&call.rows) {
        let before = flow.strays.are_there();
        flow.strays = next(tables, slow, flow, rows);
        if flow.strays.are_there() != before {
            install_kernel(tables, flow, rows);
        }
    }
}

fn next(tables: &KernelTables, slow: &dyn SlowPath, flow: &Flow, rows: &FlowRows) -> Strays {
    let row = rows.unprotect.as_ref();
    let Some((row, state)) = row.and_then(|row| Some((row, row.state()?))) else {
        return Strays::default();
    };
    if !flow.is_learned() || flow.entry.has(FlowEntry::HELD) {
        return Strays::default();
    }
    let before = flow.strays;
    let highest = [false, true].map(|second| state.index(second).highest());
    let highest = highest[0].wrapping_add(highest[1]);
    if before.phase != Phase::Astray && highest != before.highest {
        // The common case, without a system call.
        return Strays {
            highest,
            ..Strays::default()
        };
    }
    let (kernel, worker) = read(tables, slow, flow);
    let mut strays = Strays {
        highest,
        relayed: kernel.packets.wrapping_add(worker.flow.packets) as u32,
        dropped: kernel.dropped.wrapping_add(worker.flow.dropped) as u32,
        phase: Phase::Silent,
    };
    let dropped = strays.dropped.wrapping_sub(before.dropped);
    let none = strays.relayed == before.relayed;
    strays.phase = match before.phase {
        Phase::Heard => Phase::Silent,
        Phase::Silent if none && (1..=MOST).contains(&dropped) => Phase::Astray,
        Phase::Silent => Phase::Silent,
        Phase::Astray if none && dropped > 0 => Phase::Astray,
        // What the worker told last has to be in the kernel's entry before it goes by that again.
        Phase::Astray if row.announced() != flow.entry.generation.get() => Phase::Astray,
        Phase::Astray => Phase::Heard,
    };
    strays
}
