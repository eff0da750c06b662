//! The daemon's end of the admin socket.

use std::{
    fmt, fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use relay_user::media::CallId;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    protocol::{Answer, REQUEST_OCTETS, Request, Response},
    report,
};
use crate::{daemon::Handle, transport::Discard};

/// How many clients are served at one time.
const CLIENTS: usize = 16;
/// How long a client may take to ask and to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the socket could not be opened.
#[derive(Debug)]
pub enum ServerError {
    /// Another daemon answers there.
    InUse(PathBuf),
    Socket {
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                formatter,
                "another daemon serves the admin socket {}: end it, or give this one another [admin] socket",
                path.display()
            ),
            Self::Socket { path, error } => write!(
                formatter,
                "the admin socket {} cannot be opened ({error}): choose another [admin] socket, in a folder that this user may write",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ServerError {}

/// The listening socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    listener: StdUnixListener,
    path: PathBuf,
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl AdminServer {
    /// Opens the socket, for its owner alone. What an earlier run left behind is removed. Who
    /// connects waits until it is run.
    ///
    /// # Errors
    /// Somebody else serves it, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let fail = |error| ServerError::Socket {
            path: path.to_owned(),
            error,
        };
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
        {
            fs::create_dir_all(folder).map_err(fail)?;
        }
        // Whoever connects to any other file is refused as by a socket that nobody serves.
        if fs::metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(fail(io::Error::other("what is there is no socket")));
        }
        match StdUnixStream::connect(path) {
            Ok(_) => return Err(ServerError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(fail)?;
            }
            Err(_) => {}
        }
        // Bound under another name and moved once it is closed to others: at no moment may they
        // connect.
        let private = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&private);
        let listener = StdUnixListener::bind(&private).map_err(fail)?;
        let opened = fs::set_permissions(&private, fs::Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::rename(&private, path));
        if let Err(error) = opened {
            let _ = fs::remove_file(&private);
            return Err(fail(error));
        }
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers until it is dropped. Must be called within a tokio runtime.
    pub async fn run(self, handle: Handle) {
        if let Err(error) = self.accept(handle).await {
            tracing::error!(%error, "questions on the admin socket are not answered");
        }
    }

    async fn accept(&self, handle: Handle) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            // More clients wait in the kernel's queue.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Ok(());
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let handle = handle.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        // Whoever goes away early needs no answer.
                        let _ = serve(stream, &handle).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the admin socket was not accepted");
                    // Where descriptors have run out, it would fail again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: UnixStream, handle: &Handle) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(REQUEST_OCTETS as u64);
        let read = timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(_))) && !line.is_empty() {
            handle.discards().count(Discard::AdminRequest);
        }
        let length = read??;
        if length == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let answer = if whole {
            answer(&line, handle).await
        } else {
            handle.discards().count(Discard::AdminRequest);
            Answer::Error(format!(
                "a request is one line of at most {REQUEST_OCTETS} octets"
            ))
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(PATIENCE, writer.write_all(&text)).await??;
        if !whole {
            return Ok(());
        }
    }
}

async fn answer(line: &[u8], handle: &Handle) -> Answer {
    let ended = || Answer::Error("the daemon is ending".to_owned());
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            handle.discards().count(Discard::AdminRequest);
            return Answer::Error(format!("not a request: {error}"));
        }
    };
    match request {
        Request::Calls => match handle.calls().await {
            Some(calls) => {
                let now = Instant::now();
                Answer::Ok(Response::Calls(
                    calls.iter().map(|call| report::call(call, now)).collect(),
                ))
            }
            None => ended(),
        },
        Request::Call { id } => {
            // A Call-ID may look like a number.
            let by_number = match id.parse() {
                Ok(number) => handle.call(CallId(number)).await.flatten(),
                Err(_) => None,
            };
            let found = match by_number {
                Some(call) => Some(Some(call)),
                None => handle.calls().await.map(|calls| {
                    calls
                        .into_iter()
                        .find(|call| call.legs.iter().any(|leg| leg.call_id == *id.as_str()))
                }),
            };
            match found {
                Some(Some(call)) => Answer::Ok(Response::Call(Box::new(report::call(
                    &call,
                    Instant::now(),
                )))),
                Some(None) => Answer::Error(format!(
                    "no call {id:?}: `trunkline calls` lists those that are up"
                )),
                None => ended(),
            }
        }
        Request::Flows => match handle.flows().await {
            Some(flows) => Answer::Ok(Response::Flows(flows.iter().map(report::flow).collect())),
            None => ended(),
        },
        Request::Trunks => match handle.trunks().await {
            Some(trunks) => {
                let now = Instant::now();
                let reports = trunks.iter().map(|trunk| report::trunk(trunk, now));
                Answer::Ok(Response::Trunks(reports.collect()))
            }
            None => ended(),
        },
        Request::Stats => match (handle.statistics().await, handle.media().await) {
            (Some(core), Some(media)) => Answer::Ok(Response::Stats(Box::new(report::statistics(
                handle, &core, &media,
            )))),
            _ => ended(),
        },
    }
}
