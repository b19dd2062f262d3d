//! The `trace_context` processor: which values are ids, what is written and what stays, and who is told.

use std::io::Write;
use std::sync::{Arc, Mutex};

use misaki::face::config::{self, Section};
use misaki::face::diagnostics::Page;
use misaki::face::otlp::check::check;
use misaki::face::processors::trace_context::Config;
use misaki::face::processors::{Factory, Notes, Processor};
use misaki::face::telemetry::{Budget, Charge, Now, Part, Share, Signal, Telemetry};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

const TRACE: &str = "267e3466a645f6129abffdbf4c43add2";
const SPAN: &str = "7f5aa898380ff08c";

fn processor(settings: &str) -> Arc<dyn Processor> {
    let loaded = config::load(&[format!("yaml:{{it: {settings}}}")], &[], &|_| None);
    let config = Config::decode(Section::of(loaded.root.get("it").unwrap(), "it", &loaded.problems));
    assert_eq!(loaded.problems.render(&loaded.sources, false), "");
    config.build("trace_context", Signal::Logs).unwrap()
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn record(attributes: Vec<(&str, Value)>, body: Option<Value>) -> LogRecord {
    LogRecord {
        attributes: attributes.into_iter().map(|(key, value)| pair(key, value)).collect(),
        body: body.map(|value| AnyValue { value: Some(value) }),
        ..LogRecord::default()
    }
}

fn request(service: &str, records: Vec<LogRecord>) -> Vec<u8> {
    let resource = Resource { attributes: vec![pair("service.name", text(service))], ..Resource::default() };
    let scopes = vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }];
    let group = ResourceLogs { resource: Some(resource), scope_logs: scopes, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![group] }.encode_to_vec()
}

/// What the processor makes of a request; what it noted is counted.
fn process(processor: &dyn Processor, wire: Vec<u8>) -> Vec<u8> {
    let items = check(Signal::Logs, &wire).unwrap();
    let charge = Charge::take(&Budget::new(1 << 20), Share::Ingest, wire.len() as u64).unwrap();
    let parts = [Part::new(wire, items, charge)].into_iter().collect();
    let telemetry =
        Telemetry { signal: Signal::Logs, parts, client: None, received: Now::read(), tickets: Default::default() };
    let mut notes = Notes::new();
    let after = processor.process(telemetry, Now::read(), &mut notes).unwrap().unwrap();
    processor.publish(&notes);
    assert_eq!((after.items(), check(Signal::Logs, &after.parts[0].bytes)), (u64::from(items), Ok(items)));
    after.parts[0].bytes.to_vec()
}

