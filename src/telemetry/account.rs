//! The ledger: for every exporter and signal, how many items it owes, sent and dropped, by reason.
//!
//! The balance at any moment: accepted = sent + filtered + dropped (by reason) + waiting. An account owes its items
//! from the moment the intake accepts them, so every later loss appears in it; a fan-out to k exporters balances k
//! times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Bill, Fate, Point, Rules, Said, Signal, Tally, Tap, Telemetry};

/// Why items were refused or dropped: one closed set for answers, metrics and the closing balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    QueueFull,
    MemoryFull,
    Draining,
    UpstreamDown,
    TooLarge,
    RejectedUpstream,
    PartialSuccess,
    RetriesExhausted,
    SinkStuck,
    DiskFull,
    DiskFailed,
    Quarantined,
    OutputTooSlow,
    SampledOut,
    Evicted,
    OutOfOrder,
    Untranslatable,
    SeriesLimit,
    ProcessorFailed,
    Filtered,
    Shutdown,
    Internal,
}

impl Reason {
    pub(crate) const ALL: [Reason; 22] = [
        Reason::QueueFull,
        Reason::MemoryFull,
        Reason::Draining,
        Reason::UpstreamDown,
        Reason::TooLarge,
        Reason::RejectedUpstream,
        Reason::PartialSuccess,
        Reason::RetriesExhausted,
        Reason::SinkStuck,
        Reason::DiskFull,
        Reason::DiskFailed,
        Reason::Quarantined,
        Reason::OutputTooSlow,
        Reason::SampledOut,
        Reason::Evicted,
        Reason::OutOfOrder,
        Reason::Untranslatable,
        Reason::SeriesLimit,
        Reason::ProcessorFailed,
        Reason::Filtered,
        Reason::Shutdown,
        Reason::Internal,
    ];

    /// Whether the config asked for it: items excluded by a rule are filtered, all others are dropped.
    pub(crate) fn is_rule(self) -> bool {
        matches!(self, Reason::Filtered | Reason::SampledOut)
    }

    /// The value of the `reason` label.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// The text for a client or a person.
    pub(crate) fn words(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Reason::QueueFull => ("queue_full", "sending queue is full"),
            Reason::MemoryFull => ("memory_full", "data refused due to high memory usage"),
            Reason::Draining => ("draining", "the collector is shutting down"),
            Reason::UpstreamDown => ("upstream_down", "the upstream cannot be reached"),
            Reason::TooLarge => ("too_large", "too large for the upstream"),
            Reason::RejectedUpstream => ("rejected_upstream", "rejected by the upstream"),
            Reason::PartialSuccess => ("partial_success", "rejected in part by the upstream"),
            Reason::RetriesExhausted => ("retries_exhausted", "no more retries left"),
            Reason::SinkStuck => ("sink_stuck", "another exporter was stuck"),
            Reason::DiskFull => ("disk_full", "the queue on disk is full"),
            Reason::DiskFailed => ("disk_failed", "the disk failed"),
            Reason::Quarantined => ("quarantined", "damaged or unreadable on disk"),
            Reason::OutputTooSlow => ("output_too_slow", "the reader of the output is too slow"),
            Reason::SampledOut => ("sampled_out", "left out by sampling"),
            Reason::Evicted => ("evicted", "more traces than num_traces"),
            Reason::OutOfOrder => ("out_of_order", "older than the last point of its series"),
            Reason::Untranslatable => ("untranslatable", "it has no form that the exporter can show"),
            Reason::SeriesLimit => ("series_limit", "more series than the exporter holds"),
            Reason::ProcessorFailed => ("processor_failed", "a processor failed on it"),
            Reason::Filtered => ("filtered", "dropped by a processor's rule"),
            Reason::Shutdown => ("shutdown", "left at shutdown"),
            Reason::Internal => ("internal", "internal error"),
        }
    }
}

/// The exporters at the end of a chain, one entry for each path to them.
pub type Accounts = Vec<Arc<Account>>;

/// The items of one exporter and signal.
///
/// Workers, queues and deliveries add to it with relaxed atomics. Items are added to `accepted` before they can be sent
/// or dropped, so `waiting`, the difference, is never negative for long; a reader may see a short-lived inexact
/// balance.
#[derive(Debug)]
pub struct Account {
    pub exporter: String,
    pub signal: Signal,
    tap: Arc<Tap>,
    pub(crate) bill: Arc<Bill>,
    accepted: AtomicU64,
    /// The highest value of `accepted`.
    most_accepted: AtomicU64,
    sent: AtomicU64,
    /// Bytes of what left.
    sent_bytes: AtomicU64,
    /// The part of `accepted` that an earlier run left on disk.
    found: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
    said_skipped: Said,
}

