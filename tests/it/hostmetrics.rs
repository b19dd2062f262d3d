//! The `host_metrics` receiver, before a host made of files.

use std::path::Path;

use misaki::face::config;
use misaki::face::service::Plan;

use super::harness::*;

/// A folder that looks like the root of a host with two CPUs and one disk.
pub fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mounts = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                  22 21 8:2 / /data\\040disk ro shared:2 - ext4 /dev/sdb1 rw\n\
                  22 21 8:2 / /data\\040disk ro shared:2 - ext4 /dev/sdb1 rw\n\
                  23 21 0:5 / /proc rw - proc proc rw\n\
                  24 21 8:3 / /gone rw - ext4 /dev/sdc1 rw\n";
    let files = [
        (
            "stat",
            "cpu  300 2 100 5000 7 3 4 1 0 0\ncpu0 200 1 60 2500 5 2 2 0 0 0\ncpu1 100 1 40 2500 2 1 2 1 0 0\nintr 5\nbtime 1700000000\n",
        ),
        (
            "meminfo",
            "MemTotal:        8000 kB\nMemFree:         1000 kB\nMemAvailable:    4000 kB\nBuffers:          500 kB\nCached:          2000 kB\nSReclaimable:     300 kB\nSUnreclaim:       100 kB\n",
        ),
        ("loadavg", "0.50 0.25 1.00 1/234 5678\n"),
        ("filesystems", "nodev\tproc\nnodev\ttmpfs\n\text4\n"),
        ("1/mountinfo", mounts),
        (
            "net/dev",
            "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n",
        ),
        (
            "net/tcp",
            "  sl  local_address rem_address   st\n   0: 0100007F:0016 00000000:0000 0A 0\n   1: 0100007F:0016 0100007F:9000 01 0\n   2: 0100007F:0016 0100007F:9001 05 0\n",
        ),
        ("net/tcp6", "  sl  local_address rem_address   st\n   0: 00:0016 00:0000 0A 0\n"),
    ];
    for (name, text) in files {
        let path = root.path().join("proc").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::create_dir(root.path().join("data disk")).unwrap();
    root
}

/// What `debug` prints of one scrape, without what differs from run to run.
async fn scraped(root: &Path, scrapers: &str) -> String {
    let out = root.join("out.txt");
    let config = format!(
        "receivers: {{hostmetrics: {{root_path: '{}', initial_delay: 0s, collection_interval: 1h, scrapers: {scrapers}}}}}
exporters: {{debug: {{verbosity: detailed, output_paths: ['{}']}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [debug]}}}}}}",
        root.display(),
        out.display()
    );
    let mut misaki = Misaki::load(&[&config], 1, &|_| None).await;
    until("it is scraped", || misaki.running.intake().0 > 0).await;
    let balance = misaki.finish().await;
    assert!(balance.iter().all(|line| line.accepted == line.exported), "{balance:?}");
    let text = std::fs::read_to_string(&out).unwrap();
    let varies = ["Timestamp: ", "InstrumentationScope "];
    let lines = text.lines().skip(1).filter(|line| !varies.iter().any(|start| line.starts_with(start)));
    lines.map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn contains(text: &str, expected: &str) {
    assert!(text.contains(expected), "{expected}\nis not in\n{text}");
}

#[tokio::test]
async fn load_is_printed_as_the_go_collector_names_it() {
    let root = host();
    let text =
        scraped(root.path(), "{load: {cpu_average: true, metrics: {system.cpu.load_average.1m: {enabled: false}}}}")
            .await;
    let expected = "\
ResourceMetrics #0
Resource SchemaURL: https://opentelemetry.io/schemas/1.9.0
ScopeMetrics #0
ScopeMetrics SchemaURL: 
Metric #0
Descriptor:
     -> Name: system.cpu.load_average.15m
     -> Description: Average CPU Load over 15 minutes.
     -> Unit: {thread}
     -> DataType: Gauge
NumberDataPoints #0
StartTimestamp: 2023-11-14 22:13:20 +0000 UTC
Value: 0.500000
Metric #1
Descriptor:
     -> Name: system.cpu.load_average.5m
     -> Description: Average CPU Load over 5 minutes.
     -> Unit: {thread}
     -> DataType: Gauge
NumberDataPoints #0
StartTimestamp: 2023-11-14 22:13:20 +0000 UTC
Value: 0.125000
";
    assert_eq!(text.trim_end(), expected.trim_end());
}

