//! `tail_sampling` on the way of a request: when traces are decided on, what becomes of late spans, what is bounded.

use std::time::Duration;

use misaki::face::config;
use misaki::face::diagnostics::Page;
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);
/// Keeps traces of two spans or more.
const TWO: &str = "policies: [{name: two, type: span_count, span_count: {min_spans: 2}}]";

async fn start(settings: &str, more: &str, upstream: &Upstream) -> Misaki {
    let changes = format!(
        "{{processors: {{tail_sampling: {{decision_wait: 2s, {settings}}}}}, {more} service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [otlp]}}}}}}}}"
    );
    Misaki::start(&changes, &[upstream]).await
}

/// Spans by name: the first letter is the trace, and a capital says that it is no root.
fn spans(names: &[&str]) -> Vec<u8> {
    let span = |name: &&str| {
        let letter = name.as_bytes()[0];
        let parent_span_id = if letter.is_ascii_uppercase() { vec![1; 8] } else { Vec::new() };
        let trace_id = vec![letter.to_ascii_lowercase(); 16];
        Span { trace_id, span_id: vec![2; 8], parent_span_id, name: (*name).to_owned(), ..Span::default() }
    };
    let scope_spans = vec![ScopeSpans { spans: names.iter().map(span).collect(), ..ScopeSpans::default() }];
    let group = ResourceSpans { scope_spans, schema_url: "schema".to_owned(), ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec()
}

async fn send(misaki: &Misaki, names: &[&str]) -> Answer {
    misaki.post(Via::Http, Signal::Traces, spans(names), &[]).await
}

fn metric(misaki: &Misaki, line: &str) -> u64 {
    let mut page = Page::default();
    misaki.running.graph.observers().iter().for_each(|observer| observer.observe(&mut page));
    let start = format!("otelcol_processor_tail_sampling_{line} ");
    let text = page.text();
    let found = text.lines().find_map(|line| line.strip_prefix(&start));
    found.unwrap_or_else(|| panic!("{start} is not in {text}")).parse().unwrap()
}

#[tokio::test]
async fn a_trace_is_decided_on_as_a_whole_when_it_had_its_time() {
    let upstream = Upstream::start().await;
    let mut misaki = start(TWO, "", &upstream).await;
    assert!(send(&misaki, &["a1", "b1", "a2"]).await.ok);
    jump(SECOND).await;
    assert!(send(&misaki, &["c1", "a3"]).await.ok);
    misaki.check();
    assert_eq!((misaki.held(), upstream.requests()), (5, 0));
    jump(SECOND + SECOND / 5).await;
    until("the first two traces are decided on", || misaki.held() == 1 && upstream.requests() == 1).await;
    assert_eq!(upstream.kept(), ["a1", "a2", "a3"]);
    jump(SECOND).await;
    misaki.settle().await;
    assert_eq!(upstream.requests(), 1);
    assert_eq!(misaki.line("otlp"), "traces to otlp: 5 accepted = 3 exported + 2 filtered + 0 dropped + 0 left");
    assert_eq!(metric(&misaki, "new_trace_id_received"), 3);
    assert_eq!(metric(&misaki, "global_count_traces_sampled{sampled=\"true\",decision=\"sampled\"}"), 1);
    let policy = "count_traces_sampled{policy=\"two\",sampled=\"false\",decision=\"not_sampled\"}";
    assert_eq!(metric(&misaki, policy), 2);
    misaki.finish().await;
}

#[tokio::test]
async fn late_spans_follow_their_trace() {
    for cache in ["", "decision_cache: {sampled_cache_size: 10, non_sampled_cache_size: 10}, "] {
        let upstream = Upstream::start().await;
        let mut misaki = start(&format!("{cache}{TWO}"), "", &upstream).await;
        assert!(send(&misaki, &["a1", "b1", "a2"]).await.ok);
        jump(3 * SECOND).await;
        misaki.settle().await;
        assert!(send(&misaki, &["b2", "a3", "b3", "a4"]).await.ok);
        misaki.settle().await;
        assert_eq!(upstream.kept(), ["a1", "a2", "a3", "a4"], "{cache}");
        assert_eq!(misaki.line("otlp"), "traces to otlp: 7 accepted = 4 exported + 3 filtered + 0 dropped + 0 left");
        let remembered = if cache.is_empty() { 2 } else { 0 };
        assert_eq!(metric(&misaki, "sampling_traces_on_memory"), remembered);
        let early = metric(&misaki, "early_releases_from_cache_decision{sampled=\"true\"}");
        assert_eq!(early, 2 - remembered);
        misaki.finish().await;
    }
}

#[tokio::test]
async fn the_oldest_trace_makes_room() {
    let upstream = Upstream::start().await;
    let mut misaki = start(&format!("num_traces: 2, {TWO}"), "", &upstream).await;
    assert!(send(&misaki, &["a1", "a2", "b1", "b2", "c1", "c2", "c3"]).await.ok);
    misaki.check();
    assert_eq!(misaki.held(), 5);
    jump(3 * SECOND).await;
    misaki.settle().await;
    let line = "traces to otlp: 7 accepted = 5 exported + 2 dropped (evicted 2) + 0 left";
    assert_eq!((misaki.line("otlp").as_str(), metric(&misaki, "sampling_trace_dropped_too_early")), (line, 1));
    misaki.finish().await;
}

#[tokio::test]
async fn block_on_overflow_refuses_instead() {
    let upstream = Upstream::start().await;
    let mut misaki = start(&format!("num_traces: 2, block_on_overflow: true, {TWO}"), "", &upstream).await;
    assert!(send(&misaki, &["a1", "a2", "b1", "b2"]).await.ok);
    assert_eq!(send(&misaki, &["c1", "c2"]).await.code, 503);
    jump(3 * SECOND).await;
    misaki.settle().await;
    assert!(send(&misaki, &["c1", "c2"]).await.ok);
    misaki.finish().await;
    assert_eq!(upstream.kept().len(), 6);
}

#[tokio::test]
async fn a_root_may_bring_the_decision_forward() {
    let upstream = Upstream::start().await;
    let mut misaki = start(&format!("decision_wait_after_root_received: 500ms, {TWO}"), "", &upstream).await;
    assert!(send(&misaki, &["A1", "B1", "B2", "a2"]).await.ok);
    jump(SECOND - SECOND / 5).await;
    until("the trace with a root is decided on", || upstream.kept() == ["A1", "a2"]).await;
    assert_eq!(misaki.held(), 2);
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["A1", "a2", "B1", "B2"]);
}

