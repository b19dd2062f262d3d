//! Connections: the byte streams below HTTP and gRPC, on the side of the receivers as of the exporters.
//!
//! `endpoint` reads what a configuration names and connects to it, `tls` makes either side of a stream confidential.

pub mod admin;
pub mod coalesce;
pub mod endpoint;
pub mod listen;
pub mod settings;
pub mod tls;
pub mod workers;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsStream;

/// One connection, whatever carries it.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Tls(Box<TlsStream<Stream>>),
}

impl Stream {
    /// The protocol that both sides chose during the TLS handshake, such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            _ => None,
        }
    }

    fn carrier(self: Pin<&mut Self>) -> Pin<&mut dyn Carrier> {
        let carrier: &mut dyn Carrier = match self.get_mut() {
            Stream::Tcp(stream) => stream,
            #[cfg(unix)]
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream.as_mut(),
        };
        Pin::new(carrier)
    }
}

trait Carrier: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for T {}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        self.carrier().poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.carrier().poll_write(context, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context, slices: &[IoSlice]) -> Poll<io::Result<usize>> {
        self.carrier().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.carrier().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.carrier().poll_shutdown(context)
    }
}

/// Whether a connection opens with a TLS record: a handshake, or the alert that answers a peer without TLS.
pub fn looks_like_tls(first_bytes: &[u8]) -> bool {
    matches!(first_bytes, [0x15 | 0x16, 3, 0..=4, ..])
}

/// Whether a connection opens with HTTP in clear: a request, the preface of HTTP/2, or a response.
pub fn looks_like_http(first_bytes: &[u8]) -> bool {
    const OPENINGS: [&[u8]; 10] = [
        b"POST ",
        b"GET ",
        b"PUT ",
        b"HEAD ",
        b"OPTIONS ",
        b"PRI * HTTP/2",
        b"DELETE ",
        b"PATCH ",
        b"CONNECT ",
        b"HTTP/1.",
    ];
    OPENINGS.iter().any(|opening| first_bytes.starts_with(opening))
}
