//! Limits on repeated reads for one request, and on how long a worker processes it without a break.
//!
//! Single reads cost time in proportion to a request's size. Repeated reads do not: a long resource attribute for each
//! of its records, the rest of a text for each match of a pattern. They have an [`Allowance`]. On a worker, where other
//! requests wait, a request also has a slice of time, and of that allowance; a request that needs more starts over
//! aside (`telemetry/aside.rs`).

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The allowance in bytes, and as a multiple of the request's length.
const AGAIN: usize = 512 << 20;
const AGAIN_EACH: usize = 64;
/// A batch gets a fraction of it: later batches wait for it, and its clients do not learn of a refusal.
const IN_A_BATCH: usize = 4;
/// A value read again is also processed, by a pattern or a hash: that costs more than skipping it.
pub(crate) const WORKED_ON: usize = 4;

/// Heavier requests are not started on a worker; an item weighs as much as `ITEM` bytes.
const LARGE: u64 = 256 << 10;
const ITEM: u64 = 32;

pub(crate) const SLICE: Duration = Duration::from_millis(2);
const AGAIN_IN_SLICE: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Slice {
    ends: Instant,
    is_overrun: bool,
}

thread_local! {
    static IS_BATCH: Cell<bool> = const { Cell::new(false) };
    static CULPRIT: Cell<Option<*const u8>> = const { Cell::new(None) };
    static SLICE_HERE: Cell<Option<Slice>> = const { Cell::new(None) };
}

/// Whether it is too large to start on a worker.
pub(crate) fn is_large(bytes: u64, items: u64) -> bool {
    bytes + items * ITEM > LARGE
}

/// Runs work on a worker. Returns `None`, and its effects must be discarded, if it needs more than a slice.
pub(crate) fn within_slice<T>(work: impl FnOnce() -> T) -> Option<T> {
    SLICE_HERE.set(Some(Slice { ends: Instant::now() + SLICE, is_overrun: false }));
    let done = work();
    let slice = SLICE_HERE.take();
    slice.is_some_and(|slice| !slice.is_overrun).then_some(done)
}

/// Runs work on a batch.
pub(crate) fn on_a_batch<T>(work: impl FnOnce() -> T) -> T {
    IS_BATCH.set(true);
    CULPRIT.set(None);
    let done = work();
    IS_BATCH.set(false);
    done
}

/// Blames a part of a batch for too much work.
pub(crate) fn blame(part: &[u8]) {
    CULPRIT.set(Some(part.as_ptr()));
}

/// Whether the work on a batch ended at this part.
pub(crate) fn is_blamed(part: &[u8]) -> bool {
    CULPRIT.get() == Some(part.as_ptr())
}

/// Whether the work on a request must stop, because its slice is over.
pub(crate) fn is_over() -> bool {
    let Some(slice) = SLICE_HERE.get() else { return false };
    let is_overrun = slice.is_overrun || Instant::now() >= slice.ends;
    SLICE_HERE.set(Some(Slice { is_overrun, ..slice }));
    is_overrun
}

/// How many bytes the work on a request of this length may read again.
pub(super) fn bytes_again(request: usize) -> usize {
    if SLICE_HERE.get().is_some() {
        return AGAIN_IN_SLICE;
    }
    let bytes = AGAIN.saturating_add(request.saturating_mul(AGAIN_EACH));
    if IS_BATCH.get() { bytes / IN_A_BATCH } else { bytes }
}

/// The allowance is used up: work in a slice starts over aside, else the request is refused.
#[cold]
pub(crate) fn exhausted() -> Exhausted {
    if let Some(slice) = SLICE_HERE.get() {
        SLICE_HERE.set(Some(Slice { is_overrun: true, ..slice }));
    }
    Exhausted
}

/// A request needs more repeated reads than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Exhausted {
    pub(crate) const MESSAGE: &'static str = "this request has too much read again for each of its records or matches: send fewer \
                                       records below long resources, scopes, metrics or spans, and shorter texts";
}

/// Bytes that may still be read again.
pub(crate) struct Allowance {
    left: Cell<usize>,
    /// Bytes left for searches whose reads are only bounded, not measured.
    unmeasured: Cell<usize>,
    is_exhausted: Cell<bool>,
}

impl Allowance {
    pub(crate) fn of(request: usize) -> Allowance {
        let bytes = bytes_again(request);
        Allowance { left: Cell::new(bytes), unmeasured: Cell::new(bytes / 8), is_exhausted: Cell::new(false) }
    }

    pub(crate) fn spend(&self, bytes: usize) -> Result<(), Exhausted> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.is_exhausted.set(true);
                Err(exhausted())
            }
        }
    }

    /// Whether a search that reads at most `most` bytes again need not be measured.
    pub(crate) fn covers(&self, most: usize) -> bool {
        let left = self.unmeasured.get().checked_sub(most);
        self.unmeasured.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether more was requested, even if the caller ignored the error.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_exhausted.get()
    }
}
