//! Packet indices: the rollover counter's guess and the replay window (RFC 3711, section 3.3.1,
//! 3.3.2 and appendix A), without a lock.
//!
//! Any number of CPUs may take packets of one stream at once. Each decision is one exchange of one
//! word: of two equal packets only one gets its bit of the window, whoever comes first.

#[cfg(target_has_atomic = "64")]
use core::sync::atomic::Ordering::Relaxed;
use core::{mem::size_of, sync::atomic::AtomicU64};

/// Packets that may come late.
pub const WINDOW: u64 = 128;

/// The bits of the window that one word holds, and the words. Twice the window, so that the word
/// of a packet that may still come is never taken for a newer one.
const BITS: u32 = 16;
const WORDS: usize = 16;

/// How often an exchange is tried again that another CPU was quicker at. One that fails says that
/// another one succeeded.
const TRIES: u32 = 16;

/// The first index that there is not (RFC 3711, section 9.2): the key is used up.
const END: u64 = 1 << 48;

/// Why a packet's index is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexError {
    /// Taken before.
    Replay,
    /// Older than the window.
    Old,
    /// The rollover counter is at its end.
    Exhausted,
    /// Other CPUs were quicker every time.
    Contended,
}

/// A word that many CPUs read and write: an [`AtomicU64`], or the same in the kernel, for which the
/// compiler knows no exchange.
pub trait SharedWord {
    fn read(&self) -> u64;

    /// Makes it `wanted` if it still is `seen`. Whether it was.
    fn exchange(&self, seen: u64, wanted: u64) -> bool;

    /// Whether it is `value`, asked after everything that was read before: an exchange keeps that
    /// order on every processor.
    #[inline(always)]
    fn is_still(&self, value: u64) -> bool {
        self.exchange(value, value)
    }
}

#[cfg(target_has_atomic = "64")]
impl SharedWord for AtomicU64 {
    fn read(&self) -> u64 {
        self.load(Relaxed)
    }

    fn exchange(&self, seen: u64, wanted: u64) -> bool {
        self.compare_exchange(seen, wanted, Relaxed, Relaxed)
            .is_ok()
    }
}

/// The highest index of a stream and which of those before it were taken. All zeros is a stream
/// before its first packet, at ROC 0.
#[derive(Debug)]
#[repr(C)]
pub struct IndexState<W = AtomicU64> {
    /// The highest index that was taken: ROC and sequence number.
    highest: W,
    /// Each word holds an index's upper part and a bit for each of the [`BITS`] indices that share
    /// it.
    window: [W; WORDS],
}

const _: () = assert!(size_of::<IndexState>() == 136);
const _: () = assert!(WORDS as u64 * BITS as u64 == 2 * WINDOW);

impl Default for IndexState {
    fn default() -> Self {
        Self::starting(0)
    }
}

impl IndexState {
    /// A stream that goes on after `highest`, of whose earlier packets the window knows nothing.
    #[must_use]
    pub fn starting(highest: u64) -> Self {
        Self {
            highest: AtomicU64::new(highest),
            window: Default::default(),
        }
    }
}

#[cfg(target_has_atomic = "64")]
impl IndexState {
    /// Begins anew, at ROC 0 and before the first packet. Only while nobody takes indices of it.
    pub fn restart(&self) {
        for word in &self.window {
            word.store(0, Relaxed);
        }
        self.highest.store(0, Relaxed);
    }
}

#[cfg(target_has_atomic = "64")]
impl IndexState {
    /// A stream that goes on after `highest`, all of whose earlier packets count as taken: for one
    /// that is taken up again when its window is no more.
    #[must_use]
    pub fn after(highest: u64) -> Self {
        let state = Self::starting(highest);
        let last = highest >> BITS.ilog2();
        for upper in last.saturating_sub(WINDOW / BITS as u64)..=last {
            let taken = match upper == last {
                true => u64::MAX >> (63 - (highest & (BITS as u64 - 1))),
                false => (1 << BITS) - 1,
            };
            state
                .word(upper << BITS.ilog2())
                .store((upper << BITS) | taken, Relaxed);
        }
        state
    }

