//! Reads a request's body within the size limit, the memory budget and a minimum speed.
//!
//! Memory is taken from the budget as bytes arrive, so a client that only announces a body holds none. A request never
//! waits for memory while it holds some: if none is free, it is refused and gives back what it has.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::EXPECT;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::otlp::inflate::{Coding, InflateError, Inflater};
use crate::telemetry::{Answer, Budget, Charge, Reason, Refusal, Share};

use crate::network::connections::{Busy, Pulse, Uploading};

/// A body may take this long whatever its size; after that it needs at least this many bytes per second…
const PATIENCE: (Duration, u64) = (Duration::from_secs(5), 1024);
/// …but only this long when memory is short, and with a higher minimum speed.
const LITTLE_PATIENCE: (Duration, u64) = (Duration::from_secs(1), 1 << 20);
/// How often the speed of a body is checked.
const LOOK: Duration = Duration::from_millis(250);
/// The piece size of inflating, and the output after which it yields to other requests. A byte of input may inflate to
/// as much as many of these.
const PIECE: usize = 4 << 10;
const AT_ONCE: usize = 256 << 10;
const INPUT_WEIGHS: usize = 16;
/// How much, and how long, of an already answered body is read.
const LINGER_BYTES: usize = 32 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// An incoming body, and whether more of it is expected.
pub(super) struct Upload {
    incoming: Incoming,
    is_coming: bool,
    uploading: Option<Uploading>,
    pulse: Arc<Pulse>,
}

impl Upload {
    /// A client that sent `Expect: 100-continue` waits for our go-ahead before it sends the body.
    pub(super) fn of(request: Request<Incoming>, pulse: Arc<Pulse>) -> (Request<()>, Upload) {
        let (head, incoming) = request.into_parts();
        let is_coming = !incoming.is_end_stream() && !head.headers.contains_key(EXPECT);
        let uploading = (!incoming.is_end_stream()).then(|| Uploading::new(pulse.clone()));
        (Request::from_parts(head, ()), Upload { incoming, is_coming, uploading, pulse })
    }

    /// The sender's address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.pulse.peer
    }

    fn poll(&mut self, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        self.is_coming = matches!(frame, Some(Ok(_)));
        self.uploading.take_if(|_| !self.is_coming);
        if let Some(Ok(frame)) = &frame
            && frame.data_ref().is_some_and(|data| !data.is_empty())
        {
            self.pulse.progress();
        }
        Poll::Ready(frame)
    }

    /// Discards the rest of the body in the background, within limits. If the connection is closed or the stream reset
    /// too early, a client that writes its whole request before it reads would lose the answer. A later reset signals
    /// no error (RFC 9113, 8.1).
    pub(super) fn linger(mut self) {
        if !self.is_coming {
            return;
        }
        let busy = Busy::new(self.pulse.clone());
        let rest = async move {
            let _busy = busy;
            let mut left = LINGER_BYTES;
            while let (1.., Some(Ok(frame))) = (left, std::future::poll_fn(|context| self.poll(context)).await) {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its connection, or soon")]
        tokio::spawn(tokio::time::timeout(LINGER, rest));
    }
}

/// A body being read.
pub(super) struct Reader<'a> {
    body: &'a mut Upload,
    budget: Arc<Budget>,
    started: Instant,
    received: u64,
    limit: usize,
    most_time: Option<Duration>,
}

/// A message in memory with its charge.
pub(crate) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) charge: Charge,
    inflater: Option<Inflater>,
    /// Output since it last yielded.
    worked: usize,
}

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    Refused(Refusal),
    /// The transport failed.
    Failed(Answer),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Unread {
        Unread::Refused(refusal)
    }
}

