//! `verbosity: normal`: one line for each resource, scope, log record, span and data point.

use super::text::Item::{Fixed, General, Id, Int, Text as Str, Uint};
use super::text::Text;
use super::value::put_plain;
use super::walk::{Step, walk};
use crate::otlp::views::metrics::{Buckets, DataType, Metric, Number, Point, Quantile};
use crate::otlp::views::{KeyValue, LogRecord, Repeated, Resource, Scope, Span};
use crate::telemetry::Signal;

pub(super) fn put(text: &mut Text<'_, '_>, signal: Signal, parts: &[&[u8]]) {
    let (resource, scope, item): (_, _, fn(&mut Text<'_, '_>, &[u8])) = match signal {
        Signal::Logs => ("ResourceLog #", "ScopeLog #", log_record),
        Signal::Metrics => ("ResourceMetrics #", "ScopeMetrics #", metric),
        Signal::Traces => ("ResourceTraces #", "ScopeTraces #", span),
    };
    walk(text, parts, &mut |text, index, step| match step {
        Step::Resource(group) => {
            text.put(resource, Uint(index as u64));
            bracketed(text, group.schema_url);
            attributes(text, " ", " ", Resource::read(&group.resource).attributes);
            text.end();
        }
        Step::Scope(group) => {
            let Scope { name, version, attributes: described } = Scope::read(&group.scope);
            text.put(scope, Uint(index as u64));
            if !name.is_empty() || !version.is_empty() {
                text.put(" ", Str(name));
            }
            if !version.is_empty() {
                text.put("@", Str(version));
            }
            bracketed(text, group.schema_url);
            attributes(text, " ", " ", described);
            text.end();
        }
        Step::Record(record) => item(text, record),
    });
}

fn bracketed(text: &mut Text<'_, '_>, schema_url: &[u8]) {
    if !schema_url.is_empty() {
        text.put(" [", Str(schema_url));
        text.raw("]");
    }
}

/// Writes each as `key=value`: the first after `first`, the others after `between`.
fn attributes(text: &mut Text<'_, '_>, first: &str, between: &str, attributes: Repeated<'_>) {
    for (index, attribute) in attributes.enumerate() {
        let KeyValue { key, value } = KeyValue::read(attribute);
        text.put(if index == 0 { first } else { between }, Str(key));
        text.raw("=");
        put_plain(text, value);
        if !text.to.breathe() {
            return;
        }
    }
}

fn log_record(text: &mut Text<'_, '_>, message: &[u8]) {
    let record = LogRecord::read(message);
    text.to.items += 1;
    put_plain(text, record.body);
    text.raw(" ");
    attributes(text, "", " ", record.attributes);
    text.end();
}

fn span(text: &mut Text<'_, '_>, message: &[u8]) {
    let span = Span::read(message);
    text.to.items += 1;
    text.text(span.name);
    text.put(" ", Id(span.trace_id));
    text.put(" ", Id(span.span_id));
    attributes(text, " ", " ", span.attributes);
    text.end();
}

fn metric(text: &mut Text<'_, '_>, message: &[u8]) {
    let metric = Metric::read(message);
    let data_type = metric.data.0;
    for message in metric.data.read().points {
        let point = Point::read(data_type, message);
        text.to.items += 1;
        text.text(metric.name);
        text.raw("{");
        attributes(text, "", ",", point.attributes.clone());
        text.raw("} ");
        match data_type {
            DataType::Empty | DataType::Gauge | DataType::Sum => match point.value {
                Some(Number::Int(n)) => text.put("", Int(n)),
                Some(Number::Double(value)) => text.put("", General(value)),
                None => {}
            },
            DataType::Histogram | DataType::ExponentialHistogram => histogram(text, &point),
            DataType::Summary => summary(text, &point),
        }
        text.end();
    }
}

/// A point of either kind of histogram: it has no buckets of the other kind.
fn histogram(text: &mut Text<'_, '_>, point: &Point<'_>) {
    text.put("count=", Uint(point.count));
    for (label, value) in [(" sum=", point.sum), (" min=", point.min), (" max=", point.max)] {
        value.into_iter().for_each(|value| text.put(label, General(value)));
    }
    let mut bounds = point.explicit_bounds.doubles();
    for count in point.bucket_counts.fixed64s() {
        match bounds.next() {
            Some(bound) => bucket(text, bound, count),
            None => {
                text.put(" ", Uint(count));
                text.to.breathe();
            }
        }
    }
    let (negative, positive) = (Buckets::read(&point.negative), Buckets::read(&point.positive));
    for (position, count) in negative.counts.varints_reversed() {
        bucket(text, -negative.bound(position, point.scale), count);
    }
    if point.zero_count != 0 {
        text.put(" zero=", Uint(point.zero_count));
    }
    for (position, count) in positive.counts.varints().enumerate() {
        bucket(text, positive.bound(position + 1, point.scale), count);
    }
}

/// There may be millions of buckets, so the text may leave after each.
fn bucket(text: &mut Text<'_, '_>, bound: f64, count: u64) {
    text.put(" le", General(bound));
    text.put("=", Uint(count));
    text.to.breathe();
}

fn summary(text: &mut Text<'_, '_>, point: &Point<'_>) {
    text.put("count=", Uint(point.count));
    text.put(" sum=", Fixed(point.sum.unwrap_or_default()));
    for message in point.quantiles.clone() {
        let Quantile { quantile, value } = Quantile::read(message);
        text.put(" q", General(quantile));
        text.put("=", General(value));
        text.to.breathe();
    }
}
