//! The sending queue before an exporter, and delivery until the upstream has the telemetry.
//!
//! One queue for each exporter id and signal. Its dispatcher takes batches from the front and keeps at most
//! `num_consumers` in flight; `deliver` follows one batch to its final outcome and counts it once.
//!
//! With `storage`, telemetry goes to the log on disk first, and the queue holds a view of its oldest part. Batching,
//! cutting and sending happen behind the log. A record is settled there when all its pieces have an outcome.

pub(crate) mod backoff;
mod batching;
pub mod dead_letters;
mod deliver;
pub(crate) mod disk;
mod flow;
mod keep;
mod memory;
mod report;
mod spool;
pub(crate) mod storage;
mod store;
mod upstream;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::diagnostics::supervisor::Watch;
use crate::exporters::Exporter;
use crate::exporters::settings::{Settings, Sizer};
use crate::telemetry::{
    Account, Ask, Budget, Fill, Full, Holder, Load, Now, Pending, Reason, Refusal, Said, Signal, Sink, Telemetry, clock,
};

use disk::{Amount, Limits};
use flow::Flow;
use keep::Keep;
use memory::Memory;
use upstream::UpstreamHealth;

pub(crate) use report::Report;
pub(crate) use store::StoreParts;

/// How telemetry is sent: the exporter, its timeout and its retry settings. A reload replaces it as a whole.
pub struct Way {
    pub settings: Settings,
    pub exporter: Arc<dyn Exporter>,
}

/// The sending queue of one exporter and signal, shared by the intake, the dispatcher and its deliveries.
///
/// All places are accounted for under the lock of `state`: `size` and `bytes` cover telemetry that waits, is in flight
/// or has a reserved place, so a reservation cannot overbook. `held` counts items from commit to their final outcome,
/// and may briefly differ from `state`. No await happens under the lock.
pub struct Queue {
    /// Only `queue` of it is used here; the rest is in `way`.
    settings: Settings,
    signal: Signal,
    /// A reload may change this while telemetry waits.
    way: watch::Sender<Arc<Way>>,
    pub account: Arc<Account>,
    budget: Arc<Budget>,
    _holder: Option<Holder>,
    state: Mutex<State>,
    room: Notify,
    arrived: Notify,
    upstream: UpstreamHealth,
    /// In memory, or on disk.
    keep: Box<dyn Keep>,
    /// Items without a final outcome.
    held: AtomicU64,
    /// Notified when telemetry is spooled, and when the queue drains.
    nudged: Notify,
    /// Items lost before they entered the queue.
    enqueue_failed: AtomicU64,
    send_failed: AtomicU64,
    /// Rate limits for the log lines about refusals and drops.
    said_refused: Said,
    said_dropped: Said,
    said_partial: Said,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Telemetry, Load)>,
    /// Waiting telemetry if the queue batches; `waiting` is then empty.
    batching: Pending,
    batching_since: Option<Now>,
    /// Whether a batch is being cut aside, and the batch once it is made.
    is_cutting: bool,
    made: Option<Departure>,
    /// In the sizer's unit: telemetry that waits, is in flight, or has a reserved place.
    size: u64,
    /// The part of `size` that waits.
    waiting_size: u64,
    bytes: u64,
    /// Moving average of request sizes, times `memory::COMMON`.
    common_bytes: u64,
    in_flight: u64,
    /// Whether the last batch has a piece without its own charge, for lack of memory. No other batch leaves until it is
    /// sent.
    is_beyond: bool,
    /// Since when the queue refuses, and the latest reason.
    full: Option<(Instant, Reason)>,
    flow: Flow,
    /// No more telemetry comes; waiting items leave without filling a batch.
    draining: bool,
}

/// A batch in flight, with what it gives back to the queue after its final outcome.
struct Departure {
    telemetry: Telemetry,
    size: u64,
    bytes: u64,
    /// The part of `bytes` that was taken from the budget beside the telemetry's own charges.
    overhead: u64,
}

impl State {
    fn refuses(&mut self, reason: Reason) {
        let since = self.full.map_or_else(clock, |(since, _)| since);
        self.full = Some((since, reason));
    }
}

impl Queue {
    pub fn new(
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        account: Arc<Account>,
        budget: Arc<Budget>,
    ) -> Arc<Queue> {
        Queue::kept(Box::new(Memory), settings, exporter, account, budget)
    }

