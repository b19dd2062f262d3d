//! The names for numbers that the contexts know (facts 6.4).

/// The beginning that some names share, and how each goes on, in the order of their numbers.
type Family = (&'static str, &'static [&'static str]);

const TEMPORALITIES: Family = ("AGGREGATION_TEMPORALITY_", &["UNSPECIFIED", "DELTA", "CUMULATIVE"]);
const TYPES: Family = ("METRIC_DATA_TYPE_", &["NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY"]);

/// What a symbol stands for in a context.
pub fn value(context: &str, symbol: &str) -> Option<i64> {
    names(context).find(|(name, _)| name == symbol).map(|(_, value)| value)
}

/// All symbols of a context with their values.
pub fn names(context: &str) -> impl Iterator<Item = (String, i64)> + use<> {
    let families: &[Family] = match context {
        "log" => &[("SEVERITY_NUMBER_", &["UNSPECIFIED"])],
        "span" | "spanevent" => &[
            ("SPAN_KIND_", &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]),
            ("STATUS_CODE_", &["UNSET", "OK", "ERROR"]),
        ],
        "metric" => &[TEMPORALITIES, TYPES],
        "datapoint" => &[TEMPORALITIES, TYPES, ("FLAG_", &["NONE", "NO_RECORDED_VALUE"])],
        _ => &[],
    };
    let is_log = context == "log";
    let plain = families
        .iter()
        .flat_map(|(prefix, names)| names.iter().zip(0..).map(move |(name, value)| (format!("{prefix}{name}"), value)));
    const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let levels =
        LEVELS.iter().flat_map(|level| ["", "2", "3", "4"].map(|step| format!("SEVERITY_NUMBER_{level}{step}")));
    plain.chain(levels.zip(1..).filter(move |_| is_log))
}
