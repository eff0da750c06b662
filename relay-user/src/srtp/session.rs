//! The edge to libsrtp: the only place that calls it. Its Rust wrapper wants a buffer that can grow,
//! so the C functions are called here. Master key identifiers are put in and taken out here too:
//! libsrtp looks for the one of SRTCP at the wrong place where the tags of SRTP and SRTCP differ.

use std::{ffi::c_int, mem::MaybeUninit};

use srtp::{CryptoPolicy, Error, sys};

use super::{
    SOURCES, SrtpError,
    turns::{TURNS, Tries},
};
use crate::media::{SrtpKey, SrtpSuite};

/// The longest MKI (RFC 4568, section 6.1).
const LONGEST_MKI: usize = 128;

/// What libsrtp may write behind a packet, its own limit and SRTCP's index (RFC 3711, section 3.4),
/// which has room for the MKI.
pub(super) const TRAILER: usize = sys::SRTP_MAX_TRAILER_LEN as usize + 4;

const _: () = assert!(TRAILER >= LONGEST_MKI + 16 + 4);

/// Packets that may come late (RFC 3711, section 3.3.2, asks for 64 at least).
const REPLAY_WINDOW: u64 = 128;

/// How far the packets are apart that [`Session::walk`] goes by: less than half a turn, or libsrtp
/// would take the next one for one of the turn before.
const STRIDE: u64 = 1 << 14;

/// The longest packet that is tried with more than one ROC. Longer ones are no telephone's.
const LONGEST_TRIED: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Protect,
    ProtectRtcp,
    Unprotect,
    UnprotectRtcp,
}

impl Operation {
    fn protects(self) -> bool {
        matches!(self, Self::Protect | Self::ProtectRtcp)
    }
}

/// What `srtp_create` made and nobody else owns.
#[derive(Debug)]
struct Context(sys::srtp_t);

// SAFETY: a session has no tie to the thread that made it, and `Context` hands it out only to
// callers that borrow it mutably.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the session is live, owned by `self` alone and never used again. libsrtp wipes
        // the keys that it derived.
        unsafe { sys::srtp_dealloc(self.0) };
    }
}

/// A libsrtp session with one key for any SSRC.
#[derive(Debug)]
pub(super) struct Session {
    inner: Context,
    key: SrtpKey,
    /// The SSRCs that libsrtp keeps a stream for; the first `used` of them.
    sources: [u32; SOURCES],
    used: usize,
    /// Whether RTP was unprotected.
    begun: bool,
    tries: Tries,
}

impl Session {
    pub(super) fn new(key: &SrtpKey, direction: Direction) -> Result<Self, SrtpError> {
        let mki_fits = key
            .mki
            .as_ref()
            .is_none_or(|mki| (1..=LONGEST_MKI).contains(&mki.len()));
        if key.master.len() != key.suite.master_length() || !mki_fits {
            return Err(SrtpError::Key);
        }
        srtp::ensure_init();
        let template = match direction {
            Direction::Inbound => sys::srtp_ssrc_type_t_ssrc_any_inbound,
            Direction::Outbound => sys::srtp_ssrc_type_t_ssrc_any_outbound,
        };
        let inner = with_policy(key, template, 0, |policy| {
            let mut session = MaybeUninit::<sys::srtp_t>::uninit();
            // SAFETY: `policy` and the key material it points to live until the call returns, and
            // libsrtp keeps no pointer to them. On success it has written a session that nobody
            // else owns.
            unsafe {
                Error::check(sys::srtp_create(session.as_mut_ptr(), policy))?;
                Ok(Context(session.assume_init()))
            }
        })
        .map_err(translate)?;
        Ok(Self {
            inner,
            key: key.clone(),
            sources: [0; SOURCES],
            used: 0,
            begun: false,
            tries: Tries::default(),
        })
    }

    pub(super) fn key(&self) -> &SrtpKey {
        &self.key
    }

