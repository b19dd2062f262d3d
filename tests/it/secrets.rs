//! Secrets: whatever is written in the wrong place, and wherever a URL holds one, no text that a person reads repeats it.

use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use misaki::face::config::{self, Node, Value, emit};
use misaki::face::service::Plan;
use misaki::face::telemetry::Signal;

use crate::harness::*;

/// Each secret consists of these, and of characters between them.
const PARTS: [&str; 4] = ["hush", "SHHH", "7391", "pst!"];

/// What people have in files and variables: words, numbers, lists, headers, users, URLs, keys.
const SECRETS: [&str; 8] = [
    "hush",
    "-7391739173",
    "73.91739173e73",
    "hush,SHHH",
    "x-hush=SHHH pst!",
    "Hush7391: Bearer hush",
    "https://hush:SHHH/pst!@host:4318/path?hush=hush#pst!",
    "-----BEGIN hush-----\nSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHHSHHH\n",
];

/// What the pipelines do not have.
const MORE: &str = "
receivers: {otlp: {protocols: {http: {auth: {authenticator: basicauth}, tls: {cert_pem: a, key_pem: b}, cors: {allowed_origins: [a]}, response_headers: {a: b}}}}}
processors:
  redaction: {allow_all_keys: true, blocked_values: [a], hash_function: hmac-sha256, hmac_key: 01234567890123456789012345678901}
  transform: {log_statements: ['set(log.attributes[\"a\"], \"b\")']}
  attributes: {actions: [{key: a, value: b, action: insert}, {key: a, pattern: b, action: hash}]}
exporters:
  otlp_grpc: {endpoint: 'a:4317', headers: {a: b}, auth: {authenticator: bearertokenauth}, tls: {ca_pem: a, server_name_override: a}}
  otlp_http: {endpoint: 'https://a:b@c/?d=e', logs_endpoint: 'https://a:b@c/?d=e', headers: [{name: a, value: b}], auth: {authenticator: bearertokenauth}}
  file: {path: /tmp/a}
extensions:
  basicauth: {htpasswd: {inline: 'a:b'}}
  basicauth/client: {client_auth: {username: a, password: b}}
  bearertokenauth: {token: a, scheme: b, header: c}
  bearertokenauth/more: {tokens: [a, b]}
service:
  extensions: [basicauth, basicauth/client, bearertokenauth, bearertokenauth/more]
  pipelines: {logs: {receivers: [otlp], processors: [redaction, transform, attributes], exporters: [otlp_grpc, otlp_http, file]}}
";

#[track_caller]
fn silent(what: &str, text: &str) {
    for part in PARTS {
        assert!(!text.to_lowercase().contains(&part.to_lowercase()), "{what} shows {part:?}:\n{text}");
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(list) => list.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.node)).sum(),
        _ => 0,
    }
}

/// Puts a text in the place of the nth node.
fn replace(node: &mut Node, nth: &mut usize, text: &str) {
    if *nth == 0 {
        node.value = Value::Text(text.to_owned());
    }
    *nth = nth.wrapping_sub(1);
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(|item| replace(item, nth, text)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| replace(&mut entry.node, nth, text)),
        _ => {}
    }
}

/// A reference to a secret in the place of each value of each config: whatever it fits or not, nothing that is said about
/// it shows it, and neither does the line that it is pointed at.
#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |index: usize| folder.path().join(index.to_string()).display().to_string();
    for (index, secret) in SECRETS.iter().enumerate() {
        std::fs::write(file(index), secret).unwrap();
    }
    let pipelines = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")).unwrap();
    let paths = pipelines.map(|entry| entry.unwrap().path().display().to_string());
    let configs = paths.filter(|path| !path.ends_with(".test.yaml")).chain([format!("yaml:{MORE}")]);
    let environment = |name: &str| match name.strip_prefix("SECRET_") {
        Some(index) => Some(SECRETS[index.parse::<usize>().unwrap()].to_owned()),
        None => (name == "UPSTREAM").then(|| "collector:4317".to_owned()),
    };
    let is_full = std::env::var_os("MISAKI_FULL").is_some();
    let (mut tried, mut refused) = (0, 0);
    for config in configs {
        let loaded = config::load(std::slice::from_ref(&config), &[], &environment);
        Plan::read(&loaded);
        let tree = loaded.problems.effective(false);
        for nth in 1..count(&tree) {
            let all = (0..SECRETS.len()).flat_map(|index| {
                let (file, variable) = (format!("${{file:{}}}", file(index)), format!("${{env:SECRET_{index}}}"));
                [file, format!("a{variable}b"), variable]
            });
            let all: Vec<String> = all.collect();
            let chosen = if is_full { 0..all.len() } else { nth % all.len()..nth % all.len() + 1 };
            for reference in &all[chosen] {
                let mut changed = tree.clone();
                replace(&mut changed, &mut nth.clone(), reference);
                let loaded = config::load(&[format!("yaml:{}", emit::yaml(&changed))], &[], &environment);
                Plan::read(&loaded).look(&loaded);
                silent(&format!("{reference} in {config}"), &loaded.problems.render(&loaded.sources, false));
                tried += 1;
                refused += usize::from(loaded.problems.has_errors());
            }
        }
    }
    assert!(tried > 500 && refused > tried / 4, "{tried} tried, {refused} refused");
}

