//! `batch`: gathers telemetry until a batch is large enough or old enough.
//!
//! It never drops: a batch that the next sink refuses stays in the outbox and keeps its charge, until the intake
//! refuses requests. Small parts are joined into larger buffers, because every part is a separate write when it is
//! sent.

mod shards;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::config::section::Section;
use crate::diagnostics::metrics::{Histogram, Observe, Page};
use crate::telemetry::{
    Accounts, Alarm, Ask, Budget, Client, Drain, Full, Holder, Load, Most, Now, Passed, Pending, Reason, Refusal,
    Share, Signal, Sink, Taking, Telemetry, Wakeful,
};

use super::outbox::{Next, Outbox};
use super::{ProcessorSettings, Role, Stage, StageFactory, StageParts};
use shards::Shards;

/// The `batch` section, with the Go collector's keys. Sizes count items: spans, log records, data points.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub timeout: Duration,
    pub send_batch_size: u64,
    /// 0 is unlimited.
    pub send_batch_max_size: u64,
    pub metadata_keys: Vec<String>,
    pub metadata_cardinality_limit: usize,
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let config = Config {
            timeout: section.duration("timeout", Duration::from_millis(200)),
            send_batch_size: section.limited("send_batch_size", 8192, 0..=i64::from(u32::MAX)) as u64,
            send_batch_max_size: section.limited("send_batch_max_size", 0, 0..=i64::from(u32::MAX)) as u64,
            metadata_keys: section.texts("metadata_keys").unwrap_or_default(),
            metadata_cardinality_limit: section.limited("metadata_cardinality_limit", 1000, 0..=i64::from(u32::MAX))
                as usize,
        };
        if config.send_batch_max_size > 0 && config.send_batch_max_size < config.send_batch_size {
            let size = config.send_batch_size;
            section.problem_with_help(
                "send_batch_max_size",
                "send_batch_max_size must be greater or equal to send_batch_size",
                format!("write at least {size}, or lower send_batch_size"),
            );
        }
        let mut seen = HashSet::new();
        for key in &config.metadata_keys {
            if !seen.insert(key.to_ascii_lowercase()) {
                let message = format!("duplicate entry in metadata_keys: \"{key}\" (case-insensitive)");
                section.problem("metadata_keys", message);
            }
        }
        section.finish();
        config
    }
}

impl ProcessorSettings for Config {
    fn role(&self) -> Role<'_> {
        Role::Stage(self)
    }

    fn batches(&self) -> bool {
        true
    }
}

impl StageFactory for Config {
    fn build(&self, parts: StageParts<'_>) -> Arc<dyn Stage> {
        Arc::new(Batch::new(self.clone(), parts))
    }
}

/// One `batch` in one pipeline.
pub struct Batch {
    id: String,
    signal: Signal,
    config: Config,
    accounts: Accounts,
    budget: Arc<Budget>,
    _holder: Holder,
    alarm: Arc<Alarm>,
    room: Notify,
    shards: Shards,
    size_triggers: AtomicU64,
    timeout_triggers: AtomicU64,
    sizes: Histogram,
}

struct Shard {
    client: Option<Arc<Client>>,
    state: Mutex<State>,
    outbox: Arc<Outbox>,
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// When the first pending telemetry arrived, or the last batch left.
    since: Option<Instant>,
}

impl Batch {
    pub fn new(config: Config, parts: StageParts) -> Batch {
        let StageParts { id, signal, outlet, accounts, budget, alarm } = parts;
        let outbox = Outbox::new(outlet, accounts.clone(), budget.clone(), alarm.clone());
        Batch {
            _holder: budget.add_holder(),
            id: id.to_owned(),
            signal,
            shards: Shards::new(&config, outbox, budget.clone()),
            config,
            accounts,
            budget,
            alarm,
            room: Notify::new(),
            size_triggers: AtomicU64::new(0),
            timeout_triggers: AtomicU64::new(0),
            sizes: Histogram::new(&BATCH_SIZES),
        }
    }

