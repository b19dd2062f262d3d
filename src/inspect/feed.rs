//! From the tap to its viewers: every request is offered to the ring and to each feed, by reference and without
//! waiting. A full feed is skipped, and counts what it missed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::ring::{Past, Ring};
use super::wanted::Wanted;
use crate::otlp::services;
use crate::telemetry::{Client, Now, Point, Reason, Removed, Rules, Shown, Signal, Telemetry, clock};

/// Maximum viewers at once.
pub(super) const FEEDS: usize = 8;
/// Maximum requests, and bytes of them, that wait for one viewer or are being written to it.
const WAITING: usize = 512;
const WAITING_BYTES: usize = 256 << 10;
/// A larger request needs an empty feed, and room here, which all viewers share.
const LARGE_BYTES: usize = 4 << 20;

/// How long a viewer looks for something wanted before others have their turn.
const AT_ONCE: Duration = Duration::from_millis(5);
/// Rules are asked about requests up to this size, and rest so many times as long as they took: of one core a viewer
/// takes at most a twentieth.
const MOST_ASKED: usize = 1 << 20;
const REST: u32 = 20;

/// A request that passed, by reference: its memory is kept, its charge is not. These bytes are not part of the budget,
/// but within the limits of the ring and of the feeds.
#[derive(Clone)]
pub struct Event {
    pub(super) place: PointKind,
    /// The exporter that sent or dropped it.
    pub(super) exporter: Option<Box<str>>,
    pub(super) reason: Option<Reason>,
    /// The processor that removed some of it.
    pub(super) filtered: Option<Filtered>,
    pub(super) signal: Signal,
    pub(super) parts: SmallVec<[(Bytes, u32); 1]>,
    pub(super) at: Now,
}

/// A processor, and its rules.
#[derive(Clone)]
pub(super) struct Filtered {
    pub(super) processor: Box<str>,
    rules: Arc<dyn Rules>,
    client: Option<Arc<Client>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    Received,
    Leaving,
    Dropped,
    Filtered,
}

impl PointKind {
    pub(crate) const ALL: [PointKind; 4] =
        [PointKind::Received, PointKind::Filtered, PointKind::Leaving, PointKind::Dropped];

    fn of(point: &Point) -> PointKind {
        match point {
            Point::Received => PointKind::Received,
            Point::Leaving { .. } => PointKind::Leaving,
            Point::Dropped { .. } => PointKind::Dropped,
            Point::Filtered { .. } => PointKind::Filtered,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            PointKind::Received => "received",
            PointKind::Leaving => "leaving",
            PointKind::Dropped => "dropped",
            PointKind::Filtered => "filtered",
        }
    }
}

impl Event {
    fn of(point: Point, telemetry: &Telemetry) -> Event {
        let place = PointKind::of(&point);
        let (exporter, reason, filtered) = match point {
            Point::Received => (None, None, None),
            Point::Leaving { exporter } => (Some(exporter.into()), None, None),
            Point::Dropped { exporter, reason } => (Some(exporter.into()), Some(reason), None),
            Point::Filtered { processor, rules } => {
                let (rules, client) = (rules.clone(), telemetry.client.clone());
                (None, None, Some(Filtered { processor: processor.into(), rules, client }))
            }
        };
        // For received requests the clock has just been read.
        let at = if place == PointKind::Received { telemetry.received } else { Now::read() };
        let parts = telemetry.parts.iter().map(|part| (part.bytes.clone(), part.items)).collect();
        Event { place, exporter, reason, filtered, signal: telemetry.signal, parts, at }
    }

    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|(bytes, _)| bytes.len()).sum()
    }

    pub(super) fn items(&self) -> u64 {
        self.parts.iter().map(|(_, items)| u64::from(*items)).sum()
    }
}

/// How long a worker waits for the ring. Adding to it takes a few microseconds.
const PATIENCE: Duration = Duration::from_micros(100);

