//! The wire: what the door accepts and counts, what cutting and joining keep; prost and the `.proto` files as oracle.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use misaki::face::otlp::Splitter;
use misaki::face::otlp::check::check;
use misaki::face::otlp::schema::{self, Kind, Presence};
use misaki::face::otlp::wire::{Fields, Value, put_bytes, put_header, put_uint, put_varint};
use misaki::face::telemetry::{Budget, Charge, Most, Now, Part, Pending, Share, Signal, Telemetry};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;

use super::json::{logs, metrics, traces};

/// prost's opinion: the number of items.
fn decoded(signal: Signal, wire: &[u8]) -> Result<u32, prost::DecodeError> {
    let items = match signal {
        Signal::Logs => {
            let resources = ExportLogsServiceRequest::decode(wire)?.resource_logs.into_iter();
            resources.flat_map(|resource| resource.scope_logs).map(|scope| scope.log_records.len()).sum::<usize>()
        }
        Signal::Traces => {
            let resources = ExportTraceServiceRequest::decode(wire)?.resource_spans.into_iter();
            resources.flat_map(|resource| resource.scope_spans).map(|scope| scope.spans.len()).sum()
        }
        Signal::Metrics => {
            let resources = ExportMetricsServiceRequest::decode(wire)?.resource_metrics.into_iter();
            let metrics = resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics);
            metrics.filter_map(|metric| metric.data).map(points).sum()
        }
    };
    Ok(items as u32)
}

fn points(data: Data) -> usize {
    match data {
        Data::Gauge(data) => data.data_points.len(),
        Data::Sum(data) => data.data_points.len(),
        Data::Histogram(data) => data.data_points.len(),
        Data::ExponentialHistogram(data) => data.data_points.len(),
        Data::Summary(data) => data.data_points.len(),
    }
}

fn is_data(number: u32) -> bool {
    matches!(number, 5 | 7 | 9 | 10 | 11)
}

fn children(message: &[u8], number: u32) -> Vec<&[u8]> {
    Fields::new(message)
        .filter(|field| field.number == number)
        .filter_map(|field| match field.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        })
        .collect()
}

/// The door agrees with prost, but for what only one of them looks at: UTF-8 and its depth there, ids and ours here.
#[track_caller]
fn agree(signal: Signal, wire: &[u8]) {
    match (check(signal, wire), decoded(signal, wire)) {
        (Ok(items), Ok(expected)) => {
            assert!(items == expected, "counted {items}, prost {expected}: {wire:02x?}");
        }
        (Ok(_), Err(error)) => {
            let error = error.to_string();
            assert!(
                error.contains("UTF-8") || error.contains("recursion"),
                "accepted, and prost: {error}: {wire:02x?}"
            );
        }
        (Err(error), Ok(_)) => {
            let error = error.to_string();
            assert!(
                ["id of the wrong length", "nested", "two kinds"].iter().any(|why| error.contains(why)),
                "{error}: {wire:02x?}"
            );
        }
        (Err(_), Err(_)) => {}
    }
}

/// Any request of any signal, as prost writes it.
fn requests() -> impl Strategy<Value = (Signal, Vec<u8>)> {
    prop_oneof![
        logs().prop_map(|request| (Signal::Logs, request.encode_to_vec())),
        metrics().prop_map(|request| (Signal::Metrics, request.encode_to_vec())),
        traces().prop_map(|request| (Signal::Traces, request.encode_to_vec())),
    ]
}

