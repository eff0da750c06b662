//! rtpengine in userspace, its calls set up by its own control protocol.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use ::tests::lab;
use relay_user::{
    measure::{
        Addresses as _, CALLS, Call, Failure, Kind, PAYLOAD_TYPE, Process, RELAY_CPU, Topology,
        callee, caller, callers_key, key,
    },
    media::{Family, SrtpKey, SrtpSuite},
};

use crate::bencode::Value;

const CONTROL: &str = "127.0.0.1:2223";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";

/// A running rtpengine with its calls.
pub struct Rtpengine {
    calls: Vec<Call>,
    control: Control,
    process: lab::Process,
    receives_alone: bool,
}

impl Process for Rtpengine {
    fn calls(&self) -> &[Call] {
        &self.calls
    }

    fn id(&self) -> u32 {
        self.process.id()
    }

    fn receives_alone(&self) -> bool {
        self.receives_alone
    }

    fn count(&mut self) -> Result<usize, Failure> {
        let answer = self.control.ask(Value::Dictionary(vec![
            ("command".to_owned(), Value::text("list")),
            ("limit".to_owned(), Value::Text("10000".to_owned())),
        ]))?;
        answer
            .length("calls")
            .ok_or_else(|| format!("rtpengine lists no calls: {answer:?}").into())
    }
}

impl Rtpengine {
    /// Starts one on the relay's CPU and sets the calls up. That CPU does all for it when it
    /// `receives_alone`.
    ///
    /// # Errors
    /// When it does not start or refuses a call.
    pub fn start(
        topology: &Topology,
        kind: Kind,
        family: Family,
        receives_alone: bool,
    ) -> Result<Self, Failure> {
        let mut command = topology.relay.command("taskset");
        command
            .args(["-c", &RELAY_CPU.to_string(), "rtpengine"])
            .args(["--config-file=none", "--foreground", "--log-stderr"])
            .args(["--log-level=3", "--table=-1", "--num-threads=1"])
            .arg(format!("--listen-ng={CONTROL}"))
            .arg(format!("--interface=in/{}", family.ours_to_caller()))
            .arg(format!("--interface=out/{}", family.ours_to_callee()))
            .args(["--port-min=20000", "--port-max=60000"]);
        let directory = std::env::temp_dir();
        let process = lab::Process::start("rtpengine", command, &directory)?;
        // What it says is kept in memory, and nobody reads the file.
        fs::remove_file(directory.join("rtpengine.log"))?;
        let socket = topology.relay.enter(|| UdpSocket::bind("127.0.0.1:0"))??;
        socket.connect(CONTROL)?;
        socket.set_read_timeout(Some(Duration::from_millis(250)))?;
        let mut control = Control {
            socket,
            cookie: 0,
            family,
        };
        let calls = control
            .until_alive()
            .and_then(|()| {
                (0..CALLS)
                    .map(|number| control.call(kind, number))
                    .collect()
            })
            .map_err(|why| format!("rtpengine: {why}: {}", process.text()))?;
        Ok(Self {
            calls,
            control,
            process,
            receives_alone,
        })
    }
}

struct Control {
    socket: UdpSocket,
    cookie: u64,
    family: Family,
}

