//! Processors: the steps and stages between receivers and exporters.

mod action;
pub(crate) mod attributes;
pub mod batch;
mod edit;
pub mod filter;
mod matching;
pub(crate) mod memory_limiter;
mod outbox;
pub(crate) mod probabilistic_sampler;
pub(crate) mod redaction;
pub(crate) mod resource;
pub mod resourcedetection;
pub(crate) mod tail_sampling;
pub mod trace_context;
pub mod transform;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;

use crate::diagnostics::metrics::{Observe, Page};
use crate::telemetry::{
    Accounts, Alarm, Budget, Now, Outlet, Passed, Reason, Refusal, Rules, Signal, Sink, Telemetry, Wakeful,
};

/// What a processor counts once its request is committed: which of its counters, and by how much.
pub type Notes = SmallVec<[(u32, u64); 4]>;

/// Notes the counts that are not 0, each with its index.
fn note(notes: &mut Notes, counts: &[u64]) {
    notes.extend(counts.iter().zip(0..).filter(|(count, _)| **count > 0).map(|(count, index)| (index, *count)));
}

/// Adds each note to the counter at its index.
fn count(counters: &[AtomicU64], notes: &Notes) {
    for (index, count) in notes {
        if let Some(counter) = counters.get(*index as usize) {
            counter.fetch_add(*count, Relaxed);
        }
    }
}

/// The items that one rule dropped.
pub struct Dropped {
    /// The text of the rule.
    pub(crate) rule: String,
    /// In plain words.
    pub(crate) said: String,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// A stateless processor: synchronous, no I/O, no clock.
pub trait Processor: Send + Sync {
    /// The remaining telemetry, or `None`; an error refuses the whole request. Touches no counter: a plan may be
    /// discarded.
    fn process(&self, telemetry: Telemetry, now: Now, notes: &mut Notes) -> Result<Option<Telemetry>, Refusal>;
    /// Counts the notes of `process`; called when the request is committed.
    fn publish(&self, _notes: &Notes) {}
    /// The reason under which its dropped items are counted.
    fn reason(&self) -> Reason {
        Reason::Filtered
    }
    /// Whether it drops items or changes resources, which changes the bill.
    fn is_billed(&self) -> bool {
        false
    }
    /// Itself, if it has rules that remove items.
    fn rules(self: Arc<Self>) -> Option<Arc<dyn Rules>> {
        None
    }
    /// Metrics in addition to its incoming and outgoing items.
    fn observe(&self, _page: &mut Page, _id: &str, _signal: Signal, _incoming: u64) {}
    /// Its rules in plain words, a line for each: logged when the collector starts.
    fn intentions(&self) -> Vec<String> {
        Vec::new()
    }
    /// The dropped items of each rule that dropped any.
    fn dropped_by(&self) -> Vec<Dropped> {
        Vec::new()
    }
    /// The results of each rule: logged when the collector ends.
    fn results(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The contract for a processor's settings. For a stateless one they are its factory.
pub trait ProcessorSettings: Send + Sync {
    fn role(&self) -> Role<'_>;
    /// The memory budget it sets, for a machine or container with this much memory.
    fn budget(&self, _memory: u64) -> Option<u64> {
        None
    }
    /// Whether a crash loses telemetry it holds, after its client was told that it was accepted.
    fn holds_in_memory(&self) -> bool {
        false
    }
    /// Whether it answers clients before its successors have the telemetry.
    fn batches(&self) -> bool {
        false
    }
}

pub enum Role<'a> {
    Step(&'a dyn Factory),
    Stage(&'a dyn StageFactory),
}

impl<F: Factory> ProcessorSettings for F {
    fn role(&self) -> Role<'_> {
        Role::Step(self)
    }
}

/// The decoded settings of a processor that holds telemetry.
pub trait StageFactory: Send + Sync {
    /// Why it does not support this signal.
    fn refuses(&self, _signal: Signal) -> Option<String> {
        None
    }
    fn build(&self, stage: StageParts<'_>) -> Arc<dyn Stage>;
}

/// Everything needed to build a stage.
pub struct StageParts<'a> {
    pub id: &'a str,
    pub signal: Signal,
    pub outlet: Arc<dyn Outlet>,
    pub accounts: Accounts,
    pub budget: Arc<Budget>,
    pub alarm: Arc<Alarm>,
}

/// The decoded settings of a stateless processor.
pub trait Factory: Send + Sync {
    /// Builds the processor for one pipeline of `signal`; an error says why it does not support the signal.
    fn build(&self, id: &str, signal: Signal) -> Result<Arc<dyn Processor>, String>;
}

/// A processor that holds telemetry: a sink for its predecessors.
pub trait Stage: Sink + Wakeful + Observe {
    fn held_items(&self) -> u64;
    /// What it handed on.
    fn passed(&self) -> &Passed;
    /// The accounts that its held items belong to.
    fn accounts(&self) -> &Accounts;
}
