//! What the page knows: the requests, logs and metrics that passed lately, within a fixed amount of memory. Whole traces
//! are forgotten, and the service that takes most makes room.

mod fair;
pub(super) mod health;
pub(super) mod item;
pub(super) mod logs;
pub(super) mod metrics;
pub(super) mod services;
pub(super) mod tapped;
pub(super) mod traces;

use std::time::{Duration, Instant};

use health::Health;
use item::{Headers, Kept};
use logs::Logs;
use metrics::Metrics;
use serde_json::Value;
use tapped::Tapped;
use traces::Traces;

use crate::inspect::feed::PointKind;
use crate::telemetry::Signal;

/// The memory for traces, for logs and for metrics.
const TRACES: usize = 40 << 20;
const LOGS: usize = 16 << 20;
const METRICS: usize = 8 << 20;
/// The longest that new requests are read at once.
const AT_ONCE: Duration = Duration::from_millis(50);

pub(super) struct Store {
    pub(super) traces: Traces,
    pub(super) logs: Logs,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) tapped: Tapped,
    headers: Headers,
    version: u64,
    /// Items that the collector or this process could not keep up with.
    pub(super) skipped: u64,
    /// Why nothing comes, while no collector is attached to.
    pub(super) away: Option<String>,
}

impl Store {
    pub(super) fn new() -> Store {
        Store {
            traces: Traces::new(TRACES),
            logs: Logs::new(LOGS),
            metrics: Metrics::new(METRICS),
            health: Health::default(),
            tapped: Tapped::default(),
            headers: Headers::default(),
            version: 0,
            skipped: 0,
            away: None,
        }
    }

    /// A number that grows with each change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes a request; with `has_gap`, something around it was not kept by the collector.
    pub(super) fn take(&mut self, signal: Signal, wire: &[u8], has_gap: bool) {
        self.version += 1;
        self.tapped.add(PointKind::Received, signal, None, wire);
        let Store { traces, logs, metrics, headers, .. } = self;
        headers.each(signal, wire, |item| match signal {
            Signal::Logs => {
                logs.add(&item);
                traces.add(item, has_gap);
            }
            Signal::Traces => traces.add(item, has_gap),
            Signal::Metrics => metrics.add(&item),
        });
        // Headers are shared, so their service makes room for them.
        while traces.used() + logs.used() + metrics.used() + headers.used() > TRACES + LOGS + METRICS {
            let service = headers.largest();
            let mut forgets = |of| logs.forget_one(of) || traces.forget_one(of) || metrics.forget_one(of);
            if !forgets(service.as_ref()) && !forgets(None) {
                break;
            }
        }
    }

    /// Takes the collector's status.
    pub(super) fn tell(&mut self, status: Value, now: Instant) {
        self.health.tell(status, now);
        self.version += 1;
    }

    /// Takes a request that left the collector, or that it dropped; the heading says where.
    pub(super) fn tap(&mut self, point: PointKind, signal: Signal, heading: Option<String>, wire: &[u8]) {
        self.tapped.add(point, signal, heading, wire);
        self.version += 1;
    }

    /// Notes items that could not be read in time.
    pub(super) fn skip(&mut self, items: u64) {
        (self.skipped, self.version) = (self.skipped + items, self.version + 1);
    }

    /// Notes that the collector is away, and why, or that it is back.
    pub(super) fn away(&mut self, why: Option<String>) {
        (self.away, self.version) = (why, self.version + 1);
    }

    /// Works out what the list needs to know of new requests.
    pub(super) fn refresh(&mut self) {
        let has_more = self.traces.refresh(AT_ONCE);
        self.version += u64::from(has_more);
    }

    /// Works it out for all of them.
    pub(super) fn refresh_all(&mut self) {
        while self.traces.refresh(AT_ONCE) {}
    }
}

/// The memory of an item beside its record: its struct, its places in lists, the allocator's share.
const PER_ITEM: usize = 160;

fn cost(item: &Kept) -> usize {
    item.record.len() + PER_ITEM
}
