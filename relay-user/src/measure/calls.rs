//! The calls that a relay in userspace is measured with, and the talkers of their one direction.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use etherparse::{PacketBuilder, UdpHeader};

use super::{
    Addresses as _, Arrived, BURST, Failure, GENERATOR_MAC, INGRESS_MAC, Sender, expect, now,
};
use crate::{
    media::{Family, SrtpKey, SrtpSuite},
    srtp::{Inbound, Outbound, TRAILER},
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

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtp => "rtp",
            Self::Protect => "protect",
            Self::Unprotect => "unprotect",
        }
    }
}

/// Whether packets carry the time of sending, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    None,
    /// In the first octets of the payload.
    Payload,
    /// In a header extension (RFC 8285), which SRTP leaves in the clear.
    Extension,
}

impl Stamp {
    /// The one that can be read at the sink of such calls.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Rtp | Kind::Unprotect => Self::Payload,
            Kind::Protect => Self::Extension,
        }
    }

    /// Octets from the end of the fixed RTP header to the time.
    pub(super) const fn offset(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::Payload => Some(0),
            Self::Extension => Some(5),
        }
    }

    /// The extension, whole: one element of eight octets, with its padding.
    const fn extension(self) -> &'static [u8] {
        match self {
            Self::None | Self::Payload => &[],
            Self::Extension => &[0xbe, 0xde, 0, 3, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// What was agreed with the relay about one call's direction from caller to callee.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where the caller sends to.
    pub local: SocketAddr,
    /// Where the callee hears from.
    pub from: SocketAddr,
    /// The relay's key, if it protects.
    pub protect: Option<SrtpKey>,
}

/// The caller's address for call `number`.
#[must_use]
pub fn caller(family: Family, number: u16) -> SocketAddr {
    SocketAddr::new(family.caller(), CALLER_PORT + 2 * number)
}

/// The callee's address for call `number`.
#[must_use]
pub fn callee(family: Family, number: u16) -> SocketAddr {
    SocketAddr::new(family.callee(), CALLEE_PORT + 2 * number)
}

/// The call whose callee is at `address`.
pub(super) fn called(address: SocketAddr) -> u16 {
    address.port().wrapping_sub(CALLEE_PORT) / 2
}

/// A key for tests of speed: it protects nothing.
#[must_use]
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
#[must_use]
pub fn callers_key() -> SrtpKey {
    key(0x5a)
}

struct Talker {
    /// A whole frame, of which RTP header and checksum are written for each packet.
    frame: Vec<u8>,
    /// The octets in front of RTP.
    headers: usize,
    sequence: u16,
    protect: Option<Outbound>,
    to: SocketAddr,
    from: SocketAddr,
}

impl Talker {
    fn talk(&mut self, frame: &mut Vec<u8>, length: usize, stamp: Stamp) -> Result<(), Failure> {
        frame.clear();
        frame.extend_from_slice(&self.frame);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let headers = self.headers;
        let short = "a frame without headers";
        let rtp = frame.get_mut(headers..).ok_or(short)?;
        let numbers = rtp.get_mut(2..8).ok_or(short)?;
        let timestamp = u32::from(sequence) * 160;
        numbers[..2].copy_from_slice(&sequence.to_be_bytes());
        numbers[2..].copy_from_slice(&timestamp.to_be_bytes());
        if let Some(offset) = stamp.offset() {
            let at = 12 + usize::from(offset);
            let time = rtp.get_mut(at..at + 8).ok_or(short)?;
            time.copy_from_slice(&now().to_ne_bytes());
        }
        if let Some(protect) = &mut self.protect {
            let end = frame.len();
            frame.resize(headers + length + TRAILER, 0);
            let rtp = frame.get_mut(headers..).ok_or(short)?;
            protect.protect(rtp, length)?;
            frame.truncate(end);
        }
        let rtp = frame.get(headers..).ok_or(short)?;
        let udp = UdpHeader {
            source_port: self.from.port(),
            destination_port: self.to.port(),
            length: (rtp.len() + 8) as u16,
            checksum: 0,
        };
        let checksum = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), rtp)?
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), rtp)?
            }
            _ => return Err("a call between two families".into()),
        };
        let field = frame.get_mut(headers - 2..headers).ok_or(short)?;
        field.copy_from_slice(&checksum.to_be_bytes());
        Ok(())
    }
}

/// Everybody who talks, and how what they said is judged on the other side.
pub struct Talkers {
    talkers: Vec<Talker>,
    next: usize,
    frames: Vec<Vec<u8>>,
    listeners: Vec<Listener>,
    payload: usize,
    stamp: Stamp,
}

/// A callee's ear.
pub(super) struct Listener {
    family: Family,
    call: Call,
    unprotect: Option<Inbound>,
    ssrc: Option<u32>,
}

