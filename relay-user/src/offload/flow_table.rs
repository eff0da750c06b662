//! The flow table, as userspace writes it: rows in chains, a chain for each bucket.
//!
//! A program may stand on any row at any time, so no row that one may stand on is changed but for
//! its link: a flow that changes gets another row, and the one it had is used again when every
//! program that may have found it has ended ([`Grace`]). A program finds the flow as it was or as
//! it is; a flow that it does not find is punted.

use std::collections::HashMap;

use relay_abi::{
    flow::{FlowEntry, FlowKey},
    row::FlowRow,
    tables::LONGEST,
};
use zerocopy::transmute;

use super::{
    grace::Grace,
    shared_rows::{Row, SharedWords},
};

const ROW: usize = size_of::<FlowRow>() / 4;
/// The word of a row that links it to the next one.
const NEXT: usize = std::mem::offset_of!(FlowRow, next) / 4;

/// How many buckets a table for `flows` flows has, a power of two: at least two for each flow, so
/// that few flows share one.
pub(super) fn buckets(flows: u32) -> u32 {
    (u64::from(flows) * 2)
        .next_power_of_two()
        .clamp(16, 1 << 31) as u32
}

/// Rows, the first of them of no flow, and others for flows that change.
pub(super) fn rows(flows: u32) -> u32 {
    flows.saturating_add(spare(flows)).saturating_add(1)
}

/// How many rows a table has besides those that its flows take, for what no program may stand on.
/// When a quarter of them was given up, it goes on its way back, which takes milliseconds: as many
/// that a small table too takes hundreds of calls that begin together without waiting for that.
fn spare(flows: u32) -> u32 {
    flows.clamp(64, 1024).max(flows / 16)
}

/// Why a flow was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Every row is taken.
    Full,
    /// Too many flows have its bucket.
    Crowded,
}

#[derive(Debug)]
pub(super) struct FlowTable {
    rows: SharedWords,
    buckets: SharedWords,
    last_bucket: u32,
    /// The row of each flow.
    installed: HashMap<FlowKey, u32>,
    /// Rows without a flow, on which no program stands.
    free: Vec<u32>,
    /// Rows without a flow, on which programs may stand.
    given_up: Vec<u32>,
    /// Waits for them; not needed where no program runs meanwhile.
    grace: Option<Grace>,
    /// The first row that was never used.
    fresh: u32,
    capacity: u32,
}

impl FlowTable {
    pub(super) fn on_the_heap(flows: u32) -> Self {
        Self::new(
            flows,
            SharedWords::on_the_heap(rows(flows) as usize * ROW),
            SharedWords::on_the_heap(buckets(flows) as usize),
            None,
        )
    }

    /// Over [`rows`] rows and [`buckets`] buckets, all zero. Without `grace` no program runs
    /// while this is changed.
    pub(super) fn new(
        flows: u32,
        rows: SharedWords,
        first: SharedWords,
        grace: Option<Grace>,
    ) -> Self {
        if let Some(nobody) = rows.row(0, ROW) {
            let words: [u32; ROW] = transmute!(FlowRow::empty());
            nobody.fill(&words);
        }
        Self {
            rows,
            last_bucket: buckets(flows) - 1,
            buckets: first,
            installed: HashMap::new(),
            free: Vec::new(),
            given_up: Vec::new(),
            grace,
            fresh: 1,
            capacity: flows,
        }
    }

