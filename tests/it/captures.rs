//! What a person sees: the binary's pages and lines, captured at the widths of terminals (`fixtures/terminal`). No line is
//! wider than the terminal, and nothing is said by colour alone.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use misaki::face::exporters::width;
use misaki::face::extensions::LocalSocket as Config;
use misaki::face::inspect::{Inspection, Subject};
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::task::JoinHandle;

use crate::harness::*;
use crate::tree::{failed, golden, log, logs, pair, purchase, span, traces, with};

const WIDTHS: [usize; 2] = [80, 160];

const TRACES_TOO: &str = "{service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}}";

fn misaki(arguments: &[&str], columns: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(arguments).env("COLUMNS", columns.to_string());
    command.env_remove("NO_COLOR").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env("TZ", "UTC");
    command
}

/// What a command writes, while this thread serves.
async fn output(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn plain(mut text: String) -> String {
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[K", "\x1b[J", "\x1b[H"] {
        text = text.replace(code, "");
    }
    text
}

#[track_caller]
fn fits(text: &str, columns: usize) {
    for line in text.lines() {
        assert!(width(line) <= columns, "{} columns of {columns}: {line}", width(line));
    }
}

fn open(misaki: &Misaki, directory: &Path) -> Inspection {
    let config = Config { path: Some(directory.join("misaki.sock")), ..Config::default() };
    Inspection::open(&config, Subject::new(vec!["/etc/misaki/config.yaml".into()], &misaki.running)).unwrap()
}

/// The slow purchase, its payment refused; names, words and pictures of all widths.
fn story() -> (Vec<ResourceLogs>, Vec<ResourceSpans>) {
    let mut spans = purchase();
    spans[7] = failed(spans[7].clone(), "card declined: 残高不足です 💳");
    spans.push(span(9, 2, "recommendation-engine", "rank 🛒 carts", 10, 12));
    let mut records = vec![
        log(1, "frontend", 9, "purchase of 3 items began 🎉", 2),
        log(4, "database", 5, "SELECT * FROM products WHERE id IN ($1, $2, $3) ORDER BY price", 30),
        log(7, "payment", 13, "支払いに時間がかかっています、もう少しお待ちください。外部の応答を待っています", 250),
        log(8, "external-api", 17, "card declined", 287),
        log(
            9,
            "recommendation-engine",
            1,
            "a line that is longer than any terminal of eighty columns has room for it",
            12,
        ),
    ];
    let source =
        [("code.function.name", "main.charge"), ("code.file.path", "/src/charge.go"), ("code.line.number", "42")];
    let record = &mut records[3].scope_logs[0].log_records[0];
    record.attributes.splice(0..0, source.map(|(key, value)| pair(key, value)));
    (records, spans)
}

#[tokio::test]
async fn tail_in_each_form() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let mut running = Misaki::start(TRACES_TOO, &[&upstream]).await;
    let inspection = open(&running, directory.path());
    let (records, spans) = story();
    let items = (records.len() + spans.len()).to_string();
    assert!(running.post(Via::Http, Signal::Logs, logs(records), &[]).await.ok);
    assert!(running.post(Via::Http, Signal::Traces, traces(spans), &[]).await.ok);
    let socket = inspection.path().to_str().unwrap();
    for (form, is_fitted) in [("line", true), ("tree", true), ("normal", false), ("detailed", false), ("json", false)] {
        for columns in WIDTHS.into_iter().take(if is_fitted { 2 } else { 1 }) {
            let look = |color| {
                let arguments = ["tail", "--socket", socket, "--since", "5m", "-n", &items, "--for", "20s", "-o", form];
                misaki(&[&arguments[..], &["--color", color]].concat(), columns)
            };
            let text = output(look("never")).await;
            assert_eq!(plain(output(look("always")).await), text, "colour repeats what words say");
            if is_fitted {
                fits(&text, columns);
                let source = ["main.charge", "charge.go", "=42"];
                assert!(source.iter().all(|word| !text.contains(word)), "{text}");
            }
            let columns = if is_fitted { format!(".{columns}") } else { String::new() };
            golden(&format!("terminal/tail.{form}{columns}.txt"), &text);
        }
    }
    // Found at a glance: what failed and what was slow stand above the rows.
    let look = ["tail", "--socket", socket, "--since", "5m", "-n", &items, "--for", "20s", "-o", "tree"];
    let text = output(misaki(&look, 80)).await;
    let head: Vec<&str> = text.lines().take(3).collect();
    assert!(head[1].starts_with(" > bottleneck: external-api POST /charge, 180 of payment's 200 ms"), "{text}");
    assert!(head[2].starts_with(" ✗ failed: external-api POST /charge: card declined"), "{text}");
    running.settle().await;
    running.finish().await;
}

/// An expression that one item matches shows the whole trace of it in a tree, and that item alone in the other forms;
/// times are those of the machine's zone, or of UTC; a pipe has no width.
#[tokio::test]
async fn tail_shows_whole_traces_in_local_time() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let mut running = Misaki::start(TRACES_TOO, &[&upstream]).await;
    let inspection = open(&running, directory.path());
    let other = with(span(1, 0, "shop", "GET /other", 0, 5), |span| span.trace_id = vec![8; 16]);
    for group in [purchase(), vec![other]].concat() {
        assert!(running.post(Via::Http, Signal::Traces, traces(vec![group]), &[]).await.ok);
    }
    let socket = inspection.path().to_str().unwrap();
    let look = async |more: &[&str], zone: &str| {
        let arguments = ["tail", "--socket", socket, "--since", "5m", "--for", "1s", "span.name == \"POST /charge\""];
        let mut command = misaki(&[&arguments, more].concat(), 80);
        command.env("TZ", zone).env_remove("COLUMNS");
        output(command).await
    };
    let text = look(&["-o", "tree"], "JST-9").await;
    let bottleneck = "bottleneck: external-api POST /charge, 180 of payment's 200 ms, 59 %";
    assert!(
        text.starts_with(&format!(
            "── 23:02:11.402+09  trace {}  8 spans, 7 services\n > {bottleneck}\n",
            "4b".repeat(16)
        )),
        "{text}"
    );
    assert!(!text.contains("other"), "{text}");
    let text = look(&["-o", "tree", "--only-matching", "--utc"], "JST-9").await;
    assert!(text.starts_with("── 14:02:11.510Z  trace "), "{text}");
    assert!(text.contains(" ! partial: its root span does not match\n"), "{text}");
    assert!(!text.contains("bottleneck") && text.contains("  1 span, "), "{text}");
    let text = look(&[], "<+0545>-5:45").await;
    assert!(text.lines().count() == 1 && text.starts_with("19:47:11.510+05:45 span   external-api  "), "{text}");
    running.settle().await;
    running.finish().await;
}

/// What differs from run to run: numbers of these lines.
fn settled(page: &str, running: &Misaki, upstream: &Upstream) -> String {
    let port = |address: std::net::SocketAddr, name: &str| (format!(":{}", address.port()), format!(":{name}"));
    let ports = [port(running.ports.grpc, "4317"), port(running.ports.http, "4318"), port(upstream.address, "14317")];
    let varies = ["misaki ", "  memory ", "  state ", "  oldest ", "  holds ", "             "];
    let line = |line: &str| {
        if !line.contains("HOLDING") && !varies.iter().any(|start| line.starts_with(start)) {
            return ports.iter().fold(line.to_owned(), |line, (port, name)| line.replace(port, name));
        }
        let mut out = String::new();
        for character in line.chars() {
            match character {
                '0'..='9' | '.' if out.ends_with('#') => {}
                '0'..='9' => out.push('#'),
                other => out.push(other),
            }
        }
        // Which side of 1 KiB the rate is on is for the machine's speed to say.
        out.replace("KiB a second", "B a second")
    };
    page.lines().map(|text| line(text) + "\n").collect()
}

/// Answers logs with a refusal that a person must mend, and takes traces.
async fn refusing() -> Upstream {
    Upstream::scripted(|arrival| match arrival.signal {
        Signal::Logs => Reply::Grpc(16, "the token of this edge expired at midnight", None),
        _ => Reply::Accept,
    })
    .await
}

#[tokio::test]
async fn status_and_its_watch() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = refusing().await;
    let mut running = Misaki::start(TRACES_TOO, &[&upstream]).await;
    let inspection = open(&running, directory.path());
    let (records, spans) = story();
    assert!(running.post(Via::Http, Signal::Logs, logs(records), &[]).await.ok);
    assert!(running.post(Via::Http, Signal::Traces, traces(spans), &[]).await.ok);
    until("both were answered", || upstream.requests() == 2).await;
    rest().await;
    let socket = inspection.path().to_str().unwrap().to_owned();
    let page = output(misaki(&["status", "--socket", &socket], 80)).await;
    fits(&page, 80);
    golden("terminal/status.txt", &settled(&page, &running, &upstream));
    // On terminals of any height nothing is scrolled away.
    for rows in [50, 24, 12] {
        let mut terminal = Terminal::open(rows, 80);
        let shown = terminal.shows(misaki(&["status", "--socket", &socket, "--watch"], 80), "\x1b[J").await;
        let frame = plain(shown);
        fits(&frame, 80);
        assert!(frame.lines().count() < usize::from(rows), "{frame}");
        assert!(frame.contains("HOLDING") || rows == 12, "{frame}");
        assert_eq!(frame.lines().last().unwrap().contains("more lines"), rows < 50, "{frame}");
        if rows == 24 {
            golden("terminal/status.watch.24.txt", &settled(&frame, &running, &upstream));
        }
    }
    // A wider terminal cuts no name and breaks fewer lines; beyond 160 columns nothing more is gained.
    let long = "checkout-orchestration-of-the-second-shop-behind-the-warehouse";
    assert!(running.post(Via::Http, Signal::Traces, traces(vec![span(1, 0, long, "POST /", 1, 2)]), &[]).await.ok);
    until("it is sent", || upstream.requests() == 3).await;
    let page = output(misaki(&["status", "--socket", &socket], 160)).await;
    fits(&page, 80);
    for columns in [160, 250] {
        let (mut child, reading) = Terminal::open(24, columns).begin(misaki(&["status", "--socket", &socket], 80));
        let page = plain(String::from_utf8(reading.await.unwrap()).unwrap());
        assert!(child.wait().unwrap().success() && page.contains(long), "{page}");
        fits(&page, 160);
        golden("terminal/status.160.txt", &settled(&page, &running, &upstream));
    }
    let mut terminal = Terminal::open(24, 160);
    let frame = plain(terminal.shows(misaki(&["status", "--socket", &socket, "--watch"], 80), "\x1b[J").await);
    fits(&frame, 160);
    golden("terminal/status.watch.24.160.txt", &settled(&frame, &running, &upstream));
    // Who waits is told for what; it is wiped when there is something to see.
    let mut terminal = Terminal::open(24, 80);
    let shown = terminal.shows(misaki(&["tail", "--socket", &socket, "body == \"x\""], 80), "seen yet)").await;
    let said = shown.replace("\r\x1b[K", "");
    assert!(said.starts_with("waiting for telemetry at 127.0.0.1:") && width(&said) < 80, "{said:?}");
    running.finish_within(std::time::Duration::from_millis(10)).await;
}

