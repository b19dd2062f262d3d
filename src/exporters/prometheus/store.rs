//! The series that a scrape shows, in the order in which it shows them, and where a point finds its series.
//!
//! Series, and the bytes that they hold, are limited. A series without points for `metric_expiration` is removed at the
//! next scrape, or when its place is wanted.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::otlp::views::metrics::{DataType, Number};

use super::labels::Labels;
use super::names::is_classic;
use super::value::{Last, Untaken, Value};

/// Maximum series of one exporter.
const MOST_SERIES: usize = 100_000;
/// Maximum bytes of them, and maximum share of the memory budget.
pub(super) const MOST_BYTES: u64 = 64 << 20;
/// Maximum bytes of the text of one series.
pub(super) const MOST_TEXT: usize = 256 << 10;
/// What a series, or a family, occupies beside its texts and its values; the list of all may be half empty.
const ENTRY: usize = 2 * size_of::<Series>() + 128;
/// Maximum series that are looked at, and removed, before others may use the store.
const LOOKED_AT: usize = 16_384;
const REMOVED: usize = 1024;
/// Minimum time between two searches for what has expired, unless it expires sooner.
const PAUSE: Duration = Duration::from_secs(1);

/// The type of a family, as a scrape calls it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
    Summary,
}

impl Kind {
    pub(super) fn of(data_type: DataType, is_monotonic: bool) -> Kind {
        match data_type {
            DataType::Sum if is_monotonic => Kind::Counter,
            DataType::Histogram | DataType::ExponentialHistogram => Kind::Histogram,
            DataType::Summary => Kind::Summary,
            DataType::Empty | DataType::Gauge | DataType::Sum => Kind::Gauge,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }

    /// The suffixes of its lines.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Kind::Gauge | Kind::Counter => &[],
            Kind::Histogram => &["_count", "_sum", "_bucket"],
            Kind::Summary => &["_count", "_sum"],
        }
    }
}

/// A metric, to which a series belongs.
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
}

/// All series of one name. The first one decides about type and description.
pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) help: Box<[u8]>,
    pub(super) is_classic: bool,
    pub(super) series: BTreeMap<Labels, u32>,
}

pub(super) struct Series {
    /// A hash of all that identifies it; 0 for one that shows a resource.
    identity: u64,
    /// A hash of what else its name depends on.
    pub(super) form: u64,
    family: Arc<str>,
    labels: Labels,
    /// The resource that it belongs to, if that is shown.
    target: u64,
    updated: Instant,
    pub(super) last: Last,
}

/// A resource that is shown while it has series.
struct Target {
    /// A hash of its attributes.
    attributes: u64,
    series: usize,
    slot: Option<u32>,
}

/// Why a series has no place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NoPlace {
    /// The limit is reached.
    Full,
    /// Another series has its name and its labels, or its family has another type.
    Taken,
}

pub(super) struct Store {
    slots: Vec<Option<Series>>,
    free: Vec<u32>,
    by_identity: HashMap<u64, u32>,
    pub(super) families: BTreeMap<Arc<str>, Family>,
    targets: HashMap<u64, Target>,
    bytes: usize,
    most_bytes: usize,
    expiration: Duration,
    /// No series expires before.
    next_expiry: Option<Instant>,
    search: Search,
}

/// A search for expired series.
#[derive(Default)]
struct Search {
    /// The slot at which it continues; 0 if no search is under way.
    at: usize,
    /// No series before this place expires before.
    next_expiry: Option<Instant>,
}

/// The earlier time, if one is known.
fn earlier(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}

impl Store {
    pub(super) fn new(expiration: Duration, most_bytes: usize) -> Store {
        Store {
            slots: Vec::new(),
            free: Vec::new(),
            by_identity: HashMap::new(),
            families: BTreeMap::new(),
            targets: HashMap::new(),
            bytes: 0,
            most_bytes,
            expiration,
            next_expiry: None,
            search: Search::default(),
        }
    }

    pub(super) fn series(&self, slot: u32) -> Option<&Series> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn find(&self, identity: u64) -> Option<(u32, &Series)> {
        let slot = *self.by_identity.get(&identity)?;
        Some((slot, self.series(slot)?))
    }

