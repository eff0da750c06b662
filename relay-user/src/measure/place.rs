//! Where a measurement happens: a network namespace, and a processor.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use super::Failure;

/// A network namespace. It has no name and goes with its last holder, however that ends.
pub struct Place {
    file: File,
}

impl Place {
    /// A new one, its loopback up.
    ///
    /// # Errors
    /// When the kernel refuses; without root, for one.
    pub fn new() -> Result<Self, Failure> {
        let place = thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: changes the calling thread's own network namespace and nothing else.
                    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                        let error = io::Error::last_os_error();
                        return Err(format!("make a network namespace: {error}").into());
                    }
                    Self::here()
                })
                .join()
        })
        .map_err(|_| "a thread panicked")??;
        place.run("ip", &["link", "set", "lo", "up"])?;
        Ok(place)
    }

    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn here() -> Result<Self, Failure> {
        // Not `self`: that is the process's first thread.
        let path = "/proc/thread-self/ns/net";
        let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { file })
    }

    /// By what `ip` finds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let descriptor = self.file.as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()))
    }

    /// A command that will run in it and that does not outlive the thread that starts it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a short command in it to its end and gives its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the text holds what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, Failure> {
        let told = || format!("{program} {}", arguments.join(" "));
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .map_err(|error| format!("{}: {error}", told()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {}: {}", told(), output.status, said.trim()).into())
    }

    /// Runs a line of shell in it, with its devices in `/sys`.
    ///
    /// # Errors
    /// Those of [`Place::run`].
    pub fn run_with_devices(&self, line: &str) -> Result<String, Failure> {
        let line = format!("mount -t sysfs sysfs /sys && {line}");
        self.run("unshare", &["--mount", "sh", "-c", &line])
    }

    /// Runs a function on a thread inside it. What is made there stays there.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        let namespace = self.file.as_fd();
        thread::scope(|scope| {
            scope
                .spawn(move || join(namespace).map(|()| function()))
                .join()
        })
        .map_err(|_| "a thread in a namespace panicked")?
        .map_err(|error| format!("entering a network namespace: {error}").into())
    }
}

fn join(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call changes the calling thread's namespace alone.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps a thread, or the calling one (0), on one CPU.
///
/// # Errors
/// When there is no such CPU or thread.
pub fn pin(thread: u32, cpu: usize) -> Result<(), Failure> {
    // SAFETY: a cpu_set_t is integers, for which all zeros are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(format!("there is no CPU {cpu}").into());
    }
    // SAFETY: `cpu` is below the number of the set's bits.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set has the length that is passed, and outlives the call.
    let done = unsafe {
        libc::sched_setaffinity(thread as libc::pid_t, size_of_val(&set), &raw const set)
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(format!("keeping a thread on CPU {cpu}: {error}").into())
}

/// Calls a function on a thread that stays on the CPU that it has begun on.
///
/// # Errors
/// When it cannot be kept there.
pub(super) fn on_one_cpu<T: Send>(function: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let kept = || {
        // SAFETY: it takes nothing and touches no memory.
        let cpu = unsafe { libc::sched_getcpu() };
        let cpu = usize::try_from(cpu).map_err(|_| io::Error::last_os_error())?;
        pin(0, cpu).map(|()| function())
    };
    thread::scope(|scope| scope.spawn(kept).join())
        .map_err(|_| "a thread that was kept on one CPU panicked")?
}
