//! Reloads: what is the same keeps its sockets, connections and telemetry; the rest drains; nothing accepted is lost, and
//! the ledger balances across them.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use misaki::face::network::tls;
use misaki::face::telemetry::Signal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::harness::*;
use super::tls::{Authority, client};

const SECOND: Duration = Duration::from_secs(1);

/// A client that stays connected.
struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<hyper::Result<()>>,
}

impl Client {
    async fn connect(ports: Ports) -> Client {
        Client::on(TcpStream::connect(ports.http).await.unwrap()).await
    }

    /// With TLS, where this authority is believed.
    async fn trusting(authority: &Authority, ports: Ports) -> Option<Client> {
        let tls = client(authority.ca());
        let (config, name) = (tls::client_config(&tls, &[b"http/1.1"]).unwrap(), tls.server_name("localhost").unwrap());
        let stream = Box::new(TcpStream::connect(ports.http).await.unwrap());
        Some(Client::on(tls::connect(stream, config, name).await.ok()?).await)
    }

    async fn on(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Client {
        let io = TokioIo::new(stream);
        let (sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        Client { sender, _driver: drivers }
    }

    /// The status; fails when the connection was closed.
    async fn send(&mut self, names: &[&str]) -> u16 {
        self.sender.ready().await.expect("still connected");
        let request = Request::post("/v1/logs").header("host", "edge").header("content-type", "application/x-protobuf");
        let body = Full::new(Bytes::from(request_body(names)));
        let answer = self.sender.send_request(request.body(body).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        answer.into_body().collect().await.unwrap();
        status
    }
}

fn request_body(names: &[&str]) -> Vec<u8> {
    request(Signal::Logs, names)
}

fn filtering(body: &str) -> String {
    format!(
        "{{processors: {{batch: {{timeout: 1ms}}, filter: {{logs: {{log_record: ['body == \"{body}\"']}}}}}}, service: {{pipelines: {{logs: {{processors: [filter, batch]}}}}}}}}"
    )
}

/// Requests flow while the filter is changed again and again: each is answered with success on the connection it came on,
/// and what no filter names arrives once.
#[tokio::test]
async fn requests_flow_on_while_a_filter_changes() {
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start_on(3, &filtering("x"), &[&upstream]).await;
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let ports = misaki.ports;
        clients.spawn(async move {
            let mut connection = Client::connect(ports).await;
            for request in 0..100 {
                let name = format!("{client}-{request}");
                assert_eq!(connection.send(&[&name, "x", "y"]).await, 200);
            }
        });
    }
    for round in 0..20 {
        misaki.reload(&filtering(if round % 2 == 0 { "y" } else { "x" }), &[&upstream]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    until("nothing is held", || misaki.held() == 0).await;
    misaki.check();
    let mut kept = upstream.kept();
    let others = kept.iter().filter(|name| ["x", "y"].contains(&name.as_str())).count();
    assert_eq!(others, 400, "each request lost one of both");
    kept.retain(|name| name.contains('-'));
    kept.sort();
    kept.dedup();
    assert_eq!(kept.len(), 400);
    assert_eq!(misaki.running.intake(), (1200, 0));
    assert_eq!(misaki.line("otlp"), "logs to otlp: 1200 accepted = 800 exported + 400 filtered + 0 dropped + 0 left");
    misaki.finish().await;
}

/// Under load, twenty reloads that change the batch, the queue, where the exporter sends to, the pipeline, and some that
/// cannot be done: each item arrives once, nobody is refused, and the ledger balances.
#[tokio::test]
async fn each_item_arrives_once_across_twenty_reloads() {
    const CLIENTS: usize = 4;
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let taken = Upstream::start().await;
    let config = |processors: &str, exporter: &str, pipeline: &str| {
        format!(
            "{{processors: {{batch: {{timeout: 2ms, {processors}}}, batch/2: {{timeout: 3ms}}}}, exporters: {{otlp: {{{exporter}}}}}, service: {{pipelines: {{logs: {{{pipeline}}}}}}}}}"
        )
    };
    let batched = "processors: [batch]";
    let configs = [
        config("send_batch_size: 10", "", batched),
        config("send_batch_size: 7", "", batched),
        config("send_batch_size: 7", "sending_queue: {queue_size: 3000}", batched),
        config("send_batch_size: 7", "sending_queue: {queue_size: 3000}, timeout: 3s", "processors: [batch, batch/2]"),
        config("send_batch_size: 8", "sending_queue: {enabled: false}", "processors: [batch/2, batch]"),
        config("send_batch_size: 8", "", "exporters: [otlp/2]"),
        "{receivers: {otlp: {protocols: {http: {tls: {cert_file: none.pem, key_file: none.pem}}}}}}".to_owned(),
        format!("{{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{}\"}}}}}}}}}}", taken.address),
    ];
    let mut misaki = Misaki::start_on(3, &configs[0], &[&one, &one]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (ports, stopped) = (misaki.ports, stopped.clone());
        clients.spawn(async move {
            let (mut connection, mut sent) = (Client::connect(ports).await, Vec::new());
            while !*stopped.borrow() {
                let name = format!("{client}-{}", sent.len());
                assert_eq!(connection.send(&[&name]).await, 200);
                sent.push(name);
            }
            sent
        });
    }
    for round in 0..20 {
        let to = if round % 3 == 0 { &other } else { &one };
        let is_wrong = round % configs.len() > 5;
        assert_eq!(misaki.reload(&configs[round % configs.len()], &[to, to]).await.is_err(), is_wrong, "{round}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(true).unwrap();
    let mut sent = clients.join_all().await.concat();
    until("nothing is held", || misaki.held() == 0).await;
    misaki.check();
    let mut arrived = [one.kept(), other.kept()].concat();
    sent.sort();
    arrived.sort();
    assert_eq!(arrived, sent);
    let count = sent.len() as u64;
    assert_eq!(misaki.running.intake(), (count, 0));
    let balance = misaki.finish().await;
    assert_eq!(
        balance.iter().map(|line| (line.accepted, line.exported)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (count, count)
    );
}

/// What a reload says that it did.
#[tokio::test]
async fn what_has_changed_is_said() {
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start("{processors: {batch: {timeout: 1s}}}", &[&upstream]).await;
    let changes = misaki.reload("{processors: {batch: {timeout: 1s}}}", &[&upstream]).await.unwrap();
    assert_eq!((changes.kept, changes.changed.len() + changes.added.len() + changes.removed.len()), (7, 0));
    let config = "{processors: {filter: {}}, exporters: {otlp: {timeout: 1s}}, service: {pipelines: {logs: {processors: [filter]}}}}";
    let changes = misaki.reload(config, &[&upstream]).await.unwrap();
    assert_eq!(changes.changed, ["exporters.otlp", "service.pipelines.logs"]);
    assert_eq!(
        (changes.added, changes.removed, changes.kept),
        (vec!["processors.filter".into()], vec!["processors.batch".into()], 4)
    );
    misaki.finish().await;
}

/// An authenticator belongs to whoever names it: other tokens hold at once, on connections that stay, and in exporters.
#[tokio::test]
async fn authenticators_go_through_a_reload() {
    let upstream = Upstream::start().await;
    let config = |token: &str, more: &str| {
        format!(
            "{{extensions: {{bearertokenauth: {{token: {token}}}}}, receivers: {{otlp: {{protocols: {{http: {{auth: {{authenticator: bearertokenauth}}{more}}}}}}}}}, exporters: {{otlp: {{auth: {{authenticator: bearertokenauth}}}}}}, service: {{extensions: [bearertokenauth]}}}}"
        )
    };
    let mut misaki = Misaki::start(&config("first", ""), &[&upstream]).await;
    let sends = async |misaki: &Misaki, token: &str, name: &str| {
        let header = format!("Bearer {token}");
        misaki.post(Via::Http, Signal::Logs, request_body(&[name]), &[("authorization", &header)]).await.code
    };
    assert_eq!(sends(&misaki, "first", "a").await, 200);
    misaki.reload(&config("first", ", max_request_body_size: 1000"), &[&upstream]).await.unwrap();
    assert_eq!((sends(&misaki, "first", "b").await, sends(&misaki, "second", "no").await), (200, 401));
    let changes = misaki.reload(&config("second", ", max_request_body_size: 1000"), &[&upstream]).await.unwrap();
    assert_eq!(changes.changed, ["exporters.otlp", "extensions.bearertokenauth", "receivers.otlp"]);
    assert_eq!((sends(&misaki, "first", "no").await, sends(&misaki, "second", "c").await), (401, 200));
    misaki.settle().await;
    let arrivals = upstream.arrivals();
    let tokens: Vec<_> = arrivals.iter().map(|arrival| arrival.headers["authorization"].to_str().unwrap()).collect();
    assert_eq!(
        (upstream.kept_once(), tokens),
        (vec!["a".into(), "b".into(), "c".into()], vec!["Bearer first", "Bearer first", "Bearer second"])
    );
    misaki.finish().await;
}

/// One that stays knows what it knew, though its file is gone; another that cannot be read is refused.
#[tokio::test]
async fn an_authenticator_keeps_what_it_knows() {
    let (upstream, folder) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let config = |file: &str, more: &str| {
        let file = folder.path().join(file).display().to_string();
        format!(
            "{{extensions: {{bearertokenauth: {{filename: {file}}}}}, receivers: {{otlp: {{protocols: {{http: {{auth: {{authenticator: bearertokenauth}}{more}}}}}}}}}, service: {{extensions: [bearertokenauth]}}}}"
        )
    };
    std::fs::write(folder.path().join("token"), "first").unwrap();
    let mut misaki = Misaki::start(&config("token", ""), &[&upstream]).await;
    std::fs::remove_file(folder.path().join("token")).unwrap();
    misaki.reload(&config("token", ", max_request_body_size: 1000"), &[&upstream]).await.unwrap();
    let error = misaki.reload(&config("other", ""), &[&upstream]).await.unwrap_err();
    assert!(error.starts_with("cannot read ") && error.ends_with(" (extensions.bearertokenauth)"), "{error}");
    let headers = [("authorization", "Bearer first")];
    assert_eq!(misaki.post(Via::Http, Signal::Logs, request_body(&["a"]), &headers).await.code, 200);
    misaki.settle().await;
    misaki.finish().await;
}

/// Certificates are read again though nothing in the config has changed: new connections are shown the new one, those that
/// are open stay; one that is broken keeps everything as it is.
#[tokio::test]
async fn certificates_are_read_again() {
    let (upstream, folder) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let (old, new) = (Authority::new(), Authority::new());
    old.write(&cert, &key);
    let tls = format!("tls: {{cert_file: {}, key_file: {}, reload_interval: 0s}}", cert.display(), key.display());
    let config = format!("{{receivers: {{otlp: {{protocols: {{http: {{{tls}}}}}}}}}}}");
    let mut misaki = Misaki::start(&config, &[&upstream]).await;
    let mut open = Client::trusting(&old, misaki.ports).await.unwrap();
    assert_eq!(open.send(&["a"]).await, 200);
    new.write(&cert, &key);
    assert!(Client::trusting(&new, misaki.ports).await.is_none(), "not read before it is asked for");
    assert_eq!(misaki.reload(&config, &[&upstream]).await.unwrap().changed.len(), 0);
    assert!(Client::trusting(&old, misaki.ports).await.is_none());
    assert_eq!(Client::trusting(&new, misaki.ports).await.unwrap().send(&["b"]).await, 200);
    std::fs::write(&cert, "rotation went wrong").unwrap();
    let error = misaki.reload(&config, &[&upstream]).await.unwrap_err();
    assert!(error.starts_with("failed to load TLS config (receivers.otlp.protocols.http): cert_file "), "{error}");
    assert_eq!(Client::trusting(&new, misaki.ports).await.unwrap().send(&["c"]).await, 200);
    assert_eq!(open.send(&["d"]).await, 200, "on the connection of the first certificate");
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), ["a", "b", "c", "d"]);
    misaki.finish().await;
}

/// What a stage and a queue hold stays there when only something else changes, and goes out when it is due.
#[tokio::test]
async fn unchanged_stages_keep_what_they_hold() {
    let upstream = Upstream::start().await;
    let config = |first: &str| {
        format!(
            "{{processors: {{batch: {{timeout: 1h, send_batch_size: 3}}, filter: {{logs: {{log_record: ['body == \"{first}\"']}}}}}}, service: {{pipelines: {{logs: {{processors: [batch, filter]}}}}}}}}"
        )
    };
    let mut misaki = Misaki::start(&config("a"), &[&upstream]).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    misaki.reload(&config("b"), &[&upstream]).await.unwrap();
    rest().await;
    assert_eq!((misaki.held(), upstream.requests()), (2, 0));
    // The batch went on, what follows it is new.
    assert!(misaki.send(&["c"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["a", "c"]);
    misaki.finish().await;
}

/// A stage whose settings change hands on what it holds at once.
#[tokio::test]
async fn a_changed_stage_drains() {
    let upstream = Upstream::start().await;
    let config = |size: u32| {
        format!(
            "{{processors: {{batch: {{timeout: 1h, send_batch_size: {size}}}, batch/2: {{timeout: 1h}}}}, service: {{pipelines: {{logs: {{processors: [batch, batch/2]}}}}}}}}"
        )
    };
    let mut misaki = Misaki::start(&config(10), &[&upstream]).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    misaki.reload(&config(20), &[&upstream]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Into the second, which is as it was.
    assert_eq!((misaki.held(), upstream.requests()), (2, 0));
    assert!(misaki.send(&["c"]).await.ok);
    let balance = misaki.finish().await;
    assert_eq!((balance[0].exported, balance[0].left), (3, 0), "both of two batches in a row drained");
    assert_eq!(upstream.kept_once(), ["a", "b", "c"]);
}

/// A batch that a stage holds, planned and without a place, goes its old way as long as that lives: into the queue before this one,
/// wherever that sends by now. Behind it all goes the new way.
#[tokio::test]
async fn a_batch_that_is_held_goes_across_a_reload() {
    let config = |filtered: &str, queue: &str, timeout: &str| {
        format!(
            "{{processors: {{batch: {{timeout: {timeout}, send_batch_size: 1}}, filter: {{logs: {{log_record: ['body == \"{filtered}\"']}}}}}}, exporters: {{otlp: {{timeout: 0s, sending_queue: {queue}}}}}, service: {{pipelines: {{logs: {{processors: [batch, filter]}}}}}}}}"
        )
    };
    const QUEUE: &str = "{queue_size: 1, num_consumers: 1}";
    let cases = [
        ("the processor behind it", config("y", QUEUE, "1h"), false),
        ("the queue", config("x", "{queue_size: 2, num_consumers: 1}", "1h"), false),
        ("the stage", config("x", QUEUE, "2h"), false),
        ("all of it", config("y", "{queue_size: 2, num_consumers: 1}", "2h"), false),
        ("where it is sent", config("x", QUEUE, "1h"), true),
        ("all of it, and where it is sent", config("y", "{queue_size: 2, num_consumers: 1}", "2h"), true),
    ];
    for (what, changed, moves) in cases {
        let away = if moves { Reply::Grpc(14, "away", None) } else { Reply::Hang };
        let (old, new) = (Upstream::replying(away).await, Upstream::start().await);
        let mut misaki = Misaki::start(&config("x", QUEUE, "1h"), &[&old]).await;
        for names in [["a", "x"], ["b", "x"]] {
            misaki.submit(Signal::Logs, &names).await.unwrap();
            rest().await;
        }
        assert!(misaki.submit(Signal::Logs, &["refused"]).await.is_err(), "{what}: b is held");
        misaki.reload(&changed, &[if moves { &new } else { &old }]).await.unwrap();
        misaki.check();
        if !moves {
            old.release();
        }
        let kept = || [old.kept(), new.kept()].concat();
        until(&format!("all has arrived after a reload of {what}"), || {
            kept().iter().any(|name| name == "b") && misaki.held() == 0
        })
        .await;
        misaki.submit(Signal::Logs, &["c", "x"]).await.unwrap();
        old.release();
        misaki.settle().await;
        let mut arrived = kept();
        arrived.sort();
        arrived.dedup();
        let filtered: u64 = misaki.running.balance().iter().map(|line| line.filtered).sum();
        let left = arrived.iter().filter(|name| *name != "x").count() as u64;
        assert_eq!((left, misaki.running.balance()[0].accepted), (3, 6), "{what}: {arrived:?}");
        assert!(filtered >= 2, "{what}: {filtered}");
        misaki.finish().await;
    }
}

/// A stage that a reload replaces waits for a full exporter beside others as long as ever: no share is dropped.
#[tokio::test]
async fn a_reload_does_not_hurry_a_batch_that_is_held() {
    let config = |timeout: &str| {
        format!(
            "{{processors: {{batch: {{timeout: {timeout}, send_batch_size: 1}}}}, exporters: {{otlp: {{sending_queue: {{queue_size: 1}}}}, otlp/2: {{}}}}, service: {{pipelines: {{logs: {{processors: [batch], exporters: [otlp, otlp/2]}}}}}}}}"
        )
    };
    let (mut away, there) = (Upstream::absent(), Upstream::start().await);
    let mut misaki = Misaki::start(&config("1h"), &[&away, &there]).await;
    for name in ["a", "b"] {
        misaki.submit(Signal::Logs, &[name]).await.unwrap();
        rest().await;
    }
    jump(5 * SECOND).await;
    misaki.reload(&config("2h"), &[&away, &there]).await.unwrap();
    for _ in 0..10 {
        jump(SECOND).await;
        rest().await;
    }
    away.appear();
    misaki.settle().await;
    assert_eq!((away.kept_once().len(), there.kept_once().len()), (2, 2));
    misaki.finish().await;
}

/// Traces that are not decided on stay with a sampler that is as it was, and go on at once from one that changes.
#[tokio::test]
async fn a_sampler_keeps_its_traces() {
    let upstream = Upstream::start().await;
    let config = |wait: &str, timeout: &str| {
        format!(
            "{{processors: {{tail_sampling: {{decision_wait: {wait}, policies: [{{name: all, type: always_sample}}]}}}}, exporters: {{otlp: {{timeout: {timeout}}}}}, service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [otlp]}}}}}}}}"
        )
    };
    let mut misaki = Misaki::start(&config("1h", "1s"), &[&upstream]).await;
    assert!(misaki.send_by(Via::Http, Signal::Traces, &["a"]).await.ok);
    misaki.reload(&config("1h", "2s"), &[&upstream]).await.unwrap();
    rest().await;
    assert_eq!((misaki.held(), upstream.requests()), (1, 0));
    misaki.reload(&config("2h", "2s"), &[&upstream]).await.unwrap();
    until("it is decided on", || upstream.kept_once() == ["a"]).await;
    misaki.settle().await;
    misaki.finish().await;
}

/// An exporter that is gone sends what its queue holds, and nothing new; the ledger keeps its line.
#[tokio::test]
async fn a_removed_exporter_sends_what_it_holds() {
    let (gone, stays) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let one = "{exporters: {otlp: {timeout: 0s, sending_queue: {num_consumers: 1}}}}";
    let two = "{service: {pipelines: {logs: {exporters: [otlp/2]}}}}";
    let mut misaki = Misaki::start(one, &[&gone, &stays]).await;
    for name in ["a", "b", "c"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    misaki.reload(two, &[&gone, &stays]).await.unwrap();
    assert!(misaki.send(&["d"]).await.ok);
    until("the new one has it", || stays.kept() == ["d"]).await;
    until("that is counted", || misaki.held() == 3).await;
    gone.release();
    until("nothing is held", || misaki.held() == 0).await;
    assert_eq!((gone.kept_once().join(""), stays.kept_once().join("")), ("abc".into(), "d".into()));
    assert_eq!(misaki.line("otlp"), "logs to otlp: 3 accepted = 3 exported + 0 dropped + 0 left");
    assert_eq!(misaki.line("otlp/2"), "logs to otlp/2: 1 accepted = 1 exported + 0 dropped + 0 left");
    misaki.finish().await;
}

/// The same when the collector stops before it is rid of it: the drain waits for that too.
#[tokio::test]
async fn a_drain_waits_for_what_a_reload_left() {
    let (gone, stays) = (Upstream::replying(Reply::Hang).await, Upstream::start().await);
    let mut misaki = Misaki::start("{exporters: {otlp: {timeout: 0s}}}", &[&gone, &stays]).await;
    assert!(misaki.send(&["a"]).await.ok);
    misaki.reload("{service: {pipelines: {logs: {exporters: [otlp/2]}}}}", &[&gone, &stays]).await.unwrap();
    until("it is under way", || gone.requests() == 1).await;
    gone.release();
    let balance = misaki.finish().await;
    assert_eq!((balance[0].exported, balance[0].left), (1, 0));
}

/// The way out of an expired token: the new one is used at once for what was held, and each item arrives once.
#[tokio::test]
async fn what_is_held_goes_the_new_way() {
    let (wrong, right) = (Upstream::replying(Reply::Grpc(16, "token expired", None)).await, Upstream::start().await);
    let mut misaki = Misaki::start("{}", &[&wrong]).await;
    assert!(misaki.send(&["a"]).await.ok);
    until("it is held", || wrong.requests() == 1).await;
    misaki.reload("{exporters: {otlp: {headers: {authorization: Bearer new}}}}", &[&right]).await.unwrap();
    misaki.settle().await;
    assert_eq!((right.kept_once(), wrong.requests()), (vec!["a".to_owned()], 1));
    assert_eq!(right.arrivals()[0].headers["authorization"], "Bearer new");
    // Also into a queue of other settings: the one before drains.
    right.script(|_| Reply::Grpc(16, "token expired", None));
    assert!(misaki.send(&["b"]).await.ok);
    until("it is held", || right.requests() == 2).await;
    right.script(|_| Reply::Accept);
    misaki.reload("{exporters: {otlp: {sending_queue: {queue_size: 7}}}}", &[&right]).await.unwrap();
    until("nothing is held", || misaki.held() == 0).await;
    assert_eq!(right.kept_once(), ["a", "b"]);
    misaki.finish().await;
}

/// A queue on disk keeps what it holds, and what is not possible while it runs is refused with everything as it was.
#[tokio::test]
async fn a_queue_on_disk_is_kept() {
    let (upstream, directory) = (Upstream::replying(Reply::Http(503, None)).await, tempfile::tempdir().unwrap());
    let config = |queue: &str, pipeline: &str| {
        let directory = directory.path().display();
        format!(
            "{{extensions: {{file_storage: {{directory: {directory}}}}}, exporters: {{otlp_http: {{sending_queue: {{storage: file_storage, {queue}}}}}}}, service: {{extensions: [file_storage], pipelines: {{logs: {{exporters: [{pipeline}]}}}}}}}}"
        )
    };
    let mut misaki = Misaki::start(&config("queue_size: 10", "otlp_http"), &[&upstream, &upstream]).await;
    assert!(misaki.send(&["a"]).await.ok);
    misaki.reload(&config("queue_size: 10", "otlp_http, otlp/2"), &[&upstream, &upstream]).await.unwrap();
    assert_eq!(misaki.held(), 1);
    let refused = misaki.reload(&config("queue_size: 11", "otlp_http"), &[&upstream]).await.unwrap_err();
    assert!(refused.ends_with("while it runs: restart (exporters.otlp_http)"), "{refused}");
    assert!(misaki.send(&["b"]).await.ok);
    // Removed, it sends what is on disk before it is closed.
    misaki.reload("{service: {pipelines: {logs: {exporters: [otlp/2]}}}}", &[&upstream, &upstream]).await.unwrap();
    assert!(misaki.held() > 0);
    let early = misaki.reload(&config("queue_size: 10", "otlp_http"), &[&upstream, &upstream]).await.unwrap_err();
    assert!(early.ends_with("still being sent: add it later (exporters.otlp_http)"), "{early}");
    upstream.script(|_| Reply::Accept);
    until("nothing is held", || misaki.held() == 0).await;
    assert_eq!(misaki.line("otlp_http"), "logs to otlp_http: 2 accepted = 2 exported + 0 dropped + 0 left");
    // It may come back, with other settings.
    let started = std::time::Instant::now();
    while misaki.reload(&config("queue_size: 11", "otlp_http"), &[&upstream, &upstream]).await.is_err() {
        assert!(started.elapsed() < 10 * SECOND);
        rest().await;
    }
    assert!(misaki.send(&["c"]).await.ok);
    misaki.settle().await;
    let mut kept = upstream.kept();
    kept.sort();
    assert_eq!(kept, ["a", "b", "b", "c"], "there were two exporters for b");
    misaki.finish().await;
}

/// A port that moves: the old one answers what it was asked and closes, the new one is open before; the other protocol's
/// socket stays.
#[tokio::test]
async fn a_listener_moves() {
    let (upstream, port) = (Upstream::start().await, free_port().await);
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let before = misaki.ports;
    let moved = format!("{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"}}}}}}}}}}");
    misaki.reload(&moved, &[&upstream]).await.unwrap();
    assert_eq!((misaki.ports.http.port(), misaki.ports.grpc), (port, before.grpc));
    assert!(misaki.send(&["a"]).await.ok);
    assert!(misaki.send_by(Via::Grpc, Signal::Logs, &["b"]).await.ok);
    let mut closed = false;
    let started = std::time::Instant::now();
    while !closed && started.elapsed() < 5 * SECOND {
        closed = TcpStream::connect(before.http).await.is_err();
        rest().await;
    }
    assert!(closed, "the old port is closed");
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), ["a", "b"]);
    misaki.finish().await;
}

