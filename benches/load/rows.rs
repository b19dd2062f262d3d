//! What is measured: one entry a row, with the config that both collectors are given and what is asked of Misaki.
//!
//! A new row is a new entry. The goals are those of the design's table.

use crate::generate::{Encoding, FILTER_KEEPS, Protocol, Shape, Signal};

pub struct Row {
    pub id: &'static str,
    pub work: &'static str,
    pub measure: Measure,
    pub config: Config,
    pub must: Goal,
    pub aims: Goal,
}

#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// Millions of items delivered per CPU second of the collector.
    PerCpuSecond(Load),
    /// The same, and how much of it is left beside a `misaki tail` that wants nothing, and beside one that wants all.
    Tail(Load),
    /// Thousands of items acknowledged per second: where the disk decides, not the processor.
    PerSecond(Load),
    /// Milliseconds until 99 of 100 requests are answered.
    Answer(Load),
    /// Thousands of items delivered per second while a backlog goes out and more comes in.
    Drain(Load),
    /// MiB, the most it came to while a backlog grew.
    BacklogMemory(Load),
    /// MiB, with nothing to do.
    IdleMemory,
    /// MiB, the most it came to.
    LoadedMemory(Load),
    /// Milliseconds from nothing to the first record accepted.
    Start,
    /// MB of the binary.
    Size,
}

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub shape: Shape,
    pub in_flight: usize,
    /// The part of the items that the config lets through.
    pub keeps: f64,
    pub delivery: Delivery,
    /// Items a second, if the collector is not loaded to its limit.
    pub rate: Option<f64>,
    /// Connections, where it is not for the command line to say.
    pub clients: Option<usize>,
    /// What a `misaki tail` beside it asks for.
    pub viewer: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delivery {
    Sink,
    /// Printed to a pipe that the driver reads.
    Pipe,
    /// Shown to the driver, which scrapes each second: what is acknowledged is delivered, if no series is missing there.
    Scraped,
}

#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// That many times the Go collector's figure.
    Times(f64),
    /// At most this, in the row's unit.
    AtMost(f64),
    /// Shown, and not judged.
    None,
}

/// The Go collector's own YAML; ids with the settings in flow style.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub processors: &'static [(&'static str, &'static str)],
    /// What the Go collector is given in their place, where it has no such processor.
    pub there: Option<&'static [(&'static str, &'static str)]>,
    /// The one signal that the processors are for, where they do not take all.
    pub only: Option<Signal>,
    pub exporter: (&'static str, &'static str),
    /// The exporter of the other signals, where that one does not take all.
    pub others: Option<(&'static str, &'static str)>,
    pub extensions: &'static [(&'static str, &'static str)],
}

const GRPC_OUT: (&str, &str) =
    ("otlp_grpc", "{endpoint: '127.0.0.1:SINK_PORT', compression: none, tls: {insecure: true}}");
const GRPC_GZIP_OUT: (&str, &str) =
    ("otlp_grpc", "{endpoint: '127.0.0.1:SINK_PORT', compression: gzip, tls: {insecure: true}}");
const GRPC_DURABLE_OUT: (&str, &str) = (
    "otlp_grpc",
    "{endpoint: '127.0.0.1:SINK_PORT', compression: none, tls: {insecure: true}, sending_queue: {storage: file_storage, queue_size: 10000}}",
);
const GRPC_BACKLOG_OUT: (&str, &str) = (
    "otlp_grpc",
    "{endpoint: '127.0.0.1:SINK_PORT', compression: none, tls: {insecure: true}, retry_on_failure: {initial_interval: 100ms, max_interval: 1s, max_elapsed_time: 0}, sending_queue: {storage: file_storage, queue_size: 1000000}}",
);
const HTTP_OUT: (&str, &str) = ("otlp_http", "{endpoint: 'http://127.0.0.1:SINK_PORT', compression: none}");
const PROMETHEUS_OUT: (&str, &str) = ("prometheus", "{endpoint: '127.0.0.1:EXPOSED_PORT'}");
const DEBUG_OUT: (&str, &str) =
    ("debug", "{verbosity: detailed, use_internal_logger: false, sampling_initial: 100000000}");