/// The viewer behind the tap, called by all workers. A worker waits for `ring` only for a moment. A viewer is
/// added to `feeds` with the ring locked, so it sees each request in the ring or in its feed, not in both. `open` is
/// the number of feeds, for a check without a lock.
pub struct Viewers {
    ring: Mutex<Ring>,
    feeds: RwLock<Vec<Arc<Feed>>>,
    open: AtomicUsize,
    /// Bytes of large requests held for viewers.
    large: Arc<AtomicUsize>,
    /// A request was not offered to the ring.
    has_missed: AtomicBool,
    wants_filtered: Arc<AtomicUsize>,
}

struct Feed {
    place: PointKind,
    wanted: Arc<Wanted>,
    events: mpsc::Sender<(Event, Held)>,
    held: Arc<AtomicUsize>,
    large: Arc<AtomicUsize>,
    skipped: AtomicU64,
}

/// Bytes held for one viewer, until dropped.
pub(super) struct Held {
    bytes: usize,
    held: Option<Arc<AtomicUsize>>,
    large: Option<Arc<AtomicUsize>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for counter in self.held.iter().chain(&self.large) {
            counter.fetch_sub(self.bytes, Relaxed);
        }
    }
}

impl Viewers {
    /// With a ring of `ring_bytes`; 0 keeps nothing.
    pub fn new(ring_bytes: usize) -> Arc<Viewers> {
        Viewers::counting(ring_bytes, Arc::default())
    }

    /// The same; `wants_filtered` is set to the number of viewers that look at what rules remove.
    pub(super) fn counting(ring_bytes: usize, wants_filtered: Arc<AtomicUsize>) -> Arc<Viewers> {
        let (ring, feeds) = (Mutex::new(Ring::new(ring_bytes)), RwLock::default());
        Arc::new(Viewers {
            ring,
            feeds,
            open: AtomicUsize::new(0),
            large: Arc::default(),
            has_missed: AtomicBool::new(false),
            wants_filtered,
        })
    }

    /// Runs on the task that carries the telemetry: waits for no lock for long.
    pub fn look(&self, point: Point, telemetry: &Telemetry) {
        let is_received = matches!(point, Point::Received);
        // While another worker adds to the ring for longer, this request is not kept.
        let mut ring = self.ring.try_lock().or_else(|| self.ring.try_lock_for(PATIENCE));
        if let Some(ring) = &mut ring
            && let (Point::Received | Point::Dropped { .. }, Some(first)) = (point, telemetry.parts.first())
        {
            let (service, now) = (services::first(&first.bytes), telemetry.received.instant);
            let is_kept = ring.offer(service, telemetry.bytes(), now, || Event::of(point, telemetry));
            if !is_kept && is_received || self.has_missed.load(Relaxed) {
                self.has_missed.store(false, Relaxed);
                ring.forgotten.skip(now);
            }
        }
        if ring.is_none() && is_received {
            self.has_missed.store(true, Relaxed);
        }
        // The ring is still locked, so a new viewer sees each request in the ring or in the feed, and not in both.
        if self.open.load(Relaxed) > 0 {
            let feeds = self.feeds.read();
            feeds.iter().for_each(|feed| feed.offer(point, telemetry));
        }
    }

    /// Starts a viewer: with the ring's requests since a moment, then with passing ones. `None` if there are too many
    /// viewers.
    pub fn open(self: &Arc<Self>, place: PointKind, wanted: Wanted, since: Option<Instant>) -> Option<View> {
        let ring = self.ring.lock();
        let mut feeds = self.feeds.write();
        if feeds.len() >= FEEDS {
            return None;
        }
        let past = since.map(|since| ring.past(place, since));
        let (events, live) = mpsc::channel(WAITING);
        let (held, large, skipped) = (Arc::default(), self.large.clone(), AtomicU64::new(0));
        let feed = Arc::new(Feed { place, wanted: Arc::new(wanted), events, held, large, skipped });
        feeds.push(feed.clone());
        self.count(&feeds);
        Some(View { watch: self.clone(), feed, past, live, ready: VecDeque::new(), asked: None, rest: None })
    }