    /// Becomes what `other` is. Nobody may take indices of this one meanwhile.
    pub fn set(&self, other: &Self) {
        self.highest.store(other.highest(), Relaxed);
        for (word, from) in self.window.iter().zip(&other.window) {
            word.store(from.load(Relaxed), Relaxed);
        }
    }
}

impl<W: SharedWord> IndexState<W> {
    /// The highest index that was taken.
    #[inline(always)]
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest.read()
    }

    /// The rollover counter.
    #[must_use]
    pub fn roc(&self) -> u32 {
        (self.highest() >> 16) as u32
    }

    /// The index that a packet with this sequence number has most probably (appendix A). Before
    /// half a turn it is at ROC 0, since there is none before.
    ///
    /// # Errors
    /// [`IndexError::Exhausted`].
    #[inline(always)]
    pub fn guess(&self, sequence: u16) -> Result<u64, IndexError> {
        let highest = self.highest();
        if highest <= 0x8000 {
            return Ok(sequence as u64);
        }
        let mut roc = highest >> 16;
        let last = (highest & 0xffff) as i64;
        let ahead = sequence as i64 - last;
        if last < 0x8000 {
            if ahead > 0x8000 {
                // Above half a turn in the first one, so there is one before.
                roc = roc.wrapping_sub(1);
            }
        } else if ahead < -0x8000 {
            roc += 1;
        }
        let index = (roc << 16) | sequence as u64;
        if index >= END {
            return Err(IndexError::Exhausted);
        }
        Ok(index)
    }

    /// Whether the packet with this sequence number is older than the window.
    #[inline(always)]
    #[must_use]
    pub fn is_behind(&self, sequence: u16) -> bool {
        match self.guess(sequence) {
            Ok(index) => index + WINDOW <= self.highest(),
            Err(_) => false,
        }
    }

    /// Whether an index may still be taken.
    ///
    /// # Errors
    /// [`IndexError::Replay`], [`IndexError::Old`].
    #[inline(always)]
    pub fn check(&self, index: u64) -> Result<(), IndexError> {
        let highest = self.highest();
        if index + WINDOW <= highest {
            return Err(IndexError::Old);
        }
        next(self.word(index).read(), index).map(|_| ())
    }

    /// Takes an index, for this packet and no other.
    ///
    /// # Errors
    /// [`IndexError::Replay`], [`IndexError::Old`], [`IndexError::Contended`].
    #[inline(always)]
    pub fn take(&self, index: u64) -> Result<(), IndexError> {
        if index + WINDOW <= self.highest() {
            return Err(IndexError::Old);
        }
        let word = self.word(index);
        let mut tries = 0;
        loop {
            let seen = word.read();
            let wanted = next(seen, index)?;
            if word.exchange(seen, wanted) {
                break;
            }
            tries += 1;
            if tries == TRIES {
                return Err(IndexError::Contended);
            }
        }
        let mut tries = 0;
        while tries < TRIES {
            let seen = self.highest.read();
            if seen >= index || self.highest.exchange(seen, index) {
                break;
            }
            tries += 1;
        }
        Ok(())
    }

    #[inline(always)]
    fn word(&self, index: u64) -> &W {
        &self.window[(index >> BITS.ilog2()) as usize & (WORDS - 1)]
    }
}

/// What the word `seen` of the window becomes when `index` is taken.
#[inline(always)]
fn next(seen: u64, index: u64) -> Result<u64, IndexError> {
    let upper = index >> BITS.ilog2();
    let bit = 1 << (index & (BITS as u64 - 1));
    let seen_upper = seen >> BITS;
    if seen_upper > upper {
        Err(IndexError::Old)
    } else if seen_upper < upper {
        Ok((upper << BITS) | bit)
    } else if seen & bit != 0 {
        Err(IndexError::Replay)
    } else {
        Ok(seen | bit)
    }
}
