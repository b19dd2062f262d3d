//! What is known of an upstream, and when to say so: one line when it goes down, one when it is back, and one a minute
//! in between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::telemetry::{Signal, clock};

const SUMMARY: Duration = Duration::from_secs(60);
/// How often an exporter that holds asks whether it is welcome again.
pub const PROBE: Duration = Duration::from_secs(60);
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
    /// When it was asked last.
    asked: Instant,
    attempts: u64,
    why: String,
    /// It refuses whatever it is sent until somebody mends a setting; nothing is thrown away meanwhile.
    holds: bool,
}

pub struct Outage {
    pub since: Instant,
    /// When one that holds is asked next.
    pub next_probe: Option<Instant>,
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
        let Down { since, asked, attempts, why, holds, .. } = down.as_ref()?;
        let next_probe = holds.then(|| *asked + PROBE);
        Some(Outage { since: *since, next_probe, attempts: *attempts, why: why.clone(), holds: *holds })
    }

    /// An attempt failed in a way that will be tried again.
    pub fn failed(&self, why: &str, holds: bool, queue_fill: f64) {
        let now = clock();
        let (exporter, signal) = (&self.exporter, self.signal.name());
        let queue = format!("{:.0} %", queue_fill * 100.0);
        let (mut down, probe) = (self.lock(), PROBE.as_secs());
        let is_news = down.as_ref().is_none_or(|state| state.holds != holds);
        let new = || Down { since: now, said: now, asked: now, attempts: 0, why: String::new(), holds };
        let state = down.get_or_insert_with(new);
        state.attempts += 1;
        (state.holds, state.asked) = (holds, now);
        why.clone_into(&mut state.why);
        if !is_news && now.duration_since(state.said) < SUMMARY {
            return;
        }
        state.said = now;
        let (attempts, seconds) = (state.attempts, now.duration_since(state.since).as_secs());
        drop(down);
        let to = self.destination();
        match (is_news, holds) {
            (true, false) => tracing::warn!(%exporter, signal, %to, why, %queue, "exporter is down, will keep trying"),
            (true, true) => tracing::warn!(
                %exporter, signal, %to, upstream_answers = why, next_probe_seconds = probe, %queue,
                "exporter is holding: the upstream refuses every export, and nothing is thrown away"
            ),
            (false, false) => {
                tracing::warn!(%exporter, signal, why, attempts, seconds, %queue, "exporter is still down")
            }
            (false, true) => tracing::warn!(
                %exporter, signal, upstream_answers = why, next_probe_seconds = probe, seconds, %queue,
                "exporter is still holding"
            ),
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
