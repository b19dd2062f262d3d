//! The exporter `prometheus`. What version 0.161 of the Go collector shows after the same requests is in
//! `fixtures/prometheus`, recorded by `tests/conformance/record.py`: each line is a case with its settings and its steps.

use std::time::Duration;

use misaki::face::telemetry::Signal;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;

/// One answer to a scrape.
struct Scraped {
    status: u64,
    head: String,
    body: Vec<u8>,
}

impl Scraped {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

async fn scrape(port: u16, request: &str, headers: &[(&str, &str)]) -> Scraped {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let body = answer[end + 4..].to_vec();
    let body = if head.contains("chunked") && !request.starts_with("HEAD") { joined(&body) } else { body };
    Scraped { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
}

/// A body without the lengths of its chunks.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

fn config(settings: &Json, port: u16) -> String {
    let mut settings = settings.as_object().cloned().unwrap_or_default();
    settings.insert("endpoint".to_owned(), format!("127.0.0.1:{port}").into());
    format!(
        "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}, exporters: {{prometheus: {}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{metrics: {{receivers: [otlp], exporters: [prometheus]}}}}}}}}",
        Json::from(settings)
    )
}

/// Where Misaki differs on purpose, the case has what it shows beside what the Go collector shows.
#[tokio::test]
async fn scrapes_show_what_the_go_collectors_show() {
    let recorded = std::fs::read_to_string("fixtures/prometheus/cases.jsonl").unwrap();
    assert!(recorded.lines().count() > 100);
    let mut wrong = Vec::new();
    for case in recorded.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
        let port = free_port().await;
        let mut misaki = Misaki::load(&[&config(&case["config"], port)], 1, &|_| None).await;
        for step in case["steps"].as_array().unwrap() {
            if step.get("send").is_some() {
                assert!(misaki.post_json(Signal::Metrics, step["send"].to_string()).await.ok, "{}", case["case"]);
            } else if let Some(seconds) = step["wait"].as_f64() {
                // The thread of the small server has a clock of its own.
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            } else {
                let request = format!("{} {}", step["method"].as_str().unwrap_or("GET"), step["get"].as_str().unwrap());
                let accept = step["accept"].as_str().map(|accept| ("accept", accept));
                let scraped = scrape(port, &request, accept.as_slice()).await;
                let text = scraped.text();
                let text: Vec<_> = text.split('\n').collect();
                let expected = step.get("misaki").unwrap_or(&step["text"]);
                let is_right = step["status"] == scraped.status
                    && step["content_type"].as_str() == scraped.header("content-type")
                    && expected == &Json::from(text.clone());
                if !is_right {
                    wrong.push(format!(
                        "{}: {} {:?}\n{}\n--- expected\n{}\n",
                        case["case"],
                        scraped.status,
                        scraped.header("content-type"),
                        text.join("\n"),
                        expected
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|line| line.as_str().unwrap())
                            .collect::<Vec<_>>()
                            .join("\n"),
                    ));
                }
            }
        }
        misaki.finish().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Starts with these settings.
async fn start(settings: Json, port: u16) -> Misaki {
    Misaki::load(&[&config(&settings, port)], 1, &|_| None).await
}

/// A request with one metric without a resource.
fn metric(json: &str) -> String {
    format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{json}]}}]}}]}}"#)
}

fn gauge(name: &str, labels: &[(&str, &str)], value: i64) -> String {
    let labels = labels.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    let point = json!({"asInt": value.to_string(), "attributes": labels.collect::<Vec<_>>()});
    metric(&json!({"name": name, "gauge": {"dataPoints": [point]}}).to_string())
}

/// A gauge with so many series.
fn gauges(name: &str, series: std::ops::Range<usize>, filler: &str) -> String {
    let labels = |number: usize| json!([{"key": "n", "value": {"stringValue": format!("{number:06}")}}, {"key": "filler", "value": {"stringValue": filler}}]);
    let points: Vec<_> =
        series.map(|number| json!({"asInt": number.to_string(), "attributes": labels(number)})).collect();
    metric(&json!({"name": name, "gauge": {"dataPoints": points}}).to_string())
}

async fn post(misaki: &Misaki, request: String) {
    assert!(misaki.post_json(Signal::Metrics, request).await.ok);
}

async fn text(port: u16) -> String {
    let scraped = scrape(port, "GET /metrics", &[]).await;
    assert_eq!(scraped.status, 200);
    scraped.text()
}

