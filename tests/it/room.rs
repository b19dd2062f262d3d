//! What is made of a request is taken from the budget before it is made: however small the request, and whatever makes it.

use std::time::{Duration, Instant};

use misaki::face::otlp::Room;
use misaki::face::otlp::wire::put_bytes;
use misaki::face::ottl::Arena;
use misaki::face::service::connections_within;
use misaki::face::telemetry::{Budget, Charge, Most, Now, Part, Pending, Share, Signal, Telemetry};

use super::harness::*;

/// Budget 2 MiB: half a MiB for requests, one for queues.
const LIMITER: &str = "memory_limiter: {check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}";

fn times(piece: &[u8], count: usize) -> Vec<u8> {
    piece.repeat(count)
}

fn message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

/// So many resources with one empty item: 6 bytes each.
fn resources(count: usize) -> Vec<u8> {
    times(&message(1, &message(2, &message(2, b""))), count)
}

fn records(record: &[u8], count: usize) -> Vec<u8> {
    message(1, &message(2, &times(&message(2, record), count)))
}

fn pair(key: &str, value: &str) -> Vec<u8> {
    [message(1, key.as_bytes()), message(2, &message(1, value.as_bytes()))].concat()
}

async fn start(processors: &str, order: &str, upstream: &Upstream) -> Misaki {
    let changes = format!(
        "{{processors: {{{LIMITER}, {processors}}}, service: {{pipelines: {{logs: {{processors: [memory_limiter, {order}]}}}}}}}}"
    );
    Misaki::start(&changes, &[upstream]).await
}

/// Each of these became many times its size, of which nothing was charged before it was there.
#[tokio::test]
async fn what_edits_make_is_charged_before_it_is_made() {
    let short = message(6, &pair("a", "b"));
    let body = |inner: &[u8]| message(5, &message(6, inner));
    let hash = "attributes: {actions: [{pattern: '^.*$', action: hash}]}";
    let cache = r#"transform: {error_mode: ignore, log_statements: [{context: log, shared_cache: true, statements: ['set(log.cache["x"], Concat(["a text that is long enough to be seen", log.body], ""))']}]}"#;
    let set = r#"transform: {error_mode: ignore, log_statements: ['set(log.attributes["made"], Concat(["a text that is long enough to be seen", log.body], ""))']}"#;
    let redaction = "redaction: {allow_all_keys: true, blocked_values: ['b'], summary: silent}";
    let resource = "resource: {attributes: [{key: site, value: somewhere-with-a-long-name, action: upsert}]}";
    let delete = "attributes: {actions: [{pattern: '^$', action: delete}]}";
    for (processor, wire) in [
        ("resource_detection: {detectors: [system]}", resources(40_000)),
        (resource, resources(40_000)),
        (hash, records(&short, 20_000)),
        (hash, records(&times(&short, 20_000), 1)),
        // The pieces between what is left out.
        (delete, records(&times(&[message(6, b""), short.clone()].concat(), 18_000), 1)),
        (set, records(b"", 100_000)),
        // Nothing of it comes out, and it takes memory all the same.
        (cache, records(b"", 100_000)),
        (redaction, records(&body(&times(&message(1, &pair("a", "b")), 30_000)), 1)),
    ] {
        let upstream = Upstream::start().await;
        let name = processor.split(':').next().unwrap();
        let mut misaki = start(processor, name, &upstream).await;
        assert!(wire.len() < 400_000, "{processor}: it fits");
        let answer = misaki.post(Via::Http, Signal::Logs, wire, &[]).await;
        assert_eq!((answer.code, answer.hint), (413, None), "{processor}: {answer:?}");
        assert!(answer.message.ends_with("bytes, with what is made of it"), "{processor}: {answer:?}");
        assert!(misaki.send(&["good"]).await.ok, "{processor}");
        misaki.settle().await;
        misaki.finish().await;
        assert_eq!(upstream.kept().len(), 1, "{processor}");
    }
}

/// Where another request has the memory now, the client shall come again.
#[tokio::test]
async fn what_fits_alone_is_refused_with_a_hint() {
    let upstream = Upstream::start().await;
    let mut misaki = start("resource_detection: {detectors: [system]}", "resource_detection", &upstream).await;
    let budget = misaki.running.budget.clone();
    let most = budget.limit(Share::Ingest) - 100_000;
    assert!(budget.take(Share::Ingest, most));
    let answer = misaki.post(Via::Http, Signal::Logs, resources(2_000), &[]).await;
    assert_eq!((answer.code, answer.hint.is_some()), (503, true), "{answer:?}");
    budget.give_back(Share::Ingest, most);
    assert!(misaki.post(Via::Http, Signal::Logs, resources(2_000), &[]).await.ok);
    misaki.finish().await;
}

