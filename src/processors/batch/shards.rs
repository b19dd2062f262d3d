//! A single shard without metadata keys, else one for each combination of their values. A shard is made when telemetry
//! for it arrives, and removed once it has been empty for a second, or at once when another shard needs the room. The
//! values come from clients, so their memory is charged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::telemetry::{Budget, Charge, Client, Reason, Refusal, Share};

use super::super::outbox::Outbox;
use super::{Config, Shard};

/// How long an empty shard is kept.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// Memory of a shard beside its names and values.
const SHARD: usize = 2 << 10;
/// All shards together may take this fraction of the queue share.
const PART: u64 = 8;

pub(super) struct Shards {
    keys: Vec<String>,
    /// 0 means no limit.
    limit: usize,
    budget: Arc<Budget>,
    /// The shard without metadata keys; it stays empty if there are any.
    pub(super) single: Arc<Shard>,
    entries: Mutex<HashMap<Vec<String>, Entry>>,
}

struct Entry {
    shard: Arc<Shard>,
    used: Instant,
    charge: Charge,
}

impl Shards {
    pub(super) fn new(config: &Config, outbox: Arc<Outbox>, budget: Arc<Budget>) -> Shards {
        Shards {
            keys: config.metadata_keys.clone(),
            limit: config.metadata_cardinality_limit,
            budget,
            single: Shard::new(None, outbox),
            entries: Mutex::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        if self.keys.is_empty() { 1 } else { self.entries.lock().len() }
    }

    pub(super) fn all(&self) -> Vec<Arc<Shard>> {
        let entries = self.entries.lock();
        [&self.single].into_iter().chain(entries.values().map(|entry| &entry.shard)).cloned().collect()
    }

    /// The shard for a client's metadata, and whether it is new. Refuses with a retry hint when there is no room for
    /// another shard: idle ones are removed soon.
    pub(super) fn enter(&self, client: Option<&Client>, now: Instant) -> Result<(Arc<Shard>, bool), Refusal> {
        if self.keys.is_empty() {
            return Ok((self.single.clone(), false));
        }
        let values = self.values(client);
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&values) {
            entry.used = now;
            return Ok((entry.shard.clone(), false));
        }
        let bytes = self.bytes(&values);
        if !self.has_room(&entries, bytes) {
            entries.retain(|_, entry| !entry.is_idle());
        }
        if !self.has_room(&entries, bytes) {
            return Err(Refusal::unavailable("too many batcher metadata-value combinations"));
        }
        let charge = Charge::take(&self.budget, Share::Queue, bytes).ok_or(Refusal::busy(Reason::MemoryFull))?;
        Ok((self.add(&mut entries, values, charge, now), true))
    }

    /// The same for telemetry that already has a reserved place.
    pub(super) fn enter_reserved(&self, client: Option<&Client>, now: Instant) -> Arc<Shard> {
        if self.keys.is_empty() {
            return self.single.clone();
        }
        let values = self.values(client);
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(&values) {
            return entry.shard.clone();
        }
        // The shard was removed after the place was reserved.
        let charge = Charge::held(&self.budget, Share::Queue, 0);
        charge.add(self.bytes(&values));
        self.add(&mut entries, values, charge, now)
    }

    /// When the next idle shard may be removed.
    pub(super) fn idle_at(&self) -> Option<Instant> {
        self.entries.lock().values().filter(|entry| entry.is_idle()).map(|entry| entry.used + IDLE).min()
    }

    pub(super) fn forget_idle(&self, now: Instant) {
        self.entries.lock().retain(|_, entry| now < entry.used + IDLE || !entry.is_idle());
    }

    fn values(&self, client: Option<&Client>) -> Vec<String> {
        self.keys.iter().map(|key| client.map_or_else(String::new, |client| client.value(key))).collect()
    }

    /// The values are stored twice: in the table, and in the client of the shard's batches.
    fn bytes(&self, values: &[String]) -> u64 {
        let one = |text: &String| 2 * (text.len() + size_of::<String>());
        (SHARD + self.keys.iter().chain(values).map(one).sum::<usize>()) as u64
    }

    fn has_room(&self, entries: &HashMap<Vec<String>, Entry>, bytes: u64) -> bool {
        let used: u64 = entries.values().map(|entry| entry.charge.bytes()).sum();
        (self.limit == 0 || entries.len() < self.limit) && used + bytes <= self.budget.limit(Share::Queue) / PART
    }

    fn add(
        &self,
        entries: &mut HashMap<Vec<String>, Entry>,
        values: Vec<String>,
        charge: Charge,
        used: Instant,
    ) -> Arc<Shard> {
        let metadata = self.keys.iter().cloned().zip(values.iter().cloned()).collect();
        let client = Arc::new(Client { metadata, ..Client::default() });
        let shard = Shard::new(Some(client), self.single.outbox.another());
        entries.insert(values, Entry { shard: shard.clone(), used, charge });
        shard
    }
}

impl Entry {
    /// Whether the shard is empty and no caller holds it.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.shard) == 1 && self.shard.is_empty()
    }
}
