//! Relays under measurement, as processes: ours, and what any must tell.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use super::{Call, Failure, Kind, SERVE, Service, Topology, key, trial::wait_until};

/// A relay that is a process, with the calls of the load.
pub trait Process {
    /// In the order of their numbers.
    fn calls(&self) -> &[Call];

    /// The process's number.
    fn id(&self) -> u32;

    /// How many calls it has still.
    ///
    /// # Errors
    /// When it does not answer.
    fn count(&mut self) -> Result<usize, Failure>;

    /// Whether its CPU alone takes what comes in from the device. Otherwise another one does, and
    /// hands on to the stack on the relay's.
    fn receives_alone(&self) -> bool;

    /// What it lost, and why, for a person to read.
    fn losses(&mut self) -> Option<String> {
        None
    }

    /// Its resident memory in octets.
    ///
    /// # Errors
    /// When it is not there any more.
    fn resident(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/status", self.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kibibytes.ok_or_else(|| format!("{path} has no VmRSS"))? * 1024)
    }

    /// Stops it, or lets it go on.
    ///
    /// # Errors
    /// When it is not there any more.
    fn stop(&self, stopped: bool) -> Result<(), Failure> {
        let signal = if stopped {
            libc::SIGSTOP
        } else {
            libc::SIGCONT
        };
        // SAFETY: no pointer is passed; the process is a child that has not been waited for.
        match unsafe { libc::kill(self.id() as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }
}

/// What a relay of ours says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub calls: usize,
    /// Callers whose source is known.
    pub pinned: usize,
    /// Packets of the callers, by path.
    pub xdp: u64,
    pub userspace: u64,
    pub losses: String,
}

/// Trunkline's media plane, served by another process of this program; dropping it ends that.
pub struct Served {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: Vec<Call>,
}

impl Served {
    /// Starts one in the relay's namespace.
    ///
    /// # Errors
    /// When it does not start, or refuses the service; it has said why on the standard error.
    pub fn start(topology: &Topology, service: Service) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut child = topology
            .relay
            .command(&program.to_string_lossy())
            .arg(SERVE)
            .arg(service.to_argument())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a relay without pipes".into());
        };
        let mut served = Self {
            child,
            input,
            output: BufReader::new(output),
            calls: Vec::new(),
        };
        let protect = (service.kind == Kind::Protect).then(|| key(0x77));
        loop {
            let line = served.line()?;
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["call", local, from] => served.calls.push(Call {
                    local: local.parse()?,
                    from: from.parse()?,
                    protect: protect.clone(),
                }),
                ["ready"] => return Ok(served),
                ["failed", ..] => {
                    let why = line.trim_start_matches("failed ");
                    return Err(format!("the relay does not start: {why}").into());
                }
                _ => return Err(format!("the relay said {line:?}").into()),
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the relay has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// What it says of itself now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn state(&mut self) -> Result<State, Failure> {
        self.input.write_all(b"\n")?;
        let line = self.line()?;
        let mut parts = line.splitn(5, ' ');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (Some(calls), Some(pinned), Some(xdp), Some(userspace)) =
            (number(), number(), number(), number())
        else {
            return Err(format!("the relay said {line:?}").into());
        };
        Ok(State {
            calls: calls as usize,
            pinned: pinned as usize,
            xdp,
            userspace,
            losses: parts.next().unwrap_or_default().to_owned(),
        })
    }

    /// Waits until it knows every caller's source.
    ///
    /// # Errors
    /// When it does not within some seconds.
    pub fn wait_until_pinned(&mut self) -> Result<(), Failure> {
        let mut last = State::default();
        let mut failed = None;
        let wanted = self.calls.len();
        let pinned = wait_until(Duration::from_secs(5), || match self.state() {
            Ok(state) => {
                last = state;
                last.pinned == wanted
            }
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        match failed {
            Some(error) => Err(error),
            None if pinned => Ok(()),
            None => Err(format!("of {wanted} callers {} are known", last.pinned).into()),
        }
    }
}

impl Process for Served {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn receives_alone(&self) -> bool {
        true
    }

    fn count(&mut self) -> Result<usize, Failure> {
        self.state().map(|state| state.calls)
    }

    fn losses(&mut self) -> Option<String> {
        self.state().ok().map(|state| state.losses)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
