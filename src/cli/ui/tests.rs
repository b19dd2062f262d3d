//! What the screens of logs and metrics show of telemetry that is large, odd or hostile.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::pages::{Asked, answer};
use super::store::Store;
use crate::exporters::debug::layout::Layout;
use crate::telemetry::Signal;

const SECOND: u64 = 1_000_000_000;
const NOON: u64 = 1_700_000_000 * SECOND;

fn pair(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(service: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![pair("service.name", service)], ..Resource::default() })
}

fn take_metric(store: &mut Store, service: &str, name: &str, data: Data) {
    take(store, service, Metric::default(), name, data);
}

fn take(store: &mut Store, service: &str, metric: Metric, name: &str, data: Data) {
    let metric = Metric { name: name.to_owned(), data: Some(data), ..metric };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let group = ResourceMetrics { resource: resource(service), scope_metrics, ..ResourceMetrics::default() };
    let request = ExportMetricsServiceRequest { resource_metrics: vec![group] };
    store.take(Signal::Metrics, &request.encode_to_vec(), false);
}

fn number(second: u64, value: f64, attribute: &str) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![pair("key", attribute)],
        start_time_unix_nano: NOON,
        time_unix_nano: NOON + second * SECOND,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn gauge(points: Vec<NumberDataPoint>) -> Data {
    Data::Gauge(Gauge { data_points: points })
}

fn page(store: &mut Store, path: &str, query: &str) -> String {
    answer(store, &Asked::new(path, query)).body
}

