//! An upstream: sends requests and reads the answers.
//!
//! `upstream/pool` holds the connections to its addresses, `upstream/connection` opens one.

mod connection;
pub mod pool;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use smallvec::SmallVec;

use crate::network::endpoint::{Address, Endpoint};
use crate::network::proxy::Proxy;
use crate::network::tls::{self, ClientTls};
use crate::telemetry::Status;

use connection::{Connection, Opener};
use pool::{Lease, Lookup, Pool};

/// Maximum bytes kept of an answer, and read beyond them.
const ANSWER: usize = 64 * 1024;
const DISCARDED: usize = 4 << 20;

/// The HTTP version an exporter needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    /// HTTP/2 from the first byte, as gRPC requires.
    Http2,
    /// HTTP/1.1, or HTTP/2 if TLS negotiates it.
    Either,
}

impl Protocol {
    /// The ALPN protocols offered in a TLS handshake.
    pub(crate) fn alpn(self) -> &'static [&'static [u8]] {
        if self == Protocol::Http2 { &[b"h2"] } else { &[b"h2", b"http/1.1"] }
    }
}

/// Which addresses of a name get requests, as in gRPC's balancers of the same names.
pub enum Balance {
    /// All of them.
    RoundRobin,
    /// The first that connects.
    PickFirst,
    /// All addresses the look-up returns.
    Found(Lookup),
    /// The proxy chooses.
    Through(Proxy),
}

/// How often to ping a silent HTTP/2 connection, and how long to wait for the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeepAlive {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// Also ping while no request is in flight.
    pub(super) when_idle: bool,
}

pub struct Upstream {
    pub(super) endpoint: Endpoint,
    pool: Arc<Pool>,
    /// Whether it ever answered: before that, the address may be wrong.
    answered: AtomicBool,
}

/// An answer: head, body and trailers.
pub struct UpstreamAnswer {
    pub head: Parts,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
    /// Whether the whole body was read: it was not too long.
    pub(super) is_whole: bool,
}

/// A request body: pieces of memory, sent without copying.
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
    /// `tls` is `None` for plain text.
    pub fn new(
        endpoint: Endpoint,
        protocol: Protocol,
        tls: Option<ClientTls>,
        keep_alive: Option<KeepAlive>,
        balance: Balance,
    ) -> Upstream {
        let (lookup, proxy) = match (balance, &endpoint.address) {
            (Balance::PickFirst, _) | (_, Address::Unix(_)) => (None, None),
            (Balance::Through(proxy), _) => (None, Some(proxy)),
            (Balance::RoundRobin, address) => {
                let address = address.clone();
                let lookup: Lookup = Box::new(move || {
                    let address = address.clone();
                    Box::pin(async move { address.resolve().await })
                });
                (Some(lookup), None)
            }
            (Balance::Found(lookup), _) => (Some(lookup), None),
        };
        let tls = tls.map(|tls| tls::Client::new(tls, protocol.alpn()));
        let opener = Opener { endpoint: endpoint.clone(), protocol, tls, proxy, keep_alive };
        Upstream { endpoint, pool: Pool::new(opener, lookup), answered: AtomicBool::new(false) }
    }

    /// Sends one request and reads its answer.
    pub async fn exchange(&self, request: Request<Pieces>) -> Result<UpstreamAnswer, Status> {
        let mut lease = self.pool.lease().await?;
        let trial = lease.trial();
        let answer = match self.send(&mut lease, request).await {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        if let Some(trial) = trial {
            trial.ends(answer.is_ok());
        }
        let answer = answer.map_err(|error| self.broken(&error))?;
        self.answered.store(true, Relaxed);
        self.pool.give_back(lease);
        Ok(answer)
    }

    /// The same for an answer of any length: its body is passed on in pieces, while `take` wants more.
    pub(crate) async fn fetch(
        &self,
        request: Request<Pieces>,
        take: &mut (dyn FnMut(&Parts, &[u8]) -> bool + Send),
    ) -> Result<Parts, Status> {
        let mut lease = self.pool.lease().await?;
        let trial = lease.trial();
        let response = self.send(&mut lease, request).await;
        if let Some(trial) = trial {
            trial.ends(response.is_ok());
        }
        let (head, mut incoming) = response.map_err(|error| self.broken(&error))?.into_parts();
        self.answered.store(true, Relaxed);
        while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if frame.data_ref().is_some_and(|data| !take(&head, data)) {
                // The rest is not read, so the connection cannot be used again.
                return Ok(head);
            }
        }
        self.pool.give_back(lease);
        Ok(head)
    }

    async fn send(&self, lease: &mut Lease, mut request: Request<Pieces>) -> Result<Response<Incoming>, hyper::Error> {
        match &mut lease.connection {
            Connection::Shared(shared) => shared.sender.clone().send_request(request).await,
            Connection::Single(single) => {
                // A server expects a path, a proxy the whole URL (RFC 9112, section 3.2).
                let target = request.uri().path_and_query().filter(|_| !self.pool.opener.is_forwarded()).cloned();
                if let Some(target) = target {
                    *request.uri_mut() = Uri::from(target);
                }
                single.interim.count_for(&mut request);
                single.sender.send_request(request).await
            }
        }
    }

    /// The address labels for an exporter's metrics.
    pub(super) fn labels(&self) -> Vec<(&'static str, String)> {
        match &self.endpoint.address {
            Address::Tcp { host, port } => vec![("server_address", host.clone()), ("server_port", port.to_string())],
            Address::Unix(path) => vec![("server_address", path.display().to_string())],
        }
    }

    /// The status for a broken connection, with a likely cause if the upstream has never answered.
    fn broken(&self, error: &hyper::Error) -> Status {
        let text = describe(error);
        if self.answered.load(Relaxed) {
            return self.unavailable(&text);
        }
        let port = if self.pool.opener.protocol == Protocol::Http2 { "gRPC" } else { "HTTP" };
        let tls = if self.pool.opener.tls.is_none() { ", and does it want TLS" } else { "" };
        self.unavailable(&format!("{text} (is this the upstream's port for {port}{tls}?)"))
    }

    fn unavailable(&self, why: &str) -> Status {
        self.pool.opener.unavailable(why)
    }
}

/// A hyper error with its cause, which is more specific.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Reads an answer's body and trailers, up to a limit. A refusal stands even if its body is incomplete: many servers
/// close the connection right after it.
async fn read(response: Response<Incoming>) -> Result<UpstreamAnswer, hyper::Error> {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers, mut is_whole, mut discarded) = (BytesMut::new(), HeaderMap::new(), true, 0);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) if !head.status.is_success() => break,
            Err(error) => return Err(error),
        };
        match frame.into_data() {
            Ok(data) => {
                let kept = data.len().min(ANSWER - body.len());
                body.extend_from_slice(data.get(..kept).unwrap_or_default());
                // The rest is read for the trailers behind it.
                discarded += data.len() - kept;
                is_whole &= discarded == 0;
                if discarded > DISCARDED {
                    break;
                }
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(UpstreamAnswer { head, body: body.freeze(), trailers, is_whole })
}
