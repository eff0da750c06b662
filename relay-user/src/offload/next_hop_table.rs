//! The next-hop table, as userspace writes it.

use relay_abi::{next_hop::NextHop, row::NextHopRow};
use zerocopy::transmute;

use super::shared_rows::{Row, SharedWords};

const ROW: usize = size_of::<NextHopRow>() / 4;

#[derive(Debug)]
pub(super) struct NextHopTable(SharedWords);

impl NextHopTable {
    pub(super) fn on_the_heap(next_hops: u32) -> Self {
        Self::new(SharedWords::on_the_heap(Self::words(next_hops)))
    }

    /// Over [`NextHopTable::words`] words, all zero: rows that are unresolved.
    pub(super) fn new(rows: SharedWords) -> Self {
        Self(rows)
    }

    pub(super) fn words(next_hops: u32) -> usize {
        next_hops as usize * ROW
    }

    pub(super) fn set(&self, index: u32, next_hop: &NextHop) {
        let words: [u32; ROW] = transmute!(NextHopRow::new(next_hop));
        if let Some(row) = self.row(index) {
            row.change(&words);
        }
    }

    pub(super) fn row(&self, index: u32) -> Option<Row<'_>> {
        self.0.row(index as usize, ROW)
    }
}
