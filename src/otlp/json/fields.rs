//! OTLP's messages as JSON knows them: one row a field, in the order of the `.proto` files, which is the order the Go
//! collector writes. The reader and the writer are both driven by these tables, so they cannot disagree.

use crate::otlp::schema;

/// One message and its fields, at most [`FIELDS`].
pub struct Message {
    pub fields: &'static [Field],
    /// How many bytes the length of such a message usually takes on the wire. Only a guess that saves moving its content.
    pub length_bytes: usize,
    /// Its place among the messages.
    pub index: usize,
}

/// How many fields a message has at most: the reader keeps one bit for each.
pub const FIELDS: usize = 32;

pub struct Field {
    /// The lowerCamelCase name. The original snake_case name is derived from it.
    pub name: &'static str,
    pub key: Key,
    pub number: u32,
    /// The number and the wire type, as they open the field on the wire.
    pub tag: u64,
    pub kind: Kind,
    pub presence: Presence,
}

/// A name as it mostly stands in a text, `"name":`, to be compared in two steps instead of byte by byte.
pub struct Key {
    words: [u128; 2],
    mask: [u128; 2],
    pub length: usize,
}

impl Key {
    /// The text at a key, in the form that keys are compared in; no name is longer than 29.
    #[inline(always)]
    pub fn window(text: &[u8; 32]) -> Option<[u128; 2]> {
        let (halves, _) = text.as_chunks::<16>();
        Some([u128::from_le_bytes(*halves.first()?), u128::from_le_bytes(*halves.last()?)])
    }

    #[expect(clippy::indexing_slicing, reason = "runs while compiling")]
    const fn new(name: &str) -> Key {
        let (name, length) = (name.as_bytes(), name.len() + 3);
        let mut key = Key { words: [0; 2], mask: [0; 2], length };
        let mut index = 0;
        while index < length {
            let byte = match index {
                0 => b'"',
                _ if index == length - 1 => b':',
                _ if index == length - 2 => b'"',
                _ => name[index - 1],
            };
            key.words[index / 16] |= (byte as u128) << (8 * (index % 16));
            key.mask[index / 16] |= 0xff << (8 * (index % 16));
            index += 1;
        }
        key
    }

    #[inline(always)]
    pub fn begins(&self, window: [u128; 2]) -> bool {
        let [first, second] = window;
        (first & self.mask[0] ^ self.words[0]) | (second & self.mask[1] ^ self.words[1]) == 0
    }
}

