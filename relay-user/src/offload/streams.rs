//! The states of protected streams, which the kernel and the workers share.

use std::{io, os::fd::AsFd};

use relay_abi::srtp::stream::StreamState;

use super::mapped::Mapped;

/// The row for each [`relay_abi::srtp::stream::RowReference`]. The kernel program takes indices in
/// the same memory, by the same exchanges.
#[derive(Debug)]
pub struct StreamStates(Memory);

#[derive(Debug)]
enum Memory {
    Heap(Box<[StreamState]>),
    Mapped(Mapped<StreamState>),
}

impl StreamStates {
    /// Rows that no kernel shares.
    #[must_use]
    pub fn on_the_heap(rows: u32) -> Self {
        Self(Memory::Heap(
            (0..rows).map(|_| StreamState::default()).collect(),
        ))
    }

    /// The rows of the map STATES.
    pub(super) fn mapped(map: &impl AsFd, rows: u32) -> io::Result<Self> {
        Mapped::new(map, rows as usize).map(|mapped| Self(Memory::Mapped(mapped)))
    }

    /// A row's state, `None` behind the table's end.
    #[must_use]
    pub fn get(&self, row: u32) -> Option<&StreamState> {
        let rows = match &self.0 {
            Memory::Heap(rows) => rows,
            Memory::Mapped(mapped) => mapped.elements(),
        };
        rows.get(row as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_last_row_there_is_none() {
        let states = StreamStates::on_the_heap(2);
        assert!(states.get(1).is_some());
        assert!(states.get(2).is_none());
    }
}
