//! The byte budget: memory is admitted by counting the bytes held, before they are read; the heap is never measured.
//!
//! It has three shares, so a full queue cannot starve the reading of requests, and neither can starve the export that
//! frees memory. Every held buffer owns a [`Charge`]; its bytes are given back when the last clone is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use tokio::sync::{Notify, watch};

use super::{Aside, Fill, Reason, Refusal};

/// What the bytes are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Requests being read, inflated and processed.
    Ingest,
    /// Telemetry in batches and queues.
    Queue,
    /// Encoded copies that exporters make: compressed or converted.
    Export,
}

/// Whether a request is small beside something: such requests do not wait for large ones, nor for room that these take.
pub(crate) fn is_small(bytes: u64, beside: u64) -> bool {
    bytes <= beside / 256
}

/// The memory budget of the process. `used` of a share is the sum of all charges in it; it changes by atomic updates
/// only, and `take` never raises it above `limit`. Moving a charge between shares, or lowering the limit, may exceed
/// the limit for a while; then nothing more is admitted until enough is given back.
#[derive(Debug)]
pub struct Budget {
    shares: [Held; 3],
    /// Number of sinks that hold telemetry in the queue share.
    holders: AtomicU64,
    /// Number of exports that wait for memory.
    waiting: watch::Sender<usize>,
    /// Where requests are processed that would block a worker.
    pub aside: Aside,
    /// The same for exports, which must not wait behind requests.
    pub(crate) aside_of_exports: Aside,
}

#[derive(Debug)]
struct Held {
    limit: AtomicU64,
    used: AtomicU64,
    freed: Notify,
}

impl Budget {
    /// Divides `total` bytes: a quarter ingest, half queue, a quarter export.
    pub fn new(total: u64) -> Arc<Budget> {
        let held = |limit| Held { limit: AtomicU64::new(limit), used: AtomicU64::new(0), freed: Notify::new() };
        let shares = [held(total / 4), held(total / 2), held(total / 4)];
        let (aside, aside_of_exports) = (Aside::default(), Aside::default());
        let waiting = watch::Sender::new(0);
        Arc::new(Budget { shares, holders: AtomicU64::new(0), waiting, aside, aside_of_exports })
    }

    /// Divides another total. Bytes already held beyond it stay until they are given back.
    pub(crate) fn resize(&self, total: u64) {
        for (held, part) in self.shares.iter().zip([4, 2, 4]) {
            held.limit.store(total / part, Relaxed);
        }
    }

    pub fn limit(&self, share: Share) -> u64 {
        self.held(share).limit.load(Relaxed)
    }

    pub fn used(&self, share: Share) -> u64 {
        self.held(share).used.load(Relaxed)
    }

    /// Registers a sink that holds telemetry, until the holder is dropped; a sink may hold less when there are several.
    pub fn add_holder(self: &Arc<Self>) -> Holder {
        self.holders.fetch_add(1, Relaxed);
        Holder(self.clone())
    }

    /// Whether a sink that holds `held` bytes of the queue share may take `more`, of which `fresh` are not yet in the
    /// share. A single sink may fill the share; with several, each is bound by `most_of_several`. An empty sink may
    /// always take bytes that are in the share already, even if processors grew them beyond it: else every batch would
    /// wait for memory that only batches hold.
    pub fn allows(&self, held: u64, more: u64, fresh: u64) -> bool {
        held == 0 && fresh == 0 || self.holders.load(Relaxed) <= 1 || held + more <= self.most_of_several(more, fresh)
    }

    /// Twice the free bytes without the new ones, so a stuck sink always leaves room for a healthy one; four times for
    /// small requests, so few large ones do not keep out all others.
    fn most_of_several(&self, more: u64, fresh: u64) -> u64 {
        let limit = self.limit(Share::Queue);
        let free = (limit + more).saturating_sub(self.used(Share::Queue) + fresh);
        if is_small(more, limit) { 4 * free } else { 2 * free }
    }

    /// Why a sink that holds `held` has no room for `more` bytes: the share is full, or room is left for other sinks.
    pub(crate) fn queue_fill(&self, held: u64, more: u64, fresh: u64) -> Fill {
        let unit = "bytes";
        match self.allows(held, more, fresh) {
            true => {
                let (used, most) = (self.used(Share::Queue), self.limit(Share::Queue));
                Fill { limit: "memory for queues", used, most, unit }
            }
            false => {
                let most = self.most_of_several(more, fresh);
                Fill { limit: "memory for one queue of several", used: held, most, unit }
            }
        }
    }

    /// Whether more than three quarters of a share are used.
    pub(crate) fn is_short(&self, share: Share) -> bool {
        self.used(share) > self.limit(share) / 4 * 3
    }