#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Copy(Index, Index, usize),
    Truncate(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = any::<Index>;
    let edit = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (place(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (place(), 1usize..6).prop_map(|(at, length)| Edit::Remove(at, length)),
        (place(), place(), 1usize..30).prop_map(|(from, to, length)| Edit::Copy(from, to, length)),
        place().prop_map(Edit::Truncate),
    ];
    vec(edit, 1..4)
}

fn damaged(mut wire: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for edit in edits {
        let length = wire.len();
        if length == 0 {
            break;
        }
        match edit {
            Edit::Set(at, byte) => wire[at.index(length)] = byte,
            Edit::Insert(at, bytes) => drop(wire.splice(at.index(length)..at.index(length), bytes)),
            Edit::Remove(at, count) => drop(wire.drain(at.index(length)..(at.index(length) + count).min(length))),
            Edit::Copy(from, to, count) => {
                let from = from.index(length);
                let copied = wire[from..(from + count).min(length)].to_vec();
                let to = to.index(length);
                wire.splice(to..to, copied);
            }
            Edit::Truncate(at) => wire.truncate(at.index(length)),
        }
    }
    wire
}

// The schema, driven from the `.proto` files' own descriptors.

#[derive(Clone, Debug)]
struct ProtoField {
    name: String,
    number: u32,
    repeated: bool,
    kind: u64,
    presence: Presence,
    /// The full name of a message's type.
    message: Option<String>,
}

/// All messages by their full names, with their fields.
fn descriptors() -> BTreeMap<String, Vec<ProtoField>> {
    let mut messages = BTreeMap::new();
    for file in children(opentelemetry_proto::DESCRIPTORS, 1) {
        let package = text(children(file, 2).first().unwrap());
        for message in children(file, 4) {
            describe(&format!(".{package}"), message, &mut messages);
        }
    }
    messages
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn describe(around: &str, message: &[u8], messages: &mut BTreeMap<String, Vec<ProtoField>>) {
    let name = format!("{around}.{}", text(children(message, 1)[0]));
    children(message, 3).into_iter().for_each(|nested| describe(&name, nested, messages));
    let number = |field: &[u8], wanted| {
        let found = Fields::new(field).find(|field| field.number == wanted).map(|field| field.value);
        if let Some(Value::Varint(number)) = found { number } else { 0 }
    };
    let field = |field: &[u8]| ProtoField {
        name: text(children(field, 1)[0]),
        number: number(field, 3) as u32,
        repeated: number(field, 4) == 3,
        kind: number(field, 5),
        // Tools that do not know `proto3_optional` see it as a oneof with one field.
        presence: match (number(field, 17), Fields::new(field).any(|field| field.number == 9)) {
            (1, _) => Presence::Optional,
            (_, true) => Presence::Oneof,
            (_, false) => Presence::Implicit,
        },
        message: (number(field, 5) == 11).then(|| text(children(field, 6)[0])),
    };
    messages.insert(name, children(message, 2).into_iter().map(field).collect());
}

impl ProtoField {
    fn wire_type(&self) -> u8 {
        match self.kind {
            1 | 6 | 16 => 1,
            2 | 7 | 15 => 5,
            9 | 11 | 12 => 2,
            _ => 0,
        }
    }

    /// How many bytes an id has.
    fn id_length(&self) -> Option<usize> {
        match (self.kind, self.name.as_str()) {
            (12, "trace_id") => Some(16),
            (12, "span_id" | "parent_span_id") => Some(8),
            _ => None,
        }
    }

    fn accepts(&self, wire_type: u8) -> bool {
        let packed = self.repeated && self.wire_type() != 2 && wire_type == 2;
        wire_type == self.wire_type() || packed
    }
}

const ROOTS: [(Signal, &str); 3] = [
    (Signal::Logs, ".opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"),
    (Signal::Metrics, ".opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest"),
    (Signal::Traces, ".opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest"),
];

const RECORDS: [&str; 6] =
    ["LogRecord", "Span", "NumberDataPoint", "HistogramDataPoint", "ExponentialHistogramDataPoint", "SummaryDataPoint"];

/// A field in the messages around it.
fn wrapped(path: &[u32], field: &[u8]) -> Vec<u8> {
    path.iter().rev().fold(field.to_vec(), |inner, number| {
        let mut outer = Vec::new();
        put_bytes(&mut outer, *number, &inner);
        outer
    })
}

/// An empty or zero value of a wire type.
fn field_of(number: u32, wire_type: u8) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number) << 3 | u64::from(wire_type));
    match wire_type {
        1 => out.extend([0; 8]),
        3 => put_varint(&mut out, u64::from(number) << 3 | 4),
        5 => out.extend([0; 4]),
        _ => out.push(0),
    }
    out
}

/// Every message on every way, every field with every wire type, every length of an id, and numbers nobody knows.
#[test]
fn the_door_knows_the_proto_files() {
    let messages = descriptors();
    let (mut fields, mut checked) = (0, 0);
    for (signal, root) in ROOTS {
        let mut left = VecDeque::from([(root.to_owned(), Vec::new(), 0u32)]);
        let mut seen = HashSet::new();
        while let Some((name, path, items)) = left.pop_front() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let known = &messages[&name];
            for number in (1..=20).chain([1000, (1 << 29) - 1]) {
                let field = known.iter().find(|field| field.number == number);
                fields += usize::from(field.is_some());
                for wire_type in [0, 1, 2, 3, 5] {
                    let wire = wrapped(&path, &field_of(number, wire_type));
                    let accepted = field.is_none_or(|field| field.accepts(wire_type));
                    let inner = field.and_then(|field| field.message.as_deref()).unwrap_or_default();
                    let is_record = RECORDS.contains(&inner.rsplit('.').next().unwrap());
                    let expected = accepted.then_some(items + u32::from(is_record && wire_type == 2));
                    assert_eq!(check(signal, &wire).ok(), expected, "{name} {number} as {wire_type}");
                    checked += 1;
                }
                for length in 0..=33 {
                    let Some(id) = field.and_then(ProtoField::id_length) else { break };
                    let mut field = Vec::new();
                    put_bytes(&mut field, number, &vec![1; length]);
                    let accepted = check(signal, &wrapped(&path, &field)).is_ok();
                    assert_eq!(accepted, length == 0 || length == id, "{name} {number}: an id of {length} bytes");
                }
            }
            for field in known {
                if let Some(inner) = &field.message {
                    let is_record = RECORDS.contains(&inner.rsplit('.').next().unwrap());
                    let path = path.iter().copied().chain([field.number]).collect();
                    left.push_back((inner.clone(), path, items + u32::from(is_record)));
                }
            }
        }
    }
    assert!(fields > 150 && checked > 3000, "{fields} fields, {checked} cases");
}

