//! Sending queues on disk, in-process: what a success means, restarts, limits, the ledger.

use std::path::Path;
use std::time::Duration;

use misaki::face::telemetry::Signal;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

fn storage(path: &Path, exporter: &str, more: &str) -> String {
    let path = path.display();
    format!(
        "{{extensions: {{file_storage: {{directory: \"{path}\", max_size: 4194304}}}}, service: {{extensions: [file_storage]}}, exporters: {{otlp: {exporter}}}{more}}}"
    )
}

async fn start(path: &Path, exporter: &str, upstream: &Upstream) -> Misaki {
    Misaki::start(&storage(path, exporter, ""), &[upstream]).await
}

const STORED: &str = "{sending_queue: {storage: file_storage}}";

/// What is accepted while the upstream is away is there after a restart, oldest first, and none of it twice.
#[tokio::test]
async fn a_restart_goes_on_with_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut misaki = start(directory.path(), STORED, &away).await;
    for name in numbered("a", 30) {
        assert!(misaki.send(&[&name, "x"]).await.ok);
    }
    misaki.check();
    let balance = misaki.finish().await;
    assert_eq!((balance[0].accepted, balance[0].left, misaki.held()), (60, 60, 60));
    drop(misaki);
    let upstream = Upstream::start().await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    misaki.settle().await;
    let kept: Vec<_> = upstream.kept().into_iter().filter(|name| name != "x").collect();
    let mut sorted = kept.clone();
    sorted.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
    assert_eq!(sorted, numbered("a", 30));
    assert_eq!(misaki.line("otlp"), "logs to otlp: 60 accepted = 60 exported + 0 dropped + 0 left");
    misaki.finish().await;
    drop(misaki);
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    assert_eq!(misaki.held(), 0);
    misaki.finish().await;
}

/// Behind the log, requests are gathered, cut and bisected; what the upstream rejects is settled too.
#[tokio::test]
async fn batches_are_made_behind_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let batching = "{sending_queue: {storage: file_storage, batch: {min_size: 20, max_size: 20, flush_timeout: 50ms}}}";
    let upstream = Upstream::scripted(|arrival| match arrival.names.iter().any(|name| name == "poison") {
        true => Reply::Grpc(3, "bad", None),
        false => Reply::Accept,
    })
    .await;
    let mut misaki = start(directory.path(), batching, &upstream).await;
    for index in 0..50 {
        let name = if index == 33 { "poison".to_owned() } else { format!("{index}") };
        assert!(misaki.send(&[&name]).await.ok);
    }
    misaki.settle().await;
    let kept = upstream.kept_once();
    assert!(kept.len() == 49 && !kept.contains(&"poison".to_owned()), "{kept:?}");
    misaki.finish().await;
    drop(misaki);
    let mut misaki = start(directory.path(), batching, &upstream).await;
    assert_eq!(misaki.held(), 0, "all of it was settled");
    misaki.finish().await;
}

const OF_TWO: &str = "timeout: 1h, send_batch_size: 2";

/// A batch before a log of 1 MiB.
async fn start_batching(path: &Path, batch: &str, upstream: &Upstream) -> Misaki {
    let changes = storage(path, STORED, &format!(", processors: {{batch: {{{batch}}}}}"))
        .replace("max_size: 4194304", "max_size: 1048576")
        .replace("service: {extensions", "service: {pipelines: {logs: {processors: [batch]}}, extensions");
    Misaki::start(&changes, &[upstream]).await
}

/// A batch larger than the quota goes alone, instead of being refused for ever.
#[tokio::test]
async fn a_batch_larger_than_the_quota_goes_alone() {
    let (directory, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await);
    let mut misaki = start_batching(directory.path(), OF_TWO, &upstream).await;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| name.repeat(600_000));
    for (first, second) in [(&a, &b), (&c, &d)] {
        let (first, second) = ([first.as_str()], [second.as_str()]);
        let (first, second) = tokio::join!(misaki.send(&first), misaki.send(&second));
        assert!(first.ok && second.ok, "{first:?} {second:?}");
        misaki.settle().await;
    }
    assert_eq!((upstream.kept_once().len(), upstream.sizes()), (4, vec![2, 2]));
    misaki.finish().await;
}

