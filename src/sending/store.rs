//! A queue on disk: telemetry goes to the log first, and the queue holds a view of its oldest part. Telemetry not sent
//! when the process ends waits in the log for the next run.
//!
//! The log has its own thread. The queue hands it records to write, reports settled ones, and asks for more.

mod thread;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::diagnostics::supervisor::Supervisor;
use crate::exporters::Exporter;
use crate::exporters::settings::Settings;
use crate::telemetry::{Account, Budget, Fill, Load, Now, Reason, Refusal, Share, Signal, Telemetry, clock};

use super::dead_letters::{self, DeadLetters};
use super::disk::directory::{Directory, space};
use super::disk::format::{HEADER, Identity};
use super::disk::hold::{ATTEMPTS, PAUSE};
use super::disk::{self, Amount, Found, Limits, Log, OpenError, Opening};
use super::keep::{Keep, Work};
use super::spool::{self, Spooled};
use super::{Queue, State};

type DiskLog = Log<Directory, Instant>;
pub(super) type Opened = disk::Opened<Directory, Instant>;

/// The fraction of the queue share that one queue may fill with records read back from disk.
const READ_AHEAD: u64 = 4;
/// Time for in-flight deliveries when the queue is drained; the rest stays on disk.
const FINISH: Duration = Duration::from_secs(5);
/// Retry hint for a client whose telemetry cannot be written.
const AFTER: Duration = Duration::from_secs(5);
/// How long settled marks are collected before they are written.
const SETTLING: Duration = Duration::from_millis(200);

/// Where a queue is stored, and who supervises its thread.
pub(crate) struct StoreParts<'a> {
    pub(crate) path: &'a Path,
    pub(crate) limits: Limits,
    /// How long to wait for another process to release it.
    pub(crate) wait: Duration,
    pub(crate) supervisor: &'a Arc<Supervisor>,
}

/// The queue's side of a log on disk.
///
/// The log itself belongs to its thread. The queue and deliveries talk to the thread through `inbox` alone, and wake it
/// with `knock`. The atomics publish the thread's view of the disk: each is independent of the others. `used + coming`
/// is the size once everything admitted is written. Places are reserved under the queue's lock, so only a record that
/// goes alone exceeds the quota.
pub(super) struct Store {
    pub(super) path: PathBuf,
    pub(super) limits: Limits,
    inbox: Mutex<Inbox>,
    knock: Condvar,
    /// Bytes of the log, and bytes admitted but not written yet.
    used: AtomicU64,
    coming: AtomicU64,
    full: AtomicBool,
    failed: AtomicBool,
    /// Whether records on disk are currently unreadable.
    unreadable: AtomicBool,
    /// Whether the disk holds records the queue has not been given.
    behind: AtomicBool,
    /// Whether records are sent one by one, to find the one that crashes the process.
    careful: AtomicBool,
    /// Whether an attempt to send has ended since the flag was cleared.
    outlived: AtomicBool,
    closed: Notify,
    is_closed: AtomicBool,
    /// Telemetry sent from memory and not written yet.
    spool: Mutex<VecDeque<Arc<Spooled>>>,
}

#[derive(Default)]
struct Inbox {
    appends: VecDeque<Append>,
    settled: Vec<(u64, Amount)>,
    /// Written before the settled marks that follow them.
    dead: Vec<(Telemetry, Reason)>,
    hungry: bool,
    closing: bool,
    /// The thread has ended.
    is_over: bool,
}

/// Telemetry to write.
pub(super) struct Append {
    pub(super) telemetry: Telemetry,
    /// Set when the queue already has it: notified when it is written.
    pub(super) spooled: Option<Arc<Spooled>>,
}

