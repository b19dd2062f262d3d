//! Processors: what is done to telemetry between a receiver and an exporter.

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

use smallvec::SmallVec;

use crate::diagnostics::metrics::{Observe, Page};
use crate::telemetry::{Accounts, Alarm, Budget, Now, Outlet, Reason, Refusal, Signal, Sink, Telemetry, Wakeful};

/// What a processor wants counted once its request is committed: which of its counters, and by how much.
pub type Notes = SmallVec<[(u32, u64); 4]>;

/// What one rule dropped.
pub struct Dropped {
    /// As it is written.
    pub rule: String,
    /// In plain words.
    pub said: String,
    pub items: u64,
    pub bytes: u64,
}

/// A stateless processor: synchronous, no I/O, no clock.
pub trait Processor: Send + Sync {
    /// What goes on, or nothing; or why the whole request is refused. Touches no counter: a plan may be thrown away.
    fn process(&self, telemetry: Telemetry, now: Now, notes: &mut Notes) -> Result<Option<Telemetry>, Refusal>;
    /// Counts what `process` noted; called when the request is committed.
    fn publish(&self, _notes: &Notes) {}
    /// Under which name what it drops is counted.
    fn reason(&self) -> Reason {
        Reason::Filtered
    }
    /// Whether it leaves items out or changes resources, so that it shows on the bill.
    fn is_billed(&self) -> bool {
        false
    }
    /// Metrics beyond how many items came in and went out.
    fn observe(&self, _page: &mut Page, _id: &str, _signal: Signal, _incoming: u64) {}
    /// What its rules do, a line in plain words for each: said when the collector starts.
    fn intentions(&self) -> Vec<String> {
        Vec::new()
    }
    /// What each rule dropped, for those that did.
    fn dropped_by(&self) -> Vec<Dropped> {
        Vec::new()
    }
    /// What each of them did: said when the collector ends.
    fn results(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The settings of a processor: all that is asked of one. Those of a stateless one are its factory.
pub trait ProcessorSettings: Send + Sync {
    fn role(&self) -> Role<'_>;
    /// The memory budget that it sets, on a machine or in a container with so much memory.
    fn budget(&self, _memory: u64) -> Option<u64> {
        None
    }
    /// Whether what it has not passed on yet is lost by a crash, after its client was told that it was accepted.
    fn holds_in_memory(&self) -> bool {
        false
    }
    /// Whether it answers its clients before what is behind it has the telemetry.
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
    /// Why this signal can't have it.
    fn refuses(&self, _signal: Signal) -> Option<String> {
        None
    }
    fn build(&self, stage: StageParts<'_>) -> Arc<dyn Stage>;
}

/// What a stage is built with.
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
    /// The processor for one pipeline of `signal`; an error says why this signal can't have it.
    fn build(&self, id: &str, signal: Signal) -> Result<Arc<dyn Processor>, String>;
}

/// A processor that holds telemetry: a sink to what comes before it.
pub trait Stage: Sink + Wakeful + Observe {
    fn held_items(&self) -> u64;
    /// Those who are owed what it holds.
    fn accounts(&self) -> &Accounts;
}
