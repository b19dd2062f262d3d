//! A queue in memory, within the budget's queue share; lost when the process ends.

use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::task::JoinSet;

use crate::telemetry::{Fill, Load, Reason, Share, Telemetry};

use super::keep::{Keep, Work};
use super::{Queue, State};

/// Above this fraction of the queue share, clients are slowed down to the upstream's pace…
const PACED_ABOVE: u64 = 4;
/// …by waiting up to this long for room before a place is taken anyway. A request smaller than the average waits
/// proportionally less, so that few large ones do not slow down all others.
const PACE: Duration = Duration::from_millis(200);
/// Number of requests in the moving average.
const COMMON: u64 = 256;

pub(super) struct Memory;

impl Keep for Memory {
    fn pace(&self, queue: &Queue, state: &State, load: Load) -> Duration {
        let most = queue.budget.limit(Share::Queue) / PACED_ABOVE;
        // An upstream that is sent nothing is not slow.
        let is_idle = state.bytes == 0 || state.in_flight == 0;
        if !queue.settings.queue.enabled || is_idle || state.bytes + load.held_bytes() <= most {
            return Duration::ZERO;
        }
        let all = PACE.as_millis() as u64;
        let share = (load.bytes * COMMON).saturating_mul(all) / state.common_bytes.max(1);
        Duration::from_millis(share.min(all))
    }

    fn reserve(&self, queue: &Queue, state: &mut State, load: Load) -> Result<(), Reason> {
        let (budget, more, fresh) = (&queue.budget, load.held_bytes(), load.fresh_held_bytes());
        let takes = || budget.allows(state.bytes, more, fresh) && budget.take(Share::Queue, fresh);
        if queue.settings.queue.enabled && !takes() {
            return Err(Reason::MemoryFull);
        }
        state.bytes += more;
        Ok(())
    }

    fn fill_for(&self, queue: &Queue, state: &State, load: Load) -> Option<Fill> {
        Some(queue.budget.queue_fill(state.bytes, load.held_bytes(), load.fresh_held_bytes()))
    }

    fn release(&self, queue: &Queue, load: Load) {
        if queue.settings.queue.enabled {
            queue.budget.give_back(Share::Queue, load.fresh_bytes);
        }
        queue.arrive(0, queue.size_of(load), load.held_bytes(), load.overhead);
    }

    fn commit(&self, queue: &Queue, mut state: MutexGuard<State>, telemetry: Telemetry, load: Load) {
        state.common_bytes = state.common_bytes - state.common_bytes / COMMON + load.bytes;
        queue.push(state, telemetry, load);
        if queue.settings.queue.enabled {
            queue.budget.give_back(Share::Queue, load.fresh_bytes);
        }
    }

    fn freed(&self, queue: &Queue, overhead: u64) {
        queue.budget.give_back(Share::Queue, overhead);
    }

    fn is_full(&self, _: &Queue, state: &State) -> bool {
        state.full.is_some()
    }

    fn fill(&self, queue: &Queue) -> Fill {
        let (used, most) = (queue.budget.used(Share::Queue), queue.budget.limit(Share::Queue));
        Fill { limit: "memory for queues", used, most, unit: "bytes" }
    }

    fn room(&self, queue: &Queue) -> u64 {
        queue.budget.limit(Share::Queue).saturating_sub(queue.budget.used(Share::Queue))
    }

    fn name(&self) -> &'static str {
        "memory"
    }

    fn finish<'a>(&'a self, queue: &'a Queue, under_way: &'a mut JoinSet<()>) -> Work<'a> {
        Box::pin(async move {
            while let Some(finished) = under_way.join_next().await {
                queue.finished(finished);
            }
        })
    }

    fn abandon(&self, queue: &Queue) {
        let waiting = std::mem::take(&mut queue.state.lock().waiting);
        queue.budget.give_back(Share::Queue, waiting.iter().map(|(_, load)| load.overhead).sum());
    }
}