const BATCH: (&str, &str) = ("batch", "{}");
const MEMORY_LIMITER: (&str, &str) = ("memory_limiter", "{check_interval: 1s, limit_mib: 1024}");
const FILTER: (&str, &str) = (
    "filter",
    r#"{error_mode: ignore, logs: {log_record: ['severity_number < SEVERITY_NUMBER_INFO', 'attributes["http.route"] == "/healthz"']}}"#,
);
const ATTRIBUTES: (&str, &str) = (
    "attributes",
    "{actions: [{key: client.address, action: delete}, {key: deployment.environment, value: production, action: upsert}]}",
);

/// Two for spans and for points, of which neither drops any: their routes are drawn, so what they drop could not be counted.
const FILTER_SPANS: (&str, &str) = (
    "filter",
    r#"{error_mode: ignore, traces: {span: ['kind == SPAN_KIND_CLIENT', 'attributes["http.route"] == "/nowhere"']}}"#,
);
const FILTER_POINTS: (&str, &str) = (
    "filter",
    r#"{error_mode: ignore, metrics: {datapoint: ['metric.name == "no.such.metric"', 'attributes["http.route"] == "/nowhere"']}}"#,
);
const FILTER_NOTHING: (&str, &str) = (
    "filter",
    r#"{error_mode: ignore, logs: {log_record: ['severity_number > SEVERITY_NUMBER_FATAL4', 'attributes["http.route"] == "/nowhere"']}}"#,
);
const TRANSFORM: (&str, &str) = (
    "transform",
    r#"{error_mode: ignore, log_statements: ['set(log.attributes["deployment.environment"], "production")', 'delete_key(log.attributes, "client.address")', 'set(log.severity_text, "WARNING") where log.severity_number == SEVERITY_NUMBER_WARN']}"#,
);
const TRACE_CONTEXT: (&str, &str) = ("trace_context", "{}");
const TRACE_CONTEXT_THERE: (&str, &str) = (
    "transform",
    r#"{error_mode: ignore, log_statements: ['set(log.trace_id.string, log.attributes["trace_id"]) where log.trace_id.string == "" and log.attributes["trace_id"] != nil']}"#,
);
const TAIL: (&str, &str) = (
    "tail_sampling",
    "{decision_wait: 1s, num_traces: 200000, policies: [{name: errors, type: status_code, status_code: {status_codes: [ERROR]}}, {name: slow, type: latency, latency: {threshold_ms: 80}}, {name: all, type: always_sample}]}",
);

/// Room for more than any backlog here; where `max_size` is not given, each has a bound of its own.
const STORAGE: (&str, &str) =
    ("file_storage", "{directory: WORK_DIR/queue, create_directory: true, fsync: true, max_size: 4294967296}");

const BATCHED: Config =
    Config { processors: &[BATCH], there: None, only: None, exporter: GRPC_OUT, others: None, extensions: &[] };

const LOGS: Load = Load {
    shape: Shape {
        signal: Signal::Logs,
        items: 100,
        protocol: Protocol::Grpc,
        encoding: Encoding::Protobuf,
        gzip: false,
        distinct: 64,
        loose_ids: false,
    },
    in_flight: 4,
    keeps: 1.0,
    delivery: Delivery::Sink,
    rate: None,
    clients: None,
    viewer: None,
};
const SPANS: Load = Load { shape: Shape { signal: Signal::Traces, ..LOGS.shape }, ..LOGS };
const POINTS: Load = Load { shape: Shape { signal: Signal::Metrics, ..LOGS.shape }, ..LOGS };
/// 10,000 series.
const SERIES: Load = Load { shape: Shape { distinct: 100, ..POINTS.shape }, delivery: Delivery::Scraped, ..POINTS };
const EXPOSED: Config = Config {
    processors: &[],
    only: Some(Signal::Metrics),
    exporter: PROMETHEUS_OUT,
    others: Some(("nop", "")),
    ..BATCHED
};
const LOGS_1: Load = Load { shape: Shape { items: 1, ..LOGS.shape }, ..LOGS };
const LOGS_10: Load = Load { shape: Shape { items: 10, ..LOGS.shape }, ..LOGS };
const LOGS_1000: Load = Load { shape: Shape { items: 1000, ..LOGS.shape }, ..LOGS };
const HTTP: Load = Load { shape: Shape { protocol: Protocol::Http, ..LOGS.shape }, ..LOGS };
const DURABLE: Config = Config { processors: &[], exporter: GRPC_DURABLE_OUT, extensions: &[STORAGE], ..BATCHED };
const BACKLOG: Config = Config { exporter: GRPC_BACKLOG_OUT, ..DURABLE };
const ONE_BY_ONE: Load = Load { in_flight: 1, ..LOGS };

