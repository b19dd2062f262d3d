//! A data point as a line: what it is, its value and unit, how fast it grows, how it is distributed.

use misaki::face::exporters::Layout;
use misaki::face::exporters::Rates;
use misaki::face::exporters::{Style, put_lines};
use misaki::face::otlp::whole;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use prost::Message;

use crate::tree::pair;

const SECOND: u64 = 1_000_000_000;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// The words of the lines, without their time, service and spaces between columns.
fn lines(rates: &mut Rates, unit: &str, data: Data) -> Vec<String> {
    let metric = Metric { name: "it".into(), unit: unit.into(), data: Some(data), ..Default::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..Default::default() }];
    let request = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let (mut out, style) = (Vec::new(), Style { layout: Layout::FILE, ..Style::default() });
    whole(&mut out, |to| put_lines(Signal::Metrics, style, &[&request], rates, to));
    let text = String::from_utf8(out).unwrap();
    let words = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    text.lines().map(|line| words(line).replace(" - it ", ": ")).collect()
}

fn number(time: u64, value: Value) -> NumberDataPoint {
    let (start_time_unix_nano, time_unix_nano) = (SECOND, time * SECOND);
    NumberDataPoint { start_time_unix_nano, time_unix_nano, value: Some(value), ..Default::default() }
}

fn sum(points: Vec<NumberDataPoint>, aggregation_temporality: i32, is_monotonic: bool) -> Data {
    Data::Sum(Sum { data_points: points, aggregation_temporality, is_monotonic })
}

fn histogram(bounds: &[f64], counts: &[u64], sum: f64) -> HistogramDataPoint {
    HistogramDataPoint {
        start_time_unix_nano: SECOND,
        time_unix_nano: 11 * SECOND,
        count: counts.iter().sum(),
        sum: Some(sum),
        explicit_bounds: bounds.to_vec(),
        bucket_counts: counts.to_vec(),
        ..Default::default()
    }
}

fn one(unit: &str, data: Data) -> String {
    lines(&mut Rates::default(), unit, data).remove(0)
}

#[test]
fn numbers_read_well() {
    let rows = [
        (0.15, "s", "gauge: 150 ms"),
        (0.1 + 0.05, "s", "gauge: 150 ms"),
        (93_784.0, "s", "gauge: 1.09 d"),
        (0.0, "ms", "gauge: 0 ms"),
        (2.5e-10, "s", "gauge: 0.25 ns"),
        (1e300, "s", "gauge: 1.1574074074074075e+295 d"),
        (f64::INFINITY, "By", "gauge: Infinity"),
        (f64::NAN, "us", "gauge: NaN"),
        (1_500.0, "us", "gauge: 1.5 ms"),
        (1.0 / 3.0, "1", "gauge: 0.333333"),
        (75.0, "%", "gauge: 75 %"),
        (0.0, "", "gauge: 0"),
        (1_234_567.89, "By", "gauge: 1.18 MiB"),
        (1_536.0, "By/s", "gauge: 1.5 KiB/s"),
        (3.0, "KiBy", "gauge: 3 KiB"),
        (-512.0, "By", "gauge: -512 B"),
        (1_234_567.89, "W", "gauge: 1,234,568 W"),
        (-1_234.5, "1", "gauge: -1,234.5"),
        (12.0, "{request}/s", "gauge: 12 request/s"),
        (-0.000_123_456_789, "{request}", "gauge: -0.000123457 request"),
        (1e-9, "", "gauge: 1e-9"),
        (1e300, "", "gauge: 1e+300"),
        (f64::NAN, "", "gauge: NaN"),
        (f64::NEG_INFINITY, "", "gauge: -Infinity"),
    ];
    for (value, unit, expected) in rows {
        let data = Data::Gauge(Gauge { data_points: vec![number(2, Value::AsDouble(value))] });
        assert_eq!(one(unit, data), expected);
    }
    assert_eq!(
        one("1", sum(vec![number(2, Value::AsInt(i64::MIN))], CUMULATIVE, false)),
        "sum: -9,223,372,036,854,775,808"
    );
    assert_eq!(one("s", sum(vec![number(2, Value::AsInt(-7))], CUMULATIVE, false)), "sum: -7 s");
}

/// A cumulative counter since the point before, of the same series and start; a delta within its own time.
#[test]
fn counters_have_a_rate() {
    let mut rates = Rates::default();
    let mut at = |time, value, user: &str| {
        let mut point = number(time, Value::AsInt(value));
        point.attributes = vec![pair("user", user)];
        lines(&mut rates, "{request}", sum(vec![point], CUMULATIVE, true)).remove(0)
    };
    assert_eq!(at(2, 10, "a"), "sum: 10 request user=a");
    assert_eq!(at(2, 99, "b"), "sum: 99 request user=b");
    assert_eq!(at(4, 15, "a"), "sum: 15 request 2.5 request/s user=a");
    assert_eq!(at(6, 15, "a"), "sum: 15 request 0 request/s user=a");
    // The same point again, and one after a restart.
    assert_eq!(at(6, 15, "a"), "sum: 15 request user=a");
    assert_eq!(at(8, 3, "a"), "sum: 3 request user=a");
    assert_eq!(one("By", sum(vec![number(5, Value::AsDouble(6.0))], DELTA, true)), "sum: 6 B 1.5 B/s");
    assert_eq!(one("By", sum(vec![number(5, Value::AsDouble(6.0))], DELTA, false)), "sum: 6 B");
    // However many series there are.
    for user in 0..20_000 {
        at(10, 1, &user.to_string());
    }
    assert_eq!(at(12, 5, "19999"), "sum: 5 request 2 request/s user=19999");
}

