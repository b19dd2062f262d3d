//! The forms in lines: a request as a tree (`docs/tree.md`), an item a line, an object a line.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use misaki::face::exporters::{
    Layout, Limits, Requests, Span as Leaf, Style, Tree, Verbosity, WAIT, render_chunks, width,
};
use misaki::face::otlp::json::to_wire;
use misaki::face::otlp::whole;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;

use crate::harness::{Misaki, until};

const MS: u64 = 1_000_000;
/// 2026-11-22 14:02:11.402
const START: u64 = 1_795_356_131_402 * MS;
const TRACE: u8 = 0x4b;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// A span of [`TRACE`]: id, parent (0 for none), service, name, start and duration in milliseconds after [`START`].
pub fn span(id: u64, parent: u64, service: &str, name: &str, start: i64, millis: u64) -> ResourceSpans {
    let start = START.wrapping_add_signed(start * MS as i64);
    let span = Span {
        trace_id: vec![TRACE; 16],
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: name.to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + millis * MS,
        ..Default::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    ResourceSpans { resource: Some(resource(service)), scope_spans, ..Default::default() }
}

pub fn with(mut group: ResourceSpans, change: impl FnOnce(&mut Span)) -> ResourceSpans {
    change(&mut group.scope_spans[0].spans[0]);
    group
}

pub fn failed(group: ResourceSpans, message: &str) -> ResourceSpans {
    with(group, |span| span.status = Some(Status { code: 2, message: message.to_owned() }))
}

fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) })
}

pub fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: text(value), ..Default::default() }
}

fn resource(service: &str) -> Resource {
    Resource { attributes: vec![pair("service.name", service)], ..Default::default() }
}

pub fn log(span: u64, service: &str, severity: i32, body: &str, millis: u64) -> ResourceLogs {
    let record = LogRecord {
        time_unix_nano: START + millis * MS,
        severity_number: severity,
        body: text(body),
        attributes: vec![pair("user", "17")],
        trace_id: vec![TRACE; 16],
        span_id: span.to_be_bytes().to_vec(),
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..Default::default() }];
    ResourceLogs { resource: Some(resource(service)), scope_logs, ..Default::default() }
}