    fn is_full(&self, items: u64) -> bool {
        items > 0 && items >= self.config.send_batch_size
    }

    fn due_at(&self, shard: &Shard) -> Option<Instant> {
        shard.outbox.due_at(|| {
            let state = shard.state.lock();
            let items = state.pending.items();
            let wait = if self.is_full(items) { Duration::ZERO } else { self.config.timeout };
            state.since.filter(|_| items > 0).map(|since| since + wait)
        })
    }

    /// Hands on batches that are full or old enough, or all of them when the stage is drained, until the next sink
    /// refuses, and sets the alarm for the rest.
    fn flush(&self, shard: &Arc<Shard>, now: Now, waited: bool, drain: Option<Drain>) {
        let everything = drain.is_some();
        let ask = Ask { alone: true, waited: waited || everything, is_end: drain == Some(Drain::Shutdown) };
        if shard.outbox.flush(now, ask, everything, || self.next(shard, now, everything)) > 0 {
            self.room.notify_waiters();
        }
        if let Some(due) = self.due_at(shard) {
            self.alarm.ring_at(due);
        }
    }

    /// The next due batch.
    fn next(&self, shard: &Arc<Shard>, now: Now, everything: bool) -> Option<Next> {
        let mut state = shard.state.lock();
        let items = state.pending.items();
        let by_size = self.is_full(items) || self.config.timeout.is_zero();
        let waited = state.since.is_some_and(|since| now.instant.duration_since(since) >= self.config.timeout);
        if items == 0 || !(by_size || waited || everything) {
            return None;
        }
        let most = self.config.send_batch_max_size;
        self.sizes.record(if most == 0 { items } else { items.min(most) });
        if by_size { &self.size_triggers } else { &self.timeout_triggers }.fetch_add(1, Relaxed);
        let taking = state.pending.take(self.signal, Most::Items(most));
        if !taking.is_uncut() {
            return Some(Next::Batch(shard.batch(state, taking, self.signal, now)));
        }
        let (load, shard, signal) = (taking.load(), shard.clone(), self.signal);
        Some(Next::Unmade { load, make: Box::new(move || shard.cut(taking, signal, now)) })
    }
}

impl Shard {
    fn new(client: Option<Arc<Client>>, outbox: Arc<Outbox>) -> Arc<Shard> {
        Arc::new(Shard { client, state: Mutex::default(), outbox })
    }

    /// The batch from a `Taking` that needs no cut.
    fn batch(&self, mut state: MutexGuard<State>, taking: Taking, signal: Signal, now: Now) -> Telemetry {
        state.since = (state.pending.items() > 0).then_some(now.instant);
        let tickets = state.pending.tickets();
        Telemetry { signal, parts: taking.parts(), client: self.client.clone(), received: now, tickets }
    }

