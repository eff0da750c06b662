//! `cargo xtask demo`.

use std::{os::unix::process::CommandExt, path::PathBuf};

use crate::shell;

/// What the demo takes; the demo itself is a program of the crate `tests`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Calls of each kind.
    #[arg(long, default_value_t = 1)]
    calls: u32,
    /// Seconds that each call lasts.
    #[arg(long, default_value_t = 12)]
    seconds: u32,
    /// Write the results to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave everything running until Ctrl-C, and say where the metrics are.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn demo(arguments: &Arguments) -> Result<(), String> {
    if !shell::is_root() {
        return Err("the demo makes network namespaces, which wants root: run it with sudo".into());
    }
    let mut command = shell::build("tests", "demo")?;
    command.args(["--calls", &arguments.calls.to_string()]);
    command.args(["--seconds", &arguments.seconds.to_string()]);
    if let Some(file) = &arguments.json {
        let file = std::path::absolute(file).map_err(|error| error.to_string())?;
        command.arg("--json").arg(file);
    }
    if arguments.keep {
        command.arg("--keep");
    }
    // Takes this process's place, so that signals reach it and nothing else waits for it.
    Err(format!("starting the demo: {}", command.exec()))
}