/// `otlp/schema.rs` has the messages of the `.proto` files, with all that they say of a field.
#[test]
fn the_schema_is_that_of_the_proto_files() {
    let messages = descriptors();
    let mut left: Vec<_> = ROOTS.map(|(signal, name)| (schema::root(signal), name.to_owned())).into();
    let mut seen = BTreeMap::new();
    while let Some((message, name)) = left.pop() {
        if seen.insert(message.name, name.clone()).inspect(|before| assert_eq!(*before, name)).is_some() {
            continue;
        }
        let proto = messages[&name].iter();
        let (strange, proto): (Vec<_>, Vec<_>) = proto.partition(|field| field.name.ends_with("strindex"));
        assert!(strange.iter().all(|field| message.kind(field.number).is_some()), "{name}");
        assert_eq!(message.fields.len(), proto.len(), "{name}");
        for field in message.fields {
            let said = format!("{}.{}", message.name, field.name);
            let proto = proto.iter().find(|proto| proto.number == field.number).unwrap();
            assert!(field.has_snake_name(proto.name.as_bytes()), "{said}: {}", proto.name);
            // A message is there or not: that it is always shown is a matter of the text.
            let is_shown = field.presence == Presence::Always && proto.presence == Presence::Implicit;
            assert!(is_shown || field.presence == proto.presence, "{said}: {:?}", proto.presence);
            let (kind, repeated, inner) = match field.kind {
                Kind::Texts => (Kind::Text, true, None),
                Kind::Packed(element) => (*element, true, None),
                Kind::Many(inner) => (field.kind, true, Some(inner)),
                Kind::One(inner) => (field.kind, false, Some(inner)),
                kind => (kind, false, None),
            };
            let kind = match kind {
                Kind::Double => 1,
                Kind::Int64 => 3,
                Kind::Uint64 => 4,
                Kind::Fixed64 => 6,
                Kind::Fixed32 => 7,
                Kind::Bool => 8,
                Kind::Text => 9,
                Kind::One(_) | Kind::Many(_) => 11,
                Kind::Bytes | Kind::Id(_) => 12,
                Kind::Uint32 => 13,
                Kind::Enum(_) => 14,
                Kind::Sfixed64 => 16,
                Kind::Sint32 => 17,
                Kind::Texts | Kind::Packed(_) => 0,
            };
            assert_eq!((kind, repeated), (proto.kind, proto.repeated), "{said}");
            assert_eq!(matches!(field.kind, Kind::Id(_)), proto.id_length().is_some(), "{said}");
            left.extend(inner.map(|inner| (inner, proto.message.clone().unwrap())));
        }
    }
    assert_eq!(seen.len(), schema::MESSAGES.len());
}

