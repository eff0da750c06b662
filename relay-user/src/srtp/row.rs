//! Keys whose packets' indices are taken in a table that the kernel takes them in too, so that a
//! stream changes its path without anything to carry over: one window, one ROC.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use relay_abi::srtp::{
    buffer,
    index::{IndexError, IndexState},
    packet::CryptError,
    stream::{GENERATIONS, ROWS, RowReference, StreamState},
};

use super::{
    SOURCES, SrtpError, StreamKey,
    turns::{TURNS, Tries},
};
use crate::{media::SrtpKey, offload::StreamStates};

/// How long a row stays unused after its stream: a packet that another CPU is working on with its
/// key takes microseconds, unless that CPU is taken away from a virtual machine.
const REST: Duration = Duration::from_secs(2);

/// Which rows are free. Clones share it.
#[derive(Clone)]
pub struct Rows {
    states: Arc<StreamStates>,
    free: Arc<Mutex<Free>>,
}

#[derive(Debug)]
struct Free {
    /// Those that were never taken begin here.
    next: u32,
    limit: u32,
    /// Those that were given back, with when; the first for longest.
    back: VecDeque<(RowReference, Instant)>,
    /// How long those stay unused.
    rest: Duration,
}

impl Rows {
    /// Rows 0 to `limit`, all free.
    #[must_use]
    pub fn new(states: Arc<StreamStates>, limit: u32) -> Self {
        Self::resting(states, limit, REST)
    }

    /// Rows that may be used again so long after their stream.
    pub(crate) fn resting(states: Arc<StreamStates>, limit: u32, rest: Duration) -> Self {
        Self {
            states,
            free: Arc::new(Mutex::new(Free {
                next: 0,
                limit: limit.min(ROWS),
                back: VecDeque::new(),
                rest,
            })),
        }
    }