pub fn traces(resource_spans: Vec<ResourceSpans>) -> Vec<u8> {
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

pub fn logs(resource_logs: Vec<ResourceLogs>) -> Vec<u8> {
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// Scenario S3, one step after another.
pub fn purchase() -> Vec<ResourceSpans> {
    vec![
        span(1, 0, "frontend", "POST /purchase", 0, 305),
        span(2, 1, "api-gateway", "route", 5, 295),
        span(3, 2, "product", "product.get", 8, 50),
        span(4, 3, "database", "database.query", 18, 30),
        span(5, 2, "stock", "stock.reserve", 58, 40),
        span(6, 5, "database", "database.query", 68, 25),
        span(7, 2, "payment", "payment.charge", 98, 200),
        span(8, 7, "external-api", "POST /charge", 108, 180),
    ]
}

/// Everything at once: a failure, siblings folded, clocks that differ, a span that goes on, logs, a late one.
pub fn troubled() -> (Vec<ResourceSpans>, Vec<ResourceLogs>) {
    let mut spans = vec![
        span(1, 0, "shop", "GET /cart/{id} with a name that is much too long for a row of eighty columns", 0, 240),
        span(2, 1, "shop", "render", 200, 40),
        with(span(3, 1, "shop", "GET inventory", 10, 60), |span| span.kind = CLIENT),
        with(span(4, 3, "inventory", "GET /inventory", -20, 40), |span| span.kind = SERVER),
        failed(span(5, 1, "shop", "charge", 75, 100), ""),
        failed(span(6, 5, "payment", "charge card", 80, 90), "card declined\n\x1b[31m by the bank"),
        span(7, 1, "shop", "send.mail", 230, 120),
        span(8, 2, "shop", "日本語のテンプレートを描画する長い名前のスパンです、とても長い", 202, 9),
    ];
    spans.extend((0..12).map(|n| span(100 + n, 2, "database", "database.query", 201 + 3 * n as i64, 3 + n % 7)));
    let logs = vec![
        log(1, "shop", 9, "cart opened", 1),
        log(6, "payment", 17, "the bank said no to this card, and here is a reason that is longer than the line", 170),
        log(100, "database", 5, "SELECT", 202),
        log(77, "shop", 9, "from a span that never came", 3),
        log(0, "shop", 13, "from no span", 4),
    ];
    (spans, logs)
}

fn drawn(columns: usize, requests: &[(Signal, Vec<u8>)]) -> String {
    let mut gathered = Requests::new(Layout::new(columns, false), WAIT, Limits::default());
    let mut out = Vec::new();
    let now = Instant::now();
    for (signal, request) in requests {
        whole(&mut out, |to| gathered.add(*signal, &[request], now, to));
    }
    whole(&mut out, |to| gathered.print_all(to));
    String::from_utf8(out).unwrap()
}

#[track_caller]
pub fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn requests_look_as_they_should() {
    let (spans, records) = troubled();
    let purchase_logs = vec![log(7, "payment", 9, "charging", 100), log(8, "external-api", 13, "slow answer", 280)];
    let cases = [
        ("purchase", vec![(Signal::Logs, logs(purchase_logs)), (Signal::Traces, traces(purchase()))]),
        ("seed", vec![(Signal::Traces, recorded("traces_seed"))]),
        ("troubled", vec![(Signal::Logs, logs(records)), (Signal::Traces, traces(spans))]),
    ];
    for (name, requests) in cases {
        for columns in [80, 160] {
            let text = drawn(columns, &requests);
            for line in text.lines() {
                assert!(width(line) <= columns && line.trim_end() == line, "{line}");
            }
            golden(&format!("tree/{name}.{columns}.txt"), &text);
        }
    }
}

/// Scenario S3.
#[test]
fn the_bottleneck_is_named() {
    let text = drawn(80, &[(Signal::Traces, traces(purchase()))]);
    assert!(text.contains("bottleneck: external-api POST /charge, 180 of payment's 200 ms, 59 %\n"), "{text}");
    // At once instead of one after another: what payment hides costs nothing.
    let mut at_once = purchase();
    for (group, millis) in at_once.iter_mut().zip([215, 205, 0, 0, 0, 0, 0, 0]) {
        let span = &mut group.scope_spans[0].spans[0];
        let back = span.start_time_unix_nano - START;
        match span.span_id[7] {
            1 | 2 => span.end_time_unix_nano = span.start_time_unix_nano + millis * MS,
            5 | 6 => span.start_time_unix_nano = START + back - 50 * MS,
            7 | 8 => span.start_time_unix_nano = START + back - 90 * MS,
            _ => {}
        }
        match span.span_id[7] {
            5 | 6 => span.end_time_unix_nano -= 50 * MS,
            7 | 8 => span.end_time_unix_nano -= 90 * MS,
            _ => {}
        }
    }
    let text = drawn(80, &[(Signal::Traces, traces(at_once))]);
    assert!(text.contains("bottleneck: external-api POST /charge, 180 of payment's 200 ms, 84 %\n"), "{text}");
    assert!(text.contains("\n     ├ product.get "), "not waited for: {text}");
    // As a program reports it whose spans end before what they started: the root after 10 ms.
    let text = drawn(160, &[(Signal::Traces, recorded("traces_seed"))]);
    assert!(
        text.contains(
            "after the answer: another 190 ms; bottleneck: shop external-api, 180 of payment-service's 200 ms\n"
        ),
        "{text}"
    );
}

/// A server that answers 402 has not failed itself: the failure is the one below it.
#[test]
fn the_failure_behind_an_answer_is_named() {
    let spans = vec![
        span(1, 0, "shop", "POST /checkout", 0, 100),
        failed(with(span(2, 1, "shop", "POST /charge", 10, 80), |span| span.kind = CLIENT), "402"),
        with(span(3, 2, "payment", "POST /charge", 12, 70), |span| span.kind = SERVER),
        failed(span(4, 3, "payment", "authorize card", 20, 50), "card expired"),
    ];
    let text = drawn(80, &[(Signal::Traces, traces(spans))]);
    assert!(text.contains(" ✗ failed: payment authorize card: card expired\n"), "{text}");
    assert!(!text.contains("failed: shop"), "{text}");
}

/// Colour repeats what words say, and takes no room.
#[test]
fn colours_are_for_terminals_alone() {
    let (spans, records) = troubled();
    let requests = [(Signal::Logs, logs(records)), (Signal::Traces, traces(spans))];
    let plain = drawn(80, &requests);
    assert!(!plain.contains('\x1b'));
    let mut gathered = Requests::new(Layout::new(80, true), WAIT, Limits::default());
    let mut out = Vec::new();
    for (signal, request) in &requests {
        whole(&mut out, |to| gathered.add(*signal, &[request], Instant::now(), to));
    }
    whole(&mut out, |to| gathered.print_all(to));
    let mut coloured = String::from_utf8(out).unwrap();
    assert!(coloured.contains("\x1b[31m"));
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m"] {
        coloured = coloured.replace(code, "");
    }
    assert_eq!(coloured, plain);
}

/// A trace is printed once it is whole, a little later for its last logs; else when its time is over.
#[test]
fn requests_come_when_they_are_whole() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut requests = Requests::new(Layout::FILE, WAIT, Limits::default());
    let mut add = |spans: &[ResourceSpans], now| {
        let mut out = Vec::new();
        let items = whole(&mut out, |to| requests.add(Signal::Traces, &[&traces(spans.to_vec())], now, to));
        assert_eq!((items, out.is_empty()), ([0; 3], true));
        requests.wake_at()
    };
    let spans = purchase();
    assert_eq!(add(&spans[2..], at(0)), Some(at(5000)));
    // The root, but not yet what lies between.
    assert_eq!(add(&spans[..1], at(100)), Some(at(5000)));
    assert_eq!(add(&spans[1..2], at(200)), Some(at(450)));
    let mut out = Vec::new();
    assert_eq!(whole(&mut out, |to| requests.print_due(at(449), to)), [0; 3]);
    let log_of_a_span = logs(vec![log(8, "external-api", 9, "answered", 280)]);
    assert_eq!(whole(&mut out, |to| requests.add(Signal::Logs, &[&log_of_a_span], at(449), to)), [0; 3]);
    assert!(out.is_empty());
    let items = whole(&mut out, |to| requests.print_due(at(450), to));
    assert_eq!((items[Signal::Logs as usize], items[Signal::Traces as usize]), (1, 8));
    assert!(String::from_utf8_lossy(&out).contains("└ POST /charge"));
    // It is kept for a while, and printed again once what came later is quiet: tests/it/growing.rs.
    assert_eq!(requests.wake_at(), Some(at(450 + 60_000)));
}

