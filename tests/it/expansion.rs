//! Small requests whose text is large: no more of it than a piece is held, and what waits to be printed has a limit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use misaki::face::diagnostics::escape::{self, Eyes, WINDOW};
use misaki::face::exporters::{
    Compression, Form, Layout, Limits, Requests, SendError, Style, Verbosity, WAIT, render_chunks, render_dump,
};
use misaki::face::otlp::check::check;
use misaki::face::otlp::json::{put_requests, to_json};
use misaki::face::otlp::schema::{
    REQUEST_RESOURCES, any_value, key_value, list, log_record, metric, metric_data, number_point, resource,
    resource_group, scope_group, span,
};
use misaki::face::otlp::wire::{put_bytes, put_varint};
use misaki::face::otlp::{Coding, Pieces, whole};
use misaki::face::telemetry::{Budget, Charge, Now, Part, Share, Signal, Telemetry};
use proptest::prelude::*;

use crate::harness::*;

const FORMS: [Verbosity; 4] = [Verbosity::Normal, Verbosity::Detailed, Verbosity::Line, Verbosity::Json];
const PIECE: usize = 64 << 10;
/// With a line of a record, a window of a string whose bytes are all escaped, and the kept text of a resource.
const LARGEST: usize = PIECE + 6 * WINDOW + (1 << 20);

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

/// A group of one resource, with a scope for each list of records.
fn group(about: &[u8], scopes: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut group = field(resource_group::RESOURCE, about);
    for records in scopes {
        let records = records.iter().flat_map(|record| field(scope_group::RECORDS, record)).collect::<Vec<u8>>();
        put_bytes(&mut group, resource_group::SCOPES, &records);
    }
    field(REQUEST_RESOURCES, &group)
}

fn log_with(value: &[u8]) -> Vec<u8> {
    group(&[], &[vec![field(log_record::BODY, value)]])
}

/// A value inside of lists and maps.
fn nested(levels: usize, inner: Vec<u8>) -> Vec<u8> {
    (0..levels).fold(inner, |inner, level| match level % 2 {
        0 => field(any_value::ARRAY, &field(list::VALUES, &inner)),
        _ => field(any_value::KVLIST, &field(list::VALUES, &field(key_value::VALUE, &inner))),
    })
}

/// Legal requests, each with its name; `size` is about their length.
fn bombs(size: usize) -> Vec<(&'static str, Signal, Vec<u8>)> {
    let empty_pairs = field(any_value::KVLIST, &field(list::VALUES, &[]).repeat(size / 2));
    let empty_values = field(any_value::ARRAY, &field(list::VALUES, &[]).repeat(size / 2));
    let pair = |n: usize| field(list::VALUES, &field(key_value::KEY, format!("{n:x}").as_bytes()));
    let keys = field(any_value::KVLIST, &(0..size / 10).flat_map(pair).collect::<Vec<u8>>());
    let text = |bytes: &[u8]| log_with(&field(any_value::STRING, &bytes.repeat(size / bytes.len())));
    let attributes = field(log_record::ATTRIBUTES, &[]).repeat(size / 2);
    let about = |bytes: usize| field(resource::ATTRIBUTES, &field(key_value::KEY, &vec![b'k'; bytes]));
    let point = field(metric_data::POINTS, &field(number_point::ATTRIBUTES, &[]));
    let gauge = |head: Vec<u8>| [head, field(metric::GAUGE, &point.repeat(size / 8))].concat();
    let mut buckets = Vec::new();
    (0..size).for_each(|_| put_varint(&mut buckets, 1));
    let exponential = field(2, &buckets);
    let histogram = field(metric::EXPONENTIAL_HISTOGRAM, &field(metric_data::POINTS, &field(8, &exponential)));
    // A value that is given twice at each level, so that each level is joined.
    let twice = (0..20).fold(field(any_value::STRING, &vec![b'v'; size / 2]), |inner, _| {
        let pair = [field(key_value::VALUE, &field(any_value::STRING, &[])), field(key_value::VALUE, &inner)].concat();
        field(any_value::KVLIST, &field(list::VALUES, &pair))
    });
    vec![
        ("empty pairs", Signal::Logs, log_with(&empty_pairs)),
        ("empty pairs, deep", Signal::Logs, log_with(&nested(30, empty_pairs))),
        ("empty values", Signal::Logs, log_with(&empty_values)),
        ("many keys", Signal::Logs, log_with(&keys)),
        ("plain text", Signal::Logs, text(b"x")),
        ("controls", Signal::Logs, text(b"\x01")),
        ("no text", Signal::Logs, text(b"\xff")),
        ("bytes", Signal::Logs, log_with(&field(any_value::BYTES, &vec![0; size]))),
        ("values in two places", Signal::Logs, log_with(&twice)),
        ("empty records", Signal::Logs, group(&[], &[vec![Vec::new(); size / 2]])),
        ("empty spans", Signal::Traces, group(&[], &[vec![Vec::new(); size / 2]])),
        ("empty attributes", Signal::Logs, group(&[], &[vec![attributes]])),
        ("an empty resource's attributes", Signal::Logs, group(&field(1, &[]).repeat(size / 2), &[vec![Vec::new()]])),
        ("resources", Signal::Logs, group(&[], &[vec![Vec::new()]]).repeat(size / 8)),
        ("a resource for each scope", Signal::Logs, group(&about(size / 2), &vec![vec![Vec::new()]; size / 8])),
        ("a kept resource for each scope", Signal::Logs, group(&about(size / 20), &vec![vec![Vec::new()]; size / 5])),
        ("events", Signal::Traces, group(&[], &[vec![field(span::EVENTS, &[]).repeat(size / 2)]])),
        ("points", Signal::Metrics, group(&[], &[vec![gauge(Vec::new())]])),
        ("points of a described metric", Signal::Metrics, group(&[], &[vec![gauge(field(2, &vec![b'd'; size / 2]))]])),
        ("buckets", Signal::Metrics, group(&[], &[vec![histogram]])),
    ]
}

