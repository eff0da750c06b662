//! The steps of AES and SHA-1 that are made by hand for BPF.

use core::{arch::asm, mem::MaybeUninit};

use relay_abi::srtp::{
    aes::{self, Column},
    machine::{Machine, State},
    sha1::Schedule,
};

use crate::{opaque::opaque, sha1};

pub struct Bpf;

/// The tables, and behind them as much as the verifier must believe that an offset of sixteen bits
/// can reach. The offsets are of eight times an octet, so nothing of it is read.
#[repr(C, align(64))]
struct Tables {
    read: aes::Tables,
    beyond: [u64; 8192],
}

static TABLES: Tables = Tables {
    read: aes::TABLES,
    beyond: [0; 8192],
};

impl Machine for Bpf {
    type State = Octets;

    #[inline(always)]
    fn compress(state: &mut [u32; 5], schedule: &mut Schedule) {
        sha1::compress(state, schedule);
    }
}

/// The state in memory, from which each octet is read as the offset that it is. Reads and writes
/// are volatile: the compiler would keep the columns in registers and take them apart there.
pub struct Octets {
    columns: MaybeUninit<[Column; 16]>,
    tables: usize,
}

impl Octets {
    /// Where the octet's entries are, of which the first table's is the first.
    #[inline(always)]
    fn entry<const PLACE: usize, const ROW: usize>(&self) -> usize {
        let row = if cfg!(target_endian = "big") {
            3 - ROW
        } else {
            ROW
        };
        // SAFETY: within the columns, and aligned; whatever reads an octet has put its column.
        let offset = unsafe {
            self.columns
                .as_ptr()
                .cast::<u16>()
                .add(4 * PLACE + row)
                .read_volatile()
        };
        let mut entry = offset as usize;
        // SAFETY: an addition. The compiler would first copy the tables' address and add to that.
        unsafe {
            asm!(
                "{0} += {1}",
                inout(reg) entry,
                in(reg) self.tables,
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
            tables: opaque((&raw const TABLES) as usize),
        }
    }

    #[inline(always)]
    fn put<const PLACE: usize>(&mut self, column: Column) {
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
        let entry = self.entry::<PLACE, ROW>() + 2048 * ROW;
        // SAFETY: within the tables, and aligned as they are, since offsets are multiples of eight.
        unsafe { *(entry as *const Column) }
    }

    #[inline(always)]
    fn substitution<const PLACE: usize, const ROW: usize>(&self) -> u32 {
        // The substitution is the fourth octet of eight, all others of which are zero: read from
        // further in front or behind, it stands at another row.
        let row = if cfg!(target_endian = "big") {
            ROW
        } else {
            3 - ROW
        };
        let entry = self.entry::<PLACE, ROW>() + 4 * 2048 + row;
        // SAFETY: within the tables; read without alignment.
        unsafe { (entry as *const u32).read_unaligned() }
    }
}
