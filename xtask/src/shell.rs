//! Running other programs.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The workspace's directory.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Cargo, as it was called, in the workspace's directory.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Cargo's target directory: this program lies in its profile's there.
pub(crate) fn target() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    own.parent()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .ok_or_else(|| "this program does not lie in cargo's target directory".to_owned())
}

/// Whether the effective user is root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|user| user.trim() == "0")
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Builds a program of a package, and the daemon that it starts beside itself.
pub(crate) fn build(package: &str, program: &str) -> Result<Command, String> {
    eprintln!("{program}: building");
    run(cargo().args([
        "build",
        "--release",
        "-p",
        "control",
        "--bin",
        "trunkline",
        "-p",
        package,
        "--bin",
        program,
    ]))?;
    Ok(Command::new(target()?.join("release").join(program)))
}

/// Runs a command before the user's eyes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let told = format!(
        "{} {}",
        command.get_program().to_string_lossy(),
        command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    );
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{told}` ended with {status}")),
        Err(error) => Err(format!("`{told}` could not be started: {error}")),
    }
}
