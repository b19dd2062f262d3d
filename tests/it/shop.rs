//! Requests as SDKs write them, recorded from a small shop of Go services (`fixtures/traces`): the tree names the cause.

use std::path::Path;
use std::time::Instant;

use misaki::face::exporters::{Layout, width};
use misaki::face::exporters::{Limits, Requests, WAIT};
use misaki::face::otlp::json::to_wire;
use misaki::face::otlp::whole;
use misaki::face::telemetry::Signal;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

use crate::tree::{failed, golden, log, logs, pair, span, traces, with};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// The requests of a recording, in the order in which they came.
pub fn recorded(name: &str) -> Vec<(Signal, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/traces").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    let request = |line: &str| {
        let signal = if line.contains("\"resourceLogs\"") { Signal::Logs } else { Signal::Traces };
        (signal, to_wire(signal, line.as_bytes()).unwrap())
    };
    text.lines().map(request).collect()
}

fn drawn(columns: usize, telemetry: Vec<(Signal, Vec<u8>)>) -> String {
    let mut requests = Requests::new(Layout::new(columns, false), WAIT, Limits::default());
    let (mut out, now) = (Vec::new(), Instant::now());
    for (signal, request) in telemetry {
        whole(&mut out, |to| requests.add(signal, &[&request], now, to));
    }
    whole(&mut out, |to| requests.print_all(to));
    String::from_utf8(out).unwrap()
}

/// The text with its lines joined: a long one may be broken.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// For each recording what must stand in its tree, and what must not.
#[test]
fn the_cause_is_named() {
    let rows: [(&str, &[&str], &[&str]); 5] = [
        (
            "nplus1",
            &[
                "> bottleneck: ×70 cart SELECT cart_item, 157 of 267 ms, 59 %",
                "├ GET cart:9101/cart 200 gateway",
                "├ GET 127.0.0.1:9106/recommend 200 gateway",
                "├ GET inventory:9102/reserve 200 gateway",
                "×70 SELECT cart_item",
            ],
            &["×3"],
        ),
        ("slow_lock", &["> bottleneck: inventory LOCK warehouse, 400 of reserve items' 457 ms, 78 %"], &[]),
        (
            "failing",
            &[
                "> bottleneck: gateway GET /purchase itself, 243 of 433 ms, 56 %",
                "✗ failed: ×3 fraud GET /check: redis: connection refused 127.0.0.1:6379 *",
                "── ✗ ×3 fraud GET /check: redis: connection refused 127.0.0.1:6379 · bottleneck: gateway GET /purchase itself",
                "GET fraud:9104/check 500 payments",
            ],
            &["another"],
        ),
        (
            "plain",
            &["after the answer: another 122 ms; bottleneck: notify SMTP send, 121 ms", "└ after the answer"],
            &["> bottleneck: notify"],
        ),
        ("async", &["> bottleneck: shop SELECT stock, 90 of 100 ms, 90 %", "└ after the answer └ send mail shop"], &[]),
    ];
    for (name, said, not_said) in rows {
        for columns in [80, 160] {
            let text = drawn(columns, recorded(name));
            for line in text.lines() {
                assert!(width(line) <= columns && line.trim_end() == line, "{line}");
            }
            golden(&format!("tree/shop.{name}.{columns}.txt"), &text);
            let text = joined(&text);
            said.iter().for_each(|said| assert!(text.contains(said), "{name}: {said} in {text}"));
            not_said.iter().for_each(|said| assert!(!text.contains(said), "{name}: {said} in {text}"));
        }
    }
}

/// A span of a kind with attributes.
fn call(id: u64, parent: u64, kind: i32, name: &str, attributes: &[(&str, &str)]) -> ResourceSpans {
    let start = id as i64 * 10;
    with(span(id, parent, if kind == SERVER { "cart" } else { "shop" }, name, start, 8), |span| {
        span.kind = kind;
        span.attributes = attributes.iter().map(|(key, value)| pair(key, value)).collect();
    })
}

fn tree_of(spans: Vec<ResourceSpans>) -> String {
    let mut all = vec![span(1, 0, "shop", "GET /", 0, 1000)];
    all.extend(spans);
    drawn(160, vec![(Signal::Traces, traces(all))])
}

