//! Pauses between attempts, and the retry hints in refusals.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::exporters::settings::Retry;

/// Upper bound for a retry hint from the upstream.
const LONGEST_HINT: Duration = Duration::from_secs(300);

/// Exponential backoff between the attempts for one batch, with the settings of `retry_on_failure`.
pub struct Backoff<'a> {
    retry: &'a Retry,
    interval: Duration,
}

impl<'a> Backoff<'a> {
    pub fn new(retry: &'a Retry) -> Backoff<'a> {
        Backoff { retry, interval: retry.initial_interval }
    }

    /// The next pause: the interval, randomized by `randomization_factor`; never shorter than the upstream's hint, up
    /// to `LONGEST_HINT`.
    pub fn next(&mut self, hint: Option<Duration>) -> Duration {
        let around = 1.0 + self.retry.randomization_factor * (2.0 * random() - 1.0);
        let pause = self.interval.mul_f64(around.max(0.0));
        let grown = self.interval.as_secs_f64() * self.retry.multiplier;
        self.interval = Duration::from_secs_f64(grown.clamp(0.0, self.retry.max_interval.as_secs_f64()));
        pause.max(hint.unwrap_or_default().min(LONGEST_HINT))
    }
}

/// The retry hint for a refused client: short while the upstream accepts telemetry, longer while it is down.
pub(super) fn hint(upstream_is_down: bool) -> Duration {
    let seconds = if upstream_is_down { 5.0 } else { 1.0 };
    Duration::from_secs_f64(seconds * (1.0 + random())).max(Duration::from_secs(1))
}

/// A number from 0 to 1, random enough to spread retries.
pub(super) fn random() -> f64 {
    static SEED: AtomicU64 = AtomicU64::new(0);
    let mixed = RandomState::new().hash_one(SEED.fetch_add(1, Relaxed));
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}
