//! `call-rates`: the part of the benchmarks that is about calls, by itself.

#[path = "mod.rs"]
mod signalling;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Measures calls set up and torn down in a second, post-dial delay, and the memory of held calls.
#[derive(Parser)]
struct Arguments {
    /// What to measure; all of it when nothing is named.
    what: Vec<What>,
    /// Shorter rounds and larger steps.
    #[arg(long)]
    quick: bool,
}

/// Measures one part; the argument is whether to be quick.
type Measure = fn(bool) -> signalling::Rows;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// SIPp to SIPp with nothing between them.
    Direct,
    /// Without media.
    Signalling,
    /// With media offloaded.
    Media,
    /// Held calls.
    Memory,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |what| arguments.what.is_empty() || arguments.what.contains(&what);
    let mut failed = false;
    let parts: [(What, Measure); 4] = [
        (What::Direct, signalling::direct_rows),
        (What::Signalling, signalling::signalling_rows),
        (What::Media, signalling::media_rows),
        (What::Memory, signalling::memory_rows),
    ];
    for (what, measure) in parts.into_iter().filter(|(what, _)| wanted(*what)) {
        match measure(arguments.quick) {
            Ok(rows) => {
                for row in rows {
                    println!("{}: {:.3} {}", row.name, row.value, row.unit);
                }
            }
            Err(error) => {
                let name = what.to_possible_value();
                let name = name.as_ref().map_or("", |value| value.get_name());
                eprintln!("call-rates: {name}: {error}");
                failed = true;
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