/// So does one that an idle log has no room for, since its last segment may still be there. A client's is refused for good.
#[tokio::test]
async fn a_batch_just_below_the_quota_goes_alone() {
    let (directory, upstream) = (tempfile::tempdir().unwrap(), Upstream::start().await);
    let mut misaki = start_batching(directory.path(), OF_TWO, &upstream).await;
    for length in [25_000, 470_000, 505_000, 519_000, 523_500] {
        let name = "x".repeat(length);
        let names = [name.as_str()];
        let (first, second) = tokio::join!(misaki.send(&names), misaki.send(&names));
        assert!(first.ok && second.ok, "{length}: {first:?} {second:?}");
        misaki.settle().await;
    }
    misaki.finish().await;
    drop(misaki);
    let alone = storage(directory.path(), STORED, "").replace("max_size: 4194304", "max_size: 1048576");
    let mut misaki = Misaki::start(&alone, &[&upstream]).await;
    let answer = misaki.send(&[&"x".repeat(1_000_000)]).await;
    assert_eq!((answer.code, answer.hint), (413, None), "{answer:?}");
    misaki.finish().await;
}

/// Clients behind a batch get a full log's refusal: none of their telemetry is kept, and what they send again arrives once.
#[tokio::test]
async fn a_full_log_refuses_the_clients_behind_a_batch() {
    let (directory, mut upstream) = (tempfile::tempdir().unwrap(), Upstream::absent());
    let mut misaki = start_batching(directory.path(), "timeout: 1ms", &upstream).await;
    let (mut accepted, mut refused) = (0, Vec::new());
    for number in 0..40 {
        let name = format!("{number:04}{}", "x".repeat(90_000));
        let answer = misaki.send(&[&name]).await;
        match answer.ok {
            true => accepted += 1,
            false => refused.push(name),
        }
        assert!(answer.ok || answer.code == 503 && answer.hint.is_some(), "{answer:?}");
    }
    assert!(accepted >= 6 && refused.len() >= 20, "{accepted} accepted, {} refused", refused.len());
    misaki.check();
    assert_eq!(misaki.held(), accepted, "what is refused is not held");
    upstream.appear();
    misaki.settle().await;
    for name in refused {
        while !misaki.send(&[&name]).await.ok {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    misaki.settle().await;
    assert_eq!(upstream.kept_once().len(), 40);
    misaki.finish().await;
}

/// A client that hangs up before a full log gives its batch back counts as refused: its telemetry is not held.
#[tokio::test]
async fn a_client_that_hung_up_is_refused_by_a_full_log() {
    let (directory, upstream) = (tempfile::tempdir().unwrap(), Upstream::absent());
    let mut misaki = start_batching(directory.path(), "timeout: 100ms", &upstream).await;
    let large = "x".repeat(90_000);
    while misaki.send(&[&large]).await.ok {}
    // Until the batch takes it, and waits for its timeout.
    let before = loop {
        let before = misaki.running.intake();
        if polled(misaki.submit(Signal::Logs, &[&large]), 1).await.is_none() {
            break before;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    until("it is refused", || misaki.running.intake().1 > before.1).await;
    assert_eq!(misaki.running.intake(), (before.0, before.1 + 1));
    misaki.finish().await;
}

/// What a full log refuses behind a batch also goes through the other pipelines of its receiver, but not at each attempt.
#[tokio::test]
async fn attempts_at_a_full_log_seldom_reach_other_pipelines() {
    let (directory, away, there) = (tempfile::tempdir().unwrap(), Upstream::absent(), Upstream::start().await);
    let changes = storage(directory.path(), STORED, ", processors: {batch: {timeout: 1ms}}")
        .replace("max_size: 4194304", "max_size: 1048576")
        .replace(
            "service: {extensions",
            "service: {pipelines: {logs: {processors: [batch]}, logs/2: {receivers: [otlp], exporters: [otlp/2]}}, extensions",
        );
    let mut misaki = Misaki::start(&changes, &[&away, &there]).await;
    let large = "x".repeat(90_000);
    while misaki.send(&[&large]).await.ok {}
    for _ in 0..200 {
        assert!(!misaki.send(&[&format!("late {large}")]).await.ok);
    }
    until("the other queue is empty", || there.kept().iter().any(|name| name.starts_with("late"))).await;
    let copies = there.kept().iter().filter(|name| name.starts_with("late")).count();
    assert!(copies <= 20, "{copies} of 200");
    misaki.finish().await;
}

/// A batch that also holds what no client waits for, here a decision of tail_sampling, cannot be given back: it waits.
#[tokio::test]
async fn a_batch_that_is_not_all_its_clients_waits() {
    let (directory, mut upstream) = (tempfile::tempdir().unwrap(), Upstream::absent());
    let sampling = "tail_sampling: {decision_wait: 10ms, policies: [{name: all, type: always_sample}]}";
    let changes = storage(
        directory.path(),
        STORED,
        &format!(", processors: {{batch: {{timeout: 10ms}}, {sampling}}}"),
    )
    .replace("max_size: 4194304", "max_size: 1048576")
    .replace("service: {extensions", "service: {pipelines: {traces: {receivers: [otlp], processors: [tail_sampling, batch], exporters: [otlp]}}, extensions");
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    for number in 0..20 {
        let name = format!("{number:04}{}", "x".repeat(90_000));
        assert!(misaki.send_by(Via::Grpc, Signal::Traces, &[&name]).await.ok);
    }
    misaki.check();
    assert_eq!(misaki.held(), 20);
    upstream.appear();
    misaki.settle().await;
    assert_eq!(upstream.kept_once().len(), 20);
    misaki.finish().await;
}

/// A backlog larger than the memory of the queue is taken and sent, and holds no more memory than the read-ahead.
#[tokio::test]
async fn a_backlog_is_on_disk_and_not_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let more = ", processors: {memory_limiter: {check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}}";
    let queue = "{sending_queue: {storage: file_storage, num_consumers: 2}}";
    let changes = storage(directory.path(), queue, more)
        .replace("service: {extensions", "service: {pipelines: {logs: {processors: [memory_limiter]}}, extensions");
    let upstream = Upstream::replying(Reply::Hang).await;
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    let limit = misaki.running.budget.limit(misaki::face::telemetry::Share::Queue);
    for index in 0..30 {
        let name = format!("{index}-{}", "x".repeat(100_000));
        let answer = misaki.send(&[&name]).await;
        assert!(answer.ok, "{index}: {answer:?}");
        assert!(misaki.running.budget.used(misaki::face::telemetry::Share::Queue) <= limit / 4 + 200_000);
    }
    assert_eq!(misaki.held(), 30);
    upstream.release();
    misaki.settle().await;
    assert_eq!(upstream.kept_once().len(), 30);
    misaki.finish().await;
}

/// A full disk refuses with a hint, keeps what it has, and takes more when it has drained.
#[tokio::test]
async fn a_full_quota_refuses_and_drains() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::replying(Reply::Hang).await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    let large = "x".repeat(200_000);
    let mut taken = 0;
    let refused = loop {
        let answer = misaki.send(&[&format!("{taken}-{large}")]).await;
        if !answer.ok {
            break answer;
        }
        taken += 1;
        assert!(taken < 30);
    };
    assert_eq!(refused.code, 503);
    assert!(refused.hint.is_some_and(|hint| hint >= SECOND), "{refused:?}");
    assert!(taken >= 15, "{taken} of 200 KB in 4 MiB");
    misaki.check();
    upstream.release();
    misaki.settle().await;
    assert_eq!(upstream.kept_once().len(), taken);
    let mut again = false;
    for _ in 0..40 {
        again = misaki.send(&[&large]).await.ok;
        if again {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(again, "there is room again");
    misaki.settle().await;
    misaki.finish().await;
}

#[tokio::test]
async fn queue_size_bounds_what_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::replying(Reply::Hang).await;
    let queue = "{sending_queue: {storage: file_storage, queue_size: 5, num_consumers: 2}}";
    let mut misaki = start(directory.path(), queue, &upstream).await;
    for name in numbered("a", 5) {
        assert!(misaki.send(&[&name]).await.ok);
    }
    let refused = misaki.send(&["b"]).await;
    assert_eq!((refused.code, refused.message.as_str()), (503, "sending queue is full (queue_size: 5 of 5 requests)"));
    misaki.finish_within(Duration::from_secs(8)).await;
    drop(misaki);
    let mut misaki = start(directory.path(), queue, &upstream).await;
    assert!(!misaki.send(&["b"]).await.ok, "it is as full as it was");
    upstream.release();
    misaki.settle().await;
    assert!(misaki.send(&["b"]).await.ok);
    misaki.settle().await;
    misaki.finish().await;
}

/// With `wait_for_result` nothing is written on a healthy day; without an answer in time, success means the disk.
#[tokio::test]
async fn written_only_when_no_answer_comes() {
    let directory = tempfile::tempdir().unwrap();
    let queue = "{sending_queue: {storage: file_storage, wait_for_result: true}}";
    let segments = || {
        let log = directory.path().join("misaki/exporter_otlp_logs");
        let names = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".segment")).count()
    };
    let upstream = Upstream::start().await;
    let mut misaki = start(directory.path(), queue, &upstream).await;
    for name in numbered("a", 20) {
        assert!(misaki.send(&[&name]).await.ok);
        assert_eq!(upstream.kept().last(), Some(&name), "OK means that it is there");
    }
    assert_eq!((segments(), misaki.held()), (0, 0));
    upstream.script(|_| Reply::Hang);
    let before = std::time::Instant::now();
    assert!(misaki.send(&["b"]).await.ok);
    assert!(before.elapsed() >= Duration::from_millis(240), "{:?}", before.elapsed());
    assert_eq!((segments(), misaki.held()), (1, 1));
    misaki.check();
    misaki.finish_within(Duration::from_secs(8)).await;
    drop(misaki);
    upstream.script(|_| Reply::Accept);
    let mut misaki = start(directory.path(), queue, &upstream).await;
    misaki.settle().await;
    assert_eq!(upstream.kept().last().map(String::as_str), Some("b"));
    upstream.script(|_| Reply::Grpc(9, "no", None));
    let refused = misaki.send_by(Via::Grpc, Signal::Logs, &["c"]).await;
    assert_eq!((refused.code, refused.message.as_str()), (9, "no"), "a final answer in time is passed on");
    misaki.settle().await;
    misaki.finish().await;
}

/// One process at a time.
#[tokio::test]
async fn a_log_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    let log = directory.path().join("misaki/exporter_otlp_logs");
    let taken = misaki::face::sending::Directory::take(&log, Duration::from_millis(50));
    assert!(taken.is_err_and(|error| error.to_string().contains("in use")));
    misaki.finish().await;
}

