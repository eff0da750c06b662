//! Protecting and unprotecting a packet (RFC 3711, section 3.3) in working memory.

use core::{hint::black_box, mem::size_of};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, transmute, transmute_mut, transmute_ref,
};

#[cfg(not(target_arch = "bpf"))]
use super::machine::Plain;
use super::{
    aes::{Shared, spread},
    index::{IndexError, IndexState, SharedWord},
    key::PreparedKey,
    machine::Machine,
    sha1,
};
use crate::rtp::{self, RtpHeader};

/// The longest RTP packet: with the ROC and SHA-1's padding it fills eight blocks.
pub const LONGEST: usize = BLOCKS * 64 - 9 - 4;
/// The longest SRTP packet: the longest RTP packet, MKI and tag.
pub const LONGEST_PROTECTED: usize = LONGEST + super::key::LONGEST_MKI + 10;

const BLOCKS: usize = 8;
/// Offsets are kept within a power of two by masks, which the verifier follows and the compiler
/// leaves alone; they never bite. The widest view at an offset fits in behind them.
const MASK: usize = 1023;
const OCTETS: usize = MASK + 1 + 32;
const WORDS: usize = OCTETS / 4;

/// Why a packet was not protected or unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CryptError {
    /// Not an RTP packet, or shorter than its headers, the MKI and the tag.
    Malformed,
    /// Longer than [`LONGEST`].
    TooLong,
    /// The MKI is not the key's.
    Mki,
    /// The tag is wrong: another key, or a changed packet.
    Authentication,
    Index(IndexError),
}

/// The packet and what is computed over it; what was in it before does not matter. The kernel's
/// stack has no room for it.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Work {
    schedule: sha1::Schedule,
    /// The packet, in words as they lie in memory.
    packet: [u32; WORDS],
    /// What is being worked on: the packet's index, its octets and where its payload begins, in
    /// words. Here and not in arguments, so that the verifier need not follow every value that they
    /// may have.
    length: u32,
    begin: u32,
    index: u64,
    digest: [u32; 5],
    tag: [u32; 5],
    shared: Shared,
}

const _: () = assert!(size_of::<Work>() == 1480);
const _: () = assert!(LONGEST_PROTECTED <= MASK);

impl Default for Work {
    fn default() -> Self {
        Self {
            packet: [0; WORDS],
            length: 0,
            begin: 0,
            index: 0,
            schedule: [0; 40],
            digest: [0; 5],
            tag: [0; 5],
            shared: Shared::default(),
        }
    }
}

/// Two blocks of keystream's words from `at` on.
#[inline(always)]
fn window(words: &mut [u32; WORDS], at: usize) -> Option<&mut [[u32; 4]; 2]> {
    let words: &mut [u32; 8] = words.get_mut(at & (MASK / 4)..)?.first_chunk_mut()?;
    Some(transmute_mut!(words))
}

/// Zeros that the compiler does not know: of those that it knows it makes a call, which writes octet
/// by octet.
#[inline(always)]
fn zero() -> [u8; 8] {
    black_box(0_u64).to_ne_bytes()
}

/// A sum of words as one of half words (RFC 1071).
#[inline(always)]
#[must_use]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

impl Work {
    /// The packet's place, at whose beginning it is put and found.
    #[inline(always)]
    pub fn packet(&mut self) -> &mut [u8; OCTETS] {
        transmute_mut!(&mut self.packet)
    }

    /// An octet of the packet, at an offset that the packet itself decides.
    #[inline(always)]
    pub(crate) fn octet(&self, at: usize) -> Option<u8> {
        let octets: &[u8; OCTETS] = transmute_ref!(&self.packet);
        octets.get(at & MASK).copied()
    }

    /// The packet's header.
    #[inline(always)]
    pub(crate) fn header(&mut self) -> Option<&mut RtpHeader> {
        let octets: &mut [u8; rtp::HEADER] = self.packet().first_chunk_mut()?;
        Some(transmute_mut!(octets))
    }

    /// The ones' complement sum of the first `length` octets (RFC 1071), in memory's order; what is
    /// behind them is spoilt. `None` if `length` is above [`LONGEST_PROTECTED`].
    #[inline(always)]
    pub fn sum(&mut self, length: usize) -> Option<u16> {
        self.length = length as u32;
        let behind: &mut [u8; 32] = self.packet().get_mut(length & MASK..)?.first_chunk_mut()?;
        let behind: &mut [[u8; 8]; 4] = transmute_mut!(behind);
        *behind = [zero(); 4];
        Some(self.sum_words())
    }

    #[inline(never)]
    fn sum_words(&self) -> u16 {
        let length = self.length as usize;
        let four: &[[u8; 32]; OCTETS / 32] = transmute_ref!(&self.packet);
        // The sum of all, and that of the upper halves, which leaves that of the lower ones.
        let (mut all, mut upper) = (0_u64, 0_u64);
        let mut at = 0;
        while at < four.len() && 32 * at < length {
            let words: [u64; 4] = transmute!(four[at]);
            let mut word = 0;
            while word < 4 {
                all = all.wrapping_add(words[word]);
                upper += words[word] >> 32;
                word += 1;
            }
            at += 1;
        }
        let lower = all.wrapping_sub(upper << 32);
        fold((lower & 0xffff_ffff) + (lower >> 32) + upper)
    }