/// Whom a call asked, and what came back, in the words of the current conventions and of older ones.
#[test]
fn calls_say_where_they_went() {
    let rows: &[(i32, &str, &[(&str, &str)], &str)] = &[
        (
            CLIENT,
            "HTTP GET",
            &[
                ("http.request.method", "GET"),
                ("url.full", "http://me:secret@cart:8080/items?user=7#x"),
                ("http.response.status_code", "200"),
            ],
            "GET cart:8080/items 200",
        ),
        (
            CLIENT,
            "GET",
            &[("http.method", "GET"), ("http.url", "https://shop.example"), ("http.status_code", "404")],
            "GET shop.example 404",
        ),
        (
            CLIENT,
            "charge",
            &[
                ("http.request.method", "POST"),
                ("server.address", "pay"),
                ("server.port", "8443"),
                ("url.path", "/v1?x"),
                ("error.type", "timeout"),
            ],
            "charge pay:8443/v1 timeout",
        ),
        (
            CLIENT,
            "GET /items/{id}",
            &[
                ("http.request.method", "GET"),
                ("url.template", "/items/{id}"),
                ("server.address", "cart"),
                ("server.port", "443"),
            ],
            "GET cart/items/{id}",
        ),
        (
            CLIENT,
            "GET",
            &[("http.method", "GET"), ("peer.service", "cart"), ("net.peer.name", "10.0.0.7"), ("http.target", "/a")],
            "GET cart/a",
        ),
        (
            CLIENT,
            "SELECT",
            &[("db.system", "mysql"), ("db.statement", "select * from `orders` where id = ?")],
            "select orders",
        ),
        (
            CLIENT,
            "shop",
            &[("db.system.name", "postgresql"), ("db.operation.name", "INSERT"), ("db.collection.name", "orders")],
            "INSERT orders",
        ),
        (
            CLIENT,
            "SELECT orders by customer",
            &[("db.system.name", "postgresql"), ("db.query.text", "SELECT 1 FROM orders")],
            "SELECT orders by customer",
        ),
        (
            CLIENT,
            "query",
            &[("db.system", "postgresql"), ("db.query.text", "SELECT\n\tid\nFROM\n\torders\nWHERE id = 1")],
            "SELECT orders",
        ),
        (CLIENT, "query", &[("db.system", "x"), ("db.query.summary", "SELECT a JOIN b")], "SELECT a JOIN b"),
        (CLIENT, "GET", &[("db.system", "redis"), ("db.statement", "GET user")], "GET"),
        (CLIENT, "ping", &[("db.system", "redis")], "ping"),
        (
            CLIENT,
            "call",
            &[
                ("rpc.system", "grpc"),
                ("rpc.service", "shop.Cart"),
                ("rpc.method", "Get"),
                ("server.address", "cart"),
                ("server.port", "7070"),
                ("rpc.grpc.status_code", "14"),
            ],
            "shop.Cart/Get cart:7070 UNAVAILABLE",
        ),
        (
            CLIENT,
            "shop.Cart/Get",
            &[("rpc.system", "grpc"), ("rpc.grpc.status_code", "0"), ("net.peer.name", "cart")],
            "shop.Cart/Get cart",
        ),
        (
            PRODUCER,
            "kafka",
            &[("messaging.system", "kafka"), ("messaging.destination.name", "orders")],
            "publish orders",
        ),
        (
            CONSUMER,
            "orders process",
            &[("messaging.system", "kafka"), ("messaging.destination", "orders")],
            "orders process",
        ),
        (CLIENT, "POST external API", &[("server.address", "pay.example.com")], "POST external API"),
        (SERVER, "GET /items", &[("http.request.method", "GET"), ("url.path", "/items")], "GET /items"),
    ];
    for (kind, name, attributes, expected) in rows {
        let text = tree_of(vec![call(2, 1, *kind, name, attributes)]);
        let row = text.lines().find(|line| line.contains("└ ") && !line.contains(" waited ")).unwrap();
        let found = row.split("└ ").last().unwrap().split("   ").next().unwrap();
        assert_eq!(found, *expected, "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

/// Only the same work shares a row: the name, the service, the target and the class of the status agree.
#[test]
fn only_the_same_work_is_folded() {
    let get = |id: u64, host: &str, path: &str, status: &str| {
        let url = format!("http://{host}{path}");
        let attributes = [("http.request.method", "GET"), ("url.full", &*url), ("http.response.status_code", status)];
        call(id, 1, CLIENT, "HTTP GET", &attributes)
    };
    let three = |of: &dyn Fn(u64) -> ResourceSpans| tree_of((2..5).map(of).collect());
    let folded = |text: &str, expected: &str| assert!(text.contains(&format!("└ ×3 {expected}")), "{expected}: {text}");
    let apart = |text: &str| assert!(!text.contains(" ×3") && text.contains("├ GET"), "{text}");
    folded(&three(&|id| get(id, "cart", "/items", "200")), "GET cart/items 200 8 ms");
    // An id in the path, and another status of the same class, make no difference, and are not told of the first alone.
    folded(&three(&|id| get(id, "cart", &format!("/items/{id}"), &format!("20{id}"))), "GET cart/items/* 2xx 8 ms");
    apart(&three(&|id| get(id, "cart", ["/a", "/b", "/c"][id as usize - 2], "200")));
    apart(&three(&|id| get(id, ["a", "b", "c"][id as usize - 2], "/", "200")));
    apart(&three(&|id| get(id, "cart", "/items", ["200", "302", "404"][id as usize - 2])));
    // The server that answers tells more than an address.
    let answered = |names: [&str; 3]| {
        let pairs = (2..5).flat_map(|id| {
            let server = with(call(id + 10, id, SERVER, names[id as usize - 2], &[]), |span| {
                span.start_time_unix_nano -= 99_000_000;
                span.end_time_unix_nano -= 101_000_000;
            });
            [get(id, "127.0.0.1:80", "/", "200"), server]
        });
        tree_of(pairs.collect())
    };
    apart(&answered(["GET /a", "GET /b", "GET /c"]));
    let text = answered(["GET /a"; 3]);
    folded(&text, "GET cart:80/ 200 8 ms");
    // What is below is folded in the same way, and has the time that was spent there.
    folded(&text, "GET /a 6 ms");
    assert!(text.contains("bottleneck: shop GET / itself"), "{text}");
    // Equal failures are one row, others have their own.
    let no = |text: &'static str| move |id: u64| failed(get(id, "cart", "/", "500"), if id == 2 { text } else { "no" });
    let text = three(&no("no"));
    folded(&text, "GET cart/ 500 8 ms");
    assert!(text.contains(" ✗ failed: ×3 shop GET cart/ 500: no\n"), "{text}");
    apart(&three(&no("never")));
}

/// Rows that stand alone, because each has something to say, are one work nevertheless; so they are unfolded.
#[test]
fn the_bottleneck_is_all_of_the_work() {
    let query = |id: u64| span(id, 1, "shop", "query", 150 * (id as i64 - 2), 140);
    let mut spans = vec![span(1, 0, "shop", "GET /", 0, 700), span(9, 1, "shop", "lock", 450, 200)];
    spans.extend((2..5).map(query));
    let warnings = (2..5).map(|id| log(id, "shop", 13, "slow query", 150 * (id - 2) + 140)).collect();
    let telemetry = vec![(Signal::Logs, logs(warnings)), (Signal::Traces, traces(spans))];
    let text = drawn(80, telemetry);
    assert!(
        text.contains(" > bottleneck: shop GET / itself, 530 of 1000 ms") || text.contains("×3 shop query"),
        "{text}"
    );
}

/// Work that the client did not wait for is never the cause of the wait, however long it takes.
#[test]
fn what_nobody_waited_for_is_apart() {
    let all = |kind: i32, parent_kind: i32, start: i64, millis: u64| {
        let parent = with(span(2, 1, "shop", "order", 10, 50), |span| span.kind = parent_kind);
        let job = with(span(3, 2, "mail", "job", start, millis), |span| span.kind = kind);
        let text = drawn(160, vec![(Signal::Traces, traces(vec![span(1, 0, "shop", "GET /", 0, 100), parent, job]))]);
        let heading = ["after the answer", "not waited for"]
            .into_iter()
            .find(|heading| text.lines().any(|line| line.trim_end().ends_with(&format!("└ {heading}"))));
        let row = text.lines().find(|line| line.contains("└ job")).unwrap();
        assert_eq!(row.starts_with('*'), heading.is_none(), "{text}");
        heading
    };
    let after = Some("after the answer");
    let rows = [
        // Within its parent's time: it was waited for, as long as no message started it.
        (0, 0, 12, 48, None),
        (SERVER, CLIENT, 12, 48, None),
        (CONSUMER, PRODUCER, 12, 48, Some("not waited for")),
        (SERVER, PRODUCER, 12, 48, Some("not waited for")),
        // It outlasts its parent: by less than clocks may differ, by more, and beyond the answer.
        (0, 0, 11, 50, None),
        (0, 0, 12, 50, Some("not waited for")),
        (0, 0, 12, 300, after),
        (0, 0, 60, 30, Some("not waited for")),
        (0, 0, 60, 300, after),
        // A client gave up on it.
        (SERVER, CLIENT, 12, 300, None),
        (SERVER, CLIENT, 60, 300, after),
    ];
    for (kind, parent_kind, start, millis, expected) in rows {
        assert_eq!(all(kind, parent_kind, start, millis), expected, "{kind} below {parent_kind}, {start} for {millis}");
    }
}
