//! The local socket: who is served, what is said; the ring, the feeds, and `misaki tail`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, PointKind, Subject, View, Viewers, Wanted};
use misaki::face::otlp::percent;
use misaki::face::telemetry::{Budget, Charge, Now, Part, Point, Reason, Share, Signal, Telemetry};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;
use crate::shop::recorded;
use crate::tree::pair;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Opens the socket of a collector in a directory of its own.
fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(vec!["test.yaml".into()], &misaki.running)).unwrap()
}

/// What the binary prints, and its exit status, while this thread serves.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn string(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) })
}

/// Log records of a service: body and severity, and whether it is on the trace.
fn logs(service: &str, records: &[(&str, i32, bool)]) -> Vec<u8> {
    let record = |(body, severity_number, traced): &(&str, i32, bool)| LogRecord {
        body: string(body),
        severity_number: *severity_number,
        trace_id: if *traced { u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes().to_vec() } else { Vec::new() },
        ..Default::default()
    };
    let name = KeyValue { key: "service.name".into(), value: string(service), ..Default::default() };
    let resource = Some(Resource { attributes: vec![name], ..Default::default() });
    let scope_logs = vec![ScopeLogs { log_records: records.iter().map(record).collect(), ..Default::default() }];
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..Default::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// One log record of `bytes` bytes.
fn telemetry(service: &str, body: &str, bytes: usize, received: Now) -> Telemetry {
    let wire = logs(service, &[(&format!("{body}{}", " ".repeat(bytes)), 9, body == "traced")]);
    let budget = Budget::new(1 << 30);
    let charge = Charge::take(&budget, Share::Ingest, wire.len() as u64).unwrap();
    let parts = [Part::new(wire, 1, charge)].into_iter().collect();
    Telemetry { signal: Signal::Logs, parts, client: None, received, tickets: Default::default() }
}

fn later(now: Now, millis: u64) -> Now {
    let by = Duration::from_millis(millis);
    Now { instant: now.instant + by, wall: now.wall + by }
}

fn wanted(expression: &str) -> Wanted {
    Wanted::read(expression).unwrap_or_else(|mistake| panic!("{expression}: {mistake:?}"))
}

/// All that is there to see: the bodies, and how many items were skipped.
fn seen(view: &mut View) -> (Vec<String>, u64) {
    let (mut bodies, mut skipped) = (Vec::new(), 0);
    while let Poll::Ready(Some(sighting)) = view.poll_next(&mut Context::from_waker(Waker::noop())) {
        let names = sighting.pieces.iter().flat_map(|piece| names(Signal::Logs, piece));
        bodies.extend(names.map(|name| name.trim_end().to_owned()));
        skipped += sighting.skipped;
    }
    (bodies, skipped)
}

/// The bodies in the ring.
fn kept(watch: &Arc<Viewers>, place: PointKind, since: Now) -> Vec<String> {
    seen(&mut watch.open(place, wanted(""), Some(since.instant)).unwrap()).0
}

#[tokio::test]
async fn the_socket_is_private_answers_and_goes_with_its_collector() {
    let directory = tempfile::tempdir().unwrap();
    let misaki = Misaki::start("{}", &[]).await;
    let path: PathBuf = directory.path().join("misaki.sock");
    // One that a collector left behind when it was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let inspection = open(&misaki, directory.path());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let socket = path.to_str().unwrap();
    let (status, out, err) = run(&["status", "--json", "--socket", socket]).await;
    assert_eq!((status, err.as_str()), (0, ""));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["config"], serde_json::json!(["test.yaml"]));
    drop(inspection);
    assert!(!path.exists());
    let (status, out, err) = run(&["status", "--socket", socket]).await;
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("error: cannot reach the collector at "), "{err}");
}

/// The collector that a person starts has a socket by itself, and `tail` finds it by its process.
#[tokio::test]
async fn a_collector_is_found_by_its_process_and_may_be_closed() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = "yaml:{receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}, exporters: {nop: {}}, service: {telemetry: {metrics: {level: none}}, pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}}";
    for (extra, is_there) in [("yaml:{}", true), ("yaml:{extensions: {inspect: {enabled: false}}}", false)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_misaki"))
            .args(["--config", yaml, "--config", extra, "--set", "service.telemetry.logs.level=info"])
            .env("XDG_RUNTIME_DIR", directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = |line: &String| line.contains("Everything is ready");
        assert!(lines.map_while(Result::ok).any(|line| ready(&line)));
        let socket = directory.path().join(format!("misaki/{}.sock", child.id()));
        // It is opened right behind that line.
        if is_there {
            until("the socket is there", || socket.exists()).await;
        }
        let status = Command::new(env!("CARGO_BIN_EXE_misaki"))
            .args(["status", "--pid", &child.id().to_string()])
            .env("XDG_RUNTIME_DIR", directory.path())
            .output()
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((status.status.success(), socket.exists()), (is_there, is_there));
        let said = String::from_utf8(status.stdout).unwrap();
        assert_eq!(said.contains("\n  config     --set service.telemetry.logs.level=info\n"), is_there, "{said}");
    }
}

