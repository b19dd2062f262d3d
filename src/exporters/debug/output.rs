//! What stands behind `output_paths`: a thread that writes rendered chunks to stdout, stderr or files, and the bounded
//! buffer before it. A reader that is slow or gone costs lines, never the pipeline.

#![expect(clippy::indexing_slicing, reason = "arrays of one entry a signal, indexed by it")]

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::telemetry::Signal;

pub const DEFAULT_BUFFER_BYTES: usize = 4 << 20;
/// What one write may take before progress is noted: a pipe's capacity.
const WRITE_BYTES: usize = 64 << 10;
/// Written buffers kept for the next chunks, and the largest worth keeping.
const SPARES: usize = 2;
const SPARE_BYTES: usize = 256 << 10;

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
                Sink::new(path, OpenOptions::new().append(true).create(true).open(file)?)
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
                    tracing::warn!(output = %self.name, %error, "cannot write the debug output, discarding it");
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
    /// Records lost to a full buffer and not yet owned up to, by signal.
    unsaid: [u64; Signal::ALL.len()],
    spares: Vec<Vec<u8>>,
    closing: bool,
    done: bool,
}

struct Chunk {
    text: Vec<u8>,
    records: u64,
}

impl Output {
    /// Opens what `output_paths` names and starts the writer.
    pub fn open(paths: &[impl AsRef<str>], buffer_bytes: usize) -> io::Result<Output> {
        let open = |path: &str| {
            Sink::open(path)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot open the debug output {path}: {error}")))
        };
        Output::start(paths.iter().map(|path| open(path.as_ref())).collect::<io::Result<_>>()?, buffer_bytes)
    }

    pub fn start(sinks: Vec<Sink>, buffer_bytes: usize) -> io::Result<Output> {
        let shared = Arc::new(Shared {
            name: sinks.iter().map(|sink| &*sink.name).collect::<Vec<_>>().join(", "),
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
        thread::Builder::new().name("debug-output".into()).spawn(move || writer.write(sinks))?;
        Ok(Output { shared })
    }

    /// Gives a chunk to the writer; never blocks. A chunk larger than the whole buffer is taken when it is empty. False
    /// when it was dropped: the buffer is full, or nobody will ever read it.
    pub fn offer(&self, text: Vec<u8>, signal: Signal, records: u64) -> bool {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = shared.lock();
        if state.buffered > 0 && state.buffered + text.len() > shared.limit {
            state.unsaid[signal as usize] += records;
            return false;
        }
        if state.buffered == 0 {
            shared.note_progress();
        }
        if let Some(notice) = notice(std::mem::take(&mut state.unsaid), &shared.name) {
            state.push(Chunk { text: notice.into_bytes(), records: 0 });
        }
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

    /// Whether there is nothing to write, or some was written within this time.
    pub fn progressing(&self, within: Duration) -> bool {
        let last = Duration::from_millis(self.shared.progress.load(Ordering::Relaxed));
        self.buffered_bytes() == 0 || self.shared.start.elapsed().saturating_sub(last) <= within
    }

    /// Notified whenever bytes have left the buffer. Enable the future, offer, then await it, lest a notice is missed.
    pub fn room(&self) -> &Notify {
        &self.shared.room
    }

    /// Writes what is buffered, for at most this long; blocks. Returns how many records are left, and lost with the process.
    pub fn close(&self, within: Duration) -> u64 {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_one();
        let waiting = self.shared.done.wait_timeout_while(state, within, |state| !state.done);
        let (state, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        state.queue.iter().map(|chunk| chunk.records).sum()
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
                last.records += chunk.records;
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

    /// The thread's life.
    fn write(&self, mut sinks: Vec<Sink>) {
        while let Some(chunk) = self.next() {
            let taken = sinks.iter_mut().map(|sink| sink.write(&chunk.text, &|| self.note_progress()));
            if !taken.fold(false, |any, taken| any | taken) {
                self.closed.store(sinks.iter().all(|sink| sink.writer.is_none()), Ordering::Relaxed);
            }
            let mut state = self.lock();
            state.buffered -= chunk.text.len();
            state.keep(chunk.text);
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

fn notice(unsaid: [u64; Signal::ALL.len()], name: &str) -> Option<String> {
    let lost = Signal::ALL.into_iter().zip(unsaid).filter(|(_, count)| *count > 0);
    let lost = lost.map(|(signal, count)| {
        let words = signal.items_words();
        format!("{count} {}", if count == 1 { words.trim_end_matches('s') } else { words })
    });
    let lost = lost.collect::<Vec<_>>().join(", ");
    let verb = if unsaid.iter().sum::<u64>() == 1 { "was" } else { "were" };
    (!lost.is_empty()).then(|| format!("… {lost} {verb} not printed: the reader of {name} is too slow\n"))
}
