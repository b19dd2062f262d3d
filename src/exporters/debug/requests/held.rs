//! The traces that are held: some wait to be printed, the others are kept because more of them may come.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::{Id, Log, Span};
use crate::exporters::debug::tree::{CLIENT, SERVER};

/// A complete trace is printed this long after the span that completed it.
const SETTLE: Duration = Duration::from_millis(250);
/// A printed trace that grows is printed again after this long without further items, the next time after twice as
/// long, and so on: a trace that grows without end costs little.
const QUIET: Duration = Duration::from_secs(1);
const DOUBLINGS: u32 = 6;
/// How long a printed trace is kept. It is not, if it has more items than this: each printing takes all of them.
const KEPT: Duration = Duration::from_secs(60);
const KEPT_ITEMS: usize = 1000;
/// Traces that were printed and forgotten, to recognize items that come late.
const FORGOTTEN: usize = 1024;
/// Calls that are known to be answered by a server with spans of its own. Beyond this many all are forgotten.
const ANSWERED: usize = 4096;
const PER_TRACE: usize = 2 * size_of::<Trace>() + 256;

#[derive(Default)]
pub(super) struct Trace {
    age: u64,
    /// When it is printed, even if it is incomplete.
    latest: Option<Instant>,
    /// When it is printed, if it is complete or has been printed before.
    settled: Option<Instant>,
    /// Until when it is kept, if it does not wait.
    kept: Option<Instant>,
    pub(super) spans: Vec<Span>,
    pub(super) logs: Vec<Log>,
    /// The number of its items, including spans that came twice.
    items: usize,
    bytes: usize,
    ids: HashSet<u64>,
    /// Parents that have not arrived.
    missing: HashSet<u64>,
    has_root: bool,
    /// The parents of servers' spans.
    served: HashSet<u64>,
    /// Calls whose server has not arrived, though it usually does.
    pub(super) unserved: HashSet<u64>,
    /// The spans and logs that have not been printed.
    pub(super) fresh: [usize; 2],
    /// How often it has been printed.
    pub(super) printed: u32,
    pub(super) is_wanted: bool,
    /// Something around its items was not kept.
    pub(super) has_gap: bool,
    /// It was printed and forgotten before these items came.
    pub(super) is_late: bool,
}

impl Trace {
    fn due(&self) -> Option<Instant> {
        [self.latest, self.settled].into_iter().flatten().min()
    }

    /// Adds a span; `is_served` if it is a call whose server usually has a span.
    pub(super) fn add_span(&mut self, span: Span, is_served: bool) {
        self.fresh[0] += 1;
        if span.kind == SERVER {
            self.served.insert(span.parent);
            self.unserved.remove(&span.parent);
        }
        if is_served && !self.served.contains(&span.id) {
            self.unserved.insert(span.id);
        }
        self.ids.insert(span.id);
        self.missing.remove(&span.id);
        self.has_root |= span.parent == 0;
        if span.parent != 0 && !self.ids.contains(&span.parent) {
            self.missing.insert(span.parent);
        }
        self.spans.push(span);
    }

    /// Sets the time at which it is due, after an item came.
    fn schedule(&mut self, had_spans: usize, wait: Duration, now: Instant) {
        let is_complete = self.has_root && self.missing.is_empty() && self.unserved.is_empty();
        let is_whole = is_complete || self.is_late;
        let patience = 1 << self.printed.min(DOUBLINGS);
        if self.printed > 0 {
            self.settled = Some(now + if is_whole { SETTLE * patience } else { QUIET * patience });
        } else if self.spans.len() > had_spans {
            self.settled = is_whole.then_some(now + SETTLE);
        }
        self.latest = self.latest.or(Some(now + wait * patience));
    }
}

#[derive(Default)]
pub(super) struct Held {
    wait: Duration,
    traces: HashMap<Id, Trace>,
    /// Waiting traces by age, the oldest first.
    waiting: BTreeMap<u64, Id>,
    /// Kept ones by the time since which they are.
    kept: BTreeMap<u64, Id>,
    next_age: u64,
    pub(super) total: usize,
    /// Items that have not been printed.
    pub(super) fresh: usize,
    pub(super) bytes: usize,
    forgotten: VecDeque<Id>,
    is_forgotten: HashSet<Id>,
    /// Hashes of the calls that servers with spans of their own have answered.
    answered: HashSet<u64>,
    hasher: RandomState,
}

impl Held {
    pub(super) fn new(wait: Duration) -> Held {
        Held { wait, ..Held::default() }
    }

    pub(super) fn traces(&self) -> usize {
        self.traces.len()
    }

    /// The oldest of the waiting traces.
    pub(super) fn oldest(&self) -> Option<Id> {
        self.waiting.values().next().copied()
    }

    /// Whether a trace was printed and is held no more.
    pub(super) fn is_forgotten(&self, id: &Id) -> bool {
        self.is_forgotten.contains(id) && !self.traces.contains_key(id)
    }

    pub(super) fn is_wanted(&self, id: &Id) -> bool {
        self.traces.get(id).is_some_and(|trace| trace.is_wanted)
    }

