//! From the tap to those who look: every request is offered to the ring and to each feed, by reference and without
//! waiting. A feed that is full is skipped over, and counts what it missed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::ring::Ring;
use super::wanted::Wanted;
use crate::otlp::services;
use crate::telemetry::{Now, Point, Reason, Signal, Telemetry};

/// Those who look at once.
const FEEDS: usize = 8;
/// What waits for one of them: requests, and bytes of them. A larger request has to find nothing before it.
const WAITING: usize = 512;
const WAITING_BYTES: usize = 1 << 20;

/// A request that passed, by reference: its memory stays, its charge does not. What is held here is beside the budget,
/// within the limits of the ring and of the feeds.
#[derive(Clone)]
pub struct Event {
    pub place: Place,
    /// The exporter that sent or dropped it.
    pub exporter: Option<Box<str>>,
    pub reason: Option<Reason>,
    pub signal: Signal,
    pub parts: SmallVec<[(Bytes, u32); 1]>,
    pub at: Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Received,
    Leaving,
    Dropped,
}

impl Place {
    pub const ALL: [(&str, Place); 3] =
        [("received", Place::Received), ("leaving", Place::Leaving), ("dropped", Place::Dropped)];

    pub fn name(self) -> &'static str {
        Place::ALL.iter().find(|(_, place)| *place == self).map_or("", |(name, _)| name)
    }
}

impl Event {
    fn of(point: Point, telemetry: &Telemetry) -> Event {
        let (place, exporter, reason) = match point {
            Point::Received => (Place::Received, None, None),
            Point::Leaving { exporter } => (Place::Leaving, Some(exporter.into()), None),
            Point::Dropped { exporter, reason } => (Place::Dropped, Some(exporter.into()), Some(reason)),
        };
        // What came in has just read the clock.
        let at = if place == Place::Received { telemetry.received } else { Now::read() };
        let parts = telemetry.parts.iter().map(|part| (part.bytes.clone(), part.items)).collect();
        Event { place, exporter, reason, signal: telemetry.signal, parts, at }
    }

    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|(bytes, _)| bytes.len()).sum()
    }
}

/// Behind the tap.
pub struct Watch {
    ring: Mutex<Ring>,
    feeds: RwLock<Vec<Arc<Feed>>>,
    open: AtomicUsize,
}

struct Feed {
    place: Place,
    wanted: Arc<Wanted>,
    events: mpsc::Sender<Event>,
    waiting_bytes: AtomicUsize,
    skipped: AtomicU64,
}

impl Watch {
    /// With a ring of so many bytes; 0 keeps nothing.
    pub fn new(ring_bytes: usize) -> Arc<Watch> {
        let (ring, feeds) = (Mutex::new(Ring::new(ring_bytes)), RwLock::default());
        Arc::new(Watch { ring, feeds, open: AtomicUsize::new(0) })
    }

    /// On the task that carries the telemetry: takes no lock that is held for long, and waits for none.
    pub fn look(&self, point: Point, telemetry: &Telemetry) {
        let mut ring = match self.ring.try_lock() {
            Ok(ring) => Some(ring),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            // Somebody else is keeping something: this request is one of those that are not kept.
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(ring) = &mut ring
            && let (Point::Received | Point::Dropped { .. }, Some(first)) = (point, telemetry.parts.first())
        {
            let service = services::first(&first.bytes);
            ring.offer(service, telemetry.bytes(), telemetry.received.instant, || Event::of(point, telemetry));
        }
        // Still with the ring: who begins to look sees each request in the ring or in the feed, and not in both.
        if self.open.load(Relaxed) > 0 {
            let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
            feeds.iter().for_each(|feed| feed.offer(point, telemetry));
        }
    }

    /// Begins to look: at what is in the ring since a moment, then at what passes. `None` when too many do.
    pub fn open(self: &Arc<Self>, place: Place, wanted: Wanted, since: Option<Instant>) -> Option<View> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        if feeds.len() >= FEEDS {
            return None;
        }
        let mut past = since.map(|since| ring.since(since)).unwrap_or_default();
        past.retain(|event| event.place == place);
        let (events, live) = mpsc::channel(WAITING);
        let (waiting_bytes, skipped) = (AtomicUsize::new(0), AtomicU64::new(0));
        let feed = Arc::new(Feed { place, wanted: Arc::new(wanted), events, waiting_bytes, skipped });
        feeds.push(feed.clone());
        self.open.store(feeds.len(), Relaxed);
        Some(View { watch: self.clone(), feed, past, live })
    }

    /// How many look.
    pub fn looking(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub fn ring_bytes(&self) -> usize {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).used()
    }
}

impl Feed {
    fn offer(&self, point: Point, telemetry: &Telemetry) {
        let place = match point {
            Point::Received => Place::Received,
            Point::Leaving { .. } => Place::Leaving,
            Point::Dropped { .. } => Place::Dropped,
        };
        let is_wanted = place == self.place && self.wanted.wants(telemetry.signal);
        if !is_wanted || !self.wanted.may_be_in(telemetry.parts.iter().map(|part| &part.bytes)) {
            return;
        }
        let (bytes, waiting) = (telemetry.bytes(), self.waiting_bytes.load(Relaxed));
        let has_room = waiting == 0 || waiting + bytes <= WAITING_BYTES;
        match self.events.try_reserve() {
            Ok(slot) if has_room => {
                self.waiting_bytes.fetch_add(bytes, Relaxed);
                slot.send(Event::of(point, telemetry));
            }
            _ => _ = self.skipped.fetch_add(telemetry.items(), Relaxed),
        }
    }
}

/// One who looks; when it is dropped, nobody does it for them.
pub struct View {
    watch: Arc<Watch>,
    feed: Arc<Feed>,
    past: VecDeque<Event>,
    live: mpsc::Receiver<Event>,
}

/// What of one request is wanted.
pub struct Sighting {
    pub event: Event,
    pub pieces: SmallVec<[Bytes; 1]>,
    pub items: u64,
    /// Items that passed unseen before it, because nobody took what was there.
    pub skipped: u64,
}

impl View {
    /// The next request of which something is wanted, or before which something was skipped.
    pub fn poll_next(&mut self, context: &mut Context) -> Poll<Option<Sighting>> {
        loop {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => {
                    let Some(event) = std::task::ready!(self.live.poll_recv(context)) else { return Poll::Ready(None) };
                    self.feed.waiting_bytes.fetch_sub(event.bytes(), Relaxed);
                    event
                }
            };
            let wanted = &self.feed.wanted;
            let (pieces, items) = match wanted.may_be_in(event.parts.iter().map(|(bytes, _)| bytes)) {
                true => wanted.keep(event.signal, &event.parts, event.at),
                false => Default::default(),
            };
            let skipped = self.feed.skipped.swap(0, Relaxed);
            if items > 0 || skipped > 0 {
                return Poll::Ready(Some(Sighting { event, pieces, items, skipped }));
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut feeds = self.watch.feeds.write().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        self.watch.open.store(feeds.len(), Relaxed);
    }
}