/// The lines with samples.
fn samples(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[tokio::test]
async fn refused_points_are_counted_by_reason() {
    let port = free_port().await;
    let mut misaki = start(json!({}), port).await;
    let at = |time: u64, value: i64| {
        metric(&format!(r#"{{"name":"g","gauge":{{"dataPoints":[{{"asInt":"{value}","timeUnixNano":"{time}"}}]}}}}"#))
    };
    post(&misaki, at(20, 1)).await;
    post(&misaki, at(10, 2)).await;
    post(&misaki, gauge("...", &[], 1)).await;
    post(&misaki, gauge("twice", &[("a.b", "1"), ("a_b", "2")], 1)).await;
    let counter = |name: &str, rest: &str| {
        metric(&format!(r#"{{"name":"{name}","sum":{{"dataPoints":[{{"asInt":"1"}},{{"asInt":"2"}}],{rest}}}}}"#))
    };
    post(&misaki, counter("swing", r#""aggregationTemporality":1"#)).await;
    // A family of another type.
    post(&misaki, gauge("c_total", &[("k", "v")], 1)).await;
    post(&misaki, counter("c", r#""aggregationTemporality":2,"isMonotonic":true"#)).await;
    let line = "metrics to prometheus: 9 accepted = 2 exported + 7 dropped (out_of_order 1, untranslatable 6) + 0 left";
    assert_eq!(misaki.line("prometheus"), line);
    assert_eq!(samples(&text(port).await), 2);
    misaki.finish().await;
}

/// With little memory; filled with series of which it holds fewer.
async fn start_and_fill(settings: Json, port: u16, filler: &str) -> Misaki {
    let limited = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 8, spike_limit_mib: 0}}, service: {pipelines: {metrics: {processors: [memory_limiter]}}}}";
    let misaki = Misaki::load(&[&config(&settings, port), limited], 1, &|_| None).await;
    for part in 0..20 {
        let request = gauges_on_the_wire("many", part * 50..(part + 1) * 50, filler);
        assert!(misaki.submit_wire(Signal::Metrics, request, None).await.is_ok());
    }
    misaki
}

/// New series are refused at the limit, known ones go on.
#[tokio::test]
async fn series_are_limited_in_bytes() {
    let (port, filler) = (free_port().await, "x".repeat(8000));
    let mut misaki = start_and_fill(json!({}), port, &filler).await;
    let count = |misaki: &Misaki| {
        let line = misaki.line("prometheus");
        let number = |after: &str| {
            line.split(after).nth(1).map_or(0, |rest| rest.split([' ', ')']).next().unwrap().parse::<usize>().unwrap())
        };
        (number("accepted = "), number("series_limit "))
    };
    let (exported, dropped) = count(&misaki);
    assert!((300..600).contains(&exported) && exported + dropped == 1000, "{exported} {dropped}");
    assert_eq!(samples(&text(port).await), exported);
    for (name, expected) in [("many", (exported + 1, dropped)), ("new", (exported + 1, dropped + 1))] {
        let request = gauges_on_the_wire(name, 7..8, &filler);
        assert!(misaki.submit_wire(Signal::Metrics, request, None).await.is_ok());
        assert_eq!(count(&misaki), expected);
    }
    assert_eq!(samples(&text(port).await), exported);
    misaki.finish().await;
}

/// What expires makes room, also if nobody scrapes.
#[tokio::test]
async fn expired_series_make_room() {
    let (port, filler) = (free_port().await, "x".repeat(8000));
    let mut misaki = start_and_fill(json!({"metric_expiration": "300ms"}), port, &filler).await;
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        let before = misaki.line("prometheus");
        let request = gauges_on_the_wire("new", 0..50, &filler);
        assert!(misaki.submit_wire(Signal::Metrics, request, None).await.is_ok());
        let dropped =
            |line: &str| line.split("series_limit ").nth(1).map(|rest| rest.split(')').next().unwrap().to_owned());
        if dropped(&before) == dropped(&misaki.line("prometheus")) {
            misaki.finish().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no room: {}", misaki.line("prometheus"));
}

/// Labels of a megabyte, thousands of labels and buckets, names of any bytes, types that change.
#[tokio::test]
async fn hostile_metrics_are_bounded_and_counted() {
    let port = free_port().await;
    let mut misaki = start(json!({"enable_open_metrics": true}), port).await;
    post(&misaki, gauge("good", &[("k", "v")], 1)).await;
    let long = "y".repeat(1 << 20);
    let refused = [
        gauge("long_value", &[("k", &long)], 1),
        gauge("long_key", &[(&long, "v")], 1),
        gauge(&long, &[("k", "v")], 1),
        {
            let labels: Vec<_> = (0..5000).map(|number| format!("l{number}")).collect();
            gauge("many_labels", &labels.iter().map(|label| (label.as_str(), "v")).collect::<Vec<_>>(), 1)
        },
        {
            let bounds: Vec<_> = (0..20_000).collect();
            let counts: Vec<_> = (0..20_001).map(|_| "1").collect();
            metric(&json!({"name": "buckets", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"count": "20001", "bucketCounts": counts, "explicitBounds": bounds}]}}).to_string())
        },
        metric(
            &json!({"name": "long_help", "description": long, "gauge": {"dataPoints": [{"asInt": "1"}]}}).to_string(),
        ),
    ];
    for (index, request) in refused.into_iter().enumerate() {
        post(&misaki, request).await;
        let line = format!(
            "metrics to prometheus: {0} accepted = 1 exported + {1} dropped (series_limit {1}) + 0 left",
            index + 2,
            index + 1
        );
        assert_eq!(misaki.line("prometheus"), line);
    }
    // A type that changes for ever.
    for _ in 0..50 {
        post(&misaki, gauge("turns", &[], 1)).await;
        post(&misaki, metric(r#"{"name":"turns","summary":{"dataPoints":[{"count":"1","sum":1}]}}"#)).await;
    }
    // Bytes that are no UTF-8, in every place.
    let mut wire = gauge_of_bytes(&[0xff, 0xfe, b'"', b'\n', b'\\', 0]);
    wire.extend(gauge_of_bytes(&[b'a', 0xc0, 0x80]));
    assert!(misaki.submit_wire(Signal::Metrics, wire, None).await.is_ok());
    let page = text(port).await;
    assert!(page.contains("good{k=\"v\","), "{page}");
    assert!(page.contains("a_a_{a_=\"a\u{fffd}\u{fffd}\","), "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with("turns")).count(), 1, "{page}");
    misaki.finish().await;
}

/// A message of fields with bytes.
fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(number, value)| misaki::face::otlp::wire::put_bytes(&mut out, *number, value));
    out
}

/// A gauge with so many series.
fn gauges_on_the_wire(name: &str, series: std::ops::Range<usize>, filler: &str) -> Vec<u8> {
    let label = |key: &str, value: &str| {
        let value = message(&[(1, value.as_bytes())]);
        message(&[(1, key.as_bytes()), (2, &value)])
    };
    let filler = label("filler", filler);
    let points: Vec<_> = series.map(|number| message(&[(7, &label("n", &number.to_string())), (7, &filler)])).collect();
    let gauge = message(&points.iter().map(|point| (1, point.as_slice())).collect::<Vec<_>>());
    let metric = message(&[(1, name.as_bytes()), (5, &gauge)]);
    message(&[(1, &message(&[(2, &message(&[(2, &metric)]))]))])
}

/// A gauge whose texts are all these bytes.
fn gauge_of_bytes(bytes: &[u8]) -> Vec<u8> {
    let value = message(&[(1, bytes)]);
    let attribute = message(&[(1, bytes), (2, &value)]);
    let point = message(&[(7, &attribute)]);
    let gauge = message(&[(1, &point)]);
    let metric = message(&[(1, bytes), (2, bytes), (3, bytes), (5, &gauge)]);
    let scope = message(&[(1, bytes), (2, bytes), (3, &attribute)]);
    let scopes = message(&[(1, &scope), (2, &metric), (3, bytes)]);
    let resource = message(&[(1, &attribute)]);
    message(&[(1, &message(&[(1, &resource), (2, &scopes)]))])
}

/// A long text comes in pieces, while series change; with gzip it is the same text.
#[tokio::test]
async fn long_texts_come_whole() {
    let port = free_port().await;
    let mut misaki = start(json!({}), port).await;
    post(&misaki, gauges("first", 0..3000, "")).await;
    post(&misaki, gauges("second", 0..3000, "")).await;
    let (page, ()) = tokio::join!(text(port), async {
        for round in 0..20 {
            post(&misaki, gauges("first", round * 10..round * 10 + 10, "")).await;
            post(&misaki, gauges("third", round..round + 1, "")).await;
        }
    });
    let of_first: Vec<_> = page.lines().filter(|line| line.starts_with("first{")).collect();
    assert_eq!(of_first.len(), 3000);
    assert!(of_first.is_sorted());
    let whole = text(port).await;
    assert_eq!(samples(&whole), 6020);
    let zipped = scrape(port, "GET /metrics", &[("accept-encoding", "deflate, gzip;q=0.5")]).await;
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.body.len() < whole.len() / 5);
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&zipped.body[..]), &mut plain).unwrap();
    assert_eq!(plain, whole);
    misaki.finish().await;
}

/// Scrapers that read nothing keep out neither points nor another scraper.
#[tokio::test]
async fn greedy_scrapers_hold_nothing() {
    let port = free_port().await;
    let mut misaki = start(json!({}), port).await;
    post(&misaki, gauges("many", 0..3000, &"z".repeat(500))).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        idle.push(stream);
    }
    post(&misaki, gauge("one", &[], 1)).await;
    let page = text(port).await;
    assert!(page.contains("one{") && samples(&page) == 3001);
    misaki.finish().await;
}

/// Series stay while the settings are the same; another exporter on the same port begins anew; without one, the port is free.
#[tokio::test]
async fn series_survive_a_reload() {
    let port = free_port().await;
    let mut misaki = start(json!({}), port).await;
    let sum = |value: i64, from: u64, to: u64| {
        metric(&format!(
            r#"{{"name":"c","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{{"asInt":"{value}","startTimeUnixNano":"{from}","timeUnixNano":"{to}"}}]}}}}"#
        ))
    };
    post(&misaki, sum(1, 10, 20)).await;
    let reload = async |misaki: &mut Misaki, settings: Json, more: &str| {
        let loaded = misaki::face::config::load(
            &[format!("yaml:{}", config(&settings, port)), format!("yaml:{more}")],
            &[],
            &|_| None,
        );
        let plan = misaki::face::service::Plan::read(&loaded);
        assert!(!loaded.problems.has_errors());
        misaki.running.reload(plan).await.unwrap();
    };
    reload(&mut misaki, json!({}), "{processors: {batch: }, service: {pipelines: {metrics: {processors: [batch]}}}}")
        .await;
    post(&misaki, sum(2, 20, 30)).await;
    until("it is in the store", || misaki.line("prometheus").contains("2 exported")).await;
    assert!(text(port).await.contains("\nc_total{") && text(port).await.contains("} 3\n"));
    reload(&mut misaki, json!({"namespace": "ns"}), "{}").await;
    assert_eq!(text(port).await, "");
    post(&misaki, sum(4, 30, 40)).await;
    assert!(text(port).await.contains("\nns_c_total{") && text(port).await.contains("} 4\n"));
    reload(&mut misaki, json!({}), "{exporters: {nop: }, service: {pipelines: {metrics: {exporters: [nop]}}}}").await;
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()).await;
    misaki.finish().await;
}