impl Listener {
    pub(super) fn new(family: Family, call: &Call) -> Result<Self, Failure> {
        Ok(Self {
            family,
            call: call.clone(),
            unprotect: call.protect.as_ref().map(Inbound::new).transpose()?,
            ssrc: None,
        })
    }

    /// Judges one packet of call `number`.
    pub(super) fn judge(
        &mut self,
        number: u16,
        arrived: &Arrived<'_>,
        payload: usize,
        stamp: Stamp,
    ) -> Result<(), Failure> {
        expect("destination", arrived.to, callee(self.family, number))?;
        expect("source", arrived.from, self.call.from)?;
        expect("payload type", arrived.payload_type, PAYLOAD_TYPE)?;
        let ssrc = *self.ssrc.get_or_insert(arrived.ssrc);
        expect("SSRC", arrived.ssrc, ssrc)?;
        let mut packet = arrived.packet.to_vec();
        if let Some(unprotect) = &mut self.unprotect {
            let length = unprotect.unprotect(&mut packet)?;
            packet.truncate(length);
        }
        let headers = 12 + stamp.extension().len();
        expect("length", packet.len(), headers + payload)?;
        let wanted = pattern(payload);
        // The first eight octets may hold a time.
        if packet.get(headers + 8..) != wanted.get(8..) {
            return Err("its payload is not what was sent".into());
        }
        Ok(())
    }
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    pub packets: u64,
    pub took: Duration,
}

impl Offered {
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.took.as_secs_f64()
    }
}

/// An RTP packet without numbers.
pub(super) fn rtp(ssrc: u32, payload: usize, stamp: Stamp) -> Vec<u8> {
    let extension = stamp.extension();
    let first = if extension.is_empty() { 0x80 } else { 0x90 };
    let mut rtp = vec![first, PAYLOAD_TYPE, 0, 0, 0, 0, 0, 0];
    rtp.extend_from_slice(&ssrc.to_be_bytes());
    rtp.extend_from_slice(extension);
    rtp.extend_from_slice(&pattern(payload));
    rtp
}

fn pattern(payload: usize) -> Vec<u8> {
    (0..payload).map(|index| (index * 37 % 251) as u8).collect()
}

impl Talkers {
    /// Those of `calls`, each packet with `payload` octets.
    ///
    /// # Errors
    /// When libsrtp refuses a key.
    pub fn new(
        family: Family,
        kind: Kind,
        calls: &[Call],
        payload: usize,
        stamp: Stamp,
    ) -> Result<Self, Failure> {
        let mut talkers = Vec::new();
        let mut listeners = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            let number = number as u16;
            let protect = match kind {
                Kind::Unprotect => Some(Outbound::new(&callers_key())?),
                Kind::Rtp | Kind::Protect => None,
            };
            let tag = if protect.is_some() { 10 } else { 0 };
            let mut rtp = rtp(SSRC + u32::from(number), payload, stamp);
            rtp.resize(rtp.len() + tag, 0);
            let from = caller(family, number);
            let builder = PacketBuilder::ethernet2(GENERATOR_MAC, INGRESS_MAC);
            let builder = match (from.ip(), call.local.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
                (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
                _ => return Err("a call between two families".into()),
            };
            let builder = builder.udp(from.port(), call.local.port());
            let mut frame = Vec::new();
            builder.write(&mut frame, &rtp)?;
            talkers.push(Talker {
                headers: frame.len() - rtp.len(),
                frame,
                sequence: 0,
                protect,
                to: call.local,
                from,
            });
            listeners.push(Listener::new(family, call)?);
        }
        Ok(Self {
            talkers,
            next: 0,
            frames: vec![Vec::new(); BURST],
            listeners,
            payload,
            stamp,
        })
    }

    /// Writes the next packets, one of each talker in turn, into the first `count` frames.
    fn talk(&mut self, count: usize) -> Result<(), Failure> {
        let stamp = self.stamp;
        let length = 12 + stamp.extension().len() + self.payload;
        for frame in self.frames.iter_mut().take(count) {
            let next = self.next;
            self.next = (next + 1) % self.talkers.len().max(1);
            let talker = self.talkers.get_mut(next).ok_or("nobody talks")?;
            talker.talk(frame, length, stamp)?;
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
                let frames = self.frames.iter().take(count);
                let frames: Vec<&[u8]> = frames.map(Vec::as_slice).collect();
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
        let number = called(arrived.to);
        let listener = self
            .listeners
            .get_mut(usize::from(number))
            .ok_or_else(|| format!("nobody listens at {}", arrived.to))?;
        listener.judge(number, arrived, self.payload, self.stamp)
    }
}
