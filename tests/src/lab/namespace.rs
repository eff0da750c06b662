//! One network namespace.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::{LabError, Result, cleanup};

/// A network namespace; dropping it ends every process in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one of a unique `name`, its loopback up.
    ///
    /// # Errors
    /// When `ip` refuses; without root, for one.
    pub fn create(name: String) -> Result<Self> {
        cleanup::register_namespace(&name);
        let namespace = Self { name };
        run("ip", &["netns", "add", namespace.name()])?;
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in the namespace and that does not outlive the thread that starts
    /// it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a short command in the namespace to its end and gives its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the text holds what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }

    /// Runs a function on a thread inside the namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        let path = PathBuf::from("/run/netns").join(&self.name);
        let file = File::open(&path)
            .map_err(|error| LabError::new(format!("{}: {error}", path.display())))?;
        thread::scope(|scope| {
            scope
                .spawn(move || setns(&file, CloneFlags::CLONE_NEWNET).map(|()| function()))
                .join()
        })
        .map_err(|_| LabError::new(format!("a thread in {} panicked", self.name)))?
        .map_err(|error| LabError::new(format!("entering {}: {error}", self.name)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        cleanup::remove_namespace(&self.name);
    }
}

/// Runs a command to its end.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let told = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| LabError::new(format!("{}: {error}", told())))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(LabError::new(format!(
            "{}: {}: {}",
            told(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}
