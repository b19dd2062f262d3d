//! Connections: the byte streams below HTTP and gRPC, for receivers and exporters.
//!
//! `endpoint` parses addresses and connects, `tls` secures streams, `auth` checks and sends credentials, `proxy`
//! connects through a forward proxy.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod coalesce;
pub(crate) mod connections;
pub(crate) mod cors;
pub mod endpoint;
pub(crate) mod files;
pub(crate) mod frames;
pub(crate) mod interim;
pub(crate) mod listen;
pub(crate) mod paths;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod settings;
pub mod tls;
pub(crate) mod workers;

use std::fmt::Debug;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsStream;

/// One connection over any transport.
pub type Stream = Box<dyn Carrier>;

pub trait Carrier: AsyncRead + AsyncWrite + Debug + Send + Unpin {
    /// The protocol negotiated in the TLS handshake, such as `h2`.
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

/// Whether a connection begins with a TLS record: a handshake, or an alert from a TLS peer.
pub fn looks_like_tls(first_bytes: &[u8]) -> bool {
    matches!(first_bytes, [0x15 | 0x16, 3, 0..=4, ..])
}
