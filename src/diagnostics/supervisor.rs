//! Watches tasks and threads that must run as long as the collector does. A panic in one is counted, logged, and turns
//! health red; a task is restarted, and health recovers when it has run for a while.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinError;

use super::metrics::{Observe, Page};
use crate::telemetry::clock;

/// How long a part must run before health recovers.
const STEADY: Duration = Duration::from_secs(10);
/// The shortest and longest pause before a part is restarted.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(5);

/// All watched parts by name. One lock guards them; it is taken when a part starts, fails or is queried, never while it
/// works.
#[derive(Default)]
pub struct Supervisor(Mutex<BTreeMap<String, Part>>);

#[derive(Default)]
struct Part {
    failures: u64,
    failed_at: Option<Instant>,
    pause: Duration,
    /// A thread that does not run again.
    is_gone: bool,
    hook: Arc<Hook>,
}

/// Lets a test make a part panic.
#[derive(Default)]
struct Hook {
    is_set: AtomicBool,
    set: Notify,
}

impl Hook {
    #[expect(clippy::panic, reason = "a test asks for it")]
    fn look(&self) {
        if self.is_set.swap(false, Relaxed) {
            panic!("ended by a test");
        }
    }
}

/// A part's own handle. A thread keeps it: when a panic drops it, the part is gone.
pub struct Watch {
    supervisor: Arc<Supervisor>,
    name: String,
    hook: Arc<Hook>,
}

impl Supervisor {
    pub fn watch(self: &Arc<Self>, name: impl Into<String>) -> Watch {
        let name = name.into();
        let hook = self.0.lock().entry(name.clone()).or_default().hook.clone();
        Watch { supervisor: self.clone(), name, hook }
    }

    /// The part whose failure affects health, and what was done about it.
    pub(crate) fn trouble(&self) -> Option<(String, &'static str)> {
        let (parts, now) = (self.0.lock(), clock());
        let gone = parts.iter().find(|(_, part)| part.is_gone);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < STEADY;
        let failed = || parts.iter().find(|(_, part)| part.failed_at.is_some_and(is_recent));
        let (name, part) = gone.or_else(failed)?;
        let what = if part.is_gone { "it ended by an internal error: restart the collector" } else { RESTARTED };
        Some((name.clone(), what))
    }

    /// Makes a part panic, for tests. Returns false if no part has this name.
    #[doc(hidden)]
    pub fn fail(&self, name: &str) -> bool {
        let parts = self.0.lock();
        let Some(part) = parts.get(name) else { return false };
        part.hook.is_set.store(true, Relaxed);
        part.hook.set.notify_one();
        true
    }

    /// The names of all parts.
    pub fn parts(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

const RESTARTED: &str = "it failed by an internal error, and was started again";

impl Watch {
    /// Runs the part until it ends by itself. After a panic, reports it, pauses, and returns `None`: the caller then
    /// restarts the part.
    pub(crate) async fn run<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        let mut part = pin!(async { tokio::select!(result = part => result, never = self.fails() => match never {}) });
        let poll = |context: &mut Context| match catch_unwind(AssertUnwindSafe(|| part.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Some(result)),
            Err(_) => Poll::Ready(None),
        };
        let ended = std::future::poll_fn(poll).await;
        if ended.is_none() {
            tokio::time::sleep(self.failed(false)).await;
        }
        ended
    }

    /// Records the end of a short task of the part; a panic is counted.
    pub(crate) fn note(&self, ended: Result<(), JoinError>) {
        if ended.is_err_and(|error| error.is_panic()) {
            self.supervisor.0.lock().entry(self.name.clone()).or_default().failures += 1;
            tracing::error!(part = self.name, "what it did for one client failed by an internal error");
        }
    }

    /// Where a test makes a thread panic: called in each round…
    pub(crate) fn look(&self) {
        self.hook.look();
    }

    /// …or awaited beside the thread's own work.
    pub(crate) async fn fails(&self) -> Infallible {
        loop {
            self.hook.set.notified().await;
            self.hook.look();
        }
    }

    fn failed(&self, is_gone: bool) -> Duration {
        let now = clock();
        let mut parts = self.supervisor.0.lock();
        let part = parts.entry(self.name.clone()).or_default();
        let again = part.failed_at.is_some_and(|at| now.saturating_duration_since(at) < STEADY + part.pause);
        part.pause = if again { (part.pause * 2).min(LATE) } else { SOON };
        part.failures += 1;
        part.failed_at = Some(now);
        part.is_gone |= is_gone;
        let pause = part.pause;
        drop(parts);
        match is_gone {
            true => tracing::error!(part = self.name, "it ended by an internal error: restart the collector"),
            false => tracing::error!(part = self.name, "it failed by an internal error: it is started again"),
        }
        pause
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed(true);
        }
    }
}

impl Observe for Supervisor {
    fn observe(&self, page: &mut Page) {
        for (name, part) in self.0.lock().iter() {
            page.counter("misaki_internal_failures", &[("part", name)], part.failures);
        }
    }
}