/// A chatty service pushes out its own past, and nobody else's; the ring is never larger than it may be.
#[test]
fn the_ring_is_fair_and_bounded() {
    let (watch, start) = (Viewers::new(64 << 10), Now::read());
    for name in ["a", "b", "c"] {
        watch.look(Point::Received, &telemetry("quiet", name, 500, start));
    }
    for number in 0..500 {
        let now = later(start, 100 * number);
        watch.look(Point::Received, &telemetry("loud", &format!("l{number}"), 1000, now));
        assert!(watch.ring_bytes() <= 64 << 10);
    }
    let all = kept(&watch, PointKind::Received, start);
    assert_eq!(all[..3], ["a", "b", "c"]);
    assert!((40..60).contains(&(all.len() - 3)) && all.last().unwrap() == "l499", "{all:?}");
    assert_eq!(kept(&watch, PointKind::Received, later(start, 49_900)), ["l499"]);
    // Names that never end are no memory that never ends.
    for number in 0..5000 {
        let now = later(start, 60_000 + 10 * number);
        watch.look(Point::Received, &telemetry(&format!("service {number}"), "x", 100, now));
        assert!(watch.ring_bytes() <= 64 << 10);
    }
    // One that would fill it is not kept, and neither is anything where it has no room at all.
    watch.look(Point::Received, &telemetry("huge", "huge", 32 << 10, later(start, 900_000)));
    assert!(!kept(&watch, PointKind::Received, start).contains(&"huge".to_owned()));
    let none = Viewers::new(0);
    none.look(Point::Received, &telemetry("a", "a", 1, start));
    assert_eq!(none.ring_bytes(), 0);
}

/// Under load the ring takes some of the requests: as many a second as it can afford.
#[test]
fn the_ring_takes_no_more_than_its_allowance() {
    let (watch, start) = (Viewers::new(64 << 10), Now::read());
    let send = |now| (0..100).for_each(|_| watch.look(Point::Received, &telemetry("loud", "x", 1000, now)));
    send(start);
    let at_once = kept(&watch, PointKind::Received, start).len();
    assert!((11..=14).contains(&at_once), "{at_once}");
    send(later(start, 1000));
    let after_a_second = kept(&watch, PointKind::Received, start).len();
    assert!((22..=28).contains(&after_a_second), "{after_a_second}");
}

#[test]
fn what_was_dropped_is_kept_beside_what_came() {
    let (watch, start) = (Viewers::new(64 << 10), Now::read());
    watch.look(Point::Received, &telemetry("a", "came", 1, start));
    watch.look(Point::Leaving { exporter: "otlp" }, &telemetry("a", "left", 1, start));
    watch.look(Point::Dropped { exporter: "otlp", reason: Reason::TooLarge }, &telemetry("a", "lost", 1, start));
    assert_eq!(kept(&watch, PointKind::Received, start), ["came"]);
    assert_eq!(kept(&watch, PointKind::Dropped, start), ["lost"]);
    assert_eq!(kept(&watch, PointKind::Leaving, start), [""; 0]);
}

/// Who does not read is skipped over, hears how much it missed, and costs no more than its share of memory.
#[test]
fn a_slow_reader_is_skipped_over() {
    let (watch, start) = (Viewers::new(0), Now::read());
    let mut view = watch.open(PointKind::Received, wanted(""), None).unwrap();
    for number in 0..2000 {
        watch.look(Point::Received, &telemetry("a", &number.to_string(), 1, start));
    }
    let first = seen(&mut view);
    assert_eq!((first.0.len(), first.1), (512, 1488));
    for number in 0..3 {
        watch.look(Point::Received, &telemetry("a", &number.to_string(), 700 << 10, start));
    }
    assert_eq!(seen(&mut view), (vec!["0".to_owned()], 2));
    // One that is larger than all its room finds a place when there is nothing before it.
    watch.look(Point::Received, &telemetry("a", "large", 2 << 20, start));
    assert_eq!(seen(&mut view), (vec!["large".to_owned()], 0));
    // Who looks for a trace misses nothing of it in between.
    let mut traced = watch.open(PointKind::Received, wanted(TRACE), None).unwrap();
    for number in 0..2000 {
        let body = if number % 1000 == 999 { "traced" } else { "x" };
        watch.look(Point::Received, &telemetry("a", body, 10, start));
    }
    assert_eq!(seen(&mut traced), (vec!["traced".to_owned(); 2], 0));
}

#[test]
fn so_many_look_at_once_and_no_more() {
    let (watch, start) = (Viewers::new(0), Now::read());
    let mut views: Vec<_> =
        std::iter::from_fn(|| watch.open(PointKind::Received, wanted(""), None)).take(100).collect();
    assert_eq!(views.len(), 8);
    views.pop();
    assert!(watch.open(PointKind::Leaving, wanted(""), None).is_some());
    views.clear();
    watch.look(Point::Received, &telemetry("a", "nobody sees it", 1, start));
    assert_eq!(seen(&mut watch.open(PointKind::Received, wanted(""), None).unwrap()), (vec![], 0));
}

/// Whatever comes, and however little they read: those who look hold so much together, and large requests only one or two.
#[test]
fn all_who_look_hold_little_together() {
    let (watch, start) = (Viewers::new(0), Now::read());
    let mut views: Vec<_> = (0..8).map(|_| watch.open(PointKind::Received, wanted(""), None).unwrap()).collect();
    let look = |body: &str, bytes| watch.look(Point::Received, &telemetry("a", body, bytes, start));
    look("huge", 5 << 20);
    look("large", 3 << 20);
    (0..100).for_each(|_| look("small", 60 << 10));
    let next = |view: &mut View| match view.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(sighting)) => Some((sighting.event.bytes() >> 10, sighting.skipped, sighting)),
        _ => None,
    };
    // What is being written to them still counts.
    let held: Vec<Vec<_>> = views.iter_mut().map(|view| std::iter::from_fn(|| next(view)).collect()).collect();
    let seen: Vec<Vec<_>> =
        held.iter().map(|of| of.iter().map(|(kib, skipped, _)| (*kib, *skipped)).collect()).collect();
    assert_eq!(seen[0], [(3072, 101)]);
    assert!(seen[1..].iter().all(|seen| *seen == [(60, 98), (60, 0), (60, 0), (60, 0)]), "{seen:?}");
    look("again", 3 << 20);
    assert!(views.iter_mut().all(|view| next(view).is_none()));
    drop(held);
    look("again", 3 << 20);
    assert_eq!(
        views.iter_mut().filter_map(next).map(|(kib, skipped, _)| (kib, skipped)).collect::<Vec<_>>(),
        [(3072, 1)]
    );
}