    /// Where the payload begins, in words: behind contributing sources and header extension.
    #[inline(always)]
    fn header_words(&self, length: usize) -> Option<usize> {
        let octets: &[u8; OCTETS] = transmute_ref!(&self.packet);
        if length < rtp::HEADER || octets[0] >> 6 != 2 {
            return None;
        }
        let mut words = 3 + (octets[0] & 0x0f) as usize;
        if octets[0] & 0x10 != 0 {
            if 4 * (words + 1) > length {
                return None;
            }
            let extension = u32::from_be(self.packet[words & 31]) & 0xffff;
            words += 1 + extension as usize;
        }
        if 4 * words > length {
            return None;
        }
        Some(words)
    }

    #[inline(always)]
    fn sequence(&self) -> u16 {
        let octets: &[u8; OCTETS] = transmute_ref!(&self.packet);
        u16::from_be_bytes([octets[2], octets[3]])
    }

    #[inline(always)]
    fn work_on(&mut self, index: u64, begin: usize, length: usize) {
        self.index = index;
        self.begin = begin as u32;
        self.length = length as u32;
    }

    /// Encrypts or decrypts the payload. What is behind it in its last two blocks is spoilt.
    #[inline(never)]
    fn crypt<M: Machine>(&mut self, key: &PreparedKey) {
        let (index, begin, length) = (self.index, self.begin as usize, self.length as usize);
        let mut counter = key.salt;
        // The SSRC as it lies in memory, the ROC and the sequence number most significant first.
        counter[1] ^= spread(u32::from_le(self.packet[2]));
        counter[2] ^= spread(((index >> 16) as u32).swap_bytes());
        counter[3] ^= spread(((index & 0xffff) as u32).swap_bytes() >> 16);
        self.shared.begin::<M>(&key.round_keys, &counter);
        let mut number = 0;
        while number < (BLOCKS * 4) as u32 {
            let at = begin + 4 * number as usize;
            if 4 * at >= length {
                break;
            }
            let Some(words) = window(&mut self.packet, at) else {
                break;
            };
            self.shared.apply::<M, _>(&key.round_keys, number, words);
            number += 2;
        }
    }

    /// Computes the tag of the first `length` octets and the ROC. What is behind them is spoilt.
    #[inline(never)]
    fn authenticate<M: Machine>(&mut self, key: &PreparedKey) -> bool {
        self.tag_of::<M>(key).is_some()
    }

    #[inline(always)]
    fn tag_of<M: Machine>(&mut self, key: &PreparedKey) -> Option<()> {
        let (roc, length) = ((self.index >> 16) as u32, self.length as usize);
        let octets: &mut [u8; OCTETS] = transmute_mut!(&mut self.packet);
        let padding: &mut [u8; 80] = octets
            .get_mut(length & (64 * BLOCKS - 1)..)?
            .first_chunk_mut()?;
        let [first, rest @ ..]: &mut [[u8; 8]; 10] = transmute_mut!(padding);
        let [a, b, c, d] = roc.to_be_bytes();
        *first = [a, b, c, d, 0x80, 0, 0, 0];
        *rest = [zero(); 9];
        let blocks = (length + 4 + 9).div_ceil(64);
        let length_at = (16 * blocks - 1) & (16 * BLOCKS - 1);
        // HMAC's own block comes before.
        self.packet[length_at] = ((64 + length as u32 + 4) * 8).to_be();

        self.digest = key.inner;
        let (message, _) = self.packet.as_chunks::<{ sha1::BLOCK }>();
        let mut number = 0;
        while number < BLOCKS && number < blocks {
            let block = message.get(number)?;
            sha1::begin(&mut self.schedule, block);
            M::compress(&mut self.digest, &mut self.schedule);
            number += 1;
        }
        sha1::begin_digest(&mut self.schedule, &self.digest, 64);
        self.digest = key.outer;
        M::compress(&mut self.digest, &mut self.schedule);
        let mut word = 0;
        while word < 5 {
            self.tag[word] = self.digest[word].to_be();
            word += 1;
        }
        Some(())
    }

    /// [`Work::protect_by`], by this machine.
    ///
    /// # Errors
    /// As there.
    #[cfg(not(target_arch = "bpf"))]
    pub fn protect<W: SharedWord>(
        &mut self,
        key: &PreparedKey,
        state: &IndexState<W>,
        length: usize,
    ) -> Result<usize, CryptError> {
        self.protect_by::<Plain, W>(key, state, length)
    }

