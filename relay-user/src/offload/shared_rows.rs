//! Memory that the kernel's programs read while it is written here: an array map of this process,
//! or words on the heap for a datapath without a kernel.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering, fence},
    },
};

use relay_abi::shared::Shared;

use super::mapped::Mapped;

/// Words, each written whole.
#[derive(Clone, Debug)]
pub(super) struct SharedWords {
    memory: Memory,
    begin: usize,
    end: usize,
}

#[derive(Clone, Debug)]
enum Memory {
    Heap(Arc<[AtomicU32]>),
    Mapped(Arc<Mapped<AtomicU32>>),
}

impl SharedWords {
    /// Words that no kernel shares, all zero.
    pub(super) fn on_the_heap(words: usize) -> Self {
        Self {
            memory: Memory::Heap((0..words).map(|_| AtomicU32::new(0)).collect()),
            begin: 0,
            end: words,
        }
    }

    /// The words of an array map that can be mapped, whose elements lie without a gap.
    pub(super) fn mapped(map: &impl AsFd, words: usize) -> io::Result<Self> {
        Ok(Self {
            memory: Memory::Mapped(Arc::new(Mapped::new(map, words)?)),
            begin: 0,
            end: words,
        })
    }

    /// `words` of these words, from `begin` on; fewer at the end.
    pub(super) fn part(&self, begin: usize, words: usize) -> Self {
        let begin = self.begin.saturating_add(begin).min(self.end);
        Self {
            memory: self.memory.clone(),
            begin,
            end: begin.saturating_add(words).min(self.end),
        }
    }

    fn words(&self) -> &[AtomicU32] {
        let all: &[AtomicU32] = match &self.memory {
            Memory::Heap(words) => words,
            Memory::Mapped(mapped) => mapped.elements(),
        };
        all.get(self.begin..self.end).unwrap_or_default()
    }

    /// One word, `None` behind the end.
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU32> {
        self.words().get(index)
    }

    /// A row of `words` words, `None` behind the end.
    pub(super) fn row(&self, index: usize, words: usize) -> Option<Row<'_>> {
        let begin = index.checked_mul(words)?;
        let row = self.words().get(begin..begin.checked_add(words)?)?;
        Some(Row(row))
    }
}

/// One row. Public as the rows of a public datapath.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a>(&'a [AtomicU32]);

impl Row<'_> {
    /// Makes the row, on which no program stands, what `content` says.
    pub(super) fn fill(self, content: &[u32]) {
        for (word, new) in self.0.iter().zip(content) {
            word.store(*new, Ordering::Relaxed);
        }
    }

    /// Makes the row's words what `content` says while programs may read them. The lower half of
    /// its first word becomes the next version, in between with nothing above it. A writer that
    /// ends in between leaves a row that nobody reads.
    pub(super) fn change(self, content: &[u32]) {
        let (Some((version, words)), Some((first, content))) =
            (self.0.split_first(), content.split_first())
        else {
            return;
        };
        let before = version.load(Ordering::Relaxed) & 0xfffe;
        version.store(before | 1, Ordering::Relaxed);
        // Whoever sees any of the words sees the odd version as well.
        fence(Ordering::Release);
        for (word, new) in words.iter().zip(content) {
            word.store(*new, Ordering::Relaxed);
        }
        let version_now = (before + 2) & 0xffff | first & 0xffff_0000;
        version.store(version_now, Ordering::Release);
    }

    /// Changes one word, by its index: whoever sees it sees what was written before.
    pub(super) fn link(self, index: usize, value: u32) {
        if let Some(word) = self.0.get(index) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Shared for Row<'_> {
    fn any_version(self) -> u32 {
        self.0
            .first()
            .map(|version| version.load(Ordering::Acquire))
            .unwrap_or_default()
    }

    fn is_still(self, version: u32) -> bool {
        fence(Ordering::Acquire);
        self.word(0) == version
    }

    fn octet(self, offset: usize) -> u8 {
        let octets = self.word(offset & !3).to_ne_bytes();
        octets.get(offset & 3).copied().unwrap_or_default()
    }

    fn half(self, offset: usize) -> u16 {
        u16::from_ne_bytes([self.octet(offset), self.octet(offset + 1)])
    }

    fn word(self, offset: usize) -> u32 {
        self.0
            .get(offset / 4)
            .map(|word| word.load(Ordering::Relaxed))
            .unwrap_or_default()
    }

    fn long(self, offset: usize) -> u64 {
        let [a, b, c, d] = self.word(offset).to_ne_bytes();
        let [e, f, g, h] = self.word(offset + 4).to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    fn any_long(self, offset: usize) -> u64 {
        u64::from_ne_bytes(std::array::from_fn(|index| self.octet(offset + index)))
    }
}
