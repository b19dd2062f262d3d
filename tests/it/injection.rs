//! O1: texts that take over a terminal, through every text that the program writes. Each is written to a pseudo-terminal
//! and read by a terminal's parser: it may print, begin new lines, and use the colours and the moves that are the
//! program's own, and nothing else. No text of others begins a line that looks like one of the program's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use bytes::Bytes;
use misaki::face::diagnostics::escape::is_control;
use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, Subject};
use misaki::face::otlp::json;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use tokio::task::JoinHandle;

use crate::captures::Terminal;
use crate::harness::*;

/// In every text of the corpus, so that a text that shows nothing of it is noticed.
const MARK: &str = "pwned";
/// Beginnings of lines that only the program may write.
const FORGED: [&str; 4] = ["1999-01-01T", "LogRecord #99", "error: forged", "misaki: forged"];
/// As long as what takes its place on the wire: bytes that are no UTF-8, among them C1 controls.
const RAW: (&str, &[u8]) = ("@@@RAW@@@", b"\x9b2J\x90\xff\xc0\xafz\x85");

/// What acts on a terminal, hides text, turns it around, or pretends to be something else.
fn corpus() -> Vec<String> {
    let controls: String = (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).collect();
    let hidden = "\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200c}\u{200e}\u{200f}\u{2028}\u{2029}\u{2060}\u{2064}\u{206a}\u{206f}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{fffa}\u{fffb}";
    let directions: String = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').collect();
    let tags: String = "rm -rf /".chars().filter_map(|c| char::from_u32(0xe0000 + c as u32)).collect();
    let texts = [
        controls.as_str(),
        "\x1b[2J\x1b[3;3H\x1b[8mconcealed\x1b[5m\x1b[?1049h\x1b[6n\x1b[21t",
        "\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\\x1b]52;c;ZWNobw==\x07",
        "\x1bPdevice\x1b\\\x1b_application\x1b\\\x1b^private\x1b\\\x1bXstart\x1b\\\x1bc\x1b(0\x1b#8",
        "\u{9b}2J\u{9d}0;title\u{9c}\u{90}device\u{9c}\u{9f}application\u{9c}\u{84}\u{85}\u{8d}",
        RAW.0,
        "shown\roverwritten\x08\x08\x08\x7f\x7f",
        "\n1999-01-01T00:00:00.000Z\tinfo\tforged\t{\"a\": 1}",
        "\r\n1999-01-01T00:00:00.000Z\terror\tforged",
        "\nLogRecord #99\n     -> a: Str(b)",
        "\nerror: forged\nmisaki: forged",
        "\x0b\x0cerror: forged\u{85}error: forged\u{2028}error: forged\u{2029}error: forged",
        &format!("{directions}txt.exe\u{202e}"),
        hidden,
        &format!("seen{tags}"),
        &format!("e{}", "\u{301}\u{489}\u{20dd}".repeat(200)),
        &format!("x{}", "\u{fe01}\u{e0123}".repeat(200)),
        &format!("{}\x1b[2J", "long ".repeat(2_000)),
        &format!("{}\x1b[2J", "岬".repeat(3_000)),
        "\"},\"a\": \"b\"} \\\" ' ` $(reboot) %s %n <script> &amp; {{x}}",
        "trailing escape \x1b",
        "trailing introducer \x1b[",
        "a\tb",
    ];
    // At either end: what is cut to a width keeps its beginning.
    texts.iter().map(|text| format!("{MARK}{text}{MARK}")).collect()
}

fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) })
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: text(value), ..Default::default() }
}

/// A text in every place that a request has for one.
fn attributes(hostile: &str) -> Vec<KeyValue> {
    let map = KeyValueList { values: vec![pair(hostile, hostile)] };
    let list = ArrayValue { values: vec![text(hostile).unwrap()] };
    let value =
        |value| KeyValue { key: "k".into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() };
    vec![pair(hostile, hostile), value(Value::KvlistValue(map)), value(Value::ArrayValue(list))]
}

fn around(hostile: &str) -> (Option<Resource>, Option<InstrumentationScope>, String) {
    let attributes = attributes(hostile);
    let all = [vec![pair("service.name", hostile)], attributes.clone()].concat();
    let (name, version) = (hostile.to_owned(), hostile.to_owned());
    let resource = Resource { attributes: all, ..Default::default() };
    (Some(resource), Some(InstrumentationScope { name, version, attributes, ..Default::default() }), hostile.to_owned())
}

