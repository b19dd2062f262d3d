//! How fast a queue fills, and how old its oldest item is, from a few marks of how much had arrived when.
//!
//! A queue is in order, so the totals of arrived and departed items tell the age of the front, on disk as in memory,
//! without reading the items.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::telemetry::Now;

/// Maximum marks. When exceeded, every second one is removed and the distance doubles.
const MOST: usize = 128;
const CLOSEST: Duration = Duration::from_secs(1);
/// The window for rates.
const WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Flow {
    /// Totals that arrived: items, bytes, and units of the queue's size; and items that left.
    items: u64,
    bytes: u64,
    size: u64,
    gone: u64,
    spacing: Duration,
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Now,
    /// Totals before the mark.
    items: u64,
    bytes: u64,
    size: u64,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow { items: 0, bytes: 0, size: 0, gone: 0, spacing: CLOSEST, marks: VecDeque::new() }
    }
}

impl Flow {
    pub(super) fn come(&mut self, at: Now, items: u64, bytes: u64, size: u64) {
        if self.marks.back().is_none_or(|last| at.since(last.at) >= self.spacing) {
            self.mark(at);
        }
        self.items += items;
        self.bytes += bytes;
        self.size += size;
    }

    pub(super) fn go(&mut self, items: u64) {
        self.gone += items;
    }

    fn mark(&mut self, at: Now) {
        let is_past = |mark: &Mark| mark.items <= self.gone && at.since(mark.at) >= WINDOW;
        while self.marks.get(1).is_some_and(is_past) {
            self.marks.pop_front();
        }
        if self.marks.len() < MOST / 2 {
            self.spacing = CLOSEST;
        }
        self.marks.push_back(Mark { at, items: self.items, bytes: self.bytes, size: self.size });
        if self.marks.len() > MOST {
            self.spacing *= 2;
            let mut is_kept = false;
            self.marks.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }

    /// Approximately when the oldest waiting item arrived.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        let waits = self.gone < self.items;
        let mark = self.marks.iter().rev().find(|mark| mark.items <= self.gone).or(self.marks.front());
        mark.filter(|_| waits).map(|mark| mark.at.wall)
    }

    /// Bytes per second and size units per second over the last minute, or since the first arrival.
    pub(super) fn rates(&self, now: Now) -> (f64, f64) {
        let from = self.marks.iter().rev().find(|mark| now.since(mark.at) >= WINDOW).or(self.marks.front());
        let rate = |mark: &Mark, came: u64| came as f64 / now.since(mark.at).as_secs_f64().max(1.0);
        from.map_or((0.0, 0.0), |mark| (rate(mark, self.bytes - mark.bytes), rate(mark, self.size - mark.size)))
    }
}
