//! What Microsoft Teams asks of a session border controller, row by row; `cargo xtask teams-report`
//! runs this.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use tests::{
    lab::LabError,
    twin::report::{Options, Outcome, json, run, table},
};

#[derive(Parser)]
#[command(about = "Checks Trunkline by what Microsoft Teams asks of a session border controller.")]
struct Arguments {
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

fn main() -> ExitCode {
    match report(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("teams-report: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True when no row fails.
fn report(arguments: Arguments) -> Result<bool, LabError> {
    let told = |path: &PathBuf, error| LabError(format!("{}: {error}", path.display()));
    if let Some(directory) = &arguments.trace {
        fs::create_dir_all(directory).map_err(|error| told(directory, error))?;
    }
    let verdicts = run(&Options {
        only: arguments.only,
        trace: arguments.trace,
    })?;
    println!("{}", table(&verdicts));
    if let Some(file) = &arguments.json {
        fs::write(file, json(&verdicts)).map_err(|error| told(file, error))?;
    }
    Ok(verdicts
        .iter()
        .all(|verdict| verdict.outcome != Outcome::Fail))
}
