//! The sending queue and what follows it: sizes, overflow, receipts, batches, retries, cutting, holding. Exact counts.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use misaki::face::exporters::Retry;
use misaki::face::sending::Backoff;
use misaki::face::telemetry::{Client, Now, Refusal, Share, Signal};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

/// One exporter with these settings over those of the base.
async fn start(exporter: &str, upstream: &Upstream) -> Misaki {
    Misaki::start(&format!("exporters: {{otlp: {exporter}}}"), &[upstream]).await
}

/// The same over HTTP.
async fn start_http(exporter: &str, upstream: &Upstream) -> Misaki {
    let changes = format!(
        "{{exporters: {{otlp_http: {exporter}}}, service: {{pipelines: {{logs: {{exporters: [otlp_http]}}}}}}}}"
    );
    Misaki::start(&changes, &[upstream]).await
}

#[track_caller]
fn check_line(misaki: &Misaki, exporter: &str, expected: &str) {
    assert_eq!(misaki.line(exporter), format!("logs to {exporter}: {expected}"));
}

/// Requests of three records each until one is refused: how many fit is what `queue_size` means for the sizer.
#[tokio::test]
async fn the_queue_is_as_large_as_its_sizer_says() {
    let bytes = request(Signal::Logs, &["a", "b", "c"]).len();
    for (sizer, size, fit) in [
        ("requests", 4, 4),
        ("items", 12, 4),
        ("items", 14, 4),
        ("items", 15, 5),
        ("bytes", bytes * 4, 4),
        ("bytes", bytes * 5 - 1, 4),
    ] {
        let upstream = Upstream::replying(Reply::Hang).await;
        let queue = format!("{{sending_queue: {{sizer: {sizer}, queue_size: {size}, num_consumers: 1}}}}");
        let mut misaki = start(&queue, &upstream).await;
        let mut answers = Vec::new();
        for _ in 0..fit + 2 {
            answers.push(misaki.send(&["a", "b", "c"]).await);
            misaki.check();
        }
        let (taken, refused) = answers.split_at(fit);
        assert!(taken.iter().all(|answer| answer.ok), "{sizer} {size}: {answers:?}");
        for answer in refused {
            let taken = match sizer {
                "requests" => fit,
                "items" => fit * 3,
                _ => fit * bytes,
            };
            let words = format!("sending queue is full (queue_size: {taken} of {size} {sizer})");
            assert_eq!((answer.code, answer.message.as_str()), (503, words.as_str()));
            assert!(answer.hint.is_some_and(|hint| hint >= SECOND));
        }
        let items = fit as u64 * 3;
        assert_eq!((misaki.held(), misaki.running.intake()), (items, (items, 6)));
        upstream.release();
        misaki.settle().await;
        check_line(&misaki, "otlp", &format!("{items} accepted = {items} exported + 0 dropped + 0 left"));
        misaki.finish().await;
    }
}

/// A small request waits, then one of two records comes whose first does not fit what is left of the batch: it goes into the
/// next one. The dispatcher used to end there, and everything was accepted and nothing sent from then on.
#[tokio::test]
async fn a_record_that_does_not_fit_a_batch_goes_into_the_next() {
    const MAX: usize = 3000;
    for (lengths, sizes) in [
        (&[10, 3100, 10][..], &[1, 1, 1][..]),
        (&[10, 2970, 90], &[1, 1, 1]),
        (&[10, 10, 3100], &[2, 1]),
        (&[3100, 10, 10], &[1, 2]),
        (&[500, 1400, 1400, 1400, 1400, 10], &[2, 2, 2]),
    ] {
        let upstream = Upstream::start().await;
        let queue = format!(
            "{{sending_queue: {{num_consumers: 1, batch: {{sizer: bytes, min_size: 2000, max_size: {MAX}}}}}}}"
        );
        let mut misaki = start(&queue, &upstream).await;
        let names: Vec<String> =
            lengths.iter().enumerate().map(|(at, long)| format!("{at}{}", "x".repeat(*long))).collect();
        misaki.submit(Signal::Logs, &refs(&names[..1])).await.unwrap();
        misaki.submit(Signal::Logs, &refs(&names[1..])).await.unwrap();
        until("all arrive", || upstream.kept() == names).await;
        assert_eq!(upstream.sizes(), sizes, "{lengths:?}");
        let arrivals = upstream.arrivals();
        assert!(arrivals.iter().all(|arrival| arrival.bytes <= MAX || arrival.names.len() == 1), "{lengths:?}");
        misaki.settle().await;
        assert!(misaki.send(&["later"]).await.ok);
        until("it goes on", || upstream.kept().last().is_some_and(|name| name == "later")).await;
        misaki.settle().await;
        assert_eq!(misaki.running.queues().map(|queue| queue.report(Now::read()).size).sum::<u64>(), 0);
        misaki.finish().await;
    }
}

/// What can never fit is not told to come again.
#[tokio::test]
async fn a_request_larger_than_the_queue_is_refused_for_good() {
    let upstream = Upstream::start().await;
    let mut misaki = start("{sending_queue: {sizer: items, queue_size: 2}}", &upstream).await;
    for (via, code) in [(Via::Http, 413), (Via::Grpc, 8)] {
        let answer = misaki.send_by(via, Signal::Logs, &["a", "b", "c"]).await;
        assert_eq!((answer.code, answer.hint), (code, None), "{answer:?}");
        assert!(answer.message.contains("2 items"), "{answer:?}");
    }
    assert!(misaki.send(&["a", "b"]).await.ok);
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["a", "b"]);
}

