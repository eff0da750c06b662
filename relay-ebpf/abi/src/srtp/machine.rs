//! The few steps of AES and SHA-1 that a compiler makes badly for BPF. The program in the kernel
//! makes them its own way, with the same results; everybody else makes them as [`Plain`] does.

use super::{
    aes::{self, Column, Entry, TERMS},
    sha1::{self, Schedule},
};

/// How a machine makes them.
pub trait Machine {
    type State: State;

    /// Takes a block of SHA-1 into `state` ([`sha1::compress`]).
    fn compress(state: &mut [u32; 5], schedule: &mut Schedule);
}

/// Sixteen places for columns of AES's state, whose octets are looked up in [`aes::TABLE`]'s forms.
pub trait State {
    fn new() -> Self;

    /// Puts a column down.
    fn put<const PLACE: usize>(&mut self, column: Column);

    /// What the octet in `ROW` of the column in `PLACE` contributes to a column of the next round.
    fn term<const PLACE: usize, const ROW: usize>(&self) -> Column;

    /// Puts an octet's substitution down as the octet `AT` of those in memory from the place `TO` on.
    fn substitute<const PLACE: usize, const ROW: usize, const TO: usize, const AT: usize>(
        &mut self,
    );

    /// What is in a place, as it lies in memory.
    fn get<const PLACE: usize>(&self) -> u64;
}

/// Without unsafe code.
pub struct Plain;

/// The state in registers.
pub struct Columns([Column; 16]);

static TABLE: [Entry; 256] = aes::TABLE;

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
        (self.0[PLACE] >> (16 * ROW + 4)) as usize & 0xff
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
        let entry = &TABLE[self.octet::<PLACE, ROW>()];
        let begin = const { TERMS[ROW] };
        let [a, b, c, d] = [0, 1, 2, 3].map(|lane| entry[begin + lane]);
        zerocopy::transmute!([a, b, c, d])
    }

    #[inline(always)]
    fn substitute<const PLACE: usize, const ROW: usize, const TO: usize, const AT: usize>(
        &mut self,
    ) {
        let [octet, _] = TABLE[self.octet::<PLACE, ROW>()][7].to_ne_bytes();
        let place = &mut self.0[TO + AT / 8];
        let mut octets = place.to_ne_bytes();
        octets[AT % 8] = octet;
        *place = u64::from_ne_bytes(octets);
    }

    #[inline(always)]
    fn get<const PLACE: usize>(&self) -> u64 {
        self.0[PLACE]
    }
}
