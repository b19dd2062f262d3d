//! The log records that passed lately.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cost;
use super::fair::Fair;
use super::item::Kept;
use crate::otlp::views::LogRecord;

/// A place in the order of time: the time of the record, and the number of those that came before.
pub(in crate::cli::ui) type At = (u64, u64);

pub(in crate::cli::ui) struct Logs {
    limit: usize,
    held: BTreeMap<At, Arc<Kept>>,
    fair: Fair<At>,
    next: u64,
    /// Records that made room for others.
    pub(in crate::cli::ui) forgotten: u64,
}

impl Logs {
    pub(super) fn new(limit: usize) -> Logs {
        Logs { limit, held: BTreeMap::new(), fair: Fair::default(), next: 0, forgotten: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.fair.used()
    }

    pub(super) fn add(&mut self, item: &Arc<Kept>) {
        let record = LogRecord::read(&item.record);
        let time = if record.time == 0 { record.observed_time } else { record.time };
        let at = (time, self.next);
        self.next += 1;
        self.fair.add(&item.headers.service, at, cost(item));
        self.held.insert(at, item.clone());
        while self.used() > self.limit && self.forget_one(None) {}
    }

    /// Makes room: of one service, or of the one that takes most.
    pub(super) fn forget_one(&mut self, of: Option<&Arc<str>>) -> bool {
        let Logs { held, fair, forgotten, .. } = self;
        fair.forget(of, |at| {
            *forgotten += 1;
            held.remove(at).map_or(0, |item| cost(&item))
        })
    }

    pub(in crate::cli::ui) fn get(&self, at: At) -> Option<&Arc<Kept>> {
        self.held.get(&at)
    }

    /// By time.
    pub(in crate::cli::ui) fn all(&self) -> impl DoubleEndedIterator<Item = (At, &Arc<Kept>)> {
        self.held.iter().map(|(at, item)| (*at, item))
    }
}
