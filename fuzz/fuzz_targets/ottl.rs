//! A statement or condition from anywhere, through the real `transform` or `filter`: read, compiled, and run over a request
//! that holds some of everything. What comes out is well-formed, and it ends soon, whatever the regular expressions are.
//! The first byte chooses the signal, and whether the rest is a statement.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use misaki::face::config::{Problems, Section, Entry, Node, Place, Value};
use misaki::face::otlp::check::check;
use misaki::face::otlp::json::to_wire;
use misaki::face::processors::{Factory, Notes, filter, transform};
use misaki::face::telemetry::{Budget, Charge, Now, Part, Share, Signal, Telemetry};

const LOGS: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"scope":{"name":"s","version":"1"},"logRecords":[
  {"timeUnixNano":"1700000000000000000","severityNumber":9,"severityText":"INFO","body":{"stringValue":"{\"a\": [1, {\"b\": null}], \"at\": \"2026-11-22T19:30:05Z\"}"},"traceId":"267e3466a645f6129abffdbf4c43add2","spanId":"7f5aa898380ff08c",
   "attributes":[{"key":"a","value":{"stringValue":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"}},{"key":"b","value":{"kvlistValue":{"values":[{"key":"c","value":{"arrayValue":{"values":[{"intValue":"1"},{"doubleValue":2.5},{"boolValue":true}]}}}]}}},{"key":"n","value":{"intValue":"-7"}}]},
  {"body":{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"/wA="}}]}}}, {}]}]}]}"#;
const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"spans":[
  {"name":"GET /a/1","kind":2,"traceId":"267e3466a645f6129abffdbf4c43add2","spanId":"7f5aa898380ff08c","traceState":"ot=th:8,a=b","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000500000000",
   "attributes":[{"key":"a","value":{"stringValue":"http://user@host/a?b=c"}}],"events":[{"name":"exception","attributes":[{"key":"e","value":{"stringValue":"x"}}]}],"links":[{"traceId":"267e3466a645f6129abffdbf4c43add2","spanId":"7f5aa898380ff08c"}],"status":{"code":2,"message":"m"}}, {}]}]}]}"#;
const METRICS: &str = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
  {"name":"g","unit":"By","gauge":{"dataPoints":[{"asInt":"3","attributes":[{"key":"a","value":{"stringValue":"1"}}],"exemplars":[{"asDouble":1.5}]}]}},
  {"name":"s","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{"asDouble":1.5}]}},
  {"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"3","sum":6,"bucketCounts":["1","2"],"explicitBounds":[2]}]}},
  {"name":"e","exponentialHistogram":{"dataPoints":[{"count":"3","scale":2,"positive":{"offset":-1,"bucketCounts":["1","2"]}}]}},
  {"name":"q","summary":{"dataPoints":[{"count":"1","quantileValues":[{"quantile":0.5,"value":1}]}]}}]}]}]}"#;

/// Far more than a statement over three records may take, and what a slow machine with sanitizers needs.
const AT_MOST: Duration = Duration::from_secs(10);

fn factory(signal: Signal, is_statement: bool, text: &str) -> Option<Box<dyn Factory>> {
    let node = |value| Node::new(value, Place::NOWHERE);
    let key = match (signal, is_statement) {
        (Signal::Logs, true) => "log_statements",
        (Signal::Traces, true) => "trace_statements",
        (Signal::Metrics, true) => "metric_statements",
        (Signal::Logs, false) => "log_conditions",
        (Signal::Traces, false) => "trace_conditions",
        (Signal::Metrics, false) => "metric_conditions",
    };
    let list = node(Value::List(vec![node(Value::Text(text.to_owned()))]));
    let map = node(Value::Map(vec![Entry { key: key.to_owned(), key_place: Place::NOWHERE, node: list }]));
    let problems = Problems::default();
    let section = Section::of(&map, "it", &problems);
    let factory: Box<dyn Factory> = match is_statement {
        true => Box::new(transform::Config::decode(section)),
        false => Box::new(filter::Config::decode(section)),
    };
    (!problems.has_errors()).then_some(factory)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let signal = Signal::ALL[usize::from(choice % 3)];
    let begin = Instant::now();
    let Some(factory) = factory(signal, choice & 0x80 == 0, text) else { return };
    let request = match signal {
        Signal::Logs => LOGS,
        Signal::Traces => TRACES,
        Signal::Metrics => METRICS,
    };
    let wire = to_wire(signal, request.as_bytes()).expect("the request is well-formed");
    let items = check(signal, &wire).expect("the request is well-formed");
    let charge = Charge::take(&Budget::new(64 << 20), Share::Ingest, wire.len() as u64).expect("room");
    let parts = [Part::new(wire, items, charge)].into_iter().collect();
    let telemetry = Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() };
    let processor = factory.build("it", signal).expect("it is made for every signal");
    let mut notes = Notes::new();
    if let Ok(Some(after)) = processor.process(telemetry, Now::read(), &mut notes) {
        for part in &after.parts {
            assert_eq!(check(signal, &part.bytes).expect("what comes out is well-formed"), part.items);
        }
    }
    assert!(begin.elapsed() < AT_MOST, "it took {:?}", begin.elapsed());
});
