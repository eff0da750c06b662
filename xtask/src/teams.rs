//! `cargo xtask teams-report`.

use std::{os::unix::process::CommandExt, path::PathBuf};

use crate::shell;

/// What the report takes; the report itself is a program of the crate `tests`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the verdicts to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only rows whose name begins so, such as `hold` or `srtp/mki`.
    #[arg(long, value_name = "ROW")]
    only: Option<String>,
    /// Write every message down, in files of this directory.
    #[arg(long, value_name = "DIRECTORY")]
    trace: Option<PathBuf>,
}

pub(crate) fn teams_report(arguments: &Arguments) -> Result<(), String> {
    if !shell::is_root() {
        return Err(
            "the report makes network namespaces, which wants root: run it with sudo".into(),
        );
    }
    let mut command = shell::build("tests", "teams-report")?;
    for (name, path) in [("--json", &arguments.json), ("--trace", &arguments.trace)] {
        if let Some(path) = path {
            let path = std::path::absolute(path).map_err(|error| error.to_string())?;
            command.arg(name).arg(path);
        }
    }
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    // Takes this process's place, so that signals reach it and nothing else waits for it.
    Err(format!("starting the report: {}", command.exec()))
}
