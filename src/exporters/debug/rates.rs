//! How fast counters grow: the last point of each series, in a table of fixed size.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::otlp::views::metrics::Point;

/// Series that are remembered. Beyond this many all are forgotten, and begin again.
const SERIES: usize = 4096;
/// The number of OTLP's delta temporality.
const DELTA: i32 = 1;
pub(crate) const CUMULATIVE: i32 = 2;

#[derive(Default)]
pub struct Rates {
    hasher: RandomState,
    /// By a hash of the service, the metric and the attributes.
    last: HashMap<u64, Last>,
}

struct Last {
    start: u64,
    time: u64,
    value: f64,
}

impl Rates {
    /// The increase per second: of a delta within its own time; of a cumulative value since the point before.
    pub(super) fn rate(
        &mut self,
        service: &str,
        metric: &[u8],
        point: &Point<'_>,
        temporality: i32,
        value: f64,
    ) -> Option<f64> {
        let per_second = |value: f64, nanos: u64| value * 1e9 / nanos as f64;
        match temporality {
            DELTA if point.start > 0 && point.time > point.start => Some(per_second(value, point.time - point.start)),
            CUMULATIVE => {
                let series = self.series(service, metric, point);
                if self.last.len() >= SERIES && !self.last.contains_key(&series) {
                    self.last.clear();
                }
                let now = Last { start: point.start, time: point.time, value };
                let before = self.last.insert(series, now)?;
                let is_next = before.start == point.start && before.time < point.time && before.value <= value;
                is_next.then(|| per_second(value - before.value, point.time - before.time))
            }
            _ => None,
        }
    }

    fn series(&self, service: &str, metric: &[u8], point: &Point<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        let parts = [service.as_bytes(), metric].into_iter().chain(point.attributes.clone());
        parts.for_each(|part| {
            hasher.write_usize(part.len());
            hasher.write(part);
        });
        hasher.finish()
    }
}
