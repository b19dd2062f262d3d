//! Gathers requests while they arrive: spans and logs by their trace, until the trace is complete or its time is over.
//!
//! A trace is complete when its root and all parents that its spans name have arrived. It then waits a moment longer
//! for other items, mostly logs. The memory that waiting traces take comes from the budget and is limited: beyond the
//! limit the oldest trace is printed early, with a note that says so.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Style;
use super::block::{Log, Request, Why};
use super::call::{Call, is_probe};
use super::layout::Layout;
use super::line::{self, Line};
use super::text::Text;
use super::tree::{Link, Node, Row, Span};
use super::walk::{Step, walk};
use crate::otlp::pieces::Pieces;
use crate::otlp::views::{self, LogRecord, SpanLink};
use crate::telemetry::{Budget, Charge, Share, Signal};

/// A complete trace is printed this long after the span that completed it.
const SETTLE: Duration = Duration::from_millis(250);
/// The kept width of a name, and of what may name a cause, in columns.
const TEXT: usize = 200;
const CAUSE: usize = 400;
/// Printed traces that are remembered, to recognize items that come late.
const PRINTED: usize = 1024;
/// The memory of an item beside its texts, in bytes: its struct in a list that grows by doubling, its entries in the
/// sets and maps of its trace and of the drawing, the allocator's overhead for each text; and for a span its node and
/// row, and its key among the works.
const PER_SPAN: usize = 2 * size_of::<Span>() + size_of::<Node>() + size_of::<Row>() + 640;
const PER_CALL: usize = size_of::<Call>() + 64;
const PER_LINK: usize = size_of::<Link>() + 16;
const PER_LOG: usize = 2 * size_of::<Log>() + 224;
const PER_TRACE: usize = 2 * size_of::<Trace>() + 256;

/// The charge for waiting traces changes in steps of this size.
const STEP: u64 = 64 << 10;

pub const WAIT: Duration = Duration::from_secs(5);

/// The limits of what may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub traces: usize,
    /// Spans and log records.
    pub items: usize,
    /// Their memory, including the drawing's.
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

