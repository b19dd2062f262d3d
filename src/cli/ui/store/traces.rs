//! The requests that passed lately: spans, and the logs of their traces.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::cost;
use super::fair::Fair;
use super::item::Kept;
use super::services::{self, Part};
use crate::exporters::debug::layout::Layout;
use crate::exporters::debug::line;
use crate::exporters::debug::requests::{
    Absent, CAUSE, Id, Log, Request, Told, Why, named, read_span, span_id, trace_id,
};
use crate::exporters::debug::tree::Span;
use crate::otlp::views::{self, LogRecord};
use crate::telemetry::{Signal, clock};

/// The memory of a trace beside its items.
const PER_TRACE: usize = 512;

pub(in crate::cli::ui) struct Traces {
    limit: usize,
    held: HashMap<Id, Trace>,
    fair: Fair<Id>,
    /// Those that changed since they were read, the latest last; some may be forgotten.
    changed: Vec<Id>,
    /// Traces that made room for others.
    pub(in crate::cli::ui) forgotten: u64,
}

pub(in crate::cli::ui) struct Trace {
    /// The service that pays for it: that of its first item.
    service: Arc<str>,
    pub(in crate::cli::ui) items: Vec<Arc<Kept>>,
    bytes: usize,
    /// Something around its items was not kept.
    pub(in crate::cli::ui) has_gap: bool,
    /// It is too large: only its first items are here.
    pub(in crate::cli::ui) is_cut: bool,
    is_changed: bool,
    /// The part of its bytes that its brief takes.
    of_brief: usize,
    /// `None` as long as it has no span.
    brief: Option<Arc<Brief>>,
}

/// A request in the list.
pub(in crate::cli::ui) struct Brief {
    pub(in crate::cli::ui) start: u64,
    /// In nanoseconds.
    pub(in crate::cli::ui) duration: u64,
    pub(in crate::cli::ui) is_failed: bool,
    /// Only a part of it is here.
    pub(in crate::cli::ui) is_partial: bool,
    pub(in crate::cli::ui) words: String,
    pub(in crate::cli::ui) spans: usize,
    pub(in crate::cli::ui) logs: usize,
    pub(in crate::cli::ui) services: Vec<Arc<str>>,
    /// What each of them did.
    pub(in crate::cli::ui) parts: Vec<Part>,
    /// The failure or the bottleneck in a few words.
    pub(in crate::cli::ui) culprit: Option<String>,
}

impl Brief {
    fn bytes(&self) -> usize {
        let texts = self.words.len() + self.culprit.as_ref().map_or(0, String::len);
        size_of::<Brief>() + texts + self.parts.iter().map(|part| 16 + part.bytes()).sum::<usize>()
    }
}

/// A request whose spans and logs are read.
pub(in crate::cli::ui) struct Opened {
    pub(in crate::cli::ui) spans: Vec<Span>,
    pub(in crate::cli::ui) logs: Vec<Log>,
    pub(in crate::cli::ui) request: Request,
}

impl Opened {
    /// There must be a span.
    pub(in crate::cli::ui) fn tell(&mut self, unfold: bool) -> Told<'_> {
        let layout = Layout { unfold, ..Layout::FILE.local() };
        self.request.tell(&mut self.spans, &mut self.logs, layout)
    }
}

impl Trace {
    pub(in crate::cli::ui) fn open(&self, id: Id) -> Opened {
        let (mut spans, mut logs) = (Vec::new(), Vec::new());
        for item in &self.items {
            let service = &item.headers.service;
            match item.signal {
                Signal::Traces => spans.push(read_span(&id, &views::Span::read(&item.record), service)),
                _ => {
                    let record = LogRecord::read(&item.record);
                    logs.push(Log { span: span_id(record.span_id), line: line::log(&record, service, CAUSE) });
                }
            }
        }
        let (has_gap, absent) = (self.has_gap || self.is_cut, Absent::NotKept);
        let request =
            Request { trace: id, why: Why::Due(clock()), again: None, is_late: false, has_gap, unserved: 0, absent };
        Opened { spans, logs, request }
    }

