//! The log's own thread, and how the queue speaks to it: hand in what shall be written, say what is settled, ask for more.
//!
//! While one sync runs the next group gathers by itself. What was just written goes on from memory as long as the queue
//! has room for it; what does not is read back when its turn comes, so a backlog costs no memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::diagnostics::supervisor::Watch;
use crate::telemetry::{Charge, Fill, Now, Part, Reason, Refusal, Share, Tally, Telemetry, Ticket, clock};

use super::Queue;
use super::dead_letters::{self, DeadLetters};
use super::disk::attempts::Attempts;
use super::disk::directory::{Directory, space};
use super::disk::format::Identity;
use super::disk::hold::{ATTEMPTS, PAUSE};
use super::disk::survey::UNREADABLE;
use super::disk::{self, Amount, AppendError, Found, GROUP, Hold, Limits, Log, NewRecord, OpenError, Opening, Record};
use super::said::Said;

type DiskLog = Log<Directory, Instant>;
pub type Opened = disk::Opened<Directory, Instant>;

/// How long what was settled waits for company before it is written.
const SETTLING: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_secs(1);
/// How much is read back between two groups.
const READ_AT_ONCE: usize = 64;
/// What the client of a failed group is told.
const AFTER: Duration = Duration::from_secs(5);
/// A record that was under way when this many runs ended is put aside.
const RUNS: u64 = 3;
/// After a run that did not end by itself, so many records are sent one by one, for so long at most.
const ONE_BY_ONE: usize = 256;
const CAREFUL: Duration = Duration::from_secs(10);

/// A log on disk, as the queue before it sees it.
pub struct Store {
    pub path: PathBuf,
    pub limits: Limits,
    inbox: Mutex<Inbox>,
    knock: Condvar,
    /// Bytes of the log, and of what has a place but is not written yet.
    used: AtomicU64,
    coming: AtomicU64,
    full: AtomicBool,
    failed: AtomicBool,
    /// Whether what is on disk cannot be read at the moment.
    unreadable: AtomicBool,
    /// Whether there is more on disk than the queue has been given.
    behind: AtomicBool,
    /// Whether what is on disk is sent one by one, to tell which record ends the process.
    careful: AtomicBool,
    /// Whether the process has outlived an attempt to send what it was given.
    outlived: AtomicBool,
    closed: Notify,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    appends: VecDeque<Append>,
    settled: Vec<(u64, Amount)>,
    /// To be kept before anything that was settled after them.
    dead: Vec<(Telemetry, Reason)>,
    hungry: bool,
    closing: bool,
    /// The thread has ended.
    is_over: bool,
}

/// Telemetry that shall be written.
pub struct Append {
    pub telemetry: Telemetry,
    /// Set when the queue has it already: what to tell once it is written.
    pub spooled: Option<Arc<super::spool::Spooled>>,
}