#[test]
fn distributions_have_percentiles() {
    let of = |points| Data::Histogram(Histogram { data_points: points, aggregation_temporality: DELTA });
    let point = histogram(&[10.0, 100.0, 1000.0], &[50, 40, 9, 1], 5000.0);
    let closed = HistogramDataPoint { min: Some(2.0), max: Some(1500.0), ..point.clone() };
    assert_eq!(one("ms", of(vec![point])), "histo: count=100 mean=50 ms p50=10 ms p95=600 ms p99=1 s 10/s");
    assert_eq!(one("ms", of(vec![closed])), "histo: count=100 mean=50 ms p50=10 ms p95=600 ms p99=1 s 10/s");
    // All in the last bucket, which has no end.
    let point = histogram(&[10.0], &[0, 3], 60.0);
    let closed = HistogramDataPoint { max: Some(30.0), ..point.clone() };
    assert_eq!(one("", of(vec![point])), "histo: count=3 mean=20 p50>10 p95>10 p99>10 0.3/s");
    assert_eq!(one("", of(vec![closed])), "histo: count=3 mean=20 p50=20 p95=29 p99=29.8 0.3/s");
    // Never outside of what was measured.
    let point = histogram(&[100.0, 500.0], &[0, 2, 0], 620.0);
    let closed = HistogramDataPoint { min: Some(300.0), max: Some(320.0), ..point };
    assert_eq!(one("", of(vec![closed])), "histo: count=2 mean=310 p50=300 p95=320 p99=320 0.2/s");
    assert_eq!(
        one("", of(vec![histogram(&[-5.0, 5.0], &[2, 0, 0], 0.0)])),
        "histo: count=2 mean=0 p50≤-5 p95≤-5 p99≤-5 0.2/s"
    );
    let infinite = histogram(&[10.0, f64::INFINITY], &[0, 2, 0], 60.0);
    assert_eq!(one("", of(vec![infinite])), "histo: count=2 mean=30 p50>10 p95>10 p99>10 0.2/s");
    let bare = HistogramDataPoint { min: Some(0.5), max: Some(9.0), count: 4, ..Default::default() };
    assert_eq!(one("s", of(vec![bare])), "histo: count=4 min=500 ms max=9 s");
    assert_eq!(one("s", of(vec![HistogramDataPoint::default()])), "histo: count=0");
    assert_eq!(one("s", of(vec![histogram(&[], &[3], 9.0)])), "histo: count=3 mean=3 s 0.3/s");
    // Powers of two: 1 below zero, 2 at zero, 7 above.
    let point = ExponentialHistogramDataPoint {
        count: 10,
        sum: Some(30.0),
        zero_count: 2,
        negative: Some(Buckets { offset: 0, bucket_counts: vec![1] }),
        positive: Some(Buckets { offset: 1, bucket_counts: vec![4, 0, 3] }),
        ..Default::default()
    };
    let data = Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], ..Default::default() });
    assert_eq!(one("s", data), "histo: count=10 mean=3 s p50=3 s p95=14.7 s p99=15.7 s");
    let value = |quantile, value| ValueAtQuantile { quantile, value };
    let point = SummaryDataPoint {
        count: 10,
        sum: 55.5,
        quantile_values: vec![value(0.5, 5.0), value(0.999, 9.75)],
        ..Default::default()
    };
    let data = Data::Summary(Summary { data_points: vec![point] });
    assert_eq!(one("ms", data), "summar: count=10 mean=5.55 ms p50=5 ms p99.9=9.75 ms");
}

/// Counts that do not fit, bounds without order, more counts than bounds: something is said, and nothing breaks.
#[test]
fn hostile_distributions_are_harmless() {
    let of = |points| Data::Histogram(Histogram { data_points: points, aggregation_temporality: CUMULATIVE });
    for (bounds, counts) in [
        (vec![], vec![u64::MAX, u64::MAX]),
        (vec![f64::NAN, f64::INFINITY, -1.0], vec![1, 2, 3, 4, 5, 6]),
        (vec![5.0, 1.0], vec![u64::MAX]),
        (vec![1.0; 1000], vec![]),
    ] {
        let point = HistogramDataPoint {
            count: u64::MAX,
            sum: Some(f64::INFINITY),
            bucket_counts: counts,
            explicit_bounds: bounds,
            time_unix_nano: u64::MAX,
            ..Default::default()
        };
        assert!(one("s", of(vec![point])).starts_with("histo: count=18,446,744,073,709,551,615 mean=Infinity"));
    }
}
