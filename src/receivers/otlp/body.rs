//! Reading a request's body: under the size limit, against the memory budget, and not slower than a snail.
//!
//! Memory is taken from the budget before bytes are read, 64 KiB at a time, and never waited for while some is held: a
//! request that finds none is refused and gives back what it had.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::otlp::inflate::{Coding, InflateError, Inflater};
use crate::telemetry::{Budget, Charge, Reason, Refusal, Share};

/// The budget is taken in steps of this size.
const STEP: usize = 64 * 1024;
/// A body may take this long whatever its size…
const GRACE: Duration = Duration::from_secs(5);
/// …and beyond it must bring at least this many bytes a second.
const BYTES_PER_SECOND: u64 = 1024;

/// A body while it is read.
pub struct Reader {
    body: Incoming,
    budget: Arc<Budget>,
    started: Instant,
    received: u64,
    limit: usize,
    most_time: Option<Duration>,
}

/// A message in memory with the budget it holds.
pub struct Message {
    pub bytes: Vec<u8>,
    pub charge: Charge,
}

/// Why a body could not be read.
#[derive(Debug)]
pub enum Unread {
    Refused(Refusal),
    /// Too slow.
    Timeout,
    /// The client broke off.
    Gone,
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Unread {
        Unread::Refused(refusal)
    }
}

impl Reader {
    pub fn new(body: Incoming, budget: &Arc<Budget>, limit: usize, most_time: Option<Duration>) -> Reader {
        Reader { body, budget: budget.clone(), started: Instant::now(), received: 0, limit, most_time }
    }

    fn too_large(&self) -> Refusal {
        Refusal::TooLarge { limit: self.limit as u64 }
    }

    /// The next piece of the body, `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Unread> {
        loop {
            let brought = Duration::from_millis(self.received.saturating_mul(1000) / BYTES_PER_SECOND);
            let mut deadline = self.started + GRACE + brought;
            if let Some(most) = self.most_time {
                deadline = deadline.min(self.started + most);
            }
            let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            match tokio::time::timeout_at(deadline, frame).await {
                Err(_) => return Err(Unread::Timeout),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Unread::Gone),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// A message of this length (at most; a guess when it is not known) with its first charge.
    fn start(&self, length: usize) -> Result<Message, Refusal> {
        let length = length.min(STEP);
        let charge = Charge::take(&self.budget, Share::Ingest, length as u64);
        let charge = charge.ok_or(Refusal::busy(Reason::MemoryFull))?;
        Ok(Message { bytes: Vec::with_capacity(length), charge })
    }

    /// The whole body as one message.
    pub async fn read_all(mut self, coding: Coding) -> Result<Message, Unread> {
        let length = self.body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if length.is_some_and(|length| length > self.limit) {
            return Err(self.too_large().into());
        }
        let mut message = self.start(length.unwrap_or(STEP))?;
        if coding != Coding::Identity {
            let mut inflater = Inflater::new(coding, self.limit);
            while let Some(data) = self.next().await? {
                if self.received > self.limit as u64 {
                    return Err(self.too_large().into());
                }
                message.inflate(&mut inflater, &data)?;
            }
            message.finish(inflater)?;
        } else {
            while let Some(data) = self.next().await? {
                if self.received > self.limit as u64 {
                    return Err(self.too_large().into());
                }
                message.append(&data)?;
            }
        }
        message.trim();
        Ok(message)
    }

    /// One gRPC message: a flag, a length of four bytes, and the message (gRPC over HTTP/2, "Length-Prefixed-Message").
    pub async fn read_grpc(mut self, coding: Coding) -> Result<Message, Unread> {
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
            1 => return Err(Unread::Refused(internal("a compressed message without grpc-encoding"))),
            _ => return Err(Unread::Refused(internal("an unknown flag before the message"))),
        };
        let mut message = self.start(if compressed { STEP } else { length })?;
        let mut inflater = compressed.then(|| Inflater::new(coding, self.limit));
        let mut left = length;
        loop {
            if data.len() > left {
                return Err(malformed("more than one message in a unary request"));
            }
            left -= data.len();
            match &mut inflater {
                Some(inflater) => message.inflate(inflater, &data)?,
                None => message.append_up_to(&data, length)?,
            }
            match self.next().await? {
                Some(more) => data = more,
                None => break,
            }
        }
        if left > 0 {
            return Err(malformed("the message ends before its length"));
        }
        if let Some(inflater) = inflater {
            message.finish(inflater)?;
        }
        message.trim();
        Ok(message)
    }
}

fn internal(why: &str) -> Refusal {
    let code = crate::telemetry::refusal::code::INTERNAL;
    Refusal::Rejected(crate::telemetry::Status { code, message: why.to_owned() })
}

impl Message {
    fn append(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.append_up_to(data, usize::MAX)
    }

    /// Appends, growing towards `length` by doubling: what is charged is what is held.
    fn append_up_to(&mut self, data: &[u8], length: usize) -> Result<(), Refusal> {
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            let capacity = (self.bytes.capacity() * 2).clamp(STEP, length.max(STEP)).max(needed);
            self.grow(capacity)?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn grow(&mut self, capacity: usize) -> Result<(), Refusal> {
        let more = capacity.saturating_sub(self.bytes.capacity());
        if !self.charge.grow(more as u64) {
            return Err(Refusal::busy(Reason::MemoryFull));
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    fn inflate(&mut self, inflater: &mut Inflater, data: &[u8]) -> Result<(), Refusal> {
        let charge = &self.charge;
        let mut granted = |bytes: usize| charge.grow(bytes as u64);
        inflater.push(data, &mut self.bytes, &mut granted).map_err(refusal)
    }

    fn finish(&mut self, inflater: Inflater) -> Result<(), Refusal> {
        let charge = &self.charge;
        let mut granted = |bytes: usize| charge.grow(bytes as u64);
        inflater.finish(&mut self.bytes, &mut granted).map_err(refusal)
    }

    /// Gives back what the message turned out not to need.
    fn trim(&mut self) {
        if self.bytes.capacity() - self.bytes.len() > self.bytes.len() / 4 {
            self.bytes.shrink_to_fit();
        }
        self.charge.shrink_to(self.bytes.len() as u64);
    }
}

fn refusal(error: InflateError) -> Refusal {
    match error {
        InflateError::TooLarge { limit } => Refusal::TooLarge { limit: limit as u64 },
        InflateError::NoMemory => Refusal::busy(Reason::MemoryFull),
        error @ InflateError::Corrupt(_) => Refusal::Malformed(error.to_string()),
    }
}

/// The body of an answer.
pub enum Answer {
    Whole(Bytes),
    /// A gRPC success: one empty message, then the trailers.
    GrpcMessage,
    GrpcTrailers,
    Done,
}

/// An uncompressed message of length 0, which is an `Export…ServiceResponse` that accepted everything.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0, 0, 0, 0, 0]);

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (frame, next) = match std::mem::replace(&mut *self, Answer::Done) {
            Answer::Whole(bytes) if !bytes.is_empty() => (Frame::data(bytes), Answer::Done),
            Answer::GrpcMessage => (Frame::data(EMPTY_MESSAGE), Answer::GrpcTrailers),
            Answer::GrpcTrailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                (Frame::trailers(trailers), Answer::Done)
            }
            Answer::Whole(_) | Answer::Done => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(bytes) => bytes.is_empty(),
            Answer::GrpcMessage | Answer::GrpcTrailers => false,
            Answer::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Answer::GrpcMessage => SizeHint::with_exact(5),
            Answer::GrpcTrailers | Answer::Done => SizeHint::with_exact(0),
        }
    }
}