    /// Whether there is no place for another series, even if it is short.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        let is_full = |store: &Store| store.count() >= MOST_SERIES || store.bytes + ENTRY > store.most_bytes;
        is_full(self) && {
            self.remove_expired(now);
            is_full(self)
        }
    }

    fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Replaces the values of a series; false if there is no room for larger ones.
    pub(super) fn update(&mut self, slot: u32, last: Last, now: Instant) -> Result<(), Untaken> {
        let Some(series) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return Ok(()) };
        let bytes = self.bytes - series.last.bytes() + last.bytes();
        if bytes > self.bytes.max(self.most_bytes) || last.lines() * series.labels.length() > MOST_TEXT {
            return Err(Untaken::TooLarge);
        }
        self.bytes = bytes;
        series.last = last;
        series.updated = now;
        Ok(())
    }

    /// A new series, the first of its identity.
    pub(super) fn insert(
        &mut self,
        identity: (u64, u64),
        named: &Named,
        help: &[u8],
        labels: Labels,
        last: Last,
        now: Instant,
    ) -> Result<u32, NoPlace> {
        let name = &named.name;
        let mut bytes = ENTRY + labels.length() + last.bytes();
        if self.count() >= MOST_SERIES || self.bytes + bytes > self.most_bytes {
            self.remove_expired(now);
        }
        let is_new = !self.families.contains_key(name);
        bytes += if is_new { ENTRY + name.len() + help.len() } else { 0 };
        let text = (labels.length() + name.len()) * last.lines() + help.len();
        if text > MOST_TEXT || self.count() >= MOST_SERIES || self.bytes + bytes > self.most_bytes {
            return Err(NoPlace::Full);
        }
        if is_new && self.collides(named) {
            return Err(NoPlace::Taken);
        }
        let family = self.families.entry(name.clone()).or_insert_with(|| Family {
            kind: named.kind,
            help: help.into(),
            is_classic: is_classic(name.as_bytes()),
            series: BTreeMap::new(),
        });
        let slot = self.free.last().copied().unwrap_or(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        match family.series.entry(labels.clone()) {
            Entry::Vacant(place) if family.kind == named.kind => _ = place.insert(slot),
            _ => return Err(NoPlace::Taken),
        }
        self.free.pop();
        self.bytes += bytes;
        let (identity, form) = identity;
        let series = Series { identity, form, family: name.clone(), labels, target: 0, updated: now, last };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = Some(series),
            None => self.slots.push(Some(series)),
        }
        if identity != 0 {
            self.by_identity.insert(identity, slot);
        }
        let expiry = now + self.expiration;
        self.next_expiry = earlier(self.next_expiry, expiry);
        self.search.next_expiry = earlier(self.search.next_expiry, expiry);
        Ok(slot)
    }

    /// Whether the lines of a new family would look like those of another.
    fn collides(&self, named: &Named) -> bool {
        let is_part = ["_count", "_sum", "_bucket"].iter().any(|suffix| {
            let whole = named.name.strip_suffix(suffix).and_then(|whole| self.families.get(whole));
            whole.is_some_and(|whole| whole.kind.suffixes().contains(suffix))
        });
        let has_part = |suffix: &&str| self.families.contains_key(format!("{}{suffix}", named.name).as_str());
        is_part || named.kind.suffixes().iter().any(has_part)
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(series) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.free.push(slot);
        self.by_identity.remove(&series.identity);
        self.bytes -= ENTRY + series.labels.length() + series.last.bytes();
        if let Some(family) = self.families.get_mut(&series.family) {
            family.series.remove(&series.labels);
            if family.series.is_empty() {
                self.bytes -= ENTRY + series.family.len() + family.help.len();
                self.families.remove(&series.family);
            }
        }
        if let Some(target) = self.targets.get_mut(&series.target) {
            target.series -= 1;
            if target.series == 0 {
                let shown = target.slot;
                self.targets.remove(&series.target);
                shown.into_iter().for_each(|slot| self.remove(slot));
            }
        }
    }

    /// Removes some of the series that had no point for too long; true if none is left.
    pub(super) fn remove_expired(&mut self, now: Instant) -> bool {
        if self.search.at == 0 && self.next_expiry.is_none_or(|at| now <= at) {
            return true;
        }
        if self.search.at == 0 {
            self.search.next_expiry = None;
        }
        let (first, mut removed) = (self.search.at, 0);
        let last = self.slots.len().min(first + LOOKED_AT);
        for index in first..last {
            self.search.at = index + 1;
            // Those that show a resource go with its last series.
            let series = self.slots.get(index).and_then(Option::as_ref).filter(|series| series.identity != 0);
            let Some(series) = series else { continue };
            let expiry = series.updated + self.expiration;
            if expiry >= now {
                self.search.next_expiry = earlier(self.search.next_expiry, expiry);
                continue;
            }
            self.remove(u32::try_from(index).unwrap_or(u32::MAX));
            removed += 1;
            if removed == REMOVED {
                return false;
            }
        }
        let is_done = last == self.slots.len();
        if is_done {
            let next = std::mem::take(&mut self.search).next_expiry;
            let pause = PAUSE.min(self.expiration / 4);
            self.next_expiry = next.map(|at| at.max(now + pause));
        }
        is_done
    }

    /// Attaches a new series to its resource.
    pub(super) fn attach(&mut self, slot: u32, target: u64) {
        let Some(series) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        series.target = target;
        let new = Target { attributes: 0, series: 0, slot: None };
        self.targets.entry(target).or_insert(new).series += 1;
    }

    /// Whether a resource with series is shown with these attributes.
    pub(super) fn shows(&self, target: u64, attributes: u64) -> bool {
        self.targets.get(&target).is_none_or(|target| target.attributes == attributes)
    }

    /// Shows the attributes of a resource, if they make labels.
    pub(super) fn show(&mut self, target: u64, attributes: u64, name: &Arc<str>, labels: Option<Labels>, now: Instant) {
        let Some(known) = self.targets.get_mut(&target) else { return };
        known.attributes = attributes;
        let before = known.slot.take();
        before.into_iter().for_each(|slot| self.remove(slot));
        let Some(labels) = labels else { return };
        let named = Named { name: name.clone(), kind: Kind::Gauge };
        let value = Value::Number(Some(Number::Int(1)));
        let last = Last { start: 0, time: 0, value, examples: Box::default() };
        let slot = self.insert((0, 0), &named, b"Target metadata", labels, last, now).ok();
        if let Some(known) = self.targets.get_mut(&target) {
            known.slot = slot;
        }
    }
}

impl Series {
    /// Whether its lines say when it was measured.
    pub(super) fn has_time(&self) -> bool {
        self.identity != 0
    }
}
