//! Requests that are work, beside a good client and a health probe: on one core, everyone else is served meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::attacks::{ask, ask_within};
use crate::bodies::{as_traces, gzip, log, message, post, with_record};
use crate::process::{Misaki, p99};

/// A request that is work, and the processors, a line each, that it is work for.
pub struct Work {
    pub name: &'static str,
    pub processors: &'static str,
    pub request: Vec<u8>,
}

/// What the others saw of it.
pub struct Seen {
    pub done: usize,
    good: Vec<Duration>,
    probes: Vec<Duration>,
    failed: usize,
    refused: usize,
}

const FILTER: &str = "filter: {log_conditions: [log.severity_number >= SEVERITY_NUMBER_TRACE and log.severity_number < \
     SEVERITY_NUMBER_INFO, 'IsMatch(log.attributes[\"url.path\"], \"^/(health|healthz|livez|readyz|ping)$\")']}";
const REPLACE: &str =
    r#"transform: {log_statements: ['replace_pattern(log.body, "(password=.*;|token=\\w+)", "***")']}"#;
const REDACT: &str = r"redaction: {allow_all_keys: true, blocked_values: ['/\*.*?\*/|\x27[^\x27]*\x27|[0-9]+']}";
const HASH: &str = r#"transform: {log_statements: ['set(log.attributes["h"], SHA256(resource.attributes["long"]))']}"#;
const MATCH: &str =
    r#"filter: {log_conditions: ['log.severity_number == 0 and IsMatch(resource.attributes["long"], "x+y")']}"#;
const COMPUTED: &str = r#"filter: {log_conditions: ['IsMatch("text", log.body)']}"#;

const BATCH: &str = "batch: {timeout: 100ms}";
const CUT: &str = "batch: {timeout: 100ms, send_batch_max_size: 8192}";
const BATCH_FILTER: &str = "batch: {timeout: 100ms}\n  filter: {log_conditions: [log.severity_number > 20]}";
const BATCH_REPLACE: &str = concat!(
    "batch: {timeout: 100ms}\n  ",
    r#"transform: {log_statements: ['replace_pattern(log.body, "(password=.*;|token=\\w+)", "***")']}"#
);
const TAIL: &str = r#"tail_sampling: {decision_wait: 100ms, policies: [{name: a, type: ottl_condition, ottl_condition: {span: ['IsMatch("text", span.name)', 'IsMatch(span.name, "(a|b)*c$")']}}]}"#;

fn text(body: &[u8]) -> Vec<u8> {
    message(5, &message(1, body))
}

/// So many records that hold nothing, below a resource with an attribute of so many bytes.
fn empty_records(count: usize, long: usize) -> Vec<u8> {
    let attribute = [message(1, b"long"), message(2, &message(1, &vec![b'x'; long]))].concat();
    let resource = message(1, &message(1, &attribute));
    message(1, &[resource, message(2, &[0x12, 0x00].repeat(count))].concat())
}

fn large_json(bytes: usize) -> Vec<u8> {
    let record = r#"{"severityNumber":9,"body":{"stringValue":"GET /api/v1/things took 12 ms"},"attributes":[{"key":"http.status_code","value":{"intValue":"200"}}]}"#;
    let records = vec![record; bytes / record.len()].join(",");
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#).into_bytes()
}