impl Control {
    fn ask(&mut self, command: Value) -> Result<Value, Failure> {
        self.cookie += 1;
        let cookie = format!("{}", self.cookie);
        let request = format!("{cookie} {}", command.encode());
        let mut buffer = vec![0; 65_536];
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            // A repeated request with the same cookie gets the same answer. While nobody listens
            // yet, sending and receiving fail at once, so it is asked again now and then.
            let received = self
                .socket
                .send(request.as_bytes())
                .and_then(|_| self.socket.recv(&mut buffer));
            let Ok(length) = received else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Some((_, value)) = text
                .split_once(' ')
                .filter(|(answered, _)| *answered == cookie)
            {
                let (value, _) = Value::decode(value).ok_or("an answer out of form")?;
                return Ok(value);
            }
        }
        Err("no answer".into())
    }

    fn until_alive(&mut self) -> Result<(), Failure> {
        let ping = Value::Dictionary(vec![("command".to_owned(), Value::text("ping"))]);
        match self.ask(ping)?.find("result") {
            Some("pong") => Ok(()),
            other => Err(format!("it answers {other:?}").into()),
        }
    }

    /// Sets one call up: the caller's offer and the callee's answer.
    fn call(&mut self, kind: Kind, number: u16) -> Result<Call, Failure> {
        let (offered, answered) = match kind {
            Kind::Rtp => ("RTP/AVP", "RTP/AVP"),
            Kind::Protect => ("RTP/AVP", "RTP/SAVP"),
            Kind::Unprotect => ("RTP/SAVP", "RTP/AVP"),
        };
        let callers = (kind == Kind::Unprotect).then(|| crypto(1, &callers_key()));
        let offer = self.exchange(
            "offer",
            number,
            answered,
            &sdp(caller(self.family, number), offered, callers),
        )?;
        let (from, lines) = media(&offer)?;
        let mut protect = None;
        let mut crypto_line = None;
        if kind == Kind::Protect {
            let line = lines
                .iter()
                .find_map(|line| line.strip_prefix("a=crypto:"))
                .filter(|line| line.contains(SUITE));
            let line = lines
                .iter()
                .filter_map(|line| line.strip_prefix("a=crypto:"))
                .find(|line| line.split(' ').nth(1) == Some(SUITE))
                .or(line)
                .ok_or("an offer without the suite")?;
            let mut parts = line.split(' ');
            let tag = parts.next().and_then(|tag| tag.parse().ok()).unwrap_or(1);
            let inline = parts.nth(1).and_then(|part| part.strip_prefix("inline:"));
            let inline = inline.and_then(|part| part.split('|').next());
            protect = Some(SrtpKey {
                suite: SrtpSuite::AesCm128HmacSha1_80,
                master: base64(inline.ok_or("an offer without a key")?)
                    .ok_or("a key out of form")?
                    .into(),
                mki: None,
            });
            crypto_line = Some(crypto(tag, &key(0x33)));
        }
        let answer = self.exchange(
            "answer",
            number,
            offered,
            &sdp(callee(self.family, number), answered, crypto_line),
        )?;
        let (local, _) = media(&answer)?;
        Ok(Call {
            local,
            from,
            protect,
        })
    }

    fn exchange(
        &mut self,
        command: &str,
        number: u16,
        transport: &str,
        sdp: &str,
    ) -> Result<String, Failure> {
        let mut entries = vec![
            ("command".to_owned(), Value::text(command)),
            ("call-id".to_owned(), Value::Text(format!("call-{number}"))),
            ("from-tag".to_owned(), Value::Text(format!("from-{number}"))),
            ("sdp".to_owned(), Value::text(sdp)),
            ("ICE".to_owned(), Value::text("remove")),
            ("DTLS".to_owned(), Value::text("off")),
            ("transport-protocol".to_owned(), Value::text(transport)),
            ("flags".to_owned(), Value::list(&["trust-address"])),
        ];
        if command == "offer" {
            entries.push(("direction".to_owned(), Value::list(&["in", "out"])));
        } else {
            entries.push(("to-tag".to_owned(), Value::Text(format!("to-{number}"))));
        }
        let answer = self.ask(Value::Dictionary(entries))?;
        match (answer.find("result"), answer.find("sdp")) {
            (Some("ok"), Some(sdp)) => Ok(sdp.to_owned()),
            _ => Err(format!("{command}: {answer:?}").into()),
        }
    }
}

fn sdp(at: SocketAddr, protocol: &str, crypto: Option<String>) -> String {
    let ip = at.ip();
    let port = at.port();
    let crypto = crypto.map_or_else(String::new, |line| format!("{line}\r\n"));
    let family = if at.is_ipv6() { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} {protocol} {PAYLOAD_TYPE}\r\na=rtpmap:{PAYLOAD_TYPE} PCMA/8000\r\na=ptime:20\r\n{crypto}a=sendrecv\r\n"
    )
}

fn crypto(tag: u32, key: &SrtpKey) -> String {
    format!("a=crypto:{tag} {SUITE} inline:{}", to_base64(&key.master))
}

/// Where an SDP wants its audio, and its lines.
fn media(sdp: &str) -> Result<(SocketAddr, Vec<&str>), Failure> {
    let lines: Vec<&str> = sdp.lines().map(str::trim).collect();
    let find = |prefix: &str| lines.iter().find_map(|line| line.strip_prefix(prefix));
    let ip = find("c=IN IP4 ").or_else(|| find("c=IN IP6 "));
    let ip = ip.and_then(|ip| ip.parse().ok());
    let port = find("m=audio ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|port| port.parse().ok());
    match (ip, port) {
        (Some(ip), Some(port)) => Ok((SocketAddr::new(ip, port), lines)),
        _ => Err(format!("an SDP without an address: {sdp}").into()),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648, section 4) of octets that fill whole groups, as SDES keys of this suite do.
fn to_base64(octets: &[u8]) -> String {
    let mut text = String::new();
    for group in octets.chunks_exact(3) {
        let word = group
            .iter()
            .fold(0u32, |word, octet| word << 8 | u32::from(*octet));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(ALPHABET[(word >> shift & 63) as usize]));
        }
    }
    text
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    for group in text.as_bytes().chunks_exact(4) {
        let mut word = 0u32;
        for character in group {
            let value = ALPHABET.iter().position(|known| known == character)?;
            word = word << 6 | value as u32;
        }
        octets.extend_from_slice(&word.to_be_bytes()[1..]);
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_base64() {
        let key = key(9);
        assert_eq!(key.master.len(), 30);
        assert_eq!(base64(&to_base64(&key.master)), Some(key.master.to_vec()));
        assert_eq!(to_base64(b"Man"), "TWFu");
    }
}
