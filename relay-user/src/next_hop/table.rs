//! The rows of the kernel's next-hop table, one for each neighbour in use.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    net::IpAddr,
    time::Instant,
};

use ipnet::IpNet;
use relay_abi::next_hop::NextHop;

use super::{Event, Inventory, Target, Unresolved, inventory::UNRESOLVED, probe::Probe};

/// The row that is never resolved: for flows that have no destination yet.
pub const NOWHERE: u32 = 0;

/// What is to be done after a call of [`NextHopTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write a row of the kernel's table.
    Write { index: u32, row: NextHop },
    /// Packets to this destination leave by another row than before: point its flows there.
    Moved {
        source: IpAddr,
        destination: IpAddr,
        index: u32,
    },
    /// Ask the kernel to find the neighbour, or to see whether it is still there.
    Probe(Target),
}

/// Every row is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    pub limit: usize,
}

impl fmt::Display for TableFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the next-hop table is full at {} rows",
            self.limit
        )
    }
}

impl std::error::Error for TableFull {}

/// Destinations in use and the rows that they leave by. One row serves every destination behind
/// the same neighbour: when its Ethernet address changes, or a route moves from one gateway to
/// another, that row is rewritten and no flow is touched. Only when destinations of one row come
/// to leave by different neighbours are some of them [`Output::Moved`].
///
/// No clock and no socket inside: drain [`NextHopTable::poll`] after each call.
#[derive(Debug)]
pub struct NextHopTable {
    inventory: Inventory,
    devices: Devices,
    rows: Vec<Row>,
    free: Vec<u32>,
    limit: usize,
    destinations: HashMap<Pair, Destination>,
    by_target: HashMap<Target, Vec<u32>>,
    due: BTreeSet<(Instant, u32)>,
    outputs: VecDeque<Output>,
}

/// What frames may leave by.
#[derive(Debug)]
enum Devices {
    /// The devices that the XDP program is on, and their places in the device map.
    Offloaded(HashMap<u32, u32>),
    /// Whatever takes Ethernet frames: a packet socket sends them.
    Every,
}

impl Devices {
    fn place(&self, device: u32) -> Option<u32> {
        match self {
            Self::Offloaded(places) => places.get(&device).copied(),
            Self::Every => Some(0),
        }
    }
}

#[derive(Debug)]
struct Row {
    target: Option<Target>,
    mtu: Option<u32>,
    row: NextHop,
    why: Option<Unresolved>,
    destinations: u32,
    probe: Probe,
}

#[derive(Clone, Copy, Debug)]
struct Destination {
    row: u32,
    references: u32,
}

impl NextHopTable {
    /// A table of at most `limit` rows, over devices given as (kernel's index, place in the
    /// device map).
    #[must_use]
    pub fn new(limit: usize, devices: impl IntoIterator<Item = (u32, u32)>) -> Self {
        Self::over(limit, Devices::Offloaded(devices.into_iter().collect()))
    }

    /// A table of at most `limit` rows over every Ethernet device; the rows name no place in the
    /// device map.
    #[must_use]
    pub fn over_every_device(limit: usize) -> Self {
        Self::over(limit, Devices::Every)
    }

    pub(super) fn is_over_every_device(&self) -> bool {
        matches!(self.devices, Devices::Every)
    }

