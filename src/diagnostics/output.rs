//! The output behind `debug` and behind our own log: a bounded queue, and a thread that formats its jobs and writes the
//! text to stdout, stderr or files. A slow or missing reader costs lines, but never blocks the pipeline.
//!
//! Text is formatted while it is written, a piece at a time (`output/page.rs`): it can be a thousand times its input.

mod page;
mod sink;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use super::supervisor::Watch;
use crate::telemetry::Signal;

pub use page::{PIECE, Page, Pen};
pub use sink::Sink;

/// A job of at most this fraction of the queue is small: it need not wait behind larger ones.
const FEW: usize = 64;

/// The writer's stack: values nest 64 levels deep, with a few calls each.
const STACK: usize = 2 << 20;

/// Records by signal; owners without signals count all as one.
pub type Counts = [u64; Signal::ALL.len()];

/// The outcome of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Written,
    /// Lost in an error, a panic, or the shutdown.
    Lost,
    /// Excluded by a rule.
    LeftOut,
}

/// Why records were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The queue is full, because its reader is slow.
    Slow,
    /// The budget has no memory for them.
    Memory,
}

/// The component whose text is written.
pub trait Owner: Send + Sync {
    /// Receives the outcome of accepted records. Called under a lock.
    fn settle(&self, records: Counts, outcome: Outcome);

    /// The text about records that were not accepted, written when there is room again.
    fn notice(&self, lost: Counts, why: Why, output: &str) -> String;
}