/// Who looks at the past doesn't keep it: what the ring has to forget meanwhile is skipped.
#[test]
fn the_past_is_not_kept_for_who_does_not_read() {
    let (watch, start) = (Viewers::new(64 << 10), Now::read());
    let look = |number: u64| {
        let now = later(start, 1000 * number);
        watch.look(Point::Received, &telemetry("a", &number.to_string(), 7000, now));
    };
    (0..4).for_each(look);
    let mut view = watch.open(PointKind::Received, wanted(""), Some(start.instant)).unwrap();
    (4..12).for_each(look);
    let (bodies, skipped) = seen(&mut view);
    let expected: Vec<_> = (4..12).map(|number: u64| number.to_string()).collect();
    assert_eq!(bodies.iter().filter(|body| body.parse::<u64>().unwrap() >= 4).cloned().collect::<Vec<_>>(), expected);
    assert_eq!((bodies.len() as u64 + skipped, skipped), (12, 4), "{bodies:?}");
}

/// A request to the socket that is never read any further.
fn stalled(socket: &Path) -> std::os::unix::net::UnixStream {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /tail HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream
}

#[tokio::test]
async fn who_does_not_read_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let misaki = Misaki::start("{}", &[]).await;
    let inspection = open(&misaki, directory.path());
    let watch = inspection.watch.clone();
    let _stalled = stalled(inspection.path());
    until("somebody looks", || watch.looking() == 1).await;
    // Who has nothing to read is patient.
    jump(Duration::from_secs(100)).await;
    assert_eq!(watch.looking(), 1);
    for _ in 0..20 {
        watch.look(Point::Received, &telemetry("a", "x", 200 << 10, Now::read()));
        jump(Duration::from_secs(1)).await;
    }
    assert_eq!(watch.looking(), 1);
    jump(Duration::from_secs(20)).await;
    until("nobody looks", || watch.looking() == 0).await;
}

/// Eight that read nothing once held 189 MiB beside every budget.
#[tokio::test]
async fn memory_is_bounded_while_nobody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, port) = (directory.path().join("misaki.sock"), free_port().await);
    let yaml = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}, exporters: {{nop: {{}}}}, extensions: {{inspect: {{path: {}}}}}, service: {{telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}}}",
        socket.display()
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_misaki")).args(["--config", &yaml]).spawn().unwrap();
    until("the socket is there", || socket.exists()).await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    };
    let bodies = [3 << 20, 200 << 10, 9 << 20, 30 << 10].map(|bytes| logs("a", &[(&"x".repeat(bytes), 9, false)]));
    let send = async |rounds| {
        for body in std::iter::repeat_n(&bodies, rounds).flatten() {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let head = format!(
                "POST /v1/logs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
    };
    send(10).await;
    let before = resident();
    let stalled: Vec<_> = (0..8).map(|_| stalled(&socket)).collect();
    send(20).await;
    let after = resident();
    let (status, _, err) = run(&["tail", "--socket", socket.to_str().unwrap()]).await;
    assert_eq!((status, err.as_str()), (1, "error: 8 are looking already, and no more may: end one of them\n"));
    drop(stalled);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(after < before + 16, "{before} MiB, then {after}");
}

#[test]
fn an_expression_keeps_what_it_is_true_for() {
    let wire = logs("shop", &[("low", 5, false), ("on the trace", 9, true), ("{\"a\": 1}", 17, false)]);
    let keeps = |expression: &str| {
        let (pieces, items) = wanted(expression).keep(Signal::Logs, &[(wire.clone().into(), 3)], Now::read());
        let bodies: Vec<_> = pieces.iter().flat_map(|piece| names(Signal::Logs, piece)).collect();
        assert_eq!(bodies.len() as u64, items, "{expression}");
        bodies
    };
    let all = ["low", "on the trace", "{\"a\": 1}"];
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let rows: &[(&str, &[&str])] = &[
        ("", &all),
        (" ", &all),
        ("severity_number >= SEVERITY_NUMBER_INFO", &all[1..]),
        ("log.severity_number >= SEVERITY_NUMBER_INFO and log.body != \"on the trace\"", &all[2..]),
        ("resource.attributes[\"service.name\"] == \"shop\"", &all),
        ("resource.attributes[\"service.name\"] == \"cart\"", &[]),
        ("span.name == \"low\"", &[]),
        (TRACE, &all[1..2]),
        (&TRACE.to_uppercase(), &all[1..2]),
        // As `line` prints it, and further.
        (&TRACE[..8], &all[1..2]),
        (&TRACE[..7].to_uppercase(), &all[1..2]),
        (&TRACE[..31], &all[1..2]),
        (&TRACE[..16], &all[1..2]),
        ("f92f3577", &[]),
        (&traceparent, &all[1..2]),
        ("00000000000000000000000000000001", &[]),
        // Where it fails it is not true.
        ("ParseJSON(log.body)[\"a\"] == 1", &all[2..]),
    ];
    for (expression, expected) in rows {
        assert_eq!(keeps(expression), *expected, "{expression}");
    }
}

#[test]
fn queries_carry_any_text() {
    for text in ["", "a == \"b\" and c > 1 %41 & x=y#", "日本語\n\0"] {
        let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%'), "{encoded}");
        assert_eq!(percent::decoded(encoded.as_bytes()), text.as_bytes());
    }
    assert_eq!(percent::decoded(b"100%"), b"100%");
    assert_eq!(percent::decoded(b"%zz%4"), b"%zz%4");
}

/// However long the text of a request is, the viewer holds a piece of it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn tail_writes_long_texts_within_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let socket = inspection.path().to_str().unwrap().to_owned();
    let message = |number: u32, content: &[u8]| {
        let mut out = Vec::new();
        misaki::face::otlp::wire::put_bytes(&mut out, number, content);
        out
    };
    let wire = message(1, &message(2, &message(2, b"").repeat(400_000)));
    for form in ["detailed", "json"] {
        let mut command = Command::new("sh");
        // All that it allocates, stacks included.
        command.args(["-c", "ulimit -d 60000; exec \"$0\" \"$@\" >/dev/null", env!("CARGO_BIN_EXE_misaki")]);
        command.args(["tail", "--socket", &socket, "-o", form, "--expect", "400000", "--for", "60s"]);
        let viewer = tokio::task::spawn_blocking(move || command.output().unwrap());
        until("the viewer looks", || inspection.watch.looking() == 1).await;
        assert!(misaki.post(Via::Http, Signal::Logs, wire.clone(), &[]).await.ok);
        let output = viewer.await.unwrap();
        assert!(output.status.success(), "{form}: {output:?}");
        until("the viewer has gone", || inspection.watch.looking() == 0).await;
    }
    misaki.settle().await;
    drop(inspection);
    misaki.finish().await;
}

