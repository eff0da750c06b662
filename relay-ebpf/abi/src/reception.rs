//! Reception statistics of one source (RFC 3550, sections 6.4.1, A.1, A.3 and A.8).

use core::{hint::cold_path, mem::size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A jump forward of at least this many sequence numbers is a restart, not a loss (RFC 3550,
/// section A.1).
const MAX_DROPOUT: u16 = 3000;
/// A packet at most this far behind is late; further behind it is a restart (RFC 3550, section
/// A.1).
const MAX_MISORDER: u16 = 100;

/// How a source is received, as one CPU or one worker sees it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Reception {
    /// The flow entry's generation that the rest belongs to.
    pub generation: u32,
    /// The first extended sequence number, as it came in; a restart of the source moves it along.
    pub base_sequence: u32,
    /// The highest extended sequence number, as it came in: cycles × 2^16 + sequence.
    pub highest_sequence: u32,
    /// Packets received.
    pub received: u32,
    /// Interarrival jitter in timestamp units, times 16.
    pub jitter: u32,
    /// The last packet's arrival less its timestamp, in timestamp units.
    pub transit: u32,
    /// The timestamp of the packet with the highest sequence number, as it left.
    pub last_timestamp: u32,
    /// The highest sequence number, as it left.
    pub last_sequence: u32,
}

const _: () = assert!(size_of::<Reception>() == 32);

/// One packet, as [`Reception::record`] wants it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The flow entry's generation.
    pub generation: u32,
    /// When it came in, in units of the RTP clock: [`ticks`].
    pub ticks: u32,
    /// As it came in.
    pub sequence: u16,
    /// As it came in.
    pub timestamp: u32,
    /// As it leaves.
    pub sequence_out: u16,
    /// As it leaves.
    pub timestamp_out: u32,
}

/// `nanoseconds` in units of an RTP clock of `clock_rate` hertz, modulo 2^32, without a division:
/// right to one part in four million, and to 256 ns.
#[inline(always)]
#[must_use]
pub fn ticks(nanoseconds: u64, clock_rate: u32) -> u32 {
    ticks_by(nanoseconds, units(clock_rate))
}

/// The units of an RTP clock of `clock_rate` hertz in 256 ns, times 2^32.
#[inline(always)]
#[must_use]
pub const fn units(clock_rate: u32) -> u64 {
    // 2^70 ÷ 10^9: what makes of hertz the units in 256 ns, times 2^62.
    const SCALE: u64 = 1_180_591_620_717;
    (clock_rate as u64).wrapping_mul(SCALE) >> 30
}

/// [`ticks`], of a clock with these [`units`].
#[inline(always)]
#[must_use]
pub fn ticks_by(nanoseconds: u64, units: u64) -> u32 {
    ((nanoseconds >> 8).wrapping_mul(units) >> 32) as u32
}

impl Reception {
    /// Counts one packet.
    #[inline(always)]
    pub fn record(&mut self, arrival: &Arrival) {
        if self.received == 0 {
            cold_path();
            self.begin(arrival);
        } else {
            self.record_more(arrival);
        }
    }

    /// [`Reception::record`] of a generation that is not 0, which counters have before they count.
    #[inline(always)]
    pub fn record_more(&mut self, arrival: &Arrival) {
        if self.generation != arrival.generation {
            cold_path();
            self.begin(arrival);
            return;
        }
        self.received = self.received.wrapping_add(1);

        let transit = arrival.ticks.wrapping_sub(arrival.timestamp);
        let difference = transit.wrapping_sub(self.transit) as i32;
        self.transit = transit;
        self.jitter = self
            .jitter
            .wrapping_add(difference.unsigned_abs())
            .wrapping_sub(self.jitter.wrapping_add(8) >> 4);

        // How many are missing before it.
        let missing = arrival
            .sequence
            .wrapping_sub(self.highest_sequence as u16)
            .wrapping_sub(1);
        let mut ahead = true;
        if missing >= MAX_DROPOUT - 1 {
            cold_path();
            // Not ahead at all is late too.
            ahead = missing < u16::MAX - MAX_MISORDER;
            if ahead {
                self.base_sequence = self.base_sequence.wrapping_add(missing as u32);
            }
        }
        if ahead {
            self.highest_sequence = self
                .highest_sequence
                .wrapping_add(missing as u32)
                .wrapping_add(1);
            self.last_timestamp = arrival.timestamp_out;
            self.last_sequence = arrival.sequence_out as u32;
        }
    }

    /// Counts the first packet of a generation.
    #[inline(always)]
    fn begin(&mut self, arrival: &Arrival) {
        *self = Self {
            generation: arrival.generation,
            base_sequence: arrival.sequence as u32,
            highest_sequence: arrival.sequence as u32,
            received: 1,
            jitter: 0,
            transit: arrival.ticks.wrapping_sub(arrival.timestamp),
            last_timestamp: arrival.timestamp_out,
            last_sequence: arrival.sequence_out as u32,
        };
    }

    /// Packets that were sent and did not come (RFC 3550, section A.3); negative when some came
    /// twice.
    #[must_use]
    pub fn lost(&self) -> i64 {
        if self.received == 0 {
            return 0;
        }
        let expected = self
            .highest_sequence
            .wrapping_sub(self.base_sequence)
            .wrapping_add(1);
        i64::from(expected) - i64::from(self.received)
    }