/// Every way to refuse says when to come again, over HTTP and gRPC.
#[tokio::test]
async fn a_hanging_upstream_and_a_full_queue() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let mut misaki = start("{sending_queue: {queue_size: 5, num_consumers: 2}}", &upstream).await;
    let (mut taken, mut refused) = (0, 0);
    for (number, via) in [Via::Grpc, Via::Http, Via::Json].into_iter().cycle().take(30).enumerate() {
        let answer = misaki.send_by(via, Signal::Logs, &[&format!("{number}")]).await;
        if answer.ok {
            taken += 1;
        } else {
            refused += 1;
            assert_eq!(answer.code, if via == Via::Grpc { 14 } else { 503 });
            assert!(answer.hint.is_some_and(|hint| hint >= SECOND && hint <= 10 * SECOND), "{answer:?}");
        }
        misaki.check();
    }
    assert_eq!((taken, refused, misaki.held(), misaki.running.intake()), (5, 25, 5, (5, 25)));
    check_line(&misaki, "otlp", "5 accepted = 0 exported + 0 dropped + 5 left");
    upstream.release();
    misaki.settle().await;
    check_line(&misaki, "otlp", "5 accepted = 5 exported + 0 dropped + 0 left");
    misaki.finish().await;
    assert_eq!(upstream.kept_once().len(), 5);
}

#[tokio::test]
async fn block_on_overflow_waits_for_a_place() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let queue = "{sending_queue: {queue_size: 2, num_consumers: 1, block_on_overflow: true}}";
    let mut misaki = start(queue, &upstream).await;
    for name in ["a", "b"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    let mut waiting: Vec<_> = ["c", "d", "e"].map(|name| Box::pin(misaki.submit(Signal::Logs, &[name]))).into();
    for future in &mut waiting {
        assert!(polled(future, 3).await.is_none());
    }
    misaki.check();
    assert_eq!(misaki.running.intake(), (2, 0), "who waits is neither accepted nor refused");
    upstream.release();
    for future in waiting {
        assert_eq!(future.await, Ok(()));
    }
    misaki.settle().await;
    assert_eq!((upstream.kept_once().len(), misaki.running.intake()), (5, (5, 0)));
    misaki.finish().await;
}

/// Memory that a batch holds comes back without a notice to the queue of another pipeline: its client used to wait
/// forever. And the batch, which holds most of the memory, still gets it into its own queue: that used to be refused
/// because so little was free.
#[tokio::test]
async fn block_on_overflow_does_not_wait_for_the_memory_of_others() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let changes = "{processors: {batch: {timeout: 1h}, memory_limiter: {check_interval: 1s, limit_mib: 2, spike_limit_mib: 1}}, exporters: {otlp/2: {sending_queue: {block_on_overflow: true}}}, service: {pipelines: {logs: {processors: [memory_limiter, batch]}, traces: {receivers: [otlp], exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream, &other]).await;
    let large = "x".repeat(100_000);
    while misaki.submit(Signal::Logs, &[&large]).await.is_ok() {}
    let name = "y".repeat(150_000);
    let answer = polled(misaki.submit(Signal::Traces, &[&name]), 3).await;
    assert!(matches!(answer, Some(Err(Refusal::Busy { .. }))), "{answer:?}");
    jump(3600 * SECOND).await;
    misaki.settle().await;
    until("the memory is free", || misaki.running.budget.used(Share::Queue) == 0).await;
    assert_eq!(misaki.submit(Signal::Traces, &[&name]).await, Ok(()));
    misaki.finish().await;
}

#[tokio::test]
async fn wait_for_result_answers_what_the_upstream_said() {
    for queue in ["{wait_for_result: true}", "{enabled: false}"] {
        let replies = [Reply::Accept, Reply::Grpc(14, "busy", None), Reply::Accept, Reply::Grpc(9, "no", None)];
        let upstream = Upstream::sequence(replies).await;
        let mut misaki = start(&format!("{{sending_queue: {queue}}}"), &upstream).await;
        assert!(misaki.send(&["a"]).await.ok);
        assert_eq!((misaki.held(), upstream.kept()), (0, vec!["a".to_owned()]), "OK means that it is there");
        assert!(misaki.send(&["b"]).await.ok, "after a retry");
        let refused = misaki.send_by(Via::Grpc, Signal::Logs, &["c"]).await;
        assert_eq!((refused.code, refused.message.as_str()), (9, "no"));
        misaki.settle().await;
        check_line(&misaki, "otlp", "3 accepted = 2 exported + 1 dropped (rejected_upstream 1) + 0 left");
        misaki.finish().await;
    }
}

#[tokio::test]
async fn num_consumers_bounds_what_is_under_way() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let mut misaki = start("{sending_queue: {num_consumers: 3}}", &upstream).await;
    for name in numbered("a", 8) {
        assert!(misaki.send(&[&name]).await.ok);
    }
    until("three are under way", || upstream.requests() == 3).await;
    rest().await;
    assert_eq!((upstream.requests(), misaki.held()), (3, 8));
    upstream.release();
    misaki.settle().await;
    assert_eq!(upstream.kept_once().len(), 8);
    misaki.finish().await;
}

