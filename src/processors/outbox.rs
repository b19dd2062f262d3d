//! How a stage hands its batches on, one at a time. The processors behind it run once on each: what finds no place is held
//! as they left it, and from then on only places are asked for. What is too much for them at once goes on in halves.
//!
//! Processors have a slice of the worker's time. A batch that takes longer is made, planned and handed on aside
//! (`telemetry/aside.rs`); it keeps its turn meanwhile, and the timekeeper goes on then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::otlp::slice;
use crate::telemetry::{
    Accounts, Alarm, Ask, Blocked, Budget, Full, Now, Outlet, Planned, Reason, Refusal, Sink, Telemetry,
};

/// How soon a refused batch asks again when nobody says that there is room, at first and at the latest.
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(1);

/// How often a batch is halved for its size: where more than a few of its items are too much for the processors, the rest is
/// dropped instead of trying each. What is too much work is looked for among its parts, which are few.
const HALVINGS: u32 = 32;

pub struct Outbox {
    outlet: Arc<dyn Outlet>,
    /// Accounts to charge for a batch that is lost on its way.
    accounts: Accounts,
    budget: Arc<Budget>,
    alarm: Arc<Alarm>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether somebody is handing a batch on right now, and whether somebody else wanted to meanwhile.
    is_busy: bool,
    is_asked: bool,
    /// Whether that is done aside.
    is_aside: bool,
    held: Option<Held>,
    /// Items and bytes, as they came, of the batch that is held or on its way.
    load: (u64, u64),
    refused_since: Option<Instant>,
    /// Items that went, and of which the stage does not know yet.
    gone: u64,
    /// Since when it wants to be flushed again: a batch went aside, or more are due than fit a slice.
    unfinished_since: Option<Instant>,
    /// What is left of a batch that was halved, the first part last, and how often that was done.
    halves: Vec<Telemetry>,
    halvings: u32,
}

/// Why there is no place, and the sink that has none.
type Refused = (Full, Option<Arc<dyn Sink>>);

/// A batch that could not go, and why.
type Stopped = Box<(Waiting, Refused)>;

/// A batch that waits: why, for which sink, and when it asks again.
struct Held {
    waiting: Waiting,
    refused: Refused,
    again_at: Instant,
    pause: Duration,
}

enum Waiting {
    /// The processors have not taken it yet.
    Batch(Telemetry),
    Planned(Box<dyn Planned>),
}

/// The next batch of a stage.
pub enum Next {
    Batch(Telemetry),
    /// One that takes long to make, of so many items and bytes at most.
    Unmade {
        load: (u64, u64),
        make: Make,
    },
}

pub type Make = Box<dyn FnOnce() -> Telemetry + Send>;

/// What became of a batch that was offered.
enum Offered {
    Gone,
    Refused(Stopped),
    /// It takes longer than others can wait.
    Heavy(Make),
}

