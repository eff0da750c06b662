//! Whether the sound that arrived is the sound that was sent.
//!
//! Both become sequences of short-time spectra. A stretch of what arrived is looked for in what
//! was sent; from there on, window by window, the spectra must agree. Each window may shift a
//! little, as jitter buffers shift it; what never was sent finds no place.

use std::fmt;

use super::{Melody, SAMPLE_RATE, melody::TONES};

/// Samples from one spectrum to the next: 10 ms.
const HOP: usize = SAMPLE_RATE / 100;
/// Samples in a spectrum: 20 ms.
const FRAME: usize = HOP * 2;
/// Spectra in a window: half a second.
const WINDOW: usize = 50;
/// Spectra that a window may lie off the place where the last one was: 150 ms.
const DRIFT: usize = 15;
/// Spectra in the stretch that is looked for.
const STRETCH: usize = 200;
/// The cosine from which on a window agrees. Unrelated melodies stay under 0.5, the same melody
/// through G.711 stays over 0.99.
const AGREES: f32 = 0.85;
/// The share of windows that have to agree.
const SHARE: f32 = 0.9;
/// The power under which a spectrum is silence: far under the quietest note, far over what G.711
/// makes of nothing.
const AUDIBLE: f32 = 150.0;

type Spectrum = [f32; TONES.len()];

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Half-seconds of what arrived in which there was sound.
    pub windows: usize,
    /// Those that agree with what was sent.
    pub agreeing: usize,
    /// Where in what was sent the first of what arrived was found, in milliseconds; negative when
    /// what arrived began earlier.
    pub offset_ms: i64,
}

impl Comparison {
    /// Seconds of sound that agree.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.agreeing * WINDOW * HOP) as f64 / SAMPLE_RATE as f64
    }

    /// Whether at least `seconds` of sound arrived and it is what was sent.
    #[must_use]
    pub fn is_same(&self, seconds: f64) -> bool {
        self.windows > 0
            && self.agreeing as f32 >= self.windows as f32 * SHARE
            && self.seconds() >= seconds
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} of {} half-seconds agree, found {} ms into what was sent",
            self.agreeing, self.windows, self.offset_ms
        )
    }
}

/// Asserts that at least `seconds` of a melody arrived at somebody, as it was sent.
///
/// # Panics
/// When it was something else, or less.
#[track_caller]
pub fn assert_heard(who: &str, sent: &Melody, arrived: &[i16], seconds: f64) -> Comparison {
    let comparison = compare(sent.samples(), arrived);
    assert!(comparison.is_same(seconds), "{who} heard: {comparison}");
    comparison
}

/// Compares what arrived with what was sent, both at 8 kHz.
#[must_use]
pub fn compare(sent: &[i16], arrived: &[i16]) -> Comparison {
    let sent = spectra(sent);
    let arrived = spectra(arrived);
    let nothing = Comparison {
        windows: 0,
        agreeing: 0,
        offset_ms: 0,
    };
    let Some(first) = arrived.iter().position(is_audible) else {
        return nothing;
    };
    let last = arrived.iter().rposition(is_audible).unwrap_or(first);
    // The first moments may be a jitter buffer finding its feet: the stretch lies a little later
    // where there is enough of it.
    let start = (first + WINDOW).min((last + 1).saturating_sub(STRETCH).max(first));
    let stretch = &arrived[start..(start + STRETCH).min(arrived.len())];
    let Some(place) = locate(&sent, stretch) else {
        return nothing;
    };
    let mut shift = place as i64 - start as i64;
    let found = shift;
    let (mut windows, mut agreeing) = (0, 0);
    for begin in (first..=last).step_by(WINDOW) {
        let window = &arrived[begin..(begin + WINDOW).min(arrived.len())];
        let audible = window
            .iter()
            .filter(|spectrum| is_audible(spectrum))
            .count();
        if audible < WINDOW / 4 {
            continue;
        }
        windows += 1;
        let drift = DRIFT as i64;
        let best = (-drift..=drift)
            .filter_map(|off| {
                let at = usize::try_from(begin as i64 + shift + off).ok()?;
                let there = sent.get(at..at + window.len())?;
                Some((likeness(there, window), off))
            })
            .max_by(|left, right| left.0.total_cmp(&right.0));
        if let Some((likeness, off)) = best
            && likeness >= AGREES
        {
            agreeing += 1;
            shift += off;
        }
    }
    Comparison {
        windows,
        agreeing,
        offset_ms: found * (HOP * 1000 / SAMPLE_RATE) as i64,
    }
}

fn locate(sent: &[Spectrum], stretch: &[Spectrum]) -> Option<usize> {
    if stretch.is_empty() || sent.len() < stretch.len() {
        return None;
    }
    (0..=sent.len() - stretch.len())
        .map(|at| (likeness(&sent[at..at + stretch.len()], stretch), at))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, at)| at)
}

/// The cosine of the angle between two sequences of spectra.
fn likeness(left: &[Spectrum], right: &[Spectrum]) -> f32 {
    let (mut product, mut left_power, mut right_power) = (0.0f32, 0.0f32, 0.0f32);
    for (left, right) in left.iter().zip(right) {
        for (left, right) in left.iter().zip(right) {
            product += left * right;
            left_power += left * left;
            right_power += right * right;
        }
    }
    let power = (left_power * right_power).sqrt();
    if power > 0.0 { product / power } else { 0.0 }
}

