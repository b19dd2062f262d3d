//! `transform` beyond what is recorded in `fixtures/pipelines`: groups, the shared cache, error modes.

use misaki::face::telemetry::Signal;

use super::harness::*;

/// The bodies that come out for these.
async fn bodies(settings: &str, names: &[&str]) -> Vec<String> {
    let upstream = Upstream::start().await;
    let changes = format!(
        "{{processors: {{transform: {settings}}}, service: {{pipelines: {{logs: {{processors: [transform]}}}}}}}}"
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    assert!(misaki.send_by(Via::Grpc, Signal::Logs, names).await.ok);
    misaki.settle().await;
    misaki.finish().await;
    upstream.kept()
}

#[tokio::test]
async fn groups_run_one_after_another() {
    let settings = r#"{log_statements: [{statements: ['set(log.body, Concat([log.body, "1"], ""))', 'set(log.body, Concat([log.body, "2"], "")) where log.body == "a1"']}, {context: log, conditions: ['body == "a12"', 'body == "c1"'], statements: ['set(body, ToUpperCase(body))']}]}"#;
    assert_eq!(bodies(settings, &["a", "b", "c"]).await, ["A12", "b1", "C1"]);
}

#[tokio::test]
async fn a_cache_lasts_as_long_as_it_is_shared() {
    let group = |shared| {
        format!(
            r#"{{log_statements: [{{context: log, shared_cache: {shared}, statements: ['set(cache["seen"], body) where cache["seen"] == nil', 'set(body, Concat([body, cache["seen"]], "-"))']}}]}}"#
        )
    };
    assert_eq!(bodies(&group(false), &["a", "b"]).await, ["a-a", "b-b"]);
    assert_eq!(bodies(&group(true), &["a", "b"]).await, ["a-a", "b-a"]);
}

/// All groups of a context that share it have one, for as long as a request goes; those that don't, none of it.
#[tokio::test]
async fn groups_of_a_context_share_one_cache() {
    let groups = r#"{log_statements: [
        {context: log, shared_cache: true, statements: ['set(cache["seen"], body) where cache["seen"] == nil']},
        {context: log, statements: ['set(body, Concat([body, "none"], "-")) where cache["seen"] == nil']},
        {context: scope, shared_cache: true, statements: ['set(cache["seen"], "of another context")']},
        {context: log, shared_cache: true, statements: ['set(body, Concat([body, cache["seen"]], "-"))']}]}"#;
    assert_eq!(bodies(groups, &["a", "b"]).await, ["a-none-a", "b-none-a"]);
    let upstream = Upstream::start().await;
    let changes = format!(
        "{{processors: {{transform: {groups}}}, service: {{pipelines: {{logs: {{processors: [transform]}}}}}}}}"
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    for name in ["a", "b"] {
        assert!(misaki.send_by(Via::Grpc, Signal::Logs, &[name]).await.ok);
        misaki.settle().await;
    }
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["a-none-a", "b-none-b"], "the next request begins with none");
}