impl Append {
    fn record(&self) -> (SmallVec<[Bytes; 1]>, u32, u64) {
        let parts = self.telemetry.parts.iter().map(|part| part.bytes.clone()).collect();
        let items = u32::try_from(self.telemetry.items()).unwrap_or(u32::MAX);
        let received = self.telemetry.received.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        (parts, items, u64::try_from(received.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// For a log that is made: no other has it.
pub fn identity() -> Identity {
    std::array::from_fn(|_| (super::backoff::random() * 256.0) as u8)
}

impl Store {
    /// Takes the directory and opens the log in it; where it cannot be read now, [`run`] tries again.
    pub fn open(path: &Path, limits: Limits, wait: Duration) -> Result<(Arc<Store>, Opened), String> {
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
        };
        if let Ok((log, found)) = &opened {
            store.begin(log, found);
        }
        Ok((Arc::new(store), opened))
    }

    /// The log is open.
    fn begin(&self, log: &DiskLog, found: &Found) {
        let waits = !found.waiting.is_zero();
        self.behind.store(waits, Relaxed);
        self.careful.store(waits, Relaxed);
        publish(self, log, false);
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for so many bytes.
    pub fn reserve(&self, bytes: u64) -> Result<(), Reason> {
        let after = self.used.load(Relaxed) + self.coming.load(Relaxed) + bytes;
        if self.failed.load(Relaxed) {
            return Err(Reason::DiskFailed);
        }
        if self.full.load(Relaxed) || after + self.limits.segment / 16 > self.limits.quota {
            return Err(Reason::DiskFull);
        }
        self.coming.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// How much of the quota is taken, by what is on its way too.
    pub fn fill(&self) -> Fill {
        let used = self.used.load(Relaxed) + self.coming.load(Relaxed);
        Fill { limit: "max_size of the queue on disk", used, most: self.limits.quota, unit: "bytes" }
    }

    /// For how many more bytes there is room, within the quota and on the filesystem.
    pub fn room(&self) -> u64 {
        let used = self.used.load(Relaxed) + self.coming.load(Relaxed);
        let free = space(&self.path).map_or(u64::MAX, |(_, free)| free.saturating_sub(self.limits.min_free));
        self.limits.quota.saturating_sub(used).min(free)
    }

    pub fn release(&self, bytes: u64) {
        self.coming.fetch_sub(bytes, Relaxed);
    }

    /// Hands in what shall be written; it comes back when nobody writes any more.
    #[must_use]
    pub fn append(&self, append: Append) -> Option<Append> {
        let mut inbox = self.lock();
        if inbox.is_over {
            return Some(append);
        }
        inbox.appends.push_back(append);
        drop(inbox);
        self.knock.notify_one();
        None
    }

    pub fn settle(&self, id: u64, amount: Amount) {
        let mut inbox = self.lock();
        inbox.settled.push((id, amount));
        let first = inbox.settled.len() == 1;
        drop(inbox);
        if first {
            self.knock.notify_one();
        }
    }

    /// Keeps what the upstream will never take.
    pub fn put_aside(&self, telemetry: Telemetry, reason: Reason) {
        if dead_letters::are_kept(reason) {
            self.lock().dead.push((telemetry, reason));
        }
    }

    pub fn is_behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    /// The queue has room again.
    pub fn ask(&self) {
        if self.is_behind() {
            self.lock().hungry = true;
            self.knock.notify_one();
        }
    }

    pub fn is_careful(&self) -> bool {
        self.careful.load(Relaxed)
    }

    /// An attempt came to its end, whatever it was.
    pub fn outlive(&self) {
        if self.is_careful() && !self.outlived.swap(true, Relaxed) {
            self.lock().hungry = true;
            self.knock.notify_one();
        }
    }

    /// Nothing more will be handed in: writes what there is, and waits until the log is closed.
    pub async fn close(&self) {
        self.lock().closing = true;
        self.knock.notify_one();
        loop {
            let closed = self.closed.notified();
            if self.is_closed.load(Relaxed) {
                return;
            }
            closed.await;
        }
    }

    /// The same without waiting.
    pub fn abandon(&self) {
        self.lock().closing = true;
        self.knock.notify_one();
    }

    /// Why it takes nothing, or gives nothing.
    pub fn trouble(&self) -> Option<Reason> {
        let is_failed = self.failed.load(Relaxed) || self.unreadable.load(Relaxed);
        is_failed.then_some(Reason::DiskFailed).or_else(|| self.full.load(Relaxed).then_some(Reason::DiskFull))
    }

    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Waits before the disk is tried again; whether to end.
    fn pause(&self) -> bool {
        let inbox = self.lock();
        let waited = self.knock.wait_timeout_while(inbox, PAUSE, |inbox| !inbox.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    /// Waits for something to do: a group, what was settled, and whether to end.
    fn work(&self, most: u64, patience: Duration) -> Work {
        let mut inbox = self.lock();
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
            inbox = self.knock.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inbox.hungry = false;
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(append) = inbox.appends.front() {
            // What the queue has already and what it has not are not written together.
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
        Work { group, dead, settled, closing }
    }
}

/// What the thread does in one round.
struct Work {
    group: Vec<Append>,
    dead: Vec<(Telemetry, Reason)>,
    settled: Vec<(u64, Amount)>,
    closing: bool,
}

/// The thread: until the queue is gone or closes it.
pub fn run(watch: &Watch, store: &Arc<Store>, opened: Opened, letters: DeadLetters, queue: &Weak<Queue>) {
    let _end = End { store, queue };
    if let Some(log) = open(store, opened, queue) {
        keep(watch, store, log, letters, queue);
    }
}

/// Until it can be read, or the end.
fn open(store: &Store, mut opened: Opened, queue: &Weak<Queue>) -> Option<DiskLog> {
    let mut is_said = false;
    loop {
        let (opening, error) = match opened {
            Ok((log, found)) if is_said => {
                let queue = queue.upgrade()?;
                tracing::info!(exporter = %queue.account.exporter, "the queue on disk can be read");
                queue.take_up(&found);
                store.begin(&log, &found);
                return Some(log);
            }
            Ok((log, _)) => return Some(log),
            Err(held) => held,
        };
        if !is_said {
            tracing::error!(exporter = %queue.upgrade()?.account.exporter, queue = %store.path.display(), %error,
                "cannot read the queue on disk: nothing is accepted into it until it can be read; tried again every {} s", PAUSE.as_secs());
            is_said = true;
        }
        if store.pause() {
            tracing::warn!(queue = %store.path.display(), "the queue on disk could not be read in this run: all of it is left there");
            return None;
        }
        opened = opening.attempt();
    }
}

fn keep(watch: &Watch, store: &Arc<Store>, mut log: DiskLog, mut letters: DeadLetters, queue: &Weak<Queue>) {
    let first = log.next_id();
    let most = GROUP.min(store.limits.segment);
    let (mut lost, mut removals) = (Amount::default(), 0);
    let (mut patience, mut is_closing) = (Duration::ZERO, false);
    let (said, said_failure, mut failures) = (Said::default(), Said::default(), 0);
    let mut care = Care::new(&log);
    while !is_closing {
        watch.look();
        let Work { group, dead, settled, closing } = store.work(most, patience);
        is_closing = closing;
        if let Err(error) = if dead.is_empty() { Ok(()) } else { letters.put(&dead) } {
            said.now_and_then(|| tracing::error!(%error, "cannot keep what the upstream rejected"));
        }
        drop(dead);
        settled.into_iter().for_each(|(id, amount)| log.settle(id, amount));
        let Some(queue) = queue.upgrade() else { break };
        if !group.is_empty() {
            write(store, &mut log, &queue, group, &said);
        }
        store.behind.store(!log.is_caught_up(), Relaxed);
        let mut read = 0;
        if store.is_careful() {
            care.look(store, &mut log);
        }
        while read < READ_AT_ONCE && !is_closing && queue.has_room() && !(store.is_careful() && care.waits(store)) {
            let Some(record) = log.read_next() else { break };
            let (id, amount) = (record.id, record.amount);
            let telemetry = from_disk(&queue, store, first, record);
            read += 1;
            if !store.is_careful() || care.sends(store, &mut log, id) {
                queue.feed(telemetry);
                continue;
            }
            tracing::error!(exporter = %queue.account.exporter, dropped_items = amount.items,
                "the process ended {RUNS} times while it sent this record: it is put aside with the dead letters");
            if let Err(error) = letters.put(&[(telemetry.share(), Reason::Internal)]) {
                tracing::error!(%error, "cannot keep it");
            }
            queue.let_go_of(amount);
            queue.account.lose(Reason::Internal, &telemetry);
            let mut telemetry = telemetry;
            telemetry.resolve(Ok(()));
        }
        if read == READ_AT_ONCE {
            store.lock().hungry = true;
        }
        store.behind.store(!log.is_caught_up(), Relaxed);
        say_reading(store, &mut log, &queue);
        let ticked = log.tick();
        let (newly, is_removed) = (log.lost() - lost, log.removals() > removals);
        (lost, removals) = (log.lost(), log.removals());
        if !newly.is_zero() || is_removed {
            let what = match is_removed {
                true => {
                    "files of the queue were removed while it was in use: what was still open is put back, the rest is lost"
                }
                false => "the queue on disk is damaged: what does not verify, or cannot be read, was skipped",
            };
            tracing::error!(exporter = %queue.account.exporter, queue = %store.path.display(), dropped_items = newly.items,
                bytes = newly.bytes, "{what}");
            queue.let_go_of(newly);
            queue.account.drop_items(Reason::Quarantined, newly.items);
            queue.account.bill.drop_unknown(newly.items);
        }
        failures = if ticked.is_ok() { 0 } else { failures + 1 };
        if let Err(error) = ticked.or_else(|error| if is_removed { Ok(()) } else { Err(error) }) {
            said_failure.now_and_then(|| {
                tracing::error!(exporter = %queue.account.exporter, queue = %store.path.display(),
                %error, "cannot write what was settled: it may be sent again")
            });
        }
        publish(store, &log, failures > 1);
        patience = if failures > 0 || log.is_unsettled() || log.is_paused() || !log.waiting().is_zero() {
            IDLE
        } else {
            Duration::from_secs(3600)
        };
    }
    if let Err(error) = log.flush() {
        tracing::error!(%error, "cannot write what was settled: it will be sent again");
    }
    log.attempt(None);
    drop(log);
}

/// The beginning of a run, in which one record after another shows that sending it does not end the process. After a run
/// that ended by itself the first will do.
struct Care {
    attempts: Attempts,
    is_under_way: bool,
    left: usize,
    until: Instant,
}

impl Care {
    fn new(log: &DiskLog) -> Care {
        let attempts = log.attempts();
        log.attempt(Some(attempts.unwrap_or_default()));
        let left = if attempts.is_some() { ONE_BY_ONE } else { 1 };
        Care { attempts: attempts.unwrap_or_default(), is_under_way: false, left, until: Instant::now() + CAREFUL }
    }

    /// Whether a record shall be sent; it is under way from now on.
    fn sends(&mut self, store: &Store, log: &mut DiskLog, id: u64) -> bool {
        let runs = if self.attempts.id == id { self.attempts.runs } else { 0 };
        let is_sent = runs < RUNS;
        self.attempts = if is_sent { Attempts { id, runs: runs + 1 } } else { Attempts::default() };
        // Those before it must not come first again.
        let _ = log.tick();
        log.attempt(Some(self.attempts));
        store.outlived.store(false, Relaxed);
        self.is_under_way = is_sent;
        self.left = self.left.saturating_sub(1);
        is_sent
    }

    /// Whether the one under way has no end yet: its place is free a moment before.
    fn waits(&self, store: &Store) -> bool {
        self.is_under_way && !store.outlived.load(Relaxed) && Instant::now() < self.until
    }

    /// What was under way did no harm, or has been for long enough; and enough of them have.
    fn look(&mut self, store: &Store, log: &mut DiskLog) {
        let is_late = Instant::now() >= self.until;
        if store.outlived.swap(false, Relaxed) || is_late {
            self.attempts = Attempts::default();
            self.is_under_way = false;
            log.attempt(Some(self.attempts));
            if self.left == 0 || is_late || log.is_caught_up() {
                store.careful.store(false, Relaxed);
                store.lock().hungry = true;
            }
        }
    }
}

/// However the thread ends, nobody waits for it afterwards.
struct End<'a> {
    store: &'a Arc<Store>,
    queue: &'a Weak<Queue>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let End { store, queue } = self;
        store.failed.store(true, Relaxed);
        let mut inbox = store.lock();
        inbox.is_over = true;
        let appends = std::mem::take(&mut inbox.appends);
        drop(inbox);
        if let Some(queue) = queue.upgrade() {
            appends.into_iter().for_each(|append| queue.not_written(append, Reason::DiskFailed));
        }
        store.is_closed.store(true, Relaxed);
        store.closed.notify_waiters();
    }
}

fn publish(store: &Store, log: &DiskLog, is_failing: bool) {
    let used = log.used();
    store.used.store(used, Relaxed);
    // Full until a tenth is free again, so that it does not flap.
    if used < store.limits.quota / 10 * 9 && !log.is_paused() {
        store.full.store(false, Relaxed);
    }
    store.failed.store(is_failing || log.is_failed() && log.is_paused(), Relaxed);
}

/// Says once that reading fails, that it works again, and what is given up.
fn say_reading(store: &Store, log: &mut DiskLog, queue: &Queue) {
    let (exporter, path) = (&queue.account.exporter, store.path.display());
    for file in log.take_kept() {
        tracing::error!(%exporter, queue = %path, file,
            "the file cannot be read while others can: it is kept as *{UNREADABLE}, and what cannot be read of it is dropped");
    }
    match (log.hold(), store.unreadable.swap(log.hold().is_some(), Relaxed)) {
        (Some(Hold { file, error, .. }), false) => tracing::error!(%exporter, queue = %path, file, error,
            "cannot read the queue on disk: what waits there is held; tried again every {} s", PAUSE.as_secs()),
        (None, true) => tracing::info!(%exporter, "the queue on disk can be read again"),
        _ => {}
    }
}

/// Writes one group; then, and only then, its clients hear of it.
fn write(store: &Arc<Store>, log: &mut DiskLog, queue: &Arc<Queue>, group: Vec<Append>, said: &Said) {
    let records: Vec<_> = group.iter().map(Append::record).collect();
    let new = records.iter().map(|(parts, items, received)| NewRecord {
        kind: 0,
        items: *items,
        received_nanos: *received,
        parts,
    });
    let new: Vec<_> = new.collect();
    let bytes: u64 = group.iter().map(|append| append.telemetry.bytes() as u64).sum();
    let spooled = group.iter().any(|append| append.spooled.is_some());
    // A group is in the queue already, or goes there now as a whole, or waits for its turn.
    let in_hand = spooled || log.is_caught_up() && queue.has_room_for(bytes);
    let removals = log.removals();
    let outcome = log.append(&new, in_hand);
    drop(new);
    drop(records);
    if !spooled {
        store.release(bytes);
    }
    match outcome {
        Ok(first) => {
            for (id, Append { mut telemetry, spooled }) in (first..).zip(group) {
                let amount = Amount { records: 1, items: telemetry.items(), bytes: telemetry.bytes() as u64 };
                if let Some(spooled) = spooled {
                    spooled.written(store, id, amount);
                    continue;
                }
                telemetry.resolve(Ok(()));
                if in_hand {
                    telemetry.tickets.push(settling(store, id, amount));
                    queue.feed(telemetry);
                }
            }
        }
        Err(error) => {
            if log.removals() == removals {
                said.now_and_then(|| {
                    tracing::error!(exporter = %queue.account.exporter,
                    queue = %store.path.display(), %error, "cannot write to the queue")
                });
            }
            let reason = match error {
                AppendError::Io(_) => Reason::DiskFailed,
                AppendError::Paused if log.is_failed() => Reason::DiskFailed,
                _ => Reason::DiskFull,
            };
            store.full.store(reason == Reason::DiskFull, Relaxed);
            group.into_iter().for_each(|append| queue.not_written(append, reason));
        }
    }
}

/// A ticket that settles the record when the last piece of it has its outcome. Without one it is sent again.
fn settling(store: &Arc<Store>, id: u64, amount: Amount) -> Ticket {
    let store = store.clone();
    Ticket::calling(move |outcome| {
        if outcome.is_some() {
            store.settle(id, amount);
        }
    })
}

/// A record that was read back; one before `first` is of an earlier run.
fn from_disk(queue: &Queue, store: &Arc<Store>, first: u64, record: Record) -> Telemetry {
    let Record { id, amount, payload, received_nanos, .. } = record;
    let charge = Charge::held(&queue.budget, Share::Queue, 0);
    charge.add(amount.bytes);
    let items = u32::try_from(amount.items).unwrap_or(u32::MAX);
    let wall = UNIX_EPOCH.checked_add(Duration::from_nanos(received_nanos)).unwrap_or_else(SystemTime::now);
    let telemetry = Telemetry {
        signal: queue.signal,
        parts: SmallVec::from_iter([Part { bytes: Bytes::from(payload), items, charge }]),
        client: None,
        received: Now { instant: clock(), wall },
        tickets: SmallVec::from_iter([settling(store, id, amount)]),
    };
    if id < first {
        queue.account.bill.recognise(&Tally::of(&telemetry));
    }
    telemetry
}

impl Queue {
    /// Refuses what cannot be written; it is lost where its client was answered before.
    pub(super) fn not_written(&self, append: Append, reason: Reason) {
        let Append { mut telemetry, spooled } = append;
        if let Some(spooled) = spooled {
            return spooled.not_written();
        }
        let amount = Amount { records: 1, items: telemetry.items(), bytes: telemetry.bytes() as u64 };
        self.let_go_of(amount);
        if telemetry.tickets.is_empty() {
            self.enqueue_failed.fetch_add(amount.items, Relaxed);
            self.account.lose(reason, &telemetry);
        } else {
            self.account.give_back(&telemetry);
        }
        telemetry.resolve(Err(&Refusal::Busy { after: AFTER, reason, fill: None }));
    }

    /// What is not in the log any more, or never got there.
    fn let_go_of(&self, amount: Amount) {
        self.let_go(amount.items);
        self.arrive(0, self.size_of_amount(amount), 0, 0);
    }
}
