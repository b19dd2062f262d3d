//! Log lines that would repeat for each batch or request: written once a minute, with the count since.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock;

const PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    at: Option<Instant>,
    items: u64,
    times: u64,
}

impl Said {
    /// Writes the line if the last one is old enough.
    pub(crate) fn now_and_then(&self, line: impl FnOnce()) {
        if self.count(0).is_some() {
            line();
        }
    }

    /// Counts an occurrence with so many items. When a line is due: the items and occurrences since the last line.
    pub(crate) fn count(&self, items: u64) -> Option<(u64, u64)> {
        let mut state = self.0.lock();
        (state.items, state.times) = (state.items + items, state.times + 1);
        let now = clock();
        if state.at.is_some_and(|at| now.duration_since(at) < PAUSE) {
            return None;
        }
        let said = (state.items, state.times);
        *state = State { at: Some(now), items: 0, times: 0 };
        Some(said)
    }
}
