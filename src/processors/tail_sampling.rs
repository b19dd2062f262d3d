//! `tail_sampling`: keeps or drops whole traces, once they had the time to become whole.
//!
//! It answers at once and holds what it took until its trace is decided on, at most half of the queue's memory, what is known of
//! traces included: the other half is for what is handed on. A trace is found and decided on the wire; its spans are copied once, if it is kept.

mod config;
mod counts;
mod policy;
mod recent;
mod spans;
mod state;

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::smallvec;
use tokio::sync::Notify;

use crate::diagnostics::metrics::{Observe, Page};
use crate::otlp::slice;
use crate::telemetry::{
    Accounts, Alarm, Ask, Budget, Charge, Drain, Fate, Fill, Full, Holder, Load, Now, Part, Passed, Reason, Refusal,
    Rules, Share, Signal, Sink, Tally, Telemetry, Wakeful, clock, is_small,
};

use super::outbox::{Next, Outbox};
use super::{Stage, StageParts};
pub(crate) use config::Config;
use counts::Counts;
use policy::{Decision, Trace};
use recent::Recent;
use spans::{Gathered, Piece, gather, request_len, write_request};
use state::{Remembered, State};

/// Traces are decided on in groups, so often.
const TICK: Duration = Duration::from_millis(100);
/// What a trace takes beside its spans, and an id in a cache, in bytes: at most, since tables grow to twice their size.
const TRACE: usize = 400;
const CACHED: usize = 200;
/// The part of its memory that only small requests may take, and the part that is there for traces that wait, however much
/// is known of decided ones.
const FOR_SMALL: u64 = 16;
const FOR_WAITING: u64 = 4;
/// A trace with more bytes than this is handed on in several requests.
const PAYLOAD: usize = 1 << 20;

/// One `tail_sampling` in one pipeline of traces.
struct TailSampling {
    config: Arc<Config>,
    /// Of the config's, as many as the memory budget has room for.
    num_traces: usize,
    outbox: Arc<Outbox>,
    /// Itself, for what it decides aside.
    this: Weak<TailSampling>,
    accounts: Accounts,
    id: Box<str>,
    budget: Arc<Budget>,
    _holder: Holder,
    alarm: Arc<Alarm>,
    room: Notify,
    started: Instant,
    state: Mutex<State>,
    /// Spans that wait, and bytes that they hold.
    held_spans: AtomicU64,
    held_bytes: Arc<AtomicU64>,
    /// What is known of traces, in the queue's share.
    known: Charge,
    counts: Counts,
}

impl TailSampling {
    fn new(config: Arc<Config>, parts: StageParts) -> Arc<TailSampling> {
        let StageParts { id, outlet, accounts, budget, alarm, .. } = parts;
        let queue = budget.limit(Share::Queue) as usize;
        let fitting = |key: &str, wanted: usize, most: usize| {
            if wanted > most {
                tracing::warn!(processor = id, wanted, most, "{key} would take more memory than the budget has for it");
            }
            wanted.min(most)
        };
        let num_traces = fitting("num_traces", config.num_traces, queue / 2 / TRACE);
        let cached = |key, wanted| Recent::new(fitting(key, wanted, queue / 8 / CACHED));
        let counts = Counts::new(id, config.policies.iter().map(|(name, _)| name));
        let state = State {
            sampled: cached("sampled_cache_size", config.sampled_cache_size),
            not_sampled: cached("non_sampled_cache_size", config.non_sampled_cache_size),
            ..State::default()
        };
        Arc::new_cyclic(|this| TailSampling {
            this: this.clone(),
            id: id.into(),
            _holder: budget.add_holder(),
            config,
            num_traces,
            outbox: Outbox::new(outlet, accounts.clone(), budget.clone(), alarm.clone()),
            accounts,
            alarm,
            room: Notify::new(),
            started: clock(),
            state: Mutex::new(state),
            held_spans: AtomicU64::new(0),
            held_bytes: Arc::default(),
            known: Charge::held(&budget, Share::Queue, 0),
            budget,
            counts,
        })
    }

