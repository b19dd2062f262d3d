//! OTLP/JSON: the rules of reading row by row, the Go collector's form of writing, and both against prost and serde_json.

use misaki::face::otlp::json::{to_json, to_wire};
use misaki::face::otlp::wire::put_bytes;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value, *};
use opentelemetry_proto::tonic::logs::v1::*;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, *};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{span::*, *};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use std::path::{Path, PathBuf};

fn written(signal: Signal, wire: &[u8]) -> String {
    let mut out = Vec::new();
    to_json(signal, wire, &mut out);
    String::from_utf8(out).unwrap()
}

/// Reads `json` and writes it again.
fn through(signal: Signal, json: &str) -> String {
    let wire = to_wire(signal, json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    decodes(signal, &wire);
    written(signal, &wire)
}

fn decodes(signal: Signal, wire: &[u8]) {
    match signal {
        Signal::Logs => drop(ExportLogsServiceRequest::decode(wire).unwrap()),
        Signal::Metrics => drop(ExportMetricsServiceRequest::decode(wire).unwrap()),
        Signal::Traces => drop(ExportTraceServiceRequest::decode(wire).unwrap()),
    }
}

fn refusal(signal: Signal, json: impl AsRef<[u8]>) -> String {
    to_wire(signal, json.as_ref()).expect_err(&String::from_utf8_lossy(json.as_ref())).to_string()
}

fn log(members: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{members}]}}]}}]}}"#)
}

fn log_out(members: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"resource":{{}},"scopeLogs":[{{"scope":{{}},"logRecords":[{members}]}}]}}]}}"#)
}

/// Both sides are what stands inside one log record.
#[track_caller]
fn check_log(members: &str, expected: &str) {
    let expected = log_out(&format!("{{{expected}}}"));
    assert_eq!(through(Signal::Logs, &log(&format!("{{{members}}}"))), expected, "{members}");
}

#[track_caller]
fn check_log_refused(members: &str, expected: &str) {
    assert_eq!(refusal(Signal::Logs, log(&format!("{{{members}}}"))), expected, "{members}");
}

/// Both sides are what stands inside one data point of a sum.
#[track_caller]
fn check_point(members: &str, expected: &str) {
    let json = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{members}}}]}}]}}]}}"#);
    let expected = format!(
        r#"{{"resourceMetrics":[{{"resource":{{}},"scopeMetrics":[{{"scope":{{}},"metrics":[{{{expected}}}]}}]}}]}}"#
    );
    assert_eq!(through(Signal::Metrics, &json), expected, "{members}");
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn signal_of(name: &str) -> Signal {
    Signal::ALL.into_iter().find(|signal| name.starts_with(signal.name())).unwrap()
}

/// The files in `fixtures/json` are what the Go collector's `pdata` 1.67.0 made of the same inputs.
#[test]
fn writes_what_the_go_collector_writes() {
    let mut count = 0;
    for path in fixtures("json") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.ends_with(".input") {
            continue;
        }
        let beside = path.with_extension("input.json");
        let from_debug = path.parent().unwrap().with_file_name("debug").join(name).join("input.json");
        let input = std::fs::read_to_string(if beside.exists() { beside } else { from_debug }).unwrap();
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(through(signal_of(name), &input), expected, "{name}");
        assert_eq!(through(signal_of(name), &expected), expected, "{name}, its own output");
        count += 1;
    }
    assert_eq!(count, 25);
}

