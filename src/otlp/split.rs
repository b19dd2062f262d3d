//! Splits a request into smaller ones between records (data points for metrics), repeating the resource and scope
//! headers, the schema URLs and, for metrics, the metric's description.
//!
//! It makes one piece at a time, from where the last one ended: a hostile request that would become many large pieces
//! is never held in more than one of them.

use std::borrow::Cow;

use bytes::Bytes;

use super::Signal;
use super::schema::{is_data, metric, metric_data, request, resource_group, scope_group};
use super::wire::{Fields, Value, field_len, put_bytes};

/// A piece may exceed its byte limit until its records make up one part in this many of the repeated headers: below a
/// resource longer than the limit, each record would otherwise get a piece of its own.
const MORE_THAN_REPEATED: usize = 4;

pub struct Splitter {
    signal: Signal,
    bytes: Bytes,
    /// The open containers: request, resource group, scope group, and for metrics the metric and its data.
    open: Vec<Container>,
}

struct Container {
    /// Its field number in its parent.
    number: u32,
    position: usize,
    end: usize,
    /// All fields that are not children, repeated in every piece.
    header: Vec<u8>,
    children: Vec<u8>,
    /// Whether an earlier piece already contains this container.
    written: bool,
}

impl Splitter {
    pub fn new(signal: Signal, bytes: Bytes) -> Splitter {
        let end = bytes.len();
        let mut splitter = Splitter { signal, bytes, open: Vec::with_capacity(5) };
        splitter.enter(0, 0, end);
        splitter
    }

    /// The next piece, of at most this many items and bytes, and its number of items: at least one, however large.
    pub fn next_piece(&mut self, most_items: u32, most_bytes: usize) -> Option<(Vec<u8>, u32)> {
        self.cut(most_items, most_bytes, true)
    }

    /// The same, but `None` if its first item does not fit.
    pub(crate) fn next_fitting(&mut self, most_items: u32, most_bytes: usize) -> Option<(Vec<u8>, u32)> {
        self.cut(most_items, most_bytes, false)
    }

    /// Bytes not in a piece yet, without the headers of open containers.
    pub(crate) fn left(&self) -> usize {
        self.open.iter().map(|container| container.end - container.position).sum()
    }

    /// Bytes held beside the source: headers, and items that do not fit a piece yet.
    pub(crate) fn held(&self) -> usize {
        self.open.iter().map(|container| container.header.len() + container.children.len()).sum()
    }

    fn cut(&mut self, most_items: u32, most_bytes: usize, takes_one: bool) -> Option<(Vec<u8>, u32)> {
        let mut items = 0;
        while items < most_items.max(1) {
            let depth = self.open.len();
            let Some(&Container { position, end, .. }) = self.open.last() else { break };
            let Some(field) = Fields::new(self.bytes.get(position..end).unwrap_or_default()).next() else {
                if depth == 1 {
                    break;
                }
                self.leave();
                continue;
            };
            let length = field.raw.len();
            let is_child = is_child(self.signal, depth, field.number);
            let is_item = is_child && depth == leaf_depth(self.signal);
            let fits = || {
                let repeated: usize = self.open.iter().filter(|it| it.written).map(|it| it.header.len()).sum();
                let least = if takes_one { repeated + repeated / MORE_THAN_REPEATED } else { 0 };
                self.open.iter().map(Container::length).sum::<usize>() + length <= most_bytes.max(least)
            };
            if is_item && (items > 0 || !takes_one) && !fits() {
                if items == 0 {
                    return None;
                }
                break;
            }
            let Some(container) = self.open.last_mut() else { break };
            container.position += length;
            match field.value {
                Value::Bytes(_) if is_item => {
                    container.children.extend_from_slice(field.raw);
                    items += 1;
                }
                Value::Bytes(payload) if is_child => {
                    let end = position + length;
                    let length = payload.len();
                    self.enter(field.number, end - length, end);
                }
                _ => {}
            }
        }
        if self.signal == Signal::Metrics {
            self.take_empty_metrics();
        }
        self.piece().map(|piece| (piece, items))
    }

