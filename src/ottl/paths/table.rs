//! All paths there are: a row each, with the message that it looks at, the field, and the form of it.

use super::form::{Form, Told};
use crate::otlp::schema::{
    buckets, event, exemplar, exponential_point, histogram_point, log_record, metric, metric_data, number_point,
    resource, resource_group, scope, scope_group, span, status, summary_point,
};

/// Which message in sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    ResourceGroup,
    Resource,
    ScopeGroup,
    Scope,
    Record,
    Data,
    Child,
    Exemplar,
    /// None of them.
    Nowhere,
}

#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Behind the name of its context, keys left out: `status.code`.
    pub name: &'static str,
    pub place: Place,
    /// The singular message that the field stands in, when it is not the place itself; 0 is none.
    pub inner: Numbers,
    pub number: Numbers,
    pub form: Form,
}

/// A field's number in number, histogram, exponential histogram and summary points; 0 where there is none.
pub type Numbers = [u32; 4];

const fn row(name: &'static str, place: Place, number: u32, form: Form) -> Row {
    Row { name, place, inner: [0; 4], number: [number; 4], form }
}

const fn inner(name: &'static str, place: Place, outer: Numbers, number: u32, form: Form) -> Row {
    Row { name, place, inner: outer, number: [number; 4], form }
}

const fn point(name: &'static str, number: Numbers, form: Form) -> Row {
    Row { name, place: Place::Child, inner: [0; 4], number, form }
}

/// The contexts a statement may stand in, each with those around it and with its rows.
pub const CONTEXTS: &[(&str, &[&str], &[Row])] = &[
    ("resource", &["resource"], RESOURCE),
    ("scope", &["scope", "resource"], SCOPE),
    ("log", &["log", "scope", "resource"], LOG),
    ("span", &["span", "scope", "resource"], SPAN),
    ("spanevent", &["spanevent", "span", "scope", "resource"], SPAN_EVENT),
    ("metric", &["metric", "scope", "resource"], METRIC),
    ("datapoint", &["datapoint", "metric", "scope", "resource"], DATA_POINT),
    ("exemplar", &["exemplar", "datapoint", "metric", "scope", "resource"], EXEMPLAR),
];

/// The rows of a context, and of what stands around all of them.
pub fn rows(context: &str) -> impl Iterator<Item = &'static Row> + Clone {
    let own = CONTEXTS.iter().find(|(name, ..)| *name == context).map(|(.., rows)| *rows);
    let outside = if context == "otelcol" { OTELCOL } else { &[] };
    own.unwrap_or(outside).iter().chain(own.map(|_| &CACHE))
}

const CACHE: Row = row("cache", Place::Nowhere, 0, Form::Cache);

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
    row("trace_id", Place::Record, log_record::TRACE_ID, Form::TraceId),
    row("trace_id.string", Place::Record, log_record::TRACE_ID, Form::TraceIdText),
    row("span_id", Place::Record, log_record::SPAN_ID, Form::SpanId),
    row("span_id.string", Place::Record, log_record::SPAN_ID, Form::SpanIdText),
    row("flags", Place::Record, log_record::FLAGS, Form::Fixed32),
    row("dropped_attributes_count", Place::Record, log_record::DROPPED_ATTRIBUTES_COUNT, Form::Count),
];

const STATUS: Numbers = [span::STATUS; 4];

const SPAN: &[Row] = &[
    row("trace_id", Place::Record, span::TRACE_ID, Form::TraceId),
    row("trace_id.string", Place::Record, span::TRACE_ID, Form::TraceIdText),
    row("span_id", Place::Record, span::SPAN_ID, Form::SpanId),
    row("span_id.string", Place::Record, span::SPAN_ID, Form::SpanIdText),
    row("parent_span_id", Place::Record, span::PARENT_SPAN_ID, Form::SpanId),
    row("parent_span_id.string", Place::Record, span::PARENT_SPAN_ID, Form::SpanIdText),
    row("trace_state", Place::Record, span::TRACE_STATE, Form::TraceState),
    row("name", Place::Record, span::NAME, Form::Text),
    row("kind", Place::Record, span::KIND, Form::Enum),
    row("kind.string", Place::Record, span::KIND, Form::KindText),
    row("kind.deprecated_string", Place::Record, span::KIND, Form::DeprecatedKindText),
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
    inner("status.code", Place::Record, STATUS, status::CODE, Form::Enum),
    inner("status.message", Place::Record, STATUS, status::MESSAGE, Form::Text),
    row("flags", Place::Record, span::FLAGS, Form::Fixed32),
];

const SPAN_EVENT: &[Row] = &[
    row("name", Place::Child, event::NAME, Form::Text),
    row("time_unix_nano", Place::Child, event::TIME, Form::Fixed64),
    row("time", Place::Child, event::TIME, Form::Time),
    row("attributes", Place::Child, event::ATTRIBUTES, Form::Attributes),
    row("dropped_attributes_count", Place::Child, event::DROPPED_ATTRIBUTES_COUNT, Form::Count),
    row("event_index", Place::Nowhere, 0, Form::EventIndex),
];