    /// Runs one of libsrtp's four in place on the first `length` octets of `buffer`.
    pub(super) fn run(
        &mut self,
        operation: Operation,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, SrtpError> {
        let ssrc_at = match operation {
            Operation::Protect | Operation::Unprotect => RTP_SSRC,
            Operation::ProtectRtcp | Operation::UnprotectRtcp => RTCP_SSRC,
        };
        let protecting = operation.protects();
        let room = buffer.len();
        if length > room || (protecting && room - length < TRAILER) {
            return Err(SrtpError::NoRoom);
        }
        let ssrc = buffer
            .get(..length)
            .and_then(|packet| ssrc(packet, ssrc_at))
            .ok_or(SrtpError::Malformed)?;
        let known = self.knows(ssrc);
        if !known && self.used == SOURCES {
            return Err(SrtpError::Sources);
        }
        let length = if protecting {
            length
        } else {
            self.take_mki(operation, buffer, length)?
        };

        let session = self.inner.0;
        let packet = buffer.as_mut_ptr().cast();
        let mut processed = c_int::try_from(length).map_err(|_| SrtpError::Malformed)?;
        // SAFETY: `session` is a live libsrtp session that only `self` refers to, and `self` is
        // borrowed mutably. `packet` points to `length` initialised octets of a buffer that is
        // borrowed mutably; unprotecting writes nothing behind them, and protecting at most
        // `TRAILER` octets, which were checked to be there. `processed` outlives the call.
        let status = unsafe {
            match operation {
                Operation::Protect => sys::srtp_protect(session, packet, &mut processed),
                Operation::ProtectRtcp => sys::srtp_protect_rtcp(session, packet, &mut processed),
                Operation::Unprotect => sys::srtp_unprotect(session, packet, &mut processed),
                Operation::UnprotectRtcp => {
                    sys::srtp_unprotect_rtcp(session, packet, &mut processed)
                }
            }
        };
        let result = Error::check(status).map_err(translate);
        // A stream is kept for a new SSRC once a packet of it was authentic; protecting makes it
        // before it looks at the rest of the packet.
        if !known && (result.is_ok() || protecting) {
            self.remember(ssrc);
        }
        result?;
        match usize::try_from(processed) {
            Ok(processed) if processed <= room && protecting => {
                self.put_mki(operation, buffer, processed)
            }
            Ok(processed) if processed <= length => Ok(processed),
            _ => Err(SrtpError::Failed),
        }
    }

    /// Takes the MKI out of a protected packet (RFC 3711, sections 3.1 and 3.4) and says how long
    /// the packet is without it. It is not authenticated.
    fn take_mki(
        &self,
        operation: Operation,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, SrtpError> {
        let Some(mki) = &self.key.mki else {
            return Ok(length);
        };
        let behind = self.behind_mki(operation);
        let start = length
            .checked_sub(behind + mki.len())
            .ok_or(SrtpError::Malformed)?;
        let end = start + mki.len();
        if buffer.get(start..end) != Some(mki.as_slice()) {
            return Err(SrtpError::Mki);
        }
        buffer.copy_within(end..length, start);
        Ok(length - mki.len())
    }

    /// Puts the MKI into a packet of `length` octets that was protected without one.
    fn put_mki(
        &self,
        operation: Operation,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<usize, SrtpError> {
        let Some(mki) = &self.key.mki else {
            return Ok(length);
        };
        let start = length
            .checked_sub(self.behind_mki(operation))
            .ok_or(SrtpError::Failed)?;
        let end = start + mki.len();
        if length + mki.len() > buffer.len() {
            return Err(SrtpError::NoRoom);
        }
        buffer.copy_within(start..length, end);
        if let Some(place) = buffer.get_mut(start..end) {
            place.copy_from_slice(mki);
        }
        Ok(length + mki.len())
    }

    /// The octets that follow the MKI: the tag, but for GCM, whose tag is part of the cipher text
    /// (RFC 7714, sections 8.2 and 9.2).
    fn behind_mki(&self, operation: Operation) -> usize {
        let rtcp = matches!(operation, Operation::ProtectRtcp | Operation::UnprotectRtcp);
        match self.key.suite {
            SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm => 0,
            SrtpSuite::AesCm128HmacSha1_32 | SrtpSuite::AesCm256HmacSha1_32 if !rtcp => 4,
            _ => 10,
        }
    }

    pub(super) fn roc(&mut self, ssrc: u32) -> Option<u32> {
        let mut roc = 0;
        // SAFETY: the session is live and borrowed mutably; `roc` outlives the call.
        Error::check(unsafe { sys::srtp_get_stream_roc(self.inner.0, ssrc, &mut roc) }).ok()?;
        Some(roc)
    }

    /// Lets what is protected for `ssrc` go on at `roc`.
    pub(super) fn set_roc(&mut self, ssrc: u32, roc: u32) -> Result<(), SrtpError> {
        if self.is_gcm() {
            return Err(SrtpError::Rollover);
        }
        if !self.knows(ssrc) {
            self.add(ssrc)?;
        }
        self.expect(ssrc, roc)
    }

    /// Unprotects the RTP packet that fills `packet`. Until a packet of the key was authentic, one
    /// that is not at ROC 0 is tried with [`TURNS`] of them.
    pub(super) fn unprotect(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = packet.len();
        if self.begun {
            return self.run(Operation::Unprotect, packet, length);
        }
        let mut place = [0; LONGEST_TRIED];
        // A packet that was refused is not what it was.
        let came = place.get_mut(..length).map(|came| {
            came.copy_from_slice(packet);
            &*came
        });
        let result = match (self.run(Operation::Unprotect, packet, length), came) {
            (Err(SrtpError::Authentication), Some(came)) if self.tries.are_due() => {
                self.unprotect_in_a_later_turn(packet, came)
            }
            (result, _) => result,
        };
        self.begun = result.is_ok();
        result
    }

    /// Unprotects the packet that came as `came` and is not of the first turn.
    fn unprotect_in_a_later_turn(
        &mut self,
        packet: &mut [u8],
        came: &[u8],
    ) -> Result<usize, SrtpError> {
        let ssrc = ssrc(came, RTP_SSRC).ok_or(SrtpError::Malformed)?;
        let sequence = came.get(2..).and_then(|came| came.first_chunk());
        let sequence = u16::from_be_bytes(*sequence.ok_or(SrtpError::Malformed)?);
        // RTCP may have come before.
        let known = self.knows(ssrc);
        if !known {
            self.add(ssrc)?;
        }
        for roc in 1..TURNS {
            self.expect(ssrc, roc)?;
            packet.copy_from_slice(came);
            match self.run(Operation::Unprotect, packet, came.len()) {
                Err(_) => {}
                Ok(_) if self.is_gcm() => {
                    self.walk(ssrc, u64::from(roc) << 16 | u64::from(sequence))?;
                    packet.copy_from_slice(came);
                    return self.run(Operation::Unprotect, packet, came.len());
                }
                taken => return taken,
            }
        }
        match known {
            true => self.expect(ssrc, 0)?,
            false => self.forget(ssrc),
        }
        Err(SrtpError::Authentication)
    }

    /// Brings the stream of `ssrc` to where `index` comes next, of whose earlier packets the window
    /// knows nothing. With GCM libsrtp unprotects at a ROC that it is told, but counts no index and
    /// so would take replays for ever. So it is given packets of our own, which nobody else sees.
    fn walk(&mut self, ssrc: u32, index: u64) -> Result<(), SrtpError> {
        self.expect(ssrc, 0)?;
        let mut own = Self::new(&self.key, Direction::Outbound)?;
        let last = index.saturating_sub(2 * REPLAY_WINDOW);
        let mut at = 0;
        while at < last {
            at = last.min(at + STRIDE);
            let mut packet = [0; OWN + TRAILER];
            let [.., high, low] = at.to_be_bytes();
            let [a, b, c, d] = ssrc.to_be_bytes();
            let header = [0x80, 0, high, low, 0, 0, 0, 0, a, b, c, d];
            if let Some(place) = packet.first_chunk_mut() {
                *place = header;
            }
            let length = own.run(Operation::Protect, &mut packet, OWN)?;
            let sealed = packet.get_mut(..length).ok_or(SrtpError::Failed)?;
            self.run(Operation::Unprotect, sealed, length)?;
        }
        Ok(())
    }

    fn is_gcm(&self) -> bool {
        matches!(
            self.key.suite,
            SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm
        )
    }

    /// Makes a stream for `ssrc`, which has none, before a packet of it was seen.
    fn add(&mut self, ssrc: u32) -> Result<(), SrtpError> {
        if self.used == SOURCES {
            return Err(SrtpError::Sources);
        }
        let session = self.inner.0;
        let specific = sys::srtp_ssrc_type_t_ssrc_specific;
        with_policy(&self.key, specific, ssrc, |policy| {
            // SAFETY: `session` is live and borrowed mutably; `policy` and what it points to
            // live until the call returns, and libsrtp keeps no pointer to them.
            Error::check(unsafe { sys::srtp_add_stream(session, policy) })
        })
        .map_err(translate)?;
        self.remember(ssrc);
        Ok(())
    }

    /// Takes away the stream that [`Session::add`] has just made.
    fn forget(&mut self, ssrc: u32) {
        // SAFETY: the session is live and borrowed mutably. libsrtp wants the SSRC as it stands in
        // a packet.
        unsafe { sys::srtp_remove_stream(self.inner.0, ssrc.to_be()) };
        self.used = self.used.saturating_sub(1);
    }

    /// Lets the next packet of `ssrc`, which has a stream, be at `roc`; 0: at what it is guessed.
    fn expect(&mut self, ssrc: u32, roc: u32) -> Result<(), SrtpError> {
        // SAFETY: the session is live and borrowed mutably.
        Error::check(unsafe { sys::srtp_set_stream_roc(self.inner.0, ssrc, roc) })
            .map_err(translate)
    }

    fn knows(&self, ssrc: u32) -> bool {
        self.sources
            .get(..self.used)
            .is_some_and(|sources| sources.contains(&ssrc))
    }

    fn remember(&mut self, ssrc: u32) {
        if let Some(slot) = self.sources.get_mut(self.used) {
            *slot = ssrc;
            self.used += 1;
        }
    }
}

/// The octets of a packet of our own: a header and something behind it.
const OWN: usize = 16;

/// Where the SSRC is, in RTP and in RTCP.
const RTP_SSRC: usize = 8;
const RTCP_SSRC: usize = 4;

fn ssrc(packet: &[u8], at: usize) -> Option<u32> {
    let octets = packet.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*octets))
}

/// Calls `action` with the policy of `key`, whose key material lives as long as the call.
fn with_policy<T>(
    key: &SrtpKey,
    kind: sys::srtp_ssrc_type_t,
    ssrc: u32,
    action: impl FnOnce(&sys::srtp_policy_t) -> Result<T, Error>,
) -> Result<T, Error> {
    let (rtp, rtcp) = policies(key.suite);
    // SAFETY: the policy is a C struct of integers and pointers, for which all zeros are valid.
    let mut policy: sys::srtp_policy_t = unsafe { MaybeUninit::zeroed().assume_init() };
    policy.ssrc.type_ = kind;
    policy.ssrc.value = ssrc;
    policy.rtp = rtp.into_raw();
    policy.rtcp = rtcp.into_raw();
    policy.window_size = REPLAY_WINDOW;
    // libsrtp asks for a mutable pointer and does not write through it.
    policy.key = key.master.as_ptr().cast_mut();
    action(&policy)
}

/// The suites as libsrtp names them. SRTCP has the long tag in every suite (RFC 4568, section
/// 6.2.2; RFC 6188, section 4).
fn policies(suite: SrtpSuite) -> (CryptoPolicy, CryptoPolicy) {
    let cm128 = CryptoPolicy::aes_cm_128_hmac_sha1_80;
    let cm256 = CryptoPolicy::aes_cm_256_hmac_sha1_80;
    match suite {
        SrtpSuite::AesCm128HmacSha1_80 => (cm128(), cm128()),
        SrtpSuite::AesCm128HmacSha1_32 => (CryptoPolicy::aes_cm_128_hmac_sha1_32(), cm128()),
        SrtpSuite::AesCm256HmacSha1_80 => (cm256(), cm256()),
        SrtpSuite::AesCm256HmacSha1_32 => (CryptoPolicy::aes_cm_256_hmac_sha1_32(), cm256()),
        SrtpSuite::AeadAes128Gcm => (
            CryptoPolicy::aes_gcm_128_16_auth(),
            CryptoPolicy::aes_gcm_128_16_auth(),
        ),
        SrtpSuite::AeadAes256Gcm => (
            CryptoPolicy::aes_gcm_256_16_auth(),
            CryptoPolicy::aes_gcm_256_16_auth(),
        ),
    }
}

fn translate(error: Error) -> SrtpError {
    match error {
        Error::AUTH_FAIL => SrtpError::Authentication,
        Error::REPLAY_FAIL | Error::REPLAY_OLD | Error::PKT_IDX_OLD => SrtpError::Replay,
        Error::PARSE_ERR | Error::BAD_PARAM => SrtpError::Malformed,
        _ => SrtpError::Failed,
    }
}
