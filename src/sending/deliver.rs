//! One batch, from leaving the queue to its final outcome: attempts, pauses, cutting, holding. It is counted once.

use std::pin::pin;
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::watch;
use tonic::Code;

use crate::exporters::{Accepted, Payload, SendError};
use crate::otlp::slice;
use crate::telemetry::{Fate, Now, Reason, Refusal, Status, Tally, Telemetry, clock};

use super::backoff::Backoff;
use super::upstream::PROBE;
use super::{Departure, Queue, Way};

/// How many times its own length a batch may be resent in smaller pieces. Pieces repeat their resource, which may be
/// most of them.
const AGAIN: usize = 16;
/// How often a batch is cut because it is too large for the upstream.
const CUTS: u32 = 128;
/// Extra requests allowed to find a bad record in one batch.
const BISECTIONS: u32 = 16;

/// Items without a final outcome. A panic counts them as dropped; when a drain is cut short, they stay counted as held.
struct Open<'a> {
    queue: &'a Queue,
    items: u64,
    size: u64,
    bytes: u64,
    overhead: u64,
    /// The whole batch, if the queue is on disk: after a panic the rest is set aside, so a restart does not meet it
    /// again.
    whole: Option<Telemetry>,
}

impl Open<'_> {
    fn close(&mut self, items: u64, sent: u64, reason: Reason) {
        self.items -= items.min(self.items);
        self.queue.account.send(sent);
        if items > sent {
            self.queue.account.drop_items(reason, items - sent);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let lost = if std::thread::panicking() { self.items } else { 0 };
        self.close(lost, 0, Reason::Internal);
        if lost > 0
            && let Some(whole) = self.whole.take()
        {
            self.queue.keep.put_aside(whole, Reason::Internal);
        }
        self.queue.let_go(lost);
        self.queue.arrive(lost, self.size, self.bytes, self.overhead);
    }
}

impl Queue {
    pub(super) async fn deliver(self: Arc<Self>, departure: Departure) {
        let Departure { mut telemetry, size, bytes, overhead } = departure;
        // Dropped after `open`, so a dead letter is stored before its record counts as settled.
        let tickets = std::mem::take(&mut telemetry.tickets);
        let whole = self.is_stored().then(|| telemetry.share());
        let mut open = Open { queue: &self, items: telemetry.items(), size, bytes, overhead, whole };
        let mut outcome = Ok(());
        let mut bisections = BISECTIONS;
        let (mut again, mut cuts) = (AGAIN * telemetry.bytes(), CUTS);
        let mut way = self.way.subscribe();
        let mut left = vec![telemetry];
        while let Some(telemetry) = left.pop() {
            let items = telemetry.items();
            let current = way.borrow_and_update().clone();
            let Some(attempted) = self.attempt(&current, &mut way, &telemetry).await else {
                left.push(telemetry);
                continue;
            };
            let error = match attempted {
                Ok(accepted) => {
                    self.say_partial(&accepted, items);
                    let rejected = accepted.rejected.min(items);
                    self.settle(&mut open, items, items - rejected, Reason::PartialSuccess);
                    self.book(&telemetry, Fate::Sent, rejected).await;
                    self.account.leave(&telemetry);
                    continue;
                }
                Err(error) => error,
            };
            let reason = match &error {
                SendError::TooLarge(_) if items > 1 && cuts > 0 && again > telemetry.bytes() => {
                    cuts -= 1;
                    let halves = self.halves(telemetry, &mut open).await;
                    again = again.saturating_sub(halves.iter().map(Telemetry::bytes).sum());
                    left.extend(halves);
                    continue;
                }
                SendError::Malformed(_) if items > 1 && bisections > 1 => {
                    bisections -= 2;
                    left.extend(self.halves(telemetry, &mut open).await);
                    continue;
                }
                SendError::TooLarge(_) => Reason::TooLarge,
                SendError::Retry { .. } => Reason::RetriesExhausted,
                SendError::Malformed(_) | SendError::Rejected(_) | SendError::Misconfigured(_) => {
                    Reason::RejectedUpstream
                }
            };
            let status = error.status();
            if let Some((dropped_items, batches)) = self.said_dropped.count(items) {
                let kept = if self.is_stored() { " It is kept as dead letters (misaki queue inspect)." } else { "" };
                tracing::error!(
                    exporter = %self.account.exporter, signal = self.signal.name(), error = %status.message,
                    dropped_items, batches, reason = reason.name(), "Exporting failed. Dropping data.{kept}"
                );
            }
            outcome = Err(Refusal::Rejected(status.clone()));
            self.settle(&mut open, items, 0, reason);
            self.book(&telemetry, Fate::Dropped, 0).await;
            self.account.show_dropped(reason, &telemetry);
            self.keep.put_aside(telemetry, reason);
        }
        drop(open);
        tickets.resolve(outcome.as_ref().copied());
    }

    /// Cuts a batch, aside if that takes long; returns nothing if cutting panics.
    async fn halves(&self, telemetry: Telemetry, open: &mut Open<'_>) -> Vec<Telemetry> {
        let items = telemetry.items();
        if !slice::is_large(telemetry.bytes() as u64, items) {
            return telemetry.halves().into();
        }
        let cut = self.budget.aside_of_exports.run(None, move || telemetry.halves().into());
        cut.await.unwrap_or_else(|| {
            self.settle(open, items, 0, Reason::Internal);
            Vec::new()
        })
    }

