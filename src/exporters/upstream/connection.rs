//! One connection to an upstream: how it is opened, and how long it is trusted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tonic::Code;

use crate::network::Stream;
use crate::network::coalesce::{Coalesced, Turns};
use crate::network::endpoint::{self, Endpoint};
use crate::network::interim::Interim;
use crate::network::proxy::Proxy;
use crate::network::tls;
use crate::telemetry::Status;

use super::{KeepAlive, Pieces, Protocol, describe};

/// Time limit for connecting, TLS included.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// After this many consecutive attempts without an answer, an HTTP/2 connection is replaced.
const PATIENCE: u32 = 2;

/// Opens connections to an upstream.
pub(super) struct Opener {
    pub(super) endpoint: Endpoint,
    pub(super) protocol: Protocol,
    pub(super) tls: Option<tls::Client>,
    pub(super) proxy: Option<Proxy>,
    pub(super) keep_alive: Option<KeepAlive>,
}

pub(super) enum Connection {
    Single(Single),
    Shared(Arc<Shared>),
}

/// An HTTP/1.1 connection, for one request at a time.
pub(super) struct Single {
    pub(super) sender: http1::SendRequest<Pieces>,
    pub(super) interim: Interim,
    pub(super) has_answered: bool,
}

/// An HTTP/2 connection, shared by concurrent requests. `unanswered` rises by one for each round of abandoned requests
/// and an answer resets it; at `patience` the connection takes no more requests, and it closes when the last one ends.
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<Pieces>,
    socket: Coalesced,
    has_answered: AtomicBool,
    /// Consecutive attempts abandoned without an answer.
    unanswered: AtomicU32,
    /// The limit of `unanswered`.
    patience: u32,
}

/// A request on a shared connection. If it is dropped before it ends, it counts against the connection. Requests that
/// wait at the same time count as one attempt.
pub(super) struct Trial {
    shared: Arc<Shared>,
    unanswered_before: u32,
    is_over: bool,
}

impl Trial {
    pub(super) fn new(shared: Arc<Shared>) -> Trial {
        let unanswered_before = shared.unanswered.load(Relaxed);
        Trial { shared, unanswered_before, is_over: false }
    }

    /// The request was answered, or failed.
    pub(super) fn ends(mut self, is_answered: bool) {
        self.is_over = true;
        if is_answered {
            self.shared.has_answered.store(true, Relaxed);
            self.shared.unanswered.store(0, Relaxed);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.is_over {
            let (before, after) = (self.unanswered_before, self.unanswered_before + 1);
            let _ = self.shared.unanswered.compare_exchange(before, after, Relaxed, Relaxed);
        }
    }
}

impl Shared {
    /// Whether it takes further requests: it is open, and its peer answered recently.
    pub(super) fn is_trusted(&self) -> bool {
        !self.sender.is_closed() && !self.is_silent()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.unanswered.load(Relaxed) >= self.patience
    }

    /// Whether it ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Relaxed)
    }
}

impl Drop for Shared {
    /// The last request has ended. A peer that stopped reading would otherwise keep the connection open.
    fn drop(&mut self) {
        if !self.is_trusted() {
            self.socket.abandon();
        }
    }
}

impl Opener {
    /// Connects to one address of the endpoint, or to the first that answers. `silences` connections before this one
    /// never answered: the peer may need more time rather than another connection.
    pub(super) async fn open(&self, address: Option<SocketAddr>, silences: u32) -> Result<Connection, Status> {
        let connect = tokio::time::timeout(CONNECT, self.connect(address));
        let through = self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {proxy}"));
        let late = |_| self.unavailable(&format!("no connection{through} within {CONNECT:?}"));
        let (stream, is_http2) = connect.await.map_err(late)??;
        let failed = |error: hyper::Error| self.unavailable(&describe(&error));
        if !is_http2 {
            let interim = Interim::default();
            let shaken = http1::handshake(TokioIo::new(interim.limit(stream))).await;
            let (sender, connection) = shaken.map_err(failed)?;
            #[expect(clippy::disallowed_methods, reason = "ends with the connection, which its sender holds")]
            tokio::spawn(connection);
            return Ok(Connection::Single(Single { sender, interim, has_answered: false }));
        }
        let socket = Coalesced::new(stream);
        let turns = Turns(socket.clone());
        let mut builder = http2::Builder::new(turns.clone());
        builder.timer(TokioTimer::new()).max_header_list_size(16 * 1024).max_send_buf_size(256 * 1024);
        builder.initial_stream_window_size(64 * 1024).initial_connection_window_size(1024 * 1024);
        if let Some(KeepAlive { interval, timeout, when_idle }) = self.keep_alive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(when_idle);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(socket.clone())).await.map_err(failed)?;
        turns.execute(connection);
        let (has_answered, unanswered) = (AtomicBool::new(false), AtomicU32::new(0));
        let patience = PATIENCE << silences.min(3);
        let shared = Shared { sender, socket, has_answered, unanswered, patience };
        Ok(Connection::Shared(Arc::new(shared)))
    }

    async fn connect(&self, address: Option<SocketAddr>) -> Result<(Stream, bool), Status> {
        let stream = match (&self.proxy, address) {
            (Some(proxy), _) if self.is_forwarded() => proxy.connect().await,
            (Some(proxy), _) => proxy.tunnel(&self.endpoint.address).await,
            (None, None) => endpoint::connect(&self.endpoint.address, CONNECT).await,
            (None, Some(address)) => endpoint::connect_to(&self.endpoint.address, address).await,
        };
        let stream = stream.map_err(|error| match self.proxy {
            Some(_) => self.unavailable(&error.to_string()),
            None => Status { code: Code::Unavailable, message: error.to_string() },
        })?;
        let Some(tls) = &self.tls else { return Ok((stream, self.protocol == Protocol::Http2)) };
        let stream = tls.secure(stream, self.endpoint.host()).await.map_err(|why| self.unavailable(&why))?;
        let is_http2 = self.protocol == Protocol::Http2 || stream.alpn() == Some(b"h2".as_slice());
        Ok((stream, is_http2))
    }

    /// Whether the proxy forwards each request, instead of opening a tunnel.
    pub(super) fn is_forwarded(&self) -> bool {
        self.proxy.is_some() && self.tls.is_none() && self.protocol == Protocol::Either
    }

    pub(super) fn unavailable(&self, why: &str) -> Status {
        Status { code: Code::Unavailable, message: format!("{}: {why}", self.endpoint.address) }
    }
}