    /// The batch from a `Taking` once its large parts are cut.
    fn cut(&self, mut taking: Taking, signal: Signal, now: Now) -> Telemetry {
        loop {
            taking.cut();
            let mut state = self.state.lock();
            state.pending.go_on(&mut taking);
            if !taking.is_uncut() {
                return self.batch(state, taking, signal, now);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.load().0 == 0
    }

    /// Items and bytes held, including batches on their way out.
    fn load(&self) -> (u64, u64) {
        let (items, bytes) = self.outbox.load();
        let pending = &self.state.lock().pending;
        (items + pending.items(), bytes + pending.bytes())
    }
}

impl Sink for Batch {
    fn reserve(&self, telemetry: &Telemetry, load: Load, ask: Ask) -> Result<(), Full> {
        let received = telemetry.received.instant;
        let (shard, is_new) = self.shards.enter(telemetry.client.as_deref(), received).map_err(Full::Refuse)?;
        if is_new {
            self.alarm.ring_at(received + shards::IDLE);
        }
        if let Some(refusal) = shard.outbox.turns_away() {
            return Err(Full::Refuse(refusal));
        }
        let (items, mut bytes) = shard.load();
        if self.is_full(items) {
            let now = Now::read();
            self.flush(&shard, now, ask.waited, None);
            let (items, left) = shard.load();
            bytes = left;
            // A batch that another worker is handing on is no reason to refuse; nor is one that waits for the upstream's
            // pace, for a request that keeps to it.
            let pending = shard.state.lock().pending.bytes();
            let keeps_pace = || shard.outbox.keeps_pace(now.instant, pending, load.bytes);
            if self.is_full(items) && shard.outbox.refused_since().is_some() && !keeps_pace() {
                return Err(shard.outbox.refused().unwrap_or(Full::Refuse(Refusal::busy(Reason::QueueFull))));
            }
        }
        let allowed = self.budget.allows(bytes, load.bytes, load.fresh_bytes);
        if !(allowed && self.budget.take(Share::Queue, load.fresh_bytes)) {
            let fill = self.budget.queue_fill(bytes, load.bytes, load.fresh_bytes);
            return Err(Full::Refuse(Refusal::full(Reason::MemoryFull, fill)));
        }
        Ok(())
    }

    fn release(&self, load: Load) {
        self.budget.give_back(Share::Queue, load.fresh_bytes);
    }

    fn commit(&self, telemetry: Telemetry, load: Load) {
        let now = telemetry.received;
        let shard = self.shards.enter_reserved(telemetry.client.as_deref(), now.instant);
        let mut state = shard.state.lock();
        state.pending.push(telemetry, &self.budget);
        let due = *state.since.get_or_insert(now.instant) + self.config.timeout;
        let is_due = self.is_full(state.pending.items()) || due <= now.instant;
        drop(state);
        match is_due {
            true => self.flush(&shard, now, false, None),
            false => self.alarm.ring_at(due),
        }
        self.budget.give_back(Share::Queue, load.fresh_bytes);
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn answers(&self, _is_batched: bool) -> bool {
        self.shards.single.outbox.answers()
    }

    fn full_since(&self) -> Option<Instant> {
        self.shards.single.outbox.refused_since()
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.accounts.iter().for_each(|account| account.skip(telemetry));
    }
}

impl Stage for Batch {
    fn held_items(&self) -> u64 {
        self.shards.all().iter().map(|shard| shard.load().0).sum()
    }

    fn passed(&self) -> &Passed {
        self.shards.single.outbox.passed()
    }

    fn accounts(&self) -> &Accounts {
        &self.accounts
    }
}

impl Wakeful for Batch {
    fn wake_at(&self) -> Option<Instant> {
        let due = self.shards.all().iter().filter_map(|shard| self.due_at(shard)).min();
        due.into_iter().chain(self.shards.idle_at()).min()
    }

    fn wake(&self, now: Now) {
        self.shards.forget_idle(now.instant);
        self.shards.all().iter().for_each(|shard| self.flush(shard, now, false, None));
    }

    fn waits_for(&self) -> Vec<Arc<dyn Sink>> {
        self.shards.all().iter().filter_map(|shard| shard.outbox.waits_for()).collect()
    }

    fn drain(&self, now: Now, why: Drain) -> bool {
        let shards = self.shards.all();
        shards.iter().for_each(|shard| self.flush(shard, now, false, Some(why)));
        let is_empty = shards.iter().all(|shard| shard.is_empty());
        drop(shards);
        self.shards.forget_idle(now.instant + shards::IDLE);
        is_empty
    }
}

/// Bucket bounds of `otelcol_processor_batch_batch_send_size`.
const BATCH_SIZES: [u64; 21] = [
    10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000, 20_000, 50_000,
    100_000,
];

impl Observe for Batch {
    fn observe(&self, page: &mut Page) {
        let labels = [("processor", self.id.as_str())];
        page.histogram("otelcol_processor_batch_batch_send_size", &labels, &self.sizes);
        page.counter("otelcol_processor_batch_batch_size_trigger_send", &labels, self.size_triggers.load(Relaxed));
        page.counter("otelcol_processor_batch_timeout_trigger_send", &labels, self.timeout_triggers.load(Relaxed));
        page.gauge("otelcol_processor_batch_metadata_cardinality", &labels, self.shards.count() as f64);
    }
}
