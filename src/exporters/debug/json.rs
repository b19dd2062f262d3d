//! `verbosity: json`: an OTLP/JSON object a line an item: `{"resource": …, "scope": …, "logRecord": …}`, or `"span"`, or
//! `"metric"` with one data point. The names and forms are those of OTLP/JSON, so `jq` finds them where the
//! specification says.

use std::mem::take;

use super::text::Text;
use crate::otlp::json::{Piece, put_piece};
use crate::otlp::pieces::whole;
use crate::otlp::schema::{is_data, metric_data};
use crate::otlp::views::{Repeated, ResourceGroup, ScopeGroup};
use crate::otlp::wire::{Field, Fields, Value, field_len, put_bytes, put_header};
use crate::telemetry::Signal;

/// What items repeat of their resource, scope and metric may make the text of a request so much longer than the
/// request; then only the first item of a resource, a scope or a metric says what that is.
const REPEATS: usize = 64;
/// The text of a resource or scope up to this size is kept for the next item, that of a larger one written again.
const KEPT: usize = 64 << 10;
/// How much longer than its encoding a text can be.
const LONGER: usize = 16;

/// How many bytes may still be repeated.
pub struct Allowance(usize);

impl Allowance {
    pub fn of(parts: &[&[u8]]) -> Allowance {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        Allowance((1 << 20) + REPEATS.saturating_mul(bytes))
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

pub fn resource(text: &mut Text<'_, '_>, signal: Signal, group: &ResourceGroup<'_>, allowance: &mut Allowance) {
    let mut resource = About::new(Piece::Resource, &group.resource);
    for scope in group.scopes.clone() {
        let group = ScopeGroup::read(scope);
        let scope = About::new(Piece::Scope, &group.scope);
        let mut items = Items { resource: &mut resource, scope, allowance };
        for record in group.records {
            match signal {
                Signal::Logs => items.put(text, Piece::LogRecord, "\"logRecord\":", record),
                Signal::Traces => items.put(text, Piece::Span, "\"span\":", record),
                Signal::Metrics => items.put_points(text, record),
            }
            if !text.to.is_wanted() {
                return;
            }
        }
    }
}

/// What items say of their resource, or of their scope.
struct About<'a> {
    piece: Piece,
    wire: &'a [u8],
    /// Empty for one that is too long to be kept.
    text: Vec<u8>,
    is_first: bool,
}

impl<'a> About<'a> {
    fn new(piece: Piece, wire: &'a [u8]) -> About<'a> {
        let mut text = Vec::new();
        if wire.len() <= KEPT {
            whole(&mut text, |to| put_piece(piece, wire, to));
        }
        About { piece, wire, text, is_first: true }
    }

    /// How long its text is; of one that is not kept, at most.
    fn length(&self) -> usize {
        if self.text.is_empty() { LONGER * self.wire.len() } else { self.text.len() }
    }

    fn put(&self, text: &mut Text<'_, '_>) {
        match &self.text[..] {
            [] => put_piece(self.piece, self.wire, text.to),
            kept => text.to.out.extend_from_slice(kept),
        }
    }
}

/// The items of a scope.
struct Items<'a, 'r> {
    resource: &'a mut About<'r>,
    scope: About<'a>,
    allowance: &'a mut Allowance,
}

impl Items<'_, '_> {
    fn put(&mut self, text: &mut Text<'_, '_>, piece: Piece, name: &str, record: &[u8]) {
        text.to.items += 1;
        let (begins_resource, begins_scope) = (take(&mut self.resource.is_first), take(&mut self.scope.is_first));
        let repeats = begins_resource || self.allowance.take(self.resource.length() + self.scope.length());
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

    /// A metric once for each of its data points.
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
        // The metric with one of its points, behind what all of them have.
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
            if !self.allowance.take(head + described.len()) {
                head = 0;
            }
        }
    }
}
