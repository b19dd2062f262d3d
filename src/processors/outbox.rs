//! How a stage hands its batches on, one at a time. The processors behind it run once on each: what finds no place is held
//! as they left it, and from then on only places are asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::{Accounts, Ask, Blocked, Full, Now, Outlet, Planned, Reason, Sink, Telemetry};

/// How soon a refused batch asks again when nobody says that there is room, at first and at the latest.
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(1);

pub struct Outbox {
    outlet: Arc<dyn Outlet>,
    /// Accounts to charge for a batch that is lost on its way.
    accounts: Accounts,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether somebody is handing a batch on right now, and whether somebody else wanted to meanwhile.
    is_busy: bool,
    is_asked: bool,
    held: Option<Held>,
    /// Items and bytes, as they came, of the batch that is held or on its way.
    load: (u64, u64),
    refused_since: Option<Instant>,
}

/// A refused batch: why, by which sink, and when it asks again.
struct Held {
    waiting: Waiting,
    full: Full,
    sink: Option<Arc<dyn Sink>>,
    again_at: Instant,
    pause: Duration,
}

enum Waiting {
    /// The processors have not taken it yet.
    Batch(Telemetry),
    Planned(Box<dyn Planned>),
}

impl Outbox {
    pub fn new(outlet: Arc<dyn Outlet>, accounts: Accounts) -> Outbox {
        Outbox { outlet, accounts, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answers(&self) -> bool {
        self.outlet.answers()
    }

    /// Items and bytes that the stage has taken and that are not handed on yet.
    pub fn load(&self) -> (u64, u64) {
        self.lock().load
    }

    /// What refused the batch that is held.
    pub fn refused(&self) -> Option<Full> {
        self.lock().held.as_ref().map(|held| held.full.clone())
    }

    /// Since when every attempt has been refused.
    pub fn refused_since(&self) -> Option<Instant> {
        self.lock().refused_since
    }

    /// When the batch that is held asks again.
    pub fn again_at(&self) -> Option<Instant> {
        self.lock().held.as_ref().map(|held| held.again_at)
    }

    /// The sink that refused the batch that is held, and says when it has room.
    pub fn waits_for(&self) -> Option<Arc<dyn Sink>> {
        self.lock().held.as_ref()?.sink.clone()
    }

    /// Hands on what is held, then what `next` gives, until a batch is refused or there is none; says how many items went.
    /// Of several calls at a time one does the work. `at_once` runs refused processors again before they are due.
    pub fn flush(&self, now: Now, ask: Ask, at_once: bool, mut next: impl FnMut() -> Option<Telemetry>) -> u64 {
        let mut gone = 0;
        loop {
            let Some((turn, held)) = self.turn(now, at_once) else { return gone };
            let pause = held.as_ref().map_or(SOON, |held| (held.pause * 2).min(LATE));
            let waiting = held.map(|held| held.waiting).or_else(|| {
                let batch = next()?;
                self.lock().load = (batch.items(), batch.bytes() as u64);
                Some(Waiting::Batch(batch))
            });
            let Some(waiting) = waiting else {
                match turn.end() {
                    true => continue,
                    false => return gone,
                }
            };
            let refused = self.offer(waiting, now, ask);
            let mut state = self.lock();
            let Some((waiting, full, sink)) = refused else {
                gone += std::mem::take(&mut state.load).0;
                state.refused_since = None;
                continue;
            };
            state.refused_since.get_or_insert(now.instant);
            state.held = Some(Held { waiting, full, sink, again_at: now.instant + pause, pause });
            return gone;
        }
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

    /// Hands a batch on; or what refused it.
    fn offer(&self, waiting: Waiting, now: Now, ask: Ask) -> Option<(Waiting, Full, Option<Arc<dyn Sink>>)> {
        let planned = match waiting {
            Waiting::Planned(planned) => planned,
            Waiting::Batch(mut batch) => match self.outlet.plan(&mut batch, now) {
                Ok(planned) => planned?,
                Err(refusal) => return Some((Waiting::Batch(batch), Full::Refuse(refusal), None)),
            },
        };
        let Blocked { planned, full, sink } = planned.hand_over(now, ask).err()?;
        Some((Waiting::Planned(planned), full, Some(sink)))
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
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.outbox.lock();
        state.is_busy = false;
        if std::thread::panicking() {
            let (items, _) = std::mem::take(&mut state.load);
            drop(state);
            tracing::error!(items, "handing a batch on failed internally: dropped");
            self.outbox.accounts.iter().for_each(|account| account.drop_items(Reason::Internal, items));
        }
    }
}
