//! `verbosity: json`: one OTLP/JSON object for each item, on its own line: `{"resource": …, "scope": …, "logRecord":
//! …}`. Instead of `"logRecord"` a span has `"span"`, and a data point `"metric"` with this point alone. Names and
//! forms are those of the OTLP/JSON specification.

use std::borrow::Cow;
use std::mem::take;

use super::text::Text;
use super::walk::{Step, walk};
use crate::otlp::json::{Piece, put_piece};
use crate::otlp::pieces::whole;
use crate::otlp::schema::{is_data, metric_data};
use crate::otlp::views::Repeated;
use crate::otlp::wire::{Field, Fields, Value, field_len, put_bytes, put_header};
use crate::telemetry::Signal;

/// Items may repeat their resource, scope and metric up to this multiple of the request's size. After that, only the
/// first item of a resource, scope or metric includes it.
const REPEATS: usize = 64;
/// Up to this encoded size, the text of a resource or scope is kept for its next items; longer text is made again.
const KEPT: usize = 64 << 10;
/// The maximum length of a text, as a multiple of its encoding.
const LONGER: usize = 16;

pub(super) fn put(text: &mut Text<'_, '_>, signal: Signal, parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut objects = Objects {
        resource: About::new(Piece::Resource, Cow::default()),
        scope: About::new(Piece::Scope, Cow::default()),
        allowance: (1 << 20) + REPEATS.saturating_mul(bytes),
    };
    walk(text, parts, &mut |text, _, step| match step {
        Step::Resource(group) => objects.resource = About::new(Piece::Resource, group.resource),
        Step::Scope(group) => objects.scope = About::new(Piece::Scope, group.scope),
        Step::Record(record) => match signal {
            Signal::Logs => objects.put(text, Piece::LogRecord, "\"logRecord\":", record),
            Signal::Traces => objects.put(text, Piece::Span, "\"span\":", record),
            Signal::Metrics => objects.put_points(text, record),
        },
    });
}

/// The resource or the scope of the next items.
struct About<'a> {
    piece: Piece,
    wire: Cow<'a, [u8]>,
    /// Empty if it is too long to be kept.
    text: Vec<u8>,
    is_first: bool,
}

impl<'a> About<'a> {
    fn new(piece: Piece, wire: Cow<'a, [u8]>) -> About<'a> {
        let mut text = Vec::new();
        if wire.len() <= KEPT {
            whole(&mut text, |to| put_piece(piece, &wire, to));
        }
        About { piece, wire, text, is_first: true }
    }

    /// The length of its text; the maximum if the text is not kept.
    fn length(&self) -> usize {
        if self.text.is_empty() { LONGER * self.wire.len() } else { self.text.len() }
    }

    fn put(&self, text: &mut Text<'_, '_>) {
        match &self.text[..] {
            [] => put_piece(self.piece, &self.wire, text.to),
            kept => text.to.out.extend_from_slice(kept),
        }
    }
}

struct Objects<'a> {
    resource: About<'a>,
    scope: About<'a>,
    /// Bytes that may still be repeated.
    allowance: usize,
}

impl Objects<'_> {
    fn may_repeat(&mut self, bytes: usize) -> bool {
        let left = self.allowance.checked_sub(bytes);
        self.allowance = left.unwrap_or(self.allowance);
        left.is_some()
    }

    fn put(&mut self, text: &mut Text<'_, '_>, piece: Piece, name: &str, record: &[u8]) {
        text.to.items += 1;
        let (begins_resource, begins_scope) = (take(&mut self.resource.is_first), take(&mut self.scope.is_first));
        let repeats = begins_resource || self.may_repeat(self.resource.length() + self.scope.length());
        text.raw("{");
        if repeats {
            text.raw("\"resource\":");
            self.resource.put(text);
            text.raw(",");
        }
        if repeats || begins_scope {
            text.raw("\"scope\":");
            self.scope.put(text);
            text.raw(",");
        }
        text.raw(name);
        put_piece(piece, record, text.to);
        text.raw("}");
        text.end();
    }

    /// Writes a metric once for each of its data points.
    fn put_points(&mut self, text: &mut Text<'_, '_>, message: &[u8]) {
        let is_data = |field: &Field<'_>| is_data(field.number);
        let Some(Field { number, value: Value::Bytes(data), .. }) = Fields::new(message).filter(is_data).last() else {
            return;
        };
        let mut described = Vec::new();
        for number in [metric_data::AGGREGATION_TEMPORALITY, metric_data::IS_MONOTONIC] {
            let is_it = |field: &Field<'_>| field.number == number && matches!(field.value, Value::Varint(_));
            described.extend(Fields::new(data).filter(is_it).last().into_iter().flat_map(|field| field.raw));
        }
        // The fields of the metric, then its data with one point.
        let mut metric: Vec<u8> =
            Fields::new(message).filter(|field| !is_data(field)).flat_map(|field| field.raw).copied().collect();
        let mut head = metric.len();
        for point in Repeated::of(data, metric_data::POINTS) {
            metric.truncate(head);
            put_header(&mut metric, number, described.len() + field_len(metric_data::POINTS, point.len()));
            metric.extend_from_slice(&described);
            put_bytes(&mut metric, metric_data::POINTS, point);
            self.put(text, Piece::Metric, "\"metric\":", &metric);
            if !text.to.is_wanted() {
                return;
            }
            if !self.may_repeat(head + described.len()) {
                head = 0;
            }
        }
    }
}
