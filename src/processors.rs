//! Processors: what is done to telemetry between a receiver and an exporter.

pub mod batch;
pub mod memory_limiter;

use crate::diagnostics::metrics::Page;
use crate::telemetry::{Now, Signal, Telemetry};

/// A stateless processor: synchronous, no I/O, no clock. Returns what goes on, or nothing.
pub trait Processor: Send + Sync {
    fn process(&self, telemetry: Telemetry, now: Now) -> Option<Telemetry>;
    /// Metrics beyond how many items came in and went out.
    fn observe(&self, _page: &mut Page, _id: &str, _signal: Signal, _incoming: u64) {}
}