    /// Books it on the bill, aside if reading its services takes long.
    async fn book(&self, telemetry: &Telemetry, fate: Fate, dropped: u64) {
        let tally = match Tally::at_once(telemetry) {
            Some(tally) => tally,
            None => {
                let telemetry = telemetry.share();
                let tally = self.budget.aside_of_exports.run(None, move || Tally::of(&telemetry));
                tally.await.unwrap_or_default()
            }
        };
        self.account.bill.settle(&tally, fate, dropped, 1);
    }

    fn settle(&self, open: &mut Open, items: u64, sent: u64, reason: Reason) {
        if reason != Reason::PartialSuccess {
            self.send_failed.fetch_add(items - sent, std::sync::atomic::Ordering::Relaxed);
        }
        let mut state = self.state.lock();
        state.in_flight -= items.min(state.in_flight);
        drop(state);
        self.let_go(items);
        open.close(items, sent, reason);
    }

    /// Attempts until the outcome is final. The encoded copy is kept for the next attempt unless another export waits
    /// for memory. `None` when another way of sending should be tried.
    async fn attempt(
        &self,
        way: &Way,
        changed: &mut watch::Receiver<Arc<Way>>,
        telemetry: &Telemetry,
    ) -> Option<Result<Accepted, SendError>> {
        let mut payload = None;
        let retry = &way.settings.retry;
        let started = clock();
        let mut backoff = Backoff::new(retry);
        loop {
            let encoded = match payload.take() {
                Some(encoded) => encoded,
                None => way.exporter.encode(telemetry).await,
            };
            let error = match self.send_once(way, &encoded).await {
                Ok(accepted) => {
                    self.upstream.succeeded();
                    return Some(Ok(accepted));
                }
                Err(error) => error,
            };
            let pause = match &error {
                SendError::Retry { status, .. } | SendError::Misconfigured(status) if !retry.enabled => {
                    // The outcome of the batch is logged separately.
                    self.upstream.note_failure(&status.message, false);
                    return Some(Err(error));
                }
                SendError::Retry { after, status } => {
                    self.upstream.failed(&status.message, false, &self.fill());
                    backoff.next(*after)
                }
                SendError::Misconfigured(status) => {
                    self.upstream.failed(&status.message, true, &self.fill());
                    PROBE
                }
                _ => {
                    // The upstream answered, even if it rejected the batch.
                    if encoded.unsendable.is_none() {
                        self.upstream.succeeded();
                    }
                    return Some(Err(error));
                }
            };
            if retry.max_elapsed_time.is_some_and(|limit| clock().duration_since(started) + pause > limit) {
                let message = format!("no more retries left: {}", error.status().message);
                let status = Status { code: error.status().code, message };
                return Some(Err(SendError::Retry { after: None, status }));
            }
            payload = Some(encoded);
            let mut pausing = pin!(async {
                match &error {
                    SendError::Misconfigured(_) => self.hold(way).await,
                    // A pause that the upstream asked for is not cut short.
                    SendError::Retry { after: Some(_), .. } => tokio::time::sleep(pause).await,
                    _ => self.upstream.pause(pause).await,
                }
            });
            loop {
                let is_copy = payload.as_ref().is_some_and(|payload| payload.charge.is_some());
                tokio::select! {
                    () = &mut pausing => break,
                    () = self.budget.exports_wait(), if is_copy => payload = None,
                    never = self.upstream.notice(|| self.fill()) => match never {},
                    Ok(()) = changed.changed() => return None,
                }
            }
        }
    }

    /// Waits until the upstream accepts an empty export again; tries at once when our credentials are renewed.
    async fn hold(&self, way: &Way) {
        let empty = Telemetry {
            signal: self.signal,
            parts: SmallVec::new(),
            client: None,
            received: Now::read(),
            tickets: Default::default(),
        };
        let probe = way.exporter.encode(&empty).await;
        loop {
            tokio::select! {
                () = self.upstream.pause(PROBE) => {}
                () = way.exporter.renewed() => {}
            }
            let Err(SendError::Misconfigured(status)) = self.send_once(way, &probe).await else { return };
            self.upstream.failed(&status.message, true, &self.fill());
        }
    }

    async fn send_once(&self, way: &Way, payload: &Payload) -> Result<Accepted, SendError> {
        if let Some(error) = &payload.unsendable {
            return Err(error.clone());
        }
        let sending = way.exporter.send(payload);
        let outcome = match way.settings.timeout {
            None => sending.await,
            Some(timeout) => tokio::time::timeout(timeout, sending).await.unwrap_or_else(|_| {
                let message = format!("no answer within {timeout:?}");
                Err(SendError::Retry { after: None, status: Status { code: Code::DeadlineExceeded, message } })
            }),
        };
        self.keep.outlive();
        outcome
    }

    /// Logs that the upstream rejected some of `items`, or had something to say.
    fn say_partial(&self, accepted: &Accepted, items: u64) {
        let is_news = accepted.rejected > 0 || !accepted.message.is_empty();
        let said = is_news.then(|| self.said_partial.count(accepted.rejected.min(items))).flatten();
        if let Some((dropped_items, batches)) = said {
            tracing::warn!(
                exporter = %self.account.exporter, signal = self.signal.name(), upstream_says = %accepted.message,
                dropped_items, batches, "Partial success response"
            );
        }
    }
}
