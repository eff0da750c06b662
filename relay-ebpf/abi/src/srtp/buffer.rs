//! Protecting and unprotecting in a caller's buffer, whatever the packet's length: what userspace
//! does to packets of a stream whose indices the kernel takes too. The octets and the refusals are
//! those of [`super::packet`].

use zerocopy::{FromBytes, IntoBytes};

use super::{
    aes::{self, spread},
    index::IndexState,
    key::PreparedKey,
    machine::Plain,
    packet::CryptError,
    sha1,
};
use crate::rtp::{self, RtpHeader};

/// The octets that SHA-1 takes at a time.
pub const BLOCK: usize = 4 * sha1::BLOCK;
/// Those at the end of its last block that hold the message's length.
const LENGTH: usize = 8;

/// How many blocks of keystream share a counter's last octet but one.
const NUMBERS: usize = 256;

/// A key, and who does its AES and SHA-1: a [`PreparedKey`] by itself does them as the kernel's
/// program does, and userspace may know better of its processor.
pub trait Engine {
    fn key(&self) -> &PreparedKey;

    /// Adds the keystream that begins with `counter`, whose last two octets are zero, to `octets`.
    fn crypt(&self, counter: &[u8; 16], octets: &mut [u8]);

    /// Takes more of a message into SHA-1's state.
    fn compress(&self, digest: &mut [u32; 5], blocks: &[[u8; BLOCK]]);
}

impl Engine for PreparedKey {
    fn key(&self) -> &PreparedKey {
        self
    }

    fn crypt(&self, counter: &[u8; 16], octets: &mut [u8]) {
        let counter: [u32; 4] = zerocopy::transmute!(*counter);
        let counter = counter.map(|column| spread(u32::from_le(column)));
        for (octet, many) in (0_u32..).zip(octets.chunks_mut(NUMBERS * 16)) {
            let mut first = counter;
            first[3] ^= spread((octet & 0xff) << 16);
            let mut shared = aes::Shared::default();
            shared.begin::<Plain>(&self.round_keys, &first);
            for (number, block) in (0..).zip(many.chunks_mut(16)) {
                let mut words = [[0_u32; 4]];
                shared.apply::<Plain, _>(&self.round_keys, number, &mut words);
                for (octet, stream) in block.iter_mut().zip(words.as_bytes()) {
                    *octet ^= stream;
                }
            }
        }
    }

    fn compress(&self, digest: &mut [u32; 5], blocks: &[[u8; BLOCK]]) {
        for block in blocks {
            let words: [u32; sha1::BLOCK] = zerocopy::transmute!(*block);
            let mut schedule = [0; 40];
            sha1::begin(&mut schedule, &words);
            sha1::compress(digest, &mut schedule);
        }
    }
}

