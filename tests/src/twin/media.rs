//! A party's audio: a melody sent in RTP or SRTP, and what came back, packet by packet.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rand::Rng;

use super::{
    agent::SOON,
    secret::{Inbound, Key, Outbound},
};
use crate::{
    lab::{Door, LabError, Result, wait_until},
    sound::{Melody, SAMPLE_RATE},
};

/// Samples, and so octets, of one packet of 20 ms.
const FRAME: usize = 160;
/// How long one packet sounds.
const FRAME_TIME: Duration = Duration::from_millis(20);
/// Seconds of melody before it begins anew.
const SECONDS: usize = 8;
/// Packets that are remembered at most.
const REMEMBERED: usize = 20_000;

/// The packets of one party's melody. Each begins with the party's number and its own, so that
/// nothing else is taken for it; nobody listens to it.
#[derive(Debug)]
pub struct Frames {
    octets: Vec<Vec<u8>>,
    /// Each with its place.
    known: HashMap<Vec<u8>, usize>,
}

impl Frames {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(70_000);
        let party = NEXT.fetch_add(1, Ordering::Relaxed);
        let melody = Melody::new(party, SECONDS).ulaw();
        let mut octets: Vec<Vec<u8>> = melody.chunks_exact(FRAME).map(<[u8]>::to_vec).collect();
        for (place, frame) in (0u32..).zip(&mut octets) {
            frame[..8].copy_from_slice(&party.to_be_bytes());
            frame[8..12].copy_from_slice(&place.to_be_bytes());
        }
        let known = octets.iter().cloned().zip(0..).collect();
        Self { octets, known }
    }
}

/// What is missing between two packets of a melody, each of which came at a time and has a place
/// there; none if the second place follows at once, or lies before.
#[must_use]
pub fn apart(last: (Instant, usize), first: (Instant, usize)) -> Duration {
    let silence = first.0.saturating_duration_since(last.0);
    let all = SECONDS * SAMPLE_RATE / FRAME;
    let missing = (first.1 + all - last.1 - 1) % all;
    let half = all / 2;
    if silence >= FRAME_TIME * u32::try_from(half).unwrap_or(u32::MAX) {
        return silence;
    }
    // More than half of it: they overlap.
    let missing = if missing > half { 0 } else { missing };
    FRAME_TIME * u32::try_from(missing).unwrap_or(u32::MAX)
}

/// A packet that has arrived, decrypted.
#[derive(Clone, Debug)]
pub struct Packet {
    pub at: Instant,
    pub format: u8,
    pub payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    target: Option<SocketAddr>,
    outbound: Option<Outbound>,
    inbound: Option<Inbound>,
    secure: bool,
    sending: bool,
    format: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    position: usize,
    received: Vec<Packet>,
    /// RTCP packets that have arrived and were authentic.
    reports: usize,
    /// Packets that were not authentic.
    refused: usize,
    /// What came and is neither RTP nor RTCP: STUN.
    others: Vec<Vec<u8>>,
}

/// One party's end of a call's audio; dropping it ends it.
#[derive(Debug)]
pub struct Media {
    pub address: SocketAddr,
    pub frames: Frames,
    socket: UdpSocket,
    state: Mutex<State>,
    stop: AtomicBool,
}

impl Media {
    /// Opens a port at an address. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no port.
    pub fn open(door: &Door, address: IpAddr, secure: bool) -> Result<Arc<Self>> {
        Self::open_at(door, SocketAddr::new(address, 0), secure)
    }

