//! Room that services share: the oldest entry of the one that takes most is the next to be forgotten.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

pub(super) struct Fair<K> {
    lanes: HashMap<Arc<str>, Lane<K>>,
    /// The lanes by their size.
    sizes: BTreeSet<(usize, Arc<str>)>,
    used: usize,
}

struct Lane<K> {
    entries: VecDeque<K>,
    used: usize,
}

impl<K> Default for Fair<K> {
    fn default() -> Fair<K> {
        Fair { lanes: HashMap::new(), sizes: BTreeSet::new(), used: 0 }
    }
}

impl<K> Fair<K> {
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Adds an entry of a service.
    pub(super) fn add(&mut self, service: &Arc<str>, key: K, bytes: usize) {
        self.change(service, |lane| {
            lane.entries.push_back(key);
            lane.used += bytes;
        });
    }

    /// An entry of a service has grown.
    pub(super) fn grow(&mut self, service: &Arc<str>, bytes: usize) {
        self.change(service, |lane| lane.used += bytes);
    }

    /// An entry of a service takes another size.
    pub(super) fn resize(&mut self, service: &Arc<str>, before: usize, after: usize) {
        if before != after {
            self.change(service, |lane| lane.used = (lane.used + after).saturating_sub(before));
        }
    }

    /// Takes the oldest entry of a service, or of the largest one; `bytes` says how much that gives back.
    pub(super) fn forget(&mut self, of: Option<&Arc<str>>, bytes: impl FnOnce(&K) -> usize) -> bool {
        let found = match of {
            Some(service) => self.lanes.contains_key(service).then(|| service.clone()),
            None => self.sizes.last().map(|(_, service)| service.clone()),
        };
        let Some(service) = found else { return false };
        self.change(&service, |lane| {
            let freed = lane.entries.pop_front().map_or(lane.used, |key| bytes(&key));
            lane.used -= freed.min(lane.used);
        });
        true
    }

    fn change(&mut self, service: &Arc<str>, change: impl FnOnce(&mut Lane<K>)) {
        let lane = self.lanes.entry(service.clone()).or_insert_with(|| Lane { entries: VecDeque::new(), used: 0 });
        let before = lane.used;
        change(lane);
        let after = lane.used;
        self.used = self.used + after - before;
        self.sizes.remove(&(before, service.clone()));
        match lane.entries.is_empty() {
            true => {
                self.used -= after;
                self.lanes.remove(service);
            }
            false => _ = self.sizes.insert((after, service.clone())),
        }
    }
}
