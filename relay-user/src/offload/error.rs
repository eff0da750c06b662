//! The one error of the datapath's boundary.

use std::fmt;

/// Why a datapath did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatapathError {
    /// A table is full.
    Capacity { table: &'static str, limit: u32 },
    /// An index behind a table's end.
    Index {
        table: &'static str,
        index: u32,
        limit: u32,
    },
    /// A flow that could never relay right.
    Flow(&'static str),
    /// The kernel refused an operation on a map.
    Kernel {
        operation: &'static str,
        cause: String,
    },
}

impl fmt::Display for DatapathError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity { table, limit } => write!(
                formatter,
                "the kernel's table {table} is full at {limit}: raise [media] flows"
            ),
            Self::Index {
                table,
                index,
                limit,
            } => write!(
                formatter,
                "there is no index {index} in the kernel's table {table} of {limit}"
            ),
            Self::Flow(what) => write!(formatter, "a flow that cannot be relayed: {what}"),
            Self::Kernel { operation, cause } => {
                write!(formatter, "the kernel refused to {operation}: {cause}")
            }
        }
    }
}

impl std::error::Error for DatapathError {}