    fn count(&self, feeds: &[Arc<Feed>]) {
        self.open.store(feeds.len(), Relaxed);
        let filtered = feeds.iter().filter(|feed| feed.place == PointKind::Filtered).count();
        self.wants_filtered.store(filtered, Relaxed);
    }

    /// The number of viewers.
    pub fn looking(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub fn ring_bytes(&self) -> usize {
        self.ring.lock().used()
    }
}

impl Feed {
    fn offer(&self, point: Point, telemetry: &Telemetry) {
        let place = PointKind::of(&point);
        let is_wanted = place == self.place && self.wanted.wants(telemetry.signal);
        if !is_wanted || !self.wanted.may_be_in(telemetry.parts.iter().map(|part| &part.bytes)) {
            return;
        }
        match self.hold(telemetry.bytes()).map(|held| (self.events.try_reserve(), held)) {
            Some((Ok(slot), held)) => slot.send((Event::of(point, telemetry), held)),
            _ => _ = self.skipped.fetch_add(telemetry.items(), Relaxed),
        }
    }

    /// Room for a request; a large one needs an empty feed.
    fn hold(&self, bytes: usize) -> Option<Held> {
        let held = take(&self.held, bytes, WAITING_BYTES.max(bytes))?;
        self.hold_large(Held { bytes, held: Some(held), large: None })
    }

    /// Room for one request of the past: only one is held at a time, independently of passing ones.
    fn hold_past(&self, bytes: usize) -> Option<Held> {
        self.hold_large(Held { bytes, held: None, large: None })
    }

    fn hold_large(&self, mut held: Held) -> Option<Held> {
        if held.bytes > WAITING_BYTES {
            held.large = Some(take(&self.large, held.bytes, LARGE_BYTES)?);
        }
        Some(held)
    }
}

impl Feed {
    /// Asks rules what they removed of a request: aside, because it may take as long as the request itself did.
    fn ask(self: Arc<Feed>, event: Event, held: Held) -> JoinHandle<Answered> {
        tokio::task::spawn_blocking(move || {
            let begun = clock();
            let removed = self.removed(&event, held);
            (removed, clock().saturating_duration_since(begun))
        })
    }

    /// What rules removed of a request, and is wanted; the last one has the room.
    fn removed(&self, event: &Event, held: Held) -> VecDeque<Sighting> {
        let Event { signal, at: now, .. } = *event;
        let Some(Filtered { rules, client, .. }) = &event.filtered else { return VecDeque::new() };
        let client = client.as_deref();
        let shown = |(bytes, items)| Shown { signal, bytes, items, client, now };
        let removed = event.parts.iter().flat_map(|(bytes, items)| rules.removed(&shown((bytes, *items))));
        let kept = removed.filter_map(|Removed { rule, bytes, items }| {
            let (pieces, items) = self.wanted.keep(signal, &[(bytes, items)], now);
            let (rule, held) = (Some(rule).filter(|rule| !rule.is_empty()), Held { bytes: 0, held: None, large: None });
            let sighting = |event| Sighting { event, rule, held, pieces, items, skipped: 0, has_gap: false };
            (items > 0).then(|| sighting(event.clone()))
        });
        let mut ready: VecDeque<Sighting> = kept.collect();
        ready.front_mut().into_iter().for_each(|first| first.skipped = self.skipped.swap(0, Relaxed));
        if let Some(last) = ready.back_mut() {
            last.held = held;
        }
        ready
    }
}

/// Adds to a counter unless it would exceed its limit.
fn take(counter: &Arc<AtomicUsize>, bytes: usize, limit: usize) -> Option<Arc<AtomicUsize>> {
    let room = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit);
    counter.fetch_update(Relaxed, Relaxed, room).ok().map(|_| counter.clone())
}

