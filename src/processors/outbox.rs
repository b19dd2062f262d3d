//! How a stage hands its batches on, one at a time. The processors behind it run once for each batch. A batch that
//! finds no place is held as planned, and only the reservation is tried again. A batch that is too large for the
//! processors is split in halves.
//!
//! Processors have a slice of the worker's time. A batch that takes longer is made, planned and handed on aside
//! (`telemetry/aside.rs`). It keeps its turn meanwhile, and the timekeeper continues afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::otlp::slice;
use crate::telemetry::{
    Accounts, Alarm, Ask, Blocked, Budget, Full, Now, Outlet, Passed, Planned, Reason, Refusal, Sink, Telemetry, clock,
    is_small,
};

/// Shortest and longest pause before a refused batch tries again without being notified of room.
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(1);

/// How often a batch is halved because of its size. If more than a few items are too large for the processors, the rest
/// is dropped. Too much work is searched for among whole parts, of which there are few.
const HALVINGS: u32 = 32;

/// Hands on one batch at a time. `is_busy` marks the turn: the caller that has it owns the held batch. The lock of
/// `state` is never held while processors run or a sink is asked. `load` counts the batch until it is committed,
/// dropped or split.
pub(super) struct Outbox {
    outlet: Arc<dyn Outlet>,
    /// Accounts to charge for a batch that is lost.
    accounts: Accounts,
    budget: Arc<Budget>,
    alarm: Arc<Alarm>,
    /// What was handed on.
    passed: Arc<Passed>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a caller has the turn, and whether another call came meanwhile.
    is_busy: bool,
    is_asked: bool,
    /// Whether the turn is used aside.
    is_aside: bool,
    held: Option<Held>,
    /// After a batch was given back: why, until when others are refused without being taken, and the pause that was.
    turned_away: Option<(Refusal, Instant, Duration)>,
    /// Original items and bytes of the batch that is held or on its way.
    load: (u64, u64),
    refused_since: Option<Instant>,
    /// Items handed on since the stage last asked.
    gone: u64,
    /// Since when another flush is needed: a batch went aside, or more batches are due than fit in a slice.
    unfinished_since: Option<Instant>,
    /// The remaining pieces of a halved batch, the first one last, and the number of halvings.
    halves: Vec<Telemetry>,
    halvings: u32,
}

/// Why there is no place, and the sink that refused.
type Refused = (Full, Option<Arc<dyn Sink>>);

/// A batch that was refused, and why.
type Stopped = Box<(Waiting, Refused)>;

/// A refused batch: why, by which sink, and when it tries again.
struct Held {
    waiting: Waiting,
    refused: Refused,
    again_at: Instant,
    pause: Duration,
}

enum Waiting {
    /// Not yet processed.
    Batch(Telemetry),
    Planned(Box<dyn Planned>),
}

impl Waiting {
    /// Takes the batch out, if its tickets cover all of it.
    fn take_back(&mut self) -> Option<Telemetry> {
        match self {
            Waiting::Batch(batch) => batch.tickets.cover_all().then(|| {
                let tickets = std::mem::take(&mut batch.tickets);
                Telemetry { tickets, ..batch.share() }
            }),
            Waiting::Planned(planned) => planned.take_back(),
        }
    }
}

/// The next batch of a stage.
pub(super) enum Next {
    Batch(Telemetry),
    /// A batch that takes long to make, with an upper bound of its items and bytes.
    Unmade {
        load: (u64, u64),
        make: Make,
    },
}

type Make = Box<dyn FnOnce() -> Telemetry + Send>;

/// The outcome of offering a batch.
enum Offered {
    Done(Result<(), Stopped>),
    /// Takes longer than a slice.
    Heavy(Make),
}

impl Outbox {
    pub(super) fn new(
        outlet: Arc<dyn Outlet>,
        accounts: Accounts,
        budget: Arc<Budget>,
        alarm: Arc<Alarm>,
    ) -> Arc<Outbox> {
        Arc::new(Outbox { outlet, accounts, budget, alarm, passed: Arc::default(), state: Mutex::default() })
    }

