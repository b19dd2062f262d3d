//! Receipts: how a request that must wait hears what became of its telemetry.
//!
//! The request keeps the [`Receipt`]; every sink that answers for the telemetry gets a [`Ticket`], and so does every
//! piece it is split into. The receipt is complete when all tickets are resolved. A ticket that is lost (a panic, a
//! task that ended) counts as an internal error: nobody is told success for what nobody answered for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::{Reason, Refusal};

#[derive(Debug, Default)]
struct Waiting {
    open: AtomicUsize,
    /// Tickets of the stage before, resolved with the outcome of this receipt.
    before: Mutex<SmallVec<[Ticket; 1]>>,
    /// The first refusal; one is enough to refuse the whole.
    refusal: Mutex<Option<Refusal>>,
    /// Whether somebody went away without an answer.
    unanswered: AtomicBool,
    then: Mutex<Then>,
    complete: Notify,
}

/// What is done with the outcome.
#[derive(Default)]
struct Then(Option<Box<dyn FnOnce(Answer) + Send>>);

/// `None` when nobody will ever give one.
pub type Answer = Option<Result<(), Refusal>>;

impl std::fmt::Debug for Then {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_tuple("Then").field(&self.0.is_some()).finish()
    }
}

impl Waiting {
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
pub struct Receipt(Arc<Waiting>);

impl Receipt {
    pub fn ticket(&self) -> Ticket {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Ticket { waiting: self.0.clone(), resolved: false }
    }

    /// A receipt on whose outcome the tickets of an earlier one depend: a batch that is handed on to several sinks.
    pub fn passing_on(tickets: SmallVec<[Ticket; 1]>) -> Receipt {
        Receipt(Arc::new(Waiting { before: Mutex::new(tickets), ..Waiting::default() }))
    }

    /// Waits until every ticket is resolved. Dropping the future forgets the answer and nothing else.
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

/// One promise to say what became of it. Cloned when telemetry is split.
#[derive(Debug)]
pub struct Ticket {
    waiting: Arc<Waiting>,
    resolved: bool,
}

impl Ticket {
    /// The only ticket of a promise that a call takes: it hears the outcome once, whoever held the ticket last.
    pub fn calling(then: impl FnOnce(Answer) + Send + 'static) -> Ticket {
        let waiting = Waiting { then: Mutex::new(Then(Some(Box::new(then)))), ..Waiting::default() };
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
            // What a panic leaves behind is dropped by name, and that is an answer.
            self.waiting.unanswered.fetch_or(!std::thread::panicking(), Ordering::AcqRel);
        }
        if self.waiting.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiting.complete();
        }
    }
}