    /// Adds following metrics without points in the same scope to the full piece, as in the Go collector's batch.
    fn take_empty_metrics(&mut self) {
        while let (depth @ 3.., Some(container)) = (self.open.len(), self.open.last_mut()) {
            let rest = self.bytes.get(container.position..container.end).unwrap_or_default();
            match (depth, Fields::new(rest).next()) {
                (4.., None) => self.leave(),
                (3, Some(field)) if !has_points(field.value) => {
                    container.position += field.raw.len();
                    if is_child(Signal::Metrics, depth, field.number) {
                        container.children.extend_from_slice(field.raw);
                    }
                }
                _ => return,
            }
        }
    }

    fn enter(&mut self, number: u32, position: usize, end: usize) {
        let message = self.bytes.get(position..end).unwrap_or_default();
        let depth = self.open.len() + 1;
        let mut header = Vec::new();
        for field in Fields::new(message) {
            if !is_child(self.signal, depth, field.number) {
                header.extend_from_slice(field.raw);
            }
        }
        self.open.push(Container { number, position, end, header, children: Vec::new(), written: false });
    }

    /// Closes the innermost container into its parent, unless all its content went into an earlier piece.
    fn leave(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        if let Some(parent) = self.open.last_mut()
            && !(closed.written && closed.children.is_empty())
        {
            closed.write_to(&mut parent.children);
        }
    }

    /// The items gathered since the last piece, with every open container around them.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let mut inner: Option<(u32, Vec<u8>)> = None;
        for (index, container) in self.open.iter_mut().enumerate().rev() {
            let mut children = std::mem::take(&mut container.children);
            if let Some((number, message)) = inner.take() {
                put_bytes(&mut children, number, &message);
            }
            if !children.is_empty() {
                let header = container.header_of_piece(self.signal == Signal::Metrics && index == 3);
                inner = Some((container.number, [&header, children.as_slice()].concat()));
                container.written = true;
            }
        }
        inner.map(|(_, request)| request)
    }
}

impl Container {
    /// Its size in a piece, with tag and length.
    fn length(&self) -> usize {
        field_len(self.number, self.header.len() + self.children.len()) + 4
    }

    /// A metric that continues in the next piece leaves its metadata to the last one, as in the Go collector.
    fn header_of_piece(&self, is_metric: bool) -> Cow<'_, [u8]> {
        if !is_metric {
            return Cow::Borrowed(&self.header);
        }
        let kept = Fields::new(&self.header).filter(|field| field.number != metric::METADATA);
        Cow::Owned(kept.flat_map(|field| field.raw).copied().collect())
    }

    fn write_to(self, parent: &mut Vec<u8>) {
        put_bytes(parent, self.number, &[self.header, self.children].concat());
    }
}

/// Whether a field of a scope group is a metric with at least one data point.
fn has_points(metric: Value) -> bool {
    let Value::Bytes(metric) = metric else { return false };
    let data = Fields::new(metric).filter(|field| is_data(field.number));
    let mut points = data.flat_map(|field| match field.value {
        Value::Bytes(data) => Fields::new(data),
        _ => Fields::new(&[]),
    });
    points.any(|field| field.number == metric_data::POINTS)
}

/// Whether a field of the container at `depth` (1 is the request) is a child, which may be split off.
pub(super) fn is_child(signal: Signal, depth: usize, number: u32) -> bool {
    match (depth, signal) {
        (1, _) => number == request::RESOURCES,
        (2, _) => number == resource_group::SCOPES,
        (3, _) => number == scope_group::RECORDS,
        (4, Signal::Metrics) => is_data(number),
        (5, Signal::Metrics) => number == metric_data::POINTS,
        _ => false,
    }
}

pub(super) fn leaf_depth(signal: Signal) -> usize {
    match signal {
        Signal::Metrics => 5,
        Signal::Logs | Signal::Traces => 3,
    }
}
