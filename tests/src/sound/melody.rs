//! A party's own sound: a sequence of two-tone notes and pauses that nobody else plays.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{SAMPLE_RATE, g711};

/// Frequencies that notes are made of, in hertz, inside the telephone band and apart enough for
/// 20 ms to tell them.
pub(super) const TONES: [f32; 18] = [
    350.0, 450.0, 550.0, 650.0, 800.0, 950.0, 1_100.0, 1_250.0, 1_400.0, 1_550.0, 1_700.0, 1_850.0,
    2_000.0, 2_200.0, 2_400.0, 2_600.0, 2_850.0, 3_100.0,
];

/// Samples of one party's sound.
#[derive(Clone, Debug)]
pub struct Melody {
    samples: Vec<i16>,
}

impl Melody {
    /// A melody of the given length that never repeats; every seed gives another.
    #[must_use]
    pub fn new(seed: u64, seconds: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let wanted = seconds * SAMPLE_RATE;
        let mut samples = Vec::with_capacity(wanted + SAMPLE_RATE);
        let mut since_pause = 0;
        while samples.len() < wanted {
            note(&mut samples, &mut random);
            since_pause += 1;
            // Speech has gaps, in which a codec or a jitter buffer may do as it likes.
            if since_pause >= 4 && random.random_bool(0.3) {
                let pause = random.random_range(80..300) * SAMPLE_RATE / 1000;
                samples.resize(samples.len() + pause, 0);
                since_pause = 0;
            }
        }
        samples.truncate(wanted);
        Self { samples }
    }

    #[must_use]
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// The melody as μ-law octets.
    #[must_use]
    pub fn ulaw(&self) -> Vec<u8> {
        self.samples
            .iter()
            .map(|&sample| g711::encode_ulaw(sample))
            .collect()
    }
}

fn note(samples: &mut Vec<i16>, random: &mut StdRng) {
    let length = random.random_range(90..220) * SAMPLE_RATE / 1000;
    let first = random.random_range(0..TONES.len());
    let second = (first + random.random_range(1..TONES.len())) % TONES.len();
    let level = random.random_range(3_000.0..6_500.0f32);
    let ramp = SAMPLE_RATE / 100;
    for index in 0..length {
        let time = index as f32 / SAMPLE_RATE as f32;
        let envelope = (index.min(length - 1 - index) as f32 / ramp as f32).min(1.0);
        let turn = std::f32::consts::TAU * time;
        let sound = (turn * TONES[first]).sin() + 0.8 * (turn * TONES[second]).sin();
        samples.push((sound * level * envelope) as i16);
    }
}