/// A terminal that a program writes to.
pub struct Terminal {
    ours: std::fs::File,
    theirs: std::fs::File,
}

impl Terminal {
    pub fn open(rows: u16, columns: u16) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = std::fs::File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&theirs, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // What is read is what was written: no carriage returns before newlines.
        let mut modes = tcgetattr(&theirs).unwrap();
        modes.output_modes.remove(OutputModes::OPOST);
        tcsetattr(&theirs, OptionalActions::Now, &modes).unwrap();
        Terminal { ours: ours.into(), theirs }
    }

    fn spawn(&self, mut command: Command) -> Child {
        let stream = || Stdio::from(self.theirs.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap()
    }

    /// Runs a program; what it has written is there when it and all that it started are gone.
    pub fn begin(mut self, command: Command) -> (Child, JoinHandle<Vec<u8>>) {
        let child = self.spawn(command);
        drop(self.theirs);
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            // A terminal that nobody has open any more is an error.
            let _ = self.ours.read_to_end(&mut text);
            text
        });
        (child, reading)
    }

    /// What a program writes up to these words; then it is ended.
    pub async fn shows(&mut self, command: Command, until: &'static str) -> String {
        let mut child = self.spawn(command);
        let mut ours = self.ours.try_clone().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&text).contains(until) {
                let read = ours.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..read]);
            }
            String::from_utf8(text).unwrap()
        });
        let text = tokio::time::timeout(std::time::Duration::from_secs(20), reading).await;
        child.kill().unwrap();
        child.wait().unwrap();
        text.expect("it writes that").unwrap()
    }
}

