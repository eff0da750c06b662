//! Whether sound lies bare on a wire.

use std::collections::HashSet;

use super::{Datagram, streams};
use crate::sound::Melody;

/// Octets in a row by which a stretch of a melody is known again.
const STRETCH: usize = 16;

/// Every audible stretch of some melodies, as G.711 puts it on a wire.
#[derive(Debug, Default)]
pub struct PlainSound {
    stretches: HashSet<[u8; STRETCH]>,
}

/// How much was looked at and how much of it was bare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlainCount {
    /// Packets that look like RTP.
    pub packets: usize,
    /// Those among them whose payload holds a stretch of a melody.
    pub plain: usize,
}

impl PlainSound {
    #[must_use]
    pub fn new<'a>(melodies: impl IntoIterator<Item = &'a Melody>) -> Self {
        let mut stretches = HashSet::new();
        for melody in melodies {
            for window in melody.ulaw().windows(STRETCH) {
                if let Some(stretch) = audible(window) {
                    stretches.insert(stretch);
                }
            }
        }
        Self { stretches }
    }

    /// Looks through a capture.
    #[must_use]
    pub fn count(&self, datagrams: &[Datagram]) -> PlainCount {
        let mut count = PlainCount::default();
        for stream in streams(datagrams) {
            for payload in stream.payloads() {
                count.packets += 1;
                let bare = payload
                    .windows(STRETCH)
                    .filter_map(audible)
                    .any(|stretch| self.stretches.contains(&stretch));
                count.plain += usize::from(bare);
            }
        }
        count
    }
}

/// The stretch, unless it is so even that silence could be taken for it.
fn audible(window: &[u8]) -> Option<[u8; STRETCH]> {
    let stretch: [u8; STRETCH] = window.try_into().ok()?;
    let mut values = stretch;
    values.sort_unstable();
    let kinds = values.windows(2).filter(|pair| pair[0] != pair[1]).count() + 1;
    (kinds >= 8).then_some(stretch)
}