/// A line for each request, with what explains it; and which ones, by what failed, how long, of which service, or by an
/// expression.
#[tokio::test]
async fn traces_lists_requests() {
    let directory = tempfile::tempdir().unwrap();
    let config = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0'}}}}
exporters: {nop: {}}
service:
  pipelines:
    logs: {receivers: [otlp], exporters: [nop]}
    traces: {receivers: [otlp], exporters: [nop]}";
    let mut misaki = Misaki::load(&[config], 1, &|_| None).await;
    let inspection = open(&misaki, directory.path());
    let socket = inspection.path().to_str().unwrap().to_owned();
    let traces = async |arguments: &[&str]| {
        let (status, out, err) =
            run(&[&["traces", "--socket", &socket, "--color", "never", "--utc"], arguments].concat()).await;
        assert_eq!(status, 0, "{err}");
        (out.lines().map(str::to_owned).collect::<Vec<_>>(), err)
    };
    let (lines, told) = traces(&[]).await;
    assert_eq!((lines.len(), told.starts_with("none of the requests")), (0, true), "{told}");
    for name in ["failing", "slow_lock"] {
        for (signal, request) in recorded(name) {
            assert!(misaki.post(Via::Http, signal, request, &[]).await.ok);
        }
    }
    // What is of no request is not listed.
    assert!(misaki.post(Via::Http, Signal::Logs, logs("shop", &[("of no trace", 9, false)]), &[]).await.ok);
    let (lines, _) = traces(&[]).await;
    assert!(lines.iter().all(|line| !line.contains("of no trace")), "{lines:?}");
    assert!(lines[0].trim_start().starts_with("time"), "{lines:?}");
    let one = |lines: &[String], said: &[&str]| {
        let lines = lines.iter().filter(|line| said.iter().all(|said| line.contains(said)));
        assert_eq!(lines.count(), 1, "{said:?}");
    };
    one(&lines, &["433 ms", "gateway GET /purchase", "✗ ×3 fraud GET /check: redis: connection refused"]);
    one(&lines, &["> inventory LOCK warehouse, 400 of reserve items' 457 ms, 78 %"]);
    one(&lines, &["nightly export"]);
    let some = async |arguments: &[&str], said: &str| {
        let (lines, _) = traces(arguments).await;
        assert!(lines.len() == 2 && lines[1].contains(said), "{arguments:?}: {lines:?}");
    };
    some(&["--failed"], "fraud GET /check").await;
    some(&["--slower-than", "440ms"], "LOCK warehouse").await;
    some(&["span.name == \"LOCK warehouse\""], "gateway").await;
    some(&["--service", "notify"], "LOCK warehouse").await;
    some(&["--text", "LOCK warehouse"], "LOCK warehouse").await;
    let failed = traces(&["--failed"]).await.0[1].split_whitespace().nth(2).unwrap().to_owned();
    let tree = ["tail", "--socket", &socket, "-o", "tree", &failed, "--since", "5m", "--for", "100ms"];
    assert!(run(&tree).await.1.contains("failed: ×3 fraud GET /check"));
    misaki.settle().await;
    drop(inspection);
    misaki.finish().await;
}