/// Through a running collector: the timekeeper prints what is due, the end prints the rest, and the ledger knows both.
#[tokio::test]
async fn the_exporter_prints_trees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.txt");
    let changes = format!(
        "{{exporters: {{debug: {{verbosity: tree, tree_wait: 10ms, utc: true, output_paths: ['{}']}}}}, service: {{pipelines: {{\
         logs: {{receivers: [otlp], exporters: [debug]}}, traces: {{receivers: [otlp], exporters: [debug]}}}}}}}}",
        path.display()
    );
    let mut misaki = Misaki::start(&changes, &[]).await;
    let text = || std::fs::read_to_string(&path).unwrap_or_default();
    misaki.submit_wire(Signal::Logs, logs(vec![log(8, "external-api", 9, "asked", 120)]), None).await.unwrap();
    misaki.submit_wire(Signal::Traces, traces(purchase()), None).await.unwrap();
    until("the request is printed", || text().contains("180 of payment's 200 ms")).await;
    assert!(text().contains("14:02:11.522 INFO  asked"), "{}", text());
    let other = traces(vec![with(span(1, 2, "shop", "orphan", 0, 1), |span| span.trace_id = vec![7; 16])]);
    misaki.submit_wire(Signal::Traces, other, None).await.unwrap();
    misaki.finish().await;
    assert!(text().contains(" ! partial: its root span has not arrived\n"), "{}", text());
    assert_eq!(
        misaki.running.balance().iter().map(|line| (line.accepted, line.exported)).collect::<Vec<_>>(),
        [(1, 1), (9, 9)]
    );
}

