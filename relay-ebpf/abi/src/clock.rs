//! A clock that is cheap where packets come thick.
//!
//! Reading the machine's clock costs as much as a third of the rest of relaying a packet, and
//! makes the processor wait for all memory before it. So it is read for each packet only as long
//! as few come; when many do, one reading serves the next few packets. The timer tick, which costs
//! one load, ends every reading's use, so a time is never older than a tick.

use core::{hint::cold_path, mem::size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// So many packets in one tick get each a reading of its own: 128,000 packets a second at 250
/// ticks a second.
const EXACT: u32 = 512;
/// Of the packets after those, one in this many.
const EVERY: u32 = 32;
/// After this many more readings, one packet in [`SELDOM`] has one: so many packets come in an
/// eighth of a millisecond from 2 million packets a second on.
const MANY: u32 = 256;
const SELDOM: u32 = 256;

/// What one CPU last read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Clock {
    tick: u64,
    time: u64,
    /// How many more packets have this time, if they come in this tick.
    left: u32,
    /// Readings since the tick, as long as they decide.
    readings: u32,
}

const _: () = assert!(size_of::<Clock>() == 24);

impl Clock {
    /// The time of a packet that comes in now, in what `read` gives. `tick` is any number that
    /// changes with the timer tick.
    #[inline(always)]
    pub fn now(&mut self, tick: u64, read: impl FnOnce() -> u64) -> u64 {
        if self.tick == tick && self.left != 0 {
            self.left -= 1;
            return self.time;
        }
        cold_path();
        if self.tick != tick {
            self.tick = tick;
            self.readings = 0;
        }
        if self.readings < EXACT {
            self.readings += 1;
            self.left = 0;
        } else if self.readings < EXACT + MANY {
            self.readings += 1;
            self.left = EVERY - 1;
        } else {
            self.left = SELDOM - 1;
        }
        self.time = read();
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reception::{Arrival, Reception, ticks};
    use proptest::prelude::*;

    const TICK: u64 = 4_000_000;

    fn arrival(now: u64, packet: u32) -> Arrival {
        Arrival {
            generation: 1,
            ticks: ticks(now, 8000),
            sequence: packet as u16,
            timestamp: packet * 160,
            sequence_out: packet as u16,
            timestamp_out: packet * 160,
        }
    }

    #[test]
    fn few_packets_have_each_its_own_time() {
        let mut clock = Clock::default();
        for packet in 0..100_000u64 {
            // 100,000 a second.
            let now = TICK + packet * 10_000;
            assert_eq!(clock.now(now / TICK, || now), now);
        }
    }

    /// Streams of 20 ms packets, so many together that readings are shared: the jitter that
    /// comes out is that of exact times, to within an eighth of a millisecond.
    #[test]
    fn the_jitter_of_many_streams_is_that_of_exact_times() {
        for (streams, gap) in [(3_000u64, 6_666u64), (20_000, 1_000), (100_000, 200)] {
            let mut clock = Clock::default();
            let mut state = 1u64;
            let watched = 7u64;
            let (mut shared, mut exact) = (Reception::default(), Reception::default());
            for round in 0..60u32 {
                // The watched stream comes up to 2 ms early or late.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let wander = (state >> 33) % (4_000_000 / gap);
                for stream in 0..streams {
                    let now = TICK + (u64::from(round) * streams + stream) * gap;
                    let time = clock.now(now / TICK, || now);
                    assert!(time <= now && now - time < TICK);
                    if stream == watched + wander {
                        shared.record(&arrival(time, round));
                        exact.record(&arrival(now, round));
                    }
                }
            }
            let difference = i64::from(shared.jitter) - i64::from(exact.jitter);
            assert!(exact.jitter > 16 * 4, "{streams}: {}", exact.jitter);
            assert!(
                difference.abs() <= 16,
                "{streams}: {} and {}",
                shared.jitter,
                exact.jitter
            );
        }
    }

    proptest! {
        #[test]
        fn a_time_is_never_of_another_tick_and_never_goes_back(
            gaps in proptest::collection::vec(0u64..20_000, 2000),
        ) {
            let mut clock = Clock::default();
            let (mut now, mut last) = (TICK, 0);
            for gap in gaps {
                now += gap;
                let time = clock.now(now / TICK, || now);
                prop_assert!(time <= now && time / TICK == now / TICK && time >= last);
                last = time;
            }
        }
    }
}
