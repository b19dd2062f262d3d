//! `sampling_initial` and `sampling_thereafter`: of equal messages within a second, the first few are printed, then
//! every nth. A message is the summary's name or the text of a whole dump, so different dumps do not limit each other,
//! unless their hashes collide. The table and the hash are the Go collector's.

use std::time::{Duration, Instant};

const COUNTERS: usize = 4096;
const TICK: Duration = Duration::from_secs(1);

/// Identifies a message by its FNV-1a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u32);

impl Key {
    pub fn of(message: &[u8]) -> Key {
        Key(0x811c_9dc5).and(message)
    }

    /// The key of the message continued by `more`.
    pub(super) fn and(self, more: &[u8]) -> Key {
        Key(more.iter().fold(self.0, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)))
    }
}

pub struct Sampler {
    initial: u64,
    thereafter: u64,
    start: Instant,
    /// Empty if nothing is skipped.
    counters: Vec<Counter>,
    skipped: u64,
    said: Instant,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    seen: u64,
    /// Relative to `Sampler::start`.
    resets_at: Duration,
}

impl Sampler {
    /// `thereafter` 0 skips everything after the first `initial` messages of a second; 1 skips nothing.
    pub fn new(initial: u64, thereafter: u64, now: Instant) -> Sampler {
        let counters = if thereafter == 1 { Vec::new() } else { vec![Counter::default(); COUNTERS] };
        Sampler { initial, thereafter, start: now, counters, skipped: 0, said: now }
    }

    /// Whether to print this message; if not, its `records` are counted as skipped.
    pub fn admits(&mut self, key: Key, records: u64, now: Instant) -> bool {
        let Some(counter) = self.counters.get_mut(key.0 as usize % COUNTERS) else {
            return true;
        };
        let now = now.saturating_duration_since(self.start);
        if counter.resets_at > now {
            counter.seen += 1;
        } else {
            *counter = Counter { seen: 1, resets_at: now + TICK };
        }
        let beyond = counter.seen.saturating_sub(self.initial);
        let admitted = beyond == 0 || beyond.checked_rem(self.thereafter) == Some(0);
        if !admitted {
            self.skipped += records;
        }
        admitted
    }

    /// The records skipped since the last call that returned a number, which happens at most once a second.
    pub fn skipped(&mut self, now: Instant) -> Option<u64> {
        if self.skipped == 0 || now.saturating_duration_since(self.said) < TICK {
            return None;
        }
        self.said = now;
        Some(std::mem::take(&mut self.skipped))
    }
}
