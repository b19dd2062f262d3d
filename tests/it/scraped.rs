//! The receiver `prometheus`. What version 0.161 of the Go collector delivers of the same pages is in `fixtures/scraped`,
//! recorded by `tests/conformance/record.py`: each line is a case with its settings, the pages of a target in turn, and
//! what was asked and delivered. Where we differ on purpose, `ours` says what we deliver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{exemplar, metric::Data, number_data_point};
use prost::Message;
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::*;

/// A request: its first line, its headers by lower-case name, and its body.
struct Asked {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Bytes to answer with, after a pause.
type Answer = (Duration, Vec<u8>);

/// A server of one request a connection; each is answered with what `answer` makes of it.
async fn serve(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(reply(stream, answer.clone()));
        }
    });
    port
}

async fn reply(mut stream: TcpStream, answer: Arc<impl Fn(Asked) -> Answer>) -> Option<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let headers: BTreeMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1)?.to_owned();
    let (pause, bytes) = answer(Asked { path, headers, body: bytes[end + 4..].to_vec() });
    tokio::time::sleep(pause).await;
    stream.write_all(&bytes).await.ok()
}

fn response(status: u64, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The n-th page of a target, or the last one.
fn page(pages: &[Json], turn: usize) -> Answer {
    let page = &pages[turn.min(pages.len() - 1)];
    let status = page["status"].as_u64().unwrap_or(200);
    let body = match page["hex"].as_str() {
        Some(hex) => (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect(),
        None => page["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
    };
    let mut headers = Map::from_iter([("content-type".to_owned(), json!("text/plain; version=0.0.4"))]);
    headers.extend(page["headers"].as_object().cloned().unwrap_or_default());
    let headers: Vec<_> = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
    let bytes = if status == 0 { Vec::new() } else { response(status, &headers, &body) };
    (Duration::from_secs_f64(page["wait"].as_f64().unwrap_or(0.0)), bytes)
}

const SHOWN: [&str; 5] =
    ["accept", "accept-encoding", "authorization", "x-prometheus-scrape-timeout-seconds", "x-extra"];

fn number(value: f64) -> Json {
    match value {
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value if value.is_nan() => json!("NaN"),
        value if value.fract() == 0.0 && value.abs() < 1e15 => json!(value as i64),
        value => json!(value),
    }
}

fn plain(attributes: &[KeyValue]) -> Json {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        other => panic!("{other:?}"),
    };
    Json::Object(attributes.iter().map(|pair| (pair.key.clone(), value(pair))).collect())
}

/// A time of now is known by name only, a time of the page as it is.
fn time(nanos: u64) -> Json {
    if nanos > 1_700_000_000_000_000_000 { json!("now") } else { json!(nanos) }
}

fn point(attributes: &[KeyValue], at: u64, start: u64, flags: u32) -> Json {
    let mut point = json!({"attributes": plain(attributes), "time": time(at), "start": time(start)});
    if flags != 0 {
        point["flags"] = json!(flags);
    }
    point
}

fn exemplars(list: &[opentelemetry_proto::tonic::metrics::v1::Exemplar], point: &mut Json) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let one = |one: &opentelemetry_proto::tonic::metrics::v1::Exemplar| {
        let Some(exemplar::Value::AsDouble(value)) = one.value else { panic!("{one:?}") };
        json!({"attributes": plain(&one.filtered_attributes), "time": time(one.time_unix_nano), "value": number(value),
            "trace": hex(&one.trace_id), "span": hex(&one.span_id)})
    };
    if !list.is_empty() {
        point["exemplars"] = list.iter().map(one).collect();
    }
}

fn numbers(name: &str, points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]) -> Vec<Json> {
    let one = |one: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
        let mut out = point(&one.attributes, one.time_unix_nano, one.start_time_unix_nano, one.flags);
        if let Some(number_data_point::Value::AsDouble(value)) = one.value {
            out["asDouble"] = if name.starts_with("scrape_duration") { json!("some") } else { number(value) };
        }
        exemplars(&one.exemplars, &mut out);
        out
    };
    points.iter().map(one).collect()
}

