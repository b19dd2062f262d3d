//! What a scraper fills in: the metrics it can make, and their points, written straight as OTLP.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::otlp::schema::{
    any_value, key_value, metric, metric_data, number_point, request, resource_group, scope, scope_group,
};
use crate::otlp::wire::{put_bytes, put_fixed64, put_uint};

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.9.0";
const SCOPE: &str =
    "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/hostmetricsreceiver/internal/scraper";
const CUMULATIVE: u64 = 2;

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub kind: Kind,
    /// Unless the configuration says otherwise.
    pub enabled: bool,
    pub description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Gauge,
    /// A sum that may fall.
    Sum,
    /// A sum that only grows.
    Counter,
}

impl Metric {
    pub const fn on(name: &'static str, kind: Kind, unit: &'static str, description: &'static str) -> Metric {
        Metric { name, unit, kind, enabled: true, description }
    }

    pub const fn off(name: &'static str, kind: Kind, unit: &'static str, description: &'static str) -> Metric {
        Metric { enabled: false, ..Metric::on(name, kind, unit, description) }
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(u64),
    Double(f64),
}

/// One scrape of one scraper.
pub struct Sheet {
    start: u64,
    now: u64,
    columns: Vec<Column>,
}

struct Column {
    metric: &'static Metric,
    points: Vec<u8>,
    count: u32,
}

impl Sheet {
    /// `boot_time` is in Unix seconds.
    pub fn new(metrics: &[&'static Metric], boot_time: u64, now: SystemTime) -> Sheet {
        let columns = metrics.iter().map(|metric| Column { metric, points: Vec::new(), count: 0 }).collect();
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Sheet { start: boot_time.saturating_mul(1_000_000_000), now, columns }
    }

    pub fn wants(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.metric.name == name)
    }

    pub fn int(&mut self, name: &str, value: u64, attributes: &[(&str, &str)]) {
        self.point(name, Number::Int(value), attributes);
    }

    pub fn double(&mut self, name: &str, value: f64, attributes: &[(&str, &str)]) {
        self.point(name, Number::Double(value), attributes);
    }

    /// A point of a metric, unless that is turned off.
    fn point(&mut self, name: &str, value: Number, attributes: &[(&str, &str)]) {
        let Some(column) = self.columns.iter_mut().find(|column| column.metric.name == name) else { return };
        let mut point = Vec::new();
        put_fixed64(&mut point, number_point::START, self.start);
        put_fixed64(&mut point, number_point::TIME, self.now);
        match value {
            Number::Int(value) => put_fixed64(&mut point, number_point::AS_INT, value),
            Number::Double(value) => put_fixed64(&mut point, number_point::AS_DOUBLE, value.to_bits()),
        }
        for (key, value) in attributes {
            let (mut any, mut pair) = (Vec::new(), Vec::new());
            put_bytes(&mut any, any_value::STRING, value.as_bytes());
            put_bytes(&mut pair, key_value::KEY, key.as_bytes());
            put_bytes(&mut pair, key_value::VALUE, &any);
            put_bytes(&mut point, number_point::ATTRIBUTES, &pair);
        }
        put_bytes(&mut column.points, metric_data::POINTS, &point);
        column.count += 1;
    }

    /// Appends the scrape as a `ResourceMetrics`, unless it has no point; says how many it has.
    pub fn write(self, scraper: &str, out: &mut Vec<u8>) -> u32 {
        let (mut named, mut group) = (Vec::new(), Vec::new());
        put_bytes(&mut named, scope::NAME, format!("{SCOPE}/{scraper}scraper").as_bytes());
        put_bytes(&mut named, scope::VERSION, env!("CARGO_PKG_VERSION").as_bytes());
        put_bytes(&mut group, scope_group::SCOPE, &named);
        let mut count = 0;
        for column in self.columns.into_iter().filter(|column| column.count > 0) {
            put_bytes(&mut group, scope_group::RECORDS, &column.metric.with(column.points));
            count += column.count;
        }
        if count > 0 {
            let mut resource = Vec::new();
            put_bytes(&mut resource, resource_group::RESOURCE, &[]);
            put_bytes(&mut resource, resource_group::SCOPES, &group);
            put_bytes(&mut resource, resource_group::SCHEMA_URL, SCHEMA_URL.as_bytes());
            put_bytes(out, request::RESOURCES, &resource);
        }
        count
    }
}

impl Metric {
    /// The encoded metric around its encoded points.
    fn with(&self, mut data: Vec<u8>) -> Vec<u8> {
        let mut encoded = Vec::new();
        put_bytes(&mut encoded, metric::NAME, self.name.as_bytes());
        put_bytes(&mut encoded, metric::DESCRIPTION, self.description.as_bytes());
        put_bytes(&mut encoded, metric::UNIT, self.unit.as_bytes());
        let number = if self.kind == Kind::Gauge { metric::GAUGE } else { metric::SUM };
        if self.kind != Kind::Gauge {
            put_uint(&mut data, metric_data::AGGREGATION_TEMPORALITY, CUMULATIVE);
        }
        if self.kind == Kind::Counter {
            put_uint(&mut data, metric_data::IS_MONOTONIC, 1);
        }
        put_bytes(&mut encoded, number, &data);
        encoded
    }
}
