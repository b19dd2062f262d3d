//! Where a queue keeps accepted telemetry until its outcome is final. Dispatching, pacing, delivering and counting are
//! the same for every queue; the differences between memory and disk are behind this trait.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::task::JoinSet;

use crate::telemetry::{Fill, Load, Reason, Telemetry};

use super::store::Store;
use super::{Queue, State};

pub(super) type Work<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(super) trait Keep: Send + Sync {
    /// The log on disk, if there is one.
    fn store(&self) -> Option<&Arc<Store>> {
        None
    }

    /// Maximum bytes of one request.
    fn most_bytes(&self) -> u64 {
        u64::MAX
    }

    /// How long a request waits for room before it takes its place anyway.
    fn pace(&self, _: &Queue, _: &State, _: Load) -> Duration {
        Duration::ZERO
    }

    /// Takes a place in addition to the queue's size, or says what is full.
    fn reserve(&self, queue: &Queue, state: &mut State, load: Load) -> Result<(), Reason>;

    /// How full the limit is that has no room for `load`.
    fn fill_for(&self, queue: &Queue, state: &State, load: Load) -> Option<Fill>;

    /// Gives back an unused place.
    fn release(&self, queue: &Queue, load: Load);

    /// Takes telemetry that has a place.
    fn commit(&self, queue: &Queue, state: MutexGuard<State>, telemetry: Telemetry, load: Load);

    /// The place of a batch is free; `overhead` was taken from the budget for it.
    fn freed(&self, queue: &Queue, overhead: u64);

    /// Whether waiting telemetry can grow no further until some of it leaves.
    fn is_full(&self, queue: &Queue, state: &State) -> bool;

    /// How full it is, for people.
    fn fill(&self, queue: &Queue) -> Fill;

    /// Bytes of room left.
    fn room(&self, queue: &Queue) -> u64;

    /// The resource whose bytes run out first.
    fn name(&self) -> &'static str;

    /// Why it accepts nothing, or returns nothing.
    fn trouble(&self) -> Option<Reason> {
        None
    }

    /// An attempt to send ended, with any outcome.
    fn outlive(&self) {}

    /// Keeps telemetry that the upstream will never accept.
    fn put_aside(&self, _: Telemetry, _: Reason) {}

    /// Work beside sending. Ends when the remaining telemetry is left for the next run.
    fn tend<'a>(&'a self, _: &'a Queue) -> Work<'a> {
        Box::pin(pending())
    }

    /// The end of a drain, with deliveries still in flight.
    fn finish<'a>(&'a self, queue: &'a Queue, under_way: &'a mut JoinSet<()>) -> Work<'a>;

    /// The queue is gone.
    fn abandon(&self, queue: &Queue);
}
