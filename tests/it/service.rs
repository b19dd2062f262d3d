//! Whole ways of a request, from a client's socket to the upstream's, in exact counts: fan-out, connectors, several
//! pipelines, draining.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use misaki::face::telemetry::{Point, Signal, Telemetry};

use super::harness::*;

#[tokio::test]
async fn what_is_sent_arrives() {
    for via in [Via::Grpc, Via::Http, Via::Json] {
        let upstream = Upstream::start().await;
        let changes = "service: {pipelines: {metrics: {receivers: [otlp], exporters: [otlp]}, traces: {receivers: [otlp], exporters: [otlp]}}}";
        let mut misaki = Misaki::start(changes, &[&upstream]).await;
        for signal in Signal::ALL {
            assert!(misaki.send_by(via, signal, &["a", "b"]).await.ok);
        }
        misaki.settle().await;
        assert_eq!(upstream.kept(), ["a", "b", "a", "b", "a", "b"]);
        assert!(upstream.arrivals().iter().map(|arrival| arrival.signal).eq(Signal::ALL));
        let balance = misaki.finish().await;
        assert!(balance.iter().all(|line| (line.accepted, line.exported, line.left) == (2, 2, 0)), "{balance:?}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

const FAN_OUT: &str = "service: {pipelines: {logs: {exporters: [otlp, otlp/2]}}}";

/// One of two upstreams hangs. For 30 seconds the full queue refuses for both; then the healthy one gets everything again,
/// the other's share is dropped under its own name, until it takes something again.
#[tokio::test]
async fn a_hung_upstream_holds_the_other_back_for_30_seconds() {
    let (stuck, healthy) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let changes = "{exporters: {otlp: {timeout: 0s, sending_queue: {queue_size: 2, num_consumers: 1}}}, service: {pipelines: {logs: {exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&stuck, &healthy]).await;
    for name in ["a", "b"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    for _ in 0..2 {
        let refused = misaki.send(&["refused"]).await;
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (503, "sending queue is full (queue_size: 2 of 2 requests)")
        );
        jump(14 * SECOND).await;
    }
    assert!(!misaki.send(&["refused"]).await.ok, "28 seconds are not enough");
    jump(3 * SECOND).await;
    for name in ["c", "d", "e"] {
        assert!(misaki.send(&[name]).await.ok, "{name}");
    }
    until("the healthy one has everything", || healthy.kept_once() == ["a", "b", "c", "d", "e"]).await;
    misaki.check();
    assert_eq!(misaki.line("otlp"), "logs to otlp: 5 accepted = 0 exported + 3 dropped (sink_stuck 3) + 2 left");
    stuck.release();
    misaki.settle().await;
    assert!(misaki.send(&["f"]).await.ok);
    misaki.settle().await;
    assert_eq!(stuck.kept_once(), ["a", "b", "f"]);
    assert_eq!(misaki.line("otlp"), "logs to otlp: 6 accepted = 3 exported + 3 dropped (sink_stuck 3) + 0 left");
    assert_eq!(misaki.line("otlp/2"), "logs to otlp/2: 6 accepted = 6 exported + 0 dropped + 0 left");
    assert_eq!(misaki.running.intake(), (6, 3));
    misaki.finish().await;
}

/// When both are stuck nobody has room, and nothing is dropped.
#[tokio::test]
async fn two_hung_upstreams_drop_nothing() {
    let (one, two) = (Upstream::replying(Reply::Hang).await, Upstream::replying(Reply::Hang).await);
    let queue = "{timeout: 0s, sending_queue: {queue_size: 1, num_consumers: 1}}";
    let changes = format!("{{exporters: {{otlp: {queue}, otlp/2: {queue}}}, {FAN_OUT}}}");
    let mut misaki = Misaki::start(&changes, &[&one, &two]).await;
    assert!(misaki.send(&["a"]).await.ok);
    for _ in 0..3 {
        assert_eq!(misaki.send(&["b"]).await.code, 503);
        jump(31 * SECOND).await;
    }
    misaki.check();
    one.release();
    two.release();
    misaki.settle().await;
    assert_eq!((one.kept(), two.kept()), (vec!["a".to_owned()], vec!["a".to_owned()]));
    misaki.finish().await;
}

/// The same from behind a batch: it holds back for 30 seconds, then gives the healthy one its batches.
#[tokio::test]
async fn a_hung_upstream_behind_a_batch() {
    let (stuck, healthy) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let changes = "{processors: {batch: {timeout: 1h, send_batch_size: 2}}, exporters: {otlp: {timeout: 0s, sending_queue: {queue_size: 1, num_consumers: 1}}}, service: {pipelines: {logs: {processors: [batch], exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&stuck, &healthy]).await;
    for names in [["a", "b"], ["c", "d"]] {
        assert!(misaki.send(&names).await.ok);
    }
    until("the first batch arrived", || healthy.kept() == ["a", "b"]).await;
    rest().await;
    misaki.check();
    assert_eq!(misaki.send(&["refused"]).await.code, 503);
    jump(31 * SECOND).await;
    until("the second batch arrived", || healthy.kept() == ["a", "b", "c", "d"]).await;
    assert!(misaki.send(&["e", "f"]).await.ok);
    until("the third batch arrived", || healthy.kept() == ["a", "b", "c", "d", "e", "f"]).await;
    rest().await;
    misaki.check();
    stuck.release();
    misaki.settle().await;
    assert_eq!(misaki.line("otlp"), "logs to otlp: 6 accepted = 2 exported + 4 dropped (sink_stuck 4) + 0 left");
    misaki.finish().await;
}

/// A drain sends what is held; what an upstream does not take in time is counted as left.
#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_counts_what_is_left() {
    let (stuck, healthy) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let changes = "{processors: {batch: {timeout: 1h}}, exporters: {otlp: {sending_queue: {num_consumers: 2}}}, service: {pipelines: {logs: {processors: [batch], exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&stuck, &healthy]).await;
    for name in numbered("a", 5) {
        assert!(misaki.send(&[&name]).await.ok);
    }
    assert_eq!((misaki.held(), healthy.requests()), (5, 0));
    let started = std::time::Instant::now();
    let balance = misaki.finish_within(Duration::from_millis(300)).await;
    assert!(started.elapsed() < 4 * SECOND, "{:?}", started.elapsed());
    let lines: Vec<_> = balance.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "logs to otlp: 5 accepted = 0 exported + 0 dropped + 5 left",
            "logs to otlp/2: 5 accepted = 5 exported + 0 dropped + 0 left"
        ]
    );
    assert_eq!((misaki.held(), healthy.kept_once().len()), (5, 5));
}