    /// Makes an SRTP packet of the RTP packet in the first `length` octets and says how long it
    /// is. After an error the packet is undefined.
    ///
    /// # Errors
    /// [`CryptError::TooLong`], [`CryptError::Malformed`], and [`CryptError::Index`] for a sequence
    /// number that was protected before, whose keystream must not be used again.
    #[inline(always)]
    pub fn protect_by<M: Machine, W: SharedWord>(
        &mut self,
        key: &PreparedKey,
        state: &IndexState<W>,
        length: usize,
    ) -> Result<usize, CryptError> {
        if length > LONGEST {
            return Err(CryptError::TooLong);
        }
        let begin = self.header_words(length).ok_or(CryptError::Malformed)?;
        let index = state.guess(self.sequence()).map_err(CryptError::Index)?;
        state.take(index).map_err(CryptError::Index)?;
        self.work_on(index, begin, length);
        self.crypt::<M>(key);
        if !self.authenticate::<M>(key) {
            return Err(CryptError::TooLong);
        }
        self.append(key, length).ok_or(CryptError::TooLong)
    }

    /// Appends MKI and tag.
    #[inline(always)]
    fn append(&mut self, key: &PreparedKey, length: usize) -> Option<usize> {
        let octets: &mut [u8; OCTETS] = transmute_mut!(&mut self.packet);
        // Where the compiler knows how long the packet is, it leaves the masks out, which verifiers
        // before Linux 6.18's need.
        let mut at = self.length as usize;
        let mki_length = key.mki_length as usize;
        let mut index = 0;
        while index < key.mki.len() && index < mki_length {
            *octets.get_mut(at & MASK)? = key.mki[index];
            at += 1;
            index += 1;
        }
        // More than the tag, as what is behind it does not matter.
        let place: &mut [u8; 12] = octets.get_mut(at & MASK..)?.first_chunk_mut()?;
        let place: &mut [[u8; 4]; 3] = transmute_mut!(place);
        place[0] = self.tag[0].to_ne_bytes();
        place[1] = self.tag[1].to_ne_bytes();
        place[2] = self.tag[2].to_ne_bytes();
        Some(length + key.trailer())
    }

    /// [`Work::unprotect_by`], by this machine.
    ///
    /// # Errors
    /// As there.
    #[cfg(not(target_arch = "bpf"))]
    pub fn unprotect<W: SharedWord>(
        &mut self,
        key: &PreparedKey,
        state: &IndexState<W>,
        length: usize,
    ) -> Result<usize, CryptError> {
        self.unprotect_by::<Plain, W>(key, state, length)
    }

    /// Makes an RTP packet of the SRTP packet in the first `length` octets and says how long it is.
    /// After an error the packet is undefined.
    ///
    /// # Errors
    /// Each of [`CryptError`].
    #[inline(always)]
    pub fn unprotect_by<M: Machine, W: SharedWord>(
        &mut self,
        key: &PreparedKey,
        state: &IndexState<W>,
        length: usize,
    ) -> Result<usize, CryptError> {
        let length = length
            .checked_sub(key.trailer())
            .ok_or(CryptError::Malformed)?;
        if length > LONGEST {
            return Err(CryptError::TooLong);
        }
        let begin = self.header_words(length).ok_or(CryptError::Malformed)?;
        let carried = self.carried(key, length)?;
        let index = state.guess(self.sequence()).map_err(CryptError::Index)?;
        state.check(index).map_err(CryptError::Index)?;
        self.work_on(index, begin, length);
        if !self.authenticate::<M>(key) {
            return Err(CryptError::TooLong);
        }
        // Every octet is looked at, whatever the first ones say.
        let mut different = (self.tag[0] ^ carried[0]) as u64;
        if key.tag_length != 4 {
            different |= (self.tag[1] ^ carried[1]) as u64;
            different |=
                ((self.tag[2] ^ carried[2]) & u32::from_ne_bytes([0xff, 0xff, 0, 0])) as u64;
        }
        if different != 0 {
            return Err(CryptError::Authentication);
        }
        state.take(index).map_err(CryptError::Index)?;
        self.crypt::<M>(key);
        Ok(length)
    }

    /// The tag that the packet carries, behind its MKI.
    #[inline(always)]
    fn carried(&self, key: &PreparedKey, length: usize) -> Result<[u32; 3], CryptError> {
        let octets: &[u8; OCTETS] = transmute_ref!(&self.packet);
        let mki_length = key.mki_length as usize;
        let mut at = length;
        let mut index = 0;
        while index < key.mki.len() && index < mki_length {
            if octets.get(at & MASK).copied() != Some(key.mki[index]) {
                return Err(CryptError::Mki);
            }
            at += 1;
            index += 1;
        }
        let tail = octets.get(at & MASK..).ok_or(CryptError::TooLong)?;
        let tag: &[u8; 12] = tail.first_chunk().ok_or(CryptError::TooLong)?;
        let words: &[[u8; 4]; 3] = transmute_ref!(tag);
        Ok([
            u32::from_ne_bytes(words[0]),
            u32::from_ne_bytes(words[1]),
            u32::from_ne_bytes(words[2]),
        ])
    }
}
