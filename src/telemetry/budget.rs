//! The byte budget: memory is admitted by bytes held, before they are read, never by watching the heap.
//!
//! Three shares, so that a full queue cannot starve the intake's own reading, and neither can starve the export that
//! would free them. Every held buffer owns a [`Charge`]; when the last clone goes, the bytes are given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use tokio::sync::{Notify, watch};

use super::{Aside, Fill, Reason, Refusal};

/// Who holds the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Requests being read, inflated and processed.
    Ingest,
    /// Telemetry in batches and queues.
    Queue,
    /// What exporters made of it: compressed or converted copies.
    Export,
}

/// The part of a share up to which what comes is small.
const SMALL: u64 = 256;

#[derive(Debug)]
pub struct Budget {
    shares: [Held; 3],
    /// How many sinks hold telemetry in the queue share.
    holders: AtomicU64,
    /// How many exports wait for memory.
    waiting: watch::Sender<usize>,
    /// Where requests are worked on when that would keep others waiting.
    pub aside: Aside,
    /// The same for what is sent, which must not wait for requests.
    pub aside_of_exports: Aside,
}

#[derive(Debug)]
struct Held {
    limit: AtomicU64,
    used: AtomicU64,
    freed: Notify,
}

impl Budget {
    /// Shares `total` bytes: ingest 1, queue 2, export 1.
    pub fn new(total: u64) -> Arc<Budget> {
        let held = |limit| Held { limit: AtomicU64::new(limit), used: AtomicU64::new(0), freed: Notify::new() };
        let shares = [held(total / 4), held(total / 2), held(total / 4)];
        let (aside, aside_of_exports) = (Aside::default(), Aside::default());
        let waiting = watch::Sender::new(0);
        Arc::new(Budget { shares, holders: AtomicU64::new(0), waiting, aside, aside_of_exports })
    }

    /// Shares another total. What is held beyond it stays, and is given back in its time.
    pub fn resize(&self, total: u64) {
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

    /// Adds a sink that will hold telemetry, as long as the holder lives; what one sink may hold depends on whether it shares with others.
    pub fn add_holder(self: &Arc<Self>) -> Holder {
        self.holders.fetch_add(1, Relaxed);
        Holder(self.clone())
    }

    /// Whether a sink that already holds `held` bytes of the queue share may take `more`, of which `fresh` are not yet in
    /// the share. Alone it may fill the share; beside others it may hold no more than `most_of_several`. An empty sink
    /// takes what is in the share already, even where processors have made more than the share has: else every batch would wait
    /// for memory that only batches hold.
    pub fn allows(&self, held: u64, more: u64, fresh: u64) -> bool {
        held == 0 && fresh == 0 || self.holders.load(Relaxed) <= 1 || held + more <= self.most_of_several(more, fresh)
    }

    /// Twice what is free without the new bytes, so that a stuck sink always leaves room for a healthy one; for what is small
    /// four times, so that a few large requests do not keep all others out.
    fn most_of_several(&self, more: u64, fresh: u64) -> u64 {
        let limit = self.limit(Share::Queue);
        let free = (limit + more).saturating_sub(self.used(Share::Queue) + fresh);
        if more <= limit / SMALL { 4 * free } else { 2 * free }
    }

    /// Why there is no room for `more` bytes in a sink that holds `held`: the share is full, or it leaves room for others.
    pub fn queue_fill(&self, held: u64, more: u64, fresh: u64) -> Fill {
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
    pub fn is_short(&self, share: Share) -> bool {
        self.used(share) > self.limit(share) / 4 * 3
    }

    /// Takes bytes of a share, or none at all. What is held beyond the limit keeps nobody from taking nothing.
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

    /// Waits until the export share has room. One that is larger than the whole share goes alone. It ends: an attempt to
    /// send does, and what is kept for the next one makes way for who waits here ([`Budget::exports_wait`]).
    pub async fn charge_export(self: &Arc<Self>, bytes: u64) -> Charge {
        let mut waiting = None;
        loop {
            let freed = self.held(Share::Export).freed.notified();
            let bytes = bytes.min(self.limit(Share::Export));
            if let Some(charge) = Charge::take(self, Share::Export, bytes) {
                return charge;
            }
            waiting.get_or_insert_with(|| Waiting::new(self));
            freed.await;
        }
    }

    /// Returns when an export waits for memory.
    pub async fn exports_wait(&self) {
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

/// An export that waits for memory.
struct Waiting<'a>(&'a Budget);

impl Waiting<'_> {
    fn new(budget: &Budget) -> Waiting<'_> {
        budget.waiting.send_modify(|waiting| *waiting += 1);
        Waiting(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// A sink that holds telemetry in the queue share.
#[derive(Debug)]
pub struct Holder(Arc<Budget>);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Relaxed);
    }
}

/// Bytes of the budget that one buffer owns; clones own them together.
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

    /// A charge for bytes that were already taken from the budget.
    pub fn held(budget: &Arc<Budget>, share: Share, bytes: u64) -> Charge {
        Charge(Arc::new(Owned {
            budget: budget.clone(),
            share: AtomicU8::new(share as u8),
            bytes: AtomicU64::new(bytes),
        }))
    }

    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    pub fn is_queued(&self) -> bool {
        self.0.share.load(Relaxed) == Share::Queue as u8
    }

    /// Moves the bytes to the queue share; the caller has reserved them there.
    pub fn move_to_queue(&self) {
        if self.0.share.swap(Share::Queue as u8, Relaxed) != Share::Queue as u8 {
            let bytes = self.0.bytes.load(Relaxed);
            self.0.budget.held(Share::Queue).used.fetch_add(bytes, Relaxed);
            self.0.budget.give_back(Share::Ingest, bytes);
        }
    }

    /// A charge of the same share for what will be made of these bytes: nothing yet.
    pub fn for_made(&self) -> Charge {
        Charge::held(&self.0.budget, self.0.share(), 0)
    }

    /// Whether they are one.
    pub fn is(&self, other: &Charge) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The share that a request has while it is read and processed.
    pub fn most_for_one_request(&self) -> u64 {
        self.0.budget.limit(Share::Ingest)
    }

    /// The limit of its share.
    pub fn limit(&self) -> u64 {
        self.0.budget.limit(self.0.share())
    }

    /// Why its share had no room for `more` bytes: what would not fit if this were alone will not fit later.
    pub fn no_room_for(&self, more: u64) -> Refusal {
        let limit = self.limit();
        match self.bytes() + more > limit - limit / 16 {
            true => Refusal::TooLarge { limit, unit: "bytes with all that is made of it while it is read" },
            false => Refusal::busy(Reason::MemoryFull),
        }
    }

    /// Takes more bytes of the same share.
    pub fn grow(&self, bytes: u64) -> bool {
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
    pub fn shrink_to(&self, bytes: u64) {
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
