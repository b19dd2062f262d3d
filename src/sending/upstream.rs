//! What is known about an upstream, and when to log it: one line when it goes down, one when it is back, and one per
//! minute in between.
//!
//! It is down after several failures in a row, or when failures have lasted for 5 s; at once when the exporter holds.
//! An upstream that came back within the last minute is flapping, and counts as down again only after 5 s.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::telemetry::{Signal, clock};

const SUMMARY: Duration = Duration::from_secs(60);
/// How often a holding exporter probes the upstream.
pub(super) const PROBE: Duration = Duration::from_secs(60);
/// Failures that last this long are an outage. A shorter one may be a busy upstream, which would not gain from an
/// earlier probe.
const OUTAGE: Duration = Duration::from_secs(5);
/// This many failures in a row are an outage, too.
const FAILURES: u64 = 3;

/// The health of one upstream, shared by all deliveries of a queue. `state` changes under its lock; log lines are
/// decided under it, so each change is logged once. `back` wakes paused deliveries when an attempt succeeds.
pub(super) struct UpstreamHealth {
    exporter: String,
    signal: Signal,
    destination: Mutex<String>,
    state: Mutex<State>,
    back: Notify,
}

#[derive(Default)]
struct State {
    failing: Option<Failing>,
    /// When its recovery was last logged.
    back: Option<Instant>,
    /// Whether an attempt has succeeded at the current destination.
    has_answered: bool,
}

/// Attempts have failed since the last success.
struct Failing {
    since: Instant,
    /// When the outage was last logged, and whether the exporter held then.
    said: Option<(Instant, bool)>,
    /// Time of the last attempt.
    asked: Instant,
    attempts: u64,
    why: String,
    /// The upstream refuses everything until a person corrects a setting; nothing is dropped meanwhile.
    holds: bool,
}

pub struct Outage {
    pub(crate) since: Instant,
    /// When a holding exporter probes next.
    pub(crate) next_probe: Option<Instant>,
    pub(crate) attempts: u64,
    pub(crate) why: String,
    pub(crate) holds: bool,
}

impl State {
    /// The failures, if they amount to an outage.
    fn outage(&self) -> Option<&Failing> {
        let now = clock();
        let comes_and_goes = self.back.is_some_and(|back| now.duration_since(back) < SUMMARY);
        self.failing.as_ref().filter(|failing| {
            let is_plain = failing.holds || failing.attempts >= FAILURES;
            failing.said.is_some() || is_plain && !comes_and_goes || now.duration_since(failing.since) >= OUTAGE
        })
    }
}

impl UpstreamHealth {
    pub(super) fn destination(&self) -> String {
        self.destination.lock().clone()
    }

    pub(super) fn new(exporter: &str, signal: Signal, destination: String) -> UpstreamHealth {
        let (destination, state) = (Mutex::new(destination), Mutex::default());
        UpstreamHealth { exporter: exporter.to_owned(), signal, destination, state, back: Notify::new() }
    }

    /// Whether it has ever accepted anything; before that, the address may be wrong.
    pub(super) fn has_answered(&self) -> bool {
        self.state.lock().has_answered
    }

    pub(super) fn is_down(&self) -> bool {
        self.state.lock().outage().is_some()
    }

    /// The destination, or the way to reach it, changed.
    pub(super) fn moved(&self, destination: String) {
        *self.destination.lock() = destination;
        let mut state = self.state.lock();
        state.failing.iter_mut().for_each(|failing| failing.holds = false);
        state.has_answered = false;
    }

    /// Whether telemetry is held back because of a wrong setting, here or upstream.
    pub(super) fn holds(&self) -> bool {
        self.state.lock().outage().is_some_and(|failing| failing.holds)
    }

    /// Since when it is down, why, and after how many attempts; `None` while it is up or untried.
    pub(super) fn outage(&self) -> Option<Outage> {
        let state = self.state.lock();
        let Failing { since, asked, attempts, why, holds, .. } = state.outage()?;
        let next_probe = holds.then(|| *asked + PROBE);
        Some(Outage { since: *since, next_probe, attempts: *attempts, why: why.clone(), holds: *holds })
    }

    /// Records an attempt that failed and will be retried, and logs it if due.
    pub(super) fn failed(&self, why: &str, holds: bool, queue: &str) {
        self.note_failure(why, holds);
        self.say(queue);
    }

    /// Records a failure without logging it.
    pub(super) fn note_failure(&self, why: &str, holds: bool) {
        let now = clock();
        let mut state = self.state.lock();
        let new = || Failing { since: now, said: None, asked: now, attempts: 0, why: String::new(), holds };
        let failing = state.failing.get_or_insert_with(new);
        failing.attempts += 1;
        (failing.holds, failing.asked) = (holds, now);
        why.clone_into(&mut failing.why);
    }

    /// Logs an outage as soon as failures have lasted long enough.
    pub(super) async fn notice(&self, queue: impl Fn() -> String) -> Infallible {
        let since = self.state.lock().failing.as_ref().map(|failing| failing.since);
        if let Some(since) = since {
            tokio::time::sleep_until((since + OUTAGE).into()).await;
            self.say(&queue());
        }
        std::future::pending().await
    }

    /// Logs changes, and an overdue summary.
    fn say(&self, queue: &str) {
        let now = clock();
        let (exporter, signal, probe) = (&self.exporter, self.signal.name(), PROBE.as_secs());
        let mut state = self.state.lock();
        let is_outage = state.outage().is_some();
        let Some(failing) = state.failing.as_mut().filter(|_| is_outage) else { return };
        let (is_news, pause) = match failing.said {
            None => (true, Duration::ZERO),
            Some((said, held)) if held != failing.holds => (true, OUTAGE.saturating_sub(now.duration_since(said))),
            Some((said, _)) => (false, SUMMARY.saturating_sub(now.duration_since(said))),
        };
        if !pause.is_zero() {
            return;
        }
        failing.said = Some((now, failing.holds));
        let (attempts, seconds) = (failing.attempts, now.duration_since(failing.since).as_secs());
        let (why, holds) = (failing.why.clone(), failing.holds);
        drop(state);
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

    /// Waits, but not beyond the end of an outage: each of the oldest batches waits for its own retry, and younger
    /// batches would overtake them when the first succeeds.
    pub(super) async fn pause(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.back.notified()).await;
    }

    /// Ends all pauses: waiting batches retry at once.
    pub(super) fn ask_now(&self) {
        self.back.notify_waiters();
    }

    /// An attempt succeeded: the upstream is up.
    pub(super) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.has_answered = true;
        let Some(failing) = state.failing.take() else { return };
        let now = clock();
        let lasted = now.duration_since(failing.since);
        if failing.said.is_some() {
            state.back = Some(now);
        }
        drop(state);
        if lasted >= OUTAGE {
            self.back.notify_waiters();
        }
        if failing.said.is_some() {
            let (exporter, signal, seconds) = (&self.exporter, self.signal.name(), lasted.as_secs());
            tracing::info!(%exporter, signal, seconds, attempts = failing.attempts, "exporter is back");
        }
    }
}
