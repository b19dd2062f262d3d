//! Requests while they arrive: spans and logs by their trace, until the trace is whole or has had its time.
//!
//! A trace is whole when its root and every parent that is named are there; what else of it comes soon after, logs
//! mostly, still gets its place. How much waits is bounded: beyond it the oldest trace is printed early, and says so.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::block::{Log, Request, Why};
use super::layout::{Layout, word};
use super::line::{self, Line};
use super::tree::Span;
use super::{Style, Verbosity};
use crate::otlp::views;
use crate::otlp::views::{LogRecord, ResourceGroup, ScopeGroup};
use crate::telemetry::Signal;

/// A trace that is whole is printed so long after what made it whole.
const SETTLE: Duration = Duration::from_millis(250);
/// What of a name or message is kept, in columns.
const TEXT: usize = 200;
/// Printed traces that are remembered, so that what comes late is known for it.
const PRINTED: usize = 1024;
/// What an item takes beside its text, roughly, in bytes.
const PER_ITEM: usize = 256;

pub const WAIT: Duration = Duration::from_secs(5);

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub traces: usize,
    /// Spans and log records.
    pub items: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { traces: 1000, items: 50_000, bytes: 8 << 20 }
    }
}

/// Items by signal.
pub type Items = [u64; Signal::ALL.len()];

type Id = [u8; 16];

pub struct Requests {
    layout: Layout,
    wait: Duration,
    limits: Limits,
    traces: HashMap<Id, Trace>,
    /// The oldest first.
    ages: BTreeMap<u64, Id>,
    next_age: u64,
    items: usize,
    bytes: usize,
    printed: VecDeque<Id>,
    is_printed: HashSet<Id>,
}

#[derive(Default)]
struct Trace {
    age: u64,
    /// When it is printed, whatever is missing.
    latest: Option<Instant>,
    /// When it is printed, if it is whole.
    settled: Option<Instant>,
    spans: Vec<Span>,
    logs: Vec<Log>,
    bytes: usize,
    ids: HashSet<u64>,
    /// Parents that are not here yet.
    missing: HashSet<u64>,
    has_root: bool,
    is_late: bool,
}

impl Trace {
    fn due(&self) -> Option<Instant> {
        [self.latest, self.settled].into_iter().flatten().min()
    }

    fn items(&self) -> usize {
        self.spans.len() + self.logs.len()
    }
}

impl Requests {
    pub fn new(layout: Layout, wait: Duration, limits: Limits) -> Requests {
        Requests {
            layout,
            wait,
            limits,
            traces: HashMap::new(),
            ages: BTreeMap::new(),
            next_age: 0,
            items: 0,
            bytes: 0,
            printed: VecDeque::new(),
            is_printed: HashSet::new(),
        }
    }

    /// Takes a request's items; writes what has no trace, and what no longer has room. Returns the items it wrote.
    #[expect(clippy::indexing_slicing, reason = "one count a signal, indexed by it")]
    pub fn add(&mut self, signal: Signal, parts: &[&[u8]], now: Instant, out: &mut Vec<u8>) -> Items {
        let mut written = Items::default();
        if signal == Signal::Metrics {
            let style = Style { layout: self.layout, ..Style::default() };
            let emit = &mut |_: &mut Vec<u8>, _| {};
            written[signal as usize] =
                super::render_chunks(signal, Verbosity::Line, style, parts, usize::MAX, out, emit);
            return written;
        }
        for resource in super::resources(parts) {
            let group = ResourceGroup::read(resource);
            let service = line::service(&group);
            for record in group.scopes.flat_map(|scope| ScopeGroup::read(scope).records) {
                let single = if signal == Signal::Logs {
                    let record = LogRecord::read(record);
                    self.log(&record, line::log(&record, &service, self.layout.width.max(TEXT)), now)
                } else {
                    let span = views::Span::read(record);
                    let taken = self.span(&span, &service, now);
                    (!taken).then(|| line::span(&span, &service, self.layout.width))
                };
                if let Some(line) = single {
                    line.put(self.layout, out);
                    written[signal as usize] += 1;
                }
                let Limits { traces, items, bytes } = self.limits;
                while self.traces.len() > traces || self.items > items || self.bytes > bytes {
                    let Some(oldest) = self.ages.values().next().copied() else { break };
                    self.print(oldest, Some(Why::Full), out, &mut written);
                }
            }
        }
        written
    }

    /// When something is due next.
    pub fn wake_at(&self) -> Option<Instant> {
        self.traces.values().filter_map(Trace::due).min()
    }

