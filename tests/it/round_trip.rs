//! What `print-config` prints is a config that means the same: of the ready-made configs, of those that the Go collector
//! printed, and of those that it was asked about.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use misaki::face::config::{self, Loaded, emit};
use misaki::face::service::Plan;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The config and its plan; it has no errors.
#[track_caller]
fn read(uri: String, name: &str) -> Loaded {
    let environment = HashMap::from([
        ("UPSTREAM", "collector.example.org:4317"),
        ("STATE_DIRECTORY", "/tmp"),
        ("TLS_CERT", "/etc/cert.pem"),
        ("TLS_KEY", "/etc/key.pem"),
        ("OUT", "/tmp/out"),
        ("OTLP_HTTP", "127.0.0.1:0"),
    ]);
    let loaded = config::load(&[uri], &[], &|name| environment.get(name).map(|value| (*value).to_owned()));
    drop(Plan::read(&loaded));
    assert!(!loaded.problems.has_errors(), "{name}:\n{}", loaded.problems.render(&loaded.sources, false));
    loaded
}

fn printed(loaded: &Loaded) -> String {
    emit::yaml(&loaded.problems.effective(false))
}

#[track_caller]
fn round(uri: String, name: &str) -> String {
    let first = printed(&read(uri, name));
    let second = printed(&read(format!("yaml:{first}"), &format!("{name} again")));
    assert_eq!(second, first, "{name}");
    first
}

fn files(folder: &Path, is_config: fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path, is_config) } else { vec![path] }).collect();
    files.retain(|path| is_config(path.file_name().unwrap().to_str().unwrap()));
    files
}

#[test]
fn of_every_config_there_is() {
    let is_config = |name: &str| name.ends_with(".yaml") && !name.ends_with(".test.yaml");
    let mut all = files(&root().join("pipelines"), is_config);
    all.extend(files(&root().join("fixtures/pipelines"), is_config));
    all.extend(files(&root().join("fixtures/print-config"), is_config));
    assert!(all.len() > 50, "{all:?}");
    for path in all {
        round(path.display().to_string(), &path.display().to_string());
    }
}

fn with(receiver: &str, exporter: &str) -> String {
    format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{{receiver}}}}}}}, exporters: {{otlp_grpc: {{endpoint: 'localhost:1'{exporter}}}}}, \
         service: {{pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_grpc]}}}}}}}}"
    )
}

/// What is off is left out where nothing behind its colon would turn it on.
#[test]
fn what_is_off_stays_off() {
    let out = round(with("http: ", ""), "http alone");
    for line in [" grpc:", "keepalive:", "batch:"] {
        assert!(!out.contains(line), "{line} is in {out}");
    }
    let off = ", sending_queue: {enabled: false, queue_size: 5}, retry_on_failure: {enabled: false}, keepalive: {enabled: false}";
    let out = round(with("grpc: , http: {enabled: false}", off), "off");
    for lines in ["sending_queue:\n            enabled: false\n", "retry_on_failure:\n            enabled: false\n"] {
        assert!(out.contains(lines), "{lines} is not in {out}");
    }
    assert!(!out.contains("http:") && !out.contains("keepalive"), "{out}");
}

#[test]
fn what_is_on_has_its_defaults() {
    let out = round(
        with("grpc: {max_concurrent_streams: 0}, http: {max_request_body_size: -1}", ", keepalive: "),
        "defaults",
    );
    for line in [
        "max_recv_msg_size_mib: 4\n",
        "max_concurrent_streams: 64\n",
        "max_request_body_size: 20971520\n",
        "time: 10s\n",
    ] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
}

/// A batch of which nothing is said counts items, whatever its queue counts; that of a queue of requests was refused.
#[test]
fn a_batch_of_which_nothing_is_said() {
    for (queue, batch) in [
        ("sizer: requests, batch: ", "sizer: items"),
        ("sizer: bytes, batch: ", "sizer: items"),
        ("sizer: {}, batch: {}", "sizer: items"),
        ("sizer: bytes, queue_size: 100000, batch: {}", "sizer: bytes"),
        ("sizer: {}, batch: {sizer: {}, partition: {metadata_keys: []}}", "sizer: items"),
    ] {
        let out = round(with("grpc: ", &format!(", sending_queue: {{{queue}}}")), queue);
        let (_, after) = out.split_once("batch:").unwrap();
        assert!(after.contains(batch), "{queue}: {out}");
    }
}

#[test]
fn what_would_be_expanded_is_doubled() {
    let text = "yaml:{receivers: {otlp: {protocols: {grpc: }}}, exporters: {nop: }, processors: {attributes: {actions: [\
        {key: a, action: insert, value: '$${env:NOBODY} $$$$ ^a$'}, {key: b, action: insert, value: '^a$'}]}}, \
        service: {pipelines: {logs: {receivers: [otlp], processors: [attributes], exporters: [nop]}}}}";
    let out = round(text.to_owned(), "dollars");
    assert!(out.contains("value: $${env:NOBODY} $$$$ ^a$$\n") && out.contains("value: ^a$\n"), "{out}");
}
