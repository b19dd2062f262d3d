//! `service.telemetry`: the collector's own log and metrics.

mod push;

use super::emit;
use super::section::Section;
use super::tree::{Node, Value};

pub(crate) use push::Push;

#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    pub logs: Logs,
    pub metrics: Metrics,
    /// Where the metrics and the log are pushed to.
    pub(crate) pushes: Vec<Push>,
    /// Attributes of the collector itself. `None` removes a default one.
    pub(crate) resource: Vec<(String, Option<String>)>,
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
            pushes: Vec::new(),
            resource: Vec::new(),
        }
    }
}

impl Telemetry {
    pub(super) fn decode(section: &Section) -> Self {
        section.ignored(&["traces"]);
        let mut pushes = Vec::new();
        let logs = section.subsection("logs");
        logs.ignored(&[
            "development",
            "disable_caller",
            "disable_stacktrace",
            "disable_zap_resource",
            "sampling",
            "output_paths",
            "error_output_paths",
            "initial_fields",
        ]);
        for processor in bounded(&logs, "processors").unwrap_or_default() {
            pushes.extend(push::of_processor(&processor));
        }
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
            metrics: metrics(&section.subsection("metrics"), &mut pushes),
            pushes,
            resource: resource(section),
        }
    }
}

/// The sections of a list, which has at most [`READERS`] items.
fn bounded<'a>(section: &Section<'a>, key: &str) -> Option<Vec<Section<'a>>> {
    let count = section.node(key).map_or(0, |node| node.items().len());
    if count > READERS {
        section.problem(key, format!("there are at most {READERS} {key}, and these are {count}"));
        return None;
    }
    section.sections(key)
}

/// `resource`: a map from names to values, or the list `attributes` of the declarative form.
fn resource(section: &Section) -> Vec<(String, Option<String>)> {
    let resource = section.subsection("resource");
    if !resource.has("attributes") {
        return resource.entries().iter().filter_map(|entry| attribute(&resource, &entry.key, &entry.node)).collect();
    }
    resource.ignored(&["schema_url", "detectors", "attributes_list"]);
    let named = |item: &Section| {
        item.ignored(&["type"]);
        let name = item.text("name").or_else(|| item.missing("name"))?;
        let (_, value) = attribute(item, "value", item.node("value")?)?;
        Some((name, value))
    };
    resource.sections("attributes").unwrap_or_default().iter().filter_map(named).collect()
}

/// All values are texts, as in the Go collector.
fn attribute(section: &Section, key: &str, node: &Node) -> Option<(String, Option<String>)> {
    let value = match &node.value {
        Value::List(_) | Value::Map(_) => {
            section.problem_at(node.place, key, "an attribute of the resource is a text", None);
            return None;
        }
        Value::Null => node.as_text().map(str::to_owned),
        value => Some(node.as_text().map_or_else(|| emit::scalar(value), str::to_owned)),
    };
    section.note(key, value.clone().map_or(Value::Null, Value::Text));
    Some((key.to_owned(), value))
}

fn metrics(section: &Section, pushes: &mut Vec<Push>) -> Metrics {
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
    let Some(sections) = bounded(section, "readers") else {
        return Metrics { level, ..Telemetry::default().metrics };
    };
    if sections.is_empty() && level != MetricsLevel::None {
        section.problem_with_help("readers", "metrics without a reader are lost", "add a reader, or set level: none");
    }
    let mut readers = Vec::new();
    for section in &sections {
        if section.has("periodic") {
            pushes.extend(push::of_reader(section).filter(|_| level != MetricsLevel::None));
        } else {
            readers.extend(reader(section));
        }
    }
    Metrics { level, readers, named: true }
}

fn reader(section: &Section) -> Option<(String, u16)> {
    let Some(pull) = section.section("pull") else {
        let help = "write pull: {exporter: {prometheus: {port: 8888}}}";
        section.problem_with_help("pull", "a reader wants pull or periodic", help);
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