/// Requests of two records; what arrives at once, and what only after the flush timeout.
#[tokio::test]
async fn the_queue_batches() {
    let rows: &[(&str, usize, &[usize], &[usize])] = &[
        ("{min_size: 6, flush_timeout: 1h}", 7, &[6, 6], &[2]),
        ("{min_size: 6, max_size: 6, flush_timeout: 1h}", 7, &[6, 6], &[2]),
        ("{min_size: 5, max_size: 5, flush_timeout: 1h}", 8, &[5, 5, 5], &[1]),
        ("{min_size: 3, max_size: 3, flush_timeout: 1h}", 4, &[3, 3], &[2]),
        ("{min_size: 0, flush_timeout: 1h}", 2, &[2, 2], &[]),
        ("{min_size: 100, flush_timeout: 1h}", 3, &[], &[6]),
    ];
    for (batch, requests, at_once, later) in rows {
        let upstream = Upstream::start().await;
        let queue = format!("{{sending_queue: {{sizer: items, queue_size: 1000, batch: {batch}}}}}");
        let mut misaki = start(&queue, &upstream).await;
        let names = numbered("a", requests * 2);
        for pair in refs(&names).chunks(2) {
            assert!(misaki.submit(Signal::Logs, pair).await.is_ok());
            rest().await;
        }
        until(&format!("{batch}: {at_once:?} left"), || upstream.sizes().len() == at_once.len()).await;
        until(&format!("{batch}: {later:?} wait"), || misaki.held() as usize == later.iter().sum::<usize>()).await;
        misaki.check();
        jump(3600 * SECOND).await;
        misaki.settle().await;
        assert_eq!(upstream.sizes(), [*at_once, *later].concat(), "{batch}");
        assert_eq!(upstream.kept(), names);
        misaki.finish().await;
    }
}

/// A queue that refuses, because of its own size or for memory, does not wait for a batch to fill: nothing more will come.
#[tokio::test]
async fn a_full_queue_does_not_wait_for_a_batch_to_fill() {
    let long = "x".repeat(200_000);
    let cases = [
        ("sizer: items, queue_size: 10, batch: {min_size: 8", ["a"; 6]),
        ("sizer: bytes, queue_size: 100000000, batch: {min_size: 50000000", [long.as_str(); 6]),
    ];
    for (queue, names) in cases {
        let upstream = Upstream::replying(Reply::Hang).await;
        let changes = format!(
            "{{processors: {{memory_limiter: {{check_interval: 1s, limit_mib: 12, spike_limit_mib: 1}}}}, exporters: {{otlp: {{sending_queue: {{{queue}, flush_timeout: 1h}}}}}}}}, service: {{pipelines: {{logs: {{processors: [memory_limiter]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        while misaki.submit(Signal::Logs, &names).await.is_ok() {}
        until(&format!("{queue}: what waited is under way"), || upstream.requests() == 1).await;
        // And again, when what was under way has arrived.
        while misaki.submit(Signal::Logs, &names).await.is_ok() {}
        upstream.script(|_| Reply::Accept);
        upstream.release();
        misaki.settle().await;
        misaki.finish().await;
    }
}

/// By bytes, with records of very different length: no batch is over the limit unless a record is.
#[tokio::test]
async fn the_queue_batches_by_bytes() {
    let upstream = Upstream::start().await;
    let queue = "{sending_queue: {sizer: bytes, queue_size: 1000000, batch: {min_size: 1000, max_size: 2000, flush_timeout: 1h}}}";
    let mut misaki = start(queue, &upstream).await;
    let names: Vec<_> = (0..40).map(|index| format!("{index}-{}", "x".repeat([10, 900, 30, 5][index % 4]))).collect();
    assert!(misaki.send(&refs(&names)).await.ok);
    misaki.finish().await;
    assert_eq!(upstream.kept(), names);
    let sizes: Vec<_> = upstream.arrivals().iter().map(|arrival| arrival.bytes).collect();
    assert!(sizes.iter().all(|size| *size <= 2000) && sizes.len() < 12, "{sizes:?}");
}

/// A queue that batches gives back exactly what it took; it used to keep some of it when a long request was before a
/// short one, and in the end refused everything.
#[tokio::test]
async fn the_places_of_a_batching_queue_come_back() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let changes = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}}, exporters: {otlp: {sending_queue: {sizer: items, queue_size: 7, batch: {min_size: 1, max_size: 1, flush_timeout: 1ms}}}}, service: {pipelines: {logs: {processors: [memory_limiter]}, traces: {receivers: [otlp], exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream, &other]).await;
    let long = "x".repeat(200_000);
    for round in 0..30 {
        for name in [long.as_str(), "y"] {
            let answer = misaki.submit(Signal::Logs, &[name]).await;
            assert!(answer.is_ok(), "round {round}: {answer:?}");
        }
        misaki.settle().await;
    }
    misaki.finish().await;
}

