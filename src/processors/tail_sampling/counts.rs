//! What `tail_sampling` counts, and the metrics of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::policy::Decision;
use crate::diagnostics::metrics::{Histogram, Page};

/// The bounds of `sampling_decision_timer_latency`, and of what is measured in seconds.
const MILLISECONDS: [u64; 23] = [
    1, 2, 5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2000, 3000, 4000, 5000, 10_000, 20_000, 30_000,
    50_000,
];
const SECONDS: [u64; 15] = [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000];

pub(super) struct Counts {
    pub(super) all: ByDecision,
    pub(super) policies: Vec<PolicyCounts>,
    pub(super) new_traces: AtomicU64,
    pub(super) too_early: AtomicU64,
    pub(super) too_large: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) released_kept: AtomicU64,
    pub(super) released_dropped: AtomicU64,
    pub(super) decision_milliseconds: Histogram,
    pub(super) late_seconds: Histogram,
    pub(super) removal_seconds: Histogram,
}

#[derive(Default)]
pub(super) struct PolicyCounts {
    /// In metrics.
    name: String,
    pub(super) decisions: ByDecision,
    pub(super) runs: AtomicU64,
    pub(super) nanoseconds: AtomicU64,
}

#[derive(Default)]
pub(super) struct ByDecision([AtomicU64; 3]);

impl ByDecision {
    pub(super) fn add(&self, decision: Decision) {
        if let Some(count) = self.0.get(decision as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn observe(&self, page: &mut Page, key: &str, labels: &[(&str, &str)]) {
        let decisions = [("true", "sampled"), ("false", "not_sampled"), ("false", "dropped")];
        for ((sampled, decision), count) in decisions.into_iter().zip(&self.0) {
            let labels = [labels, &[("sampled", sampled), ("decision", decision)]].concat();
            page.counter(&name(key), &labels, count.load(Relaxed));
        }
    }
}

/// Of a metric.
pub(super) fn name(key: &str) -> String {
    format!("otelcol_processor_tail_sampling_{key}")
}

impl Counts {
    /// Of the component with this id, and of these policies.
    pub(super) fn new<'n>(id: &str, policies: impl Iterator<Item = &'n String>) -> Counts {
        let prefix = id.split_once('/').map_or_else(String::new, |(_, name)| format!("{name}."));
        let policy = |name: &String| PolicyCounts { name: format!("{prefix}{name}"), ..PolicyCounts::default() };
        Counts {
            all: ByDecision::default(),
            policies: policies.map(policy).collect(),
            new_traces: AtomicU64::new(0),
            too_early: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            released_kept: AtomicU64::new(0),
            released_dropped: AtomicU64::new(0),
            decision_milliseconds: Histogram::new(&MILLISECONDS),
            late_seconds: Histogram::new(&SECONDS),
            removal_seconds: Histogram::new(&SECONDS),
        }
    }

    pub(super) fn observe(&self, page: &mut Page) {
        let early = "early_releases_from_cache_decision";
        let plain: [(&str, &[_], _); 6] = [
            ("new_trace_id_received", &[], &self.new_traces),
            ("sampling_policy_evaluation_error", &[], &self.errors),
            ("sampling_trace_dropped_too_early", &[], &self.too_early),
            ("traces_dropped_too_large", &[], &self.too_large),
            (early, &[("sampled", "false")], &self.released_dropped),
            (early, &[("sampled", "true")], &self.released_kept),
        ];
        for (key, labels, count) in plain {
            page.counter(&name(key), labels, count.load(Relaxed));
        }
        page.histogram(&name("sampling_decision_timer_latency"), &[], &self.decision_milliseconds);
        page.histogram(&name("sampling_late_span_age"), &[], &self.late_seconds);
        page.histogram(&name("sampling_trace_removal_age"), &[], &self.removal_seconds);
        self.all.observe(page, "global_count_traces_sampled", &[]);
        for policy in &self.policies {
            let labels = [("policy", policy.name.as_str())];
            page.counter(&name("sampling_policy_execution_count"), &labels, policy.runs.load(Relaxed));
            let microseconds = policy.nanoseconds.load(Relaxed) / 1000;
            page.counter(&name("sampling_policy_execution_time_sum"), &labels, microseconds);
            policy.decisions.observe(page, "count_traces_sampled", &labels);
        }
    }
}
