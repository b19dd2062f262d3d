//! A client's socket as hyper sees it: peeked bytes come first, and every read is a sign of life.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::network::connections::Pulse;
use crate::telemetry::Budget;

use crate::network::frames::Frames;

/// The connection preface of an HTTP/2 client (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum bytes of one connection before other tasks get their turn.
const TURN: usize = 128 << 10;

pub(super) struct Socket<S> {
    stream: S,
    /// Bytes read since it last waited.
    turn: usize,
    pulse: Arc<Pulse>,
    peeked: [u8; 24],
    /// The number of peeked bytes, and how many of them hyper has read.
    length: usize,
    read: usize,
    /// Over HTTP/2.
    frames: Option<Frames>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>) -> Socket<S> {
        Socket { stream, turn: 0, pulse, peeked: [0; 24], length: 0, read: 0, frames: None }
    }

    /// Peeks just enough to tell HTTP/2 from HTTP/1. Fails when the client closes or sends something that is not HTTP.
    pub(super) async fn speaks_http2(&mut self) -> io::Result<bool> {
        while self.length < PREFACE.len() {
            let free = self.peeked.get_mut(self.length..).unwrap_or_default();
            let count = self.stream.read(free).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.length += count;
            let said = self.peeked.get(..self.length).unwrap_or_default();
            if !PREFACE.starts_with(said) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Joins DATA frames from now on, which HTTP/2 allows.
    pub(super) fn join_frames(&mut self, budget: &Arc<Budget>) {
        self.frames = Some(Frames::new(budget.clone()));
    }

    /// The peeked bytes.
    pub(super) fn said(&self) -> &[u8] {
        self.peeked.get(..self.length).unwrap_or_default()
    }
}

impl<S: AsyncRead + Unpin> Socket<S> {
    fn poll_stream(&mut self, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let this = self;
        let turn = std::mem::take(&mut this.turn);
        if turn > TURN {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        if count > 0 {
            this.turn = turn + count;
            if !this.pulse.beat(count) {
                return Poll::Ready(Err(io::Error::other("too many bytes without a request")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.peeked.get(this.read..this.length).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..count).unwrap_or_default());
            this.read += count;
            this.pulse.beat(count);
            return Poll::Ready(Ok(()));
        }
        let Some(mut frames) = this.frames.take() else { return this.poll_stream(context, buffer) };
        let result = frames.poll_read(|free| this.poll_stream(context, free), buffer);
        this.frames = Some(frames);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        slices: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
