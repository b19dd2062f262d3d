//! One connection from its first byte to its last: TLS, HTTP/1.1 or HTTP/2, and the timeouts between requests.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderMap};
use ::http::{Method, Request, Response};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;

use crate::diagnostics::log;
use crate::network::listen::Accepted;
use crate::network::tls::{self, Peer};
use crate::network::{Stream, looks_like_tls};
use crate::telemetry::{Answer, Refusal};

use super::body::{Outgoing, Upload};
use super::config::STREAMS;
use super::socket::Socket;
use super::{Shared, grpc, http, request};
use crate::network::connections::{Busy, Entry, Pulse, Unsent};
use crate::network::frames::FRAME;

/// Time limit for each of: a request's head, the TLS handshake, the first byte.
const HEAD: Duration = Duration::from_secs(10);
/// Close an HTTP/1 connection without requests after this time.
const IDLE: Duration = Duration::from_secs(180);
/// Interval of HTTP/2 pings, and time limit for the answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// Close the connection if the client reads nothing for this long while answers are pending.
const UNREAD: Duration = Duration::from_secs(30);

/// At shutdown, close a connection without requests if nothing arrives for this time: an HTTP/2 client may never react.
const LULL: Duration = Duration::from_millis(500);

const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const HEADER_LIST: u32 = 16 * 1024;
/// Maximum lines of an HTTP/1 head: proxies add lines. hyper makes room for as many with each request.
const HEADER_LINES: usize = 320;
const RESETS: usize = 20;
/// Streams over the limit that a client may open before it learns of the limit; after this many the connection ends.
const REFUSED: usize = 128;

pub(super) async fn serve(
    accepted: Accepted,
    entry: Entry,
    tls: Option<Arc<tls::Server>>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let pulse = entry.pulse.clone();
    let (stream_stop, served) = (stop.clone(), shared.clone());
    let work = async {
        let stream = accepted().ok()?;
        let prepared = tokio::time::timeout(HEAD, prepare(stream, tls, &served, pulse.clone())).await;
        let (socket, is_http2) = prepared.ok()??;
        run(socket, is_http2, &served, pulse.clone(), stream_stop).await;
        Some(())
    };
    tokio::select! {
        _ = work => {}
        () = pulse.close.notified() => {}
        // Before the first request there is nothing to finish.
        () = stopped_before_first_request(&mut stop, &pulse) => {}
    }
}

/// Returns when the receiver stops, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.map(drop);
}

async fn stopped_before_first_request(stop: &mut watch::Receiver<bool>, pulse: &Pulse) {
    stopped(stop).await;
    if !pulse.is_new() {
        std::future::pending::<()>().await;
    }
}

/// Performs the handshake and detects the protocol from the first bytes.
async fn prepare(
    stream: Stream,
    tls: Option<Arc<tls::Server>>,
    shared: &Shared,
    pulse: Arc<Pulse>,
) -> Option<(Socket<Stream>, bool)> {
    let is_tls = tls.is_some();
    let stream = match tls {
        None => stream,
        Some(server) => match tls::accept(stream, &server).await {
            Ok(stream) => stream,
            Err(error) => {
                let why = tls::explain(&error, Peer::Client);
                if tls::is_plaintext(&error) {
                    Shared::tell_once(&shared.said.plain_on_tls_port, || &why);
                }
                tracing::info!(target: log::DETAIL, %why, "the TLS handshake failed");
                return None;
            }
        },
    };
    let mut socket = Socket::new(stream, pulse);
    let is_http2 = socket.speaks_http2().await.ok()?;
    if is_http2 {
        socket.join_frames(&shared.budget);
    }
    if !is_tls && looks_like_tls(socket.said()) {
        Shared::tell_once(&shared.said.tls_on_plain_port, || tls::CLIENT_SPEAKS_TLS);
        return None;
    }
    Some((socket, is_http2))
}

