//! The pipelines at run time: segments of processors, called as plain functions, each ending in sinks.
//!
//! A request is *planned* (processors run, no shared state changes), a place is *reserved* in every sink it goes to,
//! and then it is *committed* to all of them at once. The only await is for a place, and the request holds no other
//! place while it waits.

pub(crate) mod intake;
pub(crate) mod timekeeper;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::config::PipelineId;
use crate::diagnostics::metrics::{Observe, Page};
use crate::otlp::slice;
use crate::processors::{Notes, Processor};
use crate::telemetry::{
    Accounts, Ask, Blocked, Full, Now, Outlet, Passed, Place, Planned, Reason, Receipt, Refusal, Signal, Sink, Tally,
    Telemetry, Tickets,
};

/// How long a sink may refuse before its siblings stop waiting for it.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// The same at shutdown: the other sinks must finish before the drain deadline.
const STUCK_AT_END: Duration = Duration::from_secs(2);

/// One processor of one pipeline, with its counters.
pub struct Step {
    pub pipeline: PipelineId,
    pub id: String,
    pub signal: Signal,
    pub processor: Arc<dyn Processor>,
    /// Accounts to charge for items this step drops.
    pub accounts: Accounts,
    pub incoming: Passed,
    pub outgoing: Passed,
}

/// The processors between one stage or receiver and the next sink.
pub struct Segment {
    pub steps: Vec<Arc<Step>>,
    pub ends: Vec<End>,
}

pub enum End {
    Sink(Arc<dyn Sink>),
    /// A connector: the first segment of another pipeline.
    Segment(Arc<Segment>),
}

/// All segments that follow a receiver or a stage.
pub struct Branches {
    segments: Vec<Arc<Segment>>,
    /// Accounts to charge for accepted items that a processor then cannot take.
    accounts: Accounts,
}

/// The branches that follow a receiver or a stage; `None` while no pipeline takes from it. A reload exchanges them.
/// Callers clone the `Arc`, so the old branches are dropped when the last request using them ends.
#[derive(Default)]
pub struct Next(Mutex<Option<Arc<Branches>>>);

/// The telemetry for each sink, and the counts to publish when it is committed.
struct Plan {
    shares: SmallVec<[ForSink; 1]>,
    tally: Vec<Count>,
}

/// Telemetry for one sink.
struct ForSink {
    sink: Arc<dyn Sink>,
    telemetry: Telemetry,
    /// Memory that the sink needs beside the bytes.
    overhead: u64,
}

/// The effect of one step on one request.
struct Count {
    step: Arc<Step>,
    /// Items and bytes.
    incoming: (u64, u64),
    outgoing: (u64, u64),
    notes: Notes,
    /// The bill before and after the step, if they differ.
    billed: Option<Box<(Tally, Tally)>>,
    /// What came to it, if somebody wants to see what its rules remove.
    shown: Option<Box<Telemetry>>,
}

/// A plan with a place in every sink; a share whose place is `None` is skipped.
struct Reserved {
    places: SmallVec<[Option<Place>; 1]>,
}

impl Observe for Step {
    fn observe(&self, page: &mut Page) {
        let labels = [("processor", self.id.as_str()), ("otel_signal", self.signal.name())];
        let incoming = self.incoming.items();
        if incoming > 0 {
            page.counter("otelcol_processor_incoming_items", &labels, incoming);
            page.counter("otelcol_processor_outgoing_items", &labels, self.outgoing.items());
            self.processor.observe(page, &self.id, self.signal, incoming);
        }
    }
}

impl Segment {
    fn plan(&self, mut telemetry: Telemetry, now: Now, plan: &mut Plan) -> Result<(), Refusal> {
        let mut tally = None;
        for step in &self.steps {
            let (incoming, mut notes) = (telemetry.size(), Notes::new());
            if step.processor.is_billed() && tally.is_none() {
                tally = Some(Tally::of(&telemetry));
            }
            let is_watched = step.accounts.first().is_some_and(|account| account.wants_filtered());
            let came = is_watched.then(|| Box::new(telemetry.share()));
            let kept = step.processor.process(telemetry, now, &mut notes)?;
            let outgoing = kept.as_ref().map_or((0, 0), Telemetry::size);
            let shown = came.filter(|_| outgoing.0 < incoming.0);
            let before = tally.take_if(|_| step.processor.is_billed());
            let billed = before.and_then(|before| {
                let after = kept.as_ref().map_or_else(Tally::default, Tally::of);
                let same = before == after;
                tally = Some(after.clone());
                (!same).then(|| Box::new((before, after)))
            });
            plan.tally.push(Count { step: step.clone(), incoming, outgoing, notes, billed, shown });
            match kept {
                Some(kept) => telemetry = kept,
                None => return Ok(()),
            }
        }
        let Some((last, others)) = self.ends.split_last() else { return Ok(()) };
        for end in others {
            end.plan(telemetry.share(), now, plan)?;
        }
        last.plan(telemetry, now, plan)
    }