#[derive(Default)]
pub struct Requests {
    /// Of what is written next.
    pub layout: Layout,
    wait: Duration,
    limits: Limits,
    /// The memory of waiting traces, if it comes from a budget.
    charge: Option<Charge>,
    traces: HashMap<Id, Trace>,
    /// Traces by age, the oldest first.
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
    /// When it is printed, even if it is incomplete.
    latest: Option<Instant>,
    /// When it is printed, if it is complete.
    settled: Option<Instant>,
    spans: Vec<Span>,
    logs: Vec<Log>,
    bytes: usize,
    ids: HashSet<u64>,
    /// Parents that have not arrived.
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
        Requests { layout, wait, limits, ..Requests::default() }
    }

    /// Charges the gathered requests to a budget.
    pub fn within(mut self, budget: &Arc<Budget>) -> Requests {
        self.charge = Some(Charge::held(budget, Share::Queue, 0));
        self
    }

    /// Takes a request's items. Writes items without a trace, and traces that no longer have room. Returns the number
    /// of items it wrote.
    #[expect(clippy::indexing_slicing, reason = "one count a signal, indexed by it")]
    pub fn add(&mut self, signal: Signal, parts: &[&[u8]], now: Instant, to: &mut Pieces) -> Items {
        let (mut written, mut service, layout) = (Items::default(), Arc::default(), self.layout);
        walk(&mut Text::new(to, Style::default()), parts, &mut |text, _, step| {
            let message = match step {
                Step::Resource(group) => return service = line::service(&group),
                Step::Scope(_) => return,
                Step::Record(message) => message,
            };
            let mut put = |line: Line| {
                written[signal as usize] += 1;
                line.put(layout, text.to)
            };
            match signal {
                Signal::Metrics => line::metric(message, &service, layout.longest(), &mut put),
                Signal::Logs => {
                    let record = LogRecord::read(message);
                    let line = line::log(&record, &service, layout.longest().max(CAUSE));
                    _ = self.log(&record, line, now).map(put);
                }
                Signal::Traces => {
                    let span = views::Span::read(message);
                    if !self.span(&span, &service, now) {
                        put(line::span(&span, &service, layout.longest()));
                    }
                }
            }
            while self.is_over() {
                let Some(oldest) = self.ages.values().next().copied() else { break };
                self.print(oldest, Some(Why::Full), text.to, &mut written);
            }
            text.to.breathe();
        });
        written
    }

    /// Whether more is waiting than the limits and the budget allow. At most a quarter of the share for queues is used.
    fn is_over(&self) -> bool {
        let Limits { traces, items, bytes } = self.limits;
        let is_within = self.traces.len() <= traces && self.items <= items && self.bytes <= bytes;
        let has_memory = |charge: &Charge| {
            let (paid, wanted) = (charge.bytes(), (self.bytes as u64).next_multiple_of(STEP));
            wanted <= paid || wanted <= charge.limit() / 4 && charge.grow(wanted - paid)
        };
        !is_within || !self.charge.as_ref().is_none_or(has_memory)
    }

    /// Discards everything that waits.
    pub fn clear(&mut self) {
        self.traces = HashMap::new();
        self.ages.clear();
        (self.items, self.bytes) = (0, 0);
        self.give_back();
    }

    /// Gives back the charge beyond the waiting traces.
    fn give_back(&self) {
        self.charge.iter().for_each(|charge| charge.shrink_to((self.bytes as u64).next_multiple_of(STEP)));
    }

    /// The number of waiting items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// When the next trace is due.
    pub fn wake_at(&self) -> Option<Instant> {
        self.traces.values().filter_map(Trace::due).min()
    }

    /// Writes due traces; returns the number of items it wrote.
    pub fn print_due(&mut self, now: Instant, to: &mut Pieces) -> Items {
        self.print_where(|trace| trace.due().is_none_or(|due| due <= now), to)
    }

    /// Writes all waiting traces.
    pub fn print_all(&mut self, to: &mut Pieces) -> Items {
        self.print_where(|_| true, to)
    }

    fn print_where(&mut self, is_due: impl Fn(&Trace) -> bool, to: &mut Pieces) -> Items {
        let mut written = Items::default();
        let due = |id: &&Id| self.traces.get(*id).is_some_and(&is_due);
        let due: Vec<Id> = self.ages.values().filter(due).copied().collect();
        for id in due {
            self.print(id, None, to, &mut written);
        }
        written
    }

    #[expect(clippy::indexing_slicing, reason = "one count a signal, indexed by it")]
    fn print(&mut self, id: Id, why: Option<Why>, to: &mut Pieces, written: &mut Items) {
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
        Request { trace: id, spans: trace.spans, logs: trace.logs, why }.draw(self.layout, to);
        self.give_back();
    }

    /// Takes a log record; gives the line back if the record has no trace to wait for.
    fn log(&mut self, record: &LogRecord<'_>, line: Line, now: Instant) -> Option<Line> {
        let known =
            trace_id(record.trace_id).filter(|id| !self.is_printed.contains(id) || self.traces.contains_key(id));
        let Some(id) = known else { return Some(line) };
        let bytes = PER_LOG + line.kind.len() + line.service.len() + line.words.len();
        let trace = self.trace(id, bytes, now);
        trace.logs.push(Log { span: span_id(record.span_id), line });
        None
    }

    /// Takes a span; false if it has no trace or no id.
    fn span(&mut self, span: &views::Span<'_>, service: &Arc<str>, now: Instant) -> bool {
        let Some(trace) = trace_id(span.trace_id).filter(|_| span_id(span.span_id) != 0) else { return false };
        let (name, call) = Call::read(span, TEXT);
        // The answer of the call says the same.
        let is_answer = |message: &String| call.as_ref().is_some_and(|call| *call.answer == **message);
        let failure = line::failure(span, CAUSE).map(|text| if is_answer(&text) { String::new() } else { text });
        let span = Span {
            id: span_id(span.span_id),
            parent: span_id(span.parent_span_id),
            start: span.start,
            end: span.end,
            kind: span.kind,
            service: service.clone(),
            name: name.into(),
            failure: failure.map(Into::into),
            call: call.map(Box::new),
            link: link(span, &trace).map(Box::new),
            notable: false,
            is_probe: span.parent_span_id.is_empty() && is_probe(span),
        };
        let failure = span.failure.as_ref().map_or(0, |message| message.len());
        let call = span.call.as_deref().map_or(0, |call| PER_CALL + call.host.len() + call.path.len());
        let link = if span.link.is_some() { PER_LINK } else { 0 };
        let bytes = PER_SPAN + span.service.len() + span.name.len() + failure + call + link;
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

    /// The trace of an item, which is added to the counts.
    fn trace(&mut self, id: Id, bytes: usize, now: Instant) -> &mut Trace {
        self.items += 1;
        self.bytes += bytes;
        let trace = self.traces.entry(id).or_insert_with(|| {
            let age = self.next_age;
            self.next_age += 1;
            self.ages.insert(age, id);
            self.bytes += PER_TRACE;
            let is_late = self.is_printed.contains(&id);
            Trace { age, is_late, latest: Some(now + self.wait), bytes: PER_TRACE, ..Trace::default() }
        });
        trace.bytes += bytes;
        trace
    }
}

/// `None` if the id is unset or invalid.
fn trace_id(id: &[u8]) -> Option<Id> {
    Id::try_from(id).ok().filter(|id| *id != Id::default())
}

/// 0 if the id is unset or invalid.
fn span_id(id: &[u8]) -> u64 {
    id.try_into().map_or(0, u64::from_be_bytes)
}

fn link(span: &views::Span<'_>, trace: &Id) -> Option<Link> {
    let mut links = span.links.clone();
    let more = links.len().saturating_sub(1);
    let first = SpanLink::read(links.next()?);
    let (linked, span) = (trace_id(first.trace_id)?, span_id(first.span_id));
    Some(Link { trace: linked, span, is_own: linked == *trace, more })
}