fn queue_command(arguments: &[&str]) -> (bool, String) {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_misaki")).arg("queue").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// What the upstream rejects is kept; a person looks at it, and sends it again.
#[tokio::test]
async fn dead_letters_are_kept_and_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let upstream = Upstream::scripted(|arrival| match arrival.names[0].as_str() {
        "bad" => Reply::Grpc(3, "bad", None),
        _ => Reply::Accept,
    })
    .await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    for name in ["good", "bad", "better"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    misaki.settle().await;
    let line = "logs to otlp: 3 accepted = 2 exported + 1 dropped (rejected_upstream 1) + 0 left";
    assert_eq!(misaki.line("otlp"), line);
    let (ok, said) = queue_command(&["replay", path, "exporter_otlp_logs"]);
    assert!(!ok && said.contains("in use"), "{said}");
    misaki.finish().await;
    drop(misaki);
    let name = "exporter_otlp_logs";
    let nowhere = ("error: cannot read /nope: No such file or directory\n", "error: there are no queues in /\n");
    assert_eq!(queue_command(&["list", "/nope"]), (false, nowhere.0.to_owned()));
    assert_eq!(queue_command(&["list", "/"]), (false, nowhere.1.to_owned()));
    let (ok, said) = queue_command(&["list", path]);
    assert!(ok && said == "exporter_otlp_logs: 0 requests, 0 items, 0 bytes\n", "{said}");
    let (ok, said) = queue_command(&["inspect", path, name]);
    assert!(ok && said.contains("rejected_upstream: 1 item, "), "{said}");
    let (ok, said) = queue_command(&["export", "--dead", path, name]);
    assert!(ok && said.lines().count() == 1 && said.contains("\"bad\""), "{said}");
    let (ok, said) = queue_command(&["replay", path, name]);
    assert!(ok && said.starts_with("1 request with 1 item is in the queue again\n"), "{said}");
    let (_, said) = queue_command(&["list", path]);
    assert!(said.starts_with("exporter_otlp_logs: 1 request, 1 item, "), "{said}");
    upstream.script(|_| Reply::Accept);
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    misaki.settle().await;
    misaki.finish().await;
    assert_eq!(upstream.kept(), ["good", "better", "bad"]);
    drop(misaki);
    let (ok, said) = queue_command(&["drop", "--dead", "--yes", path, name]);
    assert!(ok && said.starts_with("0 requests"), "{said}");
}

/// A folder with the Go collector's queues keeps them as they are.
#[tokio::test]
async fn the_go_collectors_queues_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let theirs = directory.path().join("exporter_otlp__logs");
    std::fs::write(&theirs, b"bolt").unwrap();
    let upstream = Upstream::start().await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    assert!(misaki.send(&["a"]).await.ok);
    misaki.settle().await;
    misaki.finish().await;
    assert_eq!(std::fs::read(&theirs).unwrap(), b"bolt");
}

