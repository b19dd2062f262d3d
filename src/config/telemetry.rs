//! `service.telemetry`: the collector's own log and metrics.

use super::section::Section;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    pub logs: Logs,
    pub metrics: Metrics,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    pub level: LogLevel,
    pub encoding: Encoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub level: MetricsLevel,
    /// Host and port of each Prometheus reader.
    pub readers: Vec<(String, u16)>,
    /// Whether the user configured the readers. Then an occupied port is an error.
    pub named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Console,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricsLevel {
    None,
    Basic,
    Normal,
    Detailed,
}

/// The names that zap, the Go collector's logger, accepts.
const LOG_LEVELS: [(&str, LogLevel); 9] = [
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("warning", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("dpanic", LogLevel::Error),
    ("panic", LogLevel::Error),
    ("fatal", LogLevel::Error),
];

const ENCODINGS: [(&str, Encoding); 2] = [("console", Encoding::Console), ("json", Encoding::Json)];

const METRICS_LEVELS: [(&str, MetricsLevel); 4] = [
    ("None", MetricsLevel::None),
    ("Basic", MetricsLevel::Basic),
    ("Normal", MetricsLevel::Normal),
    ("Detailed", MetricsLevel::Detailed),
];

/// The maximum of metrics readers.
const READERS: usize = 16;

impl Default for Telemetry {
    fn default() -> Self {
        let readers = vec![("localhost".into(), 8888)];
        Self {
            logs: Logs { level: LogLevel::Info, encoding: Encoding::Console },
            metrics: Metrics { level: MetricsLevel::Normal, readers, named: false },
        }
    }
}

impl Telemetry {
    pub(super) fn decode(section: &Section) -> Self {
        section.ignored(&["traces", "resource"]);
        let logs = section.subsection("logs");
        logs.ignored(&[
            "development",
            "disable_caller",
            "disable_stacktrace",
            "disable_zap_resource",
            "sampling",
            "processors",
            "output_paths",
            "error_output_paths",
            "initial_fields",
        ]);
        Self {
            logs: Logs {
                level: match logs.whole("level") {
                    Some(..0) => LogLevel::Debug,
                    Some(0) => LogLevel::Info,
                    Some(1) => LogLevel::Warn,
                    Some(_) => LogLevel::Error,
                    None => logs.choice_in_any_case("level", LogLevel::Info, &LOG_LEVELS),
                },
                encoding: logs.choice("encoding", Encoding::Console, &ENCODINGS),
            },
            metrics: metrics(&section.subsection("metrics")),
        }
    }
}

fn metrics(section: &Section) -> Metrics {
    let level = match section.whole("level") {
        Some(..0) => MetricsLevel::None,
        Some(0) => MetricsLevel::Basic,
        Some(1) => MetricsLevel::Normal,
        Some(_) => MetricsLevel::Detailed,
        None => section.choice_in_any_case("level", MetricsLevel::Normal, &METRICS_LEVELS),
    };
    section.ignored(&["views"]);
    if section.has("address") {
        let help = "write readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]";
        section.problem_with_help("address", "this key of older collectors is gone", help);
    }
    let count = section.node("readers").map_or(0, |node| node.items().len());
    if count > READERS {
        section.problem("readers", format!("there are at most {READERS} readers, and these are {count}"));
        return Metrics { level, ..Telemetry::default().metrics };
    }
    let Some(sections) = section.sections("readers") else {
        return Metrics { level, ..Telemetry::default().metrics };
    };
    if sections.is_empty() && level != MetricsLevel::None {
        section.problem_with_help("readers", "metrics without a reader are lost", "add a reader, or set level: none");
    }
    Metrics { level, readers: sections.iter().filter_map(reader).collect(), named: true }
}

fn reader(section: &Section) -> Option<(String, u16)> {
    if section.has("periodic") {
        let help = "let a Prometheus receiver read them: {pull: {exporter: {prometheus: {port: 8888}}}}";
        section.problem_with_help("periodic", "pushing the collector's own metrics is not supported", help);
        return None;
    }
    let Some(pull) = section.section("pull") else {
        section.problem_with_help("pull", "a reader wants pull", "write pull: {exporter: {prometheus: {port: 8888}}}");
        return None;
    };
    let prometheus = pull.subsection("exporter").section_or_default("prometheus", true)?;
    prometheus.ignored(&[
        "with_resource_constant_labels",
        "without_scope_info",
        "without_type_suffix",
        "without_units",
    ]);
    Some((prometheus.text_or("host", "localhost"), prometheus.integer("port", 8888, 0..=65535) as u16))
}