    fn looks_at_items(&self) -> bool {
        let behind = |end: &End| match end {
            End::Sink(sink) => sink.looks_at_items(),
            End::Segment(segment) => segment.looks_at_items(),
        };
        !self.steps.is_empty() || self.ends.iter().any(behind)
    }

    fn answers(&self, is_batched: bool) -> bool {
        self.ends.iter().any(|end| match end {
            End::Sink(sink) => sink.answers(is_batched),
            End::Segment(segment) => segment.answers(is_batched),
        })
    }
}

impl End {
    fn plan(&self, telemetry: Telemetry, now: Now, plan: &mut Plan) -> Result<(), Refusal> {
        match self {
            End::Sink(sink) => {
                let overhead = sink.overhead(&telemetry);
                plan.shares.push(ForSink { sink: sink.clone(), telemetry, overhead });
            }
            End::Segment(segment) => segment.plan(telemetry, now, plan)?,
        }
        Ok(())
    }
}

impl Branches {
    pub fn new(segments: Vec<Arc<Segment>>, accounts: Accounts) -> Branches {
        Branches { segments, accounts }
    }

    /// Whether planning or committing needs more work than passing the telemetry on.
    fn look_at_items(&self) -> bool {
        self.segments.iter().any(|segment| segment.looks_at_items())
    }

    /// Runs the processors. A panic in one of them fails this request only.
    fn plan(&self, telemetry: Telemetry, now: Now) -> Result<Plan, Refusal> {
        let mut plan = Plan { shares: SmallVec::new(), tally: Vec::new() };
        let run = AssertUnwindSafe(|| {
            let Some((last, others)) = self.segments.split_last() else { return Ok(()) };
            for segment in others {
                segment.plan(telemetry.share(), now, &mut plan)?;
            }
            last.plan(telemetry, now, &mut plan)
        });
        catch_unwind(run).map_err(|_| Refusal::Internal)??;
        Ok(plan)
    }

    /// Plans on the worker; `None` when it takes longer than a slice and must be done aside.
    fn plan_at_once(&self, telemetry: &Telemetry, now: Now) -> Option<Result<Plan, Refusal>> {
        if !self.look_at_items() {
            return Some(self.plan(telemetry.share(), now));
        }
        if slice::is_large(telemetry.bytes() as u64, telemetry.items()) {
            return None;
        }
        slice::within_slice(|| self.plan(telemetry.share(), now))
    }

    fn answers(&self, is_batched: bool) -> bool {
        self.segments.iter().any(|segment| segment.answers(is_batched))
    }
}

impl Plan {
    /// Reserves a place in every sink, or none: after a refusal, the places reserved before are given back.
    fn reserve(&self, now: Instant, ask: Ask) -> Result<Reserved, (Full, Arc<dyn Sink>)> {
        let alone = self.shares.len() == 1;
        let stuck_after = if ask.is_end { STUCK_AT_END } else { STUCK_AFTER };
        let mut places = SmallVec::new();
        let mut stuck = None;
        for ForSink { sink, telemetry, overhead } in &self.shares {
            match Place::reserve(sink, telemetry, *overhead, Ask { alone, ..ask }) {
                Ok(place) => places.push(Some(place)),
                Err(full) => {
                    let is_stuck = sink.full_since().is_some_and(|since| now.duration_since(since) >= stuck_after);
                    if alone || !is_stuck {
                        return Err((full, sink.clone()));
                    }
                    places.push(None);
                    stuck = Some((full, sink.clone()));
                }
            }
        }
        match stuck {
            // No sink has room: refuse the request instead of dropping it.
            Some(full) if places.iter().all(Option::is_none) => Err(full),
            _ => Ok(Reserved { places }),
        }
    }

