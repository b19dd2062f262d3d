//! The bill by service, and `misaki status`: what it says, what it does with hostile names, when a probe fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, Subject, status};
use misaki::face::telemetry::{Reading, Signal, Sums};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::harness::*;

/// A request with a resource group for each service, with these names in it.
fn of_services(signal: Signal, services: &[(&str, &[&str])]) -> Vec<u8> {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let pair = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: text(value), ..Default::default() };
    let resource = |service: &str| {
        let attributes = vec![pair("host.name", "edge"), pair("service.name", service), pair("service.name", "second")];
        Some(Resource { attributes, ..Default::default() })
    };
    macro_rules! join {
        ($request:ident, $groups:ident) => {{
            let mut whole = $request::default();
            for (service, names) in services {
                let mut one = $request::decode(request(signal, names).as_slice()).unwrap();
                one.$groups[0].resource = resource(service).filter(|_| !service.is_empty());
                whole.$groups.append(&mut one.$groups);
            }
            whole.encode_to_vec()
        }};
    }
    match signal {
        Signal::Logs => join!(ExportLogsServiceRequest, resource_logs),
        Signal::Metrics => join!(ExportMetricsServiceRequest, resource_metrics),
        Signal::Traces => join!(ExportTraceServiceRequest, resource_spans),
    }
}

fn reading(misaki: &Misaki) -> Reading {
    misaki.running.graph.bill.read(32)
}

/// What came, was sent, filtered, dropped, and waits, by service.
fn lines(misaki: &Misaki) -> BTreeMap<String, [u64; 5]> {
    let of = |sums: Sums| [sums.items, sums.sent, sums.filtered, sums.dropped, sums.waiting()];
    let mut lines: BTreeMap<_, _> = reading(misaki).services.into_iter().map(|(name, sums)| (name, of(sums))).collect();
    lines.insert("*".to_owned(), of(reading(misaki).others));
    lines
}

#[track_caller]
fn check(misaki: &Misaki, expected: &[(&str, [u64; 5])]) {
    let mut expected: BTreeMap<_, _> = expected.iter().map(|(name, line)| ((*name).to_owned(), *line)).collect();
    expected.entry("*".to_owned()).or_default();
    assert_eq!(lines(misaki), expected);
}

/// Two services in a request and one in another, all signals, merged by a batch on the way: each has its own items.
#[tokio::test]
async fn every_service_has_its_line() {
    for signal in Signal::ALL {
        let upstream = Upstream::start().await;
        let pipeline = "{receivers: [otlp], processors: [batch], exporters: [otlp]}";
        let name = signal.name();
        let changes =
            format!("{{processors: {{batch: {{timeout: 5ms}}}}, service: {{pipelines: {{{name}: {pipeline}}}}}}}");
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        let first = of_services(signal, &[("shop", &["a", "b"]), ("bank", &["c"]), ("", &["d"])]);
        let size = first.len() as u64;
        assert!(misaki.post(Via::Grpc, signal, first, &[]).await.ok);
        assert!(misaki.post(Via::Http, signal, of_services(signal, &[("shop", &["e"])]), &[]).await.ok);
        misaki.settle().await;
        check(&misaki, &[("shop", [3, 3, 0, 0, 0]), ("bank", [1, 1, 0, 0, 0]), ("", [1, 1, 0, 0, 0])]);
        let bytes: u64 = reading(&misaki).services.iter().map(|(_, sums)| sums.bytes).sum();
        assert!(bytes > size && !reading(&misaki).is_estimate, "{bytes}");
        misaki.finish().await;
    }
}