fn metric(metric: &opentelemetry_proto::tonic::metrics::v1::Metric) -> Json {
    let (kind, monotonic, points) = match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => ("gauge", false, numbers(&metric.name, &gauge.data_points)),
        Data::Sum(sum) => {
            assert_eq!(sum.aggregation_temporality, 2);
            ("sum", sum.is_monotonic, numbers(&metric.name, &sum.data_points))
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, 2);
            let one = |one: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
                let mut out = point(&one.attributes, one.time_unix_nano, one.start_time_unix_nano, one.flags);
                out["count"] = json!(one.count);
                out["bucketCounts"] = json!(one.bucket_counts);
                out["explicitBounds"] = one.explicit_bounds.iter().map(|bound| number(*bound)).collect();
                one.sum.into_iter().for_each(|sum| out["sum"] = number(sum));
                exemplars(&one.exemplars, &mut out);
                out
            };
            ("histogram", false, histogram.data_points.iter().map(one).collect())
        }
        Data::Summary(summary) => {
            let one = |one: &opentelemetry_proto::tonic::metrics::v1::SummaryDataPoint| {
                let mut out = point(&one.attributes, one.time_unix_nano, one.start_time_unix_nano, one.flags);
                (out["count"], out["sum"]) = (json!(one.count), number(one.sum));
                let quantiles = one.quantile_values.iter();
                out["quantileValues"] =
                    quantiles.map(|value| json!([number(value.quantile), number(value.value)])).collect();
                out
            };
            ("summary", false, summary.data_points.iter().map(one).collect())
        }
        other => panic!("{other:?}"),
    };
    json!({"name": metric.name, "help": metric.description, "unit": metric.unit, "kind": kind, "monotonic": monotonic,
        "type": plain(&metric.metadata)["prometheus.type"], "points": points})
}

/// What one scrape delivers.
fn delivery(wire: &[u8]) -> Json {
    let request = ExportMetricsServiceRequest::decode(wire).unwrap();
    let resources = request.resource_metrics.iter().map(|resource| {
        let scopes = resource.scope_metrics.iter().map(|group| {
            let scope = group.scope.clone().unwrap_or_default();
            let is_own = scope.name.ends_with("/prometheusreceiver");
            let (name, version) = if is_own { ("own", "") } else { (scope.name.as_str(), scope.version.as_str()) };
            json!({"scope": name, "version": version, "schema": group.schema_url, "attributes": plain(&scope.attributes),
                "metrics": group.metrics.iter().map(metric).collect::<Vec<_>>()})
        });
        json!({"resource": plain(&resource.resource.as_ref().unwrap().attributes), "scopes": scopes.collect::<Vec<_>>()})
    });
    resources.collect()
}

/// The resource that says whether the target is up.
fn target(delivery: &Json) -> String {
    let is_up = |resource: &&Json| resource["scopes"].to_string().contains(r#""name":"up""#);
    let resource = delivery.as_array().unwrap().iter().find(is_up).map(|resource| &resource["resource"]);
    resource
        .map(|resource| json!([resource["service.name"], resource["service.instance.id"]]).to_string())
        .unwrap_or_default()
}

/// In an order of its own, and without what is empty or zero: neither is there on the wire.
fn canonical(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut map: Map<String, Json> = map.iter().map(|(key, value)| (key.clone(), canonical(value))).collect();
            for key in ["points", "metrics", "scopes"] {
                if let Some(Json::Array(list)) = map.get_mut(key) {
                    list.sort_by_key(Json::to_string);
                }
            }
            map.retain(|key, value| {
                let is_optional =
                    ["sum", "count", "bucketCounts", "explicitBounds", "quantileValues"].contains(&key.as_str());
                !is_optional || *value != json!(0) && *value != json!([])
            });
            Json::Object(map)
        }
        Json::Array(list) => list.iter().map(canonical).collect(),
        Json::Number(one) if one.is_f64() => number(one.as_f64().unwrap()),
        other => other.clone(),
    }
}

/// Each target's deliveries, of which each is a list of resources.
fn sorted(delivered: &Json) -> Json {
    let mut delivered = canonical(delivered);
    for delivery in delivered.as_array_mut().unwrap().iter_mut().flat_map(|target| target.as_array_mut().unwrap()) {
        delivery.as_array_mut().unwrap().sort_by_key(Json::to_string);
    }
    delivered
}

async fn sink() -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let taken = bodies.clone();
    let port = serve(move |asked| {
        taken.lock().unwrap().push(asked.body);
        (Duration::ZERO, response(200, &[("content-type", "application/x-protobuf")], b""))
    });
    (port.await, bodies)
}