/// From the command line to the screen: the past first, then what comes; filtered where it is; until enough came.
#[tokio::test]
async fn tail_shows_what_passes() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::sequence([Reply::Grpc(9, "no", None)]).await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let socket = inspection.path().to_str().unwrap().to_owned();
    let send = async |wire| assert!(misaki.post(Via::Http, Signal::Logs, wire, &[]).await.ok);
    let tail = async |arguments: &[&str]| {
        run(&[&["tail", "--socket", &socket, "-o", "normal", "--since", "5m", "--for", "200ms"], arguments].concat())
            .await
    };
    send(logs("shop", &[("one", 9, true), ("two", 17, false)])).await;
    misaki.settle().await;
    send(logs("cart", &[("three", 17, false)])).await;
    misaki.settle().await;
    let shop = "ResourceLog #0 service.name=shop\nScopeLog #0\n";
    let cart = "ResourceLog #0 service.name=cart\nScopeLog #0\n";
    let done = |out: String| (0, out, String::new());
    assert_eq!(tail(&[]).await, done(format!("{shop}one \ntwo \n{cart}three \n")));
    assert_eq!(tail(&["severity_number > 9"]).await, done(format!("{shop}two \n{cart}three \n")));
    assert_eq!(tail(&["severity_number > 9", "-n", "1"]).await, done(format!("{shop}two \n")));
    assert_eq!(tail(&["-n", "1"]).await, done(format!("{shop}one \n")));
    assert_eq!(tail(&[TRACE, "--expect", "1"]).await, done(format!("{shop}one \n")));
    assert_eq!(
        tail(&["--at", "dropped", "--color", "never"]).await,
        done(format!("-- dropped by otlp: rejected_upstream\n{shop}one \ntwo \n"))
    );
    assert_eq!(tail(&["metric.name == \"x\""]).await, done(String::new()));
    let (status, out, err) = tail(&[TRACE, "--expect", "2"]).await;
    assert_eq!((status, out, err.as_str()), (1, format!("{shop}one \n"), "error: 2 expected, 1 came\n"));
    for (form, expected) in [
        ("detailed", "\nBody: Str(three)\n"),
        ("line", " three\n"),
        ("tree", " three\n"),
        ("json", "\"body\":{\"stringValue\":\"three\"}"),
    ] {
        let (status, out, _) =
            run(&["tail", "--socket", &socket, "--since", "5m", "-n", "1", "-o", form, "log.body == \"three\""]).await;
        assert!(status == 0 && out.contains(expected), "{form}: {out}");
    }
    let leaving = ["tail", "--socket", &socket, "--at", "leaving", "--since", "5m", "--for", "1ms"];
    let told = "--since: of what leaves or is filtered nothing is kept: it is shown from now on\n";
    assert_eq!(run(&leaving).await, (0, String::new(), told.to_owned()));
    // What comes from now on, until a person has seen enough; and again, until the collector goes away.
    let watch = inspection.watch.clone();
    let mut inspection = Some(inspection);
    for (is_enough, expected) in [(true, (Some(0), "")), (false, (Some(1), "error: the collector went away\n"))] {
        until("the one before has gone", || watch.looking() == 0).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        command.args(["tail", "--socket", &socket, "-o", "normal"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        until("somebody looks", || watch.looking() == 1).await;
        send(logs("live", &[("four", 9, false)])).await;
        let third = tokio::task::spawn_blocking(move || lines.nth(2)).await.unwrap();
        assert_eq!(third.unwrap().unwrap(), "four ");
        match is_enough {
            true => _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap(),
            false => drop(inspection.take()),
        }
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert_eq!((ended.status.code(), str::from_utf8(&ended.stderr).unwrap()), expected);
        until("nobody looks", || watch.looking() == 0).await;
    }
    misaki.settle().await;
    misaki.finish().await;
}

/// What rules removed is shown to those who look, with the rule, and not to others.
#[tokio::test]
async fn tail_shows_what_rules_removed() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let changes = "{processors: {filter/noise: {log_conditions: ['log.body == \"noise\"', 'log.severity_number == 5', 'resource.attributes[\"service.name\"] == \"test\"']}, probabilistic_sampler: {sampling_percentage: 0}}, service: {pipelines: {logs: {processors: [filter/noise, probabilistic_sampler]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let (socket, watch) = (inspection.path().to_str().unwrap().to_owned(), inspection.watch.clone());
    let tail = async |arguments: &'static [&'static str], sent: Vec<Vec<u8>>| {
        let socket = socket.clone();
        let looking = tokio::spawn(async move {
            let all = ["tail", "--socket", &socket, "-o", "normal", "--at", "filtered", "--color", "never"];
            run(&[&all, arguments].concat()).await
        });
        until("somebody looks", || watch.looking() == 1).await;
        for wire in sent {
            assert!(misaki.post(Via::Http, Signal::Logs, wire, &[]).await.ok);
        }
        let (status, out, err) = looking.await.unwrap();
        assert_eq!((status, err.as_str()), (0, ""));
        until("nobody looks", || watch.looking() == 0).await;
        out
    };
    let mixed = || logs("shop", &[("noise", 9, false), ("good", 9, true), ("debug", 5, false), ("noise", 5, false)]);
    let shop = "ResourceLog #0 service.name=shop\nScopeLog #0\n";
    assert_eq!(
        tail(&["-n", "4"], vec![mixed()]).await,
        format!(
            "-- filtered by filter/noise: log.body == \"noise\"\n{shop}noise \nnoise \n-- filtered by filter/noise: log.severity_number == 5\n{shop}debug \n-- filtered by probabilistic_sampler: sampled_out\n{shop}good \n"
        )
    );
    // A whole resource, and only what is asked for.
    let test = logs("test", &[("noise", 9, false), ("other", 9, false)]);
    assert_eq!(
        tail(&["-n", "1", "body == \"other\""], vec![mixed(), test]).await,
        "-- filtered by filter/noise: resource.attributes[\"service.name\"] == \"test\"\nResourceLog #0 service.name=test\nScopeLog #0\nother \n"
    );
    drop(inspection);
    misaki.finish().await;
}

/// Of traces that are not kept: which policy dropped them, that none samples them, that they are late or too large.
#[tokio::test]
async fn tail_shows_why_a_trace_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let changes = "{processors: {tail_sampling: {decision_wait: 2s, maximum_trace_size_bytes: 1000, policies: [{name: slow, type: latency, latency: {threshold_ms: 5}}, {name: not_shop, type: drop, drop: {drop_sub_policy: [{name: shop, type: string_attribute, string_attribute: {key: service.name, values: [shop]}}]}}]}}, service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling], exporters: [otlp]}}}}";
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let (socket, watch) = (inspection.path().to_str().unwrap().to_owned(), inspection.watch.clone());
    let looking = tokio::spawn(async move {
        run(&["tail", "--socket", &socket, "-o", "normal", "--at", "filtered", "--color", "never", "-n", "4"]).await
    });
    until("somebody looks", || watch.looking() == 1).await;
    let send = async |service: &str, trace: u8, name: &str| {
        let span = Span { trace_id: vec![trace; 16], span_id: vec![1; 8], name: name.to_owned(), ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let attributes = vec![pair("service.name", service)];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let group = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        let wire = ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec();
        assert!(misaki.post(Via::Http, Signal::Traces, wire, &[]).await.ok);
    };
    send("shop", 1, "dropped").await;
    jump(Duration::from_secs(3)).await;
    send("cart", 2, "fast").await;
    jump(Duration::from_secs(3)).await;
    send("cart", 2, "late").await;
    send("cart", 3, &"x".repeat(2000)).await;
    let (status, out, err) = looking.await.unwrap();
    assert_eq!((status, err.as_str()), (0, ""));
    let rules: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("-- filtered by tail_sampling: ")).collect();
    let expected =
        ["policy not_shop", "no policy samples it", "late for a trace that was not kept", "maximum_trace_size_bytes"];
    assert_eq!(rules, expected, "{out}");
    drop(inspection);
    misaki.finish().await;
}

