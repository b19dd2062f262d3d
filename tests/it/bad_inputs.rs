//! What the `otlp` receiver answers to what it should not get: one table a subject, over raw sockets, against a Misaki in
//! this process. After each table the process lives, a good client is served, and the memory budget is back at zero.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use http::{HeaderMap, Request};
use misaki::face::otlp::wire::{put_bytes, put_fixed64, put_varint};
use misaki::face::otlp::{base64, percent, status};
use misaki::face::telemetry::Share;

use super::harness::Apart;

// A Misaki in this process.

struct Misaki(Apart);

/// Accepts bodies of up to 1 MiB, waits 400 ms for slow ones, and throws everything away.
const PLAIN: &str = "
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:0, max_recv_msg_size_mib: 1}
      http: {endpoint: 127.0.0.1:0, max_request_body_size: 1048576, read_timeout: 400ms, read_header_timeout: 400ms}
exporters: {nop: }
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [otlp], exporters: [nop]}
    traces: {receivers: [otlp], exporters: [nop]}
    metrics: {receivers: [otlp], exporters: [nop]}
";

fn start(config: &str) -> Misaki {
    Misaki(Apart::start(config))
}

impl Misaki {
    fn connect(&self) -> Http {
        Http::connect(self.0.ports.http)
    }

    fn used(&self) -> u64 {
        [Share::Ingest, Share::Queue, Share::Export].iter().map(|share| self.0.budget.used(*share)).sum()
    }

    /// A good request is answered, no memory is held, and the end is orderly. Accepted and refused items.
    fn finish(self) -> (u64, u64) {
        let answer = self.connect().send(&post("/v1/logs", PROTOBUF, "", &log()));
        assert_eq!(answer.status, 200, "a good client after all of it");
        eventually("the memory budget is back at zero", || self.used() == 0);
        self.0.finish()
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// HTTP/1.1 by hand.

struct Http {
    stream: TcpStream,
    held: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Http {
    fn connect(address: SocketAddr) -> Http {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        stream.set_nodelay(true).unwrap();
        Http { stream, held: Vec::new() }
    }

    /// Sends, and reads one answer. The other side may stop reading before all is sent.
    #[track_caller]
    fn send(&mut self, request: &[u8]) -> Answer {
        let _ = self.stream.write_all(request);
        self.read(request.starts_with(b"HEAD")).expect("an answer")
    }

    /// `None` when the connection was closed without one.
    fn read(&mut self, without_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.held[..end]).into_owned();
        self.held.drain(..end + 4);
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if !without_body && status != 100 {
            while self.held.len() < length {
                self.fill()?;
            }
            answer.body = self.held.drain(..length).collect();
        }
        Some(answer)
    }

    fn fill(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                self.held.extend_from_slice(&buffer[..count]);
                Some(())
            }
        }
    }

    /// Whether the other side has closed, within the read timeout.
    fn is_closed(&mut self) -> bool {
        let before = Instant::now();
        while self.fill().is_some() {}
        before.elapsed() < Duration::from_secs(7)
    }
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A POST; `headers` are whole lines without their line ends, separated by `|`.
fn post(path: &str, kind: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let lines: String = headers.split('|').filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: misaki\r\n{kind}{lines}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

// Telemetry, good and bad.

fn message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

/// A logs request around the content of one record.
fn with_record(record: &[u8]) -> Vec<u8> {
    message(1, &message(2, &message(2, record)))
}

fn log() -> Vec<u8> {
    let mut record = Vec::new();
    put_fixed64(&mut record, 1, 1_700_000_000_000_000_000);
    record.extend(message(5, &message(1, b"a body")));
    record.extend(message(6, &[message(1, b"key"), message(2, &message(1, b"value"))].concat()));
    with_record(&record)
}

/// A record whose body is `levels` values deep.
fn deep(levels: usize) -> Vec<u8> {
    let mut value = message(1, b"x");
    for _ in 1..levels {
        value = message(1, &value);
        value = message(5, &value);
    }
    with_record(&message(5, &value))
}

fn json_record(members: &str) -> Vec<u8> {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{members}}}]}}]}}]}}"#).into_bytes()
}