/// Where a sync promises less than it says, the start says so; on a disk it does not.
#[cfg(target_os = "linux")]
#[test]
fn storage_in_memory_is_warned_of() {
    use std::io::{BufRead, BufReader};
    // Until it listens: by then it has warned.
    let said = |directory: &Path| {
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0}}}}}}}}, exporters: {{nop: }}, extensions: {{file_storage: {{directory: {}}}}}, service: {{extensions: [file_storage], telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}}}",
            directory.display()
        );
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_misaki"));
        let mut child = command.args(["--config", &config]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        for line in lines {
            said += &line;
            if line.contains("127.0.0.1:") {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said
    };
    let memory = said(Path::new("/dev/shm"));
    assert!(memory.contains("the storage is memory (tmpfs)") && memory.contains("/dev/shm"), "{memory}");
    let target = Path::new(env!("CARGO_MANIFEST_DIR"));
    if misaki::face::sending::directory::hazard(target).is_none() {
        let disk = said(target);
        assert!(!disk.contains("the storage is"), "{disk}");
    }
}

/// What an older build has left: `fixtures/storage`, copied for an exporter that is called `otlp`.
fn left_by_an_older_build(directory: &Path) -> std::path::PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/storage/misaki/exporter_otlp_http_logs");
    let to = directory.join("misaki/exporter_otlp_logs");
    copy(&from, &to);
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// All files below, with what is in them.
fn contents(path: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut all: std::collections::BTreeMap<_, _> =
        files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    folders.iter().for_each(|folder| all.extend(contents(folder)));
    all
}

/// A queue of each format that was ever written opens with all that was in it: two runs of 0.1, the second killed.
#[tokio::test]
async fn a_queue_of_an_older_build_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    left_by_an_older_build(directory.path());
    let (path, name) = (directory.path().to_str().unwrap(), "exporter_otlp_logs");
    let before = contents(directory.path());
    let (ok, said) = queue_command(&["list", path]);
    assert!(ok && said.starts_with("exporter_otlp_logs: 6 requests, 7 items, 406 bytes, "), "{said}");
    let (_, said) = queue_command(&["inspect", path, name]);
    assert!(said.contains("damaged: 0 bytes\nlost: 0 items") && said.contains("rejected_upstream: 1 item, "), "{said}");
    let (_, dead) = queue_command(&["export", "--dead", path, name]);
    assert!(dead.lines().count() == 1 && dead.contains("\"rejected\""), "{dead}");
    assert_eq!(contents(directory.path()), before, "looking writes nothing");
    // What is damaged is told where one looks first.
    let damaged = tempfile::tempdir().unwrap();
    left_by_an_older_build(damaged.path());
    for (file, mut bytes) in contents(damaged.path()) {
        if let Some(middle) = bytes.len().checked_sub(200).filter(|_| file.display().to_string().contains(name)) {
            bytes[middle..middle + 40].fill(0xff);
            std::fs::write(file, bytes).unwrap();
        }
    }
    let (ok, said) = queue_command(&["list", damaged.path().to_str().unwrap()]);
    assert!(ok && said.contains(", damaged: "), "{said}");
    let upstream = Upstream::start().await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    assert!(misaki.send(&["new"]).await.ok);
    misaki.settle().await;
    let mut expected = numbered("kept", 7);
    expected[6] += &".".repeat(300);
    expected.push("new".to_owned());
    assert_eq!(upstream.kept(), expected);
    assert_eq!(misaki.line("otlp"), "logs to otlp: 8 accepted = 8 exported + 0 dropped + 0 left");
    misaki.finish().await;
}

