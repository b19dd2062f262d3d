//! Connections to an upstream: opened when they are needed, kept while they live, the name resolved anew each time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, Request, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use smallvec::SmallVec;

use crate::config::files;
use crate::network::Stream;
use crate::network::coalesce::{Coalesced, Turns};
use crate::network::endpoint::{self, Address, Endpoint};
use crate::network::tls::{self, ClientTls, Peer};
use crate::otlp::status::code;
use crate::telemetry::Status;

const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections that are kept beside those in use.
const IDLE: usize = 16;
/// How much of an answer is read.
const ANSWER: usize = 64 * 1024;

/// Which protocol the exporter needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    /// HTTP/2 from the first byte, as gRPC wants it.
    Http2,
    /// HTTP/1.1, or HTTP/2 where TLS negotiates it.
    Either,
}

pub struct Upstream {
    pub endpoint: Endpoint,
    protocol: Protocol,
    keep_alive: Option<(Duration, Duration)>,
    tls: Option<ClientTls>,
    tls_config: OnceLock<Arc<ClientConfig>>,
    http2: tokio::sync::Mutex<Option<http2::SendRequest<Pieces>>>,
    http1: Mutex<Vec<http1::SendRequest<Pieces>>>,
    /// Whether there ever was an answer: until then the address may be wrong.
    answered: AtomicBool,
}

/// A request body: pieces of memory, one after another, as they are.
pub struct Pieces {
    pieces: smallvec::IntoIter<[Bytes; 4]>,
    left: u64,
}

impl Pieces {
    pub fn new(pieces: SmallVec<[Bytes; 4]>) -> Pieces {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces { pieces: pieces.into_iter(), left }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.pieces.find(|piece| !piece.is_empty());
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Upstream {
    /// `tls` is `None` for plain text; `keep_alive` is how often to ask an HTTP/2 connection, and how long to wait.
    pub fn new(
        endpoint: Endpoint,
        protocol: Protocol,
        tls: Option<ClientTls>,
        keep_alive: Option<(Duration, Duration)>,
    ) -> Upstream {
        Upstream {
            endpoint,
            protocol,
            keep_alive,
            tls,
            tls_config: OnceLock::new(),
            http2: tokio::sync::Mutex::new(None),
            http1: Mutex::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// Sends one request and reads its answer: head, body and trailers.
    pub async fn exchange(&self, mut request: Request<Pieces>) -> Result<(Parts, Bytes, HeaderMap), Status> {
        let failed = |error: hyper::Error| self.broken(&error);
        match self.sender().await? {
            Sender::Http2(mut sender) => {
                let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
                let (bytes, trailers) = read(body).await.map_err(failed)?;
                self.answered.store(true, Relaxed);
                Ok((head, bytes, trailers))
            }
            Sender::Http1(mut sender) => {
                // A server is asked for a path (RFC 9112, section 3.2.1); only a proxy would be asked for the whole.
                if let Some(target) = request.uri().path_and_query().cloned() {
                    *request.uri_mut() = Uri::from(target);
                }
                let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
                let (bytes, trailers) = read(body).await.map_err(failed)?;
                self.answered.store(true, Relaxed);
                let mut idle = self.http1.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE {
                    idle.push(sender);
                }
                Ok((head, bytes, trailers))
            }
        }
    }

    async fn sender(&self) -> Result<Sender, Status> {
        loop {
            let Some(mut sender) = self.http1.lock().unwrap_or_else(PoisonError::into_inner).pop() else { break };
            if sender.ready().await.is_ok() {
                return Ok(Sender::Http1(sender));
            }
        }
        // Held while connecting, so that all requests of an HTTP/2 upstream share one connection.
        let mut shared = self.http2.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Sender::Http2(sender.clone()));
        }
        *shared = None;
        let (stream, is_http2) = tokio::time::timeout(CONNECT, self.connect())
            .await
            .map_err(|_| self.unavailable(&format!("no connection within {CONNECT:?}")))??;
        let failed = |error: hyper::Error| self.broken(&error);
        if !is_http2 {
            drop(shared);
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
            #[expect(clippy::disallowed_methods, reason = "ends with the connection, which its sender holds")]
            tokio::spawn(connection);
            return Ok(Sender::Http1(sender));
        }
        let socket = Coalesced::new(stream);
        let turns = Turns(socket.clone());
        let mut builder = http2::Builder::new(turns.clone());
        builder.timer(TokioTimer::new()).max_header_list_size(16 * 1024).max_send_buf_size(256 * 1024);
        builder.initial_stream_window_size(64 * 1024).initial_connection_window_size(1024 * 1024);
        if let Some((interval, timeout)) = self.keep_alive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(failed)?;
        turns.execute(connection);
        *shared = Some(sender.clone());
        Ok(Sender::Http2(sender))
    }

    async fn connect(&self) -> Result<(Stream, bool), Status> {
        let stream = endpoint::connect(&self.endpoint.address, CONNECT).await;
        let stream = stream.map_err(|error| Status { code: code::UNAVAILABLE, message: error.to_string() })?;
        let Some(tls) = &self.tls else { return Ok((stream, self.protocol == Protocol::Http2)) };
        let config = match self.tls_config.get() {
            Some(config) => config.clone(),
            None => {
                let alpn: &[&[u8]] = if self.protocol == Protocol::Http2 { &[b"h2"] } else { &[b"h2", b"http/1.1"] };
                let tls = tls.clone();
                let config = files::aside(move || tls::client_config(&tls, alpn)).await.flatten();
                let config =
                    config.map_err(|error| self.unavailable(&format!("failed to load TLS config: {error}")))?;
                self.tls_config.get_or_init(|| config).clone()
            }
        };
        let name = tls.server_name(self.endpoint.host()).map_err(|error| self.unavailable(&error))?;
        let stream = tls::connect(stream, config, name).await;
        let stream = stream.map_err(|error| self.unavailable(&tls::explain(&error, Peer::Server)))?;
        let is_http2 = self.protocol == Protocol::Http2 || stream.alpn() == Some(b"h2".as_slice());
        Ok((stream, is_http2))
    }

    /// The address labels of an exporter's metrics.
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        match &self.endpoint.address {
            Address::Tcp { host, port } => vec![("server_address", host.clone()), ("server_port", port.to_string())],
            Address::Unix(path) => vec![("server_address", path.display().to_string())],
        }
    }

    /// A connection that broke, and what it may mean that nothing was ever answered.
    fn broken(&self, error: &hyper::Error) -> Status {
        let text = describe(error);
        if self.answered.load(Relaxed) {
            return self.unavailable(&text);
        }
        let port = if self.protocol == Protocol::Http2 { "gRPC" } else { "HTTP" };
        let tls = if self.tls.is_none() { ", and does it want TLS" } else { "" };
        self.unavailable(&format!("{text} (is this the upstream's port for {port}{tls}?)"))
    }

    fn unavailable(&self, why: &str) -> Status {
        Status { code: code::UNAVAILABLE, message: format!("{}: {why}", self.endpoint.address) }
    }
}

enum Sender {
    Http1(http1::SendRequest<Pieces>),
    Http2(http2::SendRequest<Pieces>),
}

/// hyper's error with its cause, which says more than it does.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Reads an answer's body and trailers, up to a limit; what comes beyond it is not read.
async fn read(mut body: Incoming) -> Result<(Bytes, HeaderMap), hyper::Error> {
    let mut bytes = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) if bytes.len() + data.len() <= ANSWER => bytes.extend_from_slice(&data),
            Ok(_) => break,
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((bytes.freeze(), trailers))
}