    /// Hands every share to its sink and publishes the counts. Cannot fail.
    fn commit(self, reserved: Reserved, receipt: Option<&Receipt>, is_batched: bool) {
        for Count { step, incoming, outgoing, notes, billed, shown } in self.tally {
            step.incoming.add(incoming);
            step.outgoing.add(outgoing);
            step.processor.publish(&notes);
            let (incoming, outgoing) = (incoming.0, outgoing.0);
            for account in step.accounts.iter().filter(|_| incoming != outgoing) {
                account.drop_items(step.processor.reason(), incoming.saturating_sub(outgoing));
                account.accept(outgoing.saturating_sub(incoming));
            }
            if let (Some(billed), Some(account)) = (billed, step.accounts.first()) {
                account.bill.change(&billed.0, &billed.1, step.accounts.len());
            }
            if let (Some(shown), Some(account)) = (shown, step.accounts.first())
                && let Some(rules) = step.processor.clone().rules()
            {
                account.show_filtered(&step.id, &rules, &shown);
            }
        }
        for (ForSink { sink, mut telemetry, .. }, place) in self.shares.into_iter().zip(reserved.places) {
            let Some(place) = place else {
                sink.skip(&telemetry);
                continue;
            };
            if let Some(receipt) = receipt
                && sink.answers(is_batched)
            {
                telemetry.tickets = receipt.tickets();
            }
            place.fill(telemetry);
        }
    }
}

/// A batch that a stage hands on. It holds its branches, so a reload does not retire a sink that the batch may still
/// reach.
struct Onward {
    branches: Arc<Branches>,
    plan: Plan,
    tickets: Tickets,
    /// The batch as it came to the processors, if it can be given back.
    source: Option<Telemetry>,
}

impl Onward {
    fn of(branches: Arc<Branches>, plan: Plan, batch: &mut Telemetry) -> Box<dyn Planned> {
        let tickets = std::mem::take(&mut batch.tickets);
        let source = tickets.cover_all().then(|| batch.share());
        Box::new(Onward { branches, plan, tickets, source })
    }
}

impl Planned for Onward {
    fn hand_over(self: Box<Self>, now: Now, ask: Ask) -> Result<(), Blocked> {
        let reserved = match self.plan.reserve(now.instant, ask) {
            Ok(reserved) => reserved,
            Err((full, sink)) => return Err(Blocked { planned: self, full, sink }),
        };
        let Onward { branches, plan, tickets, source } = *self;
        drop(source);
        if tickets.is_empty() {
            plan.commit(reserved, None, true);
        } else {
            let receipt = Receipt::passing_on(tickets);
            // Keeps the receipt open until all shares are handed out, so an early answer does not complete it.
            let own = receipt.ticket();
            plan.commit(reserved, Some(&receipt), true);
            own.resolve(Ok(()));
        }
        drop(branches);
        Ok(())
    }

    fn take_back(&mut self) -> Option<Telemetry> {
        let source = self.source.take()?;
        Some(Telemetry { tickets: std::mem::take(&mut self.tickets), ..source })
    }
}

impl Next {
    fn get(&self) -> Option<Arc<Branches>> {
        self.0.lock().clone()
    }

    /// Exchanges the branches and returns the old ones.
    pub fn set(&self, branches: Option<Arc<Branches>>) -> Option<Arc<Branches>> {
        std::mem::replace(&mut *self.0.lock(), branches)
    }
}

impl Outlet for Next {
    fn plan(&self, batch: &mut Telemetry, now: Now) -> Result<Box<dyn Planned>, Refusal> {
        let branches = self.get().ok_or_else(|| Refusal::busy(Reason::Draining))?;
        let plan = slice::on_a_batch(|| branches.plan(batch.share(), now))?;
        Ok(Onward::of(branches, plan, batch))
    }

    fn plan_at_once(&self, batch: &mut Telemetry, now: Now) -> Option<Result<Box<dyn Planned>, Refusal>> {
        let Some(branches) = self.get() else { return Some(Err(Refusal::busy(Reason::Draining))) };
        let plan = slice::on_a_batch(|| branches.plan_at_once(batch, now))?;
        Some(plan.map(|plan| Onward::of(branches, plan, batch)))
    }

    fn answers(&self) -> bool {
        self.get().is_some_and(|branches| branches.answers(true))
    }
}
