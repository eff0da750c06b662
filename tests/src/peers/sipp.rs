//! SIPp, one process for each caller and one for each party that is called.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use crate::{
    lab::{Lab, LabError, Party, Process, Result},
    sound::Melody,
};

mod scenario;
mod script;

pub use scenario::{CALLED, CALLER, SECURED_KEY, SECURED_PORT, Scenario, User};

/// What a SIPp is to do.
#[derive(Clone, Debug)]
pub struct SippConfig<'a> {
    /// Of its files and in error messages; unique in a run.
    pub name: &'a str,
    pub party: Party,
    /// Where it listens and sends from.
    pub local: SocketAddr,
    /// Where calls go to; for callers.
    pub remote: Option<SocketAddr>,
    pub tcp: bool,
    /// The first port for its media.
    pub media_port: u16,
    /// The user part of the Request-URI; for callers.
    pub number: &'a str,
    pub scenario: Scenario,
    /// How long a caller talks before it hangs up.
    pub talk: Duration,
    pub melody: Option<&'a Melody>,
    /// Calls after which it ends; 0: never.
    pub calls: u32,
}

/// A running SIPp.
#[derive(Debug)]
pub struct Sipp {
    process: Process,
    errors: PathBuf,
}

impl Sipp {
    /// Starts it.
    ///
    /// # Errors
    /// When its files cannot be written or it cannot be started.
    pub fn start(lab: &Lab, config: &SippConfig<'_>) -> Result<Self> {
        let directory = lab.directory().join(config.name);
        let write = |name: &str, content: &[u8]| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, content)
                .map_err(|error| LabError::new(format!("{}: {error}", path.display())))?;
            Ok(path)
        };
        fs::create_dir_all(&directory)
            .map_err(|error| LabError::new(format!("{}: {error}", directory.display())))?;
        let sound = config
            .melody
            .map(|melody| write("sound.ul", &melody.ulaw()))
            .transpose()?;
        let text = config.scenario.xml(sound.as_deref(), config.talk);
        let scenario = write("scenario.xml", text.as_bytes())?;

        let mut command = lab.peer(config.party).command("sipp");
        command.current_dir(&directory);
        if let Some(remote) = config.remote {
            command.arg(remote.to_string());
        }
        let ip = match config.local.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        command
            .arg("-sf")
            .arg(scenario)
            .args(["-i", &ip, "-mi", &config.local.ip().to_string()])
            .args(["-p", &config.local.port().to_string()])
            .args(["-mp", &config.media_port.to_string()])
            .args(["-t", if config.tcp { "t1" } else { "u1" }])
            .args(["-s", config.number])
            .args(["-nostdin", "-trace_err", "-error_file", "errors.log"])
            .args(["-trace_msg", "-message_file", "messages.log"])
            .args(["-key", "talk", &config.talk.as_millis().to_string()]);
        if config.calls > 0 {
            command.args(["-m", &config.calls.to_string()]);
        }
        Ok(Self {
            process: Process::start(config.name, command, lab.directory())?,
            errors: directory.join("errors.log"),
        })
    }

    /// Waits until it has made its calls.
    ///
    /// # Errors
    /// When it has not within `limit`, or when a call did not go by the scenario; the text holds
    /// what SIPp said.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        Err(LabError::new(format!("SIPp: {status}: {}", self.errors())))
    }

    /// Waits until it has ended, however.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait(limit)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What SIPp says went wrong.
    #[must_use]
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}
