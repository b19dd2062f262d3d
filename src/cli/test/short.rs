//! The short form of telemetry in test cases, and its conversion to OTLP/JSON and back. A record is a map with one key,
//! its kind.
//!
//! `attributes` and `resource` are plain maps, `severity` is a number, `scope` a name; a metric has its value under
//! `gauge` or `sum`. All other keys are those of OTLP/JSON. The way back uses the short form if it loses nothing.

use serde_json::{Map, Value, json};

use crate::cli::send::signal_of;
use crate::config::nearest::nearest;
use crate::otlp::json::{JsonError, stranger, to_json, to_wire};
use crate::telemetry::Signal;

/// The names of one signal's levels in OTLP/JSON (groups, scopes, records), and the kind of its records in a case.
struct Names {
    groups: &'static str,
    scopes: &'static str,
    records: &'static str,
    kind: &'static str,
}

fn names(signal: Signal) -> Names {
    let (groups, scopes, records, kind) = match signal {
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords", "log"),
        Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics", "metric"),
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans", "span"),
    };
    Names { groups, scopes, records, kind }
}

const SEVERITIES: &str = "1 is TRACE, 5 DEBUG, 9 INFO, 13 WARN, 17 ERROR, 21 FATAL";

/// The keys of a record that OTLP/JSON does not have.
const SHORT: [&str; 2] = ["resource", "scope"];

/// Protobuf requests, one for each signal, from a list of records and OTLP/JSON requests.
pub(super) fn requests(items: &[Value]) -> Result<Vec<(Signal, Vec<u8>)>, String> {
    let mut wires: Vec<(Signal, Vec<u8>)> = Vec::new();
    for item in items {
        let (signal, request) = request(item)?;
        if let Some((key, mut known)) = stranger(signal, &request) {
            known.extend(SHORT.into_iter().chain((signal == Signal::Logs).then_some("severity")));
            let all = || format!(": the keys are {}", known.join(", "));
            let near = nearest(key, known.iter().copied());
            let help = near.map_or_else(all, |near| format!(": did you mean \"{near}\"?"));
            return Err(format!("unknown key \"{key}\" in a {}{help}", names(signal).kind));
        }
        // The position is omitted: it refers to generated JSON.
        let plain = |error: JsonError| format!("{}: {}", error.what, error.needed);
        let wire = to_wire(signal, request.to_string().as_bytes()).map_err(plain)?;
        // Concatenated protobuf requests are one request.
        match wires.iter_mut().find(|(known, _)| *known == signal) {
            Some((_, all)) => all.extend_from_slice(&wire),
            None => wires.push((signal, wire)),
        }
    }
    Ok(wires)
}

fn request(item: &Value) -> Result<(Signal, Value), String> {
    if let Some(signal) = signal_of(item) {
        return Ok((signal, item.clone()));
    }
    let record = item.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    let signal = |kind: &str| Signal::ALL.into_iter().find(|signal| names(*signal).kind == kind);
    let found = record.and_then(|(kind, record)| Some((signal(kind)?, record.as_object()?)));
    let Some((signal, record)) = found else {
        return Err("a record is `log: {…}`, `span: {…}` or `metric: {…}`, or an OTLP/JSON request".to_owned());
    };
    let mut record = record.clone();
    let Names { groups, scopes, records, .. } = names(signal);
    let mut group = Map::new();
    if let Some(resource) = record.remove("resource") {
        group.insert("resource".into(), json!({"attributes": pairs(&resource)?}));
    }
    let mut scope = Map::new();
    if let Some(name) = record.remove("scope") {
        scope.insert("scope".into(), json!({"name": name}));
    }
    lengthen(signal, &mut record)?;
    scope.insert(records.into(), json!([record]));
    group.insert(scopes.into(), json!([scope]));
    Ok((signal, json!({groups: [group]})))
}

fn lengthen(signal: Signal, record: &mut Map<String, Value>) -> Result<(), String> {
    let attributes = record.remove("attributes").map(|attributes| pairs(&attributes)).transpose()?;
    if signal == Signal::Logs {
        if let Some(severity) = record.remove("severity") {
            if severity.as_u64().is_none_or(|number| number > 24) {
                return Err(format!("severity {severity} is no number from 0 to 24: {SEVERITIES}"));
            }
            record.insert("severityNumber".into(), severity);
        }
        if let Some(body) = record.remove("body") {
            record.insert("body".into(), any_value(&body));
        }
    }
    let value = |value: &Value| match value.as_i64() {
        Some(number) => json!({"asInt": number.to_string()}),
        None => json!({"asDouble": value}),
    };
    if signal == Signal::Metrics {
        for kind in ["gauge", "sum"] {
            let Some(number) = record.get(kind).filter(|number| number.is_number()) else { continue };
            let mut point = value(number);
            if let Some(attributes) = &attributes {
                point.as_object_mut().map(|point| point.insert("attributes".into(), attributes.clone()));
            }
            record.insert(kind.into(), json!({"dataPoints": [point]}));
        }
    } else if let Some(attributes) = attributes {
        record.insert("attributes".into(), attributes);
    }
    Ok(())
}

