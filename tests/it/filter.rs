//! `filter` beyond what is recorded in `fixtures/pipelines`: its counters, the ledger, observing, refusing, its errors, and
//! that on the wire it drops what it would drop of decoded requests.

use misaki::face::config::{self, Section};
use misaki::face::diagnostics::Page;
use misaki::face::otlp::check::check;
use misaki::face::processors::{Factory, Notes, filter};
use misaki::face::service::Plan;
use misaki::face::telemetry::{Budget, Charge, Now, Part, Share, Signal, Telemetry};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, span::Event};
use proptest::prelude::*;
use prost::Message;

use super::harness::*;
use super::json;
use super::rewrite::rewritten;

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
    assert_eq!(balance[0].to_string(), "logs to otlp: 6 accepted = 1 exported + 5 filtered + 0 dropped + 0 left");
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
        assert_eq!(misaki.finish().await[0].filtered, 2);
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
        (
            "{metrics: {include: {match_type: expr, expressions: ['MetricName == \"b\"', 'HasLabel(\"none\")']}}}",
            Signal::Metrics,
            vec!["b"],
            "keeps only metrics with a data point where MetricName == \"b\" or HasLabel(\"none\")",
        ),
        (
            "{metrics: {include: {match_type: expr, expressions: ['/* one */ (MetricName) == ((\"b\")) and ((true)) // a remark']}}}",
            Signal::Metrics,
            vec!["b"],
            "",
        ),
        (
            "{metrics: {include: {match_type: expr, expressions: ['((\"b\") == (MetricName)) && (MetricType) in ([(\"Gauge\"), \"Sum\"])', '(Label((\"x\"))) matches (\"y\")']}}}",
            Signal::Metrics,
            vec!["b"],
            "",
        ),
        (
            "{metrics: {exclude: {match_type: expr, expressions: ['MetricType in [\"Gauge\"] && !(MetricName matches \"^[ab]$\")']}}}",
            Signal::Metrics,
            vec!["a", "b"],
            "",
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
    check_error("{log_conditions: [{context: span, conditions: []}]}", "unknown value \"span\"");
}

/// What `match_type: expr` does not take is refused with its place in the expression.
#[test]
fn what_an_expression_cannot_say_is_refused_at_its_place() {
    let here = "this is not supported here";
    for (expression, at, message) in [
        ("", 0, here),
        ("MetricName", 10, "expected a comparison here"),
        ("HasLabel", 8, "expected ( here"),
        ("HasLabel(1)", 9, here),
        ("HasLabel('x') == true", 14, here),
        ("HasLabel('x') &&", 16, here),
        ("HasLabel('x') ? true : false", 14, here),
        ("len(MetricName) == '1'", 0, "len is not supported"),
        ("MetricName == 1", 14, here),
        ("MetricName == Label('x')", 14, "expected a text in quotes here"),
        ("MetricName == 'a", 14, "this text does not end"),
        (r"MetricName == '\u0061'", 14, "this text has an escape that is not supported"),
        ("MetricName matches '['", 19, "this is not a regular expression"),
        ("not MetricName == 'a'", 4, "a comparison behind ! or not stands in parentheses"),
        ("!(MetricName) == 'a'", 1, "a comparison behind ! or not stands in parentheses"),
        ("(HasLabel)('a')", 9, "expected ( here"),
        ("MetricName == ('a'", 18, "expected ) here"),
        ("MetricName == 'a' /* and", 18, "this comment does not end"),
        ("MetricName == 'a' # and", 18, here),
        ("'a' matches MetricName", 4, "a text may stand on the left of == != < <= > >= only"),
        ("Foo == 'a'", 0, "Foo is not supported"),
        ("(true", 5, "expected ) here"),
        (&"(".repeat(100), 16, "this is nested too deep"),
    ] {
        let text = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{filter: {{metrics: {{include: {{match_type: expr, expressions: [{}]}}}}}}}}, exporters: {{nop: }}, service: {{pipelines: {{metrics: {{receivers: [otlp], processors: [filter], exporters: [nop]}}}}}}}}",
            serde_json::Value::from(expression)
        );
        let loaded = config::load(&[text], &[], &|_| None);
        Plan::read(&loaded);
        let problems = loaded.problems.sorted();
        let [problem] = problems.as_slice() else { panic!("{expression}: {problems:?}") };
        assert_eq!(problem.message, message, "{expression}");
        assert_eq!(problem.inside.as_ref().map(|inside| inside.span.start), Some(at), "{expression}");
        assert!(problem.path.ends_with("metrics.include.expressions"), "{}", problem.path);
    }
}