impl Append {
    fn record(&self) -> (SmallVec<[Bytes; 1]>, u32, u64) {
        let parts = self.telemetry.parts.iter().map(|part| part.bytes.clone()).collect();
        let items = u32::try_from(self.telemetry.items()).unwrap_or(u32::MAX);
        let received = self.telemetry.received.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        (parts, items, u64::try_from(received.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A random identity for a new log.
pub(super) fn identity() -> Identity {
    std::array::from_fn(|_| (super::backoff::random() * 256.0) as u8)
}

impl Store {
    /// Locks the directory and opens its log; if it cannot be read now, [`thread::run`] retries.
    fn open(path: &Path, limits: Limits, wait: Duration) -> Result<(Arc<Store>, Opened), String> {
        let directory = Directory::take(path, wait).map_err(|error| format!("cannot open the queue: {error}"))?;
        let opened = Opening::new(directory, Instant::now(), limits, identity(), ATTEMPTS).attempt();
        match &opened {
            Err((_, OpenError::Unreadable { .. })) | Ok(_) => {}
            Err((_, error)) => return Err(format!("cannot open the queue in {}: {error}", path.display())),
        }
        let store = Store {
            path: path.to_owned(),
            limits,
            inbox: Mutex::default(),
            knock: Condvar::new(),
            used: AtomicU64::new(0),
            coming: AtomicU64::new(0),
            full: AtomicBool::new(false),
            failed: AtomicBool::new(opened.is_err()),
            unreadable: AtomicBool::new(false),
            behind: AtomicBool::new(true),
            careful: AtomicBool::new(false),
            outlived: AtomicBool::new(false),
            closed: Notify::new(),
            is_closed: AtomicBool::new(false),
            spool: Mutex::default(),
        };
        if let Ok((log, found)) = &opened {
            store.begin(log, found);
        }
        Ok((Arc::new(store), opened))
    }

    /// Publishes the state of the opened log.
    fn begin(&self, log: &DiskLog, found: &Found) {
        let waits = !found.waiting.is_zero();
        self.behind.store(waits, Relaxed);
        self.careful.store(waits, Relaxed);
        publish(self, log, false);
    }

    /// Subtracts bytes from `coming`.
    fn give_back(&self, bytes: u64) {
        self.coming.fetch_sub(bytes, Relaxed);
    }

    /// Hands in a record to write; returns it if the log's thread has ended.
    #[must_use]
    fn append(&self, append: Append) -> Option<Append> {
        let mut inbox = self.inbox.lock();
        if inbox.is_over {
            return Some(append);
        }
        inbox.appends.push_back(append);
        drop(inbox);
        self.knock.notify_one();
        None
    }

    pub(super) fn settle(&self, id: u64, amount: Amount) {
        let mut inbox = self.inbox.lock();
        inbox.settled.push((id, amount));
        let first = inbox.settled.len() == 1;
        drop(inbox);
        if first {
            self.knock.notify_one();
        }
    }

    fn is_behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    fn is_careful(&self) -> bool {
        self.careful.load(Relaxed)
    }

    /// No more records come: writes the rest and waits until the log is closed.
    async fn close(&self) {
        self.inbox.lock().closing = true;
        self.knock.notify_one();
        loop {
            let closed = self.closed.notified();
            if self.is_closed.load(Relaxed) {
                return;
            }
            closed.await;
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes used, including admitted ones.
    fn taken(&self) -> u64 {
        self.used() + self.coming.load(Relaxed)
    }

    /// Waits before the disk is retried; true at shutdown.
    fn pause(&self) -> bool {
        let mut inbox = self.inbox.lock();
        self.knock.wait_while_for(&mut inbox, |inbox| !inbox.closing, PAUSE);
        inbox.closing
    }

    /// Waits for work: a group, settled records, and whether to end.
    fn work(&self, most: u64, patience: Duration) -> Round {
        let mut inbox = self.inbox.lock();
        let mut until = Instant::now() + patience;
        loop {
            if !inbox.appends.is_empty() || inbox.hungry || inbox.closing {
                break;
            }
            if !inbox.settled.is_empty() {
                until = until.min(Instant::now() + SETTLING);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.knock.wait_for(&mut inbox, left);
        }
        inbox.hungry = false;
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(append) = inbox.appends.front() {
            // Records that the queue already has and records that it has not are not mixed in a group.
            let alike = |first: &Append| first.spooled.is_some() == append.spooled.is_some();
            if !group.first().is_none_or(alike) {
                break;
            }
            bytes += append.telemetry.bytes() as u64;
            if bytes > most && !group.is_empty() {
                break;
            }
            group.extend(inbox.appends.pop_front());
        }
        let closing = inbox.closing && inbox.appends.is_empty();
        let (dead, settled) = (std::mem::take(&mut inbox.dead), std::mem::take(&mut inbox.settled));
        Round { group, dead, settled, closing }
    }

    fn spool(&self) -> MutexGuard<'_, VecDeque<Arc<Spooled>>> {
        self.spool.lock()
    }

    /// When the oldest unwritten telemetry must be written.
    fn due(&self) -> Option<Instant> {
        let mut spool = self.spool();
        while spool.front().is_some_and(|first| first.is_over()) {
            spool.pop_front();
        }
        spool.front().map(|first| first.due)
    }

    /// Hands spooled telemetry that is due, or all of it, to the log.
    fn write_spool(&self, queue: &Queue, everything: bool) {
        let now = clock();
        let mut spool = self.spool();
        while let Some(first) = spool.front().filter(|first| everything || first.due <= now) {
            if let Some(append) = first.take().and_then(|append| self.append(append)) {
                queue.not_written(append, Reason::DiskFailed);
            }
            spool.pop_front();
        }
    }
}

/// The work of one round of the thread.
struct Round {
    group: Vec<Append>,
    dead: Vec<(Telemetry, Reason)>,
    settled: Vec<(u64, Amount)>,
    closing: bool,
}

impl Keep for Arc<Store> {
    fn store(&self) -> Option<&Arc<Store>> {
        Some(self)
    }

    fn most_bytes(&self) -> u64 {
        self.limits.most_bytes().saturating_sub(HEADER * 2)
    }

    fn reserve(&self, _: &Queue, _: &mut State, load: Load) -> Result<(), Reason> {
        let after = self.taken() + load.bytes;
        if self.failed.load(Relaxed) {
            return Err(Reason::DiskFailed);
        }
        let goes_alone = load.bytes > self.most_bytes();
        if self.full.load(Relaxed) || !goes_alone && after + self.limits.segment / 16 > self.limits.quota {
            return Err(Reason::DiskFull);
        }
        self.coming.fetch_add(load.bytes, Relaxed);
        Ok(())
    }

    /// `None` when the filesystem is full, possibly because of others.
    fn fill_for(&self, queue: &Queue, _: &State, load: Load) -> Option<Fill> {
        let margin = self.limits.segment / 16;
        Some(self.fill(queue)).filter(|fill| fill.used + load.bytes + margin > fill.most)
    }

    fn release(&self, queue: &Queue, load: Load) {
        self.give_back(load.bytes);
        queue.arrive(0, queue.size_of(load), 0, 0);
    }

    fn commit(&self, queue: &Queue, state: MutexGuard<State>, mut telemetry: Telemetry, load: Load) {
        drop(state);
        // Client metadata is not stored, so it must not reach the upstream before a restart either.
        telemetry.client = None;
        let at_once = queue.settings.queue.wait_for_result
            && !self.is_behind()
            && !queue.upstream.is_down()
            && queue.has_room_for(self, load.held_bytes());
        if !at_once {
            let refused = self.append(Append { telemetry, spooled: None });
            return refused.into_iter().for_each(|append| queue.not_written(append, Reason::DiskFailed));
        }
        self.give_back(load.bytes);
        let spooled = Spooled::new(&mut telemetry, self, clock() + spool::PATIENCE);
        let mut spool = self.spool();
        let is_first = spool.is_empty();
        spool.push_back(spooled);
        drop(spool);
        queue.feed(telemetry);
        if is_first {
            queue.nudged.notify_one();
        }
    }

    fn freed(&self, _: &Queue, _: u64) {
        if self.is_behind() {
            self.inbox.lock().hungry = true;
            self.knock.notify_one();
        }
    }

    fn is_full(&self, queue: &Queue, state: &State) -> bool {
        state.bytes >= queue.read_ahead(self)
    }

    fn fill(&self, _: &Queue) -> Fill {
        Fill { limit: "max_size of the queue on disk", used: self.taken(), most: self.limits.quota, unit: "bytes" }
    }

    fn room(&self, _: &Queue) -> u64 {
        let free = space(&self.path).map_or(u64::MAX, |(_, free)| free.saturating_sub(self.limits.min_free));
        self.limits.quota.saturating_sub(self.taken()).min(free)
    }

    fn name(&self) -> &'static str {
        "disk"
    }

    fn trouble(&self) -> Option<Reason> {
        let is_failed = self.failed.load(Relaxed) || self.unreadable.load(Relaxed);
        is_failed.then_some(Reason::DiskFailed).or_else(|| self.full.load(Relaxed).then_some(Reason::DiskFull))
    }

    fn outlive(&self) {
        if self.is_careful() && !self.outlived.swap(true, Relaxed) {
            self.inbox.lock().hungry = true;
            self.knock.notify_one();
        }
    }

    fn put_aside(&self, telemetry: Telemetry, reason: Reason) {
        if dead_letters::are_kept(reason) {
            self.inbox.lock().dead.push((telemetry, reason));
        }
    }

    fn tend<'a>(&'a self, queue: &'a Queue) -> Work<'a> {
        Box::pin(async move {
            loop {
                let due = self.due();
                let is_due = tokio::time::sleep_until(due.unwrap_or_else(clock).into());
                tokio::select! {
                    () = is_due, if due.is_some() => self.write_spool(queue, false),
                    () = queue.nudged.notified() => {
                        if queue.state.lock().draining {
                            return;
                        }
                    }
                }
            }
        })
    }

    /// Unfinished records stay on disk.
    fn finish<'a>(&'a self, queue: &'a Queue, under_way: &'a mut JoinSet<()>) -> Work<'a> {
        Box::pin(async move {
            self.write_spool(queue, true);
            let finish = async { while under_way.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(FINISH, finish).await;
            under_way.shutdown().await;
            self.close().await;
        })
    }

    fn abandon(&self, _: &Queue) {
        self.inbox.lock().closing = true;
        self.knock.notify_one();
    }
}

fn publish(store: &Store, log: &DiskLog, is_failing: bool) {
    let used = log.used();
    store.used.store(used, Relaxed);
    // Stays full until a tenth is free, to avoid flapping.
    if used < store.limits.quota / 10 * 9 && !log.is_paused() {
        store.full.store(false, Relaxed);
    }
    store.failed.store(is_failing || log.is_failed() && log.is_paused(), Relaxed);
}

impl Queue {
    /// A queue on disk; records of an earlier run are in it and in its account.
    pub(crate) fn stored(
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        account: Arc<Account>,
        budget: Arc<Budget>,
        place: &StoreParts,
    ) -> Result<Arc<Queue>, String> {
        let (store, opened) = Store::open(place.path, place.limits, place.wait)?;
        let (id, signal) = (account.exporter.clone(), account.signal.name());
        let queue = Queue::kept(Box::new(store.clone()), settings, exporter, account, budget);
        if let Ok((_, found)) = &opened {
            queue.take_up(found);
        }
        let weak = Arc::downgrade(&queue);
        let dead = DeadLetters::new(place.path, place.limits);
        let thread = std::thread::Builder::new().name(format!("log {id}"));
        let watch = place.supervisor.watch(format!("disk log of {id}, {signal}"));
        let started = thread.spawn(move || thread::run(&watch, &store, opened, dead, &weak));
        started.map_err(|error| format!("cannot start the thread of the queue: {error}"))?;
        Ok(queue)
    }

    /// Takes over the records of an earlier run.
    fn take_up(&self, found: &Found) {
        say_found(&self.account.exporter, self.signal, found);
        let account = &self.account;
        account.find(found.waiting.items + found.lost.items, found.lost.items);
        account.drop_items(Reason::Quarantined, found.lost.items);
        self.held.store(found.waiting.items, Relaxed);
        let mut state = self.state.lock();
        state.size = self.size_of_amount(found.waiting);
        let oldest = found.oldest_nanos.and_then(|nanos| UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)));
        let now = Now::read();
        state.flow.come(Now { wall: oldest.unwrap_or(now.wall), ..now }, found.waiting.items, 0, 0);
    }

    /// Whether more records may be read back; one is always allowed.
    fn has_room(&self, store: &Store) -> bool {
        let bytes = self.state.lock().bytes;
        bytes == 0 || bytes < self.read_ahead(store) && !self.budget.is_short(Share::Queue)
    }

    fn has_room_for(&self, store: &Store, bytes: u64) -> bool {
        let used = self.budget.used(Share::Queue) + bytes;
        self.state.lock().bytes + bytes <= self.read_ahead(store) && used <= self.budget.limit(Share::Queue)
    }

    fn read_ahead(&self, store: &Store) -> u64 {
        if store.is_careful() { 1 } else { self.budget.limit(Share::Queue) / READ_AHEAD }
    }

    /// Takes a record from disk for sending; its ticket settles it there.
    fn feed(&self, telemetry: Telemetry) {
        let mut load = Load::of(&telemetry);
        if self.settings.queue.batch.is_none() {
            load.overhead = telemetry.overhead() as u64;
        }
        let mut state = self.state.lock();
        state.bytes += load.held_bytes();
        self.push(state, telemetry, load);
    }

    /// Refuses telemetry that cannot be written; it is dropped if its client was already answered.
    fn not_written(&self, append: Append, reason: Reason) {
        let Append { mut telemetry, spooled } = append;
        if let Some(spooled) = spooled {
            return spooled.not_written();
        }
        let amount = Amount { records: 1, items: telemetry.items(), bytes: telemetry.bytes() as u64 };
        self.let_go_of(amount);
        if telemetry.tickets.cover_all() {
            self.account.give_back(&telemetry);
        } else {
            self.enqueue_failed.fetch_add(amount.items, Relaxed);
            self.account.lose(reason, &telemetry);
        }
        telemetry.resolve(Err(&Refusal::Busy { after: AFTER, reason, fill: None }));
    }

    /// Removes records that are gone from the log, or never reached it.
    fn let_go_of(&self, amount: Amount) {
        self.let_go(amount.items);
        self.arrive(0, self.size_of_amount(amount), 0, 0);
    }
}

/// Logs the records that an earlier run left, and the missing ones.
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
