//! The collector's own telemetry as OTLP: the metrics of a page, and the records of its log.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};

use super::metrics::{Kind, Page, Sample, help};

/// A random identity of this process, as a UUID.
pub(crate) fn instance_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness it is the same for all: still an identity beside the other attributes.
    let _ = SystemRandom::new().fill(&mut bytes);
    let id = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let part = |shift: u32, digits: usize| format!("{:0digits$x}", (id >> shift) & ((1 << (4 * digits)) - 1));
    [part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12)].join("-")
}

/// The attributes of the collector: the defaults, changed by those of `service.telemetry.resource`.
pub(crate) fn resource(given: &[(String, Option<String>)], instance_id: &str) -> Vec<(String, String)> {
    let defaults = [
        ("service.instance.id", instance_id),
        ("service.name", "misaki"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let defaults = defaults.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let all: BTreeMap<_, _> = defaults.into_iter().chain(given.iter().cloned()).collect();
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn resource_of(attributes: &[(String, String)]) -> Option<Resource> {
    let attributes = attributes.iter().map(|(name, value)| text(name, value)).collect();
    Some(Resource { attributes, ..Resource::default() })
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

pub(super) fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn scope() -> Option<InstrumentationScope> {
    let (name, version) = ("misaki".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Some(InstrumentationScope { name, version, ..InstrumentationScope::default() })
}

pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A page as one request, and its number of points. Sums are cumulative since `start`.
pub(crate) fn metrics(page: &Page, resource: &[(String, String)], start: SystemTime) -> (Vec<u8>, u32) {
    let time = (nanoseconds(start), nanoseconds(SystemTime::now()));
    let points: usize = page.families.values().map(|(_, samples)| samples.len()).sum();
    let metrics = page.families.iter().map(|(name, (kind, samples))| metric(name, *kind, samples, time)).collect();
    let group = ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() };
    let resource_metrics = vec![ResourceMetrics {
        resource: resource_of(resource),
        scope_metrics: vec![group],
        ..ResourceMetrics::default()
    }];
    (ExportMetricsServiceRequest { resource_metrics }.encode_to_vec(), points as u32)
}

fn metric(name: &str, kind: Kind, samples: &[Sample], (start, now): (u64, u64)) -> Metric {
    let labels = |sample: &Sample| sample.labels.iter().map(|(label, value)| text(label, value)).collect();
    let number = |sample: &Sample| NumberDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(match kind {
            Kind::Seconds => Number::AsDouble(sample.value),
            _ => Number::AsInt(sample.value as i64),
        }),
        ..NumberDataPoint::default()
    };
    let histogram = |sample: &Sample| {
        let buckets = sample.buckets.as_ref()?;
        Some(HistogramDataPoint {
            attributes: labels(sample),
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: buckets.counts.iter().sum(),
            sum: Some(sample.value),
            bucket_counts: buckets.counts.clone(),
            explicit_bounds: buckets.bounds.iter().map(|bound| *bound as f64).collect(),
            ..HistogramDataPoint::default()
        })
    };
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = match kind {
        Kind::Gauge => Data::Gauge(Gauge { data_points: samples.iter().map(number).collect() }),
        Kind::Counter | Kind::Seconds => {
            let data_points = samples.iter().map(number).collect();
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
        }
        Kind::Histogram => {
            let data_points = samples.iter().filter_map(histogram).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality })
        }
    };
    // The units that change a name in Prometheus.
    let unit = match name {
        _ if kind == Kind::Seconds => "s",
        _ if name.ends_with("_bytes") || name.ends_with("_rss") => "By",
        _ => "",
    };
    let (name, description, unit) = (name.to_owned(), help(name), unit.to_owned());
    Metric { name, description, unit, data: Some(data), ..Metric::default() }
}

/// Records of the log as one request.
pub(crate) fn logs(log_records: Vec<LogRecord>, resource: &[(String, String)]) -> Vec<u8> {
    let group = ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() };
    let resource_logs =
        vec![ResourceLogs { resource: resource_of(resource), scope_logs: vec![group], ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}
