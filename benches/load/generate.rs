//! The load: requests built and encoded before the clock starts, so that sending one costs the driver next to nothing.
//!
//! Many different requests stand ready and are sent in turn: no cache, string table or compressor on the other side gets to
//! see the same bytes over and over. Every record carries an id of its own.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;
use serde_json::Value as Json;
use std::io::Write;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    Logs,
    Traces,
    Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    Protobuf,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    Grpc,
    Http,
}

/// What one client sends: everything but how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub signal: Signal,
    pub items: usize,
    pub protocol: Protocol,
    pub encoding: Encoding,
    pub gzip: bool,
    /// At least so many different requests.
    pub distinct: usize,
    /// The trace id of a log stands in an attribute, as a program writes it that logs without its context.
    pub loose_ids: bool,
}

/// One request, ready to be written.
pub struct Template {
    pub items: u64,
    /// gRPC: the message with its prefix, cut into DATA frames. HTTP: one piece, headers and all.
    pub pieces: Vec<Bytes>,
}

/// What grpc-go, and with it most senders, puts into a DATA frame whatever the receiver allows.
const DATA_FRAME: usize = 16 * 1024;
/// In every ten log records, the filter row drops one for its severity and one for its route.
pub const FILTER_KEEPS: f64 = 0.8;

impl Signal {
    pub fn grpc_path(self) -> &'static str {
        match self {
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    pub fn http_path(self) -> &'static str {
        match self {
            Signal::Logs => "/v1/logs",
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
        }
    }

    pub fn of_path(path: &str) -> Option<Self> {
        [Signal::Logs, Signal::Traces, Signal::Metrics]
            .into_iter()
            .find(|signal| path == signal.grpc_path() || path == signal.http_path())
    }
}

/// Many different requests of one shape.
pub fn templates(shape: &Shape) -> Vec<Template> {
    let mut random = Random(0x6d69_7361_6b69);
    let count = (4096 / shape.items).clamp(64, 1024).max(shape.distinct);
    (0..count)
        .map(|index| {
            let body = body(shape, index, &mut random);
            let pieces = match shape.protocol {
                Protocol::Grpc => grpc_frames(&body, shape.gzip),
                Protocol::Http => vec![http_request(shape, &body)],
            };
            Template { items: shape.items as u64, pieces }
        })
        .collect()
}

/// One log record over HTTP: what the driver knocks with until the collector accepts it.
pub fn knock() -> Bytes {
    let (signal, protocol, encoding) = (Signal::Logs, Protocol::Http, Encoding::Protobuf);
    let shape = Shape { signal, items: 1, protocol, encoding, gzip: false, distinct: 1, loose_ids: false };
    // The second of every ten records is one that the filter row keeps.
    let logs = logs(1, &mut Random(1), 1);
    http_request(&shape, &logs.encode_to_vec())
}

fn body(shape: &Shape, index: usize, random: &mut Random) -> Vec<u8> {
    let first = index * shape.items;
    let plain = match shape.signal {
        Signal::Logs => {
            let mut logs = logs(shape.items, random, first);
            if shape.loose_ids {
                let scopes = logs.resource_logs.iter_mut().flat_map(|group| &mut group.scope_logs);
                for record in scopes.flat_map(|scope| &mut scope.log_records) {
                    let id: String = record.trace_id.drain(..).map(|byte| format!("{byte:02x}")).collect();
                    record.attributes.push(attribute("trace_id", id));
                    record.span_id.clear();
                }
            }
            encoded(shape.encoding, &logs)
        }
        Signal::Traces => encoded(shape.encoding, &spans(shape.items, random, first)),
        Signal::Metrics => encoded(shape.encoding, &points(shape.items, random, first)),
    };
    if shape.gzip { gzip(&plain) } else { plain }
}

fn encoded(encoding: Encoding, request: &(impl Message + serde::Serialize)) -> Vec<u8> {
    if encoding == Encoding::Protobuf {
        return request.encode_to_vec();
    }
    let mut json = serde_json::to_value(request).expect("requests are JSON");
    prune(&mut json);
    json.to_string().into_bytes()
}

/// At level 6, as SDKs do.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("a Vec takes everything")
}