/// What telemetry says is shown, and never done.
#[tokio::test]
async fn nothing_that_is_tailed_acts_on_the_terminal() {
    let hostile = [
        "\x1b[2J\x1b[31mred",
        "\x1b]0;pwned\x07",
        "\x1b]52;c;ZWNobyBwd25lZA==\x1b\\",
        "\u{9b}31m \u{85} \u{80}",
        "safe\rforged",
        "bell \x07 back \x08 nul \0 del \x7f",
        "\u{202e}gpj.exe \u{61c}\u{200e}\u{2066}",
        "a\u{2028}b\u{2029}c",
    ];
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let socket = inspection.path().to_str().unwrap();
    for text in hostile {
        assert!(misaki.post(Via::Http, Signal::Logs, logs(text, &[(text, 9, false)]), &[]).await.ok);
    }
    for form in ["normal", "detailed", "line", "tree", "json"] {
        let arguments = ["tail", "--socket", socket, "--since", "1m", "-n", "8", "--for", "10s", "-o", form];
        let (status, out, err) = run(&arguments).await;
        assert_eq!((status, err.as_str()), (0, ""));
        assert!(out.contains("gpj.exe") && out.contains("31mred"), "{form}: {out}");
        let acts = |c| misaki::face::diagnostics::escape::is_control(c) && c != '\n';
        assert!(!out.contains(acts), "{form}: {out:?}");
    }
    // Neither is what a person pastes, nor what the collector answers to it.
    let (status, _, err) = run(&["tail", "--socket", socket, "\x1b[31m == \u{202e}"]).await;
    assert!(status == 64 && !err.contains(['\x1b', '\u{202e}']), "{err:?}");
    misaki.finish().await;
}

#[tokio::test]
async fn expressions_become_rules_and_mistakes_are_shown() {
    let rows = [
        (
            "log.body == \"\u{1b}[2J\u{9b}\u{202e}$\"",
            "log_conditions:\n      - \"log.body == \\\"\\x1b[2J\\x9b\\u202e$$\\\"\"\n",
        ),
        ("severity_number >= 13", "logs:\n      log_record:\n        - 'severity_number >= 13'\n"),
        ("span.name == \"it's $5\"", "trace_conditions:\n      - 'span.name == \"it''s $$5\"'\n"),
        (
            "resource.attributes[\"a\"] == 1",
            "log_conditions:\n      - 'resource.attributes[\"a\"] == 1'\n    metric_conditions:\n      - \
             'resource.attributes[\"a\"] == 1'\n    trace_conditions:\n      - 'resource.attributes[\"a\"] == 1'\n",
        ),
    ];
    for (expression, rule) in rows {
        let (status, out, err) = run(&["tail", "--as-rule", expression]).await;
        assert_eq!((status, err.as_str()), (0, ""));
        assert!(out.ends_with(&format!("  filter/tail:\n    error_mode: ignore\n    {rule}")), "{out}");
        // It is a config as it stands.
        let base = "receivers: {otlp: {protocols: {http: }}}\nexporters: {nop: }\nservice: {pipelines: {logs: {receivers: [otlp], processors: [filter/tail], exporters: [nop]}}}\n";
        let config = format!("yaml:{out}{base}");
        assert_eq!(run(&["validate", "--config", &config]).await.0, 0, "{config}");
    }
    let mistakes = [
        ("log.body == ", "error: expected a value, found the end\n  log.body ==\n             ^\n"),
        ("severty_number > 1", "help: misaki tail 'severity_number > 1'\n"),
        ("span.nme == \"x\"", "help: misaki tail 'span.name == \"x\"'\n"),
        // What was meant is judged by the signal that knows most of it.
        ("span.name == POST", "               ^^^^\nhelp: misaki tail 'span.name == \"POST\"'\n"),
        ("severity_number >= ERROR", "help: misaki tail 'severity_number >= SEVERITY_NUMBER_ERROR'\n"),
        ("severity_text == error", "help: misaki tail 'severity_text == \"error\"'\n"),
        ("service.name == \"shop\"", "help: misaki tail 'resource.attributes[\"service.name\"] == \"shop\"'\n"),
        ("k8s.pod.name == \"x\"", "help: misaki tail 'resource.attributes[\"k8s.pod.name\"] == \"x\"'\n"),
        ("user.id == 1", "help: misaki tail 'attributes[\"user.id\"] == 1'\n"),
        (
            "error",
            "help: misaki tail 'severity_number >= SEVERITY_NUMBER_ERROR'\n  or: misaki tail 'status.code == STATUS_CODE_ERROR'\n",
        ),
        ("level == error", "help: misaki tail 'severity_number >= SEVERITY_NUMBER_ERROR'\n"),
        ("span.duration > 100", "help: misaki tail 'span.end_time - span.start_time > Duration(\"100ms\")'\n"),
        ("status = 500", "help: misaki tail 'attributes[\"http.response.status_code\"] == 500'\n"),
        ("body =~ \"x\"", "help: misaki tail 'IsMatch(body, \"x\")'\n"),
        ("end_time - start_time > 1.5s", "help: misaki tail 'end_time - start_time > Duration(\"1.5s\")'\n"),
        ("checkout", "  or: misaki tail 'IsMatch(body, \"checkout\")'\n"),
        ("4bf92f3577b34da6a3ce929d0e0e473600", "error: a trace id has 32 hexadecimal digits, and this has 34\n"),
        (
            "span.name == \"a\" or log.body == \"b\"",
            "help: misaki tail --spans 'span.name == \"a\"' --logs 'log.body == \"b\"'\n",
        ),
        ("kind == SPAN_KIND_CLIENT or metric.unit == \"By\"", "error: a condition is about one signal"),
        ("facade", "  or: misaki tail 'IsMatch(body, \"facade\")'\n"),
        (
            "00-4bf9-00f067aa0ba902b7-01",
            "error: a traceparent has 2, 32, 16 and 2 hexadecimal digits, and this 2, 4, 16,",
        ),
    ];
    for (expression, expected) in mistakes {
        let (status, _, err) = run(&["tail", expression]).await;
        assert!(status == 64 && err.contains(expected), "{err}");
    }
}

