//! The symbolic names of numbers in each context.

use crate::otlp::schema::{Names, SEVERITIES, SPAN_KINDS, STATUS_CODES, TEMPORALITIES};

const TYPES: Names = ("METRIC_DATA_TYPE_", &["NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY"]);
const FLAGS: Names = ("FLAG_", &["NONE", "NO_RECORDED_VALUE"]);

/// The value of a symbol in a context.
pub(crate) fn value(context: &str, symbol: &str) -> Option<i64> {
    names(context).find(|(name, _)| name == symbol).map(|(_, value)| value)
}

/// All symbols of a context with their values.
pub(super) fn names(context: &str) -> impl Iterator<Item = (String, i64)> + use<> {
    let families: &[Names] = match context {
        "log" => &[SEVERITIES],
        "span" | "spanevent" => &[SPAN_KINDS, STATUS_CODES],
        "metric" => &[TEMPORALITIES, TYPES],
        "datapoint" => &[TEMPORALITIES, TYPES, FLAGS],
        _ => &[],
    };
    families
        .iter()
        .flat_map(|(prefix, names)| names.iter().zip(0..).map(move |(name, value)| (format!("{prefix}{name}"), value)))
}