/// `otlp/schema.rs` numbers the fields as the `.proto` files do.
#[test]
fn the_schema_has_the_numbers_of_the_proto_files() {
    let messages = descriptors();
    macro_rules! same {
        ($($module:ident: $($message:literal),+ { $($constant:ident = $name:literal),* $(,)? })*) => { $(
            for message in [$($message),+] {
                let full = format!(".opentelemetry.proto.{message}");
                let fields = &messages[&full];
                let of = |name: &str| {
                    // Names of what is repeated differ by signal: resource_logs, scope_spans…
                    fields.iter().find(|field| field.name == name || name.split('|').any(|part| part == field.name))
                };
                $(if let Some(field) = of($name) {
                    assert_eq!(field.number, schema::$module::$constant, "{message}.{}", $name);
                } else {
                    assert!($name.contains('?'), "{message} has no {}", $name);
                })*
                let named: Vec<&str> = [$($name),*].iter().flat_map(|name| name.split('|')).collect();
                for field in fields.iter().filter(|field| !field.name.ends_with("strindex")) {
                    assert!(named.contains(&field.name.as_str()), "{message}.{} is not in the schema", field.name);
                }
            }
        )* };
    }
    same! {
        resource_group: "logs.v1.ResourceLogs", "metrics.v1.ResourceMetrics", "trace.v1.ResourceSpans" {
            RESOURCE = "resource", SCOPES = "scope_logs|scope_metrics|scope_spans", SCHEMA_URL = "schema_url"
        }
        scope_group: "logs.v1.ScopeLogs", "metrics.v1.ScopeMetrics", "trace.v1.ScopeSpans" {
            SCOPE = "scope", RECORDS = "log_records|metrics|spans", SCHEMA_URL = "schema_url"
        }
        resource: "resource.v1.Resource" {
            ATTRIBUTES = "attributes", DROPPED_ATTRIBUTES_COUNT = "dropped_attributes_count", ENTITY_REFS = "entity_refs"
        }
        entity_ref: "common.v1.EntityRef" {
            SCHEMA_URL = "schema_url", TYPE = "type", ID_KEYS = "id_keys", DESCRIPTION_KEYS = "description_keys"
        }
        scope: "common.v1.InstrumentationScope" {
            NAME = "name", VERSION = "version", ATTRIBUTES = "attributes",
            DROPPED_ATTRIBUTES_COUNT = "dropped_attributes_count"
        }
        key_value: "common.v1.KeyValue" { KEY = "key", VALUE = "value" }
        any_value: "common.v1.AnyValue" {
            STRING = "string_value", BOOL = "bool_value", INT = "int_value", DOUBLE = "double_value",
            ARRAY = "array_value", KVLIST = "kvlist_value", BYTES = "bytes_value"
        }
        list: "common.v1.ArrayValue", "common.v1.KeyValueList" { VALUES = "values" }
        log_record: "logs.v1.LogRecord" {
            TIME = "time_unix_nano", SEVERITY_NUMBER = "severity_number", SEVERITY_TEXT = "severity_text", BODY = "body",
            ATTRIBUTES = "attributes", DROPPED_ATTRIBUTES_COUNT = "dropped_attributes_count", FLAGS = "flags",
            TRACE_ID = "trace_id", SPAN_ID = "span_id", OBSERVED_TIME = "observed_time_unix_nano",
            EVENT_NAME = "event_name"
        }
        span: "trace.v1.Span" {
            TRACE_ID = "trace_id", SPAN_ID = "span_id", TRACE_STATE = "trace_state", PARENT_SPAN_ID = "parent_span_id",
            NAME = "name", KIND = "kind", START = "start_time_unix_nano", END = "end_time_unix_nano",
            ATTRIBUTES = "attributes", DROPPED_ATTRIBUTES_COUNT = "dropped_attributes_count", EVENTS = "events",
            DROPPED_EVENTS_COUNT = "dropped_events_count", LINKS = "links", DROPPED_LINKS_COUNT = "dropped_links_count",
            STATUS = "status", FLAGS = "flags"
        }
        event: "trace.v1.Span.Event" {
            TIME = "time_unix_nano", NAME = "name", ATTRIBUTES = "attributes",
            DROPPED_ATTRIBUTES_COUNT = "dropped_attributes_count"
        }
        link: "trace.v1.Span.Link" {
            TRACE_ID = "trace_id", SPAN_ID = "span_id", TRACE_STATE = "trace_state", ATTRIBUTES = "attributes",
            DROPPED_ATTRIBUTES_COUNT = "dropped_attributes_count", FLAGS = "flags"
        }
        status: "trace.v1.Status" { MESSAGE = "message", CODE = "code" }
        metric: "metrics.v1.Metric" {
            NAME = "name", DESCRIPTION = "description", UNIT = "unit", GAUGE = "gauge", SUM = "sum",
            HISTOGRAM = "histogram", EXPONENTIAL_HISTOGRAM = "exponential_histogram", SUMMARY = "summary",
            METADATA = "metadata"
        }
        metric_data: "metrics.v1.Sum" {
            POINTS = "data_points", AGGREGATION_TEMPORALITY = "aggregation_temporality", IS_MONOTONIC = "is_monotonic"
        }
        metric_data: "metrics.v1.Histogram", "metrics.v1.ExponentialHistogram" {
            POINTS = "data_points", AGGREGATION_TEMPORALITY = "aggregation_temporality"
        }
        metric_data: "metrics.v1.Gauge", "metrics.v1.Summary" { POINTS = "data_points" }
        number_point: "metrics.v1.NumberDataPoint" {
            START = "start_time_unix_nano", TIME = "time_unix_nano", AS_DOUBLE = "as_double", EXEMPLARS = "exemplars",
            AS_INT = "as_int", ATTRIBUTES = "attributes", FLAGS = "flags"
        }
        histogram_point: "metrics.v1.HistogramDataPoint" {
            START = "start_time_unix_nano", TIME = "time_unix_nano", COUNT = "count", SUM = "sum",
            BUCKET_COUNTS = "bucket_counts", EXPLICIT_BOUNDS = "explicit_bounds", EXEMPLARS = "exemplars",
            ATTRIBUTES = "attributes", FLAGS = "flags", MIN = "min", MAX = "max"
        }
        exponential_point: "metrics.v1.ExponentialHistogramDataPoint" {
            ATTRIBUTES = "attributes", START = "start_time_unix_nano", TIME = "time_unix_nano", COUNT = "count",
            SUM = "sum", SCALE = "scale", ZERO_COUNT = "zero_count", POSITIVE = "positive", NEGATIVE = "negative",
            FLAGS = "flags", EXEMPLARS = "exemplars", MIN = "min", MAX = "max", ZERO_THRESHOLD = "zero_threshold"
        }
        buckets: "metrics.v1.ExponentialHistogramDataPoint.Buckets" { OFFSET = "offset", BUCKET_COUNTS = "bucket_counts" }
        summary_point: "metrics.v1.SummaryDataPoint" {
            START = "start_time_unix_nano", TIME = "time_unix_nano", COUNT = "count", SUM = "sum",
            QUANTILES = "quantile_values", ATTRIBUTES = "attributes", FLAGS = "flags"
        }
        quantile: "metrics.v1.SummaryDataPoint.ValueAtQuantile" { QUANTILE = "quantile", VALUE = "value" }
        exemplar: "metrics.v1.Exemplar" {
            TIME = "time_unix_nano", AS_DOUBLE = "as_double", SPAN_ID = "span_id", TRACE_ID = "trace_id",
            AS_INT = "as_int", FILTERED_ATTRIBUTES = "filtered_attributes"
        }
    }
}