/// A queue that waits between attempts, or for its batch to fill, does not wait for that when it drains.
#[tokio::test]
async fn a_drain_waits_for_no_timer_of_the_queue() {
    let upstream = Upstream::start().await;
    let changes =
        "exporters: {otlp: {sending_queue: {sizer: items, queue_size: 100, batch: {min_size: 50, flush_timeout: 1h}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    let balance = misaki.finish().await;
    assert_eq!((balance[0].left, upstream.kept()), (0, vec!["a".to_owned(), "b".to_owned()]));
}

/// A client that waits for its answer when the collector stops gets one.
#[tokio::test]
async fn who_waits_when_the_collector_stops_gets_an_answer() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let changes = "exporters: {otlp: {sending_queue: {wait_for_result: true}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    let client = misaki.ports;
    let answer = tokio::spawn(async move { client.send(&["a"]).await });
    until("it is under way", || upstream.requests() == 1).await;
    upstream.release();
    let balance = misaki.finish().await;
    assert!(answer.await.unwrap().ok);
    assert_eq!(balance[0].exported, 1);
}

/// Two pipelines that a connector joins, with a processor each; a tee of it in the first.
#[tokio::test]
async fn a_connector_forwards() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let changes = "{processors: {batch: {timeout: 1h, send_batch_size: 3}, batch/2: {timeout: 1h, send_batch_size: 6}}, connectors: {forward: }, service: {pipelines: {logs: {processors: [batch], exporters: [forward, otlp]}, logs/2: {receivers: [forward], processors: [batch/2], exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&first, &second]).await;
    for names in [["a", "b", "c"], ["d", "e", "f"]] {
        assert!(misaki.send(&names).await.ok);
    }
    misaki.settle().await;
    assert_eq!((first.sizes(), second.sizes()), (vec![3, 3], vec![6]));
    assert_eq!((first.kept(), second.kept()), (numbered_letters(6), numbered_letters(6)));
    let balance = misaki.finish().await;
    assert!(balance.iter().all(|line| (line.accepted, line.exported) == (6, 6)), "{balance:?}");
}

