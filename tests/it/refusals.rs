//! What is refused early reaches clients that are still writing: each refusal, over each way in, however slowly they write.

use std::time::Duration;

use bytes::Bytes;
use misaki::face::network::tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::harness::{Misaki, Upstream};
use super::tls::{Authority, client};

const GRPC: &str = "application/grpc";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PIECE: usize = 32 << 10;

/// What is refused: the method, the path, the content type, another header, the first bytes, and the code that is heard.
type Case = (&'static str, &'static str, &'static str, (&'static str, &'static str), &'static [u8], u16);

const RIGHT: (&str, &str) = ("authorization", "Bearer right");
const CASES: &[Case] = &[
    ("POST", "/v1/logs", "application/json", ("authorization", "Bearer wrong"), b"", 401),
    ("POST", "/v1/nothing", "application/json", RIGHT, b"", 404),
    ("PUT", "/v1/logs", "application/json", RIGHT, b"", 405),
    ("POST", "/v1/logs", "text/plain", RIGHT, b"", 415),
    ("POST", "/v1/logs", "application/json", ("content-encoding", "br"), b"", 415),
    ("POST", "/v1/logs", "application/x-protobuf", RIGHT, b"", 413),
    ("POST", LOGS, GRPC, ("authorization", "Bearer wrong"), b"", 16),
    ("POST", "/some.Service/Export", GRPC, RIGHT, b"", 12),
    ("POST", LOGS, GRPC, ("grpc-encoding", "br"), b"", 12),
    ("POST", LOGS, GRPC, RIGHT, b"\0\x40\0\0\0", 8),
    ("POST", LOGS, GRPC, RIGHT, b"\x09\0\0\0\x05", 13),
    ("POST", LOGS, GRPC, ("grpc-timeout", "20m"), b"\0\0\x10\0\0", 4),
    ("POST", LOGS, "application/grpc-web", RIGHT, b"", 415),
    ("PUT", LOGS, GRPC, RIGHT, b"", 415),
];

/// A collector that lets in who knows the token, and messages of up to 1 MiB.
async fn start(tls: &str) -> Misaki {
    let protocol = |rest: &str| format!("{{auth: {{authenticator: bearertokenauth}}, {tls} {rest}}}");
    let changes = format!(
        "{{extensions: {{bearertokenauth: {{token: right}}}}, service: {{extensions: [bearertokenauth]}}, receivers: {{otlp: {{protocols: \
         {{grpc: {}, http: {}}}}}}}}}",
        protocol("max_recv_msg_size_mib: 1"),
        protocol("max_request_body_size: 1048576, cors: {allowed_origins: [\"https://here\"]}")
    );
    Misaki::start(&changes, &[&Upstream::start().await]).await
}

type Client = h2::client::SendRequest<Bytes>;

async fn connect(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, driver: &mut JoinSet<()>) -> Client {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    driver.spawn(async move { connection.await.unwrap() });
    client.ready().await.unwrap()
}

/// Sends a body of this length, in pieces with a pause after each, and only then reads. Says what the answer is, and how many
/// bytes were left unsent when the stream ended.
async fn write_then_read(client: &Client, case: &Case, length: usize, piece: usize, pause: Duration) -> (u16, usize) {
    let (method, path, kind, header, first, _) = *case;
    let mut head = http::Request::builder().method(method).uri(format!("https://x{path}"));
    head = head.header("content-type", kind).header(header.0, header.1);
    if header.0 != "authorization" {
        head = head.header(RIGHT.0, RIGHT.1);
    }
    let mut client = client.clone().ready().await.unwrap();
    let (answer, mut body) = client.send_request(head.body(()).unwrap(), false).unwrap();
    if !first.is_empty() {
        body.send_data(Bytes::from_static(first), false).unwrap();
    }
    let mut left = length;
    while left > 0 {
        body.reserve_capacity(piece.min(left));
        match std::future::poll_fn(|context| body.poll_capacity(context)).await {
            Some(Ok(granted)) => {
                let granted = granted.min(left);
                if body.send_data(vec![b' '; granted].into(), left == granted).is_err() {
                    break;
                }
                left -= granted;
            }
            _ => break,
        }
        sleep(pause).await;
    }
    let (head, mut told) = answer.await.unwrap_or_else(|error| panic!("{case:?}, {left} left: {error}")).into_parts();
    while let Some(data) = told.data().await {
        data.unwrap_or_else(|error| panic!("{case:?}, {left} left: {error}"));
    }
    let status = head.headers.get("grpc-status").map(|status| status.to_str().unwrap().parse().unwrap());
    (status.unwrap_or(head.status.as_u16()), left)
}

