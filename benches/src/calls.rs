//! The calls that a relay in userspace is measured with, and the talkers of their one direction.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use etherparse::{PacketBuilder, UdpHeader};
use relay_user::{
    measure::{self, BURST, Sender},
    media::{SrtpKey, SrtpSuite},
    srtp::{Inbound, Outbound, TRAILER},
};

use crate::{
    judge::{Arrived, expect},
    topology::{Failure, Family, GENERATOR_MAC, INGRESS_MAC},
};

/// How many calls the load is of: ten seconds of one at 50 packets a second are one second of 500.
pub const CALLS: u16 = 500;
/// The caller's first port; each call has the pair two above.
const CALLER_PORT: u16 = 30_000;
const CALLEE_PORT: u16 = 40_000;
/// The SSRC of call 0's caller.
pub const SSRC: u32 = 0x2000_0000;
pub const PAYLOAD_TYPE: u8 = 8;

/// What the relay has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RTP to RTP.
    Rtp,
    /// RTP to SRTP.
    Protect,
    /// SRTP to RTP.
    Unprotect,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Rtp, Self::Protect, Self::Unprotect];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtp => "rtp",
            Self::Protect => "protect",
            Self::Unprotect => "unprotect",
        }
    }
}

/// What was agreed with the relay about one call's direction from caller to callee.
#[derive(Clone)]
pub struct Call {
    /// Where the caller sends to.
    pub local: SocketAddr,
    /// Where the callee hears from.
    pub from: SocketAddr,
    /// The relay's key, if it protects.
    pub protect: Option<SrtpKey>,
}

/// The caller's address for call `number`.
pub fn caller(number: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.caller(), CALLER_PORT + 2 * number)
}

/// The callee's address for call `number`.
pub fn callee(number: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.callee(), CALLEE_PORT + 2 * number)
}

/// A key for tests of speed: it protects nothing.
pub fn key(seed: u8) -> SrtpKey {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let master: Vec<u8> = (0..suite.master_length())
        .map(|octet| octet as u8 ^ seed)
        .collect();
    SrtpKey {
        suite,
        master: master.into(),
        mki: None,
    }
}

/// What the caller protects with, in calls of [`Kind::Unprotect`].
pub fn callers_key() -> SrtpKey {
    key(0x5a)
}

struct Talker {
    /// A whole frame, of which RTP header and checksum are written for each packet.
    frame: Vec<u8>,
    sequence: u16,
    protect: Option<Outbound>,
    to: SocketAddr,
    from: SocketAddr,
}

/// Everybody who talks, and how what they said is judged on the other side.
pub struct Talkers {
    talkers: Vec<Talker>,
    next: usize,
    frames: Vec<Vec<u8>>,
    listeners: Vec<Listener>,
    payload: usize,
    timed: bool,
}

struct Listener {
    call: Call,
    unprotect: Option<Inbound>,
    ssrc: Option<u32>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    pub packets: u64,
    pub took: Duration,
}

impl Offered {
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.took.as_secs_f64()
    }
}

/// Octets in front of the RTP header: Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;

fn pattern(payload: usize) -> Vec<u8> {
    (0..payload).map(|index| (index * 37 % 251) as u8).collect()
}

