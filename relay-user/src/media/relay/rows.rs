//! The rows of the kernel's SRTP tables that a call's keys are in.

use std::sync::Arc;

use relay_abi::{
    U16,
    flow::{FlowEntry, FlowKey},
    srtp::stream::StreamState,
};

use super::{KernelTables, flow::Flow, kernel::report, plane::Call};
use crate::{
    media::{CallMedia, SrtpKey, SrtpOffload},
    srtp::{Row, Rows},
};

/// The rows of one direction's keys; `None` where there is no key, or one that is libsrtp's.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowRows {
    /// Of the key that the source protects with.
    pub(super) unprotect: Option<Arc<Row>>,
    /// Of the key towards the other leg.
    pub(super) protect: Option<Arc<Row>>,
}

impl FlowRows {
    /// How many packets of the source's present key the kernel has refused.
    pub(super) fn refused(&self) -> u64 {
        let row = self.unprotect.as_ref();
        row.and_then(|row| row.state())
            .map_or(0, StreamState::refused)
    }

    fn each(&self) -> impl Iterator<Item = &Arc<Row>> {
        [&self.unprotect, &self.protect].into_iter().flatten()
    }

    fn has(&self, row: &Arc<Row>) -> bool {
        self.each().any(|own| Arc::ptr_eq(own, row))
    }
}

/// The keys of one direction: of the leg that sends, and ours towards the other one.
fn keys(media: &CallMedia, direction: usize) -> [Option<&SrtpKey>; 2] {
    let [from, to] = match direction {
        0 => [&media.legs[0], &media.legs[1]],
        _ => [&media.legs[1], &media.legs[0]],
    };
    [
        from.srtp.as_ref().map(|keys| &keys.unprotect),
        to.srtp.as_ref().map(|keys| &keys.protect),
    ]
}

/// Whether what leaves in a direction is protected by another key than before, or by one where there
/// was none.
pub(super) fn begins_a_key(before: &CallMedia, now: &CallMedia, direction: usize) -> bool {
    let [[_, earlier], [_, key]] = [before, now].map(|media| keys(media, direction));
    key.is_some() && key != earlier
}

/// Whether the source of a direction protects with another key than before.
pub(super) fn has_another_source(before: &CallMedia, now: &CallMedia, direction: usize) -> bool {
    let [[earlier, _], [key, _]] = [before, now].map(|media| keys(media, direction));
    key != earlier
}

/// What the kernel does with SRTP, and the rows for it.
#[derive(Debug, Default)]
pub(super) struct SrtpRows {
    pub(super) offload: SrtpOffload,
    rows: Option<Rows>,
}

impl SrtpRows {
    pub(super) fn new(offload: SrtpOffload, rows: Option<Rows>) -> Self {
        Self { offload, rows }
    }

    /// How many rows are in use.
    pub(super) fn used(&self) -> u32 {
        self.rows.as_ref().map_or(0, Rows::used)
    }

    /// The rows of both directions, and whether each direction has all it wants. A key keeps what
    /// it had, be it a row or libsrtp: its ROC and window are there. A new key gets a row if
    /// `offloadable`.
    pub(super) fn allot(
        &self,
        tables: &KernelTables,
        flows: [FlowKey; 2],
        earlier: Option<&Call>,
        media: &CallMedia,
        offloadable: bool,
    ) -> ([FlowRows; 2], [bool; 2]) {
        let allot = |direction: usize| {
            let before = earlier.and_then(|call| {
                let flow = call.flows.get(direction)?;
                let same = Some(&flow.key) == flows.get(direction);
                same.then_some((call.rows.get(direction)?, keys(&call.media, direction)))
            });
            let [unprotect, protect] = keys(media, direction);
            let one =
                |key: Option<&SrtpKey>, before: Option<(Option<&SrtpKey>, Option<&Arc<Row>>)>| {
                    let key = key?;
                    match before {
                        Some((known, row)) if known == Some(key) => row.cloned(),
                        _ if offloadable => self.take(tables, key),
                        _ => None,
                    }
                };
            let rows = FlowRows {
                unprotect: one(
                    unprotect,
                    before.map(|(rows, [key, _])| (key, rows.unprotect.as_ref())),
                ),
                protect: one(
                    protect,
                    before.map(|(rows, [_, key])| (key, rows.protect.as_ref())),
                ),
            };
            let complete = unprotect.is_some() == rows.unprotect.is_some()
                && protect.is_some() == rows.protect.is_some();
            (rows, complete)
        };
        let [(first, first_complete), (second, second_complete)] = [0, 1].map(allot);
        ([first, second], [first_complete, second_complete])
    }

    fn take(&self, tables: &KernelTables, key: &SrtpKey) -> Option<Arc<Row>> {
        let row = self.rows.as_ref()?.take(key)?;
        match tables.with(|datapath| datapath.write_key(row.reference(), row.key()))? {
            Ok(()) => Some(row),
            Err(error) => {
                tracing::error!(%error, "the kernel does not take a key: its stream goes by the slow path");
                None
            }
        }
    }
}

/// Wipes the keys of rows that `kept` has none of.
pub(super) fn retire(tables: &KernelTables, rows: &[FlowRows; 2], kept: Option<&[FlowRows; 2]>) {
    for row in rows.iter().flat_map(FlowRows::each) {
        if kept.into_iter().flatten().any(|kept| kept.has(row)) {
            continue;
        }
        report(
            "wipe a key",
            tables.with(|datapath| datapath.wipe_key(row.reference())),
        );
    }
}

impl Flow {
    /// Takes over the rows of its keys. `kept` says that the source's is the one it was.
    pub(super) fn secure(&mut self, rows: &FlowRows, kept: bool) {
        let own = FlowEntry::UNPROTECT | FlowEntry::PROTECT;
        let mut flags = self.entry.flags.get() & !own;
        if !kept {
            flags &= !FlowEntry::UNPROTECT_SECOND;
        }
        let reference = |row: &Option<Arc<Row>>| row.as_ref().map(|row| row.reference());
        if rows.unprotect.is_some() {
            flags |= FlowEntry::UNPROTECT;
        }
        if rows.protect.is_some() {
            flags |= FlowEntry::PROTECT;
        }
        self.entry.unprotect = reference(&rows.unprotect).unwrap_or_default();
        self.entry.protect = reference(&rows.protect).unwrap_or_default();
        self.entry.flags = U16::new(flags);
    }
}

/// Whether the source's key is in the row that it was in, or in none as before.
pub(super) fn keeps_source(before: Option<&FlowRows>, now: &FlowRows) -> bool {
    match (
        before.and_then(|rows| rows.unprotect.as_ref()),
        &now.unprotect,
    ) {
        (Some(before), Some(now)) => Arc::ptr_eq(before, now),
        (before, now) => before.is_none() && now.is_none(),
    }
}
