//! `service.telemetry`: the collector's own log, metrics and resource.

use super::section::Section;
use super::tree::{Node, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    pub logs: Logs,
    pub metrics: Metrics,
    /// Attributes by name; without a value, a default one is taken away.
    pub resource: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    pub level: LogLevel,
    pub encoding: Encoding,
    pub output_paths: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub level: MetricsLevel,
    /// Host and port of each Prometheus reader.
    pub readers: Vec<(String, u16)>,
    /// The user named the readers: a port that is taken is then an error.
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

const LOG_LEVELS: [(&str, LogLevel); 7] = [
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("dpanic", LogLevel::Error),
    ("panic", LogLevel::Error),
    ("fatal", LogLevel::Error),
];

const METRICS_LEVELS: [(&str, MetricsLevel); 4] = [
    ("None", MetricsLevel::None),
    ("Basic", MetricsLevel::Basic),
    ("Normal", MetricsLevel::Normal),
    ("Detailed", MetricsLevel::Detailed),
];

impl Default for Telemetry {
    fn default() -> Self {
        let logs = Logs { level: LogLevel::Info, encoding: Encoding::Console, output_paths: vec!["stderr".into()] };
        let readers = vec![("localhost".into(), 8888)];
        Self { logs, metrics: Metrics { level: MetricsLevel::Normal, readers, named: false }, resource: Vec::new() }
    }
}

impl Telemetry {
    pub(super) fn decode(section: &Section) -> Self {
        section.ignored(&["traces"]);
        Self {
            logs: logs(&section.subsection("logs")),
            metrics: metrics(&section.subsection("metrics")),
            resource: resource(&section.subsection("resource")),
        }
    }
}

fn logs(section: &Section) -> Logs {
    let encodings = [("console", Encoding::Console), ("json", Encoding::Json)];
    let decoded = Logs {
        level: section.choice_any_case("level", LogLevel::Info, &LOG_LEVELS),
        encoding: section.choice("encoding", Encoding::Console, &encodings),
        output_paths: section.texts("output_paths").unwrap_or_else(|| vec!["stderr".into()]),
    };
    section.ignored(&["development", "disable_caller", "disable_stacktrace", "disable_zap_resource", "sampling"]);
    section.ignored(&["error_output_paths", "initial_fields", "processors"]);
    decoded
}

fn metrics(section: &Section) -> Metrics {
    let level = section.choice_any_case("level", MetricsLevel::Normal, &METRICS_LEVELS);
    section.ignored(&["views"]);
    if section.has("address") {
        let help = "write readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]";
        section.problem_with_help("address", "this key of older collectors is gone", help);
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
    let Some(exporter) = section.section("pull").map(|pull| pull.subsection("exporter")) else {
        section.problem_with_help("pull", "a reader wants pull", "write pull: {exporter: {prometheus: {port: 8888}}}");
        return None;
    };
    let prometheus = exporter.section_or_default("prometheus", true)?;
    prometheus.ignored(&[
        "with_resource_constant_labels",
        "without_scope_info",
        "without_type_suffix",
        "without_units",
    ]);
    let host = prometheus.text_or("host", "localhost");
    let port = prometheus.integer("port", 8888, 0..=65535);
    Some((host, port as u16))
}

/// A list of `{name, value}` under `attributes`, or the older map of names to values.
fn resource(section: &Section) -> Vec<(String, Option<String>)> {
    section.ignored(&["schema_url", "detectors"]);
    if section.has("attributes") {
        let attribute = |item: &Section| {
            item.ignored(&["type"]);
            let value = item.node("value").and_then(plain);
            Some((item.text("name").or_else(|| item.missing("name"))?, value))
        };
        return section.sections("attributes").iter().flatten().filter_map(attribute).collect();
    }
    let entries = section.entries().iter().filter(|entry| !matches!(entry.key.as_str(), "schema_url" | "detectors"));
    entries.map(|entry| (entry.key.clone(), plain(&entry.node))).collect()
}

fn plain(node: &Node) -> Option<String> {
    match &node.value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        _ => node.as_text().map(str::to_owned),
    }
}
