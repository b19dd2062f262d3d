//! The sheet that a scraper fills in: its metrics and their points.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    self as proto, AggregationTemporality, Gauge, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.9.0";
const SCOPE: &str =
    "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/hostmetricsreceiver/internal/scraper";

#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    unit: &'static str,
    kind: Kind,
    /// The default, unless the config overrides it.
    pub(super) enabled: bool,
    description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Gauge,
    /// A non-monotonic sum.
    Sum,
    /// A monotonic sum.
    Counter,
}

impl Metric {
    pub(super) const fn on(name: &'static str, kind: Kind, unit: &'static str, description: &'static str) -> Metric {
        Metric { name, unit, kind, enabled: true, description }
    }

    pub(super) const fn off(name: &'static str, kind: Kind, unit: &'static str, description: &'static str) -> Metric {
        Metric { enabled: false, ..Metric::on(name, kind, unit, description) }
    }
}

/// One scrape of one scraper.
pub(super) struct Sheet {
    start: u64,
    now: u64,
    columns: Vec<Column>,
}

struct Column {
    metric: &'static Metric,
    points: Vec<NumberDataPoint>,
}

impl Sheet {
    /// `boot_time` is in Unix seconds.
    pub(super) fn new(metrics: &[&'static Metric], boot_time: u64, now: SystemTime) -> Sheet {
        let columns = metrics.iter().map(|metric| Column { metric, points: Vec::new() }).collect();
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Sheet { start: boot_time.saturating_mul(1_000_000_000), now, columns }
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.metric.name == name)
    }

    pub(super) fn int(&mut self, name: &str, value: u64, attributes: &[(&str, &str)]) {
        self.point(name, Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX)), attributes);
    }

    pub(super) fn double(&mut self, name: &str, value: f64, attributes: &[(&str, &str)]) {
        self.point(name, Value::AsDouble(value), attributes);
    }

    /// Adds a point of a metric, unless the metric is disabled.
    fn point(&mut self, name: &str, value: Value, attributes: &[(&str, &str)]) {
        let Some(column) = self.columns.iter_mut().find(|column| column.metric.name == name) else { return };
        let attribute = |(key, value): &(&str, &str)| {
            let value = AnyValue { value: Some(any_value::Value::StringValue((*value).to_owned())) };
            KeyValue { key: (*key).to_owned(), value: Some(value), ..KeyValue::default() }
        };
        column.points.push(NumberDataPoint {
            attributes: attributes.iter().map(attribute).collect(),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        });
    }

    /// The scrape and its number of points; `None` if there are none.
    pub(super) fn finish(self, scraper: &str) -> Option<(ResourceMetrics, usize)> {
        let count = self.columns.iter().map(|column| column.points.len()).sum();
        let columns = self.columns.into_iter().filter(|column| !column.points.is_empty());
        let metrics = columns.map(|column| column.metric.with(column.points)).collect();
        let scope = InstrumentationScope {
            name: format!("{SCOPE}/{scraper}scraper"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let group = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
        let resource = ResourceMetrics {
            resource: Some(Resource::default()),
            scope_metrics: vec![group],
            schema_url: SCHEMA_URL.to_owned(),
        };
        (count > 0).then_some((resource, count))
    }
}

impl Metric {
    fn with(&self, data_points: Vec<NumberDataPoint>) -> proto::Metric {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            Kind::Gauge => Data::Gauge(Gauge { data_points }),
            kind => Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: kind == Kind::Counter }),
        };
        proto::Metric {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            unit: self.unit.to_owned(),
            data: Some(data),
            ..proto::Metric::default()
        }
    }
}