fn request_of(signal: Signal, corpus: &[String]) -> Vec<u8> {
    let each = corpus.iter();
    let wire = match signal {
        Signal::Logs => {
            let resource_logs = each.map(|hostile| {
                let (resource, scope, schema_url) = around(hostile);
                let (severity_text, event_name) = (hostile.clone(), hostile.clone());
                let attributes = attributes(hostile);
                let record =
                    LogRecord { severity_text, body: text(hostile), attributes, event_name, ..Default::default() };
                let log_records = vec![record, LogRecord { event_name: hostile.clone(), ..Default::default() }];
                let scope_logs = vec![ScopeLogs { scope, log_records, schema_url: schema_url.clone() }];
                ResourceLogs { resource, scope_logs, schema_url }
            });
            ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
        }
        Signal::Metrics => {
            let resource_metrics = each.map(|hostile| {
                let (resource, scope, schema_url) = around(hostile);
                let point = NumberDataPoint { attributes: attributes(hostile), ..Default::default() };
                let (name, description, unit) = (hostile.clone(), hostile.clone(), hostile.clone());
                let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
                let metrics = vec![Metric { name, description, unit, data, metadata: attributes(hostile) }];
                let scope_metrics = vec![ScopeMetrics { scope, metrics, schema_url: schema_url.clone() }];
                ResourceMetrics { resource, scope_metrics, schema_url }
            });
            ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() }.encode_to_vec()
        }
        Signal::Traces => {
            let resource_spans = each.enumerate().map(|(index, hostile)| {
                let (resource, scope, schema_url) = around(hostile);
                let event = |name: &str, attributes| Event { name: name.to_owned(), attributes, ..Default::default() };
                let exception = event("exception", vec![pair("exception.message", hostile)]);
                let link = Link { attributes: attributes(hostile), trace_state: hostile.clone(), ..Default::default() };
                // Half of them fail by their status, half by their exception.
                let message = if index % 2 == 0 { hostile.clone() } else { String::new() };
                let span = Span {
                    trace_id: (index as u128 + 1).to_be_bytes().to_vec(),
                    span_id: (index as u64 + 1).to_be_bytes().to_vec(),
                    name: hostile.clone(),
                    trace_state: hostile.clone(),
                    attributes: attributes(hostile),
                    events: vec![event(hostile, attributes(hostile)), exception],
                    links: vec![link],
                    status: Some(Status { code: 2, message }),
                    ..Default::default()
                };
                let scope_spans = vec![ScopeSpans { scope, spans: vec![span], schema_url: schema_url.clone() }];
                ResourceSpans { resource, scope_spans, schema_url }
            });
            ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
        }
    };
    replaced(wire)
}

/// With the bytes that no string of ours can hold.
fn replaced(mut wire: Vec<u8>) -> Vec<u8> {
    let (from, to) = (RAW.0.as_bytes(), RAW.1);
    assert_eq!(from.len(), to.len());
    for at in 0..wire.len().saturating_sub(from.len()) {
        if wire[at..].starts_with(from) {
            wire[at..at + to.len()].copy_from_slice(to);
        }
    }
    wire
}

/// A terminal that notes what no text may do to it.
#[derive(Default)]
struct Screen {
    line: String,
    /// Marks behind each other: more than letters have are a flood.
    marks: usize,
    faults: Vec<String>,
}