    fn kept(
        keep: Box<dyn Keep>,
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        account: Arc<Account>,
        budget: Arc<Budget>,
    ) -> Arc<Queue> {
        let holder = settings.queue.enabled.then(|| budget.add_holder());
        let way = Way { settings: settings.clone(), exporter: exporter.clone() };
        let upstream = UpstreamHealth::new(&account.exporter, account.signal, exporter.destination());
        Arc::new(Queue {
            settings,
            signal: account.signal,
            way: watch::Sender::new(Arc::new(way)),
            account,
            budget,
            _holder: holder,
            state: Mutex::default(),
            room: Notify::new(),
            arrived: Notify::new(),
            upstream,
            keep,
            held: AtomicU64::new(0),
            nudged: Notify::new(),
            enqueue_failed: AtomicU64::new(0),
            send_failed: AtomicU64::new(0),
            said_refused: Said::default(),
            said_dropped: Said::default(),
            said_partial: Said::default(),
        })
    }

    fn size_of(&self, load: Load) -> u64 {
        match self.settings.queue.sizer {
            Sizer::Requests => 1,
            Sizer::Items => load.items,
            Sizer::Bytes => load.bytes,
        }
    }

    fn size_of_amount(&self, amount: Amount) -> u64 {
        match self.settings.queue.sizer {
            Sizer::Requests => amount.records,
            Sizer::Items => amount.items,
            Sizer::Bytes => amount.bytes,
        }
    }

    /// Whether the queue is on disk and survives a restart.
    pub(crate) fn is_stored(&self) -> bool {
        self.keep.store().is_some()
    }

    /// Items that wait or are in flight.
    pub fn held_items(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Switches to another way of sending, also for waiting telemetry and batches that are being retried.
    pub fn change(&self, way: Way) {
        self.upstream.moved(way.exporter.destination());
        self.way.send_replace(Arc::new(way));
    }

    /// Whether these settings describe the same queue.
    pub(crate) fn is_like(&self, settings: &Settings) -> bool {
        self.settings.queue.is_like(&settings.queue)
    }

    pub(crate) fn limits(&self) -> Option<Limits> {
        self.keep.store().map(|store| store.limits)
    }

    /// The queue's directory, if it is on disk.
    pub fn path(&self) -> Option<&Path> {
        self.keep.store().map(|store| store.path.as_path())
    }

    /// Takes batches and delivers them until the queue is drained. Dropping the future loses nothing from the ledger:
    /// unfinished items stay counted as waiting.
    pub async fn dispatch(self: Arc<Self>, watch: Watch) {
        // Deliveries continue while a panicked dispatcher is restarted.
        let mut under_way = JoinSet::new();
        while watch.run(self.dispatch_to(&mut under_way)).await.is_none() {}
        self.keep.finish(&self, &mut under_way).await;
    }

    async fn dispatch_to(self: &Arc<Self>, under_way: &mut JoinSet<()>) {
        let most = self.settings.queue.num_consumers;
        let mut tending = self.keep.tend(self);
        loop {
            tokio::select! {
                () = &mut tending => break,
                departure = self.next(), if under_way.len() < most => match departure {
                    Some(departure) => { under_way.spawn(self.clone().deliver(departure)); }
                    None => break,
                },
                Some(finished) = under_way.join_next() => self.finished(finished),
            }
        }
    }

    fn push(&self, mut state: MutexGuard<State>, telemetry: Telemetry, load: Load) {
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
            state.waiting.push_back((telemetry, load));
        }
        let wakes = first
            || self.settings.queue.batch.is_some_and(|batch| {
                let size = if batch.by_bytes { state.batching.bytes() } else { state.batching.items() };
                size >= batch.min_size || self.is_pressed(&state)
            });
        drop(state);
        if wakes {
            self.arrived.notify_one();
        }
    }

    /// Whether a batch can fill no further, because nothing more is accepted or read back from disk until it leaves.
    fn is_pressed(&self, state: &State) -> bool {
        self.keep.is_full(self, state) && state.in_flight == 0
    }

    fn finished(&self, outcome: Result<(), tokio::task::JoinError>) {
        if outcome.is_err_and(|error| error.is_panic()) {
            tracing::error!(exporter = %self.account.exporter, "a batch was dropped because sending it failed internally");
        }
    }

