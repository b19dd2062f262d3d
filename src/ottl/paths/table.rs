//! The table of paths: one row each, with the message that has the field, the number of the field, and its form.

use super::field::Form;
use super::outside::Outside;
use crate::otlp::schema::{
    KIND_WORDS, SPAN_KINDS, buckets, event, exemplar, exponential_point, histogram_point, log_record, metric,
    metric_data, number_point, resource, resource_group, scope, scope_group, span, status, summary_point,
};

/// A message in sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    ResourceGroup,
    Resource,
    ScopeGroup,
    Scope,
    Record,
    Data,
    Child,
    Exemplar,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The path without the name of its context and without keys: `status.code`.
    pub name: &'static str,
    pub(super) place: Place,
    /// The singular message of `place` that has the field; 0 if `place` itself has it.
    pub(super) inner: u32,
    pub(super) number: Numbers,
    pub(super) form: Form,
}

/// The number of a field for each type of metric, in the order of `DataType`; 0 for a type without this field. Rows of
/// other messages repeat one number. All are 0 if the value is not in telemetry.
type Numbers = [u32; 6];

const fn row(name: &'static str, place: Place, number: u32, form: Form) -> Row {
    Row { name, place, inner: 0, number: [number; 6], form }
}

const fn inside(inner: u32, row: Row) -> Row {
    Row { inner, ..row }
}

/// A field of number, histogram, exponential histogram and summary points.
const fn point(name: &'static str, [number, histogram, exponential, summary]: [u32; 4], form: Form) -> Row {
    // An empty metric has no points: `Path::is_plain` compares the first number with the others.
    let number = [number, number, number, histogram, exponential, summary];
    Row { name, place: Place::Child, inner: 0, number, form }
}

const fn exponential_only(number: u32) -> [u32; 4] {
    [0, 0, number, 0]
}

const fn outside(name: &'static str, value: Outside) -> Row {
    row(name, Place::Record, 0, Form::Outside(value))
}

/// The contexts of statements: the name, the contexts that its paths may name, and its rows.
pub(crate) const CONTEXTS: &[(&str, &[&str], &[Row])] = &[
    ("resource", &["resource"], RESOURCE),
    ("scope", &["scope", "resource"], SCOPE),
    ("log", &["log", "scope", "resource"], LOG),
    ("span", &["span", "scope", "resource"], SPAN),
    ("spanevent", &["spanevent", "span", "scope", "resource"], SPAN_EVENT),
    ("metric", &["metric", "scope", "resource"], METRIC),
    ("datapoint", &["datapoint", "metric", "scope", "resource"], DATA_POINT),
    ("exemplar", &["exemplar", "datapoint", "metric", "scope", "resource"], EXEMPLAR),
];

/// The rows of a context, with the cache that every context has.
pub(crate) fn rows(context: &str) -> impl Iterator<Item = &'static Row> + Clone {
    let own = CONTEXTS.iter().find(|(name, ..)| *name == context).map(|(.., rows)| *rows);
    let outside = if context == "otelcol" { OTELCOL } else { &[] };
    own.unwrap_or(outside).iter().chain(own.map(|_| &CACHE))
}

const CACHE: Row = outside("cache", Outside::Cache);

const RESOURCE: &[Row] = &[
    row("attributes", Place::Resource, resource::ATTRIBUTES, Form::Attributes),
    row("dropped_attributes_count", Place::Resource, resource::DROPPED_ATTRIBUTES_COUNT, Form::Count),
    row("schema_url", Place::ResourceGroup, resource_group::SCHEMA_URL, Form::Text),
];

const SCOPE: &[Row] = &[
    row("name", Place::Scope, scope::NAME, Form::Text),
    row("version", Place::Scope, scope::VERSION, Form::Text),
    row("attributes", Place::Scope, scope::ATTRIBUTES, Form::Attributes),
    row("dropped_attributes_count", Place::Scope, scope::DROPPED_ATTRIBUTES_COUNT, Form::Count),
    row("schema_url", Place::ScopeGroup, scope_group::SCHEMA_URL, Form::Text),
];

