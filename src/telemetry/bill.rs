//! The bill: how much of the telemetry belongs to each `service.name`.
//!
//! Names come from clients, so the table has a fixed size: 64 services, the largest of which are shown, and one line
//! for all others. A new name replaces the smallest and inherits its rank (the space-saving algorithm), so a large
//! service is found however many others there are. The counts of replaced names move to the last line.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::order::Ordered;
use crate::otlp::services::{each_group, service};

use super::{Part, Signal, Telemetry};

const TRACKED: usize = 64;
/// Maximum length of a kept name in bytes.
const NAME: usize = 64;
/// Maximum services distinguished in one batch.
const AT_ONCE: usize = 32;

/// Maximum fields read on the worker.
const AT_ONCE_FIELDS: usize = 64 << 10;

type Name = SmallVec<[u8; 32]>;

/// The items and bytes of one batch, by service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    lines: SmallVec<[Line; 1]>,
    /// Items and bytes beyond the lines.
    others: (u64, u64),
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: Name,
    items: u64,
    bytes: u64,
}

/// The outcome of items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    Sent,
    /// Excluded by a rule.
    Filtered,
    Dropped,
    /// No longer owed.
    Refused,
}

/// One line of the bill. `owed` and the outcomes count once for each exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    pub items: u64,
    pub bytes: u64,
    owed: u64,
    pub sent: u64,
    pub filtered: u64,
    pub dropped: u64,
}

/// Shared by all accounts. One lock guards the table; tallies are made before it is taken, so it is held for a few
/// additions only.
#[derive(Debug, Default)]
pub struct Bill {
    table: Mutex<Table>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Table {
    /// One for each of `services`, in the same order, for searching.
    hashes: Vec<u64>,
    services: Vec<Service>,
    others: Sums,
    /// Whether a service was replaced.
    is_estimate: bool,
}

#[derive(Debug)]
struct Service {
    name: Name,
    sums: Sums,
    /// Its bytes, plus the inherited rank.
    rank: u64,
}

/// The bill for reading: the largest first, by bytes.
pub struct Reading {
    pub services: Vec<(String, Sums)>,
    pub others: Sums,
    pub is_estimate: bool,
}

impl Tally {
    pub fn of(telemetry: &Telemetry) -> Tally {
        Tally::within(telemetry, usize::MAX).unwrap_or_default()
    }

    /// Tallies on the worker; `None` when it takes long and must be done aside.
    pub fn at_once(telemetry: &Telemetry) -> Option<Tally> {
        Tally::within(telemetry, AT_ONCE_FIELDS)
    }

    fn within(telemetry: &Telemetry, fields: usize) -> Option<Tally> {
        let (mut tally, left) = (Tally::default(), Cell::new(fields));
        let saw_all = telemetry.parts.iter().all(|part| tally.add_within(telemetry.signal, part, &left));
        saw_all.then_some(tally)
    }

    pub(super) fn add_part(&mut self, signal: Signal, part: &Part) {
        self.add_within(signal, part, &Cell::new(usize::MAX));
    }

    fn add_within(&mut self, signal: Signal, part: &Part, fields: &Cell<usize>) -> bool {
        if let Some(known) = &part.tally {
            self.merge(known);
            return true;
        }
        each_group(signal, &part.bytes, part.items, fields, |service, items, bytes| self.add(service, items, bytes))
    }

    /// Adds the items of a resource group.
    pub(crate) fn add_group(&mut self, group: &[u8], items: u64) {
        self.add(service(group), items, 0);
    }

    fn add(&mut self, service: &[u8], items: u64, bytes: u64) {
        if items == 0 {
            return;
        }
        let name = service.get(..NAME).unwrap_or(service);
        // Usually the same service follows.
        if let Some(line) = self.lines.iter_mut().rev().find(|line| line.name.as_slice() == name) {
            line.items += items;
            line.bytes += bytes;
        } else if self.lines.len() < AT_ONCE {
            self.lines.push(Line { name: Name::from_slice(name), items, bytes });
        } else {
            self.others.0 += items;
            self.others.1 += bytes;
        }
    }

    /// Merges another tally.
    pub(crate) fn merge(&mut self, more: &Tally) {
        for Line { name, items, bytes } in &more.lines {
            self.add(name, *items, *bytes);
        }
        self.others.0 += more.others.0;
        self.others.1 += more.others.1;
    }

    pub fn items(&self) -> u64 {
        self.lines.iter().map(|line| line.items).sum::<u64>() + self.others.0
    }
}

impl Sums {
    pub fn waiting(&self) -> u64 {
        self.owed.saturating_sub(self.sent + self.filtered + self.dropped)
    }

    fn settle(&mut self, fate: Fate, items: u64) {
        match fate {
            Fate::Sent => self.sent += items,
            Fate::Filtered => self.filtered += items,
            Fate::Dropped => self.dropped += items,
            Fate::Refused => self.owed = self.owed.saturating_sub(items),
        }
    }

    fn add(&mut self, more: &Sums) {
        self.items += more.items;
        self.bytes += more.bytes;
        self.owed += more.owed;
        self.sent += more.sent;
        self.filtered += more.filtered;
        self.dropped += more.dropped;
    }
}

impl Bill {
    /// Books accepted items owed to `ways` exporters.
    pub(crate) fn accept(&self, tally: &Tally, ways: usize) {
        let mut table = self.table.lock();
        for line in &tally.lines {
            let service = table.enter(&self.hasher, &line.name, line.bytes);
            service.items += line.items;
            service.bytes += line.bytes;
            service.owed += line.items * ways as u64;
        }
        table.others.items += tally.others.0;
        table.others.bytes += tally.others.1;
        table.others.owed += tally.others.0 * ways as u64;
    }

