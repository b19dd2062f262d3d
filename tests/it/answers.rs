//! Every answer an upstream may give, in one table: what becomes of the batch, when it is tried again, and that the ledger
//! balances.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use misaki::face::otlp::status;
use misaki::face::sending::dead_letters;
use misaki::face::telemetry::{Reason, Status};
use tokio::io::AsyncWriteExt;
use tonic::Code;

use super::harness::*;

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a batch of two items.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Delivered,
    /// So many of the two were rejected by a partial success.
    Partial(u64),
    /// Again, after this time.
    Retry(Duration),
    /// Everything stays, and an empty export asks whether it is welcome.
    Hold,
    /// In two halves, since one may have spoilt the other.
    Split(Reason),
    /// Dropped at once, and kept as dead letters where there is storage.
    Dead,
}

use Action::*;

const AGAIN: Action = Retry(Duration::ZERO);
const BISECT: Action = Split(Reason::RejectedUpstream);

struct Cell {
    name: String,
    is_http: bool,
    reply: Reply,
    action: Action,
}

fn of_http(status: u16, hint: Duration) -> Action {
    match status {
        200..=299 => Delivered,
        101 | 429 | 502 | 503 | 504 => Retry(hint),
        300..=399 | 401 | 403 | 404 | 405 | 407 | 415 | 511 => Hold,
        413 => Split(Reason::TooLarge),
        400 | 422 => BISECT,
        _ => Dead,
    }
}

fn of_grpc(code: u8, hint: Option<Duration>) -> Action {
    match code {
        0 => Delivered,
        1 | 4 | 10 | 11 | 14 | 15 => Retry(hint.unwrap_or_default()),
        8 => hint.map_or(Dead, Retry),
        7 | 12 | 16 => Hold,
        3 => BISECT,
        _ => Dead,
    }
}

const STATUSES: &[u16] = &[
    101, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 299, 300, 301, 302, 303, 304, 305, 306, 307, 308, 399, 400,
    401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425,
    426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 520, 522, 599,
];