/// Formats an output's jobs, on its thread.
pub trait Printer: Send + 'static {
    type Job: Send + 'static;

    /// Prints a job, and counts its records on the page together with their text, now or later.
    fn print(&mut self, job: Self::Job, records: Counts, page: &mut Page<'_, Self>);

    /// When the printer has something to print without a job.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Prints due text; at the end, everything it holds.
    fn print_due(&mut self, _is_end: bool, _page: &mut Page<'_, Self>) {}

    /// Discards everything it holds after a panic: those records are lost.
    fn reset(&mut self) {}
}

/// Prints text that is already formatted.
pub struct Plain;

impl Printer for Plain {
    type Job = Vec<u8>;

    fn print(&mut self, text: Vec<u8>, records: Counts, page: &mut Page<'_, Plain>) {
        page.text.extend_from_slice(&text);
        page.pen.count(records);
        page.pen.breathe(&mut page.text);
    }
}

/// A handle on the writer, whose thread ends when the handle is closed or dropped.
pub struct Output<P: Printer> {
    shared: Arc<Shared<P>>,
}

/// The state that handles share with the writer thread. `state` guards the queue and all counts: `queued + in_hand +
/// reserved` covers all jobs, promised ones included, and `waiting` holds exactly the accepted records whose outcome the owner
/// does not know. No text is formatted or written under the lock. The atomics describe the current write, for observers
/// without the lock.
struct Shared<P: Printer + ?Sized> {
    name: String,
    owner: Box<dyn Owner>,
    limit: usize,
    state: Mutex<State<P::Job>>,
    /// Signals work, or the end.
    work: Condvar,
    /// Signals that the thread has ended.
    done: Condvar,
    room: Notify,
    start: Instant,
    /// When bytes were last written, in milliseconds after `start`.
    progress: AtomicU64,
    /// Whether a write is in progress.
    writing: AtomicBool,
    /// Whether no sink is left.
    closed: AtomicBool,
}

struct State<J> {
    queue: VecDeque<Chunk<J>>,
    /// Bytes in the queue, in the writer's hands, and reserved for coming jobs; and the number of large jobs that are
    /// coming.
    queued: usize,
    in_hand: usize,
    reserved: usize,
    large: usize,
    /// Records in the queue and in the writer's hands, whose outcome the owner does not know yet.
    waiting: Counts,
    /// Records that were not accepted and not reported yet.
    unsaid: Unsaid,
    closing: bool,
    /// Set when closing timed out: the rest is counted as lost.
    abandoned: bool,
    done: bool,
}

struct Chunk<J> {
    job: J,
    bytes: usize,
    records: Counts,
    /// Refused records to report before it.
    unsaid: Unsaid,
}

type Unsaid = [(Why, Counts); 2];

const NOTHING: Unsaid = [(Why::Slow, [0; Signal::ALL.len()]), (Why::Memory, [0; Signal::ALL.len()])];

/// The next work of the thread.
enum Work<J> {
    Chunk(Chunk<J>),
    Due,
}

impl<P: Printer> Output<P> {
    /// Starts the writer; `watch` reports its panics.
    pub fn start(
        sinks: Vec<Sink>,
        limit: usize,
        owner: Box<dyn Owner>,
        printer: P,
        watch: Option<Watch>,
    ) -> io::Result<Output<P>> {
        let name = sinks.iter().map(Sink::name).collect::<Vec<_>>().join(", ");
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            in_hand: 0,
            reserved: 0,
            large: 0,
            waiting: Counts::default(),
            unsaid: NOTHING,
            closing: false,
            abandoned: false,
            done: false,
        };
        let shared = Arc::new(Shared {
            name: name.clone(),
            owner,
            limit,
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            room: Notify::new(),
            start: Instant::now(),
            progress: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            closed: AtomicBool::new(sinks.is_empty()),
        });
        let writer = shared.clone();
        let run = move || {
            let _end = End(&*writer);
            writer.run(printer, sinks, watch.as_ref());
        };
        thread::Builder::new().name(format!("to {name}")).stack_size(STACK).spawn(run)?;
        Ok(Output { shared })
    }

    /// Gives the writer a job of `bytes`; never blocks. The current job does not count towards the limit, except for a
    /// job larger than the queue, which is taken only when there is no other. Returns false if the job was not taken,
    /// because the queue is full or no sink is left; its owner then gets no outcome.
    pub fn offer(&self, job: P::Job, bytes: usize, records: Counts) -> bool {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = shared.state.lock();
        if state.closing {
            return false;
        }
        if state.buffered() > 0 && state.queued + bytes > shared.limit {
            state.miss(Why::Slow, records);
            return false;
        }
        if state.buffered() == 0 {
            shared.note_progress();
        }
        add(&mut state.waiting, records);
        state.queued += bytes;
        let unsaid = std::mem::replace(&mut state.unsaid, NOTHING);
        state.queue.push_back(Chunk { job, bytes, records, unsaid });
        drop(state);
        shared.work.notify_one();
        true
    }

    /// Reports records that could not be offered.
    pub(crate) fn miss(&self, why: Why, records: Counts) {
        self.shared.state.lock().miss(why, records);
        self.shared.work.notify_one();
    }

    pub fn buffered_bytes(&self) -> usize {
        self.shared.state.lock().buffered()
    }

    /// Reserves room for `bytes` until [`Output::release`]. Returns false if the job should wait: the queued jobs,
    /// without the current one, fill half of the queue, or for a small job three quarters. A large job waits until
    /// there is no other, and keeps out no other job.
    pub fn reserve(&self, bytes: usize) -> bool {
        let (mut state, limit, is_large) = (self.shared.state.lock(), self.shared.limit, self.is_large(bytes));
        let waiting = state.queued + state.reserved;
        let has_room = match bytes {
            _ if is_large => waiting + state.in_hand + state.large == 0,
            _ if bytes <= limit / FEW => waiting + bytes <= limit / 4 * 3,
            _ => waiting + bytes <= limit / 2,
        };
        if has_room {
            state.keep(bytes, is_large);
        }
        has_room
    }

    /// The same for a job that has waited long enough, regardless of room.
    pub(crate) fn reserve_anyway(&self, bytes: usize) {
        self.shared.state.lock().keep(bytes, self.is_large(bytes));
    }

    /// Releases a reservation: the job is about to be offered, or is not coming.
    pub fn release(&self, bytes: usize) {
        let mut state = self.shared.state.lock();
        match self.is_large(bytes) {
            true => state.large -= 1,
            false => state.reserved -= bytes,
        }
    }

    /// Whether a job needs the queue for itself.
    pub(crate) fn is_large(&self, bytes: usize) -> bool {
        bytes > self.shared.limit / 2
    }

    /// Whether the writer has ended without being closed.
    pub fn has_failed(&self) -> bool {
        let state = self.shared.state.lock();
        state.done && !state.closing
    }

    /// Records accepted and not written yet.
    pub fn waiting(&self) -> Counts {
        self.shared.state.lock().waiting
    }

    /// Whether there is nothing to write, or something was written within this time.
    pub fn progressing(&self, within: Duration) -> bool {
        let last = Duration::from_millis(self.shared.progress.load(Ordering::Relaxed));
        self.buffered_bytes() == 0 || self.shared.start.elapsed().saturating_sub(last) <= within
    }

    /// Whether it is formatting rather than waiting for its reader.
    pub(crate) fn is_printing(&self) -> bool {
        !self.shared.writing.load(Ordering::Relaxed)
    }

    /// Notified when a job has left the queue or was written, and at most a quarter of the queue waits, so that the
    /// room lasts. Enable the future, offer, then await it, to miss no notification.
    pub fn room(&self) -> &Notify {
        &self.shared.room
    }

    /// Writes queued text for at most this long; blocks. Returns how many records are left: for their owner these are
    /// lost from now on, including the ones that the writer is about to write.
    pub fn close(&self, within: Duration) -> u64 {
        let mut state = self.shared.state.lock();
        state.closing = true;
        self.shared.work.notify_one();
        self.shared.done.wait_while_for(&mut state, |state| !state.done, within);
        state.abandoned = true;
        state.queue.clear();
        state.queued = 0;
        let left = std::mem::take(&mut state.waiting);
        self.shared.owner.settle(left, Outcome::Lost);
        left.iter().sum()
    }
}