/// A newer build's queue is refused by each way in, and not a byte of it changes.
#[tokio::test]
async fn a_queue_of_a_newer_build_is_refused_untouched() {
    use misaki::face::sending::crc;
    for file in ["0000000000000002.segment", "marks"] {
        let directory = tempfile::tempdir().unwrap();
        let newer = left_by_an_older_build(directory.path()).join(file);
        let mut bytes = std::fs::read(&newer).unwrap();
        bytes[8] = 2;
        let check = crc([&bytes[..60]]);
        bytes[60..64].copy_from_slice(&check.to_le_bytes());
        std::fs::write(&newer, bytes).unwrap();
        let before = contents(directory.path());
        let (path, name) = (directory.path().to_str().unwrap(), "exporter_otlp_logs");
        let why = format!("{file} was written by a newer version (format 2, this one knows 1)");
        for command in [&["list", path][..], &["inspect", path, name], &["replay", path, name]] {
            let (ok, said) = queue_command(command);
            assert!(!ok && said.contains(&why), "{said}");
        }
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:0}}}}}}}}, exporters: {{otlp: {{endpoint: 127.0.0.1:9, sending_queue: {{storage: file_storage}}}}}}, extensions: {{file_storage: {{directory: {path}}}}}, service: {{extensions: [file_storage], telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [otlp]}}}}}}}}"
        );
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_misaki"));
        let output = command.args(["--config", &config]).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(20), output).await.expect("it ends").unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(&why), "{said}");
        assert!(contents(directory.path()) == before, "{file}: untouched");
    }
}

