//! The load generator: a closed loop over a fixed number of connections, for a given time.
//!
//! gRPC runs on bare h2; HTTP/1.1 is written out by hand, since a request is one write and its answer one read.

use crate::coalesce::Coalesced;
use crate::generate::{Protocol, Shape, Template};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How hard to press.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    pub connections: usize,
    /// Requests in flight on each; HTTP/1.1 opens that many connections instead.
    pub in_flight: usize,
    pub time: Duration,
    /// Items a second over all connections; without it as many as are answered.
    pub rate: Option<f64>,
    /// Requests of each lane, where not the time alone ends it.
    pub requests: u64,
}

/// What came back.
#[derive(Clone, Default)]
pub struct Outcome {
    pub acknowledged: u64,
    pub refused: u64,
    /// Until the last answer was there.
    pub elapsed: Duration,
    pub latencies: Vec<Duration>,
    /// What the first refusal said.
    pub refusal: Option<String>,
    /// How the first connection that broke did so. Whatever else happens to a collector, this should not.
    pub broken: Option<String>,
}

/// What a client waits after a refusal; the SDKs wait far longer.
const PAUSE: Duration = Duration::from_millis(5);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends the templates in turn until the time is over, and waits for the last answers.
pub fn run(address: SocketAddr, shape: &Shape, templates: &Arc<Vec<Template>>, pressure: Pressure) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = Instant::now();
    let deadline = started + pressure.time;
    let mut outcome = runtime.block_on(async {
        let mut lanes = JoinSet::new();
        let lanes_in_all = (pressure.connections * pressure.in_flight) as f64;
        for connection in 0..pressure.connections {
            let first_lane = connection * pressure.in_flight;
            let lane = |index: usize| Lane {
                templates: templates.clone(),
                // The lanes start at different templates, so that no two of them send the same one side by side.
                next: (first_lane + index) * 7919 % templates.len(),
                deadline,
                left: pressure.requests,
                due: started,
                pause: pressure.rate.map(|rate| Duration::from_secs_f64(lanes_in_all * shape.items as f64 / rate)),
                outcome: Outcome::default(),
            };
            match shape.protocol {
                Protocol::Http => {
                    for index in 0..pressure.in_flight {
                        lanes.spawn(lane(index).http(address));
                    }
                }
                Protocol::Grpc => match connect_http2(address).await {
                    Ok(client) => {
                        for index in 0..pressure.in_flight {
                            lanes.spawn(lane(index).grpc(client.clone(), grpc_head(address, shape)));
                        }
                    }
                    Err(error) => {
                        lanes.spawn(std::future::ready(Outcome::failed(error)));
                    }
                },
            }
        }
        lanes.join_all().await.into_iter().fold(Outcome::default(), Outcome::and)
    });
    outcome.elapsed = started.elapsed();
    outcome.latencies.sort_unstable();
    outcome
}

impl Outcome {
    fn failed(error: Error) -> Self {
        Outcome { broken: Some(error.to_string()), ..Outcome::default() }
    }

    /// Both together; what comes later adds its time.
    pub fn and(mut self, other: Outcome) -> Self {
        self.elapsed += other.elapsed;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.latencies.extend(other.latencies);
        self.refusal = self.refusal.or(other.refusal);
        self.broken = self.broken.or(other.broken);
        self
    }

    pub fn percentile(&self, percent: usize) -> Duration {
        let index = self.latencies.len() * percent / 100;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// One request in flight after the other.
struct Lane {
    templates: Arc<Vec<Template>>,
    next: usize,
    deadline: Instant,
    /// How many requests are still to be sent.
    left: u64,
    /// When the next request is due, and how long it is from one to the next, where there is a rate.
    due: Instant,
    pause: Option<Duration>,
    outcome: Outcome,
}

impl Lane {
    async fn grpc(mut self, mut client: SendRequest<Bytes>, head: Request<()>) -> Outcome {
        while let Some(index) = self.turn().await {
            let sent = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, unary(&mut client, head.clone(), &self.templates[index])).await;
            if !self.note(index, sent, answer.unwrap_or_else(|_| Err("no answer".into()))).await {
                break;
            }
        }
        self.outcome
    }

    async fn http(mut self, address: SocketAddr) -> Outcome {
        let mut stream = match connect(address).await {
            Ok(stream) => stream,
            Err(error) => return Outcome::failed(error.into()),
        };
        let mut buffer = BytesMut::with_capacity(4096);
        while let Some(index) = self.turn().await {
            let sent = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, post(&mut stream, &mut buffer, &self.templates[index])).await;
            if !self.note(index, sent, answer.unwrap_or_else(|_| Err("no answer".into()))).await {
                break;
            }
        }
        self.outcome
    }

