//! The field numbers of OTLP (opentelemetry-proto 1.x), one module a message, named as in the `.proto` files.

macro_rules! messages {
    ($($message:ident { $($field:ident = $number:literal),* $(,)? })*) => {
        $(pub mod $message {
            $(pub const $field: u32 = $number;)*
            /// All of them, a bit for each.
            pub const KNOWN: u32 = $(1 << $number)|*;
        })*
    };
}

/// `ExportLogsServiceRequest.resource_logs`, and the same for metrics and traces: the only field of a request.
pub const REQUEST_RESOURCES: u32 = request::RESOURCES;

messages! {
    request { RESOURCES = 1 }
    // ResourceLogs, ResourceMetrics and ResourceSpans share their shape, and so do the three Scope… messages.
    resource_group { RESOURCE = 1, SCOPES = 2, SCHEMA_URL = 3 }
    scope_group { SCOPE = 1, RECORDS = 2, SCHEMA_URL = 3 }
    resource { ATTRIBUTES = 1, DROPPED_ATTRIBUTES_COUNT = 2, ENTITY_REFS = 3 }
    entity_ref { SCHEMA_URL = 1, TYPE = 2, ID_KEYS = 3, DESCRIPTION_KEYS = 4 }
    scope { NAME = 1, VERSION = 2, ATTRIBUTES = 3, DROPPED_ATTRIBUTES_COUNT = 4 }
    key_value { KEY = 1, VALUE = 2 }
    any_value { STRING = 1, BOOL = 2, INT = 3, DOUBLE = 4, ARRAY = 5, KVLIST = 6, BYTES = 7 }
    // ArrayValue.values and KeyValueList.values
    list { VALUES = 1 }
    log_record {
        TIME = 1, SEVERITY_NUMBER = 2, SEVERITY_TEXT = 3, BODY = 5, ATTRIBUTES = 6, DROPPED_ATTRIBUTES_COUNT = 7,
        FLAGS = 8, TRACE_ID = 9, SPAN_ID = 10, OBSERVED_TIME = 11, EVENT_NAME = 12
    }
    span {
        TRACE_ID = 1, SPAN_ID = 2, TRACE_STATE = 3, PARENT_SPAN_ID = 4, NAME = 5, KIND = 6, START = 7, END = 8,
        ATTRIBUTES = 9, DROPPED_ATTRIBUTES_COUNT = 10, EVENTS = 11, DROPPED_EVENTS_COUNT = 12, LINKS = 13,
        DROPPED_LINKS_COUNT = 14, STATUS = 15, FLAGS = 16
    }
    event { TIME = 1, NAME = 2, ATTRIBUTES = 3, DROPPED_ATTRIBUTES_COUNT = 4 }
    link { TRACE_ID = 1, SPAN_ID = 2, TRACE_STATE = 3, ATTRIBUTES = 4, DROPPED_ATTRIBUTES_COUNT = 5, FLAGS = 6 }
    status { MESSAGE = 2, CODE = 3 }
    metric {
        NAME = 1, DESCRIPTION = 2, UNIT = 3, GAUGE = 5, SUM = 7, HISTOGRAM = 9, EXPONENTIAL_HISTOGRAM = 10,
        SUMMARY = 11, METADATA = 12
    }
    // Gauge, Sum, Histogram, ExponentialHistogram and Summary
    metric_data { POINTS = 1, AGGREGATION_TEMPORALITY = 2, IS_MONOTONIC = 3 }
    number_point { START = 2, TIME = 3, AS_DOUBLE = 4, EXEMPLARS = 5, AS_INT = 6, ATTRIBUTES = 7, FLAGS = 8 }
    histogram_point {
        START = 2, TIME = 3, COUNT = 4, SUM = 5, BUCKET_COUNTS = 6, EXPLICIT_BOUNDS = 7, EXEMPLARS = 8,
        ATTRIBUTES = 9, FLAGS = 10, MIN = 11, MAX = 12
    }
    exponential_point {
        ATTRIBUTES = 1, START = 2, TIME = 3, COUNT = 4, SUM = 5, SCALE = 6, ZERO_COUNT = 7, POSITIVE = 8,
        NEGATIVE = 9, FLAGS = 10, EXEMPLARS = 11, MIN = 12, MAX = 13, ZERO_THRESHOLD = 14
    }
    buckets { OFFSET = 1, BUCKET_COUNTS = 2 }
    summary_point { START = 2, TIME = 3, COUNT = 4, SUM = 5, QUANTILES = 6, ATTRIBUTES = 7, FLAGS = 8 }
    quantile { QUANTILE = 1, VALUE = 2 }
    exemplar { TIME = 2, AS_DOUBLE = 3, SPAN_ID = 4, TRACE_ID = 5, AS_INT = 6, FILTERED_ATTRIBUTES = 7 }
}