    /// Books the items a processor removed or renamed.
    pub(crate) fn change(&self, before: &Tally, after: &Tally, ways: usize) {
        let ways = ways as u64;
        let is_less = after.items() < before.items();
        let mut table = self.table.lock();
        let of = |tally: &Tally, name: &Name| {
            tally.lines.iter().find(|line| line.name == *name).map_or(0, |line| line.items)
        };
        for line in &before.lines {
            let gone = line.items.saturating_sub(of(after, &line.name)) * ways;
            let sums = table.known(&self.hasher, &line.name);
            match is_less {
                true => sums.filtered += gone,
                false => sums.owed = sums.owed.saturating_sub(gone),
            }
        }
        for line in &after.lines {
            let come = line.items.saturating_sub(of(before, &line.name));
            if come > 0 {
                table.enter(&self.hasher, &line.name, line.bytes).owed += come * ways;
            }
        }
        let (gone, come) =
            (before.others.0.saturating_sub(after.others.0), after.others.0.saturating_sub(before.others.0));
        table.others.owed += come * ways;
        table.others.filtered += gone * ways;
    }

    /// Books the outcome of one batch for `ways` exporters: `dropped` of its items are dropped, the rest has `fate`.
    pub(crate) fn settle(&self, tally: &Tally, fate: Fate, dropped: u64, ways: usize) {
        let (all, ways) = (tally.items().max(1), ways as u64);
        let settle = |sums: &mut Sums, items: u64| {
            let dropped = (u128::from(items) * u128::from(dropped.min(all)) / u128::from(all)) as u64;
            sums.settle(fate, (items - dropped) * ways);
            sums.settle(Fate::Dropped, dropped * ways);
        };
        let mut table = self.table.lock();
        tally.lines.iter().for_each(|line| settle(table.known(&self.hasher, &line.name), line.items));
        settle(&mut table.others, tally.others.0);
    }

    /// Books items that an earlier run left on disk; their services are not known yet.
    pub(super) fn find(&self, items: u64) {
        self.table.lock().others.owed += items;
    }

    /// Moves items of an earlier run to their services once they are read back.
    pub(crate) fn recognise(&self, tally: &Tally) {
        let mut table = self.table.lock();
        for line in &tally.lines {
            table.enter(&self.hasher, &line.name, line.bytes).owed += line.items;
            table.others.owed = table.others.owed.saturating_sub(line.items);
        }
    }

    /// Drops items of an unknown service, such as those of an unreadable record.
    pub(crate) fn drop_unknown(&self, items: u64) {
        self.table.lock().others.dropped += items;
    }

    pub fn read(&self, most: usize) -> Reading {
        let table = self.table.lock();
        let name = |service: &Service| String::from_utf8_lossy(&service.name).into_owned();
        let mut services: Vec<_> = table.services.iter().map(|service| (name(service), service.sums)).collect();
        let (mut others, is_estimate) = (table.others, table.is_estimate);
        drop(table);
        services.order_by_key(|(_, sums)| std::cmp::Reverse((sums.bytes, sums.owed)));
        for (_, rest) in services.drain(most.min(services.len())..) {
            others.add(&rest);
        }
        Reading { services, others, is_estimate }
    }
}

impl Table {
    fn find(&self, hash: u64, name: &Name) -> Option<usize> {
        let mut found = self.hashes.iter().enumerate().filter(|(_, known)| **known == hash).map(|(index, _)| index);
        found.find(|index| self.services.get(*index).is_some_and(|service| service.name == *name))
    }

    /// The line of a known service, else the line for all others.
    fn known(&mut self, hasher: &RandomState, name: &Name) -> &mut Sums {
        let found = self.find(hasher.hash_one(name.as_slice()), name);
        match found.and_then(|index| self.services.get_mut(index)) {
            Some(service) => &mut service.sums,
            None => &mut self.others,
        }
    }

    /// The line of a service, added to the table if it is new.
    fn enter(&mut self, hasher: &RandomState, name: &Name, bytes: u64) -> &mut Sums {
        let hash = hasher.hash_one(name.as_slice());
        let index = self.find(hash, name).unwrap_or_else(|| self.make_room(hash, name));
        match self.services.get_mut(index) {
            Some(service) => {
                service.rank = service.rank.saturating_add(bytes);
                &mut service.sums
            }
            None => &mut self.others,
        }
    }

    fn make_room(&mut self, hash: u64, name: &Name) -> usize {
        let smallest = self.services.iter().enumerate().min_by_key(|(_, service)| service.rank);
        let mut service = Service { name: name.clone(), sums: Sums::default(), rank: 0 };
        match smallest.map(|(index, _)| index).filter(|_| self.services.len() >= TRACKED) {
            Some(index) => {
                if let (Some(place), Some(known)) = (self.services.get_mut(index), self.hashes.get_mut(index)) {
                    service.rank = place.rank;
                    *known = hash;
                    self.others.add(&std::mem::replace(place, service).sums);
                }
                self.is_estimate = true;
                index
            }
            None => {
                self.services.push(service);
                self.hashes.push(hash);
                self.services.len() - 1
            }
        }
    }
}
