//! The readers and processors of `service.telemetry` that push, in the form of OpenTelemetry's declarative config.

use std::time::Duration;

use crate::config::section::Section;
use crate::config::tree::{Entry, Node, Place, Value};
use crate::otlp::Signal;

/// Where a part of the collector's own telemetry is pushed to, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    pub(crate) signal: Signal,
    /// For metrics, between two pushes; for the log, how long a record waits for others.
    pub(crate) interval: Duration,
    /// The time limit of a push.
    pub(crate) timeout: Duration,
    /// Log records that wait at most, and that leave together.
    pub(crate) most_waiting: usize,
    pub(crate) most_together: usize,
    /// OTLP over HTTP, or over gRPC.
    pub(crate) is_http: bool,
    /// The settings of an exporter for it, under the keys of a pipeline's exporter.
    pub(crate) exporter: Node,
    /// The path of the section they stand in.
    pub(crate) path: String,
}

impl PartialEq for Push {
    /// Whether both push the same way, wherever they are written.
    fn eq(&self, other: &Push) -> bool {
        let key = |push: &Push| {
            let limits = (push.most_waiting, push.most_together);
            (push.signal, push.interval, push.timeout, limits, push.is_http, push.exporter.without_places())
        };
        key(self) == key(other)
    }
}

/// Milliseconds in the declarative config are bare numbers.
fn milliseconds(section: &Section, key: &str, default: i64, least: i64) -> Duration {
    Duration::from_millis(section.integer(key, default, least..=i64::from(i32::MAX)).unsigned_abs())
}

/// A `periodic` reader of metrics.
pub(super) fn of_reader(reader: &Section) -> Option<Push> {
    reader.ignored(&["producers", "cardinality_limits"]);
    let periodic = reader.subsection("periodic");
    periodic.ignored(&["producers", "cardinality_limits"]);
    let interval = milliseconds(&periodic, "interval", 60_000, 10);
    let timeout = milliseconds(&periodic, "timeout", 30_000, 1);
    let push = exporter(&periodic, Signal::Metrics)?;
    Some(Push { interval, timeout, ..push })
}

/// A `batch` or `simple` processor of the log.
pub(super) fn of_processor(processor: &Section) -> Option<Push> {
    if processor.has("simple") {
        return exporter(&processor.subsection("simple"), Signal::Logs);
    }
    let Some(batch) = processor.section("batch") else {
        let help = "write batch: {exporter: {otlp: {protocol: http/protobuf, endpoint: …}}}";
        processor.problem_with_help("batch", "a processor wants batch or simple", help);
        return None;
    };
    let count = |key, default| batch.limited(key, default, 1..=10_000) as usize;
    let interval = milliseconds(&batch, "schedule_delay", 1000, 10);
    let timeout = milliseconds(&batch, "export_timeout", 30_000, 1);
    let (most_waiting, most_together) = (count("max_queue_size", 2048), count("max_export_batch_size", 512));
    let push = exporter(&batch, Signal::Logs)?;
    Some(Push { interval, timeout, most_waiting, most_together, ..push })
}

/// `exporter`, with the defaults of what stands around it.
fn exporter(around: &Section, signal: Signal) -> Option<Push> {
    let section = around.subsection("exporter");
    if section.has("console") {
        let help = "the log is on stderr already, and the metrics are on port 8888";
        section.problem_with_help(
            "console",
            "a console exporter of the collector's own telemetry is not supported",
            help,
        );
        return None;
    }
    let Some(otlp) = section.section("otlp") else {
        let help = "write otlp: {protocol: http/protobuf, endpoint: …}";
        section.problem_with_help("otlp", "an exporter wants otlp", help);
        return None;
    };
    let is_http = otlp.choice("protocol", true, &[("http/protobuf", true), ("grpc", false)]);
    if !otlp.says("protocol") {
        let help = "write protocol: http/protobuf, or grpc";
        otlp.problem_with_help("protocol", "it is required, and missing", help);
    }
    let is_cumulative = [("cumulative", true), ("delta", false), ("lowmemory", false)];
    if signal == Signal::Metrics && !otlp.choice("temporality_preference", true, &is_cumulative) {
        otlp.warning("temporality_preference", "sums are pushed as cumulative ones all the same");
    }
    otlp.ignored(&["default_histogram_aggregation"]);
    let settings = settings(&otlp, is_http, signal)?;
    Some(Push {
        signal,
        interval: Duration::ZERO,
        timeout: Duration::from_secs(30),
        most_waiting: 2048,
        most_together: 512,
        is_http,
        exporter: settings,
        path: otlp.path().to_owned(),
    })
}

/// The settings under the keys of a pipeline's exporter.
fn settings(otlp: &Section, is_http: bool, signal: Signal) -> Option<Node> {
    let node = |key: &str, value| Node::new(value, otlp.place(key));
    let entry = |key: &str, node: Node| Entry { key: key.to_owned(), key_place: node.place, node };
    let endpoint = otlp.url("endpoint").or_else(|| otlp.missing("endpoint"))?;
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", &endpoint));
    let has_path = rest.split_once('/').is_some_and(|(_, path)| !path.is_empty());
    let of_signal = format!("{}_endpoint", signal.name());
    // A path is the whole one; without it, the signal's own follows.
    let key = if is_http && has_path { of_signal.as_str() } else { "endpoint" };
    let insecure = otlp.boolean("insecure", false);
    let is_plaintext = scheme == "http" || scheme.is_empty() && insecure;
    let mut entries = Vec::new();
    let mut tls = vec![entry("insecure", node("insecure", Value::Bool(is_plaintext)))];
    for (key, own) in [("certificate", "ca_file"), ("client_certificate", "cert_file"), ("client_key", "key_file")] {
        if let Some(path) = otlp.text(key).filter(|path| !path.is_empty() && !is_plaintext) {
            tls.push(entry(own, node(key, Value::Text(path))));
        }
    }
    entries.push(entry("tls", Node::new(Value::Map(tls), Place::NOWHERE)));
    let compression = otlp.choice("compression", "none", &[("none", "none"), ("gzip", "gzip")]);
    entries.push(entry("compression", node("compression", Value::Text(compression.to_owned()))));
    let timeout = milliseconds(otlp, "timeout", 10_000, 0).as_millis();
    entries.push(entry("timeout", node("timeout", Value::Text(format!("{timeout}ms")))));
    let headers = otlp.headers("headers").into_iter();
    let headers = headers
        .map(|(name, value, place)| entry(&name, Node::new(Value::Text(value.expose().to_owned()), place)))
        .collect();
    entries.push(entry("headers", Node::new(Value::Map(headers), Place::NOWHERE)));
    entries.push(entry(key, node("endpoint", Value::Text(endpoint.clone()))));
    Some(Node::new(Value::Map(entries), otlp.place("endpoint")))
}