#[tokio::test]
async fn the_listener_is_guarded_as_a_receivers() {
    let folder = tempfile::tempdir().unwrap();
    let authority = crate::tls::Authority::new();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    authority.write(&cert, &key);
    let port = free_port().await;
    let settings = json!({"tls": {"cert_file": cert, "key_file": key}, "auth": {"authenticator": "bearertokenauth"},
        "response_headers": {"x-from": "edge"}, "cors": {"allowed_origins": ["https://a.shop"]}});
    let guard = "{extensions: {bearertokenauth: {token: abc}}, service: {extensions: [bearertokenauth]}}";
    let mut misaki = Misaki::load(&[&config(&settings, port), guard], 1, &|_| None).await;
    post(&misaki, gauge("g", &[], 1)).await;
    let tls = misaki::face::network::tls::ClientTls { ca: authority.ca(), ..Default::default() };
    let client = misaki::face::network::tls::client_config(&tls, &[b"http/1.1"]).unwrap();
    for (header, expected) in [("", "HTTP/1.1 401"), ("authorization: Bearer abc\r\n", "HTTP/1.1 200")] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = tls.server_name("localhost").unwrap();
        let mut stream = misaki::face::network::tls::connect(Box::new(stream), client.clone(), name).await.unwrap();
        let head = format!("GET /metrics HTTP/1.1\r\nhost: x\r\norigin: https://a.shop\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with(expected), "{answer}");
        assert!(answer.contains("x-from: edge") && answer.contains("access-control-allow-origin"), "{answer}");
        assert_eq!(answer.contains("# TYPE g gauge"), expected.ends_with("200"), "{answer}");
    }
    misaki.finish().await;
}