#[tokio::test]
async fn a_large_trace_is_dropped() {
    let upstream = Upstream::start().await;
    let mut misaki = start(&format!("maximum_trace_size_bytes: 100, {TWO}"), "", &upstream).await;
    assert!(send(&misaki, &["a1", "b1", "a2", "a3", "b2"]).await.ok);
    jump(3 * SECOND).await;
    misaki.settle().await;
    assert_eq!(
        (upstream.kept(), metric(&misaki, "traces_dropped_too_large")),
        (vec!["b1".to_owned(), "b2".to_owned()], 1)
    );
    misaki.finish().await;
}

/// What is pending at the end is decided on with what there is, or dropped by name.
#[tokio::test]
async fn the_end_decides() {
    for (settings, expected) in [
        ("", "traces to otlp: 3 accepted = 2 exported + 1 filtered + 0 dropped + 0 left"),
        (
            "drop_pending_traces_on_shutdown: true, ",
            "traces to otlp: 3 accepted = 0 exported + 3 dropped (shutdown 3) + 0 left",
        ),
    ] {
        let upstream = Upstream::start().await;
        let mut misaki = start(&format!("{settings}{TWO}"), "", &upstream).await;
        assert!(send(&misaki, &["a1", "b1", "a2"]).await.ok);
        misaki.finish().await;
        assert_eq!(misaki.line("otlp"), expected);
    }
}

/// What follows refuses: the traces stay, and go when it takes them.
#[tokio::test]
async fn a_refused_trace_is_offered_again() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let queue = "exporters: {otlp: {sending_queue: {queue_size: 1, num_consumers: 1}}},";
    let mut misaki = start("policies: [{name: all, type: always_sample}]", queue, &upstream).await;
    assert!(send(&misaki, &["a1", "b1", "c1", "d1", "e1"]).await.ok);
    jump(3 * SECOND).await;
    until("one is on its way", || upstream.requests() == 1).await;
    misaki.check();
    assert_eq!(misaki.held(), 5);
    upstream.release();
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), ["a1", "b1", "c1", "d1", "e1"]);
    misaki.finish().await;
}

async fn start_in_little_memory(upstream: &Upstream) -> Misaki {
    start_within(5, upstream).await
}

async fn start_within(mib: usize, upstream: &Upstream) -> Misaki {
    let limiter = format!("memory_limiter: {{check_interval: 1s, limit_mib: {mib}, spike_limit_mib: 1}}");
    let changes = format!(
        "{{processors: {{{limiter}, tail_sampling: {{decision_wait: 2s, {TWO}}}}}, service: {{pipelines: {{traces: {{receivers: [otlp], processors: [memory_limiter, tail_sampling], exporters: [otlp]}}}}}}}}"
    );
    Misaki::start(&changes, &[upstream]).await
}

