//! What is seen at a glance: the last line, one line for what needs no tree, nothing cut that names a cause, and a part
//! that is called a part.

use misaki::face::exporters::{Layout, Zone, width};
use misaki::face::exporters::{Limits, Requests, WAIT};
use misaki::face::otlp::whole;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Status};

use crate::tree::{failed, log, logs, pair, purchase, span, traces, with};

fn drawn(layout: Layout, spans: Vec<ResourceSpans>, records: Vec<ResourceLogs>) -> String {
    let mut requests = Requests::new(layout, WAIT, Limits::default());
    let (mut out, now) = (Vec::new(), std::time::Instant::now());
    whole(&mut out, |to| requests.add(Signal::Logs, &[&logs(records)], now, to));
    whole(&mut out, |to| requests.add(Signal::Traces, &[&traces(spans)], now, to));
    whole(&mut out, |to| requests.print_all(to));
    String::from_utf8(out).unwrap()
}

fn narrow(spans: Vec<ResourceSpans>, records: Vec<ResourceLogs>) -> String {
    let text = drawn(Layout::new(80, false), spans, records);
    text.lines().for_each(|line| assert!(width(line) <= 80, "{line}"));
    text
}

/// The last line, which may be broken into several.
fn last(text: &str) -> String {
    let foot = text.rsplit_once("\n── ").unwrap_or_else(|| panic!("no last line: {text}")).1;
    foot.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_last_line_repeats_what_matters() {
    let says = |text: &str, expected: &str| assert_eq!(last(text), expected, "{text}");
    let bottleneck = "bottleneck: external-api POST /charge, 180 of payment's 200 ms, 59 %";
    says(&narrow(purchase(), Vec::new()), bottleneck);
    let mut spans = purchase();
    spans[7] = failed(spans[7].clone(), "card declined");
    spans[6] = failed(spans[6].clone(), "no charge: card declined");
    says(&narrow(spans, Vec::new()), &format!("✗ external-api POST /charge: card declined · {bottleneck}"));
    // Equal failures once with their number, further ones as a number.
    let call = |id: u64, text: &str| failed(span(id, 1, "shop", "call", id as i64, 1), text);
    let mut spans = vec![span(1, 0, "shop", "GET /", 0, 100)];
    spans.extend((2..7).map(|id| call(id, "refused")));
    spans.extend(["a", "b", "c", "d"].iter().zip(7..).map(|(text, id)| call(id, text)));
    let expected = "✗ ×5 shop call: refused · ✗ shop call: a · ✗ shop call: b · ✗ 2 more · bottleneck: shop GET / itself, 91 of 100 ms, 91 %";
    says(&narrow(spans, Vec::new()), expected);
}

/// Where the root, a parent or the span of a log is missing, a part is called a part, and no bottleneck of it.
#[test]
fn a_part_is_called_a_part() {
    let rows: [(Vec<ResourceSpans>, Vec<ResourceLogs>, &str); 4] = [
        (
            purchase()[2..].to_vec(),
            Vec::new(),
            "its root span has not arrived; 3 spans of a parent that has not arrived",
        ),
        (purchase()[1..].to_vec(), Vec::new(), "its root span has not arrived"),
        ([&purchase()[..6], &purchase()[7..]].concat(), Vec::new(), "1 span of a parent that has not arrived"),
        (purchase(), vec![log(77, "mail", 9, "sent", 1)], "1 log of a span that has not arrived"),
    ];
    for (spans, records, expected) in rows {
        let text = narrow(spans, records);
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(joined.contains(&format!("! partial: {expected} * on the critical path")), "{text}");
        assert_eq!(last(&text), format!("partial: {expected}"), "{text}");
        assert!(!text.contains("bottleneck") && !text.lines().any(|line| line.starts_with('>')), "{text}");
    }
    // What failed is said nevertheless.
    let mut spans = purchase()[1..].to_vec();
    spans[6] = failed(spans[6].clone(), "no");
    let text = narrow(spans, Vec::new());
    assert_eq!(last(&text), "partial: its root span has not arrived · ✗ external-api POST /charge: no");
}

#[test]
fn what_needs_no_tree_takes_a_line() {
    let one = || span(1, 0, "shop", "nightly export", 0, 30);
    let said = "14:02:11.402Z span   shop             nightly export  30 ms             4b4b4b4b\n";
    assert_eq!(narrow(vec![one()], Vec::new()), said);
    // Its logs are lines, too.
    let text = narrow(vec![one()], vec![log(1, "shop", 9, "exported", 3)]);
    assert_eq!(
        text,
        format!("{said}14:02:11.405Z INFO   shop             exported  user=17                 4b4b4b4b\n")
    );
    let text = narrow(vec![failed(one(), "disk full")], Vec::new());
    assert_eq!(
        text,
        "14:02:11.402Z ✗ span shop             nightly export  30 ms  failed: …  4b4b4b4b\n"
            .replace("…", "d…")
            .replace("d…", "…")
    );
    let link = Link { trace_id: vec![7; 16], span_id: vec![3; 8], ..Default::default() };
    let text = narrow(vec![with(one(), |span| span.links = vec![link.clone(), link.clone()])], Vec::new());
    let linked = format!("              → linked to trace {}, and 1 more\n", "07".repeat(16));
    assert_eq!(text, format!("{said}{linked}"));
    // A health check is a line, however many spans and logs it has, until something about it is remarkable.
    let probe = |name: &str, path: &str| {
        let root = with(span(1, 0, "shop", name, 0, 9), |span| {
            span.kind = 2;
            span.attributes.extend((!path.is_empty()).then(|| pair("url.path", path)));
        });
        vec![root, span(2, 1, "shop", "ping database", 1, 5), span(3, 2, "shop", "dial", 2, 2)]
    };
    for (name, path) in [("GET /healthz", ""), ("GET", "/api/ready/"), ("grpc.health.v1.Health/Check", "")] {
        let text = drawn(Layout::new(100, false), probe(name, path), vec![log(2, "shop", 9, "fine", 3)]);
        assert!(text.lines().count() == 1 && text.contains("  9 ms  +2 spans, "), "{text}");
    }
    let mut broken = probe("GET /healthz", "");
    broken[2] = failed(broken[2].clone(), "no route");
    for (spans, records) in [
        (probe("GET /orders", ""), Vec::new()),
        (probe("GET /healthz", "/orders"), Vec::new()),
        (broken, Vec::new()),
        (probe("GET /healthz", ""), vec![log(2, "shop", 13, "slow", 3)]),
    ] {
        let text = narrow(spans, records);
        assert!(text.starts_with("── ") && text.contains("└ dial"), "{text}");
    }
}

/// A log whose trace id was lifted from its attributes names no span: it stands where its service was at its time.
#[test]
fn a_log_without_a_span_stands_in_its_tree() {
    let records = vec![
        log(0, "payment", 9, "while charging", 120),
        log(0, "external-api", 9, "before anything", 1),
        log(0, "frontend", 9, "outermost", 304),
        log(0, "mail", 9, "from elsewhere", 200),
    ];
    let text = narrow(purchase(), records);
    let below = |row: &str, log: &str| {
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains(row)).unwrap();
        assert!(lines[at + 1].contains(log), "{log} below {row}: {text}");
    };
    below("payment.charge  ", "14:02:11.522 INFO  while charging");
    below("└ POST /charge  ", "14:02:11.403 INFO  before anything");
    below("POST /purchase  ", "14:02:11.706 INFO  outermost");
    assert!(
        text.contains("\n   14:02:11.602 INFO  mail: from elsewhere  user=17\n── bottleneck: external-api"),
        "{text}"
    );
}

