//! The contract between a pipeline and the sinks at its end.
//!
//! A request first *reserves* a place in every sink it will reach, then *commits* to all of them at once. Reserving may
//! be refused and takes nothing; committing cannot fail. There is no await between the two (a commit aside happens as a
//! whole or not at all), so a client that disconnects never leaves half a request behind.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Now, Refusal, Signal, Telemetry};

/// The room a batch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub items: u64,
    pub(crate) bytes: u64,
    /// Bytes not yet charged to a queue or batch.
    pub(crate) fresh_bytes: u64,
    /// Memory that the sink needs beside the bytes ([`Sink::overhead`]).
    pub(crate) overhead: u64,
}

impl Load {
    pub(crate) fn of(telemetry: &Telemetry) -> Load {
        let mut load = Load { items: 0, bytes: 0, fresh_bytes: 0, overhead: 0 };
        for part in &telemetry.parts {
            let bytes = part.bytes.len() as u64;
            load.items += u64::from(part.items);
            load.bytes += bytes;
            load.fresh_bytes += if part.charge.is_queued() { 0 } else { bytes };
        }
        load
    }

    /// All bytes the sink holds for it.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.bytes + self.overhead
    }

    /// The part of these not yet charged to a queue or batch.
    pub(crate) fn fresh_held_bytes(&self) -> u64 {
        self.fresh_bytes + self.overhead
    }
}

/// Why there is no place.
#[derive(Clone, Debug)]
pub enum Full {
    Refuse(Refusal),
    /// There will be room: wait for [`Sink::room`], at most this long, then ask again with [`Ask::waited`].
    Wait {
        most: Option<Duration>,
    },
}

/// The circumstances of a reservation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// No other sink waits for this one.
    pub alone: bool,
    /// It has already waited as long as it was told to.
    pub waited: bool,
    /// The collector shuts down and does not wait long for a stuck sink.
    pub is_end: bool,
}

/// Where telemetry ends up: a batch, a sending queue, or an exporter without one.
pub trait Sink: Send + Sync {
    /// Memory to hold this telemetry, beside its bytes.
    fn overhead(&self, _: &Telemetry) -> u64 {
        0
    }
    /// Whether committing reads the items: large requests are then committed aside.
    fn looks_at_items(&self) -> bool {
        false
    }
    /// Reserves a place for `load`.
    fn reserve(&self, telemetry: &Telemetry, load: Load, ask: Ask) -> Result<(), Full>;
    /// Gives back an unused place.
    fn release(&self, load: Load);
    /// Fills a place. Cannot fail.
    fn commit(&self, telemetry: Telemetry, load: Load);
    /// Notified when a place may have become free.
    fn room(&self) -> &Notify;
    /// Whether the client's answer depends on the outcome here. Behind a `batch` only if the config asks for it:
    /// without a queue the client waits for the upstream, but not for a batch to fill.
    fn answers(&self, _is_batched: bool) -> bool {
        false
    }
    /// Since when it has refused without interruption.
    fn full_since(&self) -> Option<Instant> {
        None
    }
    /// Drops telemetry meant for this sink, under a reason, so that others need not wait for it.
    fn skip(&self, telemetry: &Telemetry);
}

/// A reserved place; given back if dropped unfilled.
pub struct Place {
    sink: Arc<dyn Sink>,
    load: Load,
    filled: bool,
}

impl Place {
    /// `overhead` is the result of [`Sink::overhead`] for this telemetry.
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

/// The rest of the pipeline behind a stage.
pub trait Outlet: Send + Sync {
    /// Runs the processors on a batch; nothing is counted yet. A refused batch is left unchanged.
    fn plan(&self, batch: &mut Telemetry, now: Now) -> Result<Box<dyn Planned>, Refusal>;
    /// Plans on the worker; `None`, with the batch unchanged, when it takes too long and must be done aside.
    fn plan_at_once(&self, batch: &mut Telemetry, now: Now) -> Option<Result<Box<dyn Planned>, Refusal>>;
    /// Whether a client's answer depends on the outcome behind it.
    fn answers(&self) -> bool;
}

/// A processed batch without a place.
pub trait Planned: Send {
    /// Hands it to all its sinks, or to none.
    fn hand_over(self: Box<Self>, now: Now, ask: Ask) -> Result<(), Blocked>;
    /// Takes out the batch as it was before the processors, with its tickets, if they cover all of it: the clients that
    /// wait for it still have it.
    fn take_back(&mut self) -> Option<Telemetry>;
}

/// A batch that has no place yet, and the sink that refused.
pub struct Blocked {
    pub(crate) planned: Box<dyn Planned>,
    pub(crate) full: Full,
    pub(crate) sink: Arc<dyn Sink>,
}

/// A stage that is woken by the timekeeper.
pub trait Wakeful: Send + Sync {
    fn wake_at(&self) -> Option<Instant>;
    fn wake(&self, now: Now);
    /// Full sinks: the stage is woken when one of them has room.
    fn waits_for(&self) -> Vec<Arc<dyn Sink>> {
        Vec::new()
    }
    /// Hands everything on regardless of time; true when nothing is left.
    fn drain(&self, now: Now, why: Drain) -> bool;
}

/// Why a stage is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// A reload replaced it.
    Replaced,
    Shutdown,
}

/// Where a receiver submits its requests.
pub trait Intake: Send + Sync {
    fn signal(&self) -> Signal;
    /// Whether a pipeline takes this signal.
    fn is_open(&self) -> bool {
        true
    }
    /// Takes one request of a peer through the pipelines; returns when it may be answered.
    fn submit_from(&self, peer: Option<IpAddr>, telemetry: Telemetry) -> Submission<'_>;
    /// The same for telemetry made in this process.
    fn submit(&self, telemetry: Telemetry) -> Submission<'_> {
        self.submit_from(None, telemetry)
    }
}

pub type Submission<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;