/// Whatever is sent, and however it is printed, text leaves in pieces, and its length has a bound.
#[test]
fn no_more_than_a_piece_is_held() {
    const SIZE: usize = 256 << 10;
    for (name, signal, wire) in bombs(SIZE) {
        check(signal, &wire).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let look = |what: &str, print: &dyn Fn(&mut Pieces)| {
            let (mut out, mut largest, mut length) = (Vec::new(), 0, 0);
            let mut take = |piece: &mut Vec<u8>, _| {
                largest = largest.max(piece.capacity());
                length += piece.len();
                piece.clear();
                true
            };
            print(&mut Pieces::new(&mut out, PIECE, &mut take));
            assert!(largest <= 2 * LARGEST, "{name}, {what}: {largest}");
            assert!(length <= 400 * SIZE, "{name}, {what}: {length}");
        };
        for form in FORMS {
            look(&format!("{form:?}"), &|to| {
                render_chunks_into(signal, form, &wire, to);
            });
        }
        look("requests", &|to| put_requests(signal, &[&wire], to));
    }
}

fn render_chunks_into(signal: Signal, form: Verbosity, wire: &[u8], to: &mut Pieces) {
    let mut take = |piece: &mut Vec<u8>, items| {
        to.items += items;
        to.out.append(piece);
        to.breathe();
        to.is_wanted()
    };
    render_chunks(signal, form, Style::default(), &[wire], PIECE, &mut Vec::new(), &mut take);
}

