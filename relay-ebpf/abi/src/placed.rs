//! What the loader writes into the programs' instructions: where the tables are, and how far they
//! reach. So a program asks for neither, and the verifier knows both.
//!
//! The object has an instruction that loads 64 bits for each. The upper half is [`PLACED`], the
//! lower half is one of the other constants here.

/// What the upper half is of whatever the loader has to write.
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
/// The highest index of a next hop.
pub const LAST_NEXT_HOP: u32 = 6;
/// Where the last bucket begins, in octets from the first one: a mask.
pub const LAST_BUCKET: u32 = 7;
/// The highest link to a row of a flow.
pub const LAST_LINK: u32 = 8;
/// The highest index of a flow's counters; 0 where they are too many for one element, and are
/// looked up.
pub const LAST_COUNTERS: u32 = 9;
/// The highest number of a CPU.
pub const LAST_PROCESSOR: u32 = 10;
