//! The last requests at each point of the collector where one can look. What is received comes always, the rest only
//! while somebody looks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::inspect::feed::PointKind;
use crate::telemetry::Signal;

/// The bytes of requests that are kept of each point. One request takes at most a quarter.
const BYTES: usize = 1 << 20;
const REQUESTS: usize = 500;
/// A page that shows a point asks for it again within this time.
const LOOKED: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(in crate::cli::ui) struct Tapped([Lane; PointKind::ALL.len()]);

#[derive(Default)]
struct Lane {
    /// The oldest first.
    held: VecDeque<Passed>,
    bytes: usize,
    too_large: u64,
    looked_at: Option<Instant>,
}

/// One request.
pub(in crate::cli::ui) struct Passed {
    pub(in crate::cli::ui) signal: Signal,
    /// Where it was seen, beyond the receiver, and why.
    pub(in crate::cli::ui) heading: Option<String>,
    pub(in crate::cli::ui) wire: Box<[u8]>,
}

impl Tapped {
    fn lane(&mut self, point: PointKind) -> &mut Lane {
        let [received, leaving, dropped, filtered] = &mut self.0;
        match point {
            PointKind::Received => received,
            PointKind::Leaving => leaving,
            PointKind::Dropped => dropped,
            PointKind::Filtered => filtered,
        }
    }

    pub(super) fn add(&mut self, point: PointKind, signal: Signal, heading: Option<String>, wire: &[u8]) {
        let lane = self.lane(point);
        if wire.len() > BYTES / 4 {
            return lane.too_large += 1;
        }
        lane.bytes += wire.len();
        lane.held.push_back(Passed { signal, heading, wire: wire.into() });
        while lane.bytes > BYTES || lane.held.len() > REQUESTS {
            let Some(oldest) = lane.held.pop_front() else { return };
            lane.bytes -= oldest.wire.len();
        }
    }

    /// Notes that somebody looks there; gives the requests, the oldest first, and how many were too large to be kept.
    pub(in crate::cli::ui) fn look(
        &mut self,
        point: PointKind,
        now: Instant,
    ) -> (impl DoubleEndedIterator<Item = &Passed>, u64) {
        let lane = self.lane(point);
        lane.looked_at = Some(now);
        (lane.held.iter(), lane.too_large)
    }

    /// Whether somebody looks there.
    pub(in crate::cli::ui) fn is_wanted(&mut self, point: PointKind, now: Instant) -> bool {
        self.lane(point).looked_at.is_some_and(|looked| now.saturating_duration_since(looked) < LOOKED)
    }
}