/// Copies for an upstream that is away are kept for its next attempt; they used to keep the memory of all exports, and a healthy
/// upstream got nothing.
#[tokio::test]
async fn copies_for_a_dead_upstream_make_way_for_others() {
    let (upstream, dead) = (Upstream::start().await, Upstream::absent());
    let changes = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}}, exporters: {otlp: {compression: gzip}, otlp/2: {compression: gzip, retry_on_failure: {initial_interval: 1h, max_interval: 1h, max_elapsed_time: 0}}}, service: {pipelines: {logs: {processors: [memory_limiter]}, traces: {receivers: [otlp], processors: [memory_limiter], exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream, &dead]).await;
    // Does not get shorter.
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    let text: String = (0..300_000).map(|_| next()).collect();
    assert_eq!(misaki.submit(Signal::Traces, &[&text]).await, Ok(()));
    until("a copy waits for the dead upstream", || misaki.running.budget.used(Share::Export) > 200_000).await;
    rest().await;
    assert_eq!(misaki.submit(Signal::Logs, &[&text]).await, Ok(()));
    until("the healthy one has it", || upstream.kept() == [text.as_str()]).await;
    misaki.finish_within(SECOND).await;
}

/// What waits takes memory beside its bytes: its place in the queue, and the head that its client sent. Small requests used to
/// be charged for their few bytes alone. With `block_on_overflow` off the queue refuses where the memory for queues ends.
#[tokio::test]
async fn requests_that_wait_are_charged_for_more_than_their_bytes() {
    let client = |length: usize| {
        let metadata = vec![("x".to_owned(), "y".repeat(length))];
        Arc::new(Client { metadata, ..Client::default() })
    };
    let wire = request(Signal::Logs, &["a"]);
    for (length, most) in [(0, 1 << 20 >> 8), (10_000, 1 << 20 >> 13)] {
        let upstream = Upstream::replying(Reply::Hang).await;
        let changes = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}}, exporters: {otlp: {sending_queue: {sizer: bytes, queue_size: 10000000}}}, service: {pipelines: {logs: {processors: [memory_limiter]}}}}";
        let mut misaki = Misaki::start(changes, &[&upstream]).await;
        let mut taken = 0;
        while misaki.submit_wire(Signal::Logs, wire.clone(), Some(client(length))).await.is_ok() {
            taken += 1;
            assert!(taken <= most, "{taken} requests with {length} bytes of metadata wait in 1 MiB");
        }
        upstream.release();
        misaki.settle().await;
        until("the memory is free", || misaki.running.budget.used(Share::Queue) == 0).await;
        misaki.finish().await;
    }
}

/// Pauses are spread evenly around the interval, which grows to its largest; a hint is never undercut.
#[test]
fn pauses_are_spread() {
    let retry = Retry {
        enabled: true,
        initial_interval: SECOND,
        randomization_factor: 0.5,
        multiplier: 3.0,
        max_interval: 4 * SECOND,
        max_elapsed_time: None,
    };
    let pauses: Vec<_> = (0..400)
        .map(|_| {
            let mut backoff = Backoff::new(&retry);
            [(); 4].map(|()| backoff.next(None).as_secs_f64())
        })
        .collect();
    for (attempt, interval) in [1.0, 3.0, 4.0, 4.0].into_iter().enumerate() {
        let of_attempt = pauses.iter().map(|pauses| pauses[attempt] / interval);
        assert!(of_attempt.clone().all(|pause| (0.5..=1.5).contains(&pause)), "{attempt}");
        let mean = of_attempt.clone().sum::<f64>() / 400.0;
        assert!((0.9..1.1).contains(&mean), "{mean}");
        let (low, high) = (of_attempt.clone().filter(|pause| *pause < 0.75), of_attempt.filter(|pause| *pause > 1.25));
        assert!(low.count() > 50 && high.count() > 50);
    }
    assert_eq!(Backoff::new(&retry).next(Some(9 * SECOND)), 9 * SECOND);
    assert!(Backoff::new(&retry).next(Some(Duration::from_millis(1))) >= Duration::from_millis(500));
}

/// The pause grows from the initial interval by the multiplier up to the largest, spread by the randomization factor.
#[tokio::test]
async fn pauses_grow() {
    let started = Instant::now();
    let upstream = Upstream::sequence(vec![Reply::Grpc(14, "busy", None); 4]).await;
    let retry =
        "{retry_on_failure: {initial_interval: 20ms, multiplier: 2, max_interval: 60ms, randomization_factor: 0}}";
    let mut misaki = start(retry, &upstream).await;
    assert!(misaki.send(&["a"]).await.ok);
    misaki.settle().await;
    // 20 + 40 + 60 + 60
    assert!(started.elapsed() >= Duration::from_millis(180), "{:?}", started.elapsed());
    assert_eq!((upstream.requests(), upstream.kept()), (5, vec!["a".to_owned()]));
    misaki.finish().await;
}

/// The upstream's hint outweighs the interval; without an initial interval to speak of it is all there is to wait for.
#[tokio::test]
async fn the_upstreams_hint_is_waited_for() {
    let hint = Some(Duration::from_millis(1500));
    for (reply, http) in [
        (Reply::Grpc(14, "busy", hint), false),
        (Reply::Grpc(8, "quota", hint), false),
        (Reply::Http(429, Some("2")), true),
        (Reply::Http(503, Some("2")), true),
    ] {
        let upstream = Upstream::sequence([reply.clone()]).await;
        let mut misaki = if http { start_http("{}", &upstream).await } else { start("{}", &upstream).await };
        assert!(misaki.send(&["a"]).await.ok);
        until("it was refused", || upstream.requests() == 1).await;
        rest().await;
        jump(Duration::from_millis(1300)).await;
        assert_eq!((upstream.requests(), misaki.held()), (1, 1), "{reply:?}: too early");
        jump(Duration::from_millis(800)).await;
        misaki.settle().await;
        assert_eq!(upstream.kept(), ["a"]);
        misaki.finish().await;
    }
}

