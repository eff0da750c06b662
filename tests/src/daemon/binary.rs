//! Where the `trunkline` to be shown or tested is.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::lab::{LabError, Result};

/// Names a ready-built binary, so that none has to be built.
const VARIABLE: &str = "TRUNKLINE";

/// The binary: what the variable `TRUNKLINE` names; beside this program; or, for a test that was
/// started by `cargo test` alone, freshly built.
pub(super) fn trunkline() -> Result<PathBuf> {
    static FOUND: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| find().map_err(|error| error.to_string()))
        .clone()
        .map_err(LabError)
}

fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE) {
        return Ok(path.into());
    }
    let own = env::current_exe().map_err(LabError::new)?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    if !directory.ends_with("deps") {
        return Ok(directory.join("trunkline"));
    }
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--profile",
            profile,
            "-p",
            "control",
            "--bin",
            "trunkline",
        ])
        .status()
        .map_err(LabError::new)?;
    if !status.success() {
        return Err(LabError::new("trunkline does not build"));
    }
    Ok(directory.with_file_name("trunkline"))
}