fn grpc_frames(body: &[u8], compressed: bool) -> Vec<Bytes> {
    let mut message = vec![u8::from(compressed)];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes());
    message.extend_from_slice(body);
    let message = Bytes::from(message);
    (0..message.len())
        .step_by(DATA_FRAME)
        .map(|start| message.slice(start..message.len().min(start + DATA_FRAME)))
        .collect()
}

fn http_request(shape: &Shape, body: &[u8]) -> Bytes {
    let kind = if shape.encoding == Encoding::Json { "application/json" } else { "application/x-protobuf" };
    let encoding = if shape.gzip { "content-encoding: gzip\r\n" } else { "" };
    let mut request = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{encoding}content-length: {}\r\n\r\n",
        shape.signal.http_path(),
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request.into()
}

/// Leaves out what an SDK leaves out: nulls, empty lists, empty strings and zeros.
fn prune(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| match value {
                Json::Null => false,
                Json::Array(values) => !values.is_empty(),
                Json::String(text) => !text.is_empty(),
                Json::Number(number) => number.as_u64() != Some(0),
                _ => true,
            });
        }
        Json::Array(values) => values.iter_mut().for_each(prune),
        _ => {}
    }
}

const ROUTES: [&str; 5] =
    ["/healthz", "/cart", "/cart/{user}/checkout", "/products/{product}", "/products/{product}/reviews"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const START: u64 = 1_760_000_000_000_000_000;

const SPANS_A_TRACE: usize = 10;

/// About 346 bytes and 8 attributes a record.
fn logs(items: usize, random: &mut Random, first: usize) -> ExportLogsServiceRequest {
    let record = |number: usize, random: &mut Random| {
        let time = START + number as u64 * 1_000_003;
        let (severity_number, severity_text) = match number % 10 {
            0 => (5, "DEBUG"),
            3 => (17, "ERROR"),
            6 => (13, "WARN"),
            _ => (9, "INFO"),
        };
        let route = if number % 10 == 5 { ROUTES[0] } else { ROUTES[1 + random.below(4)] };
        let took = random.below(90_000);
        LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: time + 40_000,
            severity_number,
            severity_text: severity_text.into(),
            body: text(format!(
                "order {} for user {} was processed in {took} us",
                random.below(900_000),
                random.below(5_000)
            )),
            attributes: vec![
                attribute("http.request.method", METHODS[random.below(4)]),
                attribute("http.route", route),
                number_attribute("http.response.status_code", [200, 201, 404, 500][random.below(4)]),
                attribute("client.address", format!("10.1.{}.{}", random.below(256), random.below(256))),
                attribute("user.id", format!("u-{:05}", random.below(5_000))),
                attribute("event.id", format!("{number:012x}")),
                number_attribute("duration_us", took as i64),
                number_attribute("thread.id", random.below(64) as i64),
            ],
            trace_id: random.bytes(16),
            span_id: random.bytes(8),
            flags: 1,
            ..LogRecord::default()
        }
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(random),
            scope_logs: vec![ScopeLogs {
                scope: scope(),
                log_records: (first..first + items).map(|number| record(number, random)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn spans(items: usize, random: &mut Random, first: usize) -> ExportTraceServiceRequest {
    let mut trace = random.bytes(16);
    let mut span = |number: usize, random: &mut Random| {
        let start = START + number as u64 * 1_000_003;
        let took = random.below(90_000) as u64 * 1000;
        let event = span::Event {
            time_unix_nano: start + took / 2,
            name: "cache.miss".into(),
            attributes: vec![attribute("cache.key", format!("product:{}", random.below(5_000)))],
            dropped_attributes_count: 0,
        };
        if number.is_multiple_of(SPANS_A_TRACE) {
            trace = random.bytes(16);
        }
        Span {
            trace_id: trace.clone(),
            span_id: random.bytes(8),
            parent_span_id: random.bytes(8),
            name: format!("GET {}", ROUTES[random.below(5)]),
            kind: 2,
            start_time_unix_nano: start,
            end_time_unix_nano: start + took,
            attributes: vec![
                attribute("http.request.method", METHODS[random.below(4)]),
                attribute("http.route", ROUTES[random.below(5)]),
                number_attribute("http.response.status_code", [200, 201, 404, 500][random.below(4)]),
                attribute("url.path", format!("/products/{}", random.below(5_000))),
                attribute("client.address", format!("10.1.{}.{}", random.below(256), random.below(256))),
                attribute("user.id", format!("u-{:05}", random.below(5_000))),
                attribute("event.id", format!("{number:012x}")),
                number_attribute("server.port", 8080),
            ],
            events: if number.is_multiple_of(4) { vec![event] } else { Vec::new() },
            status: Some(Status { message: String::new(), code: i32::from(number.is_multiple_of(16)) * 2 }),
            flags: 0x101,
            ..Span::default()
        }
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(random),
            scope_spans: vec![ScopeSpans {
                scope: scope(),
                spans: (first..first + items).map(|number| span(number, random)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// Five points a metric; sums, gauges and histograms in turn.
fn points(items: usize, random: &mut Random, first: usize) -> ExportMetricsServiceRequest {
    const POINTS: usize = 5;
    let number_point = |number: usize, random: &mut Random| NumberDataPoint {
        attributes: point_attributes(number, random),
        start_time_unix_nano: START,
        time_unix_nano: START + number as u64 * 1_000_003,
        value: Some(if number.is_multiple_of(2) {
            number_data_point::Value::AsInt(random.below(1 << 30) as i64)
        } else {
            number_data_point::Value::AsDouble(random.below(1 << 30) as f64 / 1000.0)
        }),
        ..NumberDataPoint::default()
    };
    let histogram_point = |number: usize, random: &mut Random| HistogramDataPoint {
        attributes: point_attributes(number, random),
        start_time_unix_nano: START,
        time_unix_nano: START + number as u64 * 1_000_003,
        count: 800,
        sum: Some(random.below(1 << 30) as f64 / 1000.0),
        bucket_counts: (0..8).map(|_| random.below(200) as u64).collect(),
        explicit_bounds: vec![0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0],
        ..HistogramDataPoint::default()
    };
    let metric = |from: usize, random: &mut Random| {
        let numbers = from..(from + POINTS).min(first + items);
        let data = match (from / POINTS) % 3 {
            0 => metric::Data::Sum(Sum {
                data_points: numbers.map(|number| number_point(number, random)).collect(),
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
            1 => {
                metric::Data::Gauge(Gauge { data_points: numbers.map(|number| number_point(number, random)).collect() })
            }
            _ => metric::Data::Histogram(Histogram {
                data_points: numbers.map(|number| histogram_point(number, random)).collect(),
                aggregation_temporality: 2,
            }),
        };
        Metric {
            // A multiple of three, so that a name has one type.
            name: format!("shop.checkout.measure_{}", from % 99),
            unit: "ms".into(),
            data: Some(data),
            ..Metric::default()
        }
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(random),
            scope_metrics: vec![ScopeMetrics {
                scope: scope(),
                metrics: (first..first + items).step_by(POINTS).map(|from| metric(from, random)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn point_attributes(number: usize, random: &mut Random) -> Vec<KeyValue> {
    vec![
        attribute("http.request.method", METHODS[random.below(4)]),
        attribute("http.route", ROUTES[random.below(5)]),
        number_attribute("http.response.status_code", [200, 201, 404, 500][random.below(4)]),
        attribute("event.id", format!("{number:012x}")),
    ]
}

fn resource(random: &mut Random) -> Option<Resource> {
    let instance = random.below(8);
    Some(Resource {
        attributes: vec![
            attribute("service.name", ["shop", "cart", "payment"][instance % 3]),
            attribute("service.version", "2.14.1"),
            attribute("service.instance.id", format!("pod-{instance}")),
            attribute("host.name", format!("node-{}", instance % 4)),
            attribute("telemetry.sdk.language", "go"),
            attribute("telemetry.sdk.name", "opentelemetry"),
            attribute("telemetry.sdk.version", "1.38.0"),
        ],
        ..Resource::default()
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "shop/checkout".into(),
        version: "0.4.0".into(),
        ..InstrumentationScope::default()
    })
}

fn text(text: impl Into<String>) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.into())) })
}

fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.into(), value: text(value), ..KeyValue::default() }
}

fn number_attribute(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(value)) }), ..KeyValue::default() }
}

/// SplitMix64 with a fixed seed: every run, and every collector, gets the same load.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(count).collect()
    }
}
