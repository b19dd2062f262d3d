//! Where a queue keeps what it has accepted, until its outcome is final. Dispatching, pacing, delivering and counting are the
//! same for every queue; what differs in memory and on disk stands here.

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::telemetry::{Fill, Load, Reason, Telemetry};

use super::store::Store;
use super::{Queue, State};

pub type Work<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(super) trait Keep: Send + Sync {
    /// The log on disk, where there is one.
    fn store(&self) -> Option<&Arc<Store>> {
        None
    }

    /// The most bytes of one request.
    fn most_bytes(&self) -> u64 {
        u64::MAX
    }

    /// How long a request waits for room before it takes its place all the same.
    fn pace(&self, _: &Queue, _: &State, _: Load) -> Duration {
        Duration::ZERO
    }

    /// Takes a place beyond that in the queue's size, or says what is full.
    fn reserve(&self, queue: &Queue, state: &mut State, load: Load) -> Result<(), Reason>;

    /// How full that is.
    fn fill_for(&self, queue: &Queue, state: &State, load: Load) -> Option<Fill>;

    /// Gives back a place that was not used.
    fn release(&self, queue: &Queue, load: Load);

    /// Takes telemetry that has a place.
    fn commit(&self, queue: &Queue, state: MutexGuard<State>, telemetry: Telemetry, load: Load);

    /// The place of a batch is free; `overhead` was taken from the budget for it.
    fn freed(&self, queue: &Queue, overhead: u64);

    /// Whether nothing more comes to what waits, unless some of it goes.
    fn is_full(&self, queue: &Queue, state: &State) -> bool;

    /// How full it is, for people.
    fn fill(&self, queue: &Queue) -> Fill;

    /// For how many more bytes there is room.
    fn room(&self, queue: &Queue) -> u64;

    /// What ends first where bytes do.
    fn name(&self) -> &'static str;

    /// Why it takes nothing, or gives nothing.
    fn trouble(&self) -> Option<Reason> {
        None
    }

    /// An attempt to send came to its end, whatever it was.
    fn outlive(&self) {}

    /// Keeps what the upstream will never take.
    fn put_aside(&self, _: Telemetry, _: Reason) {}

    /// What is done beside sending. It ends when what is left stays for the next run.
    fn tend<'a>(&'a self, _: &'a Queue) -> Work<'a> {
        Box::pin(pending())
    }

    /// The end of a drain, with what is still under way.
    fn finish<'a>(&'a self, queue: &'a Queue, under_way: &'a mut JoinSet<()>) -> Work<'a>;

    /// The queue is gone.
    fn abandon(&self, queue: &Queue);
}