/// Behind a batch it may go beyond the share, by as much again. A batch of which more is made goes on in parts.
#[tokio::test]
async fn a_batch_that_is_too_much_at_once_goes_on_in_halves() {
    let upstream = Upstream::start().await;
    let processors = "batch: {timeout: 1h, send_batch_size: 40000}, resource_detection: {detectors: [system]}";
    let mut misaki = start(processors, "batch, resource_detection", &upstream).await;
    assert!(misaki.post(Via::Http, Signal::Logs, resources(40_000), &[]).await.ok);
    misaki.settle().await;
    let balance = misaki.finish().await;
    assert!(balance.iter().all(|balance| balance.dropped.is_empty()), "{balance:?}");
    assert_eq!(upstream.kept().len(), 40_000);
}

/// An item that is too much by itself is lost alone; what was batched with it is sent.
#[tokio::test]
async fn an_item_that_is_too_much_is_lost_alone() {
    let bomb = records(&times(&message(6, &pair("a", "b")), 30_000), 1);
    for (waits, size) in [(false, 9), (true, 3)] {
        let upstream = Upstream::start().await;
        let processors = format!(
            "batch: {{timeout: 1h, send_batch_size: {size}}}, attributes: {{actions: [{{pattern: '^.*$', action: hash}}]}}"
        );
        let changes = format!(
            "{{exporters: {{otlp: {{sending_queue: {{wait_for_result: {waits}}}}}}}, processors: {{{LIMITER}, {processors}}}, \
             service: {{pipelines: {{logs: {{processors: [memory_limiter, batch, attributes]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        let bodies: Vec<String> = (1..size).map(|index| format!("good {index}")).collect();
        let (first, rest) = bodies.split_at(1);
        let (first, rest): (Vec<&str>, Vec<&str>) =
            (first.iter().map(String::as_str).collect(), rest.iter().map(String::as_str).collect());
        let (first, lost, rest) = tokio::join!(
            misaki.send(&first),
            misaki.post(Via::Http, Signal::Logs, bomb.clone(), &[]),
            misaki.send(&rest)
        );
        // Clients that wait share the outcome of their batch.
        assert_eq!((first.ok, lost.ok, rest.ok), (!waits, !waits, !waits), "{lost:?}");
        misaki.settle().await;
        let balance = misaki.finish().await;
        let dropped: Vec<_> = balance.iter().flat_map(|balance| balance.dropped.clone()).collect();
        assert_eq!(dropped, [("processor_failed", 1)]);
        assert_eq!(upstream.kept().len(), bodies.len());
    }
}

/// Where all items are too much, all are counted, and waited for no longer.
#[tokio::test]
async fn a_batch_of_bombs_is_dropped_once() {
    let upstream = Upstream::start().await;
    let long = "x".repeat(600);
    let again = format!("set(log.body, Concat([{}], \"{long}\"))", vec!["log.body"; 40].join(", "));
    let processors = format!(
        "batch: {{timeout: 1h, send_batch_size: 400}}, transform: {{error_mode: propagate, log_statements: ['{again}', '{again}', '{again}']}}"
    );
    let mut misaki = start(&processors, "batch, transform", &upstream).await;
    assert!(misaki.post(Via::Http, Signal::Logs, records(b"", 400), &[]).await.ok);
    misaki.settle().await;
    let balance = misaki.finish().await;
    let dropped: Vec<_> = balance.iter().flat_map(|balance| balance.dropped.clone()).collect();
    assert_eq!(dropped, [("processor_failed", 400)]);
}

/// A record that is too much work is looked for among the parts of its batch: those of others arrive, and it costs no more than a
/// few tries, each with a part of what a request may have read again.
#[tokio::test]
async fn a_record_that_is_too_much_work_is_lost_alone() {
    let upstream = Upstream::start().await;
    let processors = "batch: {timeout: 1h, send_batch_size: 9}, \
        transform: {log_statements: ['replace_pattern(log.body, \"(password=.*;|token=[a-z]+)\", \"***\")']}";
    let mut misaki = start(processors, "batch, transform", &upstream).await;
    let good = "a".repeat(20_000);
    let bad = "password=token=a ".repeat(9_000);
    let started = Instant::now();
    for number in 0..9 {
        let body = if number == 4 { bad.as_str() } else { good.as_str() };
        assert!(misaki.send(&[body]).await.ok);
    }
    misaki.settle().await;
    assert_eq!(upstream.kept(), vec![good; 8]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let balance = misaki.finish().await;
    let dropped: Vec<_> = balance.iter().flat_map(|balance| balance.dropped.clone()).collect();
    assert_eq!(dropped, [("processor_failed", 1)]);
}

/// A request with a long resource and so many records.
fn below_a_long_resource(records: usize, bytes: usize) -> Vec<u8> {
    let resource = message(1, &message(1, &pair("long", &"x".repeat(bytes))));
    message(1, &[resource, message(2, &times(&message(2, b""), records))].concat())
}

/// Each piece repeats the resource, and lives as long as it is held: so does its charge.
#[test]
fn pieces_are_charged_with_the_headers_that_they_repeat() {
    let budget = Budget::new(1 << 30);
    let wire = below_a_long_resource(20, 1 << 20);
    let charge = Charge::take(&budget, Share::Ingest, wire.len() as u64).unwrap();
    let part = Part::new(wire, 20, charge);
    let received = Now::read();
    let parts = [part].into_iter().collect();
    let mut pending = Pending::default();
    let whole = Telemetry { signal: Signal::Logs, parts, client: None, received, tickets: Default::default() };
    pending.push(whole, &budget);
    let mut pieces = Vec::new();
    while pending.items() > 0 {
        let mut taking = pending.take(Signal::Logs, Most::Items(1));
        while taking.is_uncut() {
            taking.cut();
            pending.go_on(&mut taking);
        }
        pieces.extend(taking.parts());
        let held: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        // The part is there until its last item is taken, with a copy of its resource.
        let rest = if pending.items() > 0 { 2 << 20 } else { 0 };
        let used = budget.used(Share::Queue) as usize;
        assert!((held + rest..held + rest + 4096).contains(&used), "{used} for {held} and {rest}");
    }
    assert_eq!(pieces.len(), 20);
    let halves = Telemetry {
        parts: pieces.drain(..).collect(),
        signal: Signal::Logs,
        client: None,
        received,
        tickets: Default::default(),
    }
    .halves();
    assert_eq!(halves.each_ref().map(Telemetry::items), [10, 10]);
    drop(halves);
    assert_eq!(budget.used(Share::Queue), 0);
}

/// From a share that is full, pieces are still handed on.
#[tokio::test]
async fn what_is_held_can_be_cut_in_a_full_share() {
    let upstream = Upstream::start().await;
    let mut misaki =
        start("batch: {timeout: 1h, send_batch_size: 1, send_batch_max_size: 1}", "batch", &upstream).await;
    let budget = misaki.running.budget.clone();
    let most = budget.limit(Share::Queue) - 130_000;
    assert!(budget.take(Share::Queue, most));
    assert!(misaki.post(Via::Http, Signal::Logs, below_a_long_resource(20, 60_000), &[]).await.ok);
    misaki.settle().await;
    budget.give_back(Share::Queue, most);
    misaki.finish().await;
    assert_eq!(upstream.kept().len(), 20);
}

/// A full queue still hands on what it holds.
#[tokio::test]
async fn what_is_held_can_be_edited_in_a_full_share() {
    let upstream = Upstream::start().await;
    let processors = "batch: {timeout: 1h, send_batch_size: 5000}, resource_detection: {detectors: [system]}";
    let mut misaki = start(processors, "batch, resource_detection", &upstream).await;
    let budget = misaki.running.budget.clone();
    let most = budget.limit(Share::Queue) - 100_000;
    assert!(budget.take(Share::Queue, most));
    assert!(misaki.post(Via::Http, Signal::Logs, resources(4_000), &[]).await.ok);
    jump(Duration::from_secs(3600)).await;
    budget.give_back(Share::Queue, most);
    misaki.settle().await;
    misaki.finish().await;
    assert_eq!(upstream.kept().len(), 4_000);
}

/// An arena asks for each chunk, and says what was missing.
#[test]
fn an_arena_takes_what_it_is_granted() {
    let arena = Arena::new(1 << 20, Room::within(100_000), 0);
    let mut kept = 0;
    while arena.keep(&[7; 100]).is_ok() {
        kept += 100;
    }
    assert!((60_000..=100_000).contains(&kept), "{kept}");
    assert!(arena.room().missing().is_some());
    // Its own limit is no lack of room.
    let arena = Arena::new(10_000, Room::within(1 << 20), 0);
    while arena.keep(&[7; 100]).is_ok() {}
    assert_eq!(arena.room().missing(), None);
}

/// Connections are beside the budget, so there are no more than the memory has room for.
#[test]
fn connections_fit_into_the_memory_that_is_left() {
    const MIB: u64 = 1 << 20;
    for (files, memory, budget, expected) in [
        (1024, 64 * MIB, 26 * MIB, 128),
        (1024, 64 * MIB, 56 * MIB, 32),
        (1024, 64 * MIB, 64 * MIB, 16),
        (100, 64 * MIB, 26 * MIB, 50),
        (1 << 20, 512 * MIB, 96 * MIB, 1024),
        (1 << 20, 64 << 30, 96 * MIB, 10_240),
    ] {
        assert_eq!(
            connections_within(files, memory, budget),
            expected,
            "{files} files, {memory} bytes, {budget} of them"
        );
    }
}