    /// The first tick that is so much later.
    fn tick_after(&self, now: Instant, wait: Duration) -> Instant {
        let ticks = (now.saturating_duration_since(self.started) + wait).as_nanos().div_ceil(TICK.as_nanos());
        self.started + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Charges what is known of traces, as it is now.
    fn charge(&self, state: &State) {
        let (bytes, charged) = (state.bytes(), self.known.bytes());
        self.known.add(bytes.saturating_sub(charged));
        self.known.shrink_to(bytes);
    }

    /// Spans that are not kept, with the rule that says so.
    fn leave_out(&self, rule: &dyn Display, pieces: &[Piece]) {
        let account = self.accounts.first().filter(|account| account.wants_filtered());
        if let Some(account) = account.filter(|_| !pieces.is_empty()) {
            let rule: Arc<dyn Rules> = Arc::new(rule.to_string());
            account.show_filtered(&self.id, &rule, &self.request(pieces, Now::read()));
        }
        self.let_go(Reason::SampledOut, pieces);
    }

    /// Spans that nobody waits for any more.
    fn let_go(&self, reason: Reason, pieces: &[Piece]) {
        let spans = pieces.iter().map(|piece| u64::from(piece.spans)).sum();
        self.held_spans.fetch_sub(spans, Relaxed);
        for account in &self.accounts {
            account.drop_items(reason, spans);
        }
        if let Some(account) = self.accounts.first() {
            let mut tally = Tally::default();
            pieces.iter().for_each(|piece| tally.add_group(&piece.header.resource, u64::from(piece.spans)));
            let fate = if reason.is_rule() { Fate::Filtered } else { Fate::Dropped };
            account.bill.settle(&tally, fate, 0, self.accounts.len());
        }
    }

    fn remove(&self, state: &mut State, id: u128, now: Instant) -> Option<Remembered> {
        let removed = state.traces.remove(&id)?;
        state.pending -= usize::from(removed.decided.is_none());
        self.counts.removal_seconds.record(now.saturating_duration_since(removed.arrived).as_secs());
        Some(removed)
    }

    /// Forgets the oldest trace; one that waits for its decision is lost.
    fn evict(&self, state: &mut State, now: Instant) {
        while let Some((number, id)) = state.order.pop_front() {
            if state.traces.get(&id).is_none_or(|trace| trace.number != number) {
                continue;
            }
            if let Some(evicted) = self.remove(state, id, now).filter(|evicted| evicted.decided.is_none()) {
                self.counts.too_early.fetch_add(1, Relaxed);
                self.let_go(Reason::Evicted, &evicted.pieces);
            }
            return;
        }
    }

    /// Where a span belongs that came now.
    fn place(&self, state: &mut State, span: &Gathered, now: Instant, late: &mut Late) {
        let id = span.trace_id;
        if !state.sampled.is_off() && state.sampled.has(id) {
            self.counts.released_kept.fetch_add(1, Relaxed);
            return span.push(late.kept.entry(id).or_default());
        }
        if !state.not_sampled.is_off() && state.not_sampled.has(id) {
            self.counts.released_dropped.fetch_add(1, Relaxed);
            return span.push(&mut late.dropped);
        }
        if !state.traces.contains_key(&id) {
            if state.traces.len() >= self.num_traces {
                self.evict(state, now);
            }
            self.counts.new_traces.fetch_add(1, Relaxed);
            state.next += 1;
            let (number, due) = (state.next, self.tick_after(now, self.config.decision_wait));
            state.order.push_back((number, id));
            state.forget();
            state.pending += 1;
            let trace = Remembered { number, arrived: now, due, pieces: Vec::new(), spans: 0, bytes: 0, decided: None };
            state.traces.insert(id, trace);
        }
        let Some(trace) = state.traces.get_mut(&id) else { return };
        trace.bytes += span.length;
        match trace.decided {
            None => {
                span.push(&mut trace.pieces);
                trace.spans += 1;
                let wait = self.config.wait_after_root;
                if span.is_root && !wait.is_zero() {
                    let due = self.tick_after(now, wait);
                    if due < trace.due {
                        trace.due = due;
                        state.due_after_root.push_back((due, trace.number, id));
                    }
                }
                let limit = self.config.maximum_trace_size;
                if limit > 0 && trace.bytes > limit {
                    self.counts.too_large.fetch_add(1, Relaxed);
                    self.leave_out(&"maximum_trace_size_bytes", &std::mem::take(&mut trace.pieces));
                    self.remember(state, id, false, now);
                }
            }
            Some((is_kept, decided)) => {
                self.counts.late_seconds.record(now.saturating_duration_since(decided).as_secs());
                span.push(if is_kept { late.kept.entry(id).or_default() } else { &mut late.dropped });
            }
        }
    }

    /// Notes what was decided, for spans that come late.
    fn remember(&self, state: &mut State, id: u128, is_kept: bool, now: Instant) {
        let cache = if is_kept { &mut state.sampled } else { &mut state.not_sampled };
        if !cache.is_off() {
            cache.add(id);
            self.remove(state, id, now);
        } else if let Some(trace) = state.traces.get_mut(&id) {
            trace.decided = Some((is_kept, now));
            state.pending -= 1;
        }
    }

    /// Takes a trace that is due, or any.
    fn take_due(&self, now: Instant, everything: bool) -> Option<Due> {
        let mut state = self.state.lock();
        let state = &mut *state;
        loop {
            let is_due = |due: &Instant| everything || *due <= now;
            let early = state.due_after_root.front().copied().filter(|(due, ..)| is_due(due));
            let (_, number, id) = early.or_else(|| state.oldest_pending().filter(|(due, ..)| is_due(due)))?;
            match early {
                Some(_) => _ = state.due_after_root.pop_front(),
                None => state.undecided = number + 1,
            }
            let trace = state.traces.get_mut(&id).filter(|trace| trace.number == number && trace.decided.is_none());
            if let Some(trace) = trace.filter(|trace| !trace.pieces.is_empty()) {
                return Some(Due { id, number, pieces: std::mem::take(&mut trace.pieces), spans: trace.spans });
            }
        }
    }

    /// Decides on what is due and hands on what is kept.
    fn settle(&self, now: Now, drain: Option<Drain>) {
        let everything = drain.is_some();
        if let Some(deciding) = self.begin() {
            let left = self.decide_due(now, everything, None);
            let this = self.this.upgrade().filter(|_| left.is_some());
            if let Some(this) = this {
                // It keeps the turn until then, and asks for a wake-up to hand on what is kept.
                deciding.hand_over();
                self.budget.aside.start(move || {
                    let _deciding = Deciding { stage: &this, is_aside: true };
                    this.decide_due(now, everything, left);
                });
            }
        }
        self.flush(now, drain);
    }

    /// The right to decide; nobody has it while another does.
    fn begin(&self) -> Option<Deciding<'_>> {
        let is_other = std::mem::replace(&mut self.state.lock().is_deciding, true);
        (!is_other).then_some(Deciding { stage: self, is_aside: false })
    }