impl Screen {
    fn fault(&mut self, what: String) {
        if self.faults.len() < 20 {
            let line: String = self.line.chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect();
            self.faults.push(format!("{what} behind {line:?}"));
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if FORGED.iter().any(|forged| line.starts_with(forged)) {
            self.fault(format!("a forged line {line:.100?}"));
        }
    }
}

impl vte::Perform for Screen {
    fn print(&mut self, c: char) {
        let is_mark = matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{20d0}'..='\u{20ff}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
        self.marks = if is_mark { self.marks + 1 } else { 0 };
        let is_hidden = matches!(c, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}'..='\u{200c}' | '\u{206a}'..='\u{206f}'
            | '\u{3164}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}');
        if is_control(c) || is_hidden || self.marks == 8 {
            self.fault(format!("{c:?} is shown"));
        }
        self.line.push(c);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            // Between the fields of a line of the log.
            b'\t' if !self.line.contains(MARK) => self.line.push('\t'),
            // Where it says what it waits for, before it wipes that.
            b'\r' if self.line.is_empty() || self.line.starts_with("waiting for telemetry") => self.line.clear(),
            byte => self.fault(format!("control {byte:#x}")),
        }
    }

    fn csi_dispatch(&mut self, parameters: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        let parameters: Vec<u16> = parameters.iter().flatten().copied().collect();
        let is_ours = match action {
            'm' => parameters.iter().all(|code| matches!(code, 0..=2 | 31 | 33 | 91..=96)),
            'K' | 'J' | 'H' => parameters.iter().all(|number| *number == 0),
            _ => false,
        };
        if !is_ours || !intermediates.is_empty() {
            self.fault(format!("sequence {intermediates:?} {parameters:?} {action}"));
        }
    }

    fn osc_dispatch(&mut self, parameters: &[&[u8]], _: bool) {
        self.fault(format!("operating system command {parameters:?}"));
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        self.fault(format!("escape {intermediates:?} {byte:#x}"));
    }

    fn hook(&mut self, parameters: &vte::Params, _: &[u8], _: bool, action: char) {
        self.fault(format!("device control {parameters:?} {action}"));
    }
}

/// What a terminal makes of a text; where something of the corpus must be seen, it is.
#[track_caller]
fn harmless(name: &str, written: &[u8], shows: bool) {
    let (mut parser, mut screen) = (vte::Parser::new(), Screen::default());
    parser.advance(&mut screen, written);
    screen.end_line();
    if let Err(error) = std::str::from_utf8(written) {
        screen.fault(format!("bytes that are no text at {}", error.valid_up_to()));
    }
    let text = String::from_utf8_lossy(written);
    assert!(screen.faults.is_empty(), "{name}:\n  {}\n{text:.4000?}", screen.faults.join("\n  "));
    assert!(text.contains(MARK) || !shows, "{name} shows nothing of it:\n{text:.4000}");
}

fn misaki(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments).env_remove("NO_COLOR").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    command
}

/// A program on a terminal of its own; all that it writes is there when it has ended.
struct Session {
    child: Child,
    reading: JoinHandle<Vec<u8>>,
}

impl Session {
    fn begin(command: Command) -> Session {
        let (child, reading) = Terminal::open(24, 80).begin(command);
        Session { child, reading }
    }

    async fn end(self) -> Vec<u8> {
        tokio::time::timeout(Duration::from_secs(60), self.reading).await.expect("it ends").unwrap()
    }

    async fn terminate(self) -> Vec<u8> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.end().await
    }
}

/// What a command shows on a terminal, and in a pipe.
async fn shown(name: &str, arguments: &[&str]) {
    harmless(name, &Session::begin(misaki(arguments)).end().await, true);
    let mut command = misaki(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    harmless(&format!("{name}, in a pipe"), &[output.stdout, output.stderr].concat(), true);
}

fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(vec![format!("{}.yaml", corpus()[1])], &misaki.running)).unwrap()
}

const ALL: &str = "{service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}, metrics: {receivers: [otlp], exporters: [otlp]}}}}";

/// A collector of its own process; waits until it listens.
async fn started(config: &Path, port: u16) -> Session {
    let mut command = misaki(&["--config", config.to_str().unwrap()]);
    command.env("XDG_RUNTIME_DIR", config.parent().unwrap());
    let session = Session::begin(command);
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    session
}

fn written(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn each_form_of_debug() {
    let folder = tempfile::tempdir().unwrap();
    for form in ["basic", "normal", "detailed", "line", "tree", "json"] {
        let port = free_port().await;
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n\
             exporters: {{debug: {{verbosity: {form}}}}}\n\
             service: {{telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}, pipelines: {{logs: &p {{receivers: [otlp], exporters: [debug]}}, traces: *p, metrics: *p}}}}\n"
        );
        let session = started(&written(folder.path(), "edge.yaml", config), port).await;
        let ports = Ports { grpc: ([127, 0, 0, 1], port).into(), http: ([127, 0, 0, 1], port).into() };
        for signal in Signal::ALL {
            assert!(ports.post(Via::Http, signal, request_of(signal, &corpus()), &[]).await.ok);
        }
        harmless(form, &session.terminate().await, form != "basic");
    }
}