const JSON: Load = Load { shape: Shape { encoding: Encoding::Json, ..HTTP.shape }, ..LOGS };
const GZIP: Load = Load { shape: Shape { gzip: true, ..LOGS.shape }, ..LOGS };

pub const ROWS: &[Row] = &[
    Row {
        id: "grpc-logs",
        work: "logs, gRPC → batch → gRPC",
        measure: Measure::PerCpuSecond(LOGS),
        config: BATCHED,
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "grpc-spans",
        work: "spans, gRPC → batch → gRPC",
        measure: Measure::PerCpuSecond(SPANS),
        config: BATCHED,
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "grpc-points",
        work: "metric points, gRPC → batch → gRPC",
        measure: Measure::PerCpuSecond(POINTS),
        config: BATCHED,
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "grpc-logs-1",
        work: "logs, gRPC → batch → gRPC, 1 a request",
        measure: Measure::PerCpuSecond(LOGS_1),
        config: BATCHED,
        must: Goal::Times(3.0),
        aims: Goal::Times(4.0),
    },
    Row {
        id: "grpc-logs-10",
        work: "logs, gRPC → batch → gRPC, 10 a request",
        measure: Measure::PerCpuSecond(LOGS_10),
        config: BATCHED,
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "grpc-logs-1000",
        work: "logs, gRPC → batch → gRPC, 1000 a request",
        measure: Measure::PerCpuSecond(LOGS_1000),
        config: BATCHED,
        must: Goal::Times(7.0),
        aims: Goal::Times(12.0),
    },
    Row {
        id: "http-logs",
        work: "logs, HTTP protobuf → batch → HTTP",
        measure: Measure::PerCpuSecond(HTTP),
        config: Config { exporter: HTTP_OUT, ..BATCHED },
        must: Goal::Times(9.0),
        aims: Goal::Times(15.0),
    },
    Row {
        id: "json-logs",
        work: "logs, OTLP/JSON → batch → gRPC",
        measure: Measure::PerCpuSecond(JSON),
        config: BATCHED,
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "gzip-logs",
        work: "logs, gRPC, gzip in → batch → gzip out",
        measure: Measure::PerCpuSecond(GZIP),
        config: Config { exporter: GRPC_GZIP_OUT, ..BATCHED },
        must: Goal::Times(3.0),
        aims: Goal::Times(4.0),
    },
    Row {
        id: "filter-logs",
        work: "logs, memory_limiter, filter (two conditions), batch",
        measure: Measure::PerCpuSecond(Load { keeps: FILTER_KEEPS, ..LOGS }),
        config: Config { processors: &[MEMORY_LIMITER, FILTER, BATCH], ..BATCHED },
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "attributes-logs",
        work: "logs, attributes (delete one, upsert one), batch",
        measure: Measure::PerCpuSecond(LOGS),
        config: Config { processors: &[ATTRIBUTES, BATCH], ..BATCHED },
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "filter-spans",
        work: "spans, memory_limiter, filter (two conditions), batch",
        measure: Measure::PerCpuSecond(SPANS),
        config: Config { processors: &[MEMORY_LIMITER, FILTER_SPANS, BATCH], ..BATCHED },
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "filter-points",
        work: "metric points, memory_limiter, filter (two conditions), batch",
        measure: Measure::PerCpuSecond(POINTS),
        config: Config { processors: &[MEMORY_LIMITER, FILTER_POINTS, BATCH], ..BATCHED },
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "filter-nothing",
        work: "logs, filter that drops nothing (two conditions), batch",
        measure: Measure::PerCpuSecond(LOGS),
        config: Config { processors: &[FILTER_NOTHING, BATCH], ..BATCHED },
        must: Goal::Times(7.0),
        aims: Goal::Times(10.0),
    },
    Row {
        id: "attributes-spans",
        work: "spans, attributes (delete one, upsert one), batch",
        measure: Measure::PerCpuSecond(SPANS),
        config: Config { processors: &[ATTRIBUTES, BATCH], ..BATCHED },
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "attributes-points",
        work: "metric points, attributes (delete one, upsert one), batch",
        measure: Measure::PerCpuSecond(POINTS),
        config: Config { processors: &[ATTRIBUTES, BATCH], ..BATCHED },
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "transform-logs",
        work: "logs, transform (three statements), batch",
        measure: Measure::PerCpuSecond(LOGS),
        config: Config { processors: &[TRANSFORM, BATCH], ..BATCHED },
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "trace-context-logs",
        work: "logs with their id in an attribute, trace_context (there: transform), batch",
        measure: Measure::PerCpuSecond(Load { shape: Shape { loose_ids: true, ..LOGS.shape }, ..LOGS }),
        config: Config {
            processors: &[TRACE_CONTEXT, BATCH],
            there: Some(&[TRACE_CONTEXT_THERE, BATCH]),
            only: Some(Signal::Logs),
            ..BATCHED
        },
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "tail-spans",
        work: "100 k spans/s, tail_sampling (three policies, 1 s), batch",
        measure: Measure::PerCpuSecond(Load {
            shape: Shape { distinct: 3000, ..SPANS.shape },
            rate: Some(100_000.0),
            ..SPANS
        }),
        config: Config { processors: &[TAIL, BATCH], only: Some(Signal::Traces), ..BATCHED },
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "debug-logs",
        work: "logs, debug, detailed, through a pipe that is read",
        measure: Measure::PerCpuSecond(Load { delivery: Delivery::Pipe, ..LOGS }),
        config: Config { processors: &[], exporter: DEBUG_OUT, ..BATCHED },
        must: Goal::Times(8.0),
        aims: Goal::Times(12.0),
    },
    Row {
        id: "prometheus-points",
        work: "metric points of 10,000 series, gRPC → prometheus, scraped each second",
        measure: Measure::PerCpuSecond(SERIES),
        config: EXPOSED,
        must: Goal::Times(5.0),
        aims: Goal::Times(8.0),
    },
    Row {
        id: "prometheus-memory",
        work: "resident memory, 10,000 series, prometheus, scraped each second, at most",
        measure: Measure::LoadedMemory(SERIES),
        config: EXPOSED,
        must: Goal::Times(3.0),
        aims: Goal::Times(5.0),
    },
    Row {
        id: "durable-logs",
        work: "logs, durable queue, fsync before the answer, 64 in flight",
        measure: Measure::PerSecond(Load { in_flight: 16, ..LOGS }),
        config: Config {
            processors: &[],
            exporter: GRPC_DURABLE_OUT,
            extensions: &[("file_storage", "{directory: WORK_DIR/queue, create_directory: true, fsync: true}")],
            ..BATCHED
        },
        must: Goal::Times(8.0),
        aims: Goal::Times(15.0),
    },
    Row {
        id: "durable-p99-1",
        work: "durable queue, fsync: 99 of 100 answers within, 1 client",
        measure: Measure::Answer(Load { clients: Some(1), ..ONE_BY_ONE }),
        config: DURABLE,
        must: Goal::None,
        aims: Goal::None,
    },
    Row {
        id: "durable-p99-8",
        work: "durable queue, fsync: 99 of 100 answers within, 8 clients",
        measure: Measure::Answer(Load { clients: Some(8), ..ONE_BY_ONE }),
        config: DURABLE,
        must: Goal::None,
        aims: Goal::None,
    },
    Row {
        id: "durable-p99-64",
        work: "durable queue, fsync: 99 of 100 answers within, 64 clients",
        measure: Measure::Answer(Load { clients: Some(64), ..ONE_BY_ONE }),
        config: DURABLE,
        must: Goal::None,
        aims: Goal::None,
    },
    Row {
        id: "backlog-drain",
        work: "durable queue, a backlog of 1 GiB goes out while 20 k/s come in",
        measure: Measure::Drain(Load { rate: Some(20_000.0), in_flight: 16, ..LOGS }),
        config: BACKLOG,
        must: Goal::None,
        aims: Goal::None,
    },
    Row {
        id: "backlog-memory",
        work: "durable queue, resident memory while a backlog of 1 GiB grows, at most",
        measure: Measure::BacklogMemory(Load { in_flight: 16, ..LOGS }),
        config: BACKLOG,
        must: Goal::None,
        aims: Goal::None,
    },
    Row {
        id: "tail",
        work: "logs, gRPC → batch → gRPC, with `misaki tail` beside it",
        measure: Measure::Tail(LOGS),
        config: BATCHED,
        must: Goal::None,
        aims: Goal::None,
    },
    Row {
        id: "memory-idle",
        work: "resident memory, idle",
        measure: Measure::IdleMemory,
        config: BATCHED,
        must: Goal::AtMost(9.0),
        aims: Goal::AtMost(5.0),
    },
    Row {
        id: "memory-loaded",
        work: "resident memory, logs, gRPC → batch → gRPC, at most",
        measure: Measure::LoadedMemory(LOGS),
        config: BATCHED,
        must: Goal::AtMost(32.0),
        aims: Goal::AtMost(20.0),
    },
    Row {
        id: "start",
        work: "start until the first record is accepted",
        measure: Measure::Start,
        config: BATCHED,
        must: Goal::AtMost(10.0),
        aims: Goal::AtMost(5.0),
    },
    Row {
        id: "size",
        work: "binary, stripped",
        measure: Measure::Size,
        config: BATCHED,
        must: Goal::AtMost(11.0),
        aims: Goal::AtMost(6.0),
    },
];