/// At 80 columns what names the cause is there to its last word, and the message comes before the type.
#[test]
fn the_cause_is_never_cut() {
    let cause = format!("redis: {}connection refused", "a rather long way to say ".repeat(6));
    let has_all = |text: &str| {
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(joined.contains(&cause), "{text}");
    };
    let mut spans = purchase();
    spans[3] = failed(spans[3].clone(), &cause);
    has_all(&narrow(spans, Vec::new()));
    let mut spans = purchase();
    spans[3] = with(spans[3].clone(), |span| {
        span.status = Some(Status { code: 2, message: String::new() });
        let attributes = vec![
            pair("exception.type", "Refused"),
            pair("exception.stacktrace", "at main.go"),
            pair("exception.message", &cause),
        ];
        span.events = vec![Event { name: "exception".into(), attributes, ..Default::default() }];
    });
    has_all(&narrow(spans, Vec::new()));
    // Told by a log alone.
    let told = |group: &mut ResourceLogs| {
        let record = &mut group.scope_logs[0].log_records[0];
        record.attributes = vec![
            pair("exception.type", "Refused"),
            pair("exception.stacktrace", "at main.go"),
            pair("exception.message", &cause),
        ];
    };
    let mut record = log(4, "database", 17, "query failed", 30);
    told(&mut record);
    let text = narrow(purchase(), vec![record.clone()]);
    has_all(&text);
    assert!(text.contains("query failed  exception.message=redis:") && !text.contains("main.go"), "{text}");
    // A pipe has no width: nothing is cut there.
    record.scope_logs[0].log_records[0].trace_id.clear();
    let text = drawn(Layout::FILE, Vec::new(), vec![record]);
    assert!(text.ends_with(&format!("query failed  exception.message={cause} exception.type=Refused\n")), "{text}");
}

/// Unfolded, each span has its row; and times are those of the zone, which says its name.
#[test]
fn the_layout_is_the_users() {
    let mut spans = vec![span(1, 0, "shop", "GET /", 0, 100)];
    spans.extend((2..6).map(|id| span(id, 1, "shop", "query", 10 * id as i64, 9)));
    let text = drawn(Layout::new(80, false), spans.clone(), Vec::new());
    assert!(text.contains("└ ×4 query 9 ms "), "{text}");
    let text = drawn(Layout { unfold: true, ..Layout::new(80, false) }, spans.clone(), Vec::new());
    assert_eq!(text.matches(" query  ").count(), 4, "{text}");
    assert!(text.contains("> bottleneck: shop GET / itself, 64 of 100 ms"), "{text}");
    let local = Layout::new(80, false).local();
    let Zone::Local(columns) = local.zone else { panic!("{local:?}") };
    assert_eq!(width(&local.time(1)), local.time_columns());
    assert!(columns > 0 && local.time(0).starts_with("--:--:--.---"));
}