    /// How many words the rows and the buckets of a table for `flows` flows take.
    pub(super) fn words(flows: u32) -> (usize, usize) {
        (rows(flows) as usize * ROW, buckets(flows) as usize)
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.installed.len()).unwrap_or(u32::MAX)
    }

    /// Makes the entry of `key` what `entry` says, new or changed.
    pub(super) fn install(&mut self, key: &FlowKey, entry: &FlowEntry) -> Result<(), Refusal> {
        let bucket = key.bucket();
        let before = self.installed.get(key).copied();
        if before.is_none() {
            if self.count() >= self.capacity {
                return Err(Refusal::Full);
            }
            if self.chain(bucket).count() >= LONGEST {
                return Err(Refusal::Crowded);
            }
        }
        let number = self.free_row().ok_or(Refusal::Full)?;
        let mut content = FlowRow::new(key, entry);
        content.next = match before {
            Some(before) => self.next(before),
            None => self.first(bucket),
        };
        let words: [u32; ROW] = transmute!(content);
        if let Some(row) = self.row(number) {
            row.fill(&words);
        }
        match before {
            Some(before) => self.relink(bucket, before, Self::link_to(number)),
            None => self.set_first(bucket, Self::link_to(number)),
        }
        self.installed.insert(*key, number);
        Ok(())
    }

    /// Removes a flow, if it is there.
    pub(super) fn remove(&mut self, key: &FlowKey) {
        if let Some(number) = self.installed.remove(key) {
            self.relink(key.bucket(), number, self.next(number));
        }
    }

    /// Makes the chain go another way than to a row, which is given up.
    /// Whoever stands on it goes on along the chain.
    fn relink(&mut self, bucket: u32, number: u32, to: u32) {
        let before = self
            .chain(bucket)
            .take_while(|candidate| *candidate != number)
            .last();
        match before.and_then(|before| self.row(before)) {
            Some(before) => before.link(NEXT, to),
            None => self.set_first(bucket, to),
        }
        let Some(grace) = &mut self.grace else {
            self.free.push(number);
            return;
        };
        self.given_up.push(number);
        if self.given_up.len() >= spare(self.capacity) as usize / 4 {
            grace.give(std::mem::take(&mut self.given_up));
        }
    }

    /// A row on which no program stands.
    fn free_row(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        if self.fresh < rows(self.capacity) {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        let grace = self.grace.as_mut()?;
        while let Some(rows) = grace.take() {
            self.free.extend(rows);
        }
        if self.free.is_empty() {
            grace.give(std::mem::take(&mut self.given_up));
            while self.free.is_empty() {
                self.free = grace.wait()?;
            }
        }
        self.free.pop()
    }

    /// The link to the row behind one, 0 for none.
    fn next(&self, number: u32) -> u32 {
        self.row(number)
            .map(relay_abi::row::next)
            .unwrap_or_default()
    }

    /// Which of the buckets a key's is.
    const fn place(&self, bucket: u32) -> usize {
        let place = (bucket / 4) & self.last_bucket;
        place as usize
    }

    /// The link to the first row of a bucket, 0 for none.
    pub(super) fn first(&self, bucket: u32) -> u32 {
        self.buckets
            .word(self.place(bucket))
            .map(|word| word.load(std::sync::atomic::Ordering::Acquire))
            .unwrap_or_default()
    }

    /// The row that a link leads to.
    pub(super) fn linked(&self, link: u32) -> Option<Row<'_>> {
        self.row(Self::number(link))
    }

    const fn number(link: u32) -> u32 {
        link / (ROW * 4) as u32
    }

    const fn link_to(number: u32) -> u32 {
        number * (ROW * 4) as u32
    }

    fn row(&self, number: u32) -> Option<Row<'_>> {
        self.rows.row(number as usize, ROW)
    }

    fn set_first(&self, bucket: u32, link: u32) {
        if let Some(word) = self.buckets.word(self.place(bucket)) {
            word.store(link, std::sync::atomic::Ordering::Release);
        }
    }

    /// The numbers of a bucket's rows.
    fn chain(&self, bucket: u32) -> impl Iterator<Item = u32> {
        let mut link = self.first(bucket);
        std::iter::from_fn(move || {
            let number = Some(Self::number(link)).filter(|number| *number != 0)?;
            link = self.next(number);
            Some(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_abi::{
        U16, U32,
        flow::{Address, Endpoint},
        row::{self, EntryWords},
    };

    fn key(address: u32, port: u16) -> FlowKey {
        FlowKey {
            local: Endpoint {
                address: Address::v4(address.to_be_bytes()),
                port: U16::new(port),
            },
            zero: U16::ZERO,
        }
    }

    fn entry(ssrc: u32) -> FlowEntry {
        FlowEntry {
            ssrc_out: U32::new(ssrc),
            ..FlowEntry::default()
        }
    }

    fn found(table: &FlowTable, key: &FlowKey) -> Option<u32> {
        let mut link = table.first(key.bucket());
        for _ in 0..LONGEST {
            let row = table.linked(link)?;
            if row::is_of(row, key) {
                let mut words: EntryWords = Default::default();
                return Some(row::copy_entry(row, &mut words).ssrc_out.get());
            }
            link = row::next(row);
        }
        None
    }

    /// Every flow of many addresses is found, through chains and all, after half of them went and
    /// others came in their rows.
    #[test]
    fn what_is_installed_is_found_and_what_was_removed_is_not() {
        let mut table = FlowTable::on_the_heap(50_000);
        let flows: Vec<(FlowKey, u32)> = (0..500u32)
            .flat_map(|address| (0..100u16).map(move |pair| (address, pair)))
            .map(|(address, pair)| {
                let ssrc = address << 16 | u32::from(pair);
                // Anywhere, and so sometimes over each other.
                let place = (address * address * address).wrapping_mul(0x0001_f351);
                (key(place, 20_000 + 2 * pair), ssrc)
            })
            .collect();
        for (key, ssrc) in &flows {
            assert_eq!(table.install(key, &entry(*ssrc)), Ok(()));
        }
        let one_more = key(1, 1);
        assert_eq!(table.install(&one_more, &entry(1)), Err(Refusal::Full));
        assert!(
            flows
                .iter()
                .any(|(key, _)| table.chain(key.bucket()).count() > 1)
        );
        for (key, ssrc) in &flows {
            assert_eq!(found(&table, key), Some(*ssrc));
        }
        for (key, _) in flows.iter().step_by(2) {
            table.remove(key);
        }
        for (index, (key, ssrc)) in flows.iter().enumerate() {
            assert_eq!(found(&table, key), (index % 2 == 1).then_some(*ssrc));
        }
        for (key, ssrc) in flows.iter().step_by(2).rev() {
            assert_eq!(table.install(key, &entry(!ssrc)), Ok(()));
        }
        for (index, (key, ssrc)) in flows.iter().enumerate() {
            let expected = if index % 2 == 1 { *ssrc } else { !ssrc };
            assert_eq!(found(&table, key), Some(expected));
        }
        assert_eq!(table.count(), 50_000);
    }

    #[test]
    fn a_bucket_that_is_too_long_is_refused_and_not_lost() {
        let mut table = FlowTable::on_the_heap(64);
        let wanted = table.place(key(1, 2).bucket());
        let crowd: Vec<FlowKey> = (0..10_000u32)
            .map(|address| key(address, 2))
            .filter(|key| table.place(key.bucket()) == wanted)
            .take(LONGEST + 1)
            .collect();
        for key in &crowd[..LONGEST] {
            assert_eq!(table.install(key, &entry(1)), Ok(()));
        }
        assert_eq!(
            table.install(&crowd[LONGEST], &entry(1)),
            Err(Refusal::Crowded)
        );
        assert!(
            crowd[..LONGEST]
                .iter()
                .all(|key| found(&table, key).is_some())
        );
        table.remove(&crowd[3]);
        assert_eq!(table.install(&crowd[LONGEST], &entry(1)), Ok(()));
    }
}