    fn over(limit: usize, devices: Devices) -> Self {
        let mut table = Self {
            inventory: Inventory::default(),
            devices,
            rows: Vec::new(),
            free: Vec::new(),
            limit,
            destinations: HashMap::new(),
            by_target: HashMap::new(),
            due: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        table.rows.push(Row::empty());
        table.outputs.push_back(Output::Write {
            index: NOWHERE,
            row: UNRESOLVED,
        });
        table
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The row by which packets from `source` to `destination` leave, held until
    /// [`NextHopTable::release`].
    ///
    /// # Errors
    /// [`TableFull`] when a row is needed and none is left.
    pub fn acquire(
        &mut self,
        now: Instant,
        source: IpAddr,
        destination: IpAddr,
    ) -> Result<u32, TableFull> {
        if let Some(known) = self.destinations.get_mut(&(source, destination)) {
            known.references += 1;
            return Ok(known.row);
        }
        let (target, mtu) = self.way(source, destination);
        let index = match self.row_of(target, mtu) {
            Some(index) => index,
            None => self.new_row(now, target, mtu, (source, destination))?,
        };
        if let Some(row) = self.rows.get_mut(index as usize) {
            row.destinations += 1;
        }
        self.destinations.insert(
            (source, destination),
            Destination {
                row: index,
                references: 1,
            },
        );
        Ok(index)
    }

    /// Ends one [`NextHopTable::acquire`]; the last one gives the row back.
    pub fn release(&mut self, source: IpAddr, destination: IpAddr) {
        let Some(known) = self.destinations.get_mut(&(source, destination)) else {
            return;
        };
        known.references -= 1;
        if known.references == 0 {
            let index = known.row;
            self.destinations.remove(&(source, destination));
            self.leave(index);
        }
    }

    /// Takes events in. False when one of them does not fit what is known: read everything anew
    /// and [`NextHopTable::replace`].
    pub fn apply(&mut self, now: Instant, events: impl IntoIterator<Item = Event>) -> bool {
        let mut fits = true;
        let mut everything = false;
        let mut prefixes: Vec<IpNet> = Vec::new();
        let mut targets: Vec<Target> = Vec::new();
        for event in events {
            match &event {
                Event::Link(_) | Event::LinkGone(_) | Event::Rule(_) | Event::RuleGone(_) => {
                    everything = true;
                }
                Event::Route(route, _) | Event::RouteGone(route) => {
                    prefixes.push(route.destination);
                }
                Event::Neighbour(target, _) | Event::NeighbourGone(target) => {
                    targets.push(*target);
                }
            }
            fits &= self.inventory.apply(event);
        }
        if everything {
            self.settle(now, |_| true);
            return fits;
        }
        if !prefixes.is_empty() {
            let touched =
                |destination: &IpAddr| prefixes.iter().any(|prefix| prefix.contains(destination));
            self.settle(now, touched);
        }
        for target in targets {
            for index in self.by_target.get(&target).cloned().unwrap_or_default() {
                self.rewrite(now, index);
            }
        }
        fits
    }

    /// Puts a complete inventory in the place of the one before.
    pub fn replace(&mut self, now: Instant, inventory: Inventory) {
        self.inventory = inventory;
        self.settle(now, |_| true);
    }

    /// When [`NextHopTable::timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Asks the questions that are due.
    pub fn timeout(&mut self, now: Instant) {
        while let Some((due, index)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, index));
            let Some(row) = self.rows.get_mut(index as usize) else {
                continue;
            };
            row.probe.asked(now, row.why.is_none());
            if let Some(due) = row.probe.due {
                self.due.insert((due, index));
            }
            if let Some(target) = row.target {
                self.outputs.push_back(Output::Probe(target));
            }
        }
    }

    /// Why nothing leaves by a row just now.
    #[must_use]
    pub fn why(&self, index: u32) -> Option<&Unresolved> {
        self.row(index)?.why.as_ref()
    }

