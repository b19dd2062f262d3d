//! Receipts: how a waiting request learns the outcome of its telemetry.
//!
//! The request keeps the [`Receipt`]; every sink that answers for the telemetry gets a [`Ticket`], and so does every
//! piece it is split into. The receipt is complete when all tickets are resolved. A lost ticket (a panic, an ended
//! task) counts as an internal error: success is never reported without an answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{Reason, Refusal};

/// The state that a receipt and its tickets share. `open` counts unresolved tickets; the last one completes the
/// receipt. A refusal or a lost ticket is stored before `open` is decremented, so completion sees all outcomes.
#[derive(Debug, Default)]
struct Promise {
    open: AtomicUsize,
    /// Tickets of the previous stage, resolved with this outcome.
    before: Mutex<SmallVec<[Ticket; 1]>>,
    /// The first refusal; one is enough to refuse the whole.
    refusal: Mutex<Option<Refusal>>,
    /// Whether a ticket was dropped without an answer.
    unanswered: AtomicBool,
    then: Mutex<Then>,
    complete: Notify,
}

/// The callback for the outcome.
#[derive(Default)]
struct Then(Option<Box<dyn FnOnce(Outcome) + Send>>);

/// `None` when a ticket was lost.
pub type Outcome = Option<Result<(), Refusal>>;

impl std::fmt::Debug for Then {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_tuple("Then").field(&self.0.is_some()).finish()
    }
}

impl Promise {
    fn outcome(&self) -> Result<(), Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn complete(&self) {
        let before = std::mem::take(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner));
        if !before.is_empty() {
            let outcome = self.outcome();
            for ticket in before {
                ticket.resolve(outcome.as_ref().copied());
            }
        }
        let then = self.then.lock().unwrap_or_else(PoisonError::into_inner).0.take();
        if let Some(then) = then {
            then((!self.unanswered.load(Ordering::Acquire)).then(|| self.outcome()));
        }
        self.complete.notify_waiters();
    }
}

#[derive(Debug, Default)]
pub struct Receipt(Arc<Promise>);

impl Receipt {
    pub fn ticket(&self) -> Ticket {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Ticket { waiting: self.0.clone(), resolved: false }
    }

    /// A receipt that resolves the tickets of an earlier one: for a batch handed to several sinks.
    pub fn passing_on(tickets: SmallVec<[Ticket; 1]>) -> Receipt {
        Receipt(Arc::new(Promise { before: Mutex::new(tickets), ..Promise::default() }))
    }

    /// Waits until every ticket is resolved. Dropping the future only forgets the answer.
    pub async fn wait(self) -> Result<(), Refusal> {
        loop {
            let complete = self.0.complete.notified();
            if self.0.open.load(Ordering::Acquire) == 0 {
                break;
            }
            complete.await;
        }
        self.0.outcome()
    }
}

/// A promise to report the outcome. Cloned when telemetry is split.
#[derive(Debug)]
pub struct Ticket {
    waiting: Arc<Promise>,
    resolved: bool,
}

impl Ticket {
    /// A ticket that calls `then` with the outcome once it and all its clones are resolved.
    pub fn calling(then: impl FnOnce(Outcome) + Send + 'static) -> Ticket {
        let waiting = Promise { then: Mutex::new(Then(Some(Box::new(then)))), ..Promise::default() };
        Receipt(Arc::new(waiting)).ticket()
    }

    pub fn resolve(mut self, outcome: Result<(), &Refusal>) {
        self.resolved = true;
        if let Err(refusal) = outcome {
            self.refuse(refusal.clone());
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.waiting.refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(refusal);
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Ticket {
        self.waiting.open.fetch_add(1, Ordering::Relaxed);
        Ticket { waiting: self.waiting.clone(), resolved: false }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.resolved {
            self.refuse(Refusal::busy(Reason::Internal));
            // Items lost in a panic are counted as dropped, and that is an answer.
            self.waiting.unanswered.fetch_or(!std::thread::panicking(), Ordering::AcqRel);
        }
        if self.waiting.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiting.complete();
        }
    }
}