#[tokio::test]
async fn doctor_and_errors() {
    let folder = tempfile::tempdir().unwrap();
    let closed = free_port().await;
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}}}}}}}\n\
         exporters: {{otlp: {{endpoint: \"127.0.0.1:{closed}\", tls: {{insecure: true}}}}}}\n\
         service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [otlp]}}}}}}\n"
    );
    std::fs::write(folder.path().join("edge.yaml"), config).unwrap();
    std::fs::write(
        folder.path().join("wrong.yaml"),
        "receivers: {otlp: {protocols: {http: {endpoint: \"localhost:4318\"}}}}\n\
         processors:\n  memory_limiter: {check_interval: 1s, limit_mib: 200MiB}\n  \
         attributes: {actions: [{key: site, value: 東京第二データセンターの端末、岬, action: add}]}\n\
         exporter: {debug: }\n\
         service: {pipelines: {logs: {receivers: [otlp], processors: [memory_limiter, attributes], exporters: [debug]}}}\n",
    )
    .unwrap();
    let long = "resource.attributes[\"service.name\"] == \"recommendation-engine\" and span.name == POST and span.kind == SERVER";
    let cases: [(&str, &[&str]); 6] = [
        ("doctor", &["doctor", "--config", "edge.yaml"]),
        ("error.config", &["validate", "--config", "wrong.yaml"]),
        ("error.tail", &["tail", long]),
        ("error.familiar", &["tail", "service.name == \"shop\""]),
        ("error.verb", &["tial"]),
        ("error.to", &["--to", "http://collector:http"]),
    ];
    for (name, arguments) in cases {
        let mut command = misaki(arguments, 80);
        command.current_dir(folder.path());
        let text = output(command).await.replace(&format!(":{closed}"), ":14317");
        // A command that is pasted is not folded.
        let is_folded = |line: &&str| !line.starts_with("help: misaki ") && !line.starts_with("  or: misaki ");
        fits(&text.lines().filter(is_folded).collect::<Vec<_>>().join("\n"), 80);
        // What this machine has.
        let varies = |line: &&str| name == "doctor" && (line.contains("iB") || line.contains(" room for "));
        let text: String = text.lines().filter(|line| !varies(line)).map(|line| format!("{line}\n")).collect();
        golden(&format!("terminal/{name}.txt"), &text);
    }
}
