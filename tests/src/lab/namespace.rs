//! One network namespace.

use std::{
    fs::{self, File},
    net::IpAddr,
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
        self.door().enter(function)
    }

    /// A way in that threads can keep; it does not keep the namespace alive.
    #[must_use]
    pub fn door(&self) -> Door {
        Door {
            name: Some(self.name.clone()),
        }
    }

    /// Gives processes that are started in the namespace from now on a resolver of their own.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_resolver(&self, address: IpAddr) -> Result<()> {
        let directory = cleanup::configuration(&self.name);
        let write = fs::create_dir_all(&directory).and_then(|()| {
            let text = format!("nameserver {address}\noptions timeout:1 attempts:2\n");
            fs::write(directory.join("resolv.conf"), text)
        });
        write.map_err(|error| LabError::new(format!("{}: {error}", directory.display())))
    }
}

/// The way into a namespace, or to where this process is.
#[derive(Clone, Debug)]
pub struct Door {
    name: Option<String>,
}

impl Door {
    /// Leads to where this process is.
    #[must_use]
    pub const fn here() -> Self {
        Self { name: None }
    }

    /// Runs a function inside. Sockets made there stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        let Some(name) = &self.name else {
            return Ok(function());
        };
        let path = PathBuf::from("/run/netns").join(name);
        let file = File::open(&path)
            .map_err(|error| LabError::new(format!("{}: {error}", path.display())))?;
        thread::scope(|scope| {
            scope
                .spawn(move || setns(&file, CloneFlags::CLONE_NEWNET).map(|()| function()))
                .join()
        })
        .map_err(|_| LabError::new(format!("a thread in {name} panicked")))?
        .map_err(|error| LabError::new(format!("entering {name}: {error}")))
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