/// What newcomers type, from other languages or through a shell that took the quotes; and what is proposed. A proposal
/// once had dots in place of the value, or was wrong itself.
#[tokio::test]
async fn a_proposal_can_be_pasted() {
    let rows = [
        ("redis", &["IsMatch(body, \"redis\")"][..]),
        ("redis timeout", &["IsMatch(body, \"redis timeout\")"]),
        ("it's", &["IsMatch(body, \"it's\")"]),
        ("GET /cart?id=1", &[]),
        ("POST /cart", &["IsMatch(body, \"POST /cart\")"]),
        ("order.id", &["attributes[\"order.id\"] != nil", "IsMatch(body, \"order\\\\.id\")"]),
        ("attributes.order.id == 1", &["attributes[\"order.id\"] == 1"]),
        ("attributes[order.id] == 1", &["attributes[\"order.id\"] == 1"]),
        ("span.attributes.order.id == a-1", &["span.attributes[\"order.id\"] == \"a-1\""]),
        ("status == error", &["status.code == STATUS_CODE_ERROR"]),
        ("status.code == \"error\"", &["status.code == STATUS_CODE_ERROR"]),
        ("status == 503", &["attributes[\"http.response.status_code\"] == 503"]),
        ("http.status_code >= 500", &["attributes[\"http.response.status_code\"] >= 500"]),
        ("kind == \"client\"", &["kind == SPAN_KIND_CLIENT"]),
        ("span.kind == SERVER", &["span.kind == SPAN_KIND_SERVER"]),
        ("body contains \"x y\"", &["IsMatch(body, \"x y\")"]),
        ("body contains \"1.5\"", &["IsMatch(body, \"1\\\\.5\")"]),
        ("log.body contains redis", &["IsMatch(log.body, \"redis\")"]),
        ("body !~ \"^GET\"", &["not IsMatch(body, \"^GET\")"]),
        ("name startswith GET", &["IsMatch(name, \"^GET\")"]),
        ("name like \"%cart%\"", &["IsMatch(name, \"cart\")"]),
        ("resource[\"service.name\"]", &["resource.attributes[\"service.name\"] != nil"]),
        ("resource[\"service.name\"] == \"shop\"", &["resource.attributes[\"service.name\"] == \"shop\""]),
        ("resource.attributes[service.name]==shop", &["resource.attributes[\"service.name\"] == \"shop\""]),
        ("service:shop", &["resource.attributes[\"service.name\"] == \"shop\""]),
        ("k8s.pod.name = web-1", &["resource.attributes[\"k8s.pod.name\"] == \"web-1\""]),
        ("ERROR", &["severity_number >= SEVERITY_NUMBER_ERROR", "status.code == STATUS_CODE_ERROR"]),
        ("error == true", &["severity_number >= SEVERITY_NUMBER_ERROR", "status.code == STATUS_CODE_ERROR"]),
        ("warning", &["severity_number >= SEVERITY_NUMBER_WARN"]),
        ("level == warn", &["severity_number >= SEVERITY_NUMBER_WARN"]),
        ("level != debug", &["severity_number != SEVERITY_NUMBER_DEBUG"]),
        ("level == notice", &["severity_text == \"notice\""]),
        ("metric.name==job.duration", &["metric.name == \"job.duration\""]),
        ("body == 'it is'", &["body == \"it is\""]),
        ("body == connection refused", &["body == \"connection refused\""]),
        ("name == \"GET /cart", &["name == \"GET /cart\""]),
        ("http.route == /cart", &["attributes[\"http.route\"] == \"/cart\""]),
        ("url.full == http://a:80/b", &["attributes[\"url.full\"] == \"http://a:80/b\""]),
        ("duration > 1.5s", &["end_time - start_time > Duration(\"1.5s\")"]),
        ("duration > 100", &["end_time - start_time > Duration(\"100ms\")"]),
        ("trace_id == 4BF92F3577B34DA6A3CE929D0E0E4736", &["trace_id.string == \"4bf92f3577b34da6a3ce929d0e0e4736\""]),
        (
            "(service == a || service == b) && !(kind == client)",
            &[
                "(resource.attributes[\"service.name\"] == \"a\" or resource.attributes[\"service.name\"] == \"b\") and not (kind == SPAN_KIND_CLIENT)",
            ],
        ),
        ("name in [\"a\"]", &[]),
        ("\u{1b}a == \"x", &["attributes[\"\\u001ba\"] == \"x\""]),
        ("", &[]),
        ("== == ==", &[]),
        ("((((", &[]),
    ];
    for (expression, meant) in rows {
        let Err(mistake) = Wanted::read(expression) else {
            assert_eq!(expression, "");
            continue;
        };
        assert_eq!(mistake.meant, meant, "{expression}");
        // What is proposed is right.
        meant.iter().for_each(|proposal| _ = wanted(proposal));
    }
    // The whole command, and the same words in a config.
    let (_, _, err) = run(&["tail", "--at", "dropped", "it's"]).await;
    assert!(err.ends_with("  or: misaki tail --at dropped 'IsMatch(body, \"it'\\''s\")'\n"), "{err}");
    let config = "yaml:{processors: {filter: {traces: {span: ['kind == \"client\"']}, log_conditions: ['attributes.b = 5 and body contains x']}}}";
    let (_, out, err) = run(&["validate", "--config", config]).await;
    for help in ["help: write kind == SPAN_KIND_CLIENT\n", "IsMatch(log.body, \"x\")\n"] {
        assert!(format!("{out}{err}").contains(help), "{help}: {out}{err}");
    }
}

