//! baresip: TLS, SRTP by SDES, sound from a file and to files.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    lab::{Lab, LabError, Namespace, Party, Process, Result, wait_until},
    peers::Certificates,
    sound::{Melody, read_wav, write_wav},
};

/// What baresip encrypts its media with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEncryption {
    None,
    /// SRTP with keys in the SDP, and nothing else.
    Sdes,
}

/// The transport of its signalling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipTransport {
    Udp,
    Tcp,
    Tls,
}

impl SipTransport {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// What a baresip is to be.
#[derive(Clone, Debug)]
pub struct BaresipConfig<'a> {
    /// Of its directory; unique in a run.
    pub name: &'a str,
    pub party: Party,
    /// Where it listens and sends from.
    pub local: SocketAddr,
    pub transport: SipTransport,
    pub media: MediaEncryption,
    /// The first of 200 ports for its media.
    pub media_port: u16,
    /// The port of its control connection, on loopback.
    pub control_port: u16,
    /// The user parts of its addresses: what it is called by. The first is what it calls as.
    pub users: &'a [&'a str],
    /// Answers by itself.
    pub answers: bool,
    pub melody: &'a Melody,
    pub certificates: Option<&'a Certificates>,
}

/// A running baresip.
#[derive(Debug)]
pub struct Baresip {
    process: Process,
    control: TcpStream,
    recordings: PathBuf,
}

/// How long a baresip takes at most to be there.
const START: Duration = Duration::from_secs(20);
/// How long it takes at most to answer a command.
const ANSWER: Duration = Duration::from_secs(10);

impl Baresip {
    /// Starts it and waits until it can be called.
    ///
    /// # Errors
    /// When its files cannot be written or it does not come up.
    pub fn start(lab: &Lab, config: &BaresipConfig<'_>) -> Result<Self> {
        let directory = lab.directory().join(config.name);
        let recordings = directory.join("recordings");
        let failed = |path: &Path, error| LabError::new(format!("{}: {error}", path.display()));
        fs::create_dir_all(&recordings).map_err(|error| failed(&recordings, error))?;
        let sound = directory.join("sound.wav");
        write_wav(&sound, config.melody.samples()).map_err(|error| failed(&sound, error))?;
        for (name, text) in [
            ("config", configuration(config, &directory)),
            ("accounts", accounts(config)),
            ("contacts", String::new()),
        ] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|error| failed(&path, error))?;
        }
        let namespace = lab.peer(config.party);
        let mut command = namespace.command("baresip");
        command.arg("-f").arg(&directory).arg("-v");
        command.env("HOME", &directory);
        let process = Process::start(config.name, command, lab.directory())?;
        process.wait_for("baresip is ready", 1, START)?;
        let control = connect(namespace, config.control_port)?;
        Ok(Self {
            process,
            control,
            recordings,
        })
    }

    /// Calls an address.
    ///
    /// # Errors
    /// When it no longer listens to commands.
    pub fn dial(&mut self, uri: &str) -> Result<()> {
        self.command("dial", uri)
    }

    /// Ends the current call.
    ///
    /// # Errors
    /// When it no longer listens to commands.
    pub fn hang_up(&mut self) -> Result<()> {
        self.command("hangup", "")
    }

    /// Ends every call and itself.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn quit(&mut self, limit: Duration) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(limit).map(|_| ())
    }

    /// Waits until so many calls have been established since it was started.
    ///
    /// # Errors
    /// When they have not within `limit`.
    pub fn wait_established(&self, calls: usize, limit: Duration) -> Result<()> {
        self.process
            .wait_for("Call established", calls, limit)
            .map(|_| ())
    }

    /// Waits until so many calls have ended since it was started.
    ///
    /// # Errors
    /// When they have not within `limit`.
    pub fn wait_closed(&self, calls: usize, limit: Duration) -> Result<()> {
        // The first when the other side ended it, the second when this one did.
        let ended =
            || self.process.count("session closed") + self.process.count("terminated (duration");
        if wait_until(limit, || ended() >= calls) {
            return Ok(());
        }
        Err(LabError::new(format!(
            "{calls} calls have not ended; baresip said:\n{}",
            self.text()
        )))
    }

    /// How many calls have been established since it was started.
    #[must_use]
    pub fn established(&self) -> usize {
        self.process.count("Call established")
    }

    /// Everything it has said.
    #[must_use]
    pub fn text(&self) -> String {
        self.process.text()
    }

    /// What it heard in each of its calls, in order of their beginning.
    #[must_use]
    pub fn heard(&self) -> Vec<Vec<i16>> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.recordings)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        files.sort();
        files
            .iter()
            .filter_map(|file| read_wav(file).ok())
            .collect()
    }

    /// Sends a command by its JSON in a netstring.
    fn command(&mut self, command: &str, parameters: &str) -> Result<()> {
        let json = serde_json::json!({"command": command, "params": parameters}).to_string();
        let netstring = format!("{}:{json},", json.len());
        let told = |error| LabError::new(format!("baresip's control connection: {error}"));
        self.control.write_all(netstring.as_bytes()).map_err(told)?;
        // One octet says that there is an answer; the rest is of no interest.
        let mut answer = [0; 4096];
        self.control.read(&mut answer).map_err(told)?;
        Ok(())
    }
}

fn connect(namespace: &Namespace, port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut last = None;
    let connected = wait_until(START, || {
        match namespace.enter(|| TcpStream::connect(address)) {
            Ok(Ok(stream)) => last = Some(stream),
            _ => return false,
        }
        true
    });
    let stream = last
        .filter(|_| connected)
        .ok_or_else(|| LabError::new("baresip does not open its control port"))?;
    stream
        .set_read_timeout(Some(ANSWER))
        .map_err(LabError::new)?;
    Ok(stream)
}

fn configuration(config: &BaresipConfig<'_>, directory: &Path) -> String {
    let mut listen = config.local;
    if config.transport == SipTransport::Tls {
        // It listens for TLS one port further than for the others.
        listen.set_port(listen.port() - 1);
    }
    let mut text = format!(
        "poll_method epoll
sip_listen {listen}
audio_source aufile,{directory}/sound.wav
audio_player aufile,{directory}/player.wav
audio_alert aufile,{directory}/alert.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
audio_level no
audio_buffer 20-160
rtp_ports {first}-{last}
rtcp_mux no
jitter_buffer_delay 2-10
rtp_stats yes
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module sndfile.so
module srtp.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
snd_path {directory}/recordings
",
        listen = listen,
        directory = directory.display(),
        first = config.media_port,
        last = config.media_port + 199,
        control = config.control_port,
    );
    if let Some(certificates) = config.certificates {
        text.push_str(&format!(
            "sip_certificate {}\nsip_cafile {}\n",
            certificates.teams_both.display(),
            certificates.roots.display()
        ));
    }
    text
}

fn accounts(config: &BaresipConfig<'_>) -> String {
    let media = match config.media {
        MediaEncryption::None => "",
        MediaEncryption::Sdes => ";mediaenc=srtp-mand",
    };
    let answers = if config.answers { "auto" } else { "manual" };
    let account = |user: &&str| {
        format!(
            "<sip:{user}@{};transport={}>;regint=0;answermode={answers};audio_codecs=pcmu{media}\n",
            config.local,
            config.transport.name(),
        )
    };
    config.users.iter().map(account).collect()
}
