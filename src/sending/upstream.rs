//! What is known of an upstream, and when to say so: one line when it goes down, one when it is back, and one a minute
//! in between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::telemetry::{Signal, clock};

const SUMMARY: Duration = Duration::from_secs(60);
/// What has lasted this long was an outage; less may be an upstream that is busy, which shall not be asked sooner.
const OUTAGE: Duration = Duration::from_secs(5);

pub struct Upstream {
    exporter: String,
    signal: Signal,
    destination: Mutex<String>,
    down: Mutex<Option<Down>>,
    back: Notify,
}

struct Down {
    since: Instant,
    said: Instant,
    attempts: u64,
    why: String,
    /// It refuses whatever it is sent until somebody mends a setting; nothing is thrown away meanwhile.
    holds: bool,
}

pub struct Outage {
    pub since: Instant,
    pub attempts: u64,
    pub why: String,
    pub holds: bool,
}

impl Upstream {
    pub fn destination(&self) -> String {
        self.destination.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn new(exporter: &str, signal: Signal, destination: String) -> Upstream {
        let (destination, down) = (Mutex::new(destination), Mutex::new(None));
        Upstream { exporter: exporter.to_owned(), signal, destination, down, back: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_down(&self) -> bool {
        self.lock().is_some()
    }

    /// It is somewhere else now, or reached in another way.
    pub fn moved(&self, destination: String) {
        *self.destination.lock().unwrap_or_else(PoisonError::into_inner) = destination;
        self.lock().iter_mut().for_each(|down| down.holds = false);
    }

    /// Whether telemetry is held back because a setting is wrong, here or there.
    pub fn holds(&self) -> bool {
        self.lock().as_ref().is_some_and(|down| down.holds)
    }

    /// Since when it is down, why, and after how many attempts; `None` as long as nothing else is known.
    pub fn outage(&self) -> Option<Outage> {
        let down = self.lock();
        let Down { since, attempts, why, holds, .. } = down.as_ref()?;
        Some(Outage { since: *since, attempts: *attempts, why: why.clone(), holds: *holds })
    }

    /// An attempt failed in a way that will be tried again.
    pub fn failed(&self, why: &str, holds: bool, queue_fill: f64) {
        let held = if holds { format!("holding: {why}") } else { String::new() };
        let why = if holds { &held } else { why };
        let now = clock();
        let (exporter, signal) = (&self.exporter, self.signal.name());
        let queue = format!("{:.0} %", queue_fill * 100.0);
        let mut down = self.lock();
        match &mut *down {
            None => {
                *down = Some(Down { since: now, said: now, attempts: 1, why: why.to_owned(), holds });
                drop(down);
                let destination = self.destination();
                tracing::warn!(%exporter, signal, to = %destination, why, %queue, "exporter is down, will keep trying");
            }
            Some(state) => {
                state.attempts += 1;
                state.holds = holds;
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

    /// Waits, but not beyond the end of an outage: the oldest batches wait for their next attempt each on its own, and what is
    /// younger would overtake them all when the first gets through.
    pub async fn pause(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.back.notified()).await;
    }

    /// An attempt succeeded.
    pub fn succeeded(&self) {
        let Some(state) = self.lock().take() else { return };
        let lasted = clock().duration_since(state.since);
        if lasted >= OUTAGE {
            self.back.notify_waiters();
        }
        let (exporter, signal, seconds) = (&self.exporter, self.signal.name(), lasted.as_secs());
        tracing::info!(%exporter, signal, seconds, attempts = state.attempts, "exporter is back");
    }
}
