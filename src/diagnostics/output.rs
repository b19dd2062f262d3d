//! What stands behind `output_paths`, and behind our own log: a thread that writes chunks of text to stdout, stderr or
//! files, and the bounded buffer before it. A reader that is slow or gone costs lines, never the pipeline.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::files;
use crate::telemetry::Signal;

/// What one write may take before progress is noted: a pipe's capacity.
const WRITE_BYTES: usize = 64 << 10;
/// The writer's stack; it calls nothing that is deep.
const STACK: usize = 256 << 10;
/// Written buffers kept for the next chunks, and the largest worth keeping.
const SPARES: usize = 2;
const SPARE_BYTES: usize = 256 << 10;

/// Records by signal; whose records have none counts them all as one.
pub type Counts = [u64; Signal::ALL.len()];

/// Whose text it is.
pub trait Owner: Send + Sync {
    /// Hears what became of records that were taken: written, or lost to an error or to the end. Comes under a lock.
    fn settle(&self, records: Counts, is_written: bool);

    /// What is written when there is room again, about records that were refused for want of it.
    fn notice(&self, lost: Counts, output: &str) -> String;
}

pub struct Sink {
    name: String,
    writer: Option<Box<dyn Write + Send>>,
    failing: bool,
}

impl Sink {
    pub fn new(name: impl Into<String>, writer: impl Write + Send + 'static) -> Sink {
        Sink { name: name.into(), writer: Some(Box::new(writer)), failing: false }
    }

    /// `stdout`, `stderr`, or a file (a path or a `file://` URL) that is created or appended to.
    pub fn open(path: &str) -> io::Result<Sink> {
        Ok(match path {
            "stdout" => Sink::new(path, stdout()?),
            "stderr" => Sink::new(path, io::stderr()),
            _ => {
                let file = path.strip_prefix("file://").unwrap_or(path);
                Sink::new(path, files::append(Path::new(file))?)
            }
        })
    }

    /// Whether the whole chunk went out.
    fn write(&mut self, chunk: &[u8], progress: &dyn Fn()) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        match write_all(writer, chunk, progress) {
            Ok(()) => {
                self.failing = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(output = %self.name, %error, "cannot write to an output, discarding what is for it");
                }
                if error.kind() == ErrorKind::BrokenPipe {
                    self.writer = None;
                }
                false
            }
        }
    }
}

/// Without the line buffer of `io::stdout`: a chunk is one write.
#[cfg(unix)]
fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn stdout() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stdout())
}

