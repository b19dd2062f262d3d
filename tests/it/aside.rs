//! One request does not stop the others: what is heavy is done aside, what is read again and again has an end, and the
//! health check and the metrics have a thread of their own.

use std::io::{Read, Write};
use std::time::Duration;

use misaki::face::otlp::wire::put_bytes;
use misaki::face::telemetry::Signal;

use super::harness::*;

fn message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

/// So many records that hold nothing, below a resource with an attribute of so many bytes.
fn below_a_long_attribute(records: usize, long: usize) -> Vec<u8> {
    let attribute = [message(1, b"long"), message(2, &message(1, &vec![b'x'; long]))].concat();
    let resource = message(1, &message(1, &attribute));
    message(1, &[resource, message(2, &[0x12, 0x00].repeat(records))].concat())
}

fn with(processor: &str) -> String {
    let name = processor.split(':').next().unwrap();
    format!("{{processors: {{{processor}}}, service: {{pipelines: {{logs: {{processors: [{name}]}}}}}}}}")
}

const FILTER: &str = "filter: {log_conditions: [log.severity_number > 20]}";
const REPLACE: &str = r#"transform: {log_statements: ['replace_pattern(log.body, "x*y|x", "z")']}"#;
const HASH: &str = r#"transform: {log_statements: ['set(log.body, SHA256(resource.attributes["long"]))']}"#;

/// One that is large, one with a pattern that is quadratic in all, one that reads a long attribute again for each record:
/// the worker goes on meanwhile, and in the end each of them is done as it would have been at once.
#[tokio::test]
async fn others_are_served_while_a_request_is_heavy() {
    let text = "x".repeat(8_000);
    for (processor, wire, items) in [
        (FILTER, below_a_long_attribute(50_000, 10), 50_000),
        (REPLACE, request(Signal::Logs, &[&text]), 1),
        (HASH, below_a_long_attribute(500, 4_000), 500),
    ] {
        let upstream = Upstream::start().await;
        let mut misaki = Misaki::start(&with(processor), &[&upstream]).await;
        let mut heavy = misaki.submit_wire(Signal::Logs, wire.clone(), None);
        let at_once = std::future::poll_fn(|context| std::task::Poll::Ready(heavy.as_mut().poll(context))).await;
        assert!(at_once.is_pending(), "{processor}: the worker waits for it");
        assert!(misaki.send(&["light"]).await.ok);
        assert_eq!(heavy.await, Ok(()), "{processor}");
        // A client that leaves meanwhile takes its request along.
        assert_eq!(polled(misaki.submit_wire(Signal::Logs, wire, None), 1).await, None);
        misaki.settle().await;
        let balance = misaki.finish().await;
        assert_eq!(balance[0].accepted, items + 1, "{balance:?}");
        if processor == REPLACE {
            assert!(upstream.kept().contains(&"z".repeat(text.len())), "replaced");
        }
    }
}

/// Whatever the error mode: what a statement was to hide would go on as it came.
#[tokio::test]
async fn what_is_read_again_and_again_has_an_end() {
    let patterns: Vec<String> = (0..700).map(|number| format!("a{{{number}}}")).collect();
    let long = below_a_long_attribute(2_000, 100_000);
    let hash_all = format!(
        "transform: {{error_mode: silent, log_statements: [{{context: log, shared_cache: true, statements: {}}}]}}",
        r#"['set(cache["x"], resource.attributes["long"]) where cache["x"] == nil', 'set(body, SHA256(cache["x"]))']"#
    );
    for (processor, wire) in [
        (HASH, long.clone()),
        (
            r#"filter: {error_mode: silent, log_conditions: ['log.severity_number == 0 and HasSuffix(resource.attributes["long"], "y")']}"#,
            long.clone(),
        ),
        (&*hash_all, long),
        (
            r#"filter: {error_mode: silent, log_conditions: ['IsMatch("text", log.body)']}"#,
            request(Signal::Logs, &refs(&patterns)),
        ),
        (
            r#"filter: {error_mode: silent, log_conditions: ['IsMatch("text", Concat(["a", log.body], ""))']}"#,
            request(Signal::Logs, &refs(&patterns)),
        ),
    ] {
        let upstream = Upstream::start().await;
        let mut misaki = Misaki::start(&with(processor), &[&upstream]).await;
        let answer = misaki.ports.post(Via::Grpc, Signal::Logs, wire, &[]).await;
        assert_eq!((answer.ok, answer.code), (false, 3), "{processor}: {answer:?}");
        assert!(answer.message.contains("too much read again"), "{processor}: {answer:?}");
        // Those that a request of its own size may ask for are no such thing.
        let answer = misaki.ports.post(Via::Grpc, Signal::Logs, below_a_long_attribute(100, 2_000), &[]).await;
        assert!(answer.ok, "{processor}: {answer:?}");
        misaki.settle().await;
        misaki.finish().await;
    }
}

/// A page, by a client that keeps the worker from doing anything else.
fn get_blocking(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test]
async fn health_and_metrics_answer_while_the_worker_is_busy_and_others_are_silent() {
    let (health, metrics) = (free_port().await, free_port().await);
    let changes = format!(
        "{{extensions: {{health_check: {{endpoint: '127.0.0.1:{health}'}}}}, service: {{extensions: [health_check], telemetry: \
         {{metrics: {{level: normal, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}}}}}"
    );
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    for (port, path) in [(health, "/"), (metrics, "/metrics")] {
        let silent: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        // Nothing is awaited here, so the one worker of this test does nothing meanwhile.
        let page = get_blocking(port, path).unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        drop(silent);
    }
    misaki.finish().await;
}
