//! Connections to an upstream: everything arrives whatever its peer reads when, and none is trusted for ever.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use misaki::face::exporters::Pieces;
use misaki::face::network::tls::{self, Identity, Pem, Server, ServerTls, Versions, client_config, server_config};
use misaki::face::network::{Coalesced, Stream, Turns};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::harness::*;
use super::tls::{Authority, client};

/// Numbers that look random (splitmix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A stream that reads by random amounts at random times.
struct Moody {
    stream: Stream,
    random: Random,
    pausing: Option<Pin<Box<tokio::time::Sleep>>>,
    /// One read of so many is preceded by a pause.
    calm: u64,
}

impl AsyncRead for Moody {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        if this.pausing.is_none() && this.random.below(this.calm) == 0 {
            let pause = Duration::from_micros(this.random.below(6000));
            this.pausing = Some(Box::pin(tokio::time::sleep(pause)));
        }
        if let Some(pausing) = &mut this.pausing {
            ready!(pausing.as_mut().poll(context));
            this.pausing = None;
        }
        let most = this.random.pick(&[9, 700, 5_000, 60_000]).min(buffer.remaining());
        let mut part = buffer.take(most);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        let count = part.filled().len();
        // What `part` has filled is in the same memory, behind what `buffer` had filled.
        let filled = part.filled().to_vec();
        buffer.put_slice(&filled[..count]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Moody {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Two ends of a TCP connection whose buffers are small.
async fn pair(random: &mut Random) -> (Stream, Stream) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.set_recv_buffer_size(random.pick(&[2_000, 16_000, 100_000])).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(1).unwrap();
    let near = socket();
    near.set_send_buffer_size(random.pick(&[2_000, 16_000, 100_000])).unwrap();
    near.connect(&listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let stream = |socket: Socket| -> Stream {
        socket.set_nonblocking(true).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        Box::new(TcpStream::from_std(socket.into()).unwrap())
    };
    (stream(near), stream(far))
}

/// An HTTP/2 server with these windows; says how many bytes of bodies it got.
async fn receive(stream: Moody, window: u32) -> u64 {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(window);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let mut bodies = JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        bodies.spawn(async move {
            let (mut body, mut count) = (request.into_body(), 0);
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                count += data.len() as u64;
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            respond.send_response(Response::new(()), true).unwrap();
            count
        });
    }
    bodies.join_all().await.into_iter().sum()
}

struct Secure {
    server: Arc<Server>,
    client: Arc<rustls::ClientConfig>,
}

async fn everything_arrives(seed: u64, secure: Option<Arc<Secure>>) {
    let mut random = Random(seed);
    let (mut near, mut far) = pair(&mut random).await;
    if let Some(secure) = secure {
        let name = client(None).server_name("localhost").unwrap();
        let accepting = tls::accept(far, &secure.server);
        let (connected, accepted) = tokio::join!(tls::connect(near, secure.client.clone(), name), accepting);
        (near, far) = (connected.unwrap(), accepted.unwrap());
    }
    let calm = random.pick(&[2, 10, 50]);
    let far = Moody { stream: far, random: random.clone(), pausing: None, calm };
    // The windows of the Go collector, df_engine, this test's worst case, Envoy.
    let window = random.pick(&[65_535, 1 << 20, 16 << 20, 1 << 28]);
    let mut serving = JoinSet::new();
    serving.spawn(receive(far, window));

    let socket = Coalesced::new(near);
    let turns = Turns(socket.clone());
    let mut builder = hyper::client::conn::http2::Builder::new(turns.clone());
    builder.timer(TokioTimer::new()).max_send_buf_size(256 * 1024);
    let (sender, connection) = builder.handshake::<_, Pieces>(TokioIo::new(socket)).await.unwrap();
    turns.execute(connection);
    let (mut requests, mut sent) = (JoinSet::new(), 0);
    for _ in 0..1 + random.below(10) {
        let lengths: Vec<usize> = (0..1 + random.below(4)).map(|_| random.below(80_000) as usize).collect();
        sent += lengths.iter().sum::<usize>() as u64;
        let pieces = lengths.into_iter().map(|length| Bytes::from(vec![7; length])).collect();
        let (mut sender, wait) = (sender.clone(), Duration::from_micros(random.below(10_000)));
        requests.spawn(async move {
            tokio::time::sleep(wait).await;
            let request = Request::post("http://localhost/").body(Pieces::new(pieces)).unwrap();
            sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        });
    }
    drop(sender);
    let whole = async { (requests.join_all().await, serving.join_all().await) };
    let arrived = tokio::time::timeout(Duration::from_secs(15), whole).await;
    let (_, arrived) = arrived.unwrap_or_else(|_| panic!("seed {seed}: the connection stands still"));
    assert_eq!(arrived, [sent], "seed {seed}");
}

/// A connection once stood still for ever: the task of a request's body polled the socket for writing, and took the wake-up of the
/// connection's task along when it ended.
#[tokio::test]
async fn everything_arrives_whatever_the_peer_reads_when() {
    let seeds: u64 = if std::env::var_os("MISAKI_FULL").is_some() { 1000 } else { 60 };
    let directory = tempfile::tempdir().unwrap();
    let (server, authority) = secured(directory.path(), &[b"h2"]);
    let secure = Arc::new(Secure { server, client: client_config(&client(authority.ca()), &[b"h2"]).unwrap() });
    let mut running = JoinSet::new();
    for seed in 0..seeds {
        if running.len() == 20 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(everything_arrives(seed, Some(secure.clone()).filter(|_| seed % 4 == 0)));
    }
    running.join_all().await;
}

pub fn secured(directory: &Path, alpn: &[&[u8]]) -> (Arc<Server>, Authority) {
    let authority = Authority::new();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    authority.write(&cert, &key);
    let (cert, key) = (Pem::File { setting: "cert_file", path: cert }, Pem::File { setting: "key_file", path: key });
    let identity = Identity { cert, key, reload_interval: Duration::ZERO };
    let (client_ca, client_ca_reload) = (None, Duration::ZERO);
    let tls = ServerTls { identity, client_ca, client_ca_reload, versions: Versions::default() };
    (server_config(&tls, alpn).unwrap(), authority)
}

/// Stands before an upstream, and can fall silent: connections that are open then stay open, and nothing passes any more.
struct Proxy {
    address: SocketAddr,
    silenced: watch::Sender<usize>,
    connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Proxy {
    async fn before(upstream: SocketAddr, server: Option<Arc<Server>>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silenced, connections) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        let (mut serving, quiet, count) = (JoinSet::new(), silenced.subscribe(), connections.clone());
        serving.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (mut quiet, server) = (quiet.clone(), server.clone());
                let number = count.fetch_add(1, Relaxed);
                passing.spawn(async move {
                    let mut near: Stream = Box::new(near);
                    if let Some(server) = server {
                        near = tls::accept(near, &server).await.unwrap();
                    }
                    let mut far = TcpStream::connect(upstream).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = async { drop(quiet.wait_for(|silenced| *silenced > number).await) } => std::future::pending().await,
                    }
                });
            }
        });
        Proxy { address, silenced, connections, _serving: serving }
    }

    /// All connections so far fall silent.
    fn fall_silent(&self) -> usize {
        let count = self.connections.load(Relaxed);
        self.silenced.send_replace(count);
        count
    }
}

