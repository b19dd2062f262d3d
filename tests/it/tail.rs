//! `misaki tail`: what is asked for, and in which form and order it is shown.

use std::path::Path;
use std::process::Command;

use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, OPTIONS, Query, Subject, Wanted};
use misaki::face::otlp::json;
use misaki::face::telemetry::{Now, Signal};

use crate::harness::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn requests() -> [(Signal, Vec<u8>); 3] {
    let resource = r#""resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "Shop"}}]}"#;
    let logs = format!(
        r#"{{"resourceLogs": [{{{resource}, "scopeLogs": [{{"scope": {{"name": "cart.go"}}, "logRecords": [
            {{"timeUnixNano": "3000", "severityNumber": 17, "body": {{"stringValue": "Redis refused"}},
              "attributes": [{{"key": "user", "value": {{"intValue": "17"}}}}, {{"key": "tags", "value": {{"arrayValue": {{"values": [{{"stringValue": "née"}}]}}}}}}]}},
            {{"timeUnixNano": "1000", "severityNumber": 9, "body": {{"kvlistValue": {{"values": [{{"key": "took", "value": {{"doubleValue": 0.25}}}}]}}}}}}]}}]}}]}}"#
    );
    let spans = format!(
        r#"{{"resourceSpans": [{{{resource}, "scopeSpans": [{{"spans": [
            {{"traceId": "{TRACE}", "spanId": "00f067aa0ba902b7", "name": "GET /cart", "kind": 3, "startTimeUnixNano": "2000", "endTimeUnixNano": "9000",
              "events": [{{"name": "exception", "attributes": [{{"key": "exception.message", "value": {{"stringValue": "redis: timeout"}}}}]}}],
              "status": {{"code": 2, "message": "broken"}}}},
            {{"traceId": "{TRACE}", "spanId": "00f067aa0ba902b8", "name": "POST /pay", "startTimeUnixNano": "500", "endTimeUnixNano": "900"}}]}}]}}]}}"#
    );
    let metrics = format!(
        r#"{{"resourceMetrics": [{{{resource}, "scopeMetrics": [{{"metrics": [{{"name": "redis.calls", "unit": "{{call}}", "gauge": {{"dataPoints": [
            {{"timeUnixNano": "4000", "asDouble": 1.5, "attributes": [{{"key": "command", "value": {{"stringValue": "get"}}}}]}},
            {{"timeUnixNano": "2500", "asInt": "42", "attributes": [{{"key": "command", "value": {{"stringValue": "del"}}}}]}}]}}}}]}}]}}]}}"#
    );
    let wire = |signal, text: String| (signal, json::to_wire(signal, text.as_bytes()).unwrap());
    [wire(Signal::Logs, logs), wire(Signal::Traces, spans), wire(Signal::Metrics, metrics)]
}

/// How many logs, spans and data points are wanted.
fn counts(query: &Query) -> [u64; 3] {
    let wanted = Wanted::of(query).unwrap_or_else(|(text, mistake)| panic!("{text}: {mistake:?}"));
    requests().map(|(signal, wire)| {
        let kept = wanted.keep(signal, &[(wire.into(), 2)], Now::read());
        assert!(wanted.wants(signal) || kept.1 == 0);
        kept.1
    })
}

#[test]
fn text_is_found_in_all_that_is_shown() {
    let rows = [
        ("", [2, 2, 2]),
        ("redis", [1, 1, 2]),
        ("REDIS", [1, 1, 2]),
        ("refused redis", [1, 0, 0]),
        // A word in the resource, the other in the item; a part of a word.
        ("shop redi", [1, 1, 2]),
        ("née", [1, 0, 0]),
        ("NÉE", [1, 0, 0]),
        ("user=17", [1, 0, 0]),
        ("took=0.25", [1, 0, 0]),
        ("service.name=shop", [2, 2, 2]),
        ("cart.go", [2, 0, 0]),
        ("error", [1, 1, 0]),
        ("client", [0, 1, 0]),
        ("timeout", [0, 1, 0]),
        ("broken", [0, 1, 0]),
        ("4bf92f35", [0, 2, 0]),
        ("00f067aa0ba902b8", [0, 1, 0]),
        ("command=get", [0, 0, 1]),
        ("1.5", [0, 0, 1]),
        ("42", [0, 0, 1]),
        ("gauge {call}", [0, 0, 2]),
        // Parts of the encoding, and names that are not shown.
        ("stringvalue", [0, 0, 0]),
        ("body", [0, 0, 0]),
        ("zebra", [0, 0, 0]),
    ];
    for (text, expected) in rows {
        assert_eq!(counts(&Query { text: text.to_owned(), ..Query::default() }), expected, "{text}");
    }
}

