//! `storage` with `wait_for_result`: telemetry is sent from memory, and written to disk only if no answer arrives in
//! time.
//!
//! The client is told success by whichever comes first: the upstream has it, or it is on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::telemetry::{Refusal, Telemetry, Ticket, Tickets};

use super::disk::Amount;
use super::store::{Append, Store};

/// How long the upstream may take before telemetry is written.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Telemetry in flight that may still be written. The clients' tickets are inside `state`: either the upstream's
/// outcome or the write takes and resolves them, never both.
pub(super) struct Spooled {
    pub(super) due: Instant,
    state: Mutex<Phase>,
}

enum Phase {
    /// Not written; the clients wait.
    Fresh(Telemetry, Tickets),
    /// Being written.
    Writing(Tickets),
    /// Writing failed; the clients wait for the upstream.
    Unwritten(Tickets),
    /// On disk; the clients are answered.
    Written(u64, Amount),
    /// The upstream's outcome is final.
    Over,
}

impl Spooled {
    /// Gives `telemetry` one ticket for the upstream's outcome, and keeps the clients' tickets here.
    pub(super) fn new(telemetry: &mut Telemetry, store: &Arc<Store>, due: Instant) -> Arc<Spooled> {
        let clients = std::mem::take(&mut telemetry.tickets);
        let spooled = Arc::new(Spooled { due, state: Mutex::new(Phase::Fresh(telemetry.share(), clients)) });
        let (itself, store) = (spooled.clone(), store.clone());
        telemetry.tickets.push(Ticket::calling(move |outcome| itself.finished(&store, outcome)));
        spooled
    }

    fn swap(&self, next: Phase) -> Phase {
        std::mem::replace(&mut *self.state.lock(), next)
    }

    /// Takes the upstream's outcome; `None` when there will be none.
    fn finished(&self, store: &Store, outcome: Option<Result<(), Refusal>>) {
        let Some(outcome) = outcome else { return };
        match self.swap(Phase::Over) {
            Phase::Fresh(_, clients) | Phase::Writing(clients) | Phase::Unwritten(clients) => {
                clients.resolve(outcome.as_ref().copied());
            }
            Phase::Written(id, amount) => store.settle(id, amount),
            Phase::Over => {}
        }
    }

    /// The telemetry to write, unless it is finished or being written.
    pub(super) fn take(self: &Arc<Spooled>) -> Option<Append> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, Phase::Over) {
            Phase::Fresh(telemetry, clients) => {
                *state = Phase::Writing(clients);
                Some(Append { telemetry, spooled: Some(self.clone()) })
            }
            other => {
                *state = other;
                None
            }
        }
    }

    pub(super) fn written(&self, store: &Store, id: u64, amount: Amount) {
        match self.swap(Phase::Written(id, amount)) {
            Phase::Writing(clients) => clients.resolve(Ok(())),
            // The upstream answered first.
            _ => {
                self.swap(Phase::Over);
                store.settle(id, amount);
            }
        }
    }

    pub(super) fn not_written(&self) {
        let mut state = self.state.lock();
        if let Phase::Writing(clients) = std::mem::replace(&mut *state, Phase::Over) {
            *state = Phase::Unwritten(clients);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        !matches!(&*self.state.lock(), Phase::Fresh(..))
    }
}