/// Where the payload of an RTP packet begins, and its sequence number.
fn begin(packet: &[u8]) -> Option<(usize, RtpHeader)> {
    let (header, _) = RtpHeader::read_from_prefix(packet).ok()?;
    let mut begin = rtp::HEADER + 4 * usize::from(header.first & 0x0f);
    if header.first & 0x10 != 0 {
        let [high, low] = *packet.get(begin + 2..)?.first_chunk()?;
        begin += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    (header.version() == 2 && begin <= packet.len()).then_some((begin, header))
}

/// Makes an SRTP packet of the RTP packet in the first `length` octets of `buffer`, behind which
/// there is room for the key's trailer, and says how long it is. After an error the content is as
/// it was.
///
/// # Errors
/// [`CryptError::TooLong`] without the room, [`CryptError::Malformed`], and [`CryptError::Index`]
/// for a sequence number that was protected before, whose keystream must not be used again.
pub fn protect(
    engine: &impl Engine,
    state: &IndexState,
    buffer: &mut [u8],
    length: usize,
) -> Result<usize, CryptError> {
    let key = engine.key();
    let end = length + key.trailer();
    let buffer = buffer.get_mut(..end).ok_or(CryptError::TooLong)?;
    let (packet, trailer) = buffer.split_at_mut(length);
    let (begin, header) = begin(packet).ok_or(CryptError::Malformed)?;
    let index = state
        .guess(header.sequence.get())
        .map_err(CryptError::Index)?;
    state.take(index).map_err(CryptError::Index)?;
    crypt(engine, packet, begin, &header, index);
    let tag = tag(engine, packet, index);
    let (mki, place) = trailer.split_at_mut(key.mki().len());
    mki.copy_from_slice(key.mki());
    for (octet, computed) in place.iter_mut().zip(tag) {
        *octet = computed;
    }
    Ok(end)
}

/// Makes an RTP packet of the SRTP packet that fills `buffer` and says how long it is. After an
/// error the content is as it was.
///
/// # Errors
/// Each of [`CryptError`] but [`CryptError::TooLong`].
pub fn unprotect(
    engine: &impl Engine,
    state: &IndexState,
    buffer: &mut [u8],
) -> Result<usize, CryptError> {
    let key = engine.key();
    let length = buffer
        .len()
        .checked_sub(key.trailer())
        .ok_or(CryptError::Malformed)?;
    let (packet, trailer) = buffer.split_at_mut(length);
    let (begin, header) = begin(packet).ok_or(CryptError::Malformed)?;
    let (mki, carried) = trailer.split_at(key.mki().len());
    if mki != key.mki() {
        return Err(CryptError::Mki);
    }
    let index = state
        .guess(header.sequence.get())
        .map_err(CryptError::Index)?;
    state.check(index).map_err(CryptError::Index)?;
    // Every octet is looked at, whatever the first ones say.
    let different = tag(engine, packet, index)
        .iter()
        .zip(carried)
        .fold(0, |different, (ours, theirs)| different | (ours ^ theirs));
    if core::hint::black_box(different) != 0 {
        return Err(CryptError::Authentication);
    }
    state.take(index).map_err(CryptError::Index)?;
    crypt(engine, packet, begin, &header, index);
    Ok(length)
}

/// Encrypts or decrypts what is behind `begin` (RFC 3711, section 4.1.1).
fn crypt(engine: &impl Engine, packet: &mut [u8], begin: usize, header: &RtpHeader, index: u64) {
    let mut counter = engine.key().salt.map(aes::gather);
    counter[1] ^= u32::from_le_bytes(header.ssrc.to_bytes());
    counter[2] ^= ((index >> 16) as u32).swap_bytes();
    counter[3] ^= ((index & 0xffff) as u32).swap_bytes() >> 16;
    let counter = counter.map(u32::to_le);
    let payload = packet.get_mut(begin..).unwrap_or_default();
    engine.crypt(&zerocopy::transmute!(counter), payload);
}

/// HMAC-SHA1 over the packet and the ROC (RFC 3711, section 4.2.1).
fn tag(engine: &impl Engine, packet: &[u8], index: u64) -> [u8; 20] {
    let roc = ((index >> 16) as u32).to_be_bytes();
    let (blocks, rest) = packet.as_chunks::<BLOCK>();
    let mut digest = engine.key().inner;
    engine.compress(&mut digest, blocks);
    let mut last = [0; 2 * BLOCK];
    put(&mut last, 0, rest);
    put(&mut last, rest.len(), &roc);
    put(&mut last, rest.len() + roc.len(), &[0x80]);
    // HMAC's own block comes before.
    let bits = 8 * (BLOCK + packet.len() + roc.len()) as u64;
    let used = match rest.len() + roc.len() + 1 + LENGTH <= BLOCK {
        true => BLOCK,
        false => 2 * BLOCK,
    };
    put(&mut last, used - LENGTH, &bits.to_be_bytes());
    let last = last.get(..used).unwrap_or_default();
    engine.compress(&mut digest, last.as_chunks::<BLOCK>().0);

    let mut second = [0; BLOCK];
    put(&mut second, 0, digest.map(u32::to_be_bytes).as_flattened());
    put(&mut second, 20, &[0x80]);
    let bits = 8 * (BLOCK + 20) as u64;
    put(&mut second, BLOCK - LENGTH, &bits.to_be_bytes());
    digest = engine.key().outer;
    engine.compress(&mut digest, &[second]);
    let mut tag = [0; 20];
    put(&mut tag, 0, digest.map(u32::to_be_bytes).as_flattened());
    tag
}

/// Writes `octets` at `at` of `place`, which has room for them.
fn put(place: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(place) = place.get_mut(at..at + octets.len()) {
        place.copy_from_slice(octets);
    }
}
