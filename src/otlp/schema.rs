//! OTLP (opentelemetry-proto 1.x): one row per field, with its number, wire kind, presence and JSON name. The check,
//! both directions of JSON and all code that names a field read this table.

mod field;

use std::collections::BTreeSet;

use super::Signal;
pub use field::{FIELDS, Field, Key, Kind, Message, Names, Presence};

/// `ExportLogsServiceRequest.resource_logs`, and the same for metrics and traces: the only field of a request.
pub const REQUEST_RESOURCES: u32 = request::RESOURCES;

/// `MESSAGE(length_bytes) = module { jsonName NAME = number Kind [Presence], … }` declares a message, and a module with
/// its field numbers. Messages of the same shape share a module: one declares the numbers, the others are `of` it. `+`
/// precedes a field that exists on the wire only.
macro_rules! messages {
    ($($message:ident($length_bytes:literal) $means:tt $module:ident {
        $($name:ident $field:ident $(= $number:literal)? $kind:ident$(($($of:tt)*))? $($presence:ident)?),* $(,)?
    } $(+ $beside:literal $beside_kind:ident)?)*) => {
        $(numbers!($means $module { $($field $($number)?),* });

        pub static $message: Message = Message {
            name: stringify!($message),
            place: Index::$message as usize,
            fields: &[$(Field::new(
                stringify!($name), $module::$field, Kind::$kind$(($($of)*))?, presence!($($presence)?)
            )),*],
            beside: &[$(($beside, Kind::$beside_kind))?],
            oneof: 0 $(| presence!($($presence)?).member($module::$field))*,
            length_bytes: $length_bytes,
        };)*

        #[derive(Clone, Copy)]
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the messages")]
        enum Index { $($message),* }

        /// The index of each message.
        pub mod place {
            $(pub const $message: u8 = super::Index::$message as u8;)*
        }

        pub const COUNT: usize = [$(place::$message),*].len();
        pub static MESSAGES: [&Message; COUNT] = [$(&$message),*];
    };
}

macro_rules! numbers {
    (= $module:ident { $($field:ident $number:literal),* }) => {
        pub mod $module {
            $(pub const $field: u32 = $number;)*
            /// The bit set of all field numbers.
            pub const KNOWN: u32 = $(1 << $number)|*;
        }
    };
    (of $($shape:tt)*) => {};
}

macro_rules! presence {
    () => {
        Presence::Implicit
    };
    ($presence:ident) => {
        Presence::$presence
    };
}