/// `write_all` that notes progress, and waits where somebody else made our terminal or pipe non-blocking.
fn write_all(writer: &mut dyn Write, mut rest: &[u8], progress: &dyn Fn()) -> io::Result<()> {
    while !rest.is_empty() {
        match writer.write(rest.get(..WRITE_BYTES).unwrap_or(rest)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                progress();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            #[expect(clippy::disallowed_methods, reason = "the writer's thread is its own")]
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
    writer.flush()
}

/// A handle on the writer, whose thread ends when it is closed or dropped.
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    owner: Box<dyn Owner>,
    limit: usize,
    state: Mutex<State>,
    /// There is a chunk to write, or the end has come.
    work: Condvar,
    /// All was written and the thread is done.
    done: Condvar,
    room: Notify,
    start: Instant,
    /// When bytes were last written, in milliseconds after `start`.
    progress: AtomicU64,
    /// No sink is left.
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Chunk>,
    /// Bytes in the queue and in the hands of the writer.
    buffered: usize,
    /// What its owner has not heard of yet: the records in the queue and in the hands of the writer.
    waiting: Counts,
    /// Records lost to a full buffer and not yet owned up to.
    unsaid: Counts,
    spares: Vec<Vec<u8>>,
    closing: bool,
    /// Nobody waits any longer; what is still written counts as lost.
    abandoned: bool,
    done: bool,
}

struct Chunk {
    text: Vec<u8>,
    records: Counts,
}

impl Output {
    /// Starts the writer.
    pub fn start(sinks: Vec<Sink>, buffer_bytes: usize, owner: Box<dyn Owner>) -> io::Result<Output> {
        let name = sinks.iter().map(|sink| &*sink.name).collect::<Vec<_>>().join(", ");
        let shared = Arc::new(Shared {
            name: name.clone(),
            owner,
            limit: buffer_bytes,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            room: Notify::new(),
            start: Instant::now(),
            progress: AtomicU64::new(0),
            closed: AtomicBool::new(sinks.is_empty()),
        });
        let writer = shared.clone();
        thread::Builder::new().name(format!("to {name}")).stack_size(STACK).spawn(move || writer.write(sinks))?;
        Ok(Output { shared })
    }

    /// Gives a chunk to the writer; never blocks. A chunk larger than the whole buffer is taken when it is empty. False
    /// when it was dropped: the buffer is full, or nobody will ever read it; its owner hears no more of it.
    pub fn offer(&self, text: Vec<u8>, records: Counts) -> bool {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = shared.lock();
        if state.closing {
            return false;
        }
        if state.buffered > 0 && state.buffered + text.len() > shared.limit {
            add(&mut state.unsaid, records);
            return false;
        }
        if state.buffered == 0 {
            shared.note_progress();
        }
        shared.own_up(&mut state);
        add(&mut state.waiting, records);
        state.push(Chunk { text, records });
        drop(state);
        shared.work.notify_one();
        true
    }

    /// An empty buffer to render into, one that was written before where there is one.
    pub fn buffer(&self) -> Vec<u8> {
        self.shared.lock().spares.pop().unwrap_or_default()
    }

    pub fn buffered_bytes(&self) -> usize {
        self.shared.lock().buffered
    }

    /// Records that are taken and not written yet.
    pub fn waiting(&self) -> Counts {
        self.shared.lock().waiting
    }

    /// Whether there is nothing to write, or some was written within this time.
    pub fn progressing(&self, within: Duration) -> bool {
        let last = Duration::from_millis(self.shared.progress.load(Ordering::Relaxed));
        self.buffered_bytes() == 0 || self.shared.start.elapsed().saturating_sub(last) <= within
    }

    /// Notified whenever bytes have left the buffer. Enable the future, offer, then await it, lest a notice is missed.
    pub fn room(&self) -> &Notify {
        &self.shared.room
    }

    /// Writes what is buffered, for at most this long; blocks. Returns how many records are left: to their owner they are
    /// lost from now on, those that the writer is about to write too.
    pub fn close(&self, within: Duration) -> u64 {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_one();
        let waiting = self.shared.done.wait_timeout_while(state, within, |state| !state.done);
        let (mut state, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        state.abandoned = true;
        let left = std::mem::take(&mut state.waiting);
        self.shared.owner.settle(left, false);
        left.iter().sum()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl State {
    /// Small chunks are joined: fewer writes, and no small allocations that the byte limit does not see.
    fn push(&mut self, chunk: Chunk) {
        self.buffered += chunk.text.len();
        match self.queue.back_mut() {
            Some(last) if last.text.len() + chunk.text.len() <= WRITE_BYTES => {
                last.text.extend_from_slice(&chunk.text);
                add(&mut last.records, chunk.records);
                self.keep(chunk.text);
            }
            _ => self.queue.push_back(chunk),
        }
    }

    fn keep(&mut self, mut spare: Vec<u8>) {
        if self.spares.len() < SPARES && spare.capacity() <= SPARE_BYTES {
            spare.clear();
            self.spares.push(spare);
        }
    }
}

impl Shared {
    /// Every critical section leaves the state whole, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_progress(&self) {
        self.progress.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Puts what has to be said of lost records before whatever comes next.
    fn own_up(&self, state: &mut State) {
        let unsaid = std::mem::take(&mut state.unsaid);
        if unsaid.iter().any(|records| *records > 0) {
            let text = self.owner.notice(unsaid, &self.name).into_bytes();
            state.push(Chunk { text, records: Counts::default() });
        }
    }

    /// The thread's life.
    fn write(&self, mut sinks: Vec<Sink>) {
        while let Some(chunk) = self.next() {
            let taken = sinks.iter_mut().map(|sink| sink.write(&chunk.text, &|| self.note_progress()));
            let is_written = taken.fold(false, |any, taken| any | taken);
            if !is_written {
                self.closed.store(sinks.iter().all(|sink| sink.writer.is_none()), Ordering::Relaxed);
            }
            let mut state = self.lock();
            state.buffered -= chunk.text.len();
            state.keep(chunk.text);
            if !state.abandoned {
                state.waiting.iter_mut().zip(chunk.records).for_each(|(waiting, records)| *waiting -= records);
                self.owner.settle(chunk.records, is_written);
            }
            if state.queue.is_empty() {
                self.own_up(&mut state);
            }
            drop(state);
            self.room.notify_waiters();
        }
        self.lock().done = true;
        self.done.notify_all();
    }

    fn next(&self) -> Option<Chunk> {
        let idle = |state: &mut State| state.queue.is_empty() && !state.closing;
        let state = self.work.wait_while(self.lock(), idle);
        state.unwrap_or_else(PoisonError::into_inner).queue.pop_front()
    }
}

fn add(sum: &mut Counts, more: Counts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
