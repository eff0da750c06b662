//! Trunkline itself, as a process in the laboratory.

mod binary;
mod settings;
mod view;

pub use settings::{DaemonSettings, SIP_PORT, TLS_PORT};
pub use view::{CallView, StreamView};

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, LabError, Process, Result, wait_until},
    peers::Certificates,
};

/// How long it takes at most to be ready.
const START: Duration = Duration::from_secs(30);
/// Where its metrics are, inside its namespace.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// A running `trunkline run`; dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    binary: PathBuf,
    socket: PathBuf,
    configuration: PathBuf,
}

impl Daemon {
    /// Writes its configuration, starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not build, does not start or does not get ready.
    pub fn start(
        lab: &Lab,
        settings: &DaemonSettings,
        certificates: &Certificates,
    ) -> Result<Self> {
        let socket = lab.directory().join("admin.sock");
        let text = settings.toml(METRICS, &socket, certificates);
        Self::start_with(lab, &text, None)
    }

    /// As [`Daemon::start`], with the text of a configuration whose metrics are at [`METRICS`] and
    /// whose admin socket is `admin.sock` in the laboratory's directory. `descriptors` limits those
    /// of the process.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(lab: &Lab, text: &str, descriptors: Option<u32>) -> Result<Self> {
        let binary = binary::trunkline()?;
        let socket = lab.directory().join("admin.sock");
        let configuration = lab.directory().join("trunkline.toml");
        fs::write(&configuration, text)
            .map_err(|error| LabError::new(format!("{}: {error}", configuration.display())))?;
        let mut command = match descriptors {
            None => lab.sbc().command(&binary.to_string_lossy()),
            Some(limit) => {
                let mut command = lab.sbc().command("prlimit");
                command
                    .arg(format!("--nofile={limit}:{limit}"))
                    .arg(&binary);
                command
            }
        };
        command.arg("run").arg("--config").arg(&configuration);
        let mut daemon = Self {
            process: Process::start("trunkline", command, lab.directory())?,
            binary,
            socket,
            configuration,
        };
        let ready = wait_until(START, || {
            !daemon.process.is_running()
                || daemon
                    .get(lab, "/readyz")
                    .is_ok_and(|(status, _)| status == 200)
        });
        if ready && daemon.process.is_running() {
            return Ok(daemon);
        }
        Err(LabError::new(format!(
            "trunkline does not get ready; it said:\n{}",
            daemon.process.text()
        )))
    }

    /// The calls that it knows.
    ///
    /// # Errors
    /// When its admin socket does not answer.
    pub fn calls(&self) -> Result<Vec<CallView>> {
        view::calls(&self.ask(&["calls"])?)
    }

    /// Runs one of the commands over the admin socket and gives its JSON.
    ///
    /// # Errors
    /// When it fails, or when its output is not JSON.
    pub fn ask(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .arg("--json")
            .arg("--socket")
            .arg(&self.socket);
        let output = command.output().map_err(LabError::new)?;
        if !output.status.success() {
            return Err(LabError::new(format!(
                "trunkline {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            )));
        }
        serde_json::from_slice(&output.stdout).map_err(LabError::new)
    }

    /// Status and body of an HTTP GET on the metrics' address.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn get(&self, lab: &Lab, path: &str) -> Result<(u16, String)> {
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(METRICS)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: trunkline\r\nConnection: close\r\n\r\n"
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = lab.sbc().enter(exchange)?.map_err(LabError::new)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| LabError::new(format!("not HTTP: {head:?}")))?;
        Ok((status, body.to_owned()))
    }

    /// The sum of a metric over the series whose labels hold all of `labels`; 0 when there is
    /// none.
    ///
    /// # Errors
    /// When the metrics cannot be read, or do not know the metric.
    pub fn metric(&self, lab: &Lab, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let (status, text) = self.get(lab, "/metrics")?;
        sum(&text, name, labels)
            .ok_or_else(|| LabError::new(format!("the metrics ({status}) have no {name}")))
    }

    /// Resident memory in octets.
    ///
    /// # Errors
    /// When it does not run any more.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(&path).map_err(LabError::new)?;
        text.lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.trim().parse::<u64>().ok())
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| LabError::new(format!("{path} has no VmRSS")))
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// When it does not run any more.
    pub fn descriptors(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.process.id());
        Ok(fs::read_dir(path).map_err(LabError::new)?.count())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.text()
    }

    /// Where the admin socket is.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Where its configuration is.
    #[must_use]
    pub fn configuration(&self) -> &std::path::Path {
        &self.configuration
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it has not within `limit` or says that something was wrong.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.process.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        Err(LabError::new(format!("trunkline ended with {status}")))
    }
}

/// `None`: there is no such metric, with or without series.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let kind = format!("# TYPE {} ", name.strip_suffix("_total").unwrap_or(name));
    text.lines().find(|line| line.starts_with(&kind))?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        labels
            .iter()
            .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
            .then(|| value.split(' ').next()?.parse::<f64>().ok())?
    });
    Some(values.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_their_labels() {
        let text = "# TYPE a counter\na_total{path=\"xdp\",reason=\"x\"} 5\n\
                    a_total{path=\"userspace\",reason=\"x\"} 7\na_total_other 100\n\
                    # TYPE b gauge\nb 3\n# TYPE c counter\n";
        assert_eq!(sum(text, "a_total", &[]), Some(12.0));
        assert_eq!(sum(text, "a_total", &[("path", "xdp")]), Some(5.0));
        assert_eq!(sum(text, "b", &[]), Some(3.0));
        assert_eq!(sum(text, "c_total", &[]), Some(0.0));
        assert_eq!(sum(text, "d_total", &[]), None);
    }
}