const LOG: &[Row] = &[
    row("body", Place::Record, log_record::BODY, Form::Body),
    row("body.string", Place::Record, log_record::BODY, Form::BodyText),
    row("attributes", Place::Record, log_record::ATTRIBUTES, Form::Attributes),
    row("time_unix_nano", Place::Record, log_record::TIME, Form::Fixed64),
    row("observed_time_unix_nano", Place::Record, log_record::OBSERVED_TIME, Form::Fixed64),
    row("time", Place::Record, log_record::TIME, Form::Time),
    row("observed_time", Place::Record, log_record::OBSERVED_TIME, Form::Time),
    row("severity_number", Place::Record, log_record::SEVERITY_NUMBER, Form::Enum),
    row("severity_text", Place::Record, log_record::SEVERITY_TEXT, Form::Text),
    row("event_name", Place::Record, log_record::EVENT_NAME, Form::Text),
    row("trace_id", Place::Record, log_record::TRACE_ID, Form::Id(16)),
    row("trace_id.string", Place::Record, log_record::TRACE_ID, Form::IdText(16)),
    row("span_id", Place::Record, log_record::SPAN_ID, Form::Id(8)),
    row("span_id.string", Place::Record, log_record::SPAN_ID, Form::IdText(8)),
    row("flags", Place::Record, log_record::FLAGS, Form::Fixed32),
    row("dropped_attributes_count", Place::Record, log_record::DROPPED_ATTRIBUTES_COUNT, Form::Count),
];

const SPAN: &[Row] = &[
    row("trace_id", Place::Record, span::TRACE_ID, Form::Id(16)),
    row("trace_id.string", Place::Record, span::TRACE_ID, Form::IdText(16)),
    row("span_id", Place::Record, span::SPAN_ID, Form::Id(8)),
    row("span_id.string", Place::Record, span::SPAN_ID, Form::IdText(8)),
    row("parent_span_id", Place::Record, span::PARENT_SPAN_ID, Form::Id(8)),
    row("parent_span_id.string", Place::Record, span::PARENT_SPAN_ID, Form::IdText(8)),
    row("trace_state", Place::Record, span::TRACE_STATE, Form::TraceState),
    row("name", Place::Record, span::NAME, Form::Text),
    row("kind", Place::Record, span::KIND, Form::Enum),
    row("kind.string", Place::Record, span::KIND, Form::Name(&("", &KIND_WORDS))),
    row("kind.deprecated_string", Place::Record, span::KIND, Form::Name(&SPAN_KINDS)),
    row("start_time_unix_nano", Place::Record, span::START, Form::Fixed64),
    row("end_time_unix_nano", Place::Record, span::END, Form::Fixed64),
    row("start_time", Place::Record, span::START, Form::Time),
    row("end_time", Place::Record, span::END, Form::Time),
    row("attributes", Place::Record, span::ATTRIBUTES, Form::Attributes),
    row("events", Place::Record, span::EVENTS, Form::Wholes("ptrace.SpanEventSlice")),
    row("links", Place::Record, span::LINKS, Form::Wholes("ptrace.SpanLinkSlice")),
    row("dropped_attributes_count", Place::Record, span::DROPPED_ATTRIBUTES_COUNT, Form::Count),
    row("dropped_events_count", Place::Record, span::DROPPED_EVENTS_COUNT, Form::Count),
    row("dropped_links_count", Place::Record, span::DROPPED_LINKS_COUNT, Form::Count),
    row("status", Place::Record, span::STATUS, Form::Whole("ptrace.Status")),
    inside(span::STATUS, row("status.code", Place::Record, status::CODE, Form::Enum)),
    inside(span::STATUS, row("status.message", Place::Record, status::MESSAGE, Form::Text)),
    row("flags", Place::Record, span::FLAGS, Form::Fixed32),
];

const SPAN_EVENT: &[Row] = &[
    row("name", Place::Child, event::NAME, Form::Text),
    row("time_unix_nano", Place::Child, event::TIME, Form::Fixed64),
    row("time", Place::Child, event::TIME, Form::Time),
    row("attributes", Place::Child, event::ATTRIBUTES, Form::Attributes),
    row("dropped_attributes_count", Place::Child, event::DROPPED_ATTRIBUTES_COUNT, Form::Count),
    outside("event_index", Outside::EventIndex),
];

/// A field of the data of gauges, sums, histograms, exponential histograms and summaries.
const fn data(name: &'static str, [gauge, sum, histogram, exponential, summary]: [u32; 5], form: Form) -> Row {
    Row { name, place: Place::Data, inner: 0, number: [0, gauge, sum, histogram, exponential, summary], form }
}

const TEMPORALITY: u32 = metric_data::AGGREGATION_TEMPORALITY;

const METRIC: &[Row] = &[
    row("name", Place::Record, metric::NAME, Form::Text),
    row("description", Place::Record, metric::DESCRIPTION, Form::Text),
    row("unit", Place::Record, metric::UNIT, Form::Text),
    outside("type", Outside::MetricType),
    row("metadata", Place::Record, metric::METADATA, Form::Attributes),
    data("aggregation_temporality", [0, TEMPORALITY, TEMPORALITY, TEMPORALITY, 0], Form::Enum),
    data("is_monotonic", [0, metric_data::IS_MONOTONIC, 0, 0, 0], Form::Bool),
    data("data_points", [metric_data::POINTS; 5], Form::Points),
];

const POINT_ATTRIBUTES: [u32; 4] =
    [number_point::ATTRIBUTES, histogram_point::ATTRIBUTES, exponential_point::ATTRIBUTES, summary_point::ATTRIBUTES];