    /// How many are in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let back = u32::try_from(free.back.len()).unwrap_or(u32::MAX);
        free.next.saturating_sub(back)
    }

    /// Takes a row for `key`: the one that has been free for longest. Its key has still to be
    /// written and its state to be opened. `None` when there is none, or for a suite or an MKI that
    /// the kernel does not serve.
    #[must_use]
    pub fn take(&self, key: &SrtpKey) -> Option<Arc<Row>> {
        let key = StreamKey::new(key)?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let reference = if free.next < free.limit {
            free.next += 1;
            RowReference::new(free.next - 1, 1)
        } else {
            let (_, since) = free.back.front()?;
            if since.elapsed() < free.rest {
                return None;
            }
            let (before, _) = free.back.pop_front()?;
            // Zero is the generation of a row without a key.
            let generation = (before.generation() + 1) % GENERATIONS;
            RowReference::new(before.row(), generation.max(1))
        };
        Some(Arc::new(Row {
            reference: reference?,
            key,
            kernel: AtomicU8::new(NONE),
            announced: AtomicU32::new(0),
            home: Home::Shared(self.clone()),
        }))
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Rows")
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

/// Which of a row's two index states; the second is for the SSRC that came after the first one's,
/// or before it.
type Second = bool;

/// What [`Row::kernel`] is: by which state the kernel works.
const FIRST: u8 = 0;
const SECOND: u8 = 1;
const NONE: u8 = 2;

/// A row of the table, held by whoever works by it: when the last one lets go it is free again.
pub struct Row {
    reference: RowReference,
    key: StreamKey,
    kernel: AtomicU8,
    announced: AtomicU32,
    home: Home,
}

/// Where a row's state is.
enum Home {
    /// In the table that the kernel works by too.
    Shared(Rows),
    /// Nowhere else.
    Own(Box<StreamState>),
}

impl Row {
    /// A row that only the workers know of. `None` for a suite or an MKI that [`Rows::take`] has no
    /// row for either.
    pub(super) fn own(key: &SrtpKey) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            reference: RowReference::default(),
            key: StreamKey::new(key)?,
            kernel: AtomicU8::new(NONE),
            announced: AtomicU32::new(0),
            home: Home::Own(Box::default()),
        }))
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self.home, Home::Own(_))
    }

    /// What flow entries name it by.
    #[must_use]
    pub fn reference(&self) -> RowReference {
        self.reference
    }

    #[must_use]
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// `None` if the table has become smaller, which it does not.
    #[must_use]
    pub fn state(&self) -> Option<&StreamState> {
        match &self.home {
            Home::Shared(rows) => rows.states.get(self.reference.row()),
            Home::Own(state) => Some(state),
        }
    }

    /// Notes which of the index states the kernel works by, if by any: the other one alone may
    /// become another SSRC's.
    pub fn kernel_works_by(&self, second: Option<Second>) {
        let kernel = match second {
            None => NONE,
            Some(false) => FIRST,
            Some(true) => SECOND,
        };
        self.kernel.store(kernel, Ordering::Release);
    }

    /// Whether the kernel works by one of the index states.
    #[must_use]
    pub fn does_kernel_work(&self) -> bool {
        self.kernel.load(Ordering::Acquire) != NONE
    }

    /// Notes the generation of the source that a worker last told of. What it told of earlier ones
    /// may name a state that is another SSRC's by now.
    pub fn announce(&self, generation: u32) {
        self.announced.store(generation, Ordering::Release);
    }

    #[must_use]
    pub fn announced(&self) -> u32 {
        self.announced.load(Ordering::Acquire)
    }

    fn does_kernel_work_by(&self, second: Second) -> bool {
        self.kernel.load(Ordering::Acquire) == u8::from(second)
    }

    fn index(&self, second: Second) -> Result<&IndexState, SrtpError> {
        let state = self.state().ok_or(SrtpError::Failed)?;
        Ok(state.index(second))
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if let Home::Shared(rows) = &self.home {
            let free = rows.free.lock();
            let mut free = free.unwrap_or_else(PoisonError::into_inner);
            free.back.push_back((self.reference, Instant::now()));
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Row")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// Unprotects RTP by a row.
#[derive(Debug)]
pub(super) struct RowInbound {
    row: Arc<Row>,
    /// Whose the two index states are.
    sources: [Option<u32>; 2],
    /// The state of the last packet's SSRC.
    current: Second,
    /// SSRCs that had a state before, and their highest index then: nothing up to it is taken
    /// again.
    past: Vec<(u32, u64)>,
    tries: Tries,
}

impl RowInbound {
    pub(super) fn new(row: Arc<Row>) -> Self {
        Self {
            row,
            sources: [None; 2],
            current: false,
            past: Vec::new(),
            tries: Tries::default(),
        }
    }

    pub(super) fn row(&self) -> &Arc<Row> {
        &self.row
    }

    /// The state that the packets of the last SSRC are counted in.
    pub(super) fn current(&self) -> Second {
        self.current
    }

    pub(super) fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = packet
            .get(8..)
            .and_then(|packet| packet.first_chunk())
            .map(|octets| u32::from_be_bytes(*octets))
            .ok_or(SrtpError::Malformed)?;
        let key = self.row.key();
        let [first, second] = self.sources;
        let known = match Some(ssrc) {
            ssrc if ssrc == first => Some(false),
            ssrc if ssrc == second => Some(true),
            _ => None,
        };
        if let Some(known) = known {
            let length = buffer::unprotect(key, self.row.index(known)?, packet);
            let length = length.map_err(translate)?;
            self.current = known;
            return Ok(length);
        }
        // A new SSRC begins a state of its own (RFC 3711, section 3.2.3), but not before one of
        // its packets is authentic: until then the others' stay what they are.
        let seen = self.past.iter().position(|(past, _)| *past == ssrc);
        let state = match seen.and_then(|at| self.past.get(at)) {
            Some((_, highest)) => IndexState::after(*highest),
            None => IndexState::default(),
        };
        let (state, length) = match buffer::unprotect(key, &state, packet) {
            Err(CryptError::Authentication) if first.is_none() && self.tries.are_due() => {
                in_a_later_turn(key, packet)?
            }
            result => (state, result.map_err(translate)?),
        };
        let place = first.is_some() && !self.current;
        let evicted = if place { second } else { first };
        if let Some(evicted) = evicted {
            let full = seen.is_none() && self.past.len() + 2 >= SOURCES;
            if full || self.row.does_kernel_work_by(place) {
                return Err(SrtpError::Sources);
            }
            let highest = self.row.index(place)?.highest();
            self.past.push((evicted, highest));
        }
        if let Some(at) = seen {
            self.past.swap_remove(at);
        }
        self.row.index(place)?.set(&state);
        let [first, second] = &mut self.sources;
        *if place { second } else { first } = Some(ssrc);
        self.current = place;
        Ok(length)
    }
}

/// Unprotects the first packet of a key whose sender has gone through turns of the sequence number
/// that were not ours to count: a leg that another call had, or a beginning that was lost.
fn in_a_later_turn(key: &StreamKey, packet: &mut [u8]) -> Result<(IndexState, usize), SrtpError> {
    let sequence = packet.get(2..).and_then(|packet| packet.first_chunk());
    let sequence = u16::from_be_bytes(*sequence.ok_or(SrtpError::Malformed)?);
    for roc in 1..TURNS {
        let state = IndexState::starting(u64::from(roc) << 16 | u64::from(sequence));
        match buffer::unprotect(key, &state, packet) {
            Err(CryptError::Authentication) => {}
            result => return Ok((state, result.map_err(translate)?)),
        }
    }
    Err(SrtpError::Authentication)
}

/// Protects RTP by a row. What is sent has one SSRC for as long as the key.
#[derive(Debug)]
pub(super) struct RowOutbound {
    row: Arc<Row>,
}

impl RowOutbound {
    pub(super) fn new(row: Arc<Row>) -> Self {
        Self { row }
    }

    pub(super) fn row(&self) -> &Arc<Row> {
        &self.row
    }

    /// The highest index that a packet was protected with; zero before the first one.
    pub(super) fn highest(&self) -> u64 {
        self.row.index(false).map_or(0, IndexState::highest)
    }

    pub(super) fn protect(&self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        buffer::protect(self.row.key(), self.row.index(false)?, buffer, length).map_err(translate)
    }
}

/// Whether two contexts of one key work by the same row, or both by none that the kernel knows of.
pub(super) fn same(rows: [Option<&Arc<Row>>; 2]) -> bool {
    match rows {
        [Some(one), Some(other)] => Arc::ptr_eq(one, other) || one.is_own() && other.is_own(),
        [one, other] => one.is_none() && other.is_none(),
    }
}

fn translate(error: CryptError) -> SrtpError {
    match error {
        CryptError::Malformed => SrtpError::Malformed,
        CryptError::TooLong => SrtpError::NoRoom,
        CryptError::Mki => SrtpError::Mki,
        CryptError::Authentication => SrtpError::Authentication,
        CryptError::Index(IndexError::Replay | IndexError::Old) => SrtpError::Replay,
        CryptError::Index(_) => SrtpError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::SrtpSuite,
        srtp::{Inbound, Outbound, TRAILER},
    };

    fn key(octet: u8) -> SrtpKey {
        SrtpKey {
            suite: SrtpSuite::AesCm128HmacSha1_80,
            master: vec![octet; 30].into(),
            mki: None,
        }
    }

    fn rows(limit: u32) -> Rows {
        let states = Arc::new(StreamStates::on_the_heap(limit));
        Rows::resting(states, limit, Duration::ZERO)
    }

    fn open(rows: &Rows, key: &SrtpKey) -> Arc<Row> {
        let row = rows.take(key).expect("a row");
        row.state().expect("its state").open(row.reference());
        row
    }

    fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend([7; 160]);
        packet
    }

    fn seal(sender: &mut Outbound, ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = rtp(ssrc, sequence);
        packet.resize(172 + TRAILER, 0);
        let length = sender.protect(&mut packet, 172).expect("protected");
        packet.truncate(length);
        packet
    }

    #[test]
    fn a_row_is_free_when_its_last_holder_lets_go_and_is_taken_last() {
        let rows = rows(2);
        let first = rows.take(&key(1)).expect("a row");
        let held = Arc::clone(&first);
        let reference = first.reference();
        let second = rows.take(&key(2)).expect("another one");
        drop(first);
        assert!(rows.take(&key(3)).is_none());
        assert_eq!(rows.used(), 2);
        drop(held);
        drop(second);
        assert_eq!(rows.used(), 0);
        let again = rows.take(&key(3)).expect("a row");
        assert_eq!(again.reference().row(), reference.row());
        assert_ne!(again.reference(), reference);

        let mut other = key(4);
        other.suite = SrtpSuite::AeadAes128Gcm;
        assert!(rows.take(&other).is_none());
    }

    #[test]
    fn a_row_rests_before_it_is_another_streams() {
        let states = Arc::new(StreamStates::on_the_heap(1));
        let rows = Rows::resting(states, 1, Duration::MAX);
        drop(rows.take(&key(1)));
        assert_eq!(rows.used(), 0);
        assert!(rows.take(&key(1)).is_none());
    }

    #[test]
    fn each_ssrc_has_a_window_of_its_own_and_none_is_ever_replayed() {
        let rows = rows(1);
        let row = open(&rows, &key(1));
        let mut sender = Outbound::new(&key(1)).expect("the key fits");
        let mut receiver = Inbound::sharing(&key(1), Some(Arc::clone(&row))).expect("the key fits");
        let mut recorded = Vec::new();
        // The fifth is the first one again, and so on.
        for turn in 0..8_u16 {
            let ssrc = u32::from(turn % 4);
            for step in 0..3 {
                let packet = seal(&mut sender, ssrc, 100 * turn + step);
                assert!(receiver.unprotect(&mut packet.clone()).is_ok(), "{ssrc}");
                recorded.push(packet);
            }
            let second = receiver.is_on_second();
            for packet in &recorded {
                assert!(receiver.unprotect(&mut packet.clone()).is_err(), "{ssrc}");
            }
            assert_eq!(receiver.is_on_second(), second);
        }
        // Late ones of the present SSRC are taken as ever.
        let late = seal(&mut sender, 3, 760);
        let next = seal(&mut sender, 3, 761);
        for packet in [next, late] {
            assert!(receiver.unprotect(&mut packet.clone()).is_ok());
        }
    }

    #[test]
    fn forged_ssrcs_leave_the_states_as_they_were() {
        let rows = rows(1);
        let row = open(&rows, &key(1));
        let mut sender = Outbound::new(&key(1)).expect("the key fits");
        let mut receiver = Inbound::sharing(&key(1), Some(Arc::clone(&row))).expect("the key fits");
        for ssrc in [1, 2] {
            assert!(receiver.unprotect(&mut seal(&mut sender, ssrc, 9)).is_ok());
        }
        for ssrc in 3..1000 {
            let mut forged = seal(&mut Outbound::new(&key(2)).expect("a key"), ssrc, 1);
            assert_eq!(
                receiver.unprotect(&mut forged),
                Err(SrtpError::Authentication)
            );
        }
        for ssrc in [1, 2] {
            assert!(receiver.unprotect(&mut seal(&mut sender, ssrc, 10)).is_ok());
        }
    }

    #[test]
    fn the_state_that_the_kernel_works_by_is_not_given_to_another_ssrc() {
        let rows = rows(1);
        let row = open(&rows, &key(1));
        let mut sender = Outbound::new(&key(1)).expect("the key fits");
        let mut receiver = Inbound::sharing(&key(1), Some(Arc::clone(&row))).expect("the key fits");
        assert!(receiver.unprotect(&mut seal(&mut sender, 1, 1)).is_ok());
        row.kernel_works_by(Some(receiver.is_on_second()));
        assert!(receiver.unprotect(&mut seal(&mut sender, 2, 1)).is_ok());
        assert_eq!(
            receiver.unprotect(&mut seal(&mut sender, 3, 1)),
            Err(SrtpError::Sources)
        );
        // The kernel takes an index, and has moved on.
        assert!(row.state().expect("a state").index(false).take(2).is_ok());
        let taken = seal(&mut sender, 1, 2);
        assert_eq!(
            receiver.unprotect(&mut taken.clone()),
            Err(SrtpError::Replay)
        );
        row.kernel_works_by(Some(true));
        assert!(receiver.unprotect(&mut seal(&mut sender, 2, 2)).is_ok());
        assert!(receiver.unprotect(&mut seal(&mut sender, 3, 2)).is_ok());
        assert_eq!(
            receiver.unprotect(&mut taken.clone()),
            Err(SrtpError::Replay)
        );
    }

    /// A leg that comes from another call may have protected for longer than a turn already.
    #[test]
    fn a_stream_that_has_gone_on_elsewhere_is_found_in_its_turn() {
        for (turns, is_found) in [(0, true), (1, true), (TURNS - 1, true), (TURNS, false)] {
            let rows = rows(1);
            let row = open(&rows, &key(1));
            let mut sender = Outbound::new(&key(1)).expect("the key fits");
            sender.set_roc(7, turns).expect("room");
            let mut receiver = Inbound::sharing(&key(1), Some(Arc::clone(&row))).expect("a key");
            let mut forged = seal(&mut Outbound::new(&key(2)).expect("a key"), 7, 65_530);
            assert_eq!(
                receiver.unprotect(&mut forged),
                Err(SrtpError::Authentication)
            );
            let first = seal(&mut sender, 7, 65_530);
            let taken = receiver.unprotect(&mut first.clone());
            assert_eq!(taken.is_ok(), is_found, "{turns}");
            if !is_found {
                continue;
            }
            assert_eq!(
                receiver.unprotect(&mut first.clone()),
                Err(SrtpError::Replay)
            );
            // Over the next turn.
            assert!(receiver.unprotect(&mut seal(&mut sender, 7, 10)).is_ok());
            let state = row.state().expect("a state").index(false);
            assert_eq!(state.roc(), turns + 1);
            // A later SSRC begins its own turns.
            sender.set_roc(8, 1).expect("room");
            assert_eq!(
                receiver.unprotect(&mut seal(&mut sender, 8, 1)),
                Err(SrtpError::Authentication)
            );
        }
    }

    #[test]
    fn a_key_is_used_with_a_bounded_number_of_ssrcs() {
        let rows = rows(1);
        let row = open(&rows, &key(1));
        let mut sender = Outbound::new(&key(1)).expect("the key fits");
        let mut receiver = Inbound::sharing(&key(1), Some(row)).expect("the key fits");
        for ssrc in 0..SOURCES as u32 {
            assert!(receiver.unprotect(&mut seal(&mut sender, ssrc, 1)).is_ok());
        }
        let mut other = Outbound::new(&key(1)).expect("the key fits");
        assert_eq!(
            receiver.unprotect(&mut seal(&mut other, 99, 1)),
            Err(SrtpError::Sources)
        );
    }
}