/// What is tried again, what is not, and under which name the items are dropped.
#[tokio::test]
async fn what_each_answer_means() {
    let grpc = |code| (Reply::Grpc(code, "said so", None), false);
    let http = |code| (Reply::Http(code, None), true);
    for (reply, is_http) in [1, 4, 10, 11, 14, 15].map(grpc).into_iter().chain([429, 502, 503, 504].map(http)) {
        let upstream = Upstream::sequence([reply.clone()]).await;
        let mut misaki = if is_http { start_http("{}", &upstream).await } else { start("{}", &upstream).await };
        assert!(misaki.send(&["a"]).await.ok);
        misaki.settle().await;
        assert_eq!((upstream.requests(), upstream.kept().len()), (2, 1), "{reply:?} is tried again");
        misaki.finish().await;
    }
    for reset in [Reply::Reset, Reply::Trickle] {
        for is_http in [false, true] {
            let upstream = Upstream::sequence([reset.clone()]).await;
            let settings = "{timeout: 200ms}";
            let mut misaki =
                if is_http { start_http(settings, &upstream).await } else { start(settings, &upstream).await };
            assert!(misaki.send(&["a"]).await.ok);
            misaki.settle().await;
            assert_eq!((upstream.requests(), upstream.kept().len()), (2, 1), "{reset:?} is tried again");
            misaki.finish().await;
        }
    }
    for (reply, is_http) in [2, 3, 5, 6, 8, 9, 13, 17, 99]
        .map(grpc)
        .into_iter()
        .chain([400, 402, 409, 418, 422, 451, 499, 500, 501, 505, 599].map(http))
    {
        let upstream = Upstream::sequence([reply.clone()]).await;
        let mut misaki = if is_http { start_http("{}", &upstream).await } else { start("{}", &upstream).await };
        assert!(misaki.send(&["a"]).await.ok);
        misaki.settle().await;
        let exporter = if is_http { "otlp_http" } else { "otlp" };
        assert_eq!(upstream.requests(), 1, "{reply:?} is final");
        check_line(&misaki, exporter, "1 accepted = 0 exported + 1 dropped (rejected_upstream 1) + 0 left");
        misaki.finish().await;
    }
}

#[tokio::test]
async fn retries_end_after_max_elapsed_time() {
    let upstream = Upstream::replying(Reply::Grpc(14, "busy", None)).await;
    let retry =
        "{retry_on_failure: {initial_interval: 1s, max_interval: 1s, max_elapsed_time: 10s, randomization_factor: 0}}";
    let mut misaki = start(retry, &upstream).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    for attempt in 1..10 {
        until("the next attempt", || upstream.requests() == attempt).await;
        rest().await;
        assert_eq!(misaki.held(), 2);
        jump(SECOND).await;
    }
    misaki.settle().await;
    assert_eq!(upstream.requests(), 10);
    check_line(&misaki, "otlp", "2 accepted = 0 exported + 2 dropped (retries_exhausted 2) + 0 left");
    misaki.finish().await;
}

#[tokio::test]
async fn without_retries_the_first_failure_is_final() {
    let upstream = Upstream::sequence([Reply::Grpc(14, "busy", None)]).await;
    let mut misaki = start("{retry_on_failure: {enabled: false}}", &upstream).await;
    assert!(misaki.send(&["a"]).await.ok);
    misaki.settle().await;
    check_line(&misaki, "otlp", "1 accepted = 0 exported + 1 dropped (retries_exhausted 1) + 0 left");
    misaki.finish().await;
}

#[tokio::test]
async fn an_attempt_ends_after_its_timeout() {
    let upstream = Upstream::sequence([Reply::Hang]).await;
    let mut misaki = start("{timeout: 7s}", &upstream).await;
    assert!(misaki.send(&["a"]).await.ok);
    until("it hangs", || upstream.requests() == 1).await;
    jump(6 * SECOND).await;
    assert_eq!(upstream.requests(), 1);
    jump(2 * SECOND).await;
    misaki.settle().await;
    assert_eq!((upstream.requests(), upstream.kept_once().len()), (2, 1));
    misaki.finish().await;
}

/// 413, and gRPC's RESOURCE_EXHAUSTED over the message's size: smaller pieces, down to one record.
#[tokio::test]
async fn what_is_too_large_is_cut() {
    for is_http in [false, true] {
        let too_large = if is_http {
            Reply::Http(413, None)
        } else {
            Reply::Grpc(8, "grpc: received message larger than max (100 vs. 80)", None)
        };
        let upstream =
            Upstream::scripted(move |arrival| if arrival.bytes > 80 { too_large.clone() } else { Reply::Accept }).await;
        let mut misaki = if is_http { start_http("{}", &upstream).await } else { start("{}", &upstream).await };
        let mut names = numbered("record-", 16);
        names[5] = "x".repeat(200);
        assert!(misaki.send(&refs(&names)).await.ok);
        misaki.settle().await;
        names.remove(5);
        assert_eq!(upstream.kept(), names, "in their order, without the one that is too large alone");
        let exporter = if is_http { "otlp_http" } else { "otlp" };
        check_line(&misaki, exporter, "16 accepted = 15 exported + 1 dropped (too_large 1) + 0 left");
        misaki.finish().await;
    }
}

