//! Gathers requests while they arrive: spans and logs by their trace, until the trace is complete or its time is over.
//!
//! A trace is complete when its root, all parents that its spans name, and the servers of calls that usually have one
//! have arrived. It then waits a moment longer for other items, mostly logs. A printed trace is kept for a while, and
//! printed again if it grows. The memory of all traces (`held`) comes from the budget and is limited: beyond the limit
//! printed traces are forgotten, then the oldest waiting one is printed early, with a note that says so.

mod held;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Style;
pub(crate) use super::block::{List, Log, Remarks, Request, Told, Why, linked, named, words};
use super::call::{Call, is_probe};
use super::layout::Layout;
use super::line::{self, Line};
use super::metric;
use super::rates::Rates;
use super::text::Text;
use super::tree::{Link, Node, Row, Span};
use super::walk::{Step, walk};
use crate::otlp::pieces::Pieces;
use crate::otlp::views::{self, LogRecord, SpanLink};
use crate::telemetry::{Budget, Charge, Share, Signal};
use held::Held;

/// The kept width of a name, and of a message, in columns.
const TEXT: usize = 200;
pub(crate) const CAUSE: usize = 400;
/// The memory of an item beside its texts, in bytes: its struct in a list that grows by doubling, its entries in the
/// sets and maps of its trace and of the drawing, the allocator's overhead for each text; and for a span its node, its
/// row, and its key among the works.
const PER_SPAN: usize = 2 * size_of::<Span>() + size_of::<Node>() + size_of::<Row>() + 704;
const PER_CALL: usize = size_of::<Call>() + 64;
const PER_LINK: usize = size_of::<Link>() + 16;
const PER_LOG: usize = 2 * size_of::<Log>() + 224;

/// The charge for traces changes in steps of this size.
const STEP: u64 = 64 << 10;

pub const WAIT: Duration = Duration::from_secs(5);

/// The limits of the traces that are held.
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
pub(super) type Items = [u64; Signal::ALL.len()];

pub(crate) type Id = [u8; 16];

/// Why an item is not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Absent {
    #[default]
    NotArrived,
    /// Only some items of a trace are given.
    NotMatching,
    /// The past reaches back only so far.
    NotKept,
    /// Some were not read in time.
    Skipped,
}

impl Absent {
    pub(super) fn words(self) -> &'static str {
        match self {
            Absent::NotArrived => "has not arrived",
            Absent::NotMatching => "does not match",
            Absent::NotKept => "has not arrived or is no longer kept",
            Absent::Skipped => "has not arrived or was skipped",
        }
    }
}

/// The items of a request that are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    All,
    /// Items with a trace; the trace is gathered, but not yet wanted.
    Traces,
    /// Items without a trace; the traces of the others are wanted.
    Wanted,
}

#[derive(Default)]
pub struct Requests {
    /// The layout of the text that is written next.
    pub(crate) layout: Layout,
    pub(crate) absent: Absent,
    /// Whether something around the items that are added next was not kept.
    pub(crate) has_gap: bool,
    /// Which traces are written as a line each, in place of trees.
    pub(crate) list: Option<List>,
    limits: Limits,
    /// The memory of the traces, if it comes from a budget.
    charge: Option<Charge>,
    held: Held,
    rates: Rates,
}

impl Requests {
    pub fn new(layout: Layout, wait: Duration, limits: Limits) -> Requests {
        Requests { layout, limits, held: Held::new(wait), ..Requests::default() }
    }

    /// Charges the traces to a budget.
    pub fn within(mut self, budget: &Arc<Budget>) -> Requests {
        self.charge = Some(Charge::held(budget, Share::Queue, 0));
        self
    }

    /// Takes a request's items. Writes items without a trace, and traces that no longer have room. Returns the number
    /// of items it wrote.
    pub fn add(&mut self, signal: Signal, parts: &[&[u8]], now: Instant, to: &mut Pieces) -> Items {
        self.take(Take::All, signal, parts, now, to)
    }