    /// As [`Media::open`], at a port; 0: any.
    ///
    /// # Errors
    /// As there.
    pub fn open_at(door: &Door, place: SocketAddr, secure: bool) -> Result<Arc<Self>> {
        let address = place.ip();
        let bind = || {
            if place.port() != 0 {
                return UdpSocket::bind(place);
            }
            let mut last = None;
            for _ in 0..50 {
                let port = rand::rng().random_range(20_000..30_000u16) * 2;
                match UdpSocket::bind((address, port.max(40_000))) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
        };
        let socket = door.enter(bind)?.map_err(LabError::new)?;
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .map_err(LabError::new)?;
        let media = Arc::new(Self {
            address: socket.local_addr().map_err(LabError::new)?,
            frames: Frames::new(),
            socket,
            state: Mutex::new(State {
                secure,
                sequence: rand::rng().random_range(0..30_000),
                ssrc: rand::rng().random(),
                timestamp: rand::rng().random(),
                ..State::default()
            }),
            stop: AtomicBool::new(false),
        });
        let (sender, receiver) = (Arc::downgrade(&media), Arc::downgrade(&media));
        thread::spawn(move || {
            let mut next = Instant::now();
            while let Some(media) = sender.upgrade() {
                if media.stop.load(Ordering::Relaxed) {
                    return;
                }
                media.send_next();
                drop(media);
                next += FRAME_TIME;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        thread::spawn(move || {
            let mut octets = [0; 2048];
            while let Some(media) = receiver.upgrade() {
                if media.stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok((length, _)) = media.socket.recv_from(&mut octets) {
                    media.take(&octets[..length]);
                }
            }
        });
        Ok(media)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends with this key from now on. The same key goes on as it was, another begins at ROC 0.
    pub fn protect_with(&self, key: &Key) {
        let mut state = self.state();
        if state.outbound.as_ref().is_none_or(|known| !known.is(key)) {
            state.outbound = Outbound::new(key);
        }
    }

    /// Expects this key from now on, as [`Media::protect_with`].
    pub fn expect_key(&self, key: &Key) {
        let mut state = self.state();
        if state.inbound.as_ref().is_none_or(|known| !known.is(key)) {
            state.inbound = Inbound::new(key);
        }
    }

    /// Sends to an address by a payload type, or to nobody.
    pub fn send_to(&self, target: Option<SocketAddr>, format: u8) {
        let mut state = self.state();
        state.target = target;
        state.format = format;
        state.sending = target.is_some_and(|target| target.port() != 0);
    }

    /// The payload type that is sent.
    #[must_use]
    pub fn format(&self) -> u8 {
        self.state().format
    }

    /// The sequence number of the next packet.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        self.state().sequence
    }

    /// Goes on with a sequence number, such as one that soon wraps.
    pub fn set_sequence(&self, sequence: u16) {
        self.state().sequence = sequence;
    }

    /// How often the sequence number of what is sent has wrapped with this key (ROC).
    #[must_use]
    pub fn cycles(&self) -> u32 {
        self.state().outbound.as_ref().map_or(0, Outbound::cycles)
    }

    /// The same of what comes.
    #[must_use]
    pub fn cycles_received(&self) -> u32 {
        self.state().inbound.as_ref().map_or(0, Inbound::cycles)
    }

    fn send_next(&self) {
        let mut state = self.state();
        if !state.sending {
            return;
        }
        let payload = self.frames.octets[state.position % self.frames.octets.len()].clone();
        state.position += 1;
        let format = state.format;
        state.timestamp = state.timestamp.wrapping_add(FRAME as u32);
        self.send(&mut state, format, &payload);
    }

    /// Sends one packet besides the melody, at its present timestamp.
    pub fn send_extra(&self, format: u8, payload: &[u8]) {
        self.send(&mut self.state(), format, payload);
    }

    fn send(&self, state: &mut State, format: u8, payload: &[u8]) {
        let Some(target) = state.target else {
            return;
        };
        let mut packet = vec![0x80, format];
        packet.extend(state.sequence.to_be_bytes());
        packet.extend(state.timestamp.to_be_bytes());
        packet.extend(state.ssrc.to_be_bytes());
        packet.extend(payload);
        state.sequence = state.sequence.wrapping_add(1);
        if state.secure {
            let Some(protected) = state
                .outbound
                .as_mut()
                .and_then(|outbound| outbound.protect(packet))
            else {
                return;
            };
            packet = protected;
        }
        let _ = self.socket.send_to(&packet, target);
    }

    /// Sends an RTCP receiver report (RFC 3550, section 6.4.2) without blocks.
    pub fn send_report(&self) {
        let mut state = self.state();
        let Some(target) = state.target else {
            return;
        };
        let mut packet = vec![0x80, 201, 0, 1];
        packet.extend(state.ssrc.to_be_bytes());
        if state.secure {
            let Some(protected) = state
                .outbound
                .as_mut()
                .and_then(|outbound| outbound.protect_report(packet))
            else {
                return;
            };
            packet = protected;
        }
        let _ = self.socket.send_to(&packet, target);
    }

    fn take(&self, octets: &[u8]) {
        let mut state = self.state();
        if octets.len() < 8 || octets[0] >> 6 != 2 {
            if state.others.len() < REMEMBERED {
                state.others.push(octets.to_vec());
            }
            return;
        }
        let is_report = (192..=223).contains(&octets[1]);
        let plain = if state.secure {
            let Some(inbound) = state.inbound.as_mut() else {
                return;
            };
            let plain = if is_report {
                inbound.unprotect_report(octets)
            } else {
                inbound.unprotect(octets)
            };
            let Some(plain) = plain else {
                state.refused += 1;
                return;
            };
            plain
        } else {
            octets.to_vec()
        };
        if is_report {
            state.reports += 1;
            return;
        }
        if plain.len() < 12 {
            return;
        }
        if state.received.len() >= REMEMBERED {
            state.received.drain(..REMEMBERED / 2);
        }
        state.received.push(Packet {
            at: Instant::now(),
            format: plain[1] & 0x7f,
            payload: plain[12..].to_vec(),
        });
    }

    /// How many packets of the melody have been sent.
    #[must_use]
    pub fn position(&self) -> usize {
        self.state().position
    }

    /// How many packets of another party's sound have come since then whose places are among those
    /// from `first` to before `end`, as [`Media::position`] counts them.
    #[must_use]
    pub fn heard_between(&self, other: &Self, since: Instant, first: usize, end: usize) -> usize {
        let all = other.frames.octets.len();
        let state = self.state();
        let heard = state.received.iter().filter(|packet| {
            let place = other.frames.known.get(&packet.payload);
            packet.at >= since
                && place.is_some_and(|place| (place + all - first % all) % all < end - first)
        });
        heard.count()
    }

    /// How many packets of another party's sound have come since then.
    #[must_use]
    pub fn heard(&self, other: &Self, since: Instant) -> usize {
        let state = self.state();
        let heard = state.received.iter().filter(|packet| {
            packet.at >= since && other.frames.known.contains_key(&packet.payload)
        });
        heard.count()
    }

    /// Every packet since then.
    #[must_use]
    pub fn received(&self, since: Instant) -> Vec<Packet> {
        let state = self.state();
        let received = state.received.iter().filter(|packet| packet.at >= since);
        received.cloned().collect()
    }

    /// Packets that were not authentic.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.state().refused
    }

    /// What came and is neither RTP nor RTCP.
    #[must_use]
    pub fn others(&self) -> Vec<Vec<u8>> {
        self.state().others.clone()
    }

    /// Sends octets as they are.
    pub fn send_raw(&self, octets: &[u8], target: SocketAddr) {
        let _ = self.socket.send_to(octets, target);
    }

    /// The first and the last packet since then of another party's sound: when each came, and where
    /// in that sound it stands.
    #[must_use]
    pub fn span(&self, other: &Self, since: Instant) -> Option<[(Instant, usize); 2]> {
        let state = self.state();
        let mut places = state
            .received
            .iter()
            .filter(|packet| packet.at >= since)
            .filter_map(|packet| {
                let place = *other.frames.known.get(&packet.payload)?;
                Some((packet.at, place))
            });
        let first = places.next()?;
        Some([first, places.last().unwrap_or(first)])
    }

    /// RTCP packets that were authentic.
    #[must_use]
    pub fn reports(&self) -> usize {
        self.state().reports
    }

    /// Waits until half a second of another party's sound has come, from now on.
    ///
    /// # Errors
    /// When it does not come.
    pub fn hears(&self, other: &Self, who: &str) -> Result<()> {
        self.hears_within(SOON, other, who)
    }

    /// As [`Media::hears`], in so much time.
    ///
    /// # Errors
    /// As there.
    pub fn hears_within(&self, time: Duration, other: &Self, who: &str) -> Result<()> {
        let since = Instant::now();
        if wait_until(time, || self.heard(other, since) >= 20) {
            return Ok(());
        }
        Err(LabError::new(format!(
            "{who}: {} packets in {time:?}, {} of them of the other party's sound; {} were not authentic",
            self.received(since).len(),
            self.heard(other, since),
            self.refused()
        )))
    }

    /// Ends it.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Both parties hear each other.
///
/// # Errors
/// When one of them does not.
pub fn both_hear(left: (&str, &Media), right: (&str, &Media)) -> Result<()> {
    left.1
        .hears(right.1, &format!("{} does not hear {}", left.0, right.0))?;
    right
        .1
        .hears(left.1, &format!("{} does not hear {}", right.0, left.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_by_places_and_a_long_one_by_the_clock() {
        let begin = Instant::now();
        let at = |seconds: u64, place| (begin + Duration::from_secs(seconds), place);
        // As the melody begins anew.
        assert_eq!(apart(at(0, 399), at(0, 0)), Duration::ZERO);
        assert_eq!(apart(at(0, 398), at(0, 3)), Duration::from_millis(80));
        // Both were heard for a while.
        assert_eq!(apart(at(1, 60), at(0, 20)), Duration::ZERO);
        for seconds in [1, 3, 5, 8, 9] {
            let place = seconds as usize * 50 % 400;
            let gap = apart(at(0, 0), at(seconds, place));
            assert!(gap >= Duration::from_millis(980), "{seconds} s: {gap:?}");
        }
    }
}
