//! `verbosity: detailed`: every field of every item, each on its own line.

use super::text::Item::{Fixed, Id, Int, Name, Text as Str, Time, Uint};
use super::text::Text;
use super::value::put_typed;
use super::walk::{Step, walk};
use crate::otlp::schema::KIND_WORDS;
use crate::otlp::views::metrics::{Buckets, DataType, Exemplar, Metric, Number, Point, Quantile};
use crate::otlp::views::{
    EntityRef, KeyValue, LogRecord, Repeated, Resource, Scope, Span, SpanEvent, SpanLink, Status,
};
use crate::telemetry::Signal;

/// The prefix of an attribute below a heading at column 0, and below a heading that is itself indented.
const BELOW: &str = "     -> ";
const BELOW_ENTRY: &str = "          -> ";

pub(super) fn put(text: &mut Text<'_, '_>, signal: Signal, parts: &[&[u8]]) {
    let (resource, scope, url, item): (_, _, _, fn(&mut Text<'_, '_>, usize, &[u8])) = match signal {
        Signal::Logs => ("ResourceLog #", "ScopeLogs #", "ScopeLogs SchemaURL: ", log_record),
        Signal::Metrics => ("ResourceMetrics #", "ScopeMetrics #", "ScopeMetrics SchemaURL: ", metric),
        Signal::Traces => ("ResourceSpans #", "ScopeSpans #", "ScopeSpans SchemaURL: ", span),
    };
    walk(text, parts, &mut |text, index, step| match step {
        Step::Resource(group) => {
            let described = Resource::read(&group.resource);
            text.heading(resource, index);
            text.line("Resource SchemaURL: ", Str(group.schema_url));
            attributes(text, "Resource attributes:", BELOW, described.attributes);
            entity_refs(text, described.entity_refs);
        }
        Step::Scope(group) => {
            let described = Scope::read(&group.scope);
            text.heading(scope, index);
            text.line(url, Str(group.schema_url));
            text.put("InstrumentationScope ", Str(described.name));
            text.line(" ", Str(described.version));
            attributes(text, "InstrumentationScope attributes:", BELOW, described.attributes);
        }
        Step::Record(record) => item(text, index, record),
    });
}

fn attributes(text: &mut Text<'_, '_>, heading: &str, prefix: &str, attributes: Repeated<'_>) {
    if attributes.is_empty() {
        return;
    }
    text.line(heading, Name(""));
    for attribute in attributes {
        let KeyValue { key, value } = KeyValue::read(attribute);
        text.put(prefix, Str(key));
        text.raw(": ");
        put_typed(text, value);
        text.end();
        if !text.to.is_wanted() {
            return;
        }
    }
}

fn entity_refs(text: &mut Text<'_, '_>, refs: Repeated<'_>) {
    if refs.is_empty() {
        return;
    }
    text.line("Resource entity refs:", Name(""));
    for (index, message) in refs.enumerate() {
        let entity = EntityRef::read(message);
        text.put("     -> Entity ref #", Uint(index as u64));
        text.line(":", Name(""));
        text.line("          -> Type: ", Str(entity.entity_type));
        if !entity.schema_url.is_empty() {
            text.line("          -> Schema URL: ", Str(entity.schema_url));
        }
        let lists =
            [("          -> ID keys:", entity.id_keys), ("          -> Description keys:", entity.description_keys)];
        for (heading, keys) in lists.into_iter().filter(|(_, keys)| !keys.is_empty()) {
            text.line(heading, Name(""));
            keys.for_each(|key| text.line("               -> ", Str(key)));
        }
    }
}

fn log_record(text: &mut Text<'_, '_>, index: usize, message: &[u8]) {
    let record = LogRecord::read(message);
    text.to.items += 1;
    text.heading("LogRecord #", index);
    text.line("ObservedTimestamp: ", Time(record.observed_time));
    text.line("Timestamp: ", Time(record.time));
    text.line("SeverityText: ", Str(record.severity_text));
    text.raw("SeverityNumber: ");
    severity(text, record.severity_number);
    text.put("(", Int(record.severity_number.into()));
    text.line(")", Name(""));
    if !record.event_name.is_empty() {
        text.line("EventName: ", Str(record.event_name));
    }
    text.raw("Body: ");
    put_typed(text, record.body);
    text.end();
    attributes(text, "Attributes:", BELOW, record.attributes);
    text.line("Trace ID: ", Id(record.trace_id));
    text.line("Span ID: ", Id(record.span_id));
    text.line("Flags: ", Uint(record.flags.into()));
}