impl From<Answer> for Unread {
    fn from(answer: Answer) -> Unread {
        Unread::Failed(answer)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        body: &'a mut Upload,
        budget: &Arc<Budget>,
        limit: usize,
        most_time: Option<Duration>,
    ) -> Reader<'a> {
        Reader { body, budget: budget.clone(), started: Instant::now(), received: 0, limit, most_time }
    }

    fn too_large(&self) -> Refusal {
        Refusal::TooLarge { limit: self.limit as u64, unit: "bytes" }
    }

    /// The next piece of the body, `None` at its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Unread> {
        loop {
            // Data already received needs no timer.
            let there = std::future::poll_fn(|context| Poll::Ready(self.body.poll(context)));
            let frame = match there.await {
                Poll::Ready(frame) => frame,
                Poll::Pending => self.wait().await?,
            };
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Answer::broken_off().into()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Waits for the next frame while the body is fast enough.
    async fn wait(&mut self) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Unread> {
        loop {
            let is_short = self.budget.is_short(Share::Ingest);
            let (grace, bytes_per_second) = if is_short { LITTLE_PATIENCE } else { PATIENCE };
            let brought = Duration::from_millis(self.received.saturating_mul(1000) / bytes_per_second);
            let most = self.most_time.unwrap_or(Duration::MAX).min(grace + brought);
            let left = most.saturating_sub(self.started.elapsed());
            let frame = std::future::poll_fn(|context| self.body.poll(context));
            match tokio::time::timeout(left.min(LOOK), frame).await {
                Ok(frame) => return Ok(frame),
                Err(_) if left > LOOK => {}
                Err(_) if is_short => return Err(Refusal::busy(Reason::MemoryFull).into()),
                Err(_) => return Err(Answer::too_slow().into()),
            }
        }
    }

    /// Reads the whole body as one message.
    pub(super) async fn read_all(mut self, coding: Coding) -> Result<Message, Unread> {
        let length = self.body.incoming.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if length.is_some_and(|length| length > self.limit) {
            return Err(self.too_large().into());
        }
        let mut next = self.next().await?;
        let mut message = Message::new(&self.budget, coding, self.limit)?;
        while let Some(data) = next {
            if self.received > self.limit as u64 {
                return Err(self.too_large().into());
            }
            message.take(&data, length).await?;
            next = self.next().await?;
        }
        Ok(message.finish()?)
    }

    /// Reads one gRPC message: a flag, a four-byte length, and the message (gRPC over HTTP/2,
    /// "Length-Prefixed-Message").
    pub(super) async fn read_grpc(mut self, coding: Coding) -> Result<Message, Unread> {
        let malformed = |why: &str| Unread::Refused(Refusal::Malformed(why.to_owned()));
        let mut head = [0u8; 5];
        let mut filled = 0;
        let mut data = Bytes::new();
        while filled < head.len() {
            if data.is_empty() {
                data = self.next().await?.ok_or_else(|| malformed("the request holds no whole message"))?;
            }
            let count = data.len().min(head.len() - filled);
            data.copy_to_slice(head.get_mut(filled..filled + count).unwrap_or_default());
            filled += count;
        }
        let [flag, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > self.limit {
            return Err(self.too_large().into());
        }
        let compressed = match flag {
            0 => false,
            1 if coding != Coding::Identity => true,
            1 => return Err(Answer::internal("a compressed message without grpc-encoding").into()),
            _ => return Err(Answer::internal("an unknown flag before the message").into()),
        };
        let coding = if compressed { coding } else { Coding::Identity };
        let mut message = Message::new(&self.budget, coding, self.limit)?;
        let mut left = length;
        loop {
            if data.len() > left {
                return Err(malformed("more than one message in a unary request"));
            }
            left -= data.len();
            message.take(&data, Some(length)).await?;
            match self.next().await? {
                Some(more) => data = more,
                None => break,
            }
        }
        if left > 0 {
            return Err(malformed("the message ends before its length"));
        }
        Ok(message.finish()?)
    }
}

impl Message {
    fn new(budget: &Arc<Budget>, coding: Coding, limit: usize) -> Result<Message, Refusal> {
        let charge = Charge::take(budget, Share::Ingest, coding.state_bytes() as u64);
        let charge = charge.ok_or(Refusal::busy(Reason::MemoryFull))?;
        let inflater = (coding != Coding::Identity).then(|| Inflater::new(coding, limit));
        Ok(Message { bytes: Vec::new(), charge, inflater, worked: 0 })
    }

    /// Takes a piece of a body; `length` is the body's, if known.
    async fn take(&mut self, data: &[u8], length: Option<usize>) -> Result<(), Refusal> {
        let Some(mut inflater) = self.inflater.take() else { return self.append(data, length) };
        if length == Some(data.len()) {
            let charge = &self.charge;
            if inflater.push_whole(data, &mut self.bytes, &mut |bytes| charge.grow(bytes as u64)) {
                self.inflater = Some(inflater);
                return Ok(());
            }
        }
        for piece in data.chunks(PIECE) {
            let before = self.bytes.len();
            self.inflate(|bytes, grant| inflater.push(piece, bytes, grant))?;
            self.worked += self.bytes.len() - before + piece.len() * INPUT_WEIGHS;
            if self.worked > AT_ONCE {
                self.worked = 0;
                tokio::task::yield_now().await;
            }
        }
        self.inflater = Some(inflater);
        Ok(())
    }

    /// Appends a piece. The buffer grows towards `length`, but to at most four times the received bytes.
    fn append(&mut self, data: &[u8], length: Option<usize>) -> Result<(), Refusal> {
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            let generous = length.map_or(needed * 2, |length| length.min(needed * 4)).max(needed);
            let granted = self.grow(generous).or_else(|_| self.grow(needed));
            granted.map_err(|_| self.no_memory(needed - self.bytes.capacity()))?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn grow(&mut self, capacity: usize) -> Result<(), ()> {
        let more = capacity - self.bytes.capacity();
        if !self.charge.grow(more as u64) {
            return Err(());
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    fn inflate(
        &mut self,
        work: impl FnOnce(&mut Vec<u8>, &mut dyn FnMut(usize) -> bool) -> Result<(), InflateError>,
    ) -> Result<(), Refusal> {
        let (charge, mut wanted) = (&self.charge, 0);
        let mut grant = |bytes: usize| {
            wanted = bytes;
            charge.grow(bytes as u64)
        };
        work(&mut self.bytes, &mut grant).map_err(|error| match error {
            InflateError::TooLarge { limit } => Refusal::TooLarge { limit: limit as u64, unit: "bytes" },
            InflateError::NoMemory => self.no_memory(wanted),
            error @ InflateError::Corrupt(_) => Refusal::Malformed(error.to_string()),
        })
    }

    /// The refusal for `wanted` more bytes: final if they would not fit even alone.
    fn no_memory(&self, wanted: usize) -> Refusal {
        self.charge.no_room_for(wanted as u64)
    }

    /// Checks completeness, and gives back unused memory.
    fn finish(mut self) -> Result<Message, Refusal> {
        if let Some(inflater) = self.inflater.take() {
            self.inflate(|bytes, grant| inflater.finish(bytes, grant))?;
        }
        shrink(&mut self.bytes);
        self.charge.shrink_to(self.bytes.capacity() as u64);
        Ok(self)
    }
}

/// Gives back a buffer's unused capacity, if it is worth it.
pub(super) fn shrink(bytes: &mut Vec<u8>) {
    if bytes.capacity() - bytes.len() > bytes.len() / 4 {
        bytes.shrink_to_fit();
    }
}

/// The body of a response.
pub(super) enum Outgoing {
    Whole(Bytes),
    /// A gRPC success: one empty message, then the trailers.
    GrpcMessage,
    GrpcTrailers,
    Done,
}

/// An uncompressed message of length 0: an `Export…ServiceResponse` that accepted everything.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0, 0, 0, 0, 0]);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (frame, next) = match std::mem::replace(&mut *self, Outgoing::Done) {
            Outgoing::Whole(bytes) if !bytes.is_empty() => (Frame::data(bytes), Outgoing::Done),
            Outgoing::GrpcMessage => (Frame::data(EMPTY_MESSAGE), Outgoing::GrpcTrailers),
            Outgoing::GrpcTrailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                (Frame::trailers(trailers), Outgoing::Done)
            }
            Outgoing::Whole(_) | Outgoing::Done => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(bytes) => bytes.is_empty(),
            Outgoing::GrpcMessage | Outgoing::GrpcTrailers => false,
            Outgoing::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Outgoing::GrpcMessage => SizeHint::with_exact(5),
            Outgoing::GrpcTrailers | Outgoing::Done => SizeHint::with_exact(0),
        }
    }
}