/// Beyond a limit the oldest trace goes early, and says so; every item is printed once.
#[test]
fn what_waits_is_bounded() {
    let one = |trace: u8, count: u64| {
        let change = |span: &mut Span| span.trace_id = vec![trace; 16];
        let spans = (1..=count).map(|id| with(span(id, 99, "a", "orphan", id as i64, 1), change));
        traces(spans.collect())
    };
    let limits = Limits { traces: 3, items: 20, bytes: 12_000 };
    let mut requests = Requests::new(Layout::FILE, WAIT, limits);
    let (mut out, mut printed) = (Vec::new(), 0);
    for trace in 1..=10 {
        printed += whole(&mut out, |to| requests.add(Signal::Traces, &[&one(trace, 2)], Instant::now(), to))
            [Signal::Traces as usize];
    }
    assert_eq!(printed, 14);
    printed += whole(&mut out, |to| requests.add(Signal::Traces, &[&one(11, 100)], Instant::now(), to))
        [Signal::Traces as usize];
    printed += whole(&mut out, |to| requests.print_all(to))[Signal::Traces as usize];
    assert_eq!(printed, 120);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(" ! printed early: too much is waiting\n"), "{text}");
    assert!(
        text.contains(" ! partial: its root span has not arrived; 2 spans of a parent that has not arrived\n"),
        "{text}"
    );
}

/// As deep as it gets, in a circle, its own parent, given twice, without an id, at impossible times.
#[test]
fn harmless_whatever_comes() {
    let chain = |count: u64| traces((1..=count).map(|id| span(id, id - 1, "deep", "call", id as i64, 1)).collect());
    for columns in [60, 80, 160] {
        let text = drawn(columns, &[(Signal::Traces, chain(3000))]);
        assert_eq!(text.lines().filter(|line| line.contains(" call ") && line.contains(" deep  ")).count(), 3000);
        assert!(text.lines().all(|line| width(line) <= columns));
    }
    let far = with(span(4, 3, "a", "far", 0, 0), |span| {
        (span.start_time_unix_nano, span.end_time_unix_nano) = (u64::MAX, 3);
    });
    let farther = with(span(6, 4, "a", "farther", 0, 0), |span| {
        (span.start_time_unix_nano, span.end_time_unix_nano) = (0, u64::MAX);
    });
    let no_id = with(span(5, 1, "a", "no id", 0, 1), |span| span.span_id.clear());
    let circle = vec![
        span(1, 2, "a", "one", 0, 10),
        span(2, 3, "a", "two", 1, 10),
        span(3, 1, "a", "three", 2, 10),
        span(3, 1, "a", "three", 2, 10),
        span(3, 3, "a", "itself", 3, 10),
        far,
        farther,
        no_id,
    ];
    let text = drawn(80, &[(Signal::Traces, traces(circle))]);
    for name in ["one", "two", "three", "itself", "far", "farther"] {
        assert!(text.lines().any(|line| line.contains(&format!("{name} "))), "{name}: {text}");
    }
    assert!(text.starts_with("14:02:11.402Z span   a                no id  1 ms"), "{text}");
    assert!(text.contains("\n ! 1 span came twice\n"), "{text}");
}

