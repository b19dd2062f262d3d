//! Counts of what passed one place.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Telemetry;

/// Items that passed, and their bytes as OTLP protobuf.
#[derive(Debug, Default)]
pub struct Passed {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Passed {
    pub(crate) fn add(&self, (items, bytes): (u64, u64)) {
        self.items.fetch_add(items, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub fn items(&self) -> u64 {
        self.items.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

impl Telemetry {
    /// Its items and bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.items(), self.bytes() as u64)
    }
}
