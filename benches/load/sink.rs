//! The upstream: takes gRPC and HTTP/1.1 on one port, counts what arrives and answers OK at once.
//!
//! It counts by skipping over the wire form, so it stays far cheaper than what it measures. It runs on a thread of its own.

use crate::generate::Signal;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[derive(Default)]
pub struct Counts {
    pub items: AtomicU64,
    pub requests: AtomicU64,
    /// Message bodies as they came, compressed or not, without HTTP's own bytes.
    pub body_bytes: AtomicU64,
    /// Requests that could not be read: never a good sign.
    pub malformed: AtomicU64,
}

/// A running sink; it ends when this is dropped.
pub struct Sink {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    _stop: oneshot::Sender<()>,
}

impl Sink {
    pub fn start() -> io::Result<Self> {
        Sink::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel();
        let accepting = accept(listener, counts.clone());
        std::thread::Builder::new().name("sink".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Sink { address, counts, _stop: stop })
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    while let Ok((stream, _)) = listener.accept().await {
        let counts = counts.clone();
        tokio::spawn(async move {
            // A peer that goes away in the middle is its own business: what did not arrive is missing in the counts.
            let _ = connection(stream, counts).await;
        });
    }
}

async fn connection(stream: TcpStream, counts: Arc<Counts>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let mut first = [0; 3];
    while stream.peek(&mut first).await? < first.len() {
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" {
        return Ok(http2(stream, counts).await?);
    }
    let service = hyper::service::service_fn(move |request| http1(request, counts.clone()));
    let io = hyper_util::rt::TokioIo::new(stream);
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await?)
}

/// gRPC on bare h2. The windows are wide so that the sink is never what a collector waits for.
async fn http2(stream: TcpStream, counts: Arc<Counts>) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(incoming) = connection.accept().await {
        let (request, respond) = incoming?;
        let counts = counts.clone();
        tokio::spawn(async move {
            let _ = grpc(request, respond, counts).await;
        });
    }
    Ok(())
}

async fn grpc(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    counts: Arc<Counts>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        if message.is_empty() {
            message.reserve_exact(grpc_length(&chunk).unwrap_or(chunk.len()));
        }
        message.extend_from_slice(&chunk);
    }
    let compressed = message.first() == Some(&1);
    let encoding = head.headers.get("grpc-encoding").filter(|_| compressed);
    counts.add(head.uri.path(), encoding, message.get(5..).unwrap_or_default());

    let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc").body(()).expect("a valid head");
    let mut send = respond.send_response(response, false)?;
    send.send_data(Bytes::from_static(&[0; 5]), false)?;
    let trailers =
        HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    send.send_trailers(trailers)
}

/// The length of the whole message, from its five-byte prefix.
fn grpc_length(chunk: &[u8]) -> Option<usize> {
    let length = chunk.get(1..5)?.try_into().ok()?;
    Some(5 + u32::from_be_bytes(length) as usize)
}

async fn http1(request: Request<Incoming>, counts: Arc<Counts>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    counts.add(head.uri.path(), head.headers.get(header::CONTENT_ENCODING), &body);
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Empty::new())
        .expect("a valid head"))
}

impl Counts {
    fn add(&self, path: &str, encoding: Option<&HeaderValue>, body: &[u8]) {
        let items = Signal::of_path(path).and_then(|signal| match encoding.map(HeaderValue::as_bytes) {
            None | Some(b"identity") => items(signal, body),
            Some(encoding) => items(signal, &inflate(encoding, body)?),
        });
        self.requests.fetch_add(1, Relaxed);
        self.body_bytes.fetch_add(body.len() as u64, Relaxed);
        match items {
            Some(items) => self.items.fetch_add(items, Relaxed),
            None => self.malformed.fetch_add(1, Relaxed),
        };
    }
}

fn inflate(encoding: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(body.len() * 8);
    match encoding {
        b"gzip" => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut plain).ok()?,
        b"zstd" => zstd::stream::copy_decode(body, &mut plain).map(|()| plain.len()).ok()?,
        _ => return None,
    };
    Some(plain)
}

/// Counts log records, spans or data points. `None` when the bytes are not protobuf.
pub fn items(signal: Signal, request: &[u8]) -> Option<u64> {
    let mut count = 0;
    // Resource, scope, then the record: fields 1, 2 and 2 in all three signals.
    each(request, |number, resource| {
        if number != 1 {
            return Some(());
        }
        each(resource, |number, scope| {
            if number != 2 {
                return Some(());
            }
            each(scope, |number, record| {
                if number == 2 {
                    count += if signal == Signal::Metrics { data_points(record)? } else { 1 };
                }
                Some(())
            })
        })
    })?;
    Some(count)
}

fn data_points(metric: &[u8]) -> Option<u64> {
    let mut count = 0;
    each(metric, |number, data| {
        // gauge, sum, histogram, exponential histogram, summary: the points are field 1 of each.
        if !matches!(number, 5 | 7 | 9 | 10 | 11) {
            return Some(());
        }
        each(data, |number, _| {
            count += u64::from(number == 1);
            Some(())
        })
    })?;
    Some(count)
}

/// Calls `visit` with each length-delimited field of a message and passes over the others.
#[inline]
fn each<'a>(mut message: &'a [u8], mut visit: impl FnMut(u64, &'a [u8]) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let (tag, rest) = varint(message)?;
        message = match tag & 7 {
            0 => varint(rest)?.1,
            1 => rest.get(8..)?,
            2 => {
                let (length, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                visit(tag >> 3, value)?;
                rest
            }
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(())
}

#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
