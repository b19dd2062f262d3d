//! The contract between the way of a request and those at its end.
//!
//! A request first *reserves* a place in every sink it will reach, then *commits* to all of them at once. Reserving may
//! be refused and takes nothing; committing cannot fail. A client that leaves never leaves half a request behind: between
//! the two there is no await, but for what is committed aside, and that happens as a whole or not at all.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Now, Refusal, Signal, Telemetry};

/// How much room a batch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub items: u64,
    pub bytes: u64,
    /// The bytes that no queue or batch holds yet and that must be charged anew.
    pub fresh_bytes: u64,
    /// What the sink takes beside them ([`Sink::overhead`]).
    pub overhead: u64,
}

impl Load {
    pub fn of(telemetry: &Telemetry) -> Load {
        let mut load = Load { items: 0, bytes: 0, fresh_bytes: 0, overhead: 0 };
        for part in &telemetry.parts {
            let bytes = part.bytes.len() as u64;
            load.items += u64::from(part.items);
            load.bytes += bytes;
            load.fresh_bytes += if part.charge.is_queued() { 0 } else { bytes };
        }
        load
    }

    /// All that a sink holds with it.
    pub fn held_bytes(&self) -> u64 {
        self.bytes + self.overhead
    }

    /// What of that no queue or batch holds yet.
    pub fn fresh_held_bytes(&self) -> u64 {
        self.fresh_bytes + self.overhead
    }
}

/// Why there is no place.
#[derive(Clone, Debug)]
pub enum Full {
    Refuse(Refusal),
    /// There will be room: wait for [`Sink::room`], but not longer than this; then ask again as one who has waited.
    Wait {
        most: Option<Duration>,
    },
}

/// How a place is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// No other sink waits for this one.
    pub alone: bool,
    /// It has waited as long as it was told to.
    pub waited: bool,
    /// The collector ends, and does not wait long for what is stuck.
    pub is_end: bool,
}

/// Where telemetry ends up: a batch, a sending queue, or an exporter without one.
pub trait Sink: Send + Sync {
    /// What it takes to hold this telemetry, beside its bytes.
    fn overhead(&self, _: &Telemetry) -> u64 {
        0
    }
    /// Whether taking telemetry means looking at its items: much of it is then taken where nobody waits.
    fn looks_at_items(&self) -> bool {
        false
    }
    /// Takes a place for `load`.
    fn reserve(&self, telemetry: &Telemetry, load: Load, ask: Ask) -> Result<(), Full>;
    /// Gives back a place that was not filled.
    fn release(&self, load: Load);
    /// Fills a place. Cannot fail.
    fn commit(&self, telemetry: Telemetry, load: Load);
    /// Notified when a place may have become free.
    fn room(&self) -> &Notify;
    /// Whether the answer to the client depends on what becomes of the telemetry here. Behind a `batch` only where somebody asked
    /// for that: without a queue the client waits for the upstream, but not for a batch to fill as well.
    fn answers(&self, is_batched: bool) -> bool;
    /// Since when it has been refusing without a pause.
    fn full_since(&self) -> Option<Instant> {
        None
    }
    /// Drops telemetry that was meant for it, under a reason, because others must not wait for it.
    fn skip(&self, telemetry: &Telemetry);
}

/// A reserved place; given back when it is dropped unfilled.
pub struct Place {
    sink: Arc<dyn Sink>,
    load: Load,
    filled: bool,
}

impl Place {
    /// `overhead` is what the sink said of this telemetry.
    pub fn reserve(sink: &Arc<dyn Sink>, telemetry: &Telemetry, overhead: u64, ask: Ask) -> Result<Place, Full> {
        let load = Load { overhead, ..Load::of(telemetry) };
        sink.reserve(telemetry, load, ask)?;
        Ok(Place { sink: sink.clone(), load, filled: false })
    }

    pub fn fill(mut self, telemetry: Telemetry) {
        self.filled = true;
        self.sink.commit(telemetry, self.load);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            self.sink.release(self.load);
        }
    }
}

/// What follows a stage that holds telemetry: the rest of its pipeline.
pub trait Outlet: Send + Sync {
    /// Runs the processors on a batch; nothing is counted yet. A batch that they refuse is left as it was.
    fn plan(&self, batch: &mut Telemetry, now: Now) -> Result<Box<dyn Planned>, Refusal>;
    /// The same where others wait; nothing, and the batch as it was, when that takes too long and must be done aside.
    fn plan_at_once(&self, batch: &mut Telemetry, now: Now) -> Option<Result<Box<dyn Planned>, Refusal>>;
    /// Whether the answer to a client depends on what becomes of the telemetry behind it.
    fn answers(&self) -> bool;
}

/// A batch as the processors left it, without a place.
pub trait Planned: Send {
    /// Hands it to all its sinks, or to none.
    fn hand_over(self: Box<Self>, now: Now, ask: Ask) -> Result<(), Blocked>;
}

/// A batch that is still without a place, and the sink that has none.
pub struct Blocked {
    pub planned: Box<dyn Planned>,
    pub full: Full,
    pub sink: Arc<dyn Sink>,
}

/// A stage that wants to be woken: the timekeeper drives them all.
pub trait Wakeful: Send + Sync {
    fn wake_at(&self) -> Option<Instant>;
    fn wake(&self, now: Now);
    /// Full sinks: it is woken when one of them says that it has room.
    fn waits_for(&self) -> Vec<Arc<dyn Sink>> {
        Vec::new()
    }
    /// Pushes everything on, whatever its time; true when nothing is left.
    fn drain(&self, now: Now) -> bool;
}

/// What a receiver hands its requests to.
pub trait Intake: Send + Sync {
    fn signal(&self) -> Signal;
    /// Whether a pipeline takes this signal.
    fn is_open(&self) -> bool {
        true
    }
    /// Takes one request of a peer through the pipelines; returns when the answer may be given.
    fn submit_from(&self, peer: Option<IpAddr>, telemetry: Telemetry) -> Submission<'_>;
    /// The same for what is made here.
    fn submit(&self, telemetry: Telemetry) -> Submission<'_> {
        self.submit_from(None, telemetry)
    }
}

pub type Submission<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;