/// In short each is so large that a build without optimization shows a stall.
pub fn all() -> Vec<Work> {
    let size = |short: usize, full: usize| if crate::full() { full } else { short };
    let json = large_json(size(1_000_000, 15_000_000));
    const PROTOBUF: &str = "application/x-protobuf";
    const JSON: &str = "application/json";
    let gzipped = |kind, body: &[u8]| post("gzip", kind, &gzip(body));
    let patterns: Vec<u8> = (0..size(300, 20_000))
        .flat_map(|index| message(2, &text(format!(r"\pL{{{}}}", index % 90 + 1).as_bytes())))
        .collect();
    // Of one trace.
    let spans: Vec<u8> = (0..size(300, 3_000))
        .flat_map(|index| {
            let name = format!("a{{{}}}0", index % 700 + 1);
            message(2, &[message(1, &[7; 16]), message(2, &[1; 8]), message(5, name.as_bytes())].concat())
        })
        .collect();
    vec![
        Work {
            name: "a pattern that is quadratic in all, replaced",
            processors: REPLACE,
            request: gzipped(
                PROTOBUF,
                &with_record(&text(&b"password=token=x ".repeat(size(48 << 10, 256 << 10) / 17))),
            ),
        },
        Work {
            name: "a pattern that is quadratic in all, redacted",
            processors: REDACT,
            request: gzipped(PROTOBUF, &with_record(&text(&b"/* 1 ".repeat(size(24 << 10, 256 << 10) / 5)))),
        },
        Work {
            name: "an attribute of a resource, matched in each record",
            processors: MATCH,
            request: gzipped(PROTOBUF, &empty_records(size(20_000, 100_000), size(50_000, 1 << 20))),
        },
        Work {
            name: "an attribute of a resource, hashed in each record",
            processors: HASH,
            request: gzipped(PROTOBUF, &empty_records(size(20_000, 100_000), size(50_000, 1 << 20))),
        },
        Work {
            name: "patterns that come with the records",
            processors: COMPUTED,
            request: gzipped(PROTOBUF, &message(1, &message(2, &patterns))),
        },
        Work {
            name: "empty records through a filter",
            processors: FILTER,
            request: gzipped(PROTOBUF, &empty_records(size(500_000, 8_000_000), 0)),
        },
        Work {
            name: "empty records, cut and compressed for the upstream",
            processors: "",
            request: gzipped(PROTOBUF, &empty_records(size(2_500_000, 8_000_000), 0)),
        },
        Work {
            name: "empty resources beside a record, for the bill",
            processors: "",
            request: gzipped(
                PROTOBUF,
                &[with_record(&text(b"x")), [0x0a, 0x00].repeat(size(300_000, 8_000_000))].concat(),
            ),
        },
        Work {
            name: "empty records in batches",
            processors: BATCH,
            request: gzipped(PROTOBUF, &empty_records(size(500_000, 8_000_000), 0)),
        },
        Work {
            name: "empty records, cut by a batch",
            processors: CUT,
            request: gzipped(PROTOBUF, &empty_records(size(300_000, 8_000_000), 0)),
        },
        Work {
            name: "empty records through a filter behind a batch",
            processors: BATCH_FILTER,
            request: gzipped(PROTOBUF, &empty_records(size(500_000, 8_000_000), 0)),
        },
        Work {
            name: "a pattern that is quadratic in all, behind a batch",
            processors: BATCH_REPLACE,
            request: gzipped(
                PROTOBUF,
                &with_record(&text(&b"password=token=x ".repeat(size(48 << 10, 256 << 10) / 17))),
            ),
        },
        Work {
            name: "patterns that come with the spans of a trace that is decided on",
            processors: TAIL,
            request: as_traces(gzipped(PROTOBUF, &message(1, &message(2, &spans)))),
        },
        Work { name: "long JSON", processors: FILTER, request: post("identity", JSON, &json) },
        Work { name: "long JSON, gzip", processors: FILTER, request: gzipped(JSON, &json) },
        Work {
            name: "20 MB of zeros, zstd",
            processors: FILTER,
            request: post("zstd", PROTOBUF, &zstd::encode_all(&with_record(&text(&vec![0; 20 << 20]))[..], 3).unwrap()),
        },
        Work {
            name: "20 MB of zeros, snappy",
            processors: FILTER,
            request: post(
                "snappy",
                PROTOBUF,
                &snap::raw::Encoder::new().compress_vec(&with_record(&text(&vec![0; 20 << 20]))).unwrap(),
            ),
        },
    ]
}

/// An upstream that reads what it is sent and calls all of it well.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = |stream: TcpStream| -> std::io::Result<()> {
        let mut answers = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        loop {
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line)? > 2 {
                length =
                    line.to_lowercase().strip_prefix("content-length:").map_or(length, |it| it.trim().parse().unwrap());
                line.clear();
            }
            std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
            answers
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
        }
    };
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(move || serve(stream))));
    });
    address
}

