//! The few steps of AES and SHA-1 that a compiler makes badly for BPF. The program in the kernel
//! makes them its own way, with the same results; everybody else makes them as [`Plain`] does.

use super::{
    aes::{self, Column, Tables},
    sha1::{self, Schedule},
};

/// How a machine makes them.
pub trait Machine {
    type State: State;

    /// Takes a block of SHA-1 into `state` ([`sha1::compress`]).
    fn compress(state: &mut [u32; 5], schedule: &mut Schedule);
}

/// Sixteen places for columns of AES's state, whose octets are looked up in [`aes::TABLES`]'s forms.
pub trait State {
    fn new() -> Self;

    /// Puts a column down.
    fn put<const PLACE: usize>(&mut self, column: Column);

    /// What the octet in `ROW` of the column in `PLACE` contributes to a column of the next round.
    fn term<const PLACE: usize, const ROW: usize>(&self) -> Column;

    /// The substitution of an octet, at its row in a column that is not spread.
    fn substitution<const PLACE: usize, const ROW: usize>(&self) -> u32;
}

/// Without unsafe code.
pub struct Plain;

/// The state in registers.
pub struct Columns([Column; 16]);

static TABLES: Tables = aes::TABLES;

impl Machine for Plain {
    type State = Columns;

    #[inline(always)]
    fn compress(state: &mut [u32; 5], schedule: &mut Schedule) {
        sha1::compress(state, schedule);
    }
}

impl Columns {
    #[inline(always)]
    fn octet<const PLACE: usize, const ROW: usize>(&self) -> usize {
        (self.0[PLACE] >> (16 * ROW + 3)) as usize & 0xff
    }
}

impl State for Columns {
    #[inline(always)]
    fn new() -> Self {
        Self([0; 16])
    }

    #[inline(always)]
    fn put<const PLACE: usize>(&mut self, column: Column) {
        self.0[PLACE] = column;
    }

    #[inline(always)]
    fn term<const PLACE: usize, const ROW: usize>(&self) -> Column {
        TABLES.terms[ROW][self.octet::<PLACE, ROW>()]
    }

    #[inline(always)]
    fn substitution<const PLACE: usize, const ROW: usize>(&self) -> u32 {
        (TABLES.substitutions[self.octet::<PLACE, ROW>()][3] as u32) << (8 * ROW)
    }
}
