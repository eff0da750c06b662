//! The laboratory: network namespaces joined by veth pairs, and processes in them, all of them
//! gone afterwards.

mod cleanup;
mod namespace;
mod process;
mod topology;

pub use namespace::{Door, Namespace};
pub use process::{Process, wait_until};
pub use topology::{Lab, Party, Side};

use std::fmt;

/// Why something of the laboratory did not work; the text says what was tried and what was seen.
#[derive(Debug)]
pub struct LabError(pub String);

impl LabError {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for LabError {}

pub type Result<T> = std::result::Result<T, LabError>;
