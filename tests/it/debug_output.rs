//! What stands behind `output_paths`: bounded, never in the way, and honest about what it drops.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use misaki::face::diagnostics::output::{Counts, Outcome, Output, Owner, Page, Plain, Printer, Sink, Why};
use misaki::face::exporters::Accounts;
use misaki::face::telemetry::Signal;

const LONG: Duration = Duration::from_secs(20);
const BUFFER: usize = 4 << 20;

/// Words of the debug exporter, and a book of what it heard: records that were written, and lost.
#[derive(Clone, Default)]
struct Book(Accounts, Arc<Mutex<[u64; 2]>>);

impl Owner for Book {
    fn settle(&self, records: Counts, outcome: Outcome) {
        self.1.lock().unwrap()[usize::from(outcome == Outcome::Lost)] += records.iter().sum::<u64>();
    }

    fn notice(&self, lost: Counts, why: Why, output: &str) -> String {
        self.0.notice(lost, why, output)
    }
}

fn of(signal: Signal, records: u64) -> Counts {
    Signal::ALL.map(|each| if each == signal { records } else { 0 })
}

/// A reader that can be paused, and that may fail.
#[derive(Clone, Default)]
struct Reader(Arc<(Mutex<Seen>, Condvar)>);

#[derive(Default)]
struct Seen {
    text: Vec<u8>,
    writes: usize,
    paused: bool,
    error: Option<ErrorKind>,
}

