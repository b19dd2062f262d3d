//! `misaki -- COMMAND…`: the program's streams, signals and status are its own; its requests are shown on stderr.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

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

fn misaki(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.arg("--").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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
        "── 00:00:01.000  trace 4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b  1 span, 1 service\n",
        " ✗ failed: shop GET /cart: out of stock\n",
        "\n*✗ GET /cart ",
        "00:00:01.100 ERROR nothing left\n",
    ];
    for line in lines {
        assert!(stderr.contains(line), "{line}: {stderr}");
    }
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