#[tokio::test]
async fn each_scraper_reads_its_files() {
    let root = host();
    let all = "{cpu: , memory: {metrics: {system.memory.utilization: {enabled: true}}}, network: {include: {match_type: regexp, interfaces: [\"^e\", \"^{none}\"]}}, filesystem: {}}";
    let text = scraped(root.path(), all).await;
    let point = |attributes: &[(&str, &str)], value: &str| {
        let lines: String = attributes.iter().map(|(key, value)| format!("     -> {key}: Str({value})\n")).collect();
        format!("Data point attributes:\n{lines}StartTimestamp: 2023-11-14 22:13:20 +0000 UTC\nValue: {value}\n")
    };
    contains(
        &text,
        "     -> Name: system.cpu.logical.count\n     -> Description: Number of available logical CPUs.\n     -> Unit: {cpu}\n     -> DataType: Sum\n     -> IsMonotonic: false\n     -> AggregationTemporality: Cumulative\n",
    );
    contains(&text, &point(&[("cpu", "cpu1"), ("state", "system")], "0.400000"));
    contains(&text, &point(&[("cpu", "cpu0"), ("state", "wait")], "0.050000"));
    contains(&text, &point(&[("state", "used")], &(4200 * 1024).to_string()));
    contains(&text, &point(&[("state", "cached")], &(2300 * 1024).to_string()));
    contains(&text, &point(&[("state", "free")], "0.125000"));
    contains(&text, &point(&[("device", "eth0"), ("direction", "transmit")], "2000"));
    contains(&text, &point(&[("device", "eth0"), ("direction", "receive")], "10"));
    contains(&text, &point(&[("protocol", "tcp"), ("state", "LISTEN")], "2"));
    contains(&text, &point(&[("protocol", "tcp"), ("state", "FIN_WAIT_2")], "1"));
    assert!(!text.contains("Str(lo)"));
    // Two states of inodes and three of bytes, for each of the two that are on a disk and can be read.
    assert_eq!(text.matches("     -> mountpoint: Str(/data disk)\n     -> type: Str(ext4)\n").count(), 5, "{text}");
    assert_eq!(text.matches("     -> device: Str(/dev/sda1)\n     -> mode: Str(rw)\n").count(), 5, "{text}");
    assert!(!text.contains("Str(proc)") && !text.contains("/gone"));
}

#[track_caller]
fn check_error(receiver: &str, signal: &str, expected: &str) {
    let text = format!(
        "yaml:{{receivers: {{host_metrics: {receiver}}}, exporters: {{nop: }}, service: {{pipelines: {{{signal}: {{receivers: [host_metrics], exporters: [nop]}}}}}}}}"
    );
    let loaded = config::load(&[text], &[], &|_| None);
    Plan::read(&loaded).look(&loaded);
    let said = loaded.problems.render(&loaded.sources, false);
    assert!(said.contains(expected), "{expected} is not in {said}");
}

#[test]
fn what_can_not_be_scraped_is_refused() {
    for none in ["{}", "{scrapers: }", "{scrapers: {}}"] {
        check_error(none, "metrics", "must specify at least one scraper when using host_metrics receiver");
    }
    check_error(
        "{scrapers: {process: }}",
        "metrics",
        "the scraper \"process\" of the Go collector is not supported by Misaki",
    );
    check_error("{scrapers: {procss: }}", "metrics", "invalid scraper key: procss");
    check_error(
        "{scrapers: {load: {metrics: {system.cpu.load: {enabled: true}}}}}",
        "metrics",
        "unknown key \"system.cpu.load\"",
    );
    check_error("{scrapers: {network: {include: {interfaces: [eth0]}}}}", "metrics", "unrecognized match_type: ''");
    check_error("{root_path: /nowhere, scrapers: {load: }}", "metrics", "invalid root_path");
    check_error("{scrapers: {load: }}", "logs", "receiver \"host_metrics\" makes metrics");
}