/// Each piece says its resource again. Where that alone is too large, cutting on would send it for every record.
#[tokio::test]
async fn what_cutting_does_not_make_smaller_is_not_cut_on() {
    let upstream = Upstream::replying(Reply::Http(413, None)).await;
    let mut misaki = start_http("{}", &upstream).await;
    let names = numbered("", 2000);
    let mut content = ExportLogsServiceRequest::decode(request(Signal::Logs, &refs(&names)).as_slice()).unwrap();
    content.resource_logs[0].schema_url = "k".repeat(20_000);
    let wire = content.encode_to_vec();
    let length = wire.len();
    assert_eq!(misaki.submit_wire(Signal::Logs, wire, None).await, Ok(()));
    misaki.settle().await;
    let sent: usize = upstream.arrivals().iter().map(|arrival| arrival.bytes).sum();
    assert!(sent < 50 * length, "{sent} bytes were sent of {length}");
    check_line(&misaki, "otlp_http", "2000 accepted = 0 exported + 2000 dropped (too_large 2000) + 0 left");
    misaki.finish().await;
}

/// Where nothing is small enough, a request of many small records does not become as many requests.
#[tokio::test]
async fn cutting_ends() {
    let upstream = Upstream::replying(Reply::Http(413, None)).await;
    let mut misaki = start_http("{}", &upstream).await;
    assert!(misaki.send(&vec![""; 5000]).await.ok);
    misaki.settle().await;
    assert!(upstream.requests() < 300, "{} requests", upstream.requests());
    check_line(&misaki, "otlp_http", "5000 accepted = 0 exported + 5000 dropped (too_large 5000) + 0 left");
    misaki.finish().await;
}

/// A sibling that is full keeps what others can have for a while, but not until the end.
#[tokio::test]
async fn at_the_end_a_full_sibling_is_not_waited_for() {
    let (upstream, dead) = (Upstream::start().await, Upstream::replying(Reply::Http(503, None)).await);
    let changes = "{processors: {batch: {timeout: 1ms}}, exporters: {otlp/2: {sending_queue: {queue_size: 1}}}, service: {pipelines: {logs: {processors: [batch], exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream, &dead]).await;
    let names = numbered("a", 30);
    for name in &names {
        assert_eq!(misaki.submit(Signal::Logs, &[name]).await, Ok(()));
    }
    misaki.finish_within(25 * SECOND).await;
    let mut kept = upstream.kept();
    kept.sort();
    let mut names = names;
    names.sort();
    assert_eq!(kept, names);
}

/// RESOURCE_EXHAUSTED without a hint is final, whatever it is about.
#[tokio::test]
async fn a_quota_without_a_hint_is_final() {
    let upstream = Upstream::sequence([Reply::Grpc(8, "quota exceeded", None)]).await;
    let mut misaki = start("{}", &upstream).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    misaki.settle().await;
    check_line(&misaki, "otlp", "2 accepted = 0 exported + 2 dropped (rejected_upstream 2) + 0 left");
    misaki.finish().await;
}