impl Outbox {
    pub fn new(outlet: Arc<dyn Outlet>, accounts: Accounts, budget: Arc<Budget>, alarm: Arc<Alarm>) -> Arc<Outbox> {
        Arc::new(Outbox { outlet, accounts, budget, alarm, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answers(&self) -> bool {
        self.outlet.answers()
    }

    /// Items and bytes that the stage has taken and that are not handed on yet.
    pub fn load(&self) -> (u64, u64) {
        let state = self.lock();
        let add = |(items, bytes), half: &Telemetry| (items + half.items(), bytes + half.bytes() as u64);
        state.halves.iter().fold(state.load, add)
    }

    /// What refused the batch that is held.
    pub fn refused(&self) -> Option<Full> {
        Some(self.lock().held.as_ref()?.refused.0.clone())
    }

    /// Since when every attempt has been refused.
    pub fn refused_since(&self) -> Option<Instant> {
        self.lock().refused_since
    }

    /// When to flush: at once for what went aside, when the batch that is held asks again, and without one when the stage's next
    /// is due. Never while one is made aside.
    pub fn due_at(&self, next: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        let state = self.lock();
        if state.is_aside {
            return None;
        }
        let again_at = state.unfinished_since.or_else(|| Some(state.held.as_ref()?.again_at));
        drop(state);
        again_at.or_else(next)
    }

    /// The sink that refused the batch that is held, and says when it has room.
    pub fn waits_for(&self) -> Option<Arc<dyn Sink>> {
        self.lock().held.as_ref()?.refused.1.clone()
    }

    /// Hands on what is held, then what `next` gives, until a batch is refused, takes long, or there is none; says how many items
    /// went since it was asked last. Of several calls at a time one does the work. `at_once` runs refused processors again
    /// before they are due.
    pub fn flush(self: &Arc<Self>, now: Now, ask: Ask, at_once: bool, next: impl FnMut() -> Option<Next>) -> u64 {
        self.lock().unfinished_since = None;
        self.hand_on(now, ask, at_once, next);
        std::mem::take(&mut self.lock().gone)
    }

    fn hand_on(self: &Arc<Self>, now: Now, ask: Ask, at_once: bool, mut next: impl FnMut() -> Option<Next>) {
        let started = Instant::now();
        while let Some((turn, held)) = self.turn(now, at_once) {
            let pause = held.as_ref().map_or(SOON, |held| (held.pause * 2).min(LATE));
            let offered = match held {
                Some(held) => self.offer(held.waiting, now, ask),
                None => match self.next_half().map(Next::Batch).or_else(&mut next) {
                    Some(next) => {
                        self.lock().load = next.load();
                        self.offer_next(next, now, ask)
                    }
                    None => match turn.end() {
                        true => continue,
                        false => return,
                    },
                },
            };
            match offered {
                Offered::Gone => {
                    self.note_gone();
                    // At the end nobody else waits.
                    if started.elapsed() > slice::SLICE && !ask.is_end {
                        self.lock().unfinished_since = Some(now.instant);
                        turn.end();
                        return;
                    }
                }
                Offered::Refused(stopped) => return self.hold(stopped, now, pause),
                Offered::Heavy(make) => {
                    self.lock().is_aside = true;
                    turn.hand_over();
                    let outbox = self.clone();
                    self.budget.aside.start(move || outbox.offer_aside(make, now, ask, pause));
                    return;
                }
            }
        }
    }

    fn note_gone(&self) {
        let mut state = self.lock();
        state.gone += std::mem::take(&mut state.load).0;
        state.refused_since = None;
    }

    fn hold(&self, stopped: Stopped, now: Now, pause: Duration) {
        let (waiting, refused) = *stopped;
        let mut state = self.lock();
        state.refused_since.get_or_insert(now.instant);
        state.held = Some(Held { waiting, refused, again_at: now.instant + pause, pause });
    }

    /// The right to hand on, with the batch that is held; nobody has it while another does, or before processors are due.
    fn turn(&self, now: Now, at_once: bool) -> Option<(Turn<'_>, Option<Held>)> {
        let mut state = self.lock();
        if state.is_busy {
            state.is_asked = true;
            return None;
        }
        let is_early = |held: &Held| matches!(held.waiting, Waiting::Batch(_)) && now.instant < held.again_at;
        if !at_once && state.held.as_ref().is_some_and(is_early) {
            return None;
        }
        (state.is_busy, state.is_asked) = (true, false);
        let held = state.held.take();
        drop(state);
        Some((Turn { outbox: self, is_over: false }, held))
    }

    fn offer_next(&self, next: Next, now: Now, ask: Ask) -> Offered {
        match next {
            Next::Batch(batch) => self.offer(Waiting::Batch(batch), now, ask),
            Next::Unmade { make, .. } => Offered::Heavy(make),
        }
    }

    /// Hands a batch on.
    fn offer(&self, waiting: Waiting, now: Now, ask: Ask) -> Offered {
        match waiting {
            Waiting::Planned(planned) => hand_over(planned, now, ask).into(),
            Waiting::Batch(mut batch) => match self.outlet.plan_at_once(&mut batch, now) {
                Some(planned) => self.offer_planned(batch, planned, now, ask).into(),
                None => Offered::Heavy(Box::new(|| batch)),
            },
        }
    }

    /// Makes a batch where nobody waits, plans it and hands it on, or holds it.
    fn offer_aside(&self, make: Make, now: Now, ask: Ask, pause: Duration) {
        // Ends it, and rings, whatever happens.
        let _turn = Turn { outbox: self, is_over: false };
        let started = Instant::now();
        let mut batch = make();
        self.lock().load = load(&batch);
        let planned = self.outlet.plan(&mut batch, now);
        let now = Now { instant: now.instant + started.elapsed(), ..now };
        match self.offer_planned(batch, planned, now, ask) {
            Err(stopped) => self.hold(stopped, now, pause),
            Ok(()) => {
                self.note_gone();
                self.lock().unfinished_since = Some(now.instant);
            }
        }
    }

    /// Hands on a batch as it was planned. What the processors fail on would fail again, for ever: it is dropped and counted, as
    /// in the Go collector, without the others in its batch where it can be told.
    fn offer_planned(
        &self,
        mut batch: Telemetry,
        planned: Result<Box<dyn Planned>, Refusal>,
        now: Now,
        ask: Ask,
    ) -> Result<(), Stopped> {
        let refusal = match planned {
            Ok(planned) => return hand_over(planned, now, ask),
            Err(busy @ Refusal::Busy { .. }) => {
                return Err(Box::new((Waiting::Batch(batch), (Full::Refuse(busy), None))));
            }
            Err(refusal) => refusal,
        };
        let tickets = std::mem::take(&mut batch.tickets);
        let (mut left, lost) = self.divided(batch, &refusal);
        left.iter_mut().for_each(|half| half.tickets.clone_from(&tickets));
        let load = lost.as_ref().map_or((0, 0), load);
        if let Some(mut lost) = lost {
            let status = refusal.answer().status;
            tracing::error!(error = status.message, items = load.0, "a processor failed on a batch: dropped");
            self.accounts.iter().for_each(|account| account.lose(Reason::ProcessorFailed, &lost));
            lost.tickets = tickets;
            lost.resolve(Err(&refusal));
        }
        let mut state = self.lock();
        state.load = load;
        state.halves.extend(left);
        Ok(())
    }

    /// What goes on of a batch that processors failed on, the first part last, and what is lost of it.
    fn divided(&self, mut batch: Telemetry, refusal: &Refusal) -> (Vec<Telemetry>, Option<Telemetry>) {
        if refusal.is_of_size() && batch.items() > 1 {
            let mut state = self.lock();
            state.halvings += 1;
            let is_one_of_few = state.halvings <= HALVINGS;
            drop(state);
            // Where most of it is what each half repeats, halves are hardly smaller, and many of them larger than the whole.
            let halves = is_one_of_few.then(|| batch.share().halves());
            let length = |halves: &[Telemetry; 2]| halves.iter().map(Telemetry::bytes).sum::<usize>();
            if let Some(halves) = halves.filter(|halves| length(halves) <= batch.bytes() * 3 / 2) {
                return (halves.into(), None);
            }
        }
        if !refusal.is_of_work() || batch.parts.len() == 1 {
            return (Vec::new(), Some(batch));
        }
        match batch.parts.iter().position(|part| slice::is_blamed(&part.bytes)) {
            Some(at) => {
                let parts = [batch.parts.remove(at)].into_iter().collect();
                let lost = Telemetry { parts, ..batch.share() };
                (vec![batch], Some(lost))
            }
            None => (batch.halves_of_parts().into(), None),
        }
    }

    fn next_half(&self) -> Option<Telemetry> {
        let mut state = self.lock();
        let half = state.halves.pop();
        if half.is_none() {
            state.halvings = 0;
        }
        half
    }
}

fn hand_over(planned: Box<dyn Planned>, now: Now, ask: Ask) -> Result<(), Stopped> {
    let stopped = |Blocked { planned, full, sink }| Box::new((Waiting::Planned(planned), (full, Some(sink))));
    planned.hand_over(now, ask).map_err(stopped)
}

impl From<Result<(), Stopped>> for Offered {
    fn from(outcome: Result<(), Stopped>) -> Offered {
        outcome.map_or_else(Offered::Refused, |()| Offered::Gone)
    }
}

fn load(batch: &Telemetry) -> (u64, u64) {
    (batch.items(), batch.bytes() as u64)
}

impl Next {
    fn load(&self) -> (u64, u64) {
        match self {
            Next::Batch(batch) => load(batch),
            Next::Unmade { load, .. } => *load,
        }
    }
}

/// Held while a batch is handed on. One that a panic takes along is dropped by name.
struct Turn<'a> {
    outbox: &'a Outbox,
    is_over: bool,
}

impl Turn<'_> {
    /// Whether somebody came meanwhile, whose batch may be due.
    fn end(mut self) -> bool {
        self.is_over = true;
        let mut state = self.outbox.lock();
        state.is_busy = false;
        state.is_asked
    }

    /// Another has it from now on.
    fn hand_over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let Outbox { accounts, alarm, .. } = self.outbox;
        let mut state = self.outbox.lock();
        state.is_busy = false;
        if std::mem::take(&mut state.is_aside) {
            alarm.ring();
        }
        if std::thread::panicking() {
            let (items, _) = std::mem::take(&mut state.load);
            state.gone += items;
            drop(state);
            tracing::error!(items, "handing a batch on failed internally: dropped");
            accounts.iter().for_each(|account| account.drop_items(Reason::Internal, items));
        }
    }
}