    /// Waits for the next batch; `None` when the queue is drained.
    async fn next(self: &Arc<Self>) -> Option<Departure> {
        loop {
            let arrived = self.arrived.notified();
            if self.is_stored() && self.state.lock().draining {
                return None;
            }
            let (departure, due, drained) = {
                let mut state = self.state.lock();
                match self.settings.queue.batch {
                    None => (self.depart_single(&mut state), None, state.draining),
                    Some(batch) => self.depart_batch(state, batch),
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
        let (telemetry, load) = state.waiting.pop_front()?;
        let size = self.size_of(load);
        state.waiting_size -= size;
        state.in_flight += load.items;
        Some(Departure { telemetry, size, bytes: load.held_bytes(), overhead: load.overhead })
    }

    /// Subtracts items from `held`.
    fn let_go(&self, items: u64) {
        let left = |held: u64| Some(held.saturating_sub(items));
        let _ = self.held.fetch_update(Relaxed, Relaxed, left);
        self.state.lock().flow.go(items);
    }

    /// The refusal for a client that is not made to wait. Logged once a minute.
    fn refuse(&self, after: Duration, reason: Reason, fill: Option<Fill>, items: u64) -> Full {
        let refusal = Refusal::Busy { after, reason, fill };
        // Disk failures are logged where they occur.
        let said = refusal.has_fill().then(|| self.said_refused.count(items)).flatten();
        if let Some((refused_items, requests)) = said {
            let (exporter, signal, why) = (&self.account.exporter, self.signal.name(), refusal.answer().status.message);
            tracing::warn!(%exporter, signal, why, requests, refused_items, "telemetry is refused: clients are told to try again");
        }
        Full::Refuse(refusal)
    }

    /// Gives back the place of a batch after its final outcome.
    fn arrive(&self, items: u64, size: u64, bytes: u64, overhead: u64) {
        let mut state = self.state.lock();
        state.in_flight -= items.min(state.in_flight);
        state.size -= size.min(state.size);
        state.bytes -= bytes.min(state.bytes);
        let is_pressed = self.is_pressed(&state);
        drop(state);
        if is_pressed {
            self.arrived.notify_one();
        }
        self.keep.freed(self, overhead);
        self.room.notify_waiters();
    }

    /// No more telemetry comes: send everything now.
    pub fn drain(&self) {
        self.state.lock().draining = true;
        self.upstream.ask_now();
        self.arrived.notify_one();
        self.nudged.notify_one();
    }
}

impl Sink for Queue {
    /// Memory per request. Batches from a stage, and requests that are batched here, share it.
    fn overhead(&self, telemetry: &Telemetry) -> u64 {
        let queue = &self.settings.queue;
        let is_fresh = || telemetry.parts.iter().any(|part| !part.charge.is_queued());
        if queue.enabled && queue.batch.is_none() && is_fresh() { telemetry.overhead() as u64 } else { 0 }
    }

    fn reserve(&self, _telemetry: &Telemetry, load: Load, ask: Ask) -> Result<(), Full> {
        let queue = &self.settings.queue;
        let size = self.size_of(load);
        let most_bytes = self.keep.most_bytes();
        let exceeded = match () {
            () if size > queue.queue_size => Some((queue.queue_size, self.unit())),
            () if load.bytes > most_bytes => Some((most_bytes, "bytes")),
            () => None,
        };
        // A stage cannot return a batch, and holds everything behind it: a batch larger than the queue goes alone.
        if let Some((limit, unit)) = exceeded.filter(|_| load.fresh_bytes > 0) {
            return Err(Full::Refuse(Refusal::TooLarge { limit, unit }));
        }
        let upstream_is_down = self.upstream.is_down();
        let mut state = self.state.lock();
        if !ask.waited && !upstream_is_down {
            let pace = self.keep.pace(self, &state, load);
            if !pace.is_zero() {
                return Err(Full::Wait { most: Some(pace) });
            }
        }
        let is_full = if exceeded.is_some() { state.size > 0 } else { state.size + size > queue.queue_size };
        let reserved = match is_full {
            true => Err(Reason::QueueFull),
            false => self.keep.reserve(self, &mut state, load),
        };
        let Err(reason) = reserved else {
            state.size += size;
            state.full = None;
            return Ok(());
        };
        if state.full.is_none() {
            // A batch that waited to fill is now due.
            self.arrived.notify_one();
        }
        state.refuses(reason);
        // Nothing notifies this queue when other holders free memory or a disk has space again.
        let will_be_told = state.size > 0 && matches!(reason, Reason::QueueFull | Reason::MemoryFull);
        if queue.block_on_overflow && will_be_told {
            return Err(Full::Wait { most: None });
        }
        let fill = match reason {
            Reason::QueueFull => Some(self.size_fill(state.size)),
            _ => self.keep.fill_for(self, &state, load),
        };
        drop(state);
        Err(self.refuse(backoff::hint(self.is_stored() || upstream_is_down), reason, fill, load.items))
    }

    fn release(&self, load: Load) {
        self.keep.release(self, load);
    }

    fn commit(&self, telemetry: Telemetry, load: Load) {
        let mut state = self.state.lock();
        state.flow.come(telemetry.received, load.items, load.bytes, self.size_of(load));
        self.held.fetch_add(load.items, Relaxed);
        self.keep.commit(self, state, telemetry, load);
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn answers(&self, is_batched: bool) -> bool {
        self.settings.queue.wait_for_result || self.is_stored() || !self.settings.queue.enabled && !is_batched
    }

    fn full_since(&self) -> Option<Instant> {
        if self.settings.queue.block_on_overflow { None } else { self.state.lock().full.map(|(since, _)| since) }
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.enqueue_failed.fetch_add(telemetry.items(), Relaxed);
        self.account.skip(telemetry);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.keep.abandon(self);
    }
}