    async fn turn(&mut self) -> Option<usize> {
        if let Some(pause) = self.pause {
            tokio::time::sleep_until(self.due.into()).await;
            self.due += pause;
        }
        let index = self.next;
        self.next = (index + 1) % self.templates.len();
        self.left = self.left.checked_sub(1)?;
        (Instant::now() < self.deadline).then_some(index)
    }

    /// Books one answer: accepted, or refused with what was said. False when the connection is of no more use.
    async fn note(&mut self, index: usize, sent: Instant, answer: Result<Result<(), String>, Error>) -> bool {
        let items = self.templates[index].items;
        match answer {
            Ok(Ok(())) => {
                self.outcome.acknowledged += items;
                self.outcome.latencies.push(sent.elapsed());
            }
            Ok(Err(refusal)) => {
                self.outcome.refused += items;
                self.outcome.refusal.get_or_insert(refusal);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                self.outcome.broken.get_or_insert(error.to_string());
                return false;
            }
        }
        true
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect_http2(address: SocketAddr) -> Result<SendRequest<Bytes>, Error> {
    let io = Coalesced::new(connect(address).await?);
    let (client, mut connection) =
        h2::client::Builder::new().max_send_buffer_size(8 << 20).handshake(io.clone()).await?;
    tokio::spawn(std::future::poll_fn(move |context| {
        let polled = Pin::new(&mut connection).poll(context);
        match io.write_out(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            _ => polled.map_err(Error::from),
        }
    }));
    Ok(client)
}

fn grpc_head(address: SocketAddr, shape: &Shape) -> Request<()> {
    let mut head = Request::post(format!("http://{address}{}", shape.signal.grpc_path()))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if shape.gzip {
        head = head.header("grpc-encoding", "gzip");
    }
    head.body(()).expect("a valid head")
}

/// One unary call: `Err` within `Ok` is the status it was answered with.
async fn unary(
    client: &mut SendRequest<Bytes>,
    head: Request<()>,
    template: &Template,
) -> Result<Result<(), String>, Error> {
    std::future::poll_fn(|context| client.poll_ready(context)).await?;
    let (response, mut body) = client.send_request(head, false)?;
    let last = template.pieces.len() - 1;
    for (index, frame) in template.pieces.iter().enumerate() {
        body.send_data(frame.clone(), index == last)?;
    }
    let (head, mut body) = response.await?.into_parts();
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk?.len())?;
    }
    // An answer without a body carries its status in the head.
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    Ok(grpc_status(&trailers))
}

fn grpc_status(trailers: &HeaderMap) -> Result<(), String> {
    let field = |name| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("absent");
    match field("grpc-status") {
        "0" => Ok(()),
        status => Err(format!("grpc-status {status}: {}", field("grpc-message"))),
    }
}

async fn post(stream: &mut TcpStream, buffer: &mut BytesMut, template: &Template) -> Result<Result<(), String>, Error> {
    for piece in &template.pieces {
        stream.write_all(piece).await?;
    }
    let (status, length) = loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break (http_status(&buffer[..end])?, end + 4 + body_length(&buffer[..end])?);
        }
        more(stream, buffer).await?;
    };
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    let answer = if status == 200 { Ok(()) } else { Err(String::from_utf8_lossy(&buffer[..length]).into_owned()) };
    buffer.advance(length);
    Ok(answer)
}

async fn more(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed before the answer")),
        _ => Ok(()),
    }
}

/// The status of an answer's head.
pub fn http_status(head: &[u8]) -> Result<u16, Error> {
    let digits = head.get(9..12).ok_or("a cut-off status line")?;
    Ok(std::str::from_utf8(digits)?.parse()?)
}

fn body_length(head: &[u8]) -> Result<usize, Error> {
    let head = std::str::from_utf8(head)?;
    for line in head.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok(value.trim().parse()?);
        }
    }
    Err(format!("an answer without a content-length: {head}").into())
}
