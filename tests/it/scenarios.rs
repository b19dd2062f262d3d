//! Who uses it, and what they must see: each scenario by its name, in-process and small. The same with real peers:
//!
//! | | here | with real SDKs, collectors, networks, boxes |
//! |---|---|---|
//! | S1 health-reporter and its dump | `s1_…` | `tests/interop/run --only s1` |
//! | S2 `slog` without context | `s2_…` | `tests/interop/run --only s2` |
//! | S3 the slow purchase | `s3_…`, and every shape of it in `tree` | |
//! | S4 two collectors, two networks | `s4_…`, and `storage`, `tests/hostile/kill.rs` | `tests/field/two-networks`, `tests/field/outage` |
//! | S5 the three pillars | `s5_…` | `tests/interop/run --only s5` (gRPC, HTTP, each with TLS) |
//! | S6 an existing config | `s6_…` | `tests/interop/run --only s6`, beside the Go collector |
//! | S7 a small box | `s7_…`, and `tests/hostile` | `tests/hostile/small-box` |
//!
//! What clients send is what `misaki send` sends (`src/cli/send/`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use misaki::face::config;
use misaki::face::service::Plan;
use misaki::face::telemetry::{Share, Signal};

use crate::harness::*;

const HEALTH_REPORTER: &str = include_str!("../../src/cli/send/health-reporter.jsonl");
const SLOG: &str = include_str!("../../src/cli/send/slog.jsonl");
const PURCHASE: &str = include_str!("../../src/cli/send/purchase.jsonl");
const PILLARS: &str = include_str!("../../src/cli/send/pillars.jsonl");

/// The team's config, as the interop suite gives it to both collectors.
const INTEROP_CONFIGS: &str = include_str!("../interop/driver/configs.py");

/// Ports that are free, under a config that names others.
const ON_FREE_PORTS: &str = "{receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0'}}}}, service: {telemetry: {metrics: {level: none}}}}";

/// `debug` into a file; without colours and widths of a terminal.
struct Printed(PathBuf);

impl Printed {
    fn into(folder: &Path) -> Printed {
        Printed(folder.join("printed.txt"))
    }

    /// For the exporter `id`.
    fn config(&self, id: &str) -> String {
        format!("{{exporters: {{{id}: {{output_paths: ['{}']}}}}}}", self.0.display())
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    async fn await_all(&self, parts: &[&str]) {
        until(&format!("{parts:?} are printed"), || parts.iter().all(|part| self.text().contains(part))).await;
    }
}

/// Sends the requests of a scenario, in their order; returns how many there were.
async fn send(misaki: &Misaki, scenario: &str) -> usize {
    for line in scenario.lines() {
        let signal = match line {
            _ if line.contains("\"resourceLogs\"") => Signal::Logs,
            _ if line.contains("\"resourceMetrics\"") => Signal::Metrics,
            _ => Signal::Traces,
        };
        let answer = misaki.ports.post_json(signal, line.to_owned()).await;
        assert!(answer.ok, "{answer:?}");
    }
    scenario.lines().count()
}

/// Without a config of one's own, but for the ports and the place of what is printed.
async fn without_config(printed: &Printed) -> Misaki {
    let both = [printed.config("debug/detailed"), printed.config("debug/normal")];
    Misaki::load(&[include_str!("../../pipelines/debug.yaml"), ON_FREE_PORTS, &both[0], &both[1]], 1, &|_| None).await
}

fn value_after<'t>(text: &'t str, label: &str) -> &'t str {
    text.split(label).nth(1).and_then(|rest| rest.lines().next()).unwrap_or_else(|| panic!("no {label} in:\n{text}"))
}

#[tokio::test]
async fn s1_health_reporter_is_printed_with_its_ids() {
    let folder = tempfile::tempdir().unwrap();
    let printed = Printed::into(folder.path());
    let mut misaki = without_config(&printed).await;
    assert_eq!(send(&misaki, HEALTH_REPORTER).await, 2);
    printed.await_all(&["Body: Str(Health reporter completed)", "    Name           : health-reporter-worker\n"]).await;
    misaki.finish().await;
    let text = printed.text();
    let first = text.split("LogRecord #").nth(1).unwrap();
    let (trace, span) = (value_after(first, "\nTrace ID: "), value_after(first, "\nSpan ID: "));
    assert_eq!((trace.len(), span.len()), (32, 16));
    let expected = format!(
        "Body: Str(Starting health reporter...)\nAttributes:\n     -> service: Str(health-reporter)\n     \
         -> environment: Str(development)\n     -> trace_id: Str({trace})\nTrace ID: {trace}\nSpan ID: {span}\n"
    );
    assert!(first.contains(&expected), "{first}");
    for message in ["Connected to service", "Health report sent successfully", "Health reporter completed"] {
        let record = text.split("LogRecord #").find(|record| record.contains(message)).unwrap();
        assert_eq!(value_after(record, "\nTrace ID: "), trace, "{message}");
    }
    assert_eq!(value_after(&text, "    Trace ID       : "), trace);
    assert_eq!(value_after(&text, "    ID             : "), span);
}