const COUNT: [u32; 4] = [0, histogram_point::COUNT, exponential_point::COUNT, summary_point::COUNT];
const SUM: [u32; 4] = [0, histogram_point::SUM, exponential_point::SUM, summary_point::SUM];
const EXEMPLARS: [u32; 4] = [number_point::EXEMPLARS, histogram_point::EXEMPLARS, exponential_point::EXEMPLARS, 0];
const FLAGS: [u32; 4] = [number_point::FLAGS, histogram_point::FLAGS, exponential_point::FLAGS, summary_point::FLAGS];
const POSITIVE: u32 = exponential_point::POSITIVE;
const NEGATIVE: u32 = exponential_point::NEGATIVE;
const OFFSET: [u32; 4] = exponential_only(buckets::OFFSET);
const BUCKET_COUNTS: [u32; 4] = exponential_only(buckets::BUCKET_COUNTS);
const BUCKETS: Form = Form::Whole("pmetric.ExponentialHistogramDataPointBuckets");

const VALUE: [u32; 2] = [number_point::AS_INT, number_point::AS_DOUBLE];
const EXEMPLAR_VALUE: [u32; 2] = [exemplar::AS_INT, exemplar::AS_DOUBLE];

const DATA_POINT: &[Row] = &[
    point("attributes", POINT_ATTRIBUTES, Form::Attributes),
    point("start_time_unix_nano", [number_point::START; 4], Form::Fixed64),
    point("time_unix_nano", [number_point::TIME; 4], Form::Fixed64),
    point("start_time", [number_point::START; 4], Form::Time),
    point("time", [number_point::TIME; 4], Form::Time),
    point("value_int", [number_point::AS_INT, 0, 0, 0], Form::Member(&Form::Fixed64, VALUE)),
    point("value_double", [number_point::AS_DOUBLE, 0, 0, 0], Form::Member(&Form::Double, VALUE)),
    point("exemplars", EXEMPLARS, Form::Wholes("pmetric.ExemplarSlice")),
    point("flags", FLAGS, Form::Count),
    point("count", COUNT, Form::Fixed64),
    point("sum", SUM, Form::Double),
    point("bucket_counts", [0, histogram_point::BUCKET_COUNTS, 0, 0], Form::List(&Form::Fixed64)),
    point("explicit_bounds", [0, histogram_point::EXPLICIT_BOUNDS, 0, 0], Form::List(&Form::Double)),
    point("scale", exponential_only(exponential_point::SCALE), Form::Zigzag),
    point("zero_count", exponential_only(exponential_point::ZERO_COUNT), Form::Fixed64),
    point("positive", exponential_only(POSITIVE), BUCKETS),
    inside(POSITIVE, point("positive.offset", OFFSET, Form::Zigzag)),
    inside(POSITIVE, point("positive.bucket_counts", BUCKET_COUNTS, Form::List(&Form::Varint))),
    point("negative", exponential_only(NEGATIVE), BUCKETS),
    inside(NEGATIVE, point("negative.offset", OFFSET, Form::Zigzag)),
    inside(NEGATIVE, point("negative.bucket_counts", BUCKET_COUNTS, Form::List(&Form::Varint))),
    point(
        "quantile_values",
        [0, 0, 0, summary_point::QUANTILES],
        Form::Wholes("pmetric.SummaryDataPointValueAtQuantileSlice"),
    ),
];

const EXEMPLAR: &[Row] = &[
    row("time_unix_nano", Place::Exemplar, exemplar::TIME, Form::Fixed64),
    row("time", Place::Exemplar, exemplar::TIME, Form::Time),
    row("int_value", Place::Exemplar, exemplar::AS_INT, Form::Member(&Form::Fixed64, EXEMPLAR_VALUE)),
    row("double_value", Place::Exemplar, exemplar::AS_DOUBLE, Form::Member(&Form::Double, EXEMPLAR_VALUE)),
    row("trace_id", Place::Exemplar, exemplar::TRACE_ID, Form::Id(16)),
    row("trace_id.string", Place::Exemplar, exemplar::TRACE_ID, Form::IdText(16)),
    row("span_id", Place::Exemplar, exemplar::SPAN_ID, Form::Id(8)),
    row("span_id.string", Place::Exemplar, exemplar::SPAN_ID, Form::IdText(8)),
    row("filtered_attributes", Place::Exemplar, exemplar::FILTERED_ATTRIBUTES, Form::Attributes),
];

const OTELCOL: &[Row] = &[
    outside("client.addr", Outside::ClientAddress),
    outside("client.metadata", Outside::ClientMetadata),
    outside("client.auth.attributes", Outside::ClientAuth),
    outside("grpc.metadata", Outside::GrpcMetadata),
];