    /// Puts together what two CPUs, or a CPU and a worker, saw of one source; `later` is the one
    /// that saw it last and decides where they are of different generations.
    ///
    /// Two that took turns each know their own losses; two that shared the packets each miss what
    /// the other had. The smaller of both readings is the true one, but for what was lost just
    /// when the turn changed.
    #[must_use]
    pub fn merge(self, later: Self) -> Self {
        if self.received == 0 || (later.received != 0 && self.generation != later.generation) {
            return later;
        }
        if later.received == 0 {
            return self;
        }
        let received = self.received.wrapping_add(later.received);
        let separate = self.lost() + later.lost();

        let offset = (self.highest_sequence as u16).wrapping_sub(later.highest_sequence as u16);
        let highest = i64::from(later.highest_sequence) + i64::from(offset as i16);
        let length = self.highest_sequence.wrapping_sub(self.base_sequence);
        let first = (highest - i64::from(length)).min(i64::from(later.base_sequence));
        let last = highest.max(i64::from(later.highest_sequence));
        let shared = last - first + 1 - i64::from(received);

        let lost = separate.min(shared);
        let leading = if offset as i16 > 0 { self } else { later };
        let expected = (i64::from(received) + lost).max(1) as u32;
        Self {
            received,
            highest_sequence: leading.highest_sequence,
            base_sequence: leading.highest_sequence.wrapping_sub(expected - 1),
            last_timestamp: leading.last_timestamp,
            last_sequence: leading.last_sequence,
            ..later
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrival(sequence: u16) -> Arrival {
        Arrival {
            generation: 1,
            ticks: 1000,
            sequence,
            timestamp: 0,
            sequence_out: sequence,
            timestamp_out: 0,
        }
    }

    fn received(sequences: impl IntoIterator<Item = u16>) -> Reception {
        let mut reception = Reception::default();
        for sequence in sequences {
            reception.record(&arrival(sequence));
        }
        reception
    }

    #[test]
    fn losses() {
        for (description, sequences, lost) in [
            ("none", &[1, 2, 3][..], 0),
            ("one", &[1, 3], 1),
            ("one that comes late", &[1, 3, 2], 0),
            ("over the wrap", &[65_534, 65_535, 2], 2),
            ("late over the wrap", &[65_535, 1, 0], 0),
            ("one twice", &[1, 2, 2], -1),
            (
                "a source that starts anew is no loss",
                &[1, 2, 40_000, 40_001],
                0,
            ),
            ("nor is one that goes back", &[40_000, 40_001, 7, 8], 0),
            ("a loss just below a restart", &[0, 2_999], 2_998),
            ("a restart", &[0, 3_000], 0),
        ] {
            assert_eq!(
                received(sequences.iter().copied()).lost(),
                lost,
                "{description}"
            );
        }
        assert_eq!(Reception::default().lost(), 0);
    }

    #[test]
    fn a_generation_starts_anew() {
        let mut reception = received([1, 9]);
        reception.record(&Arrival {
            generation: 2,
            ..arrival(100)
        });
        assert_eq!(reception.received, 1);
        assert_eq!(reception.lost(), 0);
    }

    /// RFC 3550, section A.8, in floating point, is the oracle.
    #[test]
    fn jitter_is_that_of_the_rfc() {
        let mut reception = Reception::default();
        let (mut jitter, mut before) = (0.0f64, None::<f64>);
        let mut now = 0u64;
        for packet in 0..500u32 {
            now += 20_000_000 + u64::from(packet * 7919 % 11) * 500_000;
            let ticks = ticks(now, 8000);
            reception.record(&Arrival {
                ticks,
                timestamp: packet * 160,
                ..arrival(packet as u16)
            });
            let transit = f64::from(ticks) - f64::from(packet * 160);
            if let Some(before) = before {
                jitter += ((transit - before).abs() - jitter) / 16.0;
            }
            before = Some(transit);
        }
        let measured = f64::from(reception.jitter) / 16.0;
        assert!(jitter > 5.0);
        assert!((measured - jitter).abs() < 1.0, "{measured} and {jitter}");
    }

    proptest! {
        #[test]
        fn ticks_are_the_clock_s_units(
            now in 0u64..1 << 57,
            rate in prop_oneof![Just(8000u32), Just(16_000), Just(48_000), Just(90_000)],
            later in 0u64..10_000_000_000,
        ) {
            let elapsed = ticks(now + later, rate).wrapping_sub(ticks(now, rate));
            let exact = later as f64 * f64::from(rate) / 1e9;
            prop_assert!((f64::from(elapsed) - exact).abs() <= 2.0, "{elapsed} {exact}");
        }

        /// However a stream is spread over two CPUs, packet by packet or in turns, the losses of
        /// both together are those of one that sees it all, but for the turns themselves.
        #[test]
        fn two_halves_make_the_whole(
            first in any::<u16>(), split in proptest::collection::vec(any::<bool>(), 200),
            lost in proptest::collection::vec(0usize..20, 200), turn in proptest::option::of(0usize..200),
        ) {
            let (mut one, mut other, mut all) =
                (Reception::default(), Reception::default(), Reception::default());
            for index in 0..200 {
                if lost[index] == 0 {
                    continue;
                }
                let packet = arrival(first.wrapping_add(index as u16));
                all.record(&packet);
                let to_one = turn.map_or(split[index], |turn| index < turn);
                if to_one { one.record(&packet) } else { other.record(&packet) }
            }
            let merged = one.merge(other);
            prop_assert_eq!(merged.received, all.received);
            prop_assert_eq!(merged.highest_sequence as u16, all.highest_sequence as u16);
            let at_turns = if turn.is_some() { 20 } else { 0 };
            prop_assert!(merged.lost() <= all.lost());
            prop_assert!(merged.lost() + at_turns >= all.lost());
        }
    }
}
