//! The ready-made configs in `pipelines/`, as they are but for ports and paths: each is started, and does what it says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use misaki::face::config;
use misaki::face::service::Plan;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{Misaki, Upstream, until};

const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"it left the edge"}}]}]}]}"#;
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a file of `pipelines/` on free ports, with nothing to warn of.
async fn start(file: &str, variables: &[(&str, String)], sets: &[String]) -> Misaki {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(file);
    let endpoint = |key: &str| format!("{key}.endpoint=127.0.0.1:0");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# For "), "{file} does not open with who it is for");
    let mut sets = sets.to_vec();
    sets.push(endpoint("receivers.otlp.protocols.grpc"));
    sets.push("service.telemetry.metrics.level=none".to_owned());
    let optional = [("http:", "receivers.otlp.protocols.http"), ("health_check:", "extensions.health_check")];
    sets.extend(optional.iter().filter(|(word, _)| text.contains(word)).map(|(_, key)| endpoint(key)));
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    let loaded = config::load(&[path.display().to_string()], &sets, &environment);
    let plan = Plan::read(&loaded);
    assert_eq!(loaded.problems.render(&loaded.sources, false), "", "{file}");
    Misaki::run(&plan, 1).await
}

fn address(misaki: &Misaki, protocol: &str) -> SocketAddr {
    let addresses = &misaki.running.addresses;
    let found = addresses.iter().find(|(known, _)| known.contains(protocol));
    found.and_then(|(_, address)| *address).unwrap_or_else(|| panic!("{protocol} in {addresses:?}"))
}

async fn post_a_log(to: &Misaki) {
    post(to, "logs", LOG).await;
}

