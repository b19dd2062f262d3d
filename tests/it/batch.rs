//! The `batch` processor on the way of a request: by size, by time, cut, by metadata; and that it never drops.

use std::sync::Arc;
use std::time::Duration;

use misaki::face::telemetry::{Client, Share, Signal};

use super::harness::*;

/// A batch with these settings before exporters with those.
async fn start(batch: &str, exporters: &str, upstream: &Upstream) -> Misaki {
    let changes = format!(
        "{{processors: {{batch: {batch}}}, exporters: {exporters}, service: {{pipelines: {{logs: {{processors: [batch]}}}}}}}}"
    );
    Misaki::start(&changes, &[upstream]).await
}

const AN_HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_batch_waits_for_its_time() {
    let upstream = Upstream::start().await;
    let mut misaki = start("{timeout: 1h}", "{}", &upstream).await;
    for name in ["a", "b", "c"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    rest().await;
    misaki.check();
    assert_eq!((misaki.held(), upstream.requests()), (3, 0));
    jump(AN_HOUR).await;
    misaki.settle().await;
    assert_eq!(upstream.sizes(), [3]);
    misaki.finish().await;
}

#[tokio::test]
async fn a_batch_leaves_when_it_is_large_enough() {
    let upstream = Upstream::start().await;
    let mut misaki = start("{timeout: 1h, send_batch_size: 5}", "{}", &upstream).await;
    for names in [vec!["a", "b"], vec!["c", "d"], vec!["e", "f"], vec!["g"]] {
        assert!(misaki.send(&names).await.ok);
    }
    until("the batch left", || upstream.sizes() == [6]).await;
    until("one waits", || misaki.held() == 1).await;
    misaki.finish().await;
    assert_eq!(upstream.sizes(), [6, 1]);
}

/// What is over the largest size begins the next batch, with its own time and nobody else to wake it: it used to wait
/// for the next request.
#[tokio::test]
async fn what_is_over_the_largest_size_waits_for_its_own_time() {
    let upstream = Upstream::start().await;
    let mut misaki = start("{timeout: 1h, send_batch_size: 4, send_batch_max_size: 4}", "{}", &upstream).await;
    let names = numbered("a", 11);
    assert!(misaki.send(&refs(&names)).await.ok);
    until("two batches left", || upstream.sizes() == [4, 4]).await;
    until("three wait", || misaki.held() == 3).await;
    jump(AN_HOUR).await;
    misaki.settle().await;
    assert_eq!((upstream.sizes(), upstream.kept()), (vec![4, 4, 3], names));
    misaki.finish().await;
}

/// A batch that its successor refuses stays, and is offered again without a further request: it used to wait for one.
#[tokio::test]
async fn a_refused_batch_is_offered_again() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let queue = "{otlp: {sending_queue: {queue_size: 1, num_consumers: 1}}}";
    let mut misaki = start("{timeout: 1h, send_batch_size: 2}", queue, &upstream).await;
    for names in [["a", "b"], ["c", "d"]] {
        assert!(misaki.send(&names).await.ok);
    }
    until("the queue is full", || upstream.requests() == 1).await;
    let refused = misaki.send(&["e"]).await;
    assert_eq!((refused.code, refused.message.as_str()), (503, "sending queue is full (queue_size: 1 of 1 requests)"));
    assert!(refused.hint.is_some_and(|hint| hint >= Duration::from_secs(1)));
    misaki.check();
    assert_eq!((misaki.held(), misaki.running.intake()), (4, (4, 1)));
    upstream.release();
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["a", "b", "c", "d"]);
    misaki.finish().await;
}

/// A batch that is larger than the queue goes alone: it used to be refused for ever, and nothing behind it was sent.
#[tokio::test]
async fn a_batch_larger_than_the_queue_goes_alone() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let queue = "{otlp: {sending_queue: {sizer: items, queue_size: 3, num_consumers: 1}}}";
    let mut misaki = start("{timeout: 1h, send_batch_size: 5}", queue, &upstream).await;
    let names = numbered("a", 12);
    for names in refs(&names).chunks(3) {
        assert!(misaki.send(names).await.ok);
    }
    until("the first is under way, the second waits for its place", || upstream.requests() == 1).await;
    assert_eq!(misaki.send(&["b"]).await.message, "sending queue is full (queue_size: 6 of 3 items)");
    upstream.release();
    misaki.settle().await;
    assert_eq!((upstream.sizes(), upstream.kept()), (vec![6, 6], names));
    misaki.finish().await;
}