/// `settings` of an exporter whose connection falls silent while it is idle: what comes then is delivered on a new one.
async fn silence_is_noticed(exporter: &str, settings: &str, is_secure: bool) {
    let directory = tempfile::tempdir().unwrap();
    let (server, authority) = secured(directory.path(), &[b"h2"]);
    let Some(Pem::Inline { text, .. }) = authority.ca() else { panic!("it is inline") };
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, text.as_bytes()).unwrap();
    let upstream = Upstream::start().await;
    let proxy = Proxy::before(upstream.address, is_secure.then_some(server)).await;
    let (scheme, tls) = match is_secure {
        true => ("https", format!("{{insecure: false, ca_file: {}, server_name_override: localhost}}", ca.display())),
        false => ("http", "{insecure: true}".to_owned()),
    };
    let address = proxy.address;
    let changes = format!(
        "{{exporters: {{{exporter}: {{endpoint: '{scheme}://{address}', tls: {tls}, {settings}}}}}, \
         service: {{pipelines: {{logs: {{exporters: [{exporter}]}}}}}}}}"
    );
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    assert!(misaki.send(&["before"]).await.ok);
    misaki.settle().await;
    let silent = proxy.fall_silent();
    assert!(misaki.send(&["after"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["before", "after"]);
    assert_eq!(proxy.connections.load(Relaxed), silent + 1, "one connection takes the place of one");
    misaki.finish().await;
}

#[tokio::test]
async fn a_connection_without_answers_is_replaced() {
    for (exporter, is_secure) in [("otlp", false), ("otlp", true), ("otlp_http", true), ("otlp_http", false)] {
        silence_is_noticed(exporter, "timeout: 300ms", is_secure).await;
    }
}

/// Long before the request itself is given up.
#[tokio::test]
async fn a_ping_without_an_answer_ends_a_connection() {
    let pings = "timeout: 60s, http2_read_idle_timeout: 200ms, http2_ping_timeout: 200ms";
    silence_is_noticed("otlp_http", pings, true).await;
    silence_is_noticed("otlp", "timeout: 60s, keepalive: {time: 200ms, timeout: 200ms}", false).await;
}

/// An idle connection is looked after, too: here it is replaced before anything is sent on it.
#[tokio::test]
async fn an_idle_connection_is_pinged_where_that_is_wanted() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::before(upstream.address, None).await;
    let keepalive = "keepalive: {time: 100ms, timeout: 100ms, permit_without_stream: true}, \
                     retry_on_failure: {enabled: false}";
    let changes = format!("{{exporters: {{otlp: {{endpoint: '{}', timeout: 60s, {keepalive}}}}}}}", proxy.address);
    let mut misaki = Misaki::start(&changes, &[&upstream]).await;
    assert!(misaki.send(&["before"]).await.ok);
    misaki.settle().await;
    proxy.fall_silent();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(misaki.send(&["after"]).await.ok);
    misaki.settle().await;
    assert_eq!(upstream.kept(), ["before", "after"]);
    misaki.finish().await;
}

/// In order, that is: by GOAWAY, or by closing an idle connection.
#[tokio::test]
async fn an_upstream_that_ends_its_connections_costs_no_attempt() {
    for exporter in ["otlp", "otlp_http"] {
        let upstream = Upstream::start().await;
        let changes = format!(
            "{{exporters: {{{exporter}: {{retry_on_failure: {{enabled: false}}}}}}, \
             service: {{pipelines: {{logs: {{exporters: [{exporter}]}}}}}}}}"
        );
        let mut misaki = Misaki::start(&changes, &[&upstream]).await;
        for round in 0..20 {
            assert!(misaki.send(&[&format!("{exporter} {round}")]).await.ok);
            misaki.settle().await;
            upstream.end_connections();
            // What is sent on an HTTP/1.1 connection while it is being closed is lost, as far as anyone can tell.
            if round % 2 == 0 || exporter == "otlp_http" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert_eq!(upstream.kept().len(), 20, "{}", misaki.line(exporter));
        misaki.finish().await;
    }
}