#[tokio::test]
async fn tail_status_and_what_a_config_would_drop() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = percent(&corpus().concat());
    let upstream = Upstream::scripted(move |arrival| match arrival.signal {
        // Held, rejected, kept.
        Signal::Logs => raw_grpc(16, &hostile),
        Signal::Traces => raw_grpc(3, &hostile),
        Signal::Metrics => Reply::Accept,
    })
    .await;
    let mut running = Misaki::start(ALL, &[&upstream]).await;
    let inspection = open(&running, folder.path());
    // One by one: the ring keeps no giants.
    for hostile in corpus() {
        for signal in Signal::ALL {
            let wire = request_of(signal, std::slice::from_ref(&hostile));
            assert!(running.post(Via::Http, signal, wire, &[]).await.ok);
        }
    }
    until("some were answered", || upstream.requests() >= 3).await;
    rest().await;
    let socket = inspection.path().to_str().unwrap();
    let items = (corpus().len() * 4).to_string();
    for form in ["line", "tree", "normal", "detailed", "json"] {
        let look = ["tail", "--socket", socket, "--since", "5m", "-n", &items, "--for", "20s", "-o", form];
        for color in ["never", "always"] {
            let look = [&look[..], &["--color", color]].concat();
            match form {
                // In a pipe they are the Go collector's text, where newlines and tabs stay.
                "normal" | "detailed" => harmless(form, &Session::begin(misaki(&look)).end().await, true),
                _ => shown(&format!("tail -o {form}"), &look).await,
            }
        }
    }
    for at in ["leaving", "dropped"] {
        let session = Session::begin(misaki(&["tail", "--socket", socket, "-n", "1", "--for", "20s", "--at", at]));
        while !session.reading.is_finished() {
            for signal in [Signal::Metrics, Signal::Traces] {
                running.post(Via::Http, signal, request_of(signal, &corpus()[..2]), &[]).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        harmless(at, &session.end().await, true);
    }
    let expression = format!("body == \"{}\" and {}", corpus().concat().replace('\0', ""), corpus()[1]);
    shown("tail's errors", &["tail", "--socket", socket, &expression]).await;
    shown("tail --as-rule", &["tail", "--as-rule", &format!("body == '{}' or body == \"{}\"", MARK, corpus()[1])])
        .await;
    shown("status", &["status", "--socket", socket]).await;
    shown("status --json", &["status", "--socket", socket, "--json"]).await;
    harmless("status --check", &Session::begin(misaki(&["status", "--socket", socket, "--check"])).end().await, false);
    for (rows, columns) in [(60, 80), (24, 80), (24, 40)] {
        let mut terminal = Terminal::open(rows, columns);
        let frame = terminal.shows(misaki(&["status", "--socket", socket, "--watch"]), "\x1b[J").await;
        harmless("status --watch", frame.as_bytes(), true);
    }
    let rules: Vec<_> = corpus()
        .iter()
        .map(|text| format!("      - {}\n", yaml(&format!("IsMatch(body, \"{MARK}\") or body == {}", ottl(text)))))
        .collect();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors:\n  filter:\n    log_conditions:\n{}\
         exporters: {{debug: }}\nservice: {{pipelines: {{logs: {{receivers: [otlp], processors: [filter], exporters: [debug]}}}}}}\n",
        rules.concat()
    );
    let config = written(folder.path(), "new.yaml", config);
    shown(
        "validate --against-recent",
        &["validate", "--config", config.to_str().unwrap(), "--against-recent", "--socket", socket],
    )
    .await;
    running.finish_within(Duration::from_millis(10)).await;
}

/// As `grpc-message` is written.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn raw_grpc(code: u8, message: &str) -> Reply {
    // No header may be longer than this.
    let message: String = message.chars().take(12_000).collect();
    let headers = vec![
        ("content-type", "application/grpc".to_owned()),
        ("grpc-status", code.to_string()),
        ("grpc-message", message),
    ];
    Reply::Raw(headers, Bytes::new())
}

