//! Sending: the queue before an exporter, and what happens until the upstream has the telemetry.
//!
//! One queue per exporter id and signal. Its dispatcher takes batches from the front and lets at most `num_consumers`
//! of them be under way; `deliver` stays with one batch until its final outcome, and counts it once.

pub mod backoff;
mod deliver;
pub mod disk;
mod upstream;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::diagnostics::metrics::{Observe, Page};
use crate::exporters::Exporter;
use crate::exporters::settings::{BatchSettings, Settings, Sizer};
use crate::telemetry::{
    Account, Ask, Budget, Full, Load, Most, Now, Pending, Reason, Refusal, Share, Signal, Sink, Telemetry, clock,
};

use upstream::Upstream;

/// Above this part of the queue share, clients are slowed down to what the upstream takes…
const PACED_ABOVE: u64 = 4;
/// …by waiting this long for room before a place is taken all the same.
const PACE: Duration = Duration::from_millis(200);

/// The sending queue of one exporter and signal, in memory.
pub struct Queue {
    settings: Settings,
    signal: Signal,
    exporter: Arc<dyn Exporter>,
    pub account: Arc<Account>,
    budget: Arc<Budget>,
    state: Mutex<State>,
    room: Notify,
    arrived: Notify,
    upstream: Upstream,
    enqueue_failed: AtomicU64,
    send_failed: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Telemetry>,
    /// What waits, when the queue batches; `waiting` is empty then.
    batching: Pending,
    batching_since: Option<Now>,
    /// In units of the sizer: what waits, is under way, or has a place reserved.
    size: u64,
    /// Of that, what waits.
    waiting_size: u64,
    bytes: u64,
    in_flight: u64,
    full_since: Option<Instant>,
    /// No more will come; what is there goes out without waiting for a batch to fill.
    draining: bool,
}

/// A batch on its way, with what it gives back to the queue when its outcome is final.
struct Departure {
    telemetry: Telemetry,
    size: u64,
    bytes: u64,
}

