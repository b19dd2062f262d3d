//! Walks a request with a visitor that keeps, drops or edits each message.
//!
//! Unchanged data is copied as its original bytes, in the longest possible runs. Nothing is written before the first
//! change; if nothing changes, the request itself goes on. One message of each depth is open at a time.

mod output;
mod walk;

use bytes::Bytes;

use super::Signal;
use super::message::Message;
use super::room::Room;
use super::schema::{event, exponential_point, histogram_point, log_record, metric, number_point, span};
use super::slice::Exhausted;
use super::split::{is_child, leaf_depth};
use super::wire::{Fields, Value};
pub use walk::rewrite;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
}

/// The innermost messages that a visitor visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    Resources,
    Scopes,
    /// Log records, spans or metrics.
    Records,
    /// Span events, or data points of metrics; logs have none.
    Children,
    /// Exemplars of data points.
    Exemplars,
}

/// The visited message and all messages around it. A visitor may edit each of them, except the fields with the children
/// it asked to visit.
#[derive(Default)]
pub struct Sight<'a> {
    /// `ResourceLogs`, `ResourceSpans` or `ResourceMetrics`.
    pub(crate) resource_group: Message<'a>,
    pub resource: Message<'a>,
    /// `ScopeLogs`, `ScopeSpans` or `ScopeMetrics`.
    pub(crate) scope_group: Message<'a>,
    pub scope: Message<'a>,
    /// A log record, span or metric; of a metric, everything but its data.
    pub record: Message<'a>,
    /// A metric's data and its field number (`metric::GAUGE` …), 0 if it has none.
    pub(crate) data: Message<'a>,
    pub data_number: u32,
    /// A span event or data point, and its original index in the record.
    pub child: Message<'a>,
    pub(crate) child_index: usize,
    pub(crate) exemplar: Message<'a>,
    /// Metrics added to the current scope; they are visited after the original ones.
    pub(crate) added: Vec<&'a [u8]>,
}

impl<'a> Sight<'a> {
    pub(crate) fn of(signal: Signal, room: &'a Room) -> Self {
        let mut sight = Sight::default();
        let Sight { resource_group, resource, scope_group, scope, record, data, child, exemplar, .. } = &mut sight;
        for message in [resource_group, resource, scope_group, scope, record, data, child, exemplar] {
            message.enter(room);
        }
        (sight.record.list, sight.child.list) = match signal {
            Signal::Logs => (log_record::ATTRIBUTES, 0),
            Signal::Traces => (span::ATTRIBUTES, event::ATTRIBUTES),
            Signal::Metrics => (0, number_point::ATTRIBUTES),
        };
        sight
    }

    /// Bytes read of long messages.
    fn looked(&self) -> usize {
        let around = [&self.resource_group, &self.resource, &self.scope_group, &self.scope, &self.record, &self.data];
        around.iter().fold(self.child.looked(), |sum, message| sum.saturating_add(message.looked()))
    }

    /// The field with the attributes of the current data point.
    pub(crate) fn point_attributes(&self) -> u32 {
        match self.data_number {
            metric::HISTOGRAM => histogram_point::ATTRIBUTES,
            metric::EXPONENTIAL_HISTOGRAM => exponential_point::ATTRIBUTES,
            _ => number_point::ATTRIBUTES,
        }
    }
}

pub trait Visitor<'a> {
    /// The error that ends the walk.
    type Fault: From<Exhausted>;

    fn depth(&self) -> Depth;
    /// Whether visited resources without scopes, scopes without records, and data without points are removed.
    fn prunes(&self) -> bool {
        false
    }

    /// Visits the message at a depth; each method below does so for one depth.
    #[inline]
    fn visit(&mut self, _depth: Depth, _: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        Ok(Verdict::Keep)
    }
    fn resource(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        self.visit(Depth::Resources, sight)
    }
    fn scope(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        self.visit(Depth::Scopes, sight)
    }
    fn record(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        self.visit(Depth::Records, sight)
    }
    fn child(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        self.visit(Depth::Children, sight)
    }
    fn exemplar(&mut self, sight: &mut Sight<'a>) -> Result<Verdict, Self::Fault> {
        self.visit(Depth::Exemplars, sight)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The original request is kept.
    Unchanged,
    Empty,
    Changed {
        bytes: Vec<u8>,
        items: u32,
    },
}

/// The items of a request that a visitor keeps; `None` if it keeps none, or fails.
pub(crate) fn kept<'a, F: From<Exhausted>>(
    signal: Signal,
    request: &'a Bytes,
    items: u32,
    room: &'a Room,
    visitor: &mut dyn Visitor<'a, Fault = F>,
) -> Option<(Bytes, u32)> {
    match rewrite(signal, request, items, room, visitor) {
        Ok(Outcome::Unchanged) => Some((request.clone(), items)),
        Ok(Outcome::Changed { bytes, items }) => Some((bytes.into(), items)),
        Ok(Outcome::Empty) | Err(_) => None,
    }
}

const METRIC_DEPTH: usize = 4;

/// The original items and bytes of the message in sight: the loss when it is dropped.
pub(crate) fn size(signal: Signal, depth: Depth, sight: &Sight) -> (u64, usize) {
    let message = match depth {
        Depth::Resources => &sight.resource_group,
        Depth::Scopes => &sight.scope_group,
        Depth::Records => &sight.record,
        Depth::Children => &sight.child,
        Depth::Exemplars => &sight.exemplar,
    };
    let inside = |depth| message.everything().iter().map(|piece| items(signal, depth, piece)).sum();
    let items: i64 = match (depth, signal) {
        (Depth::Resources, _) => inside(2),
        (Depth::Scopes, _) => inside(3),
        (Depth::Records, Signal::Metrics) => points(message.pieces().first().copied().unwrap_or_default()),
        (Depth::Records, _) | (Depth::Children, Signal::Metrics) => 1,
        (Depth::Children | Depth::Exemplars, _) => 0,
    };
    (items.max(0) as u64, message.everything().iter().map(|piece| piece.len()).sum())
}

/// The number of items in a message; the request has depth 1, its children 2, and so on.
fn items(signal: Signal, depth: usize, message: &[u8]) -> i64 {
    match depth > leaf_depth(signal) {
        true => 1,
        false => Fields::new(message)
            .filter(|field| is_child(signal, depth, field.number))
            .map(|field| if let Value::Bytes(inner) = field.value { items(signal, depth + 1, inner) } else { 0 })
            .sum(),
    }
}

fn points(metric: &[u8]) -> i64 {
    items(Signal::Metrics, METRIC_DEPTH, metric)
}