#[test]
fn names() {
    check_log(r#""severityText":"a","eventName":"b""#, r#""severityText":"a","body":{},"eventName":"b""#);
    check_log(r#""severity_text":"a","event_name":"b""#, r#""severityText":"a","body":{},"eventName":"b""#);
    check_log(r#""severityText" : "a" , "eventName"	:"b""#, r#""severityText":"a","body":{},"eventName":"b""#);
    // Escapes in a name mean the same name; anything else is another one.
    check_log(r#""\u0073everityText":"a""#, r#""severityText":"a","body":{}"#);
    check_log(r#""severitytext":"a","SeverityText":"a","severity_Text":"a","":1"#, r#""body":{}"#);
    check_log(r#""other":{"a":[1,2.5e1,{"b":null,"c":[]},"\n",{}],"d":true},"flags":1"#, r#""body":{},"flags":1"#);
    assert_eq!(through(Signal::Logs, r#"{"resource_logs":[{"schema_url":"x"}],"resourceSpans":7}"#), {
        r#"{"resourceLogs":[{"resource":{},"schemaUrl":"x"}]}"#
    });
}

#[test]
fn empty_requests() {
    for signal in Signal::ALL {
        assert_eq!(to_wire(signal, b"{}").unwrap(), b"");
        assert_eq!(to_wire(signal, b" \r\n\t{ } \n").unwrap(), b"");
        assert_eq!(written(signal, b""), "{}");
    }
    assert_eq!(to_wire(Signal::Logs, br#"{"resourceLogs":[]}"#).unwrap(), b"");
    assert_eq!(to_wire(Signal::Logs, br#"{"resourceLogs":[{}]}"#).unwrap(), b"\x0a\x00");
}

#[test]
fn integers() {
    for (given, expected) in [
        ("5", "5"),
        (r#""5""#, "5"),
        ("1e3", "1000"),
        ("1E+3", "1000"),
        ("1.0", "1"),
        ("12.50e1", "125"),
        ("1000e-3", "1"),
        ("0.0000e-99999999999999999999", ""),
        ("0e99999999999999999999", ""),
        (r#""1e3""#, "1000"),
        (r#""007""#, "7"),
        (r#""+7""#, "7"),
        (r#""\u0037""#, "7"),
        ("-0", ""),
        ("0", ""),
        (r#""0""#, ""),
        ("18446744073709551615", "18446744073709551615"),
        (r#""18446744073709551615""#, "18446744073709551615"),
        ("1844674407370955161.5e1", "18446744073709551615"),
    ] {
        let expected = if expected.is_empty() { String::new() } else { format!(r#""timeUnixNano":"{expected}","#) };
        check_log(&format!(r#""timeUnixNano":{given}"#), &format!(r#"{expected}"body":{{}}"#));
    }
    for given in [
        "1.5",
        "18446744073709551616",
        "-1",
        r#""abc""#,
        r#""""#,
        r#"" 1""#,
        "true",
        "{}",
        "1e20",
        "1e99999999999999999999",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        r#""1.""#,
        r#""1_0""#,
        r#""0x10""#,
    ] {
        let shown = if given == "{}" { "{" } else { given };
        check_log_refused(
            &format!(r#""timeUnixNano":{given}"#),
            &format!(
                "invalid timeUnixNano {shown} at line 1 column 63: a whole number from 0 to 18446744073709551615 is needed"
            ),
        );
    }
    check_log(
        r#""flags":"4294967295","droppedAttributesCount":4294967295"#,
        r#""body":{},"droppedAttributesCount":4294967295,"flags":4294967295"#,
    );
    for given in ["4294967296", "-1", "0.5"] {
        check_log_refused(
            &format!(r#""flags":{given}"#),
            &format!("invalid flags {given} at line 1 column 56: a whole number from 0 to 4294967295 is needed"),
        );
    }
    for (given, expected) in [
        ("-9223372036854775808", Some("-9223372036854775808")),
        ("9223372036854775807", Some("9223372036854775807")),
        ("0", Some("0")),
        ("-1e2", Some("-100")),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
    ] {
        let body = format!(r#""body":{{"intValue":{given}}}"#);
        match expected {
            Some(expected) => check_log(&body, &format!(r#""body":{{"intValue":"{expected}"}}"#)),
            None => check_log_refused(
                &body,
                &format!("invalid intValue {given} at line 1 column 67: a whole number of 64 bits is needed"),
            ),
        }
    }
}

#[test]
fn doubles() {
    for (given, expected) in [
        ("1.5", "1.5"),
        ("3", "3"),
        (r#""3.25""#, "3.25"),
        ("-0.0", "-0"),
        ("0", "0"),
        ("1e400", ""),
        ("1e999", ""),
        (r#""1e999""#, ""),
        (r#""-1e999""#, ""),
        ("1e-999", "0"),
        (r#""NaN""#, r#""NaN""#),
        (r#""Infinity""#, r#""Infinity""#),
        (r#""-Infinity""#, r#""-Infinity""#),
        ("1e21", "1e+21"),
        ("1E-7", "1e-07"),
        ("NaN", ""),
        ("Infinity", ""),
        (r#""x""#, ""),
        (r#""""#, ""),
        ("[]", ""),
    ] {
        let body = format!(r#""body":{{"doubleValue":{given}}}"#);
        if expected.is_empty() {
            let error = refusal(Signal::Logs, log(&format!("{{{body}}}")));
            assert!(error.starts_with("invalid doubleValue ") && error.contains("is needed"), "{given}: {error}");
        } else {
            check_log(&body, &format!(r#""body":{{"doubleValue":{expected}}}"#));
        }
    }
}

#[test]
fn enums() {
    check_log(r#""severityNumber":"SEVERITY_NUMBER_FATAL4""#, r#""severityNumber":24,"body":{}"#);
    check_log(r#""severityNumber":"SEVERITY_NUMBER_UNSPECIFIED""#, r#""body":{}"#);
    check_log(r#""severityNumber":99"#, r#""severityNumber":99,"body":{}"#);
    check_log(r#""severityNumber":-3"#, r#""severityNumber":-3,"body":{}"#);
    for given in [r#""FATAL""#, r#""SEVERITY_NUMBER_""#, r#""severity_number_info""#, r#""9""#, r#""""#] {
        check_log_refused(
            &format!(r#""severityNumber":{given}"#),
            &format!("invalid severityNumber {given} at line 1 column 65: a number or one of its names is needed"),
        );
    }
    check_log_refused(
        r#""severityNumber":2147483648"#,
        "invalid severityNumber 2147483648 at line 1 column 65: a whole number of 32 bits is needed",
    );
    let span = |members: &str| {
        format!(r#"{{"resourceSpans":[{{"resource":{{}},"scopeSpans":[{{"scope":{{}},"spans":[{{{members}}}]}}]}}]}}"#)
    };
    assert_eq!(
        through(Signal::Traces, &span(r#""kind":"SPAN_KIND_SERVER","status":{"code":"STATUS_CODE_OK"}"#)),
        span(r#""kind":2,"status":{"code":1}"#)
    );
    check_point(
        r#""sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE"}"#,
        r#""sum":{"aggregationTemporality":2}"#,
    );
}

#[test]
fn ids_and_bytes() {
    let id = "5b8efff798038103d269b633813fc60c";
    check_log(
        &format!(r#""traceId":"{id}","spanId":"EEE19b7ec3c1b174""#),
        &format!(r#""body":{{}},"traceId":"{id}","spanId":"eee19b7ec3c1b174""#),
    );
    check_log(&format!(r#""traceId":"{}""#, id.to_uppercase()), &format!(r#""body":{{}},"traceId":"{id}""#));
    check_log(r#""traceId":"","spanId":"""#, r#""body":{}"#);
    for given in [
        "xyz",
        "5b8efff798038103d269b633813fc6",
        "5b8efff798038103d269b633813fc60c00",
        "5b8efff798038103d269b633813fc60",
        "W47/95gDgQPSabYzgT/GDA==",
        "5b8efff798038103d269b633813fc60g",
    ] {
        check_log_refused(
            &format!(r#""traceId":"{given}""#),
            &format!("invalid traceId \"{given}\" at line 1 column 58: 32 hex digits are needed"),
        );
    }
    check_log_refused(r#""spanId":"00""#, "invalid spanId \"00\" at line 1 column 57: 16 hex digits are needed");
    check_log_refused(r#""spanId":1"#, "invalid spanId 1 at line 1 column 57: a string is needed");
    // An id of zeros is forwarded, and shown as the Go collector shows it: not at all.
    let zeros = to_wire(Signal::Logs, log(r#"{"spanId":"0000000000000000"}"#).as_bytes()).unwrap();
    assert!(zeros.ends_with(&[0x52, 8, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(written(Signal::Logs, &zeros), log_out(r#"{"body":{}}"#));

    for (given, expected) in [("", ""), ("AQID/w==", "AQID/w=="), (r"+\/+\/", "+/+/"), ("AQI=", "AQI=")] {
        check_log(
            &format!(r#""body":{{"bytesValue":"{given}"}}"#),
            &format!(r#""body":{{"bytesValue":"{expected}"}}"#),
        );
    }
    for given in ["AQID/w", "A", "A===", "====", "AQ=D", "-_-_", "AQID/w==AQID", "AQI=\u{e9}"] {
        check_log_refused(
            &format!(r#""body":{{"bytesValue":"{given}"}}"#),
            &format!("invalid bytesValue \"{given}\" at line 1 column 69: padded base64 is needed"),
        );
    }
}

#[test]
fn null_is_absent() {
    check_log(
        r#""timeUnixNano":null,"severityNumber":null,"body":null,"attributes":null,"traceId":null,"flags":null,"x":null"#,
        r#""body":{}"#,
    );
    check_log(r#""severityText":"a","severityText":null"#, r#""severityText":"a","body":{}"#);
    check_log(r#""body":{"stringValue":null,"boolValue":null,"arrayValue":null}"#, r#""body":{}"#);
    // In a list of messages it is an empty one, so that the others keep their places.
    check_log(
        r#""body":{"arrayValue":{"values":[null,{"boolValue":true},null]}}"#,
        r#""body":{"arrayValue":{"values":[{},{"boolValue":true},{}]}}"#,
    );
    assert_eq!(through(Signal::Logs, r#"{"resourceLogs":null}"#), "{}");
    let error = refusal(
        Signal::Metrics,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[1,null]}]}}]}]}]}"#,
    );
    assert_eq!(error, "unexpected null at line 1 column 97: a whole number from 0 to 18446744073709551615 is needed");
    for text in ["null", "nul", "[]", "\"\"", "1"] {
        assert!(refusal(Signal::Logs, text).ends_with(": an object is needed"), "{text}");
    }
}

#[test]
fn members_given_twice() {
    // Scalars: the last one, even where it is a zero, which is not written otherwise.
    check_log(r#""severityText":"a","severityText":"b""#, r#""severityText":"b","body":{}"#);
    check_log(
        r#""severityText":"a","severity_text":"","flags":1,"flags":0,"traceId":"5b8efff798038103d269b633813fc60c","traceId":"""#,
        r#""body":{}"#,
    );
    check_log(r#""body":{"stringValue":"a","intValue":0}"#, r#""body":{"intValue":"0"}"#);
    // Lists go on, messages merge.
    check_log(
        r#""attributes":[{"key":"a"}],"attributes":[{"key":"b"}]"#,
        r#""body":{},"attributes":[{"key":"a","value":{}},{"key":"b","value":{}}]"#,
    );
    assert_eq!(
        through(Signal::Logs, r#"{"resourceLogs":[{"scopeLogs":[{"scope":{"name":"a"},"scope":{"version":"b"}}]}]}"#),
        r#"{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{"name":"a","version":"b"}}]}]}"#
    );
    check_point(
        r#""histogram":{"dataPoints":[{"bucketCounts":[1,2],"explicitBounds":[],"bucketCounts":["3"]}]}"#,
        r#""histogram":{"dataPoints":[{"bucketCounts":["1","2","3"]}]}"#,
    );
}

#[test]
fn zeros_keep_their_presence_where_they_have_one() {
    let zeros = r#"{"sum":0,"min":0,"max":0,"count":"0","flags":0,"bucketCounts":[],"exemplars":[{"asInt":0},{"asDouble":0},{}]}"#;
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{zeros},{{}}]}}}},{{"gauge":{{"dataPoints":[{{"asInt":"0"}},{{"asDouble":0}},{{}}]}}}}]}}]}}]}}"#
    );
    let wire = to_wire(Signal::Metrics, json.as_bytes()).unwrap();
    let request = ExportMetricsServiceRequest::decode(&*wire).unwrap();
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let Some(Data::Histogram(histogram)) = &metrics[0].data else { panic!("{metrics:?}") };
    let exemplar = |value| Exemplar { value, ..Default::default() };
    let expected = HistogramDataPoint {
        sum: Some(0.0),
        min: Some(0.0),
        max: Some(0.0),
        exemplars: vec![
            exemplar(Some(exemplar::Value::AsInt(0))),
            exemplar(Some(exemplar::Value::AsDouble(0.0))),
            exemplar(None),
        ],
        ..Default::default()
    };
    assert_eq!(histogram.data_points, [expected, HistogramDataPoint::default()]);
    let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!("{metrics:?}") };
    let values: Vec<_> = gauge.data_points.iter().map(|point| point.value).collect();
    assert_eq!(values, [Some(number_data_point::Value::AsInt(0)), Some(number_data_point::Value::AsDouble(0.0)), None]);
    assert_eq!(wire.len(), request.encoded_len(), "nothing is written that says nothing");
}

#[test]
fn strings() {
    for (given, expected) in [
        (r#"\"\\\/\b\f\n\r\t"#, r#"\"\\/\u0008\u000c\n\r\t"#),
        (r"\u0000\u001F\u00e9\uD83D\ude80", "\\u0000\\u001f\u{e9}\u{1f680}"),
        ("\u{7f}\u{80}\u{2028}<&>", "\u{7f}\u{80}\u{2028}<&>"),
        (r"aaaaaaaaaaaaaaa\n", r"aaaaaaaaaaaaaaa\n"),
    ] {
        check_log(&format!(r#""severityText":"{given}""#), &format!(r#""severityText":"{expected}","body":{{}}"#));
    }
    let long = "x\\n".repeat(10_000);
    check_log(&format!(r#""severityText":"{long}""#), &format!(r#""severityText":"{long}","body":{{}}"#));
    // Half of a pair, which an SDK leaves that cuts a text, is U+FFFD, as the Go collector has it; what follows stays.
    for (given, expected) in [
        (r"\ud83d", "\u{fffd}"),
        (r"it left the edge \ud83d", "it left the edge \u{fffd}"),
        (r"\ud83d\n", "\u{fffd}\\n"),
        (r"\ud83dx", "\u{fffd}x"),
        (r"\ude80", "\u{fffd}"),
        (r"\ude80\ud83d", "\u{fffd}\u{fffd}"),
        (r"\ud83d\u0041", "\u{fffd}A"),
        (r"\ud83d\ud83d\ude80", "\u{fffd}\u{1f680}"),
        (r"\ud83d\ude80\ude80", "\u{1f680}\u{fffd}"),
    ] {
        check_log(&format!(r#""severityText":"{given}""#), &format!(r#""severityText":"{expected}","body":{{}}"#));
        check_log(
            &format!(r#""attributes":[{{"key":"{given}","value":{{"stringValue":"{given}"}}}}]"#),
            &format!(r#""body":{{}},"attributes":[{{"key":"{expected}","value":{{"stringValue":"{expected}"}}}}]"#),
        );
        check_log(&format!(r#""{given}":"{given}""#), r#""body":{}"#);
    }
    for given in [r"\ud83d\u12", r"\ud83d\x", r"\u12", r"\u12g4", r"\x", r"\u+123"] {
        for member in ["severityText", "other"] {
            let error = refusal(Signal::Logs, log(&format!(r#"{{"{member}":"{given}"}}"#)));
            assert!(error.ends_with(": an escape that stands for a character is needed"), "{given}: {error}");
        }
    }
    for given in ["\n", "\0", "aaaaaaaaaaa\u{1f}"] {
        let error = refusal(Signal::Logs, log(&format!(r#"{{"severityText":"{given}"}}"#)));
        assert!(error.ends_with(": control characters must be escaped"), "{given:?}: {error}");
    }
    // Bytes that are not UTF-8 are carried, in JSON as in protobuf, and shown: what version 0.161 of the Go collector forwards.
    for text in [&b"a\xffb"[..], b"\xff\xfe", b"a\xe3\x81", b"\xed\xa0\xbd", b"\xc0\x80", b"\xf0\x9f\x98", b"caf\xe9"] {
        for (before, after) in [(r#"{"severityText":""#, r#""}"#), (r#"{"attributes":[{"key":""#, r#""}]}"#)] {
            let json = log(&format!("{before}#{after}"));
            let (start, end) = json.split_once('#').unwrap();
            let wire = to_wire(Signal::Logs, &[start.as_bytes(), text, end.as_bytes()].concat()).unwrap();
            let mut field = Vec::new();
            put_bytes(&mut field, 1, text);
            assert!(wire.ends_with(&field[1..]), "{text:?}: {wire:?}");
        }
    }
    let mut json = log(r#"{"severityText":"a#b"}"#).into_bytes();
    let at = json.iter().position(|byte| *byte == b'#').unwrap();
    json.splice(at..=at, *b"\xff\xf0\x9f");
    let wire = to_wire(Signal::Logs, &json).unwrap();
    assert!(wire.windows(5).any(|part| part == b"a\xff\xf0\x9fb"), "{wire:?}");
    assert!(written(Signal::Logs, &wire).contains("\"severityText\":\"a\u{fffd}\u{fffd}b\""));
    let mut wire = Vec::new();
    for field in [3, 2, 2, 1] {
        let inner = std::mem::take(&mut wire);
        put_bytes(&mut wire, field, if inner.is_empty() { b"a\xff\xf0\x9fb\xed\xa0\x80" } else { &inner });
    }
    assert!(written(Signal::Logs, &wire).contains("\"severityText\":\"a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}\u{fffd}\""));
}

#[test]
fn what_is_not_one_json_text_is_refused() {
    for (text, expected) in [
        ("", "unexpected end at line 1 column 1: an object is needed"),
        (" \n ", "unexpected end at line 2 column 2: an object is needed"),
        ("\u{feff}{}", "unexpected \\u{feff} at line 1 column 1: an object is needed"),
        ("{} x", "unexpected x at line 1 column 4: nothing may follow the request"),
        ("{}{}", "unexpected { at line 1 column 3: nothing may follow the request"),
        ("{}\0", "unexpected \\0 at line 1 column 3: nothing may follow the request"),
        ("{}// no", "unexpected // at line 1 column 3: nothing may follow the request"),
        ("/* no */{}", "unexpected /* at line 1 column 1: an object is needed"),
        ("{\n  \"a\": 1,\n}", "unexpected } at line 3 column 1: a member name in quotes is needed"),
        ("{,}", "unexpected , at line 1 column 2: a member name in quotes is needed"),
        ("{\"a\" 1}", "unexpected 1 at line 1 column 6: a colon is needed"),
        ("{\"a\":1 \"b\":1}", "unexpected \"b\" at line 1 column 8: a comma or \"}\" is needed"),
        ("{\"resourceLogs\":[{}", "unexpected end at line 1 column 20: a comma or \"]\" is needed"),
        ("{\"resourceLogs\":[{},]}", "unexpected ] at line 1 column 21: an object is needed"),
        ("{\"resourceLogs\":[,{}]}", "unexpected , at line 1 column 18: an object is needed"),
        ("{\"resourceLogs\":{}}", "invalid resourceLogs { at line 1 column 17: a list is needed"),
        ("{\"resourceLogs\":[{\"resource\":7}]}", "invalid resource 7 at line 1 column 30: an object is needed"),
        ("{\"\u{202e}a\":\"\u{9b}31m\"x", "unexpected x at line 1 column 13: a comma or \"}\" is needed"),
        ("{\"a\":\u{202e}}", "unexpected \\u{202e} at line 1 column 6: a value is needed"),
        ("{\"a\":[1}", "unexpected } at line 1 column 8: a comma or \"]\" is needed"),
        ("{\"a\":\"x", "unexpected \"x at line 1 column 6: the string has no end"),
        ("{\"a\":\"x\\", "unexpected \"x\\ at line 1 column 6: the string has no end"),
        ("{\"a\":tru}", "unexpected tru at line 1 column 6: a value is needed"),
        ("{\"a\":'b'}", "unexpected 'b' at line 1 column 6: a value is needed"),
    ] {
        assert_eq!(refusal(Signal::Logs, text), expected, "{text:?}");
    }
    assert!(
        refusal(Signal::Logs, "{}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())
            .contains("unexpected")
    );
    let long = refusal(Signal::Logs, log(&format!(r#"{{"traceId":"{}"}}"#, "é".repeat(1000))));
    assert_eq!(long, format!("invalid traceId \"{}… at line 1 column 58: 32 hex digits are needed", "é".repeat(39)));
    check_log_refused(
        r#""body":{"boolValue":"true"}"#,
        "invalid boolValue \"true\" at line 1 column 68: true or false is needed",
    );
    check_log_refused(r#""severityText":5"#, "invalid severityText 5 at line 1 column 63: a string is needed");
    check_log_refused(r#""body":"text""#, "invalid body \"text\" at line 1 column 55: an object is needed");
}

/// A log record whose body is an AnyValue of so many levels.
fn nested(levels: usize, open: &str, close: &str) -> String {
    let (open, close) = (open.repeat(levels - 1), close.repeat(levels - 1));
    format!(r#"{{"body":{open}{{"stringValue":"x"}}{close}}}"#)
}

/// The reader keeps what is open in a list, the writer recurses over 64 levels at most: a quarter of a MiB is plenty.
#[test]
fn depth_is_bounded_on_a_small_stack() {
    let kinds = [(r#"{"kvlistValue":{"values":[{"key":"","value":"#, "}]}}"), (r#"{"arrayValue":{"values":["#, "]}}")];
    let run = move || {
        for (open, close) in kinds {
            let wire = to_wire(Signal::Logs, log(&nested(64, open, close)).as_bytes()).unwrap();
            let written = written(Signal::Logs, &wire);
            let again = to_wire(Signal::Logs, written.as_bytes()).unwrap();
            assert_eq!(self::written(Signal::Logs, &again), written);
            for levels in [65, 100_000] {
                let error = refusal(Signal::Logs, log(&nested(levels, open, close)));
                assert!(error.ends_with(": values nest at most 64 levels"), "{error}");
            }
        }
        for bracket in ["[", "{\"a\":", "[{\"\":"] {
            let error = refusal(Signal::Logs, format!("{{\"x\":{}", bracket.repeat(1_000_000)));
            assert!(error.ends_with(": unknown fields nest at most 200 levels"), "{error}");
        }
        let unknown = |levels| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(through(Signal::Logs, &unknown(200)), "{}");
        assert_eq!(
            refusal(Signal::Logs, unknown(201)),
            "unexpected [ at line 1 column 206: unknown fields nest at most 200 levels"
        );
        let nulls = log(&format!(r#"{{"attributes":[null{}]}}"#, ",null".repeat(100_000)));
        assert_eq!(to_wire(Signal::Logs, nulls.as_bytes()).unwrap().len(), 200_002 + 12);
        // The writer's own bound, for bytes that were never checked: a body of 3000 levels.
        let mut wire = Vec::new();
        for field in [[1, 5].repeat(3000), vec![5, 2, 2, 1]].concat() {
            let inner = std::mem::take(&mut wire);
            put_bytes(&mut wire, field, &inner);
        }
        assert_eq!(written(Signal::Logs, &wire).matches("arrayValue").count(), 102);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
}

/// Lengths of one, two, three and four bytes, at every place that guesses one.
#[test]
fn lengths_of_every_size() {
    for length in [0, 1, 100, 120, 127, 128, 200, 16_000, 16_383, 16_384, 2_097_151, 2_097_152] {
        let text = "x".repeat(length);
        let escaped = format!("{text}\\n");
        let json = log(&format!(
            r#"{{"severityText":"{text}","eventName":"{escaped}","attributes":[{{"key":"{text}","value":{{"stringValue":"{text}"}}}}]}}"#
        ));
        let wire = to_wire(Signal::Logs, json.as_bytes()).unwrap();
        let request = ExportLogsServiceRequest::decode(&*wire).unwrap();
        let record = &request.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!(
            (record.severity_text.len(), record.event_name.len(), record.attributes[0].key.len()),
            (length, length + 1, length)
        );
        assert_eq!(wire.len(), request.encoded_len());
    }
    let counts = vec!["7"; 3000].join(",");
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"bucketCounts":[{counts}],"explicitBounds":[{counts}]}}]}}}}]}}]}}]}}"#
    );
    let wire = to_wire(Signal::Metrics, json.as_bytes()).unwrap();
    assert_eq!(wire, ExportMetricsServiceRequest::decode(&*wire).unwrap().encode_to_vec());
}

#[test]
fn the_order_on_the_wire_does_not_matter() {
    // Fields backwards, a scalar twice, a message in two pieces, an unknown field, a list unpacked and packed.
    let span = b"\x2a\x01b\x7a\x04\x12\x02no\xa8\x06\x05\x2a\x01a\x7a\x02\x18\x02";
    let mut wire = Vec::new();
    for field in [2, 2, 1] {
        let inner = if wire.is_empty() { span.to_vec() } else { std::mem::take(&mut wire) };
        put_bytes(&mut wire, field, &inner);
    }
    let expected = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"name":"a","status":{"message":"no","code":2}}]}]}]}"#;
    assert_eq!(written(Signal::Traces, &wire), expected);

    let point = b"\x31\x01\0\0\0\0\0\0\0\x32\x08\x02\0\0\0\0\0\0\0\x31\x03\0\0\0\0\0\0\0";
    let mut wire = point.to_vec();
    for field in [1, 9, 2, 2, 1] {
        let inner = std::mem::take(&mut wire);
        put_bytes(&mut wire, field, &inner);
    }
    assert!(written(Signal::Metrics, &wire).contains(r#"{"dataPoints":[{"bucketCounts":["1","2","3"]}]}"#));
}

// Requests of every shape, for prost.

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z.]{1,12}", any::<String>()]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(f64::INFINITY),
        Just(f64::MIN_POSITIVE),
        Just(1e21),
        any::<i32>().prop_map(f64::from),
        any::<f64>().prop_filter("equal to itself", |double| !double.is_nan())
    ]
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![]), vec(1..=255u8, length)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), any::<u64>(), any::<u8>().prop_map(u64::from)]
}

fn value() -> impl Strategy<Value = Option<Value>> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        number().prop_map(|value| Some(Value::IntValue(value as i64))),
        double().prop_map(|value| Some(Value::DoubleValue(value))),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let inner = inner.prop_map(|value| AnyValue { value });
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Some(Value::ArrayValue(ArrayValue { values }))),
            vec((text(), inner), 0..4).prop_map(|values| {
                let values =
                    values.into_iter().map(|(key, value)| KeyValue { key, value: Some(value), ..Default::default() });
                Some(Value::KvlistValue(KeyValueList { values: values.collect() }))
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(
        (text(), value()).prop_map(|(key, value)| KeyValue {
            key,
            value: Some(AnyValue { value }),
            ..Default::default()
        }),
        0..4,
    )
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    (attributes(), any::<u32>(), vec((text(), text(), vec(text(), 0..3)), 0..2)).prop_map(
        |(attributes, dropped_attributes_count, refs)| {
            let refs = refs.into_iter().map(|(schema_url, r#type, keys)| EntityRef {
                schema_url,
                r#type,
                id_keys: keys.clone(),
                description_keys: keys,
            });
            Some(Resource { attributes, dropped_attributes_count, entity_refs: refs.collect() })
        },
    )
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    (text(), text(), attributes(), any::<u32>()).prop_map(|(name, version, attributes, dropped_attributes_count)| {
        Some(InstrumentationScope { name, version, attributes, dropped_attributes_count })
    })
}

pub(super) fn logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let record = (number(), number(), any::<i32>(), text(), value(), attributes(), any::<u32>(), id(16), id(8))
        .prop_map(|(time, observed, severity_number, text, value, attributes, count, trace_id, span_id)| LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: observed,
            severity_number,
            severity_text: text.clone(),
            body: Some(AnyValue { value }),
            attributes,
            dropped_attributes_count: count,
            flags: count,
            trace_id,
            span_id,
            event_name: text,
        });
    let scopes = vec(
        (scope(), vec(record, 0..3), text()).prop_map(|(scope, log_records, schema_url)| ScopeLogs {
            scope,
            log_records,
            schema_url,
        }),
        0..3,
    );
    let resources = (resource(), scopes, text()).prop_map(|(resource, scope_logs, schema_url)| ResourceLogs {
        resource,
        scope_logs,
        schema_url,
    });
    vec(resources, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

pub(super) fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let event = (number(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), text(), attributes(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, count)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: count,
            flags: count,
        },
    );
    let ids = (id(16), id(8), id(8));
    let span =
        (ids, text(), number(), number(), attributes(), vec(event, 0..3), vec(link, 0..3), any::<i32>(), any::<u32>())
            .prop_map(
                |((trace_id, span_id, parent_span_id), name, start, end, attributes, events, links, kind, count)| {
                    Span {
                        trace_id,
                        span_id,
                        trace_state: name.clone(),
                        parent_span_id,
                        flags: count,
                        name: name.clone(),
                        kind,
                        start_time_unix_nano: start,
                        end_time_unix_nano: end,
                        attributes,
                        dropped_attributes_count: count,
                        events,
                        dropped_events_count: count,
                        links,
                        dropped_links_count: count,
                        status: Some(Status { message: name, code: kind }),
                    }
                },
            );
    (resource(), scope(), vec(span, 0..3), text()).prop_map(|(resource, scope, spans, schema_url)| {
        let scope_spans = vec![ScopeSpans { scope, spans, schema_url: schema_url.clone() }];
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url }] }
    })
}

pub(super) fn metrics() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let exemplar = (attributes(), number(), proptest::option::of(double()), id(8), id(16)).prop_map(
        |(attributes, time, value, span_id, trace_id)| Exemplar {
            filtered_attributes: attributes,
            time_unix_nano: time,
            value: value.map(|value| {
                if time % 2 == 0 { exemplar::Value::AsDouble(value) } else { exemplar::Value::AsInt(time as i64) }
            }),
            span_id,
            trace_id,
        },
    );
    let common = (attributes(), number(), number(), number(), any::<u32>(), vec(exemplar, 0..2));
    let point = (
        common,
        vec(number(), 0..4),
        vec(double(), 0..4),
        any::<i32>(),
        proptest::option::of(double()),
        proptest::option::of(double()),
    );
    (resource(), scope(), text(), 0..6, any::<i32>(), vec(point, 0..3)).prop_map(
        |(resource, scope, name, kind, temporality, points)| {
            let numbers = points.iter().map(|((attributes, start, time, number, flags, exemplars), .., sum, _)| {
                NumberDataPoint {
                    attributes: attributes.clone(),
                    start_time_unix_nano: *start,
                    time_unix_nano: *time,
                    exemplars: exemplars.clone(),
                    flags: *flags,
                    value: sum.map(|sum| {
                        if number % 2 == 0 {
                            number_data_point::Value::AsDouble(sum)
                        } else {
                            number_data_point::Value::AsInt(*number as i64)
                        }
                    }),
                }
            });
            let data = match kind {
                0 => None,
                1 => Some(Data::Gauge(Gauge { data_points: numbers.collect() })),
                2 => Some(Data::Sum(Sum {
                    data_points: numbers.collect(),
                    aggregation_temporality: temporality,
                    is_monotonic: temporality > 0,
                })),
                3 => {
                    let points = points.iter().cloned().map(
                        |((attributes, start, time, count, flags, exemplars), counts, bounds, _, sum, max)| {
                            HistogramDataPoint {
                                attributes,
                                start_time_unix_nano: start,
                                time_unix_nano: time,
                                count,
                                sum,
                                bucket_counts: counts,
                                explicit_bounds: bounds,
                                exemplars,
                                flags,
                                min: sum,
                                max,
                            }
                        },
                    );
                    Some(Data::Histogram(Histogram {
                        data_points: points.collect(),
                        aggregation_temporality: temporality,
                    }))
                }
                4 => {
                    let points = points.iter().cloned().map(
                        |((attributes, start, time, count, flags, exemplars), counts, bounds, scale, sum, max)| {
                            ExponentialHistogramDataPoint {
                                attributes,
                                start_time_unix_nano: start,
                                time_unix_nano: time,
                                count,
                                sum,
                                scale,
                                zero_count: start,
                                positive: Some(exponential_histogram_data_point::Buckets {
                                    offset: scale,
                                    bucket_counts: counts,
                                }),
                                negative: Some(Default::default()),
                                flags,
                                exemplars,
                                min: max,
                                max,
                                zero_threshold: bounds.first().copied().unwrap_or_default(),
                            }
                        },
                    );
                    Some(Data::ExponentialHistogram(ExponentialHistogram {
                        data_points: points.collect(),
                        aggregation_temporality: temporality,
                    }))
                }
                _ => {
                    let points = points.iter().cloned().map(
                        |((attributes, start, time, count, flags, _), _, bounds, _, sum, _)| SummaryDataPoint {
                            attributes,
                            start_time_unix_nano: start,
                            time_unix_nano: time,
                            count,
                            sum: sum.unwrap_or_default(),
                            quantile_values: bounds
                                .into_iter()
                                .map(|value| summary_data_point::ValueAtQuantile { quantile: value, value })
                                .collect(),
                            flags,
                        },
                    );
                    Some(Data::Summary(Summary { data_points: points.collect() }))
                }
            };
            let metadata = scope.iter().flat_map(|scope| scope.attributes.clone()).collect();
            let metric = Metric { name: name.clone(), description: name.clone(), unit: name.clone(), metadata, data };
            let scope_metrics = vec![ScopeMetrics { scope, metrics: vec![metric], schema_url: name.clone() }];
            ExportMetricsServiceRequest {
                resource_metrics: vec![ResourceMetrics { resource, scope_metrics, schema_url: name }],
            }
        },
    )
}

/// A request survives being written as JSON and read again; serde_json sees the same text as JSON. Its encoding is prost's,
/// but for the order of the fields.
fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(signal: Signal, request: &M) {
    let json = written(signal, &request.encode_to_vec());
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    let wire = to_wire(signal, json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    let again = M::decode(&*wire).unwrap();
    assert_eq!(&again, request, "{json}");
    assert_eq!(wire.len(), request.encoded_len());
    assert_eq!(to_wire(signal, spaced(&json).as_bytes()).unwrap(), wire);
}

/// The same JSON with spaces, tabs and line ends wherever they may stand.
fn spaced(json: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for character in json.chars() {
        let between = !quoted && "{}[],:\"".contains(character);
        out.push_str(if between { " \n" } else { "" });
        out.push(character);
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        out.push_str(if between && !quoted { "\t\r" } else { "" });
    }
    out
}

const SEEDS: [(Signal, &str); 3] = [
    (Signal::Logs, include_str!("../../fixtures/json/logs_edges.json")),
    (Signal::Metrics, include_str!("../../fixtures/json/metrics_edges.json")),
    (Signal::Traces, include_str!("../../fixtures/json/traces_edges.json")),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 96 } else { 2000 }))]

    #[test]
    fn logs_round_trip(request in logs()) {
        round_trip(Signal::Logs, &request);
    }

    #[test]
    fn metrics_round_trip(request in metrics()) {
        round_trip(Signal::Metrics, &request);
    }

    #[test]
    fn traces_round_trip(request in traces()) {
        round_trip(Signal::Traces, &request);
    }

    /// Whatever is done to a text: what is accepted is JSON for serde_json too, and protobuf for prost.
    #[test]
    fn damaged_texts(seed in 0..3usize, edits in vec((any::<prop::sample::Index>(), 0..8usize, "[\\PC\"\\\\{}\\[\\],:0-9eE.+n -]{0,3}"), 1..4)) {
        let (signal, text) = SEEDS[seed];
        let mut text: Vec<char> = text.chars().collect();
        for (place, removed, added) in edits {
            let start = place.index(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, added.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(wire) = to_wire(signal, text.as_bytes()) {
            decodes(signal, &wire);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            let again = to_wire(signal, written(signal, &wire).as_bytes()).unwrap();
            prop_assert_eq!(written(signal, &again), written(signal, &wire));
        }
    }

    /// The grammar is serde_json's, in what no field claims as well.
    #[test]
    fn grammar(tokens in vec(prop::sample::select(TOKENS.to_vec()), 0..12)) {
        let text = format!("{{\"x\":{}}}", tokens.concat());
        // serde_json takes no half of a pair.
        let expected = serde_json::from_str::<serde_json::Value>(&text.replace("ud800", "ufffd")).is_ok();
        prop_assert_eq!(to_wire(Signal::Logs, text.as_bytes()).is_ok(), expected, "{}", text);
    }

    #[test]
    fn any_bytes(wire in vec(any::<u8>(), 0..200)) {
        for signal in Signal::ALL {
            let _ = to_wire(signal, &wire);
            serde_json::from_str::<serde_json::Value>(&written(signal, &wire)).unwrap();
        }
    }
}

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\"",
    "\"\\u00e9\"",
    "\"\\ud800\"",
    "\"",
    "\\",
    "1",
    "0",
    "-",
    ".",
    "e",
    "E+",
    "1.5",
    "12",
    "true",
    "false",
    "null",
    "nul",
    " ",
    "\n",
    "\t",
    "{}",
    "[]",
    "[1,2]",
    "{\"a\":",
    "\"b\":",
    "x",
    "\u{1}",
    "é",
];
