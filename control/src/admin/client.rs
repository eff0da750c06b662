//! The command line's end of the admin socket.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::protocol::{Answer, Request, Response};

/// The longest answer that is read, in octets.
const ANSWER_OCTETS: u64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody serves the socket.
    Unreachable { path: PathBuf, error: io::Error },
    /// The connection broke, or what came is not an answer.
    Broken(String),
    /// The daemon's own words.
    Refused(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { path, error } => {
                let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
                    "run this as the daemon's user"
                } else {
                    "start the daemon, or name its socket with --socket or --config"
                };
                write!(
                    formatter,
                    "no daemon answers at {} ({error}): {remedy}",
                    path.display()
                )
            }
            Self::Broken(why) => write!(
                formatter,
                "the daemon's answer cannot be read ({why}): is it of the same version?"
            ),
            Self::Refused(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for ClientError {}

/// Asks a running daemon one question.
///
/// # Errors
/// There is no daemon, or it does not answer that.
pub fn ask(path: &Path, request: &Request) -> Result<Response, ClientError> {
    let mut stream = UnixStream::connect(path).map_err(|error| ClientError::Unreachable {
        path: path.to_owned(),
        error,
    })?;
    let broken = |error: io::Error| ClientError::Broken(error.to_string());
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line =
        serde_json::to_vec(request).map_err(|error| ClientError::Broken(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_OCTETS))
        .read_line(&mut answer)
        .map_err(broken)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Ok(response)) => Ok(response),
        Ok(Answer::Error(why)) => Err(ClientError::Refused(why)),
        Err(error) => Err(ClientError::Broken(error.to_string())),
    }
}
