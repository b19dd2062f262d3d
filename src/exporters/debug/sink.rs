//! The `debug` exporter as a sink: its section (facts 4.1), and telemetry turned into text on the task that brought it.
//!
//! It never refuses. While its reader is at work, a client that has nothing else to wait for waits for the output;
//! what does not fit otherwise is not printed, and counted.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::section::Section;
use crate::telemetry::{Account, Alarm, Ask, Fate, Full, Load, Now, Reason, Signal, Sink, Tally, Telemetry, Wakeful};

use super::layout::Layout;
use super::requests::{self, Items, Limits, Requests};
use super::sampling::{Key, Sampler};
use super::{Counts, Style, Verbosity};
use crate::diagnostics::output::{self, Output, Owner};

/// Text that waits for its reader.
const BUFFER: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub verbosity: Verbosity,
    pub style: Style,
    pub sampling_initial: u64,
    pub sampling_thereafter: u64,
    pub use_internal_logger: bool,
    pub output_paths: Vec<String>,
    /// How long `tree` waits for what is missing of a request.
    pub tree_wait: Duration,
}

const VERBOSITIES: &[(&str, Verbosity)] = &[
    ("basic", Verbosity::Basic),
    ("normal", Verbosity::Normal),
    ("detailed", Verbosity::Detailed),
    ("line", Verbosity::Line),
    ("json", Verbosity::Json),
    ("tree", Verbosity::Tree),
];

impl Config {
    pub fn decode(section: Section) -> Config {
        let any = 0..=i64::MAX;
        let paths = section.texts("output_paths");
        let config = Config {
            verbosity: section.choice("verbosity", Verbosity::Basic, VERBOSITIES),
            style: Style { escape_newlines: section.boolean("escape_newlines", false), ..Style::default() },
            sampling_initial: section.integer("sampling_initial", 2, any.clone()) as u64,
            sampling_thereafter: section.integer("sampling_thereafter", 1, any) as u64,
            use_internal_logger: section.boolean("use_internal_logger", false),
            output_paths: paths.clone().unwrap_or_else(|| vec!["stdout".to_owned()]),
            tree_wait: section.duration("tree_wait", requests::WAIT),
        };
        if config.use_internal_logger && paths.is_some() {
            let message = "output_paths is not supported when use_internal_logger is true";
            section.problem_with_help("output_paths", message, "remove one of the two");
        } else if config.output_paths.is_empty() {
            section.problem("output_paths", "output_paths must not be empty when use_internal_logger is false");
        }
        section.ignored(&["sending_queue"]);
        section.finish();
        config
    }
}

/// One `debug` exporter: its output and its limits on repeated messages, shared by its signals.
pub struct Debug {
    id: String,
    config: Config,
    output: Output,
    sampler: Mutex<Sampler>,
    /// What `tree` gathers.
    requests: Mutex<Requests>,
    accounts: Accounts,
    alarm: Arc<Alarm>,
}

/// The accounts of the signals that have a sink here: what is printed counts as exported when it is written.
#[derive(Clone, Default)]
pub struct Accounts(Arc<Mutex<[Place; Signal::ALL.len()]>>);

#[derive(Default)]
struct Place {
    account: Option<Arc<Account>>,
    /// Whose items are not written yet, oldest first.
    unwritten: VecDeque<Unwritten>,
}

/// A request, or several: what is on the bill when the last of it is written or lost.
struct Unwritten {
    tally: Tally,
    left: u64,
    dropped: u64,
}

/// Beyond so many requests the next ones share a place.
const UNWRITTEN: usize = 4096;

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, [Place; Signal::ALL.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, account: &Arc<Account>) {
        if let Some(place) = self.lock().get_mut(account.signal as usize) {
            place.account = Some(account.clone());
        }
    }

    /// Items that are about to be printed.
    fn expect(&self, telemetry: &Telemetry) {
        let tally = Tally::of(telemetry);
        let (left, mut places) = (tally.items(), self.lock());
        let Some(Place { unwritten, .. }) = places.get_mut(telemetry.signal as usize).filter(|_| left > 0) else {
            return;
        };
        let is_crowded = unwritten.len() >= UNWRITTEN;
        match unwritten.back_mut().filter(|_| is_crowded) {
            Some(last) => {
                last.tally.merge(tally);
                last.left += left;
            }
            None => unwritten.push_back(Unwritten { tally, left, dropped: 0 }),
        }
    }
}

impl Place {
    fn settle(&mut self, mut items: u64, is_written: bool) {
        let Place { account: Some(account), unwritten } = self else { return };
        match is_written {
            true => account.send(items),
            false => account.drop_items(Reason::OutputTooSlow, items),
        }
        // They are written in the order in which they came.
        while let Some(first) = unwritten.front_mut().filter(|_| items > 0) {
            let share = items.min(first.left);
            items -= share;
            first.left -= share;
            first.dropped += if is_written { 0 } else { share };
            if first.left == 0 {
                account.bill.settle(&first.tally, Fate::Sent, first.dropped, 1);
                unwritten.pop_front();
            }
        }
    }
}