/// The `KeyValue`s of a map. A list has them already.
fn pairs(attributes: &Value) -> Result<Value, String> {
    match attributes {
        Value::Array(_) => Ok(attributes.clone()),
        Value::Object(map) => Ok(key_values(map)),
        _ => Err("attributes and resource are maps".to_owned()),
    }
}

fn any_value(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(list) => json!({"arrayValue": {"values": list.iter().map(any_value).collect::<Vec<_>>()}}),
        Value::Object(map) => json!({"kvlistValue": {"values": key_values(map)}}),
    }
}

fn key_values(map: &Map<String, Value>) -> Value {
    map.iter().map(|(key, value)| json!({"key": key, "value": any_value(value)})).collect()
}

/// The records of a protobuf request.
pub(super) fn records(signal: Signal, wire: &[u8]) -> Vec<Value> {
    let mut text = Vec::new();
    to_json(signal, wire, &mut text);
    let request: Value = serde_json::from_slice(&text).unwrap_or_default();
    let Names { groups, scopes, records, kind } = names(signal);
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = Vec::new();
    for group in list(&request, groups) {
        for scope in list(&group, scopes) {
            for record in list(&scope, records) {
                let Value::Object(mut record) = record else { continue };
                shorten(signal, &mut record);
                if let Some(resource) = group.pointer("/resource/attributes") {
                    record.insert("resource".into(), map_of(resource));
                }
                if let Some(name) = scope.pointer("/scope/name") {
                    record.insert("scope".into(), name.clone());
                }
                all.push(json!({kind: record}));
            }
        }
    }
    all
}

fn shorten(signal: Signal, record: &mut Map<String, Value>) {
    if signal == Signal::Metrics {
        for kind in ["gauge", "sum"] {
            let Some(data) = record.get(kind).filter(|data| data.as_object().is_some_and(|data| data.len() == 1))
            else {
                continue;
            };
            let Some([point]) = data.get("dataPoints").and_then(Value::as_array).map(Vec::as_slice) else { continue };
            let Some(mut point) = point.as_object().cloned() else { continue };
            let attributes = point.remove("attributes");
            let whole = point.get("asInt").and_then(|number| number.as_str()?.parse::<i64>().ok()).map(Value::from);
            let Some(number) = whole.or_else(|| point.get("asDouble").cloned()).filter(|_| point.len() == 1) else {
                continue;
            };
            record.insert(kind.into(), number);
            if let Some(attributes) = attributes {
                record.insert("attributes".into(), map_of(&attributes));
            }
        }
        return;
    }
    // The Go collector's JSON has an empty status for spans without one.
    if record.get("status") == Some(&json!({})) {
        record.remove("status");
    }
    if let Some(attributes) = record.get_mut("attributes") {
        *attributes = map_of(attributes);
    }
    if signal == Signal::Logs {
        if let Some(severity) = record.remove("severityNumber") {
            record.insert("severity".into(), severity);
        }
        if let Some(body) = record.get_mut("body") {
            *body = plain(body);
        }
    }
}

/// A map from `KeyValue`s; the list itself if a key occurs twice.
fn map_of(pairs: &Value) -> Value {
    let list = pairs.as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = |pair: &Value| Some((pair.get("key")?.as_str()?.to_owned(), plain(pair.get("value")?)));
    let map: Map<String, Value> = list.iter().filter_map(entry).collect();
    if map.len() == list.len() { Value::Object(map) } else { pairs.clone() }
}

fn plain(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|map| map.iter().next()) else { return Value::Null };
    let values = || inner.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match kind.as_str() {
        "intValue" => inner.as_str().and_then(|text| text.parse::<i64>().ok()).map_or(inner.clone(), Value::from),
        "arrayValue" => values().iter().map(plain).collect(),
        "kvlistValue" => map_of(&Value::Array(values().to_vec())),
        _ => inner.clone(),
    }
}
