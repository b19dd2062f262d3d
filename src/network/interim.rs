//! Interim responses (1xx, RFC 9110 section 15.2) from an upstream: a few are skipped, more end the connection. hyper
//! skips any number of them and would never stop.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// Servers send one `100 Continue`, and perhaps an early hint.
const MOST: u32 = 16;

/// The number received since the last request on a connection.
#[derive(Clone, Default)]
pub(crate) struct Interim(Arc<AtomicU32>);

impl Interim {
    /// Counts interim responses to this request.
    pub(crate) fn count_for<B>(&self, request: &mut Request<B>) {
        self.0.store(0, Relaxed);
        let count = self.0.clone();
        hyper::ext::on_informational(request, move |_| {
            count.fetch_add(1, Relaxed);
        });
    }

    /// Wraps a connection, which fails after too many interim responses.
    pub(crate) fn limit(&self, stream: Stream) -> Limited {
        Limited { stream, interim: self.clone() }
    }
}

pub(crate) struct Limited {
    stream: Stream,
    interim: Interim,
}

impl AsyncRead for Limited {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.interim.0.load(Relaxed) > MOST {
            return Poll::Ready(Err(io::Error::other(format!(
                "more than {MOST} interim responses (1xx) to one request"
            ))));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        pieces: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
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
