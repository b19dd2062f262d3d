//! Processors: what is done to telemetry between a receiver and an exporter.

pub mod batch;
pub mod memory_limiter;

use crate::telemetry::{Now, Telemetry};

/// A stateless processor: synchronous, no I/O, no clock. Returns what goes on, or nothing.
pub trait Processor: Send + Sync {
    fn process(&self, telemetry: Telemetry, now: Now) -> Option<Telemetry>;
}