/// Only an upstream that is slow makes telemetry wait for its turn: a queue that waits for more to fill a batch takes it at once.
#[tokio::test]
async fn a_batch_is_not_held_back_while_the_upstream_is_idle() {
    let upstream = Upstream::start().await;
    let changes = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 12, spike_limit_mib: 1}, batch: {timeout: 0s}}, exporters: {otlp: {sending_queue: {sizer: items, batch: {min_size: 30, flush_timeout: 1h}}}}, service: {pipelines: {logs: {processors: [memory_limiter, batch]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    let long = "x".repeat(90_000);
    for _ in 0..3 {
        assert!(misaki.submit(Signal::Logs, &[long.as_str(); 10]).await.is_ok());
    }
    misaki.settle().await;
    assert_eq!(upstream.sizes(), [30]);
    misaki.finish().await;
}

#[tokio::test]
async fn every_combination_of_metadata_is_a_batch_of_its_own() {
    let upstream = Upstream::start().await;
    let changes = "{timeout: 1h, send_batch_size: 2, metadata_keys: [Tenant], metadata_cardinality_limit: 2}";
    let mut misaki = start(changes, "{}", &upstream).await;
    let client =
        |tenant: &str| Some(Arc::new(Client { metadata: vec![("tenant".into(), tenant.into())], ..Client::default() }));
    let send =
        |tenant: &str, name: &str| misaki.submit_wire(Signal::Logs, request(Signal::Logs, &[name]), client(tenant));
    for (tenant, name) in [("x", "x1"), ("y", "y1"), ("y", "y2"), ("x", "x2")] {
        send(tenant, name).await.unwrap();
    }
    until("both batches left", || upstream.requests() == 2).await;
    assert_eq!(upstream.kept(), ["y1", "y2", "x1", "x2"]);
    // Both hold something, and a third has no place until one holds nothing.
    for (tenant, name) in [("x", "x3"), ("y", "y3")] {
        send(tenant, name).await.unwrap();
    }
    let answer = send("z", "z1").await.unwrap_err().answer();
    let (code, message) = (answer.http.as_u16(), answer.status.message.as_str());
    assert_eq!((code, message), (503, "too many batcher metadata-value combinations"));
    assert!(answer.after.is_some());
    send("x", "x4").await.unwrap();
    send("z", "z1").await.unwrap();
    jump(AN_HOUR).await;
    misaki.settle().await;
    assert_eq!((upstream.sizes().len(), misaki.running.intake()), (5, (8, 1)));
    misaki.finish().await;
}

/// Values are the clients', and may be long: they are charged as long as something of theirs is held, and no longer than a second
/// beyond. They were kept for ever, and then each new tenant was refused until a restart.
#[tokio::test]
async fn combinations_are_charged_and_forgotten() {
    let upstream = Upstream::start().await;
    let changes = "{timeout: 200ms, metadata_keys: [Tenant], metadata_cardinality_limit: 100}";
    let mut misaki = start(changes, "{}", &upstream).await;
    let budget = misaki.running.budget.clone();
    let client = |number: usize| {
        let value = format!("{number:05}").repeat(2_000);
        Some(Arc::new(Client { metadata: vec![("tenant".into(), value)], ..Client::default() }))
    };
    for round in 0..5 {
        for number in 0..100 {
            let sent = misaki.submit_wire(Signal::Logs, request(Signal::Logs, &["a"]), client(round * 100 + number));
            assert_eq!(sent.await, Ok(()), "{round} {number}");
            assert!(budget.used(Share::Queue) >= 20_000 * (number as u64 + 1));
        }
        jump(Duration::from_millis(300)).await;
        misaki.settle().await;
    }
    jump(Duration::from_secs(2)).await;
    assert_eq!(budget.used(Share::Queue), 0);
    misaki.finish().await;
    // Together they take an eighth of the memory for queues.
    let limiter = "memory_limiter: {check_interval: 1s, limit_mib: 5, spike_limit_mib: 1}";
    let changes = format!(
        "{{processors: {{{limiter}, batch: {{timeout: 1h, metadata_keys: [Tenant]}}}}, service: {{pipelines: {{logs: {{processors: [memory_limiter, batch]}}}}}}}}"
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    let mut taken = 0;
    while misaki.submit_wire(Signal::Logs, request(Signal::Logs, &["a"]), client(taken)).await.is_ok() {
        taken += 1;
    }
    assert!((8..=13).contains(&taken), "{taken}");
    jump(AN_HOUR).await;
    misaki.settle().await;
    misaki.submit_wire(Signal::Logs, request(Signal::Logs, &["a"]), client(taken)).await.unwrap();
    misaki.finish().await;
}

/// Metadata come from headers where the receiver includes them, through HTTP and gRPC.
#[tokio::test]
async fn metadata_are_the_headers_of_the_request() {
    let upstream = Upstream::start().await;
    let changes = "{receivers: {otlp: {protocols: {grpc: {include_metadata: true}, http: {include_metadata: true}}}}, processors: {batch: {timeout: 1h, send_batch_size: 2, metadata_keys: [X-Tenant]}}, service: {pipelines: {logs: {processors: [batch]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    for (via, tenant, name) in [(Via::Grpc, "a", "1"), (Via::Http, "b", "2"), (Via::Json, "a", "3")] {
        assert!(misaki.post(via, Signal::Logs, request(Signal::Logs, &[name]), &[("x-tenant", tenant)]).await.ok);
    }
    until("one batch left", || upstream.kept() == ["1", "3"]).await;
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["1", "3", "2"]);
}

/// A receipt passes through a batch: the answer waits for the upstream, and a batch that is cut answers when all of it
/// has arrived.
#[tokio::test]
async fn the_answer_comes_from_behind_the_batch() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let waits = "{otlp: {sending_queue: {wait_for_result: true}}}";
    let mut misaki = start("{timeout: 1h, send_batch_size: 4, send_batch_max_size: 4}", waits, &upstream).await;
    let names = numbered("a", 6);
    let mut sending = Box::pin(misaki.submit(Signal::Logs, &refs(&names)));
    assert!(polled(&mut sending, 3).await.is_none());
    until("the first batch is under way", || upstream.requests() == 1).await;
    upstream.release();
    until("the first batch has arrived", || upstream.sizes() == [4]).await;
    assert!(polled(&mut sending, 3).await.is_none(), "two of six are still waiting");
    jump(AN_HOUR).await;
    assert_eq!(sending.await, Ok(()));
    assert_eq!(upstream.kept(), names);
    misaki.finish().await;
}