fn json_body(value: &str) -> Vec<u8> {
    json_record(&format!(r#""body":{value}"#))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn changed(mut bytes: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    bytes
}

/// What an error must look like in every row: a status in the request's encoding, a hint where it may be tried again.
#[track_caller]
fn check_error(row: &str, answer: &Answer, kind: &str) {
    let json = kind != PROTOBUF;
    assert_eq!(answer.header("content-type"), Some(if json { JSON } else { PROTOBUF }), "{row}: {answer:?}");
    let (code, message) = if json {
        let body: serde_json::Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{row}: {answer:?}"));
        (body["code"].as_u64().unwrap(), body["message"].as_str().unwrap().to_owned())
    } else {
        let (status, _) = status::from_wire(&answer.body);
        (i32::from(status.code) as u64, status.message)
    };
    let expected = match answer.status {
        400 => vec![3, 1],
        403 => vec![7],
        404 => vec![5],
        405 => vec![12],
        408 => vec![1],
        413 => vec![8],
        415 => vec![3],
        503 => vec![14],
        _ => panic!("{row}: {answer:?}"),
    };
    assert!(expected.contains(&code), "{row}: code {code} with {answer:?}");
    assert!(!message.is_empty() && message.len() < 400, "{row}: {message}");
    assert!(!message.chars().any(char::is_control), "{row}: {message:?}");
    assert_eq!(answer.header("retry-after").is_some(), answer.status == 503, "{row}: {answer:?}");
}

/// Sends each request on a connection of its own, expects its status, and on the same connection a good one to succeed
/// unless the answer announced its end.
fn check_http(misaki: &Misaki, rows: Vec<(&str, &str, Vec<u8>, u16)>) {
    for (row, kind, request, status) in rows {
        let mut http = misaki.connect();
        let answer = http.send(&request);
        assert_eq!(answer.status, status, "{row}: {answer:?}");
        match status {
            200 if kind == JSON => assert_eq!(answer.body, b"{}", "{row}"),
            200 => assert_eq!(answer.body, b"", "{row}"),
            _ if request.starts_with(b"HEAD") => {}
            _ => check_error(row, &answer, kind),
        }
        if answer.header("connection") == Some("close") {
            assert!(http.is_closed(), "{row}: says that it closes");
        } else {
            let good = http.send(&post("/v1/logs", PROTOBUF, "", &log()));
            assert_eq!(good.status, 200, "{row}: a good request on the same connection");
        }
    }
}

#[test]
fn protobuf_bodies() {
    let misaki = start(PLAIN);
    let logs = |body: &[u8]| post("/v1/logs", PROTOBUF, "", body);
    let tagged = |tag: u64, content: &[u8]| {
        let mut record = Vec::new();
        put_varint(&mut record, tag);
        with_record(&[&record[..], content].concat())
    };
    let unknown = [
        vec![0xa0, 0x06, 0x07],
        vec![0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        vec![0xa2, 0x06, 0x01, 0xff],
        vec![0xa3, 0x06, 0xa4, 0x06],
        vec![0xa5, 0x06, 1, 2, 3, 4],
    ];
    let mut number = Vec::new();
    put_fixed64(&mut number, 1, u64::MAX);
    let twice = [message(5, &message(1, b"one")), message(5, &message(1, b"two")), number].concat();
    let point = |content: &[u8]| message(1, &message(2, &message(2, &message(9, &message(1, content)))));
    let odd_histogram = point(&[message(6, &[0; 24]), message(7, &[0; 80])].concat());
    let not_a_number = point(&[&[0x29][..], &f64::NAN.to_le_bytes()].concat());
    let span = message(1, &message(2, &message(2, &[message(1, &[1; 16]), message(2, &[2; 8])].concat())));
    let group = |depth: usize| [vec![0x0b; depth], vec![0x0c; depth]].concat();
    let empty_groups: Vec<u8> = [0x0a, 0x00].repeat(400_000);
    check_http(
        &misaki,
        vec![
            ("1 empty", PROTOBUF, logs(b""), 200),
            ("3 no scopes", PROTOBUF, logs(&message(1, b"")), 200),
            ("3 no records", PROTOBUF, logs(&message(1, &message(2, b""))), 200),
            ("5 random", PROTOBUF, logs(&[0xde, 0xad, 0xbe, 0xef].repeat(64)), 400),
            ("7 varint of 11 bytes", PROTOBUF, logs(&tagged(2 << 3, &[0xff; 11])), 400),
            ("7 varint over 64 bits", PROTOBUF, logs(&tagged(2 << 3, &[[0xff; 9].as_slice(), &[2]].concat())), 400),
            ("8 length beyond the end", PROTOBUF, logs(&[0x0a, 0x7f, 0x00]), 400),
            ("9 length 2^31", PROTOBUF, logs(&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x08]), 400),
            ("9 length 2^63", PROTOBUF, logs(&[&[0x0a][..], &[0x80; 9], &[0x01]].concat()), 400),
            ("10 field 0", PROTOBUF, logs(&[0x02, 0x00]), 400),
            ("10 wire type 6", PROTOBUF, logs(&[0x0e]), 400),
            ("10 wire type 7", PROTOBUF, logs(&[0x0f]), 400),
            ("10 padded tag", PROTOBUF, logs(&[0x8a, 0x00, 0x01, 0xff]), 400),
            ("11 unknown fields", PROTOBUF, logs(&with_record(&unknown.concat())), 200),
            ("12 group without end", PROTOBUF, logs(&[0xa3, 0x06]), 400),
            ("12 10^5 groups", PROTOBUF, logs(&group(100_000)), 400),
            ("13 wrong wire type", PROTOBUF, logs(&[0x08, 0x01]), 400),
            ("14 given twice", PROTOBUF, logs(&with_record(&twice)), 200),
            ("15 invalid UTF-8", PROTOBUF, logs(&with_record(&message(5, &message(1, b"\xff\xfe")))), 200),
            ("17 64 levels", PROTOBUF, logs(&deep(64)), 200),
            ("17 65 levels", PROTOBUF, logs(&deep(65)), 400),
            ("17 10^4 levels", PROTOBUF, logs(&deep(10_000)), 400),
            ("19 trace id of 15", PROTOBUF, logs(&with_record(&message(9, &[1; 15]))), 400),
            ("19 trace id of 17", PROTOBUF, logs(&with_record(&message(9, &[1; 17]))), 400),
            ("20 zero ids", PROTOBUF, logs(&with_record(&[message(9, &[0; 16]), message(10, &[0; 8])].concat())), 200),
            ("33 time 2^64-1", PROTOBUF, logs(&with_record(&[&[0x09][..], &[0xff; 8]].concat())), 200),
            ("34 histogram", PROTOBUF, post("/v1/metrics", PROTOBUF, "", &odd_histogram), 200),
            ("34 NaN", PROTOBUF, post("/v1/metrics", PROTOBUF, "", &not_a_number), 200),
            ("77 empty ResourceLogs", PROTOBUF, logs(&empty_groups), 200),
            ("78 one large string", PROTOBUF, logs(&with_record(&message(5, &message(1, &[b'x'; 1_000_000])))), 200),
            ("80 empty key", PROTOBUF, logs(&with_record(&message(6, &message(1, b"")))), 200),
            ("84 once", PROTOBUF, logs(&log()), 200),
            ("84 and again", PROTOBUF, logs(&log()), 200),
            ("85 a span as a log", PROTOBUF, logs(&span), 400),
        ],
    );
    let (accepted, refused) = misaki.finish();
    assert!(accepted > 20 && refused == 0, "{accepted} accepted, {refused} refused");
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let misaki = start(PLAIN);
    let (whole, mut http) = (log(), misaki.connect());
    for length in 1..whole.len() {
        let answer = http.send(&post("/v1/logs", PROTOBUF, "", &whole[..length]));
        assert_eq!(answer.status, 400, "cut after {length} bytes");
        check_error("6", &answer, PROTOBUF);
    }
    assert_eq!(misaki.finish(), (1, 0));
}

#[test]
fn json_bodies() {
    let misaki = start(PLAIN);
    let logs = |body: &[u8]| post("/v1/logs", JSON, "", body);
    let number = |text: &str| logs(&json_body(&format!(r#"{{"intValue":{text}}}"#)));
    let double = |text: &str| logs(&json_body(&format!(r#"{{"doubleValue":{text}}}"#)));
    let record = |members: &str| logs(&json_record(members));
    let deep = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels - 1);
        logs(&json_body(&format!("{open}{{\"intValue\":1}}{}", "]}}".repeat(levels - 1))))
    };
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let span = |kind: &str| {
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"kind":{kind}}}]}}]}}]}}"#);
        post("/v1/traces", JSON, "", body.as_bytes())
    };
    check_http(
        &misaki,
        vec![
            ("2 {}", JSON, logs(b"{}"), 200),
            ("4 empty", JSON, logs(b""), 400),
            ("16 NUL", JSON, logs(&json_body(r#"{"stringValue":"\u0000"}"#)), 200),
            ("16 lone surrogate", JSON, logs(&json_body(r#"{"stringValue":"\ud800"}"#)), 200),
            ("17 64 levels", JSON, deep(64), 200),
            ("17 65 levels", JSON, deep(65), 400),
            ("17 10^4 levels", JSON, deep(10_000), 400),
            ("18 10^6 brackets", JSON, logs(&[b'['; 1_000_000]), 400),
            ("18 10^5 brackets unknown", JSON, logs(&[br#"{"x":"#.as_slice(), &[b'['; 100_000]].concat()), 400),
            ("21 base64", JSON, record(r#""traceId":"W47/95gDgQPSabYzgT/GDA==""#), 400),
            ("21 odd hex", JSON, record(r#""traceId":"5b8efff798038103d269b633813fc60""#), 400),
            ("22 mixed case", JSON, record(r#""traceId":"5B8EFFF798038103D269b633813fc60C""#), 200),
            ("23 enum by name", JSON, span(r#""SPAN_KIND_SERVER""#), 200),
            ("24 unknown enum", JSON, span("99"), 200),
            ("25 a number", JSON, number("1"), 200),
            ("25 a string", JSON, number(r#""1""#), 200),
            ("26 1e3", JSON, number("1e3"), 200),
            ("26 1.0", JSON, number("1.0"), 200),
            ("26 1.5", JSON, number("1.5"), 400),
            ("26 2^63", JSON, number("9223372036854775808"), 400),
            ("26 abc", JSON, number(r#""abc""#), 400),
            ("27 NaN", JSON, double(r#""NaN""#), 200),
            ("27 Infinity", JSON, double(r#""Infinity""#), 200),
            ("27 1e999", JSON, double("1e999"), 400),
            ("28 unknown key", JSON, record(r#""shoeSize":{"a":[1]}"#), 200),
            ("28 snake_case", JSON, record(r#""time_unix_nano":"1""#), 200),
            ("29 twice", JSON, record(r#""severityNumber":1,"severityNumber":2"#), 200),
            ("30 garbage behind", JSON, logs(b"{} x"), 400),
            ("30 two documents", JSON, logs(b"{}{}"), 400),
            ("30 byte order mark", JSON, logs(b"\xef\xbb\xbf{}"), 400),
            ("30 comment", JSON, logs(b"{/* */}"), 400),
            ("31 null message", JSON, logs(br#"{"resourceLogs":null}"#), 200),
            ("31 null scalar", JSON, record(r#""severityNumber":null,"body":null,"attributes":null"#), 200),
            ("32 UTF-16", JSON, logs(&utf16), 400),
            ("15 invalid UTF-8", JSON, logs(b"{\"a\":\"\xff\"}"), 200),
            ("33 end before start", JSON, record(r#""timeUnixNano":"18446744073709551615""#), 200),
            ("80 strange keys", JSON, record(r#""attributes":[{"key":"a\n=\"b"},{"key":""},{"key":""}]"#), 200),
            ("79 escapes", JSON, logs(&json_body(r#"{"stringValue":"\u001b]0;x\u0007\nLogRecord #1"}"#)), 200),
        ],
    );
    misaki.finish();
}

#[test]
fn heads_that_http_allows() {
    let misaki = start(PLAIN);
    let request = |line: &str, kind: &str, headers: &str| {
        let whole = post("/", kind, headers, b"");
        changed(whole, |bytes| drop(bytes.splice(..b"POST / HTTP/1.1".len(), line.bytes())))
    };
    let typed = |kind: &str| post("/v1/logs", kind, "", b"");
    let rows = vec![
        ("35 no content type", "", typed(""), 415),
        ("36 text", "text/plain", typed("text/plain"), 415),
        ("36 json-seq", "x", typed("application/json-seq"), 415),
        ("36 xml", "x", typed("application/xml"), 415),
        ("37 charset", JSON, post("/v1/logs", "application/json; charset=utf-8", "", b"{}"), 200),
        ("38 another charset", JSON, post("/v1/logs", "application/json; charset=us-ascii", "", b"{}"), 200),
        ("39 twice: the first counts", "x", post("/v1/logs", JSON, "Content-Type: application/x-protobuf", b""), 400),
        ("39 malformed", "x", typed(";;/"), 415),
        ("42 GET", PROTOBUF, request("GET /v1/logs HTTP/1.1", PROTOBUF, ""), 405),
        ("42 GET as a browser", "", request("GET /v1/logs HTTP/1.1", "", ""), 405),
        ("42 PUT", JSON, request("PUT /v1/logs HTTP/1.1", JSON, ""), 405),
        ("42 DELETE", JSON, request("DELETE /v1/logs HTTP/1.1", JSON, ""), 405),
        ("42 HEAD", JSON, request("HEAD /v1/logs HTTP/1.1", JSON, ""), 405),
        ("43 OPTIONS", "", request("OPTIONS /v1/logs HTTP/1.1", "", "Access-Control-Request-Method: POST"), 405),
        ("44 unknown", JSON, post("/v1/unknown", JSON, "", b"{}"), 404),
        ("44 slash behind", JSON, post("/v1/logs/", JSON, "", b"{}"), 404),
        ("44 slash before", JSON, post("//v1/logs", JSON, "", b"{}"), 200),
        ("44 upper case", JSON, post("/V1/LOGS", JSON, "", b"{}"), 404),
        ("44 query", JSON, post("/v1/logs?x", JSON, "", b"{}"), 200),
        ("45 profiles", JSON, post("/v1/profiles", JSON, "", b"{}"), 404),
        ("45 development", JSON, post("/v1development/profiles", JSON, "", b"{}"), 404),
        ("44 escaped letter", JSON, post("/v1/%6cogs", JSON, "", b"{}"), 200),
        ("44 escaped letter, unclean", JSON, post("//v1/./lo%67s", JSON, "", b"{}"), 200),
        ("44 escaped slash", JSON, post("/v1%2Flogs", JSON, "", b"{}"), 404),
        ("44 escaped slash behind", JSON, post("/v1/logs%2f", JSON, "", b"{}"), 404),
        ("44 no escape", JSON, post("/v1/%zz", JSON, "", b"{}"), 400),
        ("44 half an escape", PROTOBUF, post("/v1/logs%2", PROTOBUF, "", b""), 400),
        ("44 no escape in a query", JSON, post("/v1/logs?x=%zz", JSON, "", b"{}"), 200),
        ("46 dots", JSON, post("/v1/%2e%2e/v1/logs", JSON, "", b"{}"), 404),
        ("46 absolute", PROTOBUF, request("POST http://misaki/v1/logs HTTP/1.1", PROTOBUF, ""), 200),
        ("46 CONNECT", "", request("CONNECT misaki:80 HTTP/1.1", "", ""), 404),
        ("52 br", JSON, post("/v1/logs", JSON, "Content-Encoding: br", b"x"), 415),
        ("52 foo", PROTOBUF, post("/v1/logs", PROTOBUF, "Content-Encoding: foo", b"x"), 415),
        ("53 stacked", JSON, post("/v1/logs", JSON, "Content-Encoding: gzip, gzip", b"x"), 415),
        (
            "53 two lines: the first counts",
            JSON,
            post("/v1/logs", JSON, "Content-Encoding: gzip|Content-Encoding: br", b"x"),
            400,
        ),
        ("72 origin", JSON, post("/v1/logs", JSON, "Origin: http://elsewhere.example", b"{}"), 200),
        ("72 null origin", JSON, post("/v1/logs", JSON, "Origin: null", b"{}"), 200),
        ("72 origin of an app", JSON, post("/v1/logs", JSON, "Origin: capacitor://localhost", b"{}"), 200),
        ("72 origin that is no text", JSON, post("/v1/logs", JSON, "Origin: file://\u{e9}", b"{}"), 200),
        ("44 dots", JSON, post("/a/../v1/./logs", JSON, "", b"{}"), 200),
        ("44 above the root", JSON, post("/../v1//logs", JSON, "", b"{}"), 200),
        ("300 header lines", JSON, post("/v1/logs", JSON, &"A: b|".repeat(300), b"{}"), 200),
        ("Content-Type twice", JSON, post("/v1/logs", JSON, "Content-Type: text/plain", b"{}"), 200),
        (
            "Content-Encoding twice",
            JSON,
            post("/v1/logs", JSON, "Content-Encoding: identity|Content-Encoding: br", b"{}"),
            200,
        ),
        ("72 same origin", JSON, post("/v1/logs", JSON, "Origin: http://misaki", b"{}"), 200),
    ];
    for (row, _, request, status) in &rows {
        let answer = misaki.connect().send(request);
        let wanted = match status {
            405 => Some(("allow", "POST")),
            415 if row.starts_with('5') => Some(("accept-encoding", "gzip, zstd, deflate, snappy")),
            _ => None,
        };
        if let Some((name, value)) = wanted {
            assert_eq!(answer.header(name), Some(value), "{row}: {answer:?}");
        }
        let cors = answer.headers.iter().any(|(name, _)| name.starts_with("access-control"));
        assert!(!cors, "{row}: {answer:?}");
    }
    check_http(&misaki, rows);
    misaki.finish();
}

/// `cors` decides about headers alone: what is posted from another origin is received, and its page cannot read the answer.
#[test]
fn cors_decides_who_reads_the_answer() {
    let any = (Some("*"), None);
    let this = (Some("http://a.org"), Some("true"));
    for (allowed, expected) in
        [("*", any), ("http://*.org", this), ("HTTP://A.org", this), ("http://b.org", (None, None))]
    {
        let cors = format!("cors: {{allowed_origins: ['{allowed}']}}");
        let misaki = start(&PLAIN.replace("http: {", &format!("http: {{{cors}, ")));
        let mut ask = post("/v1/logs", JSON, "Origin: http://a.org|Access-Control-Request-Method: POST", b"");
        ask.splice(.."POST".len(), *b"OPTIONS");
        for (request, status) in [(post("/v1/logs", JSON, "Origin: http://a.org", b"{}"), 200), (ask, 204)] {
            let answer = misaki.connect().send(&request);
            let of = |name| answer.header(&format!("access-control-allow-{name}"));
            assert_eq!((answer.status, (of("origin"), of("credentials"))), (status, expected), "{allowed}: {answer:?}");
            assert_eq!(of("methods").is_some(), status == 204 && expected.0.is_some(), "{allowed}: {answer:?}");
        }
        misaki.finish();
    }
}

#[test]
fn codings() {
    let misaki = start(PLAIN);
    let coded = |coding: &str, body: &[u8]| post("/v1/logs", PROTOBUF, &format!("Content-Encoding: {coding}"), body);
    let good = gzip(&log());
    let large = vec![0u8; 1_100_000];
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&log()).unwrap();
    let zlib = zlib.finish().unwrap();
    // A frame header that asks for a window of 1 GiB: 2^(10 + 20).
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3][..], &[0x01, 0x00, 0x00]].concat();
    let claims = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 40).to_le_bytes(), &[0x01, 0x00, 0x00]].concat();
    check_http(
        &misaki,
        vec![
            ("47 not gzip", PROTOBUF, coded("gzip", &log()), 400),
            ("47 not zstd", PROTOBUF, coded("zstd", &log()), 400),
            ("47 not deflate", PROTOBUF, coded("deflate", &log()), 400),
            ("47 not snappy", PROTOBUF, coded("snappy", &[0xff; 40]), 400),
            ("48 whole", PROTOBUF, coded("gzip", &good), 200),
            ("48 deflate", PROTOBUF, coded("deflate", &zlib), 200),
            ("48 cut off", PROTOBUF, coded("gzip", &good[..good.len() - 9]), 400),
            ("48 without trailer", PROTOBUF, coded("gzip", &good[..good.len() - 1]), 400),
            (
                "48 checksum",
                PROTOBUF,
                coded("gzip", &changed(good.clone(), |b| *b.iter_mut().rev().nth(5).unwrap() ^= 1)),
                400,
            ),
            ("48 bytes behind", PROTOBUF, coded("gzip", &changed(good.clone(), |b| b.push(0))), 400),
            ("48 members", PROTOBUF, coded("gzip", &good.repeat(3)), 200),
            ("48 nothing", PROTOBUF, coded("gzip", b""), 400),
            ("49 gzip", PROTOBUF, coded("gzip", &gzip(&large)), 413),
            ("49 zstd", PROTOBUF, coded("zstd", &zstd::encode_all(&large[..], 3).unwrap()), 413),
            ("50 content length", PROTOBUF, coded("identity", &large), 413),
            // More than any socket buffers, written whole before the answer is read.
            ("50 written first", PROTOBUF, coded("identity", &vec![0; 24 << 20]), 413),
            ("54 window", PROTOBUF, coded("zstd", &window), 400),
            ("54 claimed size", PROTOBUF, coded("zstd", &claims), 413),
        ],
    );
    // Without a length it shows only when the limit is passed.
    let head =
        format!("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[0; 65536], b"\r\n"].concat();
    let mut http = misaki.connect();
    let answer = http.send(&[head.as_bytes(), &chunk.repeat(17)].concat());
    assert_eq!(answer.status, 413, "51");
    check_error("51", &answer, PROTOBUF);
    misaki.finish();
}

/// What is not HTTP at all, or HTTP that could be read in two ways: an error and the end of the connection.
#[test]
fn heads_that_http_forbids() {
    let misaki = start(PLAIN);
    let raw = |head: &str| head.replace('\n', "\r\n").into_bytes();
    let logs = "POST /v1/logs HTTP/1.1\nHost: x\nContent-Type: application/x-protobuf\n";
    let many: String = (0..321).map(|index| format!("X-{index}: 1\n")).collect();
    let long = "x".repeat(64 << 10);
    let uri = "x".repeat(1 << 20);
    let rows: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("61 negative length", raw(&format!("{logs}Content-Length: -1\n\n")), &[400]),
        ("61 two lengths", raw(&format!("{logs}Content-Length: 1\nContent-Length: 2\n\nxx")), &[400]),
        ("61 length list", raw(&format!("{logs}Content-Length: 1, 2\n\nxx")), &[400]),
        ("61 chunked on top", raw(&format!("{logs}Content-Length: 3\nTransfer-Encoding: chunked, x\n\n0\n\n")), &[400]),
        (
            "61 coded before",
            raw(&format!("{logs}Transfer-Encoding: gzip\nTransfer-Encoding: chunked\n\n0\n\n")),
            &[501],
        ),
        ("61 coded in one", raw(&format!("{logs}Transfer-Encoding: gzip, chunked\n\n0\n\n")), &[501]),
        (
            "61 chunked twice",
            raw(&format!("{logs}Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n")),
            &[400],
        ),
        ("61 chunked twice in one", raw(&format!("{logs}Transfer-Encoding: chunked,Chunked\n\n0\n\n")), &[400]),
        (
            "61 a length and chunks",
            raw(&format!("{logs}Content-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n")),
            &[200, 400],
        ),
        (
            "61 chunks of 1.0",
            raw(&format!("{}Transfer-Encoding: chunked\n\n0\n\n", logs.replace("1.1", "1.0"))),
            &[400],
        ),
        ("61 length with a sign", raw(&format!("{logs}Content-Length: +0\n\n")), &[400]),
        ("61 two Hosts", raw(&format!("{logs}Host: x\nContent-Length: 0\n\n")), &[400]),
        ("61 two Hosts of 1.0", raw(&format!("{}Host: y\nContent-Length: 0\n\n", logs.replace("1.1", "1.0"))), &[400]),
        ("61 no Host", raw(&format!("{}Content-Length: 0\n\n", logs.replace("Host: x\n", ""))), &[400]),
        ("61 no Host of gRPC", raw("POST /x HTTP/1.1\nContent-Type: application/grpc\nContent-Length: 0\n\n"), &[400]),
        ("61 a user in Host", raw(&format!("{}Content-Length: 0\n\n", logs.replace("Host: x", "Host: a@x"))), &[400]),
        ("61 a path in Host", raw(&format!("{}Content-Length: 0\n\n", logs.replace("Host: x", "Host: x/y"))), &[400]),
        ("61 bad chunk", raw(&format!("{logs}Transfer-Encoding: chunked\n\nzz\n\n")), &[400]),
        ("61 huge chunk", raw(&format!("{logs}Transfer-Encoding: chunked\n\nfffffffffffffffff\n\n")), &[400]),
        ("62 folded", raw(&format!("{logs}X: a\n b\nContent-Length: 0\n\n")), &[400]),
        ("62 NUL", raw(&format!("{logs}X: a\0b\nContent-Length: 0\n\n")), &[400]),
        ("62 space before colon", raw(&format!("{logs}X : b\nContent-Length: 0\n\n")), &[400]),
        ("63 321 header lines", raw(&format!("{logs}{many}Content-Length: 0\n\n")), &[431]),
        ("63 long header", raw(&format!("{logs}X: {long}\nContent-Length: 0\n\n")), &[431]),
        ("63 long URI", raw(&format!("POST /{uri} HTTP/1.1\nHost: x\n\n")), &[414, 431]),
        ("65 HTTP/0.9", raw("GET /\n\n"), &[400]),
        ("65 HTTP/3.0", raw("GET / HTTP/3.0\n\n"), &[400, 505]),
        ("65 line ends", b"\r\n".repeat(10_000), &[400, 431]),
        ("65 noise", vec![0x80; 4096], &[400]),
        ("65 broken preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(), &[400, 505]),
    ];
    for (row, request, statuses) in rows {
        let mut http = misaki.connect();
        let _ = http.stream.write_all(&request);
        let answer = http.read(false);
        println!("{row}: {:?}", answer.as_ref().map(|answer| answer.status));
        if let Some(answer) = &answer {
            assert!(statuses.contains(&answer.status), "{row}: {answer:?}");
        }
        assert!(http.is_closed(), "{row}: still open after {answer:?}");
    }
    // A TLS client on a port without TLS is let go at once, without an answer.
    let mut http = misaki.connect();
    http.stream.write_all(&[&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &[0; 512]].concat()).unwrap();
    assert!(http.is_closed() && http.held.is_empty(), "65 TLS");
    // HTTP/1.0 is served and closed.
    let mut http = misaki.connect();
    let head = format!("POST /v1/logs HTTP/1.0\r\nContent-Type: {JSON}\r\nContent-Length: 2\r\n\r\n{{}}");
    assert_eq!(http.send(head.as_bytes()).status, 200, "65 HTTP/1.0");
    assert!(http.is_closed(), "65 HTTP/1.0");
    // Two requests in a row; of a third one half.
    let mut http = misaki.connect();
    let one = post("/v1/logs", PROTOBUF, "", &log());
    http.stream.write_all(&[&one[..], &one, &one[..20]].concat()).unwrap();
    assert_eq!([(); 2].map(|()| http.read(false).unwrap().status), [200, 200]);
    misaki.finish();
}

#[test]
fn slow_and_gone() {
    let misaki = start(PLAIN);
    let head = format!("POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: 10\r\n");
    // 64: what is refused anyway is refused without asking for the body.
    let mut http = misaki.connect();
    let (line, rest) = head.split_once("\r\n").unwrap();
    let answer = http.send(format!("{line}\r\nExpect: 100-continue\r\nContent-Encoding: br\r\n{rest}\r\n").as_bytes());
    assert_eq!(answer.status, 415, "64");
    // And what is not is asked for.
    let mut http = misaki.connect();
    let asked = http.send(format!("{line}\r\nExpect: 100-continue\r\n{rest}\r\n").as_bytes());
    assert_eq!(asked.status, 100, "64");
    assert_eq!(http.send(b"{}        ").status, 200, "64");
    // 66: half a head, half a body, no body. (No answer can be given to half a head: nobody knows what was asked.)
    let mut half = misaki.connect();
    half.stream.write_all(head.as_bytes()).unwrap();
    let started = Instant::now();
    assert!(half.is_closed() && half.held.is_empty(), "66 head");
    assert!(started.elapsed() < Duration::from_secs(2), "66 head: {:?}", started.elapsed());
    for body in ["", "{}"] {
        let mut http = misaki.connect();
        let answer = http.send(format!("{head}\r\n{body}").as_bytes());
        assert_eq!(answer.status, 408, "66 body");
        check_error("66", &answer, JSON);
        assert!(http.is_closed(), "66 body");
    }
    // 67 and 61: gone before the answer, gone within the body.
    for request in [post("/v1/logs", PROTOBUF, "", &log()), format!("{head}\r\n{{").into_bytes()] {
        let mut http = misaki.connect();
        http.stream.write_all(&request).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(misaki.finish(), (2, 0));
}

/// 74 and 75: no memory, a full queue, the end. Nothing is taken, and the client is told when to come again.
#[test]
fn not_now() {
    let misaki = start(PLAIN);
    let all = misaki.0.budget.limit(Share::Ingest);
    let mut http = misaki.connect();
    assert!(misaki.0.budget.take(Share::Ingest, all));
    for (kind, body) in [(PROTOBUF, log()), (JSON, b"{}".to_vec())] {
        let answer = http.send(&post("/v1/logs", kind, "", &body));
        assert_eq!(answer.status, 503, "74");
        check_error("74", &answer, kind);
    }
    let answer = grpc(misaki.0.ports.grpc, EXPORT, &[], framed(0, &log()));
    assert_eq!((answer.http_status, answer.code), (200, Some(14)), "74: {answer:?}");
    assert!(answer.retry_delay.is_some(), "74: {answer:?}");
    misaki.0.budget.give_back(Share::Ingest, all);
    assert_eq!(http.send(&post("/v1/logs", PROTOBUF, "", &log())).status, 200, "74: and then");
    misaki.finish();

    // An upstream that accepts connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let exporter = format!(
        "otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}, sending_queue: {{queue_size: 1, num_consumers: 1}}}}",
        silent.local_addr().unwrap()
    );
    let misaki = start(&PLAIN.replace("nop: ", &exporter).replace("[nop]", "[otlp_grpc]"));
    let mut http = misaki.connect();
    let request = post("/v1/logs", PROTOBUF, "", &log());
    let answers: Vec<_> = (0..6).map(|_| http.send(&request)).collect();
    let refused = answers.last().unwrap();
    assert_eq!(refused.status, 503, "75: {answers:?}");
    check_error("75", refused, PROTOBUF);
    let answer = grpc(misaki.0.ports.grpc, EXPORT, &[], framed(0, &log()));
    assert_eq!(answer.code, Some(14), "75: {answer:?}");
    assert!(answer.retry_delay.is_some(), "75: {answer:?}");
    drop(silent);
}

// gRPC with a real HTTP/2 client.

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

#[derive(Debug, Default)]
struct GrpcAnswer {
    http_status: u16,
    code: Option<u8>,
    message: String,
    retry_delay: Option<Duration>,
    headers: HeaderMap,
    data: Vec<u8>,
}

fn framed(flag: u8, message: &[u8]) -> Vec<Vec<u8>> {
    vec![[&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()]
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), future).await.expect("an answer in time") })
}

fn grpc(address: SocketAddr, path: &str, headers: &[(&str, &str)], frames: Vec<Vec<u8>>) -> GrpcAnswer {
    let with_kind = headers.iter().any(|(name, _)| *name == "content-type");
    let mut request = Request::post(format!("http://{address}{path}"));
    if !with_kind {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    block_on(async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let (response, mut body) = client.ready().await.unwrap().send_request(request, frames.is_empty()).unwrap();
        let last = frames.len().saturating_sub(1);
        for (index, frame) in frames.into_iter().enumerate() {
            body.reserve_capacity(frame.len());
            // The answer may come before everything is sent.
            if body.send_data(Bytes::from(frame), index == last).is_err() {
                break;
            }
            if index % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let mut answer = GrpcAnswer::default();
        let response = response.await.expect("a stream that is answered");
        answer.http_status = response.status().as_u16();
        let (head, mut body) = response.into_parts();
        answer.headers = head.headers;
        while let Some(Ok(data)) = body.data().await {
            answer.data.extend_from_slice(&data);
        }
        if let Ok(Some(trailers)) = body.trailers().await {
            answer.headers.extend(trailers);
        }
        let text = |name| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        answer.code = text("grpc-status").map(|code| code.parse().unwrap());
        answer.message = percent::decoded_text(text("grpc-message").unwrap_or_default().as_bytes());
        let details = text("grpc-status-details-bin").and_then(|details| base64::decode(details.as_bytes()));
        answer.retry_delay = details.and_then(|details| status::from_wire(&details).1);
        answer
    })
}

/// h2 would send the body of an answer to HEAD.
#[test]
fn head_over_http2_has_no_body() {
    let misaki = start(PLAIN);
    for (kind, expected) in [("application/json", 405), ("application/grpc", 415)] {
        let request = Request::head(format!("http://{}/v1/logs", misaki.0.ports.http)).header("content-type", kind);
        let (status, bytes) = block_on(async {
            let stream = tokio::net::TcpStream::connect(misaki.0.ports.http).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            let mut response = response.await.unwrap();
            let mut bytes = 0;
            while let Some(data) = response.body_mut().data().await {
                bytes += data.unwrap().len();
            }
            (response.status().as_u16(), bytes)
        });
        assert_eq!((status, bytes), (expected, 0), "{kind}");
    }
}

#[test]
fn grpc_requests() {
    let misaki = start(PLAIN);
    let large = vec![0u8; 1_100_000];
    let coded = [("grpc-encoding", "gzip")];
    let tiny = |whole: Vec<u8>| whole.into_iter().map(|byte| vec![byte]).collect::<Vec<_>>();
    let text = "x".repeat(1_500);
    let split = tiny(framed(0, &with_record(&message(5, &message(1, text.as_bytes())))).concat());
    let (service, reflection) =
        ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let two = [framed(0, &log()).concat(), framed(0, &log()).concat()].concat();
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Vec<Vec<u8>>, u8);
    let rows: Vec<Row> = vec![
        ("1 empty", EXPORT, &[], framed(0, b""), 0),
        ("3 no scopes", EXPORT, &[], framed(0, &message(1, b"")), 0),
        ("5 random", EXPORT, &[], framed(0, &[0xde; 100]), 3),
        ("17 64 levels", EXPORT, &[], framed(0, &deep(64)), 0),
        ("17 65 levels", EXPORT, &[], framed(0, &deep(65)), 3),
        ("44 unknown method", "/opentelemetry.proto.collector.logs.v1.LogsService/X", &[], framed(0, b""), 12),
        ("47 not gzip", EXPORT, &coded, framed(1, &log()), 3),
        ("48 gzip", EXPORT, &coded, framed(1, &gzip(&log())), 0),
        ("48 coding named, not used", EXPORT, &coded, framed(0, &log()), 0),
        ("49 inflated", EXPORT, &coded, framed(1, &gzip(&large)), 8),
        ("50 identity", EXPORT, &[], framed(0, &large), 8),
        ("50 only announced", EXPORT, &[], vec![vec![0, 0xff, 0xff, 0xff, 0xff]], 8),
        ("52 br", EXPORT, &[("grpc-encoding", "br")], framed(1, b"x"), 12),
        ("55 flag without coding", EXPORT, &[], framed(1, &log()), 13),
        ("55 flag with identity", EXPORT, &[("grpc-encoding", "identity")], framed(1, &log()), 13),
        ("56 flag 2", EXPORT, &[], framed(2, &log()), 13),
        ("56 flag 255", EXPORT, &[], framed(255, &log()), 13),
        ("57 two messages", EXPORT, &[], vec![two], 3),
        ("57 no message", EXPORT, &[], vec![], 3),
        ("57 half a head", EXPORT, &[], vec![vec![0, 0]], 3),
        ("57 half a message", EXPORT, &[], vec![vec![0, 0, 0, 0, 9, 1]], 3),
        ("58 1,500 frames of one byte", EXPORT, &[], split, 0),
        ("59 no time", EXPORT, &[("grpc-timeout", "0n")], framed(0, &log()), 4),
        ("59 much time", EXPORT, &[("grpc-timeout", "99999999H")], framed(0, &log()), 0),
        ("59 garbage", EXPORT, &[("grpc-timeout", "soon")], framed(0, &log()), 0),
        ("59 nine digits", EXPORT, &[("grpc-timeout", "999999999n")], framed(0, &log()), 0),
        ("60 no te", EXPORT, &[], framed(0, &log()), 0),
        ("82 health", service, &[], framed(0, b""), 12),
        ("82 reflection", reflection, &[], framed(0, b""), 12),
    ];
    for (row, path, headers, frames, code) in rows {
        let answer = grpc(misaki.0.ports.grpc, path, headers, frames);
        assert_eq!((answer.http_status, answer.code), (200, Some(code)), "{row}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/grpc", "{row}");
        assert_eq!(answer.message.is_empty(), code == 0, "{row}: {answer:?}");
        assert!(answer.retry_delay.is_none(), "{row}: a final answer has no hint");
        assert_eq!(answer.data, if code == 0 { &[0; 5][..] } else { b"" }, "{row}");
        if code == 12 {
            assert!(answer.headers.contains_key("grpc-accept-encoding"), "{row}");
        }
    }
    for kind in ["application/grpc+json", "application/grpc-web", "application/grpc-web+proto"] {
        let answer = grpc(misaki.0.ports.grpc, EXPORT, &[("content-type", kind)], framed(0, &log()));
        assert_eq!(answer.http_status, 415, "41 {kind}: {answer:?}");
    }
    // Both protocols on both ports.
    let swapped = grpc(misaki.0.ports.http, EXPORT, &[], framed(0, &log()));
    assert_eq!(swapped.code, Some(0));
    let swapped = Http::connect(misaki.0.ports.grpc).send(&post("/v1/logs", JSON, "", b"{}"));
    assert_eq!(swapped.status, 200);
    misaki.finish();
}

// HTTP/2 by hand.

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A literal header without indexing and without Huffman coding.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

fn head(headers: &[(&str, &str)]) -> Vec<u8> {
    headers.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// The frames that came until the connection closed or was silent for a while: kind, stream, payload.
fn frames(stream: &mut TcpStream) -> Vec<(u8, u32, Vec<u8>)> {
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let (mut bytes, mut buffer, mut out) = (Vec::new(), [0; 4096], Vec::new());
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    let mut rest = &bytes[..];
    while let Some((&[a, b, c, kind, _, s, t, u, v], after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        out.push((kind, u32::from_be_bytes([s, t, u, v]), payload.to_vec()));
        rest = after;
    }
    out
}

/// Rows 60, 61 and 83 on the level of frames: each is a stream or connection error, and no stream is answered with data.
#[test]
fn http2_frames() {
    let misaki = start(PLAIN);
    let good: &[(&str, &str)] = &[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", EXPORT),
        (":authority", "x"),
        ("content-type", "application/grpc"),
    ];
    let with = |extra: &[(&str, &str)]| head(&[good, extra].concat());
    let without = |name: &str| head(&good.iter().copied().filter(|(known, _)| *known != name).collect::<Vec<_>>());
    let body = framed(0, &log()).concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("60 upper case", frame(HEADERS, 4, 1, &with(&[("X-Upper", "1")]))),
        ("60 no method", frame(HEADERS, 4, 1, &without(":method"))),
        ("60 connection header", frame(HEADERS, 4, 1, &with(&[("connection", "close")]))),
        ("60 pseudo header last", frame(HEADERS, 4, 1, &with(&[("a", "b"), (":path", "/")]))),
        (
            "61 body too short",
            [frame(HEADERS, 4, 1, &with(&[("content-length", "999")])), frame(DATA, 1, 1, &body)].concat(),
        ),
        (
            "61 body too long",
            [frame(HEADERS, 4, 1, &with(&[("content-length", "2")])), frame(DATA, 1, 1, &body)].concat(),
        ),
        ("data before headers", frame(DATA, 1, 1, &body)),
        ("even stream", frame(HEADERS, 5, 2, &with(&[]))),
        ("headers on stream 0", frame(HEADERS, 5, 0, &with(&[]))),
        ("frame too large", frame(DATA, 0, 1, &vec![0; 20_000])),
        ("bad header block", frame(HEADERS, 5, 1, &[0xff; 40])),
        ("bad window update", frame(8, 0, 0, &[0, 0, 0, 0])),
        (
            "window overflow",
            [frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat(),
        ),
        ("push promise", frame(5, 4, 1, &[0, 0, 0, 2])),
        ("continuation alone", frame(9, 4, 1, &with(&[]))),
        ("headers interrupted", [frame(HEADERS, 0, 1, &with(&[])), frame(6, 0, 0, &[0; 8])].concat()),
        ("bad settings", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("ping of 7", frame(6, 0, 0, &[0; 7])),
        ("padding too long", frame(HEADERS, 4 | 8, 1, &[200, 1, 2])),
    ];
    for (row, bytes) in rows {
        let mut stream = TcpStream::connect(misaki.0.ports.grpc).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &bytes].concat()).unwrap();
        let got = frames(&mut stream);
        let error = got.iter().find(|(kind, ..)| matches!(*kind, RST_STREAM | GOAWAY));
        println!("{row}: {error:?}");
        let refused = got.iter().any(|(kind, _, payload)| *kind == HEADERS && payload.len() > 20);
        assert!(error.is_some() || refused, "{row}: {got:?}");
        assert!(!got.iter().any(|(kind, ..)| *kind == DATA), "{row}: {got:?}");
    }
    // Without :authority it is served.
    let mut stream = TcpStream::connect(misaki.0.ports.grpc).unwrap();
    let request = [frame(HEADERS, 4, 1, &without(":authority")), frame(DATA, 1, 1, &body)].concat();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).unwrap();
    assert!(
        frames(&mut stream).iter().any(|(kind, _, payload)| *kind == DATA && payload == &[0; 5]),
        "60 no authority"
    );
    let (accepted, _) = misaki.finish();
    assert_eq!(accepted, 2);
}

/// D4: frames that want nothing do not come for ever; requests do.
#[test]
fn floods_of_empty_words_end() {
    let misaki = start(PLAIN);
    let floods = [
        ("priority", frame(2, 0, 1, &[0, 0, 0, 3, 16])),
        ("window", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x77, 0xff, 1, &[0; 1000])),
    ];
    for (row, flood) in floods {
        let mut stream = TcpStream::connect(misaki.0.ports.grpc).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        let (block, mut sent) = (flood.repeat((256 << 10) / flood.len()), 0);
        while sent < 64 << 20 && stream.write_all(&block).is_ok() {
            sent += block.len();
        }
        println!("{row}: {sent}");
        assert!(sent < 64 << 20, "{row}: still open");
    }
    let mut http = misaki.connect();
    let record = [&log()[..], &message(15, &vec![0; 900_000])].concat();
    let one = post("/v1/logs", PROTOBUF, "", &record);
    for _ in 0..30 {
        assert_eq!(http.send(&one).status, 200);
    }
    misaki.finish();
}

/// A client of HTTP/2 that does not answer holds up the end for no longer than it takes to see that it is idle.
#[test]
fn an_idle_client_does_not_hold_up_the_end() {
    let misaki = start(PLAIN);
    let mut stream = TcpStream::connect(misaki.0.ports.grpc).unwrap();
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", EXPORT), ("content-type", "application/grpc")];
    let request = [frame(HEADERS, 4, 1, &head(&fields)), frame(DATA, 1, 1, &framed(0, &log()).concat())].concat();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).unwrap();
    assert!(frames(&mut stream).iter().any(|(kind, ..)| *kind == DATA));
    let started = Instant::now();
    misaki.finish();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Who announces a body holds no memory for it, and who stops in the middle of one does not hold it for long.
#[test]
fn memory_is_for_those_who_use_it() {
    let misaki = start_small();
    let limit = misaki.0.budget.limit(Share::Ingest);
    let opening = |length: u64, sent: usize| {
        let head = format!(
            "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &vec![0; sent]].concat()
    };
    let idle: Vec<_> = (0..100)
        .map(|_| {
            let mut http = misaki.connect();
            http.stream.write_all(&opening(1 << 19, 0)).unwrap();
            http
        })
        .collect();
    eventually("all are being read", || misaki.used() >= 100 * 4096);
    assert!(misaki.used() < 100 * 8192, "{} bytes for nothing", misaki.used());
    drop(idle);
    eventually("nothing is held", || misaki.used() == 0);
    // Nearly all of the memory is held by a body that does not go on: it is refused soon.
    let mut stalled = misaki.connect();
    stalled.stream.write_all(&opening(limit * 9 / 10, limit as usize * 8 / 10)).unwrap();
    let started = Instant::now();
    let answer = stalled.read(false).expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    check_error("stalled", &answer, PROTOBUF);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    misaki.finish();
}

/// The same with 1 MiB for all requests together.
fn start_small() -> Misaki {
    let limited = "
processors: {memory_limiter: {check_interval: 1s, limit_mib: 5, spike_limit_mib: 1}}
exporters: {nop: }";
    let config = PLAIN
        .replace("\nexporters: {nop: }", limited)
        .replace("exporters: [nop]", "processors: [memory_limiter], exporters: [nop]")
        .replace("read_timeout: 400ms, ", "");
    start(&config)
}

/// What cannot fit into the memory there is, even alone, is refused for good: "try again" would be for ever.
#[test]
fn what_never_fits_is_too_large() {
    let misaki = start_small();
    assert_eq!(misaki.0.budget.limit(Share::Ingest), 1 << 20);
    let text = |length: usize| json_body(&format!(r#"{{"stringValue":"{}"}}"#, "x".repeat(length)));
    let large = with_record(&message(5, &message(1, &vec![b'x'; 990_000])));
    let counts = |count: usize| {
        let counts = vec!["1"; count].join(",");
        let point = format!(r#"{{"histogram":{{"dataPoints":[{{"bucketCounts":[{counts}]}}]}}}}"#);
        let body = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{point}]}}]}}]}}"#);
        post("/v1/metrics", JSON, "", body.as_bytes())
    };
    let logs = |kind, coding: &str, body: &[u8]| post("/v1/logs", kind, &format!("Content-Encoding: {coding}"), body);
    let bytes = with_record(&message(5, &message(1, &vec![b'x'; 700_000])));
    check_http(
        &misaki,
        vec![
            ("fits", PROTOBUF, logs(PROTOBUF, "identity", &bytes), 200),
            ("gzip fits", PROTOBUF, logs(PROTOBUF, "gzip", &gzip(&bytes)), 200),
            ("identity", PROTOBUF, logs(PROTOBUF, "identity", &large), 413),
            ("gzip", PROTOBUF, logs(PROTOBUF, "gzip", &gzip(&large)), 413),
            ("zstd", PROTOBUF, logs(PROTOBUF, "zstd", &zstd::encode_all(&large[..], 1).unwrap()), 413),
            ("JSON fits", JSON, logs(JSON, "identity", &text(400_000)), 200),
            ("JSON and its wire form", JSON, logs(JSON, "identity", &text(600_000)), 413),
            ("numbers fit", JSON, counts(80_000), 200),
            ("numbers that grow", JSON, counts(200_000), 413),
        ],
    );
    misaki.finish();
}

/// An HTTP/2 connection may rest between requests, and before the first, longer than a request's head may take.
#[test]
fn http2_connections_may_rest() {
    let misaki = start(PLAIN);
    let mut stream = TcpStream::connect(misaki.0.ports.grpc).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", EXPORT), ("content-type", "application/grpc")];
    for id in [1, 3] {
        std::thread::sleep(Duration::from_millis(900));
        let request = [frame(HEADERS, 4, id, &head(&fields)), frame(DATA, 1, id, &framed(0, &log()).concat())].concat();
        stream.write_all(&request).unwrap();
        let answered = frames(&mut stream).iter().any(|(kind, stream, _)| (*kind, *stream) == (DATA, id));
        assert!(answered, "stream {id}");
        stream.write_all(&frame(6, 0, 0, &[0; 8])).unwrap();
    }
    misaki.finish();
}

/// What is made of JSON is asked for before it grows, takes no more than was granted, and is little more than it needs.
#[test]
fn json_stays_within_its_memory() {
    use misaki::face::otlp::json::to_wire_within;
    use misaki::face::telemetry::Signal;
    let point = |member: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{{member}}}]}}}}]}}]}}]}}"#
        )
    };
    let log = |value: &str| format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{value}}}]}}]}}]}}"#);
    let list = |item: &str, count: usize| vec![item; count].join(",");
    for count in [0, 1, 10, 1_000, 100_000] {
        let cases = [
            (Signal::Metrics, point(&format!(r#""explicitBounds":[{}]"#, list("0", count)))),
            (Signal::Metrics, point(&format!(r#""bucketCounts":[{}]"#, list("0", count)))),
            // Members that are shorter than their wire form, as often as you like.
            (Signal::Metrics, point(&format!(r#""count":0{}"#, r#","min":1"#.repeat(count)))),
            (
                Signal::Metrics,
                point(&format!(r#""attributes":[{}]"#, list(r#"{"key":"a","value":{"intValue":1}}"#, count))),
            ),
            (Signal::Logs, log(&format!(r#"{{"arrayValue":{{"values":[{}]}}}}"#, list("{}", count)))),
            (Signal::Logs, log(&format!(r#"{{"stringValue":"{}"}}"#, "x".repeat(count * 10)))),
            (Signal::Logs, log(&format!(r#"{{"stringValue":"{}"}}"#, r"\n\u00e4".repeat(count)))),
            (Signal::Logs, log(&format!(r#"{{"bytesValue":"{}"}}"#, "AAAA".repeat(count)))),
        ];
        for (signal, text) in cases {
            let mut granted = 0;
            let mut room = |bytes| {
                granted += bytes;
                true
            };
            let wire = to_wire_within(signal, text.as_bytes(), &mut room).unwrap().unwrap();
            assert!(wire.capacity() <= granted, "{} allocated, {granted} granted: {text:.200}", wire.capacity());
            assert!(
                granted <= (wire.len() * 3 / 2).max(text.len()) + 4096,
                "{granted} for {}: {text:.200}",
                wire.len()
            );
            assert!(wire.len() <= text.len() * 4, "{text:.200}");
            // Where there is too little it ends before it takes more.
            let most = (text.len() / 2 + 1024).max(wire.len() / 2);
            let mut left = most;
            let mut room = |bytes: usize| left.checked_sub(bytes).map(|rest| left = rest).is_some();
            let less = to_wire_within(signal, text.as_bytes(), &mut room).unwrap();
            assert!(less.is_none_or(|less| less == wire && less.capacity() <= most));
        }
    }
}

/// A string with escapes is copied while it is read: within what was granted, and not at all where it is a name, a number or
/// skipped.
#[test]
fn escapes_in_json_take_no_memory_of_their_own() {
    use misaki::face::otlp::json::{to_wire, to_wire_within};
    use misaki::face::telemetry::Signal;
    let log = |member: &str| format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{member}}}]}}]}}]}}"#);
    let bytes = |text: &str| log(&format!(r#""body":{{"bytesValue":"{text}"}}"#));
    let (escaped, plain) = (bytes(&r"AA\/A".repeat(100_000)), bytes(&"AA/A".repeat(100_000)));
    let mut granted = 0;
    let mut room = |bytes| {
        granted += bytes;
        true
    };
    let wire = to_wire_within(Signal::Logs, escaped.as_bytes(), &mut room).unwrap().unwrap();
    assert_eq!(wire, to_wire(Signal::Logs, plain.as_bytes()).unwrap());
    assert!(granted >= wire.capacity() + 500_000, "{granted} for {} and a copy", wire.capacity());
    let mut left = wire.len() + 400_000;
    let mut room = |bytes: usize| left.checked_sub(bytes).map(|rest| left = rest).is_some();
    assert_eq!(to_wire_within(Signal::Logs, escaped.as_bytes(), &mut room), Ok(None));
    let long = r"\u0030".repeat(100_000);
    for (member, needed) in [
        (format!(r#""traceId":"{long}""#), "32 hex digits are needed"),
        (format!(r#""severityNumber":"{long}""#), "a number or one of its names is needed"),
        (format!(r#""timeUnixNano":"{long}""#), "a whole number from 0 to 18446744073709551615 is needed"),
        (format!(r#""unknown":"{long}\x""#), "an escape that stands for a character is needed"),
        (format!(r#""{long}\x":1"#), "an escape that stands for a character is needed"),
    ] {
        let error = to_wire(Signal::Logs, log(&member).as_bytes()).unwrap_err();
        assert_eq!(error.needed, needed);
    }
    let skipped = format!(r#""unknown":["{long}",{{"{long}":"{long}"}}],"{long}":1,"body":{{"intValue":"1"}}"#);
    assert_eq!(
        to_wire(Signal::Logs, log(&skipped).as_bytes()),
        to_wire(Signal::Logs, log(r#""body":{"intValue":"1"}"#).as_bytes())
    );
}
