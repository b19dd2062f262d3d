//! A queue's state for people, health and metrics.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crate::diagnostics::metrics::{Observe, Page};
use crate::exporters::settings::Sizer;
use crate::telemetry::{Fill, Now, Reason, Share, clock};

use super::Queue;
use super::upstream::Outage;

/// A queue that was full for less than this is busy, not unhealthy.
const GRACE: Duration = Duration::from_secs(5);

/// The state of a queue as shown to people.
pub struct Report {
    pub(crate) destination: String,
    pub outage: Option<Outage>,
    /// Whether the upstream has answered since it was last changed.
    pub(crate) has_answered: bool,
    pub(crate) items: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_limit: u64,
    /// Bytes used on disk, and the quota.
    pub(crate) disk: Option<(u64, u64)>,
    /// Of `capacity`, in `unit`s.
    pub size: u64,
    pub(crate) capacity: u64,
    pub(crate) unit: &'static str,
    /// Whether the exporter has a queue at all.
    pub(crate) is_enabled: bool,
    pub(crate) oldest: Option<SystemTime>,
    /// `None` while arrivals do not tell what will come.
    pub(crate) bytes_per_second: Option<f64>,
    /// How long an outage may last at this rate before clients are refused, and the limit reached then: `memory`, `disk`
    /// or `queue_size`; `None` if it is not known or nothing arrives.
    pub(crate) until_full: Option<(f64, &'static str)>,
}

impl Queue {
    pub fn report(&self, now: Now) -> Report {
        let (items, room) = (self.held_items(), self.keep.room(self));
        let state = self.state.lock();
        let rates = state.flow.rates(now);
        let (bytes_per_second, size_per_second) = rates.unwrap_or_default();
        let queue = &self.settings.queue;
        let seconds = |room: u64, rate: f64| if rate > 0.0 { room as f64 / rate } else { f64::INFINITY };
        let of_bytes = seconds(room, bytes_per_second);
        let of_size = seconds(queue.queue_size.saturating_sub(state.size), size_per_second);
        let until_full = if of_size < of_bytes { (of_size, "queue_size") } else { (of_bytes, self.keep.name()) };
        Report {
            destination: self.upstream.destination(),
            outage: self.upstream.outage(),
            has_answered: self.upstream.has_answered(),
            items,
            memory_bytes: state.bytes,
            memory_limit: self.budget.limit(Share::Queue),
            disk: self.keep.store().map(|store| (store.used(), store.limits.quota)),
            size: state.size,
            capacity: queue.queue_size,
            unit: self.unit(),
            oldest: state.flow.oldest(),
            bytes_per_second: rates.map(|(bytes, _)| bytes),
            is_enabled: queue.enabled,
            until_full: Some(until_full).filter(|(seconds, _)| queue.enabled && seconds.is_finite()),
        }
    }

    /// How full it is, by the nearest limit.
    pub(super) fn fill(&self) -> String {
        let of_size = self.size_fill(self.state.lock().size);
        let of_bytes = self.keep.fill(self);
        let nearest = if of_bytes.share() > of_size.share() { of_bytes } else { of_size };
        format!("{:.0} % of {}", nearest.share() * 100.0, nearest.limit)
    }

    pub(super) fn size_fill(&self, used: u64) -> Fill {
        Fill { limit: "queue_size", used, most: self.settings.queue.queue_size, unit: self.unit() }
    }

    pub(super) fn unit(&self) -> &'static str {
        match self.settings.queue.sizer {
            Sizer::Requests => "requests",
            Sizer::Items => "items",
            Sizer::Bytes => "bytes",
        }
    }

    /// Why telemetry is stuck here, while it is.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.upstream.holds() {
            return Some("the upstream refuses every export: telemetry is held");
        }
        let of_disk = self.keep.trouble();
        if of_disk == Some(Reason::DiskFailed) {
            return Some(Reason::DiskFailed.words());
        }
        let state = self.state.lock();
        // It refused, and the cause persists.
        let is_lasting = |(since, _): &(Instant, Reason)| clock().duration_since(*since) >= GRACE;
        let (_, reason) = state.full.filter(is_lasting).filter(|_| state.size > 0 || of_disk.is_some())?;
        Some(of_disk.unwrap_or(reason).words())
    }
}

impl Observe for Queue {
    fn observe(&self, page: &mut Page) {
        let (exporter, items) = (self.account.exporter.as_str(), self.signal.items_name());
        let labels = [("exporter", exporter), ("data_type", self.signal.name())];
        let (size, in_flight) = {
            let state = self.state.lock();
            (state.size, state.in_flight)
        };
        if self.settings.queue.enabled {
            page.gauge("otelcol_exporter_queue_size", &labels, size as f64);
            page.gauge("otelcol_exporter_queue_capacity", &labels, self.settings.queue.queue_size as f64);
        }
        if let Some(store) = self.keep.store() {
            page.gauge("misaki_queue_disk_bytes", &labels, store.used() as f64);
            page.gauge("misaki_queue_disk_quota_bytes", &labels, store.limits.quota as f64);
        }
        page.gauge("otelcol_exporter_in_flight_requests", &labels, u64::from(in_flight > 0) as f64);
        if self.account.accepted() == 0 {
            return;
        }
        let address = self.way.borrow().exporter.labels();
        let mut labels = vec![("exporter", exporter)];
        labels.extend(address.iter().map(|(name, value)| (*name, value.as_str())));
        page.counter(&format!("otelcol_exporter_sent_{items}"), &labels, self.account.sent());
        page.counter(&format!("otelcol_exporter_send_failed_{items}"), &labels, self.send_failed.load(Relaxed));
        let labels = [("exporter", exporter)];
        page.counter(&format!("otelcol_exporter_enqueue_failed_{items}"), &labels, self.enqueue_failed.load(Relaxed));
    }
}