/// 10,000 spans. In a release it takes a few milliseconds; in debug it must only not be quadratic.
#[test]
fn large_traces_are_quick() {
    let leaf = |id: u64, parent: u64| Leaf {
        id,
        parent,
        start: id * 10,
        end: id * 10 + 50_000 / parent.max(1),
        kind: 0,
        service: "a".into(),
        name: format!("span {}", id % 100).into(),
        call: None,
        link: None,
        failure: None,
        notable: false,
        is_probe: false,
    };
    let wide: Vec<Leaf> = (1..=10_000).map(|id| leaf(id, u64::from(id > 1))).collect();
    let deep: Vec<Leaf> = (1..=10_000).map(|id| leaf(id, id - 1)).collect();
    let bushy: Vec<Leaf> = (1..=10_000).map(|id| leaf(id, id / 4)).collect();
    for spans in [wide, deep, bushy] {
        let start = Instant::now();
        let tree = Tree::build(&spans, true);
        assert_eq!(tree.order.len(), 10_000);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

prop_compose! {
    /// Spans whose parents are other spans, themselves, missing or in circles, on a scale of a few ticks.
    fn forest()(raw in proptest::collection::vec((0u64..14, 0u64..30, 0u64..20, 0usize..3, 0i32..6, any::<bool>()), 1..14)) -> Vec<Leaf> {
        let leaf = |(at, (parent, start, length, name, kind, failed)): (usize, (u64, u64, u64, usize, i32, bool))| Leaf {
            id: at as u64 + 1,
            parent,
            start: start * MS,
            end: (start + length) * MS,
            kind,
            service: Arc::from(["a", "b"][name % 2]),
            name: ["x", "y", "z"][name].into(),
            call: None,
            link: None,
            is_probe: false,
            failure: (failed && length > 15).then(|| "no".into()),
            notable: false,
        };
        raw.into_iter().enumerate().map(leaf).collect()
    }
}

proptest! {
    /// The tree against a model that looks at every tick: slow, recursive, straight from the definitions.
    #[test]
    fn trees_agree_with_the_model(spans in forest()) {
        let tree = Tree::build(&spans, true);
        // Every span once, after its parent; parents are those that were named, or none.
        let mut seen = HashSet::new();
        for at in &tree.order {
            let node = &tree.nodes[*at];
            prop_assert!(node.parent.is_none_or(|parent| seen.contains(&parent) && spans[*at].parent == spans[parent].id));
            prop_assert!(seen.insert(*at));
            let starts: Vec<u64> = node.children.iter().map(|child| tree.nodes[*child].start).collect();
            prop_assert!(starts.is_sorted());
            // Nothing begins before its parent, and nothing changes its length.
            prop_assert!(node.parent.is_none_or(|parent| tree.nodes[parent].start <= node.start));
            prop_assert_eq!(node.duration(), spans[*at].end - spans[*at].start);
        }
        prop_assert_eq!(seen.len(), spans.len());
        // A parent is only left out when it is missing, or to open a circle.
        for (at, node) in tree.nodes.iter().enumerate().filter(|(_, node)| node.parent.is_none()) {
            let mut above = Some(at);
            let mut steps = 0;
            while let Some(here) = above.filter(|here| spans[*here].parent != 0 && (*here != at || steps == 0)) {
                above = spans.iter().position(|span| span.id == spans[here].parent);
                steps += 1;
                prop_assert!(steps <= spans.len(), "{} does not lead to a root or back", node.start);
            }
            prop_assert!(spans[at].parent == 0 || above.is_none() || above == Some(at));
        }
        let runs = |at: usize, tick: u64| (tree.nodes[at].start..tree.nodes[at].end).contains(&tick);
        for (at, node) in tree.nodes.iter().enumerate() {
            prop_assert_eq!(node.is_detached, is_detached(&tree, at), "{}", at);
            prop_assert_eq!(node.is_after, above(&tree, at).any(|at| tree.nodes[at].is_detached));
            let waits = |child: &&usize| !tree.nodes[**child].is_detached;
            let ticks = (node.start..node.end).step_by(MS as usize);
            let alone = ticks.filter(|tick| !node.children.iter().filter(waits).any(|child| runs(*child, *tick)));
            prop_assert_eq!(node.own, alone.count() as u64 * MS);
        }
        // The critical path, a tick at a time: of the request within its own time, and of each detached span.
        let mut path = vec![0; spans.len()];
        for at in 0..spans.len() {
            let is_in_main = above(&tree, at).any(|at| at == tree.main);
            if at == tree.main || is_in_main && tree.nodes[at].is_detached {
                let mut of_this = vec![0; spans.len()];
                walk(&tree, at, tree.nodes[at].start, tree.nodes[at].end, &mut of_this);
                prop_assert_eq!(of_this.iter().sum::<u64>(), tree.nodes[at].duration());
                path.iter_mut().zip(of_this).for_each(|(all, this)| *all += this);
            }
        }
        let found: Vec<u64> = tree.nodes.iter().map(|node| node.path).collect();
        prop_assert_eq!(&found, &path);
        prop_assert!(tree.nodes.iter().all(|node| node.path <= node.own));
        // The bottleneck is never work that the client did not wait for, and the other never work that it did.
        prop_assert!(tree.bottleneck.is_none_or(|work| !tree.nodes[tree.works[work].first].is_after));
        prop_assert!(tree.after.is_none_or(|work| tree.nodes[tree.works[work].first].is_after));
        // Every span is in one row, alone or with what is the same work.
        let mut shown = Vec::new();
        for row in tree.rows.iter().filter(|row| !row.is_heading) {
            let alike = |at: &usize| {
                let (span, first) = (&spans[*at], &spans[row.first()]);
                let parent = |at: usize| tree.nodes[at].parent.map(|parent| tree.nodes[parent].work);
                (&span.name, &span.service, &span.failure) == (&first.name, &first.service, &first.failure)
                    && parent(*at) == parent(row.first())
            };
            prop_assert!(row.spans.iter().all(alike));
            shown.extend(row.spans.iter().copied());
        }
        shown.sort_unstable();
        prop_assert_eq!(shown, (0..spans.len()).collect::<Vec<_>>());
        let all: u64 = found.iter().sum();
        prop_assert_eq!(tree.rows.iter().map(|row| row.path).sum::<u64>(), all);
        prop_assert_eq!(tree.works.iter().map(|work| (work.spans, work.path)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)), (spans.len(), all));
        // Unfolded, each has a row of its own.
        let unfolded = Tree::build(&spans, false);
        prop_assert_eq!(unfolded.rows.iter().filter(|row| !row.is_heading && row.spans.len() == 1).count(), spans.len());
    }

    /// Any names in any place: lines keep to their width, and nothing acts on the terminal.
    #[test]
    fn lines_keep_to_their_width(name in ".*", service in ".*", body in ".*", columns in 60usize..200) {
        let mut spans = purchase();
        spans.push(failed(span(9, 7, &service, &name, 110, 20), &body));
        spans.extend((10..14).map(|id| span(id, 2, &service, &name, 3, id)));
        for (id, keys) in [(20, ["url.full", "http.request.method", "http.response.status_code"]), (21, ["db.statement", "db.system", "db.sql.table"]), (22, ["rpc.service", "rpc.method", "rpc.system"])] {
            spans.push(with(span(id, 2, &service, &name, 3, id), |span| {
                span.kind = CLIENT;
                span.attributes = keys.iter().zip([&name, &service, &body]).map(|(key, value)| pair(key, value)).collect();
            }));
        }
        let records = vec![log(9, &service, 17, &body, 3), log(88, &service, 0, &body, 3)];
        let text = drawn(columns, &[(Signal::Logs, logs(records)), (Signal::Traces, traces(spans))]);
        for line in text.lines() {
            prop_assert!(width(line) <= columns, "{line}");
        }
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }
}

/// The span and all that it is below.
fn above<'a>(tree: &'a Tree, at: usize) -> impl Iterator<Item = usize> + 'a {
    std::iter::successors(Some(at), |at| tree.nodes[*at].parent)
}