// What prost cannot say.

/// A log record whose body or attribute nests this many values, as lists or as maps.
fn nested(values: usize, field: u32, inner: &[u32]) -> Vec<u8> {
    let mut path = vec![1, 2, 2, field];
    (1..values).for_each(|_| path.extend(inner));
    wrapped(&path, &[])
}

#[test]
fn values_nest_64_deep() {
    let (list, map) = ([5, 1].as_slice(), [6, 1, 2].as_slice());
    for (levels, accepted) in [(1, true), (2, true), (63, true), (64, true), (65, false), (66, false), (5000, false)] {
        for inner in [list, map] {
            assert_eq!(check(Signal::Logs, &nested(levels, 5, inner)).is_ok(), accepted, "a body of {levels}");
        }
        // An attribute is a KeyValue around its value.
        let attribute = nested(levels, 6, &[]);
        assert!(check(Signal::Logs, &attribute).is_ok());
        let path: Vec<u32> =
            [1, 2, 2, 6, 2].into_iter().chain(map.iter().copied().cycle().take(3 * (levels - 1))).collect();
        assert_eq!(check(Signal::Logs, &wrapped(&path, &[])).is_ok(), accepted, "an attribute of {levels}");
    }
    let error = check(Signal::Logs, &nested(65, 5, list)).unwrap_err().to_string();
    assert_eq!(error, "malformed protobuf: more than 64 nested values in ARRAY_VALUE, field 1");
}

#[test]
fn what_is_not_utf8_is_carried() {
    for (signal, path) in [
        (Signal::Logs, [1, 2, 2, 3].as_slice()),
        (Signal::Logs, &[1, 2, 2, 6, 1]),
        (Signal::Traces, &[1, 2, 2, 5]),
        (Signal::Metrics, &[1, 2, 2, 1]),
        (Signal::Metrics, &[1, 1, 1, 2, 1]),
    ] {
        let wire = wrapped(path, b"\xff\xfe");
        assert!(check(signal, &wire).is_ok(), "{path:?}");
        assert!(decoded(signal, &wire).unwrap_err().to_string().contains("UTF-8"));
        let (pieces, _) = cut(signal, &wire, 1);
        assert!(pieces.is_empty() || pieces.concat() == wire, "{path:?}");
    }
}