/// A trace of one span.
fn take_span(store: &mut Store, service: &str, number: u128) {
    let span = Span {
        trace_id: (number + 1).to_be_bytes().to_vec(),
        span_id: vec![1; 8],
        name: format!("request {number}"),
        start_time_unix_nano: NOON + number as u64 * SECOND,
        end_time_unix_nano: NOON + number as u64 * SECOND + 1000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let group = ResourceSpans { resource: resource(service), scope_spans, ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![group] };
    store.take(Signal::Traces, &request.encode_to_vec(), false);
}

#[test]
fn a_time_has_its_date_unless_that_is_today() {
    let dated = |nanos, now| Layout::FILE.dated(nanos, now);
    assert_eq!(dated(NOON, NOON + 3600 * SECOND), "22:13:20.000Z");
    assert_eq!(dated(NOON, NOON + 7200 * SECOND), "2023-11-14 22:13:20.000Z");
    assert_eq!(dated(NOON + 7200 * SECOND, NOON), "2023-11-15 00:13:20.000Z");
    assert_eq!(dated(u64::MAX, NOON), "2554-07-21 23:34:33.709Z");
    assert_eq!(dated(0, NOON).trim_end(), "--:--:--.---");
    let mut store = Store::new();
    take_span(&mut store, "shop", 0);
    assert!(page(&mut store, "/", "").contains("<span class=\"time\">2023-11-1"));
}

/// While many requests are being read, the list has the newest, and says how many are still to come.
#[test]
fn the_newest_requests_are_read_first() {
    let mut store = Store::new();
    (0..20_000).for_each(|number| take_span(&mut store, "shop", number));
    let before = store.version();
    let first = page(&mut store, "/", "");
    assert!(first.contains("request 19999<"), "the newest is missing");
    assert!(first.contains(" more are being read.") && store.version() > before, "it is not said that there are more");
    store.refresh_all();
    assert!(page(&mut store, "/", "").contains("20000 requests"));
}

/// Resources are shared, so who brings large ones makes room for them.
#[test]
fn a_service_with_large_resources_leaves_the_requests_of_others() {
    let mut store = Store::new();
    (0..1000).for_each(|number| take_span(&mut store, "quiet", number));
    for number in 0..100 {
        let mut large = resource("loud").unwrap();
        large.attributes.push(pair("blob", &format!("{number}{}", "x".repeat(950_000))));
        let scope_logs = vec![ScopeLogs { log_records: vec![LogRecord::default()], ..ScopeLogs::default() }];
        let group = ResourceLogs { resource: Some(large), scope_logs, ..ResourceLogs::default() };
        store.take(Signal::Logs, &ExportLogsServiceRequest { resource_logs: vec![group] }.encode_to_vec(), false);
    }
    store.refresh_all();
    assert!(page(&mut store, "/", "").contains("1000 requests"));
}

#[test]
fn a_service_with_many_series_leaves_those_of_others() {
    let mut store = Store::new();
    take_metric(&mut store, "quiet", "load", gauge(vec![number(1, 1.0, "only")]));
    let series = 20_000;
    for first in (0..series).step_by(500) {
        let points = (first..first + 500).map(|at| number(1, 1.0, &format!("user {at} {}", "x".repeat(300))));
        take_metric(&mut store, "loud", "load", gauge(points.collect()));
    }
    let held: Vec<_> = store.metrics.all().map(|(_, series)| series.headers.service.to_string()).collect();
    assert!(held.len() <= 4000, "{}", held.len());
    assert!(store.metrics.used() <= 8 << 20, "{}", store.metrics.used());
    assert!(held.iter().any(|service| service == "quiet"));
    assert_eq!(store.metrics.forgotten as usize + held.len(), series + 1);
}

#[test]
fn a_series_in_use_keeps_its_last_points() {
    let mut store = Store::new();
    for second in 0..500 {
        take_metric(&mut store, "shop", "load", gauge(vec![number(second, second as f64, "a")]));
    }
    let (_, series) = store.metrics.all().next().expect("there is a series");
    let points = series.points();
    assert_eq!((points.len(), points.first().map(|point| point.time)), (240, Some(NOON + 260 * SECOND)));
    // Series that are no longer sent go first.
    for second in 0..30 {
        let points =
            (0..300).map(|at| number(1, 1.0, &format!("{second} {at}"))).chain([number(600 + second, 7.0, "a")]);
        take_metric(&mut store, "shop", "load", gauge(points.collect()));
    }
    let series = store.metrics.all().find(|(_, series)| &*series.attributes == "key=a");
    assert_eq!(series.map(|(_, series)| series.points().len()), Some(240));
}

#[test]
fn percentiles_are_of_what_came_between_two_points() {
    let mut store = Store::new();
    let wait = |store: &mut Store, start: u64, second: u64, counts: [u64; 3], max: Option<f64>| {
        let point = HistogramDataPoint {
            start_time_unix_nano: NOON + start * SECOND,
            time_unix_nano: NOON + second * SECOND,
            count: counts.iter().sum(),
            sum: Some(1.0),
            bucket_counts: counts.to_vec(),
            explicit_bounds: vec![10.0, 20.0],
            max,
            ..HistogramDataPoint::default()
        };
        let histogram = Histogram { data_points: vec![point], aggregation_temporality: 2 };
        take_metric(store, "shop", "wait", Data::Histogram(histogram));
        page(store, "/metric", "service=shop&name=wait")
    };
    let median = |value: &str| format!("p50 <strong>{value}</strong>");
    assert!(wait(&mut store, 0, 10, [100, 0, 0], None).contains(&median("5")), "the only point is all that is known");
    assert!(wait(&mut store, 0, 20, [100, 10, 0], None).contains(&median("15")));
    // The process began anew.
    assert!(wait(&mut store, 25, 30, [4, 0, 0], None).contains(&median("5")));
    assert!(wait(&mut store, 25, 40, [4, 8, 0], None).contains(&median("15")));
    // Beyond the last bound; and not above the greatest value of all the time.
    assert!(wait(&mut store, 25, 50, [4, 8, 3], None).contains(&median("&gt; 20")));
    assert!(wait(&mut store, 25, 60, [4, 9, 3], Some(12.0)).contains(&median("12")));
}

#[test]
fn a_counter_that_begins_anew_has_no_rate_then() {
    let mut store = Store::new();
    for (second, value) in [(10, 100.0), (20, 150.0), (30, 3.0), (40, 43.0)] {
        let data_points = vec![number(second, value, "a")];
        let sum = Sum { data_points, aggregation_temporality: 2, is_monotonic: true };
        take_metric(&mut store, "shop", "orders", Data::Sum(sum));
    }
    let html = page(&mut store, "/metric", "service=shop&name=orders");
    assert!(html.contains("last 4 per second, between 4 and 5"), "{html}");
}

/// In its unit, with round numbers at the axis.
#[test]
fn values_are_written_for_people() {
    let mut store = Store::new();
    let mut shown = |unit: &str, values: &[f64]| {
        for (second, value) in (1..).zip(values) {
            let metric = Metric { unit: unit.to_owned(), ..Metric::default() };
            take(&mut store, "shop", metric, unit, gauge(vec![number(second, *value, "a")]));
        }
        let html = page(&mut store, "/metric", &format!("service=shop&name={}", unit.replace('/', "%2F")));
        let ticks = html.split_once("<ul class=\"ticks\"").and_then(|(_, rest)| rest.split_once("</ul>")).unwrap().0;
        let ticks: Vec<_> = ticks.split("<li>").skip(1).filter_map(|rest| rest.split('<').next()).collect();
        let latest = html.split_once("<td class=\"wide words\">").unwrap().1.split('<').next().unwrap();
        format!("{} | {latest}", ticks.join(" "))
    };
    assert_eq!(shown("By", &[0.0, 1_572_864.0]), "1.5 MiB 1 MiB 0.5 MiB 0 | 1.5 MiB");
    assert_eq!(shown("s", &[0.0, 0.75]), "800 ms 600 ms 400 ms 200 ms 0 | 750 ms");
    assert_eq!(shown("ms", &[0.0, 5_000_000.0]), "1.5 h 1 h 0.5 h 0 | 1.39 h");
    assert_eq!(shown("1", &[100.001, 100.002]), "100.002 100.0015 100.001 | 100.002");
    assert_eq!(shown("{request}/s", &[0.0, 40_000.0]), "40 k 30 k 20 k 10 k 0 | 40,000 request/s");
}

#[test]
fn odd_numbers_are_shown() {
    let mut store = Store::new();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 5e-324, -0.0, 1e299, -1e299];
    for (second, value) in odd.into_iter().enumerate() {
        take_metric(&mut store, "shop", "odd", gauge(vec![number(second as u64, value, "a")]));
        let point = HistogramDataPoint {
            time_unix_nano: if second % 2 == 0 { u64::MAX } else { second as u64 },
            count: u64::MAX,
            sum: Some(value),
            bucket_counts: vec![u64::MAX, 0, u64::MAX, 7],
            explicit_bounds: vec![value, f64::NAN, -value],
            ..HistogramDataPoint::default()
        };
        let histogram = Histogram { data_points: vec![point], aggregation_temporality: (second % 4) as i32 };
        take_metric(&mut store, "shop", "odd.wait", Data::Histogram(histogram));
    }
    assert!(page(&mut store, "/metrics", "").contains("odd.wait"));
    for view in ["", "raw", "rate", "percentiles", "heat"] {
        for name in ["odd", "odd.wait"] {
            let html = page(&mut store, "/metric", &format!("service=shop&name={name}&view={view}"));
            let places = html.split(" d=\"").skip(1).filter_map(|rest| rest.split('"').next());
            assert!(places.clone().all(|place| !place.contains("NaN") && !place.contains("inf")), "{html}");
        }
    }
}