#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Bytes,
    /// A trace or span id of so many bytes: hexadecimal in JSON, unlike other bytes.
    Id(usize),
    Bool,
    Int64,
    Uint64,
    Uint32,
    /// In zigzag.
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    /// The names are the prefix and the name at the index of the number.
    Enum(&'static str, &'static [&'static str]),
    Texts,
    /// A list of numbers.
    Packed(&'static Kind),
    One(&'static Message),
    Many(&'static Message),
}

impl Kind {
    const fn wire_type(self) -> u64 {
        match self {
            Kind::Bool | Kind::Int64 | Kind::Uint64 | Kind::Uint32 | Kind::Sint32 | Kind::Enum(..) => 0,
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
            Kind::Fixed32 => 5,
            Kind::Text | Kind::Bytes | Kind::Id(_) | Kind::Texts | Kind::Packed(_) | Kind::One(_) | Kind::Many(_) => 2,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Presence {
    /// proto3: the zero value is the same as absent, and is not written.
    Implicit,
    /// `optional`: zero is a value.
    Optional,
    /// Member of the message's only oneof: zero is a value, and the last member given wins.
    Oneof,
    /// A message that JSON output always shows, even when it is empty.
    Always,
}

impl Message {
    /// Whether it is the one message that may contain itself.
    pub fn is_any_value(&self) -> bool {
        std::ptr::eq(self, &ANY_VALUE)
    }

    pub fn is_key_value(&self) -> bool {
        std::ptr::eq(self, &KEY_VALUE)
    }
}

impl Field {
    const fn new(name: &'static str, number: u32, kind: Kind, presence: Presence) -> Field {
        Field { name, key: Key::new(name), number, tag: (number as u64) << 3 | kind.wire_type(), kind, presence }
    }

    /// Whether `key` is this field's original name, such as `time_unix_nano` for `timeUnixNano`.
    pub fn has_snake_name(&self, key: &[u8]) -> bool {
        let mut rest = key.iter();
        let same = self.name.bytes().all(|letter| match letter.is_ascii_uppercase() {
            true => rest.next() == Some(&b'_') && rest.next() == Some(&letter.to_ascii_lowercase()),
            false => rest.next() == Some(&letter),
        });
        same && rest.next().is_none()
    }
}

/// `MESSAGE(length_bytes) = module of its field numbers { jsonName NUMBER Kind [Presence], … }`
macro_rules! messages {
    ($($message:ident($length_bytes:literal) = $numbers:ident {
        $($name:ident $number:ident $kind:ident$(($($of:tt)*))? $($presence:ident)?),* $(,)?
    })*) => {
        $(pub static $message: Message = Message {
            fields: &[$(Field::new(
                stringify!($name), schema::$numbers::$number, Kind::$kind$(($($of)*))?, presence!($($presence)?)
            )),*],
            length_bytes: $length_bytes,
            index: Place::$message as usize,
        };
    )*
        /// The names of all messages, for their places.
        #[derive(Clone, Copy)]
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the messages")]
        enum Place { $($message),* }

        /// How many messages there are.
        pub const MESSAGES: usize = [$(Place::$message),*].len();
    };
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
    LOGS(0) = request { resourceLogs RESOURCES Many(&RESOURCE_LOGS) }
    METRICS(0) = request { resourceMetrics RESOURCES Many(&RESOURCE_METRICS) }
    TRACES(0) = request { resourceSpans RESOURCES Many(&RESOURCE_SPANS) }
    RESOURCE_LOGS(3) = resource_group {
        resource RESOURCE One(&RESOURCE) Always, scopeLogs SCOPES Many(&SCOPE_LOGS), schemaUrl SCHEMA_URL Text
    }
    RESOURCE_METRICS(3) = resource_group {
        resource RESOURCE One(&RESOURCE) Always, scopeMetrics SCOPES Many(&SCOPE_METRICS), schemaUrl SCHEMA_URL Text
    }
    RESOURCE_SPANS(3) = resource_group {
        resource RESOURCE One(&RESOURCE) Always, scopeSpans SCOPES Many(&SCOPE_SPANS), schemaUrl SCHEMA_URL Text
    }
    SCOPE_LOGS(3) = scope_group {
        scope SCOPE One(&SCOPE) Always, logRecords RECORDS Many(&LOG_RECORD), schemaUrl SCHEMA_URL Text
    }
    SCOPE_METRICS(3) = scope_group {
        scope SCOPE One(&SCOPE) Always, metrics RECORDS Many(&METRIC), schemaUrl SCHEMA_URL Text
    }
    SCOPE_SPANS(3) = scope_group {
        scope SCOPE One(&SCOPE) Always, spans RECORDS Many(&SPAN), schemaUrl SCHEMA_URL Text
    }
    RESOURCE(1) = resource {
        attributes ATTRIBUTES Many(&KEY_VALUE), droppedAttributesCount DROPPED_ATTRIBUTES_COUNT Uint32,
        entityRefs ENTITY_REFS Many(&ENTITY_REF)
    }
    ENTITY_REF(1) = entity_ref {
        schemaUrl SCHEMA_URL Text, type TYPE Text, idKeys ID_KEYS Texts, descriptionKeys DESCRIPTION_KEYS Texts
    }
    SCOPE(1) = scope {
        name NAME Text, version VERSION Text, attributes ATTRIBUTES Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT Uint32
    }
    KEY_VALUE(1) = key_value { key KEY Text, value VALUE One(&ANY_VALUE) Always }
    ANY_VALUE(1) = any_value {
        stringValue STRING Text Oneof, boolValue BOOL Bool Oneof, intValue INT Int64 Oneof,
        doubleValue DOUBLE Double Oneof, arrayValue ARRAY One(&ARRAY_VALUE) Oneof,
        kvlistValue KVLIST One(&KEY_VALUE_LIST) Oneof, bytesValue BYTES Bytes Oneof
    }
    ARRAY_VALUE(1) = list { values VALUES Many(&ANY_VALUE) }
    KEY_VALUE_LIST(1) = list { values VALUES Many(&KEY_VALUE) }
    LOG_RECORD(2) = log_record {
        timeUnixNano TIME Fixed64, observedTimeUnixNano OBSERVED_TIME Fixed64,
        severityNumber SEVERITY_NUMBER Enum("SEVERITY_NUMBER_", SEVERITIES), severityText SEVERITY_TEXT Text,
        body BODY One(&ANY_VALUE) Always, attributes ATTRIBUTES Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT Uint32, flags FLAGS Fixed32,
        traceId TRACE_ID Id(16), spanId SPAN_ID Id(8), eventName EVENT_NAME Text
    }
    SPAN(2) = span {
        traceId TRACE_ID Id(16), spanId SPAN_ID Id(8), traceState TRACE_STATE Text, parentSpanId PARENT_SPAN_ID Id(8),
        flags FLAGS Fixed32, name NAME Text, kind KIND Enum("SPAN_KIND_", SPAN_KINDS),
        startTimeUnixNano START Fixed64, endTimeUnixNano END Fixed64, attributes ATTRIBUTES Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT Uint32, events EVENTS Many(&EVENT),
        droppedEventsCount DROPPED_EVENTS_COUNT Uint32, links LINKS Many(&LINK),
        droppedLinksCount DROPPED_LINKS_COUNT Uint32, status STATUS One(&STATUS) Always
    }
    EVENT(1) = event {
        timeUnixNano TIME Fixed64, name NAME Text, attributes ATTRIBUTES Many(&KEY_VALUE),
        droppedAttributesCount DROPPED_ATTRIBUTES_COUNT Uint32
    }
    LINK(1) = link {
        traceId TRACE_ID Id(16), spanId SPAN_ID Id(8), traceState TRACE_STATE Text,
        attributes ATTRIBUTES Many(&KEY_VALUE), droppedAttributesCount DROPPED_ATTRIBUTES_COUNT Uint32,
        flags FLAGS Fixed32
    }
    STATUS(1) = status { message MESSAGE Text, code CODE Enum("STATUS_CODE_", STATUS_CODES) }
    METRIC(2) = metric {
        name NAME Text, description DESCRIPTION Text, unit UNIT Text, gauge GAUGE One(&GAUGE) Oneof,
        sum SUM One(&SUM) Oneof, histogram HISTOGRAM One(&HISTOGRAM) Oneof,
        exponentialHistogram EXPONENTIAL_HISTOGRAM One(&EXPONENTIAL_HISTOGRAM) Oneof,
        summary SUMMARY One(&SUMMARY) Oneof, metadata METADATA Many(&KEY_VALUE)
    }
    GAUGE(2) = metric_data { dataPoints POINTS Many(&NUMBER_POINT) }
    SUM(2) = metric_data {
        dataPoints POINTS Many(&NUMBER_POINT),
        aggregationTemporality AGGREGATION_TEMPORALITY Enum("AGGREGATION_TEMPORALITY_", TEMPORALITIES),
        isMonotonic IS_MONOTONIC Bool
    }
    HISTOGRAM(2) = metric_data {
        dataPoints POINTS Many(&HISTOGRAM_POINT),
        aggregationTemporality AGGREGATION_TEMPORALITY Enum("AGGREGATION_TEMPORALITY_", TEMPORALITIES)
    }
    EXPONENTIAL_HISTOGRAM(2) = metric_data {
        dataPoints POINTS Many(&EXPONENTIAL_POINT),
        aggregationTemporality AGGREGATION_TEMPORALITY Enum("AGGREGATION_TEMPORALITY_", TEMPORALITIES)
    }
    SUMMARY(2) = metric_data { dataPoints POINTS Many(&SUMMARY_POINT) }
    NUMBER_POINT(1) = number_point {
        attributes ATTRIBUTES Many(&KEY_VALUE), startTimeUnixNano START Fixed64, timeUnixNano TIME Fixed64,
        asDouble AS_DOUBLE Double Oneof, asInt AS_INT Sfixed64 Oneof, exemplars EXEMPLARS Many(&EXEMPLAR),
        flags FLAGS Uint32
    }
    HISTOGRAM_POINT(2) = histogram_point {
        attributes ATTRIBUTES Many(&KEY_VALUE), startTimeUnixNano START Fixed64, timeUnixNano TIME Fixed64,
        count COUNT Fixed64, sum SUM Double Optional, bucketCounts BUCKET_COUNTS Packed(&Kind::Fixed64),
        explicitBounds EXPLICIT_BOUNDS Packed(&Kind::Double), exemplars EXEMPLARS Many(&EXEMPLAR), flags FLAGS Uint32,
        min MIN Double Optional, max MAX Double Optional
    }
    EXPONENTIAL_POINT(2) = exponential_point {
        attributes ATTRIBUTES Many(&KEY_VALUE), startTimeUnixNano START Fixed64, timeUnixNano TIME Fixed64,
        count COUNT Fixed64, sum SUM Double Optional, scale SCALE Sint32, zeroCount ZERO_COUNT Fixed64,
        positive POSITIVE One(&BUCKETS) Always, negative NEGATIVE One(&BUCKETS) Always, flags FLAGS Uint32,
        exemplars EXEMPLARS Many(&EXEMPLAR), min MIN Double Optional, max MAX Double Optional,
        zeroThreshold ZERO_THRESHOLD Double
    }
    BUCKETS(1) = buckets { offset OFFSET Sint32, bucketCounts BUCKET_COUNTS Packed(&Kind::Uint64) }
    SUMMARY_POINT(1) = summary_point {
        attributes ATTRIBUTES Many(&KEY_VALUE), startTimeUnixNano START Fixed64, timeUnixNano TIME Fixed64,
        count COUNT Fixed64, sum SUM Double, quantileValues QUANTILES Many(&QUANTILE), flags FLAGS Uint32
    }
    QUANTILE(1) = quantile { quantile QUANTILE Double, value VALUE Double }
    EXEMPLAR(1) = exemplar {
        filteredAttributes FILTERED_ATTRIBUTES Many(&KEY_VALUE), timeUnixNano TIME Fixed64,
        asDouble AS_DOUBLE Double Oneof, asInt AS_INT Sfixed64 Oneof, traceId TRACE_ID Id(16), spanId SPAN_ID Id(8)
    }
}

#[rustfmt::skip]
const SEVERITIES: &[&str] = &[
    "UNSPECIFIED", "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4", "INFO", "INFO2", "INFO3",
    "INFO4", "WARN", "WARN2", "WARN3", "WARN4", "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2", "FATAL3", "FATAL4",
];
const SPAN_KINDS: &[&str] = &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
const STATUS_CODES: &[&str] = &["UNSET", "OK", "ERROR"];
const TEMPORALITIES: &[&str] = &["UNSPECIFIED", "DELTA", "CUMULATIVE"];