/// Other settings on the same endpoint, another name, a further signal: the socket stays, nobody is refused a connection.
#[tokio::test]
async fn a_listener_with_other_settings_keeps_its_socket() {
    let (upstream, port) = (Upstream::start().await, free_port().await);
    let config = |name: &str, more: &str| {
        format!(
            "{{receivers: {{{name}: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"{more}}}}}}}}}, service: {{pipelines: {{logs: {{receivers: [{name}]}}}}}}}}"
        )
    };
    let mut misaki = Misaki::start(&config("otlp/edge", ""), &[&upstream]).await;
    let mut client = Client::connect(misaki.ports).await;
    assert_eq!(client.send(&["a"]).await, 200);
    assert_eq!(misaki.send_by(Via::Http, Signal::Traces, &["no"]).await.code, 404);
    let traces = config("otlp/edge", "")
        .replace("pipelines: {", "pipelines: {traces: {receivers: [otlp/edge], exporters: [otlp]}, ");
    misaki.reload(&traces, &[&upstream]).await.unwrap();
    assert_eq!(client.send(&["b"]).await, 200, "on the same connection");
    assert!(misaki.send_by(Via::Http, Signal::Traces, &["c"]).await.ok);
    misaki.reload(&config("otlp/edge", ", max_request_body_size: 100"), &[&upstream]).await.unwrap();
    assert_eq!(misaki.send(&["d".repeat(200).as_str()]).await.code, 413);
    misaki.reload(&config("otlp/other", ""), &[&upstream]).await.unwrap();
    assert!(misaki.send(&["e"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), ["a", "b", "c", "e"]);
    misaki.finish().await;
}