messages! {
    LOGS_REQUEST(0) = request { resourceLogs RESOURCES = 1 Many(&RESOURCE_LOGS) }
    METRICS_REQUEST(0) of request { resourceMetrics RESOURCES Many(&RESOURCE_METRICS) }
    TRACES_REQUEST(0) of request { resourceSpans RESOURCES Many(&RESOURCE_SPANS) }
    RESOURCE_LOGS(3) = resource_group {
        resource RESOURCE = 1 One(&RESOURCE) Always, scopeLogs SCOPES = 2 Many(&SCOPE_LOGS),
        schemaUrl SCHEMA_URL = 3 Text
    }
    RESOURCE_METRICS(3) of resource_group {
        resource RESOURCE One(&RESOURCE) Always, scopeMetrics SCOPES Many(&SCOPE_METRICS), schemaUrl SCHEMA_URL Text
    }
    RESOURCE_SPANS(3) of resource_group {
        resource RESOURCE One(&RESOURCE) Always, scopeSpans SCOPES Many(&SCOPE_SPANS), schemaUrl SCHEMA_URL Text
    }
    SCOPE_LOGS(3) = scope_group {
        scope SCOPE = 1 One(&SCOPE) Always, logRecords RECORDS = 2 Many(&LOG_RECORD), schemaUrl SCHEMA_URL = 3 Text
    }
    SCOPE_METRICS(3) of scope_group {
        scope SCOPE One(&SCOPE) Always, metrics RECORDS Many(&METRIC), schemaUrl SCHEMA_URL Text
    }
    SCOPE_SPANS(3) of scope_group {
        scope SCOPE One(&SCOPE) Always, spans RECORDS Many(&SPAN), schemaUrl SCHEMA_URL Text
    }
    RESOURCE(1) = resource {
        attributes ATTRIBUTES = 1 Many(&KEY_VALUE), droppedAttributesCount DROPPED_ATTRIBUTES_COUNT = 2 Uint32,
        entityRefs ENTITY_REFS = 3 Many(&ENTITY_REF)
    }
    ENTITY_REF(1) = entity_ref {
        schemaUrl SCHEMA_URL = 1 Text, type TYPE = 2 Text, idKeys ID_KEYS = 3 Texts,
        descriptionKeys DESCRIPTION_KEYS = 4 Texts
    }
    SCOPE(1) = scope {
        name NAME = 1 Text, version VERSION = 2 Text, attributes ATTRIBUTES = 3 Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT = 4 Uint32
    }
    KEY_VALUE(1) = key_value { key KEY = 1 Text, value VALUE = 2 One(&ANY_VALUE) Always } + 3 Int64
    ANY_VALUE(1) = any_value {
        stringValue STRING = 1 Text Oneof, boolValue BOOL = 2 Bool Oneof, intValue INT = 3 Int64 Oneof,
        doubleValue DOUBLE = 4 Double Oneof, arrayValue ARRAY = 5 One(&ARRAY_VALUE) Oneof,
        kvlistValue KVLIST = 6 One(&KEY_VALUE_LIST) Oneof, bytesValue BYTES = 7 Bytes Oneof
    } + 8 Int64
    ARRAY_VALUE(1) = list { values VALUES = 1 Many(&ANY_VALUE) }
    KEY_VALUE_LIST(1) of list { values VALUES Many(&KEY_VALUE) }
    LOG_RECORD(2) = log_record {
        timeUnixNano TIME = 1 Fixed64, observedTimeUnixNano OBSERVED_TIME = 11 Fixed64,
        severityNumber SEVERITY_NUMBER = 2 Enum(&SEVERITIES), severityText SEVERITY_TEXT = 3 Text,
        body BODY = 5 One(&ANY_VALUE) Always, attributes ATTRIBUTES = 6 Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT = 7 Uint32, flags FLAGS = 8 Fixed32,
        traceId TRACE_ID = 9 Id(16), spanId SPAN_ID = 10 Id(8), eventName EVENT_NAME = 12 Text
    }
    SPAN(2) = span {
        traceId TRACE_ID = 1 Id(16), spanId SPAN_ID = 2 Id(8), traceState TRACE_STATE = 3 Text,
        parentSpanId PARENT_SPAN_ID = 4 Id(8), flags FLAGS = 16 Fixed32, name NAME = 5 Text,
        kind KIND = 6 Enum(&SPAN_KINDS), startTimeUnixNano START = 7 Fixed64,
        endTimeUnixNano END = 8 Fixed64, attributes ATTRIBUTES = 9 Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT = 10 Uint32, events EVENTS = 11 Many(&EVENT),
        droppedEventsCount DROPPED_EVENTS_COUNT = 12 Uint32, links LINKS = 13 Many(&LINK),
        droppedLinksCount DROPPED_LINKS_COUNT = 14 Uint32, status STATUS = 15 One(&STATUS) Always
    }
    EVENT(1) = event {
        timeUnixNano TIME = 1 Fixed64, name NAME = 2 Text, attributes ATTRIBUTES = 3 Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT = 4 Uint32
    }
    LINK(1) = link {
        traceId TRACE_ID = 1 Id(16), spanId SPAN_ID = 2 Id(8), traceState TRACE_STATE = 3 Text,
        attributes ATTRIBUTES = 4 Many(&KEY_VALUE), droppedAttributesCount DROPPED_ATTRIBUTES_COUNT = 5 Uint32,
        flags FLAGS = 6 Fixed32
    }
    STATUS(1) = status { message MESSAGE = 2 Text, code CODE = 3 Enum(&STATUS_CODES) }
    METRIC(2) = metric {
        name NAME = 1 Text, description DESCRIPTION = 2 Text, unit UNIT = 3 Text, gauge GAUGE = 5 One(&GAUGE) Oneof,
        sum SUM = 7 One(&SUM) Oneof, histogram HISTOGRAM = 9 One(&HISTOGRAM) Oneof,
        exponentialHistogram EXPONENTIAL_HISTOGRAM = 10 One(&EXPONENTIAL_HISTOGRAM) Oneof,
        summary SUMMARY = 11 One(&SUMMARY) Oneof, metadata METADATA = 12 Many(&KEY_VALUE)
    }
    GAUGE(2) of metric_data { dataPoints POINTS Many(&NUMBER_POINT) }
    SUM(2) = metric_data {
        dataPoints POINTS = 1 Many(&NUMBER_POINT), aggregationTemporality AGGREGATION_TEMPORALITY = 2 Enum(&TEMPORALITIES),
        isMonotonic IS_MONOTONIC = 3 Bool
    }
    HISTOGRAM(2) of metric_data {
        dataPoints POINTS Many(&HISTOGRAM_POINT), aggregationTemporality AGGREGATION_TEMPORALITY Enum(&TEMPORALITIES)
    }
    EXPONENTIAL_HISTOGRAM(2) of metric_data {
        dataPoints POINTS Many(&EXPONENTIAL_POINT), aggregationTemporality AGGREGATION_TEMPORALITY Enum(&TEMPORALITIES)
    }
    SUMMARY(2) of metric_data { dataPoints POINTS Many(&SUMMARY_POINT) }
    NUMBER_POINT(1) = number_point {
        attributes ATTRIBUTES = 7 Many(&KEY_VALUE), startTimeUnixNano START = 2 Fixed64, timeUnixNano TIME = 3 Fixed64,
        asDouble AS_DOUBLE = 4 Double Oneof, asInt AS_INT = 6 Sfixed64 Oneof, exemplars EXEMPLARS = 5 Many(&EXEMPLAR),
        flags FLAGS = 8 Uint32
    }
    HISTOGRAM_POINT(2) = histogram_point {
        attributes ATTRIBUTES = 9 Many(&KEY_VALUE), startTimeUnixNano START = 2 Fixed64, timeUnixNano TIME = 3 Fixed64,
        count COUNT = 4 Fixed64, sum SUM = 5 Double Optional, bucketCounts BUCKET_COUNTS = 6 Packed(&Kind::Fixed64),
        explicitBounds EXPLICIT_BOUNDS = 7 Packed(&Kind::Double), exemplars EXEMPLARS = 8 Many(&EXEMPLAR),
        flags FLAGS = 10 Uint32, min MIN = 11 Double Optional, max MAX = 12 Double Optional
    }
    EXPONENTIAL_POINT(2) = exponential_point {
        attributes ATTRIBUTES = 1 Many(&KEY_VALUE), startTimeUnixNano START = 2 Fixed64, timeUnixNano TIME = 3 Fixed64,
        count COUNT = 4 Fixed64, sum SUM = 5 Double Optional, scale SCALE = 6 Sint32, zeroCount ZERO_COUNT = 7 Fixed64,
        positive POSITIVE = 8 One(&BUCKETS) Always, negative NEGATIVE = 9 One(&BUCKETS) Always, flags FLAGS = 10 Uint32,
        exemplars EXEMPLARS = 11 Many(&EXEMPLAR), min MIN = 12 Double Optional, max MAX = 13 Double Optional,
        zeroThreshold ZERO_THRESHOLD = 14 Double
    }
    BUCKETS(1) = buckets { offset OFFSET = 1 Sint32, bucketCounts BUCKET_COUNTS = 2 Packed(&Kind::Uint64) }
    SUMMARY_POINT(1) = summary_point {
        attributes ATTRIBUTES = 7 Many(&KEY_VALUE), startTimeUnixNano START = 2 Fixed64, timeUnixNano TIME = 3 Fixed64,
        count COUNT = 4 Fixed64, sum SUM = 5 Double, quantileValues QUANTILES = 6 Many(&QUANTILE),
        flags FLAGS = 8 Uint32
    }
    QUANTILE(1) = quantile { quantile QUANTILE = 1 Double, value VALUE = 2 Double }
    EXEMPLAR(1) = exemplar {
        filteredAttributes FILTERED_ATTRIBUTES = 7 Many(&KEY_VALUE), timeUnixNano TIME = 2 Fixed64,
        asDouble AS_DOUBLE = 3 Double Oneof, asInt AS_INT = 6 Sfixed64 Oneof, traceId TRACE_ID = 5 Id(16),
        spanId SPAN_ID = 4 Id(8)
    }
}