    /// An empty outbox of the same stage.
    pub(super) fn another(&self) -> Arc<Outbox> {
        let Outbox { outlet, accounts, budget, alarm, passed, .. } = self;
        let (outlet, accounts, budget) = (outlet.clone(), accounts.clone(), budget.clone());
        let (alarm, passed) = (alarm.clone(), passed.clone());
        Arc::new(Outbox { outlet, accounts, budget, alarm, passed, state: Mutex::default() })
    }

    pub(super) fn answers(&self) -> bool {
        self.outlet.answers()
    }

    /// What all outboxes of the stage handed on.
    pub(super) fn passed(&self) -> &Passed {
        &self.passed
    }

    /// Items and bytes that the stage took and has not handed on yet.
    pub(super) fn load(&self) -> (u64, u64) {
        let state = self.state.lock();
        let add = |(items, bytes), half: &Telemetry| (items + half.items(), bytes + half.bytes() as u64);
        state.halves.iter().fold(state.load, add)
    }

    /// Why the held batch was refused.
    pub(super) fn refused(&self) -> Option<Full> {
        Some(self.state.lock().held.as_ref()?.refused.0.clone())
    }

    /// Whether a request of so many bytes may join the `pending` ones while a batch waits for the upstream's pace: the
    /// next batch fills as fast as batches leave. Requests that are small beside the batch need not wait for large
    /// ones. False if the batch waits for something else.
    pub(super) fn keeps_pace(&self, now: Instant, pending: u64, bytes: u64) -> bool {
        let state = self.state.lock();
        let most = match &state.held {
            Some(Held { refused: (Full::Wait { most: Some(most) }, _), .. }) => *most,
            Some(_) => return false,
            // It is being handed on.
            None => Duration::ZERO,
        };
        let (batch, sum) = (state.load.1, pending + bytes);
        let waited = state.refused_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since).min(most));
        let is_in_time = u128::from(sum) * most.as_nanos() <= u128::from(batch) * waited.as_nanos();
        sum <= batch && is_in_time || is_small(bytes, batch) && sum <= 2 * batch
    }

    /// Whether to refuse before anything is taken: a batch was given back a moment ago. Else each attempt of its
    /// clients would reach the other pipelines of their receiver first.
    pub(super) fn turns_away(&self) -> Option<Refusal> {
        let state = self.state.lock();
        let (refusal, until, _) = state.turned_away.as_ref()?;
        (clock() < *until).then(|| refusal.clone())
    }

    /// When the current run of refusals began.
    pub(super) fn refused_since(&self) -> Option<Instant> {
        self.state.lock().refused_since
    }

    /// When to flush: at once after work aside, when the held batch tries again, or, if none is held, when the stage's
    /// next batch is due. `None` while a batch is made aside.
    pub(super) fn due_at(&self, next: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        let state = self.state.lock();
        if state.is_aside {
            return None;
        }
        let again_at = state.unfinished_since.or_else(|| Some(state.held.as_ref()?.again_at));
        drop(state);
        again_at.or_else(next)
    }

    /// The sink that refused the held batch and notifies when it has room.
    pub(super) fn waits_for(&self) -> Option<Arc<dyn Sink>> {
        self.state.lock().held.as_ref()?.refused.1.clone()
    }

    /// Hands on the held batch, then the batches from `next`, until one is refused, takes too long, or there are none.
    /// Returns the number of items handed on since the last call. Of concurrent calls, one does the work. `at_once`
    /// runs processors that refused again before they are due.
    pub(super) fn flush(
        self: &Arc<Self>,
        now: Now,
        ask: Ask,
        at_once: bool,
        next: impl FnMut() -> Option<Next>,
    ) -> u64 {
        self.state.lock().unfinished_since = None;
        self.hand_on(now, ask, at_once, next);
        std::mem::take(&mut self.state.lock().gone)
    }

    fn hand_on(self: &Arc<Self>, now: Now, ask: Ask, at_once: bool, mut next: impl FnMut() -> Option<Next>) {
        let started = Instant::now();
        while let Some((turn, held)) = self.turn(now, at_once) {
            let pause = held.as_ref().map_or(SOON, |held| (held.pause * 2).min(LATE));
            let offered = match held {
                Some(held) => self.offer(held.waiting, now, ask),
                None => match self.next_half().map(Next::Batch).or_else(&mut next) {
                    Some(next) => {
                        self.state.lock().load = next.load();
                        match next {
                            Next::Batch(batch) => self.offer(Waiting::Batch(batch), now, ask),
                            Next::Unmade { make, .. } => Offered::Heavy(make),
                        }
                    }
                    None => match turn.end() {
                        true => continue,
                        false => return,
                    },
                },
            };
            match offered {
                Offered::Done(outcome) => {
                    if !self.settle(outcome, now, pause) {
                        return;
                    }
                }
                Offered::Heavy(make) => {
                    self.state.lock().is_aside = true;
                    turn.hand_over();
                    let outbox = self.clone();
                    self.budget.aside.start(move || outbox.offer_aside(make, now, ask, pause));
                    return;
                }
            }
            // A stage that is drained has no other requests to wait.
            if started.elapsed() > slice::SLICE && !at_once {
                self.state.lock().unfinished_since = Some(now.instant);
                turn.end();
                return;
            }
        }
    }

    /// Counts the batch as handed on, gives it back, or holds it: false if the outbox is not free for another.
    fn settle(&self, outcome: Result<(), Stopped>, now: Now, pause: Duration) -> bool {
        let Err(stopped) = outcome else {
            let mut state = self.state.lock();
            state.gone += std::mem::take(&mut state.load).0;
            (state.refused_since, state.turned_away) = (None, None);
            return true;
        };
        self.give_back(stopped, now).map_err(|stopped| self.hold(stopped, now, pause)).is_ok()
    }

    /// Refuses a batch to the clients that wait for it; returns it if it does not all belong to them. They would give
    /// up waiting and send it again, and both would be delivered.
    fn give_back(&self, mut stopped: Stopped, now: Now) -> Result<(), Stopped> {
        let (waiting, (Full::Refuse(refusal), _)) = &mut *stopped else { return Err(stopped) };
        let refusal = refusal.clone();
        let Some(mut batch) = waiting.take_back() else { return Err(stopped) };
        {
            let mut state = self.state.lock();
            let pause = state.turned_away.as_ref().map_or(SOON, |(.., pause)| (*pause * 2).min(LATE));
            state.turned_away = Some((refusal.clone(), now.instant + pause, pause));
            state.refused_since.get_or_insert(now.instant);
            state.gone += std::mem::take(&mut state.load).0;
        }
        let is_large = slice::is_large(batch.bytes() as u64, batch.items());
        let accounts = self.accounts.clone();
        let mut book = move || {
            accounts.iter().for_each(|account| account.give_back(&batch));
            batch.resolve(Err(&refusal));
        };
        if is_large {
            self.budget.aside.start(book)
        } else {
            book()
        };
        Ok(())
    }

    fn hold(&self, stopped: Stopped, now: Now, pause: Duration) {
        let (waiting, refused) = *stopped;
        let mut state = self.state.lock();
        state.refused_since.get_or_insert(now.instant);
        state.held = Some(Held { waiting, refused, again_at: now.instant + pause, pause });
    }

    /// The turn, with the held batch; `None` while another caller has it, or before the held batch is due.
    fn turn(&self, now: Now, at_once: bool) -> Option<(Turn<'_>, Option<Held>)> {
        let mut state = self.state.lock();
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

    fn offer(&self, waiting: Waiting, now: Now, ask: Ask) -> Offered {
        match waiting {
            Waiting::Planned(planned) => Offered::Done(self.hand_over(planned, now, ask)),
            Waiting::Batch(mut batch) => match self.outlet.plan_at_once(&mut batch, now) {
                Some(planned) => Offered::Done(self.offer_planned(batch, planned, now, ask)),
                None => Offered::Heavy(Box::new(|| batch)),
            },
        }
    }

    /// Makes a batch aside, then plans it and hands it on, or holds it.
    fn offer_aside(&self, make: Make, now: Now, ask: Ask, pause: Duration) {
        // Ends the turn and rings the alarm, even after a panic.
        let _turn = Turn { outbox: self, is_over: false };
        let started = Instant::now();
        let mut batch = make();
        self.state.lock().load = batch.size();
        let planned = self.outlet.plan(&mut batch, now);
        let now = Now { instant: now.instant + started.elapsed(), ..now };
        if self.settle(self.offer_planned(batch, planned, now, ask), now, pause) {
            self.state.lock().unfinished_since = Some(now.instant);
        }
    }

    /// Hands on a planned batch. A batch that fails the processors would fail for ever: it is dropped and counted, as
    /// in the Go collector. Where the failing items can be told apart, the others go on.
    fn offer_planned(
        &self,
        mut batch: Telemetry,
        planned: Result<Box<dyn Planned>, Refusal>,
        now: Now,
        ask: Ask,
    ) -> Result<(), Stopped> {
        let refusal = match planned {
            Ok(planned) => return self.hand_over(planned, now, ask),
            Err(busy @ Refusal::Busy { .. }) => {
                return Err(Box::new((Waiting::Batch(batch), (Full::Refuse(busy), None))));
            }
            Err(refusal) => refusal,
        };
        let tickets = std::mem::take(&mut batch.tickets);
        let (mut left, lost) = self.divided(batch, &refusal);
        left.iter_mut().for_each(|half| half.tickets.clone_from(&tickets));
        let load = lost.as_ref().map_or((0, 0), Telemetry::size);
        if let Some(mut lost) = lost {
            let status = refusal.answer().status;
            tracing::error!(error = status.message, items = load.0, "a processor failed on a batch: dropped");
            self.accounts.iter().for_each(|account| account.lose(Reason::ProcessorFailed, &lost));
            lost.tickets = tickets;
            lost.resolve(Err(&refusal));
        }
        let mut state = self.state.lock();
        state.load = load;
        state.halves.extend(left);
        Ok(())
    }

    /// The pieces of a failed batch that go on, the first one last, and the piece that is lost.
    fn divided(&self, mut batch: Telemetry, refusal: &Refusal) -> (Vec<Telemetry>, Option<Telemetry>) {
        if refusal.is_of_size() && batch.items() > 1 {
            let mut state = self.state.lock();
            state.halvings += 1;
            let is_one_of_few = state.halvings <= HALVINGS;
            drop(state);
            // If headers make up most of the batch, halves are hardly smaller, and many pieces are larger than the
            // whole.
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

    fn hand_over(&self, planned: Box<dyn Planned>, now: Now, ask: Ask) -> Result<(), Stopped> {
        let stopped = |Blocked { planned, full, sink }| Box::new((Waiting::Planned(planned), (full, Some(sink))));
        planned.hand_over(now, ask).map_err(stopped)?;
        self.passed.add(self.state.lock().load);
        Ok(())
    }

    fn next_half(&self) -> Option<Telemetry> {
        let mut state = self.state.lock();
        let half = state.halves.pop();
        if half.is_none() {
            state.halvings = 0;
        }
        half
    }
}

impl Next {
    fn load(&self) -> (u64, u64) {
        match self {
            Next::Batch(batch) => batch.size(),
            Next::Unmade { load, .. } => *load,
        }
    }
}

/// The turn to hand a batch on. If a panic loses the batch, its items are counted as dropped.
struct Turn<'a> {
    outbox: &'a Outbox,
    is_over: bool,
}

impl Turn<'_> {
    /// Ends the turn; true if another call came meanwhile, whose batch may be due.
    fn end(mut self) -> bool {
        self.is_over = true;
        let mut state = self.outbox.state.lock();
        state.is_busy = false;
        state.is_asked
    }

    /// Passes the turn to a job aside.
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
        let mut state = self.outbox.state.lock();
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