    /// Decides on all that is due: aside from `first` on, else for a slice of time. Returns the trace that would take longer.
    fn decide_due(&self, now: Now, everything: bool, first: Option<Due>) -> Option<Due> {
        let (started, is_aside) = (Instant::now(), first.is_some());
        let (mut next, mut left) = (first.or_else(|| self.take_due(now.instant, everything)), None);
        let mut decided = 0;
        while let Some(due) = next {
            if !is_aside && (started.elapsed() >= slice::SLICE || self.is_work(&due)) {
                left = Some(due);
                break;
            }
            self.decide_one(due, now);
            decided += 1;
            next = self.take_due(now.instant, everything);
        }
        if decided > 0 {
            self.counts.decision_milliseconds.record(started.elapsed().as_millis() as u64);
            let mut state = self.state.lock();
            state.trim();
            self.charge(&state);
            drop(state);
            self.room.notify_waiters();
        }
        left
    }

    /// Whether others cannot wait until the policies have seen all of a trace, or have found a pattern in it.
    fn is_work(&self, due: &Due) -> bool {
        self.config.has_patterns || slice::is_large(request_len(&due.pieces) as u64, due.spans)
    }

    fn decide_one(&self, due: Due, now: Now) {
        let Due { id, number, pieces, spans } = due;
        let (decision, dropped_by) = self.decide(&Trace { id, pieces: &pieces, spans, now });
        self.counts.all.add(decision);
        let is_kept = decision == Decision::Sampled;
        let mut state = self.state.lock();
        // Spans may have come while it was decided on, so many that it was dropped as too large.
        let is_it = |trace: &&mut Remembered| trace.number == number && trace.decided.is_none();
        let trace = state.traces.get_mut(&id).filter(is_it);
        let is_known = trace.is_some();
        let more = trace.map(|trace| std::mem::take(&mut trace.pieces)).unwrap_or_default();
        if is_known {
            self.remember(&mut state, id, is_kept, now.instant);
        }
        let pieces: Vec<Piece> = pieces.into_iter().chain(more).collect();
        match dropped_by {
            _ if is_kept => state.ready.push_back(pieces),
            Some(policy) => self.leave_out(&format_args!("policy {policy}"), &pieces),
            None => self.leave_out(&"no policy samples it", &pieces),
        }
    }

