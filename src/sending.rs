//! Sending: the queue before an exporter, and what happens until the upstream has the telemetry.
//!
//! One queue per exporter id and signal. Its dispatcher takes batches from the front and lets at most `num_consumers`
//! of them be under way; `deliver` stays with one batch until its final outcome, and counts it once.
//!
//! With `storage`, telemetry goes to the log on disk first, and what is in the queue is a view of its oldest part:
//! batching, cutting and sending happen behind the log, and a record is settled there when all its pieces are.

pub mod backoff;
mod batching;
pub mod dead_letters;
mod deliver;
pub mod disk;
mod flow;
mod said;
mod spool;
pub mod storage;
mod store;
mod upstream;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::diagnostics::metrics::{Observe, Page};
use crate::diagnostics::supervisor::{Supervisor, Watch};
use crate::exporters::Exporter;
use crate::exporters::settings::{Settings, Sizer};
use crate::telemetry::{
    Account, Ask, Budget, Fill, Full, Holder, Load, Now, Pending, Reason, Refusal, Share, Signal, Sink, Telemetry,
    clock,
};

use dead_letters::DeadLetters;
use disk::{Amount, Found, Limits};
use flow::Flow;
use said::Said;
use spool::Spooled;
use store::{Append, Store};
use upstream::{Outage, Upstream};

/// Above this part of the queue share, clients are slowed down to what the upstream takes…
const PACED_ABOVE: u64 = 4;
/// …by waiting this long for room before a place is taken all the same: one of common size. A smaller one waits for less, so
/// that few large ones do not slow all others down.
const PACE: Duration = Duration::from_millis(200);
/// How many requests back a size is common.
const COMMON: u64 = 256;

/// Of the queue share, what one queue may hold of what is on disk: one part in so many.
const READ_AHEAD: u64 = 4;
/// A queue that was full for less than this is busy, not unwell.
const GRACE: Duration = Duration::from_secs(5);
/// How long what is under way may take when a queue on disk is drained; the rest stays there.
const FINISH: Duration = Duration::from_secs(5);

/// Where a queue is kept, and who watches its thread.
pub struct Place<'a> {
    pub path: &'a Path,
    pub limits: Limits,
    /// How long to wait for another process to leave.
    pub wait: Duration,
    pub supervisor: &'a Arc<Supervisor>,
}

/// How telemetry is sent: the exporter, its timeout and its patience.
pub struct Way {
    pub settings: Settings,
    pub exporter: Arc<dyn Exporter>,
}

/// The sending queue of one exporter and signal.
pub struct Queue {
    /// Of these, `queue`; the rest is in `way`.
    settings: Settings,
    signal: Signal,
    /// A reload may change how telemetry is sent while it waits.
    way: watch::Sender<Arc<Way>>,
    pub account: Arc<Account>,
    budget: Arc<Budget>,
    _holder: Option<Holder>,
    state: Mutex<State>,
    room: Notify,
    arrived: Notify,
    upstream: Upstream,
    store: Option<Arc<Store>>,
    /// Items that are on disk or on their way there, and those of a spooling queue.
    held: AtomicU64,
    spool: Mutex<VecDeque<Arc<Spooled>>>,
    /// Told when something spools, and when a queue on disk shall end.
    nudged: Notify,
    /// Items that were lost before the queue had them.
    enqueue_failed: AtomicU64,
    send_failed: AtomicU64,
    /// That clients are refused, and that telemetry is dropped.
    said_refused: Said,
    said_dropped: Said,
}