impl Owner for Accounts {
    fn settle(&self, records: Items, is_written: bool) {
        self.lock().iter_mut().zip(records).for_each(|(place, items)| place.settle(items, is_written));
    }

    fn notice(&self, lost: Items, output: &str) -> String {
        let kinds = Signal::ALL.into_iter().zip(lost).filter(|(_, items)| *items > 0);
        let kinds = kinds.map(|(signal, items)| {
            let words = signal.items_words();
            format!("{items} {}", if items == 1 { words.trim_end_matches('s') } else { words })
        });
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let verb = if lost.iter().sum::<u64>() == 1 { "was" } else { "were" };
        format!("… {kinds} {verb} not printed: the reader of {output} is too slow\n")
    }
}

/// So many of one signal.
fn items_of(signal: Signal, items: u64) -> Items {
    let mut all = Items::default();
    if let Some(place) = all.get_mut(signal as usize) {
        *place = items;
    }
    all
}

impl Debug {
    pub fn open(id: &str, mut config: Config, alarm: Arc<Alarm>) -> io::Result<Arc<Debug>> {
        let stderr = ["stderr".to_owned()];
        let paths = if config.use_internal_logger { &stderr[..] } else { &config.output_paths };
        // On a terminal a value must not pass for lines of its own.
        config.style.escape_newlines |= paths.iter().any(|path| match path.as_str() {
            "stdout" => io::stdout().is_terminal(),
            "stderr" => io::stderr().is_terminal(),
            _ => false,
        });
        config.style.layout = match paths {
            [path] if path == "stdout" => Layout::of(io::stdout()),
            [path] if path == "stderr" => Layout::of(io::stderr()),
            _ => Layout::FILE,
        };
        let open = |path: &String| {
            output::Sink::open(path)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot open the debug output {path}: {error}")))
        };
        let accounts = Accounts::default();
        let sinks = paths.iter().map(open).collect::<io::Result<_>>()?;
        let output = Output::start(sinks, BUFFER, Box::new(accounts.clone()))?;
        let sampler = Sampler::new(config.sampling_initial, config.sampling_thereafter, Instant::now());
        let requests = Requests::new(config.style.layout, config.tree_wait, Limits::default());
        Ok(Arc::new(Debug {
            id: id.to_owned(),
            config,
            output,
            sampler: Mutex::new(sampler),
            requests: Mutex::new(requests),
            accounts,
            alarm,
        }))
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Items that are printed and not written yet, by signal.
    pub fn waiting(&self) -> Items {
        self.output.waiting()
    }

    /// Writes what is gathered and buffered, for at most this long; returns how many items were not written.
    pub fn close(&self, within: Duration) -> u64 {
        self.print_requests(|requests, text| requests.print_all(text));
        self.output.close(within)
    }

    /// Lets `print` write some of the requests, and counts what it wrote.
    fn print_requests(&self, print: impl FnOnce(&mut Requests, &mut Vec<u8>) -> Items) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = self.output.buffer();
        let items = print(&mut requests, &mut text);
        // Still under the lock, so that texts stay in their order.
        if !text.is_empty() && !self.output.offer(text, items) {
            self.accounts.settle(items, false);
        }
        if let Some(at) = requests.wake_at() {
            self.alarm.ring_at(at);
        }
    }
}

/// One that a reload left behind prints what it has gathered when its last sink goes.
impl Drop for Debug {
    fn drop(&mut self) {
        self.print_requests(|requests, text| requests.print_all(text));
    }
}

impl Wakeful for Debug {
    fn wake_at(&self) -> Option<Instant> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).wake_at()
    }

    fn wake(&self, now: Now) {
        self.print_requests(|requests, text| requests.print_due(now.instant, text));
    }

    fn drain(&self, _: Now) -> bool {
        self.print_requests(|requests, text| requests.print_all(text));
        true
    }
}

/// One signal of a `debug` exporter.
pub struct DebugSink {
    debug: Arc<Debug>,
    signal: Signal,
    account: Arc<Account>,
}

/// Text is handed to the output in pieces of about this size.
const CHUNK: usize = 64 * 1024;
/// A reader that took nothing for this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

impl DebugSink {
    pub fn new(debug: Arc<Debug>, signal: Signal, account: Arc<Account>) -> DebugSink {
        debug.accounts.put(&account);
        DebugSink { debug, signal, account }
    }

    /// Hands text to the output; what finds no room there is lost.
    fn offer(&self, text: Vec<u8>, items: u64) {
        let items = items_of(self.signal, items);
        if !self.debug.output.offer(text, items) {
            self.debug.accounts.settle(items, false);
        }
    }

