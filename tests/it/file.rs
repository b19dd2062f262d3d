//! The `file` exporter: what it writes, when it takes a new file, and what a write that fails means.

use std::path::Path;
use std::process::{Child, Command};
use std::task::Poll;
use std::time::Duration;

use misaki::face::otlp::json;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;

use crate::harness::*;

/// A collector that writes all signals to one file.
async fn start(path: &Path, keys: &str) -> Misaki {
    let exporter = format!("file: {{path: \"{}\", {keys}}}", path.display());
    let pipeline = "{receivers: [otlp], exporters: [file]}";
    let pipelines = format!("{{logs: {pipeline}, traces: {pipeline}, metrics: {pipeline}}}");
    Misaki::start(&format!("exporters: {{{exporter}}}\nservice: {{pipelines: {pipelines}}}"), &[]).await
}

/// Records behind their lengths.
fn framed(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (record, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        bytes = rest;
    }
    records
}

/// The fixtures are what the Go collector's exporter wrote for the same requests.
#[tokio::test]
async fn lines_are_those_of_the_go_collector() {
    let folder = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir("fixtures/debug").unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let Ok(expected) = std::fs::read_to_string(format!("fixtures/json/{name}.json")) else { continue };
        let signal = Signal::ALL.into_iter().find(|signal| name.starts_with(signal.name())).unwrap();
        let out = folder.path().join(&name);
        let mut misaki = start(&out, "").await;
        let input = std::fs::read_to_string(case.join("input.json")).unwrap();
        assert!(misaki.post_json(signal, input).await.ok);
        misaki.finish().await;
        let written = std::fs::read_to_string(out).unwrap();
        // A request without an item goes nowhere here.
        if !name.ends_with("_empty") && !written.is_empty() {
            assert_eq!(written.trim_end(), expected.trim_end(), "{name}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

#[tokio::test]
async fn all_signals_share_the_file_which_begins_anew_unless_it_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    for (keys, lines) in [("", 2), ("", 2), ("append: true", 4)] {
        let mut misaki = start(&path, keys).await;
        assert!(misaki.send_by(Via::Grpc, Signal::Logs, &["a"]).await.ok);
        // Success means that it is written.
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("]}]}]}\n"));
        assert!(misaki.send_by(Via::Http, Signal::Traces, &["b"]).await.ok);
        misaki.finish().await;
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), lines, "{keys}");
        assert_eq!(written.matches("resourceSpans").count(), lines / 2, "{keys}");
    }
}

#[tokio::test]
async fn protobuf_and_what_is_compressed_stand_behind_their_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut misaki = start(&path, "format: proto").await;
    assert!(misaki.send(&["a", "b"]).await.ok && misaki.send(&["c"]).await.ok);
    misaki.finish().await;
    let records = framed(&std::fs::read(&path).unwrap());
    let items = |wire: &Vec<u8>| {
        let request = ExportLogsServiceRequest::decode(wire.as_slice()).unwrap();
        request.resource_logs.iter().flat_map(|group| &group.scope_logs).map(|scope| scope.log_records.len()).sum()
    };
    assert_eq!(records.iter().map(items).collect::<Vec<usize>>(), [2, 1]);

    let mut misaki = start(&path, "compression: zstd").await;
    assert!(misaki.send(&["a"]).await.ok && misaki.send(&["b"]).await.ok);
    misaki.finish().await;
    let records = framed(&std::fs::read(&path).unwrap());
    assert_eq!(records.len(), 2);
    for record in records {
        let text = zstd::decode_all(record.as_slice()).unwrap();
        assert!(json::to_wire(Signal::Logs, &text).is_ok());
    }
}

#[tokio::test]
async fn a_full_file_becomes_a_backup_of_which_so_many_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/out.jsonl");
    let misaki = start(&path, "create_directory: true, rotation: {max_megabytes: 1, max_backups: 2}").await;
    let long = "x".repeat(700_000);
    for index in 0..5 {
        assert!(misaki.send(&[&format!("{index}{long}")]).await.ok);
    }
    drop(misaki);
    let mut names: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("out-20") && names[0].ends_with("-size.jsonl"), "{names:?}");
    let first = |name: &str| std::fs::read_to_string(path.with_file_name(name)).unwrap().contains("\"2xxx");
    assert!(first(&names[0]), "the oldest went first");
    assert_eq!(names[2], "out.jsonl");
}

/// Where the directory may be made, it is made again.
#[tokio::test]
async fn a_directory_that_is_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/out.jsonl");
    let misaki = start(&path, "create_directory: true, rotation: {max_megabytes: 1}").await;
    assert!(misaki.send(&[&"x".repeat(700_000)]).await.ok);
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    assert!(misaki.send(&[&"y".repeat(700_000)]).await.ok);
    assert!(std::fs::read_to_string(&path).unwrap().contains("yyy"));
}