fn numbered_letters(count: u8) -> Vec<String> {
    (b'a'..b'a' + count).map(|letter| char::from(letter).to_string()).collect()
}

/// Several pipelines share a receiver, and two of them an exporter: each gives it everything.
#[tokio::test]
async fn several_pipelines_take_from_one_receiver() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let changes = "{processors: {batch: {timeout: 1h}}, service: {pipelines: {logs/b: {receivers: [otlp], processors: [batch], exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&first, &second]).await;
    for (via, name) in [(Via::Grpc, "a"), (Via::Http, "b"), (Via::Json, "c")] {
        assert!(misaki.send_by(via, Signal::Logs, &[name]).await.ok);
    }
    jump(3600 * SECOND).await;
    misaki.settle().await;
    let mut twice = first.kept();
    twice.sort();
    assert_eq!((twice.join(""), second.kept().join("")), ("aabbcc".into(), "abc".into()));
    assert_eq!(misaki.running.intake(), (3, 0));
    assert_eq!(misaki.line("otlp"), "logs to otlp: 6 accepted = 6 exported + 0 dropped + 0 left");
    assert_eq!(misaki.line("otlp/2"), "logs to otlp/2: 3 accepted = 3 exported + 0 dropped + 0 left");
    misaki.finish().await;
}

/// A refusal by one of several pipelines refuses the whole request: no pipeline has it twice when it comes again.
#[tokio::test]
async fn a_request_is_taken_by_all_pipelines_or_by_none() {
    let (stuck, healthy) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let changes = "{exporters: {otlp: {timeout: 0s, sending_queue: {queue_size: 1}}}, service: {pipelines: {logs/2: {receivers: [otlp], exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(changes, &[&stuck, &healthy]).await;
    assert!(misaki.send(&["a"]).await.ok);
    for _ in 0..3 {
        assert_eq!(misaki.send(&["b"]).await.code, 503);
    }
    stuck.release();
    misaki.settle().await;
    assert!(misaki.send(&["b"]).await.ok);
    misaki.settle().await;
    assert_eq!((stuck.kept_once(), healthy.kept_once()), (numbered_letters(2), numbered_letters(2)));
    misaki.finish().await;
}

/// A signal without a pipeline, an empty request: answers, and nothing in the ledger.
#[tokio::test]
async fn what_holds_nothing_leaves_no_trace() {
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    for via in [Via::Grpc, Via::Http, Via::Json] {
        assert!(misaki.send_by(via, Signal::Logs, &[]).await.ok);
        let unknown = misaki.send_by(via, Signal::Traces, &["a"]).await;
        assert_eq!(unknown.code, if via == Via::Grpc { 12 } else { 404 });
    }
    assert_eq!((misaki.running.intake(), upstream.requests()), ((0, 0), 0));
    assert_eq!(misaki.finish().await, []);
}