#[test]
fn what_telemetry_says_is_text() {
    let mut store = Store::new();
    let evil = "<script>x</script>\"'&\u{202e}\u{1b}[31m";
    let record = LogRecord {
        time_unix_nano: NOON,
        severity_text: evil.to_owned(),
        event_name: evil.to_owned(),
        body: pair("", evil).value,
        attributes: ["exception.message", "exception.type", "exception.stacktrace", evil]
            .map(|key| pair(key, evil))
            .into(),
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let group = ResourceLogs { resource: resource(evil), scope_logs, ..ResourceLogs::default() };
    let request = ExportLogsServiceRequest { resource_logs: vec![group] };
    store.take(Signal::Logs, &request.encode_to_vec(), false);
    take_metric(&mut store, evil, evil, gauge(vec![number(1, 1.0, evil)]));
    let ((time, place), _) = store.logs.all().next().expect("there is a record");
    let (_, series) = store.metrics.all().next().expect("there is a series");
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let metric = format!("service={}&name={}", encoded(&series.headers.service), encoded(&series.name));
    let pages =
        [("/logs", format!("log={time}-{place}&text=script")), ("/metrics", String::new()), ("/metric", metric)];
    for (path, query) in pages {
        let html = page(&mut store, path, &query);
        assert!(html.contains("script&gt;x"), "{path}: {html}");
        assert!(!html.contains("<script>x") && !html.contains(['\u{202e}', '\u{1b}']), "{path}: {html}");
    }
}