/// A queue as a person wants to know it.
pub struct Report {
    pub destination: String,
    pub outage: Option<Outage>,
    /// Whether anything was sent there yet, or tried to be.
    pub has_answered: bool,
    pub items: u64,
    pub memory_bytes: u64,
    pub memory_limit: u64,
    /// What the log takes, and may take.
    pub disk: Option<(u64, u64)>,
    /// Of `capacity`, in `unit`s.
    pub size: u64,
    pub capacity: u64,
    pub unit: &'static str,
    /// Whether anything waits there at all.
    pub is_enabled: bool,
    pub oldest: Option<SystemTime>,
    pub bytes_per_second: f64,
    /// How long an outage may last at this rate before clients are refused; `None` when nothing comes.
    pub seconds_until_full: Option<f64>,
    /// What ends it then: `memory`, `disk` or `queue_size`.
    pub full_by: &'static str,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Telemetry, Load)>,
    /// What waits, when the queue batches; `waiting` is empty then.
    batching: Pending,
    batching_since: Option<Now>,
    /// Whether a batch is made of it elsewhere, and the batch once it is.
    is_cutting: bool,
    made: Option<Departure>,
    /// In units of the sizer: what waits, is under way, or has a place reserved.
    size: u64,
    /// Of that, what waits.
    waiting_size: u64,
    bytes: u64,
    /// The average of the requests that came, times `COMMON`.
    common_bytes: u64,
    in_flight: u64,
    /// Whether what went last is a piece for which there was no memory: until it is sent, no other goes.
    is_beyond: bool,
    /// Since when it has been refusing, and why it did last.
    full: Option<(Instant, Reason)>,
    flow: Flow,
    /// No more will come; what is there goes out without waiting for a batch to fill.
    draining: bool,
}

/// A batch on its way, with what it gives back to the queue when its outcome is final.
struct Departure {
    telemetry: Telemetry,
    size: u64,
    bytes: u64,
    /// Of these, what was taken from the budget beside the telemetry's own charges.
    overhead: u64,
}

impl State {
    fn refuses(&mut self, reason: Reason) {
        let since = self.full.map_or_else(clock, |(since, _)| since);
        self.full = Some((since, reason));
    }

    fn come(&mut self, bytes: u64) {
        self.common_bytes = self.common_bytes - self.common_bytes / COMMON + bytes;
    }

