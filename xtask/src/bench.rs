//! `cargo xtask bench`.

use std::{os::unix::process::CommandExt, path::PathBuf};

use crate::shell;

/// What the benchmarks take; they are a program of the crate `benches`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fewer and shorter rounds: some minutes in all.
    #[arg(long)]
    quick: bool,
    /// Write every row, ratio and figure to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Octets of RTP payload in each packet; 160 is 20 ms of G.711.
    #[arg(long)]
    payload: Option<u16>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<(), String> {
    if !shell::is_root() {
        return Err(
            "the benchmarks make network namespaces, which wants root: run them with sudo".into(),
        );
    }
    let mut command = shell::build("benches", "bench")?;
    if arguments.quick {
        command.arg("--quick");
    } else {
        // The full run is what the document shows.
        command
            .arg("--document")
            .arg(shell::root().join("docs/benchmarks.md"));
    }
    if let Some(payload) = arguments.payload {
        command.args(["--payload", &payload.to_string()]);
    }
    if let Some(file) = &arguments.json {
        let file = std::path::absolute(file).map_err(|error| error.to_string())?;
        command.arg("--json").arg(file);
    }
    // Takes this process's place, so that signals reach it and nothing else waits for it.
    Err(format!("starting the benchmarks: {}", command.exec()))
}