/// Rows of bytes as a log record, and whether they are one.
#[test]
fn odd_encodings() {
    let rows: &[(&[u8], bool, &str)] = &[
        (b"\x10\x01", true, "a varint"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", true, "a varint of ten bytes"),
        (b"\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", true, "zero in ten bytes"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", false, "a varint over 64 bits"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", false, "a varint of eleven bytes"),
        (b"\x10", false, "a varint that is missing"),
        (b"\x00\x00", false, "field 0"),
        (b"\x06", false, "wire type 6"),
        (b"\x97\x06", false, "wire type 7"),
        (b"\x9b\x06\x9c\x06", true, "an empty group"),
        (b"\x9b\x06\x08\x01\x12\x01x\x9c\x06", true, "a group with fields"),
        (b"\x9b\x06\x9b\x06\x9c\x06\x9c\x06", true, "a group in a group"),
        (b"\x9b\x06\x94\x06", false, "a group that another number ends"),
        (b"\x9b\x06", false, "a group without end"),
        (b"\x9c\x06", false, "an end without group"),
        (b"\x13\x14", false, "a known field as a group"),
        (b"\x1a\x05abc", false, "a length beyond the end"),
        (b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", false, "a length of 2^64 - 1"),
        (b"\x1a\xff\xff\xff\xff\x0fabc", false, "a length of 2^32 - 1"),
        (b"\x09\x01\x02\x03\x04\x05\x06\x07", false, "seven bytes of eight"),
        (b"\x45\x01\x02\x03", false, "three bytes of four"),
        (b"\xf8\xff\xff\xff\x0f\x00", true, "the largest field number"),
        (b"\xf8\xff\xff\xff\x1f\x00", false, "a field number of 30 bits"),
    ];
    for (record, accepted, what) in rows {
        let wire = wrapped(&[1, 2, 2], record);
        assert_eq!(check(Signal::Logs, &wire).is_ok(), *accepted, "{what}");
        assert_eq!(decoded(Signal::Logs, &wire).is_ok(), *accepted, "prost: {what}");
    }
    // Padded tags are refused: taken, a known message could hide behind one from the walk.
    for padded in [&b"\x90\x80\x00\x01"[..], b"\xb2\x00\x02\x0a\xff"] {
        assert!(check(Signal::Logs, &wrapped(&[1, 2, 2], padded)).is_err(), "{padded:?}");
    }
    let packed = |field: u32, bytes: &[u8]| {
        let mut point = Vec::new();
        put_bytes(&mut point, field, bytes);
        check(Signal::Metrics, &wrapped(&[1, 2, 2, 9, 1], &point))
    };
    assert!(packed(6, &[0; 16]).is_ok());
    assert_eq!(
        packed(6, &[0; 15]).unwrap_err().to_string(),
        "malformed protobuf: a packed list that ends within a value in HISTOGRAM_POINT, field 6"
    );
}

/// A request with every field that the descriptors know, values in values so deep.
fn everything(signal: Signal, depth: usize) -> Vec<Vec<u8>> {
    const KINDS: [u32; 5] = [5, 7, 9, 10, 11];
    fn fill(messages: &BTreeMap<String, Vec<ProtoField>>, name: &str, depth: usize, kind: u32, out: &mut Vec<u8>) {
        for field in &messages[name] {
            let mut inner = Vec::new();
            match &field.message {
                Some(message) if message.ends_with("AnyValue") && depth == 0 => {}
                // A metric has data of one kind.
                Some(_) if name.ends_with(".Metric") && KINDS.contains(&field.number) && field.number != kind => {}
                Some(message) => {
                    fill(messages, message, depth - usize::from(message.ends_with("AnyValue")), kind, &mut inner);
                    put_bytes(out, field.number, &inner);
                }
                None if field.id_length().is_some() => {
                    put_bytes(out, field.number, &[7; 16][..field.id_length().unwrap()])
                }
                None if field.wire_type() == 2 => put_bytes(out, field.number, b"text"),
                None => out.extend(field_of(field.number, field.wire_type())),
            }
        }
    }
    let root = ROOTS.iter().find(|(of, _)| *of == signal).unwrap().1;
    let kinds = if signal == Signal::Metrics { &KINDS[..] } else { &KINDS[..1] };
    let filled = |kind: &u32| {
        let mut out = Vec::new();
        fill(&descriptors(), root, depth, *kind, &mut out);
        out
    };
    kinds.iter().map(filled).collect()
}

/// Cut off after every byte, and with every byte replaced by a few others: the door and prost agree.
#[test]
fn truncation_and_damage_at_every_byte() {
    for signal in Signal::ALL {
        for whole in everything(signal, 2) {
            assert!(check(signal, &whole).is_ok());
            agree(signal, &whole);
            for end in 0..whole.len() {
                agree(signal, &whole[..end]);
            }
        }
        for whole in everything(signal, 1) {
            let mut wire = whole.clone();
            for at in 0..whole.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 4, whole[at].wrapping_add(8)] {
                    wire[at] = byte;
                    agree(signal, &wire);
                }
                wire[at] = whole[at];
            }
        }
    }
}

// Cutting and joining.

/// An item with everything around it that describes it: its own bytes, its scope's and resource's fields, and for a
/// data point the metric's (its metadata apart, which a cut metric has only once).
type Item = Vec<Vec<u8>>;