    /// Adds an item to its trace, which then waits to be printed.
    pub(super) fn add(&mut self, id: Id, bytes: usize, is_wanted: bool, now: Instant, put: impl FnOnce(&mut Trace)) {
        let is_late = self.is_forgotten.contains(&id);
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.bytes += PER_TRACE;
            Trace { is_late, bytes: PER_TRACE, kept: Some(now), ..Trace::default() }
        });
        // A new trace, and one that was kept, begins to wait.
        if trace.kept.take().is_some() {
            self.kept.remove(&trace.age);
            trace.age = self.next_age;
            self.next_age += 1;
            self.waiting.insert(trace.age, id);
        }
        let spans = trace.spans.len();
        put(trace);
        (trace.items, trace.bytes, trace.is_wanted) =
            (trace.items + 1, trace.bytes + bytes, trace.is_wanted || is_wanted);
        trace.schedule(spans, self.wait, now);
        (self.total, self.fresh, self.bytes) = (self.total + 1, self.fresh + 1, self.bytes + bytes);
    }

    /// Wants a trace to be shown. If its time is over, it is due at once.
    pub(super) fn want(&mut self, id: &Id, now: Instant) {
        let Some(trace) = self.traces.get_mut(id) else { return };
        trace.is_wanted = true;
        if trace.kept.take().is_some() {
            self.kept.remove(&trace.age);
            self.waiting.insert(trace.age, *id);
            trace.latest = Some(now);
        }
    }

    /// Whether a server with spans of its own usually answers this call. Of a failed one it may know nothing.
    pub(super) fn is_served(&self, span: &Span) -> bool {
        span.kind == CLIENT && span.failure.is_none() && self.answered.contains(&self.call(span))
    }

    fn call(&self, span: &Span) -> u64 {
        let target = span.call.as_deref().map(|call| (&call.host, call.template()));
        self.hasher.hash_one((&span.service, &span.name, target))
    }

    /// Learns from a trace which calls are answered.
    pub(super) fn learn(&mut self, trace: &Trace) {
        for span in trace.spans.iter().filter(|span| span.kind == CLIENT && trace.served.contains(&span.id)) {
            if self.answered.len() >= ANSWERED {
                self.answered.clear();
            }
            self.answered.insert(self.call(span));
        }
    }

    /// When something is due to be printed or forgotten.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waiting = self.waiting.values().filter_map(|id| self.traces.get(id)?.due()).min();
        let kept = self.kept.values().next().and_then(|id| self.traces.get(id)?.kept);
        [waiting, kept].into_iter().flatten().min()
    }

    /// The waiting traces that are due, the oldest first.
    pub(super) fn due(&self, now: Instant) -> Vec<Id> {
        let is_due = |id: &&Id| self.traces.get(*id).is_some_and(|trace| trace.due().is_none_or(|due| due <= now));
        self.waiting.values().filter(is_due).copied().collect()
    }

    /// Takes a trace out, to print it.
    pub(super) fn take(&mut self, id: &Id) -> Option<Trace> {
        let trace = self.traces.remove(id)?;
        self.waiting.remove(&trace.age);
        self.kept.remove(&trace.age);
        self.total -= trace.items;
        self.fresh -= trace.fresh.iter().sum::<usize>();
        self.bytes -= trace.bytes;
        Some(trace)
    }

    /// Takes a printed trace back, and keeps it for a while from this moment on.
    pub(super) fn put_back(&mut self, id: Id, mut trace: Trace, now: Option<Instant>) {
        let is_kept = trace.items <= KEPT_ITEMS && !trace.is_late;
        let Some(now) = now.filter(|_| is_kept) else { return self.remember(id, &trace) };
        (trace.fresh, trace.printed) = ([0, 0], trace.printed + 1);
        self.total += trace.items;
        self.bytes += trace.bytes;
        self.traces.insert(id, trace);
        self.keep(&id, now);
    }

    /// Lets a trace wait no longer.
    pub(super) fn keep(&mut self, id: &Id, now: Instant) {
        let Some(trace) = self.traces.get_mut(id) else { return };
        self.waiting.remove(&trace.age);
        (trace.latest, trace.settled, trace.kept) = (None, None, Some(now + KEPT));
        trace.age = self.next_age;
        self.next_age += 1;
        self.kept.insert(trace.age, *id);
    }

    /// Forgets the trace that has been kept longest; false if none is kept.
    pub(super) fn forget_one(&mut self) -> bool {
        let Some(id) = self.kept.values().next().copied() else { return false };
        if let Some(trace) = self.take(&id) {
            self.remember(id, &trace);
        }
        true
    }

    /// Forgets traces that have been kept for long enough.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_old = |held: &Held| {
            let oldest = held.kept.values().next().and_then(|id| held.traces.get(id));
            oldest.is_some_and(|trace| trace.kept.is_none_or(|kept| kept <= now))
        };
        while is_old(self) && self.forget_one() {}
    }

    /// Remembers the id of a printed trace.
    fn remember(&mut self, id: Id, trace: &Trace) {
        if trace.is_wanted && !trace.spans.is_empty() && self.is_forgotten.insert(id) {
            self.forgotten.push_back(id);
            if self.forgotten.len() > FORGOTTEN
                && let Some(oldest) = self.forgotten.pop_front()
            {
                self.is_forgotten.remove(&oldest);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.traces = HashMap::new();
        self.waiting.clear();
        self.kept.clear();
        (self.total, self.fresh, self.bytes) = (0, 0, 0);
    }
}
