//! `probabilistic_sampler` beyond what is recorded in `fixtures/pipelines`: its counters, the ledger, its errors.

use misaki::face::config;
use misaki::face::diagnostics::Page;
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;

use super::harness::*;

/// Spans without a trace id have no randomness; `fail_closed` decides.
#[tokio::test]
async fn what_is_left_out_is_counted() {
    for (fail_closed, kept) in [(true, 0), (false, 3)] {
        let upstream = Upstream::start().await;
        let changes = format!(
            "{{processors: {{probabilistic_sampler: {{sampling_percentage: 10, fail_closed: {fail_closed}}}}}, service: {{pipelines: {{logs: {{processors: [probabilistic_sampler]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        assert!(misaki.send_by(Via::Grpc, Signal::Logs, &["a", "b", "c"]).await.ok);
        misaki.settle().await;
        assert_eq!(upstream.kept().len(), kept);
        let mut page = Page::default();
        misaki.running.graph.observers().iter().for_each(|observer| observer.observe(&mut page));
        let expected = format!(
            "otelcol_processor_probabilistic_sampler_count_logs_sampled{{policy=\"missing_randomness\",sampled=\"{}\"}} 3\n",
            !fail_closed
        );
        assert!(page.text().contains(&expected), "{}", page.text());
        let balance = misaki.finish().await;
        assert_eq!((balance[0].accepted, balance[0].exported, balance[0].left), (3, kept as u64, 0));
    }
}

#[track_caller]
fn check_error(settings: &str, expected: &str) {
    let text = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{probabilistic_sampler: {settings}}}, exporters: {{nop: }}, service: {{pipelines: {{traces: {{receivers: [otlp], processors: [probabilistic_sampler], exporters: [nop]}}}}}}}}"
    );
    let loaded = config::load(&[text], &[], &|_| None);
    Plan::read(&loaded);
    let said = loaded.problems.render(&loaded.sources, false);
    assert!(said.contains(expected), "{expected} is not in {said}");
}

#[test]
fn errors_are_worded_as_the_go_collectors_are() {
    check_error("{sampling_percentage: -1}", "sampling rate is negative: -1.000000%");
    check_error("{sampling_percentage: 1e-20}", "sampling rate is too small: 1e-20%");
    check_error("{sampling_precision: 0}", "invalid sampling precision: 0");
    check_error("{sampling_precision: 15}", "sampling precision is too great, should be <= 14: 15");
    check_error("{mode: random}", "unsupported sampler mode \"random\"");
    check_error("{attribute_source: span}", "invalid attribute source: span. Expected: traceID or record");
}
