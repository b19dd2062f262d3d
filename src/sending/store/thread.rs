//! The log's own thread.
//!
//! While one sync runs, the next group gathers. Records just written continue from memory while the queue has room; the
//! others are read back when their turn comes, so a backlog costs no memory.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use crate::diagnostics::supervisor::Watch;
use crate::telemetry::{Charge, Now, Part, Reason, Said, Share, Tally, Telemetry, Ticket, clock};

use super::super::Queue;
use super::super::dead_letters::DeadLetters;
use super::super::disk::attempts::Attempts;
use super::super::disk::hold::PAUSE;
use super::super::disk::survey::UNREADABLE;
use super::super::disk::{Amount, AppendError, GROUP, Hold, NewRecord, Record};
use super::{Append, DiskLog, Opened, Round, Store, publish};

const IDLE: Duration = Duration::from_secs(1);
/// Records read back between two groups.
const READ_AT_ONCE: usize = 64;
/// A record in flight when this many runs ended is set aside.
const RUNS: u64 = 3;
/// After a run that did not end cleanly, this many records are sent one by one, for at most this long.
const ONE_BY_ONE: usize = 256;
const CAREFUL: Duration = Duration::from_secs(10);

/// Runs until the queue is gone or closes the log.
pub(super) fn run(watch: &Watch, store: &Arc<Store>, opened: Opened, letters: DeadLetters, queue: &Weak<Queue>) {
    let _end = End { store, queue };
    if let Some(log) = open(store, opened, queue) {
        keep(watch, store, log, letters, queue);
    }
}

/// Retries until the log can be read, or until shutdown.
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
        let Round { group, dead, settled, closing } = store.work(most, patience);
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
        while read < READ_AT_ONCE && !is_closing && queue.has_room(store) && !(store.is_careful() && care.waits(store))
        {
            let Some(record) = log.read_next() else { break };
            let (id, amount) = (record.id, record.amount);
            let telemetry = read_back(&queue, store, first, record);
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
            store.inbox.lock().hungry = true;
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

/// The start of a run: records are sent one by one until enough have proved that sending them does not crash the
/// process. After a clean end, one is enough.
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

    /// Whether a record may be sent; it is then stored as in flight.
    fn sends(&mut self, store: &Store, log: &mut DiskLog, id: u64) -> bool {
        let runs = if self.attempts.id == id { self.attempts.runs } else { 0 };
        let is_sent = runs < RUNS;
        self.attempts = if is_sent { Attempts { id, runs: runs + 1 } } else { Attempts::default() };
        // Records before it must not come first again.
        let _ = log.tick();
        log.attempt(Some(self.attempts));
        store.outlived.store(false, Relaxed);
        self.is_under_way = is_sent;
        self.left = self.left.saturating_sub(1);
        is_sent
    }

    /// Whether the record in flight has no outcome yet; its place becomes free a moment earlier.
    fn waits(&self, store: &Store) -> bool {
        self.is_under_way && !store.outlived.load(Relaxed) && Instant::now() < self.until
    }

    /// Ends the careful phase for the record in flight, or for all when enough survived.
    fn look(&mut self, store: &Store, log: &mut DiskLog) {
        let is_late = Instant::now() >= self.until;
        if store.outlived.swap(false, Relaxed) || is_late {
            self.attempts = Attempts::default();
            self.is_under_way = false;
            log.attempt(Some(self.attempts));
            if self.left == 0 || is_late || log.is_caught_up() {
                store.careful.store(false, Relaxed);
                store.inbox.lock().hungry = true;
            }
        }
    }
}

/// Ensures that nothing waits for the thread after it ends, for whatever reason.
struct End<'a> {
    store: &'a Arc<Store>,
    queue: &'a Weak<Queue>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let End { store, queue } = self;
        store.failed.store(true, Relaxed);
        let mut inbox = store.inbox.lock();
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

/// Logs once that reading fails, that it works again, and which files are given up.
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

/// Writes one group, then answers its clients.
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
    // A group either is in the queue already, enters it now as a whole, or waits for its turn.
    let in_hand = spooled || log.is_caught_up() && queue.has_room_for(store, bytes);
    let removals = log.removals();
    let outcome = log.append(&new, in_hand);
    drop(new);
    drop(records);
    if !spooled {
        store.give_back(bytes);
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

/// A ticket that settles the record when its last piece has an outcome. If it gets none, the record is sent again.
fn settling(store: &Arc<Store>, id: u64, amount: Amount) -> Ticket {
    let store = store.clone();
    Ticket::calling(move |outcome| {
        if outcome.is_some() {
            store.settle(id, amount);
        }
    })
}

/// Telemetry from a record read back; a record before `first` is from an earlier run.
fn read_back(queue: &Queue, store: &Arc<Store>, first: u64, record: Record) -> Telemetry {
    let Record { id, amount, payload, received_nanos, .. } = record;
    let charge = Charge::held(&queue.budget, Share::Queue, 0);
    charge.add(amount.bytes);
    let items = u32::try_from(amount.items).unwrap_or(u32::MAX);
    let wall = UNIX_EPOCH.checked_add(Duration::from_nanos(received_nanos)).unwrap_or_else(SystemTime::now);
    let telemetry = Telemetry {
        signal: queue.signal,
        parts: SmallVec::from_iter([Part::new(payload, items, charge)]),
        client: None,
        received: Now { instant: clock(), wall },
        tickets: settling(store, id, amount).into(),
    };
    if id < first {
        queue.account.bill.recognise(&Tally::of(&telemetry));
    }
    telemetry
}