impl Reader {
    fn paused() -> Reader {
        let reader = Reader::default();
        reader.change(|seen| seen.paused = true);
        reader
    }

    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let (seen, changed) = &*self.0;
        let result = change(&mut seen.lock().unwrap());
        changed.notify_all();
        result
    }

    /// Waits until what was seen is so.
    fn until(&self, condition: impl Fn(&Seen) -> bool) {
        let (seen, changed) = &*self.0;
        let waited = changed.wait_timeout_while(seen.lock().unwrap(), LONG, |seen| !condition(seen)).unwrap();
        assert!(!waited.1.timed_out());
    }

    fn text(&self) -> String {
        self.change(|seen| String::from_utf8(seen.text.clone()).unwrap())
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.change(|seen| seen.writes += 1);
        self.until(|seen| !seen.paused);
        self.change(|seen| match seen.error {
            Some(error) => Err(error.into()),
            None => {
                seen.text.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn output(reader: &Reader, limit: usize) -> Output<Plain> {
    booked(reader, limit, Plain).0
}

fn booked<P: Printer>(reader: &Reader, limit: usize, printer: P) -> (Output<P>, Arc<Mutex<[u64; 2]>>) {
    let book = Book::default();
    let sinks = vec![Sink::new("stdout", reader.clone())];
    (Output::start(sinks, limit, Box::new(book.clone()), printer, None).unwrap(), book.1)
}

fn offer(output: &Output<Plain>, text: impl Into<Vec<u8>>, records: Counts) -> bool {
    let text = text.into();
    let bytes = text.len();
    output.offer(text, bytes, records)
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn chunks_are_written_in_order() {
    let reader = Reader::default();
    let output = output(&reader, BUFFER);
    for n in 0..1000 {
        assert!(offer(&output, format!("{n}\n"), of(Signal::Logs, 1)));
    }
    assert_eq!(output.close(LONG), 0);
    assert_eq!(reader.text(), (0..1000).map(|n| format!("{n}\n")).collect::<String>());
}

#[test]
fn a_slow_reader_costs_lines_and_is_told() {
    let reader = Reader::paused();
    let output = output(&reader, 10);
    let offer = |text: &str, records| offer(&output, text, records);
    assert!(output.progressing(Duration::ZERO));
    // Larger than the buffer, but it is empty.
    assert!(offer("0123456789abc\n", of(Signal::Logs, 1)));
    reader.until(|seen| seen.writes == 1);
    // The one at hand keeps none out, those that wait do.
    assert!(offer("012345678\n", of(Signal::Logs, 1)));
    assert!(!offer("x\n", of(Signal::Logs, 1233)));
    assert!(!offer("x\n", of(Signal::Logs, 1)));
    assert!(!offer("x\n", of(Signal::Traces, 1)));
    assert_eq!(output.buffered_bytes(), 24);
    eventually("the writer stands still", || !output.progressing(Duration::from_millis(1)));
    assert!(output.progressing(LONG));
    reader.change(|seen| seen.paused = false);
    eventually("the buffer empties", || output.buffered_bytes() == 0);
    // It is told as soon as there is room, not with what comes next.
    eventually("it is told", || reader.text().ends_with(" is too slow\n"));
    assert!(offer("next\n", of(Signal::Logs, 1)));
    eventually("the buffer empties", || output.buffered_bytes() == 0);
    assert!(offer("last\n", of(Signal::Logs, 1)));
    assert_eq!(output.close(LONG), 0);
    let notice = "… 1234 log records, 1 span were not printed: the reader of stdout is too slow\n";
    assert_eq!(reader.text(), format!("0123456789abc\n012345678\n{notice}next\nlast\n"));
}

#[tokio::test]
async fn room_is_announced() {
    let reader = Reader::paused();
    let output = output(&reader, 100);
    assert!(offer(&output, [b'0'; 100], of(Signal::Logs, 1)));
    // What comes before the write has begun would be written with it.
    reader.until(|seen| seen.writes == 1);
    assert!(offer(&output, [b'1'; 100], of(Signal::Logs, 1)));
    let room = output.room().notified();
    assert!(!offer(&output, "x", of(Signal::Logs, 1)));
    reader.change(|seen| seen.paused = false);
    tokio::time::timeout(LONG, room).await.unwrap();
    assert!(offer(&output, "x", of(Signal::Logs, 1)));
}

/// Room that is kept for one is not given to another, and few bytes find room where many wait; one that needs the queue for
/// itself waits for what is at hand, too.
#[test]
fn room_is_kept() {
    let reader = Reader::paused();
    let output = output(&reader, 6400);
    assert!(output.reserve(3000) && !output.reserve(1000), "half of it");
    assert!((0..18).all(|_| output.reserve(100)) && !output.reserve(100), "three quarters of it");
    output.release(3000);
    assert!(output.reserve(1400) && !output.reserve(1400));
    output.release(1400 + 18 * 100);
    assert!(output.reserve(6000) && !output.reserve(6000) && output.reserve(3000), "all of it");
    output.release(6000);
    output.release(3000);
    assert!(offer(&output, "at hand", of(Signal::Logs, 1)));
    reader.until(|seen| seen.writes == 1);
    assert!(!output.reserve(6000) && output.reserve(3200));
    reader.change(|seen| seen.paused = false);
    assert_eq!(output.close(LONG), 0);
}

/// `misaki | head`: the pipe is gone, the collector lives.
#[test]
fn a_closed_pipe_only_costs_its_lines() {
    let reader = Reader::default();
    reader.change(|seen| seen.error = Some(ErrorKind::BrokenPipe));
    let output = output(&reader, 10);
    assert!(offer(&output, "a", of(Signal::Metrics, 7)));
    reader.until(|seen| seen.writes == 1);
    eventually("it is closed", || !offer(&output, "b", of(Signal::Logs, 1)));
    eventually("the buffer empties", || output.buffered_bytes() == 0);
    assert!(!offer(&output, "b", of(Signal::Logs, 1)));
    assert_eq!(reader.change(|seen| seen.writes), 1);
    assert_eq!(output.close(LONG), 0);
}

/// A full disk may be emptied again.
#[test]
fn a_write_error_costs_its_chunk() {
    let (failing, other) = (Reader::default(), Reader::default());
    failing.change(|seen| seen.error = Some(ErrorKind::StorageFull));
    let (output, book) = booked(&failing, 10, Plain);
    assert!(offer(&output, "a", of(Signal::Logs, 2)));
    eventually("the write has failed", || output.buffered_bytes() == 0);
    failing.change(|seen| seen.error = None);
    assert!(offer(&output, "b", of(Signal::Logs, 2)));
    assert_eq!(output.close(LONG), 0);
    assert_eq!((failing.text().as_str(), *book.lock().unwrap()), ("b", [2, 2]));
    // Another sink does not suffer.
    failing.change(|seen| seen.error = Some(ErrorKind::BrokenPipe));
    let sinks = vec![Sink::new("stdout", failing), Sink::new("file", other.clone())];
    let output = Output::start(sinks, 10, Box::new(Book::default()), Plain, None).unwrap();
    for text in ["c", "d"] {
        assert!(offer(&output, text, of(Signal::Logs, 1)));
        other.until(|seen| seen.text.ends_with(text.as_bytes()));
    }
    assert_eq!(output.close(LONG), 0);
    assert_eq!(other.text(), "cd");
}

/// Prints its jobs, and keeps what it is told to keep; it panics at `!`.
#[derive(Default)]
struct Moody {
    kept: Vec<(&'static str, Counts)>,
    due: Option<Instant>,
}

impl Printer for Moody {
    type Job = &'static str;

    fn print(&mut self, job: &'static str, records: Counts, page: &mut Page<'_, Moody>) {
        match job.as_bytes()[0] {
            b'!' => {
                page.text.extend_from_slice(b"half of");
                panic!("a fault of ours");
            }
            b'k' => self.kept.push((job, records)),
            b'd' => self.due = Some(Instant::now()),
            b'-' => page.pen.leave_out(records, &mut page.text),
            _ => {
                page.text.extend_from_slice(job.as_bytes());
                page.pen.count(records);
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn print_due(&mut self, _: bool, page: &mut Page<'_, Moody>) {
        self.due = None;
        for (job, records) in self.kept.drain(..) {
            page.text.extend_from_slice(job.as_bytes());
            page.pen.count(records);
        }
    }

    fn reset(&mut self) {
        self.kept.clear();
    }
}

/// A panic costs what was in hand, which is counted, and nothing else; what is kept is printed in its time, or at the end.
#[test]
fn a_panic_costs_what_was_in_hand() {
    let reader = Reader::paused();
    let (output, book) = booked(&reader, 1000, Moody::default());
    let offer = |job: &'static str, records| assert!(output.offer(job, 10, of(Signal::Logs, records)));
    offer("one\n", 1);
    reader.until(|seen| seen.writes == 1);
    for (job, records) in
        [("kept\n", 2), ("two\n", 4), ("-\n", 8), ("!\n", 16), ("three\n", 32), ("kept too\n", 64), ("due", 0)]
    {
        offer(job, records);
    }
    assert_eq!(output.waiting(), [127, 0, 0]);
    reader.change(|seen| seen.paused = false);
    eventually("what is due is printed", || output.waiting() == [0; 3] && output.buffered_bytes() == 0);
    assert_eq!(reader.text(), "one\ntwo\nthree\nkept too\n");
    // What was left out is neither written nor lost; the book counts it with the first.
    assert_eq!(*book.lock().unwrap(), [1 + 4 + 8 + 32 + 64, 16 + 2]);
    offer("kept to the end\n", 128);
    assert_eq!(output.close(LONG), 0);
    assert!(reader.text().ends_with("kept to the end\n"));
}

#[test]
fn closing_says_what_was_left() {
    let reader = Reader::paused();
    let (output, book) = booked(&reader, 100_000, Plain);
    let chunk = |bytes| vec![b'x'; bytes];
    assert!(offer(&output, chunk(10), of(Signal::Logs, 3)));
    reader.until(|seen| seen.writes == 1);
    assert!(offer(&output, chunk(40_000), of(Signal::Logs, 4)));
    assert!(offer(&output, chunk(50_000), of(Signal::Traces, 5)));
    assert_eq!((output.waiting(), *book.lock().unwrap()), ([7, 0, 5], [0, 0]));
    // What its reader never took was never exported, and is neither printed now nor counted again.
    assert_eq!(output.close(Duration::from_millis(1)), 12);
    assert!(!offer(&output, chunk(1), of(Signal::Logs, 1)));
    reader.change(|seen| seen.paused = false);
    output.close(LONG);
    assert_eq!((output.waiting(), *book.lock().unwrap()), ([0; 3], [0, 12]));
    assert_eq!(reader.text().len(), 10);
}

#[test]
fn files_are_created_and_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.txt");
    for (name, text) in [(path.display().to_string(), "one\n"), (format!("file://{}", path.display()), "two\n")] {
        let sinks = vec![Sink::open(&name).unwrap()];
        let output = Output::start(sinks, BUFFER, Box::new(Book::default()), Plain, None).unwrap();
        assert!(offer(&output, text, of(Signal::Logs, 1)));
        assert_eq!(output.close(LONG), 0);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    let missing = folder.path().join("no/such/folder");
    assert!(Sink::open(missing.to_str().unwrap()).is_err());
}
