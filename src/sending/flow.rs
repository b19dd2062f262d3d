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
/// The window for rates: long enough for clients that send once a minute.
const WINDOW: Duration = Duration::from_secs(120);
/// Arrivals that are not this far apart may be a single burst, which does not tell how fast more will come.
const APART: Duration = Duration::from_secs(40);

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

    /// Bytes per second and size units per second over the window; `None` while that does not tell what will come.
    pub(super) fn rates(&self, now: Now) -> Option<(f64, f64)> {
        let window = WINDOW.max(self.spacing * 2);
        let from = self.marks.iter().find(|mark| now.since(mark.at) <= window)?;
        let (first, last) = (now.since(from.at), now.since(self.marks.back()?.at));
        if first.saturating_sub(last) < APART {
            return None;
        }
        // Nothing came in the part of the window before the first arrival, unless a mark would be too close there.
        let time = if first + self.spacing < window { window } else { first };
        let rate = |came: u64| came as f64 / time.as_secs_f64();
        Some((rate(self.bytes - from.bytes), rate(self.size - from.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;

    #[test]
    fn the_rate_is_of_arrivals_and_not_of_a_burst() {
        let (begun, mut flow) = (Now { wall: SystemTime::UNIX_EPOCH, instant: clock() }, Flow::default());
        let at = |second: u64| Now { instant: begun.instant + Duration::from_secs(second), ..begun };
        let bytes = |flow: &Flow, second| flow.rates(at(second)).map(|(bytes, _)| bytes.round());
        (0..1000).for_each(|_| flow.come(at(0), 1, 1000, 1));
        assert_eq!([0, 30, 100, 3600].map(|second| bytes(&flow, second)), [None; 4]);
        // The same again after an hour, and then a steady flow.
        (3600..3660).for_each(|second| flow.come(at(second), 1, 1200, 1));
        assert_eq!([3620, 3660, 4000].map(|second| bytes(&flow, second)), [None, Some(600.0), None]);
        (4000..4500).for_each(|second| flow.come(at(second), 1, 1200, 1));
        assert_eq!(bytes(&flow, 4500), Some(1200.0));
        // Hours of an outage: the marks are far apart.
        (4500..40_000).for_each(|second| flow.come(at(second), 1, 1200, 1));
        let late = bytes(&flow, 40_000);
        assert!(late.is_some_and(|late| (1100.0..1300.0).contains(&late)), "{late:?}");
        // Once a minute.
        let mut flow = Flow::default();
        (0..10).for_each(|minute| flow.come(at(minute * 60), 1, 1200, 1));
        assert_eq!([550, 590].map(|second| bytes(&flow, second)), [Some(20.0); 2]);
    }
}