/// A text of YAML, every character that needs it escaped.
fn yaml(text: &str) -> String {
    let escape = |c: char| match c {
        ' '..='~' if c != '"' && c != '\\' => c.to_string(),
        '$' => "$$".to_owned(),
        c => format!("\\U{:08x}", u32::from(c)),
    };
    format!("\"{}\"", text.replace('$', "$$").chars().map(escape).collect::<String>())
}

/// A string of OTTL, as it is but for its quotes.
fn ottl(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// OTLP/JSON, a request a line, without the bytes that JSON cannot hold.
fn recorded(folder: &Path) -> PathBuf {
    let mut lines = Vec::new();
    for signal in Signal::ALL {
        json::to_json(signal, &request_of(signal, &corpus()), &mut lines);
        lines.push(b'\n');
    }
    written(folder, "recorded.jsonl", lines)
}

#[tokio::test]
async fn a_program_and_what_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = recorded(folder.path());
    let words =
        format!("{} send {} --to $OTEL_EXPORTER_OTLP_ENDPOINT", env!("CARGO_BIN_EXE_misaki"), recorded.display());
    harmless("a program", &Session::begin(misaki(&["--", "sh", "-c", &words])).end().await, true);
    shown("no program", &["--", &format!("/no/such/{}", corpus()[1])]).await;
    let hostile = percent(&corpus().concat());
    let upstream = Upstream::scripted(move |_| raw_grpc(3, &hostile)).await;
    shown("send", &["send", "slog", "--to", &format!("grpc://{}", upstream.address)]).await;
    shown("send, of a file", &["send", &corpus()[1]]).await;
    shown("send, to nowhere", &["send", "--to", &corpus()[1]]).await;
}

/// Words that came as arguments: what cannot be understood is quoted.
#[tokio::test]
async fn arguments() {
    for hostile in corpus().iter().filter(|text| !text.contains('\0') && text.len() < 9_000) {
        for arguments in [
            &[hostile.as_str()] as &[_],
            &["tail", "-o", hostile],
            &["tail", hostile],
            &["status", "--pid", hostile],
            &["status", "--socket", hostile],
            &["--to", hostile],
            &["--to", "http://localhost:1", "--ca", hostile],
            &["--set", hostile],
            &["test", hostile],
            &["queue", "list", hostile],
            &["queue", "inspect", "/", hostile],
            &["validate", "--config", hostile],
        ] {
            let output = misaki(arguments).output().unwrap();
            harmless(&format!("{arguments:.60?}"), &[output.stdout, output.stderr].concat(), true);
        }
    }
}

#[tokio::test]
async fn configs_and_their_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let named = format!("{}.yaml", corpus()[1].replace('/', ""));
    let flow = |text: &dyn Fn(&str) -> String| {
        let keys: String = corpus().iter().map(|hostile| format!("  {}: {}\n", yaml(hostile), text(hostile))).collect();
        format!(
            "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors:\n  resource: {{attributes: [{{key: a, value: b, action: upsert}}]}}\nexporters:\n{keys}\
             service:\n  pipelines:\n    logs: {{receivers: [otlp], processors: [resource], exporters: [debug]}}\n"
        )
    };
    // Written out where YAML has escapes, and as it is, in comments and on the lines that are shown.
    let raw: String = corpus()
        .iter()
        .map(|hostile| format!("  debug: {{'{}': 1}} # {hostile}\n", hostile.replace('\'', "")))
        .collect();
    for (name, text) in [
        ("keys", flow(&|_| "{}".to_owned())),
        ("values", flow(&|hostile| format!("{{endpoint: {}}}", yaml(hostile)))),
        ("as it is", format!("exporters:\n{raw}")),
        (
            "as it is, on one line",
            format!("exporters: {{debug: {{verbosity: '{}'}}}}\n", corpus().concat().replace(['\'', '\0'], "")),
        ),
        ("brackets", format!("exporters: {{[{}\n", corpus()[1])),
    ] {
        let path = written(folder.path(), &named, replaced(text.into_bytes()));
        shown(name, &["validate", "--config", path.to_str().unwrap()]).await;
    }
    for (index, hostile) in corpus().iter().enumerate() {
        for text in [
            format!("exporters: {{debug: {{verbosity: {}}}}}\n", yaml(hostile)),
            format!("exporters: {{debug: {{verbosity: '{}'}}}}\n", hostile.replace('\'', "")),
            format!("exporters: {{otlp: {{endpoint: {}, headers: {{{}: a}}}}}}\n", yaml(hostile), yaml(hostile)),
            format!("processors: {{transform: {{log_statements: [{}]}}}}\n", yaml(&format!("set({hostile}"))),
        ] {
            let path = written(folder.path(), &named, replaced(text.into_bytes()));
            let output = misaki(&["validate", "--config", path.to_str().unwrap()]).output().unwrap();
            harmless(&format!("text {index} in a config"), &[output.stdout, output.stderr].concat(), true);
        }
    }
    let fine = format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors: {{resource: {{attributes: [{{key: a, value: {}, action: upsert}}]}}}}\nexporters: {{debug: }}\n\
         service: {{pipelines: {{logs: {{receivers: [otlp], processors: [resource], exporters: [debug]}}}}}}\n",
        yaml(&corpus().concat())
    );
    let path = written(folder.path(), "fine.yaml", fine);
    for format in ["yaml", "json"] {
        shown("print-config", &["print-config", "--config", path.to_str().unwrap(), "--format", format]).await;
    }
}