/// A statement that fails leaves what it was to change, and the next one runs; or the whole request is refused.
#[tokio::test]
async fn a_failing_statement_follows_the_error_mode() {
    let statements = r#"['set(body, Int(body))', 'set(body, "done") where body == 1']"#;
    for mode in ["ignore", "silent"] {
        let settings = format!("{{error_mode: {mode}, log_statements: [{{context: log, statements: {statements}}}]}}");
        assert_eq!(bodies(&settings, &["1", "x"]).await, ["done", "x"]);
    }
    let upstream = Upstream::start().await;
    let changes = format!(
        "{{processors: {{transform: {{log_statements: [{{context: log, error_mode: propagate, statements: {statements}}}]}}}}, service: {{pipelines: {{logs: {{processors: [transform]}}}}}}}}"
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    let answer = misaki.send_by(Via::Grpc, Signal::Logs, &["1", "x"]).await;
    assert_eq!((answer.ok, answer.code), (false, 14));
    assert!(answer.message.starts_with("failed to execute statement: set(body, Int(body)), "), "{answer:?}");
    assert_eq!(misaki.finish().await.len(), 0);
    assert_eq!(upstream.requests(), 0);
}

/// A record of which a statement would make too much fails alone: those before and behind it are edited.
#[tokio::test]
async fn one_record_does_not_use_up_the_memory_of_the_others() {
    let settings = r#"{log_statements: [{context: log, statements: ['set(log.attributes["x"], Split(log.body, ","))', 'set(log.body, Concat(["seen ", Substring(log.body, 0, 1)], ""))']}]}"#;
    let commas = ",".repeat(300_000);
    let mut names = vec!["a"; 200];
    names.push(&commas);
    names.extend(["b"; 200]);
    let mut expected = vec!["seen a"; 200];
    expected.push("seen ,");
    expected.extend(["seen b"; 200]);
    assert_eq!(bodies(settings, &names).await, expected);
}

/// Hashes are longer than what they stand for; many short attributes are a request as any other.
#[tokio::test]
async fn hashes_of_many_short_attributes_fit() {
    let attributes: Vec<String> =
        (0..5_000).map(|key| format!(r#"{{"key": "k{key}", "value": {{"stringValue": "4"}}}}"#)).collect();
    let one = format!(r#"{{"body": {{"stringValue": "x"}}, "attributes": [{}]}}"#, attributes.join(","));
    let few = format!(r#"{{"attributes": [{}]}}"#, attributes.get(..20).unwrap_or_default().join(","));
    for (records, count) in [(one, 1), (vec![few; 1_000].join(","), 1_000)] {
        let upstream = Upstream::start().await;
        let changes = "{processors: {attributes: {actions: [{pattern: 'k.*', action: hash}]}}, service: {pipelines: {logs: {processors: [attributes]}}}}";
        let mut misaki = Misaki::start(changes, &[&upstream]).await;
        let body = format!(r#"{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{records}]}}]}}]}}"#);
        let answer = misaki.post_json(Signal::Logs, body).await;
        assert!(answer.ok, "{answer:?}");
        misaki.settle().await;
        misaki.finish().await;
        assert_eq!(upstream.kept().len(), count);
    }
}

/// What is taken out of a metric joins its scope, is visited after the others, and is counted; a copy of a copy of a copy
/// ends with the memory that a request's statements have.
#[tokio::test]
async fn new_metrics_are_visited_and_counted() {
    let rows = [
        (r#"copy_metric(name="b") where metric.name == "a""#, vec!["a", "b"]),
        (r#"copy_metric(Concat([metric.name, "x"], "")) where not IsMatch(metric.name, "xx")"#, vec!["a", "ax", "axx"]),
        ("convert_gauge_to_sum(\"delta\", true)", vec!["a"]),
        ("scale_metric(10, \"s\")", vec!["a"]),
        ("extract_sum_metric(true)", vec!["a"]),
    ];
    for (statement, names) in rows {
        let upstream = Upstream::start().await;
        let changes = format!(
            "{{processors: {{transform: {{metric_statements: [{{context: metric, statements: ['{statement}']}}]}}}}, service: {{pipelines: {{metrics: {{receivers: [otlp], processors: [transform], exporters: [otlp]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        assert!(misaki.send_by(Via::Grpc, Signal::Metrics, &["a"]).await.ok);
        misaki.settle().await;
        assert_eq!(upstream.kept(), names, "{statement}");
        assert_eq!(misaki.finish().await[0].exported, names.len() as u64, "{statement}");
    }
    let upstream = Upstream::start().await;
    let changes = "{processors: {transform: {metric_statements: [{context: metric, statements: ['copy_metric()']}]}}, service: {pipelines: {metrics: {receivers: [otlp], processors: [transform], exporters: [otlp]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    // Each copy is copied in turn: the memory of one request ends it, and nothing of it goes on.
    assert!(!misaki.send_by(Via::Grpc, Signal::Metrics, &["a"]).await.ok);
    misaki.settle().await;
    assert!(upstream.kept().is_empty());
    misaki.finish().await;
}

/// What is asked of a long resource for each of its records is looked for once; what is new each time, or is looked for in something that is
/// edited each time, is refused before it takes longer than a request may.
#[tokio::test]
async fn long_resources_are_not_searched_for_each_record() {
    const RESOURCE: usize = 300;
    let field = |number: u8, payload: &[u8]| {
        let mut out = vec![number << 3 | 2];
        misaki::face::otlp::wire::put_varint(&mut out, payload.len() as u64);
        [out, payload.to_vec()].concat()
    };
    let text = |text: &str| field(1, text.as_bytes());
    let attribute = |key: String| field(1, &[field(1, key.as_bytes()), field(2, &text(&"v".repeat(1000)))].concat());
    let resource: Vec<u8> = (0..RESOURCE).flat_map(|number| attribute(format!("key.{number}"))).collect();
    let request = |records: usize| {
        let record = |number: usize| field(2, &field(5, &text(&format!("no.{number}"))));
        let records: Vec<u8> = (0..records).flat_map(record).collect();
        field(1, &[field(1, &resource), field(2, &records)].concat())
    };
    for (statement, records, is_taken) in [
        (
            r#"set(log.attributes["x"], resource.attributes["no.such"]) where resource.attributes["key.299"] != nil"#,
            4000,
            true,
        ),
        (r#"set(log.attributes["x"], resource.attributes[log.body])"#, 1000, true),
        (r#"set(log.attributes["x"], resource.attributes[log.body])"#, 4000, false),
        (r#"set(resource.attributes["key.299"], log.body)"#, 1000, true),
        (r#"set(resource.attributes["key.299"], log.body)"#, 4000, false),
    ] {
        let upstream = Upstream::start().await;
        let changes = format!(
            "{{receivers: {{otlp: {{protocols: {{grpc: {{max_recv_msg_size_mib: 64}}}}}}}}, processors: {{transform: {{error_mode: ignore, log_statements: ['{statement}']}}}}, service: {{pipelines: {{logs: {{processors: [transform]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        let answer = misaki.ports.post(Via::Grpc, Signal::Logs, request(records), &[]).await;
        assert_eq!((answer.ok, answer.code), if is_taken { (true, 0) } else { (false, 3) }, "{statement}: {answer:?}");
        assert_eq!(answer.message.contains("too much read again"), !is_taken, "{answer:?}");
        misaki.finish().await;
    }
}

/// What two bytes of a request stand for may take many more where it is taken apart.
#[tokio::test]
async fn no_more_is_taken_apart_than_there_is_room_for() {
    let list = |count: usize| format!(r#"{{"arrayValue":{{"values":[{}]}}}}"#, vec!["{}"; count].join(","));
    let map = |count: usize| {
        let entries: Vec<_> = (0..count).map(|number| format!(r#"{{"key":"{number:x}"}}"#)).collect();
        format!(r#"{{"kvlistValue":{{"values":[{}]}}}}"#, entries.join(","))
    };
    let text = |text: String| format!(r#"{{"stringValue":"{text}"}}"#);
    const MANY: usize = 300_000;
    for (value, body, is_taken) in [
        ("Len(Sort(log.body))", list(MANY), false),
        ("Len(Sort(log.body))", list(1000), true),
        ("Len(SliceToMap(log.body))", list(MANY), false),
        ("Len(ToKeyValueString(log.body))", map(MANY), false),
        ("Len(Sort(Split(log.body, \",\")))", text(",".repeat(MANY)), false),
        ("Len(ParseCSV(log.body, \"a,b\"))", text(",".repeat(MANY)), false),
        // Without an order there is nothing to put in order.
        ("Len(String(log.body))", map(MANY), true),
        ("Len(log.body.string)", map(MANY), true),
    ] {
        let upstream = Upstream::start().await;
        let statement = format!("set(log.attributes[\"x\"], {value}) where log.body != log.attributes");
        let changes = format!(
            "{{processors: {{transform: {{error_mode: propagate, log_statements: ['{statement}']}}}}, service: {{pipelines: {{logs: {{processors: [transform]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        let log = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{body}}}]}}]}}]}}"#);
        let answer = misaki.post_json(Signal::Logs, log).await;
        assert_eq!(
            (answer.ok, answer.message.contains("what one function may make")),
            (is_taken, !is_taken),
            "{value}: {answer:?}"
        );
        misaki.finish().await;
    }
}
