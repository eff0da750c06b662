//! The `trunkline` command.

mod commands;

use std::process::ExitCode;

/// Keeps allocations of one size together: a call's state, which stays for hours, does not hold
/// the pages on which the messages and transactions of its set-up lay.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    commands::main()
}