async fn check(client: &Client) {
    for case in CASES {
        let heard = write_then_read(client, case, 2 << 20, PIECE, Duration::from_millis(1)).await;
        assert_eq!(heard, (case.5, 0), "{case:?}");
    }
}

/// All of a body is taken, on one connection, which stays.
#[tokio::test]
async fn over_http2() {
    let misaki = start("").await;
    let mut driver = JoinSet::new();
    for address in [misaki.ports.http, misaki.ports.grpc] {
        check(&connect(TcpStream::connect(address).await.unwrap(), &mut driver).await).await;
    }
}

/// The same where HTTP/2 was agreed on in the handshake.
#[tokio::test]
async fn over_http2_with_tls() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    authority.write(&cert, &key);
    let misaki = start(&format!("tls: {{cert_file: {cert:?}, key_file: {key:?}}},")).await;
    let mut driver = JoinSet::new();
    let config = tls::client_config(&client(authority.ca()), &[b"h2"]).unwrap();
    let stream = Box::new(TcpStream::connect(misaki.ports.http).await.unwrap());
    let stream = tls::connect(stream, config, "localhost".try_into().unwrap()).await.unwrap();
    check(&connect(stream, &mut driver).await).await;
}

/// Who writes without end is answered all the same, and read for so long and no longer.
#[tokio::test]
async fn within_bounds() {
    let misaki = start("").await;
    let mut driver = JoinSet::new();
    let client = connect(TcpStream::connect(misaki.ports.http).await.unwrap(), &mut driver).await;
    for case in [&CASES[0], &CASES[1], &CASES[5], &CASES[7]] {
        let began = Instant::now();
        let (heard, left) = write_then_read(&client, case, 100 << 20, 1 << 20, Duration::ZERO).await;
        assert!(heard == case.5 && (1..90 << 20).contains(&left), "{case:?}: {heard}, {left} left");
        assert!(began.elapsed() < Duration::from_secs(10), "{case:?}");
    }
    let began = Instant::now();
    let (heard, left) = write_then_read(&client, &CASES[1], 1000, 1, Duration::from_millis(50)).await;
    assert!(heard == 404 && left > 900, "{heard}, {left} left");
    assert!((1..6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// HTTP/1.1: the answer is there while the body is written, and the connection serves the next request.
#[tokio::test]
async fn over_http1() {
    let misaki = start("").await;
    for (method, path, kind, header, _, code) in CASES.iter().filter(|case| !case.2.starts_with(GRPC)) {
        let mut stream = TcpStream::connect(misaki.ports.http).await.unwrap();
        let token = if header.0 == "authorization" { "" } else { "authorization: Bearer right\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n{}: {}\r\n{token}content-length: {}\r\n\r\n",
            header.0,
            header.1,
            2 << 20
        );
        let rounds = if *code == 413 { 1 } else { 2 };
        for round in 0..rounds {
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..(2 << 20) / PIECE {
                stream.write_all(&[b' '; PIECE]).await.unwrap_or_else(|error| panic!("{code}, {round}: {error}"));
                sleep(Duration::from_millis(1)).await;
            }
            let mut answer = vec![0; 4096];
            let length = stream.read(&mut answer).await.unwrap_or_else(|error| panic!("{code}, {round}: {error}"));
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{code}, {round}: {answer}");
        }
    }
}
