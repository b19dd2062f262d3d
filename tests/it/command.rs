//! `misaki -- COMMAND…`: the program's streams, signals and status are its own; its requests are shown on stderr.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Sends one span and one log as OTLP/JSON, and says where.
const PROGRAM: &str = r#"
import json, os, sys, urllib.request
def post(path, body):
    request = urllib.request.Request(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + path, json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    urllib.request.urlopen(request).read()
trace, span = "4b" * 16, "01" * 8
resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
post("/v1/traces", {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [
    {"traceId": trace, "spanId": span, "name": "GET /cart", "startTimeUnixNano": "1000000000", "endTimeUnixNano": "1200000000",
     "status": {"code": 2, "message": "out of stock"}}]}]}]})
post("/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [
    {"timeUnixNano": "1100000000", "severityNumber": 17, "body": {"stringValue": "nothing left"},
     "attributes": [{"key": "trace_id", "value": {"stringValue": trace}}, {"key": "span_id", "value": {"stringValue": span}}]}]}]}]})
names = ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
print([os.environ.get(name) for name in names], sys.stdin.read())
print("own words", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"#;

/// Sends a gauge for each `m` of its argument and a span for each `s`, waits at each `w`, and prints the SDKs' delays.
const SENDER: &str = r#"
import json, os, sys, time, urllib.request
def post(path, body):
    request = urllib.request.Request(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + path, json.dumps(body).encode(),
                                     {"content-type": "application/json"})
    urllib.request.urlopen(request).read()
for step in sys.argv[1]:
    if step == "m":
        post("/v1/metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "job.duration", "unit": "s",
            "gauge": {"dataPoints": [{"timeUnixNano": "1000000000", "asDouble": 0.15}]}}]}]}]})
    elif step == "s":
        post("/v1/traces", {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "4b" * 16, "spanId": "01" * 8,
            "name": "GET /cart", "startTimeUnixNano": "1000000000", "endTimeUnixNano": "1200000000"}]}]}]})
    else:
        time.sleep(1.2)
names = ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"]
print([os.environ.get(name) for name in names])
"#;

fn misaki(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.env("TZ", "UTC").arg("--").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_programs_requests_are_shown() {
    let mut command = misaki(&["python3", "-c", PROGRAM, "7"]);
    command.env("OTEL_METRICS_EXPORTER", "none").env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9");
    let mut child = command.env_remove("OTEL_TRACES_EXPORTER").env_remove("OTEL_LOGS_EXPORTER").spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin").unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(stdout, "['otlp', 'none', 'otlp', None] from stdin\n");
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    let lines = [
        "own words\n",
        "00:00:01.000Z ✗ span shop                     GET /cart  200 ms  failed: out of stock ",
        "00:00:01.100Z ERROR  shop                     nothing left ",
    ];
    for line in lines {
        assert!(stderr.contains(line), "{line}: {stderr}");
    }
}

/// A program that sent metrics alone seemed to send nothing.
#[test]
fn metrics_are_shown_where_nothing_else_comes() {
    // What is sent; how many gauges are shown, and whether a line says that there are more.
    for (steps, gauges, is_said) in
        [("m", 1, false), ("mwm", 2, false), ("sm", 0, true), ("ms", 0, true), ("mws", 1, true)]
    {
        let (_, stderr) = texts(&misaki(&["python3", "-c", SENDER, steps]).output().unwrap());
        assert_eq!(stderr.matches(" gauge ").count(), gauges, "{steps}: {stderr}");
        assert_eq!(stderr.contains("misaki: metrics came, too: "), is_said, "{steps}: {stderr}");
    }
    let printed = ["--print", "line", "--", "python3", "-c", SENDER, "sm"];
    let output = Command::new(env!("CARGO_BIN_EXE_misaki")).args(printed).output().unwrap();
    let (_, stderr) = texts(&output);
    assert!(stderr.matches(" gauge ").count() == 1 && !stderr.contains("metrics came"), "{stderr}");
}

/// An interval alone made a Node.js program fail at its start: it was shorter than the SDK's timeout.
#[test]
fn sdks_send_soon_unless_the_user_says_otherwise() {
    let rows: [(&[(&str, &str)], &str); 4] = [
        (&[], "['200', '200', '5000', '4000']\n"),
        (&[("OTEL_BSP_SCHEDULE_DELAY", "77"), ("OTEL_BLRP_SCHEDULE_DELAY", "")], "['77', '200', '5000', '4000']\n"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "9")], "['200', '200', '9', None]\n"),
        (&[("OTEL_METRIC_EXPORT_TIMEOUT", "9000")], "['200', '200', None, '9000']\n"),
    ];
    for (set, expected) in rows {
        let mut command = misaki(&["python3", "-c", SENDER, "m"]);
        for name in ["BSP_SCHEDULE_DELAY", "BLRP_SCHEDULE_DELAY", "METRIC_EXPORT_INTERVAL", "METRIC_EXPORT_TIMEOUT"] {
            command.env_remove(format!("OTEL_{name}"));
        }
        let (stdout, _) = texts(&command.envs(set.iter().copied()).output().unwrap());
        assert_eq!(stdout, expected, "{set:?}");
    }
}