async fn post(to: &Misaki, signal: &str, json: &str) {
    let mut stream = TcpStream::connect(address(to, "http")).await.unwrap();
    let head = format!(
        "POST /v1/{signal} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}",
        json.len()
    );
    stream.write_all(format!("{head}\r\n\r\n{json}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Waits until a file holds `text`.
async fn until_printed(file: &Path, text: &str) {
    let printed = async {
        while !std::fs::read_to_string(file).is_ok_and(|printed| printed.contains(text)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, printed).await;
    assert!(in_time.is_ok(), "{text} is not in {:?}", std::fs::read_to_string(file));
}

/// Drains; everything that was accepted has been exported.
async fn drain(mut misaki: Misaki) {
    for balance in misaki.finish_within(PATIENCE).await {
        assert_eq!((balance.accepted, balance.exported), (1, 1), "{balance}");
    }
}

/// `management.yaml` with a certificate of its own, and what an edge needs to reach it.
async fn management(folder: &Path, verbosity: &str) -> (Misaki, Vec<(&'static str, String)>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let written = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (written("server.crt", certificate.pem()), written("server.key", key.serialize_pem()));
    let variables = [("TLS_CERT", cert.clone()), ("TLS_KEY", key)];
    let printed = format!("exporters.debug.output_paths=[{}]", folder.join("management.txt").display());
    let sets = [printed, format!("exporters.debug.verbosity={verbosity}")];
    let misaki = start("management.yaml", &variables, &sets).await;
    let upstream = format!("localhost:{}", address(&misaki, "grpc").port());
    (misaki, vec![("UPSTREAM", upstream), ("UPSTREAM_CA", cert)])
}

#[tokio::test]
async fn debug_prints_what_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed.txt");
    let sets = [format!("exporters.debug/detailed.output_paths=[{}]", printed.display())];
    let misaki = start("debug.yaml", &[], &sets).await;
    post_a_log(&misaki).await;
    until_printed(&printed, "Body: Str(it left the edge)").await;
    drain(misaki).await;
}

#[tokio::test]
async fn an_edge_forwards_over_tls_to_the_management_collector() {
    let folder = tempfile::tempdir().unwrap();
    let (management, variables) = management(folder.path(), "basic").await;
    let variables = [variables, vec![state(folder.path())]].concat();
    let edge = start("edge-forward.yaml", &variables, &[]).await;
    post_a_log(&edge).await;
    until_printed(&folder.path().join("management.txt"), r#""log records": 1}"#).await;
    drain(edge).await;
    drain(management).await;
}

#[tokio::test]
async fn an_edge_forwards_and_prints() {
    let folder = tempfile::tempdir().unwrap();
    let (management, variables) = management(folder.path(), "basic").await;
    let printed = folder.path().join("edge.txt");
    let sets = [format!("exporters.debug.output_paths=[{}]", printed.display())];
    let edge = start("edge-and-debug.yaml", &variables, &sets).await;
    post_a_log(&edge).await;
    until_printed(&printed, "Body: Str(it left the edge)").await;
    until_printed(&folder.path().join("management.txt"), r#""log records": 1}"#).await;
    drain(edge).await;
    drain(management).await;
}

/// A token of a file that a variable names; without the variable none is sent.
#[tokio::test]
async fn an_edge_sends_the_token_that_a_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "abc\n").unwrap();
    let sets = ["tls.insecure=true", "compression=none"].map(|set| format!("exporters.otlp_grpc.{set}"));
    for (variable, expected) in [(Some(file.display().to_string()), Some("Bearer abc")), (None, None)] {
        let upstream = Upstream::start().await;
        let state = ("STATE_DIRECTORY", folder.path().join(expected.unwrap_or("none")).display().to_string());
        let upstream_variable = ("UPSTREAM", upstream.address.to_string());
        let token = variable.map(|file| ("UPSTREAM_TOKEN_FILE", file));
        let variables: Vec<_> = [upstream_variable, state].into_iter().chain(token).collect();
        let edge = start("edge-forward.yaml", &variables, &sets).await;
        post_a_log(&edge).await;
        until("it has arrived", || edge.held() == 0).await;
        drain(edge).await;
        let sent = upstream.arrivals().swap_remove(0).headers.get("authorization").cloned();
        assert_eq!(sent.as_ref().map(|value| value.to_str().unwrap()), expected);
    }
}

/// Where `edge-forward.yaml` keeps its queues.
fn state(folder: &Path) -> (&'static str, String) {
    ("STATE_DIRECTORY", folder.join("state").display().to_string())
}

/// With the system's roots and nobody at the other end: no error at the start; what is accepted outlives the process, and is
/// forwarded by the next.
#[tokio::test]
async fn an_edge_keeps_what_its_absent_upstream_does_not_take() {
    let folder = tempfile::tempdir().unwrap();
    let absent = [("UPSTREAM", "localhost:1".to_owned()), ("UPSTREAM_CA", String::new()), state(folder.path())];
    let mut edge = start("edge-forward.yaml", &absent, &[]).await;
    post_a_log(&edge).await;
    assert_eq!(edge.held(), 1);
    let balances = edge.finish_within(Duration::ZERO).await;
    assert_eq!(balances.iter().map(|balance| (balance.exported, balance.left)).collect::<Vec<_>>(), [(0, 1)]);
    drop(edge);
    let (management, variables) = management(folder.path(), "basic").await;
    let mut edge = start("edge-forward.yaml", &[variables, vec![state(folder.path())]].concat(), &[]).await;
    until_printed(&folder.path().join("management.txt"), r#""log records": 1}"#).await;
    edge.finish_within(PATIENCE).await;
    assert_eq!(edge.held(), 0);
    drain(management).await;
}

/// What the management collector prints, a line an item, of what an edge with this file makes of these.
async fn check_edge(
    file: &str,
    environment: &[(&'static str, String)],
    sets: &[&str],
    posts: &[(&str, String)],
    expected: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let (management, mut variables) = management(folder.path(), "normal").await;
    variables.extend_from_slice(environment);
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let mut edge = start(file, &variables, &sets).await;
    for (signal, json) in posts {
        post(&edge, signal, json).await;
    }
    let balances = edge.finish_within(PATIENCE).await;
    assert!(balances.iter().all(|balance| balance.left == 0), "{balances:?}");
    let mut management = management;
    management.finish_within(PATIENCE).await;
    let printed = std::fs::read_to_string(folder.path().join("management.txt")).unwrap();
    // Items, and resources that say something.
    let is_item = |line: &&str| {
        let is_head = |start: &&str| line.starts_with(start);
        let is_container = ["Logs\t", "Traces\t", "Metrics\t", "Scope"].iter().any(is_head);
        !line.is_empty() && !is_container && (!line.starts_with("Resource") || line.contains('='))
    };
    let mut printed: Vec<&str> = printed.lines().filter(is_item).collect();
    // Each signal travels on its own.
    printed.sort_unstable();
    assert_eq!(printed.join("\n"), expected);
}

fn logs(records: &str) -> (&'static str, String) {
    ("logs", format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#))
}

fn spans(spans: &str) -> (&'static str, String) {
    ("traces", format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#))
}

#[tokio::test]
async fn the_default_puts_logs_on_the_trace_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed.txt");
    let sets = [format!("exporters.debug/detailed.output_paths=[{}]", printed.display())];
    let misaki = start("debug.yaml", &[], &sets).await;
    let record = r#"{"body":{"stringValue":"{\"trace_id\":\"267e3466a645f6129abffdbf4c43add2\"}"}}"#;
    post(&misaki, "logs", &logs(record).1).await;
    until_printed(&printed, "Trace ID: 267e3466a645f6129abffdbf4c43add2\n").await;
    drain(misaki).await;
}

#[tokio::test]
async fn the_filtering_edge_drops_health_checks_and_what_is_below_info() {
    let record = |number: u32, body: &str, attributes: &str| {
        format!(r#"{{"severityNumber":{number},"body":{{"stringValue":"{body}"}},"attributes":[{attributes}]}}"#)
    };
    let path = |path: &str| format!(r#"{{"key":"url.path","value":{{"stringValue":"{path}"}}}}"#);
    let records = [
        record(5, "a debug line", ""),
        record(9, "an info line", ""),
        record(0, "no severity", ""),
        record(9, "a health check", &path("/healthz")),
        record(17, "an order failed", &path("/orders")),
    ];
    let span = |name: &str, at: &str| {
        format!(
            r#"{{"name":"{name}","traceId":"267e3466a645f6129abffdbf4c43add2","spanId":"7f5aa898380ff08c","attributes":[{}]}}"#,
            path(at)
        )
    };
    let posts = [logs(&records.join(",")), spans(&[span("probe", "/readyz"), span("order", "/orders")].join(","))];
    let expected = "\
ResourceLog #0 site=tokyo-1
ResourceTraces #0 site=tokyo-1
an info line 
an order failed url.path=/orders
no severity 
order 267e3466a645f6129abffdbf4c43add2 7f5aa898380ff08c url.path=/orders";
    check_edge("edge-filter.yaml", &[("SITE", "tokyo-1".to_owned())], &[], &posts, expected).await;
}

#[tokio::test]
async fn the_sampling_edge_keeps_errors_slow_traces_and_a_tenth() {
    let span = |trace: u64, name: &str, millis: u64, status: u32| {
        let trace = u128::from(trace).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        format!(
            r#"{{"name":"{name}","traceId":"{trace:032x}","spanId":"7f5aa898380ff08c","startTimeUnixNano":"1000000000","endTimeUnixNano":"{}","status":{{"code":{status}}}}}"#,
            1_000_000_000 + millis * 1_000_000
        )
    };
    let mut all = vec![span(1, "cause", 20, 2), span(1, "around the cause", 30, 0), span(2, "slow", 700, 1)];
    all.extend((3..43).map(|trace| span(trace, "usual", 20, 0)));
    let posts = [spans(&all.join(","))];
    let expected = "\
around the cause 9e3779b97f4a7c15f39cc0605cedc835 7f5aa898380ff08c
cause 9e3779b97f4a7c15f39cc0605cedc835 7f5aa898380ff08c
slow 3c6ef372fe94f82be73980c0b9db906a 7f5aa898380ff08c
usual 736ae31d6e461e24ca4ec96913388d2d 7f5aa898380ff08c
usual de0497cf65c3ef2c35a7cded6e5defa9 7f5aa898380ff08c
usual f519f86ee2385b99f7b78fcf3f02d8b2 7f5aa898380ff08c";
    let sets = ["processors.tail_sampling.decision_wait=10ms"];
    check_edge("edge-sampling.yaml", &[], &sets, &posts, expected).await;
}

#[tokio::test]
async fn the_private_edge_deletes_hashes_and_masks() {
    let attribute = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
    let attributes = [
        attribute("http.request.header.authorization", "Basic c2VjcmV0"),
        attribute("api-key", "secret"),
        attribute("user.id", "jane"),
        attribute("note", "ask jane@example.org"),
        attribute("tokens.used", "7"),
    ]
    .join(",");
    let body = "jane@example.org paid with 4111 1111 1111 1111, Bearer abc.def=";
    let posts = [
        logs(&format!(r#"{{"body":{{"stringValue":"{body}"}},"attributes":[{attributes}]}}"#)),
        spans(&format!(
            r#"{{"name":"pay jane@example.org","traceId":"267e3466a645f6129abffdbf4c43add2","spanId":"7f5aa898380ff08c","attributes":[{attributes}]}}"#
        )),
    ];
    let expected = "\
**** paid with ****, **** user.id=81f8f6dde88365f3928796ec7aa53f72820b06db8664f5fe76a7eb13e24546a2 note=ask **** tokens.used=7 redaction.masked.count=1 redaction.body.masked.count=1
pay **** 267e3466a645f6129abffdbf4c43add2 7f5aa898380ff08c user.id=81f8f6dde88365f3928796ec7aa53f72820b06db8664f5fe76a7eb13e24546a2 note=ask **** tokens.used=7 redaction.masked.count=1";
    check_edge("edge-privacy.yaml", &[], &[], &posts, expected).await;
}

#[tokio::test]
async fn the_host_edge_sends_its_own_metrics_under_its_name() {
    let root = super::hostmetrics::host();
    let folder = tempfile::tempdir().unwrap();
    let (mut management, mut variables) = management(folder.path(), "detailed").await;
    variables.push(("HOST_ROOT", root.path().display().to_string()));
    let sets =
        ["receivers.host_metrics.initial_delay=0s", "processors.resource_detection.system.hostname_sources=[os]"];
    let mut edge = start("edge-host.yaml", &variables, &sets.map(str::to_owned)).await;
    until("it is scraped", || edge.running.intake().0 > 0).await;
    post_a_log(&edge).await;
    let balances = edge.finish_within(PATIENCE).await;
    assert!(balances.iter().all(|balance| balance.accepted == balance.exported), "{balances:?}");
    management.finish_within(PATIENCE).await;
    let printed = std::fs::read_to_string(folder.path().join("management.txt")).unwrap();
    for name in ["cpu.time", "memory.usage", "cpu.load_average.1m", "filesystem.usage", "network.io"] {
        assert!(printed.contains(&format!("     -> Name: system.{name}\n")), "{name} is not in {printed}");
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let named = printed.matches(&format!("     -> host.name: Str({})\n", host.trim())).count();
    assert_eq!(named, printed.matches("Resource SchemaURL").count(), "{printed}");
    assert!(printed.contains("Body: Str(it left the edge)"), "{printed}");
}

#[tokio::test]
async fn the_prometheus_edge_is_scraped_and_forwards_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (mut management, variables) = management(folder.path(), "basic").await;
    let port = super::harness::free_port().await;
    let listens = format!("exporters.prometheus.endpoint=127.0.0.1:{port}");
    let mut edge = start("edge-prometheus.yaml", &variables, &[listens]).await;
    let metric = r#"{"name":"jobs","unit":"1","sum":{"dataPoints":[{"asInt":"3"}],"isMonotonic":true,"aggregationTemporality":2}}"#;
    post(&edge, "metrics", &format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#)).await;
    post_a_log(&edge).await;
    let (status, page) = super::harness::get(port, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        page.contains("jobs_total{otel_scope_name=\"\",otel_scope_schema_url=\"\",otel_scope_version=\"\"} 3\n"),
        "{page}"
    );
    let balances = edge.finish_within(PATIENCE).await;
    assert_eq!(balances.len(), 2, "{balances:?}");
    assert!(balances.iter().all(|balance| balance.accepted == balance.exported), "{balances:?}");
    management.finish_within(PATIENCE).await;
}