/// What is replayed waits like anything else: it goes where the exporter sends now, with its credentials of now.
#[tokio::test]
async fn replayed_letters_go_where_the_exporter_sends_now() {
    let directory = tempfile::tempdir().unwrap();
    let settings = |token: &str| {
        let stored = "{auth: {authenticator: bearertokenauth}, sending_queue: {storage: file_storage}}";
        let config = storage(directory.path(), stored, "");
        let config =
            config.replacen("{file_storage", &format!("{{bearertokenauth: {{token: {token}}}, file_storage"), 1);
        config.replace("[file_storage]", "[bearertokenauth, file_storage]")
    };
    let refuses = Upstream::replying(Reply::Grpc(3, "bad", None)).await;
    let mut misaki = Misaki::start(&settings("old"), &[&refuses]).await;
    assert!(misaki.send(&["letter"]).await.ok);
    misaki.settle().await;
    misaki.finish().await;
    drop(misaki);
    let (ok, said) = queue_command(&["replay", directory.path().to_str().unwrap(), "exporter_otlp_logs"]);
    assert!(ok && said.starts_with("1 request with "), "{said}");
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start(&settings("new"), &[&upstream]).await;
    misaki.settle().await;
    misaki.finish().await;
    assert_eq!((upstream.kept(), refuses.requests()), (vec!["letter".to_owned()], 1));
    let authorization = upstream.arrivals()[0].headers["authorization"].clone();
    assert_eq!(authorization, "Bearer new");
}

/// Cannot bear one record.
struct Brittle;

impl misaki::face::exporters::Exporter for Brittle {
    fn encode<'a>(
        &'a self,
        telemetry: &'a misaki::face::telemetry::Telemetry,
    ) -> misaki::face::exporters::Encoding<'a> {
        Box::pin(async {
            let payload = misaki::face::exporters::Payload::of(telemetry);
            assert!(!payload.body.iter().any(|body| body.ends_with(b"poison")));
            payload
        })
    }

    fn send<'a>(&'a self, _: &'a misaki::face::exporters::Payload) -> misaki::face::exporters::Sending<'a> {
        Box::pin(async { Ok(misaki::face::exporters::Accepted::default()) })
    }

    fn destination(&self) -> String {
        "nowhere".to_owned()
    }
}

/// A record that nothing can be done with is put aside by the first panic: it stops no other, and no restart meets it.
#[tokio::test]
async fn what_panics_is_put_aside() {
    use misaki::face::exporters::{QueueSettings, Retry, Settings};
    let directory = tempfile::tempdir().unwrap();
    let (path, name) = (directory.path().to_str().unwrap(), "exporter_otlp_logs");
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut misaki = start(directory.path(), STORED, &away).await;
    for name in ["before", "poison", "after"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    let (initial_interval, max_interval) = (Duration::from_millis(10), Duration::from_millis(10));
    let (randomization_factor, multiplier, max_elapsed_time) = (0.0, 1.0, None);
    let retry =
        Retry { enabled: true, initial_interval, randomization_factor, multiplier, max_interval, max_elapsed_time };
    let settings = Settings { timeout: None, queue: QueueSettings::off(), retry };
    let queue = misaki.running.graph.queues.iter().find(|queue| queue.path().is_some()).unwrap();
    queue.change(misaki::face::sending::Way { settings, exporter: std::sync::Arc::new(Brittle) });
    misaki.settle().await;
    assert_eq!(misaki.line("otlp"), "logs to otlp: 3 accepted = 2 exported + 1 dropped (internal 1) + 0 left");
    misaki.finish().await;
    drop(misaki);
    let (_, said) = queue_command(&["inspect", path, name]);
    assert!(said.starts_with("waiting: 0 requests") && said.contains("internal: 1 item, "), "{said}");
    let (_, said) = queue_command(&["export", "--dead", path, name]);
    assert!(said.lines().count() == 1 && said.contains("\"poison\""), "{said}");
}

/// The queue's directory is removed while it is in use: the request that finds out is refused, what was acknowledged
/// before and after survives the process.
#[tokio::test]
async fn a_directory_removed_while_in_use_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let misaki = start(directory.path(), STORED, &away).await;
    for name in ["a", "b", "c"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    let queue = directory.path().join("misaki/exporter_otlp_logs");
    std::fs::remove_dir_all(&queue).unwrap();
    let answers = [misaki.send(&["d"]).await, misaki.send(&["e"]).await, misaki.send(&["f"]).await];
    assert!(answers[1].ok && answers[2].ok, "{answers:?}");
    // It may have noticed by itself, before.
    if !answers[0].ok {
        assert_eq!((answers[0].code, answers[0].message.as_str()), (503, "the disk failed"));
        assert_eq!(misaki.line("otlp"), "logs to otlp: 5 accepted = 0 exported + 0 dropped + 5 left on disk");
        assert_eq!(misaki.running.intake(), (5, 1));
    }
    misaki.check();
    // As kill -9 would leave it.
    let copied = tempfile::tempdir().unwrap();
    copy(&queue, &copied.path().join("misaki/exporter_otlp_logs"));
    let upstream = Upstream::start().await;
    let again = start(copied.path(), STORED, &upstream).await;
    again.settle().await;
    let kept = upstream.kept_once();
    let lost: Vec<_> =
        ["a", "b", "c", "e", "f"].into_iter().filter(|name| !kept.iter().any(|kept| kept == name)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// A segment that is full and no more open is removed: seen within seconds, before anything is read, and counted exactly.
#[tokio::test]
async fn a_closed_segment_that_is_removed_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let queue = "{sending_queue: {storage: file_storage, num_consumers: 1, queue_size: 100000000, sizer: bytes}}";
    let more = ", processors: {memory_limiter: {check_interval: 1s, limit_mib: 3, spike_limit_mib: 1}}";
    let changes = storage(directory.path(), queue, more)
        .replace("service: {extensions", "service: {pipelines: {logs: {processors: [memory_limiter]}}, extensions");
    let misaki = Misaki::start(&changes, &[&away]).await;
    for index in 0..30 {
        let name = format!("{index}-{}", "x".repeat(100_000));
        assert!(misaki.send(&[&name]).await.ok);
    }
    let folder = directory.path().join("misaki/exporter_otlp_logs");
    let mut segments: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|kind| kind == "segment"));
    segments.sort();
    // Neither the one that is read nor the one that is written.
    assert!(segments.len() > 2, "{segments:?}");
    let removed = &segments[segments.len() - 2];
    let bytes = std::fs::metadata(removed).unwrap().len();
    std::fs::remove_file(removed).unwrap();
    let balance = || misaki.running.balance().remove(0);
    until("it is seen", || !balance().dropped.is_empty()).await;
    let balance = balance();
    let dropped: u64 = balance.dropped.iter().map(|(_, items)| items).sum();
    assert_eq!((balance.accepted, balance.left), (30, 30 - dropped), "{balance:?}");
    assert_eq!(dropped, bytes / 100_000, "{balance:?}");
    misaki.check();
}