impl Talkers {
    /// Those of `calls`, each packet with `payload` octets. `timed` ones carry the time of sending.
    ///
    /// # Errors
    /// When libsrtp refuses a key.
    pub fn new(kind: Kind, calls: &[Call], payload: usize, timed: bool) -> Result<Self, Failure> {
        let mut talkers = Vec::new();
        let mut listeners = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            let number = number as u16;
            let protect = match kind {
                Kind::Unprotect => Some(Outbound::new(&callers_key())?),
                Kind::Rtp | Kind::Protect => None,
            };
            let tag = if protect.is_some() { 10 } else { 0 };
            let mut rtp = vec![0x80, PAYLOAD_TYPE];
            rtp.extend_from_slice(&[0; 6]);
            rtp.extend_from_slice(&(SSRC + u32::from(number)).to_be_bytes());
            rtp.extend_from_slice(&pattern(payload));
            rtp.resize(rtp.len() + tag, 0);
            let (from, to) = (caller(number), call.local);
            let (SocketAddr::V4(from4), SocketAddr::V4(to4)) = (from, to) else {
                return Err("the slow path is measured over IPv4".into());
            };
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(GENERATOR_MAC, INGRESS_MAC)
                .ipv4(from4.ip().octets(), to4.ip().octets(), 64)
                .udp(from.port(), to.port())
                .write(&mut frame, &rtp)?;
            talkers.push(Talker {
                frame,
                sequence: 0,
                protect,
                to,
                from,
            });
            listeners.push(Listener {
                call: call.clone(),
                unprotect: call.protect.as_ref().map(Inbound::new).transpose()?,
                ssrc: None,
            });
        }
        Ok(Self {
            talkers,
            next: 0,
            frames: vec![Vec::new(); BURST],
            listeners,
            payload,
            timed,
        })
    }

    /// Writes the next packets, one of each talker in turn, into the first `count` frames.
    fn talk(&mut self, count: usize) -> Result<(), Failure> {
        let length = 12 + self.payload;
        for frame in self.frames.iter_mut().take(count) {
            let next = self.next;
            self.next = (next + 1) % self.talkers.len().max(1);
            let talker = self.talkers.get_mut(next).ok_or("nobody talks")?;
            frame.clear();
            frame.extend_from_slice(&talker.frame);
            let sequence = talker.sequence;
            talker.sequence = sequence.wrapping_add(1);
            let rtp = frame.get_mut(HEADERS..).ok_or("a frame without headers")?;
            rtp[2..4].copy_from_slice(&sequence.to_be_bytes());
            rtp[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
            if self.timed {
                rtp[12..20].copy_from_slice(&measure::now().to_ne_bytes());
            }
            if let Some(protect) = &mut talker.protect {
                let end = frame.len();
                frame.resize(HEADERS + length + TRAILER, 0);
                let rtp = frame.get_mut(HEADERS..).ok_or("a frame without headers")?;
                protect.protect(rtp, length)?;
                frame.truncate(end);
            }
            let (SocketAddr::V4(from), SocketAddr::V4(to)) = (talker.from, talker.to) else {
                return Err("the slow path is measured over IPv4".into());
            };
            let rtp = frame.get(HEADERS..).ok_or("a frame without headers")?;
            let udp = UdpHeader {
                source_port: from.port(),
                destination_port: to.port(),
                length: (rtp.len() + 8) as u16,
                checksum: 0,
            };
            let checksum = udp.calc_checksum_ipv4_raw(from.ip().octets(), to.ip().octets(), rtp)?;
            frame[HEADERS - 2..HEADERS].copy_from_slice(&checksum.to_be_bytes());
        }
        Ok(())
    }

    /// Sends `rate` packets each second for `duration`. What is due goes out every 100 µs, which
    /// is how a NIC with moderated interrupts hands packets on.
    ///
    /// # Errors
    /// When the interface refuses them.
    pub fn offer(
        &mut self,
        sender: &Sender,
        rate: f64,
        duration: Duration,
    ) -> Result<Offered, Failure> {
        const TICK: Duration = Duration::from_micros(100);
        let begin = Instant::now();
        let mut packets = 0u64;
        let mut tick = TICK;
        while tick <= duration {
            while begin.elapsed() < tick {
                std::hint::spin_loop();
            }
            let due = (tick.as_secs_f64() * rate) as u64;
            while packets < due {
                let count = (due - packets).min(BURST as u64) as usize;
                self.talk(count)?;
                let frames: Vec<&[u8]> = self.frames[..count].iter().map(Vec::as_slice).collect();
                let mut sent = 0;
                while let Some(rest) = frames.get(sent..).filter(|rest| !rest.is_empty()) {
                    sent += sender.send(rest)?;
                }
                packets += count as u64;
            }
            tick += TICK;
        }
        Ok(Offered {
            packets,
            took: begin.elapsed(),
        })
    }

    /// Judges one packet that arrived.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&mut self, arrived: &Arrived<'_>) -> Result<(), Failure> {
        let number = arrived.to.port().wrapping_sub(CALLEE_PORT) / 2;
        let listener = self
            .listeners
            .get_mut(usize::from(number))
            .ok_or_else(|| format!("nobody listens at {}", arrived.to))?;
        expect("destination", arrived.to, callee(number))?;
        expect("source", arrived.from, listener.call.from)?;
        expect("payload type", arrived.payload_type, PAYLOAD_TYPE)?;
        let ssrc = *listener.ssrc.get_or_insert(arrived.ssrc);
        expect("SSRC", arrived.ssrc, ssrc)?;
        let mut packet = arrived.packet.to_vec();
        if let Some(unprotect) = &mut listener.unprotect {
            let length = unprotect.unprotect(&mut packet)?;
            packet.truncate(length);
        }
        expect("length", packet.len(), 12 + self.payload)?;
        let wanted = pattern(self.payload);
        // The first eight octets may hold a time.
        if packet.get(20..) != wanted.get(8..) {
            return Err("its payload is not what was sent".into());
        }
        Ok(())
    }
}