const METRIC: &[Row] = &[
    row("name", Place::Record, metric::NAME, Form::Text),
    row("description", Place::Record, metric::DESCRIPTION, Form::Text),
    row("unit", Place::Record, metric::UNIT, Form::Text),
    row("type", Place::Nowhere, 0, Form::MetricType),
    row("metadata", Place::Record, metric::METADATA, Form::Attributes),
    row("aggregation_temporality", Place::Data, metric_data::AGGREGATION_TEMPORALITY, Form::Enum),
    row("is_monotonic", Place::Data, metric_data::IS_MONOTONIC, Form::Bool),
    row("data_points", Place::Data, metric_data::POINTS, Form::Points),
];

const fn everywhere(number: u32) -> Numbers {
    [number; 4]
}

const fn exponential(number: u32) -> Numbers {
    [0, 0, number, 0]
}

const COUNT: Numbers = [0, histogram_point::COUNT, exponential_point::COUNT, summary_point::COUNT];
const SUM: Numbers = [0, histogram_point::SUM, exponential_point::SUM, summary_point::SUM];
const EXEMPLARS: Numbers = [number_point::EXEMPLARS, histogram_point::EXEMPLARS, exponential_point::EXEMPLARS, 0];
const FLAGS: Numbers = [number_point::FLAGS, histogram_point::FLAGS, exponential_point::FLAGS, summary_point::FLAGS];
const POINT_ATTRIBUTES: Numbers =
    [number_point::ATTRIBUTES, histogram_point::ATTRIBUTES, exponential_point::ATTRIBUTES, summary_point::ATTRIBUTES];
const POSITIVE: Numbers = exponential(exponential_point::POSITIVE);
const NEGATIVE: Numbers = exponential(exponential_point::NEGATIVE);
const BUCKETS: Form = Form::Whole("pmetric.ExponentialHistogramDataPointBuckets");

const VALUE: [u32; 2] = [number_point::AS_INT, number_point::AS_DOUBLE];
const EXEMPLAR_VALUE: [u32; 2] = [exemplar::AS_INT, exemplar::AS_DOUBLE];

const DATA_POINT: &[Row] = &[
    point("attributes", POINT_ATTRIBUTES, Form::Attributes),
    point("start_time_unix_nano", everywhere(number_point::START), Form::Fixed64),
    point("time_unix_nano", everywhere(number_point::TIME), Form::Fixed64),
    point("start_time", everywhere(number_point::START), Form::Time),
    point("time", everywhere(number_point::TIME), Form::Time),
    point("value_int", [number_point::AS_INT, 0, 0, 0], Form::Member(&Form::Fixed64, VALUE)),
    point("value_double", [number_point::AS_DOUBLE, 0, 0, 0], Form::Member(&Form::Double, VALUE)),
    point("exemplars", EXEMPLARS, Form::Wholes("pmetric.ExemplarSlice")),
    point("flags", FLAGS, Form::Count),
    point("count", COUNT, Form::Fixed64),
    point("sum", SUM, Form::Double),
    point("bucket_counts", [0, histogram_point::BUCKET_COUNTS, 0, 0], Form::List(&Form::Fixed64)),
    point("explicit_bounds", [0, histogram_point::EXPLICIT_BOUNDS, 0, 0], Form::List(&Form::Double)),
    point("scale", exponential(exponential_point::SCALE), Form::Zigzag),
    point("zero_count", exponential(exponential_point::ZERO_COUNT), Form::Fixed64),
    point("positive", POSITIVE, BUCKETS),
    inner("positive.offset", Place::Child, POSITIVE, buckets::OFFSET, Form::Zigzag),
    inner("positive.bucket_counts", Place::Child, POSITIVE, buckets::BUCKET_COUNTS, Form::List(&Form::Varint)),
    point("negative", NEGATIVE, BUCKETS),
    inner("negative.offset", Place::Child, NEGATIVE, buckets::OFFSET, Form::Zigzag),
    inner("negative.bucket_counts", Place::Child, NEGATIVE, buckets::BUCKET_COUNTS, Form::List(&Form::Varint)),
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
    row("trace_id", Place::Exemplar, exemplar::TRACE_ID, Form::TraceId),
    row("trace_id.string", Place::Exemplar, exemplar::TRACE_ID, Form::TraceIdText),
    row("span_id", Place::Exemplar, exemplar::SPAN_ID, Form::SpanId),
    row("span_id.string", Place::Exemplar, exemplar::SPAN_ID, Form::SpanIdText),
    row("filtered_attributes", Place::Exemplar, exemplar::FILTERED_ATTRIBUTES, Form::Attributes),
];

const OTELCOL: &[Row] = &[
    row("client.addr", Place::Nowhere, 0, Form::Client(Told::Address)),
    row("client.metadata", Place::Nowhere, 0, Form::Client(Told::Metadata)),
    row("client.auth.attributes", Place::Nowhere, 0, Form::Client(Told::Auth)),
    row("grpc.metadata", Place::Nowhere, 0, Form::Client(Told::Call)),
];
