//! `filter` beyond what is recorded in `fixtures/pipelines`: its counters, the ledger, observing, refusing, its errors.

use misaki::config;
use misaki::diagnostics::metrics::Page;
use misaki::service::plan::Plan;
use misaki::telemetry::Signal;

use super::harness::*;

fn changes(settings: &str, signal: &str) -> String {
    format!(
        "{{processors: {{filter: {settings}}}, service: {{pipelines: {{{signal}: {{receivers: [otlp], processors: [filter], exporters: [otlp]}}}}}}}}"
    )
}

fn page(misaki: &Misaki) -> String {
    let mut page = Page::default();
    misaki.running.graph.observers().iter().for_each(|observer| observer.observe(&mut page));
    page.text()
}

fn lines(lines: Vec<(&str, String)>) -> Vec<String> {
    lines.into_iter().map(|(_, line)| line).collect()
}

#[tokio::test]
async fn each_condition_counts_what_it_dropped() {
    let upstream = Upstream::start().await;
    let settings = r#"{logs: {log_record: ['body == "a"', 'IsMatch(body, "^b")', 'body == "never"']}}"#;
    let mut misaki = Misaki::start(&changes(settings, "logs"), &[&upstream]).await;
    let said = [
        "drops logs whose body is \"a\"",
        "drops logs whose body matches \"^b\"",
        "drops logs whose body is \"never\"",
    ];
    assert_eq!(lines(misaki.running.intentions()), said);
    assert!(misaki.send_by(Via::Grpc, Signal::Logs, &["a", "b1", "c", "a", "b2", "a"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["c"]);
    let page = page(&misaki);
    for expected in [
        "otelcol_processor_filter_logs_filtered{filter=\"filter\"} 5\n",
        "misaki_filter_condition_matched{processor=\"filter\",otel_signal=\"logs\",condition=\"body == \\\"a\\\"\"} 3\n",
        "misaki_filter_condition_dropped_items{processor=\"filter\",otel_signal=\"logs\",condition=\"IsMatch(body, \\\"^b\\\")\"} 2\n",
        // A record is its body of one letter, in an AnyValue: five bytes.
        "misaki_filter_condition_dropped_bytes{processor=\"filter\",otel_signal=\"logs\",condition=\"body == \\\"a\\\"\"} 15\n",
        "otelcol_processor_outgoing_items{processor=\"filter\",otel_signal=\"logs\"} 1\n",
    ] {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    let results = lines(misaki.running.results());
    assert_eq!(results[0], "drops logs whose body is \"a\": 3 matched, 3 log records (15 bytes) dropped");
    assert_eq!(results[2], "drops logs whose body is \"never\": 0 matched, 0 log records (0 bytes) dropped");
    let balance = misaki.finish().await;
    assert_eq!((balance[0].accepted, balance[0].exported, balance[0].dropped.clone()), (6, 1, vec![("filtered", 5)]));
}

/// What would go whole counts once, whatever conditions are true for what is in it.
#[tokio::test]
async fn observing_drops_nothing() {
    let upstream = Upstream::start().await;
    let settings = r#"{mode: observe, logs: {resource: ['schema_url == ""'], log_record: ['true']}}"#;
    let mut misaki = Misaki::start(&changes(settings, "logs"), &[&upstream]).await;
    assert!(misaki.send_by(Via::Grpc, Signal::Logs, &["a", "b"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["a", "b"]);
    let results = lines(misaki.running.results());
    assert_eq!(
        results,
        [
            "drops resources whose schema url is \"\": 1 matched, 0 log records (0 bytes) dropped",
            "drops all logs: 0 matched, 0 log records (0 bytes) dropped"
        ]
    );
    assert_eq!(misaki.finish().await[0].exported, 2);
}

#[tokio::test]
async fn dropping_all_is_a_success() {
    for (signal, key) in
        [(Signal::Logs, "logs: {log_record"), (Signal::Traces, "traces: {span"), (Signal::Metrics, "metrics: {metric")]
    {
        let upstream = Upstream::start().await;
        let mut misaki = Misaki::start(&changes(&format!("{{{key}: ['true']}}}}"), signal.name()), &[&upstream]).await;
        assert!(misaki.send_by(Via::Grpc, signal, &["a", "b"]).await.ok);
        assert_eq!(misaki.finish().await[0].dropped, [("filtered", 2)]);
        assert_eq!(upstream.requests(), 0);
    }
}

#[tokio::test]
async fn a_failing_condition_follows_the_error_mode() {
    for (mode, ok) in [("ignore", true), ("silent", true), ("propagate", false)] {
        let upstream = Upstream::start().await;
        let settings = format!(r#"{{error_mode: {mode}, logs: {{log_record: ['Int(body) == 1']}}}}"#);
        let mut misaki = Misaki::start(&changes(&settings, "logs"), &[&upstream]).await;
        let answer = misaki.send_by(Via::Http, Signal::Logs, &["1", "x"]).await;
        assert_eq!(answer.ok, ok, "{answer:?}");
        if !ok {
            assert_eq!(answer.code, 503);
            assert!(answer.message.starts_with("failed to eval condition: Int(body) == 1, "), "{answer:?}");
        }
        misaki.settle().await;
        assert_eq!(upstream.kept(), if ok { vec!["x"] } else { vec![] });
        misaki.finish().await;
    }
}

#[tokio::test]
async fn groups_have_their_own_context_and_mode() {
    let upstream = Upstream::start().await;
    let settings = r#"{log_conditions: [{conditions: ['log.body == "a"']}, {context: log, error_mode: propagate, conditions: ['body == "b"']}, {context: resource, conditions: ['attributes["none"] != nil']}]}"#;
    let mut misaki = Misaki::start(&changes(settings, "logs"), &[&upstream]).await;
    assert!(misaki.send_by(Via::Grpc, Signal::Logs, &["a", "b", "c"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["c"]);
    misaki.finish().await;
}

/// `include` keeps what has all its properties, `exclude` drops it, and both are said so.
#[tokio::test]
async fn match_properties_are_conditions() {
    let rows = [
        (
            "{logs: {include: {match_type: strict, bodies: [a, b]}}}",
            Signal::Logs,
            vec!["a", "b"],
            "keeps only logs whose body is \"a\" or whose body is \"b\"",
        ),
        (
            "{logs: {exclude: {match_type: regexp, bodies: ['^(a|b)$']}}}",
            Signal::Logs,
            vec!["c\"\\"],
            "drops logs whose body matches \"^(a|b)$\"",
        ),
        (
            r#"{logs: {exclude: {match_type: strict, bodies: ["c\"\\"]}}}"#,
            Signal::Logs,
            vec!["a", "b"],
            "drops logs whose body is \"c\"\\\"",
        ),
        (
            "{logs: {exclude: {severity_number: {match_undefined: true}}}}",
            Signal::Logs,
            vec![],
            "drops logs whose severity is at least 0 or whose severity is 0",
        ),
        (
            "{spans: {include: {match_type: strict, span_names: [a], services: ['<nil-service-name>']}}}",
            Signal::Traces,
            vec!["a"],
            "",
        ),
        ("{spans: {exclude: {match_type: regexp, span_kinds: [UNSPEC]}}}", Signal::Traces, vec![], ""),
        (
            "{metrics: {exclude: {match_type: strict, metric_names: [a]}}}",
            Signal::Metrics,
            vec!["b", "c\"\\"],
            "drops metrics whose name is \"a\"",
        ),
    ];
    for (settings, signal, kept, said) in rows {
        let upstream = Upstream::start().await;
        let mut misaki = Misaki::start(&changes(settings, signal.name()), &[&upstream]).await;
        if !said.is_empty() {
            assert_eq!(lines(misaki.running.intentions()), [said]);
        }
        assert!(misaki.send_by(Via::Grpc, signal, &["a", "b", "c\"\\"]).await.ok);
        misaki.settle().await;
        assert_eq!(upstream.kept(), kept, "{settings}");
        misaki.finish().await;
    }
}

#[track_caller]
fn check_error(settings: &str, expected: &str) {
    let text = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{filter: {settings}}}, exporters: {{nop: }}, service: {{pipelines: {{logs: {{receivers: [otlp], processors: [filter], exporters: [nop]}}}}}}}}"
    );
    let loaded = config::load(&[text], &[], &|_| None);
    Plan::read(&loaded);
    let messages: Vec<String> = loaded.problems.sorted().into_iter().map(|problem| problem.message).collect();
    assert_eq!(messages.join("; "), expected);
}

#[test]
fn errors_are_worded_as_the_go_collectors_are() {
    check_error("{error_mode: loud}", "unknown value \"loud\"");
    check_error(
        "{log_conditions: ['log.body == \"a\"'], logs: {log_record: ['body == \"a\"']}}",
        "cannot use context inferred log conditions \"log_conditions\" and the settings \"logs.resource\", \"logs.log_record\" at the same time",
    );
    check_error(
        "{logs: {log_record: ['true'], include: {match_type: strict, bodies: [a]}}}",
        "cannot use \"logs.log_record\" and the settings \"logs.include\", \"logs.exclude\" at the same time",
    );
    check_error("{logs: {include: {bodies: [a]}}}", "it is required, and missing");
    check_error("{logs: {include: {severity_number: {min: LOUD}}}}", "'LOUD' is not a valid severity");
    check_error("{metrics: {include: {match_type: strict, expressions: [x]}}}", "expressions are not supported");
    check_error("{log_conditions: [{context: span, conditions: []}]}", "unknown value \"span\"");
}
