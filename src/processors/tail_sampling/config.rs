//! The section of `tail_sampling`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::section::Section;
use crate::order::Ordered;
use crate::processors::{ProcessorSettings, Role, Stage, StageFactory, StageParts};
use crate::telemetry::Signal;

use super::TailSampling;
use super::policy::Policy;

pub struct Config {
    pub(super) decision_wait: Duration,
    pub(super) wait_after_root: Duration,
    pub(super) num_traces: usize,
    pub(super) block_on_overflow: bool,
    pub(super) sampled_cache_size: usize,
    pub(super) non_sampled_cache_size: usize,
    pub(super) sample_on_first_match: bool,
    pub(super) drop_pending: bool,
    /// 0 is no limit.
    pub(super) maximum_trace_size: u64,
    /// Those that drop come first.
    pub(super) policies: Vec<(String, Policy)>,
    /// Whether one has conditions or patterns, of which nobody knows how long they take.
    pub(super) has_patterns: bool,
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let size = |section: &Section, key, default| section.limited(key, default, 0..=i64::from(u32::MAX)) as usize;
        let cache = section.subsection("decision_cache");
        let mut policies: Vec<(String, Policy)> = Vec::new();
        let mut names = HashSet::new();
        for policy in section.sections("policies").unwrap_or_default() {
            let name = policy.text("name").unwrap_or_default();
            if name.is_empty() {
                policy.problem("name", "policy name cannot be empty");
            } else if !names.insert(name.clone()) {
                policy.problem("name", format!("duplicate policy name \"{name}\""));
            }
            let decoded = Policy::decode(&policy, &name);
            policies.extend(decoded.map(|policy| (name, policy)));
        }
        policies.order_by_key(|(_, policy)| !policy.is_drop());
        let strategy = section.text_or("sampling_strategy", "trace-complete");
        if strategy != "trace-complete" {
            let message = match strategy.as_str() {
                "span-ingest" => "sampling_strategy \"span-ingest\" is not supported".to_owned(),
                _ => format!("invalid sampling_strategy \"{strategy}\", expected \"trace-complete\""),
            };
            section.problem_with_help("sampling_strategy", message, "leave it out");
        }
        let shards = section.integer("num_shards", 1, 0..=i64::from(u32::MAX));
        if shards > 256 {
            section.problem("num_shards", format!("num_shards ({shards}) must not exceed 256"));
        }
        section.ignored(&["expected_new_traces_per_sec"]);
        Config {
            decision_wait: section.duration("decision_wait", Duration::from_secs(30)),
            wait_after_root: section.duration("decision_wait_after_root_received", Duration::ZERO),
            num_traces: size(&section, "num_traces", 50_000).max(1),
            block_on_overflow: section.boolean("block_on_overflow", false),
            sampled_cache_size: size(&cache, "sampled_cache_size", 0),
            non_sampled_cache_size: size(&cache, "non_sampled_cache_size", 0),
            sample_on_first_match: section.boolean("sample_on_first_match", false),
            drop_pending: section.boolean("drop_pending_traces_on_shutdown", false),
            maximum_trace_size: size(&section, "maximum_trace_size_bytes", 0) as u64,
            has_patterns: policies.iter().any(|(_, policy)| policy.has_patterns()),
            policies,
        }
    }
}

impl ProcessorSettings for Arc<Config> {
    fn role(&self) -> Role<'_> {
        Role::Stage(self)
    }

    /// It answers before a trace is decided on.
    fn holds_in_memory(&self) -> bool {
        true
    }
}

impl StageFactory for Arc<Config> {
    fn refuses(&self, signal: Signal) -> Option<String> {
        (signal != Signal::Traces).then(|| format!("tail_sampling takes traces, not {}", signal.name()))
    }

    fn build(&self, parts: StageParts<'_>) -> Arc<dyn Stage> {
        TailSampling::new(self.clone(), parts)
    }
}