fn items(signal: Signal, wire: &[u8]) -> Vec<Item> {
    let mut found = Vec::new();
    descend(signal, wire, 1, &mut Vec::new(), &mut found);
    found
}

fn descend(signal: Signal, message: &[u8], depth: usize, around: &mut Vec<Vec<u8>>, found: &mut Vec<Item>) {
    let is_child = |number| match depth {
        1 => number == 1,
        2 | 3 => number == 2,
        4 => is_data(number),
        _ => number == 1,
    };
    let mut header = vec![];
    for field in Fields::new(message) {
        if !(is_child(field.number) || signal == Signal::Metrics && depth == 4 && field.number == 12) {
            header.extend_from_slice(field.raw);
        }
    }
    around.push(header);
    for field in Fields::new(message) {
        let Value::Bytes(bytes) = field.value else { continue };
        if !is_child(field.number) {
            continue;
        }
        if depth == if signal == Signal::Metrics { 5 } else { 3 } {
            found.push(around.iter().cloned().chain([field.raw.to_vec()]).collect());
        } else {
            descend(signal, bytes, depth + 1, around, found);
        }
    }
    around.pop();
}

/// All pieces of at most `size` items, and how many each holds.
fn cut(signal: Signal, wire: &[u8], size: u32) -> (Vec<Vec<u8>>, Vec<u32>) {
    let mut splitter = Splitter::new(signal, Bytes::copy_from_slice(wire));
    std::iter::from_fn(|| splitter.next_piece(size, usize::MAX)).unzip()
}

