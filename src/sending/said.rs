//! What would be said for each batch or request, and is said once a minute with what came meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::clock;

const PAUSE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Said(Mutex<State>);

#[derive(Default)]
struct State {
    at: Option<Instant>,
    items: u64,
    times: u64,
}

impl Said {
    /// Says it, when it is time to.
    pub fn now_and_then(&self, line: impl FnOnce()) {
        if self.count(0).is_some() {
            line();
        }
    }

    /// It happened once more, to so many items. When it is time to say so: to how many, and how often, since that was said last.
    pub fn count(&self, items: u64) -> Option<(u64, u64)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
