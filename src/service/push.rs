//! Pushes the collector's own metrics and log by OTLP, on the thread of health and metrics.
//!
//! A push is one attempt. After a failed one the next comes sooner, then ever later: metrics are cumulative, so the next
//! push makes up for a lost one, and log records wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use smallvec::smallvec;
use tokio::sync::watch;

use crate::config::telemetry::Push;
use crate::diagnostics::log::records::{self, Waiting};
use crate::diagnostics::metrics::{Observe, Page};
use crate::diagnostics::own;
use crate::diagnostics::supervisor::Watch;
use crate::exporters::{Accepted, End, Exporter, ExporterParts, ExporterSettings, SendError};
use crate::telemetry::{Account, Budget, Charge, Now, Part, Share, Signal, Telemetry};

/// Shortest and longest pause after a failed push.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(60);

pub(super) type Observers = watch::Receiver<Arc<Vec<Arc<dyn Observe>>>>;

/// The attributes of the collector.
pub(super) type Attributes = Vec<(String, String)>;

/// One destination of the metrics or the log. Setting a deadline stops it, after a last push until then.
pub(super) struct Pusher {
    push: Push,
    resource: Attributes,
    start: SystemTime,
    exporter: Arc<dyn Exporter>,
    budget: Arc<Budget>,
    source: Source,
    pub(super) stop: watch::Sender<Option<Instant>>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

enum Source {
    Metrics(Observers),
    Log(Arc<Waiting>),
}

/// The client of an exporter of the collector's own telemetry.
pub(crate) fn client(
    settings: &Arc<dyn ExporterSettings>,
    signal: Signal,
    budget: &Arc<Budget>,
) -> Result<Arc<dyn Exporter>, String> {
    let id = "service.telemetry";
    let account = Arc::new(Account::new(id, signal, Arc::default(), Arc::default()));
    let parts = ExporterParts { id, auth: None, budget, supervisor: &Arc::default(), before: &[] };
    match settings.open(parts)?.end(signal, &account)? {
        End::Exporter(exporter) => Ok(exporter),
        End::Sink(_) => Err(format!("{id} has an exporter that does not send")),
    }
}

impl Pusher {
    pub(super) fn open(
        (push, settings): &(Push, Arc<dyn ExporterSettings>),
        (resource, start): (&Attributes, SystemTime),
        observers: Observers,
        budget: &Arc<Budget>,
    ) -> Result<Arc<Pusher>, String> {
        let exporter = client(settings, push.signal, budget)?;
        let source = match push.signal {
            Signal::Logs => Source::Log(Waiting::open(push.most_waiting)),
            Signal::Metrics | Signal::Traces => Source::Metrics(observers),
        };
        Ok(Arc::new(Pusher {
            push: push.clone(),
            resource: resource.clone(),
            start,
            exporter,
            budget: budget.clone(),
            source,
            stop: watch::Sender::new(None),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }

    /// Whether it pushes in this way already.
    pub(super) fn is_like(&self, push: &Push, resource: &Attributes) -> bool {
        self.push == *push && self.resource == *resource
    }

    pub(super) async fn run(self: Arc<Self>, watch: Watch) {
        records::unpushed(async { while watch.run(self.repeat()).await.is_none() {} }).await;
        if let Source::Log(waiting) = &self.source {
            waiting.close();
        }
    }

    async fn repeat(&self) {
        let (mut stop, mut pause, mut failures) = (self.stop.subscribe(), self.push.interval, 0);
        loop {
            let stopped = async { stop.wait_for(Option::is_some).await.is_ok() };
            tokio::select! {
                biased;
                _ = stopped => break,
                result = self.next(pause) => pause = self.judge(result, &mut failures),
            }
        }
        let Some(deadline) = *self.stop.borrow() else { return };
        let last = async {
            while self.attempt().await.is_ok() {
                if self.is_empty() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), last).await;
    }

    async fn next(&self, pause: Duration) -> Result<(), Failure> {
        if let Source::Log(waiting) = &self.source {
            waiting.arrived().await;
        }
        tokio::time::sleep(pause).await;
        let late = |_| Err(Failure { hint: None, message: "no answer in time".to_owned() });
        tokio::time::timeout(self.push.timeout, self.attempt()).await.unwrap_or_else(late)
    }

    /// The pause before the next push. Logs when pushing begins to fail, and when it works again.
    fn judge(&self, result: Result<(), Failure>, failures: &mut u32) -> Duration {
        let (signal, to) = (self.push.signal.name(), self.exporter.destination());
        match result {
            Ok(()) => {
                if *failures > 0 {
                    tracing::info!(signal, to, "the collector's own telemetry is pushed again");
                }
                *failures = 0;
                self.push.interval
            }
            Err(Failure { hint, message }) => {
                if *failures == 0 {
                    tracing::warn!(signal, to, why = message, "cannot push the collector's own telemetry");
                }
                *failures += 1;
                let pause = SOON.saturating_mul(1 << (*failures - 1).min(6)).max(hint.unwrap_or_default()).min(LATE);
                match self.source {
                    Source::Metrics(_) => pause.min(self.push.interval.max(SOON)),
                    Source::Log(_) => pause,
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        match &self.source {
            Source::Metrics(_) => true,
            Source::Log(waiting) => waiting.oldest(1).is_empty(),
        }
    }

    /// Sends the metrics of now, or the oldest records.
    async fn attempt(&self) -> Result<(), Failure> {
        let (wire, count) = match &self.source {
            Source::Metrics(observers) => {
                let (observers, mut page) = (observers.borrow().clone(), Page::default());
                observers.iter().for_each(|observer| observer.observe(&mut page));
                own::metrics(&page, &self.resource, self.start)
            }
            Source::Log(waiting) => {
                let records = waiting.oldest(self.push.most_together);
                let count = records.len() as u32;
                (own::logs(records, &self.resource), count)
            }
        };
        if count == 0 {
            return Ok(());
        }
        // A push is bounded by itself, and is wanted above all when memory is short: it takes none of the budget.
        let charge = Charge::held(&self.budget, Share::Export, 0);
        let telemetry = Telemetry {
            signal: self.push.signal,
            parts: smallvec![Part::new(wire, count, charge)],
            client: None,
            received: Now::read(),
            tickets: Default::default(),
        };
        let payload = self.exporter.encode(&telemetry).await;
        let sent = match &payload.unsendable {
            Some(error) => Err(error.clone()),
            None => self.exporter.send(&payload).await,
        };
        self.settle(count, sent)
    }

    /// Counts an outcome. Records that were refused for good are not sent again.
    fn settle(&self, count: u32, sent: Result<Accepted, SendError>) -> Result<(), Failure> {
        let counter = if sent.is_ok() { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Relaxed);
        let dropped = match &sent {
            Ok(accepted) => accepted.rejected.min(count.into()),
            Err(SendError::Retry { .. } | SendError::Misconfigured(_)) => return sent.map(drop).map_err(Failure::of),
            Err(SendError::TooLarge(_) | SendError::Malformed(_) | SendError::Rejected(_)) => count.into(),
        };
        if let Source::Log(waiting) = &self.source {
            waiting.settle(count as usize, dropped);
        }
        sent.map(drop).map_err(Failure::of)
    }
}

/// Why a push failed, and when the upstream wants the next one.
struct Failure {
    hint: Option<Duration>,
    message: String,
}

impl Failure {
    fn of(error: SendError) -> Failure {
        let hint = if let SendError::Retry { after, .. } = &error { *after } else { None };
        Failure { hint, message: error.status().message.clone() }
    }
}

impl Observe for Pusher {
    fn observe(&self, page: &mut Page) {
        let signal = ("otel_signal", self.push.signal.name());
        for (outcome, count) in [("success", &self.succeeded), ("failure", &self.failed)] {
            page.counter("misaki_own_telemetry_pushes", &[signal, ("outcome", outcome)], count.load(Relaxed));
        }
        if let Source::Log(waiting) = &self.source {
            page.counter("misaki_own_log_records_dropped", &[], waiting.dropped());
        }
    }
}
