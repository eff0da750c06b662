//! What the loader writes into the programs' instructions: where the tables are, and how far they
//! reach. So a program asks for neither, and the verifier knows both.
//!
//! The object has an instruction that loads 64 bits for each address and number: the upper half is
//! [`PLACED`], the lower half is one of the other constants here. For each mask it has one that
//! masks 64 bits, by [`PLACED`] and one of the other constants.

/// What the loader finds in what it has to write.
pub const PLACED: u32 = 0x1ab1_e500;

/// The address of the first next hop.
pub const NEXT_HOPS: u32 = 1;
/// The address of the first bucket.
pub const BUCKETS: u32 = 2;
/// The address of the first row of a flow.
pub const ROWS: u32 = 3;
/// The address of the first counters of a flow.
pub const COUNTERS: u32 = 4;
/// The address of what the first CPU keeps to itself.
pub const PROCESSORS: u32 = 5;
/// A mask of indices of next hops.
pub const LAST_NEXT_HOP: u32 = 6;
/// A mask of where buckets begin, in octets from the first one.
pub const LAST_BUCKET: u32 = 7;
/// The highest link to a row of a flow.
pub const LAST_LINK: u32 = 8;
/// How many counters of flows there are; 0 where they are too many for one element, and are looked
/// up.
pub const COUNTERS_COUNT: u32 = 9;
/// A mask of numbers of CPUs.
pub const LAST_PROCESSOR: u32 = 10;