/// `Export…ServiceRequest`.
pub fn root(signal: Signal) -> &'static Message {
    match signal {
        Signal::Logs => &LOGS_REQUEST,
        Signal::Metrics => &METRICS_REQUEST,
        Signal::Traces => &TRACES_REQUEST,
    }
}

/// Whether a field of a metric holds its data.
#[inline]
pub(crate) fn is_data(number: u32) -> bool {
    METRIC.oneof.checked_shr(number).unwrap_or_default() & 1 == 1
}

/// The numbers of all fields that hold attributes, in any message.
pub(crate) fn attribute_lists() -> BTreeSet<u32> {
    let fields = MESSAGES.iter().flat_map(|message| message.fields);
    fields.filter(|field| field.name == "attributes").map(|field| field.number).collect()
}

#[rustfmt::skip]
pub(crate) const SEVERITIES: Names = ("SEVERITY_NUMBER_", &[
    "UNSPECIFIED", "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4", "INFO", "INFO2", "INFO3",
    "INFO4", "WARN", "WARN2", "WARN3", "WARN4", "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2", "FATAL3", "FATAL4",
]);
pub(crate) const SPAN_KINDS: Names =
    ("SPAN_KIND_", &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]);
pub(crate) const STATUS_CODES: Names = ("STATUS_CODE_", &["UNSET", "OK", "ERROR"]);
pub(crate) const TEMPORALITIES: Names = ("AGGREGATION_TEMPORALITY_", &["UNSPECIFIED", "DELTA", "CUMULATIVE"]);

/// The span kinds in the Go collector's words.
pub(crate) const KIND_WORDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