    /// Any that drops, else any that samples. With the name of the policy that drops it.
    fn decide(&self, trace: &Trace) -> (Decision, Option<&str>) {
        let mut sampled = false;
        for ((name, policy), counts) in self.config.policies.iter().zip(&self.counts.policies) {
            let started = Instant::now();
            // A policy that panics has failed for this trace, whose spans are still accounted for.
            let decision = catch_unwind(AssertUnwindSafe(|| policy.evaluate(trace)));
            counts.nanoseconds.fetch_add(started.elapsed().as_nanos() as u64, Relaxed);
            counts.runs.fetch_add(1, Relaxed);
            let Ok(Ok(decision)) = decision else {
                self.counts.errors.fetch_add(1, Relaxed);
                continue;
            };
            counts.decisions.add(decision);
            match decision {
                Decision::Dropped => return (Decision::Dropped, Some(name)),
                Decision::Sampled if self.config.sample_on_first_match => return (Decision::Sampled, None),
                decision => sampled |= decision == Decision::Sampled,
            }
        }
        (if sampled { Decision::Sampled } else { Decision::NotSampled }, None)
    }

    /// Hands on traces that are kept until what follows refuses.
    fn flush(&self, now: Now, drain: Option<Drain>) {
        let ask = Ask { alone: true, waited: true, is_end: drain == Some(Drain::Shutdown) };
        let gone = self.outbox.flush(now, ask, drain.is_some(), || self.next(now));
        self.held_spans.fetch_sub(gone, Relaxed);
        if let Some(at) = self.outbox.due_at(|| None) {
            self.alarm.ring_at(at);
        }
    }

    /// The next request: a trace, or as much of it as goes into one.
    fn next(&self, now: Now) -> Option<Next> {
        let payload: Vec<Piece> = {
            let mut state = self.state.lock();
            let pieces = state.ready.front_mut()?;
            let mut length = 0;
            let fits = |piece: &&Piece| {
                length += request_len(std::slice::from_ref(*piece));
                length <= PAYLOAD
            };
            let count = pieces.iter().take_while(fits).count().max(1).min(pieces.len());
            let payload = pieces.drain(..count).collect();
            if pieces.is_empty() {
                state.ready.pop_front();
            }
            payload
        };
        Some(Next::Batch(self.request(&payload, now)))
    }

    fn request(&self, pieces: &[Piece], now: Now) -> Telemetry {
        let items = pieces.iter().map(|piece| piece.spans).sum();
        // Beyond the limit, as what processors make of a batch: from a full queue nothing could be handed on otherwise.
        let charge = Charge::held(&self.budget, Share::Queue, 0);
        charge.add(request_len(pieces) as u64);
        let parts = smallvec![Part::new(write_request(pieces), items, charge)];
        let tickets = Default::default();
        Telemetry { signal: Signal::Traces, parts, client: None, received: now, tickets }
    }
}

/// A trace that is taken out to be decided on.
struct Due {
    id: u128,
    number: u64,
    pieces: Vec<Piece>,
    spans: u64,
}

/// Held while traces are decided on.
struct Deciding<'a> {
    stage: &'a TailSampling,
    is_aside: bool,
}

impl Deciding<'_> {
    /// Another has it from now on.
    fn hand_over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.stage.state.lock().is_deciding = false;
        if self.is_aside {
            self.stage.alarm.ring();
        }
    }
}

/// Spans of traces that are decided on.
#[derive(Default)]
struct Late {
    kept: HashMap<u128, Vec<Piece>>,
    dropped: Vec<Piece>,
}

impl Sink for TailSampling {
    fn overhead(&self, telemetry: &Telemetry) -> u64 {
        telemetry.parts.iter().map(spans::overhead).sum()
    }

    fn looks_at_items(&self) -> bool {
        true
    }