/// One record that the upstream cannot take, among those of 49 other clients in one batch.
#[tokio::test]
async fn one_bad_record_does_not_spoil_the_others() {
    for is_http in [false, true] {
        let malformed = if is_http { Reply::Http(400, None) } else { Reply::Grpc(3, "malformed", None) };
        let upstream = Upstream::scripted(move |arrival| {
            if arrival.names.iter().any(|name| name == "bad") { malformed.clone() } else { Reply::Accept }
        })
        .await;
        let exporter = if is_http { "otlp_http" } else { "otlp" };
        let changes = format!(
            "{{processors: {{batch: {{timeout: 1h, send_batch_size: 50}}}}, service: {{pipelines: {{logs: {{processors: [batch], exporters: [{exporter}]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        let mut names = numbered("good-", 50);
        names[31] = "bad".into();
        for name in &names {
            assert!(misaki.send(&[name]).await.ok);
        }
        misaki.settle().await;
        names.remove(31);
        assert_eq!(upstream.kept(), names);
        assert!(upstream.requests() <= 17, "{} requests", upstream.requests());
        check_line(&misaki, exporter, "50 accepted = 49 exported + 1 dropped (rejected_upstream 1) + 0 left");
        misaki.finish().await;
    }
}

/// An upstream that calls everything malformed costs a bounded number of requests.
#[tokio::test]
async fn bisecting_is_bounded() {
    let upstream = Upstream::replying(Reply::Grpc(3, "malformed", None)).await;
    let mut misaki = start("{}", &upstream).await;
    let names = numbered("a", 1000);
    assert!(misaki.send(&refs(&names)).await.ok);
    misaki.settle().await;
    assert!(upstream.requests() <= 17, "{} requests", upstream.requests());
    check_line(&misaki, "otlp", "1000 accepted = 0 exported + 1000 dropped (rejected_upstream 1000) + 0 left");
    misaki.finish().await;
}

#[tokio::test]
async fn a_partial_success_is_counted_and_not_sent_again() {
    for (rejected, exported, dropped) in [
        (2, 3, "2 dropped (partial_success 2)"),
        (0, 5, "0 dropped"),
        (-1, 5, "0 dropped"),
        (9, 0, "5 dropped (partial_success 5)"),
    ] {
        for is_http in [false, true] {
            let upstream = Upstream::sequence([Reply::Partial(rejected, "some were bad")]).await;
            let mut misaki = if is_http { start_http("{}", &upstream).await } else { start("{}", &upstream).await };
            assert!(misaki.send(&["a", "b", "c", "d", "e"]).await.ok);
            misaki.settle().await;
            assert_eq!(upstream.requests(), 1);
            let exporter = if is_http { "otlp_http" } else { "otlp" };
            check_line(&misaki, exporter, &format!("5 accepted = {exported} exported + {dropped} + 0 left"));
            misaki.finish().await;
        }
    }
}

/// Wrong credentials or a wrong path lose nothing: the exporter holds, asks once a minute with an empty request, and goes
/// on when it is welcome.
#[tokio::test]
async fn a_misconfigured_exporter_holds() {
    let grpc = [7, 12, 16].map(|code| (Reply::Grpc(code, "who are you", None), false));
    let http = [401, 403, 404, 405, 307].map(|code| (Reply::Http(code, None), true));
    for (reply, is_http) in grpc.into_iter().chain(http) {
        let upstream = Upstream::replying(reply.clone()).await;
        let settings = "{sending_queue: {num_consumers: 1}}";
        let mut misaki = if is_http { start_http(settings, &upstream).await } else { start(settings, &upstream).await };
        for name in ["a", "b"] {
            assert!(misaki.send(&[name]).await.ok);
        }
        until("it was refused", || upstream.requests() == 1).await;
        rest().await;
        jump(59 * SECOND).await;
        assert_eq!((upstream.requests(), misaki.held()), (1, 2), "{reply:?}");
        for probe in 2..=4 {
            jump(61 * SECOND).await;
            until("it was asked", || upstream.requests() == probe).await;
            rest().await;
            misaki.check();
        }
        assert!(upstream.arrivals()[1..].iter().all(|arrival| arrival.names.is_empty()), "the probes are empty");
        upstream.script(|_| Reply::Accept);
        jump(61 * SECOND).await;
        misaki.settle().await;
        assert_eq!(upstream.kept(), ["a", "b"]);
        misaki.finish().await;
    }
}

/// What an exporter holds is tried once more when the collector ends: the upstream may be mended since then.
#[tokio::test]
async fn the_end_asks_an_upstream_that_refused() {
    for reply in [Reply::Http(401, None), Reply::Http(503, None)] {
        let upstream = Upstream::replying(reply).await;
        let settings = "{retry_on_failure: {initial_interval: 1h, max_interval: 1h, max_elapsed_time: 0}}";
        let mut misaki = start_http(settings, &upstream).await;
        assert!(misaki.send(&["a"]).await.ok);
        until("it was refused", || upstream.requests() == 1).await;
        rest().await;
        upstream.script(|_| Reply::Accept);
        misaki.finish_within(SECOND).await;
        assert_eq!(upstream.kept(), ["a"]);
    }
}

/// A queue that refuses, and an upstream that rejects, are said once a minute, with all that it happened to meanwhile.
#[tokio::test]
async fn what_happens_to_each_request_is_said_once_a_minute() {
    let (said, _guard) = Said::listen();
    let rejecting = Upstream::replying(Reply::Http(400, None)).await;
    let mut misaki = start_http("{}", &rejecting).await;
    for round in 0..2 {
        for _ in 0..20 {
            assert!(misaki.send(&["a"]).await.ok);
        }
        misaki.settle().await;
        let lines = said.matching("Dropping data");
        assert_eq!(lines.len(), round + 1, "{lines:?}");
        jump(61 * SECOND).await;
    }
    let last = said.matching("Dropping data").pop().unwrap();
    assert!(last.contains("dropped_items=20") && last.contains("batches=20"), "{last}");
    misaki.finish().await;

    let upstream = Upstream::replying(Reply::Hang).await;
    let mut misaki = start_http("{sending_queue: {queue_size: 1, num_consumers: 1}}", &upstream).await;
    for _ in 0..20 {
        misaki.send(&["a"]).await;
    }
    let lines = said.matching("telemetry is refused");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("sending queue is full (queue_size: 1 of 1 requests)"), "{lines:?}");
    upstream.release();
    misaki.settle().await;
    misaki.finish().await;
}

/// Each batch under way has its own, growing pauses. When the first gets through, the others follow at once: what is
/// younger would overtake them by as much as such a pause is long.
#[tokio::test]
async fn after_an_outage_the_oldest_go_first() {
    let upstream = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let pauses = "retry_on_failure: {initial_interval: 10s, max_interval: 30s}";
    let mut misaki = start(&format!("{{sending_queue: {{num_consumers: 4}}, {pauses}}}"), &upstream).await;
    let names = numbered("a", 12);
    for name in &names {
        assert!(misaki.send(&[name]).await.ok);
    }
    until("they were refused", || upstream.requests() == 4).await;
    for _ in 0..40 {
        jump(5 * SECOND).await;
    }
    upstream.script(|_| Reply::Accept);
    let kept = || upstream.kept().len();
    while kept() == 0 {
        jump(Duration::from_millis(10)).await;
    }
    misaki.settle().await;
    let mut first: Vec<_> = upstream.kept().into_iter().take(5).collect();
    first.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
    assert!(first.starts_with(&names[..3]), "{first:?}");
    misaki.finish().await;
}