impl Account {
    pub fn new(exporter: &str, signal: Signal, tap: Arc<Tap>, bill: Arc<Bill>) -> Account {
        Account {
            exporter: exporter.to_owned(),
            signal,
            tap,
            bill,
            accepted: AtomicU64::new(0),
            most_accepted: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            found: AtomicU64::new(0),
            said_skipped: Said::default(),
            dropped: Default::default(),
        }
    }

    pub fn accept(&self, items: u64) {
        self.accepted.fetch_add(items, Relaxed);
    }

    /// Takes over items that an earlier run left on disk, `lost` of which cannot be read.
    pub(crate) fn find(&self, items: u64, lost: u64) {
        self.accept(items);
        self.found.fetch_add(items, Relaxed);
        self.bill.find(items);
        self.bill.drop_unknown(lost);
    }

    pub(crate) fn found(&self) -> u64 {
        self.found.load(Relaxed)
    }

    /// Accepted, then refused: the client still has it.
    pub(crate) fn give_back(&self, telemetry: &Telemetry) {
        self.most_accepted.fetch_max(self.accepted(), Relaxed);
        self.accepted.fetch_sub(telemetry.items(), Relaxed);
        self.book(telemetry, Fate::Refused, 0);
    }

    pub(crate) fn send(&self, items: u64) {
        self.sent.fetch_add(items, Relaxed);
    }

    pub(crate) fn drop_items(&self, reason: Reason, items: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(items, Relaxed);
        }
    }

    /// Books the outcome on the bill of its services: `dropped` of its items are dropped, the rest has `fate`.
    pub(crate) fn book(&self, telemetry: &Telemetry, fate: Fate, dropped: u64) {
        self.bill.settle(&Tally::of(telemetry), fate, dropped, 1);
    }

    /// Counts the bytes of telemetry that leaves, and shows it to the tap.
    pub(crate) fn leave(&self, telemetry: &Telemetry) {
        self.sent_bytes.fetch_add(telemetry.bytes() as u64, Relaxed);
        self.tap.look(Point::Leaving { exporter: &self.exporter }, telemetry);
    }

    /// Whether somebody wants to see what rules remove.
    pub(crate) fn wants_filtered(&self) -> bool {
        self.tap.wants_filtered()
    }

    /// Shows what came to a processor that removed some of it.
    pub(crate) fn show_filtered(&self, processor: &str, rules: &Arc<dyn Rules>, telemetry: &Telemetry) {
        self.tap.look(Point::Filtered { processor, rules }, telemetry);
    }

    pub(crate) fn show_dropped(&self, reason: Reason, telemetry: &Telemetry) {
        self.tap.look(Point::Dropped { exporter: &self.exporter, reason }, telemetry);
    }

    /// Drops all of a batch.
    pub(crate) fn lose(&self, reason: Reason, telemetry: &Telemetry) {
        self.drop_items(reason, telemetry.items());
        self.book(telemetry, Fate::Dropped, 0);
        self.show_dropped(reason, telemetry);
    }

    /// Drops a batch because other exporters must not wait for this one any longer.
    pub(crate) fn skip(&self, telemetry: &Telemetry) {
        self.lose(Reason::SinkStuck, telemetry);
        if let Some((dropped_items, batches)) = self.said_skipped.count(telemetry.items()) {
            tracing::error!(
                exporter = %self.exporter, signal = self.signal.name(), dropped_items, batches,
                reason = Reason::SinkStuck.name(), "the exporter has been full for too long, and others wait for it. Dropping its share."
            );
        }
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// `accepted` for a metrics counter, which must never fall.
    pub(crate) fn most_accepted(&self) -> u64 {
        self.accepted().max(self.most_accepted.load(Relaxed))
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Relaxed)
    }

    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |count| count.load(Relaxed))
    }

    pub fn dropped_in_all(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.dropped(*reason)).sum()
    }

    /// Items excluded by rules; other dropped items have other reasons.
    pub(crate) fn filtered(&self) -> u64 {
        Reason::ALL.iter().filter(|reason| reason.is_rule()).map(|reason| self.dropped(*reason)).sum()
    }

    /// Items still held somewhere: the difference that keeps the balance.
    pub fn waiting(&self) -> u64 {
        let settled = self.sent() + self.dropped_in_all();
        self.accepted().saturating_sub(settled)
    }
}