    /// Writes the traces that are due; returns the items it wrote.
    pub fn print_due(&mut self, now: Instant, out: &mut Vec<u8>) -> Items {
        self.print_where(|trace| trace.due().is_none_or(|due| due <= now), out)
    }

    /// Writes all that waits.
    pub fn print_all(&mut self, out: &mut Vec<u8>) -> Items {
        self.print_where(|_| true, out)
    }

    fn print_where(&mut self, is_due: impl Fn(&Trace) -> bool, out: &mut Vec<u8>) -> Items {
        let mut written = Items::default();
        let due = |id: &&Id| self.traces.get(*id).is_some_and(&is_due);
        let due: Vec<Id> = self.ages.values().filter(due).copied().collect();
        for id in due {
            self.print(id, None, out, &mut written);
        }
        written
    }

    #[expect(clippy::indexing_slicing, reason = "one count a signal, indexed by it")]
    fn print(&mut self, id: Id, why: Option<Why>, out: &mut Vec<u8>, written: &mut Items) {
        let Some(trace) = self.traces.remove(&id) else { return };
        self.ages.remove(&trace.age);
        self.items -= trace.items();
        self.bytes -= trace.bytes;
        written[Signal::Logs as usize] += trace.logs.len() as u64;
        written[Signal::Traces as usize] += trace.spans.len() as u64;
        if !trace.spans.is_empty() && self.is_printed.insert(id) {
            self.printed.push_back(id);
            if self.printed.len() > PRINTED
                && let Some(forgotten) = self.printed.pop_front()
            {
                self.is_printed.remove(&forgotten);
            }
        }
        let why = why.unwrap_or(if trace.is_late { Why::Late } else { Why::Due });
        Request { trace: id, spans: trace.spans, logs: trace.logs, why }.draw(self.layout, out);
    }

    /// The line back if the record has no trace to wait for.
    fn log(&mut self, record: &LogRecord<'_>, line: Line, now: Instant) -> Option<Line> {
        let known =
            trace_id(record.trace_id).filter(|id| !self.is_printed.contains(id) || self.traces.contains_key(id));
        let Some(id) = known else { return Some(line) };
        let bytes = PER_ITEM + line.words.len();
        let trace = self.trace(id, bytes, now);
        trace.logs.push(Log { span: span_id(record.span_id), severity: record.severity_number, line });
        None
    }

    /// Whether the span has a trace, and was taken.
    fn span(&mut self, span: &views::Span<'_>, service: &std::sync::Arc<str>, now: Instant) -> bool {
        let Some(trace) = trace_id(span.trace_id).filter(|_| span_id(span.span_id) != 0) else { return false };
        let span = Span {
            id: span_id(span.span_id),
            parent: span_id(span.parent_span_id),
            start: span.start,
            end: span.end,
            kind: span.kind,
            service: service.clone(),
            name: word(TEXT, span.name).into(),
            failure: line::failure(span, TEXT).map(Into::into),
            notable: false,
        };
        let bytes = PER_ITEM + span.name.len() + span.failure.as_ref().map_or(0, |message| message.len());
        let trace = self.trace(trace, bytes, now);
        trace.ids.insert(span.id);
        trace.missing.remove(&span.id);
        trace.has_root |= span.parent == 0;
        if span.parent != 0 && !trace.ids.contains(&span.parent) {
            trace.missing.insert(span.parent);
        }
        trace.spans.push(span);
        let is_whole = trace.missing.is_empty() && trace.has_root || trace.is_late;
        trace.settled = is_whole.then_some(now + SETTLE);
        true
    }

    /// The trace that one more item belongs to.
    fn trace(&mut self, id: Id, bytes: usize, now: Instant) -> &mut Trace {
        self.items += 1;
        self.bytes += bytes;
        let trace = self.traces.entry(id).or_insert_with(|| {
            let age = self.next_age;
            self.next_age += 1;
            self.ages.insert(age, id);
            let is_late = self.is_printed.contains(&id);
            Trace { age, is_late, latest: Some(now + self.wait), ..Trace::default() }
        });
        trace.bytes += bytes;
        trace
    }
}

/// An id that is one.
fn trace_id(id: &[u8]) -> Option<Id> {
    Id::try_from(id).ok().filter(|id| *id != Id::default())
}

/// 0 for an id that is none.
fn span_id(id: &[u8]) -> u64 {
    id.try_into().map_or(0, u64::from_be_bytes)
}