/// The same request with unknown fields at every level down to the record, before and behind what is there.
fn salted(message: &[u8], depth: usize, salt: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_uint(&mut out, 77, salt);
    for field in Fields::new(message) {
        match field.value {
            Value::Bytes(bytes)
                if (depth == 1 && field.number == 1) || (depth > 1 && depth < 4 && field.number == 2) =>
            {
                put_bytes(&mut out, field.number, &salted(bytes, depth + 1, salt + 1));
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    put_bytes(&mut out, 78, b"unknown");
    out
}

fn part(budget: &std::sync::Arc<Budget>, signal: Signal, wire: Vec<u8>, items: u32) -> Telemetry {
    let charge = Charge::take(budget, Share::Ingest, wire.len() as u64).unwrap();
    let parts = [Part::new(wire, items, charge)].into_iter().collect();
    Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_prost_writes_is_accepted((signal, wire) in requests()) {
        prop_assert_eq!(check(signal, &wire).unwrap(), decoded(signal, &wire).unwrap());
    }

    #[test]
    fn what_is_damaged_is_judged_as_prost_does((signal, wire) in requests(), edits in edits()) {
        agree(signal, &damaged(wire, edits));
    }

    #[test]
    fn another_signals_request_is_judged_as_prost_does((_, wire) in requests()) {
        Signal::ALL.into_iter().for_each(|signal| agree(signal, &wire));
    }

    #[test]
    fn any_bytes_are_judged_as_prost_does(wire in vec(any::<u8>(), 0..60)) {
        Signal::ALL.into_iter().for_each(|signal| agree(signal, &wire));
    }

    /// Nothing is lost, doubled or moved; every item stands under what described it; unknown fields go along.
    #[test]
    fn cutting_keeps_everything((signal, wire) in requests(), size in 1u32..7) {
        let wire = salted(&wire, 1, 5);
        let total = check(signal, &wire).unwrap();
        let (pieces, counts) = cut(signal, &wire, size);
        prop_assert_eq!(counts.iter().sum::<u32>(), total);
        for (piece, count) in pieces.iter().zip(&counts) {
            prop_assert_eq!(check(signal, piece), Ok(*count));
        }
        if let Some((last, full)) = counts.split_last() {
            prop_assert!(full.iter().all(|count| *count == size) && *last <= size, "{:?} by {}", counts, size);
        }
        if total > 0 {
            let joined = pieces.concat();
            let (before, after) = (items(signal, &wire), items(signal, &joined));
            // The request's own unknown fields are repeated in every piece, as headers are; the rest is equal.
            prop_assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!(&before[1..], &after[1..]);
            }
            prop_assert!(decoded(signal, &joined).is_ok());
        }
    }

    /// Parts of many sizes go in, batches come out: in order, counted, never over the limit. What a batch takes of the bytes
    /// that are held is never negative, and in all it is what came, however often pieces repeat headers.
    #[test]
    fn what_is_pending_comes_out_in_order(
        sizes in vec((1usize..30, 0usize..900, 0usize..3), 1..30),
        takes in vec(0u64..40, 1..40),
        most in 0..4,
        signal in select(Signal::ALL.to_vec()),
    ) {
        let most = |take: u64| match most {
            0 => Most::Items(take),
            // Room for a few records, for less than one, for many.
            1 => Most::Bytes(take * 400),
            2 => Most::Bytes(take * 10),
            _ => Most::Bytes(take * 20_000),
        };
        let budget = Budget::new(64 << 20);
        let (mut pending, mut expected, mut got) = (Pending::default(), Vec::new(), Vec::new());
        let (mut came, mut left) = (0, 0);
        let mut takes = takes.into_iter().cycle();
        for (number, (count, padding, header)) in sizes.into_iter().enumerate() {
            // Of unequal length: one in seven is long, at the beginning, in the middle or at the end; headers are none,
            // short, or longer than what they are of.
            let long = |index: usize| if (index + number) % 7 == 3 { padding * 4 } else { padding / 8 };
            let names: Vec<String> =
                (0..count).map(|index| format!("{number}-{index}-{}", "x".repeat(long(index)))).collect();
            let wire = described(signal, &super::harness::refs(&names), [0, 20, 3000][header]);
            expected.extend(names);
            came += wire.len() as u64;
            pending.push(part(&budget, signal, wire, count as u32), &budget);
            let take = takes.next().unwrap();
            if take > 0 && number % 2 == 1 {
                left += take_checked(&mut pending, signal, most(take), &mut got)?;
            }
        }
        while pending.items() > 0 {
            let take = takes.next().unwrap().max(1);
            left += take_checked(&mut pending, signal, most(take), &mut got)?;
        }
        prop_assert_eq!((pending.bytes(), left), (0, came));
        prop_assert_eq!(got, expected);
        drop(pending);
        prop_assert_eq!((budget.used(Share::Ingest), budget.used(Share::Queue)), (0, 0));
    }
}

/// A request of these records under a resource that is so long.
fn described(signal: Signal, names: &[&str], length: usize) -> Vec<u8> {
    let wire = super::harness::request(signal, names);
    let Some(Value::Bytes(group)) = Fields::new(&wire).next().map(|field| field.value) else { return wire };
    // The schema URL, which follows the resource in a group of any signal.
    let mut with_header = group.to_vec();
    put_bytes(&mut with_header, 3, "h".repeat(length).as_bytes());
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &with_header);
    request
}

/// Takes one batch and checks its size against what was held; how many of the bytes that are held it took.
fn take_checked(
    pending: &mut Pending,
    signal: Signal,
    most: Most,
    got: &mut Vec<String>,
) -> Result<u64, TestCaseError> {
    let (items_before, bytes_before) = (pending.items(), pending.bytes());
    let mut taking = pending.take(signal, most);
    while taking.is_uncut() {
        let (items, bytes) = taking.load();
        prop_assert_eq!((pending.items() + items, pending.bytes() + bytes), (items_before, bytes_before));
        taking.cut();
        pending.go_on(&mut taking);
    }
    let parts = taking.parts();
    let items: u64 = parts.iter().map(|part| u64::from(part.items)).sum();
    let bytes: u64 = parts.iter().map(|part| part.bytes.len() as u64).sum();
    prop_assert_eq!(pending.items(), items_before - items);
    prop_assert!(pending.bytes() <= bytes_before, "{} bytes became {}", bytes_before, pending.bytes());
    prop_assert_eq!(pending.items() == 0, pending.bytes() == 0);
    match most {
        Most::Items(limit) => prop_assert_eq!(items, limit.min(items_before)),
        Most::Bytes(limit) => {
            // Below long headers a piece goes on until it holds a part of what it repeats.
            let lengths =
                parts.iter().flat_map(|part| super::harness::names(signal, &part.bytes)).map(|name| name.len());
            let lengths: Vec<_> = lengths.collect();
            let new = lengths.iter().sum::<usize>() as u64;
            let is_mostly_header = new <= (bytes - new) / 4 + lengths.iter().max().map_or(0, |most| *most as u64);
            let is_within = items == 1 || bytes <= limit || is_mostly_header;
            prop_assert!(is_within, "{} items of {} bytes, at most {}", items, bytes, limit);
            prop_assert!(items > 0);
        }
    }
    for part in parts {
        prop_assert_eq!(check(signal, &part.bytes), Ok(part.items));
        got.extend(super::harness::names(signal, &part.bytes));
    }
    Ok(bytes_before - pending.bytes())
}

#[test]
fn lengths_that_lie_do_not_panic() {
    let mut wire = Vec::new();
    put_header(&mut wire, 1, usize::MAX >> 1);
    for signal in Signal::ALL {
        assert!(check(signal, &wire).is_err());
        assert_eq!(cut(signal, &wire, 1).0.len(), 0);
    }
}