/// One viewer; dropping it removes its feed.
pub struct View {
    watch: Arc<Viewers>,
    feed: Arc<Feed>,
    past: Option<Past>,
    live: mpsc::Receiver<(Event, Held)>,
    /// What several rules removed of one request.
    ready: VecDeque<Sighting>,
    /// Rules that are asked what they removed, and the pause after their answer.
    asked: Option<JoinHandle<Answered>>,
    rest: Option<Pin<Box<Sleep>>>,
}

/// What rules removed, and how long it took to find it.
type Answered = (VecDeque<Sighting>, Duration);

/// The wanted part of one request.
pub struct Sighting {
    pub event: Event,
    /// The rule that removed it.
    pub(super) rule: Option<String>,
    pub(super) held: Held,
    pub pieces: SmallVec<[Bytes; 1]>,
    pub(super) items: u64,
    /// Items skipped before it, because the viewer did not keep up.
    pub skipped: u64,
    /// It is of a time of which not everything was kept.
    pub has_gap: bool,
}

impl View {
    /// Ends after the requests in the ring.
    pub(super) fn without_what_comes(mut self) -> View {
        self.live.close();
        self
    }

    /// Leaves out traces of the past of which a part is forgotten.
    pub fn with_whole_traces(mut self) -> View {
        let known = self.watch.ring.lock().forgotten.known();
        if let Some(past) = &mut self.past {
            past.whole = Some(known);
        }
        self
    }

    /// The next request of which something is wanted, or before which something was skipped.
    pub fn poll_next(&mut self, context: &mut Context) -> Poll<Option<Sighting>> {
        let begun = clock();
        loop {
            if let Some(sighting) = self.ready.pop_front() {
                return Poll::Ready(Some(sighting));
            }
            if let Some(rest) = &mut self.rest {
                std::task::ready!(rest.as_mut().poll(context));
                self.rest = None;
            }
            if let Some(asked) = &mut self.asked {
                let (ready, took) = std::task::ready!(Pin::new(asked).poll(context)).unwrap_or_default();
                (self.asked, self.ready) = (None, ready);
                self.rest = Some(Box::pin(tokio::time::sleep(took * REST)));
                continue;
            }
            if clock().saturating_duration_since(begun) > AT_ONCE {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (event, held, has_gap) = match self.recall() {
                Some(recalled) => recalled,
                None => match std::task::ready!(self.live.poll_recv(context)) {
                    Some((event, held)) => (event, held, false),
                    None => return Poll::Ready(None),
                },
            };
            let feed = &self.feed;
            if event.filtered.is_some() {
                match event.bytes() > MOST_ASKED {
                    true => _ = feed.skipped.fetch_add(event.items(), Relaxed),
                    false => self.asked = Some(feed.clone().ask(event, held)),
                }
                continue;
            }
            let (pieces, items) = match feed.wanted.may_be_in(event.parts.iter().map(|(bytes, _)| bytes)) {
                true => feed.wanted.keep(event.signal, &event.parts, event.at),
                false => Default::default(),
            };
            let skipped = feed.skipped.swap(0, Relaxed);
            if items > 0 || skipped > 0 {
                return Poll::Ready(Some(Sighting { event, rule: None, held, pieces, items, skipped, has_gap }));
            }
        }
    }

    /// The next request of the past that is still in the ring.
    fn recall(&mut self) -> Option<(Event, Held, bool)> {
        let past = self.past.as_mut()?;
        loop {
            let Some(mut event) = self.watch.ring.lock().recall(past) else {
                // The ring has dropped the rest meanwhile.
                self.feed.skipped.fetch_add(past.items, Relaxed);
                self.past = None;
                return None;
            };
            match self.feed.hold_past(event.bytes()) {
                Some(held) => {
                    let whole = past.whole.as_ref();
                    if let Some(known) = whole {
                        event.parts = known.without(event.signal, &event.parts);
                    }
                    let has_gap = whole.is_some_and(|known| known.may_have_gap(event.at.instant));
                    return Some((event, held, has_gap));
                }
                None => _ = self.feed.skipped.fetch_add(event.items(), Relaxed),
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut feeds = self.watch.feeds.write();
        feeds.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        self.watch.count(&feeds);
    }
}
