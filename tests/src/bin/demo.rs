//! Real calls through Trunkline; `cargo xtask demo` runs this.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tests::demo::{Options, run};

#[derive(Parser)]
#[command(about = "Makes real calls through Trunkline and says what was heard.")]
struct Arguments {
    /// Calls of each kind.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    calls: u32,
    /// Seconds that each call lasts.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
    /// Write the results to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave everything running until Ctrl-C, and say where the metrics are.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        calls: arguments.calls,
        seconds: arguments.seconds,
        json: arguments.json,
        keep: arguments.keep,
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
