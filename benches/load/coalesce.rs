//! A socket for h2 that writes once a turn instead of once a frame, as grpc-go does.
//!
//! h2 flushes after every frame: a request of 35 KB would be five writes. Here a flush does nothing; whoever polls the
//! connection calls `write_out` after each poll.

use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[derive(Clone)]
pub struct Coalesced(Arc<Mutex<Inner>>);

struct Inner {
    stream: TcpStream,
    pending: BytesMut,
}

/// With that much waiting, the next write waits for the socket.
const PENDING_LIMIT: usize = 256 * 1024;

impl Coalesced {
    pub fn new(stream: TcpStream) -> Self {
        Coalesced(Arc::new(Mutex::new(Inner { stream, pending: BytesMut::with_capacity(PENDING_LIMIT) })))
    }

    /// Writes what is waiting, as far as the socket takes it; the task is woken when it takes more.
    pub fn write_out(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().write_out(context)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Inner {
    fn write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(pin!(&mut self.stream).poll_write(context, &self.pending))?;
            self.pending.advance(written);
        }
        // Now that it is empty, this takes the room at the front back instead of allocating.
        self.pending.reserve(PENDING_LIMIT);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Coalesced {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.inner().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Coalesced {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        if inner.pending.len() >= PENDING_LIMIT {
            ready!(inner.write_out(context))?;
        }
        slices.iter().for_each(|slice| inner.pending.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        ready!(inner.write_out(context))?;
        pin!(&mut inner.stream).poll_shutdown(context)
    }
}