/// A port that is free now.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A Misaki on one core that sends in pieces, compressed, and the address of its health check.
pub fn start(processors: &str) -> (Misaki, SocketAddr) {
    let (health, upstream) = (free_port(), upstream());
    let names: Vec<_> = processors.lines().map(|line| line.trim().split(':').next().unwrap()).collect();
    let names = ["memory_limiter"].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    // Traces have a pipeline of their own; the good client sends logs.
    let pipelines = match processors.starts_with("tail_sampling") {
        true => format!(
            "logs: {{receivers: [otlp], exporters: [otlp_http]}}, traces: {{receivers: [otlp], processors: [{names}], exporters: [otlp_http]}}"
        ),
        false => format!("logs: {{receivers: [otlp], processors: [{names}], exporters: [otlp_http]}}"),
    };
    let config = format!(
        "
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}}}
processors:
  memory_limiter: {{check_interval: 1s, limit_mib: 500, spike_limit_mib: 100}}
  {processors}
exporters:
  otlp_http:
    endpoint: http://{upstream}
    compression: gzip
    sending_queue:
      {{sizer: bytes, queue_size: 100000000, batch: {{sizer: bytes, min_size: 524288, max_size: 3145728, flush_timeout: 1s}}}}
extensions: {{health_check: {{endpoint: '{health}'}}}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{{pipelines}}}
"
    );
    (Misaki::start_on_one_core(1000, &config), health)
}

/// Runs `clients` that send the same for so long, each until it is answered.
pub fn beside(misaki: &Misaki, health: SocketAddr, request: &[u8], clients: usize, length: Duration) -> Seen {
    let over = AtomicBool::new(false);
    let [done, failed, refused] = [const { AtomicUsize::new(0) }; 3];
    let good = post("identity", "application/x-protobuf", &log());
    let probe = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let again_and_again = |address, request: &[u8]| {
        let mut taken = Vec::new();
        while !over.load(Relaxed) {
            let before = Instant::now();
            match ask(address, request) {
                Some(200) => 0,
                Some(503) => refused.fetch_add(1, Relaxed),
                _ => failed.fetch_add(1, Relaxed),
            };
            taken.push(before.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        taken
    };
    let (good, probes) = std::thread::scope(|scope| {
        let good = scope.spawn(|| again_and_again(misaki.http, &good));
        let probes = scope.spawn(|| again_and_again(health, probe));
        std::thread::sleep(Duration::from_millis(50));
        let (deadline, done) = (Instant::now() + length, &done);
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || {
                    while Instant::now() < deadline {
                        ask_within(misaki.http, request, Duration::from_secs(60));
                        done.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Relaxed);
        (good.join().unwrap(), probes.join().unwrap())
    });
    let [done, failed, refused] = [done, failed, refused].map(AtomicUsize::into_inner);
    Seen { done, good, probes, failed, refused }
}

impl Seen {
    /// Two cores that others use too: bounds that only a stall exceeds.
    pub fn check(&self, name: &str) {
        let slowest = |taken: &[Duration]| taken.iter().max().copied().unwrap_or_default();
        let line = format!(
            "{name}: {} done; a good client {} served, p99 {:.1?}, at most {:.1?}; {} probes, p99 {:.1?}, at most {:.1?}; {} refused, {} failed",
            self.done,
            self.good.len(),
            p99(self.good.clone()),
            slowest(&self.good),
            self.probes.len(),
            p99(self.probes.clone()),
            slowest(&self.probes),
            self.refused,
            self.failed,
        );
        println!("{line}");
        assert_eq!(self.failed, 0, "{line}");
        // Batches of attackers may fill the queue faster than the upstream takes them: then all are told to come again.
        assert!(self.refused == 0 || name.contains("batch"), "{line}");
        assert!(p99(self.good.clone()) < Duration::from_secs(2), "{line}");
        assert!(p99(self.probes.clone()) < Duration::from_secs(2), "{line}");
    }
}
