//! `/live`: tells an open page that something came, as server-sent events.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::Shared;

/// The minimum time between two events.
const LOOK: Duration = Duration::from_millis(250);
/// A stream on which nothing was said for this long gets a comment, which finds clients that are gone.
const QUIET: Duration = Duration::from_secs(15);
/// A stream ends after this time, and the browser opens it again: no client holds one by reading nothing.
pub(super) const LASTS: Duration = Duration::from_secs(600);

pub(super) struct Live {
    store: Shared,
    looks: Interval,
    /// The version that was told last.
    told: Option<u64>,
    told_at: Instant,
    ends_at: Instant,
    /// One of the places for streams.
    _place: OwnedSemaphorePermit,
}

impl Live {
    pub(super) fn new(store: Shared, place: OwnedSemaphorePermit) -> Live {
        let (mut looks, now) = (interval(LOOK), Instant::now());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Live { store, looks, told: None, told_at: now, ends_at: now + LASTS, _place: place }
    }

    /// The next event. The first one comes at once: something may have come since the page was made.
    pub(super) fn poll_next(&mut self, context: &mut Context) -> Poll<Option<Bytes>> {
        loop {
            let now = ready!(self.looks.poll_tick(context));
            // Nothing changes while an answer is made.
            let version = self.store.try_lock().map_or(self.told, |store| Some(store.version()));
            if now >= self.ends_at {
                return Poll::Ready(None);
            }
            if version == self.told && now < self.told_at + QUIET {
                continue;
            }
            let is_new = version != self.told;
            (self.told, self.told_at) = (version, now);
            return Poll::Ready(Some(match version.filter(|_| is_new) {
                Some(version) => format!("retry: 1000\nevent: version\ndata: {version}\n\n").into(),
                None => Bytes::from_static(b":\n\n"),
            }));
        }
    }
}