#[tokio::test]
async fn an_upstream_may_be_absent_at_the_start() {
    let mut upstream = Upstream::absent();
    let mut misaki = start("{sending_queue: {queue_size: 3}}", &upstream).await;
    for name in ["a", "b", "c"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    let refused = misaki.send(&["d"]).await;
    assert_eq!((refused.code, misaki.held()), (503, 3));
    upstream.appear();
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), ["a", "b", "c"]);
    misaki.finish().await;
}

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// What is said from now on, on this thread.
    fn listen() -> (Said, tracing::subscriber::DefaultGuard) {
        let said = Said::default();
        let writer = said.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (said, tracing::subscriber::set_default(subscriber))
    }

    fn matching(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// Of the lines about the exporter, what each says it is.
    fn of_exporter(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let is = |line: &str| Some(line.split_once("exporter is ")?.1.split([' ', ',', ':']).next()?.to_owned());
        text.lines().filter_map(is).collect()
    }
}

fn is_known_to_be_down(misaki: &Misaki) -> bool {
    misaki.running.queues().any(|queue| queue.report(Now::read()).outage.is_some())
}

/// One failure in between is not worth a word, however often.
#[tokio::test]
async fn an_upstream_that_alternates_is_not_down() {
    for is_http in [false, true] {
        let (said, _guard) = Said::listen();
        let mut requests = 0;
        let upstream = Upstream::scripted(move |_| {
            requests += 1;
            match requests % 2 {
                1 if is_http => Reply::Http(503, None),
                1 => Reply::Grpc(14, "busy", None),
                _ => Reply::Accept,
            }
        })
        .await;
        let queue = "{sending_queue: {num_consumers: 1, queue_size: 500}}";
        let mut misaki = if is_http { start_http(queue, &upstream).await } else { start(queue, &upstream).await };
        for number in 0..250 {
            assert!(misaki.send(&[&format!("{number}")]).await.ok);
            assert!(!is_known_to_be_down(&misaki));
        }
        misaki.settle().await;
        assert_eq!((upstream.kept_once().len(), upstream.requests()), (250, 500));
        assert_eq!(said.of_exporter(), [""; 0]);
        misaki.finish().await;
    }
}

/// Several failures in a row are, the first time; then only what lasts.
#[tokio::test]
async fn an_upstream_that_comes_and_goes_is_said_to_once() {
    let (said, _guard) = Said::listen();
    let mut requests = 0;
    let upstream = Upstream::scripted(move |_| {
        requests += 1;
        if requests % 10 < 6 { Reply::Grpc(14, "busy", None) } else { Reply::Accept }
    })
    .await;
    let mut misaki = start("{sending_queue: {num_consumers: 1, queue_size: 500}}", &upstream).await;
    for number in 0..200 {
        assert!(misaki.send(&[&format!("{number}")]).await.ok);
    }
    misaki.settle().await;
    assert_eq!(said.of_exporter(), ["down", "back"]);
    misaki.finish().await;
}

/// It need not be asked again for that: the pause before the next attempt may be longer.
#[tokio::test]
async fn what_fails_for_five_seconds_is_down() {
    let (said, _guard) = Said::listen();
    let retry = "{retry_on_failure: {initial_interval: 40s, max_interval: 40s, randomization_factor: 0}}";
    let upstream = Upstream::sequence([Reply::Grpc(14, "busy", None)]).await;
    let mut misaki = start(retry, &upstream).await;
    assert!(misaki.send(&["a"]).await.ok);
    until("it is sent", || upstream.requests() == 1).await;
    rest().await;
    jump(4 * SECOND).await;
    assert_eq!((said.of_exporter().len(), is_known_to_be_down(&misaki)), (0, false));
    jump(2 * SECOND).await;
    assert_eq!((said.of_exporter(), is_known_to_be_down(&misaki)), (vec!["down".to_owned()], true));
    jump(40 * SECOND).await;
    misaki.settle().await;
    assert_eq!((said.of_exporter(), is_known_to_be_down(&misaki)), (vec!["down".to_owned(), "back".to_owned()], false));
    misaki.finish().await;
}

/// A failure of the upstream's own is not looked for in the batch: one request for each.
#[tokio::test]
async fn a_failure_of_the_upstream_is_not_bisected() {
    for reply in [Reply::Http(500, None), Reply::Grpc(13, "internal", None), Reply::Grpc(2, "unknown", None)] {
        let is_http = matches!(reply, Reply::Http(..));
        let upstream = Upstream::replying(reply).await;
        let mut misaki = if is_http { start_http("{}", &upstream).await } else { start("{}", &upstream).await };
        for batch in 0..5 {
            assert!(misaki.send(&refs(&numbered(&format!("{batch} "), 16))).await.ok);
        }
        misaki.settle().await;
        assert_eq!(upstream.requests(), 5);
        misaki.finish().await;
    }
}
