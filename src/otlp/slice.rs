//! How much one request may have read again and again, and how long a worker works on it in one go.
//!
//! What a request asks for once costs time in proportion to its size. What it asks for again and again does not: a long
//! attribute of a resource for each of its records, the rest of a text for each match of a pattern. That has an
//! [`Allowance`]. On a worker, where other requests wait, the work on one has a slice of time as well, and of that
//! allowance; a request that needs more is begun again where nobody waits (`telemetry/aside.rs`).

use std::cell::Cell;
use std::time::{Duration, Instant};

/// So many bytes may be read again, and so many times the length of the request.
const AGAIN: usize = 512 << 20;
const AGAIN_EACH: usize = 64;
/// A batch has a part of that: what comes after it waits until it is done, and its clients do not hear of a refusal.
const IN_A_BATCH: usize = 4;
/// A value that is read again is worked on as well, by a pattern or a hash: that weighs more than to look past it.
pub const WORKED_ON: usize = 4;

/// What is heavier than this is not begun on a worker; an item weighs as much as so many bytes.
const LARGE: u64 = 256 << 10;
const ITEM: u64 = 32;

pub const SLICE: Duration = Duration::from_millis(2);
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

/// Whether so much is not begun where others wait.
pub fn is_large(bytes: u64, items: u64) -> bool {
    bytes + items * ITEM > LARGE
}

/// Does work that others wait for. Returns nothing, and the work is to be thrown away, if it needs more than a slice.
pub fn within_slice<T>(work: impl FnOnce() -> T) -> Option<T> {
    SLICE_HERE.set(Some(Slice { ends: Instant::now() + SLICE, is_overrun: false }));
    let done = work();
    let slice = SLICE_HERE.take();
    slice.is_some_and(|slice| !slice.is_overrun).then_some(done)
}

/// Does work on a batch.
pub fn on_a_batch<T>(work: impl FnOnce() -> T) -> T {
    IS_BATCH.set(true);
    CULPRIT.set(None);
    let done = work();
    IS_BATCH.set(false);
    done
}

/// This part of a batch was too much work.
pub fn blame(part: &[u8]) {
    CULPRIT.set(Some(part.as_ptr()));
}

/// Whether the work on a batch ended at this part.
pub fn is_blamed(part: &[u8]) -> bool {
    CULPRIT.get() == Some(part.as_ptr())
}

/// Whether the work on a request must stop here, since its slice is over.
pub fn is_over() -> bool {
    let Some(slice) = SLICE_HERE.get() else { return false };
    let is_overrun = slice.is_overrun || Instant::now() >= slice.ends;
    SLICE_HERE.set(Some(Slice { is_overrun, ..slice }));
    is_overrun
}

/// How many bytes the work on a request of this length may read again.
pub fn bytes_again(request: usize) -> usize {
    if SLICE_HERE.get().is_some() {
        return AGAIN_IN_SLICE;
    }
    let bytes = AGAIN.saturating_add(request.saturating_mul(AGAIN_EACH));
    if IS_BATCH.get() { bytes / IN_A_BATCH } else { bytes }
}

/// The work needs more than that: in a slice it is begun again elsewhere, else the request is refused.
#[cold]
pub fn exhausted() -> Exhausted {
    if let Some(slice) = SLICE_HERE.get() {
        SLICE_HERE.set(Some(Slice { is_overrun: true, ..slice }));
    }
    Exhausted
}

/// A request has more read again than it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Exhausted {
    pub const MESSAGE: &'static str = "this request has too much read again for each of its records or matches: send fewer \
                                       records below long resources, scopes, metrics or spans, and shorter texts";
}

/// How many bytes may still be read again.
pub struct Allowance {
    left: Cell<usize>,
    /// Of searches of which only the most that they may read is known.
    unmeasured: Cell<usize>,
    is_exhausted: Cell<bool>,
}

impl Allowance {
    pub fn of(request: usize) -> Allowance {
        let bytes = bytes_again(request);
        Allowance { left: Cell::new(bytes), unmeasured: Cell::new(bytes / 8), is_exhausted: Cell::new(false) }
    }

    pub fn spend(&self, bytes: usize) -> Result<(), Exhausted> {
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

    /// Whether there is no need to measure a search that reads at most so many bytes again.
    pub fn covers(&self, most: usize) -> bool {
        let left = self.unmeasured.get().checked_sub(most);
        self.unmeasured.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether more was asked for, whatever became of the one who asked.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.get()
    }
}