/// The name of a file from a variable is told, where the file is what is wrong; and no key is taken for a part of a value.
#[test]
fn a_file_from_a_variable_is_named() {
    let name = "/dev/null";
    let text = "extensions: {file_storage: {directory: '${env:STORAGE}', create_directory: true}}\n\
        receivers: {otlp: {protocols: {http: }}}\nexporters: {nop: }\n\
        service: {extensions: [file_storage], pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}";
    let loaded = config::load(&[format!("yaml:{text}")], &[], &|key| (key == "STORAGE").then(|| name.to_owned()));
    let plan = Plan::read(&loaded);
    plan.look(&loaded);
    let said = loaded.problems.render(&loaded.sources, false);
    let expected = format!("{name} is not a directory");
    assert!(said.contains(&expected) && !said.contains("unknown key"), "{said}");
}

/// The secrets of a URL, of headers, of an authenticator and of files: wherever they go right or wrong in a collector that
/// runs, they are in nothing that it or its verbs print.
#[tokio::test]
async fn a_collector_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    // It says what it was asked, as many servers do.
    let upstream = Upstream::scripted(|arrival| {
        let headers = arrival.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let said = format!("no route for {} {}", arrival.target, headers.collect::<Vec<_>>().join(" "));
        let body = serde_json::json!({"code": 3, "message": said}).to_string();
        Reply::Raw(
            vec![(":status", "400".to_owned()), ("content-type", "application/json".to_owned())],
            Bytes::from(body),
        )
    })
    .await;
    std::fs::write(folder.path().join("token"), "hush-token").unwrap();
    let (port, metrics) = (free_port().await, free_port().await);
    let path = folder.path().display();
    let url = format!("http://hush-user:SHHH-password@{}/here?key=hush%2Dkey&other=SHHH-other", upstream.address);
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n\
         exporters:\n  otlp_http: {{endpoint: '{url}', headers: {{x-key: hush-header}}, auth: {{authenticator: bearertokenauth}}, sending_queue: {{storage: file_storage}}}}\n\
         extensions: {{bearertokenauth: {{filename: '{path}/token'}}, file_storage: {{directory: '{path}/queue', create_directory: true}}, inspect: {{path: '{path}/x.sock'}}}}\n\
         service: {{extensions: [bearertokenauth, file_storage], telemetry: {{logs: {{level: debug}}, metrics: {{level: detailed, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}, \
         pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}}}\n"
    );
    let file = folder.path().join("edge.yaml");
    std::fs::write(&file, config).unwrap();
    let (file, queue, socket) = (file.to_str().unwrap(), format!("{path}/queue"), format!("{path}/x.sock"));
    let set = format!("exporters.otlp_http.logs_endpoint={url}");
    let log = folder.path().join("log");
    let mut child = command(&["run", "--config", file, "--set", &set])
        .stderr(std::fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap();
    until("it is ready", || read().contains("Everything is ready")).await;
    let ports = Ports { grpc: ([127, 0, 0, 1], port).into(), http: ([127, 0, 0, 1], port).into() };
    assert!(ports.post(Via::Http, Signal::Logs, request(Signal::Logs, &["a", "b"]), &[]).await.ok);
    until("it was refused", || read().contains("no route for")).await;
    silent("the metrics", &get(metrics, "/metrics").await.1);
    for verb in [
        &["status", "--socket", &socket][..],
        &["status", "--json", "--socket", &socket],
        &["status", "--check", "--socket", &socket],
        &["doctor", "--config", file],
        &["validate", "--config", file],
        &["print-config", "--config", file],
        &["print-config", "--config", file, "--set", &set, "--format", "json"],
        &["send", "--to", &url],
        &["doctor", "--to", &url],
        &["--to", &url.replace("http:", "what:")],
        &["--to", "http:///?key=hush"],
        &["--to", "grpc://hush:SHHH@127.0.0.1:1"],
        &["--to", "http://127.0.0.1:x/?key=hush"],
        &["validate", "--config", "yaml:{exporters: {otlp_http: {endpoint: 'http://hush:SHHH@a:x/?key=hush'}}}"],
        &["validate", "--config", file, "--set", "exporters.otlp_http.logs_endpoint=ftp://hush:SHHH@a?key=hush"],
    ] {
        silent(&verb.join(" "), &printed(verb).await);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    silent("the log", &read());
    assert!(read().contains("/here?\u{2026}"), "{}", read());
    let listed = printed(&["queue", "list", &queue]).await;
    assert!(listed.contains("otlp_http"), "{listed}");
    silent("the queue", &listed);
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env("NO_COLOR", "1");
    command
}

async fn printed(arguments: &[&str]) -> String {
    let mut command = command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// In quotes a secret may be spelled otherwise than it reads.
#[test]
fn a_secret_that_is_spelled_with_escapes_is_not_shown() {
    for spelled in [r"'SECR''ETabcdef'", r#""SECR\x41ETabcdef""#, r#""SECR\\nETabcdef""#, r#""\"SECRETabcdef""#] {
        let config = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{http: }}}}}}, exporters: {{otlp_http: {{endpoint: 'http://x:1', headers: {{a: {spelled}}}, timeout: soon}}}}, service: {{pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}}}}}"
        );
        let output = command(&["validate", "--config", &config]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("is not a duration") && said.contains("timeout: soon"), "{said}");
        assert!(!said.contains("SECR") && !said.contains("ETabcdef"), "{said}");
    }
}