fn raw(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Reply {
    let all = [(":status", status.to_string())].into_iter();
    Reply::Raw(all.chain(headers.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect(), body.into())
}

/// `Retry-After`, and how long that is.
fn hints_of_http() -> Vec<(Option<String>, Duration)> {
    let date = |from_now: i64| {
        let now = SystemTime::now();
        let by = Duration::from_secs(from_now.unsigned_abs());
        Some(httpdate::fmt_http_date(if from_now < 0 { now - by } else { now + by }))
    };
    let text = |text: &str| Some(text.to_owned());
    vec![
        (None, Duration::ZERO),
        (text("0"), Duration::ZERO),
        (text("5"), 5 * SECOND),
        (text("-1"), Duration::ZERO),
        (text("1000000000"), 300 * SECOND),
        (text("99999999999999999999999"), Duration::ZERO),
        (text("1.5"), Duration::ZERO),
        (text("soon"), Duration::ZERO),
        (text(""), Duration::ZERO),
        (date(-3600), Duration::ZERO),
        (date(100), 100 * SECOND),
        (date(86_400), 300 * SECOND),
    ]
}

/// `grpc-status-details-bin`, and the hint in it.
fn hints_of_grpc(code: u8) -> Vec<(&'static str, Option<String>, Option<Duration>)> {
    let details =
        |hint| status::to_wire(&Status { code: Code::from(i32::from(code)), message: "said so".to_owned() }, hint);
    let text = |wire: &[u8]| Some(BASE64_STANDARD_NO_PAD.encode(wire));
    let five = details(Some(5 * SECOND));
    let any = b"type.googleapis.com/google.rpc.RetryInfo";
    let with_info = |info: &[u8]| {
        let any = [&[10, any.len() as u8], any.as_slice(), &[18, info.len() as u8], info].concat();
        [&[8, code, 26, any.len() as u8], any.as_slice()].concat()
    };
    // `RetryInfo{retry_delay: {seconds: -5}}`, and `RetryInfo{}`.
    let minus = with_info(&[10, 11, 8, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    let none = with_info(&[]);
    vec![
        ("no hint", None, None),
        ("details without a hint", text(&details(None)), None),
        ("0 s", text(&details(Some(Duration::ZERO))), Some(Duration::ZERO)),
        ("5 s", text(&five), Some(5 * SECOND)),
        ("a year", text(&details(Some(31_536_000 * SECOND))), Some(300 * SECOND)),
        ("-5 s", text(&minus), Some(Duration::ZERO)),
        ("a RetryInfo without a delay", text(&none), Some(Duration::ZERO)),
        ("garbage", Some("%%%".to_owned()), None),
        ("cut off", text(&five[..five.len() - 4]), None),
    ]
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |name: String, is_http, reply, action| cells.push(Cell { name, is_http, reply, action });
    for status in STATUSES {
        let hints = hints_of_http();
        // A hint means something with those that are tried again, and changes nothing with the others.
        let retried = matches!(of_http(*status, Duration::ZERO), Retry(_));
        for (text, hint) in hints
            .into_iter()
            .take(if retried { usize::MAX } else { 3 })
            .filter(|(text, _)| retried || text.as_deref() != Some("0"))
        {
            let headers: Vec<_> = text.iter().map(|text| ("retry-after", text.as_str())).collect();
            add(
                format!("HTTP {status}, Retry-After {text:?}"),
                true,
                raw(*status, &headers, ""),
                of_http(*status, hint),
            );
        }
        // HTTP/2 has no such status.
        if *status == 101 {
            continue;
        }
        let action = match status {
            // A success without a gRPC status is none.
            200..=399 | 401 | 403 | 404 | 405 | 407 | 415 | 511 => Hold,
            429 | 502 | 503 | 504 => AGAIN,
            _ => Dead,
        };
        add(
            format!("HTTP {status} to gRPC"),
            false,
            raw(*status, &[("content-type", "text/html")], "<p>no</p>"),
            action,
        );
    }
    let said = status::to_wire(&Status { code: Code::InvalidArgument, message: "said so".to_owned() }, None);
    let bodies: [(&str, &'static str, Bytes); 7] = [
        ("a status", "application/x-protobuf", said.clone().into()),
        ("a status in JSON", "application/json", Bytes::from_static(br#"{"code":3,"message":"said so"}"#)),
        ("JSON cut off", "application/json", Bytes::from_static(br#"{"code":3,"mess"#)),
        ("HTML", "text/html", Bytes::from_static(b"<html>\x1b[2J</html>")),
        ("a status cut off", "application/x-protobuf", said[..said.len() - 3].to_vec().into()),
        ("noise", "application/x-protobuf", vec![0xff; 100].into()),
        ("10 MiB", "text/plain", vec![b'x'; 10 << 20].into()),
    ];
    for status in [200, 400, 401, 413, 429, 500, 501, 503] {
        for (name, kind, body) in &bodies {
            // A status is no `Export…ServiceResponse`: what stands in field 1 of it is no partial success.
            let reply = raw(status, &[("content-type", kind)], body.clone());
            let is_page = status == 200 && *name == "HTML";
            let action = if is_page { Hold } else { of_http(status, Duration::ZERO) };
            add(format!("HTTP {status} with {name}"), true, reply, action);
        }
    }
    for code in (0..=17).chain([99, 255]) {
        for (name, details, hint) in hints_of_grpc(code) {
            let number = code.to_string();
            let mut headers = vec![
                ("content-type", "application/grpc"),
                ("grpc-status", number.as_str()),
                ("grpc-message", "said%20so"),
            ];
            headers.extend(details.as_deref().map(|details| ("grpc-status-details-bin", details)));
            add(format!("gRPC {code}, {name}"), false, raw(200, &headers, ""), of_grpc(code, hint));
        }
    }
    for text in ["-1", "256", "OK", "", "14 "] {
        let headers = [("content-type", "application/grpc"), ("grpc-status", text)];
        add(format!("grpc-status {text:?}"), false, raw(200, &headers, ""), Dead);
    }
    // The status of gRPC stands behind the body: without it the answer was cut off, unless its end is out of sight.
    for (length, action) in [(0, AGAIN), (5, AGAIN), (100, AGAIN), (100_000, Dead)] {
        let reply = raw(200, &[("content-type", "application/grpc+proto")], vec![0; length]);
        add(format!("gRPC without trailers, {length} bytes"), false, reply, action);
    }
    // What stands between here and the upstream may say that all is well.
    for (kind, body) in [
        ("text/html", ""),
        ("text/html; charset=utf-8", "Please log in"),
        ("Text/HTML", "<!DOCTYPE html>"),
        ("application/xhtml+xml", "<html/>"),
        ("text/plain", "\n<html>"),
        ("", "<?xml version=\"1.0\"?>"),
    ] {
        add(format!("HTTP 200 {kind} {body:?}"), true, raw(200, &[("content-type", kind)], body.to_owned()), Hold);
    }
    for (kind, body) in [("text/plain", "ok"), ("application/json", "{}"), ("", "")] {
        add(format!("HTTP 200 {kind} {body:?}"), true, raw(200, &[("content-type", kind)], body.to_owned()), Delivered);
    }
    add(
        "gRPC 8, larger than".to_owned(),
        false,
        Reply::Grpc(8, "grpc: received message larger than max", None),
        Split(Reason::TooLarge),
    );
    for is_http in [false, true] {
        let protocol = if is_http { "HTTP" } else { "gRPC" };
        for (rejected, action) in
            [(-1, Delivered), (0, Delivered), (1, Partial(1)), (2, Partial(2)), (i64::MAX, Partial(2))]
        {
            add(format!("{protocol} partial success {rejected}"), is_http, Reply::Partial(rejected, "said so"), action);
        }
        let long = String::leak("x".repeat(100_000));
        add(format!("{protocol} partial success with a long message"), is_http, Reply::Partial(1, long), Partial(1));
        add(format!("{protocol} reset"), is_http, Reply::Reset, AGAIN);
        add(format!("{protocol} trickling"), is_http, Reply::Trickle, Retry(2 * SECOND));
        add(format!("{protocol} hanging"), is_http, Reply::Hang, Retry(2 * SECOND));
    }
    for (text, action) in [
        (r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"x"}}"#, Partial(1)),
        (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, Partial(2)),
        (r#"{"partialSuccess":{}}"#, Delivered),
        (r#"{"partialSuccess":null}"#, Delivered),
        ("[]", Delivered),
    ] {
        add(
            format!("HTTP 200 {text}"),
            true,
            raw(200, &[("content-type", "application/json")], text.as_bytes().to_vec()),
            action,
        );
    }
    cells
}

async fn start(is_http: bool, upstream: &Upstream) -> Misaki {
    let exporter = if is_http { "otlp_http" } else { "otlp" };
    Misaki::start(
        &format!("{{exporters: {{{exporter}: {{timeout: 2s}}}}, service: {{pipelines: {{logs: {{exporters: [{exporter}]}}}}}}}}"),
        &[upstream],
    )
    .await
}

/// What is wrong with a cell; `None` when it is as the table says.
async fn judge(Cell { name, is_http, reply, action }: &Cell) -> Option<String> {
    // Halves get the same answer when the whole is split; everything else is answered so once.
    let always = matches!(action, Split(_));
    let mut answers = 0;
    let given = reply.clone();
    let upstream = Upstream::scripted(move |_| {
        answers += 1;
        if always || answers == 1 { given.clone() } else { Reply::Accept }
    })
    .await;
    let mut misaki = start(*is_http, &upstream).await;
    assert!(misaki.send(&["a", "b"]).await.ok);
    until(&format!("{name}: it is sent"), || upstream.requests() > 0).await;
    let mut early = None;
    match action {
        Retry(after) if !after.is_zero() => {
            for _ in 0..5 {
                rest().await;
            }
            jump(*after * 8 / 10).await;
            early = Some((upstream.requests(), misaki.held()));
            jump(*after * 4 / 10).await;
        }
        Hold => {
            until(&format!("{name}: it holds"), || misaki.running.queues().any(|queue| queue.trouble().is_some()))
                .await;
            jump(50 * SECOND).await;
            early = Some((upstream.requests(), misaki.held()));
            jump(15 * SECOND).await;
        }
        _ => {}
    }
    misaki.settle().await;
    let exporter = if *is_http { "otlp_http" } else { "otlp" };
    let dropped = |reason: Reason, items| match items {
        0 => "0 dropped".to_owned(),
        items => format!("{items} dropped ({} {items})", reason.name()),
    };
    let (requests, exported, dropped) = match action {
        Delivered => (1, 2, dropped(Reason::Internal, 0)),
        Partial(rejected) => (1, 2 - rejected, dropped(Reason::PartialSuccess, *rejected)),
        Retry(_) => (2, 2, dropped(Reason::Internal, 0)),
        Hold => (3, 2, dropped(Reason::Internal, 0)),
        Split(reason) => (3, 0, dropped(*reason, 2)),
        Dead => (1, 0, dropped(Reason::RejectedUpstream, 2)),
    };
    let wanted = (requests, format!("logs to {exporter}: 2 accepted = {exported} exported + {dropped} + 0 left"));
    let found = (upstream.requests(), misaki.line(exporter));
    upstream.release();
    misaki.finish().await;
    let wrong = found != wanted || early.is_some_and(|early| early != (1, 2));
    wrong.then(|| format!("{name}: {action:?}: {found:?} and, before its time, {early:?}; wanted {wanted:?}"))
}

#[tokio::test]
async fn each_answer_has_its_action() {
    assert!([Reason::TooLarge, Reason::RejectedUpstream].into_iter().all(dead_letters::are_kept));
    let cells = cells();
    assert!(cells.len() >= 400, "{} cells", cells.len());
    let mut wrong = Vec::new();
    for cell in &cells {
        wrong.extend(judge(cell).await);
    }
    println!("{} cells, {} wrong", cells.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
}

/// A server that refuses a request before it has read it closes at once, and its answer breaks off: what its head said counts.
#[tokio::test]
async fn a_refusal_counts_when_its_body_breaks_off() {
    for (status, holds) in [(401, true), (407, true), (400, false)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-type: text/plain\r\ncontent-length: 900\r\n\r\nno entry\n");
                let _ = stream.write_all(head.as_bytes()).await;
            }
        });
        let exporter = format!("{{otlp_http: {{endpoint: '{endpoint}'}}}}");
        let changes =
            format!("{{exporters: {exporter}, service: {{pipelines: {{logs: {{exporters: [otlp_http]}}}}}}}}");
        let misaki = Misaki::start(&changes, &[&Upstream::absent()]).await;
        assert!(misaki.send(&["a"]).await.ok);
        let trouble = || misaki.running.queues().find_map(|queue| queue.trouble());
        until(&format!("{status} is final"), || trouble().is_some() || misaki.held() == 0).await;
        assert_eq!((trouble().is_some(), misaki.held()), (holds, u64::from(holds)), "{status}");
    }
}

/// A server may say `100 Continue` before its answer. One that says it without end is given up, and others go on meanwhile.
#[tokio::test]
async fn interim_responses_are_passed_over_and_counted() {
    let serve = |interim: usize| async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let lines = "HTTP/1.1 100 Continue\r\n\r\n".repeat(interim.min(1000));
                for _ in 0..interim.div_ceil(1000) {
                    if stream.write_all(lines.as_bytes()).await.is_err() {
                        break;
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        });
        (address, serving)
    };
    for (interim, arrives) in [(0, true), (3, true), (1_000_000, false)] {
        let (address, _serving) = serve(interim).await;
        let changes = format!(
            "{{exporters: {{otlp_http: {{endpoint: 'http://{address}', retry_on_failure: {{enabled: false}}}}}}, service: {{pipelines: {{logs: {{exporters: [otlp_http]}}}}}}}}"
        );
        let misaki = Misaki::start(&changes, &[&Upstream::absent()]).await;
        assert!(misaki.send(&["a"]).await.ok);
        misaki.settle().await;
        let outcome = if arrives { "1 exported + 0 dropped" } else { "0 exported + 1 dropped" };
        assert!(misaki.line("otlp_http").contains(outcome), "{interim}: {}", misaki.line("otlp_http"));
    }
}