/// What a rule leaves out, what the upstream rejects, what waits; a rename on the way moves what is owed.
#[tokio::test]
async fn every_item_has_its_fate() {
    let upstream = Upstream::scripted(|arrival| match arrival.names.iter().any(|name| name == "poison") {
        true => Reply::Grpc(9, "no", None),
        false => Reply::Accept,
    })
    .await;
    let changes = r#"{processors: {
        filter: {logs: {log_record: ['body == "noise"']}},
        resource: {attributes: [{key: service.name, value: renamed, action: upsert}]}
    }, service: {pipelines: {
        logs: {processors: [filter], exporters: [otlp, otlp/2]},
        traces: {receivers: [otlp], processors: [resource], exporters: [otlp]}
    }}}"#;
    let hanging = Upstream::replying(Reply::Hang).await;
    let mut misaki = Misaki::start(changes, &[&upstream, &hanging]).await;
    let wire = of_services(Signal::Logs, &[("shop", &["a", "noise", "b"]), ("bank", &["noise"])]);
    assert!(misaki.post(Via::Grpc, Signal::Logs, wire, &[]).await.ok);
    until("it is sent", || misaki.line("otlp").contains("2 exported")).await;
    // To two exporters: one has it, the other not yet.
    check(&misaki, &[("shop", [3, 2, 2, 0, 2]), ("bank", [1, 0, 2, 0, 0])]);
    hanging.release();
    misaki.settle().await;
    let wire = of_services(Signal::Logs, &[("bank", &["poison"])]);
    assert!(misaki.post(Via::Grpc, Signal::Logs, wire, &[]).await.ok);
    misaki.settle().await;
    check(&misaki, &[("shop", [3, 4, 2, 0, 0]), ("bank", [2, 1, 2, 1, 0])]);
    let wire = of_services(Signal::Traces, &[("old", &["x", "y"])]);
    assert!(misaki.post(Via::Grpc, Signal::Traces, wire, &[]).await.ok);
    misaki.settle().await;
    assert_eq!((lines(&misaki)["old"], lines(&misaki)["renamed"]), ([2, 0, 0, 0, 0], [0, 2, 0, 0, 0]));
    misaki.finish().await;
}

/// Clients that make up names fill no memory and hide nobody: the large ones are there, and the sums are right.
#[tokio::test]
async fn made_up_services_do_not_hide_the_large_ones() {
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let large_names = vec!["a".repeat(100); 50];
    let large = refs(&large_names).to_vec();
    let (mut sent, long) = (0, "x".repeat(1000));
    for round in 0..20 {
        let mut services: Vec<(String, &[&str])> = vec![("large".to_owned(), &large)];
        services.extend((0..50).map(|number| (format!("{round}-{number}-{long}"), ["b"].as_slice())));
        let services: Vec<_> = services.iter().map(|(name, names)| (name.as_str(), *names)).collect();
        assert!(misaki.submit_wire(Signal::Logs, of_services(Signal::Logs, &services), None).await.is_ok());
        sent += 100;
    }
    misaki.settle().await;
    let reading = reading(&misaki);
    assert!(reading.services.len() == 32 && reading.is_estimate);
    assert!(reading.services.iter().all(|(name, _)| name.len() <= 64));
    let large = reading.services.iter().find(|(name, _)| name == "large").unwrap().1;
    assert_eq!((large.items, large.sent), (1000, 1000));
    let sums = reading.services.iter().map(|(_, sums)| sums).chain([&reading.others]);
    let totals = sums.fold((0, 0), |(items, done), sums| (items + sums.items, done + sums.sent));
    assert_eq!(totals, (sent, sent));
    misaki.finish().await;
}

/// What an earlier run left on disk is nobody's until it is read back.
#[tokio::test]
async fn what_was_left_on_disk_is_recognised() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let changes = format!(
        "{{extensions: {{file_storage: {{directory: \"{path}\", max_size: 4194304}}}}, service: {{extensions: [file_storage]}}, exporters: {{otlp: {{sending_queue: {{storage: file_storage}}}}}}}}"
    );
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut misaki = Misaki::start(&changes, &[&away]).await;
    let wire = of_services(Signal::Logs, &[("shop", &["a", "b"])]);
    assert!(misaki.post(Via::Grpc, Signal::Logs, wire, &[]).await.ok);
    check(&misaki, &[("shop", [2, 0, 0, 0, 2])]);
    let balance = misaki.finish().await;
    assert_eq!(balance[0].to_string(), "logs to otlp: 2 accepted = 0 exported + 0 dropped + 2 left on disk");
    drop(misaki);
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    misaki.settle().await;
    check(&misaki, &[("shop", [0, 2, 0, 0, 0])]);
    misaki.finish().await;
}

fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(vec!["test.yaml".into()], &misaki.running)).unwrap()
}

/// What `misaki status` prints, and its exit status, while this thread serves.
async fn run(directory: &Path, options: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.arg("status").arg("--socket").arg(directory.join("misaki.sock")).args(options);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text)
}

/// A name that acts on a terminal, turns its text around, and hides some of it.
const HOSTILE: &str = "\u{9b}31m\u{202e}\u{200b}\u{e0041}\u{feff}";

