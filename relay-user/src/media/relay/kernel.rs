//! What the kernel is told of a flow: its entry, and the next hop that it leaves by.

use std::net::IpAddr;

use relay_abi::{
    U32,
    flow::{Endpoint, FlowEntry},
};

use super::{KernelTables, flow::Flow, plane::Parts, rows::FlowRows};
use crate::{
    media::{Path, PathReason},
    next_hop::NOWHERE,
    offload::DatapathError,
    slow::socket_address,
};

/// Writes a flow into the kernel's table. One that the kernel does not take is the workers'.
pub(super) fn install_kernel(tables: &KernelTables, flow: &mut Flow, rows: &FlowRows) {
    if flow.counters.is_none() {
        return;
    }
    let entry = flow.kernel_entry();
    // While the entry changes the kernel may work by the state before, too: noted is the new one
    // when everything goes by it.
    let second = entry.has(FlowEntry::UNPROTECT_SECOND);
    let works = entry.has(FlowEntry::SSRC_KNOWN) && !entry.has(FlowEntry::USERSPACE);
    let source = rows.unprotect.as_ref();
    if let Some(row) = source.filter(|row| works && !row.does_kernel_work()) {
        row.kernel_works_by(Some(second));
    }
    let installed = tables.with(|datapath| datapath.install(&flow.key, &entry));
    if let Some(row) = source {
        let works = works && matches!(installed, Some(Ok(())));
        row.kernel_works_by(works.then_some(second));
    }
    if let Some(Err(error)) = installed {
        if !matches!(error, DatapathError::Capacity { .. }) {
            tracing::error!(%error, "the kernel does not take a flow: it goes by the slow path");
        }
        // An entry of before would relay by what no longer holds.
        report(
            "remove a flow",
            tables.with(|datapath| datapath.remove(&flow.key)),
        );
        flow.path = Path::Userspace(PathReason::Capacity);
    }
}

/// Leads a flow to where the other leg's peer is.
pub(super) fn lead(parts: &Parts<'_>, flow: &mut Flow, rows: &FlowRows, peer: Endpoint) {
    if flow.entry.to == peer {
        return;
    }
    let before = *flow;
    flow.entry.to = peer;
    hold_way(parts, flow);
    install_kernel(parts.tables, flow, rows);
    release_way(parts, &before);
}

/// Takes the next hop for a flow's destination; false when the table is full.
pub(super) fn hold_way(parts: &Parts<'_>, flow: &mut Flow) -> bool {
    flow.way = None;
    flow.entry.next_hop = U32::new(NOWHERE);
    let (Some(next_hops), Some(to)) = (parts.next_hops, flow.destination()) else {
        return true;
    };
    let way = (address(&flow.entry.from), address(&to));
    if way.0.is_ipv4() != way.1.is_ipv4() {
        return true;
    }
    match next_hops.acquire(way.0, way.1) {
        Ok(index) => {
            flow.way = Some(way);
            flow.entry.next_hop = U32::new(index);
            true
        }
        Err(_) => false,
    }
}

pub(super) fn release_way(parts: &Parts<'_>, flow: &Flow) {
    if let (Some(next_hops), Some((source, destination))) = (parts.next_hops, flow.way) {
        next_hops.release(source, destination);
    }
}

fn address(endpoint: &Endpoint) -> IpAddr {
    socket_address(endpoint).ip()
}

pub(super) fn report(operation: &str, result: Option<Result<(), DatapathError>>) {
    if let Some(Err(error)) = result {
        tracing::error!(%error, "could not {operation}");
    }
}