#[tokio::test]
async fn s2_logs_without_context_land_on_their_trace() {
    let folder = tempfile::tempdir().unwrap();
    let printed = Printed::into(folder.path());
    let mut misaki = without_config(&printed).await;
    let logs = SLOG.lines().find(|line| line.contains("resourceLogs")).unwrap();
    assert!(!logs.contains("\"traceId\""), "the id is an attribute alone");
    send(&misaki, SLOG).await;
    printed.await_all(&["Body: Str(Health reporter completed)", "health-reporter-worker"]).await;
    misaki.finish().await;
    let text = printed.text();
    let trace = value_after(&text, "    Trace ID       : ").to_owned();
    let records: Vec<&str> = text.split("LogRecord #").skip(1).collect();
    assert_eq!(records.len(), 4);
    for record in records {
        assert_eq!(value_after(record, "\nTrace ID: "), trace);
        // The attribute stays.
        assert!(record.contains(&format!("     -> trace_id: Str({trace})\n")), "{record}");
    }
}

#[tokio::test]
async fn s3_the_slow_purchase_names_its_bottleneck_and_the_one_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let printed = Printed::into(folder.path());
    let tree = "{exporters: {debug: {verbosity: tree, tree_wait: 50ms}}, service: {pipelines: {logs: {exporters: [debug]}, traces: {receivers: [otlp], exporters: [debug]}, metrics: {receivers: [otlp], exporters: [debug]}}}}";
    let config = printed.config("debug");
    let base = "{exporters: {nop: {}}, service: {pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}}";
    let mut misaki = Misaki::load(&[base, ON_FREE_PORTS, tree, &config], 1, &|_| None).await;
    send(&misaki, PURCHASE).await;
    printed.await_all(&["bottleneck: payment POST external API, 180 of pay's 200 ms"]).await;
    send(&misaki, PILLARS).await;
    misaki.finish().await;
    let text = printed.text();
    let has = |parts: &[&str]| {
        let all = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(text.lines().any(all), "{parts:?} in:\n{text}");
    };
    // Each span with its own time, each log under its span, and the one that failed with its service.
    has(&["POST external API", "180 ms   180 ms"]);
    has(&["get product", "50 ms    20 ms"]);
    has(&["│ ", "INFO  purchase started"]);
    has(&["connect database", "shop", "failed"]);
}

/// The link is away for a while, and meanwhile the edge ends, twice: what was accepted arrives, oldest first. (Killed at
/// any moment it is in `tests/hostile/kill.rs`: a process must be, for that.)
#[tokio::test]
async fn s4_an_edge_outlives_its_link_and_its_own_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "{{extensions: {{file_storage: {{directory: '{}'}}}}, processors: {{filter: {{log_conditions: ['IsMatch(log.body, \"^(health|debug)\")']}}, \
         resource: {{attributes: [{{key: site, value: tokyo-1, action: upsert}}]}}}}, \
         exporters: {{otlp: {{sending_queue: {{storage: file_storage, num_consumers: 1, batch: {{min_size: 10, flush_timeout: 20ms}}}}}}}}, \
         service: {{extensions: [file_storage], pipelines: {{logs: {{processors: [filter, resource]}}}}}}}}",
        folder.path().display()
    );
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut accepted = Vec::new();
    for life in 0..3 {
        let mut misaki = Misaki::start(&config, &[&away]).await;
        for number in 0..20 {
            let name = format!("order {:03}", life * 20 + number);
            assert!(misaki.ports.send(&[&name, "debug", "health"]).await.ok);
            accepted.push(name);
        }
        let left = misaki.finish_within(Duration::from_millis(50)).await[0].left;
        assert_eq!(left as usize, accepted.len());
    }
    let upstream = Upstream::start().await;
    let mut misaki = Misaki::start(&config, &[&upstream]).await;
    misaki.settle().await;
    assert_eq!(upstream.kept(), accepted);
    assert_eq!(upstream.kept_once(), accepted);
    misaki.finish().await;
}

