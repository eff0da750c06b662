//! What a flow's worker shares: with readers of its counters, and with the worker of the opposite
//! flow. Nobody ever stops the worker to read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use relay_abi::{U16, U32, counters::FlowCounters, flow::Endpoint, reception::Reception};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// What the opposite flow's worker needs to know of a flow.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub(super) struct Translation {
    /// The learned peer. Read only with [`Translation::PEER`] or [`Translation::PAIR`].
    pub peer: Endpoint,
    /// Where the leg's RTCP comes from. Read only with [`Translation::RTCP`].
    pub rtcp: Endpoint,
    pub ssrc_in: U32,
    pub ssrc_out: U32,
    pub timestamp_offset: U32,
    /// Extended sequence numbers out less those in, modulo 2^32. Read, as the three before, only
    /// with [`Translation::SSRC`].
    pub sequence_shift: U32,
    /// A set of this type's constants.
    pub known: U16,
    pub zero: U16,
}

impl Translation {
    pub(super) const PEER: u16 = 1 << 0;
    pub(super) const RTCP: u16 = 1 << 1;
    pub(super) const SSRC: u16 = 1 << 2;
    /// `peer` is where ICE says that the leg can be reached, though nobody is pinned yet.
    pub(super) const PAIR: u16 = 1 << 3;

    pub(super) fn knows(&self, what: u16) -> bool {
        self.known.get() & what == what
    }

    /// Where the leg hears RTP, as far as it is known.
    pub(super) fn destination(&self) -> Option<Endpoint> {
        (self.knows(Self::PEER) || self.knows(Self::PAIR)).then_some(self.peer)
    }
}

const WORDS: usize = 7;
const _: () = assert!(size_of::<Translation>() == WORDS * 8);

/// A [`Translation`] with one writer and any number of readers. `version` is odd while it is being
/// written.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Published {
    version: AtomicU32,
    words: [AtomicU64; WORDS],
}

/// A reader's copy of a [`Translation`], taken anew only when the writer published another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    version: u32,
    pub translation: Translation,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Counters {
    packets: AtomicU64,
    octets: AtomicU64,
    dropped: AtomicU64,
    last_seen: AtomicU64,
    reception: [AtomicU64; 4],
    rtcp_packets: AtomicU64,
    srtp_failures: AtomicU64,
}

/// The shared part of one flow.
#[derive(Debug, Default)]
pub(super) struct FlowShared {
    published: Published,
    counters: Counters,
}

// What readers of the translation wait for is never where the counters are written.
const _: () = assert!(size_of::<FlowShared>() == 3 * 64);

/// What a worker has counted of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowCounters {
    /// RTP relayed and dropped, as the kernel counts it.
    pub flow: FlowCounters,
    /// RTCP packets (compounds) relayed.
    pub rtcp_packets: u64,
    /// SRTP and SRTCP packets refused.
    pub srtp_failures: u64,
    /// The pinned source.
    pub peer: Option<std::net::SocketAddr>,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Relaxed,
    );
}

/// The writing side: the flow's own worker, and nobody else.
impl FlowShared {
    pub(super) fn reset(&self) {
        self.publish(&Translation::default());
        let counters = &self.counters;
        for counter in [
            &counters.packets,
            &counters.octets,
            &counters.dropped,
            &counters.last_seen,
            &counters.rtcp_packets,
            &counters.srtp_failures,
        ]
        .into_iter()
        .chain(&counters.reception)
        {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn publish(&self, translation: &Translation) {
        let words: [u64; WORDS] = transmute!(*translation);
        let version = self.published.version.load(Ordering::Relaxed);
        self.published
            .version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (shared, word) in self.published.words.iter().zip(words) {
            shared.store(word, Ordering::Relaxed);
        }
        self.published
            .version
            .store(version.wrapping_add(2), Ordering::Release);
    }

    pub(super) fn relayed(&self, octets: usize, now: u64, reception: &Reception) {
        add(&self.counters.packets, 1);
        add(&self.counters.octets, octets as u64);
        self.counters.last_seen.store(now, Ordering::Relaxed);
        let words: [u64; 4] = transmute!(*reception);
        for (shared, word) in self.counters.reception.iter().zip(words) {
            shared.store(word, Ordering::Relaxed);
        }
    }

    pub(super) fn relayed_rtcp(&self) {
        add(&self.counters.rtcp_packets, 1);
    }

    pub(super) fn dropped(&self) {
        add(&self.counters.dropped, 1);
    }

    pub(super) fn srtp_failed(&self) {
        add(&self.counters.srtp_failures, 1);
    }
}

/// The reading side.
impl FlowShared {
    /// Brings `copied` up to date. A translation that is just being written is left for next time.
    pub(super) fn refresh(&self, copied: &mut Copied) {
        let version = self.published.version.load(Ordering::Acquire);
        if version == copied.version || version % 2 == 1 {
            return;
        }
        let mut words = [0; WORDS];
        for (word, shared) in words.iter_mut().zip(&self.published.words) {
            *word = shared.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if self.published.version.load(Ordering::Relaxed) == version {
            *copied = Copied {
                version,
                translation: transmute!(words),
            };
        }
    }

    /// The translation, however long its writer takes.
    pub(super) fn translation(&self) -> Translation {
        let mut copied = Copied::default();
        loop {
            self.refresh(&mut copied);
            let version = self.published.version.load(Ordering::Acquire);
            if copied.version == version {
                return copied.translation;
            }
            std::hint::spin_loop();
        }
    }

    pub(super) fn read(&self) -> SlowCounters {
        let counters = &self.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut words = [0; 4];
        for (word, shared) in words.iter_mut().zip(&counters.reception) {
            *word = load(shared);
        }
        let translation = self.translation();
        SlowCounters {
            flow: FlowCounters {
                packets: load(&counters.packets),
                octets: load(&counters.octets),
                dropped: load(&counters.dropped),
                last_seen: load(&counters.last_seen),
                reception: transmute!(words),
            },
            rtcp_packets: load(&counters.rtcp_packets),
            srtp_failures: load(&counters.srtp_failures),
            peer: translation
                .knows(Translation::PEER)
                .then(|| super::flow::socket_address(&translation.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    fn translation(number: u32) -> Translation {
        Translation {
            ssrc_in: number.into(),
            ssrc_out: (!number).into(),
            timestamp_offset: number.into(),
            sequence_shift: (!number).into(),
            known: Translation::SSRC.into(),
            ..Translation::default()
        }
    }

    #[test]
    fn a_reader_never_sees_half_of_a_translation() {
        let shared = Arc::new(FlowShared::default());
        let writer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || (1..=200_000).for_each(|number| shared.publish(&translation(number)))
        });
        let mut copied = Copied::default();
        while copied.translation.ssrc_in.get() < 200_000 {
            shared.refresh(&mut copied);
            let seen = copied.translation;
            if seen.knows(Translation::SSRC) {
                assert_eq!(seen, translation(seen.ssrc_in.get()));
            }
        }
        writer.join().expect("the writer ends");
    }

    #[test]
    fn a_reset_forgets_everything() {
        let shared = FlowShared::default();
        shared.publish(&translation(7));
        let reception = Reception {
            received: 3,
            ..Reception::default()
        };
        shared.relayed(172, 99, &reception);
        shared.dropped();
        assert_eq!(shared.read().flow.reception, reception);
        assert_eq!(shared.read().flow.octets, 172);
        shared.reset();
        assert_eq!(shared.read(), SlowCounters::default());
        assert_eq!(shared.translation(), Translation::default());
    }
}
