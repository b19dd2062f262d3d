//! The remains of a reload: they drain into what follows them, which may be their successors, and then end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::exporters::OpenExporter;
use crate::pipeline::Branches;
use crate::processors::Stage;
use crate::sending::Queue;
use crate::telemetry::{Drain, Now};

use super::graph::Graph;

/// Shortest and longest pause between checks.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_secs(1);

/// The parts of a previous graph that the current one has not taken over. They end in order: `is_quiet` is set once
/// nothing more can enter a queue or a later stage from here, and later reloads wait for it; then `is_done`.
pub(super) struct Retired {
    /// The exchanged branches, which requests in flight still use.
    branches: Vec<Arc<Branches>>,
    pub(super) stages: Vec<Arc<dyn Stage>>,
    pub(super) queues: Vec<Arc<Queue>>,
    /// They flush their output when dropped.
    pub(super) exporters: Vec<Arc<dyn OpenExporter>>,
    /// Nothing flows from here into a queue or a later stage any more.
    is_quiet: AtomicBool,
    is_done: AtomicBool,
}

/// Whether `that` is one of `these`, by identity.
pub(super) fn holds<T: ?Sized>(these: &[Arc<T>], that: &Arc<T>) -> bool {
    these.iter().any(|this| Arc::ptr_eq(this, that))
}

impl Retired {
    pub(super) fn of(old: Graph, new: &Graph, branches: Vec<Arc<Branches>>) -> Retired {
        let Graph { mut stages, mut queues, exporters, .. } = old;
        stages.retain(|stage| !holds(&new.stages, stage));
        queues.retain(|queue| !holds(&new.queues, queue));
        let is_gone = |old: &Arc<dyn OpenExporter>| !new.exporters.iter().any(|(_, new)| Arc::ptr_eq(new, old));
        let exporters = exporters.into_iter().map(|(_, exporter)| exporter).filter(is_gone).collect();
        let (is_quiet, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
        Retired { branches, stages, queues, exporters, is_quiet, is_done }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Relaxed)
    }

    /// Drains stages first, then queues. Telemetry of `earlier` reloads may still flow into these.
    pub(super) async fn drain(&self, earlier: &[Arc<Retired>]) {
        wait_until(|| {
            // Checked before the stages: everything that came until then is drained, and no more comes.
            let earlier_are_quiet = earlier.iter().all(|retired| retired.is_quiet.load(Relaxed));
            let is_alone = earlier_are_quiet && self.branches.iter().all(|branches| Arc::strong_count(branches) == 1);
            self.stages.iter().rev().filter(|stage| !stage.drain(Now::read(), Drain::Replaced)).count() == 0 && is_alone
        })
        .await;
        self.is_quiet.store(true, Relaxed);
        // A draining disk queue would leave on disk what it cannot send at once.
        let (on_disk, in_memory): (Vec<_>, Vec<_>) = self.queues.iter().partition(|queue| queue.path().is_some());
        in_memory.iter().for_each(|queue| queue.drain());
        wait_until(|| {
            let left = on_disk.iter().filter(|queue| queue.held_items() > 0).count();
            on_disk.iter().filter(|queue| queue.held_items() == 0).for_each(|queue| queue.drain());
            left == 0 && in_memory.iter().all(|queue| queue.held_items() == 0)
        })
        .await;
        self.is_done.store(true, Relaxed);
    }
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let mut pause = SOON;
    while !is_so() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATE);
    }
}