/// Whether nobody waited for a span, said another way round.
fn is_detached(tree: &Tree, at: usize) -> bool {
    let Some(parent) = tree.nodes[at].parent else { return false };
    let ((span, node), (above, parent)) = (tree.at(at), tree.at(parent));
    let is_call = span.kind == SERVER && above.kind == CLIENT;
    let is_message =
        span.kind == CONSUMER || above.kind == PRODUCER && (span.kind == SERVER || above.service != span.service);
    let begins_inside = node.start < parent.end || node.end <= parent.end;
    is_message || !(begins_inside && (node.end <= parent.end + MS || is_call))
}

/// What a span waited for within a time: at each moment, backwards, the child that still ran and had begun first; when
/// none ran, the span itself.
fn walk(tree: &Tree, at: usize, low: u64, high: u64, path: &mut [u64]) {
    let mut cursor = high;
    while cursor > low {
        let running = tree.nodes[at].children.iter().copied().filter(|child| {
            let node = &tree.nodes[*child];
            !node.is_detached && node.start.max(low) < cursor && node.end >= cursor
        });
        match running.min_by_key(|child| (tree.nodes[*child].start.max(low), *child)) {
            Some(child) => {
                let start = tree.nodes[child].start.max(low);
                walk(tree, child, start, cursor, path);
                cursor = start;
            }
            None => {
                path[at] += MS;
                cursor -= MS;
            }
        }
    }
}

