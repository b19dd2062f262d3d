//! The traces that `tail_sampling` knows of, and which of them is due.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::recent::Recent;
use super::spans::Piece;

#[derive(Default)]
pub(super) struct State {
    pub(super) traces: HashMap<u128, Remembered>,
    /// All of them by the time they came, with the number that tells a trace from a later one of the same id.
    pub(super) order: VecDeque<(u64, u128)>,
    pub(super) next: u64,
    /// How many are not decided on yet.
    pub(super) pending: usize,
    /// None with a smaller number waits for its decision.
    pub(super) undecided: u64,
    /// When those are due whose root came, which is earlier than the others.
    pub(super) due_after_root: VecDeque<(Instant, u64, u128)>,
    pub(super) sampled: Recent,
    pub(super) not_sampled: Recent,
    /// Traces that are kept, on their way out.
    pub(super) ready: VecDeque<Vec<Piece>>,
    /// Whether traces are decided on right now.
    pub(super) is_deciding: bool,
}

/// A trace as long as it is remembered; decided, it says what becomes of late spans.
pub(super) struct Remembered {
    pub(super) number: u64,
    pub(super) arrived: Instant,
    pub(super) due: Instant,
    pub(super) pieces: Vec<Piece>,
    pub(super) spans: u64,
    pub(super) bytes: u64,
    /// Whether it is kept, and when that was decided.
    pub(super) decided: Option<(bool, Instant)>,
}

impl State {
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        let fronts = [self.oldest_pending(), self.due_after_root.front().copied()];
        fronts.into_iter().flatten().map(|(due, ..)| due).min()
    }

    /// The oldest trace that waits for its decision, and when that is due.
    pub(super) fn oldest_pending(&mut self) -> Option<(Instant, u64, u128)> {
        let first = self.order.partition_point(|(number, _)| *number < self.undecided);
        for (number, id) in self.order.range(first..) {
            self.undecided = *number;
            let trace = self.traces.get(id).filter(|trace| trace.number == *number && trace.is_pending());
            if let Some(trace) = trace {
                return Some((trace.due, *number, *id));
            }
        }
        self.undecided = self.next + 1;
        None
    }

    /// Forgets the places of traces that are gone, once they are more than those of the others.
    pub(super) fn forget(&mut self) {
        let State { traces, order, due_after_root, .. } = self;
        let most = 2 * traces.len() + 64;
        let is_there = |number: &u64, id: &u128| traces.get(id).is_some_and(|trace| trace.number == *number);
        if order.len() > most {
            order.retain(|(number, id)| is_there(number, id));
        }
        if due_after_root.len() > most {
            due_after_root.retain(|(_, number, id)| is_there(number, id));
        }
    }

    /// Gives back what the tables took for many traces when few are left.
    pub(super) fn trim(&mut self) {
        let few = 2 * self.traces.len() + 64;
        self.forget();
        if self.traces.capacity() > 4 * few {
            self.traces.shrink_to(few);
            self.order.shrink_to(few);
            self.due_after_root.shrink_to(few);
        }
        if self.ready.capacity() > 4 * (self.ready.len() + 64) {
            self.ready.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let listed = self.order.capacity() * size_of::<(u64, u128)>()
            + self.due_after_root.capacity() * size_of::<(Instant, u64, u128)>()
            + self.ready.capacity() * size_of::<Vec<Piece>>();
        let traces = table_bytes::<Remembered>(self.traces.capacity());
        (listed + traces + self.sampled.bytes() + self.not_sampled.bytes()) as u64
    }
}

impl Remembered {
    /// Whether it waits for its decision, and nobody is at it.
    fn is_pending(&self) -> bool {
        self.decided.is_none() && !self.pieces.is_empty()
    }
}

/// What a hash table of trace ids takes: a power of two of entries, of which seven of eight are used, with a byte for each.
pub(super) fn table_bytes<T>(capacity: usize) -> usize {
    match capacity {
        0 => 0,
        _ => (capacity * 8 / 7).next_power_of_two() * (size_of::<(u128, T)>() + 1),
    }
}
