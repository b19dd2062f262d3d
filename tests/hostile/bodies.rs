//! What the attacks send: requests, frames, bombs and giants.

use std::io::Write;

use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use misaki::face::otlp::wire::put_bytes;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn http2_opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A literal header without indexing, for values of up to 16 KiB.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut length = Vec::new();
    match value.len().checked_sub(127) {
        None => length.push(value.len() as u8),
        Some(mut rest) => {
            length.push(127);
            while rest >= 128 {
                length.push(rest as u8 | 128);
                rest >>= 7;
            }
            length.push(rest as u8);
        }
    }
    [&[0, name.len() as u8][..], name.as_bytes(), &length, value.as_bytes()].concat()
}

pub fn grpc_fields(extra: &[(&str, &str)]) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
    ];
    fields.iter().chain(extra).flat_map(|(name, value)| literal(name, value)).collect()
}

pub fn grpc_head(stream: u32, extra: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, 4, stream, &grpc_fields(extra))
}

pub fn grpc_message(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

pub fn post(coding: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Encoding: {coding}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub fn as_metrics(request: Vec<u8>) -> Vec<u8> {
    [b"POST /v1/metrics".as_slice(), &request["POST /v1/logs".len()..]].concat()
}

pub fn as_traces(request: Vec<u8>) -> Vec<u8> {
    [b"POST /v1/traces".as_slice(), &request["POST /v1/logs".len()..]].concat()
}

/// A request of so many traces of one span, from one number on.
pub fn traces(first: u64, count: u64) -> Vec<u8> {
    let span = |number: u64| {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &u128::from(number + 1).to_be_bytes());
        put_bytes(&mut span, 2, &(number + 1).to_be_bytes());
        span
    };
    let mut spans = Vec::new();
    (first..first + count).for_each(|number| put_bytes(&mut spans, 2, &span(number)));
    [2, 1].into_iter().fold(spans, |inner, number| {
        let mut outer = Vec::new();
        put_bytes(&mut outer, number, &inner);
        outer
    })
}

/// A request with a gauge of so many series, from one number on.
pub fn gauges(first: u64, count: u64) -> Vec<u8> {
    let point = |number: u64| {
        let value = message(2, &message(1, number.to_string().as_bytes()));
        message(1, &message(7, &[message(1, b"id"), value].concat()))
    };
    let gauge = message(5, &(first..first + count).flat_map(point).collect::<Vec<u8>>());
    with_record(&[message(1, b"flood"), gauge].concat())
}

pub fn chunked_head() -> Vec<u8> {
    b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec()
}

pub fn message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

pub fn with_record(record: &[u8]) -> Vec<u8> {
    message(1, &message(2, &message(2, record)))
}

pub fn log() -> Vec<u8> {
    with_record(&message(5, &message(1, b"a good log record")))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Name, coding and body.
pub fn bombs_of() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let zeros = vec![0u8; 6 << 20];
    let deflated = {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&zeros).unwrap();
        encoder.finish().unwrap()
    };
    // A zlib stream of stored blocks that hold nothing, 5 bytes each.
    let empty_blocks = [&[0x78, 0x01][..], &[0, 0, 0, 0xff, 0xff].repeat(800_000)].concat();
    // Fixed Huffman blocks that hold nothing: 10 bits each.
    let tiny_blocks = [&[0x78, 0x01][..], &[0x02, 0x08, 0x20, 0x80, 0x00].repeat(800_000)].concat();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18][..], &[0; 4]].concat().repeat(500_000);
    let empty_frames = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00].repeat(400_000);
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3][..], &[0x01, 0x00, 0x00]].concat();
    let claims = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 40).to_le_bytes(), &[0x01, 0x00, 0x00]].concat();
    // RLE blocks of 128 KiB, four bytes each, in a frame with a window of 8 MiB: 32,000 : 1.
    let rle = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3][..], &[0x02, 0x00, 0x10, 0x00].repeat(20_000)].concat();
    // The size of an otherwise empty gzip stream, overstated; the length of a snappy block, likewise.
    let mut overstated = gzip(b"");
    overstated.truncate(overstated.len() - 4);
    overstated.extend((1u32 << 31).to_le_bytes());
    vec![
        ("gzip 1000:1", "gzip", gzip(&zeros)),
        ("gzip, 6 members of 1 MiB", "gzip", gzip(&zeros[..1 << 20]).repeat(6)),
        ("gzip, 200,000 empty members", "gzip", gzip(b"").repeat(200_000)),
        ("gzip, overstated size", "gzip", overstated),
        ("deflate 1000:1", "deflate", deflated),
        ("deflate, empty stored blocks", "deflate", empty_blocks),
        ("deflate, empty coded blocks", "deflate", tiny_blocks),
        ("zstd, 6 MiB of zeros", "zstd", zstd::encode_all(&zeros[..], 3).unwrap()),
        ("zstd 30,000:1, no size", "zstd", rle),
        ("zstd, window of 1 GiB", "zstd", window),
        ("zstd, claims 1 TiB", "zstd", claims),
        ("zstd, skippable frames", "zstd", skippable),
        ("zstd, empty frames", "zstd", empty_frames),
        ("snappy, claims 2 GiB", "snappy", vec![0xff, 0xff, 0xff, 0xff, 0x07, 0, 0, 0]),
    ]
}

