//! The collector's own metrics and log, pushed by OTLP.

use std::process::{Command, Stdio};
use std::time::Duration;

use misaki::face::config;
use misaki::face::service::Plan;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

use super::harness::{Misaki, Reply, Upstream, until};

/// A reader that pushes to the second upstream. Every other interval is the collector's own.
fn reader(protocol: &str, interval: u32) -> String {
    let exporter = format!("{{otlp: {{protocol: {protocol}, endpoint: \"http://${{env:UPSTREAM_2}}\"}}}}");
    format!(
        "service: {{telemetry: {{resource: {{service.name: edge-1, site: 7}}, metrics: {{level: normal, \
         readers: [{{periodic: {{interval: {interval}, exporter: {exporter}}}}}]}}}}}}"
    )
}

#[tokio::test]
async fn metrics_arrive_with_resource_and_ledger() {
    for protocol in ["grpc", "http/protobuf"] {
        let (upstream, management) = (Upstream::start().await, Upstream::start().await);
        let mut misaki = Misaki::start(&reader(protocol, 20), &[&upstream, &management]).await;
        assert_eq!(misaki.ports.send(&["one", "two"]).await.code, 200);
        let wanted = ["misaki_exported_items", "otelcol_exporter_sent_log_records", "otelcol_exporter_queue_size"];
        until("the ledger", || wanted.iter().all(|name| management.kept().iter().any(|kept| kept == name))).await;
        misaki.finish().await;
        assert_eq!(upstream.kept_once(), ["one", "two"], "its own telemetry goes nowhere else");
        let arrival = management.arrivals().pop().unwrap();
        assert!(arrival.target.ends_with(if protocol == "grpc" { "MetricsService/Export" } else { "/v1/metrics" }));
    }
}

/// The last push says all that happened, even if the interval never passes; it carries the attributes and a start time.
#[tokio::test]
async fn the_last_push_comes_at_shutdown() {
    let (upstream, management) = (Upstream::start().await, Upstream::start().await);
    let mut misaki = Misaki::start(&reader("http/protobuf", 3_600_000), &[&upstream, &management]).await;
    assert_eq!(misaki.ports.send(&["one", "two"]).await.code, 200);
    misaki.finish().await;
    let wires = management.wires();
    assert_eq!(wires.len(), 1);
    let request = ExportMetricsServiceRequest::decode(wires[0].as_slice()).unwrap();
    let group = &request.resource_metrics[0];
    let attributes: Vec<_> = group.resource.as_ref().unwrap().attributes.iter().collect();
    let value = |key: &str| {
        let found = attributes.iter().find(|attribute| attribute.key == key);
        match found.and_then(|found| found.value.clone()?.value) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{key}: {other:?}"),
        }
    };
    assert_eq!((value("service.name"), value("site")), ("edge-1".to_owned(), "7".to_owned()));
    assert_eq!(value("service.version"), env!("CARGO_PKG_VERSION"));
    let id = value("service.instance.id");
    assert!(id.len() == 36 && id.as_bytes()[14] == b'4' && id.split('-').count() == 5, "{id}");
    let metrics = &group.scope_metrics[0].metrics;
    let metric = metrics.iter().find(|metric| metric.name == "otelcol_exporter_sent_log_records").unwrap();
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{sum:?}");
    let point = &sum.data_points[0];
    assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano < point.time_unix_nano, "{point:?}");
    let two = opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(2);
    assert_eq!(point.value, Some(two));
    let uptime = metrics.iter().find(|metric| metric.name == "otelcol_process_uptime").unwrap();
    assert_eq!(uptime.unit, "s");
}

#[tokio::test]
async fn a_management_side_that_is_down_delays_nothing() {
    let (upstream, mut management) = (Upstream::start().await, Upstream::absent());
    let mut misaki = Misaki::start(&reader("grpc", 20), &[&upstream, &management]).await;
    assert_eq!(misaki.ports.send(&["one"]).await.code, 200);
    until("it is sent", || upstream.kept() == ["one"]).await;
    management.appear();
    until("it is pushed", || !management.kept().is_empty()).await;
    misaki.finish().await;
}

/// None of these answers ends the pushing, or the collector.
#[tokio::test]
async fn hostile_answers_end_nothing() {
    let long = "x".repeat(1 << 20);
    let replies = [
        Reply::Reset,
        Reply::Http(500, None),
        Reply::Http(401, None),
        Reply::Http(503, Some("99999999999999")),
        Reply::Raw(vec![(":status", "200".to_owned()), ("content-type", "text/html".to_owned())], long.into()),
        Reply::Partial(i64::MAX, "\x1b[31mnone of it"),
    ];
    for reply in replies {
        let (upstream, management) = (Upstream::start().await, Upstream::sequence([reply.clone()]).await);
        let mut misaki = Misaki::start(&reader("http/protobuf", 20), &[&upstream, &management]).await;
        until("the first push", || management.requests() > 0).await;
        assert_eq!(misaki.ports.send(&["one"]).await.code, 200);
        misaki.finish().await;
        assert!(management.requests() > 1, "{reply:?}: no last push");
        assert_eq!(upstream.kept_once(), ["one"]);
    }
}