    /// Takes a request of which only some items are wanted: with them their whole traces are shown, and items without a
    /// trace.
    pub fn add_selected(
        &mut self,
        signal: Signal,
        parts: &[&[u8]],
        wanted: &[&[u8]],
        now: Instant,
        to: &mut Pieces,
    ) -> Items {
        let early = self.take(Take::Traces, signal, parts, now, to);
        let mut written = self.take(Take::Wanted, signal, wanted, now, to);
        written.iter_mut().zip(early).for_each(|(written, early)| *written += early);
        written
    }

    #[expect(clippy::indexing_slicing, reason = "one count a signal, indexed by it")]
    fn take(&mut self, take: Take, signal: Signal, parts: &[&[u8]], now: Instant, to: &mut Pieces) -> Items {
        let (mut written, mut service, layout) = (Items::default(), Arc::default(), self.layout);
        let is_list = self.list.is_some();
        walk(&mut Text::new(to, Style::default()), parts, &mut |text, _, step| {
            let message = match step {
                Step::Resource(group) => return service = line::service(&group),
                Step::Scope(_) => return,
                Step::Record(message) => message,
            };
            let mut put = |line: Line| {
                written[signal as usize] += 1;
                // A list has requests only.
                take == Take::Traces || is_list || line.put(layout, text.to)
            };
            match signal {
                Signal::Metrics => metric::lines(message, &service, layout.longest(), &mut self.rates, &mut put),
                Signal::Logs => {
                    let record = LogRecord::read(message);
                    let id = trace_id(record.trace_id);
                    let line = || line::log(&record, &service, layout.longest().max(CAUSE));
                    match id.filter(|id| !self.held.is_forgotten(id)) {
                        Some(id) if take == Take::Wanted => self.held.want(&id, now),
                        Some(id) => self.log(id, &record, line(), take, now),
                        None => _ = put(line()),
                    }
                }
                Signal::Traces => {
                    let span = views::Span::read(message);
                    match trace_id(span.trace_id).filter(|_| span_id(span.span_id) != 0) {
                        Some(id) if take == Take::Wanted => self.held.want(&id, now),
                        Some(id) => self.span(id, &span, &service, take, now),
                        None => _ = put(line::span(&span, &service, layout.longest())),
                    }
                }
            }
            while self.is_over() {
                if self.held.forget_one() {
                    continue;
                }
                let Some(oldest) = self.held.oldest() else { break };
                self.print(oldest, Why::Full, text.to, &mut written);
            }
            text.to.breathe();
        });
        written
    }

    /// Whether more is held than the limits and the budget allow. At most a quarter of the share for queues is used.
    fn is_over(&self) -> bool {
        let Limits { traces, items, bytes } = self.limits;
        let is_within = self.held.traces() <= traces && self.held.total <= items && self.held.bytes <= bytes;
        let has_memory = |charge: &Charge| {
            let (paid, wanted) = (charge.bytes(), (self.held.bytes as u64).next_multiple_of(STEP));
            wanted <= paid || wanted <= charge.limit() / 4 && charge.grow(wanted - paid)
        };
        !is_within || !self.charge.as_ref().is_none_or(has_memory)
    }

