//! A socket for HTTP/2 that writes once per turn of a task instead of once per frame.
//!
//! h2 flushes after every DATA frame, and upstreams accept frames of 16 KiB: a batch would need hundreds of system
//! calls. Here a flush does nothing; the executor writes the gathered frames after each turn of the task that owns the
//! socket.
//!
//! A socket wakes one task per direction: the last one that polled it. So only one task may poll it: the connection's
//! task, which reads from it. If a request body's task wrote too, it could end with the wake-up pending, and the rest
//! would never be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task;

use super::Stream;

/// When this much is gathered, the next frame waits for the socket.
const GATHERED: usize = 128 * 1024;

/// The socket, shared by the tasks of one connection. Any of them may append to `gathered` under the lock; only `owner`
/// reads and writes `stream`.
#[derive(Clone)]
pub struct Coalesced(Arc<Mutex<Inner>>);

struct Inner {
    stream: Stream,
    gathered: Vec<u8>,
    written: usize,
    /// The task that reads from it, and the only one that writes to it.
    owner: Option<task::Id>,
    /// The error of the last write, until the owner reads it.
    failure: Option<io::Error>,
}

impl Coalesced {
    pub fn new(stream: Stream) -> Coalesced {
        Coalesced(Arc::new(Mutex::new(Inner { stream, gathered: Vec::new(), written: 0, owner: None, failure: None })))
    }

    /// Makes the owner read an error at its next turn, so that the connection ends without waiting for its peer.
    pub(crate) fn abandon(&self) {
        self.0.lock().failure = Some(io::ErrorKind::TimedOut.into());
    }

    /// Writes the data gathered in this turn, if the current task owns the socket. A blocked write wakes the task
    /// again; after a failed one it reads the error at its next turn.
    fn turn_ends(&self, context: &mut Context) {
        let mut inner = self.0.lock();
        if inner.owner != task::try_id() {
            return;
        }
        if let Poll::Ready(Err(failure)) = inner.write_out(context) {
            inner.failure = Some(failure);
            context.waker().wake_by_ref();
        }
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
        let mut inner = self.0.lock();
        inner.owner = task::try_id();
        match inner.failure.take() {
            Some(failure) => Poll::Ready(Err(failure)),
            None => Pin::new(&mut inner.stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Coalesced {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context, slices: &[IoSlice]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
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
        let mut inner = self.0.lock();
        ready!(inner.write_out(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

/// Runs the tasks of one connection, and writes the gathered data after each turn of the owner.
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
                socket.turn_ends(context);
                turn.map(drop)
            })
            .await;
        });
    }
}