    /// How long a request of so many bytes waits for room.
    fn pace(&self, bytes: u64) -> Duration {
        let all = PACE.as_millis() as u64;
        let share = (bytes * COMMON).saturating_mul(all) / self.common_bytes.max(1);
        Duration::from_millis(share.min(all))
    }
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
        Queue::with(id, signal, settings, exporter, account, budget, None)
    }

    /// A queue that is kept on disk: what an earlier run left is in it, and in the account.
    pub fn stored(
        id: &str,
        signal: Signal,
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        account: Arc<Account>,
        budget: Arc<Budget>,
        place: &Place,
    ) -> Result<Arc<Queue>, String> {
        let (store, opened) = Store::open(place.path, place.limits, place.wait)?;
        let queue = Queue::with(id, signal, settings, exporter, account, budget, Some(store.clone()));
        if let Ok((_, found)) = &opened {
            queue.take_up(found);
        }
        let weak = Arc::downgrade(&queue);
        let dead = DeadLetters::new(place.path, place.limits);
        let thread = std::thread::Builder::new().name(format!("log {id}"));
        let watch = place.supervisor.watch(format!("disk log of {id}, {}", signal.name()));
        let started = thread.spawn(move || store::run(&watch, &store, opened, dead, &weak));
        started.map_err(|error| format!("cannot start the thread of the queue: {error}"))?;
        Ok(queue)
    }

    /// What an earlier run left is in the queue from now on.
    fn take_up(&self, found: &Found) {
        say_found(&self.account.exporter, self.signal, found);
        let account = &self.account;
        account.find(found.waiting.items + found.lost.items, found.lost.items);
        account.drop_items(Reason::Quarantined, found.lost.items);
        self.held.store(found.waiting.items, Relaxed);
        let mut state = self.lock();
        state.size = self.size_of_amount(found.waiting);
        let oldest = found.oldest_nanos.and_then(|nanos| UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)));
        let now = Now::read();
        state.flow.come(Now { wall: oldest.unwrap_or(now.wall), ..now }, found.waiting.items, 0, 0);
    }

    fn with(
        id: &str,
        signal: Signal,
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        account: Arc<Account>,
        budget: Arc<Budget>,
        store: Option<Arc<Store>>,
    ) -> Arc<Queue> {
        let holder = settings.queue.enabled.then(|| budget.add_holder());
        let way = Way { settings: settings.clone(), exporter: exporter.clone() };
        let upstream = Upstream::new(id, signal, exporter.destination());
        Arc::new(Queue {
            settings,
            signal,
            way: watch::Sender::new(Arc::new(way)),
            account,
            budget,
            _holder: holder,
            state: Mutex::default(),
            room: Notify::new(),
            arrived: Notify::new(),
            upstream,
            store,
            held: AtomicU64::new(0),
            spool: Mutex::default(),
            nudged: Notify::new(),
            enqueue_failed: AtomicU64::new(0),
            send_failed: AtomicU64::new(0),
            said_refused: Said::default(),
            said_dropped: Said::default(),
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

    fn size_of_amount(&self, amount: Amount) -> u64 {
        match self.settings.queue.sizer {
            Sizer::Requests => amount.records,
            Sizer::Items => amount.items,
            Sizer::Bytes => amount.bytes,
        }
    }

    /// Whether it is kept on disk, and outlives the process.
    pub fn is_stored(&self) -> bool {
        self.store.is_some()
    }

    /// Items that wait or are under way.
    pub fn held_items(&self) -> u64 {
        if self.store.is_some() {
            return self.held.load(Relaxed);
        }
        let state = self.lock();
        state.in_flight + state.batching.items() + state.waiting.iter().map(|(_, load)| load.items).sum::<u64>()
    }

    /// What there is to say about it.
    pub fn report(&self, now: Now) -> Report {
        let (items, room) = (self.held_items(), self.store.as_ref().map(|store| store.room()));
        let state = self.lock();
        let (bytes_per_second, size_per_second) = state.flow.rates(now);
        let queue = &self.settings.queue;
        let in_memory = self.budget.limit(Share::Queue).saturating_sub(self.budget.used(Share::Queue));
        let until_full = |room: u64, rate: f64| if rate > 0.0 { room as f64 / rate } else { f64::INFINITY };
        let of_bytes = until_full(room.unwrap_or(in_memory), bytes_per_second);
        let of_size = until_full(queue.queue_size.saturating_sub(state.size), size_per_second);
        Report {
            destination: self.upstream.destination(),
            outage: self.upstream.outage(),
            has_answered: self.upstream.has_answered(),
            items,
            memory_bytes: state.bytes,
            memory_limit: self.budget.limit(Share::Queue),
            disk: self.store.as_ref().map(|store| (store.used(), store.limits.quota)),
            size: state.size,
            capacity: queue.queue_size,
            unit: self.unit(),
            oldest: state.flow.oldest(),
            bytes_per_second,
            is_enabled: queue.enabled,
            seconds_until_full: Some(of_bytes.min(of_size)).filter(|seconds| queue.enabled && seconds.is_finite()),
            full_by: match self.store {
                _ if of_size < of_bytes => "queue_size",
                Some(_) => "disk",
                None => "memory",
            },
        }
    }

    /// How full it is, by the limit that is nearest.
    fn fill(&self) -> String {
        let of_size = self.size_fill(self.lock().size);
        let of_bytes = match &self.store {
            Some(store) => store.fill(),
            None => Fill {
                limit: "memory for queues",
                used: self.budget.used(Share::Queue),
                most: self.budget.limit(Share::Queue),
                unit: "bytes",
            },
        };
        let nearest = if of_bytes.share() > of_size.share() { of_bytes } else { of_size };
        format!("{:.0} % of {}", nearest.share() * 100.0, nearest.limit)
    }

    fn size_fill(&self, used: u64) -> Fill {
        Fill { limit: "queue_size", used, most: self.settings.queue.queue_size, unit: self.unit() }
    }

    fn unit(&self) -> &'static str {
        match self.settings.queue.sizer {
            Sizer::Requests => "requests",
            Sizer::Items => "items",
            Sizer::Bytes => "bytes",
        }
    }

    /// Sends in another way from now on, also what waits and what is being tried again.
    pub fn change(&self, way: Way) {
        self.upstream.moved(way.exporter.destination());
        self.way.send_replace(Arc::new(way));
    }

    /// Whether it is the queue that these settings describe.
    pub fn is_like(&self, settings: &Settings) -> bool {
        self.settings.queue.is_like(&settings.queue)
    }

    pub fn limits(&self) -> Option<Limits> {
        self.store.as_ref().map(|store| store.limits)
    }

    /// Where it is on disk.
    pub fn path(&self) -> Option<&Path> {
        self.store.as_ref().map(|store| store.path.as_path())
    }

    /// Why telemetry gets stuck here, as long as it does.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.upstream.holds() {
            return Some("the upstream refuses every export: telemetry is held");
        }
        let of_disk = self.store.as_ref().and_then(|store| store.trouble());
        if of_disk == Some(Reason::DiskFailed) {
            return Some(Reason::DiskFailed.words());
        }
        let state = self.lock();
        // It refused, and what it refused for is still there.
        let is_lasting = |(since, _): &(Instant, Reason)| clock().duration_since(*since) >= GRACE;
        let (_, reason) = state.full.filter(is_lasting).filter(|_| state.size > 0 || of_disk.is_some())?;
        Some(of_disk.unwrap_or(reason).words())
    }

    /// Takes batches and sees them through until the queue is drained. Dropping the future drops nothing from the
    /// ledger: what was not finished stays counted as waiting.
    pub async fn dispatch(self: Arc<Self>, watch: Watch) {
        // They go on while the dispatcher is started again.
        let mut under_way = JoinSet::new();
        while watch.run(self.dispatch_to(&mut under_way)).await.is_none() {}
        let Some(store) = &self.store else {
            while let Some(finished) = under_way.join_next().await {
                self.finished(finished);
            }
            return;
        };
        // What is not finished in time stays on disk.
        self.write_spool(true);
        let finish = async { while under_way.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FINISH, finish).await;
        under_way.shutdown().await;
        store.close().await;
    }

    async fn dispatch_to(self: &Arc<Self>, under_way: &mut JoinSet<()>) {
        let most = self.settings.queue.num_consumers;
        loop {
            let spooled = self.spool_due();
            tokio::select! {
                () = at(spooled), if spooled.is_some() => self.write_spool(false),
                () = self.nudged.notified(), if self.store.is_some() => {
                    if self.lock().draining {
                        break;
                    }
                }
                departure = self.next(), if under_way.len() < most => match departure {
                    Some(departure) => { under_way.spawn(self.clone().deliver(departure)); }
                    None => break,
                },
                Some(finished) = under_way.join_next() => self.finished(finished),
            }
        }
    }

    /// When the oldest telemetry that is not on disk must be written.
    fn spool_due(&self) -> Option<Instant> {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        while spool.front().is_some_and(|first| first.is_over()) {
            spool.pop_front();
        }
        spool.front().map(|first| first.due)
    }

    /// Hands to the log what waited long enough, or everything.
    fn write_spool(&self, everything: bool) {
        let Some(store) = &self.store else { return };
        let now = clock();
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = spool.front().filter(|first| everything || first.due <= now) {
            if let Some(append) = first.take().and_then(|append| store.append(append)) {
                self.not_written(append, Reason::DiskFailed);
            }
            spool.pop_front();
        }
    }

    /// Whether more may be read back from disk; one record always.
    fn has_room(&self) -> bool {
        let bytes = self.lock().bytes;
        bytes == 0 || bytes < self.read_ahead() && !self.budget.is_short(Share::Queue)
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        let used = self.budget.used(Share::Queue) + bytes;
        self.lock().bytes + bytes <= self.read_ahead() && used <= self.budget.limit(Share::Queue)
    }

    fn read_ahead(&self) -> u64 {
        if self.store.as_ref().is_some_and(|store| store.is_careful()) {
            return 1;
        }
        self.budget.limit(Share::Queue) / READ_AHEAD
    }

    /// Takes what is on disk, and has a ticket that settles it there, for sending.
    fn feed(&self, telemetry: Telemetry) {
        let mut load = Load::of(&telemetry);
        if self.settings.queue.batch.is_none() {
            load.overhead = telemetry.overhead() as u64;
        }
        let mut state = self.lock();
        state.bytes += load.held_bytes();
        self.push(state, telemetry, load);
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

    /// Whether a batch cannot fill any more, because no more is read from disk while it waits, or no more is taken.
    fn is_pressed(&self, state: &State) -> bool {
        let is_full = match self.store.is_some() {
            true => state.bytes >= self.read_ahead(),
            false => state.full.is_some(),
        };
        is_full && state.in_flight == 0
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
            if self.store.is_some() && self.lock().draining {
                return None;
            }
            let (departure, due, drained) = {
                let mut state = self.lock();
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

    /// These items are held no longer, on disk or before it.
    fn let_go(&self, items: u64) {
        let left = |held: u64| Some(held.saturating_sub(items));
        let _ = self.held.fetch_update(Relaxed, Relaxed, left);
        self.lock().flow.go(items);
    }

    /// What a client is told that is not waited for. Once a minute the log says it, too.
    fn refuse(&self, after: Duration, reason: Reason, fill: Option<Fill>, items: u64) -> Full {
        let refusal = Refusal::Busy { after, reason, fill };
        // What is wrong with the disk itself is said where it is written to.
        let said = refusal.has_fill().then(|| self.said_refused.count(items)).flatten();
        if let Some((refused_items, requests)) = said {
            let (exporter, signal, why) = (&self.account.exporter, self.signal.name(), refusal.answer().status.message);
            tracing::warn!(%exporter, signal, why, requests, refused_items, "telemetry is refused: clients are told to try again");
        }
        Full::Refuse(refusal)
    }

    /// Gives back the place of a batch whose outcome is final.
    fn arrive(&self, items: u64, size: u64, bytes: u64, overhead: u64) {
        if self.store.is_none() {
            self.budget.give_back(Share::Queue, overhead);
        }
        let mut state = self.lock();
        state.in_flight -= items.min(state.in_flight);
        state.size -= size.min(state.size);
        state.bytes -= bytes.min(state.bytes);
        let is_pressed = self.is_pressed(&state);
        drop(state);
        if is_pressed {
            self.arrived.notify_one();
        }
        self.room.notify_waiters();
        if let Some(store) = &self.store {
            store.ask();
        }
    }

    /// No more telemetry will come: everything goes out now.
    pub fn drain(&self) {
        self.lock().draining = true;
        self.upstream.ask_now();
        self.arrived.notify_one();
        self.nudged.notify_one();
    }
}

impl Sink for Queue {
    /// Of single requests. Those of a stage are many in one, and so are those that are batched here.
    fn overhead(&self, telemetry: &Telemetry) -> u64 {
        let queue = &self.settings.queue;
        let is_fresh = || telemetry.parts.iter().any(|part| !part.charge.is_queued());
        if queue.enabled && queue.batch.is_none() && is_fresh() { telemetry.overhead() as u64 } else { 0 }
    }

    fn reserve(&self, _telemetry: &Telemetry, load: Load, ask: Ask) -> Result<(), Full> {
        let queue = &self.settings.queue;
        let size = self.size_of(load);
        if size > queue.queue_size {
            return Err(Full::Refuse(Refusal::TooLarge { limit: queue.queue_size, unit: self.unit() }));
        }
        let upstream_is_down = self.upstream.is_down();
        let mut state = self.lock();
        if let Some(store) = &self.store {
            let limit = store.limits.quota.saturating_sub(disk::format::HEADER * 2);
            if load.bytes > limit {
                return Err(Full::Refuse(Refusal::TooLarge { limit, unit: "bytes" }));
            }
            let reason = match state.size + size > queue.queue_size {
                true => Err(Reason::QueueFull),
                false => store.reserve(load.bytes),
            };
            let Err(reason) = reason else {
                state.size += size;
                state.full = None;
                return Ok(());
            };
            state.refuses(reason);
            let size = state.size;
            drop(state);
            if queue.block_on_overflow && reason == Reason::QueueFull {
                return Err(Full::Wait { most: None });
            }
            let fill = match reason {
                Reason::QueueFull => Some(self.size_fill(size)),
                // Else the filesystem is, which may be by others.
                _ => Some(store.fill()).filter(|fill| fill.used + load.bytes + store.limits.segment / 16 > fill.most),
            };
            return Err(self.refuse(backoff::hint(true), reason, fill, load.items));
        }
        let (more, fresh) = (load.held_bytes(), load.fresh_held_bytes());
        let paced = queue.enabled && state.bytes + more > self.budget.limit(Share::Queue) / PACED_ABOVE;
        if paced && !ask.waited && !upstream_is_down && state.bytes > 0 {
            let pace = state.pace(load.bytes);
            if !pace.is_zero() {
                return Err(Full::Wait { most: Some(pace) });
            }
        }
        let reason = if state.size + size > queue.queue_size {
            Some(Reason::QueueFull)
        } else if queue.enabled
            && !(self.budget.allows(state.bytes, more, fresh) && self.budget.take(Share::Queue, fresh))
        {
            Some(Reason::MemoryFull)
        } else {
            None
        };
        let Some(reason) = reason else {
            state.size += size;
            state.bytes += more;
            state.full = None;
            return Ok(());
        };
        if state.full.is_none() {
            // A batch that waits for more is now due.
            self.arrived.notify_one();
        }
        state.refuses(reason);
        // Memory that others hold comes back without a word to this queue.
        let will_be_told = state.size > 0;
        let (size, bytes) = (state.size, state.bytes);
        drop(state);
        if queue.block_on_overflow && will_be_told {
            return Err(Full::Wait { most: None });
        }
        let fill = match reason {
            Reason::QueueFull => self.size_fill(size),
            _ => self.budget.queue_fill(bytes, more, fresh),
        };
        let after = backoff::hint(upstream_is_down);
        Err(self.refuse(after, reason, Some(fill), load.items))
    }

    fn release(&self, load: Load) {
        if let Some(store) = &self.store {
            store.release(load.bytes);
            return self.arrive(0, self.size_of(load), 0, 0);
        }
        if self.settings.queue.enabled {
            self.budget.give_back(Share::Queue, load.fresh_bytes);
        }
        self.arrive(0, self.size_of(load), load.held_bytes(), load.overhead);
    }

    fn commit(&self, mut telemetry: Telemetry, load: Load) {
        let mut state = self.lock();
        state.flow.come(telemetry.received, load.items, load.bytes, self.size_of(load));
        let Some(store) = &self.store else {
            state.come(load.bytes);
            self.push(state, telemetry, load);
            if self.settings.queue.enabled {
                self.budget.give_back(Share::Queue, load.fresh_bytes);
            }
            return;
        };
        drop(state);
        self.held.fetch_add(load.items, Relaxed);
        // What cannot be kept on disk must not reach the upstream before a restart either.
        telemetry.client = None;
        let at_once = self.settings.queue.wait_for_result
            && !store.is_behind()
            && !self.upstream.is_down()
            && self.has_room_for(load.held_bytes());
        if !at_once {
            let refused = store.append(Append { telemetry, spooled: None });
            return refused.into_iter().for_each(|append| self.not_written(append, Reason::DiskFailed));
        }
        store.release(load.bytes);
        let spooled = Spooled::new(&mut telemetry, store, clock() + spool::PATIENCE);
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = spool.is_empty();
        spool.push_back(spooled);
        drop(spool);
        self.feed(telemetry);
        if is_first {
            self.nudged.notify_one();
        }
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn answers(&self, is_batched: bool) -> bool {
        self.settings.queue.wait_for_result || self.store.is_some() || !self.settings.queue.enabled && !is_batched
    }

    fn full_since(&self) -> Option<Instant> {
        if self.settings.queue.block_on_overflow { None } else { self.lock().full.map(|(since, _)| since) }
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.enqueue_failed.fetch_add(telemetry.items(), Relaxed);
        self.account.lose(Reason::SinkStuck, telemetry);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            return store.abandon();
        }
        let waiting = std::mem::take(&mut self.lock().waiting);
        self.budget.give_back(Share::Queue, waiting.iter().map(|(_, load)| load.overhead).sum());
    }
}

async fn at(time: Option<Instant>) {
    tokio::time::sleep_until(time.unwrap_or_else(clock).into()).await;
}

/// What an earlier run left, and what of it is gone.
fn say_found(exporter: &str, signal: Signal, found: &Found) {
    let signal = signal.name();
    if !found.lost.is_zero() {
        let (items, bytes) = (found.lost.items, found.lost.bytes);
        tracing::error!(exporter, signal, dropped_items = items, bytes, "the queue on disk was damaged");
    }
    if !found.waiting.is_zero() {
        let Amount { records, items, bytes } = found.waiting;
        tracing::info!(exporter, signal, requests = records, items, bytes, "going on with what is on disk");
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
        if let Some(store) = &self.store {
            page.gauge("misaki_queue_disk_bytes", &labels, store.used() as f64);
            page.gauge("misaki_queue_disk_quota_bytes", &labels, store.limits.quota as f64);
        }
        page.gauge("otelcol_exporter_in_flight_requests", &labels, u64::from(in_flight > 0) as f64);
        if self.account.accepted() == 0 {
            return;
        }
        let address = self.way.borrow().exporter.labels();
        let mut labels = vec![("exporter", exporter)];
        labels.extend(address.iter().map(|(name, value)| (*name, value.as_str())));
        page.counter(&format!("otelcol_exporter_sent_{items}"), &labels, self.account.sent());
        page.counter(&format!("otelcol_exporter_send_failed_{items}"), &labels, self.send_failed.load(Relaxed));
        let labels = [("exporter", exporter)];
        page.counter(&format!("otelcol_exporter_enqueue_failed_{items}"), &labels, self.enqueue_failed.load(Relaxed));
    }
}
