//! The recent past: whole requests as received or dropped, in a bounded ring.
//!
//! It is fair: each service has its own lane, and room is made by removing the oldest request of the longest lane.
//! Traces of which a part is removed are remembered as forgotten. It is cheap: a request is kept by reference, and of a
//! service that exceeds its allowance only some requests are kept.

use std::collections::VecDeque;
use std::time::Instant;

use super::feed::{Event, PointKind};
use super::forgotten::{Forgotten, Known};

/// Services with their own lane; the others share one.
const LANES: usize = 64;
/// Memory of an entry beside the request.
const ENTRY: usize = 256;
/// Longer names are distinguished by their beginnings only.
const NAME: usize = 128;

pub(super) struct Ring {
    limit: usize,
    used: usize,
    /// Events ever kept: the number of the next one.
    kept: u64,
    lanes: Vec<Lane>,
    pub(super) forgotten: Forgotten,
}

struct Lane {
    service: Box<[u8]>,
    /// Sorted by number.
    events: VecDeque<(u64, Event)>,
    used: usize,
    /// Bytes that may still be kept; negative after a large request.
    allowance: i64,
    since: Instant,
}

impl Ring {
    pub(super) fn new(limit: usize) -> Ring {
        Ring { limit, used: 0, kept: 0, lanes: Vec::new(), forgotten: Forgotten::new(limit) }
    }

    /// Keeps a request of `service`, and says whether it does; `event` is called only then.
    pub(super) fn offer(&mut self, service: &[u8], bytes: usize, now: Instant, event: impl FnOnce() -> Event) -> bool {
        let size = bytes + ENTRY;
        // One request must not push out all others.
        if size > self.limit / 8 {
            return false;
        }
        let number = self.kept;
        let (limit, lanes) = (self.limit as i64, self.lanes.len().max(1) as i64);
        let lane = self.lane(service, now);
        // All lanes together accept a quarter of the ring per second, and each as much at once.
        let elapsed = now.saturating_duration_since(lane.since).as_millis().min(4000) as i64;
        if elapsed > 0 {
            lane.since = now;
            lane.allowance = (lane.allowance + limit / 4 * elapsed / 1000 / lanes).min(limit / 4);
        }
        if lane.allowance <= 0 {
            return false;
        }
        lane.allowance -= size as i64;
        lane.events.push_back((number, event()));
        lane.used += size;
        self.used += size;
        self.kept += 1;
        while self.used > self.limit {
            self.forget_one();
        }
        true
    }

    fn lane(&mut self, service: &[u8], now: Instant) -> &mut Lane {
        let service = service.get(..NAME).unwrap_or(service);
        let found = self.lanes.iter().position(|lane| *lane.service == *service);
        // The last lane is shared by services that come when all other lanes are taken.
        let index = found.or((self.lanes.len() > LANES).then_some(LANES)).unwrap_or_else(|| {
            let (events, allowance) = (VecDeque::new(), self.limit as i64 / 4);
            self.lanes.push(Lane { service: service.into(), events, used: 0, allowance, since: now });
            self.lanes.len() - 1
        });
        self.lanes.get_mut(index).expect("it was found or made")
    }

    fn forget_one(&mut self) {
        let longest = self.lanes.iter_mut().max_by_key(|lane| lane.used);
        let forgotten = &mut self.forgotten;
        let forgotten = longest.and_then(|lane| {
            let (_, event) = lane.events.pop_front()?;
            let size = event.bytes() + ENTRY;
            lane.used -= size.min(lane.used);
            if event.place == PointKind::Received {
                forgotten.add(event.signal, &event.parts);
            }
            Some(size)
        });
        // If no event is left, no bytes are used.
        self.used -= forgotten.unwrap_or(self.used).min(self.used);
    }

    /// All events since a moment, at one place.
    pub(super) fn past(&self, place: PointKind, since: Instant) -> Past {
        let mut past = Past { place, since, next: 0, end: self.kept, items: 0, whole: None };
        let events = self.lanes.iter().flat_map(|lane| &lane.events);
        past.items = events.map(|(_, event)| event).filter(|event| past.has(event)).map(Event::items).sum();
        past
    }

    /// The next event of the past that is still in the ring.
    pub(super) fn recall(&self, past: &mut Past) -> Option<Event> {
        loop {
            let first = |lane: &Lane| {
                let at = lane.events.partition_point(|(number, _)| *number < past.next);
                lane.events.get(at).map(|(number, event)| (*number, event.clone()))
            };
            let earliest = self.lanes.iter().filter_map(first).min_by_key(|(number, _)| *number);
            let (number, event) = earliest.filter(|(number, _)| *number < past.end)?;
            past.next = number + 1;
            if past.has(&event) {
                past.items -= event.items().min(past.items);
                return Some(event);
            }
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }
}

/// A viewer's position in the events that were in the ring when it started. It holds nothing: events dropped meanwhile
/// are skipped.
pub(super) struct Past {
    place: PointKind,
    since: Instant,
    next: u64,
    end: u64,
    /// Items not seen yet.
    pub(super) items: u64,
    /// The forgotten traces, if only whole ones are wanted.
    pub(super) whole: Option<Known>,
}

impl Past {
    fn has(&self, event: &Event) -> bool {
        event.place == self.place && event.at.instant >= self.since
    }
}
