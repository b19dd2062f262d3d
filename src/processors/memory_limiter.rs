//! `memory_limiter`: sets the memory budget. It refuses nothing itself: memory is admitted at the intake before it is
//! used, so telemetry that reaches this processor already has its memory.

use std::sync::Arc;
use std::time::Duration;

use crate::config::section::Section;
use crate::diagnostics::metrics::Page;
use crate::telemetry::{Now, Refusal, Signal, Telemetry};

use super::{Factory, Notes, Processor, ProcessorSettings, Role};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Config {
    limit: Limit,
    spike: Option<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Mebibytes(u64),
    /// Of the container's or the machine's memory.
    Percent(u64),
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let any = 0..=i64::from(u32::MAX);
        let number = |key| section.limited(key, 0, any.clone()) as u64;
        let interval = section.duration("check_interval", Duration::ZERO);
        let (limit_mib, limit_percentage) = (number("limit_mib"), number("limit_percentage"));
        let (spike_mib, spike_percentage) = (number("spike_limit_mib"), number("spike_limit_percentage"));
        if interval.is_zero() {
            let help = "write `check_interval: 1s`";
            section.problem_with_help("check_interval", "'check_interval' must be greater than zero", help);
        }
        if limit_mib == 0 && limit_percentage == 0 {
            let message = "'limit_mib' or 'limit_percentage' must be greater than zero";
            section.problem_with_help("limit_mib", message, "write `limit_mib: 100`, for example");
        }
        if limit_percentage > 100 || spike_percentage > 100 {
            let key = if limit_percentage > 100 { "limit_percentage" } else { "spike_limit_percentage" };
            let message = "'limit_percentage' and 'spike_limit_percentage' must be greater than zero and less than or \
                           equal to hundred";
            section.problem(key, message);
        }
        if limit_mib > 0 && spike_mib >= limit_mib {
            section.problem("spike_limit_mib", "'spike_limit_mib' must be smaller than 'limit_mib'");
        }
        if limit_percentage > 0 && spike_percentage >= limit_percentage {
            let message = "'spike_limit_percentage' must be smaller than 'limit_percentage'";
            section.problem("spike_limit_percentage", message);
        }
        section.ignored(&[
            "min_gc_interval_when_soft_limited",
            "min_gc_interval_when_hard_limited",
            "max_gc_interval_when_soft_limited",
            "max_gc_interval_when_hard_limited",
        ]);
        section.finish();
        let limit = |mib, percent| if mib > 0 { Limit::Mebibytes(mib) } else { Limit::Percent(percent) };
        let spike = (spike_mib > 0 || spike_percentage > 0).then(|| limit(spike_mib, spike_percentage));
        Config { limit: limit(limit_mib, limit_percentage), spike }
    }

    /// The soft limit in bytes: limit minus spike, which defaults to a fifth of the limit.
    fn soft_limit(&self, machine_bytes: u64) -> u64 {
        let bytes = |limit| match limit {
            Limit::Mebibytes(mib) => mib << 20,
            Limit::Percent(percent) => machine_bytes / 100 * percent,
        };
        let limit = bytes(self.limit);
        limit - self.spike.map_or(limit / 5, bytes).min(limit)
    }
}

impl ProcessorSettings for Config {
    fn role(&self) -> Role<'_> {
        Role::Step(&MemoryLimiter)
    }

    fn budget(&self, memory: u64) -> Option<u64> {
        Some(self.soft_limit(memory))
    }
}

/// Passes everything on; it exists for its counters.
struct MemoryLimiter;

impl Factory for MemoryLimiter {
    fn build(&self, _: &str, _: Signal) -> Result<Arc<dyn Processor>, String> {
        Ok(Arc::new(MemoryLimiter))
    }
}

impl Processor for MemoryLimiter {
    fn process(&self, telemetry: Telemetry, _: Now, _: &mut Notes) -> Result<Option<Telemetry>, Refusal> {
        Ok(Some(telemetry))
    }

    fn observe(&self, page: &mut Page, id: &str, signal: Signal, incoming: u64) {
        let (labels, items) = ([("processor", id)], signal.items_name());
        page.counter(&format!("otelcol_processor_memory_limiter_accepted_{items}"), &labels, incoming);
        page.counter(&format!("otelcol_processor_memory_limiter_refused_{items}"), &labels, 0);
    }
}