/// An answer that never comes holds up neither the shutdown nor anything else for long.
#[tokio::test]
async fn a_hanging_management_side_holds_nothing_up() {
    let (upstream, management) = (Upstream::start().await, Upstream::replying(Reply::Hang).await);
    let mut misaki = Misaki::start(&reader("grpc", 20), &[&upstream, &management]).await;
    until("the first push", || management.requests() > 0).await;
    assert_eq!(misaki.ports.send(&["one"]).await.code, 200);
    let started = std::time::Instant::now();
    misaki.finish_within(Duration::from_secs(2)).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(upstream.kept_once(), ["one"]);
}

#[tokio::test]
async fn a_reload_changes_where_it_is_pushed_to() {
    let (upstream, first, second) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    let mut misaki = Misaki::start(&reader("grpc", 20), &[&upstream, &first]).await;
    until("the first push", || !first.kept().is_empty()).await;
    misaki.reload(&reader("http/protobuf", 20), &[&upstream, &second]).await.unwrap();
    until("a push elsewhere", || !second.kept().is_empty()).await;
    // Settings that stay keep running; what is observed is the new graph.
    let more = "exporters: {debug: {verbosity: basic, output_paths: [/dev/null]}}\n";
    misaki.reload(&(more.to_owned() + &reader("http/protobuf", 20)), &[&upstream, &second]).await.unwrap();
    assert_eq!(misaki.ports.send(&["one"]).await.code, 200);
    until("the ledger", || second.kept().iter().any(|name| name == "misaki_exported_items")).await;
    misaki.reload("", &[&upstream, &second]).await.unwrap();
    misaki.finish().await;
}

fn program(config: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(["run", "--config", &format!("yaml:{config}")]).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The log arrives with what it says at the end; what the pushing itself says of an upstream that is away does not.
#[tokio::test]
async fn the_log_arrives_and_does_not_feed_itself() {
    let management = Upstream::sequence([Reply::Http(503, None), Reply::Http(503, None)]).await;
    let exporter = format!("{{otlp: {{protocol: http/protobuf, endpoint: \"http://{}\"}}}}", management.address);
    let config = format!(
        "{{receivers: {{nop: }}, exporters: {{nop: }}, extensions: {{inspect: {{enabled: false}}}}, service: {{telemetry: \
         {{metrics: {{level: none}}, logs: {{processors: [{{batch: {{schedule_delay: 20, exporter: {exporter}}}}}]}}}}, \
         pipelines: {{logs: {{receivers: [nop], exporters: [nop]}}}}}}}}"
    );
    let child = program(&config).spawn().unwrap();
    until("the log", || management.kept().iter().any(|body| body.starts_with("Everything is ready"))).await;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cannot push the collector's own telemetry") && said.contains("is pushed again"), "{said}");
    let kept = management.kept_once();
    assert!(kept.iter().any(|body| body == "Received signal from OS"), "{kept:?}");
    assert!(!kept.iter().any(|body| body.contains("own telemetry")), "{kept:?}");
}

#[test]
fn what_is_wrong_with_a_push_is_told_at_its_place() {
    let check = |otlp: &str, wanted: &str| {
        let base = "receivers: {nop: }, exporters: {nop: }, pipelines";
        let base = base.replace(", pipelines", "");
        let text = format!(
            "{{{base}, service: {{pipelines: {{logs: {{receivers: [nop], exporters: [nop]}}}}, telemetry: {{metrics: \
             {{readers: [{{periodic: {{exporter: {{otlp: {{{otlp}}}}}}}}}]}}}}}}}}"
        );
        let loaded = config::load(&[format!("yaml:{text}")], &[], &|_| None);
        Plan::read(&loaded);
        let said = loaded.problems.render(&loaded.sources, false);
        assert!(if wanted.is_empty() { said.is_empty() } else { said.contains(wanted) }, "{otlp}: {said}");
        assert!(!said.contains("hushhush"), "{said}");
        let printed = emit_text(&loaded.problems.effective(true));
        assert!(!printed.contains("hushhush"), "{printed}");
    };
    check("protocol: grpc, endpoint: 'http://127.0.0.1:4317'", "");
    check("protocol: grpc, endpoint: '127.0.0.1:4317', insecure: true, headers: {key: hushhush}", "");
    check("protocol: grpc, endpoint: 'https://a.example:4317', certificate: ca.pem, compression: gzip", "");
    check(
        "protocol: http/protobuf, endpoint: 'https://a.example/own/metrics', headers: [{name: key, value: hushhush}]",
        "",
    );
    check("protocol: http/protobuf, endpoint: '127.0.0.1:4318'", "periodic.exporter.otlp.endpoint");
    check("protocol: grpc, endpoint: '127.0.0.1:4317', headers: {'a b': hushhush}", "is not a valid header");
    check("protocol: grpc, endpoint: '127.0.0.1:4317', tls: {}", "unknown key \"tls\"");
    check("endpoint: '127.0.0.1:4317'", "it is required, and missing");
}

fn emit_text(node: &config::Node) -> String {
    config::emit::json_value(node).to_string()
}