fn records(wire: &[u8]) -> Vec<LogRecord> {
    let mut request = ExportLogsServiceRequest::decode(wire).unwrap();
    request.resource_logs.remove(0).scope_logs.remove(0).log_records
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn counts(processor: &dyn Processor) -> [u64; 3] {
    let mut page = Page::default();
    processor.observe(&mut page, "it", Signal::Logs, 1);
    let text = page.text();
    ["promoted", "invalid", "conflicting"].map(|name| {
        let start = format!("misaki_processor_trace_context_{name}_log_records{{processor=\"it\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    })
}

/// The ids and flags that a record gets, and what is counted: promoted, invalid, conflicting.
#[track_caller]
fn check_record(before: LogRecord, expected: (&str, &str, u32), counted: [u64; 3]) {
    let processor = processor("{}");
    let after = records(&process(&*processor, request("shop", vec![before.clone()]))).remove(0);
    assert_eq!((hex(&after.trace_id).as_str(), hex(&after.span_id).as_str(), after.flags), expected, "{before:?}");
    assert_eq!(counts(&*processor), counted, "{before:?}");
    let others =
        LogRecord { trace_id: before.trace_id.clone(), span_id: before.span_id.clone(), flags: before.flags, ..after };
    assert_eq!(others, before, "nothing else changes");
}

const PROMOTED: [u64; 3] = [1, 0, 0];

#[test]
fn ids_are_understood_in_the_forms_in_which_they_are_written() {
    let trace_ids = [
        ("trace_id", text(TRACE), TRACE),
        ("traceId", text(&TRACE.to_uppercase()), TRACE),
        ("trace.id", text("267e3466-a645-f612-9abf-fdbf4c43add2"), TRACE),
        ("dd.trace_id", text("11151031711404141010"), "00000000000000009ac06c42c55c29d2"),
        ("dd.trace_id", Value::IntValue(255), "000000000000000000000000000000ff"),
        ("logging.googleapis.com/trace", text(&format!("projects/my-project/traces/{TRACE}")), TRACE),
        ("otelTraceID", text(&format!(" {TRACE}\n")), TRACE),
        ("trace_id", Value::BytesValue(vec![7; 16]), "07070707070707070707070707070707"),
    ];
    for (key, value, id) in trace_ids {
        check_record(record(vec![("a", text("b")), (key, value)], None), (id, "", 0), PROMOTED);
    }
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    check_record(record(vec![("traceparent", text(&traceparent))], None), (TRACE, SPAN, 1), PROMOTED);
    check_record(
        record(vec![("traceparent", text(&traceparent.replace("00-", "cc-")))], None),
        (TRACE, SPAN, 1),
        PROMOTED,
    );
    let spans = [
        ("span_id", text(SPAN), SPAN),
        ("dd.span_id", text("1234567890123456"), "000462d53c8abac0"),
        ("logging.googleapis.com/spanId", text(SPAN), SPAN),
        ("otelSpanID", text("0"), ""),
    ];
    for (key, value, id) in spans {
        check_record(record(vec![("trace_id", text(TRACE)), (key, value)], None), (TRACE, id, 0), PROMOTED);
    }
    let flags = [
        ("trace_flags", text("01"), 1),
        ("trace_flags", Value::IntValue(3), 3),
        ("logging.googleapis.com/trace_sampled", Value::BoolValue(true), 1),
        ("otelTraceSampled", text("True"), 1),
    ];
    for (key, value, bits) in flags {
        check_record(record(vec![(key, value), ("trace_id", text(TRACE))], None), (TRACE, "", bits), PROMOTED);
    }
}

#[test]
fn what_is_no_id_is_counted() {
    let zeros = "0".repeat(32);
    for wrong in [
        "nonsense",
        &zeros,
        "0",
        "99999999999999999999",
        &TRACE[1..],
        &format!("ff-{TRACE}-{SPAN}-01"),
        &format!("00-{TRACE}"),
    ] {
        check_record(record(vec![("trace_id", text(wrong))], None), ("", "", 0), [0, 1, 0]);
    }
    check_record(record(vec![("trace_id", Value::DoubleValue(1.0))], None), ("", "", 0), [0, 1, 0]);
    check_record(record(vec![("trace_id", text(""))], None), ("", "", 0), [0, 0, 0]);
    check_record(record(vec![("span_id", text(SPAN))], None), ("", "", 0), [0, 0, 0]);
}

#[test]
fn a_body_is_looked_into() {
    let json = format!(
        r#"{{"msg": "a \"b\"", "nested": {{"trace_id": "x"}}, "trace_id":"{TRACE}", "span_id" : "{SPAN}", "n": [1, {{}}]}}"#
    );
    check_record(record(vec![], Some(text(&json))), (TRACE, SPAN, 0), PROMOTED);
    check_record(
        record(vec![], Some(text(r#"{"dd.trace_id": 18446744073709551615}"#))),
        ("0000000000000000ffffffffffffffff", "", 0),
        PROMOTED,
    );
    let map =
        Value::KvlistValue(KeyValueList { values: vec![pair("traceId", text(TRACE)), pair("spanId", text(SPAN))] });
    check_record(record(vec![], Some(map)), (TRACE, SPAN, 0), PROMOTED);
    // An attribute goes before the body.
    let other = "11111111111111111111111111111111";
    check_record(record(vec![("trace_id", text(other))], Some(text(&json))), (other, "", 0), PROMOTED);
    for plain in ["plain", "{", "{not json, \"trace_id\": 1", "[1]", "{}", r#"{"trace_id": null}"#] {
        check_record(record(vec![], Some(text(plain))), ("", "", 0), [0, 0, 0]);
    }
    let processor = processor("{body: false}");
    let wire = request("shop", vec![record(vec![], Some(text(&json)))]);
    assert_eq!(process(&*processor, wire.clone()), wire);
}

#[test]
fn an_id_that_is_there_stays() {
    let other = vec![1; 16];
    let with = |trace_id: Vec<u8>| LogRecord {
        trace_id,
        ..record(vec![("trace_id", text(TRACE)), ("span_id", text(SPAN))], None)
    };
    check_record(with(other.clone()), (&hex(&other), "", 0), [0, 0, 1]);
    let same = (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect();
    check_record(with(same), (TRACE, "", 0), [0, 0, 0]);
    // An id of zeros is none.
    check_record(with(vec![0; 16]), (TRACE, SPAN, 0), PROMOTED);
    let before = LogRecord { span_id: vec![2; 8], flags: 1, ..with(Vec::new()) };
    check_record(before, (TRACE, &hex(&[2; 8]), 1), PROMOTED);
    // Two that disagree: the first in the list of names.
    let two =
        record(vec![("traceparent", text(&format!("00-{}-{SPAN}-01", hex(&other)))), ("trace_id", text(TRACE))], None);
    check_record(two, (TRACE, "", 0), [1, 0, 1]);
}

#[test]
fn what_was_put_in_its_place_may_go() {
    let attributes =
        vec![("a", text("1")), ("trace_id", text(TRACE)), ("span_id", text(SPAN)), ("trace_flags", text("01"))];
    let after =
        records(&process(&*processor("{remove: true}"), request("shop", vec![record(attributes, None)]))).remove(0);
    let left: Vec<_> = after.attributes.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(
        (hex(&after.trace_id).as_str(), hex(&after.span_id).as_str(), after.flags, left),
        (TRACE, SPAN, 1, vec!["a"])
    );
}

#[test]
fn the_names_are_configurable() {
    let processor = processor("{trace_id: [request], span_id: [], trace_flags: []}");
    let attributes = vec![("trace_id", text("x")), ("request", text(TRACE)), ("span_id", text(SPAN))];
    let after = records(&process(&*processor, request("shop", vec![record(attributes, None)]))).remove(0);
    assert_eq!((hex(&after.trace_id).as_str(), hex(&after.span_id).as_str()), (TRACE, ""));
    assert_eq!(counts(&*processor), PROMOTED);
}

/// Lines of the log, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_service_is_told_once_how_to_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let processor = processor("{}");
        let slog = || record(vec![("trace_id", text(TRACE))], None);
        for service in ["shop", "shop", "till", "shop"] {
            process(&*processor, request(service, vec![slog(), slog()]));
        }
        for number in 0..1000 {
            process(&*processor, request(&number.to_string(), vec![slog()]));
        }
    });
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let about = |service: &str| said.lines().filter(|line| line.contains(&format!("service=\"{service}\""))).count();
    assert_eq!((about("shop"), about("till"), said.lines().count()), (1, 1, 256), "{said}");
    assert!(said.contains("attribute=\"trace_id\"") && said.contains("slog.InfoContext(ctx, ...)"), "{said}");
}