async fn run(
    socket: Socket<Stream>,
    is_http2: bool,
    shared: &Arc<Shared>,
    pulse: Arc<Pulse>,
    stop: watch::Receiver<bool>,
) {
    let io = TokioIo::new(socket);
    // Boxed when it runs: a stream uses little memory before, and again while its answer waits to be read.
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, pulse, busy) = (shared.clone(), pulse.clone(), Busy::new(pulse.clone()));
        let admitted = match request::cost(&shared, &request) {
            Ok(cost) => Ok((request, cost)),
            Err(refusal) => Err(turned_away(request, &refusal, is_http2, pulse.clone())),
        };
        async move {
            let answer = match admitted {
                Ok((request, cost)) => {
                    let answer = Box::pin(async {
                        let _cost = cost;
                        let (request, mut body) = Upload::of(request, pulse);
                        let mut answer = answer(&shared, &request, &mut body).await;
                        body.linger();
                        // Over HTTP/1, hyper leaves out the body itself.
                        if is_http2 && request.method() == Method::HEAD {
                            *answer.body_mut() = Outgoing::Done;
                        }
                        answer
                    });
                    answer.await
                }
                Err(answer) => answer,
            };
            Ok::<_, Infallible>(answer.map(|answer| Sending { answer, _unsent: busy.answered() }))
        }
    });
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let streams = shared.grpc.as_ref().map_or(STREAMS, |grpc| grpc.max_concurrent_streams);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(streams)
            .max_frame_size(FRAME as u32)
            .max_header_list_size(HEADER_LIST)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(REFUSED)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        let connection = pin!(builder.serve_connection(io, service));
        let idle = shared.grpc.as_ref().and_then(|grpc| grpc.max_connection_idle);
        supervise(connection, |connection| connection.graceful_shutdown(), shared, &pulse, (None, idle), stop).await;
    } else {
        let mut builder = http1::Builder::new();
        let keep_alive = shared.http.as_ref().is_none_or(|http| http.keep_alive);
        builder
            .keep_alive(keep_alive)
            .half_close(false)
            .max_header_size(HEADER_LIST as usize)
            .max_headers(HEADER_LINES)
            .header_read_timeout(None)
            .max_buf_size(64 * 1024);
        let connection = pin!(builder.serve_connection(io, service));
        let head = shared.http.as_ref().and_then(|http| http.read_header_timeout).unwrap_or(HEAD);
        let idle = shared.http.as_ref().and_then(|http| http.idle_timeout).unwrap_or(IDLE);
        let patience = (Some(head), Some(idle));
        supervise(connection, |connection| connection.graceful_shutdown(), shared, &pulse, patience, stop).await;
    }
}

/// Drives a connection, and ends it when it stalls, idles too long, grows too old, or the receiver stops. `patience`
/// holds the limits for an incomplete head and for the next head to begin. HTTP/2 has no such head: any byte is a sign
/// of life.
async fn supervise<C, E>(
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    shared: &Shared,
    pulse: &Pulse,
    (head, idle): (Option<Duration>, Option<Duration>),
    mut stop: watch::Receiver<bool>,
) where
    C: Future<Output = Result<(), E>>,
{
    let age = shared.grpc.as_ref().and_then(|grpc| grpc.max_connection_age);
    let grace = shared.grpc.as_ref().and_then(|grpc| grpc.max_connection_age_grace);
    let shortest = head.into_iter().chain(idle).fold(HEAD, Duration::min);
    let mut tick = tokio::time::interval(shortest.max(Duration::from_millis(10)) / 2);
    let mut old = pin!(async {
        match age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    });
    let (mut stopping, mut aged) = (false, false);
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = tick.tick() => {
                let is_slow = head.is_some_and(|head| pulse.head_open() > head);
                if is_slow || idle.is_some_and(|idle| pulse.idle() > idle) || pulse.unread() > UNREAD {
                    return;
                }
            }
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                finish(connection.as_mut());
            }
            () = lull(pulse), if stopping => return,
            () = &mut old, if !aged => {
                aged = true;
                finish(connection.as_mut());
                if let Some(grace) = grace {
                    let _ = tokio::time::timeout(grace, connection.as_mut()).await;
                    return;
                }
            }
        }
    }
}

async fn lull(pulse: &Pulse) {
    loop {
        tokio::time::sleep(LULL).await;
        if pulse.idle() >= LULL {
            return;
        }
    }
}

/// An answer until it is sent.
struct Sending {
    answer: Outgoing,
    _unsent: Unsent,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

/// gRPC is recognized by its content type; everything else is HTTP.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The answer when there is no memory for a head. It ends an HTTP/2 stream, which then holds no memory; its body is not
/// read.
fn turned_away(request: Request<Incoming>, refusal: &Refusal, is_http2: bool, pulse: Arc<Pulse>) -> Response<Outgoing> {
    let (request, body) = Upload::of(request, pulse);
    if !is_http2 {
        body.linger();
    }
    let answer = refusal.answer();
    if is_grpc(request.headers()) { grpc::failure(&answer) } else { http::failure(&answer, request.headers()) }
}

async fn answer(shared: &Shared, request: &Request<()>, body: &mut Upload) -> Response<Outgoing> {
    if let Some(why) = http::ambiguous(request) {
        return http::failure(&Answer::ambiguous(why), request.headers());
    }
    match (is_grpc(request.headers()), &shared.http) {
        (true, _) if shared.grpc.is_some() => grpc::handle(shared, request, body).await,
        (true, _) => grpc::failure(&Answer::without_protocol("grpc")),
        (false, Some(http)) => http::handle(shared, http, request, body).await,
        (false, None) => http::failure(&Answer::without_protocol("http"), request.headers()),
    }
}