impl Row {
    /// By its whole name, or by a part of it that is no other row's name.
    pub fn is_meant_by(&self, name: &str) -> bool {
        self.id == name || (self.id.contains(name) && ROWS.iter().all(|row| row.id != name))
    }

    /// The first component that the row needs and that `components`, what `misaki components` prints, does not list.
    pub fn missing_in(&self, components: &str) -> Option<&'static str> {
        let mut needed = self.config.processors.iter().chain(self.config.extensions).map(|(name, _)| *name);
        needed.find(|name| !components.lines().any(|line| line.trim() == format!("- name: {name}")))
    }
}

impl Config {
    /// The whole file. Internal metrics are off and the log is at `warn`, for both collectors.
    pub fn text(&self, is_misaki: bool) -> String {
        let processors = self.there.filter(|_| !is_misaki).unwrap_or(self.processors);
        let section = |name: &str, entries: &[(&str, &str)]| match entries {
            [] => String::new(),
            _ => {
                format!("{name}:\n{}", entries.iter().map(|(id, body)| format!("  {id}: {body}\n")).collect::<String>())
            }
        };
        let ids = |entries: &[(&'static str, &str)]| entries.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ");
        let pipeline = |signal| {
            let is_meant = self.only.is_none_or(|only| only == signal);
            let processors = ids(if is_meant { processors } else { &[] });
            let exporter = self.others.filter(|_| !is_meant).unwrap_or(self.exporter).0;
            format!("{{receivers: [otlp], processors: [{processors}], exporters: [{exporter}]}}")
        };
        let [traces, metrics, logs] = [Signal::Traces, Signal::Metrics, Signal::Logs].map(pipeline);
        [
            "receivers:\n  otlp: {protocols: {grpc: {endpoint: '127.0.0.1:GRPC_PORT'}, http: {endpoint: '127.0.0.1:HTTP_PORT'}}}\n",
            &section("processors", processors),
            &section("exporters", &[Some(self.exporter), self.others].into_iter().flatten().collect::<Vec<_>>()),
            &section("extensions", self.extensions),
            "service:\n  telemetry: {metrics: {level: none}, logs: {level: warn}}\n",
            &format!("  extensions: [{}]\n", ids(self.extensions)),
            &format!("  pipelines:\n    traces: {traces}\n    metrics: {metrics}\n    logs: {logs}\n"),
        ]
        .concat()
    }
}

impl Measure {
    /// What the Go collector has not.
    pub fn is_ours_alone(&self) -> bool {
        matches!(self, Measure::Tail(_))
    }

    pub fn unit(&self) -> &'static str {
        match self {
            Measure::PerCpuSecond(_) | Measure::Tail(_) => "M/CPU-s",
            Measure::PerSecond(_) | Measure::Drain(_) => "k/s",
            Measure::IdleMemory | Measure::LoadedMemory(_) | Measure::BacklogMemory(_) => "MiB",
            Measure::Answer(_) | Measure::Start => "ms",
            Measure::Size => "MB",
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Goal::Times(times) => write!(f, "{times}×"),
            Goal::AtMost(limit) => write!(f, "≤ {limit}"),
            Goal::None => write!(f, "–"),
        }
    }
}