#[test]
fn conditions_about_signals_are_joined() {
    let query = |expression: &str, conditions: &[(&str, &str)], text: &str| {
        let signal = |name| OPTIONS.iter().find(|(known, _)| *known == name).unwrap().1;
        let conditions = conditions.iter().map(|(name, condition)| (signal(*name), (*condition).to_owned()));
        Query { expression: expression.to_owned(), conditions: conditions.collect(), text: text.to_owned() }
    };
    let rows = [
        (query("", &[("logs", "severity_number >= 13")], ""), [1, 0, 0]),
        (query("", &[("logs", "severity_number >= 13"), ("spans", "name == \"POST /pay\"")], ""), [1, 1, 0]),
        (query("", &[("spans", ""), ("metrics", "value_int == 42")], ""), [0, 2, 1]),
        (query("resource.attributes[\"service.name\"] == \"Shop\"", &[("logs", "")], ""), [2, 0, 0]),
        (query("resource.attributes[\"service.name\"] == \"x\"", &[("logs", "")], ""), [0, 0, 0]),
        (query(TRACE, &[("spans", "kind == SPAN_KIND_CLIENT")], ""), [0, 1, 0]),
        (query("", &[("logs", ""), ("spans", "")], "redis"), [1, 1, 0]),
        (query("span.name == \"GET /cart\"", &[], "pay"), [0, 0, 0]),
    ];
    for (query, expected) in rows {
        // A span of kind 3 is a client.
        assert_eq!(counts(&query), expected, "{} {:?} {}", query.expression, query.conditions, query.text);
    }
    // A condition about another signal than the one it is given for, and an expression about none that is selected.
    for wrong in [query("", &[("logs", "span.name == \"a\"")], ""), query("log.body == \"a\"", &[("spans", "")], "")] {
        assert!(Wanted::of(&wrong).is_err());
    }
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_misaki")).args(arguments).env("TZ", "UTC").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn aside(arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let words = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(words).await.unwrap()
}

fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(Vec::new(), &misaki.running)).unwrap()
}

const ALL: &str = "service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}, metrics: {receivers: [otlp], exporters: [otlp]}}}";

/// Options reach the collector, and the past comes by the times of items, which arrive in another order.
#[tokio::test]
async fn the_past_is_sorted_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start(ALL, &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let socket = inspection.path().to_str().unwrap().to_owned();
    for (signal, wire) in requests() {
        assert!(misaki.post(Via::Http, signal, wire, &[]).await.ok);
    }
    let tail = async |arguments: &[&str]| aside(&[&["tail", "--past", "--socket", &socket], arguments].concat()).await;
    let rows: [(&[&str], &[&str]); 5] = [
        (&[], &["POST /pay", "took", "GET /cart", "redis.calls", "Redis refused", "redis.calls"]),
        (&["-n", "2"], &["POST /pay", "took"]),
        (&["--text", "REDIS", "--logs", "", "--spans", ""], &["GET /cart", "Redis refused"]),
        (&["--logs", "severity_number >= 13", "--metrics", "value_int == 42"], &["redis.calls", "Redis refused"]),
        (&["--since", "5m", "span.name == \"POST /pay\""], &["POST /pay"]),
    ];
    for (arguments, expected) in rows {
        let (status, out, err) = tail(arguments).await;
        assert_eq!((status, err.as_str(), out.lines().count()), (0, "", expected.len()), "{arguments:?}: {out}");
        for (line, name) in out.lines().zip(expected) {
            assert!(line.contains(name), "{arguments:?}: {name}: {out}");
        }
    }
    let (status, out, err) = tail(&["--text", "zebra"]).await;
    assert!(status == 0 && out.is_empty() && err.starts_with("none of what the collector still keeps"), "{out}{err}");
    let (status, _, err) = tail(&["--at", "leaving"]).await;
    assert!(status == 64 && err.starts_with("error: --past: of what leaves or is filtered nothing is kept"), "{err}");
    // One form after the other, under each of its names.
    for (form, expected) in [
        ("basic", "Logs\t{"),
        ("normal", "Redis refused"),
        ("detailed", "Body: Str(Redis refused)"),
        ("line", "Redis refused"),
        ("json", "\"stringValue\":\"Redis refused\""),
        ("tree", "Redis refused"),
        ("LINE", "Redis refused"),
    ] {
        for option in ["-o", "--output", "--print"] {
            let (status, out, err) = tail(&[option, form, "--text", "refused"]).await;
            assert!(status == 0 && out.contains(expected), "{option} {form}: {out}{err}");
            let (status, out, err) = aside(&["print-config", option, form]).await;
            assert!(
                status == 0 && out.contains(&format!("verbosity: {}", form.to_lowercase())),
                "{option} {form}: {out}{err}"
            );
        }
    }
    misaki.settle().await;
    misaki.finish().await;
}

#[test]
fn what_is_proposed_keeps_the_options() {
    let rows = [
        (&["tail", "redis"][..], "help: misaki tail --text redis\n  or: misaki tail 'IsMatch(body, \"redis\")'\n"),
        (&["tail", "redis down", "--past"], "help: misaki tail --text 'redis down' --past\n"),
        (&["tail", "--logs", "redis"], "help: misaki tail --logs '' --text redis\n"),
        (&["tail", "--spans=kind == client"], "help: misaki tail --spans='kind == SPAN_KIND_CLIENT'\n"),
        (&["tail", "ERROR"], "  or: misaki tail --text ERROR\n"),
        (&["tail", "--as-rule", "--text", "x"], "error: --as-rule: a filter has no --text"),
        (&["tail", "--as-rule", "log.body == \"x\"", "--logs", "log.body == \"y\""], "error: --as-rule: join the"),
    ];
    for (arguments, expected) in rows {
        let (status, _, err) = run(arguments);
        assert!(status == 64 && err.contains(expected), "{arguments:?}: {err}");
    }
    let (_, out, _) = run(&["tail", "--as-rule", "--logs", "log.body == \"x\"", "--spans", "span.name == \"y\""]);
    assert!(out.ends_with(
        "log_conditions:\n      - 'log.body == \"x\"'\n    trace_conditions:\n      - 'span.name == \"y\"'\n"
    ));
}