    fn print(&self, parts: &[&[u8]], items: u64) {
        let Config { verbosity, style, .. } = self.debug.config;
        let mut text = self.debug.output.buffer();
        if verbosity.has_summary() {
            super::render_summary(self.signal, parts, &mut text);
        }
        let mut emit = |chunk: &mut Vec<u8>, items| {
            self.offer(std::mem::replace(chunk, self.debug.output.buffer()), items);
        };
        let mut left = super::render_chunks(self.signal, verbosity, style, parts, CHUNK, &mut text, &mut emit);
        if verbosity == Verbosity::Basic {
            left = items;
        }
        self.offer(text, left);
    }

    /// With limits on repeated messages: the summary by its name, the dump by its text.
    fn print_sampled(&self, parts: &[&[u8]], items: u64, telemetry: &Telemetry) {
        let now = telemetry.received.instant;
        let Config { verbosity, style, .. } = self.debug.config;
        let mut sampler = self.debug.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let has_dump = verbosity != Verbosity::Basic;
        let mut text = self.debug.output.buffer();
        if let Some(skipped) = sampler.skipped(now) {
            let words = self.signal.items_words();
            text.extend_from_slice(format!("… {skipped} {words} were not printed: sampling\n").as_bytes());
        }
        let summary = Key::of(super::summary_message(self.signal).as_bytes());
        let mut printed = verbosity.has_summary() && sampler.admits(summary, if has_dump { 0 } else { items }, now);
        if printed {
            super::render_summary(self.signal, parts, &mut text);
        }
        if has_dump {
            let start = text.len();
            super::render_dump(self.signal, verbosity, style, parts, &mut text);
            printed = sampler.admits(Key::of(text.get(start..).unwrap_or_default()), items, now);
            if !printed {
                text.truncate(start);
            }
        }
        drop(sampler);
        match printed {
            true => self.debug.accounts.expect(telemetry),
            false => {
                self.account.drop_items(Reason::SampledOut, items);
                self.account.book(telemetry, Fate::Filtered, 0);
            }
        }
        self.offer(text, if printed { items } else { 0 });
    }

    /// The way of the Go collector's own log: a time and a level before, the component's fields behind.
    fn print_as_log(&self, parts: &[&[u8]], telemetry: &Telemetry, items: u64) {
        let time = crate::diagnostics::log::timestamp(telemetry.received.wall);
        let (id, signal) = (&self.debug.id, self.signal.name());
        let fields = format!(
            "\"otelcol.component.id\": \"{id}\", \"otelcol.component.kind\": \"exporter\", \"otelcol.signal\": \"{signal}\""
        );
        let name = super::summary_message(self.signal);
        let mut text = format!("{time}\tinfo\t{name}\t{{{fields}, ").into_bytes();
        super::render_summary_fields(self.signal, Counts::of(self.signal, parts), &mut text);
        text.extend_from_slice(b"}\n");
        if self.debug.config.verbosity != Verbosity::Basic {
            text.extend_from_slice(format!("{time}\tinfo\t").as_bytes());
            super::render_dump(self.signal, self.debug.config.verbosity, self.debug.config.style, parts, &mut text);
            text.pop();
            text.extend_from_slice(format!("\t{{{fields}}}\n").as_bytes());
        }
        self.offer(text, items);
    }
}

impl Sink for DebugSink {
    fn reserve(&self, _: &Telemetry, _: Load, ask: Ask) -> Result<(), Full> {
        let output = &self.debug.output;
        let is_full = output.buffered_bytes() > BUFFER / 2;
        let waits = ask.alone && is_full && output.progressing(PATIENCE);
        if waits { Err(Full::Wait { most: Some(PATIENCE) }) } else { Ok(()) }
    }

    fn release(&self, _: Load) {}

    fn commit(&self, mut telemetry: Telemetry, load: Load) {
        let parts: Vec<&[u8]> = telemetry.parts.iter().map(|part| part.bytes.as_ref()).collect();
        let Config { verbosity, use_internal_logger, .. } = self.debug.config;
        let as_log = use_internal_logger && verbosity.has_summary();
        let is_sampled = verbosity != Verbosity::Tree && !as_log && self.debug.config.sampling_thereafter != 1;
        if !is_sampled {
            self.debug.accounts.expect(&telemetry);
        }
        if verbosity == Verbosity::Tree {
            let now = telemetry.received.instant;
            self.debug.print_requests(|requests, text| requests.add(self.signal, &parts, now, text));
        } else if as_log {
            self.print_as_log(&parts, &telemetry, load.items);
        } else if is_sampled {
            self.print_sampled(&parts, load.items, &telemetry);
        } else {
            self.print(&parts, load.items);
        }
        drop(parts);
        self.account.show_leaving(&telemetry);
        telemetry.resolve(Ok(()));
    }

    fn room(&self) -> &Notify {
        self.debug.output.room()
    }

    fn answers(&self) -> bool {
        false
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.account.lose(Reason::SinkStuck, telemetry);
    }
}
