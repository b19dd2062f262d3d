//! Metrics of the process itself, and of the ledger.

use std::fs::read_to_string;
use std::sync::Arc;
use std::time::Instant;

use crate::telemetry::{Account, Accounts, Budget, Reason, Share};

use super::metrics::{Observe, Page};

pub(crate) struct Process {
    started: Instant,
    budget: Arc<Budget>,
    accounts: Accounts,
}

/// Clock ticks per second in /proc, the same on every Linux.
const TICKS: f64 = 100.0;

impl Process {
    pub(crate) fn new(started: Instant, budget: Arc<Budget>, accounts: Accounts) -> Process {
        Process { started, budget, accounts }
    }
}

impl Observe for Process {
    fn observe(&self, page: &mut Page) {
        page.counter_of("otelcol_process_uptime", &[], self.started.elapsed().as_secs_f64());
        if let Some(seconds) = cpu_seconds() {
            page.counter_of("otelcol_process_cpu_seconds", &[], seconds);
        }
        if let Some(bytes) = resident_bytes() {
            page.gauge("otelcol_process_memory_rss", &[], bytes as f64);
        }
        for (name, share) in [("ingest", Share::Ingest), ("queue", Share::Queue), ("export", Share::Export)] {
            page.gauge("misaki_memory_budget_bytes", &[("share", name)], self.budget.limit(share) as f64);
            page.gauge("misaki_memory_used_bytes", &[("share", name)], self.budget.used(share) as f64);
        }
        for account in self.accounts.iter().filter(|account| account.accepted() > 0) {
            let labels = [("exporter", account.exporter.as_str()), ("otel_signal", account.signal.name())];
            page.counter("misaki_accepted_items", &labels, account.most_accepted());
            page.counter("misaki_exported_items", &labels, account.sent());
            page.gauge("misaki_waiting_items", &labels, account.waiting() as f64);
            for reason in Reason::ALL {
                let dropped = account.dropped(reason);
                if dropped > 0 {
                    let [exporter, signal] = labels;
                    let name = if reason.is_rule() { "misaki_filtered_items" } else { "misaki_dropped_items" };
                    page.counter(name, &[exporter, signal, ("reason", reason.name())], dropped);
                }
            }
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may contain anything; the numbers follow the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

pub(crate) fn resident_bytes() -> Option<u64> {
    bytes_in("/proc/self/status", "VmRSS:")
}

/// The amount of memory on a line such as `VmRSS:  1234 kB`.
pub(crate) fn bytes_in(path: &str, key: &str) -> Option<u64> {
    let text = read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// For an exporter without a queue that would report for it.
impl Observe for Account {
    fn observe(&self, page: &mut Page) {
        if self.accepted() > 0 {
            let (labels, items) = ([("exporter", self.exporter.as_str())], self.signal.items_name());
            page.counter(&format!("otelcol_exporter_sent_{items}"), &labels, self.sent());
            // Items dropped by a processor never reached the exporter.
            let never_came = [Reason::Filtered, Reason::SampledOut, Reason::Evicted].map(|reason| self.dropped(reason));
            let failed = self.dropped_in_all().saturating_sub(never_came.iter().sum());
            page.counter(&format!("otelcol_exporter_send_failed_{items}"), &labels, failed);
        }
    }
}