/// `Trace`, `Trace2`, `Trace3`, `Trace4`, `Debug` …; an unknown number has no name.
fn severity(text: &mut Text<'_, '_>, number: i32) {
    const NAMES: [&str; 6] = ["Trace", "Debug", "Info", "Warn", "Error", "Fatal"];
    match number {
        0 => text.raw("Unspecified"),
        1..=24 => {
            text.raw(name(&NAMES, (number - 1) / 4));
            text.raw(name(&["", "2", "3", "4"], (number - 1) % 4));
        }
        _ => {}
    }
}

/// The name of an enum's value; empty if the value is unknown.
fn name(names: &[&'static str], number: i32) -> &'static str {
    usize::try_from(number).ok().and_then(|number| names.get(number)).copied().unwrap_or_default()
}

fn span(text: &mut Text<'_, '_>, index: usize, message: &[u8]) {
    let span = Span::read(message);
    let status = Status::read(&span.status);
    text.to.items += 1;
    text.heading("Span #", index);
    text.line("    Trace ID       : ", Id(span.trace_id));
    text.line("    Parent ID      : ", Id(span.parent_span_id));
    text.line("    ID             : ", Id(span.span_id));
    text.line("    Name           : ", Str(span.name));
    text.line("    Kind           : ", Name(name(&KIND_WORDS, span.kind)));
    if !span.trace_state.is_empty() {
        text.line("    TraceState     : ", Str(span.trace_state));
    }
    text.line("    Start time     : ", Time(span.start));
    text.line("    End time       : ", Time(span.end));
    text.line("    Status code    : ", Name(name(&["Unset", "Ok", "Error"], status.code)));
    text.line("    Status message : ", Str(status.message));
    text.line("    DroppedAttributesCount: ", Uint(span.dropped_attributes_count.into()));
    text.line("    DroppedEventsCount: ", Uint(span.dropped_events_count.into()));
    text.line("    DroppedLinksCount: ", Uint(span.dropped_links_count.into()));
    attributes(text, "Attributes:", BELOW, span.attributes);
    if !span.events.is_empty() {
        text.line("Events:", Name(""));
    }
    for (index, message) in span.events.enumerate() {
        let event = SpanEvent::read(message);
        text.heading("SpanEvent #", index);
        text.line("     -> Name: ", Str(event.name));
        text.line("     -> Timestamp: ", Time(event.time));
        text.line("     -> DroppedAttributesCount: ", Uint(event.dropped_attributes_count.into()));
        attributes(text, "     -> Attributes::", BELOW_ENTRY, event.attributes);
    }
    if !span.links.is_empty() {
        text.line("Links:", Name(""));
    }
    for (index, message) in span.links.enumerate() {
        let link = SpanLink::read(message);
        text.heading("SpanLink #", index);
        text.line("     -> Trace ID: ", Id(link.trace_id));
        text.line("     -> ID: ", Id(link.span_id));
        text.line("     -> TraceState: ", Str(link.trace_state));
        text.line("     -> DroppedAttributesCount: ", Uint(link.dropped_attributes_count.into()));
        attributes(text, "     -> Attributes::", BELOW_ENTRY, link.attributes);
    }
}

fn metric(text: &mut Text<'_, '_>, index: usize, message: &[u8]) {
    let metric = Metric::read(message);
    let (data_type, data) = (metric.data.0, metric.data.read());
    let (name_of_type, points) = match data_type {
        DataType::Empty => ("Empty", ""),
        DataType::Gauge => ("Gauge", "NumberDataPoints #"),
        DataType::Sum => ("Sum", "NumberDataPoints #"),
        DataType::Histogram => ("Histogram", "HistogramDataPoints #"),
        DataType::ExponentialHistogram => ("ExponentialHistogram", "ExponentialHistogramDataPoints #"),
        DataType::Summary => ("Summary", "SummaryDataPoints #"),
    };
    text.heading("Metric #", index);
    text.line("Descriptor:", Name(""));
    text.line("     -> Name: ", Str(metric.name));
    text.line("     -> Description: ", Str(metric.description));
    text.line("     -> Unit: ", Str(metric.unit));
    text.line("     -> DataType: ", Name(name_of_type));
    attributes(text, "     -> Metadata:", BELOW_ENTRY, metric.metadata);
    if data_type == DataType::Sum {
        text.line("     -> IsMonotonic: ", Name(if data.is_monotonic { "true" } else { "false" }));
    }
    if matches!(data_type, DataType::Sum | DataType::Histogram | DataType::ExponentialHistogram) {
        let temporality = name(&["Unspecified", "Delta", "Cumulative"], data.temporality);
        text.line("     -> AggregationTemporality: ", Name(temporality));
    }
    for (index, message) in data.points.enumerate() {
        text.to.items += 1;
        text.heading(points, index);
        point(text, data_type, Point::read(data_type, message));
    }
}

fn point(text: &mut Text<'_, '_>, data_type: DataType, point: Point<'_>) {
    attributes(text, "Data point attributes:", BELOW, point.attributes.clone());
    text.line("StartTimestamp: ", Time(point.start));
    text.line("Timestamp: ", Time(point.time));
    match data_type {
        DataType::Empty | DataType::Gauge | DataType::Sum => number(text, "Value: ", point.value),
        DataType::Summary => {
            text.line("Count: ", Uint(point.count));
            text.line("Sum: ", Fixed(point.sum.unwrap_or_default()));
        }
        DataType::Histogram | DataType::ExponentialHistogram => {
            text.line("Count: ", Uint(point.count));
            for (label, value) in [("Sum: ", point.sum), ("Min: ", point.min), ("Max: ", point.max)] {
                value.into_iter().for_each(|value| text.line(label, Fixed(value)));
            }
        }
    }
    for (index, message) in point.quantiles.clone().enumerate() {
        let Quantile { quantile, value } = Quantile::read(message);
        text.put("QuantileValue #", Uint(index as u64));
        text.put(": Quantile ", Fixed(quantile));
        text.line(", Value ", Fixed(value));
    }
    for (index, bound) in point.explicit_bounds.doubles().enumerate() {
        text.put("ExplicitBounds #", Uint(index as u64));
        text.line(": ", Fixed(bound));
    }
    for (index, count) in point.bucket_counts.fixed64s().enumerate() {
        text.put("Buckets #", Uint(index as u64));
        text.line(", Count: ", Uint(count));
    }
    exponential_buckets(text, &point);
    exemplars(text, point.exemplars);
}

fn exponential_buckets(text: &mut Text<'_, '_>, point: &Point<'_>) {
    let bucket = |text: &mut Text<'_, '_>, [open, close]: [&str; 2], from: f64, to: f64, count: u64| {
        text.put(open, Fixed(from));
        text.put(", ", Fixed(to));
        text.line(close, Uint(count));
    };
    let (negative, positive) = (Buckets::read(&point.negative), Buckets::read(&point.positive));
    for (position, count) in negative.counts.varints_reversed() {
        let [from, to] = [position + 1, position].map(|position| -negative.bound(position, point.scale));
        bucket(text, ["Bucket [", "), Count: "], from, to, count);
    }
    if point.zero_count != 0 {
        text.line("Bucket [0, 0], Count: ", Uint(point.zero_count));
    }
    for (position, count) in positive.counts.varints().enumerate() {
        let [from, to] = [position, position + 1].map(|position| positive.bound(position, point.scale));
        bucket(text, ["Bucket (", "], Count: "], from, to, count);
    }
}

fn number(text: &mut Text<'_, '_>, label: &str, value: Option<Number>) {
    match value {
        Some(Number::Int(n)) => text.line(label, Int(n)),
        Some(Number::Double(value)) => text.line(label, Fixed(value)),
        None => {}
    }
}

fn exemplars(text: &mut Text<'_, '_>, exemplars: Repeated<'_>) {
    if !exemplars.is_empty() {
        text.line("Exemplars:", Name(""));
    }
    for (index, message) in exemplars.enumerate() {
        let exemplar = Exemplar::read(message);
        text.heading("Exemplar #", index);
        text.line("     -> Trace ID: ", Id(exemplar.trace_id));
        text.line("     -> Span ID: ", Id(exemplar.span_id));
        text.line("     -> Timestamp: ", Time(exemplar.time));
        number(text, "     -> Value: ", exemplar.value);
        attributes(text, "     -> FilteredAttributes:", BELOW_ENTRY, exemplar.filtered_attributes);
    }
}