/// Without a queue behind it a batch answers at once, as in the Go collector: nobody waits for it to fill.
#[tokio::test]
async fn nobody_waits_for_a_batch_to_fill() {
    let upstream = Upstream::start().await;
    let mut misaki = start("{timeout: 1h}", "{otlp: {sending_queue: {enabled: false}}}", &upstream).await;
    for name in ["a", "b"] {
        assert_eq!(polled(misaki.submit(Signal::Logs, &[name]), 3).await, Some(Ok(())));
    }
    assert_eq!(upstream.requests(), 0);
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["a", "b"]);
}

/// A refusal comes back through the batch to everybody whose records were in it.
#[tokio::test]
async fn a_rejection_comes_back_through_the_batch() {
    let upstream = Upstream::replying(Reply::Grpc(9, "no", None)).await;
    let waits = "{otlp: {sending_queue: {wait_for_result: true}}}";
    let mut misaki = start("{timeout: 1h, send_batch_size: 2}", waits, &upstream).await;
    let (first, second) = tokio::join!(misaki.send(&["a"]), misaki.send_by(Via::Grpc, Signal::Logs, &["b"]));
    assert_eq!((first.ok, second.code, second.message.as_str()), (false, 9, "no"));
    misaki.settle().await;
    assert_eq!(misaki.line("otlp"), "logs to otlp: 2 accepted = 0 exported + 2 dropped (rejected_upstream 2) + 0 left");
    misaki.finish().await;
}

/// What a processor behind the batch fails on it would fail on again: it is dropped under its own name, and all goes on.
#[tokio::test]
async fn what_a_processor_fails_on_behind_a_batch_is_dropped() {
    let upstream = Upstream::start().await;
    let changes = r#"{processors: {
        batch: {timeout: 1h, send_batch_size: 2},
        transform: {error_mode: propagate, log_statements: ['set(log.severity_number, ParseInt(log.body, 10))']}
    }, service: {pipelines: {logs: {processors: [batch, transform]}}}}"#;
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    assert!(misaki.send(&["word", "word"]).await.ok);
    assert!(misaki.send(&["1", "2"]).await.ok);
    until("the second batch left", || upstream.sizes() == [2]).await;
    let balance = misaki.finish().await;
    let dropped: Vec<_> = balance.iter().flat_map(|line| line.dropped.clone()).collect();
    assert_eq!(dropped, [("processor_failed", 2)], "{balance:?}");
}

/// In two pipelines, `batch` counts twice: Prometheus refuses a page that has a series twice.
#[test]
fn a_series_stands_once_on_a_page() {
    let mut page = misaki::face::diagnostics::Page::default();
    for value in [6, 1] {
        page.counter("sent", &[("processor", "a\"b")], value);
        page.counter("sent", &[("processor", "c")], value);
    }
    let expected = "# HELP sent sent\n# TYPE sent counter\nsent{processor=\"a\\\"b\"} 7\nsent{processor=\"c\"} 7\n";
    assert_eq!(page.text(), expected);
}
