//! The recent past: whole requests as they came in or were dropped, in a bounded ring.
//!
//! It is fair: each service has a lane of its own, and what makes room is always the oldest of the longest lane. It is
//! cheap: a request is kept by reference, and of a service that sends more than its allowance only some requests are.

use std::collections::VecDeque;
use std::time::Instant;

use super::feed::Event;

/// Services with a lane of their own; the others share one.
const LANES: usize = 64;
/// What an entry takes besides the request.
const ENTRY: usize = 256;
/// Longer names are told apart by their beginnings.
const NAME: usize = 128;

pub struct Ring {
    limit: usize,
    used: usize,
    lanes: Vec<Lane>,
}

struct Lane {
    service: Box<[u8]>,
    events: VecDeque<Event>,
    used: usize,
    /// Bytes that may still be kept; negative after a large request.
    allowance: i64,
    since: Instant,
}

impl Ring {
    pub fn new(limit: usize) -> Ring {
        Ring { limit, used: 0, lanes: Vec::new() }
    }

    /// Keeps a request that came from `service`, or not; the event is made only if it is.
    pub fn offer(&mut self, service: &[u8], bytes: usize, now: Instant, event: impl FnOnce() -> Event) {
        let size = bytes + ENTRY;
        // One request must not push out all the others.
        if size > self.limit / 8 {
            return;
        }
        let (limit, lanes) = (self.limit as i64, self.lanes.len().max(1) as i64);
        let lane = self.lane(service, now);
        // All lanes together take in a quarter of the ring a second, and each as much at once.
        let elapsed = now.saturating_duration_since(lane.since).as_millis().min(4000) as i64;
        if elapsed > 0 {
            lane.since = now;
            lane.allowance = (lane.allowance + limit / 4 * elapsed / 1000 / lanes).min(limit / 4);
        }
        if lane.allowance <= 0 {
            return;
        }
        lane.allowance -= size as i64;
        lane.events.push_back(event());
        lane.used += size;
        self.used += size;
        while self.used > self.limit {
            self.forget_one();
        }
    }

    fn lane(&mut self, service: &[u8], now: Instant) -> &mut Lane {
        let service = service.get(..NAME).unwrap_or(service);
        let found = self.lanes.iter().position(|lane| *lane.service == *service);
        // The last lane is for all who come after the ring is full of services.
        let index = found.or((self.lanes.len() > LANES).then_some(LANES)).unwrap_or_else(|| {
            let (events, allowance) = (VecDeque::new(), self.limit as i64 / 4);
            self.lanes.push(Lane { service: service.into(), events, used: 0, allowance, since: now });
            self.lanes.len() - 1
        });
        self.lanes.get_mut(index).expect("it was found or made")
    }

    fn forget_one(&mut self) {
        let longest = self.lanes.iter_mut().max_by_key(|lane| lane.used);
        let forgotten = longest.and_then(|lane| {
            let size = lane.events.pop_front()?.bytes() + ENTRY;
            lane.used -= size.min(lane.used);
            Some(size)
        });
        // Nothing to forget is nothing used.
        self.used -= forgotten.unwrap_or(self.used).min(self.used);
    }

    /// Everything since a moment, the oldest first.
    pub fn since(&self, since: Instant) -> VecDeque<Event> {
        let lately = |event: &&Event| event.at.instant >= since;
        let mut all: Vec<_> = self.lanes.iter().flat_map(|lane| &lane.events).filter(lately).cloned().collect();
        all.sort_by_key(|event| event.at.instant);
        all.into()
    }

    pub fn used(&self) -> usize {
        self.used
    }
}
