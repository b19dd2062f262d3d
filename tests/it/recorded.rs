//! Random settings of the processors and random telemetry, and what version 0.161 of the Go collector made of them
//! (`fixtures/processors`): a line has a configuration, and for each request what came out, or nothing.

use misaki::telemetry::Signal;
use serde_json::Value as Json;

use super::harness::*;

#[tokio::test]
async fn processors_do_what_the_go_collectors_do() {
    for processor in [
        "attributes",
        "filter",
        "filter_expressions",
        "probabilistic_sampler",
        "redaction",
        "redaction_sql",
        "resource",
        "transform",
    ] {
        let recorded = std::fs::read_to_string(format!("fixtures/processors/{processor}.jsonl")).unwrap();
        assert!(recorded.lines().count() >= 20);
        for (number, line) in recorded.lines().enumerate() {
            check(&format!("{processor}, line {}", number + 1), &serde_json::from_str(line).unwrap()).await;
        }
    }
}

async fn check(context: &str, recorded: &Json) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let processor = recorded["processor"].as_str().unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    // A processor need not know every signal that it could be asked about.
    let signals = Signal::ALL.into_iter().filter(|signal| cases.iter().any(|case| case["signal"] == signal.name()));
    let pipelines = signals.map(|signal| {
        format!("{}: {{receivers: [otlp], processors: [{processor}], exporters: [file]}}", signal.name())
    });
    let config = format!(
        "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0', include_metadata: true}}}}}}}}, processors: {{{processor}: {}}}, exporters: {{file: {{path: '{}'}}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{{}}}}}}}",
        recorded["config"],
        file.display(),
        pipelines.collect::<Vec<_>>().join(", ")
    );
    let mut misaki = Misaki::load(&[&config], 1, &|_| None).await;
    for case in cases {
        let signal = Signal::ALL.into_iter().find(|signal| case["signal"] == signal.name()).unwrap();
        assert!(misaki.post_json(signal, case["in"].to_string()).await.ok, "{context}: {}", recorded["config"]);
    }
    misaki.finish().await;
    let out = std::fs::read_to_string(&file).unwrap();
    let out: Vec<Json> = out.lines().map(|line| sorted(serde_json::from_str(line).unwrap())).collect();
    let expected = cases.iter().map(|case| &case["out"]).filter(|out| !out.is_null());
    let expected: Vec<Json> = expected.map(|out| sorted(out.clone())).collect();
    assert_eq!(out, expected, "{context}: {}", recorded["config"]);
}

/// With attributes in the order of their keys: the Go collector moves the last one to where one was removed.
fn sorted(json: Json) -> Json {
    match json {
        Json::Array(items) => {
            let mut items: Vec<Json> = items.into_iter().map(sorted).collect();
            if items.iter().all(|item| item.get("value").is_some()) {
                items.sort_by_key(|item| item["key"].as_str().unwrap_or_default().to_owned());
            }
            Json::Array(items)
        }
        Json::Object(fields) => Json::Object(fields.into_iter().map(|(key, value)| (key, sorted(value))).collect()),
        other => other,
    }
}