#[tokio::test]
async fn cases_of_a_config_that_fail() {
    let folder = tempfile::tempdir().unwrap();
    written(
        folder.path(),
        "edge.yaml",
        "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {otlp: {endpoint: 'localhost:1'}}\nservice: {pipelines: {logs: {receivers: [otlp], exporters: [otlp]}}}\n",
    );
    let case = |hostile: &String| {
        let text = yaml(hostile);
        format!(
            "  - name: {text}\n    in:\n      - log: {{body: {text}, resource: {{{text}: {text}}}}}\n    out:\n      - log: {{body: other, severityText: {text}}}\n    dropped: {{{text}: 1}}\n"
        )
    };
    let cases =
        written(folder.path(), "edge.test.yaml", format!("cases:\n{}", corpus().iter().map(case).collect::<String>()));
    shown("test", &["test", cases.to_str().unwrap()]).await;
}

#[tokio::test]
async fn queues_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let changes = format!(
        "{{extensions: {{file_storage: {{directory: '{}'}}}}, service: {{extensions: [file_storage]}}, exporters: {{otlp: {{sending_queue: {{storage: file_storage}}}}}}}}",
        folder.path().display()
    );
    let away = Upstream::replying(Reply::Grpc(14, "away", None)).await;
    let mut running = Misaki::start(&changes, &[&away]).await;
    assert!(running.post(Via::Http, Signal::Logs, request_of(Signal::Logs, &corpus()), &[]).await.ok);
    running.finish_within(Duration::from_millis(10)).await;
    drop(running);
    let ours = folder.path().join("misaki");
    let made = std::fs::read_dir(&ours).unwrap().next().unwrap().unwrap().path();
    let (directory, named) = (folder.path().to_str().unwrap(), format!("{}_logs", corpus()[1].replace('/', "")));
    std::fs::rename(made, ours.join(&named)).unwrap();
    shown("queue list", &["queue", "list", directory]).await;
    harmless("queue inspect", &Session::begin(misaki(&["queue", "inspect", directory, &named])).end().await, false);
    shown("queue export", &["queue", "export", directory, &named]).await;
    let segment = |path: &Path| std::fs::read_dir(path).unwrap().flatten().map(|entry| entry.path());
    for file in segment(&ours.join(&named)).filter(|path| path.is_file()) {
        std::fs::write(file, corpus().concat()).unwrap();
    }
    harmless("a damaged queue", &Session::begin(misaki(&["queue", "inspect", directory, &named])).end().await, false);
}