fn json_record(members: &str) -> Vec<u8> {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{members}}}]}}]}}]}}"#).into_bytes()
}

fn deep(levels: usize) -> Vec<u8> {
    // From the inside out, into one buffer that is turned round at the end, so that depth costs no copies.
    let mut reversed: Vec<u8> = message(1, b"x").into_iter().rev().collect();
    for _ in 0..levels {
        for number in [1, 5] {
            let mut head = Vec::new();
            misaki::face::otlp::wire::put_header(&mut head, number, reversed.len());
            reversed.extend(head.iter().rev());
        }
    }
    reversed.reverse();
    with_record(&message(5, &reversed))
}

fn attribute(key: &str) -> Vec<u8> {
    message(6, &[message(1, key.as_bytes()), message(2, &[0x18, 0x01])].concat())
}

/// Name, content type and body.
pub fn giants() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const PROTOBUF: &str = "application/x-protobuf";
    const JSON: &str = "application/json";
    let attributes: Vec<u8> = (0..300_000).flat_map(|index| attribute(&index.to_string())).collect();
    let string = message(5, &message(1, &vec![b'x'; 3 << 20]));
    let point = |content: &[u8]| message(1, &message(2, &message(2, &message(9, &message(1, content)))));
    let json_point = |members: String| {
        let point = format!(r#"{{"histogram":{{"dataPoints":[{{{members}}}]}}}}"#);
        format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{point}]}}]}}]}}"#).into_bytes()
    };
    let digits = |count: usize| vec!["1"; count].join(",");
    let nested_text = {
        let text = "x".repeat(3 << 20);
        let open = r#"{"arrayValue":{"values":["#.repeat(63);
        json_record(&format!(r#""body":{open}{{"stringValue":"{text}"}}{}"#, "]}}".repeat(63)))
    };
    vec![
        ("protobuf, 10^5 levels", PROTOBUF, deep(100_000)),
        ("protobuf, 10^5 groups", PROTOBUF, [vec![0x0b; 100_000], vec![0x0c; 100_000]].concat()),
        ("JSON, 10^6 brackets", JSON, vec![b'['; 1_000_000]),
        ("JSON, 10^6 brackets of an unknown member", JSON, [&b"{\"x\":"[..], &vec![b'['; 1_000_000]].concat()),
        (
            "JSON, 10^5 values",
            JSON,
            json_record(&format!(r#""body":{}"#, r#"{"arrayValue":{"values":["#.repeat(100_000))),
        ),
        ("JSON, 3 MiB under 64 values", JSON, nested_text),
        ("300,000 attributes", PROTOBUF, with_record(&attributes)),
        ("100,000 equal keys", PROTOBUF, with_record(&attribute("k").repeat(100_000))),
        ("10^6 empty ResourceLogs", PROTOBUF, [0x0a, 0x00].repeat(1_000_000)),
        ("10^6 empty records", PROTOBUF, message(1, &message(2, &[0x12, 0x00].repeat(1_000_000)))),
        ("10^6 empty records in JSON", JSON, {
            let records = vec!["{}"; 1_000_000].join(",");
            format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#).into_bytes()
        }),
        ("one string of 3 MiB", PROTOBUF, with_record(&string)),
        ("histogram of 400,000 buckets", PROTOBUF, point(&message(6, &vec![1; 8 * 400_000]))),
        (
            "JSON histogram, 4 times as large on the wire",
            JSON,
            json_point(format!(r#""bucketCounts":[{}]"#, digits(1_500_000))),
        ),
        ("JSON histogram, twice as large", JSON, json_point(format!(r#""bucketCounts":[{}]"#, digits(700_000)))),
        ("JSON, escapes", JSON, json_record(&format!(r#""body":{{"stringValue":"{}"}}"#, r"\u0041".repeat(500_000)))),
    ]
}
