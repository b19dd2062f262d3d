//! Which span a log stands below: its own; if it names none, the one of its service that ran at its time.

use std::collections::{HashMap, HashSet};

use super::Log;
use crate::exporters::debug::layout::Tone;
use crate::exporters::debug::tree::Span;
use crate::order::Ordered;

/// The number of spans, from the latest start backwards, among which the one that ran at a log's time is searched.
const NEAR: usize = 64;

pub(crate) struct Placed<'a> {
    /// By the span's id, sorted by time.
    pub(crate) below: HashMap<u64, Vec<&'a Log>>,
    /// Logs without a span here, sorted by time.
    pub(crate) homeless: Vec<&'a Log>,
    /// The number of logs whose span has not arrived.
    pub(crate) lost: usize,
}

impl<'a> Placed<'a> {
    /// The logs are sorted by time.
    pub(super) fn of(spans: &[Span], logs: &'a [Log]) -> Placed<'a> {
        let ids: HashSet<u64> = spans.iter().map(|span| span.id).collect();
        let mut services: HashMap<&str, Vec<&Span>> = HashMap::new();
        if logs.iter().any(|log| log.span == 0) {
            spans.iter().for_each(|span| services.entry(&span.service).or_default().push(span));
            services.values_mut().for_each(|spans| spans.order_by_key(|span| span.start));
        }
        let mut placed = Placed { below: HashMap::new(), homeless: Vec::new(), lost: 0 };
        for log in logs {
            let home = match log.span {
                0 => services.get(&*log.line.service).and_then(|spans| running(spans, log.line.time)),
                span => ids.contains(&span).then_some(span),
            };
            match home {
                Some(span) => placed.below.entry(span).or_default().push(log),
                None => placed.homeless.push(log),
            }
            placed.lost += usize::from(log.span != 0 && home.is_none());
        }
        placed
    }

    /// Whether a log of a span says that something is wrong.
    pub(super) fn is_notable(&self, span: u64) -> bool {
        let is_notable = |log: &&Log| matches!(log.line.tone, Tone::Warning | Tone::Bad);
        self.below.get(&span).is_some_and(|logs| logs.iter().any(is_notable))
    }
}

/// The innermost of a service's spans that ran at a time; else the earliest. They are sorted by start.
fn running(spans: &[&Span], time: u64) -> Option<u64> {
    let begun = spans.partition_point(|span| span.start <= time);
    let mut begun = spans.get(..begun)?.iter().rev().take(NEAR);
    begun.find(|span| span.end >= time).or(spans.first()).map(|span| span.id)
}