fn config(receiver: &Json, sink: u16) -> String {
    json!({"receivers": {"otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}, "prometheus": receiver},
        "exporters": {"otlp_http": {"endpoint": format!("http://127.0.0.1:{sink}"), "compression": "none", "sending_queue": {"num_consumers": 1}}},
        "service": {"telemetry": {"metrics": {"level": "none"}}, "pipelines": {"metrics": {"receivers": ["otlp", "prometheus"], "exporters": ["otlp_http"]}}}})
    .to_string()
}

/// Runs a case; returns how it differs.
async fn run(case: &Json) -> Result<(), String> {
    let pages = case["pages"].as_array().unwrap().clone();
    let count = pages.len();
    let (turns, asked) = (Mutex::new(BTreeMap::new()), Arc::new(Mutex::new(Vec::new())));
    let first = asked.clone();
    let port = serve(move |asked| {
        let host = asked.headers.get("host").unwrap().split(':').next().unwrap().to_owned();
        let mut turns = turns.lock().unwrap();
        let turn = turns.entry((host.clone(), asked.path.clone())).and_modify(|turn| *turn += 1).or_insert(0);
        if *turn == 0 {
            let shown: Map<_, _> = asked
                .headers
                .iter()
                .filter(|(name, _)| SHOWN.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            first.lock().unwrap().push(json!({"path": asked.path, "host": host, "headers": shown}));
        }
        page(&pages, *turn)
    });
    let port = port.await;
    let (sink, bodies) = sink().await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in case["files"].as_object().into_iter().flatten() {
        let text = text.as_str().unwrap().replace(":PORT", &format!(":{port}"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let receiver = case["receiver"].to_string().replace(":PORT", &format!(":{port}"));
    let receiver = receiver.replace("FOLDER", folder.path().to_str().unwrap());
    let mut receiver: Json = serde_json::from_str(&receiver).unwrap();
    let global = &mut receiver["config"]["global"];
    if global["scrape_interval"].is_null() {
        global["scrape_interval"] = json!("300ms");
    }
    let mut misaki = Misaki::load(&[&config(&receiver, sink)], 1, &|_| None).await;
    let expected = sorted(if case["ours"].is_null() { &case["delivered"] } else { &case["ours"] });
    let targets = expected.as_array().unwrap().len();
    let (until, mut by_target) = (Instant::now() + Duration::from_secs(15), BTreeMap::new());
    while Instant::now() < until {
        by_target = BTreeMap::new();
        for body in bodies.lock().unwrap().iter() {
            let delivery = delivery(body);
            let delivery: Json = serde_json::from_str(
                &delivery.to_string().replace(&format!(":{port}"), ":PORT").replace(&format!("\"{port}\""), "\"PORT\""),
            )
            .unwrap();
            by_target.entry(target(&delivery)).or_insert_with(Vec::new).push(delivery);
        }
        if by_target.len() >= targets && by_target.values().all(|deliveries| deliveries.len() >= count) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    misaki.finish().await;
    let delivered = by_target.into_values().map(|deliveries| Json::Array(deliveries.into_iter().take(count).collect()));
    let delivered = sorted(&Json::Array(delivered.collect()));
    if delivered != expected {
        return Err(format!("{}\n  expected  {expected}\n  delivered {delivered}", case["name"]));
    }
    let mut asked: Vec<Json> = asked.lock().unwrap().clone();
    asked.sort_by_key(|one| one["host"].to_string());
    let mut known = case["asked"].as_array().unwrap().clone();
    known.sort_by_key(|one| one["host"].to_string());
    if asked == known { Ok(()) } else { Err(format!("{}\n  expected {known:?}\n  asked    {asked:?}", case["name"])) }
}

/// The cases wait most of the time, so many run at once.
#[test]
fn pages_become_what_the_go_collector_makes_of_them() {
    let text = include_str!("../../fixtures/scraped/cases.jsonl");
    let cases: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() >= 100);
    fn run_all<'c>(cases: &[&'c Json]) -> Vec<(&'c Json, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        cases.iter().filter_map(|case| Some((*case, runtime.block_on(run(case)).err()?))).collect()
    }
    let differing: Vec<&Json> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..6).map(|part| cases.iter().skip(part).step_by(6).collect::<Vec<_>>()).collect();
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || run_all(&part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).map(|(case, _)| case).collect()
    });
    // On a busy machine a scrape may take longer than its interval: those are run once more, alone.
    let faults: Vec<String> = run_all(&differing).into_iter().map(|(_, fault)| fault).collect();
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
}