impl<P: Printer> Drop for Output<P> {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl<J> State<J> {
    fn buffered(&self) -> usize {
        self.queued + self.in_hand
    }

    fn keep(&mut self, bytes: usize, is_large: bool) {
        match is_large {
            true => self.large += 1,
            false => self.reserved += bytes,
        }
    }

    fn miss(&mut self, why: Why, records: Counts) {
        self.unsaid.iter_mut().filter(|(of, _)| *of == why).for_each(|(_, sum)| add(sum, records));
    }
}

/// Ensures that after the thread ends, for whatever reason, nothing waits for it and no more jobs are accepted.
struct End<'a, P: Printer>(&'a Shared<P>);

impl<P: Printer> Drop for End<'_, P> {
    fn drop(&mut self) {
        let End(shared) = self;
        shared.closed.store(true, Ordering::Relaxed);
        let mut state = shared.state.lock();
        (state.done, state.abandoned) = (true, true);
        (state.queued, state.in_hand) = (0, 0);
        state.queue.clear();
        let lost = std::mem::take(&mut state.waiting);
        shared.owner.settle(lost, Outcome::Lost);
        drop(state);
        shared.done.notify_all();
        shared.room.notify_waiters();
    }
}

impl<P: Printer> Shared<P> {
    fn tell_of_room(&self, state: MutexGuard<'_, State<P::Job>>) {
        let has_room = state.queued <= self.limit / 4;
        drop(state);
        if has_room {
            self.room.notify_waiters();
        }
    }

    fn note_progress(&self) {
        self.progress.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The notices about refused records.
    fn notices(&self, unsaid: &Unsaid) -> String {
        let lost = unsaid.iter().filter(|(_, records)| records.iter().any(|records| *records > 0));
        lost.map(|(why, records)| self.owner.notice(*records, *why, &self.name)).collect()
    }

    /// Runs the thread.
    fn run(&self, mut printer: P, sinks: Vec<Sink>, watch: Option<&Watch>) {
        let mut page = Page { text: Vec::new(), pen: Pen::new(self, sinks) };
        while let Some(work) = self.next(&mut page, printer.due()) {
            watch.iter().for_each(|watch| watch.look());
            let mut bytes = 0;
            let print = AssertUnwindSafe(|| match work {
                Work::Due => printer.print_due(false, &mut page),
                Work::Chunk(chunk) => {
                    bytes = chunk.bytes;
                    page.text.extend_from_slice(self.notices(&chunk.unsaid).as_bytes());
                    printer.print(chunk.job, chunk.records, &mut page);
                }
            });
            if catch_unwind(print).is_err() {
                printer.reset();
                page.forget();
                self.lose();
            }
            page.pen.done_with(bytes);
        }
        if !self.state.lock().abandoned {
            // Records left unwritten by a panic are counted as lost when the output is closed.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                printer.print_due(true, &mut page);
                page.write();
            }));
        }
    }

    /// Waits for work; writes the page before the thread goes idle.
    fn next(&self, page: &mut Page<P>, due: Option<Instant>) -> Option<Work<P::Job>> {
        loop {
            let mut state = self.state.lock();
            if state.abandoned {
                return None;
            }
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Some(Work::Due);
            }
            if let Some(chunk) = state.queue.pop_front() {
                state.queued -= chunk.bytes;
                state.in_hand += chunk.bytes;
                self.tell_of_room(state);
                return Some(Work::Chunk(chunk));
            }
            if !page.is_empty() {
                drop(state);
                page.write();
            } else if state.unsaid != NOTHING {
                page.own_up(&mut state);
            } else if state.closing {
                return None;
            } else if let Some(left) = left {
                self.work.wait_for(&mut state, left);
            } else {
                self.work.wait(&mut state);
            }
        }
    }

    /// After a panic, counts all records that are no longer queued as lost.
    fn lose(&self) {
        let mut state = self.state.lock();
        if state.abandoned {
            return;
        }
        let mut queued = Counts::default();
        state.queue.iter().for_each(|chunk| add(&mut queued, chunk.records));
        let waiting = std::mem::replace(&mut state.waiting, queued);
        let mut lost = waiting;
        lost.iter_mut().zip(queued).for_each(|(lost, queued)| *lost -= queued);
        self.owner.settle(lost, Outcome::Lost);
        // This thread may be the one that writes the log.
        drop(state);
        let records = lost.iter().sum::<u64>();
        tracing::error!(output = %self.name, records, "cannot print records because of an internal error, discarding them");
    }
}

fn add(sum: &mut Counts, more: Counts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
