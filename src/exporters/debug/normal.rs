//! `verbosity: normal`: one line for each resource, scope, log record, span and data point.

use super::number::{bucket_bound, put_fixed, put_general, put_id, put_int, put_uint};
use super::text::Text;
use super::value::put_plain;
use crate::otlp::views::metrics::{DataType, Metric, Number, Point, Quantile, doubles, fixed64s};
use crate::otlp::views::{KeyValue, LogRecord, Repeated, ResourceGroup, ScopeGroup, Span};
use crate::telemetry::Signal;

pub fn resource(text: &mut Text<'_>, signal: Signal, index: usize, group: &ResourceGroup<'_>) {
    let (resource, scope, item): (_, _, fn(&mut Text<'_>, &[u8])) = match signal {
        Signal::Logs => ("ResourceLog #", "ScopeLog #", log_record),
        Signal::Metrics => ("ResourceMetrics #", "ScopeMetrics #", metric),
        Signal::Traces => ("ResourceTraces #", "ScopeTraces #", span),
    };
    text.raw(resource);
    put_uint(text.out, index as u64);
    bracketed(text, group.schema_url);
    attributes(text, " ", " ", group.attributes());
    text.end();
    for (index, message) in group.scopes.clone().enumerate() {
        let group = ScopeGroup::read(message);
        text.raw(scope);
        put_uint(text.out, index as u64);
        let (name, version) = (group.name(), group.version());
        if !name.is_empty() || !version.is_empty() {
            text.raw(" ");
        }
        text.text(name);
        if !version.is_empty() {
            text.raw("@");
            text.text(version);
        }
        bracketed(text, group.schema_url);
        attributes(text, " ", " ", group.attributes());
        text.end();
        for record in group.records.clone() {
            item(text, record);
        }
    }
}

fn bracketed(text: &mut Text<'_>, schema_url: &[u8]) {
    if !schema_url.is_empty() {
        text.raw(" [");
        text.text(schema_url);
        text.raw("]");
    }
}

/// `key=value` of each, the first of them after `first`.
fn attributes(text: &mut Text<'_>, first: &str, between: &str, attributes: Repeated<'_>) {
    for (index, attribute) in attributes.enumerate() {
        let KeyValue { key, value } = KeyValue::read(attribute);
        text.raw(if index == 0 { first } else { between });
        text.text(key);
        text.raw("=");
        put_plain(text, value);
    }
}

fn log_record(text: &mut Text<'_>, message: &[u8]) {
    let record = LogRecord::read(message);
    text.items += 1;
    put_plain(text, record.body);
    text.raw(" ");
    attributes(text, "", " ", record.attributes);
    text.end();
}

fn span(text: &mut Text<'_>, message: &[u8]) {
    let span = Span::read(message);
    text.items += 1;
    text.text(span.name);
    text.raw(" ");
    put_id(text.out, span.trace_id);
    text.raw(" ");
    put_id(text.out, span.span_id);
    attributes(text, " ", " ", span.attributes);
    text.end();
}

fn metric(text: &mut Text<'_>, message: &[u8]) {
    let metric = Metric::read(message);
    for message in metric.points {
        let point = Point::read(metric.data_type, message);
        text.items += 1;
        text.text(metric.name);
        text.raw("{");
        attributes(text, "", ",", point.attributes.clone());
        text.raw("} ");
        match metric.data_type {
            DataType::Empty | DataType::Gauge | DataType::Sum => match point.value {
                Some(Number::Int(n)) => put_int(text.out, n),
                Some(Number::Double(value)) => put_general(text.out, value),
                None => {}
            },
            DataType::Histogram => {
                count_and_range(text, &point);
                histogram_buckets(text, &point);
            }
            DataType::ExponentialHistogram => {
                count_and_range(text, &point);
                exponential_buckets(text, &point);
            }
            DataType::Summary => summary(text, &point),
        }
        text.end();
    }
}

fn count_and_range(text: &mut Text<'_>, point: &Point<'_>) {
    text.raw("count=");
    put_uint(text.out, point.count);
    for (label, value) in [(" sum=", point.sum), (" min=", point.min), (" max=", point.max)] {
        if let Some(value) = value {
            text.raw(label);
            put_general(text.out, value);
        }
    }
}

fn histogram_buckets(text: &mut Text<'_>, point: &Point<'_>) {
    let mut bounds = doubles(&point.explicit_bounds);
    for count in fixed64s(&point.bucket_counts) {
        match bounds.next() {
            Some(bound) => bucket(text, bound, count),
            None => {
                text.raw(" ");
                put_uint(text.out, count);
            }
        }
    }
}

fn exponential_buckets(text: &mut Text<'_>, point: &Point<'_>) {
    let offset = f64::from(point.negative.offset);
    for (position, count) in (0..point.negative.len()).rev().zip(point.negative.counts_reversed()) {
        bucket(text, -bucket_bound(offset + position as f64, point.scale), count);
    }
    if point.zero_count != 0 {
        text.raw(" zero=");
        put_uint(text.out, point.zero_count);
    }
    let offset = f64::from(point.positive.offset);
    for (position, count) in point.positive.counts().enumerate() {
        bucket(text, bucket_bound(offset + position as f64 + 1.0, point.scale), count);
    }
}

/// There may be millions of buckets, so the text may go after each.
fn bucket(text: &mut Text<'_>, bound: f64, count: u64) {
    text.raw(" le");
    put_general(text.out, bound);
    text.raw("=");
    put_uint(text.out, count);
    text.breathe();
}

fn summary(text: &mut Text<'_>, point: &Point<'_>) {
    text.raw("count=");
    put_uint(text.out, point.count);
    text.raw(" sum=");
    put_fixed(text.out, point.sum.unwrap_or_default());
    for message in point.quantiles.clone() {
        let Quantile { quantile, value } = Quantile::read(message);
        text.raw(" q");
        put_general(text.out, quantile);
        text.raw("=");
        put_general(text.out, value);
    }
}
