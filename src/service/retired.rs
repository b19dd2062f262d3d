//! What a reload leaves behind: it drains into what follows it, which may be what took over, and then ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::exporters::OpenExporter;
use crate::pipeline::Branches;
use crate::processors::Stage;
use crate::sending::Queue;
use crate::telemetry::Now;

use super::graph::Graph;

/// How soon it is looked at first, and at the latest.
const SOON: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_secs(1);

/// The parts of an earlier graph that the present one has not taken over.
pub struct Retired {
    /// The ways that were exchanged: a request that was on one goes on along it.
    branches: Vec<Arc<Branches>>,
    pub stages: Vec<Arc<dyn Stage>>,
    pub queues: Vec<Arc<Queue>>,
    /// They print what they have when they are dropped.
    pub exporters: Vec<Arc<dyn OpenExporter>>,
    /// Nothing comes from here into a queue or a later stage any more.
    is_quiet: AtomicBool,
    is_done: AtomicBool,
}

/// Whether one of these is that very one.
pub fn holds<T: ?Sized>(these: &[Arc<T>], that: &Arc<T>) -> bool {
    these.iter().any(|this| Arc::ptr_eq(this, that))
}

impl Retired {
    pub fn of(old: Graph, new: &Graph, branches: Vec<Arc<Branches>>) -> Retired {
        let Graph { mut stages, mut queues, exporters, .. } = old;
        stages.retain(|stage| !holds(&new.stages, stage));
        queues.retain(|queue| !holds(&new.queues, queue));
        let is_gone = |old: &Arc<dyn OpenExporter>| !new.exporters.iter().any(|(_, new)| Arc::ptr_eq(new, old));
        let exporters = exporters.into_iter().map(|(_, exporter)| exporter).filter(is_gone).collect();
        let (is_quiet, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
        Retired { branches, stages, queues, exporters, is_quiet, is_done }
    }

    pub fn is_done(&self) -> bool {
        self.is_done.load(Relaxed)
    }

    /// Stages first, then queues. What `earlier` reloads left may still flow into these.
    pub async fn drain(&self, earlier: &[Arc<Retired>]) {
        wait_until(|| {
            // Looked at before the stages are: what came until then is drained, and no more comes.
            let earlier_are_quiet = earlier.iter().all(|retired| retired.is_quiet.load(Relaxed));
            let is_alone = earlier_are_quiet && self.branches.iter().all(|branches| Arc::strong_count(branches) == 1);
            self.stages.iter().rev().filter(|stage| !stage.drain(Now::read())).count() == 0 && is_alone
        })
        .await;
        self.is_quiet.store(true, Relaxed);
        // A queue on disk would leave there what it was not rid of at once.
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
