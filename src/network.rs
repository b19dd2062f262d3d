//! Connections: the byte streams below HTTP and gRPC, on the side of the receivers as of the exporters.
//!
//! `endpoint` reads what a configuration names and connects to it, `tls` makes either side of a stream confidential,
//! `auth` says who may come in, and who we are, `proxy` leads through a forward proxy.

pub(crate) mod admin;
pub(crate) mod auth;
pub mod coalesce;
pub(crate) mod connections;
pub(crate) mod cors;
pub mod endpoint;
pub mod files;
pub(crate) mod interim;
pub(crate) mod listen;
pub(crate) mod paths;
pub(crate) mod ports;
pub mod proxy;
pub(crate) mod settings;
pub mod tls;
pub mod workers;

use std::fmt::Debug;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsStream;

/// One connection, whatever carries it.
pub type Stream = Box<dyn Carrier>;

pub trait Carrier: AsyncRead + AsyncWrite + Debug + Send + Unpin {
    /// The protocol that both sides chose during the TLS handshake, such as `h2`.
    fn alpn(&self) -> Option<&[u8]> {
        None
    }
}

impl Carrier for TcpStream {}

#[cfg(unix)]
impl Carrier for UnixStream {}

impl Carrier for TlsStream<Stream> {
    fn alpn(&self) -> Option<&[u8]> {
        self.get_ref().1.alpn_protocol()
    }
}

/// Whether a connection opens with a TLS record: a handshake, or the alert that answers a peer without TLS.
pub fn looks_like_tls(first_bytes: &[u8]) -> bool {
    matches!(first_bytes, [0x15 | 0x16, 3, 0..=4, ..])
}