    /// Takes bytes of a share, or none. Taking 0 bytes always succeeds.
    pub fn take(&self, share: Share, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        let held = self.held(share);
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= held.limit.load(Relaxed));
        held.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    pub fn give_back(&self, share: Share, bytes: u64) {
        let held = self.held(share);
        held.used.fetch_sub(bytes, Relaxed);
        held.freed.notify_waiters();
    }

    /// Waits until the export share has room. A charge larger than the share takes all of it. The wait ends: every
    /// attempt to send ends, and copies kept for a retry are dropped when an export waits ([`Budget::exports_wait`]).
    pub async fn charge_export(self: &Arc<Self>, bytes: u64) -> Charge {
        let mut waiting = None;
        loop {
            let freed = self.held(Share::Export).freed.notified();
            let bytes = bytes.min(self.limit(Share::Export));
            if let Some(charge) = Charge::take(self, Share::Export, bytes) {
                return charge;
            }
            waiting.get_or_insert_with(|| WaitingExport::new(self));
            freed.await;
        }
    }

    /// Returns when an export waits for memory.
    pub(crate) async fn exports_wait(&self) {
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.map(drop);
    }

    fn held(&self, share: Share) -> &Held {
        match share {
            Share::Ingest => &self.shares[0],
            Share::Queue => &self.shares[1],
            Share::Export => &self.shares[2],
        }
    }
}

/// Counts an export that waits for memory.
struct WaitingExport<'a>(&'a Budget);

impl WaitingExport<'_> {
    fn new(budget: &Budget) -> WaitingExport<'_> {
        budget.waiting.send_modify(|waiting| *waiting += 1);
        WaitingExport(budget)
    }
}

impl Drop for WaitingExport<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// A registered sink in the queue share.
#[derive(Debug)]
pub struct Holder(Arc<Budget>);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Relaxed);
    }
}

/// Bytes of the budget that one buffer owns, together with its clones. Each byte is in exactly one share, and is given
/// back once, by the last clone.
#[derive(Clone, Debug)]
pub struct Charge(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    budget: Arc<Budget>,
    share: AtomicU8,
    bytes: AtomicU64,
}

impl Charge {
    pub fn take(budget: &Arc<Budget>, share: Share, bytes: u64) -> Option<Charge> {
        budget.take(share, bytes).then(|| Charge::held(budget, share, bytes))
    }

    /// A charge for bytes already taken from the budget.
    pub fn held(budget: &Arc<Budget>, share: Share, bytes: u64) -> Charge {
        Charge(Arc::new(Owned {
            budget: budget.clone(),
            share: AtomicU8::new(share as u8),
            bytes: AtomicU64::new(bytes),
        }))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.0.share.load(Relaxed) == Share::Queue as u8
    }

    /// Moves the bytes to the queue share; the caller has reserved them there.
    pub(crate) fn move_to_queue(&self) {
        if self.0.share.swap(Share::Queue as u8, Relaxed) != Share::Queue as u8 {
            let bytes = self.0.bytes.load(Relaxed);
            self.0.budget.held(Share::Queue).used.fetch_add(bytes, Relaxed);
            self.0.budget.give_back(Share::Ingest, bytes);
        }
    }

    /// An empty charge in the same share, for bytes derived from these.
    pub(crate) fn for_made(&self) -> Charge {
        Charge::held(&self.0.budget, self.0.share(), 0)
    }

    /// Whether both are the same charge.
    pub(super) fn is(&self, other: &Charge) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The limit for one request while it is read and processed.
    pub(crate) fn most_for_one_request(&self) -> u64 {
        self.0.budget.limit(Share::Ingest)
    }

    /// The limit of its share.
    pub(crate) fn limit(&self) -> u64 {
        self.0.budget.limit(self.0.share())
    }

    /// The refusal when its share has no room for `more` bytes: final if they would not fit even alone.
    pub(crate) fn no_room_for(&self, more: u64) -> Refusal {
        let limit = self.limit();
        match self.bytes() + more > limit - limit / 16 {
            true => Refusal::TooLarge { limit, unit: "bytes with all that is made of it while it is read" },
            false => Refusal::busy(Reason::MemoryFull),
        }
    }

    /// Takes more bytes of the same share.
    pub(crate) fn grow(&self, bytes: u64) -> bool {
        let grown = self.0.budget.take(self.0.share(), bytes);
        if grown {
            self.0.bytes.fetch_add(bytes, Relaxed);
        }
        grown
    }

    /// Adds bytes that the caller has reserved in the same share.
    pub fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.budget.held(self.0.share()).used.fetch_add(bytes, Relaxed);
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&self, bytes: u64) {
        let before = self.0.bytes.fetch_min(bytes, Relaxed);
        if before > bytes {
            self.0.budget.give_back(self.0.share(), before - bytes);
        }
    }
}

impl Owned {
    fn share(&self) -> Share {
        match self.share.load(Relaxed) {
            0 => Share::Ingest,
            1 => Share::Queue,
            _ => Share::Export,
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.budget.give_back(self.share(), self.bytes.load(Relaxed));
    }
}