#[tokio::test]
async fn a_write_that_fails_is_a_failed_export() {
    let full = Path::new("/dev/full");
    let mut misaki = start(full, "retry_on_failure: {enabled: false}").await;
    let answer = misaki.send(&["a"]).await;
    assert!(!answer.ok && answer.message.contains("cannot write to /dev/full: No space left"), "{answer:?}");
    assert_eq!(misaki.finish().await[0].dropped, [("retries_exhausted", 1)]);
    // With a queue it waits, as for any upstream that is away.
    let mut misaki = start(full, "sending_queue: {}, retry_on_failure: {initial_interval: 1ms}").await;
    assert!(misaki.send(&["a"]).await.ok);
    until("it was tried", || misaki.held() == 1).await;
    assert_eq!(misaki.finish_within(Duration::from_millis(50)).await[0].left, 1);
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One record with a body of so many bytes, and the answer.
async fn post_text(port: u16, length: usize) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{{"stringValue":"{}"}}}}]}}]}}]}}"#,
        "x".repeat(length)
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: edge\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The limit on the size of files stands for a full disk: a write stops in the middle of a record.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_record_is_torn_by_a_disk_that_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let (path, port) = (folder.path().join("out.jsonl"), free_port().await);
    let config = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"}}}}}}}}, exporters: {{file: {{path: {}, \
         retry_on_failure: {{enabled: false}}}}}}, service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: \
         {{receivers: [otlp], exporters: [file]}}}}}}, extensions: {{inspect: {{enabled: false}}}}}}",
        path.display()
    );
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --config \"$1\"";
    let child = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_misaki"), &config]).spawn();
    let _child = Ended(child.unwrap());
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let post = |length| post_text(port, length);
    let whole = || std::fs::read_to_string(&path).unwrap().lines().map(str::len).collect::<Vec<_>>();
    assert!(post(2500).await.starts_with("HTTP/1.1 200"));
    let answer = post(20_000).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("File too large"), "{answer}");
    assert!(post(100).await.starts_with("HTTP/1.1 200"));
    let lengths = whole();
    assert!(lengths.len() == 2 && lengths[0] > 2500 && lengths[1] > 100, "{lengths:?}");
}

#[tokio::test]
async fn a_reload_goes_on_in_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let changes = |keys: &str| {
        format!(
            "exporters: {{file: {{path: \"{}\", {keys}}}}}\nservice: {{pipelines: {{logs: {{receivers: [otlp], exporters: [file]}}}}}}",
            path.display()
        )
    };
    let mut misaki = Misaki::start(&changes(""), &[]).await;
    assert!(misaki.send(&["a"]).await.ok);
    for keys in ["", "retry_on_failure: {enabled: false}", "compression_params: {level: 3}"] {
        misaki.reload(&changes(keys), &[]).await.unwrap();
        assert!(misaki.send(&["b"]).await.ok);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A new file is for its owner alone; one that is there keeps its mode, and hands it on when it is rotated.
#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let long = "x".repeat(700_000);
    let misaki = start(&path, "rotation: {max_megabytes: 1}").await;
    assert!(misaki.send(&[&long]).await.ok);
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(misaki.send(&[&long]).await.ok);
    let modes =
        || std::fs::read_dir(folder.path()).unwrap().map(|entry| mode(&entry.unwrap().path())).collect::<Vec<_>>();
    assert_eq!(modes(), [0o640, 0o640]);
    drop(misaki);
    drop(start(&path, "append: true").await);
    assert_eq!(mode(&path), 0o640);
}

/// Whoever can write to the folder must not choose the file; the system's own links are followed.
#[cfg(unix)]
#[tokio::test]
async fn links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    std::fs::write(&file, "kept").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut misaki = start(Path::new("/dev/stderr"), "").await;
    for exporter in ["file: {path: 'PATH'}", "debug: {output_paths: ['PATH']}"] {
        let (name, _) = exporter.split_once(':').unwrap();
        let exporter = exporter.replace("PATH", &link.display().to_string());
        let pipelines = format!("{{logs: {{receivers: [otlp], exporters: [{name}]}}}}");
        let changes = format!("exporters: {{{exporter}}}\nservice: {{pipelines: {pipelines}}}");
        let Err(error) = misaki.reload(&changes, &[]).await else { panic!("{name} follows it") };
        assert!(error.contains("it is a symbolic link: name the file that it leads to"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

/// A disk that hangs takes one thread of the exporter, and what waits for it is answered when it goes on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_slow_file_takes_one_thread() {
    const REQUESTS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let (path, port) = (folder.path().join("out"), free_port().await);
    pipe(&path);
    let mut reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let config = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{port}\"}}}}}}}}, exporters: {{file: {{path: {}}}}}, \
         service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [file]}}}}}}, \
         extensions: {{inspect: {{enabled: false}}}}}}",
        path.display()
    );
    let child = Ended(Command::new(env!("CARGO_BIN_EXE_misaki")).args(["--config", &config]).spawn().unwrap());
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let threads = || std::fs::read_dir(format!("/proc/{}/task", child.0.id())).unwrap().count();
    let before = threads();
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        answers.spawn(post_text(port, 100_000));
    }
    // Long enough for one that takes a thread for each.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let during = threads();
    let drained = std::thread::spawn(move || {
        use std::io::Read;
        let (mut lines, mut buffer) = (0, vec![0; 1 << 16]);
        while lines < REQUESTS {
            let read = reader.read(&mut buffer).unwrap();
            lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        }
    });
    while let Some(answer) = answers.join_next().await {
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    }
    drained.join().unwrap();
    assert!(during <= before + 2, "{before} threads, then {during}");
}

/// Requests whose text is long are written one after another; one whose text is short has one of them before it at most.
#[tokio::test]
async fn a_short_record_passes_long_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let changes = format!(
        "{{exporters: {{file: {{path: '{}'}}}}, service: {{pipelines: {{logs: {{exporters: [file]}}}}}}}}",
        path.display()
    );
    let misaki = Misaki::start(&changes, &[&Upstream::absent()]).await;
    let long: Vec<String> = (0..12).map(|number| format!("{number}{}", "x".repeat(500_000))).collect();
    let texts = long.iter().map(String::as_str).chain(["short"]);
    let mut waiting: Vec<_> = texts.map(|text| misaki.submit(Signal::Logs, &[text])).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|one| one.as_mut().poll(context).map(|outcome| assert_eq!(outcome, Ok(()))).is_pending());
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.lines().position(|line| line.contains("short")).unwrap();
    // On a busy machine some are written before it comes.
    assert!(at <= 4, "it is line {at} of {}", text.lines().count());
}