/// Somebody else's directory is not taken, and no link is followed: neither among its files nor in its own place.
#[cfg(unix)]
#[tokio::test]
async fn links_and_directories_of_others_are_refused() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use misaki::face::sending::{Directory, Disk};

    let directory = tempfile::tempdir().unwrap();
    let (queue, outside) = (directory.path().join("misaki/exporter_otlp_logs"), directory.path().join("outside"));
    let take = || Directory::take(&queue, Duration::ZERO).map_err(|error| error.to_string());
    std::fs::create_dir_all(&queue).unwrap();
    symlink(&outside, queue.join("lock")).unwrap();
    assert!(take().is_err_and(|error| error.contains("lock is a link")) && !outside.exists());
    std::fs::remove_file(queue.join("lock")).unwrap();
    std::fs::write(&outside, "precious").unwrap();
    symlink(&outside, queue.join("attempts")).unwrap();
    pipe(&queue.join("marks"));
    let taken = take().unwrap();
    for name in ["attempts", "marks"] {
        assert!(taken.open(name).is_err_and(|error| error.to_string().contains("must be a file")), "{name}");
    }
    drop(taken);
    std::fs::remove_file(queue.join("marks")).unwrap();
    pipe(&queue.join("0000000000000001.segment"));
    let (ok, said) = queue_command(&["list", directory.path().to_str().unwrap()]);
    assert!(!ok && said.contains("must be a file"), "{said}");
    let mode = |mode| std::fs::set_permissions(&queue, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    assert!(take().is_err_and(|error| error.contains("everyone may write to it")));
    // As Kubernetes leaves the volumes that it gives to a group.
    mode(0o2775);
    assert!(take().is_ok());
    if chown(&queue, Some(65534), None).is_ok() {
        assert!(take().is_err_and(|error| error.contains("belongs to user 65534")));
        chown(&queue, Some(0), None).unwrap();
        chown(queue.parent().unwrap(), Some(65534), None).unwrap();
        assert!(take().is_err_and(|error| error.contains("misaki belongs to user 65534")));
        chown(queue.parent().unwrap(), Some(0), None).unwrap();
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"precious");
}