    fn reserve(&self, _: &Telemetry, load: Load, _: Ask) -> Result<(), Full> {
        let (need, size) = (load.fresh_held_bytes(), load.held_bytes());
        let all = self.budget.limit(Share::Queue) / 2;
        // Traces wait for long: a few large requests must not keep everyone out.
        let most = if is_small(size, all) { all } else { all - all / FOR_SMALL };
        if size > most {
            return Err(Full::Refuse(Refusal::TooLarge {
                limit: most,
                unit: "bytes with what tail_sampling keeps beside each span",
            }));
        }
        let most_traces = self.num_traces as u64;
        let waiting = self.config.block_on_overflow.then(|| self.state.lock().pending as u64);
        if let Some(used) = waiting.filter(|waiting| *waiting >= most_traces) {
            let fill = Fill { limit: "num_traces", used, most: most_traces, unit: "traces" };
            return Err(Full::Refuse(Refusal::full(Reason::QueueFull, fill)));
        }
        // It is counted at once, since others reserve before this is committed.
        let (waiting, known) = (self.held_bytes.fetch_add(size, Relaxed), self.known.bytes());
        // What is known of decided traces is only forgotten for new ones, so it must not keep these out.
        let room = most.saturating_sub(known).max(all / FOR_WAITING);
        let (held, fits) = (waiting + known, waiting == 0 || waiting + size <= room);
        if !(fits && self.budget.allows(held, size, need) && self.budget.take(Share::Queue, need)) {
            self.held_bytes.fetch_sub(size, Relaxed);
            let fill = Fill { limit: "memory for traces that wait", used: waiting, most: room, unit: "bytes" };
            let fill = if fits { self.budget.queue_fill(held, size, need) } else { fill };
            return Err(Full::Refuse(Refusal::full(Reason::MemoryFull, fill)));
        }
        Ok(())
    }

    fn release(&self, load: Load) {
        self.held_bytes.fetch_sub(load.held_bytes(), Relaxed);
        self.budget.give_back(Share::Queue, load.fresh_held_bytes());
    }

    fn commit(&self, mut telemetry: Telemetry, load: Load) {
        let now = telemetry.received;
        let mut late = Late::default();
        for part in telemetry.parts.drain(..) {
            // A lock for each, so that nobody waits for all spans of a large request.
            gather(part, &self.held_bytes, |span| {
                self.held_spans.fetch_add(1, Relaxed);
                self.place(&mut self.state.lock(), &span, now.instant, &mut late);
            });
        }
        {
            let mut state = self.state.lock();
            state.ready.extend(late.kept.drain().map(|(_, pieces)| pieces));
            self.charge(&state);
            if let Some(due) = state.next_due() {
                self.alarm.ring_at(due);
            }
        }
        self.leave_out(&"late for a trace that was not kept", &late.dropped);
        telemetry.resolve(Ok(()));
        // The spans are counted now.
        self.release(load);
        self.flush(now, None);
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn answers(&self, _is_batched: bool) -> bool {
        false
    }

    fn full_since(&self) -> Option<Instant> {
        self.outbox.refused_since()
    }

    fn skip(&self, telemetry: &Telemetry) {
        self.accounts.iter().for_each(|account| account.skip(telemetry));
    }
}

impl Wakeful for TailSampling {
    fn wake_at(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let (due, is_ready) = (state.next_due().filter(|_| !state.is_deciding), !state.ready.is_empty());
        drop(state);
        due.into_iter().chain(self.outbox.due_at(|| is_ready.then_some(self.started))).min()
    }

    fn waits_for(&self) -> Vec<Arc<dyn Sink>> {
        self.outbox.waits_for().into_iter().collect()
    }

    fn wake(&self, now: Now) {
        self.settle(now, None);
    }

    fn drain(&self, now: Now, why: Drain) -> bool {
        if self.config.drop_pending {
            while let Some(Due { id, pieces, .. }) = self.take_due(now.instant, true) {
                self.let_go(Reason::Shutdown, &pieces);
                self.remember(&mut self.state.lock(), id, false, now.instant);
            }
        }
        self.settle(now, Some(why));
        let is_empty = self.held_items() == 0;
        if is_empty {
            let mut state = self.state.lock();
            *state = State { next: state.next, ..State::default() };
            self.charge(&state);
        }
        is_empty
    }
}

impl Stage for TailSampling {
    fn held_items(&self) -> u64 {
        self.held_spans.load(Relaxed)
    }

    fn passed(&self) -> &Passed {
        self.outbox.passed()
    }

    fn accounts(&self) -> &Accounts {
        &self.accounts
    }
}

impl Observe for TailSampling {
    fn observe(&self, page: &mut Page) {
        page.gauge(&counts::name("sampling_traces_on_memory"), &[], self.state.lock().traces.len() as f64);
        self.counts.observe(page);
    }
}
