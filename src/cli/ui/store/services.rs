//! What each service did in the requests that are here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::traces::Brief;
use crate::exporters::debug::tree::{CONSUMER, SERVER, Tree};

/// The shortest time over which requests are counted.
const LEAST: u64 = Duration::from_secs(60).as_nanos() as u64;

/// What one service did in one request.
pub(in crate::cli::ui) struct Part {
    pub(in crate::cli::ui) service: Arc<str>,
    spans: u64,
    failed: u64,
    /// The nanoseconds that the client waited for it.
    path: u64,
    /// How long each call that it served took, in nanoseconds, and whether it failed.
    served: Vec<(u64, bool)>,
    /// The other services that it called.
    calls: BTreeSet<Arc<str>>,
}

impl Part {
    /// Its memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Part>() + 16 * self.served.len() + 32 * self.calls.len()
    }
}

/// What one service did in all requests.
#[derive(Default)]
pub(in crate::cli::ui) struct Service {
    pub(in crate::cli::ui) spans: u64,
    pub(in crate::cli::ui) failed_spans: u64,
    /// The calls that it served, and how many of them failed.
    pub(in crate::cli::ui) served: u64,
    pub(in crate::cli::ui) failed: u64,
    pub(in crate::cli::ui) per_minute: f64,
    /// The percentiles of the calls that it served, in nanoseconds; 0 if it served none.
    pub(in crate::cli::ui) percentiles: [u64; 3],
    /// Its part of the time that clients waited, from 0 to 1.
    pub(in crate::cli::ui) waited: f64,
    pub(in crate::cli::ui) calls: BTreeSet<Arc<str>>,
    pub(in crate::cli::ui) called_by: BTreeSet<Arc<str>>,
}

/// The parts of the services in a request, by name.
pub(super) fn parts(tree: &Tree) -> Vec<Part> {
    let mut parts: BTreeMap<Arc<str>, Part> = BTreeMap::new();
    let part = |service: &Arc<str>| Part {
        service: service.clone(),
        spans: 0,
        failed: 0,
        path: 0,
        served: Vec::new(),
        calls: BTreeSet::new(),
    };
    for at in tree.order.iter().copied() {
        let (span, node) = tree.at(at);
        let own = parts.entry(span.service.clone()).or_insert_with(|| part(&span.service));
        let is_failed = span.failure.is_some();
        (own.spans, own.failed) = (own.spans + 1, own.failed + u64::from(is_failed));
        own.path += if node.is_after { 0 } else { node.path };
        if [SERVER, CONSUMER].contains(&span.kind) || span.parent == 0 {
            own.served.push((node.duration(), is_failed));
        }
        let above = node.parent.map(|parent| tree.at(parent).0).filter(|above| above.service != span.service);
        if let Some(above) = above {
            let caller = parts.entry(above.service.clone()).or_insert_with(|| part(&above.service));
            caller.calls.insert(span.service.clone());
        }
    }
    parts.into_values().collect()
}

/// The services of these requests.
pub(in crate::cli::ui) fn of<'a>(requests: impl Iterator<Item = &'a Brief>) -> BTreeMap<Arc<str>, Service> {
    #[derive(Default)]
    struct Sums {
        service: Service,
        durations: Vec<u64>,
        path: u64,
        first: Option<u64>,
        last: u64,
    }
    let (mut all, mut waited): (BTreeMap<Arc<str>, Sums>, u64) = (BTreeMap::new(), 0);
    for brief in requests {
        waited = waited.saturating_add(brief.duration);
        for part in &brief.parts {
            let sums = all.entry(part.service.clone()).or_default();
            sums.first = Some(sums.first.unwrap_or(brief.start).min(brief.start));
            sums.last = sums.last.max(brief.start);
            sums.path = sums.path.saturating_add(part.path);
            sums.durations.extend(part.served.iter().map(|(duration, _)| *duration));
            let service = &mut sums.service;
            service.spans += part.spans;
            service.failed_spans += part.failed;
            service.failed += part.served.iter().filter(|(_, is_failed)| *is_failed).count() as u64;
            service.calls.extend(part.calls.iter().cloned());
            for called in &part.calls {
                all.entry(called.clone()).or_default().service.called_by.insert(part.service.clone());
            }
        }
    }
    let finished = |mut sums: Sums| {
        sums.durations.sort_unstable();
        let nanos = sums.last.saturating_sub(sums.first.unwrap_or_default()).max(LEAST);
        let served = sums.durations.len() as u64;
        Service {
            served,
            per_minute: served as f64 * LEAST as f64 / nanos as f64,
            percentiles: [50, 95, 99].map(|percent| percentile(&sums.durations, percent)),
            waited: sums.path as f64 / waited.max(1) as f64,
            ..sums.service
        }
    };
    all.into_iter().map(|(name, sums)| (name, finished(sums))).collect()
}

/// The smallest of the sorted values that as many percent do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 95, 99].map(|percent| percentile(&values, percent)), [50, 95, 99]);
        assert_eq!([50, 99].map(|percent| percentile(&[7], percent)), [7, 7]);
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
        assert_eq!(percentile(&[], 50), 0);
    }
}
