//! Random settings of the processors and random telemetry, and what version 0.161 of the Go collector made of them
//! (`fixtures/processors`): a line has a configuration, and for each request what came out, or nothing. What it answers to a request
//! (`fixtures/answers`) and which configs it takes (`fixtures/taken`) is recorded by `tests/conformance/record.py`.

use misaki::face::config;
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;
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

fn lines(file: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the Go collector's `validate` takes is taken; what it refuses is refused, or a warning says that it is something else.
#[test]
fn configs_are_taken_as_by_the_go_collector() {
    let cases = lines("fixtures/taken/configs.jsonl");
    assert!(cases.len() > 150);
    let mut wrong = Vec::new();
    for case in &cases {
        let sources = case["sources"].as_array().unwrap().iter().map(|source| source.as_str().unwrap().to_owned());
        let environment = |name: &str| case["environment"][name].as_str().map(str::to_owned);
        let loaded = config::load(&sources.collect::<Vec<_>>(), &[], &environment);
        let plan = Plan::read(&loaded);
        plan.look(&loaded);
        let told: Vec<_> =
            loaded.problems.sorted().into_iter().map(|problem| (problem.level, problem.message)).collect();
        let is_right = match case["taken"].as_bool().unwrap() {
            true => !loaded.problems.has_errors(),
            false => !told.is_empty() || loaded.problems.render(&loaded.sources, false).contains("no effect"),
        };
        if !is_right {
            wrong.push(format!("{case}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a variable is where no type says it: for what the Go collector refuses, there is a warning.
#[test]
fn references_are_what_they_are_in_the_go_collector() {
    let mut wrong = Vec::new();
    for case in lines("fixtures/references/values.jsonl") {
        let loaded =
            config::load(&["yaml:{a: '${env:VALUE}'}".to_owned()], &[], &|_| Some(case["text"].as_str()?.to_owned()));
        let value = config::emit::json_value(loaded.root.get("a").unwrap());
        let problems: Vec<_> = loaded.problems.sorted().into_iter().map(|problem| problem.message).collect();
        let is_right = match case["refused"].as_bool() {
            Some(_) => !problems.is_empty(),
            None => value == plain(&case["value"]) && problems.is_empty(),
        };
        if !is_right {
            wrong.push(format!("{case}: {value}, {problems:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The value of an attribute as it stands in a config.
fn plain(value: &Json) -> Json {
    let Some((kind, inner)) = value.as_object().and_then(|value| value.iter().next()) else { return Json::Null };
    let values = || inner["values"].as_array().into_iter().flatten();
    match kind.as_str() {
        "intValue" => inner.as_str().unwrap().parse::<i64>().unwrap().into(),
        // Numbers without end have no form in JSON.
        "doubleValue" => inner.as_f64().into(),
        "arrayValue" => values().map(plain).collect(),
        "kvlistValue" => {
            values().map(|pair| (pair["key"].as_str().unwrap().to_owned(), plain(&pair["value"]))).collect()
        }
        _ => inner.clone(),
    }
}

/// Where the Go collector redirects to a clean path, the answer there is recorded: clients that post do not follow.
#[tokio::test]
async fn requests_are_answered_as_by_the_go_collector() {
    let cases = lines("fixtures/answers/http.jsonl");
    assert!(cases.len() > 60);
    let mut wrong = Vec::new();
    for case in cases {
        let port = free_port().await;
        let settings = |server: &str| {
            let mut settings = if case["server"] == server { case["settings"].clone() } else { serde_json::json!({}) };
            let port = if case["server"] == server { port } else { 0 };
            settings["endpoint"] = format!("127.0.0.1:{port}").into();
            settings
        };
        let pipelines =
            Signal::ALL.map(|signal| format!("{}: {{receivers: [otlp], exporters: [nop]}}", signal.name())).join(", ");
        let config = format!(
            "{{receivers: {{otlp: {{protocols: {{http: {}}}}}}}, exporters: {{nop: }}, extensions: {{health_check: {}}}, \
             service: {{extensions: [health_check], telemetry: {{metrics: {{level: none}}}}, pipelines: {{{pipelines}}}}}}}",
            settings("otlp"),
            settings("health_check"),
        );
        let mut misaki = Misaki::load(&[&config], 1, &|_| None).await;
        let head: Vec<_> =
            case["head"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect();
        let body = match case["body_base64"].as_str() {
            Some(body) => {
                let mut bytes = Vec::new();
                misaki::face::otlp::base64::read_padded(body.as_bytes(), &mut bytes).unwrap();
                bytes
            }
            None => case["body"].as_str().unwrap().as_bytes().to_vec(),
        };
        let (status, headers) = tokio::task::spawn_blocking(move || answer(port, &head, &body)).await.unwrap();
        let recorded = case["status"].as_u64().unwrap();
        // A compression that is not known is 415 here.
        let is_right =
            u64::from(status) == recorded || (recorded, status) == (400, 415) && case["subject"] == "compressions";
        let cors = case["headers"].as_object().unwrap();
        let is_marked = |(name, value): (&String, &Json)| {
            headers.contains(&format!("\n{name}: {}\r", value.as_str().unwrap().to_lowercase()))
        };
        let says =
            |start: &str| (headers.contains(&format!("\n{start}")), cors.keys().any(|name| name.starts_with(start)));
        let (cors_headers, vary) = (says("access-control"), says("vary"));
        let is_whole = cors_headers.0 == cors_headers.1 && vary.0 == vary.1;
        if !is_right || !cors.iter().all(is_marked) || !is_whole {
            wrong.push(format!("{case}: {status}\n{headers}"));
        }
        misaki.finish().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The status of the answer to one request, and its headers.
fn answer(port: u16, head: &[String], body: &[u8]) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (line, headers) = head.split_first().unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|header| request.push_str(&format!("{header}\r\n")));
    stream.write_all(&[request.as_bytes(), b"\r\n", body].concat()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let head = answer.split("\r\n\r\n").next().unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), format!("{}\r", head.to_lowercase()))
}
