//! What is known of an upstream, and when to say so: one line when it goes down, one when it is back, and one a minute
//! in between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::{Signal, clock};

const SUMMARY: Duration = Duration::from_secs(60);

pub struct Upstream {
    exporter: String,
    signal: Signal,
    destination: String,
    down: Mutex<Option<Down>>,
}

struct Down {
    since: Instant,
    said: Instant,
    attempts: u64,
    why: String,
}

impl Upstream {
    pub fn new(exporter: &str, signal: Signal, destination: String) -> Upstream {
        Upstream { exporter: exporter.to_owned(), signal, destination, down: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_down(&self) -> bool {
        self.lock().is_some()
    }

    /// An attempt failed in a way that will be tried again.
    pub fn failed(&self, why: &str, queue_fill: f64) {
        let now = clock();
        let (exporter, signal, destination) = (&self.exporter, self.signal.name(), &self.destination);
        let queue = format!("{:.0} %", queue_fill * 100.0);
        let mut down = self.lock();
        match &mut *down {
            None => {
                *down = Some(Down { since: now, said: now, attempts: 1, why: why.to_owned() });
                drop(down);
                tracing::warn!(%exporter, signal, to = %destination, why, %queue, "exporter is down, will keep trying");
            }
            Some(state) => {
                state.attempts += 1;
                why.clone_into(&mut state.why);
                if now.duration_since(state.said) < SUMMARY {
                    return;
                }
                state.said = now;
                let (attempts, seconds) = (state.attempts, now.duration_since(state.since).as_secs());
                drop(down);
                tracing::warn!(%exporter, signal, why, attempts, seconds, %queue, "exporter is still down");
            }
        }
    }

    /// An attempt succeeded.
    pub fn succeeded(&self) {
        let Some(state) = self.lock().take() else { return };
        let (exporter, signal, seconds) =
            (&self.exporter, self.signal.name(), clock().duration_since(state.since).as_secs());
        tracing::info!(%exporter, signal, seconds, attempts = state.attempts, "exporter is back");
    }
}