/// The page of the collector itself, which is read without a socket.
#[tokio::test]
async fn its_own_page_is_a_target() {
    let (sink, bodies) = sink().await;
    let port = free_port().await;
    let receiver = json!({"config": {"scrape_configs": [{"job_name": "own", "scrape_interval": "200ms", "static_configs": [{"targets": [format!("localhost:{port}")]}]}]}});
    let readers = format!(
        "{{service: {{telemetry: {{metrics: {{level: normal, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {port}}}}}}}}}]}}}}}}}}"
    );
    let mut misaki = Misaki::load(&[&config(&receiver, sink), &readers], 1, &|_| None).await;
    let is_there = |body: &Vec<u8>| {
        let text = delivery(body).to_string();
        text.contains("otelcol_process_uptime") && text.contains(r#""name":"up","points":[{"asDouble":1"#)
    };
    until("the page is delivered", || bodies.lock().unwrap().iter().any(is_there)).await;
    misaki.finish().await;
}

/// What is wrong with one page is wrong with it alone.
#[tokio::test]
async fn hostile_pages_fail_alone() {
    let pages = vec![
        ("/endless", 0, "a 1\n".repeat(10_000_000)),
        ("/open", 0, format!("a{{x=\"{}", "y".repeat(1 << 20))),
        ("/bytes", 0, (1..=255_u8).map(char::from).collect::<String>()),
        ("/scopes", 0, (0..2000).map(|at| format!("a{{otel_scope_name=\"{at}\"}} 1\n")).collect()),
        ("/labels", 0, format!("a{{{}}} 1\n", (0..2000).map(|at| format!("l{at}=\"x\",")).collect::<String>())),
        ("/long", 1, format!("a{{x=\"{}\"}} 1\n", "y".repeat(1 << 20))),
        (
            "/types",
            1,
            "# TYPE a counter\na 1\n# TYPE a gauge\na{x=\"1\"} 1\n# TYPE a histogram\na_bucket 1\n".repeat(2000),
        ),
        ("/good", 1, "good 1\n".to_owned()),
    ];
    are_up(pages, "{}").await;
}

/// More series than half of the memory holds.
#[tokio::test]
async fn a_page_of_many_series_fails() {
    let limited = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 16, spike_limit_mib: 1}}, service: {pipelines: {metrics: \
                   {processors: [memory_limiter]}}}}";
    let series = |count: u32| (0..count).map(|at| format!("a{{x=\"{at}\"}} 1\n")).collect();
    are_up(vec![("/many", 0, series(150_000)), ("/few", 1, series(1000))], limited).await;
}

/// Scrapes pages until each was found up, or not, and the last of them goes on.
async fn are_up(pages: Vec<(&'static str, u64, String)>, changes: &str) {
    let (sink, bodies) = sink().await;
    let expected: Vec<_> = pages.iter().map(|(path, up, _)| (*path, *up)).collect();
    let port = serve(move |asked| {
        let body = pages.iter().find(|(path, ..)| *path == asked.path).map_or("", |(.., body)| body);
        (Duration::ZERO, response(200, &[("content-type", "text/plain")], body.as_bytes()))
    });
    let port = port.await;
    let job = |(path, _): &(&str, u64)| json!({"job_name": path, "metrics_path": path, "scrape_interval": "500ms", "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}]});
    let jobs: Vec<_> = expected.iter().map(job).collect();
    let config = config(&json!({"config": {"scrape_configs": jobs}}), sink);
    let mut misaki = Misaki::load(&[&config, changes], 1, &|_| None).await;
    let up = |path: &str, value: u64| {
        let named = format!(r#""service.name":"{path}""#);
        let up = format!(r#""name":"up","points":[{{"asDouble":{value},"#);
        let texts = bodies.lock().unwrap().iter().map(|body| delivery(body).to_string()).collect::<Vec<_>>();
        texts.iter().filter(|text| text.contains(&named) && text.contains(&up)).count()
    };
    for (path, value) in &expected {
        until(path, || up(path, *value) > 0).await;
    }
    let (last, _) = expected.last().unwrap();
    let before = up(last, 1);
    until("the others go on", || up(last, 1) > before + 1).await;
    misaki.finish().await;
}
