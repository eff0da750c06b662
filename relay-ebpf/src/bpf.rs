//! The steps of AES and SHA-1 that are made by hand for BPF.

use core::{arch::asm, mem::MaybeUninit};

use relay_abi::srtp::{
    aes::{self, Column, Entry, TERMS},
    machine::{Machine, State},
    sha1::Schedule,
};

use crate::{opaque::opaque, sha1};

pub struct Bpf;

/// The table, and behind it as much as the verifier must believe that an offset of sixteen bits
/// can reach. The offsets are sixteen times an octet, so nothing of it is read.
#[repr(C, align(64))]
struct Table {
    read: [Entry; 256],
    beyond: [u64; 8192],
}

static TABLE: Table = Table {
    read: aes::TABLE,
    beyond: [0; 8192],
};

impl Machine for Bpf {
    type State = Octets;

    #[inline(always)]
    fn compress(state: &mut [u32; 5], schedule: &mut Schedule) {
        sha1::compress(state, schedule);
    }
}

/// The columns that are kept in registers too: those of one block. For two there are not enough.
const KEPT: usize = 8;

/// The state in memory, from which each octet is read as the offset that it is. Reads and writes
/// are volatile: the compiler would keep the columns in registers and take them apart there. Only
/// the last octet of a column that is kept comes from its register, by a shift, which loads nothing
/// and waits for no store.
pub struct Octets {
    columns: MaybeUninit<[Column; 16]>,
    kept: [Column; KEPT],
    table: usize,
}

impl Octets {
    /// The octet as it stands in memory: an entry's offset.
    #[inline(always)]
    fn octet<const PLACE: usize, const ROW: usize>(&self) -> u16 {
        if PLACE < KEPT && ROW == 3 {
            return (self.kept[PLACE] >> 48) as u16;
        }
        let row = if cfg!(target_endian = "big") {
            3 - ROW
        } else {
            ROW
        };
        // SAFETY: within the columns, and aligned; whatever reads an octet has put its column.
        unsafe {
            self.columns
                .as_ptr()
                .cast::<u16>()
                .add(4 * PLACE + row)
                .read_volatile()
        }
    }

    /// Where the octet's entry is.
    #[inline(always)]
    fn entry<const PLACE: usize, const ROW: usize>(&self) -> usize {
        let mut entry = self.octet::<PLACE, ROW>() as usize;
        // SAFETY: an addition. The compiler would first copy the table's address and add to that.
        unsafe {
            asm!(
                "{0} += {1}",
                inout(reg) entry,
                in(reg) self.table,
                options(pure, nomem, nostack),
            );
        }
        entry
    }
}

impl State for Octets {
    #[inline(always)]
    fn new() -> Self {
        Self {
            columns: MaybeUninit::uninit(),
            kept: [0; KEPT],
            table: opaque((&raw const TABLE) as usize),
        }
    }

    #[inline(always)]
    fn put<const PLACE: usize>(&mut self, column: Column) {
        if PLACE < KEPT {
            self.kept[PLACE] = column;
        }
        // SAFETY: within the columns, and aligned.
        unsafe {
            self.columns
                .as_mut_ptr()
                .cast::<Column>()
                .add(PLACE)
                .write_volatile(column);
        }
    }

    #[inline(always)]
    fn term<const PLACE: usize, const ROW: usize>(&self) -> Column {
        let entry = self.entry::<PLACE, ROW>() + const { 2 * TERMS[ROW] };
        // SAFETY: within the table; read without alignment.
        unsafe { (entry as *const Column).read_unaligned() }
    }

    #[inline(always)]
    fn substitute<const PLACE: usize, const ROW: usize, const TO: usize, const AT: usize>(
        &mut self,
    ) {
        let entry = self.entry::<PLACE, ROW>() + 14;
        // SAFETY: the one is within the table, the other within the columns.
        unsafe {
            let octet = *(entry as *const u8);
            let columns = self.columns.as_mut_ptr().cast::<u8>();
            columns.add(8 * TO + AT).write_volatile(octet);
        }
    }

    #[inline(always)]
    fn get<const PLACE: usize>(&self) -> u64 {
        // SAFETY: within the columns, and aligned; whatever reads a place has put something there.
        unsafe {
            let columns = self.columns.as_ptr().cast::<u64>();
            columns.add(PLACE).read_volatile()
        }
    }
}