/// Loudness at each tone, less what lies evenly under all of them: noise has no shape.
fn spectra(samples: &[i16]) -> Vec<Spectrum> {
    let window: Vec<f32> = (0..FRAME)
        .map(|index| {
            let turn = std::f32::consts::TAU * index as f32 / FRAME as f32;
            0.5 - 0.5 * turn.cos()
        })
        .collect();
    let coefficients = TONES.map(|tone| {
        let turn = std::f32::consts::TAU * tone / SAMPLE_RATE as f32;
        2.0 * turn.cos()
    });
    let frames = samples.len().saturating_sub(FRAME - HOP) / HOP;
    (0..frames)
        .map(|frame| {
            let shaped: Vec<f32> = samples[frame * HOP..frame * HOP + FRAME]
                .iter()
                .zip(&window)
                .map(|(&sample, shape)| f32::from(sample) * shape)
                .collect();
            let mut spectrum = coefficients.map(|coefficient| magnitude(&shaped, coefficient));
            let mut ordered = spectrum;
            ordered.sort_by(f32::total_cmp);
            let floor = ordered[TONES.len() / 2];
            for loudness in &mut spectrum {
                *loudness = (*loudness - floor).max(0.0);
            }
            spectrum
        })
        .collect()
}

/// Goertzel's algorithm, in units of amplitude.
fn magnitude(shaped: &[f32], coefficient: f32) -> f32 {
    let (mut last, mut before) = (0.0f32, 0.0f32);
    for sample in shaped {
        let now = sample + coefficient * last - before;
        before = last;
        last = now;
    }
    let power = last * last + before * before - coefficient * last * before;
    power.max(0.0).sqrt() * 4.0 / shaped.len() as f32
}

fn is_audible(spectrum: &Spectrum) -> bool {
    spectrum
        .iter()
        .fold(0.0f32, |most, &loudness| most.max(loudness))
        > AUDIBLE
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::sound::{Melody, g711};

    fn through_g711(samples: &[i16]) -> Vec<i16> {
        samples
            .iter()
            .map(|&sample| g711::decode_ulaw(g711::encode_ulaw(sample)))
            .collect()
    }

    /// Eight seconds out of the middle, as a phone hears them.
    fn heard(melody: &Melody) -> Vec<i16> {
        through_g711(&melody.samples()[12_345..12_345 + 8 * SAMPLE_RATE])
    }

    #[test]
    fn the_sound_that_was_sent_is_recognised_through_g711_and_any_offset() {
        let melody = Melody::new(1, 20);
        let mut arrived = vec![0; 3_333];
        arrived.extend(heard(&melody));
        let comparison = compare(melody.samples(), &arrived);
        assert!(comparison.is_same(6.0), "{comparison}");
        assert!((comparison.offset_ms - (12_345 - 3_333) / 8).abs() <= 20);
    }

    #[test]
    fn a_little_loss_and_a_shifting_jitter_buffer_are_forgiven() {
        let melody = Melody::new(2, 20);
        let mut arrived = heard(&melody);
        arrived[20_000..20_160].fill(0);
        arrived.splice(30_000..30_000, vec![0; 320]);
        arrived.drain(45_000..45_160);
        let comparison = compare(melody.samples(), &arrived);
        assert!(comparison.is_same(6.0), "{comparison}");
    }

    #[test]
    fn silence_and_nothing_are_refused() {
        let melody = Melody::new(3, 20);
        let silence = vec![g711::decode_ulaw(0xff); 8 * SAMPLE_RATE];
        assert!(!compare(melody.samples(), &silence).is_same(0.0));
        assert!(!compare(melody.samples(), &[]).is_same(0.0));
    }

    #[test]
    fn noise_is_refused_as_is_ciphertext_taken_for_sound() {
        let melody = Melody::new(4, 20);
        let mut random = StdRng::seed_from_u64(9);
        let noise: Vec<i16> = (0..8 * SAMPLE_RATE)
            .map(|_| random.random_range(-8_000..8_000))
            .collect();
        let ciphertext: Vec<i16> = (0..8 * SAMPLE_RATE)
            .map(|_| g711::decode_ulaw(random.random()))
            .collect();
        for refused in [noise, ciphertext] {
            let comparison = compare(melody.samples(), &refused);
            assert!(!comparison.is_same(0.0), "{comparison}");
        }
    }

    #[test]
    fn another_partys_sound_is_refused() {
        let melody = Melody::new(5, 20);
        for seed in 100..110 {
            let comparison = compare(melody.samples(), &heard(&Melody::new(seed, 20)));
            assert!(!comparison.is_same(0.0), "{comparison}");
        }
    }

    #[test]
    fn sound_garbled_or_cut_off_half_way_is_refused() {
        let melody = Melody::new(6, 20);
        let mut random = StdRng::seed_from_u64(10);
        let mut garbled = heard(&melody);
        for packet in garbled.chunks_mut(160).step_by(2) {
            for sample in packet {
                *sample = g711::decode_ulaw(random.random());
            }
        }
        let comparison = compare(melody.samples(), &garbled);
        assert!(!comparison.is_same(0.0), "{comparison}");

        let mut half_way = heard(&melody);
        let middle = half_way.len() / 2;
        half_way[middle..].copy_from_slice(&heard(&Melody::new(7, 20))[middle..]);
        let comparison = compare(melody.samples(), &half_way);
        assert!(!comparison.is_same(0.0), "{comparison}");

        let mut cut = heard(&melody);
        cut.truncate(2 * SAMPLE_RATE);
        assert!(!compare(melody.samples(), &cut).is_same(6.0));
    }

    #[test]
    fn sound_out_of_order_is_refused() {
        let melody = Melody::new(8, 20);
        let mut shuffled = Vec::new();
        for second in [5, 2, 7, 0, 3, 6, 1, 4] {
            let begin = second * SAMPLE_RATE;
            shuffled.extend_from_slice(&heard(&melody)[begin..begin + SAMPLE_RATE]);
        }
        let comparison = compare(melody.samples(), &shuffled);
        assert!(!comparison.is_same(0.0), "{comparison}");
    }
}
