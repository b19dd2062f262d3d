//! The `debug` exporter as a sink: its section, and the queue of its output, whose thread prints.
//!
//! It never refuses a request. While its reader makes progress, a client that waits for no other exporter waits for the
//! output. Otherwise a request that does not fit is not printed, and counted.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::section::Section;
use crate::telemetry::{Account, Ask, Budget, Fate, Full, Holder, Load, Reason, Share, Signal, Sink, Tally, Telemetry};

use super::layout::{Layout, Stream};
use super::printer::{Printer, items_of};
use super::rates::Rates;
use super::requests::{self, Items, Limits, Requests};
use super::sampling::Sampler;

use super::{Style, Verbosity};
use crate::diagnostics::output::{self, Outcome, Output, Owner, Why};
use crate::diagnostics::supervisor::Watch;
use crate::exporters::{End, ExporterParts, ExporterSettings, OpenExporter};

/// Maximum bytes of telemetry that wait to be printed.
const QUEUE: usize = 4 << 20;
/// The memory of a request in the queue, beside its bytes.
const ENTRY: usize = 512;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(super) verbosity: Verbosity,
    pub(super) style: Style,
    sampling_initial: u64,
    sampling_thereafter: u64,
    use_internal_logger: bool,
    output_paths: Vec<String>,
    /// Whether `line` and `tree` show times in UTC instead of this machine's zone.
    utc: bool,
    /// Whether each span has a row of its own in `tree`.
    unfold: bool,
    /// How long `tree` waits for missing spans of a request.
    tree_wait: Duration,
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
    pub(crate) fn decode(section: Section) -> Config {
        let any = 0..=i64::MAX;
        let paths = section.texts("output_paths");
        let config = Config {
            verbosity: section.choice_in_any_case("verbosity", Verbosity::Basic, VERBOSITIES),
            style: Style { escape_newlines: section.boolean("escape_newlines", false), ..Style::default() },
            utc: section.boolean("utc", false),
            unfold: section.boolean("unfold", false),
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

    /// Whether it prints in the form of the Go collector's own log.
    pub(super) fn is_as_log(&self) -> bool {
        self.use_internal_logger && self.verbosity.has_summary()
    }

    /// Whether it limits repeated messages.
    pub(super) fn is_sampled(&self) -> bool {
        self.verbosity != Verbosity::Tree && !self.is_as_log() && self.sampling_thereafter != 1
    }
}

impl ExporterSettings for Config {
    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String> {
        let watch = opening.supervisor.watch(format!("output of {}", opening.id));
        let debug = Debug::open(opening.id, self.clone(), opening.budget, watch);
        debug.map(|debug| debug as Arc<dyn OpenExporter>).map_err(|error| error.to_string())
    }
}

impl OpenExporter for Debug {
    fn end(self: Arc<Self>, _: Signal, account: &Arc<Account>) -> Result<End, String> {
        self.accounts.put(account);
        Ok(End::Sink(Arc::new(DebugSink { debug: self, account: account.clone() })))
    }

    fn waiting(&self) -> Items {
        self.output.waiting()
    }

    fn close(&self, within: Duration) -> u64 {
        self.output.close(within)
    }
}

/// One `debug` exporter: its output and its limits on repeated messages, shared by its signals.
struct Debug {
    output: Output<Printer>,
    accounts: Accounts,
    budget: Arc<Budget>,
    _holder: Holder,
}

/// The accounts of the signals that have a sink here. Printed items count as exported once their text is written.
#[derive(Clone, Default)]
pub struct Accounts(Arc<Mutex<[Place; Signal::ALL.len()]>>);

#[derive(Default)]
struct Place {
    account: Option<Arc<Account>>,
    /// Requests with unwritten items, oldest first.
    unwritten: VecDeque<Unwritten>,
}

/// One or several requests. They are booked on the bill when their last item is written or lost.
struct Unwritten {
    tally: Tally,
    left: u64,
    dropped: u64,
    is_filtered: bool,
}

/// Beyond this many requests, further ones are merged into the last entry.
const UNWRITTEN: usize = 4096;

impl Accounts {
    fn put(&self, account: &Arc<Account>) {
        if let Some(place) = self.0.lock().get_mut(account.signal as usize) {
            place.account = Some(account.clone());
        }
    }

    /// Adds a request that will be printed.
    fn expect(&self, telemetry: &Telemetry) {
        let tally = Tally::of(telemetry);
        let (left, mut places) = (tally.items(), self.0.lock());
        let Some(Place { unwritten, .. }) = places.get_mut(telemetry.signal as usize).filter(|_| left > 0) else {
            return;
        };
        let is_crowded = unwritten.len() >= UNWRITTEN;
        match unwritten.back_mut().filter(|_| is_crowded) {
            Some(last) => {
                last.tally.merge(&tally);
                last.left += left;
            }
            None => unwritten.push_back(Unwritten { tally, left, dropped: 0, is_filtered: false }),
        }
    }
}

impl Place {
    fn settle(&mut self, mut items: u64, outcome: Outcome) {
        let Place { account: Some(account), unwritten } = self else { return };
        match outcome {
            Outcome::Written => account.send(items),
            Outcome::Lost => account.drop_items(Reason::OutputTooSlow, items),
            Outcome::LeftOut => account.drop_items(Reason::SampledOut, items),
        }
        // Requests are written in order of arrival.
        while let Some(first) = unwritten.front_mut().filter(|_| items > 0) {
            let share = items.min(first.left);
            items -= share;
            first.left -= share;
            first.dropped += if outcome == Outcome::Lost { share } else { 0 };
            first.is_filtered |= outcome == Outcome::LeftOut;
            if first.left == 0 {
                let fate = if first.is_filtered { Fate::Filtered } else { Fate::Sent };
                account.bill.settle(&first.tally, fate, first.dropped, 1);
                unwritten.pop_front();
            }
        }
    }
}

impl Owner for Accounts {
    fn settle(&self, records: Items, outcome: Outcome) {
        self.0.lock().iter_mut().zip(records).for_each(|(place, items)| place.settle(items, outcome));
    }

    fn notice(&self, lost: Items, why: Why, output: &str) -> String {
        let kinds = Signal::ALL.into_iter().zip(lost).filter(|(_, items)| *items > 0);
        let kinds = kinds.map(|(signal, items)| {
            let words = signal.items_words();
            format!("{items} {}", if items == 1 { words.trim_end_matches('s') } else { words })
        });
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let verb = if lost.iter().sum::<u64>() == 1 { "was" } else { "were" };
        let why = match why {
            Why::Slow => format!("the reader of {output} is too slow"),
            Why::Memory => "no memory is left for what waits to be printed".to_owned(),
        };
        format!("… {kinds} {verb} not printed: {why}\n")
    }
}

impl Debug {
    fn open(id: &str, mut config: Config, budget: &Arc<Budget>, watch: Watch) -> io::Result<Arc<Debug>> {
        let stderr = ["stderr".to_owned()];
        let paths = if config.use_internal_logger { &stderr[..] } else { &config.output_paths };
        // On a terminal, a value must not look like separate lines.
        config.style.escape_newlines |= paths.iter().any(|path| match path.as_str() {
            "stdout" => io::stdout().is_terminal(),
            "stderr" => io::stderr().is_terminal(),
            _ => false,
        });
        config.style.layout = match paths {
            [path] if path == "stdout" => Layout::of(Stream::Stdout),
            [path] if path == "stderr" => Layout::of(Stream::Stderr),
            _ => Layout::FILE,
        };
        config.style.layout.unfold = config.unfold;
        if !config.utc {
            config.style.layout = config.style.layout.local();
        }
        let open = |path: &String| {
            output::Sink::open(path)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot open the debug output {path}: {error}")))
        };
        let accounts = Accounts::default();
        let sinks = paths.iter().map(open).collect::<io::Result<_>>()?;
        let printer = Printer {
            id: id.to_owned(),
            sampler: Sampler::new(config.sampling_initial, config.sampling_thereafter, Instant::now()),
            requests: Requests::new(config.style.layout, config.tree_wait, Limits::default()).within(budget),
            rates: Rates::default(),
            config,
        };
        let output = Output::start(sinks, QUEUE, Box::new(accounts.clone()), printer, Some(watch))?;
        let (budget, holder) = (budget.clone(), budget.add_holder());
        Ok(Arc::new(Debug { output, accounts, budget, _holder: holder }))
    }

    /// Whether the budget allows this sink to hold another request.
    fn allows(&self, load: Load) -> bool {
        self.budget.allows(self.output.buffered_bytes() as u64, load.bytes, load.fresh_bytes)
    }

    /// Moves a request's memory to the queue share; false if there is no room.
    fn hold(&self, telemetry: &Telemetry, load: Load) -> bool {
        let is_held = self.allows(load) && self.budget.take(Share::Queue, load.fresh_bytes);
        if is_held {
            telemetry.parts.iter().for_each(|part| part.charge.move_to_queue());
            self.budget.give_back(Share::Queue, load.fresh_bytes);
        }
        is_held
    }
}

/// One signal of a `debug` exporter.
struct DebugSink {
    debug: Arc<Debug>,
    account: Arc<Account>,
}

/// Clients do not wait for a reader that has read nothing for this long.
const PATIENCE: Duration = Duration::from_secs(1);

impl DebugSink {
    fn bytes(load: Load) -> usize {
        ENTRY + usize::try_from(load.bytes).unwrap_or(usize::MAX - ENTRY)
    }
}

impl Sink for DebugSink {
    fn reserve(&self, _: &Telemetry, load: Load, ask: Ask) -> Result<(), Full> {
        let Debug { output, .. } = &*self.debug;
        let bytes = DebugSink::bytes(load);
        if self.debug.allows(load) && output.reserve(bytes) {
            return Ok(());
        }
        // Other exporters wait while the text is made, which costs time anyway, but not for the reader.
        let waits = match ask.alone {
            true => output.progressing(PATIENCE) && !(ask.waited && output.is_large(bytes)),
            false => output.is_printing() && !ask.waited,
        };
        if waits {
            return Err(Full::Wait { most: Some(PATIENCE) });
        }
        output.reserve_anyway(bytes);
        Ok(())
    }

    fn release(&self, load: Load) {
        self.debug.output.release(DebugSink::bytes(load));
        self.room().notify_waiters();
    }

    fn looks_at_items(&self) -> bool {
        true
    }

    fn commit(&self, mut telemetry: Telemetry, load: Load) {
        let Debug { output, accounts, .. } = &*self.debug;
        output.release(DebugSink::bytes(load));
        self.account.leave(&telemetry);
        telemetry.resolve(Ok(()));
        let items = items_of(self.account.signal, load.items);
        if !self.debug.hold(&telemetry, load) {
            self.account.lose(Reason::MemoryFull, &telemetry);
            output.miss(Why::Memory, items);
            return self.room().notify_waiters();
        }
        accounts.expect(&telemetry);
        if !output.offer(telemetry, DebugSink::bytes(load), items) {
            accounts.settle(items, Outcome::Lost);
        }
    }

    fn room(&self) -> &Notify {
        self.debug.output.room()
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.account.skip(telemetry);
    }
}
