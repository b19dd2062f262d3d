//! How fast a queue fills, and how old the oldest in it is: from a few marks of how much had come when.
//!
//! A queue is in order, so what has come and gone says where in time it stands, on disk as in memory, and without
//! looking at what is in it.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::telemetry::Now;

/// Marks that are kept; when they would be more, every second goes and the next are further apart.
const MOST: usize = 128;
const CLOSEST: Duration = Duration::from_secs(1);
/// What a rate is taken over.
const WINDOW: Duration = Duration::from_secs(60);

pub struct Flow {
    /// What came: items, bytes, and units of the queue's size; and how many items went.
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
    /// What had come before.
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
    pub fn come(&mut self, at: Now, items: u64, bytes: u64, size: u64) {
        if self.marks.back().is_none_or(|last| at.since(last.at) >= self.spacing) {
            self.mark(at);
        }
        self.items += items;
        self.bytes += bytes;
        self.size += size;
    }

    pub fn go(&mut self, items: u64) {
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

    /// Since about when the oldest that is still there has been waiting.
    pub fn oldest(&self) -> Option<SystemTime> {
        let waits = self.gone < self.items;
        let mark = self.marks.iter().rev().find(|mark| mark.items <= self.gone).or(self.marks.front());
        mark.filter(|_| waits).map(|mark| mark.at.wall)
    }

    /// Bytes a second, and units of the size, that came in the last minute, or since the first came.
    pub fn rates(&self, now: Now) -> (f64, f64) {
        let from = self.marks.iter().rev().find(|mark| now.since(mark.at) >= WINDOW).or(self.marks.front());
        let rate = |mark: &Mark, came: u64| came as f64 / now.since(mark.at).as_secs_f64().max(1.0);
        from.map_or((0.0, 0.0), |mark| (rate(mark, self.bytes - mark.bytes), rate(mark, self.size - mark.size)))
    }
}
