//! A socket for HTTP/2 that writes once a turn instead of once a frame.
//!
//! h2 flushes after every DATA frame, and an upstream takes frames of 16 KiB: a batch would be hundreds of system
//! calls. Here a flush does nothing; the executor writes what has gathered after each turn of a task that it drives.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// With this much gathered, the next frame waits for the socket.
const GATHERED: usize = 128 * 1024;

#[derive(Clone)]
pub struct Coalesced(Arc<Mutex<Inner>>);

struct Inner {
    stream: Stream,
    gathered: Vec<u8>,
    written: usize,
}

impl Coalesced {
    pub fn new(stream: Stream) -> Coalesced {
        Coalesced(Arc::new(Mutex::new(Inner { stream, gathered: Vec::new(), written: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write_out(&mut self, context: &mut Context) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.gathered.clear();
        self.written = 0;
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl AsyncRead for Coalesced {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Coalesced {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context, slices: &[IoSlice]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.gathered.len() >= GATHERED {
            ready!(inner.write_out(context))?;
        }
        slices.iter().for_each(|slice| inner.gathered.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.write_out(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

/// Drives the tasks of one connection, and writes what each turn has gathered.
#[derive(Clone)]
pub struct Turns(pub Coalesced);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Turns {
    fn execute(&self, task: F) {
        let socket = self.0.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the connection, which its senders hold")]
        tokio::spawn(async move {
            let mut task = std::pin::pin!(task);
            std::future::poll_fn(|context| {
                let turn = task.as_mut().poll(context);
                // A write that fails fails the connection at its next turn, which reads the same error.
                let _ = socket.lock().write_out(context);
                turn.map(drop)
            })
            .await;
        });
    }
}