/// It had no socket: what one program did could not be asked from outside.
#[test]
fn tail_and_status_work_beside_it() {
    let misaki_itself = env!("CARGO_BIN_EXE_misaki");
    let script = format!(
        "{misaki_itself} status --pid $PPID; {misaki_itself} tail --pid $PPID --since 1m -n 1 -o json & \
         python3 -c '{SENDER}' s; wait"
    );
    let (stdout, stderr) = texts(&misaki(&["sh", "-c", &script]).output().unwrap());
    assert!(stdout.contains("misaki -- sh") && stdout.contains("GET /cart"), "{stdout}{stderr}");
}

#[test]
fn the_form_is_chosen() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command
        .args(["--print", "line", "--utc", "--", "python3", "-c", PROGRAM, "0"])
        .env("TZ", "JST-9")
        .stdin(Stdio::null());
    let (_, stderr) = texts(&command.output().unwrap());
    assert!(stderr.contains("00:00:01.100Z ERROR  shop ") && !stderr.contains("──"), "{stderr}");
}

#[test]
fn it_ends_as_the_program_does() {
    let rows: [(&[&str], i32, &str); 5] = [
        (&["true"], 0, "misaki: no telemetry came"),
        (&["sh", "-c", "exit 3"], 3, "misaki: no telemetry came"),
        (&["sh", "-c", "kill -9 $$"], 137, "misaki: no telemetry came"),
        (&["/no/such\x1bprogram"], 127, "error: cannot run /no/such\\x1bprogram: "),
        (&["/"], 126, "error: cannot run /: "),
    ];
    for (words, status, said) in rows {
        let output = misaki(words).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}");
        assert!(texts(&output).1.starts_with(said), "{words:?}: {}", texts(&output).1);
    }
    // It has no use for a config.
    let output =
        Command::new(env!("CARGO_BIN_EXE_misaki")).args(["--config", "x.yaml", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn signals_are_passed_on() {
    for signal in ["TERM", "INT", "HUP", "USR1"] {
        let script = format!("trap 'echo heard; exit 5' {signal}; echo ready; while :; do sleep 0.01; done");
        let mut child = misaki(&["sh", "-c", &script]).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut ready = [0; 6];
        stdout.read_exact(&mut ready).unwrap();
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("heard\n", Some(5)), "{signal}");
    }
}

/// A stderr that takes nothing any more, and its other end, which reads it or not.
fn full() -> (Stdio, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (OwnedFd::from(writer).into(), reader)
}

fn ended(mut child: Child, within: Duration) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < within {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

const SOON: Duration = Duration::from_secs(10);

/// The log once wrote from the threads that serve: the first line without a reader ended the service.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (config, port, metrics) = (directory.path().join("config.yaml"), free_port_now(), free_port_now());
    let text = format!(
        "{{receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}, exporters: {{nop: {{}}}}, extensions: {{inspect: {{enabled: false}}}}, service: {{telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}}}, pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}}}"
    );
    std::fs::write(&config, text).unwrap();
    let (stderr, mut reader) = full();
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let child = command.arg("--config").arg(&config).stderr(stderr).spawn().unwrap();
    let pid = child.id().to_string();
    // Its own end of the pair.
    drop(command);
    let start = Instant::now();
    let asked = |port: u16, head: &str, body: &str| {
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < SOON, "{error}"),
            }
        };
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        answer
    };
    let answers = || asked(port, "POST /v1/logs", "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    answers();
    // Long complaints, until there were more than the log keeps; signals that come fast are one.
    let unknown: String = (0..150).map(|number| format!("  unknown{number}:\n")).collect();
    std::fs::write(&config, format!("receivers:\n{unknown}")).unwrap();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    let complaints = || {
        let page = asked(metrics, "GET /metrics", "\r\n");
        let line = page.lines().find_map(|line| line.strip_prefix("misaki_config_reloads{result=\"failure\"} "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    while complaints() < 20 {
        signal("-HUP");
        answers();
        assert!(start.elapsed() < 6 * SOON);
    }
    // Somebody looks again: what was kept is there, and what was not is said.
    reader.set_read_timeout(Some(SOON)).unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(" lines of this log were not written, the reader was slow\n") {
        let mut some = [0; 4096];
        let read = reader.read(&mut some).unwrap();
        text.extend_from_slice(&some[..read]);
    }
    signal("-TERM");
    assert_eq!(ended(child, SOON), Some(0));
}

#[test]
fn a_program_ends_though_nobody_reads_stderr() {
    for script in ["exit 3", PROGRAM] {
        let (stderr, _reader) = full();
        let words: &[&str] = if script == PROGRAM {
            // Its own words would find no reader either.
            &["python3", "-c", &PROGRAM.replace("print(\"own words\"", "0 and print(\"own words\""), "3"]
        } else {
            &["sh", "-c", script]
        };
        let child = misaki(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        assert_eq!(ended(child, SOON), Some(3), "{script}");
    }
}

fn free_port_now() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