/// An exporter that holds, a name that would act on a terminal: a page of 80 columns that says both.
#[tokio::test]
async fn the_page_fits_and_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let why = "token expired, and this goes on for much longer than a line of a terminal has columns for it";
    let upstream = Upstream::replying(Reply::Grpc(16, why, None)).await;
    let mut misaki = Misaki::start("{}", &[&upstream]).await;
    let _inspection = open(&misaki, directory.path());
    let (status, text) = run(directory.path(), &["--check"]).await;
    assert!(status == 0 && text.starts_with("ready for "), "{status} {text}");
    let wire =
        of_services(Signal::Logs, &[("evil\x1b[2J\n岬岬岬岬岬岬岬岬岬岬岬岬岬岬岬岬岬", &["a"]), (HOSTILE, &["b"])]);
    assert!(misaki.post(Via::Grpc, Signal::Logs, wire, &[]).await.ok);
    until("it is refused", || upstream.requests() == 1).await;
    rest().await;
    let (status, page) = run(directory.path(), &[]).await;
    assert!(status == 0 && !page.contains('\x1b'), "{page}");
    for line in page.lines() {
        let columns: usize = line.chars().map(|c| if c > '\u{1100}' && c != '…' { 2 } else { 1 }).sum();
        assert!(columns <= 80, "{columns}: {line}");
    }
    for expected in
        ["NOT READY", "HOLDING for ", "2 items, 1 of 1,000 requests", "logs to otlp", "evil\\x1b[2J\\n岬", "test.yaml"]
    {
        assert!(page.contains(expected), "{expected} is not in\n{page}");
    }
    let (status, text) = run(directory.path(), &["--check"]).await;
    assert_eq!((status, text.lines().count()), (1, 1));
    assert!(text.starts_with("not ready: otlp: the upstream refuses every export"), "{text}");
    let (status, text) = run(directory.path(), &["--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &told["exporters"][0]["state"]), (0, &"holding".into()));
    assert!(told["bill"]["services"].as_array().unwrap().iter().any(|line| line["service"] == HOSTILE), "{text}");
    assert!(text.trim_end().chars().all(|c| matches!(c, ' '..='~' | '岬')), "{text}");
    let (status, text) = run(directory.path(), &["--watch"]).await;
    assert!(status == 64 && text.contains("redraws a terminal"), "{status} {text}");
    upstream.script(|_| Reply::Accept);
    jump(std::time::Duration::from_secs(61)).await;
    misaki.settle().await;
    let told = status::describe(&Subject::new(Vec::new(), &misaki.running));
    assert_eq!((&told["ready"], &told["exporters"][0]["state"]), (&true.into(), &"up".into()));
    misaki.finish().await;
    let (status, text) = run(directory.path(), &["--check"]).await;
    assert_eq!((status, text.as_str()), (1, "not ready: it is starting or shutting down\n"));
}

/// The ledger and the queue as JSON: the numbers add up, an age is there, and one burst tells no rate.
#[tokio::test]
async fn the_ledger_adds_up() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let mut misaki = Misaki::start("exporters: {otlp: {timeout: 0s}}", &[&upstream]).await;
    assert!(misaki.send(&["a", "b", "c"]).await.ok);
    let told = status::describe(&Subject::new(Vec::new(), &misaki.running));
    let line = &told["ledger"][0];
    let of = |key: &str| line[key].as_u64().unwrap();
    assert_eq!((of("accepted"), of("exported"), of("filtered"), of("waiting")), (3, 0, 0, 3));
    let queue = &told["exporters"][0]["queue"];
    assert_eq!(
        (&queue["items"], &queue["oldest_seconds"], &queue["full_by"]),
        (&3.into(), &0.into(), &serde_json::Value::Null)
    );
    let receiver = &told["receivers"][0];
    assert_eq!((&receiver["accepted"], &receiver["refused"]), (&3.into(), &0.into()));
    upstream.release();
    misaki.settle().await;
    let told = status::describe(&Subject::new(Vec::new(), &misaki.running));
    assert!(told["exporters"][0]["queue"]["oldest_seconds"].is_null());
    misaki.finish().await;
}