/// Pieces add up to what is written in one, whatever is in them.
#[test]
fn pieces_add_up() {
    for (name, signal, wire) in bombs(40 << 10) {
        for form in FORMS {
            for escape_newlines in [false, true] {
                let style = Style { escape_newlines, ..Style::default() };
                let (mut all, mut rest, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
                render_dump(signal, form, style, &[&wire], &mut all);
                render_chunks(signal, form, style, &[&wire], 100, &mut rest, &mut |piece, _| {
                    pieces.append(piece);
                    true
                });
                pieces.append(&mut rest);
                assert!(pieces == all, "{name} {form:?}");
            }
        }
        let (mut all, mut rest, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        to_json(signal, &wire, &mut all);
        let mut take = |piece: &mut Vec<u8>, _| {
            pieces.append(piece);
            true
        };
        put_requests(signal, &[&wire], &mut Pieces::new(&mut rest, 100, &mut take));
        pieces.append(&mut rest);
        assert!(pieces == all, "{name}");
        let _: serde_json::Value = serde_json::from_slice(&all).unwrap();
    }
}

/// Inside a value, too.
#[test]
fn a_text_ends_where_no_more_is_wanted() {
    let mut forms = 0;
    for (name, signal, wire) in bombs(1 << 20) {
        for form in FORMS {
            let (mut out, mut taken, mut more) = (Vec::new(), 0, 0);
            render_chunks(signal, form, Style::default(), &[&wire], PIECE, &mut out, &mut |piece, _| {
                (taken, more) = (piece.len(), taken);
                false
            });
            assert_eq!(more, 0, "{name} {form:?}: it went on");
            assert!(out.len() < PIECE + 6 * WINDOW, "{name} {form:?}: {}", out.len());
            forms += usize::from(taken > 0);
        }
    }
    assert!(forms > 50, "{forms}");
}

/// Requests in JSON are one request, in as many parts as they come.
#[test]
fn parts_are_one_request_in_json() {
    let part = |name: &str| request(Signal::Logs, &[name]);
    let (mut one, mut parts) = (Vec::new(), Vec::new());
    to_json(Signal::Logs, &[part("a"), part("b")].concat(), &mut one);
    whole(&mut parts, |to| put_requests(Signal::Logs, &[&part("a"), &[], &part("b")], to));
    assert_eq!(String::from_utf8(parts), String::from_utf8(one));
}

/// A map of so many keys is not sorted; one with a few keys many times is.
#[test]
fn keys_that_are_sorted_have_a_limit() {
    let printed = |keys: usize, times: usize| {
        let pair = |n| field(list::VALUES, &field(key_value::KEY, format!("{:05}", n % keys).as_bytes()));
        let value = field(any_value::KVLIST, &(0..keys * times).rev().flat_map(pair).collect::<Vec<u8>>());
        let mut out = Vec::new();
        render_dump(Signal::Logs, Verbosity::Normal, Style::default(), &[&log_with(&value)], &mut out);
        String::from_utf8(out).unwrap().lines().nth(2).unwrap().trim().to_owned()
    };
    let sorted = |keys: usize| (0..keys).map(|n| format!("\"{n:05}\":null")).collect::<Vec<_>>().join(",");
    assert_eq!(printed(3, 100_000), format!("{{{}}}", sorted(3)));
    assert_eq!(printed(16_384, 3), format!("{{{}}}", sorted(16_384)));
    assert_eq!(printed(16_385, 2), "\"(32770 pairs)\"");
}

proptest! {
    /// A long text is escaped window by window as it is in one piece: marks are counted on, characters are not cut.
    #[test]
    fn windows_change_nothing(
        start in "[a-z]{0,8}",
        text in proptest::collection::vec(prop_oneof![
            Just("\u{301}".as_bytes().to_vec()), Just("é".as_bytes().to_vec()), Just("日本".as_bytes().to_vec()),
            Just("😀".as_bytes().to_vec()), Just(b"\xff".to_vec()), Just(b"\xe2\x82".to_vec()), Just(b"\x80".to_vec()),
            Just(b"a".to_vec()), Just(b"\"\n".to_vec()), Just("\u{200b}".as_bytes().to_vec()),
        ], 1..40),
        for_eyes: bool,
    ) {
        let text = text.concat();
        let text = [start.as_bytes(), &text.repeat(2 * WINDOW / text.len() + 2)].concat();
        let (mut one, mut windowed, eyes) = (Vec::new(), Vec::new(), Eyes::default());
        escape::put_safe(&mut one, &text, for_eyes);
        escape::windows(&text).for_each(|window| escape::put_safe_window(&mut windowed, window, for_eyes, &eyes));
        prop_assert!(one == windowed);
        let (mut one, mut windowed, eyes) = (Vec::new(), vec![b'"'], Eyes::default());
        escape::put_json_string(&mut one, &text, for_eyes);
        escape::windows(&text).for_each(|window| escape::put_json_window(&mut windowed, window, for_eyes, &eyes));
        windowed.push(b'"');
        prop_assert!(one == windowed);
    }
}

/// What `tree` gathers is charged as it grows, and has a quarter of the memory for queues.
#[test]
fn gathered_requests_are_within_the_budget() {
    let budget = Budget::new(4 << 20);
    let most = budget.limit(Share::Queue) / 4;
    let mut requests = Requests::new(Layout::FILE, WAIT, Limits::default()).within(&budget);
    let (mut out, mut written, mut highest) = (Vec::new(), 0, 0);
    let one = |trace: u64, id: u64| {
        let ids =
            [field(span::TRACE_ID, &[[1; 8], trace.to_be_bytes()].concat()), field(span::SPAN_ID, &id.to_be_bytes())];
        group(&[], &[vec![ids.concat()]])
    };
    for id in 1..=20_000 {
        let items = whole(&mut out, |to| requests.add(Signal::Traces, &[&one(id / 10, id)], Instant::now(), to));
        written += items[Signal::Traces as usize];
        highest = highest.max(budget.used(Share::Queue));
        out.clear();
    }
    assert!(highest > most / 2 && highest <= most, "{highest} of {most}");
    // A span takes no less than its struct twice.
    assert!((20_000 - written) * 176 < most, "{written} written");
    written += whole(&mut out, |to| requests.print_all(to))[Signal::Traces as usize];
    assert_eq!((written, budget.used(Share::Queue)), (20_000, 0));
}

/// `debug` into a file or pipe.
async fn debug(path: &Path, verbosity: &str, keys: &str) -> Misaki {
    let pipeline = "{receivers: [otlp], exporters: [debug]}";
    Misaki::start(
        &format!(
            "processors: {{memory_limiter: {{check_interval: 1s, limit_mib: 16, spike_limit_mib: 0}}}}\n\
             exporters: {{debug: {{verbosity: {verbosity}, output_paths: ['{}'], {keys}}}}}\n\
             service: {{pipelines: {{logs: {pipeline}, traces: {pipeline}}}}}",
            path.display()
        ),
        &[],
    )
    .await
}

fn empty_records(size: usize) -> Vec<u8> {
    group(&[], &[vec![Vec::new(); size / 2]])
}

/// A text of hundreds of MiB holds up neither the next client nor the end.
#[tokio::test]
async fn a_long_text_is_left_at_the_end() {
    for (verbosity, signal) in [("detailed", Signal::Logs), ("json", Signal::Logs), ("tree", Signal::Traces)] {
        let mut misaki = debug(Path::new("/dev/null"), verbosity, "").await;
        let large = misaki.post(Via::Grpc, signal, empty_records(3 << 20), &[]).await;
        assert!(large.ok, "{large:?}");
        let start = Instant::now();
        assert!(misaki.send_by(Via::Http, signal, &["good"]).await.ok);
        assert!(start.elapsed() < Duration::from_secs(1), "{verbosity}: {:?}", start.elapsed());
        let balance = misaki.finish().await;
        assert!(start.elapsed() < Duration::from_secs(5), "{verbosity}: {:?}", start.elapsed());
        let line = balance.iter().find(|line| line.accepted > 0).unwrap();
        let lost: u64 = line.dropped.iter().map(|(_, items)| items).sum();
        assert_eq!((line.accepted, line.left), ((3 << 20) / 2 + 1, 0), "{line}");
        assert!(lost > 0 && line.dropped.iter().all(|(reason, _)| *reason == "output_too_slow"), "{line}");
    }
}

/// Nobody reads: what waits stays within its limits, and every request is answered and counted.
#[cfg(unix)]
#[tokio::test]
async fn what_waits_for_a_reader_has_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    pipe(&path);
    // Open, and never read from.
    let reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut misaki = debug(&path, "detailed", "").await;
    let budget = misaki.running.budget.clone();
    let mut accepted = 0;
    for round in 0..40 {
        let size = if round % 4 == 0 { 2 << 20 } else { 200 << 10 };
        assert!(misaki.post(Via::Grpc, Signal::Logs, empty_records(size), &[]).await.ok, "{round}");
        accepted += size as u64 / 2;
        until("what was read is given back", || budget.used(Share::Ingest) == 0).await;
        let queued = budget.used(Share::Queue);
        assert!(queued <= budget.limit(Share::Queue), "{queued}");
    }
    assert!(budget.used(Share::Queue) > 1 << 20);
    misaki.check();
    drop(reader);
    let balance = misaki.finish().await;
    let line = balance.iter().find(|line| line.accepted > 0).unwrap();
    let lost: u64 = line.dropped.iter().map(|(_, items)| items).sum();
    assert_eq!((line.accepted, line.exported + lost), (accepted, accepted), "{line}");
}

/// A batch within a budget's share for requests.
fn telemetry(budget: &Arc<Budget>, wire: Vec<u8>) -> Telemetry {
    let charge = Charge::take(budget, Share::Ingest, wire.len() as u64).unwrap();
    let items = check(Signal::Logs, &wire).unwrap();
    let parts = [Part::new(wire, items, charge)].into_iter().collect();
    Telemetry { signal: Signal::Logs, parts, client: None, received: Now::read(), tickets: Default::default() }
}

fn noise(size: usize) -> Vec<u8> {
    let words = (0..size as u64 / 8).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
    log_with(&field(any_value::BYTES, &words.flat_map(|word| (word ^ word << 7).to_le_bytes()).collect::<Vec<_>>()))
}

/// What a copy takes is charged, however far the first guess was from it; while it waits for memory, it holds none.
#[tokio::test]
async fn copies_are_charged_for_what_they_take() {
    const CODINGS: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Snappy, Coding::SnappyFramed];
    let budget = Budget::new(24 << 20);
    for wire in [noise(1 << 20), noise(5 << 20), empty_records(100_000), request(Signal::Logs, &["a"])] {
        for coding in CODINGS {
            for json in [false, true] {
                let telemetry = telemetry(&budget, wire.clone());
                let compression = Compression::new(Form { json, coding, level: None }, budget.clone());
                let payload = compression.payload(&telemetry).await;
                let name = format!("{} bytes, {coding:?}, {json}", wire.len());
                if let Some(error) = payload.unsendable {
                    assert!(json && wire.len() > 4 << 20, "{name}: {error:?}");
                    assert!(matches!(error, SendError::TooLarge(_)), "{name}: {error:?}");
                    continue;
                }
                let copied = if payload.charge.is_some() { payload.length() as u64 } else { 0 };
                assert_eq!(budget.used(Share::Export), copied, "{name}");
                drop(payload);
                assert_eq!(budget.used(Share::Export), 0, "{name}");
                // Beside others, it waits until they are done.
                if copied > 0 {
                    let half = budget.limit(Share::Export) / 2;
                    let others = [budget.charge_export(half).await, budget.charge_export(half).await];
                    let mut waiting = std::pin::pin!(compression.payload(&telemetry));
                    assert!(polled(waiting.as_mut(), 5).await.is_none(), "{name}");
                    assert_eq!(budget.used(Share::Export), 2 * half, "{name}");
                    drop(others);
                    assert_eq!(waiting.await.length() as u64, copied, "{name}");
                }
            }
        }
    }
}