/// A condition and what it means for a decoded message.
type Meaning<T> = (&'static str, fn(&T) -> bool);

/// The conditions that a bit chooses.
fn chosen<T>(meanings: &[Meaning<T>], bits: u8) -> Vec<Meaning<T>> {
    let is_chosen = |(index, _): &(usize, &Meaning<T>)| bits & (1 << index) != 0;
    meanings.iter().enumerate().filter(is_chosen).map(|(_, meaning)| *meaning).collect()
}

fn list<T>(key: &str, meanings: &[Meaning<T>]) -> String {
    let quoted: Vec<String> = meanings.iter().map(|(text, _)| format!("'{text}'")).collect();
    format!("{key}: [{}]", quoted.join(", "))
}

fn drops<T>(meanings: &[Meaning<T>], item: &T) -> bool {
    meanings.iter().any(|(_, means)| means(item))
}

/// The first of equal keys counts.
fn has(attributes: &[KeyValue], key: &str) -> bool {
    let found = attributes.iter().find(|pair| pair.key == key);
    // Bytes that are none are nil, as in Go.
    let is_nil = |value: &Value| matches!(value, Value::BytesValue(bytes) if bytes.is_empty());
    found.and_then(|pair| pair.value.as_ref()?.value.as_ref()).is_some_and(|value| !is_nil(value))
}

const RESOURCES: [Meaning<Resource>; 2] = [
    ("attributes[\"\"] != nil and dropped_attributes_count > 2000000000", |resource| {
        has(&resource.attributes, "") && resource.dropped_attributes_count > 2_000_000_000
    }),
    ("Len(attributes) == 3", |resource| resource.attributes.len() == 3),
];
const LOGS: [Meaning<LogRecord>; 4] = [
    ("severity_number < SEVERITY_NUMBER_INFO", |record| record.severity_number < 9),
    ("IsMatch(severity_text, \"^[a-m]\")", |record| record.severity_text.starts_with(|c| ('a'..='m').contains(&c))),
    ("IsString(body) and (Len(body) > 5 or attributes[\"\"] == nil)", |record| {
        match record.body.as_ref().and_then(|body| body.value.as_ref()) {
            Some(Value::StringValue(text)) => text.len() > 5 || !has(&record.attributes, ""),
            _ => false,
        }
    }),
    ("not (time_unix_nano != 0 or trace_id == TraceID(0x00000000000000000000000000000000))", |record| {
        record.time_unix_nano == 0 && !record.trace_id.is_empty()
    }),
];
const SPANS: [Meaning<Span>; 3] = [
    ("IsMatch(name, \"[0-9]\")", |span| span.name.contains(|c: char| c.is_ascii_digit())),
    ("start_time_unix_nano == 0 and status.code < 0", |span| {
        span.start_time_unix_nano == 0 && span.status.as_ref().is_some_and(|status| status.code < 0)
    }),
    ("IsRootSpan() and attributes[\"\"] != nil", |span| span.parent_span_id.is_empty() && has(&span.attributes, "")),
];
const EVENTS: [Meaning<Event>; 2] = [
    ("name == \"\"", |event| event.name.is_empty()),
    ("attributes[\"\"] != nil or time_unix_nano == 0", |event| has(&event.attributes, "") || event.time_unix_nano == 0),
];
const METRICS: [Meaning<Metric>; 2] = [
    ("type == METRIC_DATA_TYPE_SUM and name != \"\"", |metric| {
        matches!(metric.data, Some(Data::Sum(_))) && !metric.name.is_empty()
    }),
    ("IsMatch(name, \"^[a-z]\")", |metric| metric.name.starts_with(|c: char| c.is_ascii_lowercase())),
];

/// What a point shows of itself.
struct Point {
    time: u64,
    has_attribute: bool,
}

const POINTS: [Meaning<Point>; 2] =
    [("time_unix_nano == 0", |point| point.time == 0), ("attributes[\"\"] != nil", |point| point.has_attribute)];

/// What the processor leaves of a request.
fn filtered(settings: &str, signal: Signal, wire: Vec<u8>) -> Vec<u8> {
    let loaded = config::load(&[format!("yaml:{{it: {{{settings}}}}}")], &[], &|_| None);
    let config = filter::Config::decode(Section::of(loaded.root.get("it").unwrap(), "it", &loaded.problems));
    assert_eq!(loaded.problems.render(&loaded.sources, false), "");
    let processor = config.build("filter", signal).unwrap();
    let items = check(signal, &wire).unwrap();
    let charge = Charge::take(&Budget::new(64 << 20), Share::Ingest, wire.len() as u64).unwrap();
    let parts = [Part::new(wire, items, charge)].into_iter().collect();
    let telemetry = Telemetry { signal, parts, client: None, received: Now::read(), tickets: Default::default() };
    match processor.process(telemetry, Now::read(), &mut Notes::new()).unwrap() {
        None => Vec::new(),
        Some(after) => {
            assert_eq!(check(signal, &after.parts[0].bytes), Ok(after.parts[0].items), "counted wrongly");
            after.parts[0].bytes.to_vec()
        }
    }
}

/// The walk over the containers of a decoded request: what is dropped goes, and so does what is empty then.
macro_rules! keep {
    ($request:expr, $groups:ident, $scopes:ident, $records:ident, $resources:expr, |$record:ident| $keeps:expr) => {
        $request.$groups.retain_mut(|group| {
            !drops($resources, group.resource.as_ref().unwrap()) && {
                group.$scopes.retain_mut(|scope| {
                    scope.$records.retain_mut(|$record| $keeps);
                    !scope.$records.is_empty()
                });
                !group.$scopes.is_empty()
            }
        })
    };
}

fn wire_of(request: &impl Message, odd: bool) -> Vec<u8> {
    let wire = request.encode_to_vec();
    if odd { rewritten(&wire, 0) } else { wire }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn logs_are_filtered_as_if_they_were_decoded(mut request in json::logs(), bits in any::<[u8; 2]>(), odd in any::<bool>()) {
        let wire = wire_of(&request, odd);
        let (resources, records) = (chosen(&RESOURCES, bits[0]), chosen(&LOGS, bits[1] | 1));
        let settings = format!("logs: {{{}, {}}}", list("resource", &resources), list("log_record", &records));
        keep!(request, resource_logs, scope_logs, log_records, &resources, |record| !drops(&records, record));
        let left = filtered(&settings, Signal::Logs, wire);
        prop_assert_eq!(ExportLogsServiceRequest::decode(&*left).unwrap(), request, "{}", settings);
    }

    #[test]
    fn traces_are_filtered_as_if_they_were_decoded(mut request in json::traces(), bits in any::<[u8; 3]>(), odd in any::<bool>()) {
        let wire = wire_of(&request, odd);
        let (resources, spans, events) = (chosen(&RESOURCES, bits[0]), chosen(&SPANS, bits[1]), chosen(&EVENTS, bits[2] | 1));
        let settings = format!(
            "traces: {{{}, {}, {}}}",
            list("resource", &resources),
            list("span", &spans),
            list("spanevent", &events)
        );
        keep!(request, resource_spans, scope_spans, spans, &resources, |span| !drops(&spans, span) && {
            span.events.retain(|event| !drops(&events, event));
            true
        });
        let left = filtered(&settings, Signal::Traces, wire);
        prop_assert_eq!(ExportTraceServiceRequest::decode(&*left).unwrap(), request, "{}", settings);
    }

    #[test]
    fn metrics_are_filtered_as_if_they_were_decoded(mut request in json::metrics(), bits in any::<[u8; 3]>(), odd in any::<bool>()) {
        let wire = wire_of(&request, odd);
        let (resources, metrics, points) = (chosen(&RESOURCES, bits[0]), chosen(&METRICS, bits[1]), chosen(&POINTS, bits[2] | 1));
        let settings = format!(
            "metrics: {{{}, {}, {}}}",
            list("resource", &resources),
            list("metric", &metrics),
            list("datapoint", &points)
        );
        macro_rules! left {
            ($data:ident) => {{
                $data.data_points.retain(|point| {
                    !drops(&points, &Point { time: point.time_unix_nano, has_attribute: has(&point.attributes, "") })
                });
                !$data.data_points.is_empty()
            }};
        }
        keep!(request, resource_metrics, scope_metrics, metrics, &resources, |metric| !drops(&metrics, metric)
            && match &mut metric.data {
                Some(Data::Gauge(data)) => left!(data),
                Some(Data::Sum(data)) => left!(data),
                Some(Data::Histogram(data)) => left!(data),
                Some(Data::ExponentialHistogram(data)) => left!(data),
                Some(Data::Summary(data)) => left!(data),
                None => true,
            });
        let left = filtered(&settings, Signal::Metrics, wire);
        prop_assert_eq!(ExportMetricsServiceRequest::decode(&*left).unwrap(), request, "{}", settings);
    }
}
