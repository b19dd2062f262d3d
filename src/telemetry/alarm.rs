//! How a stage asks the timekeeper to wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::Notify;

/// Lets stages wake the timekeeper before the time it expects. `next` is when it wakes by itself. While it computes
/// that, `next` is infinitely late, so every ring gets through and no wake-up is lost.
#[derive(Debug)]
pub struct Alarm {
    started: Instant,
    /// When the timekeeper wakes next, in milliseconds after `started`.
    next: AtomicU64,
    earlier: Notify,
}

impl Alarm {
    pub fn new() -> Arc<Alarm> {
        Arc::new(Alarm { started: super::clock(), next: AtomicU64::new(u64::MAX), earlier: Notify::new() })
    }

    /// Asks to be woken at `at`. Costs one load if the timekeeper wakes earlier anyway.
    pub(crate) fn ring_at(&self, at: Instant) {
        if self.millis(at) < self.next.load(Relaxed) {
            self.earlier.notify_one();
        }
    }

    /// Asks to be woken now.
    pub(crate) fn ring(&self) {
        self.earlier.notify_one();
    }

    /// Called by the timekeeper: when it wakes next.
    pub(crate) fn expect(&self, next: Option<Instant>) {
        self.next.store(next.map_or(u64::MAX, |at| self.millis(at)), Relaxed);
    }

    pub(crate) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }
}