impl Queue {
    pub fn new(
        id: &str,
        signal: Signal,
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        account: Arc<Account>,
        budget: Arc<Budget>,
    ) -> Arc<Queue> {
        if settings.queue.enabled {
            budget.add_holder();
        }
        let upstream = Upstream::new(id, signal, exporter.destination());
        Arc::new(Queue {
            settings,
            signal,
            exporter,
            account,
            budget,
            state: Mutex::default(),
            room: Notify::new(),
            arrived: Notify::new(),
            upstream,
            enqueue_failed: AtomicU64::new(0),
            send_failed: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size_of(&self, load: Load) -> u64 {
        match self.settings.queue.sizer {
            Sizer::Requests => 1,
            Sizer::Items => load.items,
            Sizer::Bytes => load.bytes,
        }
    }

    /// Items that wait or are under way.
    pub fn held_items(&self) -> u64 {
        let state = self.lock();
        state.in_flight + state.batching.items() + state.waiting.iter().map(Telemetry::items).sum::<u64>()
    }

    /// How full it is, 0 to 1.
    pub fn fill(&self) -> f64 {
        let state = self.lock();
        state.size as f64 / self.settings.queue.queue_size.max(1) as f64
    }

    /// Takes batches and sees them through until the queue is drained. Dropping the future drops nothing from the
    /// ledger: what was not finished stays counted as waiting.
    pub async fn dispatch(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        let most = self.settings.queue.num_consumers;
        loop {
            tokio::select! {
                departure = self.next(), if under_way.len() < most => match departure {
                    Some(departure) => { under_way.spawn(self.clone().deliver(departure)); }
                    None => break,
                },
                Some(finished) = under_way.join_next() => self.finished(finished),
            }
        }
        while let Some(finished) = under_way.join_next().await {
            self.finished(finished);
        }
    }

    fn finished(&self, outcome: Result<(), tokio::task::JoinError>) {
        if outcome.is_err_and(|error| error.is_panic()) {
            tracing::error!(exporter = %self.account.exporter, "a batch was dropped because sending it failed internally");
        }
    }

    /// Waits for the next batch; `None` when the queue is drained.
    async fn next(&self) -> Option<Departure> {
        loop {
            let arrived = self.arrived.notified();
            let (departure, due, drained) = {
                let mut state = self.lock();
                match self.settings.queue.batch {
                    None => (self.depart_single(&mut state), None, state.draining),
                    Some(batch) => self.depart_batch(&mut state, batch),
                }
            };
            if departure.is_some() || drained {
                return departure;
            }
            match due {
                Some(due) => tokio::select! {
                    () = arrived => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                },
                None => arrived.await,
            }
        }
    }

    fn depart_single(&self, state: &mut State) -> Option<Departure> {
        let telemetry = state.waiting.pop_front()?;
        let load = Load::of(&telemetry);
        let size = self.size_of(load);
        state.waiting_size -= size;
        state.in_flight += load.items;
        Some(Departure { telemetry, size, bytes: load.bytes })
    }

    /// The next batch when it is full or has waited long enough, else when that will be.
    fn depart_batch(&self, state: &mut State, batch: BatchSettings) -> (Option<Departure>, Option<Instant>, bool) {
        let Some(since) = state.batching_since else { return (None, None, state.draining) };
        let now = Now::read();
        let size = if batch.by_bytes { state.batching.bytes() } else { state.batching.items() };
        let due = since.instant + batch.flush_timeout;
        if size < batch.min_size.max(1) && now.instant < due && !state.draining {
            return (None, Some(due), false);
        }
        let (items_before, bytes_before) = (state.batching.items(), state.batching.bytes());
        let most = if batch.by_bytes { Most::Bytes(batch.max_size) } else { Most::Items(batch.max_size) };
        let parts = state.batching.take(self.signal, most);
        let tickets = state.batching.tickets();
        let telemetry = Telemetry { signal: self.signal, parts, client: None, received: since, tickets };
        let load = Load::of(&telemetry);
        // Merging and cutting change requests and bytes: what leaves takes its share of the places along.
        let left = state.batching.items();
        let share =
            |of: u64| if left == 0 { of } else { (of as u128 * load.items as u128 / items_before as u128) as u64 };
        let size = share(state.waiting_size);
        state.waiting_size -= size;
        state.batching_since = (left > 0).then_some(now);
        state.in_flight += load.items;
        (Some(Departure { telemetry, size, bytes: bytes_before - state.batching.bytes() }), None, false)
    }

    /// Gives back the place of a batch whose outcome is final.
    fn arrive(&self, items: u64, size: u64, bytes: u64) {
        let mut state = self.lock();
        state.in_flight -= items.min(state.in_flight);
        state.size -= size.min(state.size);
        state.bytes -= bytes.min(state.bytes);
        drop(state);
        self.room.notify_waiters();
    }

    /// No more telemetry will come: everything goes out now.
    pub fn drain(&self) {
        self.lock().draining = true;
        self.arrived.notify_one();
    }
}

impl Sink for Queue {
    fn reserve(&self, _telemetry: &Telemetry, load: Load, ask: Ask) -> Result<(), Full> {
        let queue = &self.settings.queue;
        let size = self.size_of(load);
        if size > queue.queue_size {
            let unit = if queue.sizer == Sizer::Items { "items" } else { "bytes" };
            return Err(Full::Refuse(Refusal::TooLarge { limit: queue.queue_size, unit }));
        }
        let upstream_is_down = self.upstream.is_down();
        let mut state = self.lock();
        let paced = queue.enabled && state.bytes + load.bytes > self.budget.limit(Share::Queue) / PACED_ABOVE;
        if paced && !ask.waited && !upstream_is_down && state.bytes > 0 {
            return Err(Full::Wait { most: Some(PACE) });
        }
        let reason = if state.size + size > queue.queue_size {
            Some(Reason::QueueFull)
        } else if queue.enabled
            && !(self.budget.allows(state.bytes, load.bytes, load.fresh_bytes)
                && self.budget.take(Share::Queue, load.fresh_bytes))
        {
            Some(Reason::MemoryFull)
        } else {
            None
        };
        let Some(reason) = reason else {
            state.size += size;
            state.bytes += load.bytes;
            state.full_since = None;
            return Ok(());
        };
        state.full_since.get_or_insert_with(clock);
        // Memory that others hold comes back without a word to this queue.
        let will_be_told = state.size > 0;
        drop(state);
        if queue.block_on_overflow && will_be_told {
            return Err(Full::Wait { most: None });
        }
        self.enqueue_failed.fetch_add(load.items, Relaxed);
        let after = backoff::hint(upstream_is_down);
        Err(Full::Refuse(Refusal::Busy { after, reason }))
    }

    fn release(&self, load: Load) {
        if self.settings.queue.enabled {
            self.budget.give_back(Share::Queue, load.fresh_bytes);
        }
        self.arrive(0, self.size_of(load), load.bytes);
    }

    fn commit(&self, telemetry: Telemetry, load: Load) {
        let mut state = self.lock();
        state.waiting_size += self.size_of(load);
        let mut first = true;
        if self.settings.queue.batch.is_some() {
            first = state.batching_since.is_none();
            state.batching_since.get_or_insert(telemetry.received);
            state.batching.push(telemetry, &self.budget);
        } else {
            if self.settings.queue.enabled {
                telemetry.parts.iter().for_each(|part| part.charge.move_to_queue());
            }
            state.waiting.push_back(telemetry);
        }
        let wakes = first
            || self.settings.queue.batch.is_some_and(|batch| {
                let size = if batch.by_bytes { state.batching.bytes() } else { state.batching.items() };
                size >= batch.min_size
            });
        drop(state);
        if self.settings.queue.enabled {
            self.budget.give_back(Share::Queue, load.fresh_bytes);
        }
        if wakes {
            self.arrived.notify_one();
        }
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn answers(&self) -> bool {
        !self.settings.queue.enabled || self.settings.queue.wait_for_result
    }

    fn full_since(&self) -> Option<Instant> {
        if self.settings.queue.block_on_overflow { None } else { self.lock().full_since }
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.account.drop_items(Reason::SinkStuck, telemetry.items());
        self.account.show_dropped(Reason::SinkStuck, telemetry);
    }
}

impl Observe for Queue {
    fn observe(&self, page: &mut Page) {
        let (exporter, items) = (self.account.exporter.as_str(), self.signal.items_name());
        let labels = [("exporter", exporter), ("data_type", self.signal.name())];
        let (size, in_flight) = {
            let state = self.lock();
            (state.size, state.in_flight)
        };
        if self.settings.queue.enabled {
            page.gauge("otelcol_exporter_queue_size", &labels, size as f64);
            page.gauge("otelcol_exporter_queue_capacity", &labels, self.settings.queue.queue_size as f64);
        }
        page.gauge("otelcol_exporter_in_flight_requests", &labels, u64::from(in_flight > 0) as f64);
        if self.account.accepted() == 0 {
            return;
        }
        let address = self.exporter.labels();
        let mut labels = vec![("exporter", exporter)];
        labels.extend(address.iter().map(|(name, value)| (*name, value.as_str())));
        page.counter(&format!("otelcol_exporter_sent_{items}"), &labels, self.account.sent());
        page.counter(&format!("otelcol_exporter_send_failed_{items}"), &labels, self.send_failed.load(Relaxed));
        let labels = [("exporter", exporter)];
        page.counter(&format!("otelcol_exporter_enqueue_failed_{items}"), &labels, self.enqueue_failed.load(Relaxed));
    }
}