/// Who comes when all places on the socket are taken hears so at once, and comes in when one is free.
#[tokio::test]
async fn one_connection_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let mut misaki = Misaki::start("{}", &[]).await;
    let _inspection = open(&misaki, directory.path());
    let mut others = Vec::new();
    for _ in 0..32 {
        others.push(tokio::net::UnixStream::connect(directory.path().join("misaki.sock")).await.unwrap());
    }
    let began = std::time::Instant::now();
    for _ in 0..3 {
        let full = "error: 32 are connected already, and no more may: end one of them\n".to_owned();
        assert_eq!(run(directory.path(), &[]).await, (1, full));
    }
    assert!(began.elapsed().as_secs() < 5);
    others.pop();
    let mut status = 1;
    while status != 0 && began.elapsed().as_secs() < 9 {
        status = run(directory.path(), &[]).await.0;
    }
    assert_eq!(status, 0);
    misaki.finish().await;
}

/// What `debug` prints is sent when it is written, and dropped where it cannot be.
#[tokio::test]
async fn debug_is_billed_for_what_is_written() {
    for (output, is_written) in [("/dev/null", true), ("/dev/full", false)] {
        for form in
            ["verbosity: basic", "verbosity: line", "verbosity: tree", "sampling_thereafter: 2", "verbosity: json"]
        {
            let changes = format!(
                "{{exporters: {{debug: {{use_internal_logger: false, output_paths: [{output}], {form}}}}}, service: {{pipelines: \
                 {{logs: {{exporters: [debug]}}}}}}}}"
            );
            let mut misaki = Misaki::start(&changes, &[]).await;
            let wire = of_services(Signal::Logs, &[("shop", &["a", "b"]), ("bank", &["c"])]);
            assert!(misaki.post(Via::Grpc, Signal::Logs, wire, &[]).await.ok);
            until("it is written", || reading(&misaki).services.iter().all(|(_, sums)| sums.waiting() == 0)).await;
            for (name, sums) in reading(&misaki).services {
                let items = if name == "shop" { 2 } else { 1 };
                let expected = if is_written { (items, 0) } else { (0, items) };
                assert_eq!(
                    (sums.sent, sums.dropped, sums.filtered),
                    (expected.0, expected.1, 0),
                    "{form} {output} {name}"
                );
            }
            misaki.finish().await;
        }
    }
}

/// The pipelines as JSON: their components in order, what passed each of them in items and bytes, and what each rule
/// dropped.
#[tokio::test]
async fn the_pipelines_are_told() {
    let upstream = Upstream::start().await;
    let changes = r#"{processors: {batch: {timeout: 5ms}, filter: {logs: {log_record: ['body == "noise"']}}},
        service: {pipelines: {logs: {processors: [filter, batch], exporters: [otlp]}}}}"#;
    let mut misaki = Misaki::start(changes, &[&upstream]).await;
    assert!(misaki.send(&["a", "noise", "b"]).await.ok);
    misaki.settle().await;
    let told = status::describe(&Subject::new(Vec::new(), &misaki.running));
    let pipelines = told["pipelines"].as_array().unwrap();
    let logs = pipelines.iter().find(|pipeline| pipeline["id"] == "logs").unwrap();
    assert_eq!((&logs["receivers"][0], &logs["exporters"][0]), (&"otlp".into(), &"otlp".into()));
    let [filter, batch] = [0, 1].map(|index| &logs["processors"][index]);
    assert_eq!((&filter["id"], &filter["incoming"], &filter["outgoing"]), (&"filter".into(), &3.into(), &2.into()));
    assert_eq!(filter["dropped_by"][0]["items"], 1);
    assert_eq!((&batch["id"], &batch["held"]), (&"batch".into(), &0.into()));
    let size = |of: &serde_json::Value, items, bytes| (of[items].as_u64().unwrap(), of[bytes].as_u64().unwrap());
    let bytes = |bodies: &[&str]| request(Signal::Logs, bodies).len() as u64;
    let (all, left) = ((3, bytes(&["a", "noise", "b"])), (2, bytes(&["a", "b"])));
    assert_eq!(size(&told["receivers"][0], "accepted", "accepted_bytes"), all);
    assert_eq!(size(filter, "incoming", "incoming_bytes"), all);
    assert_eq!(size(filter, "outgoing", "outgoing_bytes"), left);
    assert_eq!(size(batch, "outgoing", "outgoing_bytes"), left);
    let logs = told["ledger"].as_array().unwrap().iter().find(|account| account["signal"] == "logs").unwrap();
    assert_eq!(size(logs, "exported", "exported_bytes"), left);
    misaki.finish().await;
}