/// A link in the place of the queue's directory: nothing is written to where it leads.
#[cfg(unix)]
#[tokio::test]
async fn a_directory_exchanged_for_a_link_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, alien) = (directory.path().join("misaki/exporter_otlp_logs"), directory.path().join("alien"));
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let misaki = start(directory.path(), STORED, &away).await;
    assert!(misaki.send(&["a"]).await.ok);
    std::fs::create_dir(&alien).unwrap();
    std::fs::rename(&queue, directory.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(&alien, &queue).unwrap();
    for name in ["b", "c"] {
        assert!(!misaki.send(&[name]).await.ok);
    }
    assert_eq!(std::fs::read_dir(&alien).unwrap().count(), 0);
    misaki.check();
    std::fs::remove_file(&queue).unwrap();
    std::fs::rename(directory.path().join("moved"), &queue).unwrap();
    let mut tries = 0;
    while !misaki.send(&["d"]).await.ok {
        tries += 1;
        assert!(tries < 100, "it goes on when its own directory is back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A disk that fails under way: its requests are refused, not accepted and dropped; it goes on when the disk does.
#[tokio::test]
async fn what_a_failing_disk_refuses_was_not_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let misaki = start(directory.path(), STORED, &away).await;
    assert!(misaki.send(&["a"]).await.ok);
    let queue = directory.path().join("misaki/exporter_otlp_logs");
    std::fs::remove_dir_all(&queue).unwrap();
    // Nothing can be made here.
    std::fs::write(&queue, "in the way").unwrap();
    for name in ["b", "c", "d"] {
        let answer = misaki.send(&[name, "x"]).await;
        assert_eq!((answer.code, answer.hint.is_some()), (503, true), "{answer:?}");
        misaki.check();
    }
    let balance = misaki.running.balance().remove(0);
    assert_eq!((balance.accepted, balance.dropped, balance.left), (1, vec![], 1));
    assert_eq!(misaki.running.intake(), (1, 6));
    std::fs::remove_file(&queue).unwrap();
    away.script(|_| Reply::Accept);
    let mut answer = misaki.send(&["e"]).await;
    let end = std::time::Instant::now() + Duration::from_secs(15);
    while !answer.ok && std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
        answer = misaki.send(&["e"]).await;
    }
    assert!(answer.ok, "{answer:?}");
    misaki.settle().await;
    assert_eq!(away.kept_once(), ["a", "e"]);
}

/// A record that ends the process each time it is sent: after three such runs it is put aside, and no other with it. The
/// process is ended by copying its files while the upstream is still thinking.
#[tokio::test]
async fn what_ends_the_process_is_put_aside() {
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut directory = tempfile::tempdir().unwrap();
    let mut misaki = start(directory.path(), STORED, &away).await;
    for name in ["before", "poison", "after"] {
        assert!(misaki.send(&[name]).await.ok);
    }
    misaki.finish().await;
    drop(misaki);
    let killed = |directory: &Path| {
        let copied = tempfile::tempdir().unwrap();
        copy(directory, copied.path());
        copied
    };
    // In the first run it is not alone; then it is, three times. Each has an upstream of its own: what was killed in this
    // process may still be trying.
    let mut kept = Vec::new();
    for _ in 1..=4 {
        let upstream = Upstream::scripted(|arrival| match arrival.names.iter().any(|name| name == "poison") {
            true => Reply::Hang,
            false => Reply::Accept,
        })
        .await;
        let misaki = start(directory.path(), STORED, &upstream).await;
        let arrived = || upstream.arrivals().iter().any(|arrival| arrival.names == ["poison"]);
        until("it is under way, alone", || arrived() && misaki.held() == 1).await;
        // The marks are written within their time.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let next = killed(directory.path());
        kept.extend(upstream.kept());
        drop(misaki);
        directory = next;
    }
    let upstream = Upstream::start().await;
    let mut misaki = start(directory.path(), STORED, &upstream).await;
    misaki.settle().await;
    assert_eq!(misaki.line("otlp"), "logs to otlp: 1 accepted = 0 exported + 1 dropped (internal 1) + 0 left");
    assert!(misaki.send(&["later"]).await.ok);
    misaki.settle().await;
    kept.extend(upstream.kept());
    kept.sort();
    kept.dedup();
    assert_eq!(kept, ["after", "before", "later"]);
    misaki.finish().await;
    let path = directory.path().to_str().unwrap();
    let (_, said) = queue_command(&["inspect", path, "exporter_otlp_logs"]);
    assert!(said.contains("internal: 1 item, "), "{said}");
}

/// A process that is killed again and again while its upstream is away loses nothing to that: an attempt that came to an
/// end is no crime.
#[tokio::test]
async fn a_run_that_is_killed_while_the_upstream_is_away_blames_nobody() {
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut directory = tempfile::tempdir().unwrap();
    for run in 0..6 {
        let misaki = start(directory.path(), STORED, &away).await;
        let before = away.requests();
        assert!(misaki.send(&[&format!("a{run}")]).await.ok);
        until("it is tried", || away.requests() > before + 2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let copied = tempfile::tempdir().unwrap();
        copy(directory.path(), copied.path());
        drop(misaki);
        directory = copied;
    }
    // What was killed in this process may still be trying, so the upstream is another.
    let upstream = Upstream::start().await;
    let misaki = start(directory.path(), STORED, &upstream).await;
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), numbered("a", 6));
}
