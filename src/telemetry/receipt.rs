//! Receipts: how a waiting request learns the outcome of its telemetry.
//!
//! The request keeps the [`Receipt`]; every sink that answers for the telemetry gets a [`Ticket`], and so does every
//! piece it is split into. The receipt is complete when all tickets are resolved. A lost ticket (a panic, an ended
//! task) counts as an internal error: success is never reported without an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use smallvec::{SmallVec, smallvec};
use tokio::sync::Notify;

use super::{Reason, Refusal};

/// The state that a receipt and its tickets share. `open` counts unresolved tickets; the last one completes the
/// receipt. A refusal or a lost ticket is stored before `open` is decremented, so completion sees all outcomes.
#[derive(Debug, Default)]
struct Promise {
    open: AtomicUsize,
    /// Tickets of the previous stage, resolved with this outcome.
    before: Mutex<Tickets>,
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
type Outcome = Option<Result<(), Refusal>>;

impl std::fmt::Debug for Then {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_tuple("Then").field(&self.0.is_some()).finish()
    }
}

impl Promise {
    fn outcome(&self) -> Result<(), Refusal> {
        self.refusal.lock().clone().map_or(Ok(()), Err)
    }

    fn complete(&self) {
        let before = std::mem::take(&mut *self.before.lock());
        if !before.is_empty() {
            let outcome = self.outcome();
            before.resolve(outcome.as_ref().copied());
        }
        let then = self.then.lock().0.take();
        if let Some(then) = then {
            then((!self.unanswered.load(Ordering::Acquire)).then(|| self.outcome()));
        }
        self.complete.notify_waiters();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Receipt {
    promise: Arc<Promise>,
    is_partial: bool,
}

impl Receipt {
    /// A receipt that calls `then` with the outcome once all its tickets are resolved, whether or not somebody waits.
    pub(crate) fn calling(then: impl FnOnce(Outcome) + Send + 'static) -> Receipt {
        let promise = Promise { then: Mutex::new(Then(Some(Box::new(then)))), ..Promise::default() };
        Receipt { promise: Arc::new(promise), is_partial: false }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.promise.open.fetch_add(1, Ordering::Relaxed);
        Ticket { waiting: self.promise.clone(), resolved: false }
    }

    /// One ticket, for all of the telemetry.
    pub(crate) fn tickets(&self) -> Tickets {
        Tickets { list: smallvec![self.ticket()], is_partial: self.is_partial }
    }

    /// A receipt that resolves the tickets of an earlier one: for a batch handed to several sinks.
    pub(crate) fn passing_on(tickets: Tickets) -> Receipt {
        let is_partial = tickets.is_partial;
        Receipt { promise: Arc::new(Promise { before: Mutex::new(tickets), ..Promise::default() }), is_partial }
    }

    /// Waits until every ticket is resolved. Dropping the future only forgets the answer.
    pub(crate) async fn wait(self) -> Result<(), Refusal> {
        loop {
            let complete = self.promise.complete.notified();
            if self.promise.open.load(Ordering::Acquire) == 0 {
                break;
            }
            complete.await;
        }
        self.promise.outcome()
    }
}

/// A promise to report the outcome. Cloned when telemetry is split.
#[derive(Debug)]
pub(crate) struct Ticket {
    waiting: Arc<Promise>,
    resolved: bool,
}

impl Ticket {
    /// A ticket that calls `then` with the outcome once it and all its clones are resolved.
    pub(crate) fn calling(then: impl FnOnce(Outcome) + Send + 'static) -> Ticket {
        Receipt::calling(then).ticket()
    }

    pub(crate) fn resolve(mut self, outcome: Result<(), &Refusal>) {
        self.resolved = true;
        if let Err(refusal) = outcome {
            self.refuse(refusal.clone());
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.waiting.refusal.lock().get_or_insert(refusal);
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Ticket {
        self.waiting.open.fetch_add(1, Ordering::Relaxed);
        Ticket { waiting: self.waiting.clone(), resolved: false }
    }
}

/// The tickets of a batch, and whether they cover all of it: a batch may also hold items whose clients were answered
/// already, or which had none. Only a batch that is covered can be given back to its clients.
#[derive(Clone, Debug, Default)]
pub struct Tickets {
    pub(super) list: SmallVec<[Ticket; 1]>,
    pub(super) is_partial: bool,
}

impl Tickets {
    pub(crate) fn push(&mut self, ticket: Ticket) {
        self.list.push(ticket);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether every item belongs to a client that waits.
    pub(crate) fn cover_all(&self) -> bool {
        !self.list.is_empty() && !self.is_partial
    }

    pub(crate) fn resolve(self, outcome: Result<(), &Refusal>) {
        self.list.into_iter().for_each(|ticket| ticket.resolve(outcome));
    }
}

impl From<Ticket> for Tickets {
    /// One ticket for all of a batch.
    fn from(ticket: Ticket) -> Tickets {
        Tickets { list: smallvec![ticket], is_partial: false }
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
