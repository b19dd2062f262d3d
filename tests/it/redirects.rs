//! Redirects of an upstream over HTTP, and the user and password of its URL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

use super::harness::*;

/// A redirect to this place.
fn to(status: u16, location: &str) -> Reply {
    let headers = vec![(":status", status.to_string()), ("location", location.to_owned())];
    Reply::Raw(headers, Bytes::new())
}

fn otlp_http(endpoint: &str, more: &str) -> String {
    format!(
        "{{exporters: {{otlp_http: {{endpoint: '{endpoint}'{more}}}}}, \
         service: {{pipelines: {{logs: {{exporters: [otlp_http]}}}}}}}}"
    )
}

/// 307 and 308 keep method and body, and are followed as far as they stay at the same server.
#[tokio::test]
async fn a_redirect_within_the_server_is_followed() {
    let upstream = Upstream::start().await;
    let address = upstream.address;
    for (status, location, target) in [
        (307, "/else/v1/logs?site=7".to_owned(), "/else/v1/logs?site=7"),
        (308, format!("http://{address}/whole"), "/whole"),
        (308, format!("//{address}/same-scheme"), "/same-scheme"),
        (307, "beside".to_owned(), "/v1/beside"),
    ] {
        let before = upstream.requests();
        upstream.script(move |arrival| match arrival.target.as_str() {
            "/v1/logs" => to(status, &location),
            _ => Reply::Accept,
        });
        let more = ", headers: {x-site: seven}, retry_on_failure: {enabled: false}";
        let mut misaki = Misaki::start(&otlp_http(&format!("http://{address}"), more), &[&upstream]).await;
        assert!(misaki.send(&["a log"]).await.ok);
        misaki.settle().await;
        misaki.finish().await;
        let arrivals = upstream.arrivals().split_off(before);
        assert_eq!(arrivals.iter().map(|arrival| arrival.target.as_str()).collect::<Vec<_>>(), ["/v1/logs", target]);
        let last = arrivals.last().unwrap();
        assert_eq!((last.bytes, &last.headers["x-site"]), (arrivals[0].bytes, &"seven".parse().unwrap()));
    }
}

/// Elsewhere its credentials are none of anybody's business: the exporter holds, and says where the endpoint is.
#[tokio::test]
async fn other_redirects_are_told() {
    let upstream = Upstream::start().await;
    let address = upstream.address;
    for (status, location, told) in [
        (
            308,
            format!("https://{address}/v1/logs"),
            format!("it redirects to https://{address}/v1/logs, which is not followed"),
        ),
        (307, "http://me:secret@elsewhere:4318/v1/logs?key=secret".to_owned(), "elsewhere:4318/v1/logs".to_owned()),
        (301, "/else/v1/logs".to_owned(), "it redirects to /else/v1/logs, which is not followed".to_owned()),
        (
            302,
            "http://portal.example/login".to_owned(),
            "it redirects to http://portal.example/login, which".to_owned(),
        ),
    ] {
        upstream.script(move |_| to(status, &location));
        let error = sent(&format!("http://{address}")).await;
        assert!(error.contains(&told) && error.contains("write that into the endpoint"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_circle_ends() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let upstream = Upstream::scripted(move |_| {
        counted.fetch_add(1, Relaxed);
        to(307, "/v1/logs")
    })
    .await;
    let error = sent(&format!("http://{}", upstream.address)).await;
    assert!(error.contains("redirects a request more than 10 times"), "{error}");
    assert!(count.load(Relaxed) >= 11, "{count:?}");
}

/// What `misaki send` says of an upstream.
async fn sent(url: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_misaki"));
    command.args(["send", "slog", "--to", url]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(!output.status.success());
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// As basic authentication, unless a header or an authenticator says otherwise.
#[tokio::test]
async fn the_user_of_a_url_is_sent() {
    let upstream = Upstream::start().await;
    let address = upstream.address;
    for (userinfo, more, expected) in [
        ("me:p%40ss%3a@", "", Some("Basic bWU6cEBzczo=")),
        ("me@", "", Some("Basic bWU6")),
        ("me:secret@", ", headers: {authorization: Bearer abc}", Some("Bearer abc")),
        ("", "", None),
    ] {
        let before = upstream.requests();
        let changes = otlp_http(&format!("http://{userinfo}{address}"), more);
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        assert!(misaki.send(&["a log"]).await.ok);
        misaki.settle().await;
        misaki.finish().await;
        let arrival = upstream.arrivals().swap_remove(before);
        let given = arrival.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(given.as_deref(), expected, "{userinfo} {more}");
    }
}
