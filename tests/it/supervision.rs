//! What must run and ends: each part of a collector in turn. It is counted, health is red, and what can be started again is.

use std::time::Duration;

use misaki::face::diagnostics::{Observe, Page};
use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, Subject};
use misaki::face::telemetry::Signal;

use super::harness::*;
use super::hostmetrics::host;

const STEADY: Duration = Duration::from_secs(11);

struct Collector {
    misaki: Misaki,
    _inspection: Inspection,
    health: u16,
    upstream: Upstream,
    /// Where debug prints.
    out: std::path::PathBuf,
    directory: tempfile::TempDir,
    _host: tempfile::TempDir,
}

/// One with every part that there is; its metrics are on a port of their own.
async fn start() -> Collector {
    let (directory, host) = (tempfile::tempdir().unwrap(), host());
    let (upstream, health, metrics) = (Upstream::start().await, free_port().await, free_port().await);
    let out = directory.path().join("out.txt");
    let stored = directory.path().display();
    let changes = format!(
        "receivers: {{hostmetrics: {{root_path: '{}', initial_delay: 1h, scrapers: {{memory: }}}}}}
extensions: {{health_check: {{endpoint: \"127.0.0.1:{health}\"}}, file_storage: {{directory: '{stored}', max_size: 4194304}}}}
processors: {{batch: {{timeout: 10ms}}}}
exporters:
  otlp: {{sending_queue: {{batch: {{min_size: 1, flush_timeout: 10ms}}}}}}
  otlp_http: {{sending_queue: {{storage: file_storage}}}}
  debug: {{output_paths: ['{}']}}
service:
  extensions: [health_check, file_storage]
  telemetry: {{metrics: {{level: normal, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}
  pipelines:
    logs: {{processors: [batch], exporters: [otlp]}}
    traces: {{receivers: [otlp], exporters: [otlp_http]}}
    metrics: {{receivers: [otlp, hostmetrics], exporters: [debug]}}",
        host.path().display(),
        out.display(),
    );
    let misaki = Misaki::start_on(2, &changes, &[&upstream]).await;
    let config = Config { path: Some(directory.path().join("misaki.sock")), ..Config::default() };
    let _inspection = Inspection::open(&config, Subject::new(vec!["test.yaml".into()], &misaki.running)).unwrap();
    Collector { misaki, _inspection, health, upstream, out, directory, _host: host }
}

impl Collector {
    /// What counted a failure, and how many.
    fn failures(&self) -> Vec<String> {
        let mut page = Page::default();
        self.misaki.running.workers.supervisor.observe(&mut page);
        let lines = page.text();
        let failed = lines.lines().filter_map(|line| line.strip_prefix("misaki_internal_failures{part=\""));
        failed.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    fn verdict(&self) -> Result<(), String> {
        self.misaki.running.health.verdict()
    }

    fn fail(&self, part: &str) {
        assert!(self.misaki.running.workers.supervisor.fail(part), "there is no {part}");
    }
}

/// A part that is not in the list is not watched: whoever adds a task that must run adds it here.
#[tokio::test]
async fn everything_that_must_run_is_watched() {
    let collector = start().await;
    rest().await;
    let parts = collector.misaki.running.workers.supervisor.parts();
    let expected = [
        "admin thread",
        "disk log of otlp_http, traces",
        "drain after a reload",
        "grpc receiver",
        "health check",
        "http receiver",
        "local socket",
        "metrics endpoint",
        "output of debug",
        "queue of otlp, logs",
        "queue of otlp_http, traces",
        "receiver hostmetrics",
        "timekeeper",
        "worker 1",
    ];
    assert_eq!(parts, expected);
    assert_eq!((collector.failures(), collector.verdict()), (vec![], Ok(())));
}

/// Each task in turn fails, is told of, and works again.
#[tokio::test]
async fn a_task_that_fails_is_started_again() {
    let collector = start().await;
    let Collector { misaki, upstream, .. } = &collector;
    // The thread of these two has a clock of its own, which is not moved: they come before the others move theirs.
    for part in ["health check", "metrics endpoint"] {
        collector.fail(part);
        until(part, || collector.failures().contains(&format!("{part}\"}} 1"))).await;
        assert_eq!(get(collector.health, "/").await.0, 503, "{part}");
    }
    jump(STEADY).await;
    assert_eq!(collector.verdict(), Ok(()));
    let tasks = ["timekeeper", "queue of otlp, logs", "queue of otlp_http, traces", "grpc receiver", "http receiver"];
    let more = ["local socket", "receiver hostmetrics"];
    for (number, part) in tasks.into_iter().chain(more).enumerate() {
        collector.fail(part);
        until(part, || collector.verdict().is_err()).await;
        assert_eq!(collector.verdict(), Err(format!("{part}: it failed by an internal error, and was started again")));
        assert_eq!(collector.failures().len(), number + 3, "{:?}", collector.failures());
        assert!(collector.failures().contains(&format!("{part}\"}} 1")), "{:?}", collector.failures());
        // It is red for every probe, and works again.
        assert_eq!(get(collector.health, "/").await.0, 503, "{part}");
        let name = format!("a{number}");
        for via in [Via::Http, Via::Grpc] {
            assert!(misaki.send_by(via, Signal::Logs, &[&name]).await.ok, "{part}");
            assert!(misaki.send_by(via, Signal::Traces, &[&name]).await.ok, "{part}");
        }
        until(&format!("all arrive after {part}"), || {
            upstream.kept().iter().filter(|kept| **kept == name).count() == 4
        })
        .await;
        jump(STEADY).await;
        assert_eq!(collector.verdict(), Ok(()), "{part}");
    }
    collector.misaki.settle().await;
}

/// One that goes on failing is not started without a pause.
#[tokio::test]
async fn pauses_grow_while_a_task_goes_on_failing() {
    let collector = start().await;
    for _ in 0..12 {
        collector.fail("timekeeper");
        jump(Duration::from_secs(1)).await;
    }
    let failures = collector.failures();
    let count: u32 = failures[0].rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((4..=8).contains(&count), "{failures:?}");
    assert!(collector.verdict().is_err());
}

/// A thread that is gone stays gone, and red: what it had is not waited for, and what it would take is refused.
#[tokio::test]
async fn a_log_on_disk_that_ends_takes_no_more() {
    let collector = start().await;
    let misaki = &collector.misaki;
    assert!(misaki.send_by(Via::Http, Signal::Traces, &["a"]).await.ok);
    misaki.settle().await;
    collector.fail("disk log of otlp_http, traces");
    let answer = misaki.send_by(Via::Http, Signal::Traces, &["b"]).await;
    until("it is told", || !collector.failures().is_empty()).await;
    if answer.ok {
        // It was written in the round before.
        misaki.settle().await;
    }
    let refused = misaki.send_by(Via::Http, Signal::Traces, &["c"]).await;
    assert_eq!((refused.code, refused.message.as_str()), (503, "the disk failed"));
    jump(STEADY).await;
    let why = "disk log of otlp_http, traces: it ended by an internal error: restart the collector";
    assert_eq!(collector.verdict(), Err(why.to_owned()));
    assert!(misaki.send_by(Via::Http, Signal::Logs, &["d"]).await.ok, "others go on");
    until("others go on", || collector.upstream.kept().contains(&"d".to_owned())).await;
    misaki.check();
}

/// What a writer had is lost by name; nobody waits for it.
#[tokio::test]
async fn an_output_that_ends_loses_by_name() {
    let collector = start().await;
    let misaki = &collector.misaki;
    assert!(misaki.send_by(Via::Http, Signal::Metrics, &["a"]).await.ok);
    until("it is printed", || misaki.held() == 0).await;
    assert!(std::fs::read_to_string(&collector.out).unwrap().contains("a"), "{:?}", collector.directory);
    collector.fail("output of debug");
    for name in ["b", "c"] {
        assert!(misaki.send_by(Via::Http, Signal::Metrics, &[name]).await.ok);
        until("nothing is held", || misaki.held() == 0).await;
    }
    let line = "metrics to debug: 3 accepted = 1 exported + 2 dropped (output_too_slow 2) + 0 left";
    assert_eq!(misaki.line("debug"), line);
    let why = "output of debug: it ended by an internal error: restart the collector";
    assert_eq!(collector.verdict(), Err(why.to_owned()));
    misaki.check();
}

/// A worker takes its dispatchers and connections along: never unseen.
#[tokio::test]
async fn a_worker_that_ends_is_told() {
    let collector = start().await;
    collector.fail("worker 1");
    until("it is told", || collector.failures().iter().any(|part| part.starts_with("worker 1"))).await;
    jump(STEADY).await;
    assert!(collector.verdict().is_err_and(|why| why.ends_with("restart the collector")));
}

/// A writer that panics, as that of the log itself: nobody waits for it, and what comes later is not taken.
#[test]
fn an_output_says_that_it_has_failed() {
    use misaki::face::diagnostics::output::{Counts, Outcome, Output, Owner, Plain, Sink, Why};
    struct Nobody;
    impl Owner for Nobody {
        fn settle(&self, _: Counts, _: Outcome) {}
        fn notice(&self, _: Counts, _: Why, _: &str) -> String {
            String::new()
        }
    }
    struct Panics;
    impl std::io::Write for Panics {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            panic!("a writer")
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let output = Output::start(vec![Sink::new("it", Panics)], 1 << 20, Box::new(Nobody), Plain, None).unwrap();
    assert!(!output.has_failed() && output.offer(b"text".to_vec(), 4, Counts::default()));
    let started = std::time::Instant::now();
    while !output.has_failed() {
        assert!(started.elapsed() < STEADY);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!output.offer(b"more".to_vec(), 4, Counts::default()));
    assert_eq!(output.close(STEADY), 0);
    assert!(started.elapsed() < STEADY, "nobody waits for it");
}