/// A config that cannot be used, here for a port that is taken, changes nothing.
#[tokio::test]
async fn a_config_that_cannot_be_used_changes_nothing() {
    let (upstream, taken) = (Upstream::start().await, Upstream::start().await);
    let held = "processors: {batch: {timeout: 1h, send_batch_size: 2}}";
    let pipeline = "service: {pipelines: {logs: {processors: [batch]}}}";
    let mut misaki = Misaki::start(&format!("{{{held}, {pipeline}}}"), &[&upstream]).await;
    let mut client = Client::connect(misaki.ports).await;
    assert_eq!(client.send(&["a"]).await, 200);
    let address = taken.address;
    let wrong = format!("{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"{address}\"}}}}}}}}}}");
    let error = misaki.reload(&wrong, &[&taken]).await.unwrap_err();
    let place = format!("cannot listen on {address} (receivers.otlp.protocols.http): address in use");
    assert!(error.starts_with(&place), "{error}");
    assert_eq!((client.send(&["b"]).await, misaki.running.intake()), (200, (2, 0)));
    misaki.settle().await;
    assert_eq!((upstream.sizes(), taken.requests()), (vec![2], 0));
    misaki.finish().await;
}

/// SIGHUP: a config with mistakes is refused with their places and the one before stays; a right one is used.
#[cfg(unix)]
#[tokio::test]
async fn sighup_reads_the_config_again() {
    use std::process::{Command, Stdio};

    struct Ended(std::process::Child);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    let (directory, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await);
    let (config, log) = (directory.path().join("config.yaml"), directory.path().join("log"));
    let port = free_port().await;
    let write = |exporter: &str| {
        let text = format!(
            "receivers:\n  otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"}}}}}}\nexporters:\n  {exporter}\nservice:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}\n"
        );
        std::fs::write(&config, text).unwrap();
    };
    let says = |words: &str| std::fs::read_to_string(&log).unwrap().contains(words);
    write("otlp_http: {endpoint: \"http://127.0.0.1:9\", retry_on_failure: {initial_interval: 1h, max_interval: 1h}}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command
        .arg("--config")
        .arg(&config)
        .env("XDG_RUNTIME_DIR", directory.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut child = Ended(command.spawn().unwrap());
    let id = child.0.id().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").arg(name).arg(&id).status().unwrap().success());
    };
    until("it runs", || says("Everything is ready")).await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let ports = Ports { grpc: address, http: address };
    let mut client = Client::connect(ports).await;
    assert_eq!(client.send(&["a"]).await, 200);
    write("otlp_http: {endpont: \"http://127.0.0.1:9\"}");
    signal("-HUP");
    until("it refuses", || says("going on with the one before")).await;
    assert!(says("config.yaml:4:15") && says("unknown key \"endpont\""), "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(client.send(&["b"]).await, 200);
    // A pipe would hold up everything, SIGTERM with it.
    std::fs::remove_file(&config).unwrap();
    pipe(&config);
    signal("-HUP");
    until("it refuses the pipe", || says("it is a pipe")).await;
    let status = || {
        let output = Command::new(env!("CARGO_BIN_EXE_misaki"))
            .args(["status", "--pid", &id])
            .env("XDG_RUNTIME_DIR", directory.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    until("it says so", || {
        let page = status();
        page.contains("running the configuration of ")
            && page.contains(" was refused:")
            && page.contains("cannot read ")
    })
    .await;
    std::fs::remove_file(&config).unwrap();
    // So would one that telemetry is written to, without a reader.
    for name in ["for_file", "for_debug"] {
        let outlet = directory.path().join(name);
        pipe(&outlet);
        let used = "endpoint: \"http://127.0.0.1:9\", retry_on_failure: {initial_interval: 1h, max_interval: 1h}";
        let other = match name {
            "for_file" => format!("file: {{path: {}}}", outlet.display()),
            _ => format!("debug: {{output_paths: [{}]}}", outlet.display()),
        };
        write(&format!("otlp_http: {{{used}}}\n  {other}"));
        let text = std::fs::read_to_string(&config).unwrap();
        let exporter = other.split(':').next().unwrap();
        std::fs::write(&config, text.replace("[otlp_http]", &format!("[otlp_http, {exporter}]"))).unwrap();
        signal("-HUP");
        let refusal = format!("{name}: it is a pipe, and nobody reads from it");
        until("it refuses the pipe", || says(&refusal)).await;
    }
    assert_eq!(client.send(&["b2"]).await, 200);
    write(&format!("otlp_http: {{endpoint: \"http://{}\", compression: none}}", upstream.address));
    signal("-HUP");
    until("it uses the other", || says("the config was read again and is in use")).await;
    assert!(!status().contains("refused:"), "{}", status());
    assert_eq!(client.send(&["c"]).await, 200);
    until("all arrived", || upstream.kept_once() == ["a", "b", "b2", "c"]).await;
    assert!(says("changed\": \"exporters.otlp_http\""), "{}", std::fs::read_to_string(&log).unwrap());
    signal("-HUP");
    signal("-HUP");
    assert_eq!(client.send(&["d"]).await, 200);
    until("all arrived", || upstream.kept_once().len() == 5).await;
    // One that comes while it drains ends nothing.
    upstream.script(|_| Reply::Hang);
    assert_eq!(client.send(&["e"]).await, 200);
    until("it is under way", || upstream.requests() == 6).await;
    signal("-TERM");
    until("it drains", || says("draining")).await;
    signal("-HUP");
    until("it says no", || says("the config is not read again")).await;
    upstream.release();
    let mut ended = None;
    until("it ends", || {
        ended = child.0.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    let status = ended.unwrap();
    assert!(status.success() && says("logs to otlp_http: 6 accepted = 6 exported + 0 dropped + 0 left"));
}

/// At a start a config may come through a pipe, as `--config <(…)` hands it over.
#[cfg(unix)]
#[test]
fn a_config_comes_through_a_pipe() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(["validate", "--config", "/dev/fd/0"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"receivers: {otlp: {protocols: {http: }}}\nexporters: {nop: }\n").unwrap();
    stdin.write_all(b"service: {pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A port that both protocols name is not blamed on another collector.
#[tokio::test]
async fn one_port_for_both_protocols() {
    let port = free_port().await;
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let both = |grpc: &str, http: &str| {
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{grpc}:{port}\"}}, http: {{endpoint: \"{http}:{port}\"}}}}}}}}"
        )
    };
    for (grpc, http) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")] {
        let refused = misaki.reload(&both(grpc, http), &[&upstream]).await.unwrap_err();
        let expected = format!(
            "cannot listen on {http}:{port} (receivers.otlp.protocols.http): both protocols of otlp name this port\n  help: give each its own; either one serves both"
        );
        assert_eq!(refused, expected);
    }
    misaki.finish().await;
}

/// Reloads are counted, as used or refused.
#[tokio::test]
async fn reloads_are_counted() {
    use misaki::face::diagnostics::{Observe, Page};

    let misaki = Misaki::start("{}", &[]).await;
    let reloads = misaki.running.reloads.clone();
    reloads.succeed();
    reloads.fail("error: one thing\nand another");
    reloads.fail("error: the last thing");
    let mut page = Page::default();
    reloads.observe(&mut page);
    let text = page.text();
    assert!(
        text.contains("misaki_config_reloads{result=\"success\"} 1\n")
            && text.contains("misaki_config_reloads{result=\"failure\"} 2\n"),
        "{text}"
    );
    assert_eq!(reloads.state().refused.unwrap().1, "the last thing");
    let rendered = "error: something is wrong, and it takes more than a line to\n       say so\n --> edge.yaml:9:21\n  |\nerror: more\n";
    reloads.fail(rendered);
    assert_eq!(
        reloads.state().refused.unwrap().1,
        "something is wrong, and it takes more than a line to say so (edge.yaml:9:21)"
    );
    reloads.fail("error: cannot listen\n  help: name another port\n");
    assert_eq!(reloads.state().refused.unwrap().1, "cannot listen");
    reloads.succeed();
    assert!(reloads.state().refused.is_none());
}
