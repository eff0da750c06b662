//! Damaged input for every socket of the daemon, and the counts that must follow from it.

mod bench;
mod counts;
mod media;
mod octets;
mod operators;
mod signalling;

pub use bench::{Attack, Bench};
pub use counts::{Counts, Place, stale_place};
pub use media::MEDIA;
pub use operators::OPERATORS;
pub use signalling::{HalfOpen, SIGNALLING};