    /// Discards everything.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.give_back();
    }

    /// Gives back the charge beyond the traces.
    fn give_back(&self) {
        self.charge.iter().for_each(|charge| charge.shrink_to((self.held.bytes as u64).next_multiple_of(STEP)));
    }

    /// The number of items that wait to be printed.
    pub fn items(&self) -> usize {
        self.held.fresh
    }

    /// When the next trace is due to be printed, or forgotten.
    pub fn wake_at(&self) -> Option<Instant> {
        self.held.wake_at()
    }

    /// Writes due traces; returns the number of items it wrote.
    pub fn print_due(&mut self, now: Instant, to: &mut Pieces) -> Items {
        let mut written = Items::default();
        for id in self.held.due(now) {
            match self.held.is_wanted(&id) {
                true => self.print(id, Why::Due(now), to, &mut written),
                false => self.held.keep(&id, now),
            }
        }
        self.held.forget_old(now);
        self.give_back();
        written
    }

    /// Writes all waiting traces.
    pub fn print_all(&mut self, to: &mut Pieces) -> Items {
        let mut written = Items::default();
        while let Some(oldest) = self.held.oldest() {
            self.print(oldest, Why::End, to, &mut written);
        }
        self.clear();
        written
    }

    /// Writes a trace, if it is wanted, and keeps it if it is due: then more of it may come.
    #[expect(clippy::indexing_slicing, reason = "one count a signal, indexed by it")]
    fn print(&mut self, id: Id, why: Why, to: &mut Pieces, written: &mut Items) {
        let Some(mut trace) = self.held.take(&id) else { return };
        let [spans, logs] = trace.fresh;
        written[Signal::Logs as usize] += logs as u64;
        written[Signal::Traces as usize] += spans as u64;
        if trace.is_wanted {
            let again = (trace.printed > 0).then_some(trace.fresh);
            let (is_late, has_gap, absent) = (trace.is_late, trace.has_gap, self.absent);
            let unserved = trace.unserved.len();
            let request = Request { trace: id, why, again, is_late, has_gap, unserved, absent };
            request.draw(&mut trace.spans, &mut trace.logs, self.layout, self.list.as_mut(), to);
        }
        self.held.learn(&trace);
        self.held.put_back(id, trace, if let Why::Due(now) = why { Some(now) } else { None });
        self.give_back();
    }

    fn log(&mut self, id: Id, record: &LogRecord<'_>, line: Line, take: Take, now: Instant) {
        let bytes = PER_LOG + line.kind.len() + line.service.len() + line.words.len();
        let has_gap = self.has_gap;
        self.held.add(id, bytes, take == Take::All, now, |trace| {
            trace.has_gap |= has_gap;
            trace.fresh[1] += 1;
            trace.logs.push(Log { span: span_id(record.span_id), line });
        });
    }

    fn span(&mut self, trace: Id, span: &views::Span<'_>, service: &Arc<str>, take: Take, now: Instant) {
        let span = read_span(&trace, span, service);
        let failure = span.failure.as_ref().map_or(0, |message| message.len());
        let call = span.call.as_deref().map_or(0, |call| PER_CALL + call.host.len() + call.path.len());
        let link = if span.link.is_some() { PER_LINK } else { 0 };
        let bytes = PER_SPAN + span.service.len() + span.name.len() + failure + call + link;
        let (has_gap, is_served) = (self.has_gap, self.held.is_served(&span));
        self.held.add(trace, bytes, take == Take::All, now, |trace| {
            trace.has_gap |= has_gap;
            trace.add_span(span, is_served);
        });
    }
}

/// What the tree needs of a span.
pub(crate) fn read_span(trace: &Id, span: &views::Span<'_>, service: &Arc<str>) -> Span {
    let (name, call) = Call::read(span, TEXT);
    // The answer of the call says the same.
    let is_answer = |message: &String| call.as_ref().is_some_and(|call| *call.answer == **message);
    let failure = line::failure(span, CAUSE).map(|text| if is_answer(&text) { String::new() } else { text });
    Span {
        id: span_id(span.span_id),
        parent: span_id(span.parent_span_id),
        start: span.start,
        end: span.end,
        kind: span.kind,
        service: service.clone(),
        name: name.into(),
        failure: failure.map(Into::into),
        call: call.map(Box::new),
        link: link(span, trace).map(Box::new),
        notable: false,
        is_probe: span.parent_span_id.is_empty() && is_probe(span),
    }
}

/// `None` if the id is unset or invalid.
pub(crate) fn trace_id(id: &[u8]) -> Option<Id> {
    Id::try_from(id).ok().filter(|id| *id != Id::default())
}

/// 0 if the id is unset or invalid.
pub(crate) fn span_id(id: &[u8]) -> u64 {
    id.try_into().map_or(0, u64::from_be_bytes)
}

fn link(span: &views::Span<'_>, trace: &Id) -> Option<Link> {
    let mut links = span.links.clone();
    let more = links.len().saturating_sub(1);
    let first = SpanLink::read(links.next()?);
    let (linked, span) = (trace_id(first.trace_id)?, span_id(first.span_id));
    Some(Link { trace: linked, span, is_own: linked == *trace, more })
}
