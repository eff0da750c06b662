//! A child process whose output is read as it comes.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal, unistd::Pid};

use super::{LabError, Result};

/// How often a condition without an event of its own is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A running child; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    open: usize,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Option<String>) {
        let mut lines = self.lock();
        match line {
            Some(line) => lines.text.push(line),
            None => lines.open -= 1,
        }
        self.changed.notify_all();
    }
}

impl Process {
    /// Starts a command; both outputs are kept and written to `name.log` in `directory`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let log = File::create(&log)
            .map_err(|error| LabError::new(format!("{}: {error}", log.display())))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| LabError::new(format!("starting {name}: {error}")))?;
        let output = Arc::new(Output::default());
        output.lock().open = 2;
        let stdin = child.stdin.take();
        let readers: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for reader in readers {
            let output = Arc::clone(&output);
            let log = log.try_clone();
            thread::spawn(move || {
                if let (Some(reader), Ok(log)) = (reader, log) {
                    follow(reader, log, &output);
                }
                output.push(None);
            });
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            stdin,
            output,
        })
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.output.lock().text.join("\n")
    }

    /// How many of the lines said so far hold `what`.
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        let lines = self.output.lock();
        lines.text.iter().filter(|line| line.contains(what)).count()
    }

    /// Waits until it has said `what` in `times` lines, and gives the last of those.
    ///
    /// # Errors
    /// When it ends before, or when it has not said so within `limit`.
    pub fn wait_for(&self, what: &str, times: usize, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut lines = self.output.lock();
        loop {
            let mut found = lines.text.iter().filter(|line| line.contains(what));
            if let Some(line) = found.nth(times.saturating_sub(1)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.open == 0 {
                let why = if lines.open == 0 { "ended" } else { "went on" };
                return Err(LabError::new(format!(
                    "{} {why} without saying {what:?} ({times} times); it said:\n{}",
                    self.name,
                    tail(&lines.text)
                )));
            }
            lines = self
                .output
                .changed
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// When it no longer reads.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.stdin
            .as_mut()
            .ok_or_else(|| LabError::new(format!("{} has no input", self.name)))
            .and_then(|stdin| {
                stdin
                    .write_all(text.as_bytes())
                    .and_then(|()| stdin.flush())
                    .map_err(|error| LabError::new(format!("{}: {error}", self.name)))
            })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn signal(&self, signal: signal::Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(LabError::new)?;
        signal::kill(Pid::from_raw(pid), signal)
            .map_err(|error| LabError::new(format!("{}: {error}", self.name)))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended and given all of its output.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        let ended = wait_until(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some() && self.output.lock().open == 0
        });
        status.filter(|_| ended).ok_or_else(|| {
            LabError::new(format!(
                "{} has not ended within {limit:?}; it said:\n{}",
                self.name,
                tail(&self.output.lock().text)
            ))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(reader: impl Read, mut log: File, output: &Output) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let _ = log.write_all(&line);
        output.push(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
        line.clear();
    }
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Looks at a condition until it holds; false when it does not within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
}