#[tokio::test]
async fn s5_the_three_pillars_arrive_and_read_well() {
    let folder = tempfile::tempdir().unwrap();
    let printed = Printed::into(folder.path());
    let upstream = Upstream::start().await;
    let changes = format!(
        "{{exporters: {{debug: {{verbosity: line, output_paths: ['{}']}}}}, service: {{pipelines: {{logs: {{exporters: [otlp, debug]}}, \
         traces: {{receivers: [otlp], exporters: [otlp, debug]}}, metrics: {{receivers: [otlp], exporters: [otlp, debug]}}}}}}}}",
        printed.0.display()
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    send(&misaki, PILLARS).await;
    misaki.settle().await;
    misaki.finish().await;
    let of = |signal| upstream.arrivals().into_iter().filter(move |arrival| arrival.signal == signal && arrival.kept);
    let count = |signal| of(signal).map(|arrival| arrival.names.len()).sum::<usize>();
    assert_eq!(Signal::ALL.map(count).iter().sum::<usize>(), 8, "{:?}", upstream.kept());
    let text = printed.text();
    for part in [
        "system.cpu.utilization",
        "system.memory.usage",
        "http.server.requests",
        "ERROR",
        "INFO",
        "purchase  150 ms",
        "failed: timeout",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    // An item a line, cut to the width.
    assert!(text.lines().all(|line| line.chars().count() <= 160), "{text}");
}

#[tokio::test]
async fn s6_a_teams_config_runs_unchanged_and_a_wrong_key_is_refused_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let team = INTEROP_CONFIGS.split("TEAM = \"\"\"").nth(1).unwrap().split("\"\"\"").next().unwrap();
    let upstream = Upstream::start().await;
    let (health, metrics) = (free_port().await, free_port().await);
    let environment = |name: &str| {
        let port = match name {
            "HEALTH_PORT" => health,
            "METRICS_PORT" => metrics,
            "UPSTREAM_PORT" => upstream.address.port(),
            "GRPC_PORT" | "HTTP_PORT" => 0,
            _ => return None,
        };
        Some(port.to_string())
    };
    // With its queue on disk: success is then answered when it is there, so that `batch` must not wait for a minute. What
    // it prints goes to a place of ours.
    let printed = Printed::into(folder.path());
    let queue = format!(
        "{{extensions: {{file_storage: {{directory: '{}'}}}}, processors: {{batch: {{timeout: 20ms}}}}, exporters: {{otlp/management: {{compression: none, sending_queue: {{storage: file_storage}}}}}}, service: {{extensions: [health_check, file_storage]}}}}",
        folder.path().display()
    );
    let mut misaki = Misaki::load(&[team, &queue, &printed.config("debug")], 1, &environment).await;
    assert_eq!(get(health, "/").await.0, 200);
    assert!(misaki.ports.send(&["record 1", "record 2"]).await.ok);
    misaki.settle().await;
    misaki.finish().await;
    assert_eq!(upstream.kept_once(), ["record no. 1", "record no. 2"]);
    let text = printed.text();
    assert!(text.contains("     -> site: Str(tokyo-1)\n") && text.contains("     -> length: Int(8)\n"), "{text}");

    let wrong = team.replace("    send_batch_max_size: 1000\n", "    send_batch_maximum: 1000\n");
    let line = wrong.lines().position(|line| line == "    send_batch_maximum: 1000").unwrap() + 1;
    let loaded = config::load(&[format!("yaml:{wrong}")], &[], &environment);
    Plan::read(&loaded);
    assert!(loaded.problems.has_errors());
    let problem = &loaded.problems.sorted()[0];
    assert_eq!(problem.message, "unknown key \"send_batch_maximum\"");
    let place = problem.place.unwrap();
    assert_eq!((place.line as usize, place.column), (line, 5));
}

/// More than it may hold comes while the upstream hangs: the budget stands, clients are told when to come again, and what
/// was accepted arrives.
#[tokio::test]
async fn s7_a_small_box_slows_its_clients_and_keeps_its_budget() {
    let upstream = Upstream::replying(Reply::Hang).await;
    let small = "{processors: {memory_limiter: {check_interval: 1s, limit_mib: 5, spike_limit_mib: 1}}, service: {pipelines: {logs: {processors: [memory_limiter]}}}}";
    let mut misaki = Misaki::start(small, &[&upstream]).await;
    let budget = misaki.running.budget.clone();
    let shares = [Share::Ingest, Share::Queue, Share::Export];
    assert_eq!(shares.map(|share| budget.limit(share)).iter().sum::<u64>(), 4 << 20);
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for number in 0..100 {
        let name = format!("{number:03} {}", "x".repeat(60_000));
        let answer = misaki.ports.send(&[&name]).await;
        match answer.ok {
            true => accepted.push(name),
            false => {
                assert!(answer.code == 14 || answer.code == 503, "{answer:?}");
                assert!(answer.hint.is_some_and(|hint| hint > Duration::ZERO), "{answer:?}");
                refused += 1;
            }
        }
        for share in shares {
            assert!(budget.used(share) <= budget.limit(share), "{share:?}");
        }
    }
    assert!(refused > 20 && accepted.len() > 20, "{refused} refused, {} accepted", accepted.len());
    upstream.release();
    misaki.settle().await;
    assert_eq!(upstream.kept_once(), accepted);
    assert_eq!(shares.map(|share| budget.used(share)), [0; 3]);
    misaki.finish().await;
}
