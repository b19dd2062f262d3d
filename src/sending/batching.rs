//! Batches of a queue that batches (`sending_queue.batch`). Finding where to cut a large request takes time
//! proportional to its records. That is done aside, without the queue's lock, while more telemetry comes in. Batches
//! leave in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::MutexGuard;

use crate::exporters::settings::BatchSettings;
use crate::telemetry::{Most, Now, Reason, Refusal, Taking, Telemetry};

use super::{Departure, Queue, State};

/// A batch with a large part that is cut before it leaves. Its items count as in flight. If a panic loses it, they are
/// dropped.
struct Cutting {
    queue: Arc<Queue>,
    taking: Option<Taking>,
    since: Now,
    /// When it began, by the queue's clock and by the real one.
    begun: (Now, Instant),
    /// Items and bytes that are no longer pending.
    load: (u64, u64),
}

impl Queue {
    /// The next batch if it is full or old enough, else when it will be due.
    pub(super) fn depart_batch(
        self: &Arc<Self>,
        mut state: MutexGuard<State>,
        batch: BatchSettings,
    ) -> (Option<Departure>, Option<Instant>, bool) {
        if state.is_cutting || state.made.is_some() {
            return (state.made.take(), None, false);
        }
        if state.is_beyond && state.in_flight > 0 {
            return (None, None, false);
        }
        let Some(since) = state.batching_since else { return (None, None, state.draining) };
        let now = Now::read();
        let size = if batch.by_bytes { state.batching.bytes() } else { state.batching.items() };
        let due = since.instant + batch.flush_timeout;
        let waits = size < batch.min_size.max(1) && now.instant < due;
        if waits && !state.draining && !self.is_pressed(&state) {
            return (None, Some(due), false);
        }
        let before = (state.batching.items(), state.batching.bytes());
        let most = if batch.by_bytes { Most::Bytes(batch.max_size) } else { Most::Items(batch.max_size) };
        let taken = catch_unwind(AssertUnwindSafe(|| state.batching.take(self.signal, most)));
        let Ok(taking) = taken else {
            let load = (before.0 - state.batching.items(), before.1 - state.batching.bytes());
            self.lose(&mut state, load, now);
            return (None, Some(now.instant), false);
        };
        if !taking.is_uncut() {
            return (Some(self.made(&mut state, taking, since, now)), None, false);
        }
        let load = taking.load();
        state.is_cutting = true;
        state.in_flight += load.0;
        drop(state);
        let cutting = Cutting { queue: self.clone(), taking: Some(taking), since, begun: (now, Instant::now()), load };
        self.budget.aside_of_exports.start(move || cutting.finish());
        (None, None, false)
    }

    /// The batch from a finished `Taking`.
    fn made(&self, state: &mut State, taking: Taking, since: Now, now: Now) -> Departure {
        let (items, bytes) = taking.load();
        state.is_beyond = taking.is_beyond();
        let size = self.leave(state, items, now);
        state.in_flight += items;
        let tickets = state.batching.tickets();
        let telemetry =
            Telemetry { signal: self.signal, parts: taking.parts(), client: None, received: since, tickets };
        Departure { telemetry, size, bytes, overhead: 0 }
    }

    /// Merging and cutting change requests and bytes, so a leaving batch takes a proportional part of `waiting_size`.
    fn leave(&self, state: &mut State, items: u64, now: Now) -> u64 {
        let left = state.batching.items();
        let share = |of: u64| (of as u128 * items as u128 / (items + left).max(1) as u128) as u64;
        let size = if left == 0 { state.waiting_size } else { share(state.waiting_size) };
        state.waiting_size -= size;
        state.batching_since = (left > 0).then_some(now);
        size
    }

    /// Drops the items of a batch that was lost in a panic while it was made.
    fn lose(&self, state: &mut State, (items, bytes): (u64, u64), now: Now) {
        let size = self.leave(state, items, now);
        (state.size, state.bytes) = (state.size.saturating_sub(size), state.bytes.saturating_sub(bytes));
        state.flow.go(items);
        let exporter = self.account.exporter.as_str();
        tracing::error!(exporter, dropped_items = items, "making a batch failed by an internal error");
        self.account.drop_items(Reason::Internal, items);
        self.send_failed.fetch_add(items, Relaxed);
        let left = |held: u64| Some(held.saturating_sub(items));
        let _ = self.held.fetch_update(Relaxed, Relaxed, left);
        state.batching.tickets().resolve(Err(&Refusal::Internal));
    }
}

impl Cutting {
    fn finish(mut self) {
        while let Some(mut taking) = self.taking.take() {
            taking.cut();
            let queue = self.queue.clone();
            let mut state = queue.state.lock();
            state.batching.go_on(&mut taking);
            self.count(&mut state, taking.load());
            if taking.is_uncut() {
                self.taking = Some(taking);
                continue;
            }
            self.count(&mut state, (0, 0));
            let made = queue.made(&mut state, taking, self.since, self.now());
            state.made = Some(made);
        }
    }

    fn now(&self) -> Now {
        let (Now { instant, wall }, begun) = self.begun;
        Now { instant: instant + begun.elapsed(), wall: wall + begun.elapsed() }
    }

    /// Updates the counts to `load`.
    fn count(&mut self, state: &mut MutexGuard<State>, load: (u64, u64)) {
        state.in_flight = (state.in_flight + load.0).saturating_sub(self.load.0);
        self.load = load;
    }
}

impl Drop for Cutting {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.is_cutting = false;
        let lost = std::mem::take(&mut self.load);
        if lost.0 > 0 {
            state.in_flight = state.in_flight.saturating_sub(lost.0);
            self.queue.lose(&mut state, lost, self.now());
        }
        drop(state);
        self.queue.arrived.notify_one();
    }
}
