//! Sound to send, and the judgement whether it is what arrived.

mod compare;
pub mod g711;
mod melody;
mod wav;

pub use compare::{Comparison, assert_heard, compare};
pub use melody::Melody;
pub use wav::{read_wav, write_wav};

/// Samples a second, everywhere here.
pub const SAMPLE_RATE: usize = 8_000;