/// What has no room as text is sent in smaller batches, and none of it is lost.
#[tokio::test]
async fn batches_that_are_too_large_in_json_are_cut() {
    for exporter in [
        "otlp_http: {endpoint: 'http://${env:UPSTREAM}', encoding: json, compression: none, tls: {insecure: true}}",
        "otlp_http: {endpoint: 'http://${env:UPSTREAM}', encoding: json, compression: gzip, tls: {insecure: true}}",
    ] {
        let upstream = Upstream::start().await;
        let config = format!(
            "processors: {{memory_limiter: {{check_interval: 1s, limit_mib: 16, spike_limit_mib: 0}}}}\n\
             exporters: {{{exporter}}}\n\
             service: {{pipelines: {{logs: {{receivers: [otlp], processors: [memory_limiter], exporters: [otlp_http]}}}}}}"
        );
        let mut misaki = Misaki::start(&config, &[&upstream]).await;
        let budget = misaki.running.budget.clone();
        let records = 300_000;
        assert!(misaki.post(Via::Grpc, Signal::Logs, empty_records(2 * records), &[]).await.ok);
        let mut highest = 0;
        until("all arrives", || {
            highest = highest.max(budget.used(Share::Export));
            misaki.held() == 0
        })
        .await;
        assert!(highest <= budget.limit(Share::Export), "{highest}");
        let balance = misaki.finish().await;
        assert_eq!(balance[0].exported, records as u64, "{}", balance[0]);
        let is_cut = exporter.contains("compression: none");
        assert_eq!(upstream.requests() > 1, is_cut, "{exporter}: {}", upstream.requests());
    }
}