    /// How many rows are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.rows.len() - 1 - self.free.len()
    }

    /// Rows in use that nothing leaves by: the neighbour, if the route is known, and why.
    pub fn unresolved(&self) -> impl Iterator<Item = (Option<Target>, &Unresolved)> {
        let used = self.rows.iter().filter(|row| row.destinations > 0);
        used.filter_map(|row| Some((row.target, row.why.as_ref()?)))
    }

    fn way(&self, source: IpAddr, destination: IpAddr) -> (Option<Target>, Option<u32>) {
        match self.inventory.route(source, destination) {
            Ok((target, mtu)) => (Some(target), mtu),
            Err(_) => (None, None),
        }
    }

    /// A row in use that leads to the target with the same limit of the packet size.
    fn row_of(&self, target: Option<Target>, mtu: Option<u32>) -> Option<u32> {
        let rows = self.by_target.get(&target?)?.iter();
        rows.copied()
            .find(|index| self.row(*index).is_some_and(|row| row.mtu == mtu))
    }

    fn row(&self, index: u32) -> Option<&Row> {
        self.rows.get(index as usize)
    }

    fn new_row(
        &mut self,
        now: Instant,
        target: Option<Target>,
        mtu: Option<u32>,
        key: Pair,
    ) -> Result<u32, TableFull> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.rows.len() < self.limit => {
                self.rows.push(Row::empty());
                (self.rows.len() - 1) as u32
            }
            None => return Err(TableFull { limit: self.limit }),
        };
        let why = self.why_not(&key);
        self.aim(now, index, target, mtu, why);
        Ok(index)
    }

    fn why_not(&self, (source, destination): &Pair) -> Option<Unresolved> {
        self.inventory.route(*source, *destination).err()
    }

    /// Points a row at a target and writes it.
    fn aim(
        &mut self,
        now: Instant,
        index: u32,
        target: Option<Target>,
        mtu: Option<u32>,
        why: Option<Unresolved>,
    ) {
        let Some(row) = self.rows.get_mut(index as usize) else {
            return;
        };
        if let Some(earlier) = row.target.filter(|earlier| Some(*earlier) != target) {
            forget(&mut self.by_target, &earlier, index);
        }
        if target.is_none() || (row.target, row.mtu) != (target, mtu) {
            row.why = why;
        }
        row.target = target;
        row.mtu = mtu;
        if let Some(target) = target {
            let rows = self.by_target.entry(target).or_default();
            if !rows.contains(&index) {
                rows.push(index);
            }
        }
        self.rewrite(now, index);
    }

    /// Computes a row anew, writes it if it differs, and starts or stops asking.
    fn rewrite(&mut self, now: Instant, index: u32) {
        let Some(row) = self.rows.get_mut(index as usize) else {
            return;
        };
        let devices = &self.devices;
        let slot = |device: u32| devices.place(device);
        let (entry, why) = match &row.target {
            Some(target) => self.inventory.frame(target, row.mtu, slot),
            None => (UNRESOLVED, row.why.take().or(Some(Unresolved::NoRoute))),
        };
        let permanent = row
            .target
            .is_some_and(|target| self.inventory.is_permanent(&target));
        let earlier = (row.why.clone(), row.probe.due);
        match (&why, permanent) {
            (None, false) if earlier.0.is_some() || earlier.1.is_none() => row.probe.answered(now),
            (Some(Unresolved::Neighbour), _) => {
                if earlier.0 != why || earlier.1.is_none() {
                    row.probe.start(now);
                }
            }
            (None, false) => {}
            _ => row.probe.stop(),
        }
        if let Some(due) = earlier.1.filter(|due| Some(*due) != row.probe.due) {
            self.due.remove(&(due, index));
        }
        if let Some(due) = row.probe.due {
            self.due.insert((due, index));
        }
        row.why = why;
        if row.row != entry {
            row.row = entry;
            self.outputs.push_back(Output::Write { index, row: entry });
        }
    }

    /// Finds the way of each destination that `touched` names anew, then computes every row.
    fn settle(&mut self, now: Instant, touched: impl Fn(&IpAddr) -> bool) {
        // What the destinations of each row want, and how many of them want it.
        let mut wishes: HashMap<u32, Vec<(Way, Vec<Pair>)>> = HashMap::new();
        for (key, destination) in &self.destinations {
            let way = match touched(&key.1) {
                true => self.way(key.0, key.1),
                false => match self.row(destination.row) {
                    Some(row) => (row.target, row.mtu),
                    None => continue,
                },
            };
            let wanted = wishes.entry(destination.row).or_default();
            match wanted.iter_mut().find(|(known, _)| *known == way) {
                Some((_, keys)) => keys.push(*key),
                None => wanted.push((way, vec![*key])),
            }
        }
        for (index, mut wanted) in wishes {
            let Some(row) = self.row(index) else { continue };
            // The row stays with those whose way did not change, or else goes with the most.
            let stays = (row.target, row.mtu);
            wanted.sort_by_key(|(way, keys)| (*way == stays, keys.len()));
            if index == NOWHERE {
                // Destinations that found the table full: perhaps there is a row now.
                wanted.retain(|(way, _)| *way != stays);
            } else if let Some((way, keys)) = wanted.pop() {
                let why = keys.first().and_then(|key| self.why_not(key));
                self.aim(now, index, way.0, way.1, why);
            }
            for (way, keys) in wanted {
                self.move_away(now, index, way, keys);
            }
        }
        for index in 0..self.rows.len() as u32 {
            if self.row(index).is_some_and(|row| row.destinations > 0) {
                self.rewrite(now, index);
            }
        }
    }

    fn move_away(&mut self, now: Instant, from: u32, way: Way, keys: Vec<Pair>) {
        for key in keys {
            let index = match self.row_of(way.0, way.1) {
                Some(index) => index,
                // A full table leaves the destination without a way: its packets are punted.
                None => self.new_row(now, way.0, way.1, key).unwrap_or(NOWHERE),
            };
            if let Some(row) = self.rows.get_mut(index as usize) {
                row.destinations += 1;
            }
            if let Some(destination) = self.destinations.get_mut(&key) {
                destination.row = index;
            }
            self.outputs.push_back(Output::Moved {
                source: key.0,
                destination: key.1,
                index,
            });
            self.leave(from);
        }
    }

    /// One destination less on a row; the last one gives it back.
    fn leave(&mut self, index: u32) {
        let Some(row) = self.rows.get_mut(index as usize) else {
            return;
        };
        row.destinations = row.destinations.saturating_sub(1);
        if row.destinations > 0 || index == NOWHERE {
            return;
        }
        if let Some(due) = row.probe.due.take() {
            self.due.remove(&(due, index));
        }
        if let Some(target) = row.target {
            forget(&mut self.by_target, &target, index);
        }
        let written = row.row != UNRESOLVED;
        *row = Row::empty();
        self.free.push(index);
        if written {
            self.outputs.push_back(Output::Write {
                index,
                row: UNRESOLVED,
            });
        }
    }
}

/// Where a destination leaves to, and the route's limit of the packet size.
type Way = (Option<Target>, Option<u32>);

/// A local address and a destination.
type Pair = (IpAddr, IpAddr);

impl Row {
    const fn empty() -> Self {
        Self {
            target: None,
            mtu: None,
            row: UNRESOLVED,
            why: None,
            destinations: 0,
            probe: Probe {
                asked: 0,
                due: None,
            },
        }
    }
}

fn forget(by_target: &mut HashMap<Target, Vec<u32>>, target: &Target, index: u32) {
    if let Some(rows) = by_target.get_mut(target) {
        rows.retain(|other| *other != index);
        if rows.is_empty() {
            by_target.remove(target);
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