    fn brief(&self, id: Id) -> Option<Brief> {
        let mut opened = self.open(id);
        if opened.spans.is_empty() {
            return None;
        }
        let logs = opened.logs.len();
        let Told { tree, summary, .. } = opened.tell(false);
        let (root, node) = tree.at(tree.main);
        let parts = services::parts(&tree);
        Some(Brief {
            start: root.start,
            duration: node.duration(),
            is_failed: summary.has_failures(),
            is_partial: !summary.is_whole(),
            words: named(&tree, &[tree.main]),
            spans: tree.spans.len(),
            logs,
            services: parts.iter().map(|part| part.service.clone()).collect(),
            parts,
            culprit: summary.culprit(),
        })
    }
}

impl Traces {
    pub(super) fn new(limit: usize) -> Traces {
        let (held, fair) = (HashMap::new(), Fair::default());
        Traces { limit, held, fair, changed: Vec::new(), forgotten: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.fair.used()
    }

    /// Adds a span or a log record, if it is of a trace.
    pub(super) fn add(&mut self, item: Arc<Kept>, has_gap: bool) {
        let id = match item.signal {
            Signal::Traces => views::Span::read(&item.record).trace_id,
            _ => LogRecord::read(&item.record).trace_id,
        };
        let Some(id) = trace_id(id) else { return };
        let (service, bytes) = (&item.headers.service, cost(&item));
        let Traces { limit, held, fair, changed, .. } = self;
        let trace = held.entry(id).or_insert_with(|| {
            fair.add(service, id, PER_TRACE);
            let (service, items) = (service.clone(), Vec::new());
            Trace {
                service,
                items,
                bytes: PER_TRACE,
                has_gap,
                is_cut: false,
                is_changed: false,
                of_brief: 0,
                brief: None,
            }
        });
        if trace.is_cut {
            return;
        }
        trace.has_gap |= has_gap;
        if !std::mem::replace(&mut trace.is_changed, true) {
            changed.push(id);
        }
        // One trace must not push out all others.
        if trace.bytes + bytes > *limit / 4 {
            return trace.is_cut = true;
        }
        fair.grow(&trace.service, bytes);
        trace.bytes += bytes;
        trace.items.push(item);
        while self.used() > self.limit && self.forget_one(None) {}
        if self.changed.len() > 2 * self.held.len() + 1024 {
            let held = &self.held;
            self.changed.retain(|id| held.contains_key(id));
        }
    }

    /// Makes room: of one service, or of the one that takes most.
    pub(super) fn forget_one(&mut self, of: Option<&Arc<str>>) -> bool {
        let Traces { held, fair, forgotten, .. } = self;
        fair.forget(of, |id| {
            *forgotten += 1;
            held.remove(id).map_or(0, |trace| trace.bytes)
        })
    }

    /// Reads the traces that changed, the latest first, as many as this time allows; says whether others are left.
    pub(super) fn refresh(&mut self, within: Duration) -> bool {
        let begun = clock();
        while clock().saturating_duration_since(begun) < within
            && let Some(id) = self.changed.pop()
        {
            let Traces { held, fair, .. } = self;
            let Some(trace) = held.get_mut(&id).filter(|trace| trace.is_changed) else { continue };
            (trace.brief, trace.is_changed) = (trace.brief(id).map(Arc::new), false);
            let more = trace.brief.as_ref().map_or(0, |brief| brief.bytes()).saturating_sub(trace.of_brief);
            fair.grow(&trace.service, more);
            (trace.bytes, trace.of_brief) = (trace.bytes + more, trace.of_brief + more);
        }
        while self.used() > self.limit && self.forget_one(None) {}
        !self.changed.is_empty()
    }

    /// Traces that came and are not read yet.
    pub(in crate::cli::ui) fn unread(&self) -> usize {
        self.changed.len()
    }

    pub(in crate::cli::ui) fn get(&self, id: &Id) -> Option<&Trace> {
        self.held.get(id)
    }

    /// Whether a request is here: a trace with a span.
    pub(in crate::cli::ui) fn has_request(&self, id: &Id) -> bool {
        self.held.get(id).is_some_and(|trace| trace.brief.is_some())
    }

    /// The requests with their traces, in no order.
    pub(in crate::cli::ui) fn all(&self) -> impl Iterator<Item = (&Id, &Trace, &Arc<Brief>)> {
        self.held.iter().filter_map(|(id, trace)| Some((id, trace, trace.brief.as_ref()?)))
    }
}