/// What an upstream says, in `doctor` and in the log, and what is read over HTTP of a collector that hears it.
#[tokio::test]
async fn what_upstreams_say() {
    let folder = tempfile::tempdir().unwrap();
    for (index, hostile) in corpus().into_iter().enumerate() {
        // The others differ only in length.
        let hostile: String = hostile.chars().take(600).collect();
        let said = hostile.clone();
        let upstream = Upstream::scripted(move |arrival| {
            let is_grpc = arrival.headers.get("content-type").is_some_and(|kind| kind == "application/grpc");
            let status = || {
                replaced(misaki::face::otlp::status::to_wire(
                    &misaki::face::telemetry::Status { code: 3.into(), message: said.clone() },
                    None,
                ))
            };
            let page = |kind: &str, body: Vec<u8>| {
                Reply::Raw(vec![(":status", "400".to_owned()), ("content-type", kind.to_owned())], body.into())
            };
            match (is_grpc, arrival.signal) {
                (true, _) => raw_grpc(3, &percent(&said)),
                (false, Signal::Logs) => page("application/x-protobuf", status()),
                (false, Signal::Metrics) => page("text/html", replaced(said.clone().into_bytes())),
                (false, Signal::Traces) => {
                    page("application/json", serde_json::json!({"code": 3, "message": said}).to_string().into())
                }
            }
        })
        .await;
        let (port, metrics, health) = (free_port().await, free_port().await, free_port().await);
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}', include_metadata: true}}}}}}}}\n\
             exporters:\n  otlp: {{endpoint: '{upstream}', tls: {{insecure: true}}}}\n  otlp_http: {{endpoint: 'http://{upstream}'}}\n\
             extensions: {{health_check: {{endpoint: '127.0.0.1:{health}'}}}}\n\
             service: {{extensions: [health_check], telemetry: {{logs: {{level: debug}}, metrics: {{level: detailed, readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}, \
             pipelines: {{logs: &p {{receivers: [otlp], exporters: [otlp, otlp_http]}}, traces: *p, metrics: *p}}}}\n",
            upstream = upstream.address
        );
        let config = written(folder.path(), "edge.yaml", config);
        harmless(
            "doctor",
            &Session::begin(misaki(&["doctor", "--config", config.to_str().unwrap()])).end().await,
            true,
        );
        let before = upstream.requests();
        let session = started(&config, port).await;
        let ports = Ports { grpc: ([127, 0, 0, 1], port).into(), http: ([127, 0, 0, 1], port).into() };
        for signal in Signal::ALL {
            assert!(ports.post(Via::Http, signal, request_of(signal, std::slice::from_ref(&hostile)), &[]).await.ok);
        }
        // A client's own: its content type, its path, its body.
        for (path, kind) in [("/v1/logs", "text/\u{9b}2J\u{202e}"), ("/%1b[2J\u{9b}2J", "application/json")] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\nx-\u{9b}: {MARK}\r\ncontent-length: 4\r\nconnection: close\r\n\r\n\x1b[2J"
            );
            let answer = asked(port, &head).await;
            harmless("an answer", answer.replace('\r', "").as_bytes(), false);
        }
        until("all were answered", || upstream.requests() >= before + 6).await;
        for (port, path) in [(metrics, "/metrics"), (health, "/"), (health, "/\u{9b}2J")] {
            let answer = asked(port, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            harmless(path, answer.replace('\r', "").as_bytes(), false);
            assert!(!answer.contains(MARK), "no telemetry, and no words of others: {answer}");
        }
        harmless(&format!("the log of text {index}"), &session.terminate().await, true);
    }
}

/// The whole answer to a request written by hand.
async fn asked(port: u16, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn names_in_certificates() {
    let folder = tempfile::tempdir().unwrap();
    for hostile in corpus().iter().filter(|text| text.len() < 500) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, hostile.as_str());
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, hostile.as_str());
        let certificate = parameters.self_signed(&key).unwrap();
        let (cert, key) =
            (written(folder.path(), "crt", certificate.pem()), written(folder.path(), "key", key.serialize_pem()));
        let tls = format!("tls: {{cert_file: '{}', key_file: '{}'}}", cert.display(), key.display());
        let upstream = Misaki::start(&format!("receivers: {{otlp: {{protocols: {{grpc: {{{tls}}}}}}}}}"), &[]).await;
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\nexporters: {{otlp: {{endpoint: 'localhost:{}'}}}}\n\
             service: {{pipelines: {{logs: {{receivers: [otlp], exporters: [otlp]}}}}}}\n",
            upstream.ports.grpc.port()
        );
        let config = written(folder.path(), "edge.yaml", config);
        let told = Session::begin(misaki(&["doctor", "--config", config.to_str().unwrap()])).end().await;
        harmless("doctor", &told, true);
    }
}
