//! ffmpeg: SRTP with a key that it is given, without signalling.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    lab::{Lab, LabError, Party, Process, Result},
    sound::{Melody, read_wav, write_wav},
};

/// The suite that it protects and unprotects with.
const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";

/// A running ffmpeg.
#[derive(Debug)]
pub struct Ffmpeg {
    process: Process,
    heard: PathBuf,
}

impl Ffmpeg {
    /// Starts one that hears `length` of PCMU which comes to `local`, protected with `key` (master
    /// key and salt in base64, as in SDP).
    ///
    /// # Errors
    /// When its files cannot be written or it cannot be started.
    pub fn hears(
        lab: &Lab,
        party: Party,
        local: SocketAddr,
        key: &str,
        length: Duration,
    ) -> Result<Self> {
        let directory = directory(lab)?;
        let description = directory.join("heard.sdp");
        let (ip, port) = (local.ip(), local.port());
        let text = format!(
            "v=0\no=- 1 1 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\n\
             m=audio {port} RTP/SAVP 0\na=rtpmap:0 PCMU/8000\n\
             a=crypto:1 {SUITE} inline:{key}\n"
        );
        fs::write(&description, text).map_err(|error| told(&description, &error))?;
        Self::start(lab, party, "ffmpeg-hears", |command, heard| {
            command
                .args(["-protocol_whitelist", "file,udp,rtp,srtp", "-i"])
                .arg(&description)
                .args(["-t", &length.as_secs().to_string(), "-c:a", "pcm_s16le"])
                .arg(heard);
        })
    }

    /// Starts one that plays `melody` as PCMU from a local port to `remote`, protected with `key`.
    ///
    /// # Errors
    /// When its files cannot be written or it cannot be started.
    pub fn plays(
        lab: &Lab,
        party: Party,
        local: SocketAddr,
        remote: SocketAddr,
        key: &str,
        melody: &Melody,
    ) -> Result<Self> {
        let sound = directory(lab)?.join("played.wav");
        write_wav(&sound, melody.samples()).map_err(|error| told(&sound, &error))?;
        Self::start(lab, party, "ffmpeg-plays", |command, _| {
            command
                .args(["-re", "-i"])
                .arg(&sound)
                // 20 ms in each packet.
                .args(["-af", "asetnsamples=n=160:p=0", "-c:a", "pcm_mulaw"])
                .args(["-f", "rtp", "-srtp_out_suite", SUITE])
                .args(["-srtp_out_params", key])
                .arg(format!("srtp://{remote}?localrtpport={}", local.port()));
        })
    }

    fn start(
        lab: &Lab,
        party: Party,
        name: &str,
        arguments: impl FnOnce(&mut std::process::Command, &Path),
    ) -> Result<Self> {
        let heard = directory(lab)?.join("heard.wav");
        let mut command = lab.peer(party).command("ffmpeg");
        command.args(["-hide_banner", "-nostdin", "-y"]);
        arguments(&mut command, &heard);
        Ok(Self {
            process: Process::start(name, command, lab.directory())?,
            heard,
        })
    }

    /// Waits until it has heard or played all, and gives what it heard.
    ///
    /// # Errors
    /// When it has not within `limit`, or failed; the text holds what it said.
    pub fn finish(&mut self, limit: Duration) -> Result<Vec<i16>> {
        let status = self.process.wait(limit)?;
        if !status.success() {
            let text = self.process.text();
            return Err(LabError::new(format!("ffmpeg: {status}: {text}")));
        }
        if !self.heard.exists() {
            return Ok(Vec::new());
        }
        read_wav(&self.heard).map_err(|error| told(&self.heard, &error))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

fn directory(lab: &Lab) -> Result<PathBuf> {
    let directory = lab.directory().join("ffmpeg");
    fs::create_dir_all(&directory).map_err(|error| told(&directory, &error))?;
    Ok(directory)
}

fn told(path: &Path, error: &std::io::Error) -> LabError {
    LabError::new(format!("{}: {error}", path.display()))
}