/// Large requests, of whatever size, leave room for small ones.
#[tokio::test]
async fn large_requests_leave_room_for_small_ones() {
    let upstream = Upstream::start().await;
    let mut misaki = start_in_little_memory(&upstream).await;
    for length in (5_000..400_000).rev().step_by(5_000) {
        // On a slow machine traces may be decided as fast as they arrive.
        let mut most = 100;
        while most > 0 && send(&misaki, &[&"a".repeat(length)]).await.ok {
            most -= 1;
        }
    }
    for _ in 0..20 {
        assert!(send(&misaki, &["b"]).await.ok);
    }
    misaki.finish().await;
}

/// What is known of decided traces may fill its memory, but never keeps others out for good.
#[tokio::test]
async fn decided_traces_keep_nobody_out() {
    let upstream = Upstream::start().await;
    for mib in [17, 18, 19] {
        let mut misaki = start_within(mib, &upstream).await;
        for request in 0..400u64 {
            let span = |number: u64| Span {
                trace_id: [request.to_be_bytes(), (number + 1).to_be_bytes()].concat(),
                span_id: vec![2; 8],
                ..Span::default()
            };
            let scope_spans = vec![ScopeSpans { spans: (0..100).map(span).collect(), ..ScopeSpans::default() }];
            let group = ResourceSpans { scope_spans, ..ResourceSpans::default() };
            let wire = ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec();
            let answer = misaki.post(Via::Http, Signal::Traces, wire, &[]).await;
            if request % 40 == 39 {
                jump(3 * SECOND).await;
                misaki.settle().await;
            }
            assert!(answer.ok, "{mib} MiB, request {request}: {answer:?}");
        }
        misaki.finish().await;
    }
}

/// Half of the queue's memory is all that it holds; then it refuses until traces are decided on.
#[tokio::test]
async fn memory_is_bounded() {
    let upstream = Upstream::start().await;
    let mut misaki = start_in_little_memory(&upstream).await;
    let large = "a".repeat(400_000);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..6 {
        let answer = send(&misaki, &[&large]).await;
        (taken, refused) = if answer.ok { (taken + 1, refused) } else { (taken, refused + 1) };
    }
    assert_eq!((taken, refused), (2, 4));
    misaki.check();
    jump(3 * SECOND).await;
    misaki.settle().await;
    assert!(send(&misaki, &[&large]).await.ok);
    misaki.finish().await;
    assert_eq!(upstream.kept().len(), 3);
}

#[track_caller]
fn check_error(settings: &str, expected: &str) {
    let text = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{tail_sampling: {settings}}}, exporters: {{nop: }}, service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [nop]}}}}}}}}"
    );
    let loaded = config::load(&[text], &[], &|_| None);
    Plan::read(&loaded);
    // Long lines are wrapped.
    let said = loaded.problems.render(&loaded.sources, false).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(expected), "{expected} is not in {said}");
}

#[test]
fn errors_are_worded_as_the_go_collectors_are() {
    let policy = |policy: &str| format!("{{policies: [{policy}]}}");
    let a = "failed to create policy evaluator for \"a\": ";
    check_error(&policy("{name: a, type: bogus}"), &format!("{a}unknown sampling policy type bogus"));
    check_error(&policy("{type: always_sample}"), "policy name cannot be empty");
    check_error(&policy("{name: a, type: always_sample}, {name: a, type: trace_flags}"), "duplicate policy name \"a\"");
    check_error(
        &policy("{name: a, type: status_code, status_code: {status_codes: [BAD]}}"),
        &format!("{a}unknown status code \"BAD\", supported: OK, ERROR, UNSET"),
    );
    // What is missing may be there, misspelt.
    for (policies, key) in [
        ("{name: a, type: status_code, status_code: {status_code: [ERROR]}}", "status_code"),
        ("{name: a, type: ottl_condition, ottl_condition: {spans: ['true']}}", "spans"),
        ("{name: a, type: numeric_attribute, numeric_attribute: {key: x, min_valu: 1}}", "min_valu"),
    ] {
        check_error(&policy(policies), &format!("unknown key \"{key}\""));
    }
    check_error(&policy("{name: a, type: status_code}"), &format!("{a}expected at least one status code to filter on"));
    check_error(
        &policy("{name: a, type: ottl_condition}"),
        &format!("{a}expected at least one OTTL condition to filter on"),
    );
    check_error(
        &policy("{name: a, type: and, and: {and_sub_policy: [{name: b, type: drop}]}}"),
        &format!("{a}unknown sampling policy type drop"),
    );
    check_error("{num_shards: 300}", "num_shards (300) must not exceed 256");
    check_error("{sampling_strategy: span-ingest}", "\"span-ingest\" is not supported");
}