/// What the config says is sent along with every request, by both exporters.
#[tokio::test]
async fn exporters_send_their_headers() {
    let upstream = Upstream::start().await;
    let changes = "{exporters: {otlp: {headers: {X-Tenant: edge}}, otlp_http: {headers: {X-Tenant: edge}}}, service: {pipelines: {logs: {exporters: [otlp, otlp_http]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    assert!(misaki.send(&["a"]).await.ok);
    misaki.settle().await;
    let kind = |arrival: Arrival| (arrival.headers["x-tenant"].clone(), arrival.headers["content-type"].clone());
    let mut kinds: Vec<_> = upstream.arrivals().into_iter().map(kind).collect();
    kinds.sort_by_key(|(_, kind)| kind.to_str().unwrap().to_owned());
    assert_eq!(kinds[0], ("edge".parse().unwrap(), "application/grpc".parse().unwrap()));
    assert_eq!(kinds[1], ("edge".parse().unwrap(), "application/x-protobuf".parse().unwrap()));
    misaki.finish().await;
}

/// Many clients on several workers at once, a batch by time and size, two queues: nothing is lost, doubled or left lying.
#[tokio::test]
async fn many_clients_on_several_workers() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let changes = "{processors: {batch: {timeout: 2ms, send_batch_size: 7, send_batch_max_size: 8}}, service: {pipelines: {logs: {processors: [batch], exporters: [otlp, otlp/2]}}}}";
    let mut misaki = Misaki::start_on(3, changes, &[&first, &second]).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..12 {
        let ports = misaki.ports;
        clients.spawn(async move {
            for request in 0..10 {
                let via = [Via::Grpc, Via::Http, Via::Json][(client + request) % 3];
                let names = numbered(&format!("{client}-{request}-"), 1 + request % 5);
                // A batch that is full while another worker hands it on refuses: then it is nobody's, and comes again.
                while !ports.send_by(via, Signal::Logs, &refs(&names)).await.ok {}
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    until("nothing is held", || misaki.held() == 0).await;
    misaki.check();
    assert_eq!((first.kept_once().len(), first.kept_once()), (12 * 30, second.kept_once()));
    assert!(first.sizes().iter().all(|size| *size <= 8));
    misaki.finish().await;
}

/// Whoever looks sees telemetry come in, leave, and be dropped; when nobody looks any more, nothing is shown.
#[tokio::test]
async fn the_tap_shows_what_passes() {
    let upstream = Upstream::sequence([Reply::Accept, Reply::Grpc(9, "no", None)]).await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let viewer = move |point: Point, telemetry: &Telemetry| {
        notes.lock().unwrap().push(format!("{point:?} {}", telemetry.items()));
    };
    misaki.running.graph.tap.attach(Some(Arc::new(viewer)));
    for name in ["a", "b"] {
        assert!(misaki.send(&[name]).await.ok);
        misaki.settle().await;
    }
    misaki.running.graph.tap.attach(None);
    assert!(misaki.send(&["c"]).await.ok);
    misaki.settle().await;
    let expected = [
        "Received 1",
        "Leaving { exporter: \"otlp\" } 1",
        "Received 1",
        "Dropped { exporter: \"otlp\", reason: RejectedUpstream } 1",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    misaki.finish().await;
}

const UNAVAILABLE: &str = "{\"status\":\"Server not available\",\"upSince\":\"0001-01-01T00:00:00Z\",\"uptime\":\"\"}";

fn with_health(port: u16, exporter: &str) -> String {
    format!(
        "{{extensions: {{health_check: {{endpoint: \"127.0.0.1:{port}\"}}}}, exporters: {{otlp: {exporter}}}, service: {{extensions: [health_check]}}}}"
    )
}

/// An exporter that is refused for a setting of its own holds what it has: the collector is not available until it is let in.
#[tokio::test]
async fn health_is_red_while_an_exporter_holds() {
    let (upstream, port) = (Upstream::replying(Reply::Grpc(16, "token expired", None)).await, free_port().await);
    let mut misaki = Misaki::start(&with_health(port, "{}"), &[&upstream]).await;
    let (status, body) = get(port, "/").await;
    assert!(status == 200 && body.starts_with("{\"status\":\"Server available\",\"upSince\":\"20"), "{status} {body}");
    assert!(misaki.send(&["a"]).await.ok);
    until("it is refused", || upstream.requests() == 1).await;
    rest().await;
    assert_eq!(get(port, "/any/path").await, (503, UNAVAILABLE.to_owned()));
    upstream.script(|_| Reply::Accept);
    jump(61 * SECOND).await;
    misaki.settle().await;
    assert_eq!(get(port, "/").await.0, 200);
    assert_eq!(upstream.kept(), ["a"]);
    misaki.finish().await;
}

/// An upstream that is away is what the queue is for; one that refuses while the queue is full for longer than a moment is not.
#[tokio::test]
async fn health_is_red_while_a_queue_is_full() {
    let (upstream, port) = (Upstream::replying(Reply::Hang).await, free_port().await);
    let exporter = "{timeout: 0s, sending_queue: {queue_size: 1}}";
    let mut misaki = Misaki::start(&with_health(port, exporter), &[&upstream]).await;
    assert!(misaki.send(&["a"]).await.ok);
    assert_eq!(misaki.send(&["b"]).await.code, 503);
    assert_eq!(get(port, "/").await.0, 200, "a moment is nothing");
    jump(6 * SECOND).await;
    // The thread of the health check has a clock of its own, which the test does not move.
    assert!(misaki.running.health.verdict().is_err());
    upstream.release();
    misaki.settle().await;
    assert_eq!(get(port, "/").await.0, 200);
    misaki.finish().await;
}

/// Whoever balances load over collectors is told before the port closes.
#[tokio::test]
async fn health_is_red_during_a_drain() {
    let (upstream, port) = (Upstream::replying(Reply::Hang).await, free_port().await);
    let mut misaki = Misaki::start(&with_health(port, "{timeout: 0s}"), &[&upstream]).await;
    assert!(misaki.send(&["a"]).await.ok);
    until("it is under way", || upstream.requests() == 1).await;
    let probe = async {
        rest().await;
        let answer = get(port, "/").await;
        upstream.release();
        answer
    };
    let (balance, answer) = tokio::join!(misaki.finish(), probe);
    assert_eq!((answer, balance[0].exported), ((503, UNAVAILABLE.to_owned()), 1));
}

/// What is wrong with a chain of connectors, of which each joins two ways into one; `closes` leads the last one back.
fn mistakes_of_diamonds(layers: usize, closes: bool) -> String {
    let mut pipelines = String::new();
    let mut pipeline = |name: String, from: String, to: &[String]| {
        pipelines += &format!("logs/{name}: {{receivers: [{from}], exporters: [{}]}}, ", to.join(", "));
    };
    let connector = |layer: usize, side: &str| format!("forward/{side}{layer}");
    for layer in 0..layers {
        let both = [connector(layer + 1, "a"), connector(layer + 1, "b")];
        let from = |side| if layer == 0 { "otlp".to_owned() } else { connector(layer, side) };
        pipeline(format!("a{layer}"), from("a"), &both);
        pipeline(format!("b{layer}"), from("b"), &both);
    }
    let end = if closes { connector(1, "a") } else { "nop".to_owned() };
    pipeline("a".to_owned(), connector(layers, "a"), &[end]);
    pipeline("b".to_owned(), connector(layers, "b"), &["nop".to_owned()]);
    let connectors: Vec<_> =
        (1..=layers).flat_map(|layer| [connector(layer, "a"), connector(layer, "b")]).map(|id| id + ": ").collect();
    let text = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{nop: }}, connectors: {{{}}}, service: {{pipelines: {{{pipelines}}}}}}}",
        connectors.join(", ")
    );
    let loaded = misaki::face::config::load(&[text], &[], &|_| None);
    misaki::face::service::Plan::read(&loaded);
    loaded.problems.render(&loaded.sources, false)
}

#[test]
fn ways_may_join_again_and_not_lead_back() {
    assert_eq!(mistakes_of_diamonds(40, false), "");
    let back = mistakes_of_diamonds(40, true);
    assert!(back.contains("cycle detected: pipeline logs/a1 feeds itself through connectors"), "{back}");
    assert!(!back.contains("pipeline logs/a0 feeds") && !back.contains("pipeline logs/b feeds"), "{back}");
}
