//! How a stage asks the timekeeper to be woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::Notify;

/// How a stage says that it wants to be woken earlier than the timekeeper expects.
#[derive(Debug)]
pub struct Alarm {
    started: Instant,
    /// Milliseconds after `started` at which the timekeeper wakes next.
    next: AtomicU64,
    earlier: Notify,
}

impl Alarm {
    pub fn new() -> Arc<Alarm> {
        Arc::new(Alarm { started: super::clock(), next: AtomicU64::new(u64::MAX), earlier: Notify::new() })
    }

    /// Says that a stage wants to be woken at `at`. Costs one load when the timekeeper is up earlier anyway.
    pub fn ring_at(&self, at: Instant) {
        if self.millis(at) < self.next.load(Relaxed) {
            self.earlier.notify_one();
        }
    }

    /// Says that a stage has something to do now.
    pub fn ring(&self) {
        self.earlier.notify_one();
    }

    /// The timekeeper's side: when it will be up next.
    pub fn expect(&self, next: Option<Instant>) {
        self.next.store(next.map_or(u64::MAX, |at| self.millis(at)), Relaxed);
    }

    pub async fn earlier(&self) {
        self.earlier.notified().await;
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }
}
