//! Common code of the editing processors: they edit part by part, with a bounded arena for new values, and charge the
//! memory of the result before it is used.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use smallvec::SmallVec;

use crate::otlp::Signal;
use crate::otlp::rewrite::{self, Outcome, Visitor};
use crate::otlp::room::Room;
use crate::otlp::slice::{self, Exhausted};
use crate::ottl::functions;
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::{Charge, Client, Part, Refusal, Telemetry};

/// Extra memory for new values: per item, and as a minimum in total.
const PER_ITEM: usize = 256;
const AT_LEAST: usize = 256 << 10;

/// How much the statements of one request may write: four times its size, plus as much again of its first 4 MiB,
/// because a hexadecimal hash is seven times as long as a short attribute on the wire.
fn arena_limit(bytes: usize, items: u32) -> usize {
    AT_LEAST + 4 * bytes + 4 * bytes.min(4 << 20) + PER_ITEM * items as usize
}

/// The refusal for a fault that may not be ignored. With `error_mode: propagate` it is temporary, as in the Go
/// collector, whose error is not marked as permanent; a result that is too large would fail again, so it is final.
impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        static SAID: AtomicBool = AtomicBool::new(false);
        if !fault.is_out_of_memory() {
            return Refusal::unavailable(fault.0);
        }
        if !SAID.swap(true, Relaxed) {
            tracing::warn!(error = %fault.0, "refused a request of which too much would be made; it is said only once");
        }
        Refusal::too_much_work(fault.0)
    }
}

/// A part to edit.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) signal: Signal,
    pub(super) bytes: &'a [u8],
    pub(super) items: u32,
    pub(super) client: Option<&'a Client>,
    pub(super) arena: &'a Arena,
}

impl<'a> Request<'a> {
    /// Walks the request. The compiled walk is large, so most visitors share one.
    pub(super) fn rewrite<F: From<Exhausted>>(&self, visitor: &mut dyn Visitor<'a, Fault = F>) -> Result<Outcome, F> {
        self.rewrite_inlined(visitor)
    }

    /// The same in a copy of the walk that is compiled for this visitor.
    pub(super) fn rewrite_inlined<V: Visitor<'a> + ?Sized>(&self, visitor: &mut V) -> Result<Outcome, V::Fault> {
        rewrite::rewrite(self.signal, self.bytes, self.items, self.arena.room(), visitor)
    }
}

/// Replaces each part by the result of `edit`; `None` if nothing is left.
pub(super) fn edit<F: Into<Refusal>>(
    mut telemetry: Telemetry,
    mut edit: impl FnMut(Request<'_>) -> Result<Outcome, F>,
) -> Result<Option<Telemetry>, Refusal> {
    if let Some(part) = telemetry.parts.first() {
        functions::bound(part.charge.most_for_one_request());
    }
    let beyond = telemetry.parts.first().and_then(|part| Beyond::of(&part.charge, &telemetry));
    let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
    for part in std::mem::take(&mut telemetry.parts) {
        let charge = part.charge.for_made();
        let (made, beyond) = (charge.clone(), beyond.clone());
        let room = Room::new(move |bytes| match &beyond {
            Some(beyond) => beyond.take(&made, bytes as u64),
            None => made.grow(bytes as u64),
        });
        let arena = Arena::new(arena_limit(part.bytes.len(), part.items), room, part.bytes.len());
        let client = telemetry.client.as_deref();
        let request =
            Request { signal: telemetry.signal, bytes: &part.bytes, items: part.items, client, arena: &arena };
        let outcome = edit(request);
        if let Some(missing) = arena.room().missing() {
            return Err(too_much(&part.charge, charge.bytes() + missing as u64));
        }
        let outcome = outcome.inspect_err(|_| slice::blame(&part.bytes)).map_err(Into::into)?;
        // No error mode may ignore this: unmasked data would go on.
        if arena.again.is_exhausted() {
            slice::blame(&part.bytes);
            return Err(Fault::from(Exhausted).into());
        }
        match outcome {
            Outcome::Unchanged => parts.push(part),
            Outcome::Empty => {}
            Outcome::Changed { bytes, items } => {
                charge.shrink_to(bytes.len() as u64);
                parts.push(Part::new(bytes, items, charge));
            }
        }
    }
    telemetry.parts = parts;
    Ok(Some(telemetry).filter(|telemetry| !telemetry.parts.is_empty()))
}

#[cold]
fn too_much(charge: &Charge, more: u64) -> Refusal {
    let limit = charge.limit();
    match charge.no_room_for(more) {
        busy if !charge.is_queued() && matches!(busy, Refusal::Busy { .. }) => busy,
        _ => Refusal::TooLarge { limit, unit: "bytes, with what is made of it" },
    }
}

/// The results for a held batch may exceed the limit of the queue share: otherwise nothing could leave a full queue,
/// and only one batch at a time is processed. The excess is limited to a fraction of the share, or to twice a single
/// item: a larger batch goes on in halves.
#[derive(Clone)]
struct Beyond {
    most: u64,
    made: Rc<Cell<u64>>,
}

/// The fraction of the share.
const BEYOND: u64 = 4;

impl Beyond {
    fn of(charge: &Charge, telemetry: &Telemetry) -> Option<Beyond> {
        let of_one = if telemetry.items() == 1 { 2 * telemetry.bytes() as u64 } else { 0 };
        let most = (charge.limit() / BEYOND).max(of_one);
        charge.is_queued().then(|| Beyond { most, made: Rc::default() })
    }

    fn take(&self, charge: &Charge, bytes: u64) -> bool {
        if charge.grow(bytes) {
            return true;
        }
        let made = self.made.get() + bytes;
        let fits = made <= self.most;
        if fits {
            self.made.set(made);
            charge.add(bytes);
        }
        fits
    }
}