/// Several collectors: each with where it listens and its config, so that one can be chosen. A probe asks them all.
#[tokio::test]
async fn several_collectors_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let misaki = Misaki::start("{}", &[]).await;
    let sockets = directory.path().join("misaki");
    std::fs::create_dir(&sockets).unwrap();
    let open = |name: &str| {
        let config = Config { path: Some(sockets.join(name)), ..Config::default() };
        Inspection::open(&config, Subject::new(vec!["/etc/a.yaml".into()], &misaki.running)).unwrap()
    };
    let _open = (open("1001.sock"), open("1002.sock"));
    let run = async |arguments: &'static [&'static str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        command.args(arguments).env("XDG_RUNTIME_DIR", directory.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    misaki.running.health.set(true);
    let (ready, text) = run(&["status", "--check"]).await;
    assert!(ready && text.starts_with("all 2 ready for "), "{text}");
    misaki.running.health.set(false);
    let (ready, text) = run(&["status", "--check", "--pid", "1002"]).await;
    assert!(!ready && text.starts_with("not ready: it "), "{text}");
    let (ready, text) = run(&["status", "--check"]).await;
    assert!(!ready && text.starts_with(&format!("not ready: process {} at 127.0.0.1:", std::process::id())), "{text}");
    let (_, text) = run(&["status"]).await;
    assert!(text.contains("collectors run here: say which with --pid\n"), "{text}");
    for pid in ["1001", "1002"] {
        let line = text.lines().find(|line| line.starts_with(&format!("  --pid {pid} "))).unwrap();
        assert!(line.contains(&misaki.ports.http.to_string()) && text.contains("config /etc/a.yaml"), "{text}");
    }
}

/// What a config would drop of the recent past: by rule, in items and bytes, and the errors among it.
#[tokio::test]
async fn a_config_is_tried_on_the_recent_past() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let misaki = Misaki::start("{}", &[&upstream]).await;
    let inspection = open(&misaki, directory.path());
    let socket = inspection.path().to_str().unwrap().to_owned();
    let config = |processors: &str, used: &str| {
        format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {processors}, exporters: {{otlp_grpc: {{endpoint: 'collector:4317'}}}}, \
             service: {{pipelines: {{logs: {{receivers: [otlp], processors: {used}, exporters: [otlp_grpc]}}}}}}}}"
        )
    };
    let filter = "{filter: {log_conditions: ['log.severity_number < SEVERITY_NUMBER_INFO', 'log.body == \"ping\"']}}";
    let validate = async |config: &str| run(&["validate", config, "--against-recent", "--socket", &socket]).await;
    let (status, out, err) = validate(&config(filter, "[filter]")).await;
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.starts_with("error: nothing to look at"), "{err}");
    for records in [
        &[("low", 5, false), ("ping", 9, false), ("ping", 17, false), ("paid", 9, false)][..],
        &[("lower", 1, false), ("failed", 17, false)],
    ] {
        assert!(misaki.post(Via::Http, Signal::Logs, logs("shop", records), &[]).await.ok);
        misaki.settle().await;
    }
    let (status, out, err) = validate(&config(filter, "[filter]")).await;
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    let share = |line: &str| line.trim().split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(
        lines[0].starts_with("would drop ") && lines[0].ends_with(" % of the bytes; WARNING: 1 of 2 error logs"),
        "{out}"
    );
    assert!(lines[1].contains(" 2 logs "), "{out}");
    assert!(out.contains("filter drops logs whose severity is below INFO"), "{out}");
    assert!(out.contains("filter drops logs whose body is \"ping\""), "{out}");
    let all = share(lines[0].trim_start_matches("would drop "));
    assert!(all.abs_diff(share(lines[1]) + share(lines[2])) <= 1 && (20..80).contains(&all), "{out}");
    assert!(
        lines[3].starts_with("looked at 6 logs (") && lines[3].contains("that came in 2 requests within 0 s"),
        "{out}"
    );
    // A sampler tells items; nothing at all is said, too; and what is only printed drops nothing.
    let sampler = "{probabilistic_sampler: {sampling_percentage: 0, attribute_source: record, from_attribute: x}}";
    let (_, out, _) = validate(&config(sampler, "[probabilistic_sampler]")).await;
    assert!(out.starts_with("would drop 100 % of the bytes; WARNING: 2 of 2 error logs\n"), "{out}");
    assert!(out.contains(" 6 logs        probabilistic_sampler (bytes estimated)\n"), "{out}");
    let (_, out, _) = validate(&config("{}", "[]")).await;
    assert!(out.starts_with("would drop 0 % of the bytes; 0 of 2 error logs\nlooked at 6 logs"), "{out}");
    // It has looked only: what runs is as it was.
    assert_eq!(inspection.watch.looking(), 0);
}
