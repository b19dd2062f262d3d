//! The page of one request: it says what the tree says, shows all of a span, and takes nothing of telemetry as markup.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A page of recorded telemetry.
struct Site {
    process: Child,
    host: String,
    cookie: String,
    _folder: tempfile::TempDir,
}

impl Site {
    fn of(requests: &[Value]) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recorded.jsonl");
        let lines: Vec<String> = requests.iter().map(Value::to_string).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
        command.env("TZ", "UTC").arg("ui").arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let (host, token) = address.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut site = Site { process, host: host.to_owned(), cookie: String::new(), _folder: folder };
        let welcome = site.exchange(&format!("/{token}"));
        let cookie = welcome.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        site.cookie = cookie.split(';').next().unwrap().to_owned();
        site
    }

    fn exchange(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n", self.host, self.cookie);
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The status and the page.
    fn get(&self, path: &str) -> (u16, String) {
        let answer = self.exchange(path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

const TRACE: &str = "4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b";

/// A span of `service` from `start` for `millis`.
fn span(service: &str, id: u64, parent: u64, name: &str, [start, millis]: [u64; 2], more: Value) -> Value {
    let nanos = |millis: u64| (1_000_000_000 + 1_000_000 * millis).to_string();
    let parent = if parent == 0 { String::new() } else { format!("{parent:016x}") };
    let mut span = json!({"traceId": TRACE, "spanId": format!("{id:016x}"), "parentSpanId": parent, "name": name,
        "startTimeUnixNano": nanos(start), "endTimeUnixNano": nanos(start + millis)});
    span.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let attributes = json!([{"key": "service.name", "value": {"stringValue": service}}]);
    json!({"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span]}]}]})
}

fn log(service: &str, span: u64, millis: u64, body: &str) -> Value {
    let attributes = json!([{"key": "service.name", "value": {"stringValue": service}}]);
    json!({"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [
        {"traceId": TRACE, "spanId": format!("{span:016x}"), "severityNumber": 9, "body": {"stringValue": body},
         "timeUnixNano": (1_000_000_000 + 1_000_000 * millis).to_string()}]}]}]})
}

fn purchase() -> Site {
    let failed = json!({"status": {"code": 2, "message": "card declined"}, "kind": 3,
        "attributes": [{"key": "user \"id\"", "value": {"intValue": "17"}}],
        "events": [{"name": "exception", "attributes": [
            {"key": "exception.stacktrace", "value": {"stringValue": "at one\n\tat two"}}]}]});
    let mut requests = vec![
        span("shop", 1, 0, "POST /purchase", [0, 300], json!({"kind": 2})),
        span("payment", 2, 1, "charge", [10, 200], failed),
        span("mail", 3, 1, "send", [290, 120], json!({"kind": 5})),
        log("payment", 2, 100, "asking the bank"),
    ];
    requests.extend((0..5).map(|index| span("db", 10 + index, 1, "SELECT item", [220 + 10 * index, 5], json!({}))));
    Site::of(&requests)
}

#[test]
fn it_says_what_the_tree_says() {
    let site = purchase();
    let (status, page) = site.get(&format!("/trace/{TRACE}"));
    assert_eq!(status, 200);
    let said = [
        "shop POST /purchase",
        "failed: payment charge: card declined",
        "&gt; bottleneck: ",
        "payment charge, 200 of 300 ms, 67 %",
        "after the answer: ",
        "×5 SELECT item",
        "asking the bank",
    ];
    for words in said {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(page.matches("<tr data-row").count(), 4);
    let (_, unfolded) = site.get(&format!("/trace/{TRACE}?unfold=1"));
    assert_eq!(unfolded.matches("<tr data-row").count(), 8);
    let (_, found) = site.get(&format!("/trace/{TRACE}?find=BANK+asking"));
    assert!(found.contains("1 row of 4 has"), "{found}");
}

#[test]
fn a_span_is_shown_whole() {
    let site = purchase();
    let (_, page) = site.get(&format!("/trace/{TRACE}?span=0000000000000002"));
    for words in ["card declined", "user &quot;id&quot;", "at one\n    at two", "asking the bank", "Client"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    // Its attribute leads to the requests that have it.
    let address = page.split("href=\"").find(|rest| rest.starts_with("/?q=span")).unwrap().split('"').next().unwrap();
    let (_, list) = site.get(address);
    assert!(list.contains(&format!("/trace/{TRACE}")), "{address}: {list}");
    let (_, other) = site.get(&address.replace("17", "18"));
    assert!(!other.contains(&format!("/trace/{TRACE}")), "{other}");
}

#[test]
fn a_request_is_taken_along() {
    let site = purchase();
    let (status, lines) = site.get(&format!("/trace/{TRACE}.json"));
    assert_eq!(status, 200);
    let requests: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let again = Site::of(&requests);
    let (_, page) = again.get(&format!("/trace/{TRACE}"));
    assert!(page.contains("8 spans") && page.contains("1 log"), "{page}");
}

#[test]
fn a_request_that_is_not_here_is_missing() {
    let site = purchase();
    for path in ["/trace/00000000000000000000000000000001", "/trace/4b", "/trace/00000000000000000000000000000001.json"]
    {
        assert_eq!(site.get(path).0, 404, "{path}");
    }
}

#[test]
fn telemetry_is_text() {
    let evil = "<script>alert(1)</script>\"'><img src=x>\u{202e}\u{1b}[31m";
    let attributes = json!([{"key": evil, "value": {"stringValue": evil}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": evil}]}}}]);
    let more = json!({"attributes": attributes, "traceState": evil, "status": {"code": 2, "message": evil},
        "events": [{"name": evil, "attributes": attributes}],
        "links": [{"traceId": "aa".repeat(16), "spanId": "bb".repeat(8), "traceState": evil,
            "attributes": attributes}]});
    let site = Site::of(&[span(evil, 1, 0, evil, [0, 10], more), log(evil, 1, 5, evil), log(evil, 9, 5, evil)]);
    let query = "find=%3Cscript%3E&from=%22%3E%3Cscript%3E&rows=x&match=-1";
    for path in [format!("/trace/{TRACE}?span=0000000000000001&{query}"), "/".to_owned()] {
        let (status, page) = site.get(&path);
        assert_eq!(status, 200);
        for markup in ["<script>alert", "<img", "\u{202e}", "\u{1b}", " style="] {
            assert!(!page.contains(markup), "{markup:?} in {page}");
        }
    }
}