fn rendered(verbosity: Verbosity, columns: usize, signal: Signal, requests: &[&[u8]]) -> (String, u64) {
    let (mut out, style) = (Vec::new(), Style { layout: Layout::new(columns, false), ..Style::default() });
    let items = render_chunks(signal, verbosity, style, requests, usize::MAX, &mut out, &mut |_, _| true);
    (String::from_utf8(out).unwrap(), items)
}

fn recorded(name: &str) -> Vec<u8> {
    let signal = Signal::ALL.into_iter().find(|signal| name.starts_with(signal.name())).unwrap();
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/debug").join(name).join("input.json");
    to_wire(signal, &std::fs::read(input).unwrap()).unwrap()
}

/// The recorded requests in the two forms that take one at a time.
#[test]
fn items_are_lines_and_objects() {
    for name in ["logs_seed", "traces_seed", "metrics_full"] {
        let signal = Signal::ALL.into_iter().find(|signal| name.starts_with(signal.name())).unwrap();
        let request = recorded(name);
        let count = misaki::face::otlp::check::check(signal, &request).unwrap();
        for columns in [80, 160] {
            let (text, items) = rendered(Verbosity::Line, columns, signal, &[&request]);
            assert_eq!((text.lines().count(), items), (count as usize, u64::from(count)));
            assert!(text.lines().all(|line| width(line) <= columns && line.trim_end() == line), "{text}");
            golden(&format!("tree/{name}.line.{columns}.txt"), &text);
        }
        let (text, items) = rendered(Verbosity::Json, 80, signal, &[&request]);
        assert_eq!((text.lines().count(), items), (count as usize, u64::from(count)));
        for line in text.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let item = ["logRecord", "span", "metric"]
                [[Signal::Logs, Signal::Traces, Signal::Metrics].iter().position(|one| *one == signal).unwrap()];
            assert!(
                object["resource"].is_object() && object["scope"].is_object() && object[item].is_object(),
                "{line}"
            );
        }
        golden(&format!("tree/{name}.json.txt"), &text);
    }
}

/// What a request repeats may not make its text endless: beyond the allowance only the first item says it.
#[test]
fn objects_do_not_repeat_without_end() {
    let mut group = log(1, &"s".repeat(100_000), 9, "x", 1);
    let record = LogRecord { body: text("\u{9b}31m\u{202e}"), ..Default::default() };
    group.scope_logs[0].log_records.extend(vec![record; 50_000]);
    let request = logs(vec![group]);
    let (text, items) = rendered(Verbosity::Json, 80, Signal::Logs, &[&request]);
    assert_eq!((text.lines().count(), items), (50_001, 50_001));
    assert!(text.len() < 80 * request.len(), "{} of {}", text.len(), request.len());
    assert!(text.ends_with("{\"logRecord\":{\"body\":{\"stringValue\":\"\\u009b31m\\u202e\"}}}\n"));
}
